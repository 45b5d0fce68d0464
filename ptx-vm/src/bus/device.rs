//! Device memory: which allocation the lanes fall into, and what a launch must remember about it.

use super::lanes::{self, Element};
use super::races::GlobalRaces;
use super::report::{Request, Verb, global_race, outside, report};
use super::{Bus, Lanes64, shadow};
use crate::check::{Checks, FindingKind};
use crate::isa::{Op, Order, Space};
use crate::memory::Memory;
use crate::program::Program;
use std::ops::Range;

/// What one launch knows about device memory.
pub(super) struct Device {
    /// Index of the allocation used last: nearly always the next one, too.
    last: usize,
    /// One per allocation.
    pub regions: Vec<Region>,
    races: Option<GlobalRaces>,
    /// Some instruction promises that its bytes are not written during the launch.
    read_only: bool,
}

/// What one launch knows about one allocation. The bit maps are empty until they are first needed.
#[derive(Default)]
pub(super) struct Region {
    /// Byte ranges that may be touched, apart and in order; `None`: all.
    allowed: Option<Vec<Range<u64>>>,
    /// Bytes read by `ld.global.nc`.
    read_only: Vec<u64>,
    /// Bytes written since the launch began.
    written: Vec<u64>,
    /// For each byte, how many `cp.async` in flight will read it.
    pub sources: Vec<u16>,
    /// `cp.async` in flight with their source here.
    pub copies: u64,
}

impl Device {
    pub fn new(
        memory: &Memory,
        program: &Program,
        checks: Checks,
        blocks: u64,
        allowed: Vec<(u32, Vec<Range<u64>>)>,
    ) -> Device {
        let mut regions: Vec<Region> = memory.allocations.iter().map(|_| Region::default()).collect();
        for (id, ranges) in allowed {
            if let Ok(index) = memory.allocations.binary_search_by_key(&id, |a| a.id) {
                regions[index].allowed.get_or_insert_default().extend(ranges);
            }
        }
        for ranges in regions.iter_mut().filter_map(|region| region.allowed.as_mut()) {
            merge(ranges);
        }
        let promises = |op: &Op| matches!(op, Op::Load(access) if access.read_only);
        Device {
            last: 0,
            regions,
            races: checks.global_races.then(|| GlobalRaces::new(blocks)),
            read_only: checks != Checks::NONE && program.code.iter().any(|inst| promises(&inst.op)),
        }
    }

    /// A fence of device scope.
    pub fn fence(&mut self, block: u64) {
        if let Some(races) = &mut self.races {
            races.fence(block);
        }
    }
}

/// Makes a vector of zeros of one that is still empty. Fresh zeros cost nothing until they are touched.
pub(super) fn zeroed<T: Clone + Default>(vector: &mut Vec<T>, len: usize) {
    if vector.is_empty() {
        *vector = vec![T::default(); len];
    }
}

/// Sorts ranges and joins those that touch or overlap.
fn merge(ranges: &mut Vec<Range<u64>>) {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_by_key(|range| range.start);
    ranges.dedup_by(|next, kept| {
        let joined = next.start <= kept.end;
        if joined {
            kept.end = kept.end.max(next.end);
        }
        joined
    });
}

/// Lanes of one warp instruction in one allocation.
#[derive(Clone, Copy)]
pub(super) struct Group {
    /// Index of the allocation.
    pub index: usize,
    pub lanes: u32,
}

