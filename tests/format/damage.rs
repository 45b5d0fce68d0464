//! Nothing but an adapter is ever loaded, and no file, however broken or hostile, does more than make an error that names it.

use crate::{Sandbox, two_modules};
use idlora::Error;
use idlora::format::native::FILE;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

/// Whatever happens to a byte or two, loading ends in adapters or in a format error that names the file.
#[test]
fn damaged_bytes_never_panic() {
    let sandbox = Sandbox::new();
    let good = sandbox.saved(&two_modules());
    let at = prop::collection::vec((0..good.len(), 1u8..), 1..3);
    let mut runner = TestRunner::new(ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() });
    let result = runner.run(&at, |at| {
        let mut bytes = good.clone();
        at.iter().for_each(|&(at, flip)| bytes[at] ^= flip);
        match sandbox.load(&bytes) {
            Ok(adapters) => prop_assert_eq!(adapters.len(), 2),
            Err(error) => {
                prop_assert!(matches!(error, Error::Format { .. }), "{error}");
                prop_assert!(error.to_string().contains(FILE), "{error}");
            }
        }
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}

/// Every proper prefix, and every longer file, is refused.
#[test]
fn truncated_files_are_refused_at_every_length() {
    let sandbox = Sandbox::new();
    let bytes = sandbox.saved(&two_modules());
    for length in 0..bytes.len() {
        let error = sandbox.load(&bytes[..length]).unwrap_err();
        assert!(matches!(error, Error::Format { .. }), "{length}: {error}");
        let message = error.to_string();
        let expected = match length {
            0 => "is empty",
            1..8 => "too few",
            _ => "truncated",
        };
        assert!(message.contains(FILE) && message.contains(expected), "{length}: {message}");
    }
    let error = sandbox.load(&[&bytes[..], &[0]].concat()).unwrap_err().to_string();
    assert!(error.contains("1 bytes at the end of the file belong to no tensor"), "{error}");
}

/// A file as header and data, to damage one and keep the other consistent.
struct Edit {
    header: Value,
    data: Vec<u8>,
}

impl Edit {
    fn new(bytes: &[u8]) -> Self {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        Self { header: serde_json::from_slice(&bytes[8..][..length]).unwrap(), data: bytes[8 + length..].to_vec() }
    }

    fn bytes(&self) -> Vec<u8> {
        let header = serde_json::to_vec(&self.header).unwrap();
        [&(header.len() as u64).to_le_bytes()[..], &header, &self.data].concat()
    }

    fn metadata(&mut self) -> &mut Value {
        &mut self.header["__metadata__"]
    }

    /// Edits the list of modules inside its JSON text.
    fn modules(&mut self, edit: impl FnOnce(&mut Value)) {
        let mut modules = serde_json::from_str(self.metadata()["modules"].as_str().unwrap()).unwrap();
        edit(&mut modules);
        self.metadata()["modules"] = json!(serde_json::to_string(&modules).unwrap());
    }

    /// Edits the bytes of one tensor.
    fn tensor(&mut self, name: &str, edit: impl FnOnce(&mut [u8])) {
        let offsets = &self.header[name]["data_offsets"];
        let [from, to] = [0, 1].map(|i| offsets[i].as_u64().unwrap() as usize);
        edit(&mut self.data[from..to]);
    }

    fn remove(&mut self, key: &str) {
        self.header.as_object_mut().unwrap().remove(key);
    }
}

type Damage = Box<dyn FnOnce(&mut Edit)>;

fn damage(
    name: &'static str,
    expected: &'static [&'static str],
    edit: impl FnOnce(&mut Edit) + 'static,
) -> (&'static str, &'static [&'static str], Damage) {
    (name, expected, Box::new(edit))
}

fn damaged_metadata() -> Vec<(&'static str, &'static [&'static str], Damage)> {
    vec![
        damage("no metadata", &["not an idlora adapter", "no `format`"], |e| e.remove("__metadata__")),
        damage("another format", &["`format` is `pt`", "expected `idlora`"], |e| e.metadata()["format"] = json!("pt")),
        damage("another version", &["`version` is `2`", "expected `1`"], |e| e.metadata()["version"] = json!("2")),
        damage("unknown key", &["unknown key `extra`"], |e| e.metadata()["extra"] = json!("")),
        damage("no modules", &["no `modules`"], |e| {
            e.metadata().as_object_mut().unwrap().remove("modules");
        }),
        damage("bad JSON", &["metadata `modules`", "line 1"], |e| e.metadata()["modules"] = json!("[{")),
        damage("no module", &["lists no module"], |e| e.metadata()["modules"] = json!("[]")),
        damage("module twice", &["lists `first` twice"], |e| e.modules(|m| m[1] = m[0].clone())),
        damage("unknown module key", &["unknown field `colour`"], |e| e.modules(|m| m[0]["colour"] = json!(1))),
        damage("no digest", &["missing field `digest`"], |e| {
            e.modules(|m| {
                m[0].as_object_mut().unwrap().remove("digest");
            });
        }),
        damage("bad digest", &["metadata `modules`", "64 hexadecimal digits", "`abc`"], |e| {
            e.modules(|m| m[0]["digest"] = json!("abc"))
        }),
        damage("unknown dtype", &["unknown variant `f64`"], |e| e.modules(|m| m[0]["dtype"] = json!("f64"))),
        damage("unknown config key", &["unknown field `depth`"], |e| e.modules(|m| m[0]["config"]["depth"] = json!(1))),
        damage("unknown gate", &["unknown variant `top-k`"], |e| {
            e.modules(|m| m[0]["config"]["gate"] = json!("top-k"))
        }),
        damage("columns", &["module `first`", "columns of W cannot be adapted"], |e| {
            e.modules(|m| m[0]["config"]["axis"] = json!("cols"));
        }),
        damage("impossible config", &["module `second`", "`rank` is 9 with 3 clusters"], |e| {
            e.modules(|m| m[1]["config"]["rank"] = json!(9));
        }),
        damage("negative rank", &["metadata `modules`", "`-1`"], |e| e.modules(|m| m[1]["config"]["rank"] = json!(-1))),
        damage("alpha beyond f32", &["metadata `modules`", "number out of range"], |e| {
            e.modules(|m| m[0]["config"]["alpha"] = json!(1e300));
        }),
        damage("no name", &["module ``", "`name` is empty"], |e| {
            e.modules(|m| m[1]["name"] = json!(""));
            for suffix in ["skeleton", "b", "gate"] {
                let info = e.header[format!("second.{suffix}")].clone();
                e.remove(&format!("second.{suffix}"));
                e.header[format!(".{suffix}")] = info;
            }
        }),
        damage("sizes that overflow", &["tensor `first.b`", "expected F32 [2147483647, 1]"], |e| {
            e.modules(|m| {
                m[0]["rows"] = json!(4_294_967_294u64);
                m[0]["config"]["split"] = json!(2);
            });
        }),
    ]
}

fn damaged_tensors() -> Vec<(&'static str, &'static [&'static str], Damage)> {
    let put = |name: &'static str, at: usize, bytes: [u8; 4]| {
        move |e: &mut Edit| e.tensor(name, |data| data[at * 4..][..4].copy_from_slice(&bytes))
    };
    vec![
        damage("missing tensor", &["tensor `second.gate` is missing"], |e| {
            let offset = e.header["second.gate"]["data_offsets"][0].as_u64().unwrap() as usize;
            e.data.truncate(offset);
            e.remove("second.gate");
        }),
        damage("extra tensor", &["tensor `third.b` belongs to no module"], |e| {
            let end = e.data.len();
            e.header["third.b"] = json!({"dtype": "F32", "shape": [0], "data_offsets": [end, end]});
        }),
        damage("wrong type", &["tensor `first.skeleton` is I32 [3, 2]", "expected U32 [3, 2]"], |e| {
            e.header["first.skeleton"]["dtype"] = json!("I32");
        }),
        damage("unknown type", &["tensor `first.b` is F31 [6, 1]", "expected F32 [6, 1]"], |e| {
            e.header["first.b"]["dtype"] = json!("F31")
        }),
        damage("wrong shape", &["tensor `first.skeleton` is U32 [2, 3]", "expected U32 [3, 2]"], |e| {
            e.header["first.skeleton"]["shape"] = json!([2, 3]);
        }),
        damage("one dimension", &["tensor `first.skeleton` is U32 [6]"], |e| {
            e.header["first.skeleton"]["shape"] = json!([6]);
        }),
        damage(
            "index out of range",
            &["module `first`", "`skeleton` is 12", "below 12"],
            put("first.skeleton", 5, 12u32.to_le_bytes()),
        ),
        damage("index twice", &["module `second`", "twice", "distinct"], |e| {
            e.tensor("second.skeleton", |data| data.copy_within(0..4, 8));
        }),
        damage(
            "NaN",
            &["module `first`", "`gate` has NaN at row 1, column 2"],
            put("first.gate", 7, f32::NAN.to_le_bytes()),
        ),
        damage(
            "infinity",
            &["module `second`", "`b` has -inf at row 3, column 0"],
            put("second.b", 3, f32::NEG_INFINITY.to_le_bytes()),
        ),
        damage("overlap", &["overlaps the tensor before it"], |e| {
            e.header["second.b"]["data_offsets"] = e.header["first.b"]["data_offsets"].clone();
        }),
        damage("gap", &["20 bytes before tensor `second.skeleton` belong to no tensor"], |e| {
            // `first.gate` loses its last row; the bytes stay.
            e.header["first.gate"]["shape"] = json!([2, 5]);
            let end = e.header["first.gate"]["data_offsets"][1].as_u64().unwrap();
            e.header["first.gate"]["data_offsets"][1] = json!(end - 20);
        }),
        damage("offsets backwards", &["tensor `first.b`", "8..4"], |e| {
            e.header["first.b"]["data_offsets"] = json!([8, 4])
        }),
    ]
}

/// Each damage gives a format error that names the file and says what is wrong.
#[test]
fn every_corruption_is_named() {
    let sandbox = Sandbox::new();
    let good = sandbox.saved(&two_modules());
    assert!(sandbox.load(&Edit::new(&good).bytes()).is_ok(), "unharmed, the edited file must load");
    for (name, expected, edit) in damaged_metadata().into_iter().chain(damaged_tensors()) {
        let mut file = Edit::new(&good);
        edit(&mut file);
        let error = match sandbox.load(&file.bytes()) {
            Ok(_) => panic!("{name}: loaded"),
            Err(error) => error,
        };
        assert!(matches!(error, Error::Format { .. }), "{name}: {error:?}");
        let message = error.to_string();
        for part in expected.iter().chain(&[FILE]) {
            assert!(message.contains(part), "{name}: `{part}` not in: {message}");
        }
    }
}

/// Not safetensors at all, or with lengths that would overflow or exhaust memory if they were believed.
#[test]
fn hostile_headers_are_refused() {
    let sandbox = Sandbox::new();
    let refused = |bytes: &[u8], expected: &str| {
        let error = sandbox.load(bytes).unwrap_err();
        assert!(matches!(error, Error::Format { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "`{expected}` not in: {error}");
    };
    refused(b"PK\x03\x04 a zip archive, say", "not a safetensors file");
    refused(b"{}", "too few");
    refused(&[&2u64.to_le_bytes()[..], b"[]"].concat(), "header is corrupt");
    refused(&[&4u64.to_le_bytes()[..], b"\xff\xfe{}"].concat(), "header is corrupt");
    refused(&[&2u64.to_le_bytes()[..], b"{}"].concat(), "not an idlora adapter");
    for length in [u64::MAX, u64::MAX - 7, 1 << 62, 1 << 40, 100] {
        refused(
            &[&length.to_le_bytes()[..], b"{}"].concat(),
            &format!("announce a header of {length} bytes, the file has 2 more"),
        );
    }
    let nested = "[".repeat(100_000);
    refused(&[&(nested.len() as u64).to_le_bytes()[..], nested.as_bytes()].concat(), "header is corrupt");
    refused(&overflowing_file(), "tensor `t0` lies at bytes 0..2305843009213693951");
    let twice =
        br#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#;
    refused(&[&(twice.len() as u64).to_le_bytes()[..], twice].concat(), "`a` is there twice");
    refused(
        &Edit {
            header: json!({"a": {"dtype": "F32", "shape": [u64::MAX, 2], "data_offsets": [0, 8]}}),
            data: vec![0; 8],
        }
        .bytes(),
        "shape [18446744073709551615, 2] overflows",
    );
}

/// Consistent offsets that end so near 2^64 that adding the header's length to them overflows.
fn overflowing_file() -> Vec<u8> {
    let size = (1u64 << 61) - 1; // the largest whose bits can be counted
    let info = |i: u64| json!({"dtype": "U8", "shape": [size], "data_offsets": [i * size, (i + 1) * size]});
    let header = (0..8).map(|i| (format!("t{i}"), info(i))).collect();
    Edit { header: Value::Object(header), data: Vec::new() }.bytes()
}
