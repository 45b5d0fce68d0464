//! The adapter's forward, backward and merging, every implementation against the f64 definition.

#[path = "../common/mod.rs"]
mod common;

mod decode_kernels;
mod down_kernels;
mod errors;
mod forward;
mod grad;
mod grad_kernels;
mod kernels;
mod merge;
