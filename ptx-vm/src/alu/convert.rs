//! Conversions.
//!
//! What becomes of a NaN the manual leaves open for floating-point results; this is what ptxas 13.0 computes when it folds
//! constants. To f16, bf16 and the 8-bit formats: the canonical one, all ones but the sign. From those to f32 and f64: f32's
//! canonical 0x7fffffff, widened, but a plain `cvt.f32.bf16` is a shift and keeps every bit. Between f32, tf32 and f64: sign
//! and upper payload stay, and the NaN turns quiet. To an integer the manual is exact: 0, unless the operand is f64 or the
//! result has 64 bits; then only the top bit of the result type is set. `.sat` and `.relu` make +0 of -0.

mod number;

use super::half::single::{bf16_from_f32, f16_from_f32, f32_from_bf16, f32_from_f16};
use crate::isa::{Alu, Convert, Rounding, Type};
use number::{Format, Number};

/// See [`super::eval`].
#[inline(always)]
pub(crate) fn eval(op: Alu, x: [u64; 4]) -> u64 {
    match op {
        Alu::Cvt(cvt) => match quick(cvt, x[0]) {
            Some(result) => result,
            None => scalar_or_packed(cvt, x[0]),
        },
        Alu::CvtPack(cvt) => match (quick(cvt, x[0]), quick(cvt, x[1])) {
            (Some(high), Some(low)) => high << 16 | low,
            _ => to_float(cvt, x[0]) << (cvt.to.bits() / 2) | to_float(cvt, x[1]),
        },
        Alu::CvtPackSat(to, with_c) => pack_sat(to, if with_c { x[2] } else { 0 }, x),
        _ => 0,
    }
}

/// The conversions that kernels are full of, in a form that vectorises; `None` leaves it to the general one.
#[inline(always)]
fn quick(cvt: Convert, x: u64) -> Option<u64> {
    if cvt.ftz || cvt.sat || cvt.relu || cvt.satfinite {
        return None;
    }
    let single = f32::from_bits(x as u32);
    Some(match (cvt.to, cvt.from, cvt.rounding, cvt.integral) {
        (Type::F16 | Type::F16x2, Type::F32, Rounding::Nearest, _) => u64::from(f16_from_f32(single)),
        (Type::Bf16 | Type::Bf16x2, Type::F32, Rounding::Nearest, _) => u64::from(bf16_from_f32(single)),
        (Type::F32, Type::F16, _, _) => u64::from(f32_from_f16(x as u16).to_bits()),
        (Type::F32, Type::Bf16, _, _) => u64::from(f32_from_bf16(x as u16).to_bits()),
        (Type::F32, Type::F32, _, false) => x & 0xffff_ffff,
        (Type::F64, Type::F64, _, false) => x,
        (Type::F64, Type::F32, ..) if !single.is_nan() => f64::from(single).to_bits(),
        (Type::F32, Type::F64, Rounding::Nearest, _) if !f64::from_bits(x).is_nan() => {
            u64::from((f64::from_bits(x) as f32).to_bits())
        }
        (Type::F32, Type::S32, Rounding::Nearest, _) => u64::from((x as i32 as f32).to_bits()),
        (Type::F32, Type::U32, Rounding::Nearest, _) => u64::from((x as u32 as f32).to_bits()),
        (Type::S32, Type::F32, Rounding::Zero, _) => single as i32 as u64,
        (Type::U32, Type::F32, Rounding::Zero, _) => u64::from(single as u32),
        (to, from, _, false) if !to.is_float() && !from.is_float() => truncate(to, integer(from, x) as u64),
        _ => return None,
    })
}

/// `cvt` with one operand: a scalar, or a pair of 8-bit floats on one side and a pair of f16 on the other.
fn scalar_or_packed(cvt: Convert, x: u64) -> u64 {
    match (cvt.to, cvt.from) {
        (Type::E4m3x2 | Type::E5m2x2, Type::F16x2) => to_float(cvt, x >> 16) << 8 | to_float(cvt, x),
        (Type::F16x2, Type::E4m3x2 | Type::E5m2x2) => to_float(cvt, x >> 8) << 16 | to_float(cvt, x),
        (Type::Tf32, _) => to_float(cvt, x) << Format::TF32_SHIFT,
        (to, _) if to.is_float() => to_float(cvt, x),
        (to, from) if from.is_float() => {
            let number = read(cvt, x).to_integral(cvt.rounding);
            number.to_integer(to).unwrap_or_else(|| truncate(to, integer_of_nan(to, from)))
        }
        (to, from) => clamp_integer(to, integer(from, x)),
    }
}

/// The operand, flushed if `.ftz` says so.
fn read(cvt: Convert, x: u64) -> Number {
    if !cvt.from.is_float() {
        return Number::from_integer(cvt.from, x);
    }
    let format = Format::of(cvt.from);
    let flushed = cvt.ftz && cvt.from == Type::F32 && format.is_subnormal(x);
    Number::from_float(format, if flushed { x & format.sign() } else { x })
}

/// One value of a floating-point type, in its low bits.
fn to_float(cvt: Convert, x: u64) -> u64 {
    let number = read(cvt, x);
    let number = if cvt.integral { number.to_integral(cvt.rounding) } else { number };
    let format = Format::of(cvt.to);
    let bits = number.to_float(format, cvt.rounding, cvt.satfinite);
    let flushed = cvt.ftz && cvt.to == Type::F32 && format.is_subnormal(bits);
    let bits = if flushed { bits & format.sign() } else { bits };
    let (nan, negative) = (format.is_nan(bits), bits & format.sign() != 0);
    match (cvt.sat, cvt.relu) {
        (true, _) if nan || negative => 0,
        (true, _) => bits.min(format.one()),
        (_, true) if nan => format.canonical_nan(),
        (_, true) if negative => 0,
        _ => bits,
    }
}

fn integer_of_nan(to: Type, from: Type) -> u64 {
    if from == Type::F64 || to.bits() == 64 { 1 << (to.bits() - 1) } else { 0 }
}

/// The value of an integer operand.
#[inline(always)]
fn integer(from: Type, x: u64) -> i128 {
    let unused = 64 - from.bits();
    if from.is_signed() { i128::from(((x << unused) as i64) >> unused) } else { i128::from(x << unused >> unused) }
}

/// The low bits of the type, sign-extended if it is signed.
#[inline(always)]
fn truncate(to: Type, x: u64) -> u64 {
    let unused = 64 - to.bits();
    if to.is_signed() { (((x << unused) as i64) >> unused) as u64 } else { x << unused >> unused }
}

fn clamp_integer(to: Type, x: i128) -> u64 {
    let (least, most) = if to.is_signed() {
        (-(1i128 << (to.bits() - 1)), (1i128 << (to.bits() - 1)) - 1)
    } else {
        (0, (1i128 << to.bits()) - 1)
    };
    x.clamp(least, most) as u64
}

/// `cvt.pack.sat`: `b` in the low bits, `a` above it, then the low bits of `c`.
fn pack_sat(to: Type, c: u64, x: [u64; 4]) -> u64 {
    let one = |x| clamp_integer(to, integer(Type::S32, x)) & ((1 << to.bits()) - 1);
    let pair = one(x[0]) << to.bits() | one(x[1]);
    (c << (2 * to.bits()) | pair) & 0xffff_ffff
}
