//! Which weight an adapter was made from: row numbers mean nothing on another one.

use crate::elem::{Dtype, Elem};
use crate::error::{Error, Result};
use crate::mat::MatRef;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;

/// SHA-256 of a base weight, printed as 64 hexadecimal digits.
///
/// Hashed are, in this order: the element type's name as in safetensors headers (`F16`, `BF16`, `F32`), the shape
/// `[m, n]` as two little-endian u64, and the elements row by row in little-endian bytes; padding between rows is not.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `w [m, n]`. One pass over it on the calling thread.
    pub fn of<T: Elem>(w: MatRef<'_, T>) -> Self {
        let mut rows = Rows::new(T::DTYPE, w.rows(), w.cols());
        w.iter_rows().for_each(|row| rows.add(row));
        rows.finish()
    }
}

/// A digest in the making, for a weight that comes row by row.
pub(crate) struct Rows(Sha256);

impl Rows {
    pub(crate) fn new(dtype: Dtype, rows: usize, cols: usize) -> Self {
        let mut hash = Sha256::new();
        hash.update(dtype.name());
        hash.update((rows as u64).to_le_bytes());
        hash.update((cols as u64).to_le_bytes());
        Self(hash)
    }

    /// The next row.
    pub(crate) fn add<T: Elem>(&mut self, row: &[T]) {
        update_little_endian(&mut self.0, row);
    }

    pub(crate) fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

fn update_little_endian<T: Elem>(hash: &mut Sha256, row: &[T]) {
    let bytes: &[u8] = bytemuck::cast_slice(row);
    if cfg!(target_endian = "little") {
        hash.update(bytes);
        return;
    }
    let mut swapped = bytes.to_vec();
    swapped.chunks_exact_mut(size_of::<T>()).for_each(<[u8]>::reverse);
    hash.update(swapped);
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = Error;

    /// Parses what `Display` prints; upper case is accepted.
    fn from_str(text: &str) -> Result<Self> {
        let refuse = || Error::parameter("digest", "text", "64 hexadecimal digits", format!("`{text}`"));
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(refuse());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |c: u8| char::from(c).to_digit(16).ok_or_else(refuse);
            *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
