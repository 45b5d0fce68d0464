//! Comparison and selection (manual 9.7.3.1 `testp`, 9.7.6, 9.7.7).

use super::{Decoded, Modifiers, Operand, Row};
use crate::isa::{Alu, Cmp, Combine, Compare, Op, Testp, Type};

/// Every operator by its modifier.
const CMP: [(&str, Cmp); 18] = [
    (".eq", Cmp::Eq),
    (".ne", Cmp::Ne),
    (".lt", Cmp::Lt),
    (".le", Cmp::Le),
    (".gt", Cmp::Gt),
    (".ge", Cmp::Ge),
    (".lo", Cmp::Lo),
    (".ls", Cmp::Ls),
    (".hi", Cmp::Hi),
    (".hs", Cmp::Hs),
    (".equ", Cmp::EqU),
    (".neu", Cmp::NeU),
    (".ltu", Cmp::LtU),
    (".leu", Cmp::LeU),
    (".gtu", Cmp::GtU),
    (".geu", Cmp::GeU),
    (".num", Cmp::Num),
    (".nan", Cmp::Nan),
];

pub(super) const ROWS: &[Row] = &[
    row("testp{.finite|.infinite|.number|.notanumber|.normal|.subnormal}{.f32|.f64}", |m| {
        let class = match m.which(&[".finite", ".infinite", ".number", ".notanumber", ".normal"]) {
            Some(0) => Testp::Finite,
            Some(1) => Testp::Infinite,
            Some(2) => Testp::Number,
            Some(3) => Testp::NotANumber,
            Some(_) => Testp::Normal,
            None => Testp::Subnormal,
        };
        let ty = m.ty()?;
        Decoded::new(Op::Alu(Alu::Testp(class, ty)), &[Operand::WritePred, Operand::Read(ty)])
    }),
    row("set{.eq|.ne}{.and|.or|.xor}?{.u32|.s32|.f32|.f16|.bf16}{.b16|.b32|.b64}", set),
    row("set{.eq|.ne|.lt|.le|.gt|.ge}{.and|.or|.xor}?{.u32|.s32|.f32|.f16|.bf16}{.s16|.s32|.s64}", set),
    row("set{.eq|.ne|.lt|.le|.gt|.ge|.lo|.ls|.hi|.hs}{.and|.or|.xor}?{.u32|.s32|.f32|.f16|.bf16}{.u16|.u32|.u64}", set),
    row(
        "set{.eq|.ne|.lt|.le|.gt|.ge|.equ|.neu|.ltu|.leu|.gtu|.geu|.num|.nan}{.and|.or|.xor}?{.ftz}?\
         {.u16|.s16|.u32|.s32|.f32|.f16|.bf16|.f16x2|.bf16x2}{.f32|.f64|.f16|.f16x2|.bf16|.bf16x2}",
        |m| float_set_exists(m).then(|| set(m))?,
    ),
    row("setp{.eq|.ne}{.and|.or|.xor}?{.b16|.b32|.b64}", setp),
    row("setp{.eq|.ne|.lt|.le|.gt|.ge}{.and|.or|.xor}?{.s16|.s32|.s64}", setp),
    row("setp{.eq|.ne|.lt|.le|.gt|.ge|.lo|.ls|.hi|.hs}{.and|.or|.xor}?{.u16|.u32|.u64}", setp),
    row(
        "setp{.eq|.ne|.lt|.le|.gt|.ge|.equ|.neu|.ltu|.leu|.gtu|.geu|.num|.nan}{.and|.or|.xor}?{.ftz}?\
         {.f32|.f64|.f16|.f16x2|.bf16|.bf16x2}",
        |m| flushes(m.ty()?, m.has(".ftz")).then(|| setp(m))?,
    ),
    row("selp{.b16|.b32|.b64|.u16|.u32|.u64|.s16|.s32|.s64|.f32|.f64}", |m| {
        let ty = m.ty()?;
        let value = Operand::Read(ty);
        Decoded::new(Op::Alu(Alu::Selp(ty)), &[Operand::Write(ty), value, value, Operand::ReadPred])
    }),
    row("slct{.b16|.b32|.b64|.u16|.u32|.u64|.s16|.s32|.s64|.f32|.f64}.s32", slct),
    row("slct{.ftz}?{.b16|.b32|.b64|.u16|.u32|.u64|.s16|.s32|.s64|.f32|.f64}.f32", slct),
];

const fn row(pattern: &'static str, build: fn(&Modifiers<'_>) -> Option<Decoded>) -> Row {
    Row { pattern, build }
}

/// `.ftz` goes with operands that have something to flush and a flushing form: not `.f64`, not bfloat16.
fn flushes(ty: Type, ftz: bool) -> bool {
    !ftz || matches!(ty, Type::F32 | Type::F16 | Type::F16x2)
}

/// The pairs of result and operand types that the manual lists for floating-point operands.
fn float_set_exists(m: &Modifiers<'_>) -> bool {
    let &[to, from] = m.types().as_slice() else { return false };
    let pair = match from {
        Type::F16 => matches!(to, Type::U16 | Type::S16 | Type::U32 | Type::S32 | Type::F16),
        Type::Bf16 => matches!(to, Type::U16 | Type::S16 | Type::U32 | Type::S32 | Type::Bf16),
        Type::F16x2 => matches!(to, Type::U32 | Type::S32 | Type::F16x2),
        Type::Bf16x2 => matches!(to, Type::U32 | Type::S32 | Type::Bf16x2),
        Type::F32 | Type::F64 => matches!(to, Type::U32 | Type::S32 | Type::F32 | Type::F16 | Type::Bf16),
        _ => false,
    };
    pair && flushes(from, m.has(".ftz")) && !(to == Type::Bf16 && m.has(".ftz"))
}

fn comparison(m: &Modifiers<'_>) -> Option<Compare> {
    let cmp = CMP.iter().find(|(name, _)| m.has(name))?.1;
    let combine = m.which(&[".and", ".or", ".xor"]).map(|i| [Combine::And, Combine::Or, Combine::Xor][i]);
    Some(Compare { cmp, ty: m.ty()?, ftz: m.has(".ftz"), combine })
}

/// `result, a, b` and, where a combination was named, a predicate.
fn compared(op: Alu, result: Operand, compare: Compare) -> Option<Decoded> {
    let mut operands = vec![result, Operand::Read(compare.ty), Operand::Read(compare.ty)];
    if compare.combine.is_some() {
        operands.push(Operand::ReadPred);
    }
    Decoded::new(Op::Alu(op), &operands)
}

fn setp(m: &Modifiers<'_>) -> Option<Decoded> {
    let compare = comparison(m)?;
    compared(Alu::Setp(compare), Operand::WritePredPair, compare)
}

fn set(m: &Modifiers<'_>) -> Option<Decoded> {
    let compare = comparison(m)?;
    let to = *m.types().first()?;
    compared(Alu::Set(compare, to), Operand::Write(to), compare)
}

fn slct(m: &Modifiers<'_>) -> Option<Decoded> {
    let &[ty, selector] = m.types().as_slice() else { return None };
    Decoded::alu(Alu::Slct(ty, selector, m.has(".ftz")), ty, &[ty, ty, selector])
}
