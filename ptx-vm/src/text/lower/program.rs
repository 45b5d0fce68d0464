//! One kernel with the functions that it reaches: layout of its memory, entries of its functions.

use super::Unit;
use super::body::Body;
use super::recursion::Call;
use super::scope::{Home, Symbol};
use super::slots::{Slots, file_of};
use super::variables::{external, size};
use crate::error::LoadError;
use crate::isa::{Space, Type};
use crate::program::{File, Inst, Parameter, Place, Program, Slot};
use crate::text::lexer::At;
use crate::text::limits;
use crate::text::tree::{Function, Param, ParamPlace};
use std::collections::HashMap;
use std::rc::Rc;

/// Memory that is given out from low to high.
pub(super) struct Region {
    what: &'static str,
    limit: u64,
    bytes: u64,
    symbols: Vec<(String, u32, u32)>,
}

impl Region {
    fn new(what: &'static str, limit: u64) -> Region {
        Region { what, limit, bytes: 0, symbols: Vec::new() }
    }

    /// The offset of a new variable.
    fn allocate(&mut self, name: &str, size: u64, align: u32, at: At) -> Result<u32, LoadError> {
        let offset = self.bytes.next_multiple_of(u64::from(align.max(1)));
        let end = offset.saturating_add(size);
        limits::check(self.what, end, self.limit, at)?;
        self.bytes = end;
        self.symbols.push((name.to_owned(), offset as u32, size as u32));
        Ok(offset as u32)
    }
}

/// A formal parameter or result of a function in a program.
#[derive(Clone, Copy)]
pub(super) enum Formal {
    Register {
        ty: Type,
        slot: Slot,
    },
    /// In local memory. `ty` is `None` for an array.
    Local {
        offset: u32,
        size: u64,
        ty: Option<Type>,
    },
}

/// A function in a program.
pub(super) struct Instance {
    /// Receives the return address.
    pub link: Slot,
    pub returns: Vec<Formal>,
    pub params: Vec<Formal>,
}

/// Makes one program.
pub(super) struct Builder<'u, 'a> {
    pub unit: &'u mut Unit<'a>,
    pub program: Program,
    pub slots: Slots,
    root: usize,
    shared: Region,
    local: Region,
    /// Of the dynamic shared arrays in use; 1 for none.
    dynamic_align: u32,
    /// Shared and local variables of the module that this program uses.
    module_symbols: HashMap<usize, Symbol>,
    instances: HashMap<usize, Rc<Instance>>,
    /// Functions in the order in which calls were met; their entries, once they are lowered.
    order: Vec<usize>,
    entries: HashMap<usize, u32>,
    /// Call instructions and whom they call.
    calls: Vec<(u32, usize)>,
}

impl<'u, 'a> Builder<'u, 'a> {
    pub fn new(unit: &'u mut Unit<'a>, root: usize) -> Builder<'u, 'a> {
        Builder {
            unit,
            program: Program::default(),
            slots: Slots::new(),
            root,
            shared: Region::new("bytes of static shared memory", limits::SHARED_BYTES),
            local: Region::new("bytes of local memory", limits::LOCAL_BYTES),
            dynamic_align: 1,
            module_symbols: HashMap::new(),
            instances: HashMap::new(),
            order: Vec::new(),
            entries: HashMap::new(),
            calls: Vec::new(),
        }
    }

    /// Lowers the root and, if the program is wanted whole, every function that it reaches.
    pub fn build(mut self, whole: bool) -> Result<Program, LoadError> {
        let root = self.unit.function(self.root);
        self.program.name = root.name.to_owned();
        self.program.threads = root.threads;
        if root.kernel {
            self.kernel_parameters(root)?;
            self.lower(self.root)?;
        } else {
            self.instance(self.root)?;
        }
        let mut next = 0;
        while let Some(&function) = self.order.get(next) {
            if !whole && next > 0 {
                break;
            }
            self.lower(function)?;
            next += 1;
        }
        for (pc, callee) in &self.calls {
            // Missing only where the program is not wanted whole.
            self.program.code[*pc as usize].imm = self.entries.get(callee).map_or(0, |entry| i64::from(*entry));
        }
        self.finish(root.at)
    }

    fn lower(&mut self, function: usize) -> Result<(), LoadError> {
        self.unit.lowered[function] = true;
        self.entries.insert(function, self.program.code.len() as u32);
        Body::new(self, function).lower()
    }

    fn finish(mut self, at: At) -> Result<Program, LoadError> {
        let program = &mut self.program;
        program.shared_bytes = self.shared.bytes as u32;
        let dynamic = self.shared.bytes.next_multiple_of(u64::from(self.dynamic_align));
        limits::check(self.shared.what, dynamic, limits::SHARED_BYTES, at)?;
        program.dynamic_offset = dynamic as u32;
        program.shared_symbols = self.shared.symbols;
        program.local_bytes = self.local.bytes as u32;
        program.local_symbols = self.local.symbols;
        self.slots.finish(program, dynamic as u32);
        Ok(self.program)
    }

