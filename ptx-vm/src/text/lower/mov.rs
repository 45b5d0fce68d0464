//! `mov` in the forms that are not one plain operation: packs, unpacks, clocks.

use super::body::{Body, blank};
use super::operand::{Fit, Position};
use super::special::{SpecialRegister, special};
use crate::error::LoadError;
use crate::isa::{Alu, Op, Type};
use crate::program::Guard;
use crate::text::lexer::At;
use crate::text::tree::{Instruction, Operand, OperandKind};

impl<'a> Body<'_, '_, 'a> {
    /// Lowers the `mov` if it is one of those; false leaves it to the table.
    pub fn mov(&mut self, instruction: &'a Instruction<'a>, ty: Type, guard: Guard) -> Result<bool, LoadError> {
        let [to, from] = &instruction.operands[..] else { return Ok(false) };
        let position = |index: usize, at: At| Position { spelling: instruction.spelling, number: index + 1, at };
        match (&to.kind, &from.kind) {
            (_, OperandKind::Vector(parts)) => {
                let part = part(position(1, from.at), ty, parts)?;
                let mut inst = blank(Op::Alu(Alu::Pack(ty, parts.len() as u8)), guard);
                inst.dst[0] = self.write(position(0, to.at), &to.kind, ty, Fit::Exact)?;
                for (src, element) in inst.src.iter_mut().zip(parts) {
                    *src = self.read(position(1, element.at), &element.kind, part, Fit::Exact)?;
                }
                self.emit(inst, instruction.at)?;
            }
            (OperandKind::Vector(parts), _) => {
                let part = part(position(0, to.at), ty, parts)?;
                let from = self.read(position(1, from.at), &from.kind, ty, Fit::Exact)?;
                for (index, element) in parts.iter().enumerate() {
                    let unpack = Alu::Unpack(ty, index as u8, parts.len() as u8);
                    let mut inst = blank(Op::Alu(unpack), guard);
                    inst.dst[0] = self.write(position(0, element.at), &element.kind, part, Fit::Exact)?;
                    inst.src[0] = from;
                    if inst.dst[0].is_some() {
                        self.emit(inst, instruction.at)?;
                    }
                }
            }
            (_, OperandKind::Name(name, 0)) if self.scopes.find(name).is_none() => match special(name) {
                Some(SpecialRegister::Clock(width)) if width.bits() == ty.bits() => {
                    let mut inst = blank(Op::ReadClock, guard);
                    inst.dst[0] = self.write(position(0, to.at), &to.kind, ty, Fit::Exact)?;
                    self.emit(inst, instruction.at)?;
                }
                _ => return Ok(false),
            },
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// The type of the parts that make up a whole.
fn part(position: Position<'_>, whole: Type, parts: &[Operand<'_>]) -> Result<Type, LoadError> {
    match (whole, parts.len()) {
        (Type::B32, 2) | (Type::B64, 4) => Ok(Type::B16),
        (Type::B64, 2) => Ok(Type::B32),
        (Type::B16, 2) | (Type::B32, 4) => Ok(Type::B8),
        _ => {
            Err(position
                .must_be(format!("a vector that makes up a .{}", whole.suffix()), format!("{} parts", parts.len())))
        }
    }
}
