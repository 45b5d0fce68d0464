//! Extended-precision chains: `add.cc … addc`, `sub.cc … subc`, `mad.cc … madc`.

use super::{Kernel, slots, word};
use ptx_vm::isa::{CarryKind, Op, opcode_table};

pub fn all() {
    single_instructions();
    a_chain_adds_128_bits();
}

/// Each spelling between an instruction that sets the flag as wanted and one that reads it.
#[test]
fn single_instructions() {
    let input = slots(6);
    let all = opcode_table().into_iter().flat_map(|(_, instructions)| instructions);
    for (spelling, op) in
        all.filter_map(|i| if let Op::Carry(op) = i.decoded.op { Some((i.spelling, op)) } else { None })
    {
        let bits = if op.wide { 64 } else { 32 };
        let third = if matches!(op.kind, CarryKind::MadLo | CarryKind::MadHi) { ", %c" } else { "" };
        for flag in [0, 1] {
            let body = format!(
                ".reg .b{bits} %a, %b, %c, %d; .reg .b32 %flag, %t;
                ld.global.b{bits} %a, [%in]; ld.global.b{bits} %b, [%in+8]; ld.global.b{bits} %c, [%in+16];
                mov.u32 %t, {}; add.cc.u32 %t, %t, 1;
                {spelling} %d, %a, %b{third};
                addc.u32 %flag, 0, 0; st.global.b{bits} [%out], %d; st.global.u32 [%out+8], %flag;",
                if flag == 1 { u32::MAX } else { 0 }
            );
            let output = Kernel::of(body).run_words(&input);
            for (lane, found) in output.iter().enumerate() {
                let operand = |i: usize| {
                    let low = u128::from(word(&input, lane, 2 * i));
                    if op.wide { low | u128::from(word(&input, lane, 2 * i + 1)) << 32 } else { low }
                };
                let (d, carry) = expected(op, [operand(0), operand(1), operand(2)], flag, bits);
                let carry = if op.carry_out { carry } else { flag };
                let value = u128::from(found[0]) | if op.wide { u128::from(found[1]) << 32 } else { 0 };
                assert_eq!((value, u128::from(found[2])), (d, carry), "{spelling}, flag {flag}, lane {lane}");
            }
        }
    }
}

fn expected(op: ptx_vm::isa::CarryOp, [a, b, c]: [u128; 3], flag: u128, bits: u32) -> (u128, u128) {
    let flag = if op.carry_in { flag } else { 0 };
    let modulus = 1_u128 << bits;
    let sign = |x: u128| if op.signed && x >= modulus / 2 { x as i128 - modulus as i128 } else { x as i128 };
    let product = if op.signed { (sign(a) * sign(b)) as u128 } else { a * b };
    match op.kind {
        CarryKind::Add => ((a + b + flag) % modulus, (a + b + flag) / modulus),
        CarryKind::Sub => ((a + 2 * modulus - b - flag) % modulus, u128::from(a < b + flag)),
        CarryKind::MadLo => ((product % modulus + c + flag) % modulus, (product % modulus + c + flag) / modulus),
        CarryKind::MadHi => {
            let high = product >> bits & (modulus - 1);
            ((high + c + flag) % modulus, (high + c + flag) / modulus)
        }
    }
}

#[test]
fn a_chain_adds_128_bits() {
    let input = slots(7);
    let step = |i: usize| {
        let op = ["add.cc.u32", "addc.cc.u32", "addc.cc.u32", "addc.u32"][i];
        let (a, b) = (4 * i, 16 + 4 * i);
        format!(
            "ld.global.u32 %a, [%in+{a}]; ld.global.u32 %b, [%in+{b}]; {op} %a, %a, %b; st.global.u32 [%out+{a}], %a;\n"
        )
    };
    let body = format!(".reg .b32 %a, %b; {}", (0..4).map(step).collect::<String>());
    let output = Kernel::of(body).run_words(&input);
    for (lane, found) in output.iter().enumerate() {
        let number = |start: usize| (0..4).fold(0, |n, i| n | u128::from(word(&input, lane, start + i)) << (32 * i));
        let sum = number(0).wrapping_add(number(4));
        assert!((0..4).all(|i| found[i] == (sum >> (32 * i)) as u32), "lane {lane}");
    }
}
