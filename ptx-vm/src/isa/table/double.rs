//! `.f64` arithmetic (manual 9.7.3).

use super::{Decoded, Modifiers, Row};
use crate::isa::{Alu, FloatMode, FloatOp, Type};

pub(super) const ROWS: &[Row] = &[
    row("copysign.f64", |m| alu(m, FloatOp::Copysign, 2)),
    row("add{.rn|.rz|.rm|.rp}?.f64", |m| alu(m, FloatOp::Add, 2)),
    row("sub{.rn|.rz|.rm|.rp}?.f64", |m| alu(m, FloatOp::Sub, 2)),
    row("mul{.rn|.rz|.rm|.rp}?.f64", |m| alu(m, FloatOp::Mul, 2)),
    row("fma{.rn|.rz|.rm|.rp}.f64", |m| alu(m, FloatOp::Fma, 3)),
    row("mad{.rn|.rz|.rm|.rp}.f64", |m| alu(m, FloatOp::Fma, 3)),
    row("div{.rn|.rz|.rm|.rp}.f64", |m| alu(m, FloatOp::Div, 2)),
    row("abs.f64", |m| alu(m, FloatOp::Abs, 1)),
    row("neg.f64", |m| alu(m, FloatOp::Neg, 1)),
    row("min.f64", |m| alu(m, FloatOp::Min, 2)),
    row("max.f64", |m| alu(m, FloatOp::Max, 2)),
    row("rcp.approx.ftz.f64", |m| alu(m, FloatOp::RcpApprox, 1)),
    row("rcp{.rn|.rz|.rm|.rp}.f64", |m| alu(m, FloatOp::Rcp, 1)),
    row("sqrt{.rn|.rz|.rm|.rp}.f64", |m| alu(m, FloatOp::Sqrt, 1)),
    row("rsqrt.approx{.ftz}?.f64", |m| alu(m, FloatOp::RsqrtApprox, 1)),
];

const fn row(pattern: &'static str, build: fn(&Modifiers<'_>) -> Option<Decoded>) -> Row {
    Row { pattern, build }
}

fn alu(m: &Modifiers<'_>, op: FloatOp, sources: usize) -> Option<Decoded> {
    Decoded::alu(Alu::F64(op, FloatMode::of(m)), Type::F64, &vec![Type::F64; sources])
}
