//! Shared memory: what orders two accesses and what does not, one situation at a time.

use crate::bus::races::{Conflict, SharedRaces, Strong, Thread};
use crate::isa::{Order, Scope};

pub(super) const ALL: u32 = !0;

/// A block whose accesses are a word each, at word `at` or, for whole warps, at word `at + lane`.
pub(super) struct Block {
    pub races: SharedRaces,
    warps: u32,
}

impl Block {
    pub fn new(warps: u32) -> Block {
        Block { races: SharedRaces::new(4096, warps), warps }
    }

    pub fn read(&mut self, warp: u32, mask: u32, word: impl Fn(u64) -> u64) -> Vec<(u32, Conflict)> {
        let mut found = Vec::new();
        let offset = offsets(mask, word);
        self.races.read(warp, 1, mask, &offset, 4, |lane, conflict| found.push((lane, conflict)));
        found
    }

    pub fn write(&mut self, warp: u32, mask: u32, word: impl Fn(u64) -> u64) -> Vec<(u32, Conflict)> {
        self.write_values(warp, mask, word, |lane| lane)
    }

    fn write_values(
        &mut self,
        warp: u32,
        mask: u32,
        word: impl Fn(u64) -> u64,
        value: impl Fn(u32) -> u32,
    ) -> Vec<(u32, Conflict)> {
        let mut found = Vec::new();
        let offset = offsets(mask, word);
        let same = |i, j| value(i) == value(j);
        self.races.write(warp, 2, mask, &offset, 4, same, |lane, conflict| found.push((lane, conflict)));
        found
    }

    fn atomic(&mut self, warp: u32, mask: u32, word: impl Fn(u64) -> u64) -> Vec<(u32, Conflict)> {
        self.strong(warp, mask, word, Strong { order: Order::Relaxed(Scope::Gpu), reads: true, wrote: ALL })
    }

    pub fn strong(&mut self, warp: u32, mask: u32, word: impl Fn(u64) -> u64, strong: Strong) -> Vec<(u32, Conflict)> {
        let mut found = Vec::new();
        let offset = offsets(mask, word);
        self.races.synchronise(warp, 3, mask, &offset, 4, strong, |lane, conflict| found.push((lane, conflict)));
        found
    }

    pub fn syncthreads(&mut self) {
        let all: Vec<(u32, u32)> = (0..self.warps).map(|warp| (warp, ALL)).collect();
        self.barrier(0, &all, &[]);
    }

    pub fn barrier(&mut self, number: u32, waiting: &[(u32, u32)], arriving: &[(u32, u32)]) {
        for &(warp, mask) in arriving.iter().chain(waiting) {
            self.races.barrier_arrived(number, warp, mask);
        }
        self.races.barrier_completed(number, waiting);
    }
}

fn offsets(mask: u32, word: impl Fn(u64) -> u64) -> [u64; 32] {
    std::array::from_fn(|lane| if mask >> lane & 1 == 1 { 4 * word(lane as u64) } else { 0 })
}

#[test]
fn a_block_barrier_orders_everyone() {
    let mut block = Block::new(4);
    for _ in 0..3 {
        for warp in 0..4 {
            assert_eq!(block.write(warp, ALL, |lane| u64::from(warp) * 32 + lane), []);
        }
        block.syncthreads();
        for warp in 0..4 {
            assert_eq!(block.read(warp, ALL, |lane| (u64::from(3 - warp) * 32 + lane) / 2), []);
        }
        block.syncthreads();
    }
}

#[test]
fn the_other_party_is_named() {
    let mut block = Block::new(2);
    block.write(0, 1 << 5, |_| 7);
    let found = block.read(1, 1 << 3, |_| 7);
    let other = Conflict { thread: Thread { warp: 0, lane: 5 }, pc: 2, write: true, offset: 28 };
    assert_eq!(found, [(3, other)]);
    let mut block = Block::new(2);
    block.read(0, 1 << 5, |_| 7);
    let found = block.write(1, 1 << 3, |_| 7);
    assert_eq!(found, [(3, Conflict { pc: 1, write: false, ..other })]);
}

#[test]
fn a_missing_barrier_after_the_reads_is_found_too() {
    let mut block = Block::new(2);
    block.write(0, ALL, |lane| lane);
    block.syncthreads();
    block.read(0, ALL, |lane| lane);
    block.read(1, ALL, |lane| lane);
    assert_eq!(block.write(1, ALL, |lane| lane).len(), 32, "warp 0 may still be reading");
}

#[test]
fn lanes_of_a_warp_need_a_warp_barrier_of_exactly_them() {
    let mut block = Block::new(1);
    block.write(0, ALL, |lane| lane);
    assert_eq!(block.read(0, ALL, |lane| lane), [], "a lane sees its own write");
    assert_eq!(block.read(0, ALL, |lane| 31 - lane).len(), 32, "lockstep orders nothing");
    let mut block = Block::new(1);
    block.write(0, ALL, |lane| lane);
    block.races.warp_synchronised(0, 0xffff);
    assert_eq!(block.read(0, 0xffff, |lane| 15 - lane), []);
    assert_eq!(block.read(0, 1, |_| 16).len(), 1, "lane 16 was not named");
    assert_eq!(block.read(0, 1 << 16, |_| 0).len(), 1, "and did not wait");
}

#[test]
fn order_carries_over_a_chain_of_warp_barriers() {
    let mut block = Block::new(1);
    block.write(0, 1, |_| 0);
    block.races.warp_synchronised(0, 0b011);
    block.races.warp_synchronised(0, 0b100);
    block.races.warp_synchronised(0, 0b110);
    assert_eq!(block.read(0, 0b100, |_| 0), []);
    assert_eq!(block.write(0, 0b001, |_| 0).len(), 1, "lane 0 knows nothing of lane 2");
}