impl Bus<'_> {
    pub(super) fn load_device(
        &mut self,
        request: Request,
        element: Element,
        read_only: bool,
        mask: u32,
        address: &Lanes64,
        out: &mut [Lanes64],
    ) -> u32 {
        let mut rest = self.aligned(request, mask, address);
        let (mut offset, mut done) = ([0; 32], 0);
        while let Some(group) = self.next_group(request, &mut rest, address, &mut offset) {
            lanes::gather(&self.memory.allocations[group.index].bytes, element, group.lanes, &offset, out);
            self.device_read(request, group, &offset);
            if read_only {
                self.promise(request, group, &offset);
            }
            self.count_device(request, group, &offset);
            done |= group.lanes;
        }
        done
    }

    pub(super) fn store_device(
        &mut self,
        request: Request,
        element: Element,
        mask: u32,
        address: &Lanes64,
        values: &[Lanes64],
    ) {
        let mut rest = self.aligned(request, mask, address);
        let mut offset = [0; 32];
        while let Some(group) = self.next_group(request, &mut rest, address, &mut offset) {
            lanes::scatter(&mut self.memory.allocations[group.index].bytes, element, group.lanes, &offset, values);
            self.device_written(request, group, &offset);
            self.device_race(request, group, &offset);
            self.count_device(request, group, &offset);
        }
    }

    /// The next lanes of `rest` that fall into one allocation and may touch it; fills in their offsets there. Lanes that may
    /// not are reported.
    pub(super) fn next_group(
        &mut self,
        request: Request,
        rest: &mut u32,
        address: &Lanes64,
        offset: &mut Lanes64,
    ) -> Option<Group> {
        while *rest != 0 {
            let mut index = self.device.last;
            let mut lanes = self.locate(index, *rest, address, request.size, offset);
            if lanes == 0 {
                let lane = rest.trailing_zeros();
                index = self.memory.at_or_below(address[lane as usize]).unwrap_or(0);
                lanes = self.locate(index, 1 << lane, address, request.size, offset);
                if lanes == 0 {
                    *rest &= !(1 << lane);
                    let kind = FindingKind::GlobalOutOfBounds;
                    report(&mut self.findings, self.program, kind, request.at, 1 << lane, |lane| {
                        let (address, size) = (address[lane], request.size);
                        format!("{request} at {address:#x}: {}", outside(self.memory, address, size))
                    });
                    continue;
                }
                self.device.last = index;
                lanes = self.locate(index, *rest, address, request.size, offset);
            }
            *rest &= !lanes;
            let lanes = self.permitted(request, Group { index, lanes }, offset);
            if lanes != 0 {
                return Some(Group { index, lanes });
            }
        }
        None
    }

    /// Lanes that lie in an allocation, with the offsets of all.
    fn locate(&self, index: usize, mask: u32, address: &Lanes64, size: u32, offset: &mut Lanes64) -> u32 {
        let Some(allocation) = self.memory.allocations.get(index) else { return 0 };
        // An address below the base wraps to an offset beyond any length.
        *offset = address.map(|address| address.wrapping_sub(allocation.base));
        lanes::inside(mask, offset, size, allocation.bytes.len() as u64)
    }

    /// Lanes that may do this to the allocation they are in: outside the slices passed, or against its constancy, they may
    /// not.
    fn permitted(&mut self, request: Request, group: Group, offset: &Lanes64) -> u32 {
        let Group { index, lanes } = group;
        let allocation = &self.memory.allocations[index];
        let (name, len) = (&allocation.name, allocation.bytes.len());
        let place = |lane: usize| format!("{request} at byte {} of `{name}` ({len} bytes)", offset[lane]);
        if allocation.constant && request.verb.writes() {
            report(&mut self.findings, self.program, FindingKind::ReadOnly, request.at, lanes, |lane| {
                format!("{}, which is constant", place(lane))
            });
            return 0;
        }
        if request.space == Space::Const && !allocation.constant {
            let kind = FindingKind::GlobalOutOfBounds;
            report(&mut self.findings, self.program, kind, request.at, lanes, |lane| {
                format!("{}, which is no constant memory", place(lane))
            });
            return 0;
        }
        let Some(allowed) = &self.device.regions[index].allowed else { return lanes };
        let within = lanes::select(lanes, |lane| {
            let end = offset[lane] + u64::from(request.size);
            let below = allowed.partition_point(|range| range.start <= offset[lane]);
            below > 0 && end <= allowed[below - 1].end
        });
        if within != lanes {
            let kind = FindingKind::GlobalOutOfBounds;
            report(&mut self.findings, self.program, kind, request.at, lanes & !within, |lane| {
                format!("{}, of which the kernel was given bytes {allowed:?} only", place(lane))
            });
        }
        within
    }

    /// Checks of a read that is in bounds.
    pub(super) fn device_read(&mut self, request: Request, group: Group, offset: &Lanes64) {
        let allocation = &self.memory.allocations[group.index];
        if self.checks.uninitialised && !allocation.written.is_empty() {
            let missing = shadow::clear(&allocation.written, group.lanes, offset, request.size);
            if missing != 0 {
                let (name, len) = (&allocation.name, allocation.bytes.len());
                let kind = FindingKind::Uninitialised;
                report(&mut self.findings, self.program, kind, request.at, missing, |lane| {
                    format!("{request} at byte {} of `{name}` ({len} bytes), which nothing wrote", offset[lane])
                });
            }
        }
        if request.verb != Verb::Atomic {
            self.device_race(request, group, offset);
        }
    }

    /// State and checks of a write that is in bounds.
    pub(super) fn device_written(&mut self, request: Request, group: Group, offset: &Lanes64) {
        let Group { index, lanes } = group;
        let allocation = &mut self.memory.allocations[index];
        if !allocation.written.is_empty() {
            shadow::set(&mut allocation.written, lanes, offset, request.size);
        }
        let (name, len) = (&allocation.name, allocation.bytes.len());
        let place = |lane: usize| format!("{request} at byte {} of `{name}` ({len} bytes)", offset[lane]);
        let region = &mut self.device.regions[index];
        if self.device.read_only {
            zeroed(&mut region.written, len.div_ceil(64));
            shadow::set(&mut region.written, lanes, offset, request.size);
            let broken = shadow::touched(&region.read_only, lanes, offset, request.size);
            if broken != 0 {
                report(&mut self.findings, self.program, FindingKind::ReadOnly, request.at, broken, |lane| {
                    format!("{}, which ld.global.nc read in this launch", place(lane))
                });
            }
        }
        if region.copies > 0 {
            let size = request.size as usize;
            let source = |lane: usize| {
                let bytes = region.sources.get(offset[lane] as usize..);
                bytes.is_some_and(|bytes| bytes.iter().take(size).any(|&copies| copies != 0))
            };
            let hit = lanes::select(lanes, source);
            if hit != 0 {
                report(&mut self.findings, self.program, FindingKind::InFlight, request.at, hit, |lane| {
                    format!("{}, the source of a cp.async in flight", place(lane))
                });
            }
        }
    }

    /// `ld.global.nc`: its bytes must not be written, before or after.
    fn promise(&mut self, request: Request, group: Group, offset: &Lanes64) {
        if !self.device.read_only {
            return;
        }
        let allocation = &self.memory.allocations[group.index];
        let (name, len) = (&allocation.name, allocation.bytes.len());
        let region = &mut self.device.regions[group.index];
        zeroed(&mut region.read_only, len.div_ceil(64));
        shadow::set(&mut region.read_only, group.lanes, offset, request.size);
        let broken = shadow::touched(&region.written, group.lanes, offset, request.size);
        if broken != 0 {
            report(&mut self.findings, self.program, FindingKind::ReadOnly, request.at, broken, |lane| {
                let offset = offset[lane];
                format!("ld.global.nc at byte {offset} of `{name}` ({len} bytes), which this launch wrote")
            });
        }
    }

    /// Tells the race detector. Weak atomics do not exist: those are synchronising accesses like any other.
    pub(super) fn device_race(&mut self, request: Request, group: Group, offset: &Lanes64) {
        let Some(races) = &mut self.device.races else { return };
        let Request { at, size, verb, order, .. } = request;
        let allocation = &self.memory.allocations[group.index];
        let (id, name, len) = (allocation.id, allocation.name.as_str(), allocation.bytes.len());
        let (reads, writes) = (!matches!(verb, Verb::Write), verb.writes());
        let shape = self.findings.shape();
        lanes::each(group.lanes, |lane| {
            let place = offset[lane];
            let conflict = match (order, writes) {
                (Order::Weak, false) => races.read(at.block, at.pc, id, len, place, size),
                (Order::Weak, true) => races.write(at.block, at.pc, id, len, place, size),
                _ => races.synchronise(at.block, at.pc, id, len, place, size, reads, writes, order),
            };
            if let Some(conflict) = conflict {
                self.findings.report(self.program, FindingKind::GlobalRace, at, lane as u32, || {
                    global_race(request, place, conflict, (name, len), self.program, shape)
                });
            }
        });
    }

    pub(super) fn count_device(&mut self, request: Request, group: Group, offset: &Lanes64) {
        let Request { at, size, verb, .. } = request;
        let allocation = &self.memory.allocations[group.index];
        let (reads, writes) = (verb != Verb::Write, verb.writes());
        self.recorder.global(at.pc, allocation.id, reads, writes, group.lanes, offset, size);
    }
}
