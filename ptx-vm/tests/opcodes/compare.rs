//! Comparisons and selection: against the order of the operands' bits, without floating-point arithmetic.

use super::values::{Domain, floats, integers, predicates};
use super::{Tally, refused};
use std::cmp::Ordering::{self, Equal, Greater, Less};

/// An operand type: its name, how its bits are ordered, and the operators it has.
struct Operand {
    name: &'static str,
    bits: u32,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Bits,
    Unsigned,
    Signed,
    /// Bits of the fraction, and whether there is an `.ftz` form.
    Float {
        fraction: u32,
        ftz: bool,
    },
}

const fn float(name: &'static str, bits: u32, fraction: u32, ftz: bool) -> Operand {
    Operand { name, bits, kind: Kind::Float { fraction, ftz } }
}

const fn integer(name: &'static str, bits: u32, kind: Kind) -> Operand {
    Operand { name, bits, kind }
}

const OPERANDS: [Operand; 15] = [
    integer("b16", 16, Kind::Bits),
    integer("b32", 32, Kind::Bits),
    integer("b64", 64, Kind::Bits),
    integer("u16", 16, Kind::Unsigned),
    integer("u32", 32, Kind::Unsigned),
    integer("u64", 64, Kind::Unsigned),
    integer("s16", 16, Kind::Signed),
    integer("s32", 32, Kind::Signed),
    integer("s64", 64, Kind::Signed),
    float("f32", 32, 23, true),
    float("f64", 64, 52, false),
    float("f16", 16, 10, true),
    float("bf16", 16, 7, false),
    float("f16x2", 16, 10, true),
    float("bf16x2", 16, 7, false),
];

impl Operand {
    fn is_pair(&self) -> bool {
        self.name.ends_with("x2")
    }

    /// Of the whole operand: a pair's edges are its element's, shuffled together.
    fn domain(&self) -> Domain {
        let Kind::Float { fraction, .. } = self.kind else { return integers(self.bits) };
        let mut domain = floats(self.bits - 1 - fraction, fraction);
        if self.is_pair() {
            let n = domain.edges.len();
            domain.edges = (0..n).map(|i| domain.edges[i] | domain.edges[(i * 7 + 3) % n] << 16).collect();
            domain.bits = 32;
        }
        domain
    }

    /// A number in the same order as the value, `None` for NaN.
    fn key(&self, bits: u64, ftz: bool) -> Option<i128> {
        let sign = bits >> (self.bits - 1) & 1 == 1;
        match self.kind {
            Kind::Bits | Kind::Unsigned => Some(i128::from(bits)),
            Kind::Signed => Some(i128::from(bits) - if sign { 1i128 << self.bits } else { 0 }),
            Kind::Float { fraction, .. } => {
                let magnitude = bits & (u64::MAX >> (65 - self.bits));
                let infinity = (u64::MAX >> (65 - self.bits)) >> fraction << fraction;
                let value = if ftz && magnitude >> fraction == 0 { 0 } else { i128::from(magnitude) };
                (magnitude <= infinity).then_some(if sign { -value } else { value })
            }
        }
    }

    fn order(&self, a: u64, b: u64, ftz: bool) -> Option<Ordering> {
        Some(self.key(a, ftz)?.cmp(&self.key(b, ftz)?))
    }

    fn operators(&self) -> &'static [(&'static str, &'static [Option<Ordering>])] {
        match self.kind {
            Kind::Bits => &OPERATORS[..2],
            Kind::Signed => &OPERATORS[..6],
            Kind::Unsigned => &OPERATORS[..10],
            Kind::Float { .. } => FLOAT_OPERATORS,
        }
    }

    /// `.ftz` or nothing, as far as the type has it.
    fn flushes(&self) -> &'static [bool] {
        if matches!(self.kind, Kind::Float { ftz: true, .. }) { &[false, true] } else { &[false] }
    }
}

