//! The statements of a function: scopes, labels, declarations, places.

use super::program::{Builder, Formal};
use super::scope::{Entity, Home, Scopes, Symbol};
use super::slots::none;
use super::variables::size;
use crate::error::{LoadError, LoadErrorKind};
use crate::isa::{Op, Space};
use crate::program::{File, Guard, Inst, Place, Slot};
use crate::text::lexer::{At, shorten};
use crate::text::tree::{Block, Function, Statement, Variable};

/// A `.param` variable of a function's body: an argument or result of a call.
pub(super) struct CallSite<'a> {
    pub variable: &'a Variable<'a>,
    /// Where it is, once a call has said so.
    pub offset: Option<u32>,
    /// Instructions whose immediate is an offset into it.
    pub uses: Vec<u32>,
}

/// Where the address of a label goes.
pub(super) enum Jump {
    Immediate(u32),
    Target(usize),
}

/// Lowers the body of one function into a program.
pub(super) struct Body<'b, 'u, 'a> {
    pub builder: &'b mut Builder<'u, 'a>,
    pub index: usize,
    pub function: &'a Function<'a>,
    /// Holds the return address; none in a kernel.
    pub link: Slot,
    pub scopes: Scopes<'a>,
    pub call_sites: Vec<CallSite<'a>>,
    labels: Vec<Option<u32>>,
    jumps: Vec<(Jump, usize)>,
    /// File and line of the CUDA source that `.loc` named last.
    source: (u32, u32),
}

