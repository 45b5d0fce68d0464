//! Where the factors of a PEFT export come from, and what is refused.

use crate::common::for_every_element;
use crate::common::matrices::Draw;
use crate::peft::{fixed, trained};
use crate::{GATES, Sandbox};
use idlora::adapter::{Config, IdLora};
use idlora::format::checkpoint::Checkpoint;
use idlora::format::peft::{Exported, Lora, Options, Prefix, export};
use idlora::lowrank::Gate;
use idlora::{Dtype, Elem, Error, Mat};
use safetensors::tensor::{Dtype as Stored, TensorView};
use std::path::Path;

/// A checkpoint by the reference implementation: a vector before the matrix, so that it does not lie at the start.
fn write<T: Elem>(path: &Path, name: &str, w: &Mat<f64>, in_out: bool) -> Checkpoint {
    let (rows, cols) = w.shape();
    let order: Vec<(usize, usize)> = if in_out {
        (0..cols).flat_map(|j| (0..rows).map(move |i| (i, j))).collect()
    } else {
        (0..rows).flat_map(|i| (0..cols).map(move |j| (i, j))).collect()
    };
    let values: Vec<T> = order.into_iter().map(|(i, j)| T::from_f32(w.row(i)[j] as f32)).collect();
    let dtype = match T::DTYPE {
        Dtype::F16 => Stored::F16,
        Dtype::BF16 => Stored::BF16,
        Dtype::F32 => Stored::F32,
    };
    let shape = if in_out { vec![cols, rows] } else { vec![rows, cols] };
    let bias = [7; 12];
    let tensors = [
        ("a.bias", TensorView::new(Stored::F32, vec![3], &bias).unwrap()),
        (name, TensorView::new(dtype, shape, bytes_of(&values)).unwrap()),
    ];
    std::fs::write(path, safetensors::serialize(tensors, None).unwrap()).unwrap();
    Checkpoint::open(path).unwrap()
}

/// Little-endian hosts only, as these tests are.
fn bytes_of<T: Elem>(values: &[T]) -> &[u8] {
    bytemuck::cast_slice(values)
}

/// Rows read one by one, of either layout, make the factors that the weight in memory makes; also where it is square, so that
/// only the digest tells the layouts apart.
fn reading_is_as_good_as_holding<T: Elem>(rows: usize, cols: usize) {
    let (w, adapter) = trained::<T>("w.weight", rows, cols, fixed(4, 3, 2), 5);
    let held = Lora::of(&adapter, w.view()).unwrap();
    let sandbox = Sandbox::new();
    for in_out in [false, true] {
        let weights = write::<T>(&sandbox.path("w.safetensors"), "w.weight", &w.to_f64(), in_out);
        let read = Lora::read(&adapter, &weights).unwrap();
        assert_eq!(read.in_out(), in_out);
        assert_eq!((read.name(), read.a().data(), read.b().data()), ("w.weight", held.a().data(), held.b().data()));
        let dir = sandbox.path(if in_out { "turned" } else { "straight" });
        let options = Options::default();
        let [module] = &export(&dir, std::slice::from_ref(&adapter), |_| Ok(read.clone()), &options).unwrap()[..]
        else {
            panic!("not one module")
        };
        let expected =
            Exported { name: "w.weight".to_owned(), path: "w".to_owned(), rows, cols, rank: 4, alpha: 3.0, in_out };
        assert_eq!((module, module.parameters()), (&expected, 4 * (rows + cols)));
        let config = std::fs::read_to_string(dir.join("adapter_config.json")).unwrap();
        assert!(config.contains(&format!("\"fan_in_fan_out\": {in_out}")), "{config}");
    }
}

#[test]
fn reading_row_by_row_is_as_good_as_holding_the_weight() {
    for (rows, cols) in [(20, 7), (12, 30), (16, 16)] {
        for_every_element!(reading_is_as_good_as_holding(rows, cols));
    }
}

fn one() -> (crate::common::Padded<f32>, IdLora, Lora) {
    let (w, adapter) = trained::<f32>("w.weight", 16, 16, fixed(4, 3, 2), 6);
    let lora = Lora::of(&adapter, w.view()).unwrap();
    (w, adapter, lora)
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: Result<T, Error>, variant: &str, parts: &[&str]) {
    let error = result.unwrap_err();
    assert!(format!("{error:?}").starts_with(variant), "{error:?}");
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "no `{part}` in: {message}");
    }
}

#[test]
fn gates_that_depend_on_the_token_are_refused_with_the_reason() {
    let sandbox = Sandbox::new();
    let (_, first, lora) = one();
    for gate in GATES.into_iter().filter(|&gate| gate != Gate::Static) {
        let (w, adapter) = trained::<f32>("gated.weight", 16, 16, Config { gate, ..fixed(4, 3, 2) }, 7);
        let reason = ["`gated.weight`", gate.name(), "every token", "no single A", "only a static gate"];
        assert_refused(Lora::of(&adapter, w.view()), "Unsupported", &reason);
        let weights = write::<f32>(&sandbox.path("w.safetensors"), "gated.weight", &w.to_f64(), false);
        assert_refused(Lora::read(&adapter, &weights), "Unsupported", &reason);
        // Before any weight is asked for.
        let mut asked = 0;
        let mut factors = |_: &IdLora| {
            asked += 1;
            Ok(lora.clone())
        };
        let adapters = [first.clone(), adapter];
        assert_refused(
            export(&sandbox.path("out"), &adapters, &mut factors, &Options::default()),
            "Unsupported",
            &reason,
        );
        assert_eq!(asked, 0);
    }
    assert_eq!(sandbox.entries(), ["w.safetensors"]);
}