/// Each operator and the outcomes for which it is true; `None` is unordered.
const OPERATORS: &[(&str, &[Option<Ordering>])] = &[
    ("eq", &[Some(Equal)]),
    ("ne", &[Some(Less), Some(Greater)]),
    ("lt", &[Some(Less)]),
    ("le", &[Some(Less), Some(Equal)]),
    ("gt", &[Some(Greater)]),
    ("ge", &[Some(Greater), Some(Equal)]),
    ("lo", &[Some(Less)]),
    ("ls", &[Some(Less), Some(Equal)]),
    ("hi", &[Some(Greater)]),
    ("hs", &[Some(Greater), Some(Equal)]),
];

const FLOAT_OPERATORS: &[(&str, &[Option<Ordering>])] = &[
    ("eq", &[Some(Equal)]),
    ("ne", &[Some(Less), Some(Greater)]),
    ("lt", &[Some(Less)]),
    ("le", &[Some(Less), Some(Equal)]),
    ("gt", &[Some(Greater)]),
    ("ge", &[Some(Greater), Some(Equal)]),
    ("equ", &[Some(Equal), None]),
    ("neu", &[Some(Less), Some(Greater), None]),
    ("ltu", &[Some(Less), None]),
    ("leu", &[Some(Less), Some(Equal), None]),
    ("gtu", &[Some(Greater), None]),
    ("geu", &[Some(Greater), Some(Equal), None]),
    ("num", &[Some(Less), Some(Equal), Some(Greater)]),
    ("nan", &[None]),
];

