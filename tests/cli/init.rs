//! `init`, `inspect` and `verify`.

use crate::common::matrices::Draw;
use crate::support::{self, MINILM, QUERY, converted, entries, folder, idlora, init_json, manifest_path, succeed};
use idlora::{Dtype, Mat};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn numbers(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as usize).collect()
}

fn indices(module: &Value) -> Vec<Vec<usize>> {
    module["indices"].as_array().unwrap().iter().map(numbers).collect()
}

#[test]
fn the_first_command_of_the_readme_runs_on_real_weights() {
    let dir = folder();
    let out = dir.path().join("adapter");
    let outcome = succeed(&format!("init {MINILM} --out {{out}}"), &[("out", &out)]);
    assert_eq!(outcome.stderr, "", "no progress bar where stderr is no terminal");
    for expected in [QUERY, "encoder.layer.0.output.dense.weight", "6 modules", "rel. error"] {
        assert!(outcome.stdout.contains(expected), "{expected}: {}", outcome.stdout);
    }
    assert!(outcome.stdout.is_ascii() || outcome.stdout.contains('─'));
    assert_eq!(entries(dir.path()), ["adapter"], "nothing else is left behind");

    let inspected = succeed("inspect {out}", &[("out", &out)]).stdout;
    assert!(inspected.contains(QUERY) && inspected.contains("linear-softmax"), "{inspected}");
    let verified = succeed(&format!("verify {MINILM} {{out}}"), &[("out", &out)]).stdout;
    assert!(verified.contains("6 modules verified"), "{verified}");
}

