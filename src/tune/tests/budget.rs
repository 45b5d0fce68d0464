//! What is decided when time runs out.

use super::*;
use crate::tune::Source;
use std::time::Duration;

const ENDED: &str = "the budget ended before everything was measured";

/// The default takes 1 s, the other 0.5 s, by the device's clock; so does the budget.
fn within(budget: f64) -> (Outcome, bool) {
    let (_folder, path) = place();
    let (gpu, problem) = fake::pair(vec![Way::new(1, 1.0), Way::new(2, 0.5)]);
    let tuner = Tuner::full(&path).budget(Duration::from_secs_f64(budget));
    let outcome = tuner.choose_by(&gpu.clock(), &gpu, &problem).unwrap();
    if budget == 0.0 {
        assert_eq!((gpu.log().len(), gpu.state.prepared.get()), (0, 0));
    }
    (outcome, path.exists())
}

#[test]
fn without_any_time_the_model_chooses_and_nothing_is_stored() {
    let (outcome, stored) = within(0.0);
    assert_eq!((outcome.config, outcome.source, stored), (config(2), Source::Model, false));
    assert_eq!(verdicts(&outcome), ["not timed: the budget ended"; 2]);
    assert_eq!(outcome.notices, [ENDED]);
    // By the real clock too.
    let (_folder, path) = place();
    let (gpu, problem) = fake::pair(vec![Way::new(1, 1.0), Way::new(2, 0.5)]);
    let outcome = Tuner::full(path).budget(Duration::ZERO).choose(&gpu, &problem).unwrap();
    assert_eq!(outcome.source, Source::Model);
}

#[test]
fn what_was_measured_by_then_decides() {
    // Warming the default up takes 2 s.
    let (outcome, stored) = within(1.5);
    assert_eq!((outcome.config, outcome.source, stored), (config(1), Source::Measured, true));
    assert_eq!(verdicts(&outcome), ["winner: the default", "not timed: the budget ended"]);
    // The other takes 1 s more: there is time for its first sample, and none for pairs.
    let (outcome, _) = within(2.5);
    assert_eq!(outcome.config, config(2));
    assert_eq!(verdicts(&outcome), ["slower: 2.00×", "winner: 2.00× the default by medians: no time for pairs"]);
    // A second round takes 1.5 s, a pair as long, and the default's next turn ends late.
    let (outcome, _) = within(6.5);
    assert_eq!(verdicts(&outcome)[1], "winner: 2.00× the default over 1 pair");
    let (outcome, _) = within(8.0);
    assert_eq!(verdicts(&outcome)[1], "winner: 2.00× the default over 2 pairs");
    assert_eq!(outcome.notices, [ENDED]);
}

#[test]
fn a_budget_that_suffices_is_not_mentioned() {
    let (outcome, stored) = within(100.0);
    assert!(outcome.notices.is_empty() && stored);
    assert_eq!(verdicts(&outcome)[1], "winner: 2.00× the default over 3 pairs");
}
