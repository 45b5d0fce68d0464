//! Atomics: each operation against its definition, lanes in order, in every space.

use super::*;
use half::{bf16, f16};

/// Runs one atomic of the whole warp on one word of device or shared memory: the previous values, and the final word.
fn chain(op: AtomOp, ty: Type, space: Space, start: u64, b: &Lanes64, c: &Lanes64) -> (Lanes64, u64) {
    let mut memory = Memory::new();
    let buffer = memory.upload(&[u64::MAX, start, u64::MAX]).unwrap();
    let address = match space {
        Space::Shared => 8,
        Space::Generic => windows::SHARED + 8,
        _ => memory.address(&buffer).unwrap() + 8,
    };
    let (mut old, mut last) = ([0; 32], [[0; 32]]);
    let word = access(space, Type::U64, 1);
    let findings = run(&mut memory, OWN, |bus, block| {
        bus.store(block, at(0), word, 1, &strided(address, 0), &[[start; 32]]);
        let atomic = Atomic { op, ty, space, order: Order::Relaxed(Scope::Gpu), returns: true };
        bus.atomic(block, at(1), atomic, FULL, &strided(address, 0), b, c, &mut old);
        bus.load(block, at(2), word, 1, &strided(address, 0), &mut last);
    });
    assert_eq!(findings, []);
    let around = memory.download(&buffer).unwrap();
    assert_eq!((around[0], around[2]), (u64::MAX, u64::MAX), "neighbours");
    (old, last[0][0])
}

/// Checks a chain in all spaces against `step`, which maps (old, b, c) to the new word.
fn check(op: AtomOp, ty: Type, start: u64, b: &Lanes64, c: &Lanes64, step: impl Fn(u64, u64, u64) -> u64) {
    let bits = ty.bits().min(64);
    let low = u64::MAX >> (64 - bits);
    let (mut word, mut olds) = (start & low, [0; 32]);
    for lane in 0..32 {
        olds[lane] = word;
        word = step(word, b[lane] & low, c[lane] & low) & low;
    }
    for space in [Space::Global, Space::Shared, Space::Generic] {
        let (old, last) = chain(op, ty, space, start, b, c);
        assert_eq!(old, olds, "{op:?} {ty:?} {space:?}");
        assert_eq!(last, start & !low | word, "{op:?} {ty:?} {space:?}");
    }
}

/// Values that wrap, change signs and come back.
fn mixed() -> [Lanes64; 2] {
    let wild = |salt: u64| {
        std::array::from_fn(|lane| match lane % 5 {
            0 => lane as u64,
            1 => (lane as u64).wrapping_neg(),
            2 => 1 << 31 | 1 << 63,
            _ => (lane as u64 + salt).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        })
    };
    [wild(1), wild(77)]
}

#[test]
fn integer_operations() {
    let [b, c] = mixed();
    for start in [0, 5, u64::MAX, 0x8000_0000_7fff_ffff] {
        for ty in [Type::U32, Type::S32, Type::U64] {
            check(AtomOp::Add, ty, start, &b, &c, |old, b, _| old.wrapping_add(b));
        }
        check(AtomOp::Min, Type::U32, start, &b, &c, |old, b, _| old.min(b));
        check(AtomOp::Max, Type::U32, start, &b, &c, |old, b, _| old.max(b));
        check(AtomOp::Min, Type::U64, start, &b, &c, |old, b, _| old.min(b));
        check(AtomOp::Max, Type::U64, start, &b, &c, |old, b, _| old.max(b));
        check(AtomOp::Min, Type::S32, start, &b, &c, |old, b, _| (old as i32).min(b as i32) as u64);
        check(AtomOp::Max, Type::S32, start, &b, &c, |old, b, _| (old as i32).max(b as i32) as u64);
        check(AtomOp::Min, Type::S64, start, &b, &c, |old, b, _| (old as i64).min(b as i64) as u64);
        check(AtomOp::Max, Type::S64, start, &b, &c, |old, b, _| (old as i64).max(b as i64) as u64);
        for ty in [Type::B32, Type::B64] {
            check(AtomOp::And, ty, start, &b, &c, |old, b, _| old & b);
            check(AtomOp::Or, ty, start, &b, &c, |old, b, _| old | b);
            check(AtomOp::Xor, ty, start, &b, &c, |old, b, _| old ^ b);
            check(AtomOp::Exch, ty, start, &b, &c, |_, b, _| b);
        }
    }
}

