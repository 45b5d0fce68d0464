//! Collectives, barriers and fences (manual 9.7.13), and what only waits or marks.

use super::atomic::operation;
use super::memory::scope;
use super::{Decoded, Modifiers, Operand, Row};
use crate::isa::{Barrier, BarrierKind, Op, Order, Shfl, Type, Vote};
use Operand::{Immediate, Read, ReadOptional, ReadPred, Write, WritePred, WriteWithPred};

pub(super) const ROWS: &[Row] = &[
    Row {
        pattern: "shfl.sync{.up|.down|.bfly|.idx}.b32",
        build: |m| {
            let modes = [Shfl::Up, Shfl::Down, Shfl::Butterfly, Shfl::Index];
            let mode = modes[m.which(&[".up", ".down", ".bfly", ".idx"])?];
            let [value, lanes] = [Type::B32, Type::U32];
            Decoded::new(Op::Shfl(mode), &[WriteWithPred(value), Read(value), Read(lanes), Read(lanes), Read(lanes)])
        },
    },
    Row {
        pattern: "vote.sync{.all|.any|.uni}.pred",
        build: |m| {
            let vote = [Vote::All, Vote::Any, Vote::Uniform][m.which(&[".all", ".any", ".uni"])?];
            Decoded::new(Op::Vote(vote), &[WritePred, ReadPred, Read(Type::U32)])
        },
    },
    Row {
        pattern: "vote.sync.ballot.b32",
        build: |_| Decoded::new(Op::Vote(Vote::Ballot), &[Write(Type::B32), ReadPred, Read(Type::U32)]),
    },
    Row {
        pattern: "match.any.sync{.b32|.b64}",
        build: |m| {
            let ty = m.ty()?;
            Decoded::new(Op::Match { all: false, ty }, &[Write(Type::B32), Read(ty), Read(Type::U32)])
        },
    },
    Row {
        pattern: "match.all.sync{.b32|.b64}",
        build: |m| {
            let ty = m.ty()?;
            Decoded::new(Op::Match { all: true, ty }, &[WriteWithPred(Type::B32), Read(ty), Read(Type::U32)])
        },
    },
    Row { pattern: "redux.sync{.add|.min|.max}{.u32|.s32}", build: redux },
    Row { pattern: "redux.sync{.and|.or|.xor}.b32", build: redux },
    Row { pattern: "activemask.b32", build: |_| Decoded::new(Op::ActiveMask, &[Write(Type::B32)]) },
    Row { pattern: "bar.warp.sync", build: |_| Decoded::new(Op::WarpBarrier, &[Read(Type::U32)]) },
    Row { pattern: "bar{.cta}?.sync", build: |m| barrier(m, true) },
    Row { pattern: "bar{.cta}?.arrive", build: |m| barrier(m, true) },
    Row { pattern: "bar{.cta}?.red{.popc.u32|.and.pred|.or.pred}", build: |m| barrier(m, true) },
    Row { pattern: "barrier{.cta}?.sync{.aligned}?", build: |m| barrier(m, m.has(".aligned")) },
    Row { pattern: "barrier{.cta}?.arrive{.aligned}?", build: |m| barrier(m, m.has(".aligned")) },
    Row {
        pattern: "barrier{.cta}?.red{.popc.aligned.u32|.and.aligned.pred|.or.aligned.pred}",
        build: |m| barrier(m, true),
    },
    Row { pattern: "barrier{.cta}?.red{.popc.u32|.and.pred|.or.pred}", build: |m| barrier(m, false) },
    Row { pattern: "membar{.cta|.gl|.sys}", build: fence },
    Row { pattern: "fence{.sc|.acq_rel|.acquire|.release}?{.cta|.cluster|.gpu|.sys}", build: fence },
    Row { pattern: "nanosleep.u32", build: |_| Decoded::new(Op::Nop, &[Read(Type::U32)]) },
    Row { pattern: "pmevent{.mask}?", build: |_| Decoded::new(Op::Nop, &[Immediate]) },
    // One launch at a time: there is no other grid to wait for or to let start.
    Row { pattern: "griddepcontrol{.launch_dependents|.wait}", build: |_| Decoded::new(Op::Nop, &[]) },
];

fn redux(m: &Modifiers<'_>) -> Option<Decoded> {
    let ty = m.ty()?;
    Decoded::new(Op::Redux(operation(m)?, ty), &[Write(ty), Read(ty), Read(Type::U32)])
}

