//! Races in device memory between blocks of one launch.
//!
//! A block's threads are one party. An edge from block A to block B needs, as the memory model demands, both halves: A
//! *releases* at a word (`.release`, or a fence and then an atomic, volatile or relaxed write), and B *acquires* what it finds
//! there (`.acquire`, or such a read and then a fence). Read-modify-writes carry on what was released at their word; a plain
//! relaxed write starts anew. Accesses of `.cta` scope say nothing to other blocks and count as plain ones.

use super::GlobalConflict;
use super::clock::Clock;
use super::sets::{Access, Set, Sets};
use super::shadow::Shadow;
use crate::isa::{Order, Scope};
use std::collections::HashMap;

/// Races in device memory between blocks of one launch. All threads of a block count as one party.
#[derive(Debug)]
pub(crate) struct GlobalRaces {
    /// Blocks in the order of their first access, and that order.
    parties: Vec<Party>,
    party_of: HashMap<u64, u32>,
    /// Cells by allocation.
    shadows: HashMap<u32, Shadow<Cell>>,
    sets: Sets,
    /// What was released at a word (allocation, offset of its first four bytes).
    released: HashMap<(u32, u64), Clock>,
}

#[derive(Debug)]
struct Party {
    block: u64,
    /// Own time. It advances with every change of `seen` and every release.
    time: u32,
    /// Others' accesses up to these times happened before what the block does now.
    seen: Clock,
    /// What a relaxed write publishes: everything before the last fence.
    fenced: Clock,
    /// What the next fence acquires: released at words that were read since.
    found: Clock,
    /// Accessed memory since the last fence.
    active: bool,
}

/// The history of a group of bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    /// The last plain write; time 0 if there is none.
    write_party: u32,
    write_time: u32,
    write_pc: u32,
    /// Since then: plain reads, strong reads, strong writes.
    reads: Set,
    strong_reads: Set,
    strong_writes: Set,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    StrongRead,
    StrongWrite,
}

impl GlobalRaces {
    pub fn new(blocks: u64) -> GlobalRaces {
        GlobalRaces {
            parties: Vec::with_capacity(blocks.min(1024) as usize),
            party_of: HashMap::new(),
            shadows: HashMap::new(),
            sets: Sets::default(),
            released: HashMap::new(),
        }
    }

    /// A plain read of `size` bytes at `offset` in an allocation of `len` bytes.
    pub fn read(
        &mut self,
        block: u64,
        pc: u32,
        allocation: u32,
        len: usize,
        offset: u64,
        size: u32,
    ) -> Option<GlobalConflict> {
        self.access(block, pc, allocation, len, offset, size, Kind::Read)
    }

    /// A plain write.
    pub fn write(
        &mut self,
        block: u64,
        pc: u32,
        allocation: u32,
        len: usize,
        offset: u64,
        size: u32,
    ) -> Option<GlobalConflict> {
        self.access(block, pc, allocation, len, offset, size, Kind::Write)
    }

    /// A synchronising access (atomic, relaxed, volatile, acquire, release) of that word: races with plain accesses only. A
    /// release (or a write after a fence) publishes what the block did before; an acquire (or a read before a fence) takes it.
    #[allow(clippy::too_many_arguments)]
    pub fn synchronise(
        &mut self,
        block: u64,
        pc: u32,
        allocation: u32,
        len: usize,
        offset: u64,
        size: u32,
        read: bool,
        write: bool,
        order: Order,
    ) -> Option<GlobalConflict> {
        let strong = reaches_other_blocks(order);
        let kind = match (strong, write) {
            (true, true) => Kind::StrongWrite,
            (true, false) => Kind::StrongRead,
            (false, true) => Kind::Write,
            (false, false) => Kind::Read,
        };
        let conflict = self.access(block, pc, allocation, len, offset, size, kind);
        if strong {
            self.exchange(block, (allocation, offset & !3), read, write, order);
        }
        conflict
    }

    /// `fence`/`membar` of gpu or sys scope by the block.
    pub fn fence(&mut self, block: u64) {
        let party = self.party(block);
        let this = &mut self.parties[party as usize];
        let found = std::mem::take(&mut this.found);
        if this.seen.join(&found) || this.active {
            this.release(party);
        }
        this.active = false;
    }

