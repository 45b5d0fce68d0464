//! What a text may ask for: a hostile module ends in an error, not in gigabytes or hours.

use super::lexer::At;
use crate::error::{LoadError, LoadErrorKind};

/// Bytes of text. The tree is at most some thirty times as large.
pub(super) const TEXT_BYTES: u64 = 16 << 20;
/// Braces and parentheses inside each other; every recursion of the loader goes down one of these.
pub(super) const NESTING: u64 = 100;
/// Statements of a module.
pub(super) const STATEMENTS: u64 = 1 << 20;
/// Operands of one instruction, elements of one operand, parameters of one function.
pub(super) const LIST: u64 = 4096;
/// The highest number that `.file` may give.
pub(super) const FILES: u64 = 1 << 16;
/// Initial values of all variables, in bytes.
pub(super) const INITIAL_BYTES: u64 = 64 << 20;
/// Memory of all `.global` and `.const` variables.
pub(super) const VARIABLE_BYTES: u64 = 1 << 30;
/// Alignment of a variable.
pub(super) const ALIGNMENT: u64 = 1 << 16;
/// Parameters of a kernel, in bytes: what a driver takes since CUDA 12.1.
pub(super) const PARAMETER_BYTES: u64 = 32_764;
/// Static shared memory of a block: what the largest GPU has.
pub(super) const SHARED_BYTES: u64 = 228 << 10;
/// Local memory of a thread, as on a GPU.
pub(super) const LOCAL_BYTES: u64 = 512 << 10;
/// `.maxntid`, `.reqntid`
pub(super) const THREADS: u64 = 1024;
/// Slots of one register file that a kernel and its functions use: a slot's index has 16 bits.
pub(super) const SLOTS: u64 = u16::MAX as u64;
/// Instructions of one program.
pub(super) const INSTRUCTIONS: u64 = 1 << 20;
/// Statements, jump targets and list elements of all programs of a module. Functions appear once in every kernel that
/// reaches them, so this bounds what a small text can expand to.
pub(super) const EXPANDED: u64 = 4 << 20;

/// An error if `found` is above `limit`.
pub(super) fn check(what: &'static str, found: u64, limit: u64, at: At) -> Result<(), LoadError> {
    if found > limit { Err(at.error(LoadErrorKind::Limit { what, found, limit })) } else { Ok(()) }
}
