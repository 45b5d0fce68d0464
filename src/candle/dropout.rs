//! Which mask a training call draws.

use crate::error::Result;
use crate::lowrank::{Dropout, check};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Masks of a layer, numbered. Copies count together, so that no mask is drawn twice.
#[derive(Clone, Debug)]
pub(super) struct Drops {
    probability: f32,
    /// Of the layer.
    key: [u8; 32],
    calls: Arc<AtomicU64>,
}

impl Drops {
    pub fn new(probability: f32, seed: u64, name: &str) -> Result<Self> {
        check::dropout("candle layer", &Dropout { probability, seed, offset: 0 }, 0)?;
        let mut hash = Sha256::new();
        hash.update(seed.to_le_bytes());
        hash.update(name);
        Ok(Self { probability, key: hash.finalize().into(), calls: Arc::default() })
    }

    /// The mask of a call: its seed is the first eight bytes of SHA-256(SHA-256(seed, name), call).
    pub fn of(&self, call: u64) -> Dropout {
        let mut hash = Sha256::new();
        hash.update(self.key);
        hash.update(call.to_le_bytes());
        let hash: [u8; 32] = hash.finalize().into();
        let mut first = [0; 8];
        first.copy_from_slice(&hash[..8]);
        Dropout { probability: self.probability, seed: u64::from_le_bytes(first), offset: 0 }
    }

    /// The next call's.
    pub fn next(&self) -> Dropout {
        self.of(self.calls.fetch_add(1, Ordering::Relaxed))
    }

    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    pub fn set_calls(&self, calls: u64) {
        self.calls.store(calls, Ordering::Relaxed);
    }
}
