//! What a configuration may be, what it costs, and that an adapter is put together from checked parts.

use crate::common::Padded;
use crate::common::matrices::Draw;
use crate::{GATES, random};
use idlora::adapter::{Config, Counters, Digest, IdLora, Parts, Scaling};
use idlora::cluster::Axis;
use idlora::lowrank::Gate;
use idlora::{Device, Dtype, Elem, Error, Mat, bf16, f16};
use sha2::{Digest as _, Sha256};

// ---------------------------------------------------------------------------------------------------------- counters

/// LLaMA-3-8B: 32 layers of seven matrices (rows, cols), spelled out.
fn llama_3_8b() -> Vec<(usize, usize)> {
    let (hidden, key_value, intermediate) = (4096, 1024, 14336);
    let layer = [
        (hidden, hidden),       // q
        (key_value, hidden),    // k
        (key_value, hidden),    // v
        (hidden, hidden),       // o
        (intermediate, hidden), // gate
        (intermediate, hidden), // up
        (hidden, intermediate), // down
    ];
    std::iter::repeat_n(layer, 32).flatten().collect()
}

/// The paper's Table 6 (7.7 / 10.4 / 16.0 / 27.0 / 49.0 M) counts a linear gate; its text describes the inner gate. Both to the
/// last number, as `Σ (m·r/s² + gate)` with k = 4, s = 2.
#[test]
fn trained_parameters_are_those_of_the_papers_table_6() {
    let table = [
        (8, 7_733_248, 2_754_304),
        (16, 10_485_760, 5_508_608),
        (32, 15_990_784, 11_017_216),
        (64, 27_000_832, 22_034_432),
        (128, 49_020_928, 44_068_864),
    ];
    for (rank, linear, inner) in table {
        for (gate, expected) in [
            (Gate::Linear, linear),
            (Gate::LinearSoftmax, linear),
            (Gate::Inner, inner),
            (Gate::RmsInner, inner),
            (Gate::Static, inner - 224 * rank + 224 * 4),
        ] {
            let config = Config { rank, clusters: 4, split: 2, gate, ..Config::default() };
            let count = |(rows, cols)| Counters::of(rows, cols, &config).unwrap();
            let total: Counters = llama_3_8b().into_iter().map(count).sum();
            assert_eq!(total.trained, expected, "{gate:?}, rank {rank}");
            assert_eq!(total.frozen_bytes, 224 * 4 * rank * 4, "{gate:?}, rank {rank}");
            assert_eq!(total.stored_bytes, expected * 4 + 224 * 4 * rank * 4, "{gate:?}, rank {rank}");
            assert_eq!(total.optimizer_bytes, expected * 8, "{gate:?}, rank {rank}");
        }
    }
}

#[test]
fn the_counters_of_an_adapter_are_those_of_its_tensors() {
    for gate in GATES {
        for split in [1, 3] {
            let adapter = made(12, 7, Config { rank: 3, clusters: 2, split, gate, ..Config::default() });
            let trained: usize = adapter.parameters().iter().map(|p| p.shape().0 * p.shape().1).sum();
            let counters = adapter.counters();
            assert_eq!(counters.trained, trained);
            assert_eq!(counters.frozen_bytes, size_of_val(adapter.skeleton()));
            assert_eq!(counters, Counters::of(12, 7, adapter.config()).unwrap());
        }
    }
}

#[test]
fn counts_that_overflow_are_refused() {
    let config = Config { rank: 1, clusters: 4, split: 1, gate: Gate::Linear, ..Config::default() };
    assert_refused!(Counters::of(4, usize::MAX / 4, &config), OutOfMemory, "counters", "overflows");
    assert!(Counters::of(4, usize::MAX / 64, &config).is_ok());
}

// ----------------------------------------------------------------------------------------------------- configuration

