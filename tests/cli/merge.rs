//! `merge` and `unmerge`.

use crate::common::matrices::Draw;
use crate::support::{self, MINILM, QUERY, converted, entries, folder, manifest_path, refuse, succeed};
use idlora::format::checkpoint::Checkpoint;
use idlora::{Dtype, Mat};
use serde_json::Value;
use std::path::Path;

fn relative_difference(a: &Mat<f64>, b: &Mat<f64>) -> f64 {
    let difference: f64 = a.data().iter().zip(b.data()).map(|(a, b)| (a - b).powi(2)).sum();
    (difference / b.data().iter().map(|b| b * b).sum::<f64>()).sqrt()
}

/// `(I + κ (I_s⊗B) P) W` in f64, from the adapter's files.
fn merged_by_definition(w: &Mat<f64>, dir: &Path, name: &str) -> Mat<f64> {
    let inspected: Value = serde_json::from_str(&succeed("inspect {dir} --json", &[("dir", dir)]).stdout).unwrap();
    let module = inspected["modules"].as_array().unwrap().iter().find(|module| module["name"] == name).unwrap();
    let (scale, split) = (module["scale"].as_f64().unwrap(), module["config"]["split"].as_u64().unwrap() as usize);
    let stored = dir.join("adapter.safetensors");
    let (b, gate) = (support::load(&stored, &format!("{name}.b")), support::load(&stored, &format!("{name}.gate")));
    let lists = module["indices"].as_array().unwrap();
    let mut out = w.clone();
    let (out_part, in_part) = (w.rows() / split, lists[0].as_array().unwrap().len() / split);
    for row in 0..w.rows() {
        for (i, list) in lists.iter().enumerate() {
            for q in 0..in_part {
                let source = list[row / out_part * in_part + q].as_u64().unwrap() as usize;
                let factor = scale * gate.row(0)[i] * b.row(row % out_part)[q];
                let source: Vec<f64> = w.row(source).to_vec();
                out.row_mut(row).iter_mut().zip(source).for_each(|(out, w)| *out += factor * w);
            }
        }
    }
    out
}

#[test]
fn merging_is_the_definition_and_unmerging_undoes_it() {
    for (dtype, transposed) in [(Dtype::F32, false), (Dtype::F32, true), (Dtype::F16, false), (Dtype::BF16, false)] {
        let dir = folder();
        let path = |name: &str| dir.path().join(name);
        let (weights, adapter, merged, back) =
            (path("w.safetensors"), path("adapter"), path("merged.safetensors"), path("back.safetensors"));
        converted(&manifest_path(MINILM), &weights, dtype, transposed);
        let paths: &[(&str, &Path)] =
            &[("weights", &weights), ("adapter", &adapter), ("merged", &merged), ("back", &back)];
        let layout = if transposed { "in-out" } else { "out-in" };
        // Small α: the merged matrix stays far from singular, so that unmerging is well conditioned.
        succeed(
            &format!(
                "init {{weights}} --match query|intermediate --gate static --alpha 1 --b-init normal --layout {layout} --out {{adapter}}"
            ),
            paths,
        );
        succeed("merge {weights} {adapter} --out {merged}", paths);
        let told = succeed("unmerge {merged} {adapter} --out {back}", paths).stdout;
        assert!(told.contains("2 modules unmerged"), "{told}");

        let u = dtype.unit_roundoff();
        for name in support::names(&weights) {
            let turn = |w: Mat<f64>| {
                if !transposed {
                    return w;
                }
                let data =
                    (0..w.cols()).flat_map(|j| (0..w.rows()).map(move |i| (i, j))).map(|(i, j)| w.row(i)[j]).collect();
                Mat::from_vec(data, w.cols(), w.rows()).unwrap()
            };
            let [base, after, restored] = [&weights, &merged, &back].map(|file| turn(support::load(file, &name)));
            if name.contains("query") || name.contains("intermediate") {
                let expected = merged_by_definition(&base, &adapter, &name);
                assert!(relative_difference(&after, &base) > 0.02, "{name}: the merge changed next to nothing");
                // One rounding to the element type, and sums of k·r terms in f32.
                assert!(relative_difference(&after, &expected) <= u + 70.0 / 16_777_216.0, "{dtype:?} {name}");
                // Rounded on merging and again on unmerging, through an inverse of condition below 8.
                assert!(relative_difference(&restored, &base) <= 16.0 * (u + 70.0 / 16_777_216.0), "{dtype:?} {name}");
            } else {
                assert!(after == base && restored == base, "{name} has no adapter");
            }
        }
        let metadata = |file: &Path| Checkpoint::open(file).unwrap().metadata().contains_key("idlora.merged");
        assert!(metadata(&merged) && !metadata(&back));
        assert_eq!(entries(dir.path()), ["adapter", "back.safetensors", "merged.safetensors", "w.safetensors"]);
    }
}

