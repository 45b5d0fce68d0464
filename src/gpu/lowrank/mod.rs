//! The adapter on a device: `kernels/lowrank.cu`, `kernels/lowrank_grad.cu`,
//! `kernels/lowrank_merge.cu`.
//!
//! Two layers. [`step`] takes operands that lie on the device, allocates nothing there and waits for nothing: where a trainer's
//! own buffers enter. [`forward`] takes host memory there and back. [`way`] is what the forward's launches leave open, [`tuned`]
//! what a tuner is told of it.

mod backward;
mod backward_host;
mod decode;
mod down;
mod forward;
mod group;
mod layout;
mod merge;
pub(crate) mod step;
#[cfg(all(test, feature = "vm"))]
mod tests;
pub(crate) mod tuned;
mod view;
mod way;

pub(crate) use backward::{
    BackwardModule, Gradients, Input, Saved, bytes as backward_bytes, launch as launch_backward,
};
pub(crate) use backward_host::backward;
pub(crate) use forward::{Round, back, forward};
pub(crate) use group::{Module, Operands, Problem, SavedMut};
pub(crate) use merge::{merge, unmerge};
pub(crate) use view::{View, ViewMut};

use super::variants::{Family, lowrank as tile};
use super::{Gpu, Kernel, blocks};
use crate::error::Result;
use crate::lowrank::FORWARD;
use group::Group;
use layout::Layout;

/// Runs the forward of 1 to [`tile::MODULES`] modules of one problem in one launch, blocks laid out so. What the views say and the
/// problem needs is there; `t` is at least 1.
///
/// # Errors
/// [`Error::Unsupported`](crate::Error::Unsupported) for more columns or blocks than 32 bits count, or more modules than a launch takes;
/// [`Error::Operand`](crate::Error::Operand) for an operand that the problem reads and is not there; what [`Gpu`] refuses.
fn launch<G: Gpu>(gpu: &G, problem: &Problem, modules: &[Module<'_>], layout: Layout) -> Result<()> {
    let of_module = problem.tokens.div_ceil(layout.tokens());
    let grid = super::Grid {
        blocks: blocks(FORWARD, of_module.saturating_mul(modules.len()))?,
        shared: layout.bytes(&problem.desc, problem.dtype.into()),
    };
    let group = Group::of(problem, modules, layout, of_module as u32)?; // fits, as the product does
    let kernel = Kernel::of(FORWARD, Family::Lowrank, Some(problem.dtype), &tile::FORWARD)?;
    gpu.launch(&kernel, grid, &[], &mut [], bytemuck::bytes_of(&group))
}

/// Whether a module of the group has dropout.
fn drops(modules: &[Module<'_>]) -> bool {
    modules.iter().any(|module| module.operands.dropout.is_some())
}
