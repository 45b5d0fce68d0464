//! A model of a card: how long a launch should take by what it moves and computes. **A model, never a measurement.**
//!
//! It is the clock of the virtual machine, ranks the ways of running a kernel before any is timed, and says what a kernel
//! should be bound by. What it is given is counted (`vm::Launched::modelled`, feature `vm`) or
//! estimated before the launch.
//!
//! # What is modelled
//!
//! A launch of P blocks on a card of N multiprocessors, each of which holds R of these blocks at a time (threads, registers and
//! shared memory, by the rules of NVIDIA's occupancy calculator):
//!
//! * The busiest multiprocessor has `⌈P/N⌉` blocks, at most R of them at a time. It issues four warp instructions a cycle if it has
//!   warps enough, makes one pass a cycle over its shared memory, and has its share of the tensor cores' operations. With
//!   fewer than eight warps alive it issues fewer instructions, with fewer than four a part of its tensor cores idles. All blocks
//!   are taken to do the same.
//! * Device memory and the second cache give their bandwidth only to enough requests (Little's law): all blocks alive together
//!   have so many bytes under way, and wait one latency for them. A warp has 1 KiB under way; a block at least half of its
//!   shared memory, as asynchronous copies fill it. The busiest multiprocessor takes at most 64 bytes a cycle.
//! * Every launch costs a time of its own and one latency of device memory. Where all blocks do not fit the card at once, it lasts a
//!   latency for every further time that the card is filled.
//!
//! These times run beside each other: the largest is the bound, and an eighth of the others shows beside it. So
//!
//! ```text
//! seconds = launch + latency + largest + (sum of the others) / 8
//! ```
//!
//! never less than any of them; it grows with everything that a launch does, and is shorter on a card that is faster.
//!
//! # From counters
//!
//! Bytes of the second cache are all sectors of 32 that the warps moved: the first cache is taken to catch nothing. Bytes of device
//! memory are those of each operand once each way. What is moved again comes from the second cache as far as the operand fits
//! it: of one twice as large, half. Each operand is taken to have the cache to itself, and to be in device memory when the
//! launch starts, though the kernel before may have left it in the cache.
//!
//! # What is not modelled
//!
//! * Instructions are those of PTX, not of machine code, and all issue alike: no pipe of its own for f64, `sqrt` or conversions,
//!   no dependencies beyond the number of warps, no barriers.
//! * Registers are those of the image's own architecture; a driver that compiles the PTX for another may choose others.
//! * Tensor cores reach what the card's libraries do. Kernels that use `mma.sync`, as all here, may reach less on Hopper and later,
//!   whose own instructions differ.
//! * Which operand is under way: a block whose shared memory waits for few rows counts as one that waits for all of it.
//! * Order: which tiles share the second cache at a time (a raster), row buffers of device memory, clocks under the power limit.
//! * A grid is taken as it was launched. Kernels whose blocks fetch work until there is none launch as many blocks as are
//!   resident: few, on a virtual machine with few (`vm::Settings::resident`).
//!
//! # How wrong it may be
//!
//! Not known: nothing of it has been compared with a GPU yet. It leaves out enough that ratios between ways of running one kernel
//! deserve more trust than times, and times of large launches more than of small ones.

pub(crate) mod card;
#[cfg(test)]
mod tests;

pub use card::Card;

use super::occupancy::Need;
use serde::Serialize;

/// What bounds a kernel, by the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Bound {
    /// Bytes of device memory.
    Memory,
    /// Bytes of the second cache.
    Cache,
    /// Tensor cores.
    Tensor,
    /// Instructions issued.
    Issue,
    /// Shared memory.
    Shared,
    /// Launching it at all, and the latencies of its waves of blocks.
    Launch,
}

/// What the model says of a launch: a model, never a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Modelled {
    /// Seconds. Infinite where a multiprocessor of the card cannot hold a single block.
    pub seconds: f64,
    /// What they are spent on.
    pub bound: Bound,
    /// Seconds that each would take alone. They run beside each other: `seconds` is less than their sum.
    pub parts: [Part; 6],
}

/// One of the times that run beside each other in a launch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Part {
    /// What takes it.
    pub bound: Bound,
    /// Seconds.
    pub seconds: f64,
}

