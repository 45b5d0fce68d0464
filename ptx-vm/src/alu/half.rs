//! f16, bf16 and their packed pairs.
//!
//! Every operation rounds once, as if from the exact result. Sums and products are formed in f32 and rounded again, which
//! changes nothing: f32 has 24 bits, at least 2·11 + 2, and so many make the first rounding of a sum or product harmless
//! (Figueroa). A product of two bf16 that f32 must round, at its subnormal end, has 16 bits at most and is below half of
//! bf16's smallest value, as its rounding is. Only `fma` needs more: there the sum is rounded *to odd* in f64 and in f32 (an
//! inexact result takes the neighbour whose last bit is set). With at least two bits to spare, rounding that to nearest is
//! rounding the exact sum to nearest, because neither a tie nor the side of one can arise or vanish (Boldo and Melquiond).

pub(crate) mod single;

use crate::isa::{FloatMode, FloatOp, Type};
use single::{bf16_from_f32, f16_from_f32, f32_from_bf16, f32_from_f16};

const SIGN: u16 = 0x8000;
/// The NaN that every operation returns.
const NAN: u16 = 0x7fff;

/// `ty` is `F16`, `F16x2`, `Bf16` or `Bf16x2`.
#[inline(always)]
pub(crate) fn eval(op: FloatOp, ty: Type, mode: FloatMode, x: [u32; 4]) -> u32 {
    match ty {
        Type::F16 => u32::from(low::<F16>(op, mode, x)),
        Type::F16x2 => pair::<F16>(op, mode, x),
        Type::Bf16 => u32::from(low::<Bf16>(op, mode, x)),
        _ => pair::<Bf16>(op, mode, x),
    }
}

#[inline(always)]
fn low<F: Format>(op: FloatOp, mode: FloatMode, x: [u32; 4]) -> u16 {
    one::<F>(op, mode, x.map(|v| v as u16))
}

#[inline(always)]
fn pair<F: Format>(op: FloatOp, mode: FloatMode, x: [u32; 4]) -> u32 {
    u32::from(low::<F>(op, mode, x)) | u32::from(low::<F>(op, mode, x.map(|v| v >> 16))) << 16
}

/// What differs between the two formats.
trait Format {
    /// Bits of +infinity.
    const INFINITY: u16;
    const ONE: u16;
    /// Exact.
    fn widen(x: u16) -> f32;
    /// To nearest.
    fn round(x: f32) -> u16;
}

struct F16;

impl Format for F16 {
    const INFINITY: u16 = 0x7c00;
    const ONE: u16 = 0x3c00;

    #[inline(always)]
    fn widen(x: u16) -> f32 {
        f32_from_f16(x)
    }

    #[inline(always)]
    fn round(x: f32) -> u16 {
        f16_from_f32(x)
    }
}

struct Bf16;

impl Format for Bf16 {
    const INFINITY: u16 = 0x7f80;
    const ONE: u16 = 0x3f80;

    #[inline(always)]
    fn widen(x: u16) -> f32 {
        f32_from_bf16(x)
    }

    #[inline(always)]
    fn round(x: f32) -> u16 {
        bf16_from_f32(x)
    }
}

/// `a·b + c` rounded to odd, in f64 and then in f32. The product is exact in f64, and nothing there under- or overflows.
#[inline(always)]
fn fma_to_odd(a: f32, b: f32, c: f32) -> f32 {
    let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = product + c;
    // Knuth's error of a sum is exact; it is NaN, and compares false, where the sum is not finite.
    let virtual_c = sum - product;
    let error = (product - (sum - virtual_c)) + (c - virtual_c);
    to_odd_f32(f64::from_bits(make_odd(sum.to_bits(), sum, error)))
}

/// Rounded once to nearest.
#[inline(always)]
pub(crate) fn f16_from_f64(x: f64) -> u16 {
    f16_from_f32(to_odd_f32(x))
}

#[inline(always)]
fn to_odd_f32(x: f64) -> f32 {
    let near = x as f32;
    // An overflow goes back to the largest finite f32, whose last bit is set.
    f32::from_bits(make_odd(u64::from(near.to_bits()), x, x - f64::from(near)) as u32)
}