    /// In order, each at its alignment, as in a C struct.
    fn kernel_parameters(&mut self, kernel: &Function<'a>) -> Result<(), LoadError> {
        let mut region = Region::new("bytes of kernel parameters", limits::PARAMETER_BYTES);
        for param in &kernel.params {
            let ParamPlace::Memory { size, align, array } = param.place else {
                return Err(param.at.syntax("a parameter in .param", "a register"));
            };
            let offset = region.allocate(param.name, size, align, param.at)?;
            let ty = (!array).then_some(param.ty);
            let (name, size) = (param.name.to_owned(), size as u32);
            self.program.parameters.push(Parameter { name, offset, size, align, ty });
        }
        self.program.parameter_bytes = region.bytes as u32;
        Ok(())
    }

    /// The function in this program; lowered later if this is its first use.
    pub fn instance(&mut self, index: usize) -> Result<Rc<Instance>, LoadError> {
        if let Some(instance) = self.instances.get(&index) {
            return Ok(instance.clone());
        }
        let function = self.unit.function(index);
        let link = self.slots.register(File::Word, function.at)?;
        let returns = self.formals(&function.returns)?;
        let params = self.formals(&function.params)?;
        let instance = Rc::new(Instance { link, returns, params });
        self.instances.insert(index, instance.clone());
        self.order.push(index);
        Ok(instance)
    }

    fn formals(&mut self, params: &[Param<'a>]) -> Result<Vec<Formal>, LoadError> {
        let mut formals = Vec::new();
        for param in params {
            formals.push(match param.place {
                ParamPlace::Register => {
                    let file = file_of(param.ty).ok_or_else(|| param.at.unsupported("registers of 128 bits"))?;
                    Formal::Register { ty: param.ty, slot: self.slots.register(file, param.at)? }
                }
                ParamPlace::Memory { size, align, array } => {
                    let offset = self.allocate_local(param.name, size, align, param.at)?;
                    Formal::Local { offset, size, ty: (!array).then_some(param.ty) }
                }
            });
        }
        Ok(formals)
    }

    pub fn allocate_local(&mut self, name: &str, size: u64, align: u32, at: At) -> Result<u32, LoadError> {
        self.unit.spend(1 + name.len() as u64 / 16, at)?;
        self.local.allocate(name, size, align, at)
    }

    pub fn allocate_shared(&mut self, name: &str, size: u64, align: u32, at: At) -> Result<u32, LoadError> {
        self.unit.spend(1 + name.len() as u64 / 16, at)?;
        self.shared.allocate(name, size, align, at)
    }

    /// A `.shared` or `.local` variable of the module, given its place when a program first uses it.
    pub fn module_symbol(&mut self, index: usize, at: At) -> Result<Symbol, LoadError> {
        if let Some(symbol) = self.module_symbols.get(&index) {
            return Ok(*symbol);
        }
        let module = self.unit.module;
        let variable = &module.variables[index];
        let home = match (variable.space, variable.external, variable.size) {
            (Space::Shared, true, None | Some(0)) => {
                self.dynamic_align = self.dynamic_align.max(variable.align);
                Home::Dynamic
            }
            (_, true, _) => return Err(external(at, variable.name)),
            (Space::Shared, ..) => {
                let offset = self.allocate_shared(variable.name, size(variable)?, variable.align, variable.at)?;
                Home::Fixed(Space::Shared, offset)
            }
            _ => {
                let offset = self.allocate_local(variable.name, size(variable)?, variable.align, variable.at)?;
                Home::Fixed(Space::Local, offset)
            }
        };
        let symbol = Symbol { space: variable.space, home };
        self.module_symbols.insert(index, symbol);
        Ok(symbol)
    }

    /// Where a function begins that is lowered or being lowered.
    pub fn entry(&self, function: usize) -> u32 {
        self.entries.get(&function).copied().unwrap_or(0)
    }

    /// Appends an instruction; the answer is where it is.
    pub fn push(&mut self, inst: Inst, place: Place, at: At) -> Result<u32, LoadError> {
        let pc = self.program.code.len() as u64;
        limits::check("instructions of a program", pc + 1, limits::INSTRUCTIONS, at)?;
        self.unit.spend(1, at)?;
        self.program.code.push(inst);
        self.program.places.push(place);
        Ok(pc as u32)
    }

    /// Notes that the instruction at `pc` calls a function.
    pub fn note_call(&mut self, pc: u32, caller: usize, callee: usize, at: At) {
        self.calls.push((pc, callee));
        self.unit.calls.push(Call { caller, callee, at });
    }
}
