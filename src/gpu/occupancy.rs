//! How many blocks of a kernel a multiprocessor can hold, from what the assembler says they need.
//!
//! The rules are those of NVIDIA's occupancy calculator: registers are given out a warp at a time, in units, from the
//! quarter of the multiprocessor that runs the warp; shared memory in units, with some for the system.

use super::resources::resources;
use super::{Kernel, image};
use crate::error::{Error, Result};

/// What a multiprocessor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Multiprocessor {
    /// The architecture, such as `sm_80`.
    pub arch: &'static str,
    /// Most warps alive at a time.
    pub warps: u32,
    /// Most blocks alive at a time.
    pub blocks: u32,
    /// Bytes of shared memory for all blocks, and for the system's share of each.
    pub shared: u32,
    /// Most bytes that one block can ask for.
    pub block_shared: u32,
}

/// A100.
pub(crate) const SM_80: Multiprocessor =
    Multiprocessor { arch: "sm_80", warps: 64, blocks: 32, shared: 164 << 10, block_shared: 163 << 10 };
/// H100, H200.
pub(crate) const SM_90: Multiprocessor =
    Multiprocessor { arch: "sm_90", warps: 64, blocks: 32, shared: 228 << 10, block_shared: 227 << 10 };

/// Threads of a warp.
const WARP: u32 = 32;
/// Most threads of a block.
const BLOCK_THREADS: u32 = 1024;
/// Most registers of a thread.
const THREAD_REGISTERS: u32 = 255;
/// Parts of a multiprocessor: each runs its own warps on its own registers.
const PARTS: u32 = 4;
const PART_REGISTERS: u32 = 65536 / PARTS;
/// Registers are given to a warp in multiples of this.
const REGISTER_UNIT: u32 = 256;
/// Shared memory is given to a block in multiples of this.
const SHARED_UNIT: u32 = 128;
/// Bytes of each block's shared memory that the system keeps.
const SYSTEM_SHARED: u32 = 1024;

/// What one block asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    pub threads: u32,
    /// Of a thread.
    pub registers: u32,
    /// Bytes, static and dynamic.
    pub shared: u32,
}

/// What keeps a further block out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Limit {
    /// Warps of the multiprocessor.
    Warps,
    /// Blocks of the multiprocessor.
    Blocks,
    /// Registers.
    Registers,
    /// Shared memory.
    Shared,
}

impl Need {
    /// A block of a kernel with so many bytes of dynamic shared memory. Registers are those of the image's architecture.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where there is no image, [`Error::Kernel`] where the assembler's log says nothing of the kernel.
    pub fn of(kernel: &Kernel, shared: u32) -> Result<Self> {
        let made = image::image(kernel.variant).map_err(|reason| Error::unsupported(kernel.op, reason))?;
        let defect =
            |reason| Error::Kernel { op: kernel.op, kernel: kernel.entry.name.to_owned(), findings: vec![reason] };
        let logged = resources(&made.log).map_err(defect)?;
        let logged = logged.into_iter().find(|logged| logged.name == kernel.entry.name);
        let logged = logged.ok_or_else(|| defect("not in the assembler's log".to_owned()))?;
        let [x, y] = kernel.entry.block;
        Ok(Self { threads: x * y, registers: logged.registers, shared: logged.shared.saturating_add(shared) })
    }
}

impl Multiprocessor {
    /// Blocks alive at a time, 0 where not even one can be launched, and what keeps a further one out.
    pub fn blocks(&self, need: Need) -> (u32, Limit) {
        let warps = need.threads.div_ceil(WARP).max(1);
        let shared = if need.shared > self.block_shared {
            0
        } else {
            self.shared / (need.shared + SYSTEM_SHARED).next_multiple_of(SHARED_UNIT)
        };
        let limits = [
            (self.blocks, Limit::Blocks),
            (if need.threads > BLOCK_THREADS { 0 } else { self.warps / warps }, Limit::Warps),
            (register_limit(warps, need.registers), Limit::Registers),
            (shared, Limit::Shared),
        ];
        limits.into_iter().min_by_key(|(blocks, _)| *blocks).unwrap_or((0, Limit::Blocks))
    }

    /// Warps alive at a time.
    pub fn warps(&self, need: Need) -> u32 {
        self.blocks(need).0 * need.threads.div_ceil(WARP).max(1)
    }
}

