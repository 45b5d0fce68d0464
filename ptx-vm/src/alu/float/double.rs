//! `.f64`: nearest is Rust's own, directed roundings are exact integer arithmetic.

use super::{approximate, directed};
use crate::isa::{FloatMode, FloatOp, Rounding};

/// The NaN of an operation on numbers that has no result.
const NAN: u64 = 0xfff8_0000_0000_0000;
const QUIET: u64 = 0x0008_0000_0000_0000;
const SIGN: u64 = 1 << 63;

/// See [`super::eval_f64`].
#[inline(always)]
pub(super) fn eval(op: FloatOp, mode: FloatMode, x: [u64; 4]) -> u64 {
    let [a, b, c, _] = x.map(f64::from_bits);
    let nearest = matches!(mode.rounding, Rounding::Nearest | Rounding::NearestAway);
    match op {
        FloatOp::Add if nearest => finish(a + b, &[a, b]),
        FloatOp::Sub if nearest => finish(a - b, &[a, b]),
        FloatOp::Mul if nearest => finish(a * b, &[a, b]),
        FloatOp::Fma if nearest => finish(a.mul_add(b, c), &[a, b, c]),
        FloatOp::Div if nearest => finish(a / b, &[a, b]),
        FloatOp::Rcp if nearest => finish(1.0 / a, &[a]),
        FloatOp::Sqrt if nearest => finish(a.sqrt(), &[a]),
        FloatOp::Add => finish(directed::add(a, b, mode.rounding), &[a, b]),
        FloatOp::Sub => finish(directed::add(a, -b, mode.rounding), &[a, b]),
        FloatOp::Mul => finish(directed::mul(a, b, mode.rounding), &[a, b]),
        FloatOp::Fma => finish(directed::fma(a, b, c, mode.rounding), &[a, b, c]),
        FloatOp::Div => finish(directed::div(a, b, mode.rounding), &[a, b]),
        FloatOp::Rcp => finish(directed::div(1.0, a, mode.rounding), &[a]),
        FloatOp::Sqrt => finish(directed::sqrt(a, mode.rounding), &[a]),
        FloatOp::Abs => x[0] & !SIGN,
        FloatOp::Neg => x[0] ^ SIGN,
        FloatOp::Copysign => (x[0] & SIGN) | (x[1] & !SIGN),
        // The other operand if one is NaN; −0 is less than +0.
        FloatOp::Min if b.is_nan() || a < b || (a == b && a.is_sign_negative()) => finish(a, &[a]),
        FloatOp::Max if b.is_nan() || a > b || (a == b && b.is_sign_negative()) => finish(a, &[a]),
        FloatOp::Min | FloatOp::Max => finish(b, &[b]),
        FloatOp::RcpApprox => upper(finish(approximate::upper_half(a, |a| 1.0 / a), &[a])),
        FloatOp::RsqrtApprox if mode.ftz => upper(finish(approximate::upper_half(a, |a| 1.0 / a.sqrt()), &[a])),
        FloatOp::RsqrtApprox => finish(1.0 / a.sqrt(), &[a]),
        _ => unreachable!("{op:?} has no .f64 form"),
    }
}

/// A NaN result is the first NaN among the operands, quieted, whatever the processor or the compiler made of it.
#[inline(always)]
fn finish(value: f64, operands: &[f64]) -> u64 {
    if !value.is_nan() {
        return value.to_bits();
    }
    operands.iter().find(|v| v.is_nan()).map_or(NAN, |v| v.to_bits() | QUIET)
}

#[inline(always)]
fn upper(bits: u64) -> u64 {
    bits & 0xffff_ffff_0000_0000
}
