//! The list of methods, and what each trains.

use crate::tiny::{self, FEATURES, LAYERS};
use candle_nn::VarMap;
use idlora::adapter::{Config, Counters};
use idlora::lowrank::Gate;
use idlora::select::Selection;
use idlora_finetune::method::{GATES, Method, Rates, SELECTIONS, is_adapted};
use idlora_finetune::model::Weights;
use idlora_finetune::sweep;
use idlora_finetune::tune::{FIRST, LADDER, best, wanted};
use std::collections::BTreeSet;
use std::path::Path;

#[test]
fn every_gate_and_every_selection_is_there_once() {
    let all = Method::all();
    assert_eq!((all.len(), all[0], all[1], all[2]), (11, Method::Head, Method::Lora, Method::idlora()));
    assert_eq!(all.iter().map(|method| method.folder()).collect::<BTreeSet<_>>().len(), 11);
    let Config { gate, select, .. } = Config::default();
    assert_eq!((GATES[0], SELECTIONS[0]), (gate, select));
    let named = |method: &Method| matches!(method, Method::Idlora { gate, select } if *gate == GATES[0] || *select == SELECTIONS[0]);
    assert_eq!(all.iter().filter(|method| named(method)).count(), 9);
    assert_eq!(
        Method::Idlora { gate: Gate::RmsInner, select: Selection::PivotedQr }.to_string(),
        "idlora rms-inner pivoted-qr"
    );
}

#[test]
fn a_sweep_ends_with_whole_seeds() {
    let rates = Rates { head: 0.1, lora: 0.2, idlora: 0.3 };
    let jobs = sweep::jobs(Path::new("out"), 5, &rates);
    assert_eq!(jobs.len(), 55);
    for (seed, of_seed) in (1..=5).zip(jobs.chunks(11)) {
        assert!(of_seed.iter().all(|job| job.seed == seed && job.rate == rates.of(job.method)));
        assert_eq!(of_seed.iter().map(|job| job.method).collect::<Vec<_>>(), Method::all());
    }
    assert_eq!(jobs.iter().map(|job| &job.folder).collect::<BTreeSet<_>>().len(), 55);
}

#[test]
fn query_and_value_are_adapted_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    tiny::write_model(dir.path());
    let weights = Weights::read(dir.path()).unwrap();
    for method in Method::all() {
        let vars = VarMap::new();
        let found = method.adapt(&mut weights.bert().unwrap(), 1, &vars).unwrap();
        let expected = match method {
            Method::Head => 0,
            Method::Lora => 2 * LAYERS * 8 * (FEATURES + FEATURES),
            Method::Idlora { gate, select } => {
                let config = Config { gate, select, ..Config::default() };
                2 * LAYERS * Counters::of(FEATURES, FEATURES, &config).unwrap().trained
            }
        };
        assert_eq!(found, expected, "{method}");
        let names: Vec<String> = vars.data().lock().unwrap().keys().cloned().collect();
        assert_eq!(names.len(), if method == Method::Head { 0 } else { 4 * LAYERS });
        assert!(names.iter().all(|name| is_adapted(name.rsplit_once('.').unwrap().0)), "{names:?}");
    }
    let lora: usize = 12 * 8 * (384 + 384);
    let default = 12 * Counters::of(384, 384, &Config::default()).unwrap().trained;
    assert_eq!((lora, default), (73_728, 36_864));
}

#[test]
fn adapting_twice_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    tiny::write_model(dir.path());
    let mut bert = Weights::read(dir.path()).unwrap().bert().unwrap();
    Method::idlora().adapt(&mut bert, 1, &VarMap::new()).unwrap();
    let error = Method::Lora.adapt(&mut bert, 1, &VarMap::new()).unwrap_err().to_string();
    assert!(error.ends_with("expected a layer that is not adapted yet, found an adapted one"), "{error}");
}

#[test]
fn rates_are_tried_until_the_highest_is_not_the_best() {
    let trials = |accuracies: &[f64]| accuracies.iter().map(|&accuracy| Some((accuracy, 0.5))).collect::<Vec<_>>();
    assert_eq!(wanted(&[]), FIRST);
    let inside = trials(&[0.8, 0.9, 0.95, 0.9]);
    assert_eq!((best(&inside), wanted(&inside)), (Some(2), 4));
    let rising = trials(&[0.8, 0.9, 0.95, 0.96]);
    assert_eq!((best(&rising), wanted(&rising)), (Some(3), 5));
    let all = trials(&[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]);
    assert_eq!((best(&all), wanted(&all)), (Some(6), LADDER.len()));
    // Of equals, the lower loss; a run that diverged is never the best.
    assert_eq!(best(&[Some((0.9, 0.3)), Some((0.9, 0.2)), Some((0.9, 0.4)), None]), Some(1));
    assert_eq!((best(&[None; 4]), wanted(&[None; 4])), (None, 4));
}
