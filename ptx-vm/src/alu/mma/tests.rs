//! Against a triple loop in f64 over plain matrices, which go to and from fragments by the element, as the manual draws them.

use super::{Accumulation, mma};
use crate::isa::{Mma, Type};
use half::{bf16, f16};

const SHAPES: [Mma; 6] = [
    Mma { k: 16, input: Type::F16, accumulator: Type::F32 },
    Mma { k: 16, input: Type::F16, accumulator: Type::F16 },
    Mma { k: 16, input: Type::Bf16, accumulator: Type::F32 },
    Mma { k: 8, input: Type::F16, accumulator: Type::F32 },
    Mma { k: 8, input: Type::F16, accumulator: Type::F16 },
    Mma { k: 8, input: Type::Bf16, accumulator: Type::F32 },
];
const MODES: [Accumulation; 2] = [Accumulation::Exact, Accumulation::Sequential];

/// A matrix by rows.
type Matrix = Vec<Vec<f64>>;

fn matrix(rows: usize, columns: usize, mut element: impl FnMut(usize, usize) -> f64) -> Matrix {
    (0..rows).map(|i| (0..columns).map(|j| element(i, j)).collect()).collect()
}

/// With row and column.
fn elements(of: &Matrix) -> impl Iterator<Item = (usize, usize, f64)> {
    of.iter().enumerate().flat_map(|(row, xs)| xs.iter().enumerate().map(move |(column, x)| (row, column, *x)))
}

/// Where a 16×8 accumulator keeps (row, column): lane, and element of the lane.
fn accumulator_place(row: usize, column: usize) -> (usize, usize) {
    (row % 8 * 4 + column / 2, row / 8 * 2 + column % 2)
}

fn to_bits(ty: Type, x: f64) -> u32 {
    match ty {
        Type::F16 => f16::from_f64(x).to_bits().into(),
        Type::Bf16 => bf16::from_f64(x).to_bits().into(),
        _ => (x as f32).to_bits(),
    }
}

fn from_bits(ty: Type, bits: u32) -> f64 {
    match ty {
        Type::F16 => f16::from_bits(bits as u16).to_f64(),
        Type::Bf16 => bf16::from_bits(bits as u16).to_f64(),
        _ => f32::from_bits(bits).into(),
    }
}

/// Elements of 16 bits go two to a register, of 32 bits one.
fn store(registers: &mut [[u32; 32]], ty: Type, lane: usize, element: usize, x: f64) {
    match ty {
        Type::F32 => registers[element][lane] = to_bits(ty, x),
        _ => registers[element / 2][lane] |= to_bits(ty, x) << (16 * (element % 2)),
    }
}

/// D as bits, row by row.
fn run(op: Mma, mode: Accumulation, a: &Matrix, b: &Matrix, c: &Matrix) -> Vec<Vec<u32>> {
    let mut registers = op.registers().map(|n| vec![[0; 32]; n]);
    for (row, k, x) in elements(a) {
        // The 8×8 quadrants follow each other down the rows first.
        let (lane, element) = (row % 8 * 4 + k % 8 / 2, (row / 8 + k / 8 * 2) * 2 + k % 2);
        store(&mut registers[1], op.input, lane, element, x);
    }
    for (k, column, x) in elements(b) {
        let (lane, element) = (column * 4 + k % 8 / 2, k / 8 * 2 + k % 2);
        store(&mut registers[2], op.input, lane, element, x);
    }
    for (row, column, x) in elements(c) {
        let (lane, element) = accumulator_place(row, column);
        store(&mut registers[3], op.accumulator, lane, element, x);
    }
    let [d, a, b, c] = &mut registers;
    d.iter_mut().for_each(|register| *register = [0xdead_beef; 32]);
    mma(op, mode, a, b, c, d);
    let read = |row, column| {
        let (lane, element) = accumulator_place(row, column);
        match op.accumulator {
            Type::F32 => d[element][lane],
            _ => d[element / 2][lane] >> (16 * (element % 2)) & 0xffff,
        }
    };
    (0..16).map(|row| (0..8).map(|column| read(row, column)).collect()).collect()
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Of magnitude 2^-3 to 2^3, already a value of the type.
    fn value(&mut self, ty: Type) -> f64 {
        let bits = self.bits();
        let x = (1.0 + (bits >> 12) as f64 / (1u64 << 52) as f64) * 2f64.powi((bits % 6) as i32 - 3);
        from_bits(ty, to_bits(ty, if bits & 64 == 0 { x } else { -x }))
    }
}