impl<'b, 'u, 'a> Body<'b, 'u, 'a> {
    pub fn new(builder: &'b mut Builder<'u, 'a>, index: usize) -> Body<'b, 'u, 'a> {
        let function = builder.unit.function(index);
        Body {
            builder,
            index,
            function,
            link: Slot::NONE,
            scopes: Scopes::default(),
            call_sites: Vec::new(),
            labels: Vec::new(),
            jumps: Vec::new(),
            source: (0, 0),
        }
    }

    pub fn lower(mut self) -> Result<(), LoadError> {
        let function = self.function;
        let Some(body) = &function.body else {
            return Err(super::variables::external(function.at, function.name));
        };
        self.scopes.open();
        self.parameters()?;
        self.labels_of(body)?;
        self.statements(body)?;
        self.close(body.end)?;
        for (jump, label) in std::mem::take(&mut self.jumps) {
            let target = self.labels[label].unwrap_or_default();
            match jump {
                Jump::Immediate(pc) => self.builder.program.code[pc as usize].imm = i64::from(target),
                Jump::Target(index) => self.builder.program.targets[index] = target,
            }
        }
        self.place_call_sites()
    }

    fn parameters(&mut self) -> Result<(), LoadError> {
        let function = self.function;
        if function.kernel {
            for (index, param) in function.params.iter().enumerate() {
                let offset = self.builder.program.parameters[index].offset;
                let symbol = Symbol { space: Space::Param, home: Home::Fixed(Space::Param, offset) };
                self.scopes.declare(param.at, param.name, Entity::Memory(symbol))?;
            }
            return Ok(());
        }
        let instance = self.builder.instance(self.index)?;
        self.link = instance.link;
        let names = function.returns.iter().chain(&function.params);
        for (param, formal) in names.zip(instance.returns.iter().chain(&instance.params)) {
            let entity = match *formal {
                Formal::Register { ty, slot } => Entity::Register(ty, Some(slot)),
                Formal::Local { offset, .. } => {
                    Entity::Memory(Symbol { space: Space::Param, home: Home::Fixed(Space::Local, offset) })
                }
            };
            self.scopes.declare(param.at, param.name, entity)?;
        }
        Ok(())
    }

    /// Declares the labels of a block: jumps may go forward, but not into a block.
    fn labels_of(&mut self, block: &'a Block<'a>) -> Result<(), LoadError> {
        for statement in &block.statements {
            match statement {
                Statement::Label(at, name) => {
                    self.scopes.declare(*at, name, Entity::Label(self.labels.len()))?;
                    self.labels.push(None);
                }
                Statement::Targets(at, name, targets) => self.scopes.declare(*at, name, Entity::Targets(targets))?,
                _ => {}
            }
        }
        Ok(())
    }

    fn statements(&mut self, block: &'a Block<'a>) -> Result<(), LoadError> {
        for statement in &block.statements {
            self.builder.unit.spend(1, block.end)?;
            match statement {
                Statement::Block(inner) => {
                    self.scopes.open();
                    self.labels_of(inner)?;
                    self.statements(inner)?;
                    self.scopes.close();
                }
                Statement::Label(at, name) => self.define_label(*at, name)?,
                Statement::Targets(..) => {}
                Statement::Registers(registers) => match registers.count {
                    Some(count) => self.scopes.declare_range(registers.at, registers.name, registers.ty, count)?,
                    None => self.scopes.declare(registers.at, registers.name, Entity::Register(registers.ty, None))?,
                },
                Statement::Variable(variable) => self.variable(variable)?,
                // Line 0 is code that the compiler made up: it belongs to the line before.
                Statement::Loc(_, 0) => {}
                Statement::Loc(file, line) => self.source = (*file, *line),
                Statement::Instruction(instruction) => self.instruction(instruction)?,
            }
        }
        Ok(())
    }

    fn define_label(&mut self, at: At, name: &'a str) -> Result<(), LoadError> {
        let here = self.builder.program.code.len() as u32;
        match self.scopes.find(name) {
            Some(Entity::Label(label)) => self.labels[*label] = Some(here),
            _ => return Err(at.error(LoadErrorKind::UnknownName(shorten(name)))),
        }
        Ok(())
    }

    fn variable(&mut self, variable: &'a Variable<'a>) -> Result<(), LoadError> {
        let bytes = size(variable)?;
        let home = match variable.space {
            Space::Shared => {
                let offset = self.builder.allocate_shared(variable.name, bytes, variable.align, variable.at)?;
                Home::Fixed(Space::Shared, offset)
            }
            Space::Local => {
                let offset = self.builder.allocate_local(variable.name, bytes, variable.align, variable.at)?;
                Home::Fixed(Space::Local, offset)
            }
            _ => {
                self.call_sites.push(CallSite { variable, offset: None, uses: Vec::new() });
                Home::CallSite(self.call_sites.len() - 1)
            }
        };
        let symbol = Symbol { space: variable.space, home };
        self.scopes.declare(variable.at, variable.name, Entity::Memory(symbol))
    }

    /// Ends the function where its text does not: execution never falls into the next one.
    fn close(&mut self, at: At) -> Result<(), LoadError> {
        let end = self.builder.program.code.len() as u32;
        let jumped_to = self.labels.contains(&Some(end));
        let last = self.builder.program.code.last().filter(|_| self.emitted());
        let leaves = last
            .is_some_and(|inst| inst.guard == Guard::ALWAYS && matches!(inst.op, Op::Exit | Op::Return | Op::Branch));
        if jumped_to || !leaves {
            let inst = self.leave(Guard::ALWAYS);
            self.emit(inst, at)?;
        }
        Ok(())
    }

    /// Has this function any instruction yet?
    fn emitted(&self) -> bool {
        self.builder.entry(self.index) < self.builder.program.code.len() as u32
    }

    /// Gives a place to call-site variables that no call names, and patches the accesses of all.
    fn place_call_sites(&mut self) -> Result<(), LoadError> {
        for site in std::mem::take(&mut self.call_sites) {
            if site.uses.is_empty() {
                continue;
            }
            let offset = match site.offset {
                Some(offset) => offset,
                None => self.own_place(site.variable)?,
            };
            for pc in site.uses {
                let imm = &mut self.builder.program.code[pc as usize].imm;
                *imm = imm.wrapping_add(i64::from(offset));
            }
        }
        Ok(())
    }

    /// Local memory for a call-site variable that shares none with a parameter.
    pub fn own_place(&mut self, variable: &Variable<'a>) -> Result<u32, LoadError> {
        self.builder.allocate_local(variable.name, size(variable)?, variable.align, variable.at)
    }

    /// `ret`: a kernel's is an `exit`.
    pub fn leave(&self, guard: Guard) -> Inst {
        let op = if self.function.kernel { Op::Exit } else { Op::Return };
        Inst { src: [self.link, Slot::NONE, Slot::NONE, Slot::NONE], ..blank(op, guard) }
    }

    /// Appends an instruction at the current place.
    pub fn emit(&mut self, inst: Inst, at: At) -> Result<u32, LoadError> {
        let (file, line) = self.source;
        self.builder.push(inst, Place { file, line, ptx_line: at.line }, at)
    }

    /// The address of a label goes there when all are known.
    pub fn jump(&mut self, at: At, name: &'a str, jump: Jump) -> Result<(), LoadError> {
        match self.scopes.find(name) {
            Some(Entity::Label(label)) => {
                self.jumps.push((jump, *label));
                Ok(())
            }
            Some(_) => Err(at.syntax("a label", format!("`{}`", shorten(name)))),
            None => Err(at.error(LoadErrorKind::UnknownName(shorten(name)))),
        }
    }

    /// The carry flag, a register like any other.
    pub fn carry(&mut self, at: At) -> Result<(), LoadError> {
        if self.builder.program.carry == 0 {
            self.builder.program.carry = self.builder.slots.register(File::Pred, at)?.index;
        }
        Ok(())
    }
}

/// An instruction without operands.
pub(super) const fn blank(op: Op, guard: Guard) -> Inst {
    let (dst, src) = ([none(File::Word); 2], [Slot::NONE; 4]);
    Inst { op, guard, negated: 0, dst, src, imm: 0, list: (0, 0) }
}
