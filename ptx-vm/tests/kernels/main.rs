//! CUDA kernels of every kind, compiled by NVRTC and held to plain Rust. All of them are correct CUDA: each runs with
//! every check on, in order and in three random orders, must give the same bits and must leave no finding.

#[path = "../common/mod.rs"]
mod common;

mod atomics;
mod calls;
mod double;
mod gemm;
mod grid;
mod math;
mod params;
mod philox;
mod reduce;
mod scan;
mod shared;
mod sort;
mod targets;
mod tensor;
mod variables;
