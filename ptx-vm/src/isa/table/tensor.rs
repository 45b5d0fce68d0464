//! Asynchronous copies and matrices (manual 9.7.9, 9.7.14): sm_80's.

use super::{Decoded, Operand, Row};
use crate::isa::{Mma, Op, Space, Type};

pub(super) const ROWS: &[Row] = &[
    Row {
        pattern: "cp.async.ca{.shared|.shared::cta}.global{.L2::64B|.L2::128B|.L2::256B}?",
        build: |_| copy_async(&[4, 8, 16]),
    },
    Row {
        pattern: "cp.async.cg{.shared|.shared::cta}.global{.L2::64B|.L2::128B|.L2::256B}?",
        build: |_| copy_async(&[16]),
    },
    Row { pattern: "cp.async.commit_group", build: |_| Decoded::new(Op::CopyAsyncCommit, &[]) },
    Row { pattern: "cp.async.wait_group", build: |_| Decoded::new(Op::CopyAsyncWaitGroup, &[Operand::Immediate]) },
    Row { pattern: "cp.async.wait_all", build: |_| Decoded::new(Op::CopyAsyncWaitAll, &[]) },
    Row {
        pattern: "ldmatrix.sync.aligned.m8n8{.x1|.x2|.x4}{.trans}?{.shared|.shared::cta}.b16",
        build: |m| {
            let count = [1, 2, 4][m.which(&[".x1", ".x2", ".x4"])?];
            let op = Op::LoadMatrix { count, transposed: m.has(".trans") };
            Decoded::new(op, &[Operand::WriteVector(Type::B32, count), Operand::Address(Space::Shared)])
        },
    },
    Row {
        pattern: "mma.sync.aligned{.m16n8k8|.m16n8k16}.row.col{.f16.f16.f16.f16|.f32.f16.f16.f32|.f32.bf16.bf16.f32}",
        build: |m| {
            let types = m.0.last()?;
            let mma = Mma {
                k: if m.has(".m16n8k8") { 8 } else { 16 },
                input: if types.contains(".bf16") { Type::Bf16 } else { Type::F16 },
                accumulator: if types.contains(".f32") { Type::F32 } else { Type::F16 },
            };
            let [d, a, b, c] = mma.registers().map(|count| count as u8);
            // f16 accumulators travel in pairs, as A and B do.
            let accumulator = if mma.accumulator == Type::F32 { Type::F32 } else { Type::B32 };
            let operands = [
                Operand::WriteVector(accumulator, d),
                Operand::ReadVector(Type::B32, a),
                Operand::ReadVector(Type::B32, b),
                Operand::ReadVector(accumulator, c),
            ];
            Decoded::new(Op::Mma(mma), &operands)
        },
    },
];

/// The operation gets its size from the operand, one of `sizes`.
fn copy_async(sizes: &'static [u8]) -> Option<Decoded> {
    let operands = [
        Operand::Address(Space::Shared),
        Operand::Address(Space::Global),
        Operand::CopySize(sizes),
        Operand::ReadOptional(Type::U32),
    ];
    Decoded::new(Op::CopyAsync(16), &operands)
}

#[cfg(test)]
mod tests {
    use crate::isa::table::Operand;
    use crate::isa::{Instruction, Mma, Op, Type};

    #[test]
    fn a_product_takes_the_registers_of_its_shape() {
        // (spelling, k, input, accumulator, registers of D, A, B, C), from the fragment tables of the manual.
        let cases = [
            ("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", 16, Type::F16, Type::F32, [4, 4, 2, 4]),
            ("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16", 16, Type::F16, Type::F16, [2, 4, 2, 2]),
            ("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32", 8, Type::Bf16, Type::F32, [4, 2, 1, 4]),
        ];
        for (spelling, k, input, accumulator, registers) in cases {
            let decoded = Instruction::parse(spelling).expect(spelling).decoded;
            assert_eq!(decoded.op, Op::Mma(Mma { k, input, accumulator }), "{spelling}");
            let found: Vec<u8> = decoded
                .operands
                .iter()
                .map(|operand| match operand {
                    Operand::WriteVector(_, n) | Operand::ReadVector(_, n) => *n,
                    other => panic!("{spelling}: {other:?}"),
                })
                .collect();
            assert_eq!(found, registers, "{spelling}");
        }
    }

    #[test]
    fn what_the_assembler_refuses_is_refused() {
        let refused = [
            "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f16",
            "mma.sync.aligned.m16n8k16.row.col.f16.bf16.bf16.f16",
            "mma.sync.m16n8k8.row.col.f32.bf16.bf16.f32",
            "ldmatrix.sync.aligned.m8n8.x3.shared.b16",
            "cp.async.shared.global",
            "cp.async.ca.global.shared",
        ];
        for spelling in refused {
            assert_eq!(Instruction::parse(spelling), None, "{spelling}");
        }
    }
}
