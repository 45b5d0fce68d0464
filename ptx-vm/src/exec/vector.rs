//! Pure operations on a whole warp.
//!
//! The operations that fill kernels get a loop of their own: `alu::eval` with a constant operation, so that its `match`
//! folds away and the 32 lanes become vector instructions. The rest share one loop that decides per lane.

use super::registers::{Registers, WARP, blend, pack};
use crate::alu::eval;
use crate::isa::{Alu, Cmp, Compare, Convert, FloatMode, FloatOp, Int, IntOp, Rounding, Type};
use crate::program::{File, Inst};

/// Names constant operations and dispatches each to `$run` with its own copy of the loop.
macro_rules! unroll {
    ($alu:expr, $run:ident($registers:ident, $inst:ident, $mask:ident), $otherwise:expr; $($name:ident = $op:expr;)*) => {{
        $(const $name: Alu = $op;)*
        match $alu {
            $($name => $run($registers, $inst, $mask, |x| eval($name, x)),)*
            _ => $otherwise,
        }
    }};
}

/// Executes a pure operation for the lanes of `mask`.
#[inline(always)]
pub(crate) fn execute(registers: &mut Registers, inst: &Inst, alu: Alu, mask: u32) {
    if let Alu::Mov(_) = alu {
        return copy(registers, inst, mask);
    }
    if inst.negated != 0 {
        return general(registers, inst, alu, mask);
    }
    match (inst.dst[0].file, inst.src[0].file) {
        (File::Word, File::Word) => execute_words(registers, inst, alu, mask),
        (File::Double, _) => execute_doubles(registers, inst, alu, mask),
        (File::Pred, File::Word) if !inst.dst[1].is_some() => execute_tests(registers, inst, alu, mask),
        _ => general(registers, inst, alu, mask),
    }
}

/// `mov` between registers of one file, and between a narrow and a wide one.
#[inline(always)]
fn copy(registers: &mut Registers, inst: &Inst, mask: u32) {
    let (to, from) = (inst.dst[0], inst.src[0]);
    if to.file == File::Word && from.file == File::Word {
        let values = registers.word[usize::from(from.index)];
        blend(&mut registers.word[usize::from(to.index)], mask, |lane| values[lane]);
    } else {
        let values = registers.read(from);
        registers.write(to, mask, &values);
    }
}

/// Sources and result of 32 bits or less.
#[inline(always)]
fn execute_words(registers: &mut Registers, inst: &Inst, alu: Alu, mask: u32) {
    if let Alu::Lop3(_) = alu {
        return words(registers, inst, mask, |x| eval(alu, x));
    }
    let wide = inst.src.iter().any(|slot| slot.file == File::Double);
    if wide || inst.src[3].is_some() {
        return general(registers, inst, alu, mask);
    }
    if inst.src[2].file == File::Pred {
        return match alu {
            Alu::Selp(_) => select_words(registers, inst, mask),
            _ => general(registers, inst, alu, mask),
        };
    }
    unroll!(alu, words(registers, inst, mask), general(registers, inst, alu, mask);
        ADD_U32 = Alu::Int(IntOp::Add, Int::U32);
        ADD_S32 = Alu::Int(IntOp::Add, Int::S32);
        SUB_U32 = Alu::Int(IntOp::Sub, Int::U32);
        SUB_S32 = Alu::Int(IntOp::Sub, Int::S32);
        MUL_U32 = Alu::Int(IntOp::MulLo, Int::U32);
        MUL_S32 = Alu::Int(IntOp::MulLo, Int::S32);
        MUL_HI_U32 = Alu::Int(IntOp::MulHi, Int::U32);
        MAD_U32 = Alu::Int(IntOp::MadLo, Int::U32);
        MAD_S32 = Alu::Int(IntOp::MadLo, Int::S32);
        MIN_U32 = Alu::Int(IntOp::Min, Int::U32);
        MIN_S32 = Alu::Int(IntOp::Min, Int::S32);
        MAX_U32 = Alu::Int(IntOp::Max, Int::U32);
        MAX_S32 = Alu::Int(IntOp::Max, Int::S32);
        NEG_S32 = Alu::Int(IntOp::Neg, Int::S32);
        AND_B32 = Alu::Int(IntOp::And, Int::U32);
        OR_B32 = Alu::Int(IntOp::Or, Int::U32);
        XOR_B32 = Alu::Int(IntOp::Xor, Int::U32);
        NOT_B32 = Alu::Int(IntOp::Not, Int::U32);
        SHL_B32 = Alu::Int(IntOp::Shl, Int::U32);
        SHR_U32 = Alu::Int(IntOp::Shr, Int::U32);
        SHR_S32 = Alu::Int(IntOp::Shr, Int::S32);
        ADD_F32 = Alu::F32(FloatOp::Add, FloatMode::PLAIN);
        SUB_F32 = Alu::F32(FloatOp::Sub, FloatMode::PLAIN);
        MUL_F32 = Alu::F32(FloatOp::Mul, FloatMode::PLAIN);
        FMA_F32 = Alu::F32(FloatOp::Fma, FloatMode::PLAIN);
        MIN_F32 = Alu::F32(FloatOp::Min, FloatMode::PLAIN);
        MAX_F32 = Alu::F32(FloatOp::Max, FloatMode::PLAIN);
        NEG_F32 = Alu::F32(FloatOp::Neg, FloatMode::PLAIN);
        ABS_F32 = Alu::F32(FloatOp::Abs, FloatMode::PLAIN);
        ADD_FTZ_F32 = Alu::F32(FloatOp::Add, FloatMode::FTZ);
        SUB_FTZ_F32 = Alu::F32(FloatOp::Sub, FloatMode::FTZ);
        MUL_FTZ_F32 = Alu::F32(FloatOp::Mul, FloatMode::FTZ);
        FMA_FTZ_F32 = Alu::F32(FloatOp::Fma, FloatMode::FTZ);
        F32_S32 = Alu::Cvt(Convert { to: Type::F32, from: Type::S32, ..EXACT });
        F32_U32 = Alu::Cvt(Convert { to: Type::F32, from: Type::U32, ..EXACT });
    )
}

