//! Counters against values that a reader can compute in the head: the comments say how.

mod classes;
#[path = "../common/mod.rs"]
mod common;
mod global;
mod measure;
mod report;
mod shared;
mod tensor;
