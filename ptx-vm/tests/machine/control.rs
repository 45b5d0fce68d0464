//! Branches, calls, predicates, address spaces, special registers.

use super::{Kernel, SLOT, slots};
use ptx_vm::isa::{Instruction, Op, Space, opcode_table};

pub fn all() {
    branches();
    branch_tables();
    calls_from_divergent_lanes();
    early_exits();
    predicate_logic();
    address_spaces();
    special_registers();
    a_spin_lock_within_a_warp_ends();
    approximations_can_be_perturbed();
}

fn spellings(wanted: impl Fn(Op) -> bool) -> Vec<Instruction> {
    let instructions = opcode_table().into_iter().flat_map(|(_, instructions)| instructions);
    instructions.filter(|instruction| wanted(instruction.decoded.op)).collect()
}

/// The number of steps of the Collatz sequence: every lane leaves the loop at its own time.
#[test]
fn branches() {
    for branch in ["bra", "bra.uni"] {
        let body = format!(
            ".reg .b32 %n, %s, %t; .reg .pred %p, %q; add.u32 %n, %lane, 1; mov.u32 %s, 0;
            loop: setp.eq.u32 %p, %n, 1; @%p bra done; and.b32 %t, %n, 1; setp.eq.u32 %q, %t, 0; add.u32 %s, %s, 1;
            @%q bra even; mad.lo.u32 %n, %n, 3, 1; {branch} loop; even: shr.u32 %n, %n, 1; {branch} loop;
            done: st.global.u32 [%out], %s;"
        );
        let output = Kernel::of(body).run_words(&slots(0));
        for (lane, found) in output.iter().enumerate() {
            let next = |n: &u32| (*n != 1).then_some(if n.is_multiple_of(2) { n / 2 } else { 3 * n + 1 });
            let steps = std::iter::successors(Some(lane as u32 + 1), next).count() as u32 - 1;
            assert_eq!(found[0], steps, "{branch}, lane {lane}");
        }
    }
}

#[test]
fn branch_tables() {
    for Instruction { spelling, .. } in spellings(|op| op == Op::BranchIndexed) {
        // `.uni` promises that all lanes go the same way.
        let index = if spelling.ends_with(".uni") { "mov.u32 %i, 2;" } else { "rem.u32 %i, %lane, 3;" };
        let body = format!(
            ".reg .b32 %i, %v; {index} mov.u32 %v, 0;
            table: .branchtargets zero, one, two;
            {spelling} %i, table;
            zero: mov.u32 %v, 10; bra done; one: mov.u32 %v, 11; bra done; two: mov.u32 %v, 12;
            done: st.global.u32 [%out], %v; st.global.u32 [%out+4], %i;"
        );
        let output = Kernel::of(body).run_words(&slots(0));
        assert!(output.iter().all(|slot| slot[0] == 10 + slot[1]), "{spelling}");
    }
}

/// Two call sites of one function, reached by different lanes at different times; the function returns early for some.
#[test]
fn calls_from_divergent_lanes() {
    for (call, ret) in [("call", "ret"), ("call.uni", "ret.uni"), ("call.uni", "ret")] {
        let module = format!(
            ".func (.param .b32 r) twice(.param .b32 x) {{ .reg .b32 %a; .reg .pred %p; ld.param.u32 %a, [x]; setp.gt.u32 %p, %a, 100;
            st.param.b32 [r], %a; @%p bra out; add.u32 %a, %a, %a; st.param.b32 [r], %a; out: {ret}; }}
            .func (.param .b32 r) inner(.param .b32 x) {{ .reg .b32 %a; ld.param.u32 %a, [x];
            {{ .param .b32 p; .param .b32 q; st.param.b32 [p], %a; {call} (q), twice, (p); ld.param.b32 %a, [q]; }}
            add.u32 %a, %a, 1; st.param.b32 [r], %a; {ret}; }}"
        );
        let site = |function: &str, value: &str| {
            format!(
                "{{ .param .b32 p; .param .b32 q; st.param.b32 [p], {value}; {call} (q), {function}, (p); ld.param.b32 %v, [q]; }}"
            )
        };
        let body = format!(
            ".reg .b32 %v, %w, %t; .reg .pred %odd; and.b32 %t, %lane, 1; setp.ne.u32 %odd, %t, 0; mul.lo.u32 %w, %lane, 5;
            @%odd bra other;\n{}\nbra done;\nother: {}\ndone: st.global.u32 [%out], %v;",
            site("twice", "%w"),
            site("inner", "%w")
        );
        let output = Kernel { module, body, ..Kernel::default() }.run_words(&slots(0));
        for (lane, found) in output.iter().enumerate() {
            let x = 5 * lane as u32;
            let twice = if x > 100 { x } else { 2 * x };
            assert_eq!(found[0], if lane % 2 == 0 { twice } else { twice + 1 }, "{call}/{ret}, lane {lane}");
        }
    }
}

