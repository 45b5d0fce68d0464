//! Static and dynamic shared memory together.

use crate::common::{self, numbers::Numbers};
use ptx_vm::{Arg, Launch};

fn expected(x: &[u32], dynamic: usize, t: usize) -> u64 {
    let letters: u64 = (0..5).map(|i| u64::from(b'a' + i) << (8 * i)).sum();
    let pairs: u64 = (0..3).map(|i| (48 + i) * (1 + 2 * i)).sum();
    let halves: u64 = (0..7).map(|i| 1000 * i).sum();
    let other = (t * 29 + 7) % 64;
    let word = |i: usize| (x[i % 64].wrapping_mul(3)).wrapping_add(i as u32);
    let dynamic = (other..dynamic).step_by(64).map(|i| u64::from(word(i)) + (u64::from(word(i) >> 8 & 255) << 40));
    letters + pairs + halves + u64::from(x[other]) + dynamic.sum::<u64>()
}

#[test]
fn static_and_dynamic_arrays_do_not_overlap() {
    let Some(module) = common::load("kernels/shared.cu") else { return };
    let kernel = module.kernel("arrays").unwrap();
    assert!(kernel.shared_bytes() >= 5 + 48 + 14 + 256, "{} static bytes", kernel.shared_bytes());
    let x = Numbers::new(12).words(64);
    for words in [0, 1, 64, 300] {
        let launch = Launch { dynamic_shared: 4 * words as u32, ..common::shape(1, 64) };
        let found = common::run(&kernel, &launch, |memory| {
            let (x, out) = (memory.upload(&x).unwrap(), memory.allocate::<u64>(68).unwrap());
            (vec![x.into(), out.into(), Arg::value(words as i32)], out)
        });
        let expected = (0..64).map(|t| expected(&x, words, t)).chain([0, 4 * words as u64, 1, 0]);
        assert_eq!(found, expected.collect::<Vec<_>>(), "{words} dynamic words");
    }
}
