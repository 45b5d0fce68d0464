//! Atomic read-modify-writes (manual 9.7.13).
//!
//! The vector forms of sm_90 (`.v2.f32`, …), `.b128` and multimem are not accepted.

use super::memory::{scope, space};
use super::{Decoded, Modifiers, Operand, Row};
use crate::isa::{AtomOp, Atomic, Op, Order, Scope};

macro_rules! atom {
    ($operation:literal, $types:literal) => {
        [
            Row {
                pattern: concat!(
                    "atom{.relaxed|.acquire|.release|.acq_rel}?{.cta|.cluster|.gpu|.sys}?",
                    "{.global|.shared|.shared::cta}?",
                    $operation,
                    $types
                ),
                build: atom,
            },
            // The assembler takes modifiers in any order, and NVRTC writes several: the space before the scope …
            Row {
                pattern: concat!(
                    "atom{.global|.shared|.shared::cta}{.relaxed|.acquire|.release|.acq_rel}?{.cta|.cluster|.gpu|.sys}",
                    $operation,
                    $types
                ),
                build: atom,
            },
            // … and the operation before everything.
            Row {
                pattern: concat!(
                    "atom",
                    $operation,
                    "{.relaxed|.acquire|.release|.acq_rel}{.cta|.cluster|.gpu|.sys}?",
                    "{.global|.shared|.shared::cta}?",
                    $types
                ),
                build: atom,
            },
        ]
    };
}

macro_rules! red {
    ($operation:literal, $types:literal) => {
        [
            Row {
                pattern: concat!(
                    "red{.relaxed|.release}?{.cta|.cluster|.gpu|.sys}?{.global|.shared|.shared::cta}?",
                    $operation,
                    $types
                ),
                build: red,
            },
            Row {
                pattern: concat!(
                    "red{.global|.shared|.shared::cta}{.relaxed|.release}?{.cta|.cluster|.gpu|.sys}",
                    $operation,
                    $types
                ),
                build: red,
            },
            Row {
                pattern: concat!(
                    "red",
                    $operation,
                    "{.relaxed|.release}{.cta|.cluster|.gpu|.sys}?{.global|.shared|.shared::cta}?",
                    $types
                ),
                build: red,
            },
        ]
    };
}

pub(super) const ROWS: &[Row] = [
    atom!(".add", "{.u32|.s32|.u64|.f32|.f64}"),
    atom!(".add.noftz", "{.f16|.f16x2|.bf16|.bf16x2}"),
    atom!("{.min|.max}", "{.u32|.s32|.u64|.s64}"),
    atom!("{.inc|.dec}", ".u32"),
    atom!("{.and|.or|.xor|.exch}", "{.b32|.b64}"),
    atom!(".cas", "{.b16|.b32|.b64}"),
    red!(".add", "{.u32|.s32|.u64|.f32|.f64}"),
    red!(".add.noftz", "{.f16|.f16x2|.bf16|.bf16x2}"),
    red!("{.min|.max}", "{.u32|.s32|.u64|.s64}"),
    red!("{.inc|.dec}", ".u32"),
    red!("{.and|.or|.xor}", "{.b32|.b64}"),
]
.as_flattened();

fn atom(m: &Modifiers<'_>) -> Option<Decoded> {
    let atomic = atomic(m, true)?;
    let (ty, address) = (atomic.ty, Operand::Address(atomic.space));
    let operands = [Operand::Write(ty), address, Operand::Read(ty), Operand::Read(ty)];
    let count = if atomic.op == AtomOp::Cas { 4 } else { 3 };
    Decoded::new(Op::Atom(atomic), &operands[..count])
}

fn red(m: &Modifiers<'_>) -> Option<Decoded> {
    let atomic = atomic(m, false)?;
    Decoded::new(Op::Atom(atomic), &[Operand::Address(atomic.space), Operand::Read(atomic.ty)])
}

