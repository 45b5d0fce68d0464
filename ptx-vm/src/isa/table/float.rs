//! `.f32` arithmetic (manual 9.7.3).

use super::{Decoded, Modifiers, Row};
use crate::isa::{Alu, FloatMode, FloatOp, Rounding, Type};

pub(super) const ROWS: &[Row] = &[
    row("copysign.f32", |m| alu(m, FloatOp::Copysign, 2)),
    row("add{.rn|.rz|.rm|.rp}?{.ftz}?{.sat}?.f32", |m| alu(m, FloatOp::Add, 2)),
    row("sub{.rn|.rz|.rm|.rp}?{.ftz}?{.sat}?.f32", |m| alu(m, FloatOp::Sub, 2)),
    row("mul{.rn|.rz|.rm|.rp}?{.ftz}?{.sat}?.f32", |m| alu(m, FloatOp::Mul, 2)),
    row("fma{.rn|.rz|.rm|.rp}{.ftz}?{.sat}?.f32", |m| alu(m, FloatOp::Fma, 3)),
    // From sm_20 on the same operation as `fma`, and it too must name its rounding.
    row("mad{.rn|.rz|.rm|.rp}{.ftz}?{.sat}?.f32", |m| alu(m, FloatOp::Fma, 3)),
    row("div.approx{.ftz}?.f32", |m| alu(m, FloatOp::DivApprox, 2)),
    row("div.full{.ftz}?.f32", |m| alu(m, FloatOp::DivFull, 2)),
    row("div{.rn|.rz|.rm|.rp}{.ftz}?.f32", |m| alu(m, FloatOp::Div, 2)),
    row("abs{.ftz}?.f32", |m| alu(m, FloatOp::Abs, 1)),
    row("neg{.ftz}?.f32", |m| alu(m, FloatOp::Neg, 1)),
    row("min{.ftz}?{.NaN}?{.xorsign.abs}?.f32", |m| {
        let op = match (m.has(".NaN"), m.has(".xorsign.abs")) {
            (false, false) => FloatOp::Min,
            (true, false) => FloatOp::MinNan,
            (false, true) => FloatOp::MinXorsignAbs,
            (true, true) => FloatOp::MinNanXorsignAbs,
        };
        alu(m, op, 2)
    }),
    row("max{.ftz}?{.NaN}?{.xorsign.abs}?.f32", |m| {
        let op = match (m.has(".NaN"), m.has(".xorsign.abs")) {
            (false, false) => FloatOp::Max,
            (true, false) => FloatOp::MaxNan,
            (false, true) => FloatOp::MaxXorsignAbs,
            (true, true) => FloatOp::MaxNanXorsignAbs,
        };
        alu(m, op, 2)
    }),
    row("rcp.approx{.ftz}?.f32", |m| alu(m, FloatOp::RcpApprox, 1)),
    row("rcp{.rn|.rz|.rm|.rp}{.ftz}?.f32", |m| alu(m, FloatOp::Rcp, 1)),
    row("sqrt.approx{.ftz}?.f32", |m| alu(m, FloatOp::SqrtApprox, 1)),
    row("sqrt{.rn|.rz|.rm|.rp}{.ftz}?.f32", |m| alu(m, FloatOp::Sqrt, 1)),
    row("rsqrt.approx{.ftz}?.f32", |m| alu(m, FloatOp::RsqrtApprox, 1)),
    row("sin.approx{.ftz}?.f32", |m| alu(m, FloatOp::SinApprox, 1)),
    row("cos.approx{.ftz}?.f32", |m| alu(m, FloatOp::CosApprox, 1)),
    row("lg2.approx{.ftz}?.f32", |m| alu(m, FloatOp::Lg2Approx, 1)),
    row("ex2.approx{.ftz}?.f32", |m| alu(m, FloatOp::Ex2Approx, 1)),
    row("tanh.approx.f32", |m| alu(m, FloatOp::TanhApprox, 1)),
];

const fn row(pattern: &'static str, build: fn(&Modifiers<'_>) -> Option<Decoded>) -> Row {
    Row { pattern, build }
}

fn alu(m: &Modifiers<'_>, op: FloatOp, sources: usize) -> Option<Decoded> {
    Decoded::alu(Alu::F32(op, FloatMode::of(m)), Type::F32, &vec![Type::F32; sources])
}

impl FloatMode {
    /// The modifiers that were written; an absent rounding is to nearest.
    pub(super) fn of(m: &Modifiers<'_>) -> FloatMode {
        let rounding = match m.which(&[".rz", ".rm", ".rp"]) {
            None => Rounding::Nearest,
            Some(0) => Rounding::Zero,
            Some(1) => Rounding::Down,
            Some(_) => Rounding::Up,
        };
        FloatMode { rounding, ftz: m.has(".ftz"), sat: m.has(".sat"), relu: m.has(".relu") }
    }
}
