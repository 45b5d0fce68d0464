//! What a step costs, measured on the tiny model.

use crate::tiny;
use idlora_finetune::cost::{COST, Costs, Step};
use idlora_finetune::disk;
use idlora_finetune::method::{GATES, Method};
use std::process::{Command, Output};

fn cost(dir: &std::path::Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_finetune"))
        .args(["cost", "--batch", "4", "--max-tokens", "12"])
        .args(more)
        .arg("--data")
        .arg(dir)
        .arg("--out")
        .arg(dir)
        .output()
        .unwrap()
}

#[test]
fn every_method_has_its_seconds_and_its_ratio() {
    let dir = tempfile::tempdir().unwrap();
    tiny::write_model(&dir.path().join("model"));
    tiny::write_documents(&dir.path().join("documents"), 60);
    let output = cost(dir.path(), &["--rounds", "2", "--pairs", "3"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let costs: Costs = disk::read_json(&dir.path().join(COST)).unwrap();
    assert_eq!(costs.methods.len(), 1 + GATES.len());
    assert!(costs.methods.iter().all(|cost| cost.pairs.len() == 6));
    let printed = String::from_utf8(output.stdout).unwrap();
    for method in [Method::Lora].into_iter().chain(costs.methods.iter().map(|cost| cost.method)) {
        let Step { seconds, over_lora: [ratio, low, high] } = costs.step(method).unwrap();
        assert!(seconds > 0.0 && 0.0 < low && low <= ratio && ratio <= high, "{method}");
        let line = format!("{method}: {seconds:.3} s a step, {ratio:.3} of LoRA's");
        assert!(printed.lines().any(|printed| printed.starts_with(&line)), "{line} in {printed}");
    }
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = |more: &[&str]| {
        let output = cost(dir.path(), more);
        assert!(!output.status.success() && !dir.path().join(COST).exists());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(error(&["--rounds", "0"]).contains("expected at least 1, found 0, 5"));
    // The step's process says what is missing, and `cost` whose step it was.
    let missing = error(&["--rounds", "1"]);
    assert!(
        missing.contains("tokenizer.json") && missing.contains("a step of lora: the process ended with exit status: 1"),
        "{missing}"
    );
}
