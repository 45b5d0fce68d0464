//! ID-LoRA adapters (arXiv 2602.20727) from pretrained weights: choose rows, adapt, train, merge.
//!
//! A linear layer `y = W h + b`, `W [m, n]`, gets an update whose frozen factors are rows of `W` itself. The rows are
//! grouped in `k` clusters, `r` rows `S_i` of each are kept by number, and one small matrix `B [m/s, r/s]` is trained for
//! all of them, with a gate that weighs the clusters for every token:
//!
//! ```text
//! y = W h + b + κ (I_s ⊗ B) Σ_i a_i x_i,      x_i = W[S_i] h
//! ```
//!
//! Three identities make it cheap, and every implementation is tested against them:
//!
//! 1. `x_i = (W h)[S_i]`: the down-projection is a gather of the base output, which the layer computes anyway.
//! 2. `Σ_i a_i (I_s⊗B) x_i = (I_s⊗B) Σ_i a_i x_i`: mixed first, the up-projection does not grow with `k`.
//! 3. `(I_s⊗B) z` for a batch is one product of a reshaped `z` with `Bᵀ`.
//!
//! # Where to start
//!
//! * [`adapter::IdLora`] is what a trainer holds: made from a view of `W`, run forward and backward on the trainer's own
//!   buffers, stepped by any optimiser.
//! * On a device, the modules `resident` and `lowrank::resident` (features `cuda` and `vm`) run it on the trainer's own device memory
//!   and stream: planned once, then launches alone, which a CUDA graph can capture.
//! * [`format`](mod@format) reads checkpoints and keeps adapters in files.
//! * [`norms`], [`cluster`], [`qr`], [`interp`], [`select`] and [`lowrank`] are the operations it is made of, each usable
//!   on its own: a `Desc` says what the problem is, a `Plan` has checked it, `run` does it.
//! * [`reference`](mod@reference) defines each of them in `f64`, as plainly as the formula.
//!
//! # What holds everywhere
//!
//! * Matrices are row-major [views](mat) with a leading dimension; weights are `[out, in]`.
//! * Elements are `f32`, `f16` or `bf16` ([`Elem`]); trained parameters and their gradients are `f32`.
//! * Bad input is an [`Error`] that names the operand, what was expected and what was found. Numerical outcomes (rank
//!   reached, iterations, repaired clusters) are returned beside the result.
//! * The same input and seed give the same bits, whatever the number of threads. The CPU backend runs on the current
//!   rayon pool.
//!
//! The command line `idlora` (feature `cli`) is a thin layer over this crate.

pub mod adapter;
#[cfg(feature = "candle")]
pub mod candle;
pub mod cluster;
mod cpu;
pub mod device;
pub mod elem;
mod error;
pub mod format;
#[cfg(feature = "kernels")]
// `kernels` alone has images and no device.
#[cfg_attr(not(any(feature = "cuda", feature = "vm")), allow(dead_code, unused_imports))]
mod gpu;
pub mod interp;
#[cfg(feature = "kernels")]
pub mod kernels;
pub mod lowrank;
pub mod mat;
pub mod models;
pub mod norms;
pub mod qr;
mod random;
pub mod reference;
#[cfg(any(feature = "cuda", feature = "vm"))]
pub mod resident;
pub mod select;
pub mod shared_gemm;
#[cfg(feature = "kernels")]
#[cfg_attr(not(any(feature = "cuda", feature = "vm")), allow(dead_code, unused_imports))]
pub mod tune;

pub use device::Device;
pub use elem::{Dtype, Elem, bf16, f16};
pub use error::{Error, Result};
#[cfg(feature = "cuda")]
pub use gpu::cuda;
#[cfg(feature = "kernels")]
pub use gpu::model;
#[cfg(feature = "vm")]
pub use gpu::vm;
pub use mat::{Mat, MatMut, MatRef};

/// The README's example, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The recipes for trainers, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../docs/trainers.md")]
struct Trainers;
