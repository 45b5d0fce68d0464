//! Integers (manual 9.7.1, 9.7.2) and `mov`: against 128-bit arithmetic.

mod bits;

use super::values::{Domain, integers};
use super::{Tally, refused};
use bits::{bits_of, number};
use ptx_vm::isa::{Alu, CarryKind, CarryOp, Instruction, Op, Type, opcode_table};

/// A type suffix.
#[derive(Clone, Copy)]
struct Suffix {
    name: &'static str,
    bits: u32,
    signed: bool,
}

const fn suffix(name: &'static str, bits: u32, signed: bool) -> Suffix {
    Suffix { name, bits, signed }
}

const TYPES: [Suffix; 6] = [
    suffix("u16", 16, false),
    suffix("u32", 32, false),
    suffix("u64", 64, false),
    suffix("s16", 16, true),
    suffix("s32", 32, true),
    suffix("s64", 64, true),
];

impl Suffix {
    fn domain(self) -> Domain {
        integers(self.bits)
    }

    /// The number that register bits stand for.
    fn value(self, bits: u64) -> i128 {
        if self.signed { i128::from((bits << (64 - self.bits)) as i64 >> (64 - self.bits)) } else { i128::from(bits) }
    }

    /// The register bits of a number, wrapped.
    fn wrap(self, value: i128) -> u64 {
        value as u64 & self.mask()
    }

    /// The register bits of a number, clamped to the type's range.
    fn clamp(self, value: i128) -> u64 {
        let (least, greatest) = match self.signed {
            true => (-1i128 << (self.bits - 1), !(-1i128 << (self.bits - 1))),
            false => (0, i128::from(self.mask())),
        };
        self.wrap(value.max(least).min(greatest))
    }

    fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits)
    }

    /// The upper half of the product.
    fn high(self, a: u64, b: u64) -> i128 {
        match self.signed {
            true => (self.value(a) * self.value(b)) >> self.bits,
            false => ((u128::from(a) * u128::from(b)) >> self.bits) as i128,
        }
    }
}

/// The chapter.
pub fn integer(t: &mut Tally) {
    arithmetic(t);
    products(t);
    products24(t);
    saturating(t);
    division(t);
    dot_products(t);
    bits::bits(t);
    moves(t);
}

fn arithmetic(t: &mut Tally) {
    for ty in TYPES {
        let d = ty.domain();
        let (two, three) = (&[&d, &d][..], &[&d, &d, &d][..]);
        let name = |op: &str| format!("{op}.{}", ty.name);
        let v = move |bits| ty.value(bits);
        t.check(&name("add"), two, |[a, b, ..]| ty.wrap(v(a) + v(b)));
        t.check(&name("sub"), two, |[a, b, ..]| ty.wrap(v(a) - v(b)));
        t.check(&name("min"), two, |[a, b, ..]| ty.wrap(v(a).min(v(b))));
        t.check(&name("max"), two, |[a, b, ..]| ty.wrap(v(a).max(v(b))));
        t.check(&name("sad"), three, |[a, b, c, _]| ty.wrap((v(a) - v(b)).abs() + v(c)));
        if ty.signed {
            t.check(&name("abs"), &[&d], |[a, ..]| ty.wrap(v(a).abs()));
            t.check(&name("neg"), &[&d], |[a, ..]| ty.wrap(-v(a)));
        }
    }
}

