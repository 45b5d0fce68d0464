//! The history of a group of bytes of shared memory, as far as it matters for what comes next.

use super::order::View;
use super::{Thread, lanes};

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    /// Strong accesses (atomic, volatile, relaxed, acquire, release): they conflict with plain ones, never with each other.
    StrongRead,
    StrongWrite,
}

impl Kind {
    pub fn conflicts(self, other: Kind) -> bool {
        (self.writes() || other.writes()) && !(self.strong() && other.strong())
    }

    pub fn writes(self) -> bool {
        matches!(self, Kind::Write | Kind::StrongWrite)
    }

    fn strong(self) -> bool {
        matches!(self, Kind::StrongRead | Kind::StrongWrite)
    }
}

/// An earlier access that the present one races with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prior {
    pub thread: Thread,
    pub pc: u32,
    pub write: bool,
}

/// Accesses that can still race: the last write and everything after it that no later access of the same kind makes
/// superfluous (if the next access is ordered after the later one, it is ordered after the earlier one, too).
///
/// Reads since the last write are kept in place as long as all are of the same epoch and the same lanes read in every warp,
/// which is what kernels do between two barriers. Everything else is a list.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    /// Stamp of the last write, 0 if there is none.
    write_stamp: u32,
    write_pc: u32,
    /// Epoch of the reads, 0 if there are none.
    read_stamp: u32,
    read_pc: u32,
    /// Readers: each of these lanes of each of these warps …
    product_warps: u32,
    product_lanes: u32,
    /// … and these lanes of the warp that read last.
    latest_lanes: u32,
    latest_warp: u8,
    write_warp: u8,
    write_lane: u8,
    /// The exact history when the fields above cannot hold it; they are zero then.
    #[allow(clippy::box_collection)] // cells are many, lists are few
    list: Option<Box<Vec<Entry>>>,
}

/// Accesses of lanes of one warp in one epoch.
#[derive(Clone, Copy, Debug)]
struct Entry {
    kind: Kind,
    warp: u8,
    lanes: u32,
    stamp: u32,
    pc: u32,
}

impl Cell {
    /// Reads by several lanes, if it takes no more than a look at the floor to see that they race with nothing. Otherwise
    /// nothing happens, and the lanes have to read one by one.
    #[inline(always)]
    pub fn read_together(&mut self, view: &View<'_>, lanes: u32) -> bool {
        if self.list.is_some() || self.write_stamp > view.floor {
            return false;
        }
        if self.read_stamp == view.epoch {
            if u32::from(self.latest_warp) == view.warp {
                self.latest_lanes |= lanes;
                return true;
            }
            return self.another_warp_reads(view, lanes);
        }
        let forgotten = self.read_stamp <= view.floor;
        if forgotten {
            self.first_read(view, lanes);
        }
        forgotten
    }

    pub fn read(&mut self, view: &View<'_>, lane: u32) -> Option<Prior> {
        if self.list.is_some() {
            return self.listed(view, lane, Kind::Read, 0);
        }
        let prior = if self.write_stamp > view.floor { self.unseen_write(view, lane) } else { None };
        let kept = if self.read_stamp != view.epoch {
            let superfluous = self.unseen_read(view, lane).is_none();
            if superfluous {
                self.first_read(view, 1 << lane);
            }
            superfluous
        } else if u32::from(self.latest_warp) == view.warp {
            self.latest_lanes |= 1 << lane;
            true
        } else {
            self.another_warp_reads(view, 1 << lane)
        };
        if !kept {
            self.spill();
            self.note(view, lane, Kind::Read);
        }
        prior
    }

    #[inline(always)]
    fn first_read(&mut self, view: &View<'_>, lanes: u32) {
        self.read_stamp = view.epoch;
        self.read_pc = view.pc;
        self.product_warps = 0;
        self.product_lanes = 0;
        self.latest_warp = view.warp as u8;
        self.latest_lanes = lanes;
    }

    /// `twins`: lanes that have already written the same value to these bytes in this very instruction.
    #[inline(always)]
    pub fn write(&mut self, view: &View<'_>, lane: u32, twins: impl FnOnce() -> u32) -> Option<Prior> {
        if self.list.is_some() {
            return self.listed(view, lane, Kind::Write, twins());
        }
        let prior = self.before_write(view, lane);
        if let Some(Prior { thread, pc, write: true }) = prior
            && (thread.warp, pc) == (view.warp, view.pc)
        {
            let twins = twins();
            if twins >> thread.lane & 1 == 1 {
                return self.listed(view, lane, Kind::Write, twins);
            }
        }
        self.read_stamp = 0;
        self.written(view, lane);
        prior
    }

    /// What a write would race with.
    #[inline(always)]
    pub fn before_write(&self, view: &View<'_>, lane: u32) -> Option<Prior> {
        if self.list.is_some() {
            return self.racing(view, lane, Kind::Write, 0);
        }
        let write = if self.write_stamp > view.floor { self.unseen_write(view, lane) } else { None };
        let read = || if self.read_stamp > view.floor { self.unseen_read(view, lane) } else { None };
        write.or_else(read)
    }

    pub fn strong(&mut self, view: &View<'_>, lane: u32, writes: bool) -> Option<Prior> {
        self.spill();
        self.listed(view, lane, if writes { Kind::StrongWrite } else { Kind::StrongRead }, 0)
    }

    #[inline(always)]
    fn written(&mut self, view: &View<'_>, lane: u32) {
        self.write_stamp = view.epoch;
        self.write_pc = view.pc;
        self.write_warp = view.warp as u8;
        self.write_lane = lane as u8;
    }

