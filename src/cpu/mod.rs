//! The CPU backend: safe code on rayon, pulp and gemm. One file per operation, named as everywhere else.

pub(crate) mod cluster;
pub(crate) mod gemm;
pub(crate) mod interp;
pub(crate) mod lowrank;
pub(crate) mod norms;
pub(crate) mod qr;
pub(crate) mod shared_gemm;
