//! Half precision: `.f16`, `.bf16` and their packed pairs (manual 9.7.4).

use super::{Decoded, Modifiers, Row};
use crate::isa::{Alu, FloatMode, FloatOp};

pub(super) const ROWS: &[Row] = &[
    Row { pattern: "add{.rn}?{.ftz}?{.sat}?{.f16|.f16x2}", build: |m| arithmetic(FloatOp::Add, 2, m) },
    Row { pattern: "add{.rn}?{.bf16|.bf16x2}", build: |m| arithmetic(FloatOp::Add, 2, m) },
    Row { pattern: "sub{.rn}?{.ftz}?{.sat}?{.f16|.f16x2}", build: |m| arithmetic(FloatOp::Sub, 2, m) },
    Row { pattern: "sub{.rn}?{.bf16|.bf16x2}", build: |m| arithmetic(FloatOp::Sub, 2, m) },
    Row { pattern: "mul{.rn}?{.ftz}?{.sat}?{.f16|.f16x2}", build: |m| arithmetic(FloatOp::Mul, 2, m) },
    Row { pattern: "mul{.rn}?{.bf16|.bf16x2}", build: |m| arithmetic(FloatOp::Mul, 2, m) },
    Row { pattern: "fma.rn{.ftz}?{.sat|.relu}?{.f16|.f16x2}", build: |m| arithmetic(FloatOp::Fma, 3, m) },
    Row { pattern: "fma.rn{.relu}?{.bf16|.bf16x2}", build: |m| arithmetic(FloatOp::Fma, 3, m) },
    Row { pattern: "neg{.ftz}?{.f16|.f16x2}", build: |m| arithmetic(FloatOp::Neg, 1, m) },
    Row { pattern: "neg{.bf16|.bf16x2}", build: |m| arithmetic(FloatOp::Neg, 1, m) },
    Row { pattern: "abs{.ftz}?{.f16|.f16x2}", build: |m| arithmetic(FloatOp::Abs, 1, m) },
    Row { pattern: "abs{.bf16|.bf16x2}", build: |m| arithmetic(FloatOp::Abs, 1, m) },
    Row { pattern: "min{.ftz}?{.NaN}?{.xorsign.abs}?{.f16|.f16x2}", build: |m| extremum(MIN, m) },
    Row { pattern: "min{.NaN}?{.xorsign.abs}?{.bf16|.bf16x2}", build: |m| extremum(MIN, m) },
    Row { pattern: "max{.ftz}?{.NaN}?{.xorsign.abs}?{.f16|.f16x2}", build: |m| extremum(MAX, m) },
    Row { pattern: "max{.NaN}?{.xorsign.abs}?{.bf16|.bf16x2}", build: |m| extremum(MAX, m) },
    Row { pattern: "tanh.approx{.f16|.f16x2|.bf16|.bf16x2}", build: |m| arithmetic(FloatOp::TanhApprox, 1, m) },
    Row { pattern: "ex2.approx{.f16|.f16x2}", build: |m| arithmetic(FloatOp::Ex2Approx, 1, m) },
    Row { pattern: "ex2.approx.ftz{.bf16|.bf16x2}", build: |m| arithmetic(FloatOp::Ex2Approx, 1, m) },
];

/// Plain, `.NaN`, `.xorsign.abs`, `.NaN.xorsign.abs`.
type Extremum = [FloatOp; 4];
const MIN: Extremum = [FloatOp::Min, FloatOp::MinNan, FloatOp::MinXorsignAbs, FloatOp::MinNanXorsignAbs];
const MAX: Extremum = [FloatOp::Max, FloatOp::MaxNan, FloatOp::MaxXorsignAbs, FloatOp::MaxNanXorsignAbs];

fn arithmetic(op: FloatOp, sources: usize, m: &Modifiers<'_>) -> Option<Decoded> {
    let ty = m.ty()?;
    let mode = FloatMode { ftz: m.has(".ftz"), sat: m.has(".sat"), relu: m.has(".relu"), ..FloatMode::PLAIN };
    Decoded::alu(Alu::Half(op, ty, mode), ty, &[ty; 3][..sources])
}

fn extremum(of: Extremum, m: &Modifiers<'_>) -> Option<Decoded> {
    let index = usize::from(m.has(".NaN")) + 2 * usize::from(m.has(".xorsign.abs"));
    arithmetic(of[index], 2, m)
}

#[cfg(test)]
mod tests {
    use crate::isa::{Instruction, Type};

    #[test]
    fn combinations_that_the_manual_forbids_are_refused() {
        let refused = [
            "add.rz.f16",
            "add.ftz.bf16",
            "add.sat.bf16x2",
            "mul.relu.f16",
            "fma.f16",
            "fma.rn.sat.relu.f16",
            "fma.rn.ftz.bf16",
            "fma.rn.oob.f16",
            "neg.ftz.bf16",
            "min.xorsign.f16",
            "min.abs.f16",
            "min.NaN.ftz.f16",
            "max.ftz.bf16x2",
            "tanh.f16",
            "ex2.approx.bf16",
            "ex2.approx.ftz.f16",
            "div.rn.f16",
        ];
        for spelling in refused {
            assert_eq!(Instruction::parse(spelling), None, "{spelling}");
        }
    }

    #[test]
    fn packed_operands_are_32_bits() {
        let ty = |spelling| Instruction::parse(spelling).map(|i| (i.decoded.operands.len(), i.decoded.operands[0]));
        use super::super::Operand::Write;
        assert_eq!(ty("fma.rn.f16x2"), Some((4, Write(Type::F16x2))));
        assert_eq!(ty("neg.bf16"), Some((2, Write(Type::Bf16))));
    }
}
