//! Comparisons and selection.

use crate::isa::{Alu, Cmp, Combine, Compare, Testp, Type};
use ::half::{bf16, f16};

/// See [`super::eval`].
#[inline(always)]
pub(crate) fn eval(op: Alu, x: [u64; 4]) -> u64 {
    match op {
        Alu::Testp(class, Type::F64) => u64::from(testp(class, f64::from_bits(x[0]).classify())),
        Alu::Testp(class, _) => u64::from(testp(class, f32::from_bits(x[0] as u32).classify())),
        Alu::Setp(compare) => setp(compare, x),
        Alu::Set(compare, to) => set(compare, to, x),
        Alu::Slct(ty, selector, ftz) => {
            let first = match selector {
                Type::F32 => flush(ftz, x[2] as u32) >= 0.0,
                _ => x[2] as i32 >= 0,
            };
            (if first { x[0] } else { x[1] }) & ones(ty)
        }
        _ => unreachable!("{op:?} is no comparison"),
    }
}

/// Zeros count as normal, as the manual says.
#[inline(always)]
fn testp(class: Testp, of: std::num::FpCategory) -> bool {
    use std::num::FpCategory::{Infinite, Nan, Normal, Subnormal, Zero};
    match class {
        Testp::Finite => !matches!(of, Nan | Infinite),
        Testp::Infinite => of == Infinite,
        Testp::Number => of != Nan,
        Testp::NotANumber => of == Nan,
        Testp::Normal => matches!(of, Normal | Zero),
        Testp::Subnormal => of == Subnormal,
    }
}

#[inline(always)]
fn setp(compare: Compare, x: [u64; 4]) -> u64 {
    let combined = |result: bool| u64::from(combine(compare.combine, result, x[2] & 1 == 1));
    let low = holds(compare, x[0], x[1]);
    let second = if is_pair(compare.ty) { holds(compare, upper(x[0]), upper(x[1])) } else { !low };
    combined(low) | combined(second) << 1
}

#[inline(always)]
fn set(compare: Compare, to: Type, x: [u64; 4]) -> u64 {
    let yes = match to {
        Type::F32 => 0x3f80_0000,
        Type::F16 | Type::F16x2 => 0x3c00,
        Type::Bf16 | Type::Bf16x2 => 0x3f80,
        // Each half of a pair has its own answer, whatever the result is called.
        _ if is_pair(compare.ty) => 0xffff,
        _ => ones(to),
    };
    let chosen = |a, b| if combine(compare.combine, holds(compare, a, b), x[2] & 1 == 1) { yes } else { 0 };
    let low = chosen(x[0], x[1]);
    if is_pair(compare.ty) { low | chosen(upper(x[0]), upper(x[1])) << 16 } else { low }
}

#[inline(always)]
fn is_pair(ty: Type) -> bool {
    matches!(ty, Type::F16x2 | Type::Bf16x2)
}

#[inline(always)]
fn upper(pair: u64) -> u64 {
    pair >> 16
}

/// All bits of a type.
#[inline(always)]
fn ones(ty: Type) -> u64 {
    u64::MAX >> (64 - ty.bits())
}

#[inline(always)]
fn combine(with: Option<Combine>, result: bool, predicate: bool) -> bool {
    match with {
        None => result,
        Some(Combine::And) => result & predicate,
        Some(Combine::Or) => result | predicate,
        Some(Combine::Xor) => result ^ predicate,
    }
}

/// `a cmp b`, of the low halves if the type is a pair.
#[inline(always)]
fn holds(compare: Compare, a: u64, b: u64) -> bool {
    let Compare { cmp, ty, ftz, .. } = compare;
    match ty {
        Type::U16 | Type::B16 => ordered(cmp, a as u16, b as u16),
        Type::S16 => ordered(cmp, a as i16, b as i16),
        Type::U32 | Type::B32 => ordered(cmp, a as u32, b as u32),
        Type::S32 => ordered(cmp, a as i32, b as i32),
        Type::U64 | Type::B64 => ordered(cmp, a, b),
        Type::S64 => ordered(cmp, a as i64, b as i64),
        Type::F32 => ordered(cmp, flush(ftz, a as u32), flush(ftz, b as u32)),
        Type::F64 => ordered(cmp, f64::from_bits(a), f64::from_bits(b)),
        Type::F16 | Type::F16x2 => ordered(cmp, widen(ftz, a as u16), widen(ftz, b as u16)),
        Type::Bf16 | Type::Bf16x2 => {
            ordered(cmp, bf16::from_bits(a as u16).to_f32(), bf16::from_bits(b as u16).to_f32())
        }
        _ => unreachable!("{ty:?} has no order"),
    }
}

/// Subnormals to zero, if asked.
#[inline(always)]
fn flush(ftz: bool, bits: u32) -> f32 {
    f32::from_bits(if ftz && bits & 0x7f80_0000 == 0 { bits & 0x8000_0000 } else { bits })
}

/// The value of an f16, its subnormals as zero if asked.
#[inline(always)]
fn widen(ftz: bool, bits: u16) -> f32 {
    f16::from_bits(if ftz && bits & 0x7c00 == 0 { bits & 0x8000 } else { bits }).to_f32()
}

/// The plain operators are false if an operand is NaN, `ne` too; the `…U` ones are true.
#[inline(always)]
#[allow(clippy::neg_cmp_op_on_partial_ord, clippy::double_comparisons)] // on NaN none of these is its "simpler" form
fn ordered<T: PartialOrd>(cmp: Cmp, a: T, b: T) -> bool {
    match cmp {
        Cmp::Eq => a == b,
        Cmp::Ne => a < b || a > b,
        Cmp::Lt | Cmp::Lo => a < b,
        Cmp::Le | Cmp::Ls => a <= b,
        Cmp::Gt | Cmp::Hi => a > b,
        Cmp::Ge | Cmp::Hs => a >= b,
        Cmp::EqU => !(a < b || a > b),
        Cmp::NeU => a != b,
        Cmp::LtU => !(a >= b),
        Cmp::LeU => !(a > b),
        Cmp::GtU => !(a <= b),
        Cmp::GeU => !(a < b),
        Cmp::Num => a.partial_cmp(&b).is_some(),
        Cmp::Nan => a.partial_cmp(&b).is_none(),
    }
}
