//! Calls: arguments and results meet the parameters of the function.
//!
//! A `.param` variable of the caller shares its memory with the parameter that it is passed as. The manual demands that
//! nothing but its own accesses stands between the writing of an argument, the call and the reading of a result, so no
//! other call can come in between.

use super::Global;
use super::body::{Body, blank};
use super::operand::{Fit, Position};
use super::program::Formal;
use super::scope::{Entity, Home};
use super::slots::file_of;
use crate::error::{LoadError, LoadErrorKind};
use crate::isa::{Access, Alu, Op, Order, Space, Type};
use crate::program::{File, Guard, Slot};
use crate::text::lexer::{At, shorten};
use crate::text::tree::{Instruction, Operand, OperandKind};

/// `(results), name, (arguments)`
struct Parts<'a> {
    results: &'a [Operand<'a>],
    name: &'a str,
    name_position: Position<'a>,
    arguments: &'a [Operand<'a>],
}

impl<'a> Parts<'a> {
    fn of(instruction: &'a Instruction<'a>) -> Result<Parts<'a>, LoadError> {
        let mut rest = &instruction.operands[..];
        let mut results: &[Operand<'a>] = &[];
        if let [Operand { kind: OperandKind::Group(group), .. }, after @ ..] = rest {
            (results, rest) = (group, after);
        }
        let number = instruction.operands.len() - rest.len() + 1;
        let mut position = Position { spelling: instruction.spelling, number, at: instruction.at };
        let [name, after @ ..] = rest else { return Err(position.must_be("a function", "nothing")) };
        position.at = name.at;
        let OperandKind::Name(function, 0) = name.kind else {
            return Err(position.must_be("a function", name.kind.describe()));
        };
        let arguments: &[Operand<'a>] = match after {
            [] => &[],
            [Operand { kind: OperandKind::Group(group), .. }] => group,
            // A prototype follows the arguments.
            [Operand { kind: OperandKind::Group(_), .. }, ..] => return Err(name.at.unsupported("indirect calls")),
            [other, ..] => {
                let position = Position { number: number + 1, at: other.at, ..position };
                return Err(position.must_be("a list in parentheses", other.kind.describe()));
            }
        };
        Ok(Parts { results, name: function, name_position: position, arguments })
    }
}

impl<'a> Body<'_, '_, 'a> {
    /// Lowers a call.
    pub fn call(&mut self, instruction: &'a Instruction<'a>, guard: Guard) -> Result<(), LoadError> {
        let at = instruction.at;
        let parts = Parts::of(instruction)?;
        let callee = self.callee(&parts)?;
        let instance = self.builder.instance(callee)?;
        let counts = [(parts.results, &instance.returns, "results"), (parts.arguments, &instance.params, "arguments")];
        for (given, formals, what) in counts {
            if given.len() != formals.len() {
                let found = format!("{} {what}", given.len());
                return Err(parts.name_position.must_be(format!("called with {} {what}", formals.len()), found));
            }
        }
        let place = |operand: &Operand<'a>| Position { at: operand.at, ..parts.name_position };
        for (argument, formal) in parts.arguments.iter().zip(&instance.params) {
            self.argument(place(argument), &argument.kind, *formal, guard)?;
        }
        let mut inst = blank(Op::Call, guard);
        inst.dst[0] = instance.link;
        let pc = self.emit(inst, at)?;
        self.builder.note_call(pc, self.index, callee, at);
        for (result, formal) in parts.results.iter().zip(&instance.returns) {
            self.result(place(result), &result.kind, *formal, guard)?;
        }
        Ok(())
    }

    /// The function that is called: known, defined, and no kernel.
    fn callee(&mut self, parts: &Parts<'a>) -> Result<usize, LoadError> {
        let (at, name) = (parts.name_position.at, parts.name);
        if self.scopes.find(name).is_some() {
            return Err(at.unsupported("indirect calls"));
        }
        match self.builder.unit.globals.get(name) {
            Some(Global::Function(index)) => {
                let function = self.builder.unit.function(*index);
                match (&function.body, function.kernel) {
                    (None, _) => Err(super::variables::external(at, name)),
                    (_, true) => Err(at.unsupported("calls of kernels")),
                    _ => Ok(*index),
                }
            }
            Some(_) => Err(parts.name_position.must_be("a function", format!("`{}`", shorten(name)))),
            None => Err(at.error(LoadErrorKind::UnknownName(shorten(name)))),
        }
    }

