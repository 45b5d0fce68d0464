//! Checkpoints: what other writers have written is read back bit for bit, and no file, however bad, does more than make an
//! error that says what is wrong with it.

use crate::common::matrices::Draw;
use idlora::format::checkpoint::{Checkpoint, TensorInfo, Weight};
use idlora::{Dtype, Elem, Error, Mat, bf16, f16, with_weight};
use proptest::prelude::*;
use safetensors::tensor::{Dtype as Stored, TensorView};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

const MINILM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/minilm-layer0.safetensors");

/// A safetensors file as its specification describes it.
fn file_of(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Every bit pattern is a weight to a reader.
fn noise(draw: &mut Draw, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|_| draw.below(256) as u8).collect()
}

/// The file that the reference implementation writes.
fn reference_file(tensors: &[(&str, Stored, Vec<usize>, &[u8])], metadata: &[(&str, &str)]) -> Vec<u8> {
    let views: Vec<_> = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| (*name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()))
        .collect();
    let metadata: HashMap<String, String> = metadata.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    safetensors::serialize(views, Some(metadata)).unwrap()
}

fn bytes_of(weight: &Weight) -> Vec<u8> {
    with_weight!(weight, w => little_endian_bytes(w))
}

fn little_endian_bytes<T: Elem>(w: &Mat<T>) -> Vec<u8> {
    // Little-endian hosts only, as these tests are; the library itself swaps.
    w.data()
        .iter()
        .flat_map(|x| {
            let bits = x.to_f32().to_bits();
            match T::DTYPE {
                Dtype::F32 => bits.to_le_bytes().to_vec(),
                Dtype::BF16 => bits.to_le_bytes()[2..].to_vec(),
                Dtype::F16 => f16::from_f32(x.to_f32()).to_le_bytes().to_vec(),
            }
        })
        .collect()
}

#[test]
fn reads_bit_for_bit_what_the_reference_writer_wrote() {
    let dir = folder();
    let mut draw = Draw::new(1);
    let f32s: Vec<u8> = (0..6 * 5).flat_map(|_| (draw.normal() as f32).to_le_bytes()).collect();
    let f16s: Vec<u8> = (0..7 * 3).flat_map(|_| f16::from_f64(draw.normal()).to_le_bytes()).collect();
    let bf16s: Vec<u8> = (0..11).flat_map(|_| bf16::from_f64(draw.normal()).to_le_bytes()).collect();
    let ids = noise(&mut draw, 4 * 8);
    let tensors = [
        ("a", Stored::F32, vec![6, 5], f32s.as_slice()),
        ("b", Stored::F16, vec![7, 3], &f16s),
        ("c", Stored::BF16, vec![11], &bf16s),
        ("ids", Stored::I64, vec![1, 4], &ids),
        ("none", Stored::F32, vec![0, 5], &[]),
        ("scalar", Stored::F32, vec![], &f32s[..4]),
    ];
    let path = write(dir.path(), "w.safetensors", &reference_file(&tensors, &[("format", "pt")]));
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert_eq!(checkpoint.metadata(), &BTreeMap::from([("format".to_owned(), "pt".to_owned())]));
    assert_eq!(checkpoint.tensors().len(), tensors.len());
    for (name, dtype, shape, bytes) in &tensors[..3] {
        let info = checkpoint.find(name).unwrap();
        assert_eq!(
            (info.dtype.as_str(), &info.shape, info.bytes),
            (dtype.to_string().as_str(), shape, bytes.len() as u64)
        );
        let weight = checkpoint.read(name).unwrap();
        let expected = if shape.len() == 1 { (1, shape[0]) } else { (shape[0], shape[1]) };
        assert_eq!(weight.shape(), expected, "{name}");
        assert_eq!(bytes_of(&weight), *bytes, "{name}");
    }
    assert_eq!(checkpoint.read("none").unwrap().shape(), (0, 5));

    let refused = |name: &str| checkpoint.read(name).unwrap_err().to_string();
    let ids = refused("ids");
    assert!(ids.contains("w.safetensors") && ids.contains("`ids`") && ids.contains("I64"), "{ids}");
    assert!(refused("scalar").contains("shape []"), "{}", refused("scalar"));
    assert!(refused("missing").contains("no tensor `missing`"), "{}", refused("missing"));
}