/// What a launch does: estimated before it, or counted.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(not(test), allow(dead_code))] // only kernels that are tuned or counted have any
pub(crate) struct Work {
    /// Blocks of the launch, and what each needs.
    pub blocks: u64,
    pub need: Need,
    /// Bytes to and from device memory: each operand once.
    pub memory: f64,
    /// Bytes to and from the second cache, all of them.
    pub cache: f64,
    /// Operations of tensor cores; a multiplication and an addition are two.
    pub tensor: f64,
    /// Warp instructions.
    pub instructions: f64,
    /// Passes over the banks of shared memory.
    pub wavefronts: f64,
}

/// Warp instructions that a multiprocessor issues in a cycle: one of each of its four parts (tuning guides of all cards here).
const ISSUED: f64 = 4.0;
/// Instructions a cycle of one warp: an addition is there after four cycles (microbenchmarks of Ampere and Hopper); every other
/// instruction is taken to wait for the one before.
const OF_A_WARP: f64 = 0.5;
/// Tensor cores of a multiprocessor, one for each part: a warp uses that of its own.
const TENSOR_CORES: f64 = 4.0;
/// Bytes that a warp has under way: two loads of 16 bytes a lane. An assumption.
const UNDER_WAY: f64 = 1024.0;
/// Bytes a cycle that a multiprocessor takes from the second cache (microbenchmarks of Volta and later).
const PORT: f64 = 64.0;
/// A hit of the second cache takes about half of a miss (260 cycles and 480 on A100 and H100, microbenchmarks).
const HIT: f64 = 0.5;
/// What shows of a time beside a longer one. An assumption.
const SHOWS: f64 = 1.0 / 8.0;

impl Card {
    /// How long a launch should take.
    pub(crate) fn time(&self, work: &Work) -> Modelled {
        let (resident, _) = self.multiprocessor.blocks(work.need);
        let (blocks, all, resident) = (work.blocks.max(1) as f64, f64::from(self.multiprocessors), f64::from(resident));
        if resident == 0.0 {
            return self.never();
        }
        let of_a_block = f64::from(work.need.threads.div_ceil(32).max(1));
        // The busiest multiprocessor: its blocks, its share of what is done in all, and its warps alive at a time.
        let mine = (blocks / all).ceil();
        let share = mine / blocks;
        let warps = mine.min(resident) * of_a_block;
        let cycles = |amount: f64, rate: f64| share * amount / (rate * self.clock);
        let cores = (warps / TENSOR_CORES).min(1.0);
        // Little's law: bytes under way on the whole card, once a latency.
        let under_way = (UNDER_WAY * of_a_block).max(f64::from(work.need.shared) / 2.0) * blocks.min(all * resident);
        let moved = |bytes: f64, rate: f64, latency: f64| bytes / rate.min(under_way / latency);
        let from_cache = moved(work.cache, self.cache, self.latency * HIT).max(cycles(work.cache, PORT));
        let waits = self.latency * (blocks / (all * resident) - 1.0).max(0.0);

        let beside = [
            Part { bound: Bound::Memory, seconds: moved(work.memory, self.memory, self.latency) },
            Part { bound: Bound::Cache, seconds: from_cache },
            Part { bound: Bound::Tensor, seconds: share * all * work.tensor / (self.tensor * cores) },
            Part { bound: Bound::Issue, seconds: cycles(work.instructions, ISSUED.min(OF_A_WARP * warps)) },
            Part { bound: Bound::Shared, seconds: cycles(work.wavefronts, 1.0) },
            Part { bound: Bound::Launch, seconds: waits },
        ];
        let sum: f64 = beside.iter().map(|part| part.seconds).sum();
        let largest = beside.iter().map(|part| part.seconds).fold(0.0, f64::max);
        // Of infinities nothing is left to hide. An amount that is no number makes no time.
        let hidden = if largest.is_finite() { sum - largest } else { 0.0 };
        let hidden = if hidden < 0.0 { 0.0 } else { hidden };
        let alone = self.launch + self.latency;
        let parts = beside.map(|part| match part.bound {
            Bound::Launch => Part { seconds: alone + waits, ..part },
            _ => part,
        });
        let bound =
            parts.iter().max_by(|a, b| a.seconds.total_cmp(&b.seconds)).map_or(Bound::Launch, |part| part.bound);
        Modelled { seconds: alone + largest + SHOWS * hidden, bound, parts }
    }

    /// Of a launch that the card refuses.
    fn never(&self) -> Modelled {
        let bounds = [Bound::Memory, Bound::Cache, Bound::Tensor, Bound::Issue, Bound::Shared, Bound::Launch];
        let parts = bounds.map(|bound| Part { bound, seconds: f64::INFINITY });
        Modelled { seconds: f64::INFINITY, bound: Bound::Launch, parts }
    }
}
