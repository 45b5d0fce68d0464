//! Parameters, shared, local and device memory.

use super::*;
use crate::isa::{Access, Alu, Int, IntOp, Space, Type};
use crate::program::windows;

fn access(inst: &Inst) -> Access {
    match inst.op {
        Op::Load(access) | Op::Store(access) => access,
        other => panic!("{other:?}"),
    }
}

#[test]
fn kernel_parameters_are_laid_out_like_a_struct() {
    let params = ".param .u8 a, .param .u16 b, .param .u64 .ptr .global .align 16 c, .param .align 4 .b8 d[6], \
                  .param .u8 e, .param .align 16 .b8 f[32], .param .f32 g";
    let program = kernel_with(
        "",
        params,
        "ld.param.u8 %r1, [a]; ld.param.u16 %h1, [d+4]; ld.param.f32 %f1, [g]; mov.u64 %rd1, f; mov.b64 %rd2, f+8;
         ld.param.u32 %r2, [%rd1+4]; cvta.param.u64 %rd3, %rd1; cvta.param.u64 %rd4, f; ret;",
    );
    let layout: Vec<_> =
        program.parameters.iter().map(|p| (p.name.as_str(), p.offset, p.size, p.align, p.ty)).collect();
    assert_eq!(
        layout,
        [
            ("a", 0, 1, 1, Some(Type::U8)),
            ("b", 2, 2, 2, Some(Type::U16)),
            ("c", 8, 8, 8, Some(Type::U64)),
            ("d", 16, 6, 4, None),
            ("e", 22, 1, 1, Some(Type::U8)),
            ("f", 32, 32, 16, None),
            ("g", 64, 4, 4, Some(Type::F32)),
        ]
    );
    assert_eq!(program.parameter_bytes, 68);
    let code = &program.code;
    for (inst, address) in [(0, 0), (1, 20), (2, 64)] {
        assert_eq!(access(&code[inst]).space, Space::Param);
        assert_eq!(bits(&program, code[inst].src[0]).wrapping_add(code[inst].imm as u64), address);
    }
    assert_eq!(bits(&program, code[3].src[0]), windows::PARAM + 32);
    assert_eq!(bits(&program, code[4].src[0]), windows::PARAM + 40);
    assert_eq!((access(&code[5]).space, code[5].imm), (Space::Generic, 4));
    let cvta = Op::Cvta { space: Space::Param, to: false };
    assert_eq!((code[6].op, code[6].src[0]), (cvta, code[3].dst[0]));
    assert_eq!(bits(&program, code[7].src[0]), windows::PARAM + 32);
}

#[test]
fn shared_memory_static_then_dynamic() {
    let program = kernel_with(
        ".shared .align 4 .b8 unused[4000];
         .shared .align 2 .b8 used[6];
         .extern .shared .align 32 .b8 dyn[];
         .extern .shared .align 4 .b8 dync[];
         .extern .shared .align 1024 .b8 unused_dynamic[];",
        "",
        ".shared .align 8 .b8 own[12];
         mov.u32 %r1, own; mov.u64 %rd1, used; mov.u32 %r2, dyn; mov.u64 %rd2, dync+4; mov.u32 %r3, used+2;
         ld.shared.u32 %r4, [dyn+4]; ld.u32 %r5, [own+4]; ld.u32 %r6, [dyn]; ld.shared.u32 %r7, [%r1+-4];
         ld.shared.u32 %r7, [%rd1]; cvta.shared.u64 %rd3, own; ret;",
    );
    let symbol = |name: &str, offset, size| (name.to_owned(), offset, size);
    assert_eq!(program.shared_symbols, [symbol("own", 0, 12), symbol("used", 12, 6)]);
    assert_eq!((program.shared_bytes, program.dynamic_offset), (18, 32));
    let values: Vec<u64> = program.code[..5].iter().map(|inst| bits(&program, inst.src[0])).collect();
    assert_eq!(values, [0, 12, 32, 36, 14]);
    let files: Vec<File> = program.code[..5].iter().map(|inst| inst.src[0].file).collect();
    assert_eq!(files, [WORD, DOUBLE, WORD, DOUBLE, WORD]);
    let addresses: Vec<_> =
        program.code[5..8].iter().map(|i| (access(i).space, bits(&program, i.src[0]), i.imm)).collect();
    assert_eq!(
        addresses,
        [(Space::Shared, 32, 4), (Space::Generic, windows::SHARED, 4), (Space::Generic, windows::SHARED + 32, 0)]
    );
    assert_eq!((program.code[8].src[0], program.code[8].imm), (program.code[0].dst[0], -4));
    assert_eq!(program.code[9].src[0].file, DOUBLE);
    assert_eq!(program.code[10].op, Op::Cvta { space: Space::Shared, to: false });
    assert_eq!(bits(&program, program.code[10].src[0]), 0);
    check_slots(&program);
}

