//! f32: Rust's own arithmetic, rounded to nearest. A NaN result is the one that the GPU makes.

use super::super::tree::Class::{Float, Pred, Word};
use super::{Class, Pure, pure};

const TWO: &[Class] = &[Float, Float];
const THREE: &[Class] = &[Float, Float, Float];

const fn f(x: u64) -> f32 {
    f32::from_bits(x as u32)
}

/// The bits of a result.
pub(super) fn bits(x: f32) -> u64 {
    if x.is_nan() { 0x7fff_ffff } else { x.to_bits().into() }
}

/// `.ftz`: a subnormal number becomes 0 with its sign.
pub(super) fn flush(x: f32) -> f32 {
    if x.is_subnormal() { 0f32.copysign(x) } else { x }
}

fn z(x: u64) -> f32 {
    flush(f(x))
}

/// The other operand if one is NaN; −0 is less than +0.
fn least(a: f32, b: f32) -> f32 {
    if a.is_nan() || (!b.is_nan() && (b < a || (b == a && b.is_sign_negative()))) { b } else { a }
}

pub(super) static OPERATIONS: &[Pure] = &[
    pure("mov.f32", Float, &[Float], |[a, ..]| a),
    pure("mov.b32", Float, &[Word], |[a, ..]| a),
    pure("add.f32", Float, TWO, |[a, b, ..]| bits(f(a) + f(b))),
    pure("add.rn.f32", Float, TWO, |[a, b, ..]| bits(f(a) + f(b))),
    pure("add.ftz.f32", Float, TWO, |[a, b, ..]| bits(flush(z(a) + z(b)))),
    pure("sub.f32", Float, TWO, |[a, b, ..]| bits(f(a) - f(b))),
    pure("sub.rn.ftz.f32", Float, TWO, |[a, b, ..]| bits(flush(z(a) - z(b)))),
    pure("mul.f32", Float, TWO, |[a, b, ..]| bits(f(a) * f(b))),
    pure("mul.rn.f32", Float, TWO, |[a, b, ..]| bits(f(a) * f(b))),
    pure("mul.ftz.f32", Float, TWO, |[a, b, ..]| bits(flush(z(a) * z(b)))),
    pure("fma.rn.f32", Float, THREE, |[a, b, c, _]| bits(f(a).mul_add(f(b), f(c)))),
    pure("fma.rn.ftz.f32", Float, THREE, |[a, b, c, _]| bits(flush(z(a).mul_add(z(b), z(c))))),
    pure("div.rn.f32", Float, TWO, |[a, b, ..]| bits(f(a) / f(b))),
    pure("rcp.rn.f32", Float, &[Float], |[a, ..]| bits(1.0 / f(a))),
    pure("sqrt.rn.f32", Float, &[Float], |[a, ..]| bits(f(a).sqrt())),
    pure("min.f32", Float, TWO, |[a, b, ..]| bits(least(f(a), f(b)))),
    pure("max.f32", Float, TWO, |[a, b, ..]| bits(-least(-f(a), -f(b)))),
    pure("min.ftz.f32", Float, TWO, |[a, b, ..]| bits(least(z(a), z(b)))),
    pure("max.NaN.f32", Float, TWO, |[a, b, ..]| bits(if f(b).is_nan() { f(b) } else { nan_greatest(f(a), f(b)) })),
    pure("copysign.f32", Float, TWO, |[a, b, ..]| a & 0x8000_0000 | b & 0x7fff_ffff),
    pure("selp.f32", Float, &[Float, Float, Pred], |[a, b, c, _]| if c != 0 { a } else { b }),
    pure("slct.f32.s32", Float, &[Float, Float, Word], |[a, b, c, _]| if c as i32 >= 0 { a } else { b }),
    pure("set.lt.f32.f32", Float, TWO, |[a, b, ..]| if f(a) < f(b) { 0x3f80_0000 } else { 0 }),
    pure("set.ne.u32.f32", Word, TWO, |[a, b, ..]| if f(a) < f(b) || f(a) > f(b) { u64::MAX } else { 0 }),
    pure("setp.eq.f32", Pred, TWO, |[a, b, ..]| u64::from(f(a) == f(b))),
    pure("setp.ne.f32", Pred, TWO, |[a, b, ..]| u64::from(f(a) < f(b) || f(a) > f(b))),
    pure("setp.lt.f32", Pred, TWO, |[a, b, ..]| u64::from(f(a) < f(b))),
    pure("setp.geu.f32", Pred, TWO, |[a, b, ..]| u64::from(f(a) < f(b)) ^ 1),
    pure("setp.neu.f32", Pred, TWO, |[a, b, ..]| u64::from(f(a) != f(b))),
    pure("setp.equ.ftz.f32", Pred, TWO, |[a, b, ..]| u64::from(!(z(a) < z(b) || z(a) > z(b)))),
    pure("setp.gt.ftz.f32", Pred, TWO, |[a, b, ..]| u64::from(z(a) > z(b))),
    pure("setp.num.f32", Pred, TWO, |[a, b, ..]| u64::from(!f(a).is_nan() && !f(b).is_nan())),
    pure("setp.nan.or.f32", Pred, &[Float, Float, Pred], |[a, b, c, _]| u64::from(f(a).is_nan() || f(b).is_nan()) | c),
    pure("setp.le.and.f32", Pred, &[Float, Float, Pred], |[a, b, c, _]| u64::from(f(a) <= f(b)) & c),
    pure("testp.subnormal.f32", Pred, &[Float], |[a, ..]| u64::from(f(a).is_subnormal())),
    pure("testp.finite.f32", Pred, &[Float], |[a, ..]| u64::from(f(a).is_finite())),
];

fn nan_greatest(a: f32, b: f32) -> f32 {
    if a.is_nan() { a } else { -least(-a, -b) }
}
