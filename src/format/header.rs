//! The header of a safetensors file: eight bytes of length, then a JSON object of tensors, then their data.
//!
//! Everything in it comes from outside, so everything is checked before it is used: the length against the file, every
//! size by checked arithmetic, and the data offsets for covering the file without a gap or an overlap (as the format
//! demands, so that a truncated or patched file shows at once).

use serde::de::{self, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde::{Deserialize, Serialize as DeriveSerialize};
use std::collections::{BTreeMap, HashSet};
use std::io::Read;

/// The format's own limit on the JSON part.
const LONGEST_HEADER: u64 = 100_000_000;

/// One tensor as the header declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) dtype: String,
    pub(crate) shape: Vec<usize>,
    /// First byte, from the start of the file.
    pub(crate) begin: u64,
    pub(crate) bytes: u64,
}

/// A checked header.
#[derive(Clone, Debug, Default)]
pub(crate) struct Header {
    /// In the order of their data.
    pub(crate) entries: Vec<Entry>,
    pub(crate) metadata: BTreeMap<String, String>,
}

/// Bits of one element, for every type that the format names.
pub(crate) fn element_bits(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F4" => 4,
        "F6_E2M3" | "F6_E3M2" => 6,
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" | "F8_E4M3FNUZ" | "F8_E5M2FNUZ" => 8,
        "U16" | "I16" | "F16" | "BF16" => 16,
        "U32" | "I32" | "F32" => 32,
        "U64" | "I64" | "F64" | "C64" => 64,
        _ => return None,
    })
}

impl Header {
    /// Reads and checks the header of a file of `file_bytes` bytes. The error is the reason, for the caller to put the
    /// path in front.
    pub(crate) fn read(file: &mut impl Read, file_bytes: u64) -> Result<Self, String> {
        let (raw, data_begin) = read_raw(file, file_bytes)?;
        let data_bytes = file_bytes - data_begin;
        let mut entries = Vec::with_capacity(raw.tensors.len());
        for (name, tensor) in raw.tensors {
            let [begin, end] = tensor.data_offsets;
            if begin > end || end > data_bytes {
                return Err(format!(
                    "tensor `{name}` lies at bytes {begin}..{end} of the data, which has {data_bytes}: \
                     the file is truncated or its header corrupt"
                ));
            }
            check_size(&name, &tensor, end - begin)?;
            let begin = data_begin + begin;
            let bytes = end - tensor.data_offsets[0];
            entries.push(Entry { name, dtype: tensor.dtype, shape: tensor.shape, begin, bytes });
        }
        entries.sort_by_key(|entry| (entry.begin, entry.bytes));
        check_cover(&entries, data_begin, file_bytes)?;
        Ok(Self { entries, metadata: raw.metadata })
    }
}

fn read_raw(file: &mut impl Read, file_bytes: u64) -> Result<(Raw, u64), String> {
    if file_bytes == 0 {
        return Err("the file is empty".to_owned());
    }
    let mut length = [0; 8];
    if file_bytes < 8 || file.read_exact(&mut length).is_err() {
        return Err(format!("not a safetensors file: {file_bytes} bytes are too few for its header"));
    }
    let header_bytes = u64::from_le_bytes(length);
    if header_bytes > file_bytes - 8 || header_bytes > LONGEST_HEADER {
        let guess = foreign_format(&length).map(|what| format!(" (it looks like {what})")).unwrap_or_default();
        return Err(format!(
            "not a safetensors file, or a truncated one{guess}: its first 8 bytes announce a header of {header_bytes} \
             bytes, the file has {} more",
            file_bytes - 8
        ));
    }
    // At most 100 MB, and no more than the file has.
    let mut json = vec![0; header_bytes as usize];
    file.read_exact(&mut json).map_err(|error| format!("reading the header: {error}"))?;
    let raw = serde_json::from_slice(&json).map_err(|error| format!("the header is corrupt: {error}"))?;
    Ok((raw, 8 + header_bytes))
}

/// What people pass by mistake, by its first bytes.
fn foreign_format(start: &[u8; 8]) -> Option<&'static str> {
    match start {
        [b'G', b'G', b'U', b'F', ..] => Some("GGUF"),
        [b'P', b'K', 3, 4, ..] => Some("a zip archive, such as a PyTorch .bin or .pt"),
        [0x80, 2..=5, ..] => Some("a Python pickle"),
        [0x93, b'N', b'U', b'M', ..] => Some("a NumPy array"),
        [0x89, b'H', b'D', b'F', ..] => Some("HDF5"),
        [b'v', b'e', b'r', b's', b'i', b'o', b'n', b' '] => Some("a Git LFS pointer: run `git lfs pull`"),
        _ => None,
    }
}