#[test]
fn two_kernels_lay_out_their_own_shared_memory() {
    let loaded = module(
        ".shared .align 16 .b8 a[16]; .shared .b8 b[16];
         .entry one() { .reg .b32 r; mov.u32 r, a; ret; }
         .entry two() { .reg .b32 r; mov.u32 r, b; mov.u32 r, a; ret; }",
    );
    let offsets: Vec<Vec<(String, u32, u32)>> = loaded.kernels.iter().map(|k| k.shared_symbols.clone()).collect();
    assert_eq!(offsets[0], [("a".to_owned(), 0, 16)]);
    assert_eq!(offsets[1], [("b".to_owned(), 0, 16), ("a".to_owned(), 16, 16)]);
}

#[test]
fn local_depots() {
    let program = kernel(
        ".local .align 16 .b8 depot[24]; .local .align 8 .b8 more[8];
         mov.u64 %rd1, more; cvta.local.u64 %rd2, %rd1; st.local.v2.u32 [depot+8], {%r1, 7}; ld.u32 %r1, [more]; ret;",
    );
    assert_eq!(program.local_bytes, 32);
    assert_eq!(program.local_symbols, [("depot".to_owned(), 0, 24), ("more".to_owned(), 24, 8)]);
    assert_eq!(bits(&program, program.code[0].src[0]), 24);
    let store = &program.code[2];
    assert_eq!((bits(&program, store.src[0]), store.imm, access(store).space), (0, 8, Space::Local));
    assert_eq!(bits(&program, list(&program, store)[1]), 7);
    assert_eq!(bits(&program, program.code[3].src[0]), windows::LOCAL + 24);
}

#[test]
fn variables_of_the_module_have_addresses_at_launch() {
    let program = kernel_with(
        ".global .u32 a; .const .align 8 .b8 c[64]; .global .u64 b = a;",
        "",
        "mov.u64 %rd1, b; ld.global.u32 %r1, [a+4]; ld.const.u32 %r2, [c]; mov.u64 %rd2, c+16; ld.u32 %r3, [b]; ret;",
    );
    let code = &program.code;
    let variable = |index| Holds::Special(Special::Variable(index));
    assert_eq!(holds(&program, code[0].src[0]), variable(2));
    assert_eq!((holds(&program, code[1].src[0]), code[1].imm), (variable(0), 4));
    assert_eq!(holds(&program, code[2].src[0]), variable(1));
    assert_eq!(code[3].op, Op::Alu(Alu::Int(IntOp::Add, Int::U64)));
    assert_eq!((holds(&program, code[3].src[0]), bits(&program, code[3].src[1])), (variable(1), 16));
    assert_eq!(code[4].src[0], code[3].dst[0]);
    assert_eq!((holds(&program, code[5].src[0]), access(&code[5]).space), (variable(2), Space::Generic));
}

#[test]
fn initial_values() {
    let variables = module(
        ".global .align 4 .b8 bytes[5] = {1, 2, 0xff};
         .const .align 8 .f64 d[2] = {0d3FF8000000000000, 2};
         .global .u16 grid[2][3] = {{1}, {4, 5}};
         .global .u16 flat[2][2] = {1, 2, 3};
         .global .s32 open[] = {-1, (1 << 4) | 1};
         .global .u64 pointers[4] = {generic(bytes)+4, 3, open, generic(grid+2)};
         .global .v4 .f32 vector = {1.0, 0f40000000};
         .global .u8 packed[10] = {7, 0xFF(generic(open)+4), 0xFF00(generic(open)+4), 0XFF0000(generic(open)+4),
            0xFF000000(generic(open)+4), 0xFF00000000(generic(open)+4), 0xFF0000000000(generic(open)+4),
            0xFF000000000000(generic(open)+4), 0xFF00000000000000(generic(open)+4), 8};
         .global .f32 one = 1.0, zero;
         .visible .global .align 16 .b8 none[3];",
    )
    .variables;
    let of = |name: &str| variables.iter().find(|variable| variable.name == name).unwrap();
    let shape = |name: &str| (of(name).size, of(name).align, of(name).constant);
    assert_eq!((shape("bytes"), &of("bytes").init[..]), ((5, 4, false), &[1, 2, 255][..]));
    let halves: Vec<u8> = [1.5f64, 2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!((shape("d"), &of("d").init), ((16, 8, true), &halves));
    assert_eq!((shape("grid"), &of("grid").init[..]), ((12, 2, false), &[1, 0, 0, 0, 0, 0, 4, 0, 5, 0][..]));
    assert_eq!((shape("flat"), &of("flat").init[..]), ((8, 2, false), &[1, 0, 2, 0, 3, 0][..]));
    assert_eq!((shape("open"), &of("open").init[..]), ((8, 4, false), &[255, 255, 255, 255, 17, 0, 0, 0][..]));
    assert_eq!(shape("pointers"), (32, 8, false));
    assert_eq!(of("pointers").pointers, [(0, 0, 4), (16, 4, 0), (24, 2, 2)]);
    assert_eq!(of("pointers").init[8..16], 3u64.to_le_bytes());
    assert_eq!(of("packed").pointers, [(1, 4, 4)]);
    assert_eq!(of("packed").init, [7, 0, 0, 0, 0, 0, 0, 0, 0, 8]);
    assert_eq!((shape("vector"), of("vector").init.len()), ((16, 16, false), 8));
    assert_eq!((of("one").init.len(), of("zero").init.len()), (4, 0));
    assert_eq!(shape("none"), (3, 16, false));
}