/// Every error of the method, found without a pass over the weight, through `init` as a caller meets it.
#[test]
fn configurations_that_the_method_excludes_are_refused() {
    let w = random::<f32>(1, 24, 6, 2);
    let base = Config { rank: 2, clusters: 3, ..Config::default() };
    let init = |config: Config| IdLora::init(&Device::Cpu, "m", w.view(), &config);
    assert_refused!(init(Config { rank: 9, ..base }), Parameter, "`rank` is 9 with 3 clusters", "24 rows");
    assert_refused!(init(Config { rank: usize::MAX, ..base }), Parameter, "`rank`", "24 rows");
    assert_refused!(init(Config { rank: 0, ..base }), Parameter, "`rank` is 0", "at least 1");
    assert_refused!(init(Config { clusters: 0, ..base }), Parameter, "`clusters` is 0", "at least 1");
    assert_refused!(init(Config { split: 0, ..base }), Parameter, "`split` is 0", "at least 1");
    assert_refused!(init(Config { min_size: Some(1), ..base }), Parameter, "`min_size` is 1", "at least the rank, 2");
    let too_many = Config { min_size: Some(9), ..base };
    assert_refused!(init(too_many), Parameter, "`min_size` is 9 with 3 clusters", "24 rows");
    assert_refused!(init(Config { min_size: Some(usize::MAX), ..base }), Parameter, "`min_size`", "24 rows");
    // The first divides the rows alone, the second the rank alone.
    let split = |rank, split| init(Config { rank, split, ..base });
    assert_refused!(split(6, 4), Parameter, "`split` is 4", "divisor of the rank, 6", "24 rows");
    assert_refused!(split(5, 5), Parameter, "`split` is 5", "divisor of the rank, 5", "24 rows");
    for alpha in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_refused!(init(Config { alpha, ..base }), Parameter, "`alpha`", "finite");
    }
    assert_refused!(init(Config { axis: Axis::Cols, ..base }), Unsupported, "columns of W cannot be adapted", "rows");
    assert_refused!(IdLora::init(&Device::Cpu, "", w.view(), &base), Parameter, "`name`", "empty");
}

#[test]
fn weights_without_rows_or_columns_are_refused() {
    for (rows, cols) in [(0, 5), (5, 0), (0, 0)] {
        let w = Mat::<f32>::zeros(rows, cols).unwrap();
        let result = IdLora::init(&Device::Cpu, "m", w.as_ref(), &Config { rank: 1, split: 1, ..Config::default() });
        let found = format!("shape [{rows}, {cols}]");
        assert_refused!(result, Shape, "`w`", found.as_str(), "at least one row and one column");
    }
    let config = Config::default();
    assert_refused!(config.check(1 << 40, 4), Shape, "`w`", "[1099511627776, 4]", "at most 2^32 - 1 rows");
    // One row or one column is as good as any where k·r ≤ m.
    let single = Config { rank: 1, clusters: 1, split: 1, ..Config::default() };
    assert!(single.check(1, 9).is_ok() && single.check(9, 1).is_ok());
    let two = Config { clusters: 2, ..single };
    assert_refused!(two.check(1, 9), Parameter, "`rank` is 1 with 2 clusters", "1 rows");
}

fn non_finite_weights<T: Elem>() {
    for (row, col, value) in
        [(0, 0, f32::NAN), (6, 299, f32::INFINITY), (3, 256, f32::NEG_INFINITY), (5, 255, f32::NAN)]
    {
        let mut values = Draw::new(2).gaussian(7, 300);
        values.row_mut(row)[col] = f64::from(value);
        values.row_mut(6)[299] = f64::NEG_INFINITY; // a later one: the first is named
        let mut w = Padded::<T>::new(&values, 3);
        w.view_mut().row_mut(row)[col] = T::from_f32(value);
        let config = Config { rank: 1, clusters: 2, split: 1, ..Config::default() };
        let place = format!("row {row}, column {col}");
        let shown = value.to_string();
        let result = IdLora::init(&Device::Cpu, "layer.3.query", w.view(), &config);
        assert_refused!(result, NonFinite, "`layer.3.query`", place.as_str(), shown.as_str());
    }
}

#[test]
fn nan_and_infinity_are_named_with_their_place() {
    non_finite_weights::<f32>();
    non_finite_weights::<f16>();
    non_finite_weights::<bf16>();
}

#[test]
fn the_scale_follows_its_rule() {
    let config = Config { rank: 16, alpha: 32.0, ..Config::default() };
    assert_eq!(config.scale(), 2.0);
    assert_eq!(Config { scaling: Scaling::AlphaOverSqrtRank, ..config }.scale(), 8.0);
    assert_eq!(Config { scaling: Scaling::One, ..config }.scale(), 1.0);
}

/// Against Python's hashlib: `int.from_bytes(sha256(name).digest()[:8], "little") ^ seed`.
#[test]
fn the_modules_seed_is_documented_arithmetic() {
    let name = "encoder.layer.0.attention.self.query";
    assert_eq!(Config::default().module_seed(name), 4_483_386_552_384_768_113);
    assert_eq!(Config { seed: 7, ..Config::default() }.module_seed(name), 4_483_386_552_384_768_118);
}