    fn party(&mut self, block: u64) -> u32 {
        *self.party_of.entry(block).or_insert_with(|| {
            let [seen, fenced, found] = Default::default();
            self.parties.push(Party { block, time: 1, seen, fenced, found, active: false });
            self.parties.len() as u32 - 1
        })
    }

    /// What a strong access to a word passes on and receives.
    fn exchange(&mut self, block: u64, word: (u32, u64), read: bool, write: bool, order: Order) {
        let party = self.party(block);
        let this = &mut self.parties[party as usize];
        if let Some(released) = self.released.get(&word).filter(|_| read) {
            if matches!(order, Order::Acquire(_) | Order::AcquireRelease(_)) {
                if this.seen.join(released) {
                    this.time = this.time.saturating_add(1);
                }
            } else {
                this.found.join(released);
            }
        }
        if !write {
            return;
        }
        let mut published = this.fenced.clone();
        if matches!(order, Order::Release(_) | Order::AcquireRelease(_)) {
            published = this.seen.clone();
            published.raise(party, this.time);
            this.time = this.time.saturating_add(1);
        }
        let released = self.released.entry(word).or_default();
        if !read {
            *released = Clock::default();
        }
        released.join(&published);
    }

    #[allow(clippy::too_many_arguments)]
    fn access(
        &mut self,
        block: u64,
        pc: u32,
        allocation: u32,
        len: usize,
        offset: u64,
        size: u32,
        kind: Kind,
    ) -> Option<GlobalConflict> {
        let party = self.party(block);
        let this = &mut self.parties[party as usize];
        this.active = true;
        let (access, seen) = (Access { party, time: this.time, pc }, &self.parties[party as usize].seen);
        let sees = |other: Access| other.party == party || other.time <= seen.get(other.party);
        let shadow = self.shadows.entry(allocation).or_insert_with(|| Shadow::new(len as u64));
        let mut conflict = None;
        shadow.touch(offset, size, |cell, at| {
            if let Some((other, write)) = cell.unseen(&self.sets, kind, &sees) {
                let block = self.parties[other.party as usize].block;
                conflict.get_or_insert(GlobalConflict { block, pc: other.pc, write, offset: at });
            }
            cell.note(&mut self.sets, kind, access, &sees);
        });
        conflict
    }
}

/// Is this access strong, and between blocks? There are no clusters: each block is its own.
fn reaches_other_blocks(order: Order) -> bool {
    match order {
        Order::Weak => false,
        Order::Volatile => true,
        Order::Relaxed(scope) | Order::Acquire(scope) | Order::Release(scope) | Order::AcquireRelease(scope) => {
            matches!(scope, Scope::Gpu | Scope::Sys)
        }
    }
}

impl Party {
    /// A fence: what the block has done and seen goes with its next relaxed write.
    fn release(&mut self, party: u32) {
        self.fenced = self.seen.clone();
        self.fenced.raise(party, self.time);
        self.time = self.time.saturating_add(1);
    }
}

impl Cell {
    /// An earlier access that conflicts with one of this kind and is not seen; true if it wrote.
    fn unseen(&self, sets: &Sets, kind: Kind, sees: &impl Fn(Access) -> bool) -> Option<(Access, bool)> {
        let write = Access { party: self.write_party, time: self.write_time, pc: self.write_pc };
        if write.time != 0 && !sees(write) {
            return Some((write, true));
        }
        let (reads, strong_reads, strong_writes) = match kind {
            Kind::Read => (0, 0, self.strong_writes),
            Kind::Write => (self.reads, self.strong_reads, self.strong_writes),
            Kind::StrongRead => (0, 0, 0),
            Kind::StrongWrite => (self.reads, 0, 0),
        };
        let others = [(strong_writes, true), (reads, false), (strong_reads, false)];
        others
            .into_iter()
            .find_map(|(set, write)| sets.accesses(set).find(|other| !sees(*other)).map(|other| (other, write)))
    }

    fn note(&mut self, sets: &mut Sets, kind: Kind, access: Access, sees: &impl Fn(Access) -> bool) {
        let set = match kind {
            Kind::Read => &mut self.reads,
            Kind::StrongRead => &mut self.strong_reads,
            Kind::StrongWrite => &mut self.strong_writes,
            Kind::Write => {
                let Access { party, time, pc } = access;
                *self = Cell { write_party: party, write_time: time, write_pc: pc, ..Cell::default() };
                return;
            }
        };
        *set = sets.with(*set, access, sees);
    }
}