/// A, B, C with different values everywhere.
fn operands(op: Mma, random: &mut Random) -> [Matrix; 3] {
    let k = usize::from(op.k);
    let mut make = |rows, columns, ty| matrix(rows, columns, |_, _| random.value(ty));
    [make(16, k, op.input), make(k, 8, op.input), make(16, 8, op.accumulator)]
}

#[test]
fn small_integers_are_exact_in_both_modes() {
    for (op, mode) in SHAPES.into_iter().flat_map(|op| MODES.map(|mode| (op, mode))) {
        let k = usize::from(op.k);
        let a = matrix(16, k, |i, j| ((i * 5 + j * 3) % 11) as f64 - 5.0);
        let b = matrix(k, 8, |i, j| ((i * 7 + j * 2) % 13) as f64 - 6.0);
        let c = matrix(16, 8, |i, j| (i * 8 + j) as f64);
        let d = run(op, mode, &a, &b, &c);
        for (row, column, start) in elements(&c) {
            let want = start + (0..k).map(|i| a[row][i] * b[i][column]).sum::<f64>();
            assert_eq!(from_bits(op.accumulator, d[row][column]), want, "{op:?} {mode:?} ({row}, {column})");
        }
    }
}

#[test]
fn exact_sums_are_rounded_once() {
    let mut random = Random(1);
    for op in SHAPES.into_iter().flat_map(|op| [op; 20]) {
        let [a, b, c] = operands(op, &mut random);
        let d = run(op, Accumulation::Exact, &a, &b, &c);
        for (row, column, start) in elements(&c) {
            // All terms are multiples of 2^-60 below 2^12 in sum, but for f32's C: f64 is exact or off by its last place.
            let want = (0..usize::from(op.k)).rev().map(|i| a[row][i] * b[i][column]).sum::<f64>() + start;
            let got = d[row][column];
            let near = [want.next_down(), want, want.next_up()].map(|x| to_bits(op.accumulator, x));
            assert!(near.contains(&got), "{op:?} ({row}, {column}): {got:#x}, want {near:#x?}");
        }
    }
}

#[test]
fn sequential_sums_round_in_the_order_of_k() {
    let mut random = Random(2);
    for op in SHAPES.into_iter().flat_map(|op| [op; 20]) {
        let [a, b, c] = operands(op, &mut random);
        let d = run(op, Accumulation::Sequential, &a, &b, &c);
        for (row, column, start) in elements(&c) {
            let terms = (0..usize::from(op.k)).map(|i| a[row][i] * b[i][column]);
            let in_order = terms.clone().fold(start as f32, |sum, term| sum + term as f32);
            let want = to_bits(op.accumulator, f64::from(in_order));
            let got = d[row][column];
            assert_eq!(got, want, "{op:?} ({row}, {column})");

            // One rounding of relative size u for each of k additions, and one to the accumulator's format.
            let u = f64::from(f32::EPSILON) / 2.0;
            let magnitude = start.abs() + terms.clone().map(f64::abs).sum::<f64>();
            let exact = start + terms.sum::<f64>();
            let last = if op.accumulator == Type::F16 { magnitude * 2f64.powi(-11) } else { 0.0 };
            let bound = f64::from(op.k) * u / (1.0 - f64::from(op.k) * u) * magnitude * (1.0 + 1e-3) + last;
            let error = (from_bits(op.accumulator, got) - exact).abs();
            assert!(error <= bound, "{op:?} ({row}, {column}): off by {error:e}, bound {bound:e}");
        }
    }
}

