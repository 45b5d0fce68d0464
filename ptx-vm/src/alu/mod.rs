//! The meaning of every pure operation: register bits in, register bits out.
//!
//! This is the only definition. The executor's vector loops are these same functions with the operation known at compile
//! time (`#[inline(always)]` lets the compiler drop the `match`), so there is no second one to keep in step.

pub(crate) mod compare;
pub(crate) mod convert;
pub(crate) mod float;
pub(crate) mod half;
pub(crate) mod integer;
pub(crate) mod mma;

use crate::isa::Alu;

/// Applies `op` to the operands `x` (`a, b, c, d` in the order of the text).
///
/// Operands are register contents: bits above the operand's type are ignored. The result has every bit above its type
/// clear, except where the type is signed and narrower than its register may be (`cvt` to `.s8`, `.s16`, `.s32`): then it
/// is sign-extended to 64 bits, and writing it to a register truncates it. Predicate operands are 0 or 1.
#[inline(always)]
pub(crate) fn eval(op: Alu, x: [u64; 4]) -> u64 {
    match op {
        Alu::Mov(_) | Alu::Int(..) | Alu::Lop3(_) | Alu::Prmt(_) | Alu::Dp4a(..) | Alu::Dp2a(..) => {
            integer::eval(op, x)
        }
        Alu::Pack(..) | Alu::Unpack(..) | Alu::Selp(_) => integer::eval(op, x),
        Alu::F32(op, mode) => u64::from(float::eval_f32(op, mode, x.map(|v| v as u32))),
        Alu::F64(op, mode) => float::eval_f64(op, mode, x),
        Alu::Half(op, ty, mode) => u64::from(half::eval(op, ty, mode, x.map(|v| v as u32))),
        Alu::Testp(..) | Alu::Setp(_) | Alu::Set(..) | Alu::Slct(..) => compare::eval(op, x),
        Alu::Cvt(_) | Alu::CvtPack(_) | Alu::CvtPackSat(..) => convert::eval(op, x),
    }
}
