//! `idlora tune`: what it measures, keeps and shows, on the virtual machine.

use crate::support::{entries, folder, refuse, run, succeed};
use serde_json::Value;
use std::path::Path;

/// One small layer, few tokens.
const SHAPES: &str = r#"[{"name": "query", "rows": 192, "cols": 64, "rank": 8, "clusters": 2, "tokens": [5]}]"#;

#[cfg(not(feature = "kernels"))]
#[test]
fn a_build_without_kernels_says_so() {
    refuse("tune --show", &[], &["this build has no kernels", "--features cli,kernels"]);
}

#[test]
fn one_thing_is_done_at_a_time() {
    for line in [
        "tune",
        "tune --show --clear",
        "tune --model a --shapes b",
        "tune --show --budget 0",
        "tune --model a --tokens 0",
    ] {
        assert_eq!(run(line, &[]).code, 2, "{line}");
    }
}

#[cfg(feature = "kernels")]
#[test]
fn what_cannot_be_tuned_is_refused() {
    let dir = folder();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (good, broken) = (file("good.json", SHAPES), file("broken.json", r#"[{"rows": 1, "colls": 2}]"#));
    let record = dir.path().join("record.json");
    let paths: &[(&str, &Path)] =
        &[("good", &good), ("broken", &broken), ("record", &record), ("none", Path::new("/nowhere.json"))];
    refuse("tune --device cpu --shapes {good} --record {record}", paths, &["the CPU has nothing to tune"]);
    refuse("tune --export {good} --record {record}", paths, &["good.json is there already"]);
    if cfg!(feature = "vm") {
        let vm = "tune --device vm --record {record}";
        refuse(&format!("{vm} --model llama-4"), paths, &["--model llama-4", "llama-3-8b"]);
        refuse(&format!("{vm} --shapes {{none}}"), paths, &["/nowhere.json"]);
        refuse(&format!("{vm} --shapes {{broken}}"), paths, &["broken.json", "colls"]);
        refuse(&format!("{vm} --shapes {{good}} --split 3"), paths, &["query with 5 tokens", "split"]);
        let narrow = "--dtype f32 --operation shared-gemm";
        refuse(&format!("{vm} --shapes {{good}} {narrow}"), paths, &["nothing to tune"]);
    }
    assert!(!record.exists());
}

#[cfg(feature = "vm")]
mod on_the_machine {
    use super::*;

    /// Whether there is a compiler; said aloud where there is none and none is required.
    fn compiler() -> bool {
        match idlora::vm::Vm::default().probe() {
            Ok(()) => true,
            Err(error) => {
                assert!(std::env::var_os("REQUIRE_NVRTC").is_none(), "{error}");
                println!("skipped: {error}");
                false
            }
        }
    }

    fn json(line: &str, paths: &[(&str, &Path)]) -> Value {
        serde_json::from_str(&succeed(line, paths).stdout).expect("stdout is one JSON object")
    }

    /// Measured the first time, read the second, the same choices; then shown, exported and removed.
    #[test]
    fn what_is_measured_is_kept() {
        if !compiler() {
            return;
        }
        let dir = folder();
        let (shapes, record) = (dir.path().join("shapes.json"), dir.path().join("cache/record.json"));
        let copy = dir.path().join("copy.json");
        std::fs::write(&shapes, SHAPES).unwrap();
        let paths: &[(&str, &Path)] = &[("shapes", &shapes), ("record", &record), ("copy", &copy)];
        let tune = "tune --device vm --shapes {shapes} --record {record}";

        let first = json(&format!("{tune} --json"), paths);
        let choices = first["choices"].as_array().unwrap();
        let kernels: Vec<&str> = choices.iter().map(|choice| choice["config"]["kernel"].as_str().unwrap()).collect();
        assert!(kernels[0].starts_with("lowrank"), "{kernels:?}");
        assert_eq!(kernels[1..], ["shared_gemm", "shared_gemm_grad"]);
        for choice in choices {
            assert_eq!(choice["source"], "measured", "{choice:#}");
            let candidates = choice["candidates"].as_array().unwrap();
            assert!(candidates.len() > 1, "{choice:#}");
            assert!(candidates[0]["measured"].as_f64().unwrap() > 0.0, "the default is timed");
            let timed = candidates.iter().filter(|one| one["measured"].is_number()).count();
            assert!((1..=8).contains(&timed), "{timed} timed");
            let chosen = candidates.iter().find(|one| one["config"] == choice["config"]).unwrap();
            assert!(chosen["measured"].as_f64() <= candidates[0]["measured"].as_f64(), "{choice:#}");
        }

        let table = succeed(tune, paths).stdout;
        assert!(table.contains(", record\n") && !table.contains(", counted\n"), "{table}");
        assert!(table.contains("Nothing was timed"), "a model's times are no measurements: {table}");
        assert!(table.contains("3 choices tuned in") && table.contains("0 counted now, 3 from the record"), "{table}");
        let second = json(&format!("{tune} --json"), paths);
        for (again, choice) in second["choices"].as_array().unwrap().iter().zip(choices) {
            assert_eq!((&again["config"], &again["source"]), (&choice["config"], &Value::from("record")));
        }

        let shown = succeed("tune --show --record {record}", paths).stdout;
        for word in ["m=192", "shared_gemm_grad", "3 choices in"] {
            assert!(shown.contains(word), "{shown}");
        }
        assert_eq!(json("tune --show --json --record {record}", paths)["entries"].as_array().unwrap().len(), 3);
        succeed("tune --export {copy} --record {record}", paths);
        assert_eq!(std::fs::read(&copy).unwrap(), std::fs::read(&record).unwrap());
        assert!(succeed("tune --clear --record {record}", paths).stdout.ends_with("record.json removed\n"));
        assert!(succeed("tune --clear --record {record}", paths).stdout.ends_with("is not there\n"));
        refuse(
            "tune --export {none} --record {record}",
            &[("record", &record), ("none", &dir.path().join("x"))],
            &["holds no choices"],
        );
        assert_eq!(entries(dir.path()), ["cache", "copy.json", "shapes.json"]);
    }

    /// No time: the cost model decides, and nothing is kept.
    #[test]
    fn without_time_the_cost_model_decides() {
        if !compiler() {
            return;
        }
        let dir = folder();
        let (shapes, record) = (dir.path().join("shapes.json"), dir.path().join("record.json"));
        std::fs::write(&shapes, SHAPES).unwrap();
        let paths: &[(&str, &Path)] = &[("shapes", &shapes), ("record", &record)];
        let line = "tune --device vm --shapes {shapes} --record {record} --budget 1e-9 --operation lowrank --json";
        let found = json(line, paths);
        assert_eq!(found["choices"][0]["source"], "cost model");
        assert!(!record.exists());
    }

    /// A record that is none is said, moved aside, and made anew.
    #[test]
    fn a_broken_record_stops_nothing() {
        if !compiler() {
            return;
        }
        let dir = folder();
        let (shapes, record) = (dir.path().join("shapes.json"), dir.path().join("record.json"));
        std::fs::write(&shapes, SHAPES).unwrap();
        std::fs::write(&record, "{\"schema\":1,\"entr").unwrap();
        let paths: &[(&str, &Path)] = &[("shapes", &shapes), ("record", &record)];
        refuse("tune --show --record {record}", paths, &["record.json"]);
        let line = "tune --device vm --shapes {shapes} --record {record} --operation lowrank";
        let outcome = succeed(line, paths);
        assert!(outcome.stderr.contains("record.json"), "{outcome:?}");
        assert!(outcome.stdout.contains("1 counted now"), "{outcome:?}");
        assert!(succeed("tune --show --record {record}", paths).stdout.contains("1 choice in"));
    }
}