#[test]
fn other_gates_other_adapters_and_other_files_are_refused() {
    let dir = folder();
    let path = |name: &str| dir.path().join(name);
    let weights = manifest_path(MINILM);
    let (adapter, other, linear) = (path("adapter"), path("other"), path("linear"));
    let (merged, out, changed) = (path("merged.safetensors"), path("out.safetensors"), path("changed.safetensors"));
    let paths: &[(&str, &Path)] = &[
        ("weights", &weights),
        ("adapter", &adapter),
        ("other", &other),
        ("linear", &linear),
        ("merged", &merged),
        ("out", &out),
        ("changed", &changed),
    ];
    succeed("init {weights} --match query --gate static --b-init normal --out {adapter}", paths);
    succeed("init {weights} --match query --gate static --b-init normal --seed 1 --out {other}", paths);
    succeed("init {weights} --match query --out {linear}", paths);
    succeed("merge {weights} {adapter} --out {merged}", paths);
    support::small_model(&changed, Dtype::F32, &mut Draw::new(9));

    refuse("merge {weights} {linear} --out {out}", paths, &[QUERY, "linear-softmax", "every token", "--gate static"]);
    refuse("merge {merged} {adapter} --out {out}", paths, &["merged.safetensors", "merged into it already"]);
    refuse("merge {changed} {adapter} --out {out}", paths, &["changed.safetensors", QUERY]);
    refuse("merge {weights} {adapter} --out {merged}", paths, &["merged.safetensors", "is there already"]);
    refuse("unmerge {weights} {adapter} --out {out}", paths, &["minilm-layer0.safetensors", "no adapter is merged"]);
    refuse("unmerge {merged} {other} --out {out}", paths, &["another adapter is merged"]);
    assert!(!out.exists());

    // Another base of the same names and shapes.
    let near = path("near.safetensors");
    converted(&weights, &near, Dtype::BF16, false);
    let paths: &[(&str, &Path)] = &[("near", &near), ("adapter", &adapter), ("out", &out)];
    refuse("merge {near} {adapter} --out {out}", paths, &[QUERY, "digest"]);
    assert!(!out.exists());
}

#[test]
fn a_merge_that_leaves_the_range_of_the_element_type_is_refused() {
    let dir = folder();
    let path = |name: &str| dir.path().join(name);
    let (weights, adapter, out) = (path("w.safetensors"), path("adapter"), path("out.safetensors"));
    let paths: &[(&str, &Path)] = &[("weights", &weights), ("adapter", &adapter), ("out", &out)];
    support::small_model(&weights, Dtype::F16, &mut Draw::new(10));
    succeed(
        "init {weights} --match q_proj.weight --rank 4 --clusters 2 --gate static --alpha 1e6 --b-init normal --out {adapter}",
        paths,
    );
    refuse("merge {weights} {adapter} --out {out}", paths, &["layer.0.q_proj.weight", "inf", "row", "column"]);
    assert_eq!(entries(dir.path()), ["adapter", "w.safetensors"]);
}
