//! A frozen layer with its components, every implementation against the f64 definition.

#[path = "../common/mod.rs"]
mod common;

mod bounds;
mod errors;
mod grad;
mod grad_errors;
mod grad_layer;
mod grad_problem;
mod problem;
mod shapes;
#[cfg(any(feature = "cuda", feature = "vm"))]
mod ways;
