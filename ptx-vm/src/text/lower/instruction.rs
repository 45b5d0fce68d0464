//! An instruction: its operands matched against what its opcode takes.

use super::body::{Body, Jump, blank};
use super::operand::{Fit, Position};
use super::scope::Entity;
use super::slots::none;
use crate::error::{LoadError, LoadErrorKind};
use crate::isa::table::Operand as Kind;
use crate::isa::{Alu, Op, Space, Type};
use crate::program::{File, Guard, Inst, Slot};
use crate::text::lexer::shorten;
use crate::text::limits;
use crate::text::tree::{Instruction, Operand, OperandKind};

/// An instruction that fills up, operand by operand.
pub(super) struct Draft {
    inst: Inst,
    written: usize,
    read: usize,
    addresses: usize,
    /// The call-site variable that the address lies in.
    pub call_site: Option<usize>,
}

impl Draft {
    fn new(op: Op, guard: Guard, list: usize) -> Draft {
        let inst = Inst { list: (list as u32, 0), ..blank(op, guard) };
        Draft { inst, written: 0, read: 0, addresses: 0, call_site: None }
    }

    fn write(&mut self, slot: Slot) {
        if let Some(dst) = self.inst.dst.get_mut(self.written) {
            *dst = slot;
        }
        self.written += 1;
    }

    fn read(&mut self, slot: Slot, negated: bool) {
        if let Some(src) = self.inst.src.get_mut(self.read) {
            *src = slot;
            self.inst.negated |= u8::from(negated) << self.read;
        }
        self.read += 1;
    }

    /// An address and its offset. Two share the immediate: the first in its low half. `None` if they do not fit.
    pub fn address(&mut self, slot: Slot, offset: i64) -> Option<()> {
        self.inst.imm = match self.addresses {
            0 => offset,
            _ => {
                let (to, from) = (i32::try_from(self.inst.imm).ok()?, i32::try_from(offset).ok()?);
                i64::from(from) << 32 | i64::from(to as u32)
            }
        };
        self.addresses += 1;
        self.read(slot, false);
        Some(())
    }

    /// The access goes to another space than its spelling says.
    pub fn set_space(&mut self, space: Space) {
        match &mut self.inst.op {
            Op::Load(access) | Op::Store(access) => access.space = space,
            Op::Atom(atomic) => atomic.space = space,
            _ => {}
        }
    }
}

impl<'a> Body<'_, '_, 'a> {
    /// Lowers one instruction.
    pub fn instruction(&mut self, instruction: &'a Instruction<'a>) -> Result<(), LoadError> {
        let at = instruction.at;
        let decoded = self.builder.unit.decode(instruction.spelling, at)?;
        let guard = self.guard(instruction)?;
        match decoded.op {
            Op::Call => return self.call(instruction, guard),
            Op::Alu(Alu::Mov(ty)) if self.mov(instruction, ty, guard)? => return Ok(()),
            _ => {}
        }
        let first = self.builder.program.lists.len();
        let mut draft = Draft::new(decoded.op, guard, first);
        let mut operands = instruction.operands.iter().enumerate();
        let mut absent = self.absent(instruction, &decoded.operands)?;
        for (index, kind) in decoded.operands.iter().enumerate() {
            if absent > 0 && is_optional(*kind) && optional_from(&decoded.operands, index) <= absent {
                absent -= 1;
                draft.read(if *kind == Kind::ReadPredOptional { none(File::Pred) } else { Slot::NONE }, false);
            } else if let Some((index, operand)) = operands.next() {
                let position = Position { spelling: instruction.spelling, number: index + 1, at: operand.at };
                self.operand(position, *kind, operand, &mut draft)?;
            }
        }
        self.complete(instruction, first, draft)
    }

