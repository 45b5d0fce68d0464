//! `cp.async` in every spelling and size, its groups, its zero-fill.

use super::{Kernel, SLOT, slots};
use ptx_vm::isa::{Op, Operand, opcode_table};

pub fn all() {
    copies();
    groups_complete_in_order();
}

/// Each thread copies part of its slot to shared memory and reads it back after waiting.
#[test]
fn copies() {
    let input = slots(17);
    for instruction in opcode_table().into_iter().flat_map(|(_, instructions)| instructions) {
        let Op::CopyAsync(_) = instruction.decoded.op else { continue };
        let sizes = instruction
            .decoded
            .operands
            .iter()
            .find_map(|o| if let Operand::CopySize(s) = o { Some(*s) } else { None });
        for &size in sizes.unwrap() {
            for source in [None, Some(0), Some(1), Some(size - 1), Some(size)] {
                let spelling = &instruction.spelling;
                let amount = source.map_or(String::new(), |bytes| format!(", {bytes}"));
                let back: String = (0..size)
                    .map(|i| format!("ld.shared.u8 %b, [%s+{}]; st.global.u8 [%out+{i}], %b;\n", 16 + i))
                    .collect();
                let body = format!(
                    ".shared .align 16 .b8 s[{}]; .reg .b32 %s, %b; mov.u32 %base, s; mad.lo.u32 %s, %tid, {SLOT}, %base;
                    {spelling} [%s+16], [%in+32], {size}{amount}; cp.async.wait_all;\n{back}",
                    32 * SLOT
                );
                let output = Kernel::of(body).run(&input);
                let copied = usize::from(source.unwrap_or(size));
                for lane in 0..32 {
                    let mut expected = input[lane * SLOT + 32..][..copied].to_vec();
                    expected.resize(usize::from(size), 0);
                    assert_eq!(
                        output[lane * SLOT..][..usize::from(size)],
                        expected,
                        "{spelling} {size}{amount}, lane {lane}"
                    );
                }
            }
        }
    }
}

/// Three groups; `wait_group N` leaves the N youngest in flight. What is read is always complete (anything else would be a
/// finding), in the order of the groups.
#[test]
fn groups_complete_in_order() {
    let input = slots(18);
    let start: String = (0..3)
        .map(|i| format!("cp.async.ca.shared.global [%s+{o}], [%in+{o}], 4; cp.async.commit_group;\n", o = 4 * i))
        .collect();
    let finish: String = (0..3)
        .map(|i| {
            let (o, left) = (4 * i, 2 - i);
            format!("cp.async.wait_group {left}; ld.shared.u32 %b, [%s+{o}]; st.global.u32 [%out+{o}], %b;\n")
        })
        .collect();
    let body = format!(
        ".shared .align 16 .b8 s[{}]; .reg .b32 %s, %b; mov.u32 %base, s; mad.lo.u32 %s, %tid, {SLOT}, %base;\n{start}{finish}",
        32 * SLOT
    );
    let output = Kernel::of(body).run(&input);
    assert!((0..32).all(|lane| output[lane * SLOT..][..12] == input[lane * SLOT..][..12]));
}
