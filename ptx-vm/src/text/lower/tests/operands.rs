//! Constants, special registers, vectors, operands that may be left out.

use super::*;
use crate::isa::{Alu, BarrierKind, Type};

#[test]
fn equal_constants_share_a_slot() {
    let program = kernel(
        "mov.u32 %r1, 7; mov.s32 %r2, 7; mov.f32 %f1, 1.0; mov.b32 %r3, 0x3F800000; mov.u64 %rd1, 7;
         mov.u32 %r4, -1; mov.u32 %r5, 0xFFFFFFFF; mov.u16 %h1, -1; mov.u32 %r1, 7; ret;",
    );
    let from: Vec<Slot> = program.code[..9].iter().map(|inst| inst.src[0]).collect();
    assert_eq!(from[0], from[1]);
    assert_eq!(from[0], from[8], "the wider 7 in between is another");
    assert_eq!(from[2], from[3]);
    assert_eq!(from[5], from[6]);
    assert_eq!((from[4].file, bits(&program, from[4])), (DOUBLE, 7));
    assert_eq!(bits(&program, from[7]), 0xffff);
    assert_eq!(program.constants.len(), 5);
    check_slots(&program);
}

#[test]
fn constants_take_the_type_of_their_operand() {
    let program = kernel(
        "mov.f32 %f1, 0d3FF8000000000000; fma.rn.f32 %f2, %f1, 0f40000000, -0.5; shl.b64 %rd1, %rd2, 3;
         add.s64 %rd1, %rd1, -8; st.global.u8 [%rd1], 300; and.b32 %r1, %r2, -2147483648; mov.u32 %r1, WARP_SZ; ret;",
    );
    let code = &program.code;
    assert_eq!(bits(&program, code[0].src[0]), u64::from(1.5f32.to_bits()));
    assert_eq!(bits(&program, code[1].src[1]), u64::from(2f32.to_bits()));
    assert_eq!(bits(&program, code[1].src[2]), u64::from((-0.5f32).to_bits()));
    assert_eq!((code[2].src[1].file, bits(&program, code[2].src[1])), (WORD, 3));
    assert_eq!(bits(&program, code[3].src[1]), -8i64 as u64);
    assert_eq!(bits(&program, list(&program, &code[4])[0]), 44);
    assert_eq!(bits(&program, code[5].src[1]), 0x8000_0000);
    assert_eq!(bits(&program, code[6].src[0]), 32);
}

#[test]
fn special_registers() {
    let program = kernel(
        "mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.y; mov.u16 %h1, %tid.x; cvt.u64.u32 %rd1, %laneid;
         mov.u32 %r3, %clock; mov.u64 %rd2, %clock64; mov.u64 %rd3, %gridid; mov.u32 %r4, %tid.w; ret;",
    );
    let code = &program.code;
    let special = |index: usize| holds(&program, code[index].src[0]);
    assert_eq!(special(0), Holds::Special(Special::Tid(0)));
    assert_eq!(special(1), Holds::Special(Special::Ctaid(1)));
    assert_eq!(code[2].src[0], code[0].src[0]);
    assert_eq!(special(3), Holds::Special(Special::LaneId));
    assert_eq!((code[4].op, code[4].dst[0].file), (Op::ReadClock, WORD));
    assert_eq!((code[5].op, code[5].dst[0].file), (Op::ReadClock, DOUBLE));
    assert_eq!((special(6), code[6].src[0].file), (Holds::Bits(0), DOUBLE));
    assert_eq!(special(7), Holds::Bits(0));
}

#[test]
fn packs_and_unpacks() {
    let program = kernel(
        "mov.b32 %r1, {%h1, 5}; mov.b64 %rd1, {%r1, %r2}; mov.b64 %rd2, {%h1, %h2, %h3, %h4};
         mov.b32 {_, %h2}, %r1; mov.b64 {%r3, %r4}, %rd1; ret;",
    );
    let code = &program.code;
    assert_eq!(
        ops(&program),
        [
            Op::Alu(Alu::Pack(Type::B32, 2)),
            Op::Alu(Alu::Pack(Type::B64, 2)),
            Op::Alu(Alu::Pack(Type::B64, 4)),
            Op::Alu(Alu::Unpack(Type::B32, 1, 2)),
            Op::Alu(Alu::Unpack(Type::B64, 0, 2)),
            Op::Alu(Alu::Unpack(Type::B64, 1, 2)),
            Op::Exit,
        ]
    );
    assert_eq!(bits(&program, code[0].src[1]), 5);
    assert_eq!(code[1].src[0], code[0].dst[0]);
    assert_eq!((code[3].src[0], code[3].dst[0]), (code[0].dst[0], code[2].src[1]));
    assert_ne!(code[4].dst[0], code[5].dst[0]);
}

