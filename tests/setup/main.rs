//! The other steps of setting an adapter up: norms, interpolation, selection, and a real weight through all of them.

#[path = "../common/mod.rs"]
mod common;

mod interp;
mod minilm;
mod norms;
mod select;