    /// Passes an argument: before the call.
    fn argument(
        &mut self,
        position: Position<'a>,
        kind: &'a OperandKind<'a>,
        formal: Formal,
        guard: Guard,
    ) -> Result<(), LoadError> {
        let at = position.at;
        match (self.call_site(kind), formal) {
            (Some(site), Formal::Local { offset, size, .. }) => self.share(position, site, offset, size),
            (Some(site), Formal::Register { ty, slot }) => {
                let offset = self.site_for_register(position, site, ty)?;
                self.copy(Op::Load(local(ty)), offset, slot, guard, at)
            }
            (None, Formal::Register { ty, slot }) => {
                let value = self.read(position, kind, ty, Fit::Exact)?;
                self.move_register(ty, value, slot, guard, at)
            }
            (None, Formal::Local { offset, ty: Some(ty), .. }) => {
                // Parameters are at least 32 bits where compilers make them, whatever register holds the value.
                let value = self.read(position, kind, ty, Fit::Exact)?;
                self.copy(Op::Store(local(ty)), offset, value, guard, at)
            }
            (None, Formal::Local { .. }) => Err(position.must_be("a .param variable", kind.describe())),
        }
    }

    /// Fetches a result: after the call.
    fn result(
        &mut self,
        position: Position<'a>,
        kind: &'a OperandKind<'a>,
        formal: Formal,
        guard: Guard,
    ) -> Result<(), LoadError> {
        let at = position.at;
        match (self.call_site(kind), formal) {
            (Some(site), Formal::Local { offset, size, .. }) => self.share(position, site, offset, size),
            (Some(site), Formal::Register { ty, slot }) => {
                let offset = self.site_for_register(position, site, ty)?;
                self.copy(Op::Store(local(ty)), offset, slot, guard, at)
            }
            (None, Formal::Register { ty, slot }) => {
                let to = self.write(position, kind, ty, Fit::Exact)?;
                self.move_register(ty, slot, to, guard, at)
            }
            (None, Formal::Local { offset, ty: Some(ty), .. }) => {
                let to = self.write(position, kind, ty, Fit::Exact)?;
                self.copy(Op::Load(local(ty)), offset, to, guard, at)
            }
            (None, Formal::Local { .. }) => Err(position.must_be("a .param variable", kind.describe())),
        }
    }

    /// The `.param` variable that an argument names.
    fn call_site(&mut self, kind: &'a OperandKind<'a>) -> Option<usize> {
        let OperandKind::Name(name, 0) = *kind else { return None };
        match self.scopes.find(name) {
            Some(Entity::Memory(symbol)) => match symbol.home {
                Home::CallSite(site) => Some(site),
                _ => None,
            },
            _ => None,
        }
    }

    /// The variable lies where the parameter lies.
    fn share(&mut self, position: Position<'a>, site: usize, offset: u32, size: u64) -> Result<(), LoadError> {
        let site = &mut self.call_sites[site];
        if site.variable.size != Some(size) {
            let found = format!("`{}` of {} bytes", shorten(site.variable.name), site.variable.size.unwrap_or(0));
            return Err(position.must_be(format!("a .param variable of {size} bytes"), found));
        }
        if site.offset.is_some_and(|known| known != offset) {
            return Err(position.at.unsupported("a .param variable passed as two different parameters"));
        }
        site.offset = Some(offset);
        Ok(())
    }

    /// The offset of a variable that meets a parameter in a register.
    fn site_for_register(&mut self, position: Position<'a>, site: usize, ty: Type) -> Result<u32, LoadError> {
        let variable = self.call_sites[site].variable;
        let offset = match self.call_sites[site].offset {
            Some(offset) => offset,
            None => self.own_place(variable)?,
        };
        self.share(position, site, offset, u64::from(ty.bytes()))?;
        Ok(offset)
    }

    fn move_register(&mut self, ty: Type, from: Slot, to: Slot, guard: Guard, at: At) -> Result<(), LoadError> {
        let op = match file_of(ty) {
            Some(File::Pred) => Op::Pred(crate::isa::PredOp::Mov),
            _ => Op::Alu(Alu::Mov(ty)),
        };
        let mut inst = blank(op, guard);
        (inst.dst[0], inst.src[0]) = (to, from);
        self.emit(inst, at).map(drop)
    }

    /// A load from or store to a place in local memory.
    fn copy(&mut self, op: Op, offset: u32, register: Slot, guard: Guard, at: At) -> Result<(), LoadError> {
        let mut inst = blank(op, guard);
        inst.src[0] = self.builder.slots.constant(File::Word, u64::from(offset), at)?;
        inst.list = (self.builder.program.lists.len() as u32, 1);
        self.builder.program.lists.push(register);
        self.emit(inst, at).map(drop)
    }
}

/// A plain access to local memory.
const fn local(ty: Type) -> Access {
    Access { space: Space::Local, ty, vector: 1, order: Order::Weak, read_only: false }
}
