//! Functions.

use super::*;
use crate::isa::{Alu, Space, Type};
use crate::program::windows;

const FUNCTION: &str = ".func (.param .b32 out) f(.param .b32 a, .param .align 8 .b8 s[24]) {
    .reg .b32 %r<3>; .reg .b64 %rd<2>;
    ld.param.u32 %r1, [a]; ld.param.u32 %r2, [s+20]; mov.u64 %rd1, s; st.param.b32 [out+0], %r1; ret; }";

const CALL: &str = "{ .param .b32 p0; st.param.b32 [p0+0], %r1;
    .param .align 8 .b8 p1[24]; st.param.b32 [p1+20], %r2;
    .param .b32 ret0;
    call.uni (ret0),\nf,\n(\np0,\np1\n);
    ld.param.b32 %r3, [ret0+0]; }";

fn address(program: &Program, inst: &Inst) -> (Space, u64) {
    let (Op::Load(access) | Op::Store(access)) = inst.op else { panic!("{inst:?}") };
    (access.space, bits(program, inst.src[0]).wrapping_add(inst.imm as u64))
}

#[test]
fn arguments_and_results_share_memory_with_the_parameters() {
    let program = kernel_with(FUNCTION, "", &format!("{CALL} {CALL} ret;"));
    let code = &program.code;
    // Two calls of four accesses, exit; then the function, once.
    let entry = 9;
    assert_eq!(code.len(), entry + 5);
    let [.., result] = &program.local_symbols[..] else { panic!() };
    assert_eq!(program.local_symbols.len(), 3, "{result:?}");
    let symbol = |name: &str| program.local_symbols.iter().find(|s| s.0 == name).map(|s| u64::from(s.1)).unwrap();
    for base in [0, 4] {
        assert_eq!(address(&program, &code[base]), (Space::Local, symbol("a")));
        assert_eq!(address(&program, &code[base + 1]), (Space::Local, symbol("s") + 20));
        assert_eq!((code[base + 2].op, code[base + 2].imm), (Op::Call, entry as i64));
        assert_eq!(address(&program, &code[base + 3]), (Space::Local, symbol("out")));
    }
    assert_eq!(address(&program, &code[entry]), (Space::Local, symbol("a")));
    assert_eq!(address(&program, &code[entry + 1]), (Space::Local, symbol("s") + 20));
    assert_eq!(bits(&program, code[entry + 2].src[0]), windows::LOCAL + symbol("s"));
    assert_eq!(address(&program, &code[entry + 3]), (Space::Local, symbol("out")));
    assert_eq!(code[entry + 4].op, Op::Return);
    assert_eq!(code[entry + 4].src[0], code[2].dst[0], "the link");
    assert_eq!(code[8].op, Op::Exit);
    check_slots(&program);
}

#[test]
fn functions_have_registers_of_their_own() {
    let program = kernel_with(FUNCTION, "", &format!("{CALL} ret;"));
    let of = |range: std::ops::Range<usize>| -> Vec<Slot> {
        let insts = &program.code[range];
        insts
            .iter()
            .flat_map(|inst| list(&program, inst).iter().chain(&inst.dst))
            .filter(|s| s.is_some())
            .copied()
            .collect()
    };
    let (kernel, function) = (of(0..5), of(5..10));
    // The link is the one register that both know.
    let link = program.code[2].dst[0];
    assert!(kernel.iter().all(|slot| *slot == link || !function.contains(slot)), "{kernel:?} {function:?}");
}

#[test]
fn registers_and_constants_as_arguments() {
    let directives = ".func (.reg .u32 out) g(.reg .u32 a, .reg .f32 b) { add.u32 out, a, 1; ret; }
        .func (.param .b32 out) h(.param .b32 a) { ret; }";
    let program = kernel_with(
        directives,
        "",
        "@%p1 call (%r1), g, (%r2, 1.5); call (%r3), h, (7);
         { .param .b32 x; .param .f32 y; .param .b32 z; st.param.b32 [x], %r1; call (z), g, (x, y); ld.param.b32 %r1, [z]; }
         ret;",
    );
    let code = &program.code;
    let mov = |ty| Op::Alu(Alu::Mov(ty));
    assert_eq!(
        [code[0].op, code[1].op, code[2].op, code[3].op],
        [mov(Type::U32), mov(Type::F32), Op::Call, mov(Type::U32)]
    );
    assert!(code[..4].iter().all(|inst| inst.guard.pred != 0), "the guard covers the copies");
    assert_eq!(bits(&program, code[1].src[0]), u64::from(1.5f32.to_bits()));
    assert!(matches!((code[4].op, code[5].op, code[6].op), (Op::Store(_), Op::Call, Op::Load(_))));
    assert_eq!(bits(&program, list(&program, &code[4])[0]), 7);
    // x is written, then copied to g's register; g's result is copied to z, then read.
    let [write, x, _y, call, z, read] = &code[7..13] else { panic!() };
    assert_eq!(address(&program, write), address(&program, x));
    assert_eq!(list(&program, x)[0], code[0].dst[0]);
    assert_eq!(call.op, Op::Call);
    assert_eq!(list(&program, z)[0], code[3].src[0]);
    assert_eq!(address(&program, z), address(&program, read));
    assert_ne!(address(&program, x), address(&program, z));
}

#[test]
fn a_declaration_may_come_first_and_a_function_once_per_program() {
    // Every function calls the next one twice: the number of paths doubles, the code does not.
    let mut text = String::from(".func f30;\n.func f30 { ret; }\n");
    for level in (0..30).rev() {
        text += &format!(".func f{level} {{ call f{}; call f{}; ret; }}\n", level + 1, level + 1);
    }
    let program = kernel_with(&text, "", "call f0; ret;");
    assert_eq!(program.code.len(), 2 + 30 * 3 + 1);
    assert_eq!(program.code[0].imm, 2);
}

#[test]
fn static_shared_memory_of_functions_is_the_block_s() {
    let directives = ".func f { .shared .align 4 .b8 x[8]; .reg .b32 r; mov.u32 r, x; ret; }";
    let program = kernel_with(directives, "", ".shared .b8 x[4]; call f; call f; mov.u32 %r1, x; ret;");
    assert_eq!(program.shared_symbols, [("x".to_owned(), 0, 4), ("x".to_owned(), 4, 8)]);
    assert_eq!(bits(&program, program.code[2].src[0]), 0);
    assert_eq!(bits(&program, program.code[4].src[0]), 4);
}