/// `bits` of a value that `error` is missing from: the neighbour on the error's side if the value is even and inexact.
#[inline(always)]
fn make_odd(bits: u64, value: f64, error: f64) -> u64 {
    let neighbour = if (error > 0.0) == (value > 0.0) { bits.wrapping_add(1) } else { bits.wrapping_sub(1) };
    if ((error > 0.0) | (error < 0.0)) & (bits & 1 == 0) { neighbour } else { bits }
}

#[inline(always)]
fn one<F: Format>(op: FloatOp, mode: FloatMode, x: [u16; 4]) -> u16 {
    let [a, b, c, _] = if mode.ftz { x.map(flush::<F>) } else { x };
    let result = match op {
        FloatOp::Add => F::round(F::widen(a) + F::widen(b)),
        FloatOp::Sub => F::round(F::widen(a) - F::widen(b)),
        FloatOp::Mul => F::round(F::widen(a) * F::widen(b)),
        FloatOp::Fma => F::round(fma_to_odd(F::widen(a), F::widen(b), F::widen(c))),
        FloatOp::Neg => canonical::<F>(a ^ SIGN),
        FloatOp::Abs => canonical::<F>(a & !SIGN),
        FloatOp::TanhApprox => F::round(f64::from(F::widen(a)).tanh() as f32),
        FloatOp::Ex2Approx => F::round(f64::from(F::widen(a)).exp2() as f32),
        _ => extremum::<F>(op, a, b),
    };
    let result = if mode.ftz { flush::<F>(result) } else { result };
    clamp::<F>(mode, result)
}

/// Subnormals become zero of the same sign.
#[inline(always)]
fn flush<F: Format>(x: u16) -> u16 {
    if x & F::INFINITY == 0 { x & SIGN } else { x }
}

#[inline(always)]
fn is_nan<F: Format>(x: u16) -> bool {
    x & !SIGN > F::INFINITY
}

#[inline(always)]
fn canonical<F: Format>(x: u16) -> u16 {
    if is_nan::<F>(x) { NAN } else { x }
}

/// `.sat` and `.relu`.
#[inline(always)]
fn clamp<F: Format>(mode: FloatMode, x: u16) -> u16 {
    let negative = x & SIGN != 0;
    match (mode.sat, mode.relu) {
        (true, _) if is_nan::<F>(x) || negative => 0,
        (true, _) => x.min(F::ONE),
        (_, true) if is_nan::<F>(x) => NAN,
        (_, true) if negative => 0,
        _ => x,
    }
}

/// Minima and maxima: -0 is below +0, and of one NaN and a number the number wins unless `.NaN` is written.
#[inline(always)]
fn extremum<F: Format>(op: FloatOp, a: u16, b: u16) -> u16 {
    use FloatOp::{MaxNan, MaxNanXorsignAbs, MaxXorsignAbs, Min, MinNan, MinNanXorsignAbs, MinXorsignAbs};
    let minimum = matches!(op, Min | MinNan | MinXorsignAbs | MinNanXorsignAbs);
    let nan_wins = matches!(op, MinNan | MaxNan | MinNanXorsignAbs | MaxNanXorsignAbs);
    let xorsign = matches!(op, MinXorsignAbs | MaxXorsignAbs | MinNanXorsignAbs | MaxNanXorsignAbs);
    let sign = (a ^ b) & SIGN;
    let (a, b) = if xorsign { (a & !SIGN, b & !SIGN) } else { (a, b) };
    let chosen = match (is_nan::<F>(a), is_nan::<F>(b)) {
        (true, true) => return NAN,
        (true, false) | (false, true) if nan_wins => return NAN,
        (true, false) => b,
        (false, true) => a,
        (false, false) if (rank(a) < rank(b)) == minimum => a,
        (false, false) => b,
    };
    if xorsign { chosen | sign } else { chosen }
}

/// Orders numbers as their bits: negative ones downwards, -0 just below +0.
#[inline(always)]
const fn rank(x: u16) -> i32 {
    let magnitude = (x & !SIGN) as i32;
    if x & SIGN != 0 { -1 - magnitude } else { magnitude }
}
