//! Spelling patterns: which modifiers an opcode takes, in which order, and which operation they make.
//!
//! A row reads like the manual's syntax line. `"add{.rn|.rz|.rm|.rp}?{.ftz}?{.sat}?.f32"` is an opcode, then groups:
//! `{.x|.y}` is a choice, a trailing `?` makes it optional, a bare `.f32` is fixed. `build` sees the modifiers that were
//! written and answers with the operation and its operands, or `None` where the manual forbids the combination.

mod pattern;

mod atomic;
mod compare;
mod control;
mod convert;
mod double;
mod float;
mod half;
mod integer;
mod memory;
mod sync;
mod tensor;

use super::alu::Alu;
use super::op::Op;
use super::types::{Space, Type};
use std::collections::HashMap;
use std::sync::LazyLock;

pub(crate) use pattern::Pattern;

/// One row of the table.
pub(crate) struct Row {
    /// The manual's syntax line for the opcode and its modifiers.
    pub pattern: &'static str,
    /// The operation and its operands, or `None` if these modifiers do not go together.
    pub build: fn(&Modifiers<'_>) -> Option<Decoded>,
}

/// The modifiers of one spelling, in the order in which they were written, with their dots.
pub(crate) struct Modifiers<'a>(pub Vec<&'a str>);

impl Modifiers<'_> {
    /// Was this modifier written?
    pub fn has(&self, modifier: &str) -> bool {
        self.0.contains(&modifier)
    }

    /// The first of these that was written, by index.
    pub fn which(&self, modifiers: &[&str]) -> Option<usize> {
        modifiers.iter().position(|m| self.has(m))
    }

    /// The types written, in order.
    pub fn types(&self) -> Vec<Type> {
        self.0.iter().filter_map(|m| Type::from_suffix(m.strip_prefix('.')?)).collect()
    }

    /// The last type written: the type of the operation.
    pub fn ty(&self) -> Option<Type> {
        self.types().last().copied()
    }
}

/// An operation with the kinds of its operands, in the order of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The operation.
    pub op: Op,
    /// What the text must supply, destinations first.
    pub operands: Vec<Operand>,
}

/// What an operand must be. `Write…` are destinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A register of exactly the type's size.
    Write(Type),
    /// A register at least as wide as the type (`ld`, `cvt`, `mov` to a wider one is not allowed by the manual elsewhere).
    WriteWide(Type),
    /// A predicate register; `_` drops it.
    WritePred,
    /// `p` or `p|q`.
    WritePredPair,
    /// `d` or `d|p`: a value with an optional predicate beside it (`shfl`, `match.all`).
    WriteWithPred(Type),
    /// One register or `{a, b, …}` of that many, each at least as wide as the type.
    WriteVector(Type, u8),
    /// A register or an immediate of exactly the type's size.
    Read(Type),
    /// A register at least as wide as the type, or an immediate.
    ReadWide(Type),
    /// A predicate, `!p` allowed.
    ReadPred,
    /// Like `Read`, but the operand may be left out (`bar.red d, a{, b}, p`: even before others).
    ReadOptional(Type),
    /// A predicate that may be left out at the end.
    ReadPredOptional,
    /// One register or `{a, b, …}` of that many, each at least as wide as the type.
    ReadVector(Type, u8),
    /// `[address]` in that space, with an offset.
    Address(Space),
    /// A compile-time integer, stored in the instruction's immediate.
    Immediate,
    /// The size of a `cp.async`: one of these integers, stored in the operation ([`Op::CopyAsync`]).
    CopySize(&'static [u8]),
    /// A label, stored in the instruction's immediate.
    Label,
    /// `brx.idx`: a label that names a `.branchtargets` list.
    LabelList,
    /// `call`: the whole of `(ret), name, (args)`.
    CallTarget,
}

impl Decoded {
    /// `d, a, b, …`: one result and plain sources.
    pub fn alu(op: Alu, result: Type, sources: &[Type]) -> Option<Decoded> {
        let operands = std::iter::once(Operand::Write(result)).chain(sources.iter().map(|ty| Operand::Read(*ty)));
        Some(Decoded { op: Op::Alu(op), operands: operands.collect() })
    }

    /// Any operation with any operands.
    pub fn new(op: Op, operands: &[Operand]) -> Option<Decoded> {
        Some(Decoded { op, operands: operands.to_vec() })
    }
}

/// Every row, chapter by chapter.
const CHAPTERS: [&[Row]; 11] = [
    integer::ROWS,
    float::ROWS,
    double::ROWS,
    half::ROWS,
    compare::ROWS,
    convert::ROWS,
    memory::ROWS,
    atomic::ROWS,
    tensor::ROWS,
    sync::ROWS,
    control::ROWS,
];

