//! Loads, stores and hints to the caches (manual 9.7.9).
//!
//! Cache operators, eviction priorities and prefetch sizes are accepted wherever the manual has them and change nothing:
//! this machine has no caches. `.L2::cache_hint` with its policy operand, `.b128` and `.shared::cluster` are not accepted.

use super::{Decoded, Modifiers, Operand, Row};
use crate::isa::{Access, Op, Order, Scope, Space, Type};

macro_rules! types {
    () => {
        "{.b8|.b16|.b32|.b64|.u8|.u16|.u32|.u64|.s8|.s16|.s32|.s64|.f32|.f64}"
    };
}

macro_rules! eviction {
    () => {
        "{.L1::evict_normal|.L1::evict_unchanged|.L1::evict_first|.L1::evict_last|.L1::no_allocate}"
    };
}

macro_rules! prefetched {
    () => {
        "{.L2::64B|.L2::128B|.L2::256B}"
    };
}

macro_rules! wide {
    () => {
        "{.v4.b64|.v4.u64|.v4.s64|.v4.f64|.v8.b32|.v8.u32|.v8.s32|.v8.f32}"
    };
}

macro_rules! scopes {
    () => {
        "{.cta|.cluster|.gpu|.sys}"
    };
}

pub(super) const ROWS: &[Row] = &[
    Row {
        pattern: concat!(
            "ld{.weak}?{.const|.global|.local|.param|.param::entry|.param::func|.shared|.shared::cta}?",
            "{.ca|.cg|.cs|.lu|.cv}?{.v2|.v4}?",
            types!()
        ),
        build: load,
    },
    Row {
        pattern: concat!("ld{.weak}?{.global}?{.ca|.cg|.cs|.lu|.cv}?", prefetched!(), "{.v2|.v4}?", types!()),
        build: load,
    },
    Row { pattern: concat!("ld{.weak}?{.global}?", eviction!(), prefetched!(), "?{.v2|.v4}?", types!()), build: load },
    Row { pattern: concat!("ld{.weak}?.global", eviction!(), "?", prefetched!(), "?", wide!()), build: load },
    Row { pattern: concat!("ld.volatile{.global|.shared|.shared::cta}?{.v2|.v4}?", types!()), build: load },
    Row { pattern: concat!("ld.volatile{.global}?", prefetched!(), "{.v2|.v4}?", types!()), build: load },
    Row {
        pattern: concat!("ld{.relaxed|.acquire}", scopes!(), "{.global|.shared|.shared::cta}?{.v2|.v4}?", types!()),
        build: load,
    },
    Row {
        pattern: concat!("ld{.relaxed|.acquire}", scopes!(), "{.global}?", prefetched!(), "{.v2|.v4}?", types!()),
        build: load,
    },
    Row {
        pattern: concat!("ld{.relaxed|.acquire}", scopes!(), "{.global}?", eviction!(), "{.v2|.v4}?", types!()),
        build: load,
    },
    // The assembler takes modifiers in any order, and widely used inline assembly names the space first.
    Row {
        pattern: concat!("ld{.global|.shared|.shared::cta}{.relaxed|.acquire}", scopes!(), "{.v2|.v4}?", types!()),
        build: load,
    },
    Row { pattern: concat!("ld{.global|.shared|.shared::cta}.volatile{.v2|.v4}?", types!()), build: load },
    Row { pattern: concat!("ld.mmio.relaxed.sys{.global}?", types!()), build: load },
    Row { pattern: concat!("ld.global{.ca|.cg|.cs}?.nc", prefetched!(), "?{.v2|.v4}?", types!()), build: load },
    Row { pattern: concat!("ld.global.nc", eviction!(), prefetched!(), "?{.v2|.v4}?", types!()), build: load },
    Row { pattern: concat!("ld.global.nc", eviction!(), "?", prefetched!(), "?", wide!()), build: load },
    Row { pattern: concat!("ldu{.global}?{.v2|.v4}?", types!()), build: load_uniform },
    Row {
        pattern: concat!(
            "st{.weak}?{.global|.local|.param|.param::func|.shared|.shared::cta}?{.wb|.cg|.cs|.wt}?{.v2|.v4}?",
            types!()
        ),
        build: store,
    },
    Row { pattern: concat!("st{.weak}?{.global}?", eviction!(), "{.v2|.v4}?", types!()), build: store },
    Row { pattern: concat!("st{.weak}?.global", eviction!(), "?", wide!()), build: store },
    Row { pattern: concat!("st.volatile{.global|.shared|.shared::cta}?{.v2|.v4}?", types!()), build: store },
    Row {
        pattern: concat!("st{.relaxed|.release}", scopes!(), "{.global|.shared|.shared::cta}?{.v2|.v4}?", types!()),
        build: store,
    },
    Row {
        pattern: concat!("st{.relaxed|.release}", scopes!(), "{.global}?", eviction!(), "{.v2|.v4}?", types!()),
        build: store,
    },
    Row {
        pattern: concat!("st{.global|.shared|.shared::cta}{.relaxed|.release}", scopes!(), "{.v2|.v4}?", types!()),
        build: store,
    },
    Row { pattern: concat!("st{.global|.shared|.shared::cta}.volatile{.v2|.v4}?", types!()), build: store },
    Row { pattern: concat!("st.mmio.relaxed.sys{.global}?", types!()), build: store },
    Row { pattern: "prefetch{.global|.local}?{.L1|.L2}", build: hint },
    Row { pattern: "prefetch.global{.L2::evict_last|.L2::evict_normal}", build: hint },
    Row { pattern: "prefetchu.L1", build: hint },
    Row { pattern: "applypriority{.global}?.L2::evict_normal", build: hint_of_size },
    Row { pattern: "discard{.global}?.L2", build: hint_of_size },
];

