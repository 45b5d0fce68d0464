//! Processes that tune at the same time, and processes that are killed.

use super::*;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const RECORD: &str = "IDLORA_TEST_TUNE_RECORD";
const NUMBER: &str = "IDLORA_TEST_TUNE_NUMBER";
const KEYS: &str = "IDLORA_TEST_TUNE_KEYS";

/// Runs in processes of its own; here it is done at once. Tunes so many keys, and prints the shape of each when it is stored.
#[test]
fn worker() {
    let Some(path) = std::env::var_os(RECORD) else { return };
    let number = |name: &str| std::env::var(name).unwrap().parse::<usize>().unwrap();
    for key in 0..number(KEYS) {
        let (gpu, problem) = fake::pair(vec![Way::new(1, 1.0), Way::new(2, 0.5), Way::new(3, 0.75)]);
        let problem = Problem { shape: format!("process={} key={key}", number(NUMBER)), ..problem };
        let outcome = Tuner::full(&path).choose_by(&gpu.clock(), &gpu, &problem).unwrap();
        assert_eq!((outcome.config, outcome.notices), (config(2), Vec::<String>::new()));
        println!("\nstored {}", problem.shape);
    }
}

fn spawn(path: &Path, number: usize, keys: usize) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["tune::tests::processes::worker", "--exact", "--nocapture", "--test-threads=1"]);
    command.env(RECORD, path).env(NUMBER, number.to_string()).env(KEYS, keys.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap()
}

/// Shapes that a process says it has stored, until it ends.
fn stored(child: &mut Child) -> Vec<String> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    lines.filter_map(|line| Some(line.strip_prefix("stored ")?.to_owned())).collect()
}

fn shapes(path: &Path) -> Vec<String> {
    let record = Record::load(path).unwrap();
    assert!(record.notices().is_empty(), "{:?}", record.notices());
    record.entries().map(|entry| entry.key.shape.clone()).collect()
}

#[test]
fn processes_that_tune_at_the_same_time_lose_nothing() {
    let (folder, path) = place();
    let (count, keys) = (6, 12);
    let mut children: Vec<Child> = (0..count).map(|number| spawn(&path, number, keys)).collect();
    for child in &mut children {
        assert_eq!(stored(child).len(), keys);
        assert!(child.wait().unwrap().success());
    }
    let mut found = shapes(&path);
    let mut expected: Vec<String> =
        (0..count).flat_map(|process| (0..keys).map(move |key| format!("process={process} key={key}"))).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    let names: Vec<_> =
        std::fs::read_dir(folder.path().join("cache")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "the record and its lock: {names:?}");
}

/// Killed at any moment, a process leaves a record that loads, with all it said it had stored, and no lock that others wait for.
#[test]
fn a_process_that_is_killed_leaves_a_record() {
    let (_folder, path) = place();
    let mut expected = Vec::new();
    for number in 0..12 {
        let mut child = spawn(&path, number, usize::MAX);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let stored = |line: String| Some(line.strip_prefix("stored ")?.to_owned());
        // It is in the middle of the next ones, somewhere.
        expected.extend(lines.by_ref().find_map(stored));
        std::thread::sleep(Duration::from_micros(700 * number as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        expected.extend(lines.filter_map(stored));
        let found = shapes(&path);
        assert!(expected.iter().all(|shape| found.contains(shape)), "after {number}");
    }
    assert!(expected.len() >= 12, "they did store: {}", expected.len());
    let mut last = spawn(&path, 99, 1);
    assert_eq!(stored(&mut last).len(), 1);
    assert!(last.wait().unwrap().success());
}
