//! PTX text to programs.
//!
//! `lexer` → `parse` → [`tree`] → `lower` → one [`Program`] per kernel. The tree keeps names and spellings; `lower` resolves
//! scopes, decodes opcodes by [`crate::isa::table`], checks operands and lays out memory.

mod constant;
mod lexer;
mod limits;
mod lower;
mod parse;
mod tree;

use crate::error::LoadError;
use crate::program::{Program, Variable};

/// A loaded text.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// `.target`, as written: `sm_80`.
    pub target: String,
    /// `.version`
    pub version: (u32, u32),
    /// Every `.entry`, in order.
    pub kernels: Vec<Program>,
    /// `.global` and `.const` variables; `Special::Variable` indexes them.
    pub variables: Vec<Variable>,
}

/// Loads a PTX text: tokens, tree, then one program per kernel.
pub(crate) fn load(ptx: &str) -> Result<Loaded, LoadError> {
    let start = lexer::At { line: 1, column: 1 };
    limits::check("bytes of text", ptx.len() as u64, limits::TEXT_BYTES, start)?;
    lower::lower(parse::parse(ptx)?)
}
