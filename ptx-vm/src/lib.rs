#![doc = include_str!("../README.md")]

pub(crate) mod alu;
mod bus;
mod check;
mod count;
mod error;
mod exec;
pub mod isa;
mod launch;
mod memory;
mod module;
mod program;
mod text;

pub use alu::mma::Accumulation;
pub use check::{Checks, Finding, FindingKind, SourceLine};
pub use count::{Counters, LineCount, Moved, SharedTraffic, Traffic};
pub use error::{LaunchError, LoadError, LoadErrorKind, MemoryError};
pub use launch::{Arg, Launch, Outcome, Schedule};
pub use memory::{Buffer, Memory, Slice};
pub use module::{Kernel, Module};
