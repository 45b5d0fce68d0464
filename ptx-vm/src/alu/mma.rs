//! Tensor-core products on the registers of a whole warp.
//!
//! Fragments, with `g = lane / 4` and `q = lane % 4`, two 16-bit elements to a register, the first in the low half:
//!
//! | register `i` of | holds |
//! |---|---|
//! | A | row `g + 8·(i % 2)`, k `2q + 8·(i / 2)` and the next |
//! | B | column `g`, k `2q + 8·i` and the next |
//! | C, D as f32 | row `g + 8·(i / 2)`, column `2q + i % 2` |
//! | C, D as f16 | row `g + 8·i`, columns `2q` and the next |

#[cfg(test)]
mod tests;

use super::half::f16_from_f64;
use super::half::single::{f16_from_f32, f32_from_bf16, f32_from_f16};
use crate::isa::{Mma, Type};

/// How tensor-core sums are accumulated; a GPU's own order is not documented, so results hold to bounds, not bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Accumulation {
    /// Products and sum in f64, rounded once: the most exact answer.
    #[default]
    Exact,
    /// f32 in the order of k, rounded at each step: a pessimist's answer.
    Sequential,
}

const M: usize = 16;
const N: usize = 8;
const MAX_K: usize = 16;

type Warp = [u32; 32];

/// `d = a·b + c`; the slices hold `op.registers()` registers each, every register one value per lane.
pub(crate) fn mma(op: Mma, accumulation: Accumulation, a: &[Warp], b: &[Warp], c: &[Warp], d: &mut [Warp]) {
    match accumulation {
        Accumulation::Exact => product::<f64>(op, a, b, c, d),
        Accumulation::Sequential => product::<f32>(op, a, b, c, d),
    }
}

/// What a sum is kept in.
trait Sum: Copy + Default + std::ops::Mul<Output = Self> + std::ops::AddAssign {
    fn of(x: f32) -> Self;
    /// Rounded once.
    fn to_f16(self) -> u16;
    /// Rounded once.
    fn to_f32(self) -> f32;
}

impl Sum for f64 {
    fn of(x: f32) -> f64 {
        f64::from(x)
    }

    fn to_f16(self) -> u16 {
        f16_from_f64(self)
    }

    fn to_f32(self) -> f32 {
        self as f32
    }
}

impl Sum for f32 {
    fn of(x: f32) -> f32 {
        x
    }

    fn to_f16(self) -> u16 {
        f16_from_f32(self)
    }

    fn to_f32(self) -> f32 {
        self
    }
}

/// A register of 16-bit elements is an 8×8 block by rows: lane after lane, low half first.
type Block<S> = [[S; 8]; 8];

fn product<S: Sum>(op: Mma, a: &[Warp], b: &[Warp], c: &[Warp], d: &mut [Warp]) {
    // By row and block of k; by block of k, k and column.
    let (mut left, mut right) = ([[[S::default(); 8]; MAX_K / 8]; M], [[[S::default(); N]; 8]; MAX_K / 8]);
    for (i, register) in a.iter().enumerate() {
        let rows = left.iter_mut().skip(8 * (i % 2));
        for (row, values) in rows.zip(block::<S>(op.input, register)) {
            row[i / 2] = values;
        }
    }
    for (register, right) in b.iter().zip(&mut right) {
        let columns = block::<S>(op.input, register);
        for (k, row) in right.iter_mut().enumerate() {
            *row = std::array::from_fn(|column| columns[column][k]);
        }
    }
    let mut sums = read_accumulator::<S>(op.accumulator, c);
    for (row, sums) in left.iter().zip(&mut sums) {
        for (xs, block) in row.iter().zip(&right).take(usize::from(op.k) / 8) {
            for (x, column) in xs.iter().zip(block) {
                for (sum, y) in sums.iter_mut().zip(column) {
                    *sum += *x * *y;
                }
            }
        }
    }
    write_accumulator(op.accumulator, &sums, d);
}

fn block<S: Sum>(ty: Type, register: &Warp) -> Block<S> {
    let mut block = [[S::default(); 8]; 8];
    let widen = |block: &mut Block<S>, one: fn(u16) -> f32| {
        for (values, pair) in block.as_flattened_mut().chunks_exact_mut(2).zip(register) {
            values[0] = S::of(one(*pair as u16));
            values[1] = S::of(one((*pair >> 16) as u16));
        }
    };
    match ty {
        Type::Bf16 => widen(&mut block, f32_from_bf16),
        _ => widen(&mut block, f32_from_f16),
    }
    block
}

fn read_accumulator<S: Sum>(ty: Type, c: &[Warp]) -> [[S; N]; M] {
    let mut sums = [[S::default(); N]; M];
    for (half, sums) in sums.chunks_exact_mut(8).enumerate() {
        match ty {
            Type::F16 => sums.copy_from_slice(&block(Type::F16, &c[half])),
            _ => {
                let values = sums.as_flattened_mut().chunks_exact_mut(2);
                for (values, (even, odd)) in values.zip(c[2 * half].iter().zip(&c[2 * half + 1])) {
                    values[0] = S::of(f32::from_bits(*even));
                    values[1] = S::of(f32::from_bits(*odd));
                }
            }
        }
    }
    sums
}

fn write_accumulator<S: Sum>(ty: Type, sums: &[[S; N]; M], d: &mut [Warp]) {
    for (half, sums) in sums.chunks_exact(8).enumerate() {
        for (lane, pair) in sums.as_flattened().chunks_exact(2).enumerate() {
            if ty == Type::F16 {
                d[half][lane] = u32::from(pair[0].to_f16()) | u32::from(pair[1].to_f16()) << 16;
            } else {
                d[2 * half][lane] = f32_bits(pair[0]);
                d[2 * half + 1][lane] = f32_bits(pair[1]);
            }
        }
    }
}

/// Rounded once; f32 arithmetic returns only one NaN.
fn f32_bits<S: Sum>(sum: S) -> u32 {
    let sum = sum.to_f32();
    if sum.is_nan() { 0x7fff_ffff } else { sum.to_bits() }
}
