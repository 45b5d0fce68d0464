//! Control flow, moves, predicates and addresses (manual 9.7.9.1, .20 to .22, 9.7.12, and the `.pred` forms of 9.7.8).

use super::{Decoded, Modifiers, Operand, Row};
use crate::isa::{Alu, Op, PredOp, Space, Type};

pub(super) const ROWS: &[Row] = &[
    Row { pattern: "bra{.uni}?", build: |_| Decoded::new(Op::Branch, &[Operand::Label]) },
    Row {
        pattern: "brx.idx{.uni}?",
        build: |_| Decoded::new(Op::BranchIndexed, &[Operand::Read(Type::U32), Operand::LabelList]),
    },
    Row { pattern: "call{.uni}?", build: |_| Decoded::new(Op::Call, &[Operand::CallTarget]) },
    Row { pattern: "ret{.uni}?", build: |_| Decoded::new(Op::Return, &[]) },
    Row { pattern: "exit", build: |_| Decoded::new(Op::Exit, &[]) },
    Row { pattern: "trap", build: |_| Decoded::new(Op::Trap, &[]) },
    Row { pattern: "mov.pred", build: |_| predicates(PredOp::Mov, 1) },
    Row {
        pattern: "mov{.b16|.b32|.b64|.u16|.u32|.u64|.s16|.s32|.s64|.f32|.f64}",
        build: |m| {
            let ty = m.ty()?;
            Decoded::alu(Alu::Mov(ty), ty, &[ty])
        },
    },
    Row { pattern: "not.pred", build: |_| predicates(PredOp::Not, 1) },
    Row { pattern: "and.pred", build: |_| predicates(PredOp::And, 2) },
    Row { pattern: "or.pred", build: |_| predicates(PredOp::Or, 2) },
    Row { pattern: "xor.pred", build: |_| predicates(PredOp::Xor, 2) },
    Row {
        pattern: "cvta{.to}?{.global|.shared|.shared::cta|.local|.const|.param|.param::entry}.u64",
        build: |m| {
            let (address, op) = (Type::U64, Op::Cvta { space: space(m)?, to: m.has(".to") });
            Decoded::new(op, &[Operand::Write(address), Operand::Read(address)])
        },
    },
    Row {
        pattern: "isspacep{.global|.shared|.shared::cta|.local|.const|.param|.param::entry}",
        build: |m| Decoded::new(Op::IsSpace(space(m)?), &[Operand::WritePred, Operand::Read(Type::U64)]),
    },
];

fn predicates(op: PredOp, sources: usize) -> Option<Decoded> {
    let operands = std::iter::once(Operand::WritePred).chain(std::iter::repeat_n(Operand::ReadPred, sources));
    Some(Decoded { op: Op::Pred(op), operands: operands.collect() })
}

fn space(m: &Modifiers<'_>) -> Option<Space> {
    const SPACES: [(&str, Space); 7] = [
        (".global", Space::Global),
        (".shared", Space::Shared),
        (".shared::cta", Space::Shared),
        (".local", Space::Local),
        (".const", Space::Const),
        (".param", Space::Param),
        (".param::entry", Space::Param),
    ];
    SPACES.iter().find(|(name, _)| m.has(name)).map(|(_, space)| *space)
}
