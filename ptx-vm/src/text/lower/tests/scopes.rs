//! Scopes, labels, places, jumps.

use super::*;
use crate::program::Place;

#[test]
fn inner_blocks_shadow_registers() {
    let program = kernel(
        "mov.u32 %r1, 1;
         { .reg .u32 %r1; mov.u32 %r1, 2; { mov.u32 %r1, 3; } }
         { .reg .b64 %r1; mov.u64 %r1, 4; }
         mov.u32 %r1, 5; ret;",
    );
    let to: Vec<Slot> = program.code[..5].iter().map(|inst| inst.dst[0]).collect();
    assert_eq!(to[0], to[4], "the outer register");
    assert_ne!(to[0], to[1], "shadowed");
    assert_eq!(to[1], to[2], "a block inside sees the nearer one");
    assert_eq!(to[3].file, DOUBLE);
    check_slots(&program);
}

#[test]
fn a_declaration_shadows_only_what_follows_it() {
    let program = kernel("{ mov.u32 %r1, 1; .reg .u32 %r1; mov.u32 %r1, 2; } mov.u32 %r1, 3; ret;");
    let to: Vec<Slot> = program.code[..3].iter().map(|inst| inst.dst[0]).collect();
    assert_eq!(to[0], to[2]);
    assert_ne!(to[0], to[1]);
}

#[test]
fn blocks_repeat_labels() {
    let program = kernel(
        "{ L: bra L; }
         { bra L; mov.u32 %r1, 1; L: }
         bra L;
         { bra L; }
         L: ret;",
    );
    let targets: Vec<i64> =
        program.code.iter().filter(|inst| matches!(inst.op, Op::Branch)).map(|inst| inst.imm).collect();
    assert_eq!(targets, [0, 3, 5, 5]);
}

#[test]
fn the_text_of_a_kernel_may_end_anywhere() {
    assert_eq!(ops(&kernel("")), [Op::Exit]);
    assert_eq!(ops(&kernel("exit;")), [Op::Exit]);
    assert_eq!(ops(&kernel("@%p1 ret;")), [Op::Exit, Op::Exit]);
    assert_eq!(ops(&kernel("bra L; L:")), [Op::Branch, Op::Exit]);
    assert_eq!(ops(&kernel("L: bra L;")), [Op::Branch]);
    assert_eq!(ops(&kernel("trap;")), [Op::Trap, Op::Exit]);
}

#[test]
fn places_follow_loc_and_cost_no_instruction() {
    let program = kernel_with(
        ".file 2 \"b.cu\"\n.file 1 \"a.cu\"",
        "",
        "trap;
         .loc 1 10 3
         trap;
         .loc 2 7 1, function_name $L__info_string0, inlined_at 1 11 5
         trap;
         .loc 1 0 5
         trap;
         .pragma \"nounroll\";
         .loc 1 12 0 trap; exit;",
    );
    let place = |file, line, ptx_line| Place { file, line, ptx_line };
    assert_eq!(
        program.places,
        [place(0, 0, 7), place(1, 10, 9), place(2, 7, 11), place(2, 7, 13), place(1, 12, 15), place(1, 12, 15)]
    );
    assert_eq!(*program.files, ["a.cu", "b.cu"]);
}

#[test]
fn indexed_branches_have_a_table() {
    let program = kernel(
        "mov.u32 %r1, %tid.x;
         T: .branchtargets A, B, A;
         brx.idx %r1, T;
         A: trap;
         B: exit;",
    );
    let branch = &program.code[1];
    assert_eq!(branch.op, Op::BranchIndexed);
    assert_eq!(branch.src[0], program.code[0].dst[0]);
    let (start, count) = (branch.list.0 as usize, usize::from(branch.list.1));
    assert_eq!(program.targets[start..start + count], [2, 3, 2]);
}

#[test]
fn guards_and_negations() {
    let program = kernel("@!%p1 mov.pred %p2, !%p1; @%p2 and.pred %p3, %p1, !%p2; mov.pred %p1, -1; exit;");
    let [first, second, third, _] = &program.code[..] else { panic!("{program:?}") };
    assert_eq!((first.guard.pred, first.guard.negated, first.negated), (first.src[0].index, true, 1));
    assert_eq!((second.guard.pred, second.guard.negated, second.negated), (first.dst[0].index, false, 2));
    assert_eq!(bits(&program, third.src[0]), 1);
}
