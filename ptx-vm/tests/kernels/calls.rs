//! Functions that are called, and arrays in local memory.

use crate::common::{self, numbers::Numbers};

fn gcd(a: i32, b: i32) -> i32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

type Triple = (i32, i16, [i8; 3]);

fn turned((_, y, z): Triple, by: i32) -> Triple {
    let product = i16::from(z[0]).wrapping_mul(z[1].into());
    (i32::from(y) + by, product, std::array::from_fn(|i| z[(i + by as usize) % 3]))
}

fn expected(value: i32) -> [i64; 5] {
    let square = |x: i32| u64::from(x as u32).wrapping_mul(u64::from(x as u32));
    let branch = match value % 3 {
        0 => square(value).wrapping_sub(square(7)) as i64,
        1 => square(value) as i64 + 1,
        _ => 0,
    };
    let (x, y, z) =
        turned(turned((value, (value >> 3) as i16, [0, 8, 16].map(|by| (value >> by) as i8)), value & 3), 1);
    let digits = i64::from(z[0]) + 2 * i64::from(z[1]) + 3 * i64::from(z[2]);
    let n = 5 + (value & 7) as usize;
    let mut values: Vec<i32> = (0..n).map(|j| (value >> j) ^ (j as i32 * 0x2545)).collect();
    values.sort();
    let picked = values[(value >> 4 & 15) as usize % n];
    let nibbles = (0..8).map(|j| 1i64 << (4 * (value >> (4 * j) & 15))).sum();
    [
        gcd(value.abs() % 1000 + 1, 720).into(),
        branch,
        i64::from(x) * 1_000_000 + i64::from(y) * 1000 + digits,
        i64::from(values[n / 2]) << 32 | i64::from(picked as u32),
        nibbles,
    ]
}

#[test]
fn functions_with_parameters_of_every_shape() {
    let Some(module) = common::load("kernels/calls.cu") else { return };
    let x: Vec<i32> = Numbers::new(8).words(128).into_iter().map(|word| word as i32).collect();
    let kernel = module.kernel("calls").unwrap();
    assert!(kernel.local_bytes() > 0, "the arrays are in local memory");
    let found = common::run(&kernel, &common::shape(2, 64), |memory| {
        let (x, out) = (memory.upload(&x).unwrap(), memory.allocate::<[i64; 5]>(128).unwrap());
        (vec![x.into(), out.into()], out)
    });
    for (value, found) in x.iter().zip(&found) {
        assert_eq!(*found, expected(*value), "of {value}");
    }
}

#[test]
fn one_function_on_three_kinds_of_memory() {
    let Some(module) = common::load("kernels/calls.cu") else { return };
    let x: Vec<f32> = (0..64u16).map(|i| f32::from(i * i % 97)).collect();
    let found = common::run(&module.kernel("spaces").unwrap(), &common::shape(1, 64), |memory| {
        let (x, out) = (memory.upload(&x).unwrap(), memory.allocate::<f32>(256).unwrap());
        (vec![x.into(), out.into()], out)
    });
    for t in 0..64 {
        let local: Vec<f32> = (0..8).map(|i| x[(t + i * i) % 64]).collect();
        let every_third: f32 = x[t / 2..].iter().step_by(3).take(10).sum();
        assert_eq!(found[3 * t..3 * t + 3], [local.iter().sum(), every_third, every_third], "thread {t}");
        let mixed = if t % 3 == 0 { &local } else { &x };
        assert_eq!(found[192 + t], mixed.iter().step_by(2).take(4).sum::<f32>(), "thread {t}, mixed pointers");
    }
}
