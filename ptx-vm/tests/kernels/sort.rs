//! Bitonic sorts.

use crate::common::{self, numbers::Numbers};
use ptx_vm::Arg;

#[test]
fn a_block_sorts_in_shared_memory() {
    let Some(module) = common::load("kernels/sort.cu") else { return };
    for n in [1, 2, 300, 512] {
        let mut keys = Numbers::new(n as u64).units(n);
        for (key, special) in keys.iter_mut().skip(1).zip([f32::INFINITY, -0.0, 0.0, f32::NEG_INFINITY, 1e-40, -1e-40])
        {
            *key = special;
        }
        (0..n / 3).for_each(|i| keys[n - 1 - i] = keys[i]); // equal keys keep their order
        let found = common::run(&module.kernel("bitonic").unwrap(), &common::shape(1, 256), |memory| {
            let (keys, out) = (memory.upload(&keys).unwrap(), memory.allocate::<u32>(2 * n).unwrap());
            (vec![keys.into(), Arg::value(n as i32), out.slice(0..n).into(), out.slice(n..2 * n).into()], out)
        });
        let mut places: Vec<u32> = (0..n as u32).collect();
        places.sort_by(|a, b| keys[*a as usize].total_cmp(&keys[*b as usize]));
        let sorted = places.iter().map(|place| keys[*place as usize].to_bits());
        assert_eq!(found, sorted.chain(places.iter().copied()).collect::<Vec<_>>(), "{n} keys");
    }
}

#[test]
fn a_warp_sorts_in_registers() {
    let Some(module) = common::load("kernels/sort.cu") else { return };
    let keys: Vec<i32> = Numbers::new(5).words(192).iter().map(|word| *word as i32 >> 24).collect();
    let found = common::run(&module.kernel("bitonic_warp").unwrap(), &common::shape(2, 96), |memory| {
        let (keys, sorted) = (memory.upload(&keys).unwrap(), memory.allocate::<i32>(192).unwrap());
        (vec![keys.into(), sorted.into()], sorted)
    });
    let mut expected = keys;
    expected.chunks_mut(32).for_each(<[i32]>::sort);
    assert_eq!(found, expected);
}
