//! `export --peft`.

use crate::common::matrices::Draw;
use crate::support::{self, MINILM, QUERY, converted, entries, folder, manifest_path, names, refuse, run, succeed};
use idlora::{Dtype, Mat};
use serde_json::{Value, json};
use std::path::Path;

fn config(dir: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(dir.join("adapter_config.json")).unwrap()).unwrap()
}

/// `W + (alpha / r) B A`.
fn with_lora(w: &Mat<f64>, dir: &Path, path: &str, alpha: f64) -> Mat<f64> {
    let file = dir.join("adapter_model.safetensors");
    let [a, b] = ["A", "B"].map(|f| support::load(&file, &format!("base_model.model.{path}.lora_{f}.weight")));
    let mut sum = w.clone();
    for i in 0..b.rows() {
        for (q, b) in b.row(i).iter().enumerate() {
            let factor = alpha / a.rows() as f64 * b;
            sum.row_mut(i).iter_mut().zip(a.row(q)).for_each(|(w, a)| *w += factor * a);
        }
    }
    sum
}

fn transposed(w: &Mat<f64>) -> Mat<f64> {
    let data = (0..w.cols()).flat_map(|j| (0..w.rows()).map(move |i| (i, j))).map(|(i, j)| w.row(i)[j]).collect();
    Mat::from_vec(data, w.cols(), w.rows()).unwrap()
}

fn norm(w: &Mat<f64>) -> f64 {
    w.data().iter().map(|x| x * x).sum::<f64>().sqrt()
}

fn difference(a: &Mat<f64>, b: &Mat<f64>) -> f64 {
    a.data().iter().zip(b.data()).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

/// The command on both layouts and every element type; what `merge` writes is the base with the exported LoRA in it.
#[test]
fn an_export_is_what_merge_writes() {
    for (dtype, in_out) in [(Dtype::F32, false), (Dtype::F32, true), (Dtype::F16, false), (Dtype::BF16, true)] {
        let dir = folder();
        let path = |name: &str| dir.path().join(name);
        let (weights, adapter, merged, out) =
            (path("w.safetensors"), path("adapter"), path("merged.safetensors"), path("out"));
        converted(&manifest_path(MINILM), &weights, dtype, in_out);
        let paths: &[(&str, &Path)] =
            &[("weights", &weights), ("adapter", &adapter), ("merged", &merged), ("out", &out)];
        let layout = if in_out { "in-out" } else { "out-in" };
        succeed(
            &format!(
                "init {{weights}} --match query|intermediate --gate static --pattern intermediate=8:2.5 --alpha 3 \
                 --b-init normal --layout {layout} --out {{adapter}}"
            ),
            paths,
        );
        succeed("merge {weights} {adapter} --out {merged}", paths);
        let told = succeed("export {weights} {adapter} --peft --base-model mini --out {out} --json", paths).stdout;
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["totals"], json!({"modules": 2, "parameters": 16 * 768 + 8 * 1920}));
        assert_eq!(told["out"], json!(out));
        let modules = told["modules"].as_array().unwrap();
        assert_eq!(modules.len(), 2);
        assert_eq!(names(&out.join("adapter_model.safetensors")).len(), 4);
        for module in modules {
            let (name, path) = (module["name"].as_str().unwrap(), module["path"].as_str().unwrap());
            assert_eq!((name, module["in_out"].as_bool()), (&*format!("{path}.weight"), Some(in_out)));
            let [base, after] = [&weights, &merged].map(|file| {
                let stored = support::load(file, name);
                if in_out { transposed(&stored) } else { stored }
            });
            let expected = with_lora(&base, &out, path, module["alpha"].as_f64().unwrap());
            let moved = difference(&expected, &base) / norm(&base);
            assert!(moved > 0.02, "{name}: the update is next to nothing, {moved}");
            // One rounding to the element type; factors and κ in f32.
            let bound = (dtype.unit_roundoff() + 4.0 / 16_777_216.0) * (norm(&after) + norm(&base));
            assert!(difference(&after, &expected) <= bound, "{dtype:?} {name}: {}", difference(&after, &expected));
        }
        let config = config(&out);
        assert_eq!(
            (&config["r"], &config["lora_alpha"], &config["fan_in_fan_out"]),
            (&json!(16), &json!(3), &json!(in_out))
        );
        assert_eq!(config["base_model_name_or_path"], "mini");
        let key = r"^encoder\.layer\.0\.intermediate\.dense";
        assert_eq!((&config["rank_pattern"], &config["alpha_pattern"]), (&json!({key: 8}), &json!({key: 2.5})));
        assert_eq!(entries(dir.path()), ["adapter", "merged.safetensors", "out", "w.safetensors"]);
    }
}

