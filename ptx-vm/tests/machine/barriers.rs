//! `bar` and `barrier` in every spelling, fences, and what only waits or hints.

use super::{Kernel, SLOT, slots, word};
use ptx_vm::isa::{BarrierKind, Instruction, Op, Operand, opcode_table};

pub fn all() {
    synchronising();
    producers_arrive_and_consumers_wait();
    reducing();
    fences_and_hints();
}

/// Spellings of one kind of barrier.
fn spellings(kind: &[BarrierKind]) -> Vec<(String, BarrierKind)> {
    let instructions = opcode_table().into_iter().flat_map(|(_, instructions)| instructions);
    let wanted = |i: Instruction| match i.decoded.op {
        Op::Barrier(barrier) if kind.contains(&barrier.kind) => Some((i.spelling, barrier.kind)),
        _ => None,
    };
    instructions.filter_map(wanted).collect()
}

/// 96 threads pass a word to the next one through shared memory.
#[test]
fn synchronising() {
    let input = super::bytes(14, 96 * SLOT);
    for (spelling, _) in spellings(&[BarrierKind::Sync]) {
        for operands in ["0", "5", "5, 96", "%n, %c"] {
            let body = format!(
                ".shared .align 4 .b32 s[96]; .reg .b32 %a, %p, %q, %n, %c; mov.u32 %n, 3; mov.u32 %c, 96;
                ld.global.u32 %a, [%in]; mov.u32 %base, s; mad.lo.u32 %p, %tid, 4, %base; add.u32 %q, %tid, 1; rem.u32 %q, %q, 96;
                mov.u32 %base, s; mad.lo.u32 %q, %q, 4, %base; st.shared.u32 [%p], %a;
                {spelling} {operands}; ld.shared.u32 %a, [%q]; {spelling} {operands}; st.shared.u32 [%p], 0;
                st.global.u32 [%out], %a;"
            );
            let output = Kernel { body, threads: 96, ..Kernel::default() }.run_words(&input);
            let right = (0..96).all(|thread| output[thread][0] == word(&input, (thread + 1) % 96, 0));
            assert!(right, "{spelling} {operands}");
        }
    }
}

/// One warp produces and goes on; the other waits. `arrive` publishes, `sync` receives: any other pairing is a race.
#[test]
fn producers_arrive_and_consumers_wait() {
    let input = super::bytes(15, 64 * SLOT);
    for (spelling, _) in spellings(&[BarrierKind::Arrive]) {
        let body = format!(
            ".shared .align 4 .b32 s[32]; .reg .b32 %a, %p; .reg .pred %producer; setp.lt.u32 %producer, %tid, 32;
            mov.u32 %base, s; mad.lo.u32 %p, %lane, 4, %base; mov.u32 %a, 0;
            @!%producer bra consume;
            ld.global.u32 %a, [%in]; st.shared.u32 [%p], %a; {spelling} 1, 64; bra done;
            consume: bar.sync 1, 64; ld.shared.u32 %a, [%p]; st.global.u32 [%out], %a;
            done:"
        );
        let output = Kernel { body, threads: 64, ..Kernel::default() }.run_words(&input);
        assert!((0..32).all(|lane| output[32 + lane][0] == word(&input, lane, 0)), "{spelling}");
    }
}

#[test]
fn reducing() {
    let kinds = [BarrierKind::RedPopc, BarrierKind::RedAnd, BarrierKind::RedOr];
    for (spelling, kind) in spellings(&kinds) {
        for (threshold, count) in [(0, ""), (17, ", 96"), (96, "")] {
            let (result, save) = match kind {
                BarrierKind::RedPopc => ("%d", ""),
                _ => ("%q", "selp.b32 %d, 1, 0, %q;"),
            };
            let body = format!(
                ".reg .b32 %d; .reg .pred %p, %q; setp.lt.u32 %p, %tid, {threshold};
                {spelling} {result}, 2{count}, %p; {save} st.global.u32 [%out], %d;
                {spelling} {result}, 2{count}, !%p; {save} st.global.u32 [%out+4], %d;"
            );
            let output = Kernel { body, threads: 96, ..Kernel::default() }.run_words(&vec![0; 96 * SLOT]);
            let expected = |ayes: u32| match kind {
                BarrierKind::RedPopc => ayes,
                BarrierKind::RedAnd => u32::from(ayes == 96),
                _ => u32::from(ayes != 0),
            };
            let expected = [expected(threshold), expected(96 - threshold)];
            assert!(output.iter().all(|slot| slot[..2] == expected), "{spelling}{count}, {threshold} ayes");
        }
    }
}

/// Fences, prefetches, hints: accepted anywhere, and the data come out as they went in.
#[test]
fn fences_and_hints() {
    let input = slots(16);
    for (_, instructions) in opcode_table() {
        for Instruction { spelling, decoded } in instructions {
            if !matches!(decoded.op, Op::Fence(_) | Op::Nop) {
                continue;
            }
            let operand = |operand: &Operand| match operand {
                Operand::Address(_) if spelling.contains(".shared") => "[s]",
                Operand::Address(_) if spelling.contains(".local") => "[l]",
                Operand::Address(_) if spelling.contains(".const") => "[c]",
                Operand::Address(_) if spelling.contains(".param") => "[bytes]",
                Operand::Address(_) => "[%in]",
                _ => "7",
            };
            let operands: Vec<&str> = decoded.operands.iter().map(operand).collect();
            // `discard` and its like take a size.
            let body = format!(
                ".shared .align 16 .b8 s[256]; .local .align 16 .b8 l[256]; .reg .b64 %a; ld.global.b64 %a, [%in];
                {spelling} {}; st.global.b64 [%out], %a;",
                operands.join(", ")
            );
            let module = ".const .align 16 .b8 c[256] = {1};".to_owned();
            let output = Kernel { module, body, threads: 32 }.run(&input);
            assert!((0..32).all(|lane| output[lane * SLOT..][..8] == input[lane * SLOT..][..8]), "{spelling}");
        }
    }
}
