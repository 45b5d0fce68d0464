//! The definitions in f64, as plain as the formula: what every implementation is held to. Slow on purpose.

pub mod cluster;
pub mod interp;
pub mod lowrank;
pub mod norms;
pub mod qr;
pub mod shared_gemm;
