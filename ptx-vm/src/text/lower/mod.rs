//! The tree to programs.

mod address;
mod body;
mod call;
mod instruction;
mod mov;
mod operand;
mod program;
mod recursion;
mod scope;
mod slots;
mod special;
mod variables;

#[cfg(test)]
mod tests;

use super::Loaded;
use super::lexer::{At, shorten};
use super::limits;
use super::tree::{Function, Module};
use crate::error::{LoadError, LoadErrorKind};
use crate::isa::Space;
use crate::isa::table::{self, Decoded, Lookup};
use program::Builder;
use recursion::Call;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// Lowers every kernel, and every other function once, so that their errors show too.
pub(super) fn lower(module: Module<'_>) -> Result<Loaded, LoadError> {
    let globals = globals(&module)?;
    let variables = variables::variables(&module, &globals)?;
    let files = Arc::new(module.files.clone());
    let mut unit = Unit {
        module: &module,
        globals,
        decoded: HashMap::new(),
        expanded: 0,
        calls: Vec::new(),
        lowered: vec![false; module.functions.len()],
    };
    let mut kernels = Vec::new();
    for (index, function) in module.functions.iter().enumerate() {
        if function.kernel && function.body.is_some() {
            let mut program = Builder::new(&mut unit, index).build(true)?;
            program.files = files.clone();
            kernels.push(program);
        }
    }
    for (index, function) in module.functions.iter().enumerate() {
        if function.body.is_some() && !unit.lowered[index] {
            Builder::new(&mut unit, index).build(false)?;
        }
    }
    recursion::refuse(&unit.calls, &module.functions)?;
    let (target, version) = (module.target.clone(), module.version);
    Ok(Loaded { target, version, kernels, variables })
}

/// What a name of the module means.
#[derive(Clone, Copy)]
enum Global {
    /// A `.global` or `.const` variable, by its index in the module's list of those.
    Variable(u32, Space),
    /// A `.shared` or `.local` variable, by its index in the tree.
    PerProgram(usize),
    /// Declared `.extern` and defined nowhere.
    External,
    /// By its index in the tree: its definition, if there is one.
    Function(usize),
}

/// What the programs of a module share while they are made.
struct Unit<'a> {
    module: &'a Module<'a>,
    globals: HashMap<&'a str, Global>,
    decoded: HashMap<&'a str, Rc<Decoded>>,
    /// See [`limits::EXPANDED`].
    expanded: u64,
    calls: Vec<Call>,
    /// Functions whose bodies have been lowered.
    lowered: Vec<bool>,
}

impl<'a> Unit<'a> {
    /// The function of that index.
    fn function(&self, index: usize) -> &'a Function<'a> {
        &self.module.functions[index]
    }

    /// Counts work and memory against the limit of the module.
    fn spend(&mut self, amount: u64, at: At) -> Result<(), LoadError> {
        self.expanded += amount;
        limits::check("statements of all kernels with their functions", self.expanded, limits::EXPANDED, at)
    }

    /// What a spelling means.
    fn decode(&mut self, spelling: &'a str, at: At) -> Result<Rc<Decoded>, LoadError> {
        if let Some(decoded) = self.decoded.get(spelling) {
            return Ok(decoded.clone());
        }
        let kind = match table::decode(spelling) {
            Lookup::Found(decoded) => {
                let decoded = Rc::new(decoded);
                self.decoded.insert(spelling, decoded.clone());
                return Ok(decoded);
            }
            Lookup::UnknownOpcode => LoadErrorKind::UnknownOpcode(shorten(spelling)),
            Lookup::UnknownModifiers => LoadErrorKind::UnknownModifiers(shorten(spelling)),
        };
        Err(at.error(kind))
    }
}

/// The names of a module. A definition goes before declarations of the same name; two definitions are an error.
fn globals<'a>(module: &Module<'a>) -> Result<HashMap<&'a str, Global>, LoadError> {
    let mut globals: HashMap<&'a str, (Global, bool)> = HashMap::new();
    let mut add = |at: At, name: &'a str, global: Global, defines: bool| match globals.get_mut(name) {
        Some((_, true)) if defines => Err(at.error(LoadErrorKind::Redeclared(shorten(name)))),
        Some((known, defined)) => {
            if defines {
                (*known, *defined) = (global, true);
            }
            Ok(())
        }
        None => {
            globals.insert(name, (global, defines));
            Ok(())
        }
    };
    let mut device = 0;
    for (index, variable) in module.variables.iter().enumerate() {
        let global = match variable.space {
            Space::Shared | Space::Local => Global::PerProgram(index),
            _ if variable.external => Global::External,
            space => {
                device += 1;
                Global::Variable(device - 1, space)
            }
        };
        add(variable.at, variable.name, global, !variable.external)?;
    }
    for (index, function) in module.functions.iter().enumerate() {
        add(function.at, function.name, Global::Function(index), function.body.is_some())?;
    }
    Ok(globals.into_iter().map(|(name, (global, _))| (name, global)).collect())
}