#[test]
fn json_is_one_object_with_every_key_and_consistent_numbers() {
    let dir = folder();
    let out = dir.path().join("adapter");
    let json = init_json(&format!("init {MINILM} --rank 8 --clusters 3 --json --out {{out}}"), &[("out", &out)]);
    assert_eq!(keys(&json), BTreeSet::from(["weights", "out", "config", "modules", "skipped", "totals"]));
    let modules = json["modules"].as_array().unwrap();
    assert_eq!(modules.len(), 6);
    for module in modules {
        assert_eq!(
            keys(module),
            BTreeSet::from([
                "name",
                "rows",
                "cols",
                "rank",
                "clusters",
                "sizes",
                "indices",
                "inertia",
                "iterations",
                "converged",
                "relative_error",
                "cluster_errors",
                "rank_reached",
                "seconds",
            ])
        );
        let rows = module["rows"].as_u64().unwrap() as usize;
        let sizes = numbers(&module["sizes"]);
        assert_eq!((sizes.len(), sizes.iter().sum::<usize>()), (3, rows));
        assert!(sizes.iter().all(|&size| size >= 8), "{sizes:?}");
        let indices = indices(module);
        assert!(indices.len() == 3 && indices.iter().all(|rows| rows.len() == 8));
        let distinct: BTreeSet<usize> = indices.iter().flatten().copied().collect();
        assert!(distinct.len() == 24 && distinct.iter().all(|&row| row < rows));
        assert_eq!(numbers(&module["rank_reached"]), [8, 8, 8]);
        let errors: Vec<f64> =
            module["cluster_errors"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        let error = module["relative_error"].as_f64().unwrap();
        assert!(
            errors.len() == 3 && errors.iter().chain([&error]).all(|x| (0.0..1.0).contains(x)),
            "{errors:?} {error}"
        );
        assert!(module["inertia"].as_f64().unwrap() > 0.0 && module["iterations"].as_u64().unwrap() > 0);
    }
    let totals = &json["totals"];
    let wide = |key: &str| totals[key].as_u64().unwrap() as usize;
    // B [m/2, 4] and W_g [3, n] of every matrix.
    let trained: usize = [(384, 384), (384, 384), (384, 384), (384, 384), (1536, 384), (384, 1536)]
        .iter()
        .map(|(m, n)| m / 2 * 4 + 3 * n)
        .sum();
    assert_eq!(wide("trained"), trained);
    assert_eq!(wide("frozen_bytes"), 6 * 24 * 4);
    assert_eq!(wide("stored_bytes"), 4 * trained + 6 * 24 * 4);
    assert_eq!(wide("optimizer_bytes"), 8 * trained);
    assert_eq!(wide("modules"), 6);
    assert!(totals["seconds"].as_f64().unwrap() > 0.0);

    let inspected: Value = serde_json::from_str(&succeed("inspect {out} --json", &[("out", &out)]).stdout).unwrap();
    assert_eq!(keys(&inspected), BTreeSet::from(["dir", "modules", "totals"]));
    for (made, held) in modules.iter().zip(inspected["modules"].as_array().unwrap()) {
        for key in ["name", "rows", "cols", "rank", "clusters", "indices"] {
            assert_eq!(made[key], held[key], "{key}");
        }
        assert_eq!(held["digest"].as_str().unwrap().len(), 64);
        assert_eq!(held["dtype"], "f16");
    }
    for key in ["trained", "frozen_bytes", "stored_bytes", "optimizer_bytes", "modules"] {
        assert_eq!(inspected["totals"][key], totals[key], "{key}");
    }
}

/// `‖C − C·A⁺A‖_F / ‖C‖_F` by Gram–Schmidt, twice, in f64.
fn error_of(w: &Mat<f64>, members: &[usize], chosen: &[usize]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut basis: Vec<Vec<f64>> = Vec::new();
    let remove = |basis: &[Vec<f64>], v: &mut Vec<f64>| {
        for _ in 0..2 {
            for q in basis {
                let along = dot(q, v);
                v.iter_mut().zip(q).for_each(|(v, q)| *v -= along * q);
            }
        }
    };
    for &row in chosen {
        let mut v = w.row(row).to_vec();
        remove(&basis, &mut v);
        let norm = dot(&v, &v).sqrt();
        if norm > 1e-12 * dot(w.row(row), w.row(row)).sqrt() {
            basis.push(v.iter().map(|x| x / norm).collect());
        }
    }
    let (mut left, mut all) = (0.0, 0.0);
    for &row in members {
        let mut v = w.row(row).to_vec();
        remove(&basis, &mut v);
        left += dot(&v, &v);
        all += dot(w.row(row), w.row(row));
    }
    (left / all).sqrt()
}

#[test]
fn the_errors_told_are_the_errors_of_the_rows_told() {
    let dir = folder();
    for select in ["pivoted-qr", "sketch", "norm", "centroid", "random"] {
        let out = dir.path().join(select);
        let line = format!("init {MINILM} --match query|attention.output --select {select} --json --out {{out}}");
        let json = init_json(&line, &[("out", &out)]);
        for module in json["modules"].as_array().unwrap() {
            let w = support::load(&manifest_path(MINILM), module["name"].as_str().unwrap());
            let chosen: Vec<usize> = indices(module).concat();
            let expected = error_of(&w, &(0..w.rows()).collect::<Vec<_>>(), &chosen);
            let told = module["relative_error"].as_f64().unwrap();
            // Projections in f32 at worst: an error of n·u of the norm, on a quantity of order 1.
            assert!((told - expected).abs() < 384.0 / 16_777_216.0, "{select}: {told}, expected {expected}");
        }
    }
}

#[test]
fn the_same_file_in_another_element_type_or_layout_or_in_shards_gives_the_same_rows() {
    let dir = folder();
    let shipped = manifest_path(MINILM);
    let original = dir.path().join("original.safetensors");
    converted(&shipped, &original, Dtype::F16, false);
    let wide = dir.path().join("wide.safetensors");
    converted(&original, &wide, Dtype::F32, false);
    let turned = dir.path().join("turned.safetensors");
    converted(&original, &turned, Dtype::F16, true);
    let narrow = dir.path().join("narrow.safetensors");
    converted(&original, &narrow, Dtype::BF16, false);
    let index = shard(&original, dir.path());

    let made = |name: &str, weights: &Path, extra: &str| {
        let out = dir.path().join(name);
        let line = format!("init {{weights}} {extra} --json --out {{out}}");
        let json = init_json(&line, &[("weights", weights), ("out", &out)]);
        succeed("verify {weights} {out}", &[("weights", weights), ("out", &out)]);
        (json, std::fs::read(out.join("adapter.safetensors")).unwrap())
    };
    let (base, base_file) = made("base", &original, "");
    let (turned, turned_file) = made("turned", &turned, "--layout in-out");
    let by_name = |json: &Value| {
        let mut modules: Vec<(String, Value)> = json["modules"]
            .as_array()
            .unwrap()
            .iter()
            .map(|module| (module["name"].as_str().unwrap().to_owned(), module["indices"].clone()))
            .collect();
        modules.sort_by(|a, b| a.0.cmp(&b.0));
        modules
    };
    assert_eq!(by_name(&base), by_name(&turned));
    assert!(base_file == turned_file, "digests too are those of the weight as [out, in]");
    assert_eq!(by_name(&base), by_name(&made("sharded", &index, "").0));
    assert_eq!(by_name(&base), by_name(&made("wide", &wide, "").0), "F32 holds the same values as F16");
    // BF16 rounds to other values: other rows may be nearest, but the errors are those of nearly the same matrices.
    let narrow = made("narrow", &narrow, "").0;
    for module in narrow["modules"].as_array().unwrap() {
        let find =
            |json: &Value| json["modules"].as_array().unwrap().iter().find(|m| m["name"] == module["name"]).cloned();
        let before = find(&base).unwrap()["relative_error"].as_f64().unwrap();
        let after = module["relative_error"].as_f64().unwrap();
        assert!((before - after).abs() < 0.02, "{before} {after}");
    }
}

/// Splits a file in two shards with an index.
fn shard(from: &Path, dir: &Path) -> std::path::PathBuf {
    let names = support::names(from);
    let mut map = serde_json::Map::new();
    for (number, part) in names.chunks(names.len().div_ceil(2)).enumerate() {
        let file = format!("model-{number}.safetensors");
        let tensors: Vec<support::Tensor> =
            part.iter().map(|name| support::Tensor::matrix(name, Dtype::F16, &support::load(from, name))).collect();
        support::save(&dir.join(&file), &tensors);
        map.extend(part.iter().map(|name| (name.clone(), Value::from(file.as_str()))));
    }
    let index = dir.join("model.safetensors.index.json");
    std::fs::write(&index, serde_json::json!({ "metadata": {}, "weight_map": map }).to_string()).unwrap();
    index
}

#[test]
fn every_thread_count_writes_the_same_bytes() {
    let dir = folder();
    for options in ["", "--select sketch --cluster-by direction --b-init normal", "--cluster-by norm --select random"] {
        let files: Vec<Vec<u8>> = ["1", "2", "3"]
            .iter()
            .map(|threads| {
                let out = dir.path().join(format!("{}-{threads}", options.len()));
                succeed(&format!("init {MINILM} {options} --threads {threads} --out {{out}}"), &[("out", &out)]);
                std::fs::read(out.join("adapter.safetensors")).unwrap()
            })
            .collect();
        assert!(files[0] == files[1] && files[0] == files[2], "{options}");
    }
}

#[test]
fn seeds_change_what_is_random_and_nothing_else_does() {
    let dir = folder();
    let file = |name: &str, options: &str| {
        let out = dir.path().join(name);
        succeed(&format!("init {MINILM} --match query {options} --out {{out}}"), &[("out", &out)]);
        std::fs::read(out.join("adapter.safetensors")).unwrap()
    };
    let one = file("one", "--select random --seed 1");
    assert_eq!(one, file("again", "--select random --seed 1"));
    assert_ne!(one, file("two", "--select random --seed 2"));
}

#[test]
fn b_init_normal_starts_away_from_zero_with_the_right_variance() {
    let dir = folder();
    let b = |name: &str, options: &str| {
        let out = dir.path().join(name);
        succeed(&format!("init {MINILM} --match query {options} --out {{out}}"), &[("out", &out)]);
        support::load(&out.join("adapter.safetensors"), &format!("{QUERY}.b"))
    };
    assert!(b("zero", "").data().iter().all(|&x| x == 0.0));
    let normal = b("normal", "--b-init normal");
    assert_eq!(normal.shape(), (192, 8));
    let variance = normal.data().iter().map(|x| x * x).sum::<f64>() / normal.data().len() as f64;
    // Five standard deviations of the variance of 1536 draws.
    assert!((variance * 16.0 - 1.0).abs() < 5.0 * (2.0f64 / 1536.0).sqrt(), "{variance}");
}

#[test]
fn patterns_override_rank_and_alpha_and_the_first_match_counts() {
    let dir = folder();
    let out = dir.path().join("adapter");
    let line = format!("init {MINILM} --pattern query=8:4 --pattern self=4:12 --pattern .=16:16 --json --out {{out}}");
    let json = init_json(&line, &[("out", &out)]);
    let inspected: Value = serde_json::from_str(&succeed("inspect {out} --json", &[("out", &out)]).stdout).unwrap();
    for (made, held) in json["modules"].as_array().unwrap().iter().zip(inspected["modules"].as_array().unwrap()) {
        let name = made["name"].as_str().unwrap();
        let (rank, scale) = match name {
            name if name.contains("query") => (8, 0.5),
            name if name.contains("self") => (4, 3.0),
            _ => (16, 1.0),
        };
        assert_eq!((made["rank"].as_u64(), held["scale"].as_f64()), (Some(rank), Some(scale)), "{name}");
    }
}

#[test]
fn the_default_choice_leaves_out_what_is_no_linear_layer_or_too_small_and_says_so() {
    let dir = folder();
    let weights = dir.path().join("w.safetensors");
    support::small_model(&weights, Dtype::F32, &mut Draw::new(5));
    let out = dir.path().join("adapter");
    let outcome = succeed("init {weights} --rank 8 --json --out {out}", &[("weights", &weights), ("out", &out)]);
    let json: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let names: Vec<&str> = json["modules"].as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["layer.0.q_proj.weight", "layer.0.up_proj.weight"]);
    assert_eq!(json["skipped"][0]["name"], "layer.0.down_proj.weight");
    assert!(json["skipped"][0]["reason"].as_str().unwrap().contains("16 rows"), "{json}");
    assert!(outcome.stderr.starts_with("left out layer.0.down_proj.weight [16, 40]: "), "{}", outcome.stderr);

    // By name it is an error, and an embedding is taken.
    let paths: &[(&str, &Path)] = &[("weights", &weights), ("out", &dir.path().join("named"))];
    support::refuse(
        "init {weights} --rank 8 --match down_proj --out {out}",
        paths,
        &["layer.0.down_proj.weight", "16 rows"],
    );
    let json = init_json("init {weights} --rank 8 --match embed --json --out {out}", paths);
    assert_eq!(json["modules"][0]["name"], "embed_tokens.weight");
}

