//! Runs NVIDIA PTX on the CPU, with a sanitizer's checks and a profiler's counters.

#![allow(dead_code)] // the machine that executes all this comes next

pub(crate) mod alu;
pub mod isa;

pub use alu::mma::Accumulation;
