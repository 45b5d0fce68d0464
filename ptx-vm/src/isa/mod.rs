//! What the machine understands: PTX spellings on one side, typed operations on the other.
//!
//! `types` and `alu`/`op` are the vocabulary; `table` holds one row per spelling pattern and is the only place that knows a
//! modifier's name. The opcode table in the documentation is printed from it.

mod alu;
mod op;
pub(crate) mod table;
mod types;

pub use alu::*;
pub use op::*;
pub use table::{Decoded, Instruction, Operand, opcode_document, opcode_table};
pub use types::*;
