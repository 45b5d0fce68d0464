//! 32-bit integers.

use super::super::tree::Class::{Float, Long, Pred, Word};
use super::{Pure, divides, extract, insert, pure, s, w};

const ONE: &[super::Class] = &[Word];
const TWO: &[super::Class] = &[Word, Word];
const THREE: &[super::Class] = &[Word, Word, Word];

pub(super) static OPERATIONS: &[Pure] = &[
    pure("mov.u32", Word, ONE, |[a, ..]| a),
    pure("mov.b32", Word, &[Float], |[a, ..]| a),
    pure("add.u32", Word, TWO, |[a, b, ..]| w(a).wrapping_add(w(b)).into()),
    pure("add.s32", Word, TWO, |[a, b, ..]| w(a).wrapping_add(w(b)).into()),
    pure("add.sat.s32", Word, TWO, |[a, b, ..]| s(a).saturating_add(s(b)) as u64),
    pure("sub.u32", Word, TWO, |[a, b, ..]| w(a).wrapping_sub(w(b)).into()),
    pure("sub.s32", Word, TWO, |[a, b, ..]| w(a).wrapping_sub(w(b)).into()),
    pure("sub.sat.s32", Word, TWO, |[a, b, ..]| s(a).saturating_sub(s(b)) as u64),
    pure("mul.lo.s32", Word, TWO, |[a, b, ..]| w(a).wrapping_mul(w(b)).into()),
    pure("mul.lo.u32", Word, TWO, |[a, b, ..]| w(a).wrapping_mul(w(b)).into()),
    pure("mul.hi.u32", Word, TWO, |[a, b, ..]| (u64::from(w(a)) * u64::from(w(b))) >> 32),
    pure("mul.hi.s32", Word, TWO, |[a, b, ..]| ((i64::from(s(a)) * i64::from(s(b))) >> 32) as u64),
    pure("mad.lo.s32", Word, THREE, |[a, b, c, _]| w(a).wrapping_mul(w(b)).wrapping_add(w(c)).into()),
    pure("mad.hi.u32", Word, THREE, |[a, b, c, _]| ((u64::from(w(a)) * u64::from(w(b))) >> 32).wrapping_add(c)),
    pure("mad.hi.s32", Word, THREE, |[a, b, c, _]| {
        (((i64::from(s(a)) * i64::from(s(b))) >> 32) as u64).wrapping_add(c)
    }),
    pure("mul24.lo.u32", Word, TWO, |[a, b, ..]| (a & 0xff_ffff) * (b & 0xff_ffff)),
    pure("mul24.hi.u32", Word, TWO, |[a, b, ..]| ((a & 0xff_ffff) * (b & 0xff_ffff)) >> 16),
    pure("mul24.lo.s32", Word, TWO, |[a, b, ..]| (i64::from(s(a) << 8 >> 8) * i64::from(s(b) << 8 >> 8)) as u64),
    pure("mad24.lo.u32", Word, THREE, |[a, b, c, _]| ((a & 0xff_ffff) * (b & 0xff_ffff)).wrapping_add(c)),
    pure("sad.u32", Word, THREE, |[a, b, c, _]| u64::from(w(a).abs_diff(w(b))).wrapping_add(c)),
    pure("sad.s32", Word, THREE, |[a, b, c, _]| u64::from(s(a).abs_diff(s(b))).wrapping_add(c)),
    divides("div.u32", Word, TWO, |[a, b, ..]| (w(a) / w(b)).into()),
    divides("div.s32", Word, TWO, |[a, b, ..]| s(a).wrapping_div(s(b)) as u64),
    divides("rem.u32", Word, TWO, |[a, b, ..]| (w(a) % w(b)).into()),
    divides("rem.s32", Word, TWO, |[a, b, ..]| s(a).wrapping_rem(s(b)) as u64),
    pure("abs.s32", Word, ONE, |[a, ..]| s(a).wrapping_abs() as u64),
    pure("neg.s32", Word, ONE, |[a, ..]| s(a).wrapping_neg() as u64),
    pure("min.u32", Word, TWO, |[a, b, ..]| w(a).min(w(b)).into()),
    pure("min.s32", Word, TWO, |[a, b, ..]| s(a).min(s(b)) as u64),
    pure("max.u32", Word, TWO, |[a, b, ..]| w(a).max(w(b)).into()),
    pure("max.s32", Word, TWO, |[a, b, ..]| s(a).max(s(b)) as u64),
    pure("popc.b32", Word, ONE, |[a, ..]| w(a).count_ones().into()),
    pure("clz.b32", Word, ONE, |[a, ..]| w(a).leading_zeros().into()),
    pure("bfind.u32", Word, ONE, |[a, ..]| 31u64.wrapping_sub(w(a).leading_zeros().into())),
    pure("bfind.s32", Word, ONE, |[a, ..]| {
        let a = if s(a) < 0 { !w(a) } else { w(a) };
        31u64.wrapping_sub(a.leading_zeros().into())
    }),
    pure("brev.b32", Word, ONE, |[a, ..]| w(a).reverse_bits().into()),
    pure("bfe.u32", Word, THREE, |[a, b, c, _]| extract(a, b, c, 32, false)),
    pure("bfe.s32", Word, THREE, |[a, b, c, _]| extract(a, b, c, 32, true)),
    pure("bfi.b32", Word, &[Word, Word, Word, Word], |[a, b, c, d]| insert(a, b, c, d, 32)),
    pure("and.b32", Word, TWO, |[a, b, ..]| a & b),
    pure("or.b32", Word, TWO, |[a, b, ..]| a | b),
    pure("xor.b32", Word, TWO, |[a, b, ..]| a ^ b),
    pure("not.b32", Word, ONE, |[a, ..]| !a),
    pure("cnot.b32", Word, ONE, |[a, ..]| u64::from(w(a) == 0)),
    pure("shl.b32", Word, TWO, |[a, b, ..]| w(a).checked_shl(w(b)).unwrap_or(0).into()),
    pure("shr.u32", Word, TWO, |[a, b, ..]| w(a).checked_shr(w(b)).unwrap_or(0).into()),
    pure("shr.s32", Word, TWO, |[a, b, ..]| (s(a) >> w(b).min(31)) as u64),
    pure("shf.l.wrap.b32", Word, THREE, |[a, b, c, _]| ((b << 32 | a) << (c & 31)) >> 32),
    pure("shf.l.clamp.b32", Word, THREE, |[a, b, c, _]| ((u128::from(b << 32 | a) << c.min(32)) >> 32) as u64),
    pure("shf.r.wrap.b32", Word, THREE, |[a, b, c, _]| (b << 32 | a) >> (c & 31)),
    pure("shf.r.clamp.b32", Word, THREE, |[a, b, c, _]| (b << 32 | a) >> c.min(32)),
    pure("$g lop3.b32 $d, $a, $b, $c, 0x96;", Word, THREE, |[a, b, c, _]| a ^ b ^ c),
    pure("$g lop3.b32 $d, $a, $b, $c, 0xE8;", Word, THREE, |[a, b, c, _]| (a & b) | (b & c) | (a & c)),
    pure("$g lop3.b32 $d, $a, $b, $c, 0xCA;", Word, THREE, |[a, b, c, _]| (a & b) | (!a & c)),
    pure("prmt.b32", Word, THREE, |[a, b, c, _]| permute(a, b, c)),
    pure("$g prmt.b32 $d, $a, $b, 0x5410U;", Word, TWO, |[a, b, ..]| (b & 0xffff) << 16 | a & 0xffff),
    pure("dp4a.u32.u32", Word, THREE, |[a, b, c, _]| {
        (0..4).fold(c, |sum, i| sum + (a >> (8 * i) & 0xff) * (b >> (8 * i) & 0xff))
    }),
    pure("dp4a.s32.u32", Word, THREE, |[a, b, c, _]| {
        let of = |i: u32| i64::from((a >> (8 * i)) as i8) * (b >> (8 * i) & 0xff) as i64;
        (0..4).fold(c, |sum, i| sum.wrapping_add(of(i) as u64))
    }),
    pure("selp.b32", Word, &[Word, Word, Pred], |[a, b, c, _]| if c != 0 { a } else { b }),
    pure("selp.u32", Word, &[Word, Word, Pred], |[a, b, c, _]| if c != 0 { a } else { b }),
    pure("slct.s32.s32", Word, THREE, |[a, b, c, _]| if s(c) >= 0 { a } else { b }),
    pure("set.lt.u32.s32", Word, TWO, |[a, b, ..]| if s(a) < s(b) { u64::MAX } else { 0 }),
    pure("set.ge.s32.u32", Word, TWO, |[a, b, ..]| if w(a) >= w(b) { u64::MAX } else { 0 }),
    pure("setp.eq.s32", Pred, TWO, |[a, b, ..]| u64::from(a == b)),
    pure("setp.ne.u32", Pred, TWO, |[a, b, ..]| u64::from(a != b)),
    pure("setp.lt.s32", Pred, TWO, |[a, b, ..]| u64::from(s(a) < s(b))),
    pure("setp.le.s32", Pred, TWO, |[a, b, ..]| u64::from(s(a) <= s(b))),
    pure("setp.gt.u32", Pred, TWO, |[a, b, ..]| u64::from(a > b)),
    pure("setp.ge.u32", Pred, TWO, |[a, b, ..]| u64::from(a >= b)),
    pure("setp.lo.u32", Pred, TWO, |[a, b, ..]| u64::from(a < b)),
    pure("setp.hs.u32", Pred, TWO, |[a, b, ..]| u64::from(a >= b)),
    pure("setp.lt.and.s32", Pred, &[Word, Word, Pred], |[a, b, c, _]| u64::from(s(a) < s(b)) & c),
    pure("setp.ne.or.b32", Pred, &[Word, Word, Pred], |[a, b, c, _]| u64::from(a != b) | c),
    pure("setp.gt.xor.u32", Pred, &[Word, Word, Pred], |[a, b, c, _]| u64::from(a > b) ^ c),
    pure("{ .reg .pred t; $g setp.lt.s32 $d|t, $a, $b; }", Pred, TWO, |[a, b, ..]| u64::from(s(a) < s(b))),
    pure("{ .reg .pred t; $g setp.lt.or.s32 t|$d, $a, $b, $c; }", Pred, &[Word, Word, Pred], |[a, b, c, _]| {
        u64::from(s(a) >= s(b)) | c
    }),
    pure("mul.wide.u32", Long, TWO, |[a, b, ..]| a * b),
    pure("mad.wide.s32", Long, &[Word, Word, Long], |[a, b, c, _]| {
        (i64::from(s(a)) * i64::from(s(b))).wrapping_add(c as i64) as u64
    }),
];

/// `prmt` in its index mode: each nibble of `c` names a byte of `b:a`, its top bit asks for the byte's sign instead.
fn permute(a: u64, b: u64, c: u64) -> u64 {
    let byte = |nibble: u64| {
        let byte = (b << 32 | a) >> (8 * (nibble & 7)) & 0xff;
        if nibble & 8 == 0 { byte } else { (byte >> 7) * 0xff }
    };
    (0..4).fold(0, |d, i| d | byte(c >> (4 * i)) << (8 * i))
}
