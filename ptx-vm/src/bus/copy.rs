//! `cp.async`: copies that complete when their thread waits for them, the latest moment that the manual allows.

use super::lanes::{each, select};
use super::report::{Request, Verb};
use super::shared::{Shared, low};
use super::{BlockMemory, Bus, Lanes64, device, shadow};
use crate::check::{At, Shape, place};
use crate::isa::{Order, Space};
use crate::memory::POISON;
use crate::program::Program;

/// Copies in flight of one block.
pub(super) struct Copies {
    block: u64,
    warps: Vec<WarpCopies>,
    /// Instructions in flight, all warps together.
    pending: usize,
}

/// Copies in flight of one warp.
struct WarpCopies {
    /// In the order of issue.
    queue: Vec<Copy>,
    /// Groups that each lane has committed.
    commits: Lanes64,
}

/// One `cp.async` of a warp.
struct Copy {
    at: At,
    /// Written per lane: 4, 8 or 16.
    bytes: u32,
    /// Lanes whose copy has not completed.
    pending: u32,
    /// Lanes that committed it, and to which of their groups.
    committed: u32,
    group: Lanes64,
    to: Lanes64,
    from: [Source; 32],
}

/// Where a lane's data come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The source was out of bounds: poison.
    Nowhere,
    /// So many bytes of an allocation, by index; zeros beyond.
    Bytes { allocation: usize, offset: u64, bytes: u32 },
    /// Zeros.
    Zero,
}

impl Copies {
    /// Instructions that a warp may have in flight. Beyond that, the oldest completes early, as it may on a GPU.
    const LIMIT: usize = 1024;

    pub fn new(block: u64, warps: u32) -> Copies {
        let warps = (0..warps).map(|_| WarpCopies { queue: Vec::new(), commits: [0; 32] }).collect();
        Copies { block, warps, pending: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.pending == 0
    }

    /// The copy that will write some of these bytes, in words.
    pub fn describe(&self, offset: u64, size: u32, program: &Program, shape: Shape) -> String {
        let end = offset + u64::from(size);
        for (warp, copies) in self.warps.iter().enumerate() {
            for copy in &copies.queue {
                let overlaps = |lane: usize| copy.to[lane] < end && offset < copy.to[lane] + u64::from(copy.bytes);
                let lanes = select(copy.pending, overlaps);
                if lanes != 0 {
                    let thread = shape.thread(warp as u32, lanes.trailing_zeros());
                    return format!(
                        "the target of the cp.async at {} by thread {thread:?}, in flight",
                        place(program, copy.at.pc)
                    );
                }
            }
        }
        "the target of a cp.async in flight".to_owned()
    }
}

impl WarpCopies {
    fn commit(&mut self, mask: u32) {
        for copy in &mut self.queue {
            let lanes = mask & copy.pending & !copy.committed;
            each(lanes, |lane| copy.group[lane] = self.commits[lane]);
            copy.committed |= lanes;
        }
        each(mask, |lane| self.commits[lane] += 1);
    }

