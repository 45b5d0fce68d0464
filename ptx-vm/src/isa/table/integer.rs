//! Integer and bit arithmetic (manual 9.7.1, 9.7.2, 9.7.8).

use super::{Decoded, Modifiers, Operand, Row};
use crate::isa::{Alu, CarryKind, CarryOp, Int, IntOp, Op, Prmt, Type};

const U32: Type = Type::U32;

pub(super) const ROWS: &[Row] = &[
    row("add{.u16|.u32|.u64|.s16|.s32|.s64}", |m| alike(m, IntOp::Add, 2)),
    row("add.sat.s32", |m| alike(m, IntOp::AddSat, 2)),
    row("sub{.u16|.u32|.u64|.s16|.s32|.s64}", |m| alike(m, IntOp::Sub, 2)),
    row("sub.sat.s32", |m| alike(m, IntOp::SubSat, 2)),
    row("mul{.hi|.lo}{.u16|.u32|.u64|.s16|.s32|.s64}", |m| alike(m, half(m, IntOp::MulLo, IntOp::MulHi), 2)),
    row("mul.wide{.u16|.u32|.s16|.s32}", |m| wide(m, IntOp::MulWide, false)),
    row("mad{.hi|.lo}{.u16|.u32|.u64|.s16|.s32|.s64}", |m| alike(m, half(m, IntOp::MadLo, IntOp::MadHi), 3)),
    row("mad.hi.sat.s32", |m| alike(m, IntOp::MadHiSat, 3)),
    row("mad.wide{.u16|.u32|.s16|.s32}", |m| wide(m, IntOp::MadWide, true)),
    row("mul24{.hi|.lo}{.u32|.s32}", |m| alike(m, half(m, IntOp::Mul24Lo, IntOp::Mul24Hi), 2)),
    row("mad24{.hi|.lo}{.u32|.s32}", |m| alike(m, half(m, IntOp::Mad24Lo, IntOp::Mad24Hi), 3)),
    row("mad24.hi.sat.s32", |m| alike(m, IntOp::Mad24HiSat, 3)),
    row("sad{.u16|.u32|.u64|.s16|.s32|.s64}", |m| alike(m, IntOp::Sad, 3)),
    row("div{.u16|.u32|.u64|.s16|.s32|.s64}", |m| alike(m, IntOp::Div, 2)),
    row("rem{.u16|.u32|.u64|.s16|.s32|.s64}", |m| alike(m, IntOp::Rem, 2)),
    row("abs{.s16|.s32|.s64}", |m| alike(m, IntOp::Abs, 1)),
    row("neg{.s16|.s32|.s64}", |m| alike(m, IntOp::Neg, 1)),
    row("min{.u16|.u32|.u64|.s16|.s32|.s64}", |m| alike(m, IntOp::Min, 2)),
    row("min.relu.s32", |m| alike(m, IntOp::MinRelu, 2)),
    row("max{.u16|.u32|.u64|.s16|.s32|.s64}", |m| alike(m, IntOp::Max, 2)),
    row("max.relu.s32", |m| alike(m, IntOp::MaxRelu, 2)),
    row("popc{.b32|.b64}", |m| to_u32(m, IntOp::Popc)),
    row("clz{.b32|.b64}", |m| to_u32(m, IntOp::Clz)),
    row("bfind{.u32|.u64|.s32|.s64}", |m| to_u32(m, IntOp::Bfind)),
    row("bfind.shiftamt{.u32|.u64|.s32|.s64}", |m| to_u32(m, IntOp::BfindShift)),
    row("brev{.b32|.b64}", |m| alike(m, IntOp::Brev, 1)),
    row("bfe{.u32|.u64|.s32|.s64}", |m| positioned(m, IntOp::Bfe, 1, 2)),
    row("bfi{.b32|.b64}", |m| positioned(m, IntOp::Bfi, 2, 2)),
    row("szext{.clamp|.wrap}{.u32|.s32}", |m| {
        positioned(m, if m.has(".clamp") { IntOp::SzextClamp } else { IntOp::SzextWrap }, 1, 1)
    }),
    row("bmsk{.clamp|.wrap}.b32", |m| {
        positioned(m, if m.has(".clamp") { IntOp::BmskClamp } else { IntOp::BmskWrap }, 0, 2)
    }),
    row("dp4a{.u32|.s32}{.u32|.s32}", |m| {
        let (a, b) = (m.types()[0], m.types()[1]);
        dot(Alu::Dp4a(a.is_signed(), b.is_signed()), a, b)
    }),
    row("dp2a{.lo|.hi}{.u32|.s32}{.u32|.s32}", |m| {
        let (a, b) = (m.types()[0], m.types()[1]);
        dot(Alu::Dp2a(a.is_signed(), b.is_signed(), m.has(".hi")), a, b)
    }),
    row("add.cc{.u32|.s32|.u64|.s64}", |m| carry(m, CarryKind::Add, false)),
    row("addc{.cc}?{.u32|.s32|.u64|.s64}", |m| carry(m, CarryKind::Add, true)),
    row("sub.cc{.u32|.s32|.u64|.s64}", |m| carry(m, CarryKind::Sub, false)),
    row("subc{.cc}?{.u32|.s32|.u64|.s64}", |m| carry(m, CarryKind::Sub, true)),
    row("mad{.hi|.lo}.cc{.u32|.s32|.u64|.s64}", |m| carry(m, half(m, CarryKind::MadLo, CarryKind::MadHi), false)),
    row("madc{.hi|.lo}{.cc}?{.u32|.s32|.u64|.s64}", |m| carry(m, half(m, CarryKind::MadLo, CarryKind::MadHi), true)),
    row("and{.b16|.b32|.b64}", |m| alike(m, IntOp::And, 2)),
    row("or{.b16|.b32|.b64}", |m| alike(m, IntOp::Or, 2)),
    row("xor{.b16|.b32|.b64}", |m| alike(m, IntOp::Xor, 2)),
    row("not{.b16|.b32|.b64}", |m| alike(m, IntOp::Not, 1)),
    row("cnot{.b16|.b32|.b64}", |m| alike(m, IntOp::Cnot, 1)),
    // The truth table is a constant of the text: the loader puts the immediate into the operation.
    row("lop3.b32", |_| {
        let b = Operand::Read(Type::B32);
        Decoded::new(Op::Alu(Alu::Lop3(0)), &[Operand::Write(Type::B32), b, b, b, Operand::Immediate])
    }),
    row("shf{.l|.r}{.clamp|.wrap}.b32", |m| {
        let op = match (m.has(".l"), m.has(".clamp")) {
            (true, true) => IntOp::ShfLeftClamp,
            (true, false) => IntOp::ShfLeftWrap,
            (false, true) => IntOp::ShfRightClamp,
            (false, false) => IntOp::ShfRightWrap,
        };
        positioned(m, op, 2, 1)
    }),
    row("shl{.b16|.b32|.b64}", |m| positioned(m, IntOp::Shl, 1, 1)),
    row("shr{.b16|.b32|.b64|.u16|.u32|.u64|.s16|.s32|.s64}", |m| positioned(m, IntOp::Shr, 1, 1)),
    row("prmt.b32{.f4e|.b4e|.rc8|.ecl|.ecr|.rc16}?", |m| {
        let mode = match m.which(&[".f4e", ".b4e", ".rc8", ".ecl", ".ecr", ".rc16"]) {
            None => Prmt::Index,
            Some(0) => Prmt::Forward4,
            Some(1) => Prmt::Backward4,
            Some(2) => Prmt::Replicate8,
            Some(3) => Prmt::EdgeLeft,
            Some(4) => Prmt::EdgeRight,
            Some(_) => Prmt::Replicate16,
        };
        Decoded::alu(Alu::Prmt(mode), Type::B32, &[Type::B32; 3])
    }),
];

