//! `ld` and `st` in every spelling: space, type, vector, order, cache hints.

use super::{Kernel, SLOT, bytes, slots};
use ptx_vm::isa::{Access, Instruction, Op, Space, Type, opcode_table};

pub fn all() {
    loads();
    wide_registers_extend();
    stores();
}

fn accesses(wanted: impl Fn(Op) -> Option<Access>) -> Vec<(Instruction, Access)> {
    let instructions = opcode_table().into_iter().flat_map(|(_, instructions)| instructions);
    instructions.filter_map(|instruction| Some((instruction.clone(), wanted(instruction.decoded.op)?))).collect()
}

/// `{%v0, %v1, …}` or `%v0`, and the declaration of those registers.
fn registers(access: Access, bits: u32) -> (String, String) {
    let names: Vec<String> = (0..access.vector).map(|i| format!("%v{i}")).collect();
    let list = if names.len() == 1 { names[0].clone() } else { format!("{{{}}}", names.join(", ")) };
    (list, format!(".reg .b{bits} {};", names.join(", ")))
}

/// Element `i` of memory as a register of `bits` holds it.
fn element(memory: &[u8], ty: Type, i: usize, bits: u32) -> Vec<u8> {
    let size = ty.bytes() as usize;
    let raw = &memory[i * size..(i + 1) * size];
    let fill = if ty.is_signed() && raw[size - 1] >= 0x80 { 0xff } else { 0 };
    let mut register = raw.to_vec();
    register.resize((bits / 8) as usize, fill);
    register
}

/// Instructions that copy the thread's input slot to `to`, and the address that stands for it.
fn staged(access: Access, spelling: &str) -> (String, String, &'static str) {
    let copy = |space: &str, to: &str| -> String {
        let step = |i| format!("ld.global.b64 %w, [%in+{i}]; st{space}.b64 [{to}+{i}], %w;\n");
        (0..SLOT).step_by(8).map(step).collect()
    };
    match access.space {
        Space::Generic | Space::Global => (String::new(), String::new(), "[%in]"),
        Space::Const => (constant(), String::new(), "[c]"),
        Space::Param if spelling.contains("::func") => (String::new(), String::new(), ""),
        Space::Param => (String::new(), String::new(), "[bytes]"),
        Space::Shared => {
            let place = format!(
                ".shared .align 32 .b8 s[{}]; .reg .b32 %p; mov.u32 %base, s; mad.lo.u32 %p, %tid, {SLOT}, %base; {}",
                32 * SLOT,
                copy(".shared", "%p")
            );
            (String::new(), place, "[%p]")
        }
        Space::Local => (String::new(), format!(".local .align 32 .b8 l[{SLOT}]; {}", copy(".local", "l")), "[l]"),
    }
}

/// A `.const` array with the bytes that every test of it uses.
fn constant() -> String {
    let list: Vec<String> = bytes(3, SLOT).iter().map(u8::to_string).collect();
    format!(".const .align 32 .b8 c[{SLOT}] = {{{}}};", list.join(", "))
}

#[test]
fn loads() {
    let input = slots(1);
    for (instruction, access) in accesses(|op| if let Op::Load(access) = op { Some(access) } else { None }) {
        let spelling = &instruction.spelling;
        if spelling.contains("::func") {
            function_parameter(spelling, access);
            continue;
        }
        let bits = access.ty.bits().max(32);
        let (list, declaration) = registers(access, bits);
        let (module, stage, address) = staged(access, spelling);
        let save: String = (0..access.vector)
            .map(|i| format!("st.global.b{bits} [%out+{}], %v{i};\n", u32::from(i) * bits / 8))
            .collect();
        let body = format!(".reg .b64 %w; {declaration} {stage} {spelling} {list}, {address};\n{save}");
        let output = Kernel { module, body, ..Kernel::default() }.run(&input);
        for lane in 0..32 {
            let slot = &input[lane * SLOT..];
            let memory = match access.space {
                Space::Const => &bytes(3, SLOT)[..],
                Space::Param => &input[..SLOT],
                _ => slot,
            };
            let expected: Vec<u8> =
                (0..usize::from(access.vector)).flat_map(|i| element(memory, access.ty, i, bits)).collect();
            assert_eq!(output[lane * SLOT..][..expected.len()], expected, "{spelling}, lane {lane}");
        }
    }
}

