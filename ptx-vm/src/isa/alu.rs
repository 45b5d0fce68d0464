//! Pure operations: a function of up to four register values, with no memory, no other lane and no control flow.
//!
//! Their meaning is [`crate::alu::eval`]; the loader's spelling of each is in [`super::table`].

use super::types::{Rounding, Type};

/// An integer type of arithmetic. `.b16`, `.b32`, `.b64` count as unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // named after the suffix
pub enum Int {
    U16,
    S16,
    U32,
    S32,
    U64,
    S64,
}

/// Integer and bit operations, in the order of the PTX manual's chapters 9.7.1, 9.7.2 and 9.7.8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // named after the instruction
pub enum IntOp {
    Add,
    /// `add.sat.s32`
    AddSat,
    Sub,
    /// `sub.sat.s32`
    SubSat,
    MulLo,
    MulHi,
    /// The result is twice as wide as the type.
    MulWide,
    MadLo,
    MadHi,
    /// `mad.hi.sat.s32`
    MadHiSat,
    /// `c` and the result are twice as wide as the type.
    MadWide,
    Mul24Lo,
    Mul24Hi,
    Mad24Lo,
    Mad24Hi,
    /// `mad24.hi.sat.s32`
    Mad24HiSat,
    Sad,
    Div,
    Rem,
    Abs,
    Neg,
    Min,
    Max,
    /// `min.relu.s32` (not below zero).
    MinRelu,
    /// `max.relu.s32`
    MaxRelu,
    Popc,
    Clz,
    Bfind,
    /// `bfind.shiftamt`
    BfindShift,
    Brev,
    Bfe,
    /// Insert `a` into `b` at `c`, length `d`.
    Bfi,
    SzextWrap,
    SzextClamp,
    BmskWrap,
    BmskClamp,
    And,
    Or,
    Xor,
    Not,
    Cnot,
    /// Shift count is 32 bits whatever the type; it clamps.
    Shl,
    Shr,
    /// `shf.l.wrap.b32` and the three others: funnel shifts of `b:a`.
    ShfLeftWrap,
    ShfLeftClamp,
    ShfRightWrap,
    ShfRightClamp,
}

/// Byte permutation modes of `prmt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // named after the modifier
pub enum Prmt {
    Index,
    Forward4,
    Backward4,
    Replicate8,
    EdgeLeft,
    EdgeRight,
    Replicate16,
}

/// Floating-point operations shared by f32, f64 and the half types, where the type has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // named after the instruction
pub enum FloatOp {
    Add,
    Sub,
    Mul,
    Fma,
    Div,
    /// `div.full.f32`
    DivFull,
    /// `div.approx.f32`
    DivApprox,
    Abs,
    Neg,
    Min,
    Max,
    /// `min.NaN`: a NaN operand makes a NaN.
    MinNan,
    MaxNan,
    /// `min.xorsign.abs`
    MinXorsignAbs,
    MaxXorsignAbs,
    MinNanXorsignAbs,
    MaxNanXorsignAbs,
    Rcp,
    RcpApprox,
    Sqrt,
    SqrtApprox,
    RsqrtApprox,
    SinApprox,
    CosApprox,
    Lg2Approx,
    Ex2Approx,
    TanhApprox,
    Copysign,
}

/// Modifiers of a floating-point operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FloatMode {
    /// Of the result.
    pub rounding: Rounding,
    /// `.ftz`: subnormal inputs and results become zero of the same sign.
    pub ftz: bool,
    /// `.sat`: clamp to [0, 1], NaN to +0.
    pub sat: bool,
    /// `.relu`: clamp below at 0, NaN to canonical NaN.
    pub relu: bool,
}

impl FloatMode {
    /// Nearest, nothing else.
    pub const PLAIN: FloatMode = FloatMode { rounding: Rounding::Nearest, ftz: false, sat: false, relu: false };
    /// Nearest, flushing.
    pub const FTZ: FloatMode = FloatMode { ftz: true, ..FloatMode::PLAIN };
}

