//! Variables of modules, each an allocation of its own in every memory that the module is used with.

use super::{Buffer, Memory};
use crate::error::MemoryError;
use crate::module::{Kernel, Module};
use crate::program::Variable;
use std::marker::PhantomData;

impl Memory {
    /// A variable of a module (`__device__`, `__constant__`) as a buffer of bytes; created with its initial value at the
    /// first use of the module with this memory.
    pub fn variable(&mut self, module: &Module, name: &str) -> Result<Buffer<u8>, MemoryError> {
        let Some(index) = module.variables.iter().position(|v| v.name == name) else {
            return Err(MemoryError::UnknownVariable(name.to_owned()));
        };
        let id = self.instances(module.id, &module.variables)?[index];
        let len = self.find(id, self.id)?.bytes.len();
        Ok(Buffer { id, memory: self.id, len, element: PhantomData })
    }

    /// Addresses of all variables of the kernel's module, in order, creating them at the first use.
    pub(crate) fn instantiate(&mut self, kernel: &Kernel) -> Result<Vec<u64>, MemoryError> {
        let ids = self.instances(kernel.module, &kernel.variables)?;
        ids.into_iter().map(|id| Ok(self.find(id, self.id)?.base)).collect()
    }

    /// Buffer ids of a module's variables.
    pub(super) fn instances(&mut self, module: u64, variables: &[Variable]) -> Result<Vec<u32>, MemoryError> {
        if let Some(ids) = self.modules.get(&module) {
            return Ok(ids.clone());
        }
        let first = self.allocations.len();
        match self.create(variables) {
            Ok(ids) => {
                self.modules.insert(module, ids.clone());
                Ok(ids)
            }
            Err(error) => {
                // All or nothing: what was created before the one that failed would never be found again.
                for allocation in self.allocations.drain(first..) {
                    self.total -= allocation.bytes.len() as u64;
                }
                Err(error)
            }
        }
    }

    fn create(&mut self, variables: &[Variable]) -> Result<Vec<u32>, MemoryError> {
        let first = self.allocations.len();
        let mut ids = Vec::with_capacity(variables.len());
        for variable in variables {
            ids.push(self.reserve(variable.size, variable.align)?);
        }
        let bases: Vec<u64> = self.allocations[first..].iter().map(|a| a.base).collect();
        for (allocation, variable) in self.allocations[first..].iter_mut().zip(variables) {
            allocation.name.clone_from(&variable.name);
            allocation.constant = variable.constant;
            allocation.overwrite(&initial_value(variable, &bases));
        }
        Ok(ids)
    }
}

/// A variable's bytes, zero where it has no initial value. Whatever does not fit inside it is dropped.
fn initial_value(variable: &Variable, bases: &[u64]) -> Vec<u8> {
    let mut bytes = vec![0; variable.size as usize];
    let given = variable.init.len().min(bytes.len());
    bytes[..given].copy_from_slice(&variable.init[..given]);
    for &(offset, target, addend) in &variable.pointers {
        let Some(base) = bases.get(target as usize) else { continue };
        let range = usize::try_from(offset).ok().and_then(|start| Some(start..start.checked_add(8)?));
        if let Some(place) = range.and_then(|range| bytes.get_mut(range)) {
            place.copy_from_slice(&base.wrapping_add_signed(addend).to_le_bytes());
        }
    }
    bytes
}
