//! Instructions by class: a kernel in which every one can be counted by hand.

use crate::common;
use ptx_vm::isa::Class;
use ptx_vm::{Launch, Memory, Module, Schedule};

/// What `classes.ptx` executes with 2 blocks of 48 threads: 4 warps and 96 threads. Each instruction outside the loop and
/// without a guard is one for every warp and thread.
const EXPECTED: [(Class, u64, u64); 16] = [
    // 12 of them once, 2 of them in each of 5 passes.
    (Class::Integer, 12 * 4 + 2 * 5 * 4, 12 * 96 + 2 * 5 * 96),
    // `fma`, and `add` by the threads below 40 of each block.
    (Class::F32, 2 * 4, 96 + 80),
    (Class::F64, 4, 96),
    (Class::Half, 4, 96),
    (Class::Special, 4, 96),
    (Class::Convert, 4, 96),
    (Class::Tensor, 0, 0),
    // Every warp issues the store that no thread executes.
    (Class::Global, 4, 0),
    (Class::Shared, 2 * 4, 2 * 96),
    (Class::Local, 2 * 4, 2 * 96),
    (Class::Constant, 4, 96),
    (Class::Atomic, 4, 96),
    // By the first warp of each block only.
    (Class::AsyncCopy, 2, 64),
    // `activemask` by all, `shfl` by the first warps.
    (Class::Collective, 4 + 2, 96 + 64),
    (Class::Sync, 4, 96),
    // The loop's branch 5 times, the branch to the end, `ret`. A branch is executed by everyone who decides.
    (Class::Control, 7 * 4, 7 * 96),
];

#[test]
fn every_class() {
    let module = Module::load(include_str!("classes.ptx")).unwrap();
    let kernel = module.kernel("classes").unwrap();
    for schedule in [Schedule::InOrder, Schedule::Random] {
        let mut memory = Memory::new();
        let args = vec![memory.upload(&[0_f32; 48]).unwrap().into()];
        let launch = Launch { args, schedule, seed: 5, ..common::shape(2, 48) };
        let outcome = launch.run(&kernel, &mut memory).unwrap();
        common::assert_clean(&outcome, "classes");
        let counters = outcome.counters;
        for (class, warps, threads) in EXPECTED {
            assert_eq!(counters.class(class), warps, "{class:?}, warp instructions");
            assert_eq!(counters.class_threads(class), threads, "{class:?}, thread instructions");
        }
        assert_eq!(counters.warp_instructions(), EXPECTED.iter().map(|(_, warps, _)| warps).sum());
        assert_eq!(counters.thread_instructions(), EXPECTED.iter().map(|(_, _, threads)| threads).sum());
    }
}

#[test]
fn the_table_names_every_class() {
    assert!(Class::ALL.iter().all(|class| EXPECTED.iter().any(|(named, ..)| named == class)));
}