/// `testp` classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // named after the modifier
pub enum Testp {
    Finite,
    Infinite,
    Number,
    NotANumber,
    Normal,
    Subnormal,
}

/// Comparison operators of `setp`, `set`; the `…U` forms are true when an operand is NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // named after the modifier
pub enum Cmp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// Unsigned lower, lower or same, higher, higher or same.
    Lo,
    Ls,
    Hi,
    Hs,
    EqU,
    NeU,
    LtU,
    LeU,
    GtU,
    GeU,
    /// Both are numbers.
    Num,
    /// Either is NaN.
    Nan,
}

/// How `setp` and `set` combine the comparison with a predicate operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // named after the modifier
pub enum Combine {
    And,
    Or,
    Xor,
}

/// A comparison: operator, operand type, `.ftz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Compare {
    /// The operator.
    pub cmp: Cmp,
    /// Operand type: any integer or float type of 16 bits or more, `F16x2` and `Bf16x2` included.
    pub ty: Type,
    /// Flush subnormal operands.
    pub ftz: bool,
    /// Combine with the predicate in the third operand.
    pub combine: Option<Combine>,
}

/// A conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Convert {
    /// Result type.
    pub to: Type,
    /// Operand type.
    pub from: Type,
    /// Rounding to a float, or to an integral value (see `integral`).
    pub rounding: Rounding,
    /// `.rni`, `.rzi`, `.rmi`, `.rpi`: the result is integral (in an integer or a float type).
    pub integral: bool,
    /// Flush subnormal f32 operands and results.
    pub ftz: bool,
    /// Saturate: to the integer type's range, or to [0, 1] for a float.
    pub sat: bool,
    /// `.relu`: clamp below at 0.
    pub relu: bool,
    /// `.satfinite`: overflow to the largest finite value.
    pub satfinite: bool,
}

/// A pure operation. Operands are named `a, b, c, d` in the order of the PTX text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alu {
    /// `mov`: the value as it is.
    Mov(Type),
    /// An integer operation.
    Int(IntOp, Int),
    /// `lop3.b32` with its truth table.
    Lop3(u8),
    /// `prmt.b32`
    Prmt(Prmt),
    /// `dp4a`: types of `a` and `b` (signed?).
    Dp4a(bool, bool),
    /// `dp2a`: types of `a` and `b` (signed?), high half of `b`?
    Dp2a(bool, bool, bool),
    /// `.f32`
    F32(FloatOp, FloatMode),
    /// `.f64`
    F64(FloatOp, FloatMode),
    /// `.f16`, `.f16x2`, `.bf16`, `.bf16x2`
    Half(FloatOp, Type, FloatMode),
    /// `testp`: the result is 0 or 1. Type f32 or f64.
    Testp(Testp, Type),
    /// `setp`: bit 0 is the first predicate `(a cmp b) op c`, bit 1 the second `!(a cmp b) op c`. For `.f16x2`: bit 0 from the
    /// low halves, bit 1 from the high halves, each combined with `c`.
    Setp(Compare),
    /// `set`: the comparison as an all-ones or 1.0 value of the given type.
    Set(Compare, Type),
    /// `selp`: `c ? a : b`
    Selp(Type),
    /// `slct`: `c >= 0 ? a : b`; the type of `c` is s32 or f32, `ftz` flushes an f32 `c`.
    Slct(Type, Type, bool),
    /// `cvt` with one operand.
    Cvt(Convert),
    /// `cvt` of two f32 operands into a packed pair, `a` in the high half.
    CvtPack(Convert),
    /// `cvt.pack.sat.{u16,s16}.s32` (two operands) and `.{u8,s8,u4,…}.s32.b32` (three): result element type, true with `c`.
    CvtPackSat(Type, bool),
    /// `mov.b32 d, {a, b}` and its kind: packs equal parts, the first in the low bits. Type of the whole, number of parts (2, 4).
    Pack(Type, u8),
    /// `mov.b32 {d, …}, a`: part `index` of `parts`. One instruction per destination.
    Unpack(Type, u8, u8),
}