#[test]
fn one_row_and_one_column_are_matrices_too() {
    let dir = folder();
    let weights = dir.path().join("w.safetensors");
    let mut draw = Draw::new(6);
    support::save(
        &weights,
        &[
            support::Tensor::matrix("row.weight", Dtype::F32, &draw.gaussian(1, 9)),
            support::Tensor::matrix("column.weight", Dtype::F32, &draw.gaussian(9, 1)),
        ],
    );
    let paths: &[(&str, &Path)] = &[("weights", &weights), ("out", &dir.path().join("adapter"))];
    let json = init_json("init {weights} --rank 1 --clusters 1 --split 1 --json --out {out}", paths);
    for module in json["modules"].as_array().unwrap() {
        let error = module["relative_error"].as_f64().unwrap();
        assert!(error < 1e-6, "one row spans a matrix of rank one: {error}");
    }
    let paths: &[(&str, &Path)] = &[("weights", &weights), ("out", &dir.path().join("other"))];
    support::refuse("init {weights} --match row --rank 1 --out {out}", paths, &["row.weight", "1 rows"]);
}

#[test]
fn memory_holds_what_is_worked_on_and_not_the_file() {
    let dir = folder();
    let weights = dir.path().join("w.safetensors");
    let mut draw = Draw::new(14);
    let noise = draw.gaussian(256, 512);
    let names: Vec<String> = (0..80).map(|i| format!("layer.{i}.weight")).collect();
    let tensors: Vec<support::Tensor> =
        names.iter().map(|name| support::Tensor::matrix(name, Dtype::F32, &noise)).collect();
    support::save(&weights, &tensors);
    let file = std::fs::metadata(&weights).unwrap().len();
    let paths: &[(&str, &Path)] = &[("weights", &weights), ("out", &dir.path().join("adapter"))];
    let json = init_json("init {weights} --rank 4 --clusters 2 --threads 2 --json --out {out}", paths);
    match json["totals"]["peak_memory_bytes"].as_u64() {
        // Two weights of 0.5 MB with their work space, the adapters, and the program itself.
        Some(peak) => assert!(peak < file * 3 / 4, "{peak} bytes for a file of {file}"),
        None => eprintln!("skipped: the system does not tell peak memory"),
    }
}