/// Lanes that leave do not hold up barriers, votes or shuffles of the others.
#[test]
fn early_exits() {
    for leave in ["exit", "ret"] {
        let body = format!(
            ".reg .b32 %a; .reg .pred %p; setp.ge.u32 %p, %tid, 40; @%p {leave}; bar.sync 0; vote.sync.ballot.b32 %a, !%p, -1;
            st.global.u32 [%out], %a;"
        );
        let output = Kernel { body, threads: 64, ..Kernel::default() }.run_words(&vec![0; 64 * SLOT]);
        for (thread, found) in output.iter().enumerate() {
            let expected = [u32::MAX, 0xff, 0][usize::from(thread >= 32) + usize::from(thread >= 40)];
            assert_eq!(found[0], expected, "{leave}, thread {thread}");
        }
    }
}

#[test]
fn predicate_logic() {
    type Meaning = fn(bool, bool) -> bool;
    let cases: [(&str, Meaning); 7] = [
        ("mov.pred %r, %p", |p, _| p),
        ("not.pred %r, %p", |p, _| !p),
        ("and.pred %r, %p, %q", |p, q| p && q),
        ("or.pred %r, %p, %q", |p, q| p || q),
        ("xor.pred %r, %p, %q", |p, q| p != q),
        ("and.pred %r, %p, !%q", |p, q| p && !q),
        ("or.pred %r, !%p, !%q", |p, q| !p || !q),
    ];
    for (instruction, meaning) in cases {
        let body = format!(
            ".reg .pred %p, %q, %r; .reg .b32 %t; and.b32 %t, %lane, 1; setp.ne.u32 %p, %t, 0; and.b32 %t, %lane, 2;
            setp.ne.u32 %q, %t, 0; {instruction}; selp.u32 %t, 1, 0, %r; st.global.u32 [%out], %t;"
        );
        let output = Kernel::of(body).run_words(&slots(0));
        for (lane, found) in output.iter().enumerate() {
            let expected = meaning(lane & 1 != 0, lane & 2 != 0);
            assert_eq!(found[0], u32::from(expected), "{instruction}, lane {lane}");
        }
    }
}

/// A pointer into every space survives the way to generic and back, is told apart by `isspacep`, and reads the same data.
#[test]
fn address_spaces() {
    let declarations =
        ".shared .align 8 .b64 s[4]; .local .align 8 .b64 l[4]; .reg .b64 %a, %g, %b; .reg .pred %p; .reg .b32 %t;";
    let module = ".const .align 8 .b64 c[4] = {1, 2, 3, 4}; .global .align 8 .b64 g[4] = {5, 6, 7, 8};".to_owned();
    let spaces =
        [(Space::Shared, "s"), (Space::Local, "l"), (Space::Const, "c"), (Space::Global, "g"), (Space::Param, "bytes")];
    for Instruction { spelling, decoded } in spellings(|op| matches!(op, Op::Cvta { .. })) {
        let Op::Cvta { space, to } = decoded.op else { continue };
        let Some((_, symbol)) = spaces.iter().find(|(s, _)| *s == space) else { panic!("{spelling}") };
        let there = if to { spelling.replacen(".to", "", 1) } else { spelling.clone() };
        let back = if to { spelling.clone() } else { spelling.replacen("cvta", "cvta.to", 1) };
        // A parameter's own address is generic already.
        let out = if space == Space::Param { "mov.b64 %g, %a".to_owned() } else { format!("{there} %g, %a") };
        let also = if space == Space::Param { format!("{there} %b, %a; {back} %b, %a;") } else { String::new() };
        let body = format!(
            "{declarations} mov.b64 %a, {symbol}; {also} {out}; {back} %b, %g; sub.u64 %b, %b, %a; st.global.b64 [%out], %b;"
        );
        let output = Kernel { module: module.clone(), body, ..Kernel::default() }.run(&slots(0));
        if space != Space::Param {
            assert!(output.chunks(SLOT).all(|slot| slot[..8] == [0; 8]), "{spelling}");
        }
    }
    for Instruction { spelling, decoded } in spellings(|op| matches!(op, Op::IsSpace(_))) {
        let Op::IsSpace(tested) = decoded.op else { continue };
        for (space, symbol) in spaces {
            let name = match space {
                Space::Shared => "shared",
                Space::Local => "local",
                Space::Const => "const",
                _ => "global",
            };
            let generic =
                if space == Space::Param { "mov.b64 %g, %a".to_owned() } else { format!("cvta.{name}.u64 %g, %a") };
            let body = format!(
                "{declarations} mov.b64 %a, {symbol}; {generic}; {spelling} %p, %g; selp.u32 %t, 1, 0, %p;
                st.global.u32 [%out], %t;"
            );
            let output = Kernel { module: module.clone(), body, ..Kernel::default() }.run_words(&slots(0));
            assert_eq!(output[0][0], u32::from(space == tested), "{spelling} of {symbol}");
        }
    }
}

