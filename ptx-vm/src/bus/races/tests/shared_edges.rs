//! Shared memory: what strong accesses and fences order between threads and what they do not, one situation at a time.

use super::shared::{ALL, Block};
use crate::bus::races::{Conflict, Strong};
use crate::isa::{Order, Scope};

const RELAXED: Order = Order::Relaxed(Scope::Gpu);
const ACQUIRE: Order = Order::Acquire(Scope::Cta);
const RELEASE: Order = Order::Release(Scope::Cta);
/// The words of the flag or lock, and of the data that it guards.
const FLAG: u64 = 100;
const DATA: u64 = 7;

impl Block {
    fn load(&mut self, warp: u32, mask: u32, order: Order) -> Vec<(u32, Conflict)> {
        self.strong(warp, mask, |_| FLAG, Strong { order, reads: true, wrote: 0 })
    }

    fn store(&mut self, warp: u32, mask: u32, order: Order) -> Vec<(u32, Conflict)> {
        self.strong(warp, mask, |_| FLAG, Strong { order, reads: false, wrote: mask })
    }

    /// A read-modify-write: a compare-and-swap if not all lanes write.
    fn swap(&mut self, warp: u32, mask: u32, wrote: u32, order: Order) -> Vec<(u32, Conflict)> {
        self.strong(warp, mask, |_| FLAG, Strong { order, reads: true, wrote })
    }

    /// Lane 0 of warp 0 writes the data.
    fn produce(&mut self) {
        assert_eq!(self.write(0, 1, |_| DATA), []);
    }

    /// Do these lanes of the warp read the data without a race?
    fn consumes(&mut self, warp: u32, mask: u32) -> bool {
        let races = self.read(warp, mask, |_| DATA).len();
        assert!(races == 0 || races == mask.count_ones() as usize, "some of {mask:#x} race");
        races == 0
    }
}

/// A hand-over by a flag from warp 0 to warp 1; is it clean?
fn handed_over(store: Order, load: Order, fences: (bool, bool)) -> bool {
    let mut block = Block::new(2);
    block.produce();
    if fences.0 {
        block.races.fence(0, ALL);
    }
    assert_eq!(block.store(0, 1, store), []);
    assert_eq!(block.load(1, ALL, load), []);
    if fences.1 {
        block.races.fence(1, ALL);
    }
    block.consumes(1, ALL)
}

#[test]
fn a_hand_over_needs_both_halves() {
    for relaxed in [RELAXED, Order::Relaxed(Scope::Cta), Order::Volatile] {
        assert!(handed_over(relaxed, relaxed, (true, true)));
        assert!(!handed_over(relaxed, relaxed, (true, false)));
        assert!(!handed_over(relaxed, relaxed, (false, true)));
        assert!(!handed_over(relaxed, relaxed, (false, false)));
        assert!(handed_over(RELEASE, relaxed, (false, true)));
        assert!(handed_over(relaxed, ACQUIRE, (true, false)));
        assert!(!handed_over(RELEASE, relaxed, (false, false)));
        assert!(!handed_over(relaxed, ACQUIRE, (false, false)));
    }
    assert!(handed_over(RELEASE, ACQUIRE, (false, false)));
}

#[test]
fn what_follows_the_fence_or_the_release_is_not_published() {
    let mut block = Block::new(2);
    block.races.fence(0, 1);
    block.produce();
    block.store(0, 1, RELAXED);
    block.load(1, 1, ACQUIRE);
    assert!(!block.consumes(1, 1));
    let mut block = Block::new(2);
    block.store(0, 1, RELEASE);
    block.produce();
    block.load(1, 1, ACQUIRE);
    assert!(!block.consumes(1, 1));
}

#[test]
fn the_fence_that_acquires_comes_after_the_read() {
    let mut block = Block::new(2);
    block.produce();
    block.store(0, 1, RELEASE);
    block.races.fence(1, 1);
    block.load(1, 1, RELAXED);
    assert!(!block.consumes(1, 1));
    let mut block = Block::new(2);
    block.produce();
    block.store(0, 1, RELEASE);
    block.load(1, 0b11, RELAXED);
    block.races.fence(1, 0b10);
    assert!(!block.consumes(1, 0b01), "another lane's fence");
}

#[test]
fn a_read_before_the_release_acquires_nothing() {
    let mut block = Block::new(2);
    block.produce();
    block.load(1, 1, ACQUIRE);
    block.store(0, 1, RELEASE);
    assert!(!block.consumes(1, 1));
}

#[test]
fn lanes_of_a_warp_hand_over_as_well() {
    let mut block = Block::new(1);
    block.produce();
    block.store(0, 1, RELEASE);
    block.load(0, 0b110, ACQUIRE);
    assert!(block.consumes(0, 0b110));
    assert!(!block.consumes(0, 0b1000));
}