    /// How many operands were left out. More than may be, or too many operands, is an error.
    fn absent(&self, instruction: &'a Instruction<'a>, kinds: &[Kind]) -> Result<usize, LoadError> {
        let given = instruction.operands.len();
        let spelling = instruction.spelling;
        if let Some(extra) = instruction.operands.get(kinds.len()) {
            let position = Position { spelling, number: kinds.len() + 1, at: extra.at };
            return Err(position.must_be("left out", extra.kind.describe()));
        }
        let absent = kinds.len() - given;
        if absent > kinds.iter().filter(|kind| is_optional(**kind)).count() {
            let position = Position { spelling, number: given + 1, at: instruction.at };
            return Err(position.must_be(format!("present ({})", describe(kinds[given])), "nothing"));
        }
        Ok(absent)
    }

    fn operand(
        &mut self,
        position: Position<'a>,
        kind: Kind,
        operand: &'a Operand<'a>,
        draft: &mut Draft,
    ) -> Result<(), LoadError> {
        let text = &operand.kind;
        match kind {
            Kind::Write(ty) => draft.write(self.write(position, text, ty, Fit::Exact)?),
            Kind::WriteWide(ty) => draft.write(self.write(position, text, ty, Fit::Wide)?),
            Kind::WritePred => draft.write(self.write(position, text, Type::Pred, Fit::Exact)?),
            Kind::WritePredPair => self.write_pair(position, text, Type::Pred, draft)?,
            Kind::WriteWithPred(ty) => self.write_pair(position, text, ty, draft)?,
            Kind::WriteVector(ty, count) => {
                for element in self.elements(position, operand, count)? {
                    let slot = self.write(Position { at: element.at, ..position }, &element.kind, ty, Fit::Wide)?;
                    self.builder.program.lists.push(slot);
                }
            }
            Kind::ReadVector(ty, count) => {
                for element in self.elements(position, operand, count)? {
                    let slot = self.read(Position { at: element.at, ..position }, &element.kind, ty, Fit::Wide)?;
                    self.builder.program.lists.push(slot);
                }
            }
            Kind::Read(ty) | Kind::ReadOptional(ty) => {
                let slot = match *text {
                    // Only these take the name of a variable for its address.
                    OperandKind::Name(name, addend) if takes_symbols(draft.inst.op) => {
                        self.symbol_value(position, name, addend, ty)?
                    }
                    _ => None,
                };
                let slot = slot.map_or_else(|| self.read(position, text, ty, Fit::Exact), Ok)?;
                draft.read(slot, false);
            }
            Kind::ReadWide(ty) => draft.read(self.read(position, text, ty, Fit::Wide)?, false),
            Kind::ReadPred | Kind::ReadPredOptional => {
                let (slot, negated) = self.predicate(position, text)?;
                draft.read(slot, negated);
            }
            Kind::Address(space) => self.address(position, text, space, draft)?,
            Kind::Immediate => immediate(position, text, draft)?,
            Kind::CopySize(sizes) => {
                let size = integer(text).and_then(|size| u8::try_from(size).ok()).filter(|size| sizes.contains(size));
                let size = size.ok_or_else(|| position.must_be(format!("one of {sizes:?}"), text.describe()))?;
                draft.inst.op = Op::CopyAsync(size);
            }
            Kind::Label => {
                let pc = self.builder.program.code.len() as u32;
                self.jump(position.at, name_of(position, text, "a label")?, Jump::Immediate(pc))?;
            }
            Kind::LabelList => self.label_list(position, text, draft)?,
            // `call` has lowered itself.
            Kind::CallTarget => {}
        }
        Ok(())
    }

    /// `a`, or `a|p` with a predicate behind it.
    fn write_pair(
        &mut self,
        position: Position<'a>,
        text: &'a OperandKind<'a>,
        ty: Type,
        draft: &mut Draft,
    ) -> Result<(), LoadError> {
        if let OperandKind::Pair(first, second) = *text {
            draft.write(self.write_name(position, first, ty, Fit::Exact)?);
            draft.write(self.write_name(position, second, Type::Pred, Fit::Exact)?);
        } else {
            draft.write(self.write(position, text, ty, Fit::Exact)?);
            draft.write(Self::NO_PREDICATE);
        }
        Ok(())
    }