fn load(m: &Modifiers<'_>) -> Option<Decoded> {
    let access = access(m)?;
    let operands = [Operand::WriteVector(access.ty, access.vector), Operand::Address(access.space)];
    Decoded::new(Op::Load(access), &operands)
}

/// `ldu` promises what `.nc` does: nothing writes those bytes.
fn load_uniform(m: &Modifiers<'_>) -> Option<Decoded> {
    let access = Access { read_only: true, ..access(m)? };
    let operands = [Operand::WriteVector(access.ty, access.vector), Operand::Address(access.space)];
    Decoded::new(Op::Load(access), &operands)
}

fn store(m: &Modifiers<'_>) -> Option<Decoded> {
    let access = access(m)?;
    let operands = [Operand::Address(access.space), Operand::ReadVector(access.ty, access.vector)];
    Decoded::new(Op::Store(access), &operands)
}

fn hint(m: &Modifiers<'_>) -> Option<Decoded> {
    Decoded::new(Op::Nop, &[Operand::Address(space(m))])
}

fn hint_of_size(m: &Modifiers<'_>) -> Option<Decoded> {
    Decoded::new(Op::Nop, &[Operand::Address(space(m)), Operand::Immediate])
}

fn access(m: &Modifiers<'_>) -> Option<Access> {
    // A group of the widest rows holds vector and type together: look at the text, not at whole modifiers.
    let dotted = m.0.concat();
    let ty = Type::from_suffix(dotted.rsplit('.').next()?)?;
    let vector = [(".v2", 2), (".v4", 4), (".v8", 8)].into_iter().find(|(v, _)| dotted.contains(v)).map_or(1, |v| v.1);
    let access = Access { space: space(m), ty, vector, order: order(m)?, read_only: m.has(".nc") };
    let widest = if dotted.contains(".v8") || m.0.last()?.starts_with(".v4") { 32 } else { 16 };
    (access.bytes() <= widest).then_some(access)
}

/// The state space written, generic if none is.
pub(super) fn space(m: &Modifiers<'_>) -> Space {
    const SPACES: [(&str, Space); 8] = [
        (".const", Space::Const),
        (".global", Space::Global),
        (".local", Space::Local),
        (".param", Space::Param),
        (".param::entry", Space::Param),
        (".param::func", Space::Param),
        (".shared", Space::Shared),
        (".shared::cta", Space::Shared),
    ];
    SPACES.into_iter().find(|(name, _)| m.has(name)).map_or(Space::Generic, |(_, space)| space)
}

/// The scope written, if any.
pub(super) fn scope(m: &Modifiers<'_>) -> Option<Scope> {
    const SCOPES: [(&str, Scope); 5] = [
        (".cta", Scope::Cta),
        (".cluster", Scope::Cluster),
        (".gpu", Scope::Gpu),
        (".gl", Scope::Gpu),
        (".sys", Scope::Sys),
    ];
    SCOPES.into_iter().find(|(name, _)| m.has(name)).map(|(_, scope)| scope)
}

