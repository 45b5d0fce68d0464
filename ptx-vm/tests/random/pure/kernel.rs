//! A kernel around one instruction.

use crate::program::Numbers;
use ptx_vm::isa::{Instruction, Operand, Type};
use std::fmt::Write;

/// Threads: two whole warps and a ragged one.
pub const LANES: usize = 72;
/// Input words of each thread: four sources, a guard, two values that the destinations hold before.
pub const INPUTS: usize = 7;
/// The truth table that `lop3` gets.
pub const LOP3: u8 = 0b1101_0010;

const GUARD: usize = 4;
const BEFORE: usize = 5;

/// Can this be written with registers, predicates and immediates alone?
pub fn is_plain(operands: &[Operand]) -> bool {
    use Operand::{Immediate, Read, ReadPred, ReadWide, Write, WritePred, WritePredPair, WriteWide};
    operands.iter().all(|operand| {
        matches!(
            operand,
            Write(_) | WriteWide(_) | WritePred | WritePredPair | Read(_) | ReadWide(_) | ReadPred | Immediate
        )
    })
}

/// Whether the instruction is guarded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Guarded {
    No,
    If,
    Unless,
}

/// A source as the text writes it.
#[derive(Clone, Copy)]
enum Source {
    /// Bits of the register.
    Register(u32),
    Predicate {
        negated: bool,
    },
    /// Bits of the constant.
    Constant(u64),
}

/// One way to write an instruction.
pub struct Shape<'a> {
    instruction: &'a Instruction,
    guarded: Guarded,
    sources: Vec<Source>,
    /// Bits of the destination register; 1 for a predicate.
    to: u32,
    /// `p|q`
    second: bool,
    /// The destination is the first source too.
    alias: bool,
}

