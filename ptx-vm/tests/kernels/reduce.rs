//! Reductions in warps, blocks and grids.

use crate::common::{self, numbers::Numbers};
use ptx_vm::{Arg, Checks, Launch};

/// What five rounds of `shfl.down` leave in lane 0: a balanced tree.
fn warp_sum(x: &[f32]) -> f32 {
    match x {
        [one] => *one,
        _ => {
            let (low, high) = x.split_at(x.len() / 2);
            warp_sum(&low.iter().zip(high).map(|(a, b)| a + b).collect::<Vec<_>>())
        }
    }
}

#[test]
fn warp_sums() {
    let Some(module) = common::load("kernels/reduce.cu") else { return };
    let x = Numbers::new(1).units(5 * 96);
    let found = common::run(&module.kernel("warp_sums").unwrap(), &common::shape(5, 96), |memory| {
        let (x, sums) = (memory.upload(&x).unwrap(), memory.allocate::<f32>(15).unwrap());
        (vec![x.into(), sums.into()], sums)
    });
    assert_eq!(found, x.chunks(32).map(warp_sum).collect::<Vec<f32>>());
}

#[test]
fn every_mode_of_shuffle() {
    let Some(module) = common::load("kernels/reduce.cu") else { return };
    let x: Vec<i32> = Numbers::new(2).words(32).iter().map(|word| *word as i32 >> 8).collect();
    let found = common::run(&module.kernel("shuffles").unwrap(), &common::shape(1, 32), |memory| {
        let (x, out) = (memory.upload(&x).unwrap(), memory.allocate::<i32>(160).unwrap());
        (vec![x.into(), out.into()], out)
    });
    for (lane, found) in found.chunks(5).enumerate() {
        let prefix: i32 = x[lane / 8 * 8..=lane].iter().sum();
        let turned = x[lane / 4 * 4 + (lane + 3) % 4];
        // Past the end of its half of the warp, a lane keeps its own.
        let next = if lane % 16 + 5 < 16 { x[lane + 5] } else { x[lane] };
        let mirrored = if lane < 13 { x[12 - lane] } else { -1 };
        assert_eq!(found, [*x.iter().max().unwrap(), prefix, turned, next, mirrored], "lane {lane}");
    }
}

#[test]
fn reductions_in_one_instruction() {
    let Some(module) = common::load("kernels/reduce.cu") else { return };
    let x: Vec<u32> = Numbers::new(3).words(32).iter().map(|word| word | 0x10).collect();
    let found = common::run(&module.kernel("redux").unwrap(), &common::shape(1, 32), |memory| {
        let (x, out) = (memory.upload(&x).unwrap(), memory.allocate::<u32>(7).unwrap());
        (vec![x.into(), out.into()], out)
    });
    let fold = |f: fn(u32, u32) -> u32| x.iter().copied().reduce(f).unwrap();
    let expected = [
        fold(u32::wrapping_add),
        fold(u32::min),
        fold(|a, b| (a as i32).max(b as i32) as u32),
        fold(|a, b| a & b),
        fold(|a, b| a | b),
        fold(|a, b| a ^ b),
        x.iter().skip(1).step_by(2).fold(0, |sum, value| sum.wrapping_add(*value)),
    ];
    assert_eq!(found, expected);
}

/// The kernel's own order: what a thread of the grid adds up, then warps, blocks, and the rest in one warp.
fn total(x: &[f32], blocks: usize) -> f32 {
    let (fours, tail) = x.split_at(x.len() / 4 * 4);
    let thread = |t: usize| {
        let fours = fours.chunks(4).skip(t).step_by(128 * blocks);
        let sum = fours.fold(0.0, |sum, four| sum + ((four[0] + four[1]) + (four[2] + four[3])));
        sum + tail.get(t).copied().unwrap_or(0.0)
    };
    let block = |block: usize| {
        let warp =
            |warp: usize| warp_sum(&(0..32).map(|lane| thread(128 * block + 32 * warp + lane)).collect::<Vec<_>>());
        (warp(0) + warp(1)) + (warp(2) + warp(3))
    };
    let partial: Vec<f32> = (0..blocks).map(block).collect();
    warp_sum(&(0..32).map(|lane| partial.iter().skip(lane).step_by(32).sum()).collect::<Vec<_>>())
}

#[test]
fn the_last_block_adds_up() {
    let Some(module) = common::load("kernels/reduce.cu") else { return };
    for (n, blocks) in [(1, 1), (4099, 3), (1000, 5)] {
        let x = Numbers::new(n as u64).units(n);
        let launch = Launch { checks: Checks::GLOBAL_RACES, ..common::shape(blocks as u32, 128) };
        let found = common::run_resident(&module.kernel("total").unwrap(), &launch, &[1, 2, blocks as u32], |memory| {
            let sum = memory.allocate::<f32>(1).unwrap();
            let partial = memory.allocate::<f32>(blocks).unwrap();
            let finished = memory.upload(&[0u32]).unwrap();
            let x = memory.upload(&x).unwrap();
            (vec![x.into(), Arg::value(n as i32), partial.into(), finished.into(), sum.into()], sum)
        });
        assert_eq!(found, [total(&x, blocks)], "{n} numbers, {blocks} blocks");
    }
}

#[test]
fn place_of_the_largest() {
    let Some(module) = common::load("kernels/reduce.cu") else { return };
    let mut x = Numbers::new(4).units(333);
    x.iter_mut().for_each(|x| *x -= 2.0); // all negative
    (x[77], x[200]) = (-0.5, -0.5);
    let found = common::run(&module.kernel("arg_max").unwrap(), &common::shape(1, 96), |memory| {
        // Both answers in one buffer: value, place.
        let (x, out) = (memory.upload(&x).unwrap(), memory.allocate::<u32>(2).unwrap());
        (vec![x.into(), Arg::value(333), out.slice(0..1).into(), out.slice(1..2).into()], out)
    });
    assert_eq!(found, [(-0.5f32).to_bits(), 77]);
}
