//! Device memory between blocks: patterns that order accesses, and each with something missing.

use crate::bus::races::{GlobalConflict, GlobalRaces};
use crate::isa::{Order, Scope};

const DATA: u32 = 1;
const FLAG: u32 = 2;
const LEN: usize = 1 << 12;
const RELAXED: Order = Order::Relaxed(Scope::Gpu);

/// What the blocks of a launch do, a word at a time.
struct Grid(GlobalRaces);

impl Grid {
    fn new() -> Grid {
        Grid(GlobalRaces::new(8))
    }

    fn read(&mut self, block: u64, word: u64) -> Option<GlobalConflict> {
        self.0.read(block, 1, DATA, LEN, 4 * word, 4)
    }

    fn write(&mut self, block: u64, word: u64) -> Option<GlobalConflict> {
        self.0.write(block, 2, DATA, LEN, 4 * word, 4)
    }

    /// An atomic on flag `word`.
    fn atomic(&mut self, block: u64, word: u64, order: Order) -> Option<GlobalConflict> {
        self.0.synchronise(block, 3, FLAG, LEN, 4 * word, 4, true, true, order)
    }

    fn load(&mut self, block: u64, word: u64, order: Order) -> Option<GlobalConflict> {
        self.0.synchronise(block, 4, FLAG, LEN, 4 * word, 4, true, false, order)
    }

    fn store(&mut self, block: u64, word: u64, order: Order) -> Option<GlobalConflict> {
        self.0.synchronise(block, 5, FLAG, LEN, 4 * word, 4, false, true, order)
    }
}

/// `write` by each block, then a ticket; the last block reads what all wrote. Returns whether that is a race.
fn reduction(release: bool, acquire: bool, order: Order) -> bool {
    let mut grid = Grid::new();
    for block in 0..4 {
        assert_eq!(grid.write(block, block), None);
        if release {
            grid.0.fence(block);
        }
        assert_eq!(grid.atomic(block, 0, order), None);
        if acquire {
            grid.0.fence(block);
        }
    }
    (0..4).any(|word| grid.read(3, word).is_some())
}

#[test]
fn a_reduction_by_the_last_block_needs_both_fences_or_a_strong_ticket() {
    assert!(!reduction(true, true, RELAXED));
    assert!(reduction(false, true, RELAXED), "the others' words may not be out");
    assert!(reduction(true, false, RELAXED), "they may have been read too early");
    assert!(reduction(false, false, RELAXED));
    assert!(!reduction(false, false, Order::AcquireRelease(Scope::Gpu)));
    assert!(!reduction(true, false, Order::Acquire(Scope::Gpu)));
    assert!(!reduction(false, true, Order::Release(Scope::Sys)));
    assert!(reduction(false, true, Order::Acquire(Scope::Gpu)));
    assert!(reduction(true, false, Order::Release(Scope::Gpu)));
}

#[test]
fn the_first_race_is_named() {
    let mut grid = Grid::new();
    grid.write(6, 3);
    assert_eq!(grid.read(2, 3), Some(GlobalConflict { block: 6, pc: 2, write: true, offset: 12 }));
    grid.read(1, 5);
    grid.read(4, 5);
    assert_eq!(grid.write(4, 5), Some(GlobalConflict { block: 1, pc: 1, write: false, offset: 20 }));
    assert_eq!(grid.write(4, 5), None, "its own word now");
}

#[test]
fn a_message_by_a_flag() {
    // (store, fence before it, load, fence after it, clean)
    let cases = [
        (Order::Volatile, true, Order::Volatile, true, true),
        (Order::Volatile, false, Order::Volatile, true, false),
        (Order::Volatile, true, Order::Volatile, false, false),
        (Order::Release(Scope::Gpu), false, Order::Acquire(Scope::Gpu), false, true),
        (Order::Release(Scope::Gpu), false, RELAXED, true, true),
        (RELAXED, true, Order::Acquire(Scope::Sys), false, true),
        (Order::Release(Scope::Cta), false, Order::Acquire(Scope::Gpu), false, false),
        (Order::Release(Scope::Gpu), false, Order::Acquire(Scope::Cta), false, false),
        (RELAXED, false, RELAXED, false, false),
    ];
    for (store, before, load, after, clean) in cases {
        let mut grid = Grid::new();
        grid.write(0, 0);
        if before {
            grid.0.fence(0);
        }
        grid.store(0, 0, store);
        grid.load(1, 0, load);
        if after {
            grid.0.fence(1);
        }
        assert_eq!(grid.read(1, 0).is_none(), clean, "{store:?} {before} {load:?} {after}");
    }
}