/// A function's parameter, read in the function and handed back through its result.
fn function_parameter(spelling: &str, access: Access) {
    let input = slots(1);
    let bits = access.ty.bits().max(32);
    let (list, declaration) = registers(access, bits);
    let parts = |line: &dyn Fn(u32) -> String| -> String { (0..u32::from(access.vector)).map(line).collect() };
    let module = format!(
        ".func (.param .align 16 .b8 r[{SLOT}]) f(.param .align 16 .b8 p[{SLOT}]) {{ {declaration}\n{spelling} {list}, [p];\n{} ret; }}",
        parts(&|i| format!("st.param.b{bits} [r+{}], %v{i};\n", i * bits / 8))
    );
    let pass: String =
        (0..SLOT).step_by(8).map(|i| format!("ld.global.b64 %w, [%in+{i}]; st.param.b64 [a+{i}], %w;\n")).collect();
    let body = format!(
        ".reg .b64 %w; {declaration} {{ .param .align 16 .b8 a[{SLOT}]; .param .align 16 .b8 b[{SLOT}];\n{pass}
        call.uni (b), f, (a);\n{} }}\n{}",
        parts(&|i| format!("ld.param.b{bits} %v{i}, [b+{}];\n", i * bits / 8)),
        parts(&|i| format!("st.global.b{bits} [%out+{}], %v{i};\n", i * bits / 8)),
    );
    let output = Kernel { module, body, ..Kernel::default() }.run(&input);
    for lane in 0..32 {
        let elements = (0..usize::from(access.vector)).flat_map(|i| element(&input[lane * SLOT..], access.ty, i, bits));
        let expected: Vec<u8> = elements.collect();
        assert_eq!(output[lane * SLOT..][..expected.len()], expected, "{spelling}, lane {lane}");
    }
}

/// A register may be wider than what is loaded: it is extended by the type's sign.
#[test]
fn wide_registers_extend() {
    let input = slots(2);
    for (_, name) in Type::ALL.iter().filter(|(ty, _)| matches!(ty.bits(), 8..=64) && !ty.is_float()) {
        let Some(instruction) = Instruction::parse(&format!("ld.global.{name}")) else { continue };
        let Op::Load(access) = instruction.decoded.op else { panic!("{name}") };
        let body = format!(".reg .b64 %v; ld.global.{name} %v, [%in]; st.global.b64 [%out], %v;");
        let output = Kernel::of(body).run(&input);
        for lane in 0..32 {
            let expected = element(&input[lane * SLOT..], access.ty, 0, 64);
            assert_eq!(output[lane * SLOT..][..8], expected, "ld.global.{name}, lane {lane}");
        }
    }
}

#[test]
fn stores() {
    let input = slots(4);
    for (instruction, access) in accesses(|op| if let Op::Store(access) = op { Some(access) } else { None }) {
        let spelling = &instruction.spelling;
        let bits = access.ty.bits().max(32);
        let (list, declaration) = registers(access, bits);
        let fetch: String = (0..access.vector)
            .map(|i| format!("ld.global.b{bits} %v{i}, [%in+{}];\n", u32::from(i) * bits / 8))
            .collect();
        let size = access.bytes() as usize;
        let back = |space: &str, from: &str| -> String {
            (0..size).map(|i| format!("ld{space}.u8 %b, [{from}+{i}]; st.global.u8 [%out+{i}], %b;\n")).collect()
        };
        let (module, stage, address, after) = match access.space {
            Space::Generic | Space::Global => (String::new(), String::new(), "[%out]", String::new()),
            Space::Shared => {
                let place = format!(
                    ".shared .align 32 .b8 s[{}]; .reg .b32 %p; mov.u32 %base, s; mad.lo.u32 %p, %tid, {SLOT}, %base;",
                    32 * SLOT
                );
                (String::new(), place, "[%p]", back(".shared", "%p"))
            }
            Space::Local => (String::new(), format!(".local .align 32 .b8 l[{SLOT}];"), "[l]", back(".local", "l")),
            Space::Param => {
                // Into a call's argument; the callee copies it into its result byte by byte.
                let copy: String =
                    (0..size).map(|i| format!("ld.param.u8 %b, [p+{i}]; st.param.b8 [r+{i}], %b;\n")).collect();
                let module = format!(
                    ".func (.param .align 32 .b8 r[{SLOT}]) f(.param .align 32 .b8 p[{SLOT}]) {{ .reg .b32 %b;\n{copy} ret; }}"
                );
                let stage = format!("{{ .param .align 32 .b8 a[{SLOT}]; .param .align 32 .b8 c[{SLOT}];");
                (module, stage, "[a]", format!("call.uni (c), f, (a);\n{} }}", back(".param", "c")))
            }
            Space::Const => panic!("{spelling} stores to constants"),
        };
        let body = format!(".reg .b32 %b; {declaration} {fetch} {stage}\n{spelling} {address}, {list};\n{after}");
        let output = Kernel { module, body, ..Kernel::default() }.run(&input);
        for lane in 0..32 {
            let register = |i: usize| &input[lane * SLOT + i * (bits / 8) as usize..][..access.ty.bytes() as usize];
            let mut expected: Vec<u8> = (0..usize::from(access.vector)).flat_map(register).copied().collect();
            expected.resize(SLOT, 0);
            assert_eq!(output[lane * SLOT..][..SLOT], expected, "{spelling}, lane {lane}");
        }
    }
}