/// A 64-bit result.
#[inline(always)]
fn execute_doubles(registers: &mut Registers, inst: &Inst, alu: Alu, mask: u32) {
    unroll!(alu, doubles(registers, inst, mask), general(registers, inst, alu, mask);
        ADD_U64 = Alu::Int(IntOp::Add, Int::U64);
        ADD_S64 = Alu::Int(IntOp::Add, Int::S64);
        SUB_U64 = Alu::Int(IntOp::Sub, Int::U64);
        SUB_S64 = Alu::Int(IntOp::Sub, Int::S64);
        MUL_U64 = Alu::Int(IntOp::MulLo, Int::U64);
        MUL_S64 = Alu::Int(IntOp::MulLo, Int::S64);
        MAD_S64 = Alu::Int(IntOp::MadLo, Int::S64);
        AND_B64 = Alu::Int(IntOp::And, Int::U64);
        OR_B64 = Alu::Int(IntOp::Or, Int::U64);
        XOR_B64 = Alu::Int(IntOp::Xor, Int::U64);
        SHL_B64 = Alu::Int(IntOp::Shl, Int::U64);
        SHR_U64 = Alu::Int(IntOp::Shr, Int::U64);
        MUL_WIDE_U32 = Alu::Int(IntOp::MulWide, Int::U32);
        MUL_WIDE_S32 = Alu::Int(IntOp::MulWide, Int::S32);
        MAD_WIDE_U32 = Alu::Int(IntOp::MadWide, Int::U32);
        MAD_WIDE_S32 = Alu::Int(IntOp::MadWide, Int::S32);
        U64_U32 = Alu::Cvt(Convert { to: Type::U64, from: Type::U32, ..EXACT });
        S64_S32 = Alu::Cvt(Convert { to: Type::S64, from: Type::S32, ..EXACT });
        FMA_F64 = Alu::F64(FloatOp::Fma, FloatMode::PLAIN);
        ADD_F64 = Alu::F64(FloatOp::Add, FloatMode::PLAIN);
        MUL_F64 = Alu::F64(FloatOp::Mul, FloatMode::PLAIN);
    )
}

