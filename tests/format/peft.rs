//! A PEFT folder is the adapter: what a reader of plain LoRA computes from it is what merging computes.

use crate::Sandbox;
use crate::common::matrices::Draw;
use crate::common::{Padded, for_every_element};
use idlora::adapter::{Config, Digest, IdLora, Parts, Scaling};
use idlora::format::peft::{self, CONFIG, Lora, Options, WEIGHTS};
use idlora::lowrank::Gate;
use idlora::reference::lowrank as reference;
use idlora::{Device, Dtype, Elem, Mat, MatRef, bf16, f16};
use proptest::prelude::*;
use safetensors::SafeTensors;
use serde_json::{Value, json};
use std::path::Path;

/// Unit roundoff of f32.
const U: f64 = 1.0 / 16_777_216.0;

/// A random weight, its rows padded with NaN, and an adapter of it with a static gate and a B as training leaves it.
pub(crate) fn trained<T: Elem>(name: &str, rows: usize, cols: usize, config: Config, seed: u64) -> (Padded<T>, IdLora) {
    let draw = &mut Draw::new(seed);
    let w = Padded::<T>::new(&draw.gaussian(rows, cols), 3);
    let mut all: Vec<u32> = (0..rows as u32).collect();
    (1..rows).rev().for_each(|i| all.swap(i, draw.below(i + 1)));
    let mut normal = |rows, cols| {
        let values = draw.gaussian(rows, cols);
        Mat::from_vec(values.data().iter().map(|&x| x as f32).collect(), rows, cols).unwrap()
    };
    let Config { rank, clusters, split, gate, .. } = config;
    let (gate_rows, gate_cols) = gate.parameter_shape(rank, clusters, cols);
    let adapter = IdLora::from_parts(Parts {
        name: name.to_owned(),
        rows,
        cols,
        dtype: T::DTYPE,
        config,
        b: normal(rows / split, rank / split),
        gate: normal(gate_rows, gate_cols),
        skeleton: all[..clusters * rank].to_vec(),
        digest: Digest::of(w.view()),
    });
    (w, adapter.unwrap())
}

pub(crate) fn fixed(rank: usize, clusters: usize, split: usize) -> Config {
    Config { rank, clusters, split, gate: Gate::Static, alpha: 3.0, ..Config::default() }
}

/// A PEFT folder as other software reads it: the configuration's text, and tensors through the reference implementation.
struct Folder {
    config: Value,
    bytes: Vec<u8>,
}

impl Folder {
    fn read(dir: &Path) -> Self {
        let config = std::fs::read(dir.join(CONFIG)).unwrap();
        Self { config: serde_json::from_slice(&config).unwrap(), bytes: std::fs::read(dir.join(WEIGHTS)).unwrap() }
    }

    fn names(&self) -> Vec<String> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        file.names().into_iter().map(str::to_owned).collect()
    }

    fn tensor(&self, path: &str, factor: &str) -> Mat<f64> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let tensor = file.tensor(&format!("base_model.model.{path}.{factor}.weight")).unwrap();
        let values: Vec<f64> = match tensor.dtype() {
            safetensors::Dtype::F32 => {
                tensor.data().as_chunks().0.iter().map(|&x| f32::from_le_bytes(x).into()).collect()
            }
            safetensors::Dtype::F16 => {
                tensor.data().as_chunks().0.iter().map(|&x| f16::from_le_bytes(x).into()).collect()
            }
            safetensors::Dtype::BF16 => {
                tensor.data().as_chunks().0.iter().map(|&x| bf16::from_le_bytes(x).into()).collect()
            }
            other => panic!("element type {other:?}"),
        };
        Mat::from_vec(values, tensor.shape()[0], tensor.shape()[1]).unwrap()
    }

    /// The module's value in a pattern, or the value for all: PEFT takes the first key that matches as a regular expression.
    fn of(&self, path: &str, pattern: &str, value: &str) -> f64 {
        let matches = |key: &str| key.strip_prefix('^').unwrap().replace('\\', "") == path;
        let patterns = self.config[pattern].as_object().unwrap();
        let own = patterns.iter().find(|(key, _)| matches(key)).map(|(_, value)| value);
        own.unwrap_or(&self.config[value]).as_f64().unwrap()
    }

    /// `lora_alpha / r`, in double precision as PEFT has it.
    fn scaling(&self, path: &str) -> f64 {
        self.of(path, "alpha_pattern", "lora_alpha") / self.of(path, "rank_pattern", "r")
    }
}

