//! What an adapter costs.

use super::Config;
use crate::error::{Error, Result};
use std::iter::Sum;
use std::ops::Add;

/// What an adapter costs, each cost apart from the others. They add up over the modules of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    /// Trained numbers: `m·r/s²` of B and those of the gate (`r`, `k·n` or `k`).
    pub trained: usize,
    /// Frozen bytes resident beside the base weight: the `k·r` row numbers, 4 bytes each.
    pub frozen_bytes: usize,
    /// Bytes of tensor data in the adapter's file: row numbers and trained numbers, 4 bytes each.
    pub stored_bytes: usize,
    /// Bytes of AdamW's state: two f32 moments per trained number.
    pub optimizer_bytes: usize,
}

impl Counters {
    /// What `config` costs on a weight `[rows, cols]`. No weight is needed.
    ///
    /// # Errors
    /// Those of [`Config::check`], and [`Error::OutOfMemory`] where a count of bytes overflows.
    pub fn of(rows: usize, cols: usize, config: &Config) -> Result<Self> {
        config.check(rows, cols)?;
        Self::count(rows, cols, config).ok_or(Error::OutOfMemory {
            op: "counters",
            what: "an adapter whose size overflows",
            bytes: usize::MAX,
        })
    }

    fn count(rows: usize, cols: usize, config: &Config) -> Option<Self> {
        let b = config.b_shape(rows);
        let gate = config.gate_shape(cols);
        let trained = b.0.checked_mul(b.1)?.checked_add(gate.0.checked_mul(gate.1)?)?;
        let frozen_bytes = config.clusters.checked_mul(config.rank)?.checked_mul(size_of::<u32>())?;
        let stored_bytes = trained.checked_mul(size_of::<f32>())?.checked_add(frozen_bytes)?;
        let optimizer_bytes = trained.checked_mul(2 * size_of::<f32>())?;
        Some(Self { trained, frozen_bytes, stored_bytes, optimizer_bytes })
    }
}

impl Add for Counters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            trained: self.trained + other.trained,
            frozen_bytes: self.frozen_bytes + other.frozen_bytes,
            stored_bytes: self.stored_bytes + other.stored_bytes,
            optimizer_bytes: self.optimizer_bytes + other.optimizer_bytes,
        }
    }
}

impl Sum for Counters {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Self::add)
    }
}