fn barrier(m: &Modifiers<'_>, aligned: bool) -> Option<Decoded> {
    let written = m.0.concat();
    let has = |word: &str| written.split('.').any(|w| w == word);
    let (number, count) = (Read(Type::U32), ReadOptional(Type::U32));
    let (kind, operands) = if has("sync") {
        (BarrierKind::Sync, vec![number, count])
    } else if has("arrive") {
        (BarrierKind::Arrive, vec![number, Read(Type::U32)])
    } else if has("popc") {
        (BarrierKind::RedPopc, vec![Write(Type::U32), number, count, ReadPred])
    } else if has("and") {
        (BarrierKind::RedAnd, vec![WritePred, number, count, ReadPred])
    } else {
        (BarrierKind::RedOr, vec![WritePred, number, count, ReadPred])
    };
    Decoded::new(Op::Barrier(Barrier { kind, aligned }), &operands)
}

/// `membar` and `fence.sc` order at least what `fence.acq_rel` orders. Beyond that they order accesses to different words
/// between threads, which this machine, executing one instruction after another, always does.
fn fence(m: &Modifiers<'_>) -> Option<Decoded> {
    let scope = scope(m)?;
    let order = match m.which(&[".acquire", ".release"]) {
        None => Order::AcquireRelease(scope),
        Some(0) => Order::Acquire(scope),
        Some(_) => Order::Release(scope),
    };
    Decoded::new(Op::Fence(order), &[])
}

#[cfg(test)]
mod tests {
    use crate::isa::table::Operand;
    use crate::isa::{Barrier, BarrierKind, Instruction, Op, Order, Scope, Type};

    #[test]
    fn barriers_in_all_spellings() {
        let cases = [
            ("bar.sync", BarrierKind::Sync, true, 2),
            ("bar.cta.sync", BarrierKind::Sync, true, 2),
            ("barrier.sync", BarrierKind::Sync, false, 2),
            ("barrier.cta.sync.aligned", BarrierKind::Sync, true, 2),
            ("bar.arrive", BarrierKind::Arrive, true, 2),
            ("barrier.arrive", BarrierKind::Arrive, false, 2),
            ("bar.red.popc.u32", BarrierKind::RedPopc, true, 4),
            ("barrier.red.popc.u32", BarrierKind::RedPopc, false, 4),
            ("barrier.cta.red.and.aligned.pred", BarrierKind::RedAnd, true, 4),
            ("barrier.red.or.pred", BarrierKind::RedOr, false, 4),
        ];
        for (spelling, kind, aligned, operands) in cases {
            let decoded = Instruction::parse(spelling).expect(spelling).decoded;
            assert_eq!(decoded.op, Op::Barrier(Barrier { kind, aligned }), "{spelling}");
            assert_eq!(decoded.operands.len(), operands, "{spelling}");
        }
        let arrive = Instruction::parse("bar.arrive").map(|i| i.decoded.operands);
        assert_eq!(arrive, Some(vec![Operand::Read(Type::U32); 2]), "the count of `arrive` is not optional");
    }

    #[test]
    fn fences_in_all_spellings() {
        let cases = [
            ("membar.cta", Order::AcquireRelease(Scope::Cta)),
            ("membar.gl", Order::AcquireRelease(Scope::Gpu)),
            ("membar.sys", Order::AcquireRelease(Scope::Sys)),
            ("fence.gpu", Order::AcquireRelease(Scope::Gpu)),
            ("fence.sc.cluster", Order::AcquireRelease(Scope::Cluster)),
            ("fence.acq_rel.sys", Order::AcquireRelease(Scope::Sys)),
            ("fence.acquire.gpu", Order::Acquire(Scope::Gpu)),
            ("fence.release.cta", Order::Release(Scope::Cta)),
        ];
        for (spelling, order) in cases {
            assert_eq!(Instruction::parse(spelling).map(|i| i.decoded.op), Some(Op::Fence(order)), "{spelling}");
        }
    }

    #[test]
    fn what_the_assembler_refuses_is_refused() {
        let refused = [
            "shfl.up.b32",
            "shfl.sync.up.f32",
            "vote.all.pred",
            "vote.sync.ballot.u32",
            "match.any.sync.u32",
            "redux.sync.and.u32",
            "redux.sync.add.b32",
            "bar",
            "barrier",
            "membar.gpu",
            "fence.sc.gl",
            "fence.proxy.async",
            "nanosleep.b32",
        ];
        for spelling in refused {
            assert_eq!(Instruction::parse(spelling), None, "{spelling}");
        }
    }
}
