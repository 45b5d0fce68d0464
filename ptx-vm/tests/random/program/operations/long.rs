//! 64-bit integers.

use super::super::tree::Class::{Long, Pred, Word};
use super::{Class, Pure, divides, extract, insert, pure};

const ONE: &[Class] = &[Long];
const TWO: &[Class] = &[Long, Long];
const SHIFT: &[Class] = &[Long, Word];

const fn s(x: u64) -> i64 {
    x as i64
}

pub(super) static OPERATIONS: &[Pure] = &[
    pure("mov.u64", Long, ONE, |[a, ..]| a),
    pure("mov.b64", Long, ONE, |[a, ..]| a),
    pure("add.s64", Long, TWO, |[a, b, ..]| a.wrapping_add(b)),
    pure("add.u64", Long, TWO, |[a, b, ..]| a.wrapping_add(b)),
    pure("sub.s64", Long, TWO, |[a, b, ..]| a.wrapping_sub(b)),
    pure("mul.lo.s64", Long, TWO, |[a, b, ..]| a.wrapping_mul(b)),
    pure("mul.hi.u64", Long, TWO, |[a, b, ..]| ((u128::from(a) * u128::from(b)) >> 64) as u64),
    pure("mul.hi.s64", Long, TWO, |[a, b, ..]| ((i128::from(s(a)) * i128::from(s(b))) >> 64) as u64),
    pure("mad.lo.s64", Long, &[Long, Long, Long], |[a, b, c, _]| a.wrapping_mul(b).wrapping_add(c)),
    pure("mad.hi.u64", Long, &[Long, Long, Long], |[a, b, c, _]| {
        (((u128::from(a) * u128::from(b)) >> 64) as u64).wrapping_add(c)
    }),
    divides("div.u64", Long, TWO, |[a, b, ..]| a / b),
    divides("div.s64", Long, TWO, |[a, b, ..]| s(a).wrapping_div(s(b)) as u64),
    divides("rem.u64", Long, TWO, |[a, b, ..]| a % b),
    divides("rem.s64", Long, TWO, |[a, b, ..]| s(a).wrapping_rem(s(b)) as u64),
    pure("min.s64", Long, TWO, |[a, b, ..]| s(a).min(s(b)) as u64),
    pure("min.u64", Long, TWO, |[a, b, ..]| a.min(b)),
    pure("max.s64", Long, TWO, |[a, b, ..]| s(a).max(s(b)) as u64),
    pure("max.u64", Long, TWO, |[a, b, ..]| a.max(b)),
    pure("abs.s64", Long, ONE, |[a, ..]| s(a).wrapping_abs() as u64),
    pure("neg.s64", Long, ONE, |[a, ..]| a.wrapping_neg()),
    pure("and.b64", Long, TWO, |[a, b, ..]| a & b),
    pure("or.b64", Long, TWO, |[a, b, ..]| a | b),
    pure("xor.b64", Long, TWO, |[a, b, ..]| a ^ b),
    pure("not.b64", Long, ONE, |[a, ..]| !a),
    pure("cnot.b64", Long, ONE, |[a, ..]| u64::from(a == 0)),
    pure("brev.b64", Long, ONE, |[a, ..]| a.reverse_bits()),
    pure("shl.b64", Long, SHIFT, |[a, b, ..]| a.checked_shl(b as u32).unwrap_or(0)),
    pure("shr.u64", Long, SHIFT, |[a, b, ..]| a.checked_shr(b as u32).unwrap_or(0)),
    pure("shr.s64", Long, SHIFT, |[a, b, ..]| (s(a) >> b.min(63)) as u64),
    pure("bfe.u64", Long, &[Long, Word, Word], |[a, b, c, _]| extract(a, b, c, 64, false)),
    pure("bfe.s64", Long, &[Long, Word, Word], |[a, b, c, _]| extract(a, b, c, 64, true)),
    pure("bfi.b64", Long, &[Long, Long, Word, Word], |[a, b, c, d]| insert(a, b, c, d, 64)),
    pure("selp.b64", Long, &[Long, Long, Pred], |[a, b, c, _]| if c != 0 { a } else { b }),
    pure("setp.eq.s64", Pred, TWO, |[a, b, ..]| u64::from(a == b)),
    pure("setp.lt.s64", Pred, TWO, |[a, b, ..]| u64::from(s(a) < s(b))),
    pure("setp.ge.u64", Pred, TWO, |[a, b, ..]| u64::from(a >= b)),
    pure("setp.hi.and.u64", Pred, &[Long, Long, Pred], |[a, b, c, _]| u64::from(a > b) & c),
    pure("popc.b64", Word, ONE, |[a, ..]| a.count_ones().into()),
    pure("clz.b64", Word, ONE, |[a, ..]| a.leading_zeros().into()),
    pure("bfind.u64", Word, ONE, |[a, ..]| 63u64.wrapping_sub(a.leading_zeros().into())),
    pure("bfind.s64", Word, ONE, |[a, ..]| {
        let a = if s(a) < 0 { !a } else { a };
        63u64.wrapping_sub(a.leading_zeros().into())
    }),
    pure("$g mov.b64 $d, {$a, $b};", Long, &[Word, Word], |[a, b, ..]| b << 32 | a),
    pure("{ .reg .b32 t; $g mov.b64 {$d, t}, $a; }", Word, ONE, |[a, ..]| a),
    pure("{ .reg .b32 t; $g mov.b64 {t, $d}, $a; }", Word, ONE, |[a, ..]| a >> 32),
    pure("mul.wide.s32", Long, &[Word, Word], |[a, b, ..]| (i64::from(a as i32) * i64::from(b as i32)) as u64),
    pure("mad.wide.u32", Long, &[Word, Word, Long], |[a, b, c, _]| (a * b).wrapping_add(c)),
];
