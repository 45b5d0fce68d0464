//! `ldmatrix` and `mma` in every spelling, through the fragment layouts of the manual.

use super::{Kernel, slots, word};
use half::{bf16, f16};
use ptx_vm::isa::{Mma, Op, Type, opcode_table};

pub fn all() {
    matrices_are_loaded();
    products();
}

/// Row r of matrix i is the first 16 bytes of lane 8i + r's slot.
#[test]
fn matrices_are_loaded() {
    let input = slots(19);
    for instruction in opcode_table().into_iter().flat_map(|(_, instructions)| instructions) {
        let Op::LoadMatrix { count, transposed } = instruction.decoded.op else { continue };
        let names: Vec<String> = (0..count).map(|i| format!("%m{i}")).collect();
        let save: String = (0..count).map(|i| format!("st.global.u32 [%out+{}], %m{i};\n", 4 * i)).collect();
        let list = if count == 1 { names[0].clone() } else { format!("{{{}}}", names.join(", ")) };
        let body = format!(
            ".shared .align 16 .b8 s[512]; .reg .b32 {}, %s; .reg .b64 %w; mov.u32 %base, s; mad.lo.u32 %s, %lane, 16, %base;
            ld.global.b64 %w, [%in]; st.shared.b64 [%s], %w; ld.global.b64 %w, [%in+8]; st.shared.b64 [%s+8], %w;
            bar.warp.sync -1; {} {list}, [%s];\n{save}",
            names.join(", "),
            instruction.spelling
        );
        let output = Kernel::of(body).run_words(&input);
        let element = |matrix: usize, row: usize, column: usize| {
            word(&input, 8 * matrix + row, column / 2) >> (16 * (column % 2)) & 0xffff
        };
        for (lane, found) in output.iter().enumerate() {
            let (row, column) = (lane / 4, 2 * (lane % 4));
            for (matrix, register) in found.iter().enumerate().take(count.into()) {
                let at = |c: usize| if transposed { element(matrix, c, row) } else { element(matrix, row, c) };
                let expected = at(column) | at(column + 1) << 16;
                assert_eq!(*register, expected, "{}, matrix {matrix}, lane {lane}", instruction.spelling);
            }
        }
    }
}

/// Small integers: every product and sum is exact in every format, so any order of summation gives the same bits.
fn operand(row: usize, column: usize, seed: usize) -> f32 {
    ((row * 7 + column * 13 + seed * 5) % 9) as f32 - 4.0
}

fn half_bits(ty: Type, value: f32) -> u32 {
    u32::from(if ty == Type::Bf16 { bf16::from_f32(value).to_bits() } else { f16::from_f32(value).to_bits() })
}

/// Row and column of element `i` of a lane's fragment of A (16 × k): the manual's figures.
fn place_a(lane: usize, i: usize) -> (usize, usize) {
    (lane / 4 + if (i / 2) % 2 == 1 { 8 } else { 0 }, 2 * (lane % 4) + i % 2 + if i >= 4 { 8 } else { 0 })
}

/// Of B (k × 8).
fn place_b(lane: usize, i: usize) -> (usize, usize) {
    (2 * (lane % 4) + i % 2 + if i >= 2 { 8 } else { 0 }, lane / 4)
}

/// Of C and D (16 × 8).
fn place_c(lane: usize, i: usize) -> (usize, usize) {
    (lane / 4 + if i >= 2 { 8 } else { 0 }, 2 * (lane % 4) + i % 2)
}

#[test]
fn products() {
    for instruction in opcode_table().into_iter().flat_map(|(_, instructions)| instructions) {
        let Op::Mma(mma) = instruction.decoded.op else { continue };
        product(&instruction.spelling, mma);
    }
}

fn product(spelling: &str, mma: Mma) {
    let [d, a, b, c] = mma.registers();
    let pair = |value: &dyn Fn(usize) -> f32, i: usize, ty| {
        half_bits(ty, value(2 * i)) | half_bits(ty, value(2 * i + 1)) << 16
    };
    let accumulator = |lane: usize, i: usize| -> u32 {
        let value = |i: usize| {
            let (row, column) = place_c(lane, i);
            operand(row, column, 3)
        };
        if mma.accumulator == Type::F32 { value(i).to_bits() } else { pair(&value, i, Type::F16) }
    };
    let mut input = Vec::new();
    for lane in 0..32 {
        let at = |place: fn(usize, usize) -> (usize, usize), seed: usize| {
            move |i: usize| {
                let (row, column) = place(lane, i);
                operand(row, column, seed)
            }
        };
        let mut registers: Vec<u32> = (0..a).map(|i| pair(&at(place_a, 1), i, mma.input)).collect();
        registers.extend((0..b).map(|i| pair(&at(place_b, 2), i, mma.input)));
        registers.extend((0..c).map(|i| accumulator(lane, i)));
        registers.resize(16, 0);
        input.extend(registers.iter().flat_map(|register| register.to_le_bytes()));
    }
    let list = |name: &str, count: usize| -> String {
        let names: Vec<String> = (0..count).map(|i| format!("%{name}{i}")).collect();
        format!("{{{}}}", names.join(", "))
    };
    let fetch = |name: &str, count: usize, from: usize| -> String {
        (0..count)
            .map(|i| format!(".reg .b32 %{name}{i}; ld.global.b32 %{name}{i}, [%in+{}];\n", 4 * (from + i)))
            .collect()
    };
    let save: String = (0..d).map(|i| format!("st.global.b32 [%out+{}], %d{i};\n", 4 * i)).collect();
    let results: String = (0..d).map(|i| format!(".reg .b32 %d{i};\n")).collect();
    let body = format!(
        "{}{}{}{results}{spelling} {}, {}, {}, {};\n{save}",
        fetch("a", a, 0),
        fetch("b", b, a),
        fetch("c", c, a + b),
        list("d", d),
        list("a", a),
        list("b", b),
        list("c", c)
    );
    let output = Kernel::of(body).run_words(&input);
    for (lane, found) in output.iter().enumerate() {
        let value = |i: usize| {
            let (row, column) = place_c(lane, i);
            (0..usize::from(mma.k))
                .fold(operand(row, column, 3), |sum, k| sum + operand(row, k, 1) * operand(k, column, 2))
        };
        for (i, register) in found.iter().enumerate().take(d) {
            let expected = if mma.accumulator == Type::F32 { value(i).to_bits() } else { pair(&value, i, Type::F16) };
            assert_eq!(*register, expected, "{spelling}, lane {lane}, register {i}");
        }
    }
}