fn order(m: &Modifiers<'_>) -> Option<Order> {
    Some(match m.which(&[".volatile", ".relaxed", ".acquire", ".release"]) {
        None => Order::Weak,
        Some(0) => Order::Volatile,
        Some(1) => Order::Relaxed(scope(m)?),
        Some(2) => Order::Acquire(scope(m)?),
        Some(_) => Order::Release(scope(m)?),
    })
}

#[cfg(test)]
mod tests {
    use crate::isa::{Access, Instruction, Op, Order, Scope, Space, Type};

    fn access(spelling: &str) -> Access {
        match Instruction::parse(spelling).unwrap_or_else(|| panic!("{spelling} is refused")).decoded.op {
            Op::Load(access) | Op::Store(access) => access,
            op => panic!("{spelling} is {op:?}"),
        }
    }

    #[test]
    fn modifiers_mean_what_they_say() {
        let plain = |space, ty| Access { space, ty, vector: 1, order: Order::Weak, read_only: false };
        let cases = [
            ("ld.u8", plain(Space::Generic, Type::U8)),
            ("ld.weak.const.cg.s16", plain(Space::Const, Type::S16)),
            ("ld.param.u64", plain(Space::Param, Type::U64)),
            ("ld.param::func.f64", plain(Space::Param, Type::F64)),
            ("st.shared::cta.b32", plain(Space::Shared, Type::B32)),
            ("st.local.wb.v4.f32", Access { vector: 4, ..plain(Space::Local, Type::F32) }),
            ("ld.global.L1::no_allocate.L2::128B.v2.b64", Access { vector: 2, ..plain(Space::Global, Type::B64) }),
            ("ld.global.v4.b64", Access { vector: 4, ..plain(Space::Global, Type::B64) }),
            ("st.global.v8.f32", Access { vector: 8, ..plain(Space::Global, Type::F32) }),
            ("ld.global.ca.nc.u32", Access { read_only: true, ..plain(Space::Global, Type::U32) }),
            ("ldu.global.v4.u32", Access { read_only: true, vector: 4, ..plain(Space::Global, Type::U32) }),
            ("ld.volatile.shared.u32", Access { order: Order::Volatile, ..plain(Space::Shared, Type::U32) }),
            ("ld.relaxed.cta.u32", Access { order: Order::Relaxed(Scope::Cta), ..plain(Space::Generic, Type::U32) }),
            (
                "ld.acquire.gpu.global.u32",
                Access { order: Order::Acquire(Scope::Gpu), ..plain(Space::Global, Type::U32) },
            ),
            (
                "ld.global.acquire.gpu.b32",
                Access { order: Order::Acquire(Scope::Gpu), ..plain(Space::Global, Type::B32) },
            ),
            (
                "st.release.sys.L1::evict_last.s64",
                Access { order: Order::Release(Scope::Sys), ..plain(Space::Generic, Type::S64) },
            ),
            (
                "ld.mmio.relaxed.sys.global.u32",
                Access { order: Order::Relaxed(Scope::Sys), ..plain(Space::Global, Type::U32) },
            ),
        ];
        for (spelling, expected) in cases {
            assert_eq!(access(spelling), expected, "{spelling}");
        }
    }

    #[test]
    fn what_the_assembler_refuses_is_refused() {
        let refused = [
            "ld.volatile.local.u32",
            "ld.global.f16",
            "ld.pred",
            "ld.nc.u32",
            "ld.global.cv.nc.u32",
            "ld.shared.L1::evict_last.u32",
            "ld.const.L2::64B.u32",
            "ld.relaxed.gpu.local.u32",
            "ld.acquire.u32",
            "ld.shared.v4.b64",
            "ld.local.v8.b32",
            "ld.release.gpu.u32",
            "st.acquire.gpu.u32",
            "st.const.u32",
            "st.global.cv.u32",
            "st.global.L2::128B.u32",
            "prefetch.shared.L1",
        ];
        for spelling in refused {
            assert_eq!(Instruction::parse(spelling), None, "{spelling}");
        }
    }
}