impl<'a> Shape<'a> {
    /// A random way to write it.
    pub fn draw(instruction: &'a Instruction, numbers: &mut Numbers) -> Shape<'a> {
        let mut shape = Shape {
            instruction,
            guarded: [Guarded::No, Guarded::If, Guarded::Unless][numbers.below(3)],
            sources: Vec::new(),
            to: 0,
            second: false,
            alias: false,
        };
        let constant = numbers.below(6);
        for (i, operand) in instruction.decoded.operands.iter().enumerate() {
            match *operand {
                Operand::Write(ty) => shape.to = ty.bits().max(16),
                Operand::WriteWide(ty) => shape.to = wider(ty, numbers),
                Operand::WritePred => shape.to = 1,
                Operand::WritePredPair => (shape.to, shape.second) = (1, numbers.below(2) == 1),
                Operand::ReadPred => shape.sources.push(Source::Predicate { negated: numbers.below(2) == 1 }),
                Operand::Read(Type::Pred) => shape.sources.push(Source::Predicate { negated: false }),
                Operand::Read(ty) | Operand::ReadWide(ty) if i == constant && has_constants(ty) => {
                    shape.sources.push(Source::Constant(numbers.register() & bits(ty.bits())));
                }
                Operand::Read(ty) => shape.sources.push(Source::Register(ty.bits().max(16))),
                Operand::ReadWide(ty) => shape.sources.push(Source::Register(wider(ty, numbers))),
                Operand::Immediate => {}
                other => unreachable!("{other:?} is not plain"),
            }
        }
        let same = matches!(shape.sources.first(), Some(Source::Register(width)) if *width == shape.to);
        shape.alias = same && numbers.below(4) == 0;
        shape
    }

    /// The kernel `k{number}`.
    pub fn kernel(&self, number: usize) -> String {
        let mut text = String::new();
        let mut put = |line: String| writeln!(text, "    {line}").expect("a string takes everything");
        put(".reg .b64 %in, %out, %x, %y; .reg .b32 %tid; .reg .pred %g, %q, %d1;".to_owned());
        put("mov.u32 %tid, %tid.x; mul.wide.u32 %x, %tid, 8;".to_owned());
        put(format!("ld.param.u64 %in, [k{number}_param_0]; add.s64 %in, %in, %x;"));
        put(format!("ld.param.u64 %out, [k{number}_param_1]; add.s64 %out, %out, %x;"));
        for (i, source) in self.sources.iter().enumerate() {
            match source {
                Source::Register(width) => put(read(&format!("%s{i}"), *width, i)),
                Source::Predicate { .. } => put(read(&format!("%s{i}"), 1, i)),
                Source::Constant(_) => {}
            }
        }
        put(format!("ld.global.u64 %x, [%in+{}]; and.b64 %x, %x, 1; setp.ne.s64 %g, %x, 0;", 8 * LANES * GUARD));
        put(read("%d0", self.to, BEFORE));
        put(format!(
            "ld.global.u64 %x, [%in+{}]; and.b64 %x, %x, 1; setp.ne.s64 %d1, %x, 0;",
            8 * LANES * (BEFORE + 1)
        ));
        if self.alias {
            put(format!("mov.b{} %d0, %s0;", self.to));
        }
        put(self.line());
        put(written("%d0", self.to));
        put("st.global.u64 [%out], %y;".to_owned());
        put(written("%d1", 1));
        put(format!("st.global.u64 [%out+{}], %y;", 8 * LANES));
        put("ret;".to_owned());
        let params = format!(".param .u64 k{number}_param_0, .param .u64 k{number}_param_1");
        format!(".visible .entry k{number}({params})\n{{\n{text}}}\n")
    }

    /// The instruction itself.
    fn line(&self) -> String {
        let guard = match self.guarded {
            Guarded::No => "",
            Guarded::If => "@%g ",
            Guarded::Unless => "@!%g ",
        };
        let mut operands = vec![if self.second { "%d0|%d1".to_owned() } else { "%d0".to_owned() }];
        let mut reads = self.instruction.decoded.operands.iter().filter_map(|operand| match operand {
            Operand::Read(ty) | Operand::ReadWide(ty) => Some(*ty),
            Operand::ReadPred => Some(Type::Pred),
            _ => None,
        });
        for (i, source) in self.sources.iter().enumerate() {
            let ty = reads.next().expect("a source is a read");
            operands.push(match source {
                Source::Register(_) if self.alias && i == 0 => "%d0".to_owned(),
                Source::Register(_) => format!("%s{i}"),
                Source::Predicate { negated } => format!("{}%s{i}", if *negated { "!" } else { "" }),
                Source::Constant(value) => constant(*value, ty),
            });
        }
        if self.instruction.decoded.operands.contains(&Operand::Immediate) {
            operands.push(LOP3.to_string());
        }
        format!("{guard}{} {};", self.instruction.spelling, operands.join(", "))
    }

    /// What the destinations hold afterwards, given the thread's input words.
    pub fn expected(&self, inputs: [u64; INPUTS]) -> [u64; 2] {
        let mut x = [0; 4];
        for (i, source) in self.sources.iter().enumerate() {
            x[i] = match source {
                Source::Register(width) => inputs[i] & bits(*width),
                Source::Predicate { negated } => (inputs[i] & 1) ^ u64::from(*negated),
                Source::Constant(value) => *value,
            };
        }
        let before = if self.alias { inputs[0] } else { inputs[BEFORE] } & bits(self.to);
        let before = [before, inputs[BEFORE + 1] & 1];
        let executes = match self.guarded {
            Guarded::No => true,
            Guarded::If => inputs[GUARD] & 1 == 1,
            Guarded::Unless => inputs[GUARD] & 1 == 0,
        };
        if !executes {
            return before;
        }
        let result = self.instruction.eval(x).expect("pure");
        [result & bits(self.to), if self.second { result >> 1 & 1 } else { before[1] }]
    }
}

/// A register that holds the type and may be wider.
fn wider(ty: Type, numbers: &mut Numbers) -> u32 {
    let widths: Vec<u32> = [16, 32, 64].into_iter().filter(|width| *width >= ty.bits()).collect();
    widths[[0, 0, widths.len() - 1, widths.len() / 2][numbers.below(4)]]
}

/// Is there a way to write a constant of this type?
fn has_constants(ty: Type) -> bool {
    matches!(ty, Type::F32 | Type::F64) || !(ty.is_float() || matches!(ty, Type::U16x2 | Type::S16x2))
}

fn constant(value: u64, ty: Type) -> String {
    match ty {
        Type::F32 => format!("0f{value:08x}"),
        Type::F64 => format!("0d{value:016X}"),
        _ if ty.is_signed() => {
            let shift = 64 - ty.bits();
            ((value << shift) as i64 >> shift).to_string()
        }
        _ => value.to_string(),
    }
}

/// Instructions that declare a register and fill it from an input word.
fn read(register: &str, width: u32, input: usize) -> String {
    let load = format!("ld.global.u64 %x, [%in+{}];", 8 * LANES * input);
    match width {
        1 => format!(".reg .pred {register}; {load} and.b64 %x, %x, 1; setp.ne.s64 {register}, %x, 0;"),
        64 => format!(".reg .b64 {register}; {load} mov.b64 {register}, %x;"),
        _ => format!(".reg .b{width} {register}; {load} cvt.u{width}.u64 {register}, %x;"),
    }
}

/// Instructions that bring a register into `%y`.
fn written(register: &str, width: u32) -> String {
    match width {
        1 => format!("selp.b64 %y, 1, 0, {register};"),
        64 => format!("mov.b64 %y, {register};"),
        _ => format!("cvt.u64.u{width} %y, {register};"),
    }
}

fn bits(width: u32) -> u64 {
    u64::MAX >> (64 - width)
}
