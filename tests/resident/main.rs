//! The adapter on operands that lie on a device: the host's bits, groups, errors, what a step asks the device for, graphs.
#![cfg(any(feature = "cuda", feature = "vm"))]

#[path = "../common/mod.rs"]
mod common;

mod backward;
mod buffers;
#[cfg(feature = "cuda")]
mod capture;
mod errors;
mod forward;
#[cfg(feature = "vm")]
mod lean;
mod module;
mod shared_gemm;
mod shared_gemm_grad;
