//! Races in one block's shared memory.

use super::cell::{Cell, Prior};
use super::edges::{Edges, Strong};
use super::order::{Order, View};
use super::shadow::Shadow;
use super::{Conflict, lanes};

/// Races in one block's shared memory.
#[derive(Debug)]
pub(crate) struct SharedRaces {
    order: Order,
    edges: Edges,
    shadow: Shadow<Cell>,
}

impl SharedRaces {
    pub fn new(bytes: u32, warps: u32) -> SharedRaces {
        SharedRaces { order: Order::new(warps), edges: Edges::default(), shadow: Shadow::new(bytes.into()) }
    }

    /// Makes it new in the memory that it has.
    pub fn renew(&mut self, bytes: u32, warps: u32) {
        (self.order, self.edges) = (Order::new(warps), Edges::default());
        self.shadow.renew(bytes.into());
    }

    /// Reads of one warp instruction: for every lane in `mask`, `size` bytes at `offset[lane]`. Bounds are checked already.
    /// Calls `conflict` for each lane that races.
    pub fn read(
        &mut self,
        warp: u32,
        pc: u32,
        mask: u32,
        offset: &[u64; 32],
        size: u32,
        conflict: impl FnMut(u32, Conflict),
    ) {
        let SharedRaces { order, shadow, .. } = self;
        order.touch(warp, mask);
        let mut others = 0;
        for view in order.views(warp, pc, mask) {
            let mut rest = view.lanes;
            while rest != 0 {
                let together = first_together(rest, offset);
                rest &= !together;
                let place = offset[together.trailing_zeros() as usize];
                if !shadow.cell(place, size).is_some_and(|cell| cell.read_together(&view, together)) {
                    others |= together;
                }
            }
        }
        if others != 0 {
            self.access(warp, pc, others, offset, size, |cell, view, lane, _| cell.read(view, lane), conflict);
        }
    }

    /// Writes of one warp instruction. Two lanes of the same instruction writing different values to one byte also race;
    /// `same(i, j)` tells whether lanes i and j write equal bits.
    #[allow(clippy::too_many_arguments)]
    pub fn write(
        &mut self,
        warp: u32,
        pc: u32,
        mask: u32,
        offset: &[u64; 32],
        size: u32,
        same: impl Fn(u32, u32) -> bool,
        mut conflict: impl FnMut(u32, Conflict),
    ) {
        let mut reported = 0;
        let mut once = |lane: u32, found| {
            if reported >> lane & 1 == 0 {
                reported |= 1 << lane;
                conflict(lane, found);
            }
        };
        if !apart(mask, offset, size) {
            // A lane's write hides what came before from the other lanes that write there, too: let all look first.
            self.access(warp, pc, mask, offset, size, |cell, view, lane, _| cell.before_write(view, lane), &mut once);
        }
        let write = |cell: &mut Cell, view: &View<'_>, lane: u32, done: u32| {
            cell.write(view, lane, || {
                let twin = |&other: &u32| offset[other as usize] == offset[lane as usize] && same(other, lane);
                lanes(done).filter(twin).fold(0, |twins, other| twins | 1 << other)
            })
        };
        self.access(warp, pc, mask, offset, size, write, once);
    }

    /// Strong accesses (atomic, volatile, relaxed, acquire, release): they race with plain ones, not with each other, and what
    /// is released at their words passes from writers to readers.
    #[allow(clippy::too_many_arguments)]
    pub fn synchronise(
        &mut self,
        warp: u32,
        pc: u32,
        mask: u32,
        offset: &[u64; 32],
        size: u32,
        strong: Strong,
        conflict: impl FnMut(u32, Conflict),
    ) {
        let visit = |cell: &mut Cell, view: &View<'_>, lane: u32, _| cell.strong(view, lane, strong.writes(lane));
        self.access(warp, pc, mask, offset, size, visit, conflict);
        self.edges.exchange(&mut self.order, warp, mask, offset, size, strong);
    }

    /// `fence` or `membar` of any scope by these lanes.
    pub fn fence(&mut self, warp: u32, mask: u32) {
        self.edges.fence(&mut self.order, warp, mask);
    }

    /// `visit` also gets the lanes of this instruction that have been visited before.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    fn access(
        &mut self,
        warp: u32,
        pc: u32,
        mask: u32,
        offset: &[u64; 32],
        size: u32,
        mut visit: impl FnMut(&mut Cell, &View<'_>, u32, u32) -> Option<Prior>,
        mut conflict: impl FnMut(u32, Conflict),
    ) {
        let SharedRaces { order, shadow, .. } = self;
        if order.exhausted() {
            return;
        }
        order.touch(warp, mask);
        let mut done = 0;
        for view in order.views(warp, pc, mask) {
            for lane in lanes(view.lanes) {
                let mut found = None;
                shadow.touch(offset[lane as usize], size, |cell, at| {
                    if let Some(Prior { thread, pc, write }) = visit(cell, &view, lane, done) {
                        found.get_or_insert(Conflict { thread, pc, write, offset: at as u32 });
                    }
                });
                done |= 1 << lane;
                if let Some(found) = found {
                    conflict(lane, found);
                }
            }
        }
    }

    /// `bar.warp.sync` by these lanes.
    pub fn warp_synchronised(&mut self, warp: u32, mask: u32) {
        self.order.warp_synchronised(warp, mask);
    }

    /// Lanes arrive at a block barrier.
    pub fn barrier_arrived(&mut self, barrier: u32, warp: u32, mask: u32) {
        self.order.barrier_arrived(barrier, warp, mask);
    }

    /// The barrier completes for the lanes that waited.
    pub fn barrier_completed(&mut self, barrier: u32, waited: &[(u32, u32)]) {
        self.order.barrier_completed(barrier, waited);
    }
}

/// True if no two lanes touch the same byte, found out the quick way: each begins after the one before ends.
fn apart(mask: u32, offset: &[u64; 32], size: u32) -> bool {
    let mut end = 0;
    lanes(mask).all(|lane| {
        let start = offset[lane as usize];
        let apart = start >= end;
        end = start.saturating_add(size.into());
        apart
    })
}

/// The first of these lanes and those right after it that access the same place.
#[inline(always)]
fn first_together(mask: u32, offset: &[u64; 32]) -> u32 {
    let place = offset[mask.trailing_zeros() as usize % 32];
    let mut together = 0;
    for lane in lanes(mask) {
        if offset[lane as usize] != place {
            break;
        }
        together |= 1 << lane;
    }
    together
}