fn check_size(name: &str, tensor: &RawTensor, bytes: u64) -> Result<(), String> {
    let Some(bits) = element_bits(&tensor.dtype) else {
        return Ok(()); // a type that is newer than this program: listed, and refused when read
    };
    let expected = tensor
        .shape
        .iter()
        .try_fold(bits, |product, &dim| product.checked_mul(dim as u64))
        .ok_or_else(|| format!("tensor `{name}`: the size of shape {:?} overflows", tensor.shape))?
        .div_ceil(8);
    if expected != bytes {
        return Err(format!(
            "tensor `{name}`: shape {:?} of {} takes {expected} bytes, its offsets give {bytes}",
            tensor.shape, tensor.dtype
        ));
    }
    Ok(())
}

fn check_cover(entries: &[Entry], data_begin: u64, file_bytes: u64) -> Result<(), String> {
    let mut at = data_begin;
    for entry in entries {
        if entry.begin < at {
            return Err(format!("tensor `{}` overlaps the tensor before it: the header is corrupt", entry.name));
        }
        if entry.begin > at {
            return Err(format!("{} bytes before tensor `{}` belong to no tensor", entry.begin - at, entry.name));
        }
        at += entry.bytes;
    }
    if at != file_bytes {
        return Err(format!("{} bytes at the end of the file belong to no tensor", file_bytes - at));
    }
    Ok(())
}

/// A tensor to be declared. Its bytes follow those of the tensor before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Declared<'a> {
    pub(crate) name: &'a str,
    pub(crate) dtype: &'a str,
    pub(crate) shape: &'a [usize],
    pub(crate) bytes: u64,
}

/// Length and JSON, padded with spaces so that the data starts at a multiple of 8 bytes.
///
/// Metadata and tensors stand in the order in which they are given, so that the same contents make the same bytes; the
/// safetensors crate keeps metadata in a hash map, whose order changes from run to run.
pub(crate) fn encode(metadata: &[(&str, &str)], tensors: &[Declared<'_>]) -> Vec<u8> {
    let mut json = serde_json::to_vec(&HeaderJson { metadata, tensors }).expect("names and numbers always serialise");
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json);
    bytes
}

struct HeaderJson<'a> {
    metadata: &'a [(&'a str, &'a str)],
    tensors: &'a [Declared<'a>],
}

#[derive(DeriveSerialize)]
struct TensorJson<'a> {
    dtype: &'a str,
    shape: &'a [usize],
    data_offsets: [u64; 2],
}

impl Serialize for HeaderJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.metadata.is_empty() {
            map.serialize_entry("__metadata__", &Pairs(self.metadata))?;
        }
        let mut at = 0;
        for &Declared { name, dtype, shape, bytes } in self.tensors {
            map.serialize_entry(name, &TensorJson { dtype, shape, data_offsets: [at, at + bytes] })?;
            at += bytes;
        }
        map.end()
    }
}

/// A list of pairs as a JSON object in the order of the list.
struct Pairs<'a>(&'a [(&'a str, &'a str)]);

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

/// The JSON as it stands in the file.
#[derive(Default)]
struct Raw {
    tensors: Vec<(String, RawTensor)>,
    metadata: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RawTensor {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tensors;
        impl<'de> Visitor<'de> for Tensors {
            type Value = Raw;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of tensors")
            }

            // By hand, because a map type would silently keep one of two tensors of the same name.
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
                let mut raw = Raw::default();
                let mut seen = HashSet::new();
                while let Some(name) = map.next_key::<String>()? {
                    if !seen.insert(name.clone()) {
                        return Err(de::Error::custom(format!("`{name}` is there twice")));
                    }
                    if name == "__metadata__" {
                        raw.metadata = map.next_value()?;
                    } else {
                        let tensor =
                            map.next_value().map_err(|error| de::Error::custom(format!("tensor `{name}`: {error}")))?;
                        raw.tensors.push((name, tensor));
                    }
                }
                Ok(raw)
            }
        }
        deserializer.deserialize_map(Tensors)
    }
}
