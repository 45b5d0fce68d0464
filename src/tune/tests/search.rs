//! Which candidates are timed, and what refuses one.

use super::*;
use crate::tune::Source;
use crate::tune::search::TIMED;

/// The default is the slowest by the model and by the clock; ways 2 to 12 get slower with their number.
fn twelve() -> Vec<Way> {
    let others = (2..=12).rev().map(|number| Way::new(number, f64::from(number)));
    [Way::new(1, 100.0)].into_iter().chain(others).collect()
}

#[test]
fn eight_are_timed_the_default_first_and_the_others_by_rank() {
    let (_folder, path) = place();
    let (gpu, problem) = fake::pair(twelve());
    let outcome = Tuner::full(path).choose_by(&gpu.clock(), &gpu, &problem).unwrap();
    assert_eq!((outcome.config, outcome.source), (config(2), Source::Measured));
    let order: Vec<Config> = outcome.candidates.iter().map(|candidate| candidate.config).collect();
    let expected: Vec<Config> = (1..=12).map(config).collect();
    assert_eq!(order, expected);

    let log = gpu.log();
    let mut first_runs = log.clone();
    first_runs.dedup();
    assert_eq!(first_runs[..TIMED], [1, 2, 3, 4, 5, 6, 7, 8]);
    assert!(log.iter().all(|&number| number <= 8));
    let timed: Vec<bool> = outcome.candidates.iter().map(|candidate| candidate.measured.is_some()).collect();
    assert_eq!(timed, [[true; 8].as_slice(), &[false; 4]].concat());
    assert_eq!(
        verdicts(&outcome)[8..],
        ["not timed: ranked 9th", "not timed: ranked 10th", "not timed: ranked 11th", "not timed: ranked 12th"]
    );
    assert_eq!(outcome.candidates[3].modelled, 4.0, "the sum of two launches");
}

#[test]
fn the_fastest_by_the_clock_wins_whatever_the_model_says() {
    let outcome = tuned(vec![Way::new(1, 1.0), Way::timed(2, 0.1, |_| 1.3), Way::timed(3, 0.5, |_| 0.8)]);
    assert_eq!(outcome.config, config(3));
    assert_eq!(
        verdicts(&outcome),
        ["slower: 1.25× over 3 pairs", "slower: 1.62×", "winner: 1.25× the default over 3 pairs"]
    );
    assert_eq!(outcome.candidates[1].measured, Some(1.3));
    assert!(outcome.notices.is_empty());
}

#[test]
fn those_much_slower_are_sampled_once_and_a_clock_that_repeats_itself_is_asked_twice() {
    let (_folder, path) = place();
    let (gpu, problem) = fake::pair(vec![Way::new(1, 1.0), Way::new(2, 1.5), Way::new(3, 2.5)]);
    Tuner::full(path).choose_by(&gpu.clock(), &gpu, &problem).unwrap();
    // Two runs to warm up, of which the second is a sample; another round for 1 and 2; three pairs, and no verification.
    assert_eq!(gpu.log(), [1, 1, 2, 2, 3, 3, 1, 2, 1, 2, 1, 2, 1, 2, 1]);
}

/// 0.1 ms a run: ten runs a sample.
#[test]
fn a_sample_lasts_a_millisecond() {
    let (_folder, path) = place();
    let (gpu, problem) = fake::pair(vec![Way::new(1, 1e-4)]);
    let outcome = Tuner::full(path).choose_by(&gpu.clock(), &gpu, &problem).unwrap();
    assert_eq!(gpu.log().len(), 2 + 2 * 10);
    assert!((outcome.candidates[0].measured.unwrap() - 1e-4).abs() < 1e-12);
    assert_eq!(verdicts(&outcome), ["winner: the default"]);
}

#[test]
fn a_candidate_that_fails_is_refused_and_another_takes_its_place() {
    let mut ways = twelve();
    ways.iter_mut().find(|way| way.config == config(2)).unwrap().fails = 0;
    let (_folder, path) = place();
    let (gpu, problem) = fake::pair(ways);
    let outcome = Tuner::full(path).choose_by(&gpu.clock(), &gpu, &problem).unwrap();
    assert_eq!(outcome.config, config(3));
    assert_eq!(outcome.candidates[1].verdict, "refused: shared_gemm: too much shared memory");
    assert_eq!(outcome.candidates[1].measured, None);
    assert!(outcome.candidates[8].measured.is_some() && outcome.candidates[9].measured.is_none());
    assert_eq!(gpu.state.prepared.get(), 2, "operands anew after a failure");
}

