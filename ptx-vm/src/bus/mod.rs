//! All of memory as a running kernel sees it: routing by space, bounds, alignment, shadow state, asynchronous copies,
//! atomics, and the hooks of the counters and race detectors. Knows no control flow: `exec` tells it who accesses what, and
//! when threads synchronise.
//!
//! Whatever is wrong with an access is reported for each lane concerned, and the launch goes on: such a lane reads poison
//! and writes nothing.

mod arrays;
mod atomic;
mod copy;
mod device;
mod lanes;
mod local;
mod matrix;
pub(crate) mod races;
mod report;
mod rmw;
mod route;
mod shadow;
mod shared;

#[cfg(test)]
mod tests;

use crate::check::{At, Checks, Findings};
use crate::count::Recorder;
use crate::isa::{Access, Order, Scope, Space};
use crate::memory::Memory;
use crate::program::Program;
use arrays::Arrays;
use copy::Copies;
use device::Device;
use lanes::Element;
use local::Local;
use report::{Request, Verb};
use shared::Shared;
use std::ops::Range;

/// One value per lane.
pub(crate) type Lanes64 = [u64; 32];
/// One 32-bit value per lane.
pub(crate) type Lanes32 = [u32; 32];

/// What a launch shares between all its blocks.
pub(crate) struct Bus<'a> {
    pub memory: &'a mut Memory,
    pub program: &'a Program,
    pub checks: Checks,
    pub findings: Findings,
    pub recorder: Recorder,
    /// The kernel's parameter buffer.
    pub params: Vec<u8>,
    device: Device,
    shared_arrays: Arrays,
    local_arrays: Arrays,
    parameters: Arrays,
}

/// What one block has for itself: shared memory, the local memory of its threads, their copies in flight.
pub(crate) struct BlockMemory {
    shared: Shared,
    local: Local,
    copies: Copies,
}

impl BlockMemory {
    /// Memory of a block with `threads` threads and `shared` bytes (static and dynamic) of shared memory, poisoned.
    pub fn new(program: &Program, checks: Checks, block: u64, threads: u32, shared: u32) -> BlockMemory {
        let warps = threads.div_ceil(32);
        BlockMemory {
            shared: Shared::new(checks, shared, warps),
            local: Local::new(program.local_bytes, warps),
            copies: Copies::new(block, warps),
        }
    }
}

impl<'a> Bus<'a> {
    /// `allowed`: for each buffer passed as slices only, its id and the byte ranges that may be touched.
    pub fn new(
        memory: &'a mut Memory,
        program: &'a Program,
        checks: Checks,
        findings: Findings,
        recorder: Recorder,
        params: Vec<u8>,
        allowed: Vec<(u32, Vec<Range<u64>>)>,
    ) -> Bus<'a> {
        let parts =
            |symbols: &'a [(String, u32, u32)]| symbols.iter().map(|(name, offset, size)| (name, *offset, *size));
        Bus {
            device: Device::new(memory, program, checks, findings.shape().blocks(), allowed),
            shared_arrays: Arrays::new(parts(&program.shared_symbols)),
            local_arrays: Arrays::new(parts(&program.local_symbols)),
            parameters: Arrays::new(program.parameters.iter().map(|p| (&p.name, p.offset, p.size))),
            memory,
            program,
            checks,
            findings,
            recorder,
            params,
        }
    }

    /// `ld`: `out[i]` receives element i of every lane in `mask`, sign- or zero-extended to 64 bits; other lanes keep theirs.
    /// `address` is per lane, offset added, in `access.space` (32-bit spaces: low 32 bits; a register of either width).
    pub fn load(
        &mut self,
        block: &mut BlockMemory,
        at: At,
        access: Access,
        mask: u32,
        address: &Lanes64,
        out: &mut [Lanes64],
    ) {
        let request = Request { at, verb: Verb::Read, space: access.space, size: access.bytes(), order: access.order };
        let element = Element::of(access.ty);
        let mut done = 0;
        route::each(access.space, mask, address, |space, mask, address| {
            done |= match space {
                Space::Shared => self.load_shared(block, request, element, mask, address, out),
                Space::Local => self.load_local(block, request, element, mask, address, out),
                Space::Param => self.load_param(request, element, mask, address, out),
                _ => self.load_device(request, element, access.read_only, mask, address, out),
            };
        });
        if done != mask {
            lanes::gather_poison(element, mask & !done, out);
        }
    }

    /// `st`: `values[i]` is element i of every lane.
    pub fn store(
        &mut self,
        block: &mut BlockMemory,
        at: At,
        access: Access,
        mask: u32,
        address: &Lanes64,
        values: &[Lanes64],
    ) {
        let request = Request { at, verb: Verb::Write, space: access.space, size: access.bytes(), order: access.order };
        let element = Element::of(access.ty);
        route::each(access.space, mask, address, |space, mask, address| match space {
            Space::Shared => self.store_shared(block, request, element, mask, address, values),
            Space::Local => self.store_local(block, request, element, mask, address, values),
            Space::Param => self.refuse_param(request, mask, address),
            _ => self.store_device(request, element, mask, address, values),
        });
    }

    /// `fence`, `membar` by the lanes in `mask`.
    pub fn fence(&mut self, block: &mut BlockMemory, at: At, mask: u32, order: Order) {
        let scope = match order {
            Order::Weak => Scope::Cta,
            Order::Volatile => Scope::Sys,
            Order::Relaxed(scope) | Order::Acquire(scope) | Order::Release(scope) | Order::AcquireRelease(scope) => {
                scope
            }
        };
        if mask != 0 && scope >= Scope::Gpu {
            self.device.fence(at.block);
        }
        // Any scope reaches the threads of the block.
        if let Some(races) = &mut block.shared.races {
            races.fence(at.warp, mask);
        }
    }

    /// `bar.warp.sync` completed by these lanes.
    pub fn warp_synchronised(&mut self, block: &mut BlockMemory, warp: u32, mask: u32) {
        if let Some(races) = &mut block.shared.races {
            races.warp_synchronised(warp, mask);
        }
    }

    /// Lanes of a warp arrive at a block barrier (`sync`, `red` or `arrive`).
    pub fn barrier_arrived(&mut self, block: &mut BlockMemory, barrier: u32, warp: u32, mask: u32) {
        if let Some(races) = &mut block.shared.races {
            races.barrier_arrived(barrier, warp, mask);
        }
    }

    /// The barrier completes: lanes that waited (not those that only arrived) go on, ordered after all arrivals.
    pub fn barrier_completed(&mut self, block: &mut BlockMemory, barrier: u32, waited: &[(u32, u32)]) {
        if let Some(races) = &mut block.shared.races {
            races.barrier_completed(barrier, waited);
        }
    }
}
