//! Histograms, and every atomic whose end does not depend on the order.

use crate::common::{self, numbers::Numbers};
use ptx_vm::Arg;

#[test]
fn histograms_by_shared_and_by_global_atomics() {
    let Some(module) = common::load("kernels/atomics.cu") else { return };
    let mut numbers = Numbers::new(1);
    // Skewed, so that many lanes meet in one bin.
    let x: Vec<u8> = (0..3001).map(|_| (numbers.below(256) & numbers.below(256)) as u8).collect();
    let mut expected = vec![0u32; 64];
    x.iter().for_each(|x| expected[usize::from(x % 64)] += 1);
    for kernel in ["histogram_shared", "histogram_global"] {
        let found = common::run(&module.kernel(kernel).unwrap(), &common::shape(4, 96), |memory| {
            let (x, bins) = (memory.upload(&x).unwrap(), memory.upload(&[0u32; 64]).unwrap());
            (vec![x.into(), Arg::value(3001), bins.into()], bins)
        });
        assert_eq!(found, expected, "{kernel}");
    }
}

/// Start of the 32-bit cells: f32 in cell 10, counters above their bounds in 8 and 9.
const WORDS: [u32; 12] = [i32::MAX as u32, i32::MIN as u32, u32::MAX, 0, u32::MAX, 0, 0x1234, 50, 9, 50, 0, 0];
/// Start of the 64-bit cells: f64 in cell 6.
const DOUBLES: [u64; 9] = [1, i64::MAX as u64, 0, 5, u64::MAX, 0, 0, 0, 11];

fn fold(x: &[u32]) -> ([u32; 12], [u64; 8]) {
    let (mut w, mut d) = (WORDS, [0; 8]);
    d.copy_from_slice(&DOUBLES[..8]);
    let (mut sum32, mut sum64) = (0f32, 0f64);
    for &x in x {
        let wide = u64::from(x);
        w[0] = (w[0] as i32).min(x as i32) as u32;
        w[1] = (w[1] as i32).max(x as i32) as u32;
        w[2] = w[2].min(x);
        w[3] = w[3].max(x);
        w[4] &= x | 0xff;
        w[5] |= x & 0xff00;
        w[6] ^= x;
        w[7] = w[7].wrapping_sub(x % 1000);
        w[8] = if w[8] >= 6 { 0 } else { w[8] + 1 };
        w[9] = if w[9] == 0 || w[9] > 10 { 10 } else { w[9] - 1 };
        w[11] = w[11].max(x % 1000);
        sum32 += (x % 16) as f32;
        d[0] = d[0].wrapping_add(wide << 8);
        d[1] = (d[1] as i64).min(i64::from(x as i32) * 1_000_003) as u64;
        d[2] = d[2].max(wide * wide);
        d[3] ^= wide * wide;
        d[4] &= wide | 0xf0f0_f0f0_f0f0_f0f0;
        d[5] |= wide << 20;
        sum64 += f64::from(x);
    }
    (w[10], d[6]) = (sum32.to_bits(), sum64.to_bits());
    (w, d)
}

/// Which value is left by the exchanges depends on the order; that it and those returned are all that was put in does
/// not.
fn check(kernel: &str, shape: &ptx_vm::Launch) {
    let Some(module) = common::load("kernels/atomics.cu") else { return };
    let kernel = module.kernel(kernel).unwrap();
    let x = Numbers::new(2).words(150);
    let all: u64 = x.iter().map(|x| u64::from(*x)).sum();
    for launch in common::schedules(shape, &[1, 2]) {
        let mut memory = ptx_vm::Memory::new();
        let (w, d) = (memory.upload(&WORDS).unwrap(), memory.upload(&DOUBLES).unwrap());
        let args = vec![memory.upload(&x).unwrap().into(), Arg::value(150), w.into(), d.into()];
        let outcome = ptx_vm::Launch { args, ..launch }.run(&kernel, &mut memory).unwrap();
        common::assert_clean(&outcome, kernel.name());
        let (w, mut d) = (memory.download(&w).unwrap(), memory.download(&d).unwrap());
        let (exchanged, left) = (d[7], d.pop().unwrap());
        assert_eq!(exchanged + left, all + DOUBLES[8], "{}: exchanges", kernel.name());
        d[7] = 0;
        let (expected_words, expected_doubles) = fold(&x);
        assert_eq!((w.as_slice(), d.as_slice()), (&expected_words[..], &expected_doubles[..]), "{}", kernel.name());
    }
}

#[test]
fn atomics_on_device_memory() {
    check("atomics_global", &common::shape(3, 64));
}

#[test]
fn atomics_on_shared_memory() {
    check("atomics_shared", &common::shape(1, 96));
}
