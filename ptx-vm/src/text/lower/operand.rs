//! Operands that are values: registers, special registers, constants, symbols.

use super::body::Body;
use super::scope::Entity;
use super::slots::{Fixed, file_of, none};
use super::special::{SpecialRegister, special};
use crate::error::{LoadError, LoadErrorKind};
use crate::isa::Type;
use crate::program::{File, Guard, Slot};
use crate::text::lexer::{At, shorten};
use crate::text::tree::{Instruction, Operand, OperandKind};

/// An operand's place in an instruction, for errors.
#[derive(Clone, Copy)]
pub(super) struct Position<'a> {
    pub spelling: &'a str,
    /// From 1.
    pub number: usize,
    pub at: At,
}

impl Position<'_> {
    /// The error that the operand must be something else.
    pub fn must_be(self, expected: impl Into<String>, found: impl Into<String>) -> LoadError {
        let (opcode, operand) = (shorten(self.spelling), self.number);
        self.at.error(LoadErrorKind::Operand { opcode, operand, expected: expected.into(), found: found.into() })
    }
}

/// How large a register may be for a type.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// Of exactly the type's size.
    Exact,
    /// At least as large.
    Wide,
}

impl Fit {
    fn accepts(self, ty: Type, register: Type) -> bool {
        let predicates = (ty == Type::Pred) == (register == Type::Pred);
        predicates
            && match self {
                Fit::Exact => register.bits() == ty.bits(),
                Fit::Wide => register.bits() >= ty.bits(),
            }
    }

    fn describe(self, ty: Type) -> String {
        match (ty, self) {
            (Type::Pred, _) => "a predicate".to_owned(),
            (_, Fit::Exact) => format!("a register of {} bits", ty.bits()),
            (_, Fit::Wide) => format!("a register of {} bits or more", ty.bits()),
        }
    }
}

impl<'a> Body<'_, '_, 'a> {
    /// The register of that name and its type, `None` if the name is no register.
    pub fn register(&mut self, at: At, name: &'a str) -> Result<Option<(Type, Slot)>, LoadError> {
        let Some(Entity::Register(ty, slot)) = self.scopes.find(name) else { return Ok(None) };
        if let Some(slot) = slot {
            return Ok(Some((*ty, *slot)));
        }
        let file = file_of(*ty).ok_or_else(|| at.unsupported("registers of 128 bits"))?;
        let new = self.builder.slots.register(file, at)?;
        *slot = Some(new);
        Ok(Some((*ty, new)))
    }

    /// The error for a name that does not fit: unknown, or something else.
    fn misfit(&mut self, position: Position<'a>, name: &'a str, expected: String) -> LoadError {
        let known = self.scopes.find(name).is_some() || self.builder.unit.globals.contains_key(name);
        if known || special(name).is_some() || name == "_" {
            position.must_be(expected, format!("`{}`", shorten(name)))
        } else {
            position.at.error(LoadErrorKind::UnknownName(shorten(name)))
        }
    }

    /// A register to write to; `_` writes nowhere.
    pub fn write(
        &mut self,
        position: Position<'a>,
        kind: &'a OperandKind<'a>,
        ty: Type,
        fit: Fit,
    ) -> Result<Slot, LoadError> {
        let expected = || fit.describe(ty);
        let OperandKind::Name(name, 0) = *kind else {
            return Err(position.must_be(expected(), kind.describe()));
        };
        self.write_name(position, name, ty, fit)
    }

    /// Like [`Body::write`], by name.
    pub fn write_name(&mut self, position: Position<'a>, name: &'a str, ty: Type, fit: Fit) -> Result<Slot, LoadError> {
        if name == "_" {
            return file_of(ty).map(none).ok_or_else(|| position.at.unsupported("registers of 128 bits"));
        }
        match self.register(position.at, name)? {
            Some((register, slot)) if fit.accepts(ty, register) => Ok(slot),
            Some((register, _)) => {
                let found = format!("`{}` of type .{}", shorten(name), register.suffix());
                Err(position.must_be(fit.describe(ty), found))
            }
            None => Err(self.misfit(position, name, fit.describe(ty))),
        }
    }

