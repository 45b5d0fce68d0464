//! What the bus tells the race detectors and the counters.

use super::*;
use crate::count::Counters;

const RACES: Checks = Checks { uninitialised: false, ..Checks::ALL };

fn of_warp(warp: u32, pc: u32) -> At {
    At { warp, ..at(pc) }
}

/// `bar.sync 0` of both warps.
fn barrier(bus: &mut Bus<'_>, block: &mut BlockMemory) {
    (0..2).for_each(|warp| bus.barrier_arrived(block, 0, warp, FULL));
    bus.barrier_completed(block, 0, &[(0, FULL), (1, FULL)]);
}

fn load(bus: &mut Bus<'_>, block: &mut BlockMemory, warp: u32, pc: u32, access: Access, address: &Lanes64) {
    bus.load(block, of_warp(warp, pc), access, FULL, address, &mut [[0; 32]]);
}

#[test]
fn a_race_in_shared_memory_names_both_sides() {
    let word = access(Space::Shared, Type::U32, 1);
    let findings = run(&mut Memory::new(), RACES, |bus, block| {
        bus.store(block, of_warp(1, 3), word, 1 << 4, &strided(68, 0), &[[0; 32]]);
        bus.load(block, of_warp(0, 5), word, 1 << 2, &strided(68, 0), &mut [[0; 32]]);
        barrier(bus, block);
        load(bus, block, 0, 6, word, &strided(64, 4));
    });
    assert_eq!(summary(&findings), [(FindingKind::SharedRace, 5, 1)]);
    assert_eq!((findings[0].thread, findings[0].source.as_ref().map(|s| s.line)), ([2, 0, 0], Some(5)));
    let words = "read of 4 bytes at shared 0x44; byte 4 of `b` (60 bytes) is written by thread [36, 0, 0] at k.cu:3, and \
                 nothing orders the two";
    assert_eq!(findings[0].detail, words);
}

#[test]
fn every_kind_of_access_takes_part() {
    let plain = access(Space::Shared, Type::U32, 1);
    let volatile = Access { order: Order::Volatile, ..plain };
    let address = strided(64, 4);
    type Body = fn(&mut Bus<'_>, &mut BlockMemory, Access, &Lanes64);
    let store: Body = |bus, block, access, a| bus.store(block, of_warp(1, 2), access, FULL, a, &[strided(0, 1)]);
    let atomic: Body = |bus, block, access, a| {
        let atomic = Atomic { op: AtomOp::Add, ty: Type::U32, space: access.space, order: Order::Weak, returns: false };
        bus.atomic(block, of_warp(1, 2), atomic, FULL, a, &[1; 32], &[0; 32], &mut [0; 32]);
    };
    let matrix: Body = |bus, block, _, _| {
        bus.load_matrix(block, of_warp(1, 2), true, &std::array::from_fn(|l| 128 + 16 * (l as u64 % 4)), &mut [[0; 32]])
    };
    // After a write and after a read by the other warp: how many lanes race?
    let cases = [
        ("store", store, plain, 32, 32),
        ("volatile store", store, volatile, 32, 32),
        ("generic store", store, access(Space::Generic, Type::U32, 1), 32, 32),
        ("atomic", atomic, plain, 32, 32),
        ("ldmatrix", matrix, plain, 32, 0),
    ];
    for (name, body, kind, after_write, after_read) in cases {
        for (write, races) in [(true, after_write), (false, after_read)] {
            let findings = run(&mut Memory::new(), RACES, |bus, block| {
                match write {
                    true => bus.store(block, at(1), plain, FULL, &address, &[strided(0, 1)]),
                    false => load(bus, block, 0, 1, plain, &address),
                }
                let generic = strided(windows::SHARED + 64, 4);
                body(bus, block, kind, if kind.space == Space::Generic { &generic } else { &address });
            });
            let occurrences: u64 = findings.iter().map(|f| f.occurrences).sum();
            assert!(occurrences >= races && (races > 0) == (occurrences > 0), "{name} {write}: {findings:?}");
            assert!(findings.iter().all(|f| f.kind == FindingKind::SharedRace), "{name}: {findings:?}");
        }
    }
    let strong = run(&mut Memory::new(), RACES, |bus, block| {
        store(bus, block, volatile, &address);
        load(bus, block, 0, 3, volatile, &address);
        atomic(bus, block, volatile, &address);
    });
    assert_eq!(strong, [], "strong accesses do not race with each other");
}

#[test]
fn a_compare_and_swap_that_fails_is_a_read() {
    let word = access(Space::Shared, Type::U32, 1);
    let swap = |bus: &mut Bus<'_>, block: &mut BlockMemory, expected: u64| {
        let order = Order::Relaxed(Scope::Cta);
        let atomic = Atomic { op: AtomOp::Cas, ty: Type::U32, space: Space::Shared, order, returns: true };
        bus.atomic(block, of_warp(1, 3), atomic, 1, &strided(64, 0), &[expected; 32], &[9; 32], &mut [0; 32]);
    };
    for (expected, races) in [(8, 0), (7, 1)] {
        let findings = run(&mut Memory::new(), RACES, |bus, block| {
            bus.store(block, at(1), word, 1, &strided(64, 0), &[[7; 32]]);
            barrier(bus, block);
            load(bus, block, 0, 2, word, &strided(64, 0));
            swap(bus, block, expected);
        });
        assert_eq!(findings.len(), races, "{expected}: {findings:?}");
    }
}