#[test]
fn prefixes_types_and_a_table_for_people() {
    let dir = folder();
    let path = |name: &str| dir.path().join(name);
    let (adapter, out, other) = (path("adapter"), path("out"), path("other"));
    let weights = manifest_path(MINILM);
    let paths: &[(&str, &Path)] = &[("weights", &weights), ("adapter", &adapter), ("out", &out), ("other", &other)];
    succeed("init {weights} --match query --gate static --b-init normal --out {adapter}", paths);
    let told = succeed("export {weights} {adapter} --peft --prefix =bert. --dtype bf16 --out {out}", paths).stdout;
    for part in ["bert.encoder.layer.0.attention.self.query", "lora_alpha", "1 module", "12,288 parameters"] {
        assert!(told.contains(part), "no `{part}` in {told}");
    }
    let file = std::fs::read(out.join("adapter_model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&file).unwrap();
    let tensor = file.tensor("base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight").unwrap();
    assert_eq!((tensor.dtype(), tensor.shape()), (safetensors::Dtype::BF16, &[16, 384][..]));
    assert_eq!(config(&out)["target_modules"], json!(["bert.encoder.layer.0.attention.self.query"]));
    assert_eq!(config(&out)["base_model_name_or_path"], Value::Null);

    succeed("export {weights} {adapter} --peft --prefix encoder.layer.=h. --out {other}", paths);
    assert_eq!(config(&other)["target_modules"], json!(["h.0.attention.self.query"]));
}

#[test]
fn what_cannot_be_exported_is_refused_with_the_reason() {
    let dir = folder();
    let path = |name: &str| dir.path().join(name);
    let weights = manifest_path(MINILM);
    let (adapter, linear, out) = (path("adapter"), path("linear"), path("out"));
    let (near, small, merged) = (path("near.safetensors"), path("small.safetensors"), path("merged.safetensors"));
    converted(&weights, &near, Dtype::BF16, false);
    support::small_model(&small, Dtype::F32, &mut Draw::new(9));
    let paths: &[(&str, &Path)] = &[
        ("weights", &weights),
        ("adapter", &adapter),
        ("linear", &linear),
        ("out", &out),
        ("near", &near),
        ("small", &small),
        ("merged", &merged),
    ];
    succeed("init {weights} --match query --gate static --b-init normal --out {adapter}", paths);
    succeed("init {weights} --match query --out {linear}", paths);
    succeed("merge {weights} {adapter} --out {merged}", paths);
    let reason = [QUERY, "linear-softmax", "every token", "only a static gate can be exported"];
    refuse("export {weights} {linear} --peft --out {out}", paths, &reason);
    refuse("export {merged} {adapter} --peft --out {out}", paths, &[QUERY, "digest"]);
    refuse("export {near} {adapter} --peft --out {out}", paths, &["near.safetensors", QUERY, "BF16", "F16"]);
    refuse("export {small} {adapter} --peft --out {out}", paths, &["small.safetensors", "holds no tensor", QUERY]);
    refuse("export {weights} {adapter} --peft --prefix bert.= --out {out}", paths, &["prefix", "`bert.`", QUERY]);
    refuse("export {weights} {adapter} --peft --out {adapter}", paths, &["is there already"]);
    refuse("export {weights} {out} --peft --out {out}", paths, &["adapter.safetensors"]);
    for wrong in ["export {weights} {adapter} --out {out}", "export {weights} {adapter} --peft --prefix x --out {out}"]
    {
        assert_eq!(run(wrong, paths).code, 2, "{wrong}");
    }
    assert_eq!(
        entries(dir.path()),
        ["adapter", "linear", "merged.safetensors", "near.safetensors", "small.safetensors"]
    );
}