#[test]
fn increments_wrap_at_the_bound() {
    for bound in [0, 1, 3, 40, u64::from(u32::MAX)] {
        for start in [0, 2, 50, u64::from(u32::MAX)] {
            let b = [bound; 32];
            check(AtomOp::Inc, Type::U32, start, &b, &b, |old, b, _| if old >= b { 0 } else { old + 1 });
            check(AtomOp::Dec, Type::U32, start, &b, &b, |old, b, _| if old == 0 || old > b { b } else { old - 1 });
        }
    }
}

#[test]
fn compare_and_swap_replaces_what_matches() {
    // Every third lane expects the right value; the others write nothing.
    for (ty, step) in [(Type::B16, 0x1234), (Type::B32, 0x1234_5678), (Type::B64, 0x1234_5678_9abc_def1)] {
        let value = |turn: u64| turn.wrapping_mul(step);
        let b = std::array::from_fn(|lane| if lane % 3 == 0 { value(lane as u64 / 3) } else { !value(lane as u64) });
        let c = std::array::from_fn(|lane| value(lane as u64 / 3 + 1));
        check(
            AtomOp::Cas,
            ty,
            0xffff << ty.bits().min(48) & !0xffff,
            &b,
            &c,
            |old, b, c| if old == b { c } else { old },
        );
    }
}

#[test]
fn a_failed_swap_does_not_count_as_written() {
    let mut memory = Memory::new();
    let buffer = memory.allocate::<u32>(2).unwrap();
    let base = memory.address(&buffer).unwrap();
    let findings = run(&mut memory, OWN, |bus, block| {
        let cas = Atomic { op: AtomOp::Cas, ty: Type::B32, space: Space::Global, order: Order::Weak, returns: true };
        bus.atomic(block, at(1), cas, 1, &strided(base, 0), &[0; 32], &[1; 32], &mut [0; 32]);
        bus.load_u32(block, 2, Space::Global, 1, &strided(base, 0));
        let exchange = Atomic { op: AtomOp::Exch, ..cas };
        bus.atomic(block, at(3), exchange, 1, &strided(base, 0), &[1; 32], &[0; 32], &mut [0; 32]);
        bus.load_u32(block, 4, Space::Global, 1, &strided(base, 0));
    });
    assert_eq!(summary(&findings), [1, 2, 3].map(|pc| (FindingKind::Uninitialised, pc, 1)));
}

#[test]
fn atomics_out_of_bounds_return_poison() {
    let mut memory = Memory::new();
    let buffer = memory.upload(&[1u32; 4]).unwrap();
    let base = memory.address(&buffer).unwrap();
    let findings = run(&mut memory, OWN, |bus, block| {
        let atomic = Atomic { op: AtomOp::Add, ty: Type::U32, space: Space::Global, order: Order::Weak, returns: true };
        let mut old = [77; 32];
        bus.atomic(block, at(1), atomic, 0xff, &strided(base, 4), &[1; 32], &[0; 32], &mut old);
        assert_eq!(old, std::array::from_fn(|l| [1, 0x7ffb_7ffb, 77, 77, 77, 77, 77, 77][l / 4]));
        let shared = Atomic { space: Space::Shared, ..atomic };
        bus.atomic(block, at(2), shared, 1, &strided(190, 0), &[1; 32], &[0; 32], &mut old);
        bus.atomic(block, at(3), shared, 1, &strided(192, 0), &[1; 32], &[0; 32], &mut old);
        bus.atomic(block, at(4), shared, 1, &strided(0, 0), &[1; 32], &[0; 32], &mut old);
    });
    let expected = [
        (FindingKind::GlobalOutOfBounds, 1, 4),
        (FindingKind::Misaligned, 2, 1),
        (FindingKind::SharedOutOfBounds, 3, 1),
        (FindingKind::Uninitialised, 4, 1),
    ];
    assert_eq!(summary(&findings), expected);
    assert_eq!(memory.download(&buffer).unwrap(), [2; 4]);
}