#[test]
fn the_shipped_weights_are_what_their_readme_says() {
    let checkpoint = Checkpoint::open(MINILM).unwrap();
    let shapes: Vec<(&str, &[usize])> =
        checkpoint.tensors().iter().map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice())).collect();
    assert_eq!(
        shapes,
        [
            ("encoder.layer.0.attention.self.query.weight", &[384, 384][..]),
            ("encoder.layer.0.attention.self.key.weight", &[384, 384]),
            ("encoder.layer.0.attention.self.value.weight", &[384, 384]),
            ("encoder.layer.0.attention.output.dense.weight", &[384, 384]),
            ("encoder.layer.0.intermediate.dense.weight", &[1536, 384]),
            ("encoder.layer.0.output.dense.weight", &[384, 1536]),
        ]
    );
    assert!(std::fs::metadata(MINILM).unwrap().len() <= 4 << 20);
    let reference = std::fs::read(MINILM).unwrap();
    let reference = safetensors::SafeTensors::deserialize(&reference).unwrap();
    for tensor in checkpoint.tensors() {
        let weight = checkpoint.read(&tensor.name).unwrap();
        assert_eq!(weight.dtype(), Dtype::F16);
        assert_eq!(weight.first_non_finite(), None);
        assert_eq!(bytes_of(&weight), reference.tensor(&tensor.name).unwrap().data());
    }
}

#[test]
fn transposing_moves_every_entry_and_twice_is_nothing() {
    let mut draw = Draw::new(2);
    for (rows, cols) in [(1, 1), (1, 70), (70, 1), (31, 33), (32, 64), (65, 97), (0, 3)] {
        let data: Vec<f32> = (0..rows * cols).map(|_| draw.normal() as f32).collect();
        let weight = Weight::F32(Mat::from_vec(data.clone(), rows, cols).unwrap());
        let turned = weight.transposed().unwrap();
        assert_eq!(turned.shape(), (cols, rows));
        let Weight::F32(w) = &turned else { panic!("element type changed") };
        assert!((0..rows).all(|i| (0..cols).all(|j| w.row(j)[i] == data[i * cols + j])), "{rows} {cols}");
        assert_eq!(turned.transposed().unwrap(), weight);
    }
}

#[test]
fn first_non_finite_tells_row_and_column() {
    let mut w = Mat::<bf16>::zeros(5, 7).unwrap();
    w.row_mut(3)[2] = bf16::NEG_INFINITY;
    w.row_mut(4)[0] = bf16::NAN;
    assert_eq!(Weight::BF16(w).first_non_finite(), Some((3, 2, f32::NEG_INFINITY)));
}

/// Tensors of one model in two shards, as Hugging Face writes them.
fn sharded(dir: &Path) -> (PathBuf, Vec<u8>) {
    let mut draw = Draw::new(3);
    let data: Vec<u8> = (0..40).flat_map(|_| (draw.normal() as f32).to_le_bytes()).collect();
    let first = [("b", Stored::F32, vec![2, 4], &data[..32]), ("unlisted", Stored::F32, vec![1], &data[32..36])];
    let second = [("a", Stored::F32, vec![5, 5], &data[..100]), ("ids", Stored::U8, vec![3], &data[100..103])];
    write(dir, "model-1-of-2.safetensors", &reference_file(&first, &[("format", "pt")]));
    write(dir, "model-2-of-2.safetensors", &reference_file(&second, &[("format", "pt")]));
    let index = r#"{"metadata": {"total_size": 135}, "weight_map":
        {"a": "model-2-of-2.safetensors", "ids": "model-2-of-2.safetensors", "b": "model-1-of-2.safetensors"}}"#;
    (write(dir, "model.safetensors.index.json", index.as_bytes()), data)
}

#[test]
fn shards_read_as_one_checkpoint() {
    let dir = folder();
    let (index, data) = sharded(dir.path());
    let checkpoint = Checkpoint::open(&index).unwrap();
    let names: Vec<&str> = checkpoint.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["b", "a", "ids"], "in the order of the data, without what the index does not list");
    assert_eq!(bytes_of(&checkpoint.read("a").unwrap()), data[..100]);
    assert_eq!(bytes_of(&checkpoint.read("b").unwrap()), data[..32]);
}

