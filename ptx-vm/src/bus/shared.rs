//! Shared memory of one block.

use super::lanes::{self, Element};
use super::races::{Conflict, SharedRaces, Strong};
use super::report::{Request, Verb, report, shared_race};
use super::shadow::{self, Written};
use super::{BlockMemory, Bus, Lanes64};
use crate::check::{Checks, FindingKind};
use crate::isa::Order;
use crate::memory::poison;
use std::cell::RefCell;

/// Shared memory and its shadow state.
#[derive(Default)]
pub(super) struct Shared {
    pub bytes: Vec<u8>,
    pub written: Written,
    /// Bytes that a `cp.async` in flight will write.
    pub targets: Vec<u64>,
    pub races: Option<SharedRaces>,
}

/// What a thread keeps of blocks that have ended: as many as are alive at a time in most launches.
const KEPT: usize = 4;

thread_local! {
    /// Megabytes that every block takes: to return them to the system and to take them anew costs more than to run the block.
    static ENDED: RefCell<Vec<Shared>> = const { RefCell::new(Vec::new()) };
}

impl Shared {
    /// New, but for where it lies: poisoned, nothing written, no access seen.
    pub fn new(checks: Checks, len: u32, warps: u32) -> Shared {
        let Shared { mut bytes, mut written, mut targets, races } =
            ENDED.with(|ended| ended.borrow_mut().pop()).unwrap_or_default();
        bytes.resize(len as usize, 0);
        poison(&mut bytes);
        written.renew(bytes.len());
        targets.clear();
        targets.resize(bytes.len().div_ceil(64), 0);
        let races = checks.shared_races.then(|| match races {
            Some(mut races) => {
                races.renew(len, warps);
                races
            }
            None => SharedRaces::new(len, warps),
        });
        Shared { bytes, written, targets, races }
    }
}

impl Drop for BlockMemory {
    fn drop(&mut self) {
        let shared = std::mem::take(&mut self.shared);
        // While a thread ends there is nowhere to put it.
        let _ = ENDED.try_with(|ended| {
            let mut ended = ended.borrow_mut();
            if ended.len() < KEPT {
                ended.push(shared);
            }
        });
    }
}

/// Addresses of a 32-bit space: what registers hold beyond that does not count.
pub(super) fn low(address: &Lanes64) -> Lanes64 {
    address.map(|address| address & 0xffff_ffff)
}