type Combination = (&'static str, fn(bool, bool) -> bool);
const COMBINATIONS: [Combination; 4] =
    [("", |r, _| r), (".and", |r, c| r && c), (".or", |r, c| r || c), (".xor", |r, c| r != c)];

/// The chapter.
pub fn compare(t: &mut Tally) {
    for operand in &OPERANDS {
        for (operator, outcomes) in operand.operators() {
            for (combination, combine) in COMBINATIONS {
                for &ftz in operand.flushes() {
                    let stem = format!(".{operator}{combination}{}", if ftz { ".ftz" } else { "" });
                    let holds = |a, b| outcomes.contains(&operand.order(a, b, ftz));
                    setp(t, operand, &format!("setp{stem}"), holds, combine);
                    set(t, operand, &format!("set{stem}"), ftz, holds, combine);
                }
            }
        }
    }
    selp(t);
    slct(t);
    testp(t);
    refusals();
}

fn low(pair: u64) -> u64 {
    pair & 0xffff
}

fn setp(t: &mut Tally, of: &Operand, stem: &str, holds: impl Fn(u64, u64) -> bool, combine: fn(bool, bool) -> bool) {
    let d = of.domain();
    t.check(&format!("{stem}.{}", of.name), &[&d, &d, &predicates()], |[a, b, c, _]| {
        let (first, second) = match of.is_pair() {
            true => (holds(low(a), low(b)), holds(a >> 16, b >> 16)),
            false => (holds(a, b), !holds(a, b)),
        };
        u64::from(combine(first, c == 1)) | u64::from(combine(second, c == 1)) << 1
    });
}

/// The result types that go with an operand type, and what each holds for true.
fn results(of: &Operand, ftz: bool) -> Vec<(&'static str, u64)> {
    let words = [("u32", 0xffff_ffff), ("s32", 0xffff_ffff)];
    let halves = [("u16", 0xffff), ("s16", 0xffff)];
    let (one32, one16, one_bf16) = (("f32", 0x3f80_0000), ("f16", 0x3c00), ("bf16", 0x3f80));
    match of.name {
        "f16" => [&words[..], &halves, &[one16]].concat(),
        "bf16" => [&words[..], &halves, &[one_bf16]].concat(),
        // Two answers of 16 bits each.
        "f16x2" => vec![("u32", 0xffff), ("s32", 0xffff), ("f16x2", 0x3c00)],
        "bf16x2" => vec![("u32", 0xffff), ("s32", 0xffff), ("bf16x2", 0x3f80)],
        _ if ftz => [&words[..], &[one32, one16]].concat(),
        _ => [&words[..], &[one32, one16, one_bf16]].concat(),
    }
}

fn set(
    t: &mut Tally,
    of: &Operand,
    stem: &str,
    ftz: bool,
    holds: impl Fn(u64, u64) -> bool,
    combine: fn(bool, bool) -> bool,
) {
    let d = of.domain();
    for (result, yes) in results(of, ftz) {
        t.check(&format!("{stem}.{result}.{}", of.name), &[&d, &d, &predicates()], |[a, b, c, _]| {
            let answer = |a, b| if combine(holds(a, b), c == 1) { yes } else { 0 };
            if of.is_pair() { answer(low(a), low(b)) | answer(a >> 16, b >> 16) << 16 } else { answer(a, b) }
        });
    }
}

const SELECTED: [(&str, u32); 11] = [
    ("b16", 16),
    ("b32", 32),
    ("b64", 64),
    ("u16", 16),
    ("u32", 32),
    ("u64", 64),
    ("s16", 16),
    ("s32", 32),
    ("s64", 64),
    ("f32", 32),
    ("f64", 64),
];

fn selp(t: &mut Tally) {
    for (ty, bits) in SELECTED {
        let d = integers(bits);
        t.check(&format!("selp.{ty}"), &[&d, &d, &predicates()], |[a, b, c, _]| if c == 1 { a } else { b });
    }
}

fn slct(t: &mut Tally) {
    let selector = &OPERANDS[9];
    for (ty, bits) in SELECTED {
        let d = integers(bits);
        t.check(&format!("slct.{ty}.s32"), &[&d, &d, &integers(32)], |[a, b, c, _]| if c >> 31 == 0 { a } else { b });
        for ftz in [false, true] {
            let spelling = format!("slct{}.{ty}.f32", if ftz { ".ftz" } else { "" });
            t.check(&spelling, &[&d, &d, &selector.domain()], |[a, b, c, _]| match selector.key(c, ftz) {
                Some(0..) => a,
                _ => b,
            });
        }
    }
}

fn testp(t: &mut Tally) {
    for (ty, exponent, fraction) in [("f32", 8, 23), ("f64", 11, 52)] {
        let d = floats(exponent, fraction);
        // Field of the exponent, zero fraction? → the class.
        let parts = |a: u64| (a >> fraction & ((1 << exponent) - 1), a << (64 - fraction) == 0);
        let top = (1 << exponent) - 1;
        let mut check = |class: &str, is: &dyn Fn((u64, bool)) -> bool| {
            t.check(&format!("testp.{class}.{ty}"), &[&d], |[a, ..]| u64::from(is(parts(a))));
        };
        check("finite", &|(field, _)| field < top);
        check("infinite", &|(field, zero)| field == top && zero);
        check("number", &|(field, zero)| field < top || zero);
        check("notanumber", &|(field, zero)| field == top && !zero);
        // Zeros are normal.
        check("normal", &|(field, zero)| (field > 0 && field < top) || (field == 0 && zero));
        check("subnormal", &|(field, zero)| field == 0 && !zero);
    }
}

fn refusals() {
    refused(&["setp.lt.b32", "setp.lo.s32", "setp.hs.f32", "setp.equ.u32", "setp.nan.s32", "setp.lt.ftz.f64"]);
    refused(&["setp.lt.ftz.bf16", "setp.eq.pred", "setp.ftz.eq.f32", "setp.eq.u8", "setp.s32", "setp.eq.not.s32"]);
    refused(&["set.eq.u16.u32", "set.eq.f64.f64", "set.lt.u32.b32", "set.eq.f32.f16", "set.eq.ftz.bf16.f32"]);
    refused(&["set.eq.f16x2.f16", "set.eq.u16.f16x2", "set.eq.u64.u64", "set.eq.ftz.u32.f64"]);
    refused(&["selp.f16", "selp.pred", "selp.u8", "slct.u32.u32", "slct.ftz.u32.s32", "slct.f16.s32"]);
    refused(&["testp.f32", "testp.normal.f16", "testp.nan.f32"]);
}

#[test]
fn all() {
    compare(&mut Tally::new());
}
