//! What a launch cost, and what a card should take for it.

use crate::error::{Error, Result};
use crate::gpu::Kernel;
use crate::gpu::model::{Card, Modelled, Work};
use crate::gpu::occupancy::Need;
use crate::gpu::variants::VARIANTS;
use ptx_vm::{Counters, Launch, Moved};

/// What a launch cost.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Launched {
    /// The kernel's name.
    pub kernel: &'static str,
    /// The variant that was compiled for, such as `norms.bf16.sm_80`.
    pub variant: String,
    /// Blocks of the grid.
    pub blocks: u32,
    /// Bytes of dynamic shared memory of a block.
    pub shared: u32,
    /// Everything counted; buffers go by the names of the operands.
    pub counters: Counters,
    of: Kernel,
}

/// Bytes of a sector.
const SECTOR: f64 = 32.0;

impl Launched {
    pub(super) fn new(kernel: &Kernel, launch: &Launch, counters: Counters) -> Self {
        Self {
            kernel: kernel.entry.name,
            variant: VARIANTS[kernel.variant].name(),
            blocks: launch.grid[0],
            shared: launch.dynamic_shared,
            counters,
            of: *kernel,
        }
    }

    /// How long a card should take for it, by what was counted. A [model](crate::model), never a measurement.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where a multiprocessor of the card cannot hold one block; [`Error::Parameter`] for a card whose
    /// figures are not all positive.
    pub fn modelled(&self, card: &Card) -> Result<Modelled> {
        card.check()?;
        let work = self.work(card)?;
        let modelled = card.time(&work);
        if modelled.seconds.is_finite() {
            return Ok(modelled);
        }
        let Need { threads, registers, shared } = work.need;
        let needs = format!("{threads} threads, {registers} registers and {shared} bytes of shared memory");
        let (kernel, card) = (self.kernel, &card.name);
        Err(Error::unsupported(
            "model",
            format!("a block of `{kernel}`, {needs}, does not fit a multiprocessor of {card}"),
        ))
    }

    /// What it did, as a card with such a second cache sees it.
    pub(super) fn work(&self, card: &Card) -> Result<Work> {
        let counters = &self.counters;
        let (mut memory, mut cache) = (0.0, 0.0);
        for (_, traffic) in counters.allocations() {
            for moved in [traffic.read, traffic.written] {
                let (from_memory, all) = bytes(moved, card.cache_bytes);
                memory += from_memory;
                cache += all;
            }
        }
        Ok(Work {
            blocks: self.blocks.into(),
            need: Need::of(&self.of, self.shared)?,
            memory,
            cache,
            tensor: 2.0 * counters.tensor_multiply_adds() as f64,
            instructions: counters.warp_instructions() as f64,
            wavefronts: counters.shared().wavefronts as f64,
        })
    }
}

/// Bytes that one operand moves one way: of device memory, and all. What is moved again comes from a second cache of
/// `capacity` bytes as far as the operand fits it.
fn bytes(moved: Moved, capacity: f64) -> (f64, f64) {
    let all = moved.sectors as f64 * SECTOR;
    let once = (moved.distinct as f64).min(all);
    let missing = if once > capacity { 1.0 - capacity / once } else { 0.0 };
    (once + (all - once) * missing, all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_the_second_cache_is_fetched_once() {
        let moved = |sectors, distinct| Moved { requests: 1, requested: 1, sectors, distinct };
        // Once, in whole sectors and in parts of them; ten times; of an operand twice and four times as large as the cache.
        assert_eq!(bytes(moved(10, 320), 1000.0), (320.0, 320.0));
        assert_eq!(bytes(moved(10, 300), 1000.0), (300.0, 320.0));
        assert_eq!(bytes(moved(100, 320), 1000.0), (320.0, 3200.0));
        assert_eq!(bytes(moved(100, 320), 160.0), (320.0 + 2880.0 / 2.0, 3200.0));
        assert_eq!(bytes(moved(100, 320), 80.0), (320.0 + 2880.0 * 0.75, 3200.0));
        // Lanes that ask for the same bytes ask for few sectors.
        assert_eq!(bytes(moved(1, 64), 1000.0), (32.0, 32.0));
        assert_eq!(bytes(moved(0, 0), 1000.0), (0.0, 0.0));
    }
}