fn register_limit(warps: u32, registers: u32) -> u32 {
    if registers > THREAD_REGISTERS {
        return 0;
    }
    let of_a_warp = (registers * WARP).next_multiple_of(REGISTER_UNIT).max(REGISTER_UNIT);
    let of_a_part = PART_REGISTERS / of_a_warp;
    // A block is launched only if its warps, spread evenly over the parts, fit an empty multiprocessor.
    if warps.div_ceil(PARTS) > of_a_part { 0 } else { of_a_part * PARTS / warps }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(sm: Multiprocessor, threads: u32, registers: u32, shared: u32) -> (u32, Limit) {
        sm.blocks(Need { threads, registers, shared })
    }

    /// CUDA C++ Best Practices Guide, Calculating Occupancy: 37 registers leave 12 blocks of 128 threads, 75 %, but only 4
    /// of 320, 63 %. (Said of 7.0, which gives out registers the same way.)
    #[test]
    fn the_guide_s_own_example() {
        let need = |threads| Need { threads, registers: 37, shared: 0 };
        assert_eq!(SM_80.blocks(need(128)), (12, Limit::Registers));
        assert_eq!(SM_80.warps(need(128)) * 100 / SM_80.warps, 75);
        assert_eq!(SM_80.blocks(need(320)), (4, Limit::Registers));
        assert_eq!(SM_80.warps(need(320)) * 1000 / SM_80.warps, 625);
    }

    /// The guides of A100 and H100: 64 warps, 32 blocks, 64 K registers and 255 of a thread, 164 and 228 KB of shared memory,
    /// of which a block can have 163 and 227, and 1 KB a block is the system's.
    #[test]
    fn the_limits_of_the_tuning_guides() {
        for (sm, kib) in [(SM_80, 164), (SM_90, 228)] {
            assert_eq!(blocks(sm, 1024, 32, 0), (2, Limit::Warps));
            assert_eq!(blocks(sm, 64, 32, 0), (32, Limit::Blocks));
            assert_eq!(blocks(sm, 32, 16, 0), (32, Limit::Blocks));
            assert_eq!(blocks(sm, 1, 16, 0).0, 32);
            assert_eq!(blocks(sm, 256, 32, 0), (8, Limit::Warps));
            assert_eq!(blocks(sm, 256, 255, 0), (1, Limit::Registers));
            assert_eq!(blocks(sm, 256, 256, 0), (0, Limit::Registers));
            assert_eq!(blocks(sm, 1025, 16, 0), (0, Limit::Warps));
            assert_eq!(blocks(sm, 32, 16, (kib - 1) << 10), (1, Limit::Shared));
            assert_eq!(blocks(sm, 32, 16, ((kib - 1) << 10) + 1), (0, Limit::Shared));
        }
    }

    /// Registers go to a warp in units of 256, that is 8 a thread: 64 K / (256 · ⌈r/8⌉), in whole warps of each quarter.
    #[test]
    fn registers_are_rounded_up_a_warp_at_a_time() {
        for (registers, warps) in [
            (32, 64),
            (33, 48),
            (40, 48),
            (41, 40),
            (48, 40),
            (64, 32),
            (65, 28),
            (128, 16),
            (168, 12),
            (200, 8),
            (255, 8),
        ] {
            assert_eq!(blocks(SM_80, 32, registers, 0).0, warps.min(32), "{registers} registers");
            assert_eq!(blocks(SM_80, 64, registers, 0).0, warps / 2, "{registers} registers");
            assert_eq!(SM_80.warps(Need { threads: 128, registers, shared: 0 }), warps, "{registers} registers");
        }
    }

    /// 65 registers: 7 warps of each quarter. 28 warps are there in all, but a block of 29 warps never fits.
    #[test]
    fn a_block_that_does_not_fit_is_none() {
        assert_eq!(blocks(SM_80, 28 * 32, 65, 0), (1, Limit::Registers));
        assert_eq!(blocks(SM_80, 29 * 32, 65, 0), (0, Limit::Registers));
        assert_eq!(blocks(SM_80, 1024, 64, 0), (1, Limit::Registers));
    }

    /// Ragged warps count whole; shared memory is rounded up to 128 bytes and has the system's 1024 on top.
    #[test]
    fn threads_and_bytes_are_rounded_up() {
        assert_eq!(blocks(SM_80, 33, 16, 0), blocks(SM_80, 64, 16, 0));
        assert_eq!(blocks(SM_80, 128, 16, 27648), (5, Limit::Shared)); // 167936 / 28672 = 5.9
        assert_eq!(blocks(SM_90, 128, 16, 27648), (8, Limit::Shared)); // 233472 / 28672 = 8.1
        assert_eq!(blocks(SM_80, 32, 16, 4224), (32, Limit::Blocks)); // 32 · 5248 = 167936 exactly
        assert_eq!(blocks(SM_80, 32, 16, 4225), (31, Limit::Shared));
    }
}