/// The model cannot say anything of one, and says nonsense of another.
#[test]
fn what_the_model_refuses_ranks_last_and_is_not_run() {
    let nonsense = Way { modelled: Ok(f64::NAN), ..Way::new(2, 0.1) };
    let refused = Way { modelled: Err("no such tile"), ..Way::new(3, 0.1) };
    let (_folder, path) = place();
    let (gpu, problem) = fake::pair(vec![Way::new(1, 1.0), nonsense, refused, Way::new(4, 2.0)]);
    let outcome = Tuner::full(path).choose_by(&gpu.clock(), &gpu, &problem).unwrap();
    assert_eq!(outcome.candidates[1].config, config(4));
    assert_eq!(
        verdicts(&outcome)[2..],
        [
            "refused: shared_gemm: the cost model gives NaN seconds for shared_gemm 2×128, raster 1",
            "refused: shared_gemm: no such tile"
        ]
    );
    assert!(gpu.log().iter().all(|number| [1, 4].contains(number)));
}

#[test]
fn a_clock_that_gives_no_time_refuses() {
    for wrong in [f64::NAN, f64::INFINITY, -1.0] {
        let outcome = tuned(vec![Way::new(1, 1.0), Way::timed(2, 0.5, move |_| wrong)]);
        assert_eq!(outcome.config, config(1));
        let expected = format!("refused: device `Pretender 9000`: its clock gave {wrong} seconds");
        assert_eq!(outcome.candidates[1].verdict, expected);
    }
}

#[test]
fn the_default_failing_is_an_error() {
    let failing = |way: Way| {
        let (_folder, path) = place();
        let (gpu, problem) = fake::pair(vec![way, Way::new(2, 0.5)]);
        let error = Tuner::full(&path).choose_by(&gpu.clock(), &gpu, &problem).unwrap_err().to_string();
        assert!(!path.exists());
        error
    };
    // At once, in the second round, in the comparison, and where its outputs are needed.
    for fails in [0, 2, 3, 7] {
        assert_eq!(failing(Way { fails, ..Way::new(1, 1.0) }), "shared_gemm: too much shared memory", "run {fails}");
    }
    assert!(failing(Way::timed(1, 1.0, |_| f64::NAN)).contains("its clock gave NaN seconds"));
    assert_eq!(failing(Way { modelled: Err("no such tile"), ..Way::new(1, 1.0) }), "shared_gemm: no such tile");
    assert!(failing(Way { modelled: Ok(f64::INFINITY), ..Way::new(1, 1.0) }).contains("gives inf seconds"));
}

#[test]
fn no_legal_way_is_an_error() {
    let (gpu, problem) = fake::pair(Vec::new());
    let error = Tuner::off().choose(&gpu, &problem).unwrap_err().to_string();
    assert_eq!(error, "shared_gemm: no way of running it is legal on H100 SXM");
}

#[test]
fn other_bits_are_refused_and_the_next_best_is_tried() {
    let wrong = Way { writes: Some(8), ..Way::new(2, 0.25) };
    let leaves = Way { writes: None, ..Way::new(3, 0.5) };
    let (_folder, path) = place();
    let (gpu, problem) = fake::pair(vec![Way::new(1, 1.0), wrong, leaves, Way::new(4, 0.8)]);
    let outcome = Tuner::full(&path).choose_by(&gpu.clock(), &gpu, &problem).unwrap();
    assert_eq!(outcome.config, config(4));
    assert_eq!(
        verdicts(&outcome)[1..],
        [
            "refused: output 1 differs from the default's at byte 2",
            "refused: output 1 differs from the default's at byte 0",
            "winner: 1.25× the default over 3 pairs"
        ]
    );
    assert_eq!(
        outcome.notices,
        [
            "shared_gemm 2×128, raster 1 is refused: output 1 differs from the default's at byte 2",
            "shared_gemm 3×128, raster 1 is refused: output 1 differs from the default's at byte 0"
        ]
    );
    let record = Record::load(&path).unwrap();
    let entry = record.entries().next().unwrap();
    assert_eq!(entry.config, config(4));
    assert!(entry.measurements[1].verdict.starts_with("refused: output 1"));
}

/// Nothing at all is not the same as zeros.
#[test]
fn an_output_that_is_left_out_is_no_output_of_zeros() {
    let ways = vec![Way { writes: Some(0), ..Way::new(1, 1.0) }, Way { writes: None, ..Way::new(2, 0.5) }];
    let outcome = tuned(ways);
    assert_eq!(verdicts(&outcome)[1], "refused: output 1 differs from the default's at byte 0");
}

/// Faster, but its outputs cannot be had: it fails when it is to be compared.
#[test]
fn one_that_fails_while_it_is_verified_is_refused() {
    // Warming up and a sample, the second round, three pairs: six runs.
    let outcome = tuned(vec![Way::new(1, 1.0), Way { fails: 6, ..Way::new(2, 0.5) }]);
    assert_eq!(outcome.config, config(1));
    assert_eq!(verdicts(&outcome), ["winner: the default", "refused: shared_gemm: too much shared memory"]);
}