fn exported(sandbox: &Sandbox, modules: &[(IdLora, Lora)], options: &Options) -> Folder {
    let dir = sandbox.path("peft");
    let _ = std::fs::remove_dir_all(&dir);
    let adapters: Vec<IdLora> = modules.iter().map(|(adapter, _)| adapter.clone()).collect();
    let mut factors = modules.iter().map(|(_, lora)| lora.clone());
    peft::export(&dir, &adapters, |_| Ok(factors.next().unwrap()), options).unwrap();
    Folder::read(&dir)
}

fn map(a: &Mat<f64>, f: impl Fn(f64) -> f64) -> Mat<f64> {
    Mat::from_vec(a.data().iter().map(|&x| f(x)).collect(), a.rows(), a.cols()).unwrap()
}

fn wide(a: MatRef<'_, f32>) -> Mat<f64> {
    Mat::from_vec(a.iter_rows().flatten().map(|&x| x.into()).collect(), a.rows(), a.cols()).unwrap()
}

#[track_caller]
fn assert_within(what: &str, found: &Mat<f64>, expected: &Mat<f64>, bound: impl Fn(usize, usize) -> f64) {
    assert_eq!(found.shape(), expected.shape(), "{what}");
    for i in 0..found.rows() {
        for (j, (x, y)) in found.row(i).iter().zip(expected.row(i)).enumerate() {
            assert!((x - y).abs() <= bound(i, j), "{what}: {x} instead of {y} at ({i}, {j}), bound {}", bound(i, j));
        }
    }
}