const fn row(pattern: &'static str, build: fn(&Modifiers<'_>) -> Option<Decoded>) -> Row {
    Row { pattern, build }
}

/// `.lo` or `.hi`.
fn half<T>(m: &Modifiers<'_>, lo: T, hi: T) -> T {
    if m.has(".hi") { hi } else { lo }
}

/// Everything of one type.
fn alike(m: &Modifiers<'_>, op: IntOp, sources: usize) -> Option<Decoded> {
    positioned(m, op, sources, 0)
}

/// `values` sources of the type, then `counts` shift counts or bit positions, which are 32 bits whatever the type.
fn positioned(m: &Modifiers<'_>, op: IntOp, values: usize, counts: usize) -> Option<Decoded> {
    let ty = m.ty()?;
    let sources = [vec![ty; values], vec![U32; counts]].concat();
    Decoded::alu(Alu::Int(op, Int::of(ty)?), ty, &sources)
}

/// A product of twice the width, and a summand of that width.
fn wide(m: &Modifiers<'_>, op: IntOp, summand: bool) -> Option<Decoded> {
    let ty = m.ty()?;
    let double = match ty {
        Type::U16 => Type::U32,
        Type::S16 => Type::S32,
        Type::U32 => Type::U64,
        Type::S32 => Type::S64,
        _ => return None,
    };
    let sources = [ty, ty, double];
    Decoded::alu(Alu::Int(op, Int::of(ty)?), double, &sources[..if summand { 3 } else { 2 }])
}

/// A count of bits in one source.
fn to_u32(m: &Modifiers<'_>, op: IntOp) -> Option<Decoded> {
    let ty = m.ty()?;
    Decoded::alu(Alu::Int(op, Int::of(ty)?), U32, &[ty])
}

/// Sum of byte or halfword products: unsigned only if both factors are.
fn dot(op: Alu, a: Type, b: Type) -> Option<Decoded> {
    let sum = if a.is_signed() { a } else { b };
    Decoded::alu(op, sum, &[a, b, sum])
}

/// Arithmetic through the carry flag.
fn carry(m: &Modifiers<'_>, kind: CarryKind, carry_in: bool) -> Option<Decoded> {
    let ty = m.ty()?;
    let (wide, signed) = (ty.bits() == 64, ty.is_signed());
    let op = CarryOp { kind, wide, signed, carry_in, carry_out: m.has(".cc") };
    let sources = match kind {
        CarryKind::Add | CarryKind::Sub => 2,
        CarryKind::MadLo | CarryKind::MadHi => 3,
    };
    let operands = [vec![Operand::Write(ty)], vec![Operand::Read(ty); sources]].concat();
    Decoded::new(Op::Carry(op), &operands)
}

impl Int {
    /// The arithmetic type of a suffix; `.bN` counts as unsigned.
    pub(crate) const fn of(ty: Type) -> Option<Int> {
        Some(match ty {
            Type::U16 | Type::B16 => Int::U16,
            Type::S16 => Int::S16,
            Type::U32 | Type::B32 => Int::U32,
            Type::S32 => Int::S32,
            Type::U64 | Type::B64 => Int::U64,
            Type::S64 => Int::S64,
            _ => return None,
        })
    }
}