#[test]
fn swaps_carry_on_and_stores_replace() {
    let after = |second: fn(&mut Block)| {
        let mut block = Block::new(3);
        block.produce();
        block.store(0, 1, RELEASE);
        second(&mut block);
        block.load(2, 1, ACQUIRE);
        block.consumes(2, 1)
    };
    assert!(after(|_| ()));
    assert!(after(|block| drop(block.swap(1, 1, 1, RELAXED))));
    assert!(after(|block| drop(block.swap(1, 1, 0, RELAXED))));
    assert!(!after(|block| drop(block.store(1, 1, RELAXED))));
    assert!(!after(|block| drop(block.store(1, 1, RELEASE))));
}

#[test]
fn order_carries_over_a_chain_of_hand_overs() {
    let mut block = Block::new(3);
    block.produce();
    block.store(0, 1, RELEASE);
    block.load(1, 1, RELAXED);
    block.races.fence(1, 1);
    block.store(1, 1, RELAXED);
    block.load(2, 1, ACQUIRE);
    assert!(block.consumes(2, 1));
    let mut block = Block::new(3);
    block.produce();
    block.barrier(1, &[(0, ALL), (1, ALL)], &[]);
    block.store(1, 1, RELEASE);
    block.load(2, 1, ACQUIRE);
    block.races.warp_synchronised(2, 0b11);
    assert!(block.consumes(2, 0b11), "a barrier before, a warp barrier after");
}

#[test]
fn a_lock_orders_its_holders() {
    let mut block = Block::new(4);
    for round in 0..3 {
        for warp in 0..4 {
            block.swap(warp, 0b11, 0b01, RELAXED);
            block.races.fence(warp, 0b01);
            assert_eq!(block.read(warp, 0b01, |_| DATA), [], "round {round}");
            assert_eq!(block.write(warp, 0b01, |_| DATA), [], "round {round}");
            block.races.fence(warp, 0b01);
            block.swap(warp, 0b01, 0b01, RELAXED);
        }
    }
    block.swap(1, 0b10, 0b10, RELAXED);
    assert!(!block.consumes(1, 0b10), "who takes the lock without a fence");
}

#[test]
fn a_failed_swap_publishes_nothing_but_acquires() {
    let mut block = Block::new(2);
    block.produce();
    block.swap(0, 1, 0, RELEASE);
    block.load(1, 1, ACQUIRE);
    assert!(!block.consumes(1, 1));
    block.swap(0, 1, 1, RELEASE);
    block.swap(1, 0b10, 0, ACQUIRE);
    assert!(block.consumes(1, 0b10));
}

#[test]
fn strong_reads_race_with_plain_writes_only() {
    let mut block = Block::new(2);
    block.read(0, 1, |_| FLAG);
    assert_eq!(block.load(1, 1, RELAXED), [], "two reads");
    assert_eq!(block.swap(1, 1, 0, RELAXED), [], "a failed swap is a read");
    assert_eq!(block.read(0, 2, |_| FLAG), []);
    assert_eq!(block.swap(1, 1, 1, RELAXED).len(), 1, "the plain reads");
    let mut block = Block::new(2);
    block.load(1, 1, RELAXED);
    assert_eq!(block.store(0, 1, RELAXED), []);
    let mut block = Block::new(2);
    block.load(1, 1, RELAXED);
    let found = block.write(0, 1, |_| FLAG);
    assert_eq!(found.iter().map(|(_, conflict)| conflict.write).collect::<Vec<_>>(), [false]);
}

#[test]
fn wide_and_narrow_releases_cover_their_words() {
    let mut block = Block::new(2);
    block.produce();
    let strong = Strong { order: RELEASE, reads: false, wrote: 1 };
    block.races.synchronise(0, 3, 1, &[4 * FLAG - 4; 32], 8, strong, |_, _| ());
    block.load(1, 1, ACQUIRE);
    assert!(block.consumes(1, 1));
    let mut block = Block::new(2);
    block.produce();
    block.races.synchronise(0, 3, 1, &[4 * FLAG + 2; 32], 2, strong, |_, _| ());
    block.load(1, 1, ACQUIRE);
    assert!(block.consumes(1, 1));
    let mut block = Block::new(3);
    block.produce();
    block.store(0, 1, RELEASE);
    let swap = Strong { order: Order::AcquireRelease(Scope::Cta), reads: true, wrote: 1 };
    block.races.synchronise(1, 3, 1, &[4 * FLAG - 4; 32], 8, swap, |_, _| ());
    block.strong(2, 1, |_| FLAG - 1, Strong { order: ACQUIRE, reads: true, wrote: 0 });
    assert!(block.consumes(2, 1), "what is acquired at one word of an access is released at the other");
}