    #[inline]
    fn unseen_write(&self, view: &View<'_>, lane: u32) -> Option<Prior> {
        let thread = Thread { warp: self.write_warp.into(), lane: self.write_lane.into() };
        let seen = view.sees(lane, thread, self.write_stamp);
        (!seen).then_some(Prior { thread, pc: self.write_pc, write: true })
    }

    /// A read kept in place that is not ordered before what `lane` does now.
    fn unseen_read(&self, view: &View<'_>, lane: u32) -> Option<Prior> {
        let latest = (u32::from(self.latest_warp), self.latest_lanes);
        let readers = lanes(self.product_warps).map(|warp| (warp, self.product_lanes)).chain([latest]);
        let mut unseen = readers.filter_map(|(warp, lanes)| view.unseen(lane, warp, lanes, self.read_stamp));
        unseen.next().map(|thread| Prior { thread, pc: self.read_pc, write: false })
    }

    /// A warp other than the latest reads in the same epoch. False if the readers cannot be kept in place any more.
    fn another_warp_reads(&mut self, view: &View<'_>, lanes: u32) -> bool {
        if self.product_warps >> view.warp & 1 == 1 && lanes & !self.product_lanes == 0 {
            return true;
        }
        let latest = 1 << self.latest_warp;
        if self.product_warps == 0 {
            self.product_lanes = self.latest_lanes;
        }
        let same = self.latest_lanes == self.product_lanes;
        let contained = self.product_warps & latest != 0 && self.latest_lanes & !self.product_lanes == 0;
        if !same && !contained {
            return false;
        }
        self.product_warps |= latest;
        self.latest_warp = view.warp as u8;
        self.latest_lanes = lanes;
        true
    }

    /// Moves what is kept in place to the list.
    fn spill(&mut self) {
        if self.list.is_some() {
            return;
        }
        let mut list = Vec::new();
        if self.write_stamp != 0 {
            let (stamp, pc) = (self.write_stamp, self.write_pc);
            list.push(Entry { kind: Kind::Write, warp: self.write_warp, lanes: 1 << self.write_lane, stamp, pc });
        }
        if self.read_stamp != 0 {
            let (stamp, pc) = (self.read_stamp, self.read_pc);
            let latest = (u32::from(self.latest_warp), self.latest_lanes);
            let readers = lanes(self.product_warps).map(|warp| (warp, self.product_lanes)).chain([latest]);
            list.extend(readers.map(|(warp, lanes)| Entry { kind: Kind::Read, warp: warp as u8, lanes, stamp, pc }));
        }
        *self = Cell { list: Some(Box::new(list)), ..Cell::default() };
    }

    /// An entry of the list that such an access races with.
    fn racing(&self, view: &View<'_>, lane: u32, kind: Kind, twins: u32) -> Option<Prior> {
        let entries = self.list.as_deref()?.iter().filter(|entry| kind.conflicts(entry.kind));
        let mut racing = entries.filter_map(|entry| {
            let mine = u32::from(entry.warp) == view.warp && entry.kind == Kind::Write;
            let others = if mine { entry.lanes & !twins } else { entry.lanes };
            let thread = view.unseen(lane, entry.warp.into(), others, entry.stamp)?;
            Some(Prior { thread, pc: entry.pc, write: entry.kind.writes() })
        });
        racing.next()
    }

    /// An access to a cell whose history is a list.
    fn listed(&mut self, view: &View<'_>, lane: u32, kind: Kind, twins: u32) -> Option<Prior> {
        self.spill();
        let prior = self.racing(view, lane, kind, twins);
        if kind != Kind::Write {
            self.note(view, lane, kind);
            return prior;
        }
        let list = self.list.take().filter(|_| twins != 0);
        *self = Cell::default();
        let Some(mut list) = list else {
            self.written(view, lane);
            return prior;
        };
        // Twins that are not of one epoch keep their own stamps.
        list.retain_mut(|entry| {
            entry.lanes &= twins;
            entry.lanes != 0 && (entry.kind, u32::from(entry.warp), entry.pc) == (kind, view.warp, view.pc)
        });
        match list.iter_mut().find(|entry| entry.stamp == view.epoch) {
            Some(entry) => entry.lanes |= 1 << lane,
            None => list.push(Entry { kind, warp: view.warp as u8, lanes: 1 << lane, stamp: view.epoch, pc: view.pc }),
        }
        self.list = Some(list);
        prior
    }

    /// Adds an access to the list, and drops those of its kind that it makes superfluous.
    fn note(&mut self, view: &View<'_>, lane: u32, kind: Kind) {
        let Some(list) = self.list.as_deref_mut() else { return };
        let mine = |entry: &Entry| entry.kind == kind && u32::from(entry.warp) == view.warp;
        list.retain_mut(|entry| {
            if mine(entry) {
                entry.lanes &= !(1 << lane);
            }
            entry.lanes != 0
                && (entry.kind != kind
                    || entry.stamp == view.epoch
                    || view.unseen(lane, entry.warp.into(), entry.lanes, entry.stamp).is_some())
        });
        let joins =
            |entry: &&mut Entry| mine(entry) && entry.stamp == view.epoch && (entry.pc == view.pc || !kind.writes());
        match list.iter_mut().find(joins) {
            Some(entry) => entry.lanes |= 1 << lane,
            None => list.push(Entry { kind, warp: view.warp as u8, lanes: 1 << lane, stamp: view.epoch, pc: view.pc }),
        }
    }
}