#[test]
fn a_configuration_in_json_is_checked_key_by_key() {
    let parsed: Config =
        serde_json::from_str(r#"{"rank": 8, "gate": "rms-inner", "scaling": "alpha-over-sqrt-rank"}"#).unwrap();
    let expected = Config { rank: 8, gate: Gate::RmsInner, scaling: Scaling::AlphaOverSqrtRank, ..Config::default() };
    assert_eq!(parsed, expected);
    let error = serde_json::from_str::<Config>(r#"{"ranks": 8}"#).unwrap_err().to_string();
    assert!(error.contains("unknown field `ranks`") && error.contains("`rank`"), "{error}");
}

// ------------------------------------------------------------------------------------------------------------ digest

/// Literals from Python: `sha256(b"F32" + struct.pack("<QQ", 2, 3) + struct.pack("<6f", 1, -2, 3.5, 0, -0.0, 1e-40))` and so on.
#[test]
fn digests_are_sha_256_of_type_shape_and_bytes() {
    let w = Mat::from_vec(vec![1.0f32, -2.0, 3.5, 0.0, -0.0, 1e-40], 2, 3).unwrap();
    let expected = "3b121cbe4e667b8e1ee13cce9e355f829fec878283e04dda621a9dd172ea8dfc";
    assert_eq!(Digest::of(w.as_ref()).to_string(), expected);
    let w = Mat::from_vec([1.0, -2.0].map(f16::from_f32).to_vec(), 2, 1).unwrap();
    let expected = "d06b812905a15c373347891ac68032e7327bb1acd67fe180dda7d045e7cb3c2a";
    assert_eq!(Digest::of(w.as_ref()).to_string(), expected);
    let w = Mat::from_vec([1.0, -2.0].map(bf16::from_f32).to_vec(), 1, 2).unwrap();
    let expected = "69720bd622de5d512c8172b18b171e58f4ef3c3889ae1d90d2f5fab4f14ea521";
    assert_eq!(Digest::of(w.as_ref()).to_string(), expected);
}

fn digest_ignores_padding<T: Elem>() {
    for (rows, cols) in [(1, 1), (1, 70), (70, 1), (9, 33)] {
        let padded = random::<T>(3, rows, cols, 5);
        let plain = random::<T>(3, rows, cols, 0);
        assert_eq!(Digest::of(padded.view()), Digest::of(plain.view()));
        let mut hash = Sha256::new();
        hash.update(T::DTYPE.name());
        hash.update((rows as u64).to_le_bytes());
        hash.update((cols as u64).to_le_bytes());
        for x in plain.view().iter_rows().flatten() {
            match T::DTYPE {
                Dtype::F32 => hash.update(x.to_f32().to_le_bytes()),
                Dtype::F16 => hash.update(f16::from_f32(x.to_f32()).to_le_bytes()),
                Dtype::BF16 => hash.update(bf16::from_f32(x.to_f32()).to_le_bytes()),
            }
        }
        let expected: [u8; 32] = hash.finalize().into();
        assert_eq!(Digest::of(plain.view()).0, expected);
    }
}

#[test]
fn padding_is_not_part_of_a_digest() {
    digest_ignores_padding::<f32>();
    digest_ignores_padding::<f16>();
    digest_ignores_padding::<bf16>();
}

#[test]
fn digests_tell_types_shapes_and_bits_apart() {
    let zeros = |rows, cols| Digest::of(Mat::<f32>::zeros(rows, cols).unwrap().as_ref());
    assert_ne!(zeros(2, 6), zeros(3, 4));
    assert_ne!(zeros(2, 6), zeros(6, 2));
    let halves = Mat::from_vec(vec![f16::ZERO; 4], 2, 2).unwrap();
    let brains = Mat::from_vec(vec![bf16::ZERO; 4], 2, 2).unwrap();
    assert_ne!(Digest::of(halves.as_ref()), Digest::of(brains.as_ref()));
    let mut w = Mat::<f32>::zeros(2, 2).unwrap();
    w.row_mut(1)[1] = -0.0;
    assert_ne!(Digest::of(w.as_ref()), zeros(2, 2));
}

#[test]
fn digests_parse_as_they_print() {
    let digest = Digest(std::array::from_fn(|i| (i * 7 + 250) as u8));
    assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
    assert_eq!(digest.to_string().to_uppercase().parse::<Digest>().unwrap(), digest);
    let bad = [String::new(), "0".repeat(63), "0".repeat(65), "g".repeat(64), "é".repeat(32), "+1".repeat(32)];
    for text in bad {
        assert_refused!(text.parse::<Digest>(), Parameter, "64 hexadecimal digits", text.as_str());
    }
}

#[test]
fn another_base_is_refused_by_its_digest() {
    let w = random::<f16>(4, 12, 5, 2);
    let config = Config { rank: 2, clusters: 2, ..Config::default() };
    let parts = Parts { digest: Digest::of(w.view()), dtype: Dtype::F16, ..parts(12, 5, config) };
    let adapter = IdLora::from_parts(parts).unwrap();
    assert!(adapter.check_base(w.view()).is_ok());

    let mut moved = w.clone();
    moved.view_mut().row_mut(11)[4] = f16::from_bits(w.view().row(11)[4].to_bits() ^ 1);
    let (expected, found) = (Digest::of(w.view()).to_string(), Digest::of(moved.view()).to_string());
    assert_refused!(adapter.check_base(moved.view()), Digest, "`module.0`", expected.as_str(), found.as_str());
    let wide = Padded::<f32>::new(&w.to_f64(), 0);
    assert_refused!(adapter.check_base(wide.view()), Digest, "(F16)", "(F32)");
    let wrong = random::<f16>(4, 5, 12, 0);
    assert_refused!(adapter.check_base(wrong.view()), Shape, "`w`", "[5, 12]", "[12, 5]");
}

// ------------------------------------------------------------------------------------------------------------- parts

fn parts(rows: usize, cols: usize, config: Config) -> Parts {
    let Config { rank, clusters, split, gate, .. } = config;
    let (gate_rows, gate_cols) = gate.parameter_shape(rank, clusters, cols);
    Parts {
        name: "module.0".to_owned(),
        rows,
        cols,
        dtype: Dtype::F32,
        config,
        skeleton: (0..(clusters * rank) as u32).rev().collect(),
        b: Mat::zeros(rows / split, rank / split).unwrap(),
        gate: Mat::zeros(gate_rows, gate_cols).unwrap(),
        digest: Digest([0; 32]),
    }
}

fn made(rows: usize, cols: usize, config: Config) -> IdLora {
    IdLora::from_parts(parts(rows, cols, config)).unwrap()
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let config = Config { rank: 2, clusters: 3, ..Config::default() };
    let good = || parts(12, 5, config);
    assert!(IdLora::from_parts(good()).is_ok());
    let mat = |rows, cols| Mat::zeros(rows, cols).unwrap();
    let refuse = IdLora::from_parts;
    assert_refused!(refuse(Parts { b: mat(12, 2), ..good() }), Shape, "`b`", "[12, 2]", "[6, 1]");
    assert_refused!(refuse(Parts { b: mat(1, 6), ..good() }), Shape, "`b`", "[1, 6]", "[6, 1]");
    assert_refused!(refuse(Parts { gate: mat(5, 3), ..good() }), Shape, "`gate`", "[5, 3]", "[3, 5]");
    let skeleton = |rows: &[u32]| refuse(Parts { skeleton: rows.to_vec(), ..good() });
    assert_refused!(skeleton(&[0, 1, 2, 3, 4]), Shape, "`skeleton`", "length 5", "length 6");
    assert_refused!(skeleton(&[0, 1, 2, 12, 4, 5]), Parameter, "`skeleton` is 12", "below 12");
    assert_refused!(skeleton(&[0, 1, u32::MAX, 3, 4, 5]), Parameter, "`skeleton` is 4294967295");
    assert_refused!(skeleton(&[0, 11, 2, 3, 4, 11]), Parameter, "11 twice", "distinct");
    assert_refused!(refuse(Parts { rows: 5, ..good() }), Parameter, "`rank` is 2 with 3 clusters");
    assert_refused!(refuse(Parts { name: String::new(), ..good() }), Parameter, "`name`");
    let mut broken = good();
    broken.b.row_mut(4)[0] = f32::NAN;
    assert_refused!(refuse(broken), NonFinite, "`b`", "NaN at row 4, column 0");
    let mut broken = good();
    broken.gate.row_mut(2)[4] = f32::NEG_INFINITY;
    assert_refused!(refuse(broken), NonFinite, "`gate`", "-inf at row 2, column 4");
}

#[test]
fn a_trainer_sees_values_and_gradients_by_name() {
    let mut adapter = made(12, 5, Config { rank: 2, clusters: 3, gate: Gate::Linear, ..Config::default() });
    let shapes = adapter.parameters().map(|p| (p.name, p.shape(), p.gradient.shape()));
    assert_eq!(shapes, [("b", (6, 1), (6, 1)), ("gate", (3, 5), (3, 5))]);
    for (i, mut parameter) in adapter.parameters_mut().into_iter().enumerate() {
        parameter.value.row_mut(1)[0] = 10.0 + i as f32;
        parameter.gradient.row_mut(2)[0] = 20.0 + i as f32;
    }
    assert_eq!((adapter.b().row(1)[0], adapter.gate().row(1)[0]), (10.0, 11.0));
    let gradients = adapter.parameters().map(|p| p.gradient.row(2)[0]);
    assert_eq!(gradients, [20.0, 21.0]);
    adapter.zero_grad();
    for parameter in adapter.parameters() {
        assert!(parameter.gradient.iter_rows().flatten().all(|&x| x == 0.0));
    }
    assert_eq!((adapter.b().row(1)[0], adapter.gate().row(1)[0]), (10.0, 11.0), "values stay");
    let taken = adapter.clone().into_parts();
    let again = IdLora::from_parts(taken).unwrap();
    assert_eq!(again.skeleton(), adapter.skeleton());
    assert_eq!(again.b().data(), adapter.b().data());
}