#[test]
fn a_fence_is_of_its_warp_and_lanes_and_any_scope_will_do() {
    let word = access(Space::Shared, Type::U32, 1);
    let flag = Access { order: Order::Volatile, ..word };
    let cta = Order::AcquireRelease(Scope::Cta);
    let hand_over = |release: (u32, u32), acquire: (u32, u32), order: Order| {
        let findings = run(&mut Memory::new(), RACES, |bus, block| {
            bus.store(block, at(1), word, 0b10, &strided(64, 0), &[[5; 32]]);
            bus.fence(block, of_warp(release.0, 2), release.1, order);
            bus.store(block, at(3), flag, 0b10, &strided(68, 0), &[[1; 32]]);
            bus.load(block, of_warp(1, 4), flag, 0b100, &strided(68, 0), &mut [[0; 32]]);
            bus.fence(block, of_warp(acquire.0, 5), acquire.1, order);
            bus.load(block, of_warp(1, 6), word, 0b100, &strided(64, 0), &mut [[0; 32]]);
        });
        findings.is_empty()
    };
    for order in [cta, Order::AcquireRelease(Scope::Gpu), Order::AcquireRelease(Scope::Sys), Order::Weak] {
        assert!(hand_over((0, 0b10), (1, 0b100), order), "{order:?}");
    }
    assert!(!hand_over((1, 0b10), (1, 0b100), cta), "another warp");
    assert!(!hand_over((0, 0b01), (1, 0b100), cta), "another lane");
    assert!(!hand_over((0, 0b10), (0, 0b100), cta), "another warp");
    assert!(!hand_over((0, 0b10), (1, 0b010), cta), "another lane");
}

#[test]
fn lanes_that_write_different_values_to_one_byte_race() {
    let word = access(Space::Shared, Type::U16, 1);
    for (values, races) in [([7; 32], 0), (strided(7, 1 << 16), 0), (strided(7, 1), 1)] {
        let findings = run(&mut Memory::new(), RACES, |bus, block| {
            bus.store(block, at(1), word, FULL, &strided(64, 0), &[values]);
        });
        assert_eq!(findings.len(), races, "{values:?}: only the bits stored count");
    }
}

