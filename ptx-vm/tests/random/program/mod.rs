//! Random small programs, and what they must compute.
//!
//! `generate` makes a `tree` from bytes; `print` writes it as PTX; `interpret` says what it must do, from the tree and with
//! plain Rust, so that it shares nothing with the machine under test: no parser, no decoder, no idea of warps and masks.
//! `launch` runs the text in the machine and compares every bit.

mod choices;
mod generate;
mod interpret;
mod launch;
mod operations;
mod print;
mod tree;

pub use choices::Numbers;
pub use generate::generate;
pub use interpret::{Memory, interpret};
pub use launch::check;
pub use print::print;
