//! `atom` and `red` in every spelling: one word per thread, and all threads on one word.

use super::{Kernel, SLOT, slots};
use half::{bf16, f16};
use ptx_vm::isa::{AtomOp, Atomic, Op, Space, Type, opcode_table};

pub fn all() {
    one_word_per_thread();
    one_word_for_all();
}

fn float(ty: Type, a: u64, b: u64) -> u64 {
    let half = |a: u64, b: u64, bf: bool| -> u64 {
        let (a, b) = (a as u16, b as u16);
        if bf {
            u64::from(bf16::from_f64(bf16::from_bits(a).to_f64() + bf16::from_bits(b).to_f64()).to_bits())
        } else {
            u64::from(f16::from_f64(f16::from_bits(a).to_f64() + f16::from_bits(b).to_f64()).to_bits())
        }
    };
    match ty {
        Type::F32 => u64::from((f32::from_bits(a as u32) + f32::from_bits(b as u32)).to_bits()),
        Type::F64 => (f64::from_bits(a) + f64::from_bits(b)).to_bits(),
        Type::F16 | Type::Bf16 => half(a, b, ty == Type::Bf16),
        _ => half(a, b, ty == Type::Bf16x2) | half(a >> 16, b >> 16, ty == Type::Bf16x2) << 16,
    }
}

/// The manual's definition, on values of the type's width.
fn apply(op: AtomOp, ty: Type, old: u64, b: u64, c: u64) -> u64 {
    let bits = ty.bits();
    let signed = |x: u64| ((x << (64 - bits)) as i64) >> (64 - bits);
    let less = |x: u64, y: u64| if ty.is_signed() { signed(x) < signed(y) } else { x < y };
    let result = match op {
        AtomOp::Add if ty.is_float() => float(ty, old, b),
        AtomOp::Add => old.wrapping_add(b),
        AtomOp::Min => {
            if less(b, old) {
                b
            } else {
                old
            }
        }
        AtomOp::Max => {
            if less(old, b) {
                b
            } else {
                old
            }
        }
        AtomOp::Inc => {
            if old >= b {
                0
            } else {
                old + 1
            }
        }
        AtomOp::Dec => {
            if old == 0 || old > b {
                b
            } else {
                old - 1
            }
        }
        AtomOp::And => old & b,
        AtomOp::Or => old | b,
        AtomOp::Xor => old ^ b,
        AtomOp::Exch => b,
        AtomOp::Cas => {
            if old == b {
                c
            } else {
                old
            }
        }
    };
    if bits == 64 { result } else { result & ((1 << bits) - 1) }
}

/// Equal bits, or NaNs both (their payload is not specified).
fn same(ty: Type, a: u64, b: u64) -> bool {
    let halves = |bf: bool, a: u64, b: u64| {
        let nan = |x: u64| if bf { bf16::from_bits(x as u16).is_nan() } else { f16::from_bits(x as u16).is_nan() };
        a as u16 == b as u16 || nan(a) && nan(b)
    };
    match ty {
        Type::F32 => a == b || f32::from_bits(a as u32).is_nan() && f32::from_bits(b as u32).is_nan(),
        Type::F64 => a == b || f64::from_bits(a).is_nan() && f64::from_bits(b).is_nan(),
        Type::F16 | Type::Bf16 => halves(ty == Type::Bf16, a, b),
        Type::F16x2 | Type::Bf16x2 => [0, 16].iter().all(|s| halves(ty == Type::Bf16x2, a >> s, b >> s)),
        _ => a == b,
    }
}

fn value(slot: &[u8], ty: Type) -> u64 {
    let mut wide = [0; 8];
    wide[..ty.bytes() as usize].copy_from_slice(&slot[..ty.bytes() as usize]);
    u64::from_le_bytes(wide)
}

fn atomics() -> Vec<(String, Atomic)> {
    let instructions = opcode_table().into_iter().flat_map(|(_, instructions)| instructions);
    instructions
        .filter_map(|i| if let Op::Atom(atomic) = i.decoded.op { Some((i.spelling, atomic)) } else { None })
        .collect()
}