#[test]
fn floats_add_rounded_to_nearest() {
    let values: [f64; 32] = std::array::from_fn(|lane| (lane as f64 - 11.3) * 1.0e-3_f64.powi(lane as i32 % 4 - 1));
    let start = 0.7;
    let bits32 = values.map(|v| u64::from((v as f32).to_bits()));
    let add32 = |old: u64, b: u64, _| u64::from((f32::from_bits(old as u32) + f32::from_bits(b as u32)).to_bits());
    check(AtomOp::Add, Type::F32, u64::from((start as f32).to_bits()), &bits32, &bits32, add32);
    let bits64 = values.map(f64::to_bits);
    let add64 = |old, b, _| (f64::from_bits(old) + f64::from_bits(b)).to_bits();
    check(AtomOp::Add, Type::F64, f64::to_bits(start), &bits64, &bits64, add64);
    // Sums of two f16 or bf16 are exact in f64 or so nearly that one rounding decides.
    let f16s = |old: u64, b: u64| {
        u64::from(f16::from_f64(f16::from_bits(old as u16).to_f64() + f16::from_bits(b as u16).to_f64()).to_bits())
    };
    let bf16s = |old: u64, b: u64| {
        u64::from(bf16::from_f64(bf16::from_bits(old as u16).to_f64() + bf16::from_bits(b as u16).to_f64()).to_bits())
    };
    let pairs = |one: &dyn Fn(f64) -> u64| std::array::from_fn(|l| one(values[l]) | one(values[31 - l]) << 16);
    let both =
        |f: &dyn Fn(u64, u64) -> u64, old: u64, b: u64| f(old & 0xffff, b & 0xffff) | f(old >> 16, b >> 16) << 16;
    let b = pairs(&|v| u64::from(f16::from_f64(v).to_bits()));
    check(AtomOp::Add, Type::F16, 0x3c00, &b, &b, |old, b, _| f16s(old, b));
    check(AtomOp::Add, Type::F16x2, 0x3c00_0001, &b, &b, |old, b, _| both(&f16s, old, b));
    let b = pairs(&|v| u64::from(bf16::from_f64(v).to_bits()));
    check(AtomOp::Add, Type::Bf16, 0x3f80, &b, &b, |old, b, _| bf16s(old, b));
    check(AtomOp::Add, Type::Bf16x2, 0x3f80_0001, &b, &b, |old, b, _| both(&bf16s, old, b));
}

#[test]
fn f32_sums_flush_subnormals_in_device_memory_only() {
    let (tiny, zero) = (1u64, [0; 32]);
    let b = [tiny; 32];
    // 0 + 32 × 2^-149: every sum is subnormal.
    assert_eq!(chain(AtomOp::Add, Type::F32, Space::Global, 0, &b, &zero).1, 0);
    assert_eq!(chain(AtomOp::Add, Type::F32, Space::Shared, 0, &b, &zero).1, 32);
    assert_eq!(chain(AtomOp::Add, Type::F32, Space::Generic, 0, &b, &zero).1, 32, "a generic address of shared memory");
    assert_eq!(chain(AtomOp::Add, Type::F64, Space::Global, 0, &b, &zero).1, 32, "f64 never flushes");
    assert_eq!(chain(AtomOp::Add, Type::F16, Space::Global, 0, &b, &zero).1, 32, "noftz");
}

/// Blocks of a thread run one after the other in the same shared memory: values, what was written, copies in flight and who
/// accessed what are each block's own.
#[test]
fn a_block_finds_nothing_of_those_before() {
    let mut memory = Memory::new();
    let source = memory.upload(&[9u32; 8]).unwrap();
    let source = strided(memory.address(&source).unwrap(), 4);
    let (place, word) = (strided(0, 4), access(Space::Shared, Type::U32, 1));
    for (round, checks) in [Checks::ALL, OWN, Checks::ALL, Checks::ALL, OWN].into_iter().enumerate() {
        // The other warp: what it does races with what was there a round ago, if that were still there.
        let warp = round as u32 % 2;
        let findings = run(&mut memory, checks, |bus, block| {
            let at = |pc| At { warp, ..at(pc) };
            let mut read = [[0; 32]];
            bus.load(block, at(1), word, 0xff, &place, &mut read);
            assert_eq!(read[0][..8], [0x7ffb_7ffb; 8], "round {round}");
            bus.store(block, at(2), word, 0xff, &place, &[[7; 32]]);
            bus.load(block, at(3), word, 0xff, &place, &mut read);
            assert_eq!(read[0][..8], [7; 8], "round {round}");
            bus.copy_async(block, at(4), 4, 0xff, &place, &source, &[4; 32]);
        });
        // That the copies are never waited for is theirs to find, or not.
        let summary: Vec<_> = summary(&findings).into_iter().filter(|(_, pc, _)| *pc < 4).collect();
        assert_eq!(summary, [(FindingKind::Uninitialised, 1, 8)], "round {round}");
    }
}