fn products(t: &mut Tally) {
    for ty in TYPES {
        let d = ty.domain();
        let name = |op: &str| format!("{op}.{}", ty.name);
        let low = move |a: u64, b: u64| i128::from(a.wrapping_mul(b) & ty.mask());
        t.check(&name("mul.lo"), &[&d, &d], |[a, b, ..]| ty.wrap(low(a, b)));
        t.check(&name("mul.hi"), &[&d, &d], |[a, b, ..]| ty.wrap(ty.high(a, b)));
        t.check(&name("mad.lo"), &[&d, &d, &d], |[a, b, c, _]| ty.wrap(low(a, b) + ty.value(c)));
        t.check(&name("mad.hi"), &[&d, &d, &d], |[a, b, c, _]| ty.wrap(ty.high(a, b) + ty.value(c)));
        if ty.bits < 64 {
            let double = suffix("", 2 * ty.bits, ty.signed);
            let product = move |a, b| ty.value(a) * ty.value(b);
            t.check(&name("mul.wide"), &[&d, &d], |[a, b, ..]| double.wrap(product(a, b)));
            t.check(&name("mad.wide"), &[&d, &d, &double.domain()], |[a, b, c, _]| {
                double.wrap(product(a, b) + double.value(c))
            });
        }
    }
    refused(&[
        "mul.u32",
        "mad.u32",
        "mul.wide.u64",
        "mul.wide.b32",
        "mad.wide.s64",
        "add.b32",
        "add.u8",
        "abs.u32",
        "neg.u64",
    ]);
}

fn products24(t: &mut Tally) {
    for ty in [suffix("u32", 32, false), suffix("s32", 32, true)] {
        let d = ty.domain();
        let of24 = suffix("", 24, ty.signed);
        let product = move |a, b| of24.value(a & 0xff_ffff) * of24.value(b & 0xff_ffff);
        let name = |op: &str| format!("{op}.{}", ty.name);
        t.check(&name("mul24.lo"), &[&d, &d], |[a, b, ..]| ty.wrap(product(a, b)));
        t.check(&name("mul24.hi"), &[&d, &d], |[a, b, ..]| ty.wrap(product(a, b) >> 16));
        t.check(&name("mad24.lo"), &[&d, &d, &d], |[a, b, c, _]| ty.wrap(product(a, b) + ty.value(c)));
        t.check(&name("mad24.hi"), &[&d, &d, &d], |[a, b, c, _]| ty.wrap((product(a, b) >> 16) + ty.value(c)));
        if ty.signed {
            // Bits 16 to 47 of the product are a signed word of their own before the sum is clamped.
            let high = move |a, b| ty.value(ty.wrap(product(a, b) >> 16));
            t.check("mad24.hi.sat.s32", &[&d, &d, &d], |[a, b, c, _]| ty.clamp(high(a, b) + ty.value(c)));
        }
    }
    refused(&["mul24.u32", "mul24.lo.u16", "mad24.lo.sat.s32", "mad24.hi.sat.u32"]);
}

fn saturating(t: &mut Tally) {
    let ty = suffix("s32", 32, true);
    let d = ty.domain();
    let v = move |bits| ty.value(bits);
    t.check("add.sat.s32", &[&d, &d], |[a, b, ..]| ty.clamp(v(a) + v(b)));
    t.check("sub.sat.s32", &[&d, &d], |[a, b, ..]| ty.clamp(v(a) - v(b)));
    t.check("mad.hi.sat.s32", &[&d, &d, &d], |[a, b, c, _]| ty.clamp(ty.high(a, b) + v(c)));
    t.check("min.relu.s32", &[&d, &d], |[a, b, ..]| ty.wrap(v(a).min(v(b)).max(0)));
    t.check("max.relu.s32", &[&d, &d], |[a, b, ..]| ty.wrap(v(a).max(v(b)).max(0)));
    refused(&["add.sat.u32", "add.sat.s64", "sub.sat.s16", "mad.lo.sat.s32", "min.relu.u32", "max.relu.s64"]);
}

fn division(t: &mut Tally) {
    for ty in TYPES {
        let d = ty.domain();
        let name = |op: &str| format!("{op}.{}", ty.name);
        let v = move |bits| ty.value(bits);
        t.check(&name("div"), &[&d, &d], |[a, b, ..]| if b == 0 { ty.mask() } else { ty.wrap(v(a) / v(b)) });
        t.check(&name("rem"), &[&d, &d], |[a, b, ..]| if b == 0 { ty.mask() } else { ty.wrap(v(a) % v(b)) });
    }
}