/// A comparison of words into one predicate, not combined with another.
#[inline(always)]
fn execute_tests(registers: &mut Registers, inst: &Inst, alu: Alu, mask: u32) {
    unroll!(alu, tests(registers, inst, mask), general(registers, inst, alu, mask);
        EQ_S32 = setp(Cmp::Eq, Type::S32);
        NE_S32 = setp(Cmp::Ne, Type::S32);
        LT_S32 = setp(Cmp::Lt, Type::S32);
        LE_S32 = setp(Cmp::Le, Type::S32);
        GT_S32 = setp(Cmp::Gt, Type::S32);
        GE_S32 = setp(Cmp::Ge, Type::S32);
        EQ_U32 = setp(Cmp::Eq, Type::U32);
        NE_U32 = setp(Cmp::Ne, Type::U32);
        LT_U32 = setp(Cmp::Lt, Type::U32);
        LE_U32 = setp(Cmp::Le, Type::U32);
        GT_U32 = setp(Cmp::Gt, Type::U32);
        GE_U32 = setp(Cmp::Ge, Type::U32);
        EQ_B32 = setp(Cmp::Eq, Type::B32);
        NE_B32 = setp(Cmp::Ne, Type::B32);
        LT_F32 = setp(Cmp::Lt, Type::F32);
        LE_F32 = setp(Cmp::Le, Type::F32);
        GT_F32 = setp(Cmp::Gt, Type::F32);
        GE_F32 = setp(Cmp::Ge, Type::F32);
    )
}

const fn setp(cmp: Cmp, ty: Type) -> Alu {
    Alu::Setp(Compare { cmp, ty, ftz: false, combine: None })
}

/// A conversion without modifiers, but for the types.
const EXACT: Convert = Convert {
    to: Type::U32,
    from: Type::U32,
    rounding: Rounding::Nearest,
    integral: false,
    ftz: false,
    sat: false,
    relu: false,
    satfinite: false,
};

#[inline(always)]
fn words(registers: &mut Registers, inst: &Inst, mask: u32, op: impl Fn([u64; 4]) -> u64) {
    let word = |i: usize| registers.word[usize::from(inst.src[i].index)];
    let (a, b, c) = (word(0), word(1), word(2));
    let target = &mut registers.word[usize::from(inst.dst[0].index)];
    blend(target, mask, |lane| op([u64::from(a[lane]), u64::from(b[lane]), u64::from(c[lane]), 0]) as u32);
}

#[inline(always)]
fn doubles(registers: &mut Registers, inst: &Inst, mask: u32, op: impl Fn([u64; 4]) -> u64) {
    let (a, b, c) = (registers.read(inst.src[0]), registers.read(inst.src[1]), registers.read(inst.src[2]));
    let target = &mut registers.double[usize::from(inst.dst[0].index)];
    blend(target, mask, |lane| op([a[lane], b[lane], c[lane], 0]));
}

#[inline(always)]
fn tests(registers: &mut Registers, inst: &Inst, mask: u32, op: impl Fn([u64; 4]) -> u64) {
    let word = |i: usize| registers.word[usize::from(inst.src[i].index)];
    let (a, b) = (word(0), word(1));
    let bits = pack(|lane| op([u64::from(a[lane]), u64::from(b[lane]), 0, 0]) & 1 == 1);
    registers.write_predicate(inst.dst[0], mask, bits);
}

#[inline(always)]
fn select_words(registers: &mut Registers, inst: &Inst, mask: u32) {
    let word = |i: usize| registers.word[usize::from(inst.src[i].index)];
    let (a, b, chosen) = (word(0), word(1), registers.predicate(inst, 2));
    let target = &mut registers.word[usize::from(inst.dst[0].index)];
    blend(target, mask, |lane| if chosen >> lane & 1 == 1 { a[lane] } else { b[lane] });
}

/// Any pure operation, lane by lane.
#[inline(never)]
fn general(registers: &mut Registers, inst: &Inst, alu: Alu, mask: u32) {
    let sources: [_; 4] = std::array::from_fn(|i| registers.source(inst, i));
    let mut results = [0; WARP];
    for lane in super::registers::lanes(mask) {
        results[lane] = eval(alu, [sources[0][lane], sources[1][lane], sources[2][lane], sources[3][lane]]);
    }
    registers.write(inst.dst[0], mask, &results);
    if inst.dst[1].is_some() {
        registers.write(inst.dst[1], mask, &results.map(|value| value >> 1));
    }
}
