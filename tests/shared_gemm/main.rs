//! A frozen layer with its components, every implementation against the f64 definition.

#[path = "../common/mod.rs"]
mod common;

mod bounds;
mod errors;
mod problem;
mod shapes;
