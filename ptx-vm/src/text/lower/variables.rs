//! Variables of the module: sizes, initial values, addresses in them.

use super::Global;
use crate::error::{LoadError, LoadErrorKind};
use crate::isa::Space;
use crate::program;
use crate::text::lexer::shorten;
use crate::text::limits;
use crate::text::tree::{Module, Pointer, Variable};
use std::collections::HashMap;

/// The `.global` and `.const` variables that the module defines, in order.
pub(super) fn variables(
    module: &Module<'_>,
    globals: &HashMap<&str, Global>,
) -> Result<Vec<program::Variable>, LoadError> {
    let mut all = Vec::new();
    let mut total = 0u64;
    for variable in module.variables.iter().filter(|v| matches!(v.space, Space::Global | Space::Const)) {
        if variable.external {
            continue;
        }
        let size = size(variable)?;
        // Rounded up, so that a million empty variables count too.
        total = total.saturating_add(size.next_multiple_of(16).max(16));
        limits::check("bytes of variables", total, limits::VARIABLE_BYTES, variable.at)?;
        let pointers = variable.initial.pointers.iter().map(|pointer| resolve(pointer, globals));
        all.push(program::Variable {
            name: variable.name.to_owned(),
            constant: variable.space == Space::Const,
            size,
            align: variable.align,
            init: variable.initial.bytes.clone(),
            pointers: pointers.collect::<Result<_, _>>()?,
        });
    }
    Ok(all)
}

/// The size, which every variable but dynamic shared memory must have.
pub(super) fn size(variable: &Variable<'_>) -> Result<u64, LoadError> {
    variable.size.ok_or_else(|| variable.at.syntax("a size", format!("`{}[]`", shorten(variable.name))))
}

fn resolve(pointer: &Pointer<'_>, globals: &HashMap<&str, Global>) -> Result<(u64, u32, i64), LoadError> {
    match globals.get(pointer.name) {
        Some(Global::Variable(index, _)) => Ok((pointer.offset, *index, pointer.addend)),
        Some(Global::Function(_)) => Err(pointer.at.unsupported("addresses of functions")),
        Some(Global::PerProgram(_)) => Err(pointer.at.unsupported("addresses of shared or local memory in variables")),
        Some(Global::External) => Err(external(pointer.at, pointer.name)),
        None => Err(pointer.at.error(LoadErrorKind::UnknownName(shorten(pointer.name)))),
    }
}

/// The error for something that is declared but defined nowhere.
pub(super) fn external(at: crate::text::lexer::At, name: &str) -> LoadError {
    at.unsupported(format!("`{}` is external and this text does not define it", shorten(name)))
}