fn dot_products(t: &mut Tally) {
    let d = integers(32);
    let part = |word: u64, bits: u32, i: u32, name: &str| {
        suffix("", bits, name == "s32").value(word >> (bits * i) & (u64::MAX >> (64 - bits)))
    };
    for a_type in ["u32", "s32"] {
        for b_type in ["u32", "s32"] {
            t.check(&format!("dp4a.{a_type}.{b_type}"), &[&d, &d, &d], |[a, b, c, _]| {
                let products = (0..4).map(|i| part(a, 8, i, a_type) * part(b, 8, i, b_type));
                (i128::from(c) + products.sum::<i128>()) as u32 as u64
            });
            for (half, first) in [("lo", 0), ("hi", 2)] {
                t.check(&format!("dp2a.{half}.{a_type}.{b_type}"), &[&d, &d, &d], |[a, b, c, _]| {
                    let products = (0..2).map(|i| part(a, 16, i, a_type) * part(b, 8, first + i, b_type));
                    (i128::from(c) + products.sum::<i128>()) as u32 as u64
                });
            }
        }
    }
    refused(&["dp4a.u32", "dp4a.s16.s32", "dp2a.u32.u32"]);
}

/// `mov` of one value is whatever the loader's table says it is; of vectors it is made from the operands.
fn moves(t: &mut Tally) {
    for (_, instructions) in opcode_table() {
        for mov in instructions.iter().filter(|i| i.spelling.starts_with("mov.") && matches!(i.decoded.op, Op::Alu(_)))
        {
            let bits: u32 = mov.spelling[5..].parse().expect("mov.b32 and its like");
            t.check(&mov.spelling, &[&integers(bits)], |[a, ..]| a);
        }
    }
    for (ty, bits, parts) in
        [(Type::B16, 16, 2), (Type::B32, 32, 2), (Type::B32, 32, 4), (Type::B64, 64, 2), (Type::B64, 64, 4)]
    {
        let (whole, part) = (integers(bits), integers(bits / parts));
        let each = vec![&part; parts as usize];
        let width = bits / parts;
        t.check_alu("mov of a vector to a register", Alu::Pack(ty, parts as u8), &each, |x| {
            number(x[..parts as usize].iter().flat_map(|v| bits_of(*v, width)))
        });
        for index in 0..parts {
            let alu = Alu::Unpack(ty, index as u8, parts as u8);
            t.check_alu("mov of a register to a vector", alu, &[&whole], |[a, ..]| {
                number(bits_of(a, bits)[(index * width) as usize..][..width as usize].iter().copied())
            });
        }
    }
}

/// Arithmetic through the carry flag is no pure operation: here only that each spelling means what it says.
#[test]
fn carry_chains_decode() {
    for (ty, wide, signed) in [("u32", false, false), ("s32", false, true), ("u64", true, false), ("s64", true, true)] {
        for (stem, kind, carry_in, carry_out) in [
            ("add.cc", CarryKind::Add, false, true),
            ("addc", CarryKind::Add, true, false),
            ("addc.cc", CarryKind::Add, true, true),
            ("sub.cc", CarryKind::Sub, false, true),
            ("subc", CarryKind::Sub, true, false),
            ("subc.cc", CarryKind::Sub, true, true),
            ("mad.lo.cc", CarryKind::MadLo, false, true),
            ("mad.hi.cc", CarryKind::MadHi, false, true),
            ("madc.lo", CarryKind::MadLo, true, false),
            ("madc.hi.cc", CarryKind::MadHi, true, true),
        ] {
            let spelling = format!("{stem}.{ty}");
            let op = Instruction::parse(&spelling).map(|instruction| instruction.decoded.op);
            assert_eq!(op, Some(Op::Carry(CarryOp { kind, wide, signed, carry_in, carry_out })), "{spelling}");
        }
    }
    refused(&["add.cc.u16", "add.cc.b32", "addc.sat.s32", "mad.cc.u32", "mad.wide.cc.u32", "madc.u32"]);
}

#[test]
fn all() {
    integer(&mut Tally::new());
}