#[test]
fn what_follows_the_release_is_not_published() {
    let mut grid = Grid::new();
    grid.0.fence(0);
    grid.write(0, 0);
    grid.store(0, 0, RELAXED);
    grid.load(1, 0, Order::Acquire(Scope::Gpu));
    assert!(grid.read(1, 0).is_some(), "written after the fence");
    grid.store(0, 0, Order::Release(Scope::Gpu));
    grid.write(0, 1);
    grid.load(1, 0, Order::Acquire(Scope::Gpu));
    assert!(grid.read(1, 1).is_some(), "written after the release");
}

#[test]
fn a_flag_on_another_word_orders_nothing() {
    let mut grid = Grid::new();
    grid.write(0, 0);
    grid.store(0, 0, Order::Release(Scope::Gpu));
    grid.load(1, 1, Order::Acquire(Scope::Gpu));
    assert!(grid.read(1, 0).is_some());
}

#[test]
fn others_atomics_carry_a_release_on_and_a_plain_store_does_not() {
    for (carries, expected) in [(true, None), (false, Some(0))] {
        let mut grid = Grid::new();
        grid.write(0, 0);
        grid.atomic(0, 0, Order::Release(Scope::Gpu));
        if carries {
            grid.atomic(1, 0, RELAXED);
        } else {
            grid.store(1, 0, RELAXED);
        }
        grid.load(2, 0, Order::Acquire(Scope::Gpu));
        assert_eq!(grid.read(2, 0).map(|conflict| conflict.block), expected);
    }
}

#[test]
fn a_grid_barrier_of_atomics_orders_everyone_again_and_again() {
    let mut grid = Grid::new();
    for round in 0..5 {
        for block in 0..4 {
            assert_eq!(grid.write(block, block), None, "round {round}");
        }
        for half in 0..2 {
            for block in 0..4 {
                grid.0.fence(block);
                grid.atomic(block, half, RELAXED);
            }
            for block in 0..4 {
                (0..3).for_each(|_| assert_eq!(grid.load(block, half, Order::Volatile), None));
                grid.0.fence(block);
                if half == 0 {
                    (0..4).for_each(|word| assert_eq!(grid.read(block, word), None, "round {round}"));
                }
            }
        }
    }
}

#[test]
fn tickets_and_read_only_data_need_no_order() {
    let mut grid = Grid::new();
    for block in 0..8 {
        assert_eq!(grid.atomic(block, 0, RELAXED), None);
        assert_eq!(grid.read(block, 0), None);
        assert_eq!(grid.write(block, 10 + block), None);
    }
}

#[test]
fn atomics_and_plain_accesses_to_one_word_race() {
    for write in [false, true] {
        let mut grid = Grid::new();
        grid.atomic(0, 0, RELAXED);
        let plain = match write {
            false => grid.0.read(1, 9, FLAG, LEN, 0, 4),
            true => grid.0.write(1, 9, FLAG, LEN, 0, 4),
        };
        assert_eq!(plain.map(|conflict| (conflict.block, conflict.write)), Some((0, true)));
    }
    let mut grid = Grid::new();
    grid.0.read(0, 9, FLAG, LEN, 0, 4);
    assert_eq!(grid.load(1, 0, RELAXED), None);
    assert!(grid.atomic(1, 0, RELAXED).is_some());
    let mut grid = Grid::new();
    grid.atomic(0, 0, Order::AcquireRelease(Scope::Cta));
    assert!(grid.atomic(1, 0, Order::AcquireRelease(Scope::Cta)).is_some(), "neither reaches the other block");
}

#[test]
fn bytes_of_one_word_are_apart() {
    let mut races = GlobalRaces::new(2);
    assert_eq!(races.write(0, 1, DATA, LEN, 16, 4), None);
    assert_eq!(races.write(1, 1, DATA, LEN, 20, 1), None);
    assert_eq!(races.write(0, 1, DATA, LEN, 21, 1), None);
    let conflict = races.read(0, 1, DATA, LEN, 20, 4);
    assert_eq!(conflict, Some(GlobalConflict { block: 1, pc: 1, write: true, offset: 20 }));
    assert_eq!(races.write(1, 1, DATA, LEN, 18, 1).map(|c| c.offset), Some(18), "part of block 0's word");
}

/// An array that everyone reads costs a set for each block, not one for each block and word.
#[test]
fn a_thousand_readers_of_a_thousand_words() {
    let mut grid = Grid::new();
    for block in 0..1000 {
        for word in 0..1000 {
            assert_eq!(grid.read(block, word), None);
        }
    }
    assert!(grid.write(0, 17).is_some());
}
