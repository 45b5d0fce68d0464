//! Lanes, warps, blocks: who executes what, and when.
//!
//! `grid` keeps some blocks resident and gives them turns; `block` gives turns to its warps and runs its barriers; `warp`
//! executes groups of lanes; `vector` has the pure operations, `step` memory and jumps, `collective` what lanes do together.

mod barrier;
mod block;
mod collective;
mod grid;
mod groups;
mod perturb;
mod random;
mod registers;
mod special;
mod step;
mod vector;
mod warp;

pub(crate) use grid::run;