struct Entry {
    pattern: Pattern,
    row: &'static Row,
}

/// Rows by opcode (the text before the first dot).
static TABLE: LazyLock<HashMap<&'static str, Vec<Entry>>> = LazyLock::new(|| {
    let mut table: HashMap<&'static str, Vec<Entry>> = HashMap::new();
    for row in CHAPTERS.into_iter().flatten() {
        let pattern = Pattern::new(row.pattern);
        table.entry(pattern.opcode).or_default().push(Entry { pattern, row });
    }
    table
});

/// What a spelling turned out to be.
pub(crate) enum Lookup {
    /// Understood.
    Found(Decoded),
    /// No such opcode at all.
    UnknownOpcode,
    /// The opcode exists, but not with these modifiers.
    UnknownModifiers,
}

/// Decodes a spelling such as `add.rn.ftz.f32`.
pub(crate) fn decode(spelling: &str) -> Lookup {
    let opcode = spelling.split('.').next().unwrap_or_default();
    let Some(entries) = TABLE.get(opcode) else { return Lookup::UnknownOpcode };
    let found = entries.iter().find_map(|entry| {
        let modifiers = entry.pattern.matches(&spelling[opcode.len()..])?;
        (entry.row.build)(&Modifiers(modifiers))
    });
    found.map_or(Lookup::UnknownModifiers, Lookup::Found)
}

/// One instruction by its spelling, apart from any program: for tables, and for tests of one operation at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// As it is written, with all modifiers.
    pub spelling: String,
    /// What it means and takes.
    pub decoded: Decoded,
}

impl Instruction {
    /// Understands a spelling such as `fma.rn.ftz.f32`; `None` if the loader would refuse it.
    pub fn parse(spelling: &str) -> Option<Instruction> {
        match decode(spelling) {
            Lookup::Found(decoded) => Some(Instruction { spelling: spelling.to_owned(), decoded }),
            _ => None,
        }
    }

    /// Evaluates a pure operation on register bits, operands in the order of the text, the result in its low bits (see
    /// [`Alu`] for two results); `None` for anything that is not pure.
    pub fn eval(&self, operands: [u64; 4]) -> Option<u64> {
        match self.decoded.op {
            Op::Alu(alu) => Some(crate::alu::eval(alu, operands)),
            _ => None,
        }
    }
}

/// Every spelling that the loader accepts, grouped by the row's pattern, in the order of the manual.
pub fn opcode_table() -> Vec<(&'static str, Vec<Instruction>)> {
    let rows = CHAPTERS.into_iter().flatten();
    rows.map(|row| {
        let spellings = Pattern::new(row.pattern).spellings();
        let accepted = spellings.into_iter().filter_map(|spelling| {
            let opcode = spelling.split('.').next().unwrap_or_default().len();
            let modifiers = Modifiers(Pattern::new(row.pattern).matches(&spelling[opcode..])?);
            let decoded = (row.build)(&modifiers)?;
            Some(Instruction { spelling, decoded })
        });
        (row.pattern, accepted.collect())
    })
    .collect()
}

/// The opcode table as a document: one line per pattern, with the number of spellings that it accepts.
pub fn opcode_document() -> String {
    let mut text = String::from(concat!(
        "# Opcodes\n\n",
        "Every spelling that the loader accepts, printed from its own table (`cargo run -p ptx-vm --example opcodes`).\n",
        "`{.a|.b}` is a choice, `?` makes it optional; combinations that the PTX manual forbids are refused, and the number\n",
        "counts those that are left.\n\n",
    ));
    let mut total = 0;
    for (pattern, instructions) in opcode_table() {
        total += instructions.len();
        text += &format!("* `{pattern}` ({})\n", instructions.len());
    }
    text += &format!("\n{total} spellings.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_up_to_date() {
        let kept = include_str!("../../../OPCODES.md");
        let again = "cargo run -p ptx-vm --example opcodes > ptx-vm/OPCODES.md";
        assert!(kept == opcode_document(), "OPCODES.md is out of date: {again}");
    }

    #[test]
    fn every_row_accepts_something_and_decodes_to_itself() {
        for (pattern, instructions) in opcode_table() {
            assert!(!instructions.is_empty(), "{pattern} accepts nothing");
            for instruction in instructions {
                let again = Instruction::parse(&instruction.spelling);
                assert_eq!(again.as_ref(), Some(&instruction), "{pattern}");
            }
        }
    }
}
