//! Which class an operation counts as.

use crate::isa::{Alu, Class, FloatOp, IntOp, Op, Space, Type};

impl Class {
    /// The class of an operation.
    pub(crate) fn of(op: Op) -> Class {
        match op {
            Op::Alu(alu) => of_alu(alu),
            Op::Pred(_) | Op::Carry(_) | Op::IsSpace(_) | Op::Cvta { .. } | Op::ReadClock => Class::Integer,
            Op::Load(access) | Op::Store(access) => match access.space {
                Space::Generic | Space::Global => Class::Global,
                Space::Shared => Class::Shared,
                Space::Local => Class::Local,
                Space::Const | Space::Param => Class::Constant,
            },
            Op::Atom(_) => Class::Atomic,
            Op::CopyAsync(_) | Op::CopyAsyncCommit | Op::CopyAsyncWaitGroup | Op::CopyAsyncWaitAll => Class::AsyncCopy,
            Op::LoadMatrix { .. } => Class::Shared,
            Op::Mma(_) => Class::Tensor,
            Op::Shfl(_) | Op::Vote(_) | Op::Match { .. } | Op::Redux(..) | Op::ActiveMask => Class::Collective,
            Op::WarpBarrier | Op::Barrier(_) | Op::Fence(_) => Class::Sync,
            Op::Branch | Op::BranchIndexed | Op::Call | Op::Return | Op::Exit | Op::Trap | Op::Nop => Class::Control,
        }
    }
}

fn of_alu(alu: Alu) -> Class {
    match alu {
        Alu::Int(IntOp::Div | IntOp::Rem, _) => Class::Special,
        Alu::F32(op, _) | Alu::F64(op, _) | Alu::Half(op, ..) if is_special(op) => Class::Special,
        Alu::F32(..) => Class::F32,
        Alu::F64(..) => Class::F64,
        Alu::Half(..) => Class::Half,
        Alu::Testp(_, ty) => of_comparison(ty),
        Alu::Setp(compare) | Alu::Set(compare, _) => of_comparison(compare.ty),
        Alu::Cvt(_) | Alu::CvtPack(_) | Alu::CvtPackSat(..) => Class::Convert,
        Alu::Mov(_) | Alu::Int(..) | Alu::Lop3(_) | Alu::Prmt(_) | Alu::Dp4a(..) | Alu::Dp2a(..) => Class::Integer,
        Alu::Selp(_) | Alu::Slct(..) | Alu::Pack(..) | Alu::Unpack(..) => Class::Integer,
    }
}

/// Comparisons count as arithmetic of the type compared.
fn of_comparison(ty: Type) -> Class {
    match ty {
        Type::F32 => Class::F32,
        Type::F64 => Class::F64,
        Type::F16 | Type::F16x2 | Type::Bf16 | Type::Bf16x2 => Class::Half,
        _ => Class::Integer,
    }
}

fn is_special(op: FloatOp) -> bool {
    use FloatOp::{CosApprox, Div, DivApprox, DivFull, Ex2Approx, Lg2Approx, Rcp, RcpApprox, RsqrtApprox, SinApprox};
    use FloatOp::{Sqrt, SqrtApprox, TanhApprox};
    matches!(
        op,
        Div | DivFull
            | DivApprox
            | Rcp
            | RcpApprox
            | Sqrt
            | SqrtApprox
            | RsqrtApprox
            | SinApprox
            | CosApprox
            | Lg2Approx
            | Ex2Approx
            | TanhApprox
    )
}

#[cfg(test)]
mod tests {
    use crate::isa::{Class, Instruction};

    #[test]
    fn one_of_each() {
        let cases = [
            ("ld.global.nc.v4.u32", Class::Global),
            ("st.u8", Class::Global),
            ("ld.shared.v2.f32", Class::Shared),
            ("ldmatrix.sync.aligned.m8n8.x4.shared.b16", Class::Shared),
            ("st.local.u64", Class::Local),
            ("ld.param.u64", Class::Constant),
            ("ld.const.f32", Class::Constant),
            ("red.shared.add.u32", Class::Atomic),
            ("cp.async.ca.shared.global", Class::AsyncCopy),
            ("cp.async.wait_group", Class::AsyncCopy),
            ("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32", Class::Tensor),
            ("shfl.sync.bfly.b32", Class::Collective),
            ("activemask.b32", Class::Collective),
            ("redux.sync.add.s32", Class::Collective),
            ("bar.warp.sync", Class::Sync),
            ("barrier.sync", Class::Sync),
            ("membar.gl", Class::Sync),
            ("nanosleep.u32", Class::Control),
            ("add.s32", Class::Integer),
        ];
        for (spelling, class) in cases {
            let op = Instruction::parse(spelling).expect(spelling).decoded.op;
            assert_eq!(Class::of(op), class, "{spelling}");
        }
    }
}