/// Memory word at input 0, b at 16, c at 32; new word to output 0, old value to output 16. `shared` atomics work on a copy.
fn body(spelling: &str, atomic: Atomic, place: &str) -> String {
    let bits = atomic.ty.bits();
    let (space, target) = if atomic.space == Space::Shared { (".shared", "%s") } else { (".global", "%t") };
    let operands = if atomic.op == AtomOp::Cas { "%b, %c" } else { "%b" };
    let result = if atomic.returns { "%old, " } else { "" };
    let save = if atomic.returns { format!("st.global.b{bits} [%out+16], %old;") } else { String::new() };
    format!(
        ".shared .align 16 .b8 words[512]; .reg .b32 %s; .reg .b64 %t; .reg .b{bits} %w, %b, %c, %old;
        mov.u32 %base, words; mad.lo.u32 %s, {place}, 16, %base; mul.wide.u32 %t, {place}, {SLOT}; sub.u64 %out, %out, %slot; add.u64 %t, %out, %t;
        add.u64 %out, %out, %slot;
        ld.global.b{bits} %w, [%in]; ld.global.b{bits} %b, [%in+16]; ld.global.b{bits} %c, [%in+32];
        st{space}.b{bits} [{target}], %w;
        bar.sync 0;
        {spelling} {result}[{target}], {operands};
        bar.sync 0;
        ld{space}.b{bits} %w, [{target}]; st.global.b{bits} [%out], %w;\n{save}"
    )
}

#[test]
fn one_word_per_thread() {
    let mut input = slots(5);
    for lane in (0..32).step_by(3) {
        // Every third thread's `cas` and `min`/`max` meet equal values.
        input.copy_within(lane * SLOT..lane * SLOT + 16, lane * SLOT + 16);
    }
    for (spelling, atomic) in atomics() {
        let output = Kernel::of(body(&spelling, atomic, "%tid")).run(&input);
        for lane in 0..32 {
            let at = |offset: usize| value(&input[lane * SLOT + offset..], atomic.ty);
            let expected = apply(atomic.op, atomic.ty, at(0), at(16), at(32));
            let found = value(&output[lane * SLOT..], atomic.ty);
            assert!(same(atomic.ty, found, expected), "{spelling}, lane {lane}: {found:#x}, expected {expected:#x}");
            if atomic.returns {
                assert_eq!(value(&output[lane * SLOT + 16..], atomic.ty), at(0), "{spelling}, lane {lane}: old value");
            }
        }
    }
}

/// All lanes of a warp on one word: no update is lost.
#[test]
fn one_word_for_all() {
    for (spelling, space) in
        [("atom.shared.add.u32", ".shared"), ("atom.global.add.u32", ".global"), ("red.add.u32", "")]
    {
        let returns = spelling.starts_with("atom");
        let target = if space == ".shared" { "word" } else { "%out" };
        let result = if returns { "%old, " } else { "mov.u32 %old, 0;" };
        let call = if returns {
            format!("{spelling} {result}[{target}], %one;")
        } else {
            format!("{result} {spelling} [{target}], %one;")
        };
        let body = format!(
            ".shared .align 4 .b32 word; .reg .b32 %old, %one, %zero, %sum; .reg .pred %first; mov.u32 %one, 3; mov.u32 %zero, 0;
            sub.u64 %out, %out, %slot; setp.eq.u32 %first, %tid, 0;
            @%first st{space}.u32 [{target}], %zero;
            bar.sync 0; {call} bar.sync 0; ld{space}.u32 %sum, [{target}]; add.u64 %out, %out, %slot;
            st.global.u32 [%out+4], %old; st.global.u32 [%out+8], %sum;"
        );
        let output = Kernel { body, threads: 96, ..Kernel::default() }.run_words(&vec![0; 96 * SLOT]);
        assert!(output.iter().all(|slot| slot[2] == 3 * 96), "{spelling}");
        if returns {
            let mut old: Vec<u32> = output.iter().map(|slot| slot[1]).collect();
            old.sort_unstable();
            assert!(old.into_iter().eq((0..96).map(|i| 3 * i)), "{spelling}: each old value once");
        }
    }
}
