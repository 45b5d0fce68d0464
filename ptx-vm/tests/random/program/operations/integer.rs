//! 16-bit integers, and logic on predicates.

use super::super::tree::Class::{Pred, Short, Word};
use super::{Class, Pure, divides, pure};

const ONE: &[Class] = &[Short];
const TWO: &[Class] = &[Short, Short];
const PREDS: &[Class] = &[Pred, Pred];

const fn s(x: u64) -> i16 {
    x as i16
}

pub(super) static OPERATIONS: &[Pure] = &[
    pure("mov.u16", Short, ONE, |[a, ..]| a),
    pure("mov.b16", Short, ONE, |[a, ..]| a),
    pure("add.s16", Short, TWO, |[a, b, ..]| a + b),
    pure("add.u16", Short, TWO, |[a, b, ..]| a + b),
    pure("sub.s16", Short, TWO, |[a, b, ..]| a.wrapping_sub(b)),
    pure("mul.lo.s16", Short, TWO, |[a, b, ..]| a * b),
    pure("mul.hi.u16", Short, TWO, |[a, b, ..]| (a * b) >> 16),
    pure("mul.hi.s16", Short, TWO, |[a, b, ..]| ((i32::from(s(a)) * i32::from(s(b))) >> 16) as u64),
    pure("mad.lo.u16", Short, &[Short, Short, Short], |[a, b, c, _]| a * b + c),
    divides("div.u16", Short, TWO, |[a, b, ..]| a / b),
    divides("rem.s16", Short, TWO, |[a, b, ..]| s(a).wrapping_rem(s(b)) as u64),
    pure("min.s16", Short, TWO, |[a, b, ..]| s(a).min(s(b)) as u64),
    pure("max.u16", Short, TWO, |[a, b, ..]| a.max(b)),
    pure("abs.s16", Short, ONE, |[a, ..]| s(a).wrapping_abs() as u64),
    pure("neg.s16", Short, ONE, |[a, ..]| s(a).wrapping_neg() as u64),
    pure("and.b16", Short, TWO, |[a, b, ..]| a & b),
    pure("or.b16", Short, TWO, |[a, b, ..]| a | b),
    pure("xor.b16", Short, TWO, |[a, b, ..]| a ^ b),
    pure("not.b16", Short, ONE, |[a, ..]| !a),
    pure("cnot.b16", Short, ONE, |[a, ..]| u64::from(a == 0)),
    pure("shl.b16", Short, &[Short, Word], |[a, b, ..]| if b > 15 { 0 } else { a << b }),
    pure("shr.u16", Short, &[Short, Word], |[a, b, ..]| if b > 15 { 0 } else { a >> b }),
    pure("shr.s16", Short, &[Short, Word], |[a, b, ..]| (s(a) >> b.min(15)) as u64),
    pure("selp.b16", Short, &[Short, Short, Pred], |[a, b, c, _]| if c != 0 { a } else { b }),
    pure("setp.eq.s16", Pred, TWO, |[a, b, ..]| u64::from(a == b)),
    pure("setp.lt.s16", Pred, TWO, |[a, b, ..]| u64::from(s(a) < s(b))),
    pure("setp.gt.u16", Pred, TWO, |[a, b, ..]| u64::from(a > b)),
    pure("setp.ne.and.b16", Pred, &[Short, Short, Pred], |[a, b, c, _]| u64::from(a != b) & c),
    pure("mul.wide.u16", Word, TWO, |[a, b, ..]| a * b),
    pure("mul.wide.s16", Word, TWO, |[a, b, ..]| (i32::from(s(a)) * i32::from(s(b))) as u64),
    pure("mad.wide.u16", Word, &[Short, Short, Word], |[a, b, c, _]| a * b + c),
    pure("$g mov.b32 $d, {$a, $b};", Word, TWO, |[a, b, ..]| b << 16 | a),
    pure("{ .reg .b16 t; $g mov.b32 {$d, t}, $a; }", Short, &[Word], |[a, ..]| a),
    pure("{ .reg .b16 t; $g mov.b32 {t, $d}, $a; }", Short, &[Word], |[a, ..]| a >> 16),
    pure("mov.pred", Pred, &[Pred], |[a, ..]| a),
    pure("not.pred", Pred, &[Pred], |[a, ..]| a ^ 1),
    pure("and.pred", Pred, PREDS, |[a, b, ..]| a & b),
    pure("or.pred", Pred, PREDS, |[a, b, ..]| a | b),
    pure("xor.pred", Pred, PREDS, |[a, b, ..]| a ^ b),
    pure("selp.u16", Short, &[Short, Short, Pred], |[a, b, c, _]| if c != 0 { a } else { b }),
    pure("selp.s16", Short, &[Short, Short, Pred], |[a, b, c, _]| if c != 0 { a } else { b }),
    pure("setp.le.or.s16", Pred, &[Short, Short, Pred], |[a, b, c, _]| u64::from(s(a) <= s(b)) | c),
];
