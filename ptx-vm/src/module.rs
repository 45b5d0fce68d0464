//! A loaded PTX text and its kernels.

use crate::error::{LaunchError, LoadError};
use crate::program::{Program, Variable};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A loaded PTX text.
#[derive(Clone, Debug)]
pub struct Module {
    pub(crate) id: u64,
    target: String,
    version: (u32, u32),
    kernels: Vec<Arc<Program>>,
    pub(crate) variables: Arc<Vec<Variable>>,
}

/// A kernel of a module.
#[derive(Clone, Debug)]
pub struct Kernel {
    pub(crate) module: u64,
    pub(crate) program: Arc<Program>,
    pub(crate) variables: Arc<Vec<Variable>>,
}

impl Module {
    /// Decodes a PTX text. Every kernel and function is decoded here, so a launch meets no unknown instruction.
    ///
    /// # Errors
    ///
    /// [`LoadError`] with line and column for text that is not PTX, for opcodes and modifiers outside
    /// [`isa::opcode_table`](crate::isa::opcode_table), and for modules beyond the machine's limits.
    pub fn load(ptx: &str) -> Result<Module, LoadError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let loaded = crate::text::load(ptx)?;
        Ok(Module {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            target: loaded.target,
            version: loaded.version,
            kernels: loaded.kernels.into_iter().map(Arc::new).collect(),
            variables: Arc::new(loaded.variables),
        })
    }

    /// The kernel of that (mangled) name.
    ///
    /// # Errors
    ///
    /// [`LaunchError::UnknownKernel`].
    pub fn kernel(&self, name: &str) -> Result<Kernel, LaunchError> {
        let program = self.kernels.iter().find(|program| program.name == name);
        let program = program.ok_or_else(|| LaunchError::UnknownKernel(name.to_owned()))?;
        Ok(Kernel { module: self.id, program: program.clone(), variables: self.variables.clone() })
    }

    /// Names of all kernels, in the order of the text.
    pub fn kernels(&self) -> impl Iterator<Item = &str> {
        self.kernels.iter().map(|program| program.name.as_str())
    }

    /// `.target`, such as `sm_80`.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// `.version`, such as (9, 0).
    pub fn version(&self) -> (u32, u32) {
        self.version
    }
}

impl Kernel {
    /// The kernel's (mangled) name.
    pub fn name(&self) -> &str {
        &self.program.name
    }

    /// Name and size in bytes of every parameter, in order.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, u32)> {
        self.program.parameters.iter().map(|parameter| (parameter.name.as_str(), parameter.size))
    }

    /// Bytes of static shared memory of a block.
    pub fn shared_bytes(&self) -> u32 {
        self.program.shared_bytes
    }

    /// Bytes of local memory (stack, arrays) of a thread.
    pub fn local_bytes(&self) -> u32 {
        self.program.local_bytes
    }

    /// Instructions, called functions included.
    pub fn instructions(&self) -> usize {
        self.program.code.len()
    }
}