/// * `lora_B` is `I_s⊗B` to the bit; `lora_A` is `P W` rounded once, `u·|A|` (and half a subnormal), the f64 sums far below.
/// * What is merged is W + ΔW rounded to f32 and to T, after f64 sums. PEFT's κ has no rounding to f32 (κ itself has up to
///   two, of a root and of a quotient), so that ΔW from the file differs by `3u·κ|B||A|`.
fn is_what_merging_writes<T: Elem>(sizes: (usize, usize, usize, usize), cols: usize, scaling: Scaling, seed: u64) {
    let (clusters, part, split, spare) = sizes;
    let rank = part * split;
    let rows = clusters * rank + spare * split;
    let config = Config { scaling, alpha: 0.7, ..fixed(rank, clusters, split) };
    let (w, adapter) = trained::<T>("block.0.linear.weight", rows, cols, config, seed);
    let lora = Lora::of(&adapter, w.view()).unwrap();
    let sandbox = Sandbox::new();
    let folder = exported(&sandbox, &[(adapter.clone(), lora)], &Options::default());
    let [a, b] = ["lora_A", "lora_B"].map(|factor| folder.tensor("block.0.linear", factor));

    let (b_given, gate) = (wide(adapter.b()), wide(adapter.gate()));
    let definition = reference::Adapter {
        rank,
        split,
        gate: Gate::Static,
        skeleton: adapter.skeleton(),
        b: b_given.as_ref(),
        parameters: gate.as_ref(),
        scale: adapter.scale().into(),
    };
    assert_eq!(b, reference::block_diagonal(&definition));
    let exact = reference::product(reference::mixing(&definition, rows).as_ref(), w.to_f64().as_ref());
    assert_within("A", &a, &exact, |i, j| U * exact.row(i)[j].abs() * 1.001 + 1e-12 * clusters as f64);

    let size =
        map(&reference::product(map(&b, f64::abs).as_ref(), map(&a, f64::abs).as_ref()), |x| x * definition.scale);
    let delta = map(&reference::product(b.as_ref(), a.as_ref()), |x| x * folder.scaling("block.0.linear"));
    let mut sum = w.to_f64();
    sum.data_mut().iter_mut().zip(delta.data()).for_each(|(w, delta)| *w += delta);
    let mut merged = w.clone();
    adapter.merge(&Device::Cpu, merged.view_mut()).unwrap();
    let tiny = if T::DTYPE == Dtype::F16 { 2f64.powi(-25) } else { 0.0 };
    let relative = U + if T::DTYPE == Dtype::F32 { 0.0 } else { T::DTYPE.unit_roundoff() };
    assert_within("W + ΔW", &merged.to_f64(), &sum, |i, j| {
        1.01 * (relative * sum.row(i)[j].abs() + tiny)
            + (3.1 * U + 1e-12) * (size.row(i)[j] + w.to_f64().row(i)[j].abs())
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn an_export_is_what_merging_writes(
        sizes in (1usize..5, 1usize..5, 1usize..4, 0usize..9),
        cols in 1usize..40,
        scaling in 0usize..3,
        seed: u64,
    ) {
        let scaling = [Scaling::AlphaOverRank, Scaling::AlphaOverSqrtRank, Scaling::One][scaling];
        for_every_element!(is_what_merging_writes(sizes, cols, scaling, seed));
    }
}

/// Three modules, of which the last two differ from the first in rank, in α, or in both.
fn three() -> Vec<(IdLora, Lora)> {
    let module = |name: &str, config: Config, seed: u64| {
        let (w, adapter) = trained::<f32>(name, 24, 10, config, seed);
        let lora = Lora::of(&adapter, w.view()).unwrap();
        (adapter, lora)
    };
    let scaling = Scaling::AlphaOverSqrtRank;
    vec![
        module("layer.0.q+v.weight", Config { alpha: 32.0, ..fixed(4, 3, 2) }, 1),
        module("0.q+v.weight", Config { alpha: 2.5, ..fixed(2, 3, 2) }, 2),
        module("bare", Config { scaling, ..fixed(4, 2, 1) }, 3),
    ]
}

/// The whole configuration: other software reads it, so a change of it is a change of the interface.
#[test]
fn the_configuration_says_what_differs_between_modules() {
    let sandbox = Sandbox::new();
    let options = Options { base_model: Some("some/model".to_owned()), ..Options::default() };
    let folder = exported(&sandbox, &three(), &options);
    let expected = json!({
        "alpha_pattern": {r"^0\.q\+v": 2.5, "^bare": 6},
        "base_model_name_or_path": "some/model",
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "lora_alpha": 32,
        "lora_dropout": 0.0,
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": 4,
        "rank_pattern": {r"^0\.q\+v": 2},
        "target_modules": ["layer.0.q+v", "0.q+v", "bare"],
        "task_type": null,
        "use_dora": false,
        "use_rslora": false,
    });
    assert_eq!(folder.config, expected);
    assert_eq!(folder.scaling("layer.0.q+v"), 8.0);
    assert_eq!(folder.scaling("0.q+v"), 1.25);
    assert_eq!(folder.scaling("bare"), 1.5);
    let mut names = folder.names();
    names.sort();
    let expected: Vec<String> = ["0.q+v", "bare", "layer.0.q+v"]
        .iter()
        .flat_map(|path| ["A", "B"].map(|factor| format!("base_model.model.{path}.lora_{factor}.weight")))
        .collect();
    assert_eq!(names, expected);
    let (_, header) = SafeTensors::read_metadata(&folder.bytes).unwrap();
    assert_eq!(header.metadata().as_ref().unwrap()["format"], "pt");

    let text = std::fs::read_to_string(sandbox.path("peft").join(CONFIG)).unwrap();
    let again = exported(&sandbox, &three(), &options);
    assert_eq!(again.bytes, folder.bytes);
    assert_eq!(std::fs::read_to_string(sandbox.path("peft").join(CONFIG)).unwrap(), text);
    let mut entries: Vec<_> =
        std::fs::read_dir(sandbox.path("peft")).unwrap().map(|e| e.unwrap().file_name()).collect();
    entries.sort();
    assert_eq!(entries, [CONFIG, WEIGHTS]);
}

#[test]
fn narrow_tensors_are_the_wide_ones_rounded() {
    let sandbox = Sandbox::new();
    let modules = three();
    let wide = exported(&sandbox, &modules, &Options::default());
    for dtype in [Dtype::F16, Dtype::BF16] {
        let narrow = exported(&sandbox, &modules, &Options { dtype, ..Options::default() });
        assert_eq!(narrow.config, wide.config);
        for (path, factor) in [("layer.0.q+v", "lora_A"), ("bare", "lora_B")] {
            let rounded = |x: f64| match dtype {
                Dtype::F16 => f16::from_f32(x as f32).into(),
                _ => bf16::from_f32(x as f32).into(),
            };
            assert_eq!(narrow.tensor(path, factor), map(&wide.tensor(path, factor), rounded), "{dtype:?} {path}");
        }
    }
}