    /// Takes what `due` says is due, in the order of issue: each copy and its lanes. `due` is given the copy's place in the
    /// queue and the lanes' commits.
    fn take(&mut self, due: impl Fn(usize, &Copy, &Lanes64) -> u32, mut complete: impl FnMut(&Copy, u32)) {
        let (commits, mut age) = (self.commits, 0);
        self.queue.retain_mut(|copy| {
            let lanes = copy.pending & due(age, copy, &commits);
            age += 1;
            if lanes != 0 {
                complete(copy, lanes);
                copy.pending &= !lanes;
            }
            copy.pending != 0
        });
    }
}

impl Bus<'_> {
    /// `cp.async`: `bytes` (4, 8, 16) from device memory, of which `source_bytes` are read and the rest zero-filled.
    /// The data move when the thread waits: the latest legal moment.
    #[allow(clippy::too_many_arguments)] // the operands of the instruction
    pub fn copy_async(
        &mut self,
        block: &mut BlockMemory,
        at: At,
        bytes: u32,
        mask: u32,
        to: &Lanes64,
        from: &Lanes64,
        source_bytes: &Lanes64,
    ) {
        let request = Request { at, verb: Verb::CopyTo, space: Space::Shared, size: bytes, order: Order::Weak };
        let to = low(to);
        let lanes = self.shared_bounds(block, request, mask, &to);
        let from = self.sources(request, lanes, from, source_bytes);
        let clean = self.shared_settled(block, request, lanes, &to);
        // The data may arrive as early as now: whoever still reads the target races with this.
        self.shared_race(block, request, clean, &to, |i, j| from[i as usize] == from[j as usize]);
        self.recorder.shared(at.pc, lanes, &to, bytes);
        if lanes == 0 {
            return;
        }
        shadow::set(&mut block.shared.targets, lanes, &to, bytes);
        let Some(warp) = block.copies.warps.get_mut(at.warp as usize) else { return };
        warp.queue.push(Copy { at, bytes, pending: lanes, committed: 0, group: [0; 32], to, from });
        block.copies.pending += 1;
        if warp.queue.len() > Copies::LIMIT {
            self.complete(block, at.warp, u32::MAX, |age, _, _| if age == 0 { u32::MAX } else { 0 });
        }
    }

    /// `cp.async.commit_group` of the lanes in `mask`.
    pub fn commit(&mut self, block: &mut BlockMemory, at: At, mask: u32) {
        if let Some(warp) = block.copies.warps.get_mut(at.warp as usize) {
            warp.commit(mask);
        }
    }

    /// `cp.async.wait_group pending`; `None` is `wait_all`, which also waits for copies not committed.
    pub fn wait(&mut self, block: &mut BlockMemory, at: At, mask: u32, pending: Option<u32>) {
        match pending {
            None => self.complete(block, at.warp, mask, |_, _, _| u32::MAX),
            Some(pending) => self.complete(block, at.warp, mask, |_, copy, commits| {
                select(copy.committed, |lane| copy.group[lane].saturating_add(u64::from(pending)) < commits[lane])
            }),
        }
    }

    /// Lanes exit: their copies in flight complete.
    pub fn exited(&mut self, block: &mut BlockMemory, at: At, mask: u32) {
        self.complete(block, at.warp, mask, |_, _, _| u32::MAX);
    }

    /// Looks the sources up, lanes that read the same number of bytes together, and notes that they will be read.
    fn sources(&mut self, request: Request, mask: u32, from: &Lanes64, source_bytes: &Lanes64) -> [Source; 32] {
        let wanted = |lane: usize| (source_bytes[lane] & 0xffff_ffff).min(u64::from(request.size));
        let mut sources = [Source::Nowhere; 32];
        let mut rest = mask;
        while rest != 0 {
            let size = wanted(rest.trailing_zeros() as usize) as u32;
            let lanes = select(rest, |lane| wanted(lane) == u64::from(size));
            rest &= !lanes;
            if size == 0 {
                // Nothing is read, so the address need not be one.
                each(lanes, |lane| sources[lane] = Source::Zero);
                continue;
            }
            let request = Request { verb: Verb::CopyFrom, space: Space::Global, ..request };
            let mut aligned = self.aligned(request, lanes, from);
            let request = Request { size, ..request };
            let mut offset = [0; 32];
            while let Some(group) = self.next_group(request, &mut aligned, from, &mut offset) {
                self.count_device(request, group, &offset);
                each(group.lanes, |lane| {
                    sources[lane] = Source::Bytes { allocation: group.index, offset: offset[lane], bytes: size };
                });
                self.hold(group, &offset, size);
            }
        }
        sources
    }

    /// Notes that copies in flight will read these bytes.
    fn hold(&mut self, group: device::Group, offset: &Lanes64, size: u32) {
        if !self.checks.in_flight {
            return;
        }
        let region = &mut self.device.regions[group.index];
        device::zeroed(&mut region.sources, self.memory.allocations[group.index].bytes.len());
        region.copies += u64::from(group.lanes.count_ones());
        each(group.lanes, |lane| {
            let start = offset[lane] as usize;
            region.sources[start..start + size as usize].iter_mut().for_each(|n| *n = n.wrapping_add(1));
        });
    }