#[test]
fn other_weights_than_the_base_are_refused() {
    let sandbox = Sandbox::new();
    let (w, adapter, _) = one();
    let path = sandbox.path("w.safetensors");
    let mut other = w.to_f64();
    other.row_mut(15)[15] += 1e-3;
    let mut changed = w.clone();
    changed.view_mut().row_mut(0)[0] = -0.5;
    assert_refused(Lora::of(&adapter, changed.view()), "Digest", &["`w.weight`"]);
    for in_out in [false, true] {
        let weights = write::<f32>(&path, "w.weight", &other, in_out);
        assert_refused(Lora::read(&adapter, &weights), "Digest", &["`w.weight`", &adapter.digest().to_string()]);
    }
    assert_refused(Lora::of(&adapter, w.view().row_range(0..15)), "Shape", &["[16, 16]", "[15, 16]"]);
    let refused = |weights: Checkpoint, part: &str| {
        assert_refused(Lora::read(&adapter, &weights), "Format", &["w.safetensors", "`w.weight`", part]);
    };
    refused(write::<f32>(&path, "another.weight", &other, false), "holds no tensor");
    refused(write::<idlora::bf16>(&path, "w.weight", &w.to_f64(), false), "BF16, the adapter was made from F32");
    refused(write::<f32>(&path, "w.weight", &Draw::new(1).gaussian(16, 15), false), "[16, 15]");

    let weights = write::<f32>(&path, "w.weight", &w.to_f64(), false);
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(600).unwrap();
    assert_refused(Lora::read(&adapter, &weights), "Io", &["w.safetensors"]);
}

#[test]
fn bad_requests_say_what_is_wrong_and_leave_nothing() {
    let sandbox = Sandbox::new();
    let (_, adapter, lora) = one();
    let renamed = |name: &str| {
        let mut parts = adapter.clone().into_parts();
        parts.name = name.to_owned();
        IdLora::from_parts(parts).unwrap()
    };
    let out = sandbox.path("out");
    let attempt = |adapters: &[IdLora], options: &Options| export(&out, adapters, |_| Ok(lora.clone()), options);
    let plain = Options::default();
    let prefixed = |from: &str, to: &str| Options {
        prefix: Some(Prefix { from: from.to_owned(), to: to.to_owned() }),
        ..Options::default()
    };
    assert_refused(attempt(&[], &plain), "Operand", &["adapters", "nothing to save"]);
    let twice = [adapter.clone(), adapter.clone()];
    assert_refused(attempt(&twice, &plain), "Operand", &["two modules named `w.weight`"]);
    let same_path = [adapter.clone(), renamed("w")];
    assert_refused(attempt(&same_path, &plain), "Operand", &["two modules at the path `w`"]);
    assert_refused(attempt(&[renamed(".weight")], &plain), "Parameter", &["`.weight`", "path of a module"]);
    let one = std::slice::from_ref(&adapter);
    assert_refused(attempt(one, &prefixed("bert.", "")), "Parameter", &["prefix", "`w.weight`", "`bert.`"]);
    assert_refused(attempt(one, &prefixed("w", "")), "Parameter", &["`w.weight`"]);
    assert_refused(attempt(&[renamed("other.weight")], &plain), "Operand", &["`w.weight`", "`other.weight`"]);

    let mut diverged = adapter.clone();
    let [mut b, _] = diverged.parameters_mut();
    b.value.row_mut(2)[1] = f32::NAN;
    assert_refused(attempt(&[diverged], &plain), "NonFinite", &["`w.weight.b` has NaN at row 2, column 1"]);
    let mut large = adapter.clone().into_parts();
    large.b.row_mut(1)[0] = 1e6;
    let large = IdLora::from_parts(large).unwrap();
    let narrow = Options { dtype: Dtype::F16, ..Options::default() };
    let (w, ..) = self::one();
    let factors = Lora::of(&large, w.view()).unwrap();
    let failed = export(&out, &[large], |_| Ok(factors.clone()), &narrow);
    assert_refused(failed, "NonFinite", &["base_model.model.w.lora_B.weight", "inf at row 1, column 0"]);

    let late = |_: &IdLora| Err(Error::Unsupported { op: "test", reason: "late".to_owned() });
    assert_refused(export(&out, one, late, &plain), "Unsupported", &["test: late"]);
    assert!(sandbox.entries().is_empty(), "{:?}", sandbox.entries());

    std::fs::create_dir(&out).unwrap();
    assert_refused(attempt(one, &plain), "Io", &["out", "it exists already"]);
    assert_refused(export(&sandbox.path("no/where"), one, |_| Ok(lora.clone()), &plain), "Io", &["no"]);
    assert_eq!(sandbox.entries(), ["out"]);
    assert!(std::fs::read_dir(&out).unwrap().next().is_none());
}

#[test]
fn a_prefix_is_replaced() {
    let sandbox = Sandbox::new();
    let (_, adapter, lora) = one();
    for (from, to, expected) in [("", "transformer.", "transformer.w"), ("w", "model.q", "model.q"), ("", "", "w")] {
        let dir = sandbox.path("out");
        let _ = std::fs::remove_dir_all(&dir);
        let prefix = Some(Prefix { from: from.to_owned(), to: to.to_owned() });
        let options = Options { prefix, ..Options::default() };
        let adapters = std::slice::from_ref(&adapter);
        let exported = export(&dir, adapters, |_| Ok(lora.clone()), &options).unwrap();
        assert_eq!((exported[0].name.as_str(), exported[0].path.as_str()), ("w.weight", expected));
        let weights = Checkpoint::open(dir.join("adapter_model.safetensors")).unwrap();
        assert_eq!(weights.tensors()[0].name, format!("base_model.model.{expected}.lora_A.weight"));
    }
}