#[test]
fn bad_indices_say_what_is_wrong() {
    let dir = folder();
    sharded(dir.path());
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    std::fs::copy(dir.path().join("model-1-of-2.safetensors"), dir.path().join("sub/inside.safetensors")).unwrap();
    let cases = [
        ("", "index of a sharded checkpoint"),
        ("[]", "index of a sharded checkpoint"),
        (r#"{"metadata": {}}"#, "weight_map"),
        (r#"{"weight_map": {}}"#, "weight_map is empty"),
        (r#"{"weight_map": {"a": "gone.safetensors"}}"#, "shard `gone.safetensors` is missing"),
        (
            r#"{"weight_map": {"zzz": "model-1-of-2.safetensors"}}"#,
            "tensor `zzz` should be in shard `model-1-of-2.safetensors`",
        ),
        (r#"{"weight_map": {"a": "../w.safetensors"}}"#, "not the name of a file beside the index"),
        (r#"{"weight_map": {"a": "sub/inside.safetensors"}}"#, "not the name of a file beside the index"),
        (r#"{"weight_map": {"a": "/etc/passwd"}}"#, "not the name of a file beside the index"),
        (r#"{"weight_map": {"a": ".."}}"#, "not the name of a file beside the index"),
        (r#"{"weight_map": {"a": ""}}"#, "not the name of a file beside the index"),
    ];
    for (text, expected) in cases {
        let path = write(dir.path(), "bad.index.json", text.as_bytes());
        let error = Checkpoint::open(&path).unwrap_err();
        assert!(matches!(error, Error::Format { .. }), "{error:?}");
        let message = error.to_string();
        assert!(message.contains("bad.index.json") && message.contains(expected), "{text}: {message}");
    }
}

#[test]
fn bad_files_say_what_is_wrong() {
    let dir = folder();
    let one = r#"{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}"#;
    let with = |from: &str, to: &str| file_of(&one.replace(from, to), &[0; 16]);
    let two = |second: &str, data: usize| file_of(&format!("{},{second}}}", &one[..one.len() - 1]), &vec![0; data]);
    let hostile = |length: u64| [length.to_le_bytes().as_slice(), b"{}      "].concat();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "the file is empty"),
        (b"{}".to_vec(), "2 bytes are too few"),
        (hostile(u64::MAX), "announce a header of 18446744073709551615 bytes"),
        (hostile(9), "announce a header of 9 bytes"),
        (b"GGUF\x03\0\0\0 and so on".to_vec(), "looks like GGUF"),
        (b"PK\x03\x04 and then some zip".to_vec(), "PyTorch"),
        (b"version https://git-lfs.github.com/spec/v1".to_vec(), "git lfs pull"),
        (file_of("not json", &[]), "the header is corrupt"),
        (file_of("[1, 2]", &[]), "an object of tensors"),
        (file_of(one, &[0; 15]), "truncated"),
        (file_of(one, &[0; 17]), "1 bytes at the end of the file belong to no tensor"),
        (with("[0,16]", "[8,24]"), "lies at bytes 8..24 of the data, which has 16"),
        (with("[0,16]", "[16,0]"), "lies at bytes 16..0"),
        (with("[0,16]", "[0,18446744073709551615]"), "lies at bytes 0..18446744073709551615"),
        (with("[0,16]", "[0]"), "tensor `a`"),
        (with("[0,16]", "[-1,15]"), "tensor `a`"),
        (with("[2,2]", "[2,3]"), "takes 24 bytes, its offsets give 16"),
        (with("[2,2]", "[4294967296,4294967296]"), "overflows"),
        (with("[2,2]", "[2,-2]"), "tensor `a`"),
        (with("\"F32\"", "7"), "tensor `a`"),
        (with("\"dtype\":\"F32\",", ""), "missing field `dtype`"),
        (two(r#""a":{"dtype":"F32","shape":[2,2],"data_offsets":[16,32]}"#, 32), "`a` is there twice"),
        (two(r#""b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}"#, 16), "tensor `b` overlaps"),
        (two(r#""b":{"dtype":"F32","shape":[1],"data_offsets":[20,24]}"#, 24), "4 bytes before tensor `b`"),
        (two(r#""__metadata__":{"n":1}"#, 16), "the header is corrupt"),
    ];
    for (bytes, expected) in cases {
        let path = write(dir.path(), "bad.safetensors", &bytes);
        let error = Checkpoint::open(&path).unwrap_err();
        assert!(matches!(error, Error::Format { .. }), "{error:?}");
        let message = error.to_string();
        assert!(message.contains("bad.safetensors") && message.contains(expected), "expected {expected}: {message}");
    }
}

#[test]
fn a_type_of_the_future_is_listed_and_refused_when_read() {
    let dir = folder();
    let bytes = file_of(r#"{"a":{"dtype":"F12","shape":[2,2],"data_offsets":[0,6]}}"#, &[0; 6]);
    let checkpoint = Checkpoint::open(write(dir.path(), "w.safetensors", &bytes)).unwrap();
    assert_eq!(checkpoint.tensors()[0].dtype, "F12");
    let message = checkpoint.read("a").unwrap_err().to_string();
    assert!(message.contains("`a` has element type F12; only F16, BF16 and F32"), "{message}");
}

#[test]
fn paths_that_hold_no_file_say_so() {
    let dir = folder();
    let message = Checkpoint::open(dir.path()).unwrap_err().to_string();
    assert!(message.contains("is a folder"), "{message}");
    let error = Checkpoint::open(dir.path().join("gone.safetensors")).unwrap_err();
    assert!(matches!(error, Error::Io { .. }) && error.to_string().contains("gone.safetensors"), "{error}");
}

#[test]
fn a_file_that_shrinks_after_opening_is_an_error() {
    let dir = folder();
    let path = dir.path().join("w.safetensors");
    std::fs::copy(MINILM, &path).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 16).unwrap();
    let last = &checkpoint.tensors().last().unwrap().name;
    let error = checkpoint.read(last).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// A damaged file is refused or read; reading everything that it lists never panics.
    #[test]
    fn damage_never_panics(position in 0usize..400, byte: u8, cut in 0usize..600, truncate: bool) {
        let dir = folder();
        let tensors = [("a", Stored::F32, vec![3, 4], &[7; 48][..]), ("b", Stored::BF16, vec![5], &[1; 10])];
        let mut bytes = reference_file(&tensors, &[("format", "pt")]);
        if truncate {
            bytes.truncate(cut.min(bytes.len() - 1));
        } else {
            let at = position % bytes.len();
            bytes[at] = byte;
        }
        let opened = Checkpoint::open(write(dir.path(), "w.safetensors", &bytes));
        prop_assert!(!truncate || opened.is_err(), "a truncated file was accepted");
        if let Ok(checkpoint) = opened {
            for tensor in checkpoint.tensors() {
                let _ = checkpoint.read(&tensor.name);
            }
        }
    }
}

/// Doubles every BF16 and F32 matrix, and leaves the rest.
fn double(checkpoint: &Checkpoint, tensor: &TensorInfo) -> idlora::Result<Option<Weight>> {
    fn scaled<T: Elem>(w: &mut Mat<T>) {
        w.data_mut().iter_mut().for_each(|x| *x = T::from_f32(2.0 * x.to_f32()));
    }
    if tensor.shape.len() != 2 || tensor.weight_dtype().is_none() {
        return Ok(None);
    }
    let mut weight = checkpoint.read(&tensor.name)?;
    with_weight!(&mut weight, w => scaled(w));
    Ok(Some(weight))
}

#[test]
fn rewriting_replaces_what_it_is_told_and_keeps_the_rest() {
    let dir = folder();
    let mut draw = Draw::new(4);
    let a: Vec<u8> = (0..12).flat_map(|_| (draw.normal() as f32).to_le_bytes()).collect();
    let odd = noise(&mut draw, 3);
    let half: Vec<u8> = (0..4).flat_map(|_| bf16::from_f64(draw.normal()).to_le_bytes()).collect();
    let tensors = [
        ("bias", Stored::F32, vec![3], &a[..12]),
        ("ids", Stored::U8, vec![3], odd.as_slice()),
        ("w", Stored::F32, vec![3, 4], &a),
        ("x", Stored::BF16, vec![2, 2], &half),
    ];
    let path = write(dir.path(), "w.safetensors", &reference_file(&tensors, &[("format", "pt"), ("old", "1")]));
    let checkpoint = Checkpoint::open(&path).unwrap();
    let out = dir.path().join("out.safetensors");
    let notes = BTreeMap::from([("note".to_owned(), "ä \"quoted\"".to_owned()), ("old".to_owned(), String::new())]);
    checkpoint.rewrite(&out, &notes, |tensor| double(&checkpoint, tensor)).unwrap();

    let bytes = std::fs::read(&out).unwrap();
    let written = safetensors::SafeTensors::deserialize(&bytes).expect("valid to the reference reader");
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let metadata: BTreeMap<_, _> = header.metadata().clone().unwrap().into_iter().collect();
    let expected = [("format", "pt"), ("note", "ä \"quoted\"")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(metadata, BTreeMap::from(expected));
    for (name, dtype, shape, before) in &tensors {
        let tensor = written.tensor(name).unwrap();
        assert_eq!((tensor.dtype(), tensor.shape()), (*dtype, shape.as_slice()), "{name}");
        if shape.len() == 1 {
            assert_eq!(tensor.data(), *before, "{name}");
        }
    }
    let Weight::F32(w) = Checkpoint::open(&out).unwrap().read("w").unwrap() else { panic!("element type changed") };
    let Weight::F32(before) = checkpoint.read("w").unwrap() else { panic!("element type changed") };
    assert!(w.data().iter().zip(before.data()).all(|(after, before)| *after == 2.0 * before));
    assert_eq!(entries(dir.path()), ["out.safetensors", "w.safetensors"], "no temporary file is left");
}

#[test]
fn rewriting_shards_makes_one_file() {
    let dir = folder();
    let (index, _) = sharded(dir.path());
    let checkpoint = Checkpoint::open(index).unwrap();
    let out = dir.path().join("out.safetensors");
    checkpoint.rewrite(&out, &BTreeMap::new(), |_| Ok(None)).unwrap();
    let whole = Checkpoint::open(&out).unwrap();
    assert_eq!(whole.tensors().len(), 3);
    for name in ["a", "b"] {
        assert_eq!(whole.read(name).unwrap(), checkpoint.read(name).unwrap(), "{name}");
    }
    assert!(safetensors::SafeTensors::deserialize(&std::fs::read(out).unwrap()).is_ok());
}

#[test]
fn a_failed_rewrite_leaves_nothing_and_nothing_is_overwritten() {
    let dir = folder();
    let checkpoint = Checkpoint::open(MINILM).unwrap();
    let out = dir.path().join("out.safetensors");
    let none = BTreeMap::new();
    let wrong = |_: &TensorInfo| Ok(Some(Weight::F32(Mat::zeros(384, 384).unwrap())));
    let message = checkpoint.rewrite(&out, &none, wrong).unwrap_err().to_string();
    assert!(message.contains("is F16 [384, 384], its replacement F32 [384, 384]"), "{message}");
    let mut calls = 0;
    let late = |_: &TensorInfo| {
        calls += 1;
        if calls < 4 { Ok(None) } else { Err(Error::Unsupported { op: "test", reason: "late".to_owned() }) }
    };
    assert_eq!(checkpoint.rewrite(&out, &none, late).unwrap_err().to_string(), "test: late");
    assert!(entries(dir.path()).is_empty(), "{:?}", entries(dir.path()));

    std::fs::write(&out, "mine").unwrap();
    let message = checkpoint.rewrite(&out, &none, |_| Ok(None)).unwrap_err().to_string();
    assert!(message.contains("out.safetensors") && message.contains("nothing is overwritten"), "{message}");
    assert_eq!(std::fs::read(&out).unwrap(), b"mine");
}

#[test]
fn a_file_that_appears_while_writing_stays_as_it_is() {
    let dir = folder();
    let checkpoint = Checkpoint::open(MINILM).unwrap();
    let out = dir.path().join("out.safetensors");
    let somebody_else = |_: &TensorInfo| {
        std::fs::write(&out, "mine").unwrap();
        Ok(None)
    };
    let error = checkpoint.rewrite(&out, &BTreeMap::new(), somebody_else).unwrap_err();
    assert!(matches!(error, Error::Io { .. }) && error.to_string().contains("out.safetensors"), "{error}");
    assert_eq!(std::fs::read(&out).unwrap(), b"mine");
    assert_eq!(entries(dir.path()), ["out.safetensors"]);
}

fn entries(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
