//! Pivoted QR: its tiers, batches, refusals, and what LAPACK found.

#[path = "../common/mod.rs"]
mod common;

mod batch;
mod errors;
mod gram;
mod lapack;
mod sketch;
mod tiers;
