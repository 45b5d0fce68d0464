//! Addresses of memory operands, and symbols as values.

use super::Global;
use super::body::{Body, blank};
use super::instruction::Draft;
use super::operand::Position;
use super::scope::{Entity, Home, Symbol};
use super::slots::Fixed;
use crate::error::{LoadError, LoadErrorKind};
use crate::isa::{Alu, Int, IntOp, Op, Space, Type};
use crate::program::{File, Guard, Slot, Special, windows};
use crate::text::lexer::{At, shorten};
use crate::text::tree::OperandKind;

impl<'a> Body<'_, '_, 'a> {
    /// The variable of that name; `None` if the name is none.
    pub fn symbol(&mut self, at: At, name: &'a str) -> Result<Option<Symbol>, LoadError> {
        match self.scopes.find(name) {
            Some(Entity::Memory(symbol)) => return Ok(Some(*symbol)),
            Some(_) => return Ok(None),
            None => {}
        }
        match self.builder.unit.globals.get(name).copied() {
            Some(Global::Variable(index, space)) => Ok(Some(Symbol { space, home: Home::Variable(index) })),
            Some(Global::PerProgram(index)) => self.builder.module_symbol(index, at).map(Some),
            Some(Global::External) => Err(super::variables::external(at, name)),
            Some(Global::Function(_)) | None => Ok(None),
        }
    }

    /// `[…]`: the address slot becomes a source, the offset the immediate.
    pub fn address(
        &mut self,
        position: Position<'a>,
        kind: &'a OperandKind<'a>,
        space: Space,
        draft: &mut Draft,
    ) -> Result<(), LoadError> {
        let (slot, offset) = match *kind {
            OperandKind::Absolute(address) => {
                if space == Space::Param {
                    return Err(position.must_be("the address of a parameter", kind.describe()));
                }
                (self.builder.slots.constant(File::Double, address as u64, position.at)?, 0)
            }
            OperandKind::Address(name, offset) => match self.register(position.at, name)? {
                Some((ty, slot)) => {
                    let short = matches!(space, Space::Shared | Space::Local) && ty.bits() == 32;
                    if ty.bits() != 64 && !short {
                        let found = format!("`{}` of type .{}", shorten(name), ty.suffix());
                        return Err(position.must_be("an address in a register of 64 bits", found));
                    }
                    if space == Space::Param {
                        // Addresses of parameters in registers are generic: which kind they are of shows when they are used.
                        draft.set_space(Space::Generic);
                    }
                    (slot, offset)
                }
                None => (self.symbol_base(position, name, space, draft)?, offset),
            },
            _ => return Err(position.must_be("an address", kind.describe())),
        };
        draft.address(slot, offset).ok_or_else(|| position.must_be("an offset of 32 bits", kind.describe()))
    }

    /// The slot that holds the address of a symbol in the space of the access.
    fn symbol_base(
        &mut self,
        position: Position<'a>,
        name: &'a str,
        space: Space,
        draft: &mut Draft,
    ) -> Result<Slot, LoadError> {
        let at = position.at;
        let Some(symbol) = self.symbol(at, name)? else {
            let known = self.scopes.find(name).is_some() || self.builder.unit.globals.contains_key(name);
            return Err(match known {
                true => position.must_be("an address", format!("`{}`", shorten(name))),
                false => at.error(LoadErrorKind::UnknownName(shorten(name))),
            });
        };
        let generic = space == Space::Generic && symbol.space != Space::Param;
        if symbol.space != space && !generic {
            let found = format!("`{}` in {:?} memory", shorten(name), symbol.space);
            return Err(position.must_be(format!("an address in {space:?} memory"), found));
        }
        let slots = &mut self.builder.slots;
        match symbol.home {
            Home::Variable(index) => slots.fixed(File::Double, Fixed::Special(Special::Variable(index)), at),
            Home::Dynamic if generic => slots.fixed(File::Double, Fixed::Dynamic(windows::SHARED), at),
            Home::Dynamic => slots.fixed(File::Word, Fixed::Dynamic(0), at),
            Home::Fixed(home, offset) if generic => {
                slots.constant(File::Double, windows::base(home) + u64::from(offset), at)
            }
            Home::Fixed(home, offset) => {
                draft.set_space(home);
                slots.constant(File::Word, u64::from(offset), at)
            }
            Home::CallSite(site) => {
                draft.set_space(Space::Local);
                draft.call_site = Some(site);
                slots.constant(File::Word, 0, at)
            }
        }
    }

    /// A symbol as a value of that type: what `mov` of its name yields. `None` if the name is no symbol.
    pub fn symbol_value(
        &mut self,
        position: Position<'a>,
        name: &'a str,
        addend: i64,
        ty: Type,
    ) -> Result<Option<Slot>, LoadError> {
        let at = position.at;
        let Some(symbol) = self.symbol(at, name)? else { return Ok(None) };
        let file = match ty {
            Type::B32 | Type::U32 | Type::S32 if matches!(symbol.space, Space::Shared | Space::Local) => File::Word,
            Type::B64 | Type::U64 | Type::S64 => File::Double,
            _ => {
                let found = format!("the address of `{}`", shorten(name));
                return Err(position.must_be(format!("a value of type .{}", ty.suffix()), found));
            }
        };
        let cut = |address: u64| if file == File::Word { address & u64::from(u32::MAX) } else { address };
        let slots = &mut self.builder.slots;
        let slot = match symbol.home {
            Home::Variable(index) => {
                let base = slots.fixed(file, Fixed::Special(Special::Variable(index)), at)?;
                if addend == 0 { base } else { self.sum(base, addend, at)? }
            }
            Home::Dynamic => slots.fixed(file, Fixed::Dynamic(addend as u64), at)?,
            Home::Fixed(home, offset) => {
                // A parameter's address is generic, whoever's it is.
                let base = if symbol.space == Space::Param { windows::base(home) } else { 0 };
                slots.constant(file, cut((base + u64::from(offset)).wrapping_add(addend as u64)), at)?
            }
            Home::CallSite(_) => return Err(at.unsupported("the address of a variable that holds an argument")),
        };
        Ok(Some(slot))
    }

    /// An address that only the launch knows, and something added to it.
    fn sum(&mut self, base: Slot, addend: i64, at: At) -> Result<Slot, LoadError> {
        let addend = self.builder.slots.constant(File::Double, addend as u64, at)?;
        let sum = self.builder.slots.register(File::Double, at)?;
        let mut inst = blank(Op::Alu(Alu::Int(IntOp::Add, Int::U64)), Guard::ALWAYS);
        (inst.dst[0], inst.src[0], inst.src[1]) = (sum, base, addend);
        self.emit(inst, at)?;
        Ok(sum)
    }
}