    /// A value to read: a register, special register or constant.
    pub fn read(
        &mut self,
        position: Position<'a>,
        kind: &'a OperandKind<'a>,
        ty: Type,
        fit: Fit,
    ) -> Result<Slot, LoadError> {
        let expected = || format!("{} or a constant of type .{}", fit.describe(ty), ty.suffix());
        match *kind {
            OperandKind::Constant(constant) => {
                let bits = constant.operand_bits(ty);
                match (bits, file_of(ty)) {
                    (Some(bits), Some(file)) => self.builder.slots.constant(file, bits, position.at),
                    _ => Err(position.must_be(expected(), kind.describe())),
                }
            }
            OperandKind::Name(name, 0) => match self.register(position.at, name)? {
                Some((register, slot)) if fit.accepts(ty, register) => Ok(slot),
                Some((register, _)) => {
                    let found = format!("`{}` of type .{}", shorten(name), register.suffix());
                    Err(position.must_be(expected(), found))
                }
                None => match self.special(position, name, ty, fit)? {
                    Some(slot) => Ok(slot),
                    None => Err(self.misfit(position, name, expected())),
                },
            },
            _ => Err(position.must_be(expected(), kind.describe())),
        }
    }

    /// The special register of that name, if it has this type.
    fn special(
        &mut self,
        position: Position<'a>,
        name: &'a str,
        ty: Type,
        fit: Fit,
    ) -> Result<Option<Slot>, LoadError> {
        if self.scopes.find(name).is_some() {
            return Ok(None);
        }
        let Some(register) = special(name) else { return Ok(None) };
        // Old texts read thread and block indices with 16 bits.
        let short = ty.bits() == 16 && name.contains('.');
        let Some(file) = file_of(register.ty()).filter(|_| short || fit.accepts(ty, register.ty())) else {
            return Ok(None);
        };
        let value = match register {
            SpecialRegister::Value(value) => Fixed::Special(value),
            SpecialRegister::Constant(bits, _) => Fixed::Bits(bits),
            SpecialRegister::Clock(_) => return Ok(None),
        };
        self.builder.slots.fixed(file, value, position.at).map(Some)
    }

    /// A predicate to read, and whether it is negated.
    pub fn predicate(&mut self, position: Position<'a>, kind: &'a OperandKind<'a>) -> Result<(Slot, bool), LoadError> {
        match *kind {
            OperandKind::Not(name) => match self.register(position.at, name)? {
                Some((Type::Pred, slot)) => Ok((slot, true)),
                _ => Err(self.misfit(position, name, "a predicate".to_owned())),
            },
            _ => Ok((self.read(position, kind, Type::Pred, Fit::Exact)?, false)),
        }
    }

    /// The guard of an instruction.
    pub fn guard(&mut self, instruction: &'a Instruction<'a>) -> Result<Guard, LoadError> {
        let Some(guard) = &instruction.guard else { return Ok(Guard::ALWAYS) };
        match self.register(guard.at, guard.name)? {
            Some((Type::Pred, slot)) => Ok(Guard { pred: slot.index, negated: guard.negated }),
            Some(_) => Err(guard.at.syntax("a predicate", format!("`{}`", shorten(guard.name)))),
            None => Err(guard.at.error(LoadErrorKind::UnknownName(shorten(guard.name)))),
        }
    }

    /// The elements of `{a, b}`, or a lone operand as one element.
    pub fn elements(
        &mut self,
        position: Position<'a>,
        operand: &'a Operand<'a>,
        count: u8,
    ) -> Result<&'a [Operand<'a>], LoadError> {
        match &operand.kind {
            OperandKind::Vector(elements) if elements.len() == usize::from(count) => Ok(elements),
            OperandKind::Vector(_) => Err(position.must_be(format!("a vector of {count}"), operand.kind.describe())),
            _ if count == 1 => Ok(std::slice::from_ref(operand)),
            _ => Err(position.must_be(format!("a vector of {count}"), operand.kind.describe())),
        }
    }

    /// A slot of the predicate file that nothing uses.
    pub const NO_PREDICATE: Slot = none(File::Pred);
}