#[test]
fn a_named_barrier_orders_its_warps_only() {
    let mut block = Block::new(3);
    block.write(0, ALL, |lane| lane);
    block.barrier(1, &[(0, ALL), (1, ALL)], &[]);
    assert_eq!(block.read(1, ALL, |lane| lane), []);
    assert_eq!(block.read(2, ALL, |lane| lane).len(), 32);
}

#[test]
fn arrivals_publish_and_only_waiters_acquire() {
    let mut block = Block::new(2);
    block.write(0, ALL, |lane| lane);
    block.write(1, ALL, |lane| 32 + lane);
    block.barrier(1, &[(1, ALL)], &[(0, ALL)]);
    assert_eq!(block.read(1, ALL, |lane| lane), [], "the producer arrived");
    assert_eq!(block.read(0, ALL, |lane| 32 + lane).len(), 32, "it did not wait");
    assert_eq!(block.write(0, ALL, |lane| 64 + lane), []);
    assert_eq!(block.read(1, ALL, |lane| 64 + lane).len(), 32, "what follows the arrival is not published");
}

#[test]
fn a_ring_of_named_barriers_between_producer_and_consumer_is_clean() {
    let mut block = Block::new(2);
    let (full, empty) = ([1, 2], [3, 4]);
    for step in 0..10_usize {
        let slot = step % 2;
        let word = |lane| slot as u64 * 32 + lane;
        if step >= 2 {
            block.races.barrier_arrived(empty[slot], 0, ALL);
            block.races.barrier_completed(empty[slot], &[(0, ALL)]);
        }
        assert_eq!(block.write(0, ALL, word), []);
        block.barrier(full[slot], &[(1, ALL)], &[(0, ALL)]);
        assert_eq!(block.read(1, ALL, |lane| word(31 - lane)), []);
        block.races.barrier_arrived(empty[slot], 1, ALL);
    }
}

#[test]
fn lanes_of_one_instruction_may_write_the_same_but_not_different_values() {
    let mut block = Block::new(2);
    assert_eq!(block.write_values(0, ALL, |_| 0, |_| 9), []);
    assert_eq!(block.write_values(0, 0b11, |_| 1, |lane| lane).len(), 1);
    block.races.warp_synchronised(0, 0b110);
    assert_eq!(block.read(0, 0b010, |_| 0).len(), 1, "lane 0 wrote it as well and did not synchronise");
}

#[test]
fn lanes_that_write_the_same_may_have_synchronised_at_different_times() {
    let mut block = Block::new(2);
    block.races.warp_synchronised(0, 0b010);
    assert_eq!(block.write_values(0, 0b110, |_| 0, |_| 9), []);
    block.races.barrier_arrived(1, 0, 0b110);
    block.read(0, 0b100, |_| 5);
    block.barrier(1, &[(1, ALL)], &[]);
    assert_eq!(block.read(1, 1, |_| 0), []);
}

#[test]
fn the_same_instruction_in_a_loop_races_with_itself() {
    let mut block = Block::new(1);
    block.write_values(0, 0b01, |_| 0, |_| 9);
    assert_eq!(block.write_values(0, 0b10, |_| 0, |_| 9).len(), 1, "the same value, but in another iteration");
}

#[test]
fn atomics_race_with_plain_accesses_only() {
    let mut block = Block::new(2);
    block.write(0, 1, |_| 0);
    block.syncthreads();
    assert_eq!(block.atomic(0, ALL, |_| 0), []);
    assert_eq!(block.atomic(1, ALL, |_| 0), []);
    assert_eq!(block.read(0, 1, |_| 0).len(), 1, "other lanes' additions may be missing");
    block.syncthreads();
    assert_eq!(block.read(0, 1, |_| 0), []);
    assert_eq!(block.read(1, 1, |_| 0), []);
    assert_eq!(block.atomic(1, 1, |_| 0).len(), 1, "warp 0 may still be reading");
}

#[test]
fn threads_that_left_without_an_access_do_not_matter() {
    let mut block = Block::new(2);
    let all = [(0, ALL), (1, 0xffff)];
    for _ in 0..3 {
        assert_eq!(block.write(0, ALL, |lane| lane), []);
        block.barrier(0, &all, &[]);
        assert_eq!(block.read(1, 0xffff, |lane| lane), []);
        block.barrier(0, &all, &[]);
    }
    assert_eq!(block.read(1, 1 << 31, |_| 0).len(), 1, "they are not ordered after all that either");
}

#[test]
fn narrow_and_wide_accesses_meet() {
    let mut races = SharedRaces::new(64, 2);
    let mut found = Vec::new();
    races.write(0, 1, 1, &[16; 32], 16, |_, _| true, |_, conflict| found.push(conflict));
    races.read(1, 2, 1, &[21; 32], 1, |_, conflict| found.push(conflict));
    races.read(0, 2, 1, &[24; 32], 8, |_, conflict| found.push(conflict));
    assert_eq!(found.iter().map(|conflict| conflict.offset).collect::<Vec<_>>(), [21]);
    races.write(1, 2, 1, &[38; 32], 2, |_, _| true, |_, _| ());
    races.read(0, 2, 1, &[32; 32], 16, |_, conflict| found.push(conflict));
    assert_eq!(found.iter().map(|conflict| conflict.offset).collect::<Vec<_>>(), [21, 38]);
}