impl Bus<'_> {
    pub(super) fn load_shared(
        &mut self,
        block: &mut BlockMemory,
        request: Request,
        element: Element,
        mask: u32,
        address: &Lanes64,
        out: &mut [Lanes64],
    ) -> u32 {
        let offset = low(address);
        let lanes = self.shared_bounds(block, request, mask, &offset);
        lanes::gather(&block.shared.bytes, element, lanes, &offset, out);
        let clean = self.shared_read(block, request, lanes, &offset);
        self.shared_race(block, request, clean, &offset, |_, _| true);
        self.recorder.shared(request.at.pc, lanes, &offset, request.size);
        lanes
    }

    pub(super) fn store_shared(
        &mut self,
        block: &mut BlockMemory,
        request: Request,
        element: Element,
        mask: u32,
        address: &Lanes64,
        values: &[Lanes64],
    ) {
        let offset = low(address);
        let lanes = self.shared_bounds(block, request, mask, &offset);
        let clean = self.shared_settled(block, request, lanes, &offset);
        lanes::scatter(&mut block.shared.bytes, element, lanes, &offset, values);
        block.shared.written.record(lanes, &offset, request.size);
        let same = |i, j| lanes::same_bits(element, values, i, j);
        self.shared_race(block, request, clean, &offset, same);
        self.recorder.shared(request.at.pc, lanes, &offset, request.size);
    }

    /// Lanes whose access is aligned, in the block's shared memory and within one array.
    pub(super) fn shared_bounds(&mut self, block: &BlockMemory, request: Request, mask: u32, offset: &Lanes64) -> u32 {
        let aligned = self.aligned(request, mask, offset);
        let len = block.shared.bytes.len();
        let inside = lanes::inside(aligned, offset, request.size, len as u64);
        let crossing = self.shared_arrays.crossing(inside, offset, request.size);
        let wrong = aligned & !inside | crossing;
        if wrong != 0 {
            report(&mut self.findings, self.program, FindingKind::SharedOutOfBounds, request.at, wrong, |lane| {
                let place = self.shared_arrays.describe(offset[lane]);
                format!("{request} at shared {:#x}, {place}; the block has {len} bytes", offset[lane])
            });
        }
        inside & !crossing
    }

    /// Checks of a read that is in bounds, but for races. Returns the lanes without a finding: one is enough.
    pub(super) fn shared_read(&mut self, block: &BlockMemory, request: Request, mask: u32, offset: &Lanes64) -> u32 {
        let settled = self.shared_settled(block, request, mask, offset);
        if !self.checks.uninitialised {
            return settled;
        }
        let missing = block.shared.written.missing(settled, offset, request.size);
        if missing != 0 {
            report(&mut self.findings, self.program, FindingKind::Uninitialised, request.at, missing, |lane| {
                let place = self.shared_arrays.describe(offset[lane]);
                format!("{request} at shared {:#x}, {place}, which nothing wrote", offset[lane])
            });
        }
        settled & !missing
    }

    /// Lanes that touch nothing a `cp.async` in flight will write; reports the others.
    pub(super) fn shared_settled(&mut self, block: &BlockMemory, request: Request, mask: u32, offset: &Lanes64) -> u32 {
        if !self.checks.in_flight || block.copies.is_empty() {
            return mask;
        }
        let hit = shadow::touched(&block.shared.targets, mask, offset, request.size);
        if hit != 0 {
            let shape = self.findings.shape();
            report(&mut self.findings, self.program, FindingKind::InFlight, request.at, hit, |lane| {
                let place = self.shared_arrays.describe(offset[lane]);
                let copy = block.copies.describe(offset[lane], request.size, self.program, shape);
                format!("{request} at shared {:#x}, {place}, {copy}", offset[lane])
            });
        }
        mask & !hit
    }

    /// Tells the race detector. `same(i, j)`: lanes i and j write equal bits.
    pub(super) fn shared_race(
        &mut self,
        block: &mut BlockMemory,
        request: Request,
        mask: u32,
        offset: &Lanes64,
        same: impl Fn(u32, u32) -> bool,
    ) {
        if request.order != Order::Weak {
            return self.shared_strong(block, request, mask, mask, offset);
        }
        let Request { at, size, .. } = request;
        self.shared_told(block, request, offset, |races, conflict| match request.verb {
            Verb::Read => races.read(at.warp, at.pc, mask, offset, size, conflict),
            _ => races.write(at.warp, at.pc, mask, offset, size, same, conflict),
        });
    }

    /// The same for strong accesses; `wrote`: lanes of an atomic that did not just look.
    pub(super) fn shared_strong(
        &mut self,
        block: &mut BlockMemory,
        request: Request,
        mask: u32,
        wrote: u32,
        offset: &Lanes64,
    ) {
        let Request { at, size, verb, order, .. } = request;
        let reads = matches!(verb, Verb::Read | Verb::Atomic);
        let strong = Strong { order, reads, wrote: if verb == Verb::Read { 0 } else { wrote } };
        self.shared_told(block, request, offset, |races, conflict| {
            races.synchronise(at.warp, at.pc, mask, offset, size, strong, conflict);
        });
    }

    #[inline(always)]
    fn shared_told(
        &mut self,
        block: &mut BlockMemory,
        request: Request,
        offset: &Lanes64,
        tell: impl FnOnce(&mut SharedRaces, &mut dyn FnMut(u32, Conflict)),
    ) {
        let Some(races) = &mut block.shared.races else { return };
        let at = request.at;
        let shape = self.findings.shape();
        let mut conflict = |lane: u32, conflict| {
            self.findings.report(self.program, FindingKind::SharedRace, at, lane, || {
                let place = offset.get(lane as usize).copied().unwrap_or_default();
                shared_race(request, place, conflict, &self.shared_arrays, self.program, shape)
            });
        };
        tell(races, &mut conflict);
    }
}