#[test]
fn vectors_pairs_and_sinks() {
    let program = kernel(
        "ld.global.v4.u32 {%r1, _, %r2, _}, [%rd1]; setp.eq.and.u32 %p1|%p2, %r1, %r2, !%p3; setp.lt.s32 %p1, %r1, 0;
         shfl.sync.bfly.b32 %r3|%p1, %r1, 3, 31, -1; shfl.sync.bfly.b32 %r3, %r1, 3, 31, -1;
         lop3.b32 %r1, %r1, %r2, %r3, 0x96; ret;",
    );
    let code = &program.code;
    let [a, none, b, _] = list(&program, &code[0]) else { panic!() };
    assert!(!none.is_some() && a.is_some() && b.is_some());
    assert!(code[1].dst.iter().all(|slot| slot.is_some()));
    assert_eq!((code[1].negated, code[1].src[..2].to_vec()), (0b100, vec![*a, *b]));
    assert_eq!(code[2].dst[1], Slot { file: File::Pred, index: 0 });
    assert_eq!((code[3].dst[1], code[4].dst[1].is_some()), (code[2].dst[0], false));
    assert_eq!(code[5].op, Op::Alu(Alu::Lop3(0x96)));
}

#[test]
fn operands_left_out_in_the_middle_and_at_the_end() {
    let program =
        kernel("bar.red.popc.u32 %r1, 1, %p1; bar.red.popc.u32 %r1, 1, 64, !%p1; bar.sync 2; bar.sync 2, %r1; ret;");
    let code = &program.code;
    let Op::Barrier(barrier) = code[0].op else { panic!() };
    assert_eq!(barrier.kind, BarrierKind::RedPopc);
    assert!(!code[0].src[1].is_some(), "the count");
    assert_eq!((code[0].src[2], code[0].negated), (code[1].src[2], 0));
    assert_eq!((bits(&program, code[1].src[1]), code[1].negated), (64, 0b100));
    assert_eq!((bits(&program, code[2].src[0]), code[2].src[1].is_some()), (2, false));
    assert_eq!(code[3].src[1], code[0].dst[0]);
}

#[test]
fn asynchronous_copies() {
    let program = kernel(
        "cp.async.cg.shared.global [%r1+16], [%rd1+-32], 16; cp.async.ca.shared.global [%r1+-4], [%rd1], 8, %r2;
         cp.async.wait_group 3; ret;",
    );
    let code = &program.code;
    let offsets = |imm: i64| (i64::from(imm as i32), imm >> 32);
    assert_eq!((code[0].op, offsets(code[0].imm)), (Op::CopyAsync(16), (16, -32)));
    assert_eq!((code[1].op, offsets(code[1].imm)), (Op::CopyAsync(8), (-4, 0)));
    assert_eq!((code[0].src[0].file, code[0].src[1].file), (WORD, DOUBLE));
    assert!(!code[0].src[2].is_some() && code[1].src[2].is_some());
    assert_eq!(code[2].imm, 3);
}

#[test]
fn tensor_registers_stand_in_the_order_d_a_b_c() {
    let program = kernel(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f1,%f2,%f3,%f4}, {%r1,%r2,%r3,%r4}, {%r5,%r6},
         {%f5,%f6,%f7,%f8}; mov.b32 %r1, %r6; mov.f32 %f1, %f8; ret;",
    );
    let registers = list(&program, &program.code[0]);
    assert_eq!(registers.len(), 14);
    assert_eq!(registers[4], program.code[1].dst[0]);
    assert_eq!(registers[9], program.code[1].src[0]);
    assert_eq!(registers[0], program.code[2].dst[0]);
    assert_eq!(registers[13], program.code[2].src[0]);
}

#[test]
fn the_carry_flag_is_a_predicate_of_its_own() {
    let program = kernel("setp.eq.u32 %p1, %r1, 0; add.cc.u32 %r1, %r1, %r2; addc.u32 %r2, %r2, 0; ret;");
    assert_ne!(program.carry, 0);
    assert_ne!(program.carry, program.code[0].dst[0].index);
    assert_eq!(kernel("ret;").carry, 0);
}
