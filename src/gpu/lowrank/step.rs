//! A step of a group of modules: which kernels run, and where in the scratch what passes between them lies.

use super::group::{Module, Problem};
use super::view::{View, ViewMut};
use super::way::Way;
use super::{BackwardModule, backward_bytes as bytes_of_group, down, launch_backward};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::variants::lowrank as tile;
use crate::lowrank::{BACKWARD, DownProjection, FORWARD};
use crate::tune::Chosen;
use std::marker::PhantomData;

/// Bytes at the head of a [`Scratch`] that are zero between steps: tickets of blocks that find out which one is the last.
pub(crate) const HEAD: usize = 256;
/// Every part of a scratch starts at a multiple of this many bytes.
pub(crate) const ALIGN: usize = 256;

/// Memory between the kernels of a step, which nobody else uses meanwhile: [`HEAD`] bytes of zeros, which a step leaves as
/// zeros, then what does not matter before or after.
#[derive(Debug)]
pub(crate) struct Scratch<'a> {
    pub address: u64,
    pub bytes: usize,
    memory: PhantomData<&'a mut ()>,
}

impl<'a> Scratch<'a> {
    /// What lies there, as long as the caller keeps it; `address` is a multiple of [`ALIGN`].
    pub fn at(address: u64, bytes: usize) -> Self {
        Self { address, bytes, memory: PhantomData }
    }

    /// Refuses a scratch that is too small.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn check(&self, op: &'static str, needed: usize) -> Result<()> {
        if self.bytes < needed {
            let (expected, found) = (format!("at least {needed} bytes"), format!("{} bytes", self.bytes));
            return Err(Error::shape(op, "workspace", expected, found));
        }
        Ok(())
    }
}

/// Bytes of scratch that [`forward`] needs for so many modules: those of its largest launch.
pub(crate) fn forward_bytes(problem: &Problem, modules: usize) -> usize {
    HEAD.saturating_add(x_bytes(problem).saturating_mul(modules.min(tile::MODULES)))
}

/// Bytes of an X that is not saved: of the explicit down-projection only.
fn x_bytes(problem: &Problem) -> usize {
    let Problem { desc, dtype, tokens } = problem;
    if desc.down == DownProjection::Gather {
        return 0;
    }
    let width = desc.components.saturating_mul(desc.rank);
    tokens.saturating_mul(width).saturating_mul(dtype.size()).checked_next_multiple_of(ALIGN).unwrap_or(usize::MAX)
}

/// Runs the forward of any number of modules, [`tile::MODULES`] at a time, in the ways that were chosen. Every launch uses the
/// scratch from its start: what the one before put there has been read when the next begins, for they are on one queue.
///
/// # Errors
/// Those of [`launch`](super::launch); [`Error::Shape`] for a scratch that is too small.
pub(crate) fn forward<G: Gpu>(
    gpu: &G,
    problem: &Problem,
    modules: &mut [Module<'_>],
    scratch: &Scratch<'_>,
    chosen: &Chosen,
) -> Result<()> {
    scratch.check(FORWARD, forward_bytes(problem, modules.len()))?;
    if problem.tokens == 0 {
        return Ok(());
    }
    modules.chunks_mut(tile::MODULES).try_for_each(|group| {
        if problem.desc.down == DownProjection::Gemm {
            project(gpu, problem, group, scratch, chosen)?;
        }
        Way::chosen(chosen, problem, group, gpu.shared_limit() as usize)?.launch(gpu, problem, group, scratch)
    })
}

/// Bytes of scratch that [`backward`] needs for so many modules: those of its largest group.
pub(crate) fn backward_bytes(problem: &Problem, modules: usize) -> usize {
    bytes_of_group(problem, modules.min(tile::MODULES))
}

/// Runs the backward of any number of modules, [`tile::MODULES`] at a time, as [`forward`]. There is nothing to choose: its cut
/// is the order of its sums, and another one would have other bits.
///
/// # Errors
/// Those of [`launch_backward`]; [`Error::Shape`] for a scratch that is too small.
pub(crate) fn backward<G: Gpu>(
    gpu: &G,
    problem: &Problem,
    modules: &[BackwardModule<'_>],
    scratch: &Scratch<'_>,
) -> Result<()> {
    scratch.check(BACKWARD, backward_bytes(problem, modules.len()))?;
    modules.chunks(tile::MODULES).try_for_each(|group| launch_backward(gpu, problem, group, scratch))
}

/// X of every module, where it is saved or else in the scratch, from which the forward then reads it.
fn project<G: Gpu>(
    gpu: &G,
    problem: &Problem,
    modules: &mut [Module<'_>],
    scratch: &Scratch<'_>,
    chosen: &Chosen,
) -> Result<()> {
    let width = problem.desc.components * problem.desc.rank;
    let mut products = Vec::with_capacity(modules.len());
    for (i, module) in modules.iter_mut().enumerate() {
        let missing = |operand| Error::operand(FORWARD, operand, "is missing; the problem reads it");
        let h = module.operands.h.ok_or_else(|| missing("h"))?;
        let w = module.operands.w.ok_or_else(|| missing("w"))?;
        let (address, ld) = match &module.saved {
            Some(saved) => (saved.x.address, saved.x.ld),
            None => (scratch.address + (HEAD + i * x_bytes(problem)) as u64, width),
        };
        module.given = Some(View::at(address, ld));
        products.push(down::Module { h, w, skeleton: module.operands.skeleton, x: ViewMut::at(address, ld) });
    }
    down::launch(gpu, problem, &products, chosen)
}
