//! The tuner on a device that pretends: scripted times, failures and outputs.

mod budget;
pub(crate) mod fake;
mod finals;
mod fuzz;
mod hostile;
mod modes;
mod processes;
mod search;
mod store;

use super::record::{Entry, Record};
use super::{Config, Outcome, Tuner};
use fake::{Fake, Problem, Way};
use std::path::PathBuf;
use tempfile::TempDir;

/// A way of the pretended kernel, by number.
fn config(number: u32) -> Config {
    Config::SharedGemm { tokens: number, columns: 128, raster: 1 }
}

/// A folder of its own, and where a record would be in it.
fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache/tune.json");
    (folder, path)
}

/// Tunes in earnest, into a record of its own.
fn tuned(ways: Vec<Way>) -> Outcome {
    let (_folder, path) = place();
    let (gpu, problem) = fake::pair(ways);
    Tuner::full(path).choose_by(&gpu.clock(), &gpu, &problem).unwrap()
}

fn verdicts(outcome: &Outcome) -> Vec<&str> {
    outcome.candidates.iter().map(|candidate| candidate.verdict.as_str()).collect()
}

/// A record with one entry, as tuning writes it.
fn entry() -> (String, Entry) {
    let (_folder, path) = place();
    let (gpu, problem) = fake::pair(vec![Way::new(1, 1.0), Way::new(2, 0.5)]);
    let outcome = Tuner::full(&path).choose_by(&gpu.clock(), &gpu, &problem).unwrap();
    assert_eq!((outcome.config, outcome.notices), (config(2), Vec::<String>::new()));
    let record = Record::load(&path).unwrap();
    let entry = record.entries().next().unwrap().clone();
    (std::fs::read_to_string(path).unwrap(), entry)
}
