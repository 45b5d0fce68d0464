//! The `idlora` binary, run as a person or a script runs it.

#[path = "../common/mod.rs"]
mod common;

mod apply;
mod bad_input;
mod devices;
mod export;
mod init;
mod kernels;
mod literal;
mod merge;
mod page;
mod plot;
mod report;
mod support;
mod tune;
