//! Kernels whose blocks wait for each other.

use crate::common::{self, numbers::Numbers};
use ptx_vm::{Arg, Buffer, Checks, FindingKind, Launch, Memory};

const STEPS: usize = 5;

fn smoothed(x: &[f32]) -> Vec<f32> {
    (0..STEPS).fold(x.to_vec(), |x, _| {
        let inner = x.windows(3).map(|x| (x[0] + 2.0 * x[1] + x[2]) * 0.25);
        std::iter::once(x[0]).chain(inner).chain(x.last().copied()).collect()
    })
}

/// After an odd number of steps the answer is in the second buffer.
fn smooth(memory: &mut Memory, x: &[f32]) -> (Vec<Arg>, Buffer<f32>) {
    let (from, to) = (memory.upload(x).unwrap(), memory.allocate(x.len()).unwrap());
    let arrived = memory.upload(&[0u32]).unwrap();
    (vec![from.into(), to.into(), Arg::value(x.len() as i32), Arg::value(STEPS as i32), arrived.into()], to)
}

#[test]
fn a_barrier_of_the_whole_grid() {
    let Some(module) = common::load("kernels/grid.cu") else { return };
    let x = Numbers::new(10).units(4 * 64 - 5);
    let launch = Launch { checks: Checks::GLOBAL_RACES, ..common::shape(4, 64) };
    let found = common::run_resident(&module.kernel("smooth").unwrap(), &launch, &[4], |memory| smooth(memory, &x));
    assert_eq!(found, smoothed(&x));
}

#[test]
fn a_barrier_of_the_whole_grid_never_ends_when_part_of_it_is_resident() {
    let Some(module) = common::load("kernels/grid.cu") else { return };
    let kernel = module.kernel("smooth").unwrap();
    for launch in common::schedules(&Launch { step_limit: 20_000, ..common::shape(4, 64) }, &[1, 3]) {
        let mut memory = Memory::new();
        let (args, _) = smooth(&mut memory, &[1.0; 4 * 64]);
        let outcome = Launch { args, ..launch }.run(&kernel, &mut memory).unwrap();
        let stuck = |kind| matches!(kind, FindingKind::StepLimit | FindingKind::Deadlock);
        assert!(!outcome.completed);
        assert!(
            !outcome.findings.is_empty() && outcome.findings.iter().all(|finding| stuck(finding.kind)),
            "{outcome:?}"
        );
        // Where it is stuck: the barrier, by its line.
        let source = outcome.findings[0].source.as_ref().expect("there is line information");
        assert!(source.file.ends_with("grid.cu") && (4..=14).contains(&source.line), "{source}");
    }
}

#[test]
fn tiles_taken_by_ticket_are_right_for_every_number_of_resident_blocks() {
    let Some(module) = common::load("kernels/grid.cu") else { return };
    let n = 9 * 128 + 17;
    let x = Numbers::new(11).words(n);
    let sum = |sum: &mut u32, x: &u32| {
        *sum = sum.wrapping_add(*x);
        Some(*sum)
    };
    let expected: Vec<u32> = x.iter().scan(0, sum).collect();
    for blocks in [1, 4, 12] {
        let launch = Launch { checks: Checks::GLOBAL_RACES, ..common::shape(blocks, 128) };
        let residents: Vec<u32> = (1..=blocks).step_by(3).chain([blocks]).collect();
        let found = common::run_resident(&module.kernel("scan").unwrap(), &launch, &residents, |memory| {
            let (x, sums) = (memory.upload(&x).unwrap(), memory.allocate::<u32>(n).unwrap());
            let (state, next) = (memory.upload(&[0u64; 10]).unwrap(), memory.upload(&[0u32]).unwrap());
            (vec![x.into(), sums.into(), Arg::value(n as i32), state.into(), next.into()], sums)
        });
        assert_eq!(found, expected, "{blocks} blocks");
    }
}