#[test]
fn modes_differ_where_a_sum_cancels() {
    let op = SHAPES[2];
    let mut a = matrix(16, 16, |_, _| 1.0);
    let b = matrix(16, 8, |k, _| if k == 15 { -1.0 } else { 2f64.powi(-4) });
    let c = matrix(16, 8, |_, _| 2f64.powi(24));
    a.iter_mut().for_each(|row| row[15] = 2f64.powi(24));
    let [exact, sequential] = MODES.map(|mode| f32::from_bits(run(op, mode, &a, &b, &c)[3][5]));
    assert_eq!(exact, 15.0 / 16.0);
    assert_eq!(sequential, 0.0);
}

#[test]
fn infinities_and_nans() {
    for (op, mode) in SHAPES.into_iter().flat_map(|op| MODES.map(|mode| (op, mode))) {
        let k = usize::from(op.k);
        let mut a = matrix(16, k, |_, _| 1.0);
        let mut b = matrix(k, 8, |_, _| 0.5);
        let c = matrix(16, 8, |_, _| 0.0);
        a[2][7] = f64::INFINITY;
        b[7][1] = 0.0;
        b[3][6] = f64::NEG_INFINITY;
        let d = run(op, mode, &a, &b, &c);
        let (nan, infinity) = if op.accumulator == Type::F16 { (0x7fff, 0x7c00) } else { (0x7fff_ffff, 0x7f80_0000) };
        let sign = if op.accumulator == Type::F16 { 0x8000 } else { 0x8000_0000 };
        assert_eq!(d[2][1], nan, "{op:?}: infinity times zero");
        assert_eq!(d[2][6], nan, "{op:?}: infinity less infinity");
        assert_eq!(d[2][0], infinity, "{op:?}");
        assert_eq!(d[5][6], sign | infinity, "{op:?}");
        assert_eq!(from_bits(op.accumulator, d[5][5]), 0.5 * k as f64, "{op:?}");
    }
}

#[test]
fn an_exact_sum_goes_to_f16_in_one_step() {
    let op = SHAPES[1];
    // 1 + 2^-11 + 2^-36: rounded to f32 first, it would be a tie, and 1.
    let a = matrix(16, 16, |_, k| [2f64.powi(-11), 2f64.powi(-18)].get(k).copied().unwrap_or(0.0));
    let b = matrix(16, 8, |k, _| if k == 1 { 2f64.powi(-18) } else { 1.0 });
    let c = matrix(16, 8, |_, _| 1.0);
    assert_eq!(run(op, Accumulation::Exact, &a, &b, &c)[9][6], 0x3c01);
}

/// A 512³ product is 65,536 of these. The best of many parts, so that a busy machine does not count.
#[test]
#[ignore = "a measurement"]
fn time_of_a_512_cubed_product() {
    let mut random = Random(3);
    for (op, mode) in [SHAPES[0], SHAPES[2]].into_iter().flat_map(|op| MODES.map(|mode| (op, mode))) {
        // From 0.5 to 2 in either type, and as f32.
        let (one, fraction) = if op.input == Type::F16 { (0x3800_3800, 0x7ff_07ff) } else { (0x3f00_3f00, 0xff_00ff) };
        let [_, a, b, c] = op.registers().map(|n| vec![[0; 32].map(|_: u32| one | random.bits() as u32 & fraction); n]);
        let mut d = vec![[0; 32]; 4];
        let part = |_| {
            let start = std::time::Instant::now();
            for _ in 0..1024 {
                mma(op, mode, std::hint::black_box(&a), &b, &c, std::hint::black_box(&mut d));
            }
            start.elapsed()
        };
        let best = (0..128).map(part).min().unwrap_or_default();
        println!("{op:?} {mode:?}: {:?}", best * 64);
    }
}