fn atomic(m: &Modifiers<'_>, returns: bool) -> Option<Atomic> {
    let scope = scope(m).unwrap_or(Scope::Gpu);
    let order = match m.which(&[".acquire", ".release", ".acq_rel"]) {
        None => Order::Relaxed(scope),
        Some(0) => Order::Acquire(scope),
        Some(1) => Order::Release(scope),
        Some(_) => Order::AcquireRelease(scope),
    };
    Some(Atomic { op: operation(m)?, ty: m.ty()?, space: space(m), order, returns })
}

/// The operation written, for `atom`, `red` and `redux`.
pub(super) fn operation(m: &Modifiers<'_>) -> Option<AtomOp> {
    const OPERATIONS: [(&str, AtomOp); 10] = [
        (".add", AtomOp::Add),
        (".min", AtomOp::Min),
        (".max", AtomOp::Max),
        (".inc", AtomOp::Inc),
        (".dec", AtomOp::Dec),
        (".and", AtomOp::And),
        (".or", AtomOp::Or),
        (".xor", AtomOp::Xor),
        (".exch", AtomOp::Exch),
        (".cas", AtomOp::Cas),
    ];
    OPERATIONS.into_iter().find(|(name, _)| m.has(name)).map(|(_, op)| op)
}

#[cfg(test)]
mod tests {
    use crate::isa::table::Operand;
    use crate::isa::{AtomOp, Atomic, Instruction, Op, Order, Scope, Space, Type};

    #[test]
    fn an_atomic_is_relaxed_and_device_wide_unless_it_says_otherwise() {
        let add = |space, ty, order| Atomic { op: AtomOp::Add, ty, space, order, returns: true };
        let cases = [
            ("atom.global.add.u32", add(Space::Global, Type::U32, Order::Relaxed(Scope::Gpu))),
            ("atom.add.noftz.bf16x2", add(Space::Generic, Type::Bf16x2, Order::Relaxed(Scope::Gpu))),
            ("atom.acq_rel.cta.shared.add.f32", add(Space::Shared, Type::F32, Order::AcquireRelease(Scope::Cta))),
            ("atom.global.cta.add.u32", add(Space::Global, Type::U32, Order::Relaxed(Scope::Cta))),
            ("atom.shared.acquire.gpu.add.u32", add(Space::Shared, Type::U32, Order::Acquire(Scope::Gpu))),
            ("atom.add.acquire.sys.u64", add(Space::Generic, Type::U64, Order::Acquire(Scope::Sys))),
            ("atom.release.global.add.f64", add(Space::Global, Type::F64, Order::Release(Scope::Gpu))),
        ];
        for (spelling, expected) in cases {
            assert_eq!(Instruction::parse(spelling).map(|i| i.decoded.op), Some(Op::Atom(expected)), "{spelling}");
        }
    }

    #[test]
    fn operands_follow_the_operation() {
        let operands = |spelling| Instruction::parse(spelling).map(|i| i.decoded.operands);
        let (b16, u32) = (Type::B16, Type::U32);
        let global = Operand::Address(Space::Global);
        let cas = vec![Operand::Write(b16), global, Operand::Read(b16), Operand::Read(b16)];
        assert_eq!(operands("atom.global.cas.b16"), Some(cas));
        assert_eq!(operands("atom.global.inc.u32"), Some(vec![Operand::Write(u32), global, Operand::Read(u32)]));
        assert_eq!(operands("red.global.dec.u32"), Some(vec![global, Operand::Read(u32)]));
    }

    #[test]
    fn what_the_assembler_refuses_is_refused() {
        let refused = [
            "atom.global.add.s64",
            "atom.global.add.f16",
            "atom.global.exch.u32",
            "atom.global.exch.b16",
            "atom.global.and.u32",
            "atom.global.inc.s32",
            "atom.volatile.global.add.u32",
            "atom.local.add.u32",
            "red.acquire.gpu.global.add.u32",
            "red.exch.b32",
            "red.global.cas.b32",
        ];
        for spelling in refused {
            assert_eq!(Instruction::parse(spelling), None, "{spelling}");
        }
    }
}
