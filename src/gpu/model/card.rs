//! The cards, by their data sheets.

use crate::error::{Error, Result};
use crate::gpu::occupancy::{Multiprocessor, SM_80, SM_90};

/// What a card can do, by its data sheet and by what programs reach of it; other cards than these by changing the fields.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Card {
    /// Its name.
    pub name: String,
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// Cycles a second of a multiprocessor: the boost clock.
    pub clock: f64,
    /// Bytes a second of device memory that a copy reaches, both ways together.
    pub memory: f64,
    /// Bytes a second from the second cache: of no data sheet, the least certain figure.
    pub cache: f64,
    /// Bytes of the second cache.
    pub cache_bytes: f64,
    /// Dense 16-bit operations a second that large products reach on all tensor cores; a multiplication and an addition are two.
    pub tensor: f64,
    /// Seconds from one launch to the next.
    pub launch: f64,
    /// Seconds from a request to device memory to its answer, while others are under way.
    pub latency: f64,
    /// What a multiprocessor has.
    pub(crate) multiprocessor: Multiprocessor,
}

/// What a copy reaches of the bandwidth on the data sheet: 3.0 of 3.35 TB/s on an H100.
pub(crate) const COPY: f64 = 0.9;
/// What large products reach of all tensor cores at the boost clock, which the power limit does not let them have: 790 TF/s of
/// 132 · 4096 · 1.98 GHz on an H100.
pub(crate) const PRODUCTS: f64 = 0.74;
/// Bytes a cycle from the second cache for each multiprocessor. An estimate: half of the 64 that its port takes; A100's white
/// paper has 5120 bytes a cycle for the card, 47 for each multiprocessor, as the most there can be.
pub(crate) const CACHE: f64 = 32.0;
/// Seconds from one launch to the next on a stream. An estimate; launches of a graph follow faster.
pub(crate) const LAUNCH: f64 = 3e-6;
/// Seconds to device memory and back under load. An estimate: the idle latency is about 480 cycles on A100 and H100.
pub(crate) const LATENCY: f64 = 6e-7;

impl Card {
    /// An H100 SXM with 80 GB.
    pub fn h100() -> Self {
        Self {
            name: "H100 SXM".to_owned(),
            multiprocessors: 132,                // white paper
            clock: 1.98e9,                       // data sheet: 67 TF/s of f32, 256 operations a cycle each
            memory: 3.0e12,                      // a copy; data sheet 3.35 TB/s
            cache: CACHE * 132.0 * 1.98e9,       // see there
            cache_bytes: 50.0 * 1024.0 * 1024.0, // white paper
            tensor: 790e12,                      // large products; data sheet 989 TF/s without sparsity
            launch: LAUNCH,                      // see there
            latency: LATENCY,                    // see there
            multiprocessor: SM_90,
        }
    }

    /// An H200 SXM: an H100 SXM on faster memory.
    pub fn h200() -> Self {
        Self {
            name: "H200 SXM".to_owned(),
            memory: COPY * 4.8e12, // data sheet: 4.8 TB/s
            ..Self::h100()         // data sheet: the same rates of arithmetic
        }
    }

    /// An A100 SXM with 80 GB.
    pub fn a100() -> Self {
        Self {
            name: "A100 SXM 80 GB".to_owned(),
            multiprocessors: 108,                // white paper
            clock: 1.41e9,                       // white paper: the boost clock
            memory: COPY * 2.039e12,             // data sheet: 2,039 GB/s
            cache: CACHE * 108.0 * 1.41e9,       // see there
            cache_bytes: 40.0 * 1024.0 * 1024.0, // white paper
            tensor: PRODUCTS * 312e12,           // data sheet: 312 TF/s without sparsity
            launch: LAUNCH,                      // see there
            latency: LATENCY,                    // see there
            multiprocessor: SM_80,
        }
    }

    /// All of these.
    pub fn all() -> [Self; 3] {
        [Self::h100(), Self::h200(), Self::a100()]
    }

    /// Refuses figures of which the model would make nonsense.
    ///
    /// # Errors
    /// [`Error::Parameter`] that names the figure.
    #[cfg_attr(not(any(test, feature = "vm")), allow(dead_code))] // a device of CUDA is asked for its own
    pub(crate) fn check(&self) -> Result<()> {
        let figures = [
            ("multiprocessors", f64::from(self.multiprocessors)),
            ("clock", self.clock),
            ("memory", self.memory),
            ("cache", self.cache),
            ("cache_bytes", self.cache_bytes),
            ("tensor", self.tensor),
            ("launch", self.launch),
            ("latency", self.latency),
        ];
        match figures.into_iter().find(|(_, figure)| !(figure.is_finite() && *figure > 0.0)) {
            Some((name, figure)) => Err(Error::parameter("model", name, "a positive number", figure)),
            None => Ok(()),
        }
    }
}