    /// The targets of `brx.idx`.
    fn label_list(
        &mut self,
        position: Position<'a>,
        text: &'a OperandKind<'a>,
        draft: &mut Draft,
    ) -> Result<(), LoadError> {
        let name = name_of(position, text, "a list of labels")?;
        let targets = match self.scopes.find(name) {
            Some(Entity::Targets(targets)) => *targets,
            Some(_) => return Err(position.must_be("a list of labels", text.describe())),
            None => return Err(position.at.error(LoadErrorKind::UnknownName(shorten(name)))),
        };
        limits::check("branch targets", targets.len() as u64, u64::from(u16::MAX), position.at)?;
        self.builder.unit.spend(targets.len() as u64, position.at)?;
        let start = self.builder.program.targets.len();
        for (at, label) in targets {
            let index = self.builder.program.targets.len();
            self.builder.program.targets.push(0);
            self.jump(*at, label, Jump::Target(index))?;
        }
        draft.inst.list = (start as u32, targets.len() as u16);
        Ok(())
    }

    /// Appends the instruction once its operands are there. Its list began at `first`.
    fn complete(&mut self, instruction: &'a Instruction<'a>, first: usize, draft: Draft) -> Result<(), LoadError> {
        let at = instruction.at;
        let (Draft { mut inst, call_site, .. }, listed) = (draft, self.builder.program.lists.len() - first);
        match inst.op {
            Op::Return => inst = self.leave(inst.guard),
            Op::Carry(_) => self.carry(at)?,
            Op::BranchIndexed => {}
            _ => {
                self.builder.unit.spend(listed as u64 / 8, at)?;
                inst.list.1 = listed as u16;
            }
        }
        let pc = self.emit(inst, at)?;
        if let Some(site) = call_site {
            self.call_sites[site].uses.push(pc);
        }
        Ok(())
    }
}

fn is_optional(kind: Kind) -> bool {
    matches!(kind, Kind::ReadOptional(_) | Kind::ReadPredOptional)
}

/// Optional operands from this one on: those at the end are left out first.
fn optional_from(kinds: &[Kind], index: usize) -> usize {
    kinds[index..].iter().filter(|kind| is_optional(**kind)).count()
}

fn takes_symbols(op: Op) -> bool {
    matches!(op, Op::Alu(Alu::Mov(_)) | Op::Cvta { .. } | Op::IsSpace(_))
}

fn describe(kind: Kind) -> &'static str {
    match kind {
        Kind::Write(_) | Kind::WriteWide(_) => "a register",
        Kind::WritePred | Kind::WritePredPair => "a predicate register",
        Kind::WriteWithPred(_) => "a register and a predicate",
        Kind::WriteVector(..) => "registers",
        Kind::Read(_) | Kind::ReadWide(_) | Kind::ReadOptional(_) => "a register or a constant",
        Kind::ReadPred | Kind::ReadPredOptional => "a predicate",
        Kind::ReadVector(..) => "registers or constants",
        Kind::Address(_) => "an address",
        Kind::Immediate | Kind::CopySize(_) => "an integer",
        Kind::Label => "a label",
        Kind::LabelList => "a list of labels",
        Kind::CallTarget => "a function",
    }
}

fn integer(text: &OperandKind<'_>) -> Option<i64> {
    match text {
        OperandKind::Constant(constant) => constant.as_integer(),
        _ => None,
    }
}

/// A number that the operation itself holds (`lop3`) or that is the immediate.
fn immediate(position: Position<'_>, text: &OperandKind<'_>, draft: &mut Draft) -> Result<(), LoadError> {
    let value = integer(text).ok_or_else(|| position.must_be("an integer", text.describe()))?;
    if let Op::Alu(Alu::Lop3(table)) = &mut draft.inst.op {
        *table = u8::try_from(value).map_err(|_| position.must_be("0 to 255", format!("`{value}`")))?;
    } else if draft.addresses == 0 {
        draft.inst.imm = value;
    }
    Ok(())
}

fn name_of<'a>(position: Position<'a>, text: &OperandKind<'a>, expected: &str) -> Result<&'a str, LoadError> {
    match *text {
        OperandKind::Name(name, 0) => Ok(name),
        _ => Err(position.must_be(expected, text.describe())),
    }
}
