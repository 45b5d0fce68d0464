//! Prefix sums, compaction and votes.

use crate::common::{self, numbers::Numbers};
use ptx_vm::Arg;

#[test]
fn prefix_sums() {
    let Some(module) = common::load("kernels/scan.cu") else { return };
    for (n, threads) in [(1, 32), (700, 96), (1024, 1024), (1100, 256)] {
        let x: Vec<i32> = Numbers::new(n as u64).words(n).iter().map(|word| *word as i32 >> 4).collect();
        let found = common::run(&module.kernel("prefix_sum").unwrap(), &common::shape(1, threads), |memory| {
            let (x, sums) = (memory.upload(&x).unwrap(), memory.allocate::<i32>(n).unwrap());
            (vec![x.into(), Arg::value(n as i32), sums.into()], sums)
        });
        let sum = |sum: &mut i32, x: &i32| {
            *sum = sum.wrapping_add(*x);
            Some(*sum)
        };
        assert_eq!(found, x.iter().scan(0, sum).collect::<Vec<_>>(), "{n} numbers, {threads} threads");
    }
}

#[test]
fn compaction() {
    let Some(module) = common::load("kernels/scan.cu") else { return };
    let x: Vec<i32> = Numbers::new(6).words(500).iter().map(|word| *word as i32).collect();
    let found = common::run(&module.kernel("compact").unwrap(), &common::shape(1, 128), |memory| {
        // What is not written stays as it is.
        let (x, kept) = (memory.upload(&x).unwrap(), memory.upload(&[7; 501]).unwrap());
        (vec![x.into(), Arg::value(500), kept.into()], kept)
    });
    let mut expected: Vec<i32> = x.into_iter().filter(|x| *x < 0).collect();
    let count = expected.len() as i32;
    expected.resize(500, 7);
    expected.push(count);
    assert_eq!(found, expected);
}

#[test]
fn votes_and_matches() {
    let Some(module) = common::load("kernels/scan.cu") else { return };
    let mut numbers = Numbers::new(7);
    let mut inputs: Vec<Vec<u32>> = (0..4).map(|_| (0..32).map(|_| numbers.below(9)).collect()).collect();
    inputs.extend([vec![7; 32], vec![100; 32], vec![2; 32]]);
    for x in inputs {
        let found = common::run(&module.kernel("votes").unwrap(), &common::shape(1, 32), |memory| {
            let (x, out) = (memory.upload(&x).unwrap(), memory.allocate::<u32>(192).unwrap());
            (vec![x.into(), out.into()], out)
        });
        let ballot = |vote: &dyn Fn(u32) -> bool| (0..32).fold(0, |mask, lane| mask | u32::from(vote(x[lane])) << lane);
        let uniform = [0, u32::MAX].contains(&ballot(&|x| x > 3));
        let flags = u32::from(x.contains(&7)) | u32::from(x.iter().all(|x| *x < 100)) << 1 | u32::from(uniform) << 2;
        // Of the two results of `match.all`, the predicate is xor-ed into the mask.
        let all = if ballot(&|other| other == x[0]) == u32::MAX { u32::MAX ^ 1 } else { 0 };
        let odd = ballot(&|x| x % 2 == 1);
        for (lane, found) in found.chunks(6).enumerate() {
            let same = ballot(&|other| other == x[lane]);
            // All odd lanes agree that they are odd.
            let branch = if x[lane] % 2 == 1 { [ballot(&|x| x % 2 == 1 && x > 4), odd ^ 1] } else { [0, 0] };
            assert_eq!(found, [flags, same, all, same, branch[0], branch[1]], "lane {lane} of {x:?}");
        }
    }
}