    /// Completes the lanes of `mask` of the copies of a warp that `due` selects.
    fn complete(&mut self, block: &mut BlockMemory, warp: u32, mask: u32, due: impl Fn(usize, &Copy, &Lanes64) -> u32) {
        if block.copies.is_empty() {
            return;
        }
        let Some(copies) = block.copies.warps.get_mut(warp as usize) else { return };
        // The block's copies are apart from its memory while they move.
        let mut copies = std::mem::replace(copies, WarpCopies { queue: Vec::new(), commits: [0; 32] });
        let before = copies.queue.len();
        copies.take(|age, copy, commits| mask & due(age, copy, commits), |copy, lanes| self.arrive(block, copy, lanes));
        block.copies.pending -= before - copies.queue.len();
        block.copies.warps[warp as usize] = copies;
    }

    /// The data of some lanes of a copy arrive in shared memory, as writes of those threads.
    fn arrive(&mut self, block: &mut BlockMemory, copy: &Copy, lanes: u32) {
        let Copy { at, bytes, to, .. } = copy;
        let at = At { block: block.copies.block, ..*at };
        let mut rest = lanes;
        while rest != 0 {
            let first = copy.from[rest.trailing_zeros() as usize];
            let alike = |lane: usize| match (first, copy.from[lane]) {
                (Source::Bytes { allocation, bytes, .. }, Source::Bytes { allocation: a, bytes: b, .. }) => {
                    (allocation, bytes) == (a, b)
                }
                (first, other) => first == other,
            };
            let same = select(rest, alike);
            rest &= !same;
            if let Source::Bytes { allocation, bytes, .. } = first {
                let request =
                    Request { at, verb: Verb::CopyFrom, space: Space::Global, size: bytes, order: Order::Weak };
                let group = device::Group { index: allocation, lanes: same };
                self.source_read(request, group, &offsets(copy));
            }
        }
        each(lanes, |lane| self.move_lane(&mut block.shared, copy, lane));
        shadow::unset(&mut block.shared.targets, lanes, to, *bytes);
        block.shared.written.record(lanes, to, *bytes);
        let request = Request { at, verb: Verb::CopyTo, space: Space::Shared, size: *bytes, order: Order::Weak };
        self.shared_race(block, request, lanes, to, |i, j| copy.from[i as usize] == copy.from[j as usize]);
    }

    /// Checks of the source, now that it is read; it may be written again from here on.
    fn source_read(&mut self, request: Request, group: device::Group, offset: &Lanes64) {
        self.device_read(request, group, offset);
        if self.checks.in_flight {
            let region = &mut self.device.regions[group.index];
            region.copies = region.copies.saturating_sub(u64::from(group.lanes.count_ones()));
            each(group.lanes, |lane| {
                let start = offset[lane] as usize;
                let held = region.sources.get_mut(start..start + request.size as usize);
                held.into_iter().flatten().for_each(|n| *n = n.wrapping_sub(1));
            });
        }
    }

    fn move_lane(&self, shared: &mut Shared, copy: &Copy, lane: usize) {
        let start = copy.to[lane] as usize;
        let Some(target) = shared.bytes.get_mut(start..start + copy.bytes as usize) else { return };
        match copy.from[lane] {
            Source::Nowhere => target.iter_mut().enumerate().for_each(|(i, byte)| *byte = POISON[i % 2]),
            Source::Zero => target.fill(0),
            Source::Bytes { allocation, offset, bytes } => {
                let source = &self.memory.allocations[allocation].bytes[offset as usize..];
                let (given, zeros) = target.split_at_mut(bytes as usize);
                given.copy_from_slice(&source[..given.len()]);
                zeros.fill(0);
            }
        }
    }
}

/// Offsets of a copy's sources in their allocations.
fn offsets(copy: &Copy) -> Lanes64 {
    copy.from.map(|source| match source {
        Source::Bytes { offset, .. } => offset,
        Source::Nowhere | Source::Zero => 0,
    })
}