#[test]
fn special_registers() {
    let registers = [
        ("%tid.x", (|t| t) as fn(u32) -> u32),
        ("%tid.y", |_| 0),
        ("%ntid.x", |_| 64),
        ("%ntid.z", |_| 1),
        ("%ctaid.x", |_| 0),
        ("%nctaid.y", |_| 1),
        ("%laneid", |t| t % 32),
        ("%warpid", |t| t / 32),
        ("%nwarpid", |_| 2),
        ("%lanemask_eq", |t| 1 << (t % 32)),
        ("%lanemask_lt", |t| (1 << (t % 32)) - 1),
        ("%lanemask_le", |t| ((1_u64 << (t % 32 + 1)) - 1) as u32),
        ("%lanemask_gt", |t| !((1_u64 << (t % 32 + 1)) - 1) as u32),
        ("%lanemask_ge", |t| !((1 << (t % 32)) - 1)),
    ];
    for (register, expected) in registers {
        let body = format!(".reg .b32 %v; mov.u32 %v, {register}; st.global.u32 [%out], %v;");
        let output = Kernel { body, threads: 64, ..Kernel::default() }.run_words(&vec![0; 64 * SLOT]);
        assert!((0..64).all(|thread| output[thread as usize][0] == expected(thread)), "{register}: {output:x?}");
    }
    for (register, bits) in [("%clock", 32), ("%clock64", 64), ("%globaltimer", 64)] {
        let body = format!(
            ".reg .b{bits} %v, %w; .reg .pred %p; .reg .b32 %t; mov.u{bits} %v, {register}; mov.u{bits} %w, {register};
            setp.gt.u{bits} %p, %w, %v; selp.u32 %t, 1, 0, %p; st.global.u32 [%out], %t;"
        );
        let output = Kernel::of(body).run_words(&slots(0));
        assert!(output.iter().all(|slot| slot[0] == 1), "{register} goes on");
    }
}

/// The lock's holder stands at a higher instruction than those that spin: only a fair choice among groups lets it go on.
#[test]
fn a_spin_lock_within_a_warp_ends() {
    let module = ".global .align 4 .u32 lock; .global .align 4 .u32 total;".to_owned();
    let body = ".reg .b32 %old, %t; .reg .pred %taken;
        again: atom.acquire.gpu.global.cas.b32 %old, [lock], 0, 1; setp.ne.u32 %taken, %old, 0; @%taken bra again;
        ld.relaxed.gpu.global.u32 %t, [total]; add.u32 %t, %t, 1; st.relaxed.gpu.global.u32 [total], %t;
        atom.release.gpu.global.exch.b32 %old, [lock], 0; bar.sync 0;
        ld.relaxed.gpu.global.u32 %t, [total]; st.global.u32 [%out], %t;"
        .to_owned();
    let output = Kernel { module, body, threads: 64 }.run_words(&vec![0; 64 * SLOT]);
    assert!(output.iter().all(|slot| slot[0] == 64));
}

/// Approximate results move under [`ptx_vm::Launch::perturb`], the same way for the same seed, and by one place at most.
#[test]
fn approximations_can_be_perturbed() {
    let text = Kernel::of(
        ".reg .f32 %x, %y; ld.global.f32 %x, [%in]; ex2.approx.ftz.f32 %y, %x; st.global.f32 [%out], %y;
        rcp.approx.ftz.f32 %y, %x; st.global.f32 [%out+4], %y;",
    )
    .text();
    let module = ptx_vm::Module::load(&text).unwrap();
    let input: Vec<f32> = (0..32 * SLOT / 4).map(|i| 0.37 + i as f32 * 0.011).collect();
    let run = |perturb, seed| -> Vec<u32> {
        let mut memory = ptx_vm::Memory::new();
        let (source, target) = (memory.upload(&input).unwrap(), memory.upload(&vec![0_u32; input.len()]).unwrap());
        let args = vec![source.into(), target.into(), ptx_vm::Arg::value([0_u8; SLOT])];
        let launch = ptx_vm::Launch { args, perturb, seed, ..ptx_vm::Launch::default() };
        launch.run(&module.kernel("k").unwrap(), &mut memory).unwrap();
        memory.download(&target).unwrap()
    };
    let (plain, one, two) = (run(false, 1), run(true, 1), run(true, 2));
    assert_eq!(plain, run(false, 2));
    assert_eq!(one, run(true, 1));
    assert!(one != plain && two != plain && one != two);
    assert!(plain.iter().zip(&one).all(|(a, b)| a.abs_diff(*b) <= 1));
}