/// Warp 0 copies to bytes 64 to 79 and waits for it; `between` runs before warp 1 reads them.
fn copy_then_read(between: impl FnOnce(&mut Bus<'_>, &mut BlockMemory)) -> Vec<Finding> {
    let mut memory = Memory::new();
    let buffer = memory.upload(&[3u32; 4]).unwrap();
    let base = memory.address(&buffer).unwrap();
    run(&mut memory, Checks::ALL, |bus, block| {
        bus.copy_async(block, at(1), 16, 1, &strided(64, 0), &strided(base, 0), &[16; 32]);
        bus.wait(block, at(2), FULL, None);
        between(bus, block);
        bus.load(block, of_warp(1, 3), access(Space::Shared, Type::U32, 1), 1, &strided(64, 0), &mut [[0; 32]]);
    })
}

#[test]
fn waiting_publishes_to_the_thread_itself_only() {
    assert_eq!(summary(&copy_then_read(|_, _| {})), [(FindingKind::SharedRace, 3, 1)]);
    assert_eq!(copy_then_read(barrier), []);
    // A barrier before the wait orders nothing that comes after it.
    let mut memory = Memory::new();
    let buffer = memory.upload(&[3u32; 4]).unwrap();
    let base = memory.address(&buffer).unwrap();
    let findings = run(&mut memory, Checks::ALL, |bus, block| {
        bus.copy_async(block, at(1), 16, 1, &strided(64, 0), &strided(base, 0), &[16; 32]);
        barrier(bus, block);
        bus.wait(block, at(2), FULL, None);
        bus.load(block, of_warp(1, 3), access(Space::Shared, Type::U32, 1), 1, &strided(64, 0), &mut [[0; 32]]);
    });
    assert_eq!(summary(&findings), [(FindingKind::SharedRace, 3, 1)]);
}

#[test]
fn refilling_a_buffer_that_others_still_read_is_a_race() {
    let mut memory = Memory::new();
    let buffer = memory.upload(&[3u32; 4]).unwrap();
    let base = memory.address(&buffer).unwrap();
    for ordered in [true, false] {
        let findings = run(&mut memory, RACES, |bus, block| {
            load(bus, block, 1, 1, access(Space::Shared, Type::U32, 1), &strided(64, 0));
            if ordered {
                barrier(bus, block);
            }
            bus.copy_async(block, at(2), 16, 1, &strided(64, 0), &strided(base, 0), &[16; 32]);
            barrier(bus, block);
            bus.wait(block, at(3), FULL, None);
        });
        let expected = if ordered { vec![] } else { vec![(FindingKind::SharedRace, 2, 1)] };
        assert_eq!(summary(&findings), expected);
    }
}

#[test]
fn blocks_race_in_device_memory_unless_atomics_order_them() {
    let mut memory = Memory::new();
    let buffer = memory.upload(&[0u32; 8]).unwrap();
    memory.name(&buffer, "x").unwrap();
    let base = memory.address(&buffer).unwrap();
    let of_block = |block, pc| At { block, ..at(pc) };
    let word = access(Space::Global, Type::U32, 1);
    let run_two = |memory: &mut Memory, checks: Checks, fenced: bool| {
        run(memory, checks, |bus, block| {
            let add =
                Atomic { op: AtomOp::Add, ty: Type::U32, space: Space::Global, order: Order::Weak, returns: true };
            let fence = Order::AcquireRelease(if fenced { Scope::Gpu } else { Scope::Cta });
            bus.store(block, of_block(0, 1), word, 1, &strided(base, 0), &[[5; 32]]);
            for (which, pc) in [(0, 2), (2, 3)] {
                bus.fence(block, of_block(which, pc), 1, fence);
                let flag = strided(base + 16, 0);
                bus.atomic(block, of_block(which, pc), add, 1, &flag, &[1; 32], &[0; 32], &mut [0; 32]);
                bus.fence(block, of_block(which, pc), 1, fence);
            }
            bus.load(block, of_block(2, 4), word, 1, &strided(base, 0), &mut [[0; 32]]);
        })
    };
    assert_eq!(run_two(&mut memory, Checks::GLOBAL_RACES, true), []);
    assert_eq!(run_two(&mut memory, Checks::ALL, false), []);
    let findings = run_two(&mut memory, Checks::GLOBAL_RACES, false);
    assert_eq!(summary(&findings), [(FindingKind::GlobalRace, 4, 1)]);
    let words = "read of 4 bytes at byte 0 of `x` (32 bytes); byte 0 is written by block [0, 0, 0] at k.cu:1, and nothing \
                 orders the two";
    assert_eq!((findings[0].detail.as_str(), findings[0].block), (words, [2, 0, 0]));
}

/// Counters of some accesses.
fn count(memory: &mut Memory, body: impl FnOnce(&mut Bus<'_>, &mut BlockMemory)) -> Counters {
    let program = program();
    let mut counters = None;
    run(memory, Checks::NONE, |bus, block| {
        body(bus, block);
        let recorder = std::mem::replace(&mut bus.recorder, Recorder::new(&program));
        counters = Some(recorder.finish(&program, bus.memory));
    });
    counters.unwrap()
}

#[test]
fn device_traffic_is_counted_per_buffer_and_direction() {
    let mut memory = Memory::new();
    let (x, y) = (memory.upload(&[1u32; 64]).unwrap(), memory.upload(&[1u32; 64]).unwrap());
    let [x_at, y_at] = [x, y].map(|b| memory.address(&b).unwrap());
    let counters = count(&mut memory, |bus, block| {
        // Half of the lanes in each buffer, and two lanes nowhere.
        let split = std::array::from_fn(|l| if l % 2 == 0 { x_at } else { y_at } + 4 * l as u64);
        bus.load_u32(block, 1, Space::Generic, FULL, &split);
        bus.load_u32(block, 1, Space::Generic, 0b11, &strided(1 << 20, 4));
        bus.store_u32(block, 2, Space::Global, FULL, &strided(y_at, 4), &[0; 32]);
        let add = Atomic { op: AtomOp::Add, ty: Type::U32, space: Space::Global, order: Order::Weak, returns: true };
        bus.atomic(block, at(3), add, 0b1111, &strided(x_at, 0), &[0; 32], &[0; 32], &mut [0; 32]);
        // Three lanes read all, one reads two bytes, one none.
        let wanted = std::array::from_fn(|l| [16, 16, 2, 0, 16][l % 5]);
        bus.copy_async(block, at(4), 16, 0b11111, &strided(128, 0), &strided(y_at, 16), &wanted);
    });
    let [x, y] = [x, y].map(|buffer| counters.traffic(&buffer));
    let numbers = |moved: crate::count::Moved| [moved.requests, moved.requested, moved.sectors, moved.distinct];
    assert_eq!(numbers(x.read), [2, 64 + 16, 4 + 1, 64]);
    assert_eq!(numbers(x.written), [1, 16, 1, 4]);
    assert_eq!(numbers(y.written), [1, 128, 4, 128]);
    // Sources of different size are requests of their own. The loads read the odd words of 128 bytes; of the copies' bytes
    // 0..16, 16..32, 64..80 and 32..34, the even words and those two bytes are new.
    assert_eq!(numbers(y.read), [3, 64 + 48 + 2, 4 + 2 + 1, 64 + 3 * 8 + 2]);
}

#[test]
fn shared_traffic_is_counted() {
    let counters = count(&mut Memory::new(), |bus, block| {
        bus.load_u32(block, 1, Space::Shared, FULL, &strided(64, 4));
        bus.store_u32(block, 2, Space::Shared, 0b11, &strided(0, 128), &[0; 32]);
        bus.load_u32(block, 3, Space::Shared, 0b11, &strided(1 << 20, 4));
        let add = Atomic { op: AtomOp::Add, ty: Type::U32, space: Space::Shared, order: Order::Weak, returns: true };
        bus.atomic(block, at(4), add, 0b111, &strided(0, 0), &[0; 32], &[0; 32], &mut [0; 32]);
        bus.load_matrix(block, at(5), false, &strided(128, 0), &mut [[0; 32]; 2]);
    });
    let shared = counters.shared();
    assert_eq!((shared.requests, shared.requested), (4, 128 + 8 + 12 + 256));
    // Two words of one bank, and three atomics on one word.
    assert_eq!(shared.conflicts, 1 + 2);
}
