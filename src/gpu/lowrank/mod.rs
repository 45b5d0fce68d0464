//! The adapter on a device: `kernels/lowrank.cu`, `kernels/lowrank_grad.cu`,
//! `kernels/lowrank_merge.cu`.
//!
//! Two layers. [`launch`] takes operands that lie on the device, allocates nothing and waits for nothing: where a trainer's
//! own buffers enter. [`forward`] takes host memory there and back.

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
mod view;

pub(crate) use backward::{
    BackwardModule, Gradients, Input, Saved, bytes as backward_bytes, launch as launch_backward,
};
pub(crate) use backward_host::backward;
pub(crate) use forward::forward;
pub(crate) use group::{Module, Operands, Problem, SavedMut};
pub(crate) use merge::{merge, unmerge};
pub(crate) use view::{View, ViewMut};

use super::variants::{Element, Family, lowrank as tile};
use super::{Gpu, Kernel, blocks};
use crate::error::{Error, Result};
use crate::lowrank::FORWARD;
use group::Group;
use layout::Layout;

/// Runs the forward of up to [`tile::MODULES`] modules of one problem in one launch. What the views say and the problem needs
/// is there; `t` may be 0.
///
/// # Errors
/// [`Error::Unsupported`] where a block's share of the problem does not fit in shared memory, for more columns or blocks than
/// 32 bits count, or more modules than a launch takes; [`Error::Operand`] for an operand that the problem reads and is not
/// there; what [`Gpu`] refuses.
pub(crate) fn launch<G: Gpu>(gpu: &G, problem: &Problem, modules: &[Module<'_>]) -> Result<()> {
    let (desc, element) = (&problem.desc, Element::from(problem.dtype));
    if modules.len() > tile::MODULES {
        let reason = format!("{} modules; one launch takes at most {}", modules.len(), tile::MODULES);
        return Err(Error::unsupported(FORWARD, reason));
    }
    if problem.tokens == 0 || modules.is_empty() {
        return Ok(());
    }
    let drops = modules.iter().any(|module| module.operands.dropout.is_some());
    let layout = Layout::choose(desc, element, drops, gpu.shared_limit() as usize)?;
    let of_module = problem.tokens.div_ceil(layout.tokens());
    let grid = super::Grid {
        blocks: blocks(FORWARD, of_module.saturating_mul(modules.len()))?,
        shared: layout.bytes(desc, element),
    };
    let group = Group::of(problem, modules, layout, of_module as u32)?; // fits, as the product does
    let kernel = Kernel::of(FORWARD, Family::Lowrank, Some(problem.dtype), &tile::FORWARD)?;
    gpu.launch(&kernel, grid, &[], &mut [], bytemuck::bytes_of(&group))
}