#[test]
fn a_reader_that_stops_early_is_no_failure() {
    use std::process::Stdio;
    let dir = folder();
    let out = dir.path().join("adapter");
    let mut child = support::command()
        .args(["init", MINILM, "--match", "query", "--out"])
        .arg(&out)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take()); // closed before the table is printed
    let outcome = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(outcome.stderr).unwrap();
    assert!(outcome.status.success() && stderr.is_empty(), "{stderr}");
    assert!(out.exists());
}

#[test]
fn help_says_what_every_command_does() {
    let help = idlora(["--help"]).stdout;
    for command in ["init", "inspect", "apply", "merge", "unmerge", "verify"] {
        assert!(help.contains(command), "{help}");
        let outcome = idlora([command, "--help"]);
        assert_eq!(outcome.code, 0);
        assert!(outcome.stdout.contains("Usage:"), "{}", outcome.stdout);
    }
    let init = idlora(["init", "--help"]).stdout;
    for flag in [
        "--match",
        "--rank",
        "--clusters",
        "--min-size",
        "--split",
        "--alpha",
        "--pattern",
        "--layout",
        "--cluster-by",
        "--select",
        "--gate",
        "--b-init",
        "--seed",
        "--device",
        "--threads",
        "--out",
        "--json",
        "--plot",
    ] {
        assert!(init.contains(flag), "{flag}: {init}");
    }
}
