//! f64 and 64-bit integers.

use crate::common::{self, Cuda, numbers::Numbers};
use ptx_vm::{Arg, Module};

fn module() -> Option<Module> {
    Cuda { options: &["--device-int128"], ..Cuda::new("kernels/double.cu") }.load()
}

/// The sum towards zero: the nearest one, one step back if it lies beyond the exact sum (Knuth's error term says so).
fn sum_towards_zero(x: f64, y: f64) -> f64 {
    let sum = x + y;
    let z = sum - x;
    let error = (x - (sum - z)) + (y - z);
    if error != 0.0 && (error < 0.0) == (sum > 0.0) { step(sum, false) } else { sum }
}

/// The product towards +∞.
fn product_up(x: f64, y: f64) -> f64 {
    let product = x * y;
    let error = x.mul_add(y, -product);
    if error > 0.0 { step(product, product >= 0.0) } else { product }
}

/// The next f64 away from zero, or towards it.
fn step(x: f64, away: bool) -> f64 {
    f64::from_bits(if away { x.to_bits() + 1 } else { x.to_bits() - 1 })
}

fn expected(x: f64, y: f64) -> [f64; 10] {
    [
        x.mul_add(y, 1.5),
        x / y,
        x.abs().sqrt(),
        x.mul_add(y, -x),
        sum_towards_zero(x, y) - product_up(x, y),
        x.min(y) + x.max(-y),
        // The last addition is fused with nothing: x · 0.5 is rounded to an integer first.
        x.floor() + y.trunc() + (x * 0.5).round_ties_even(),
        f64::from(x as f32),
        ((x * 1e6) as i64) as f64 + (y.abs() as u64) as f64,
        f64::from_bits(x.to_bits() ^ 1) * 1f64.copysign(y),
    ]
}

#[test]
fn f64_arithmetic_is_exact_to_the_bit() {
    let Some(module) = module() else { return };
    let mut numbers = Numbers::new(13);
    let scale = [1e-3, 1.0, 1e3, 1e9];
    let mut draw = |i: usize| (0..150).map(|j| numbers.unit_f64() * scale[(j + i) % 4]).collect::<Vec<_>>();
    let (xs, ys) = (draw(0), draw(1));
    let found = common::run(&module.kernel("floats").unwrap(), &common::shape(2, 96), |memory| {
        let (xs, ys) = (memory.upload(&xs).unwrap(), memory.upload(&ys).unwrap());
        let out = memory.allocate::<[f64; 10]>(150).unwrap();
        (vec![xs.into(), ys.into(), out.into(), Arg::value(150)], out)
    });
    for ((x, y), found) in xs.iter().zip(&ys).zip(&found) {
        assert_eq!(found.map(f64::to_bits), expected(*x, *y).map(f64::to_bits), "of {x:e} and {y:e}: {found:?}");
    }
}

#[test]
fn horners_rule() {
    let Some(module) = module() else { return };
    let mut numbers = Numbers::new(14);
    let xs: Vec<f64> = (0..32).map(|_| 2.0 * numbers.unit_f64()).collect();
    let coefficients: Vec<f64> = (0..21).map(|_| numbers.unit_f64()).collect();
    let found = common::run(&module.kernel("polynomial").unwrap(), &common::shape(1, 32), |memory| {
        let (x, c) = (memory.upload(&xs).unwrap(), memory.upload(&coefficients).unwrap());
        let out = memory.allocate::<f64>(32).unwrap();
        (vec![x.into(), c.into(), Arg::value(20), out.into()], out)
    });
    let horner = |x: &f64| coefficients.iter().rev().copied().reduce(|sum, c| sum.mul_add(*x, c)).unwrap();
    assert_eq!(found, xs.iter().map(horner).collect::<Vec<_>>());
}

fn integers(x: i64, y: i64) -> [u64; 12] {
    let (ux, uy) = (x as u64, y as u64);
    let unless_zero = |value: &dyn Fn() -> u64| if y == 0 { 0 } else { value() };
    let shift = (y & 63) as u32;
    [
        ux.wrapping_mul(uy),
        ((i128::from(x) * i128::from(y)) >> 64) as u64,
        ((u128::from(ux) * u128::from(uy)) >> 64) as u64,
        unless_zero(&|| x.wrapping_div(y) as u64),
        unless_zero(&|| x.wrapping_rem(y) as u64),
        unless_zero(&|| ux / uy),
        unless_zero(&|| ux % uy),
        (x >> shift) as u64 ^ ux >> shift ^ ux << shift,
        u64::from(x.count_ones() + 100 * x.leading_zeros() + 10_000 * if x == 0 { 0 } else { x.trailing_zeros() + 1 }),
        ux.reverse_bits(),
        x.min(y) as u64 ^ ux.max(uy),
        u64::from(x < y) + 2 * u64::from(ux < uy) + 4 * u64::from(x == y) + 8 * (x as i32).wrapping_abs() as u64,
    ]
}

#[test]
fn integers_of_64_bits() {
    let Some(module) = module() else { return };
    let mut numbers = Numbers::new(15);
    // Every length of number, and the ends.
    let mut draw = || (0..100).map(|_| (numbers.next() as i64) >> numbers.below(64)).collect::<Vec<_>>();
    let (mut xs, mut ys) = (draw(), draw());
    let ends = [0, 1, -1, i64::MAX, i64::MIN + 1, 3];
    xs.extend(ends.iter().flat_map(|end| [*end; 6]));
    ys.extend(ends.iter().cycle().take(36));
    let n = xs.len();
    let found = common::run(&module.kernel("integers").unwrap(), &common::shape(2, 96), |memory| {
        let (xs, ys) = (memory.upload(&xs).unwrap(), memory.upload(&ys).unwrap());
        let out = memory.allocate::<u64>(12 * n).unwrap();
        (vec![xs.into(), ys.into(), out.into(), Arg::value(n as i32)], out)
    });
    for ((x, y), found) in xs.iter().zip(&ys).zip(found.chunks(12)) {
        assert_eq!(found, integers(*x, *y), "of {x} and {y}");
    }
}

#[test]
fn carries_go_all_the_way() {
    let Some(module) = module() else { return };
    let mut numbers = Numbers::new(16);
    let mut draw =
        || (0..32).map(|_| u128::from(numbers.next()) << 64 | u128::from(numbers.next())).collect::<Vec<_>>();
    let (mut xs, mut ys) = (draw(), draw());
    (xs[0], ys[0]) = (u128::MAX, 1);
    (xs[1], ys[1]) = ((1 << 64) - 1, 1);
    (xs[2], ys[2]) = (u128::MAX - (1 << 32), 1 << 32);
    let words = |x: &[u128]| x.iter().flat_map(|x| [*x as u64, (x >> 64) as u64]).collect::<Vec<_>>();
    let run = |kernel: &str, len: usize| {
        common::run(&module.kernel(kernel).unwrap(), &common::shape(1, 32), |memory| {
            let (x, y) = (memory.upload(&words(&xs)).unwrap(), memory.upload(&words(&ys)).unwrap());
            let out = memory.allocate::<u64>(len).unwrap();
            (vec![x.into(), y.into(), out.into()], out)
        })
    };
    let pairs = || xs.iter().zip(&ys);
    let sums: Vec<u128> = pairs().map(|(x, y)| x.wrapping_add(*y)).collect();
    assert_eq!(run("carries", 64), words(&sums));
    let both: Vec<u128> = pairs().flat_map(|(x, y)| [x.wrapping_add(*y), x.wrapping_mul(*y)]).collect();
    assert_eq!(run("wide", 128), words(&both));
}
