//! The backward on operands that lie on the device: `kernels/lowrank_grad.cu`. Allocates nothing and waits for nothing.

mod cut;
mod group;
#[cfg(all(test, feature = "vm"))]
mod tests;

use super::group::{Operands, Problem};
use super::step::{HEAD, Scratch};
use super::view::{View, ViewMut};
use crate::error::{Error, Result};
use crate::gpu::variants::{Entry, Family, lowrank_grad as tile};
use crate::gpu::{Gpu, Grid, Kernel, blocks};
use crate::lowrank::{BACKWARD, Desc};
use cut::Cut;
use group::{Group, all_mixed};

/// What the forward has left. Where every module of a group has `z [t, r]`, of f32, X is read once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Saved<'a> {
    pub x: View<'a>,
    pub gate: View<'a>,
    pub z: Option<View<'a>>,
}

/// `G`, and where `dX` goes.
#[derive(Debug)]
pub(crate) enum Input<'a> {
    Scatter(ViewMut<'a>),
    Separate { g: View<'a>, dx: ViewMut<'a> },
}

/// What is produced; where `accumulate`, `b` and `gate` are added to.
#[derive(Debug)]
pub(crate) struct Gradients<'a> {
    pub b: ViewMut<'a>,
    pub gate: ViewMut<'a>,
    pub h_gate: Option<ViewMut<'a>>,
    pub accumulate: bool,
}

/// One module's backward. Of the operands, `w` and `bias` are not read.
#[derive(Debug)]
pub(crate) struct BackwardModule<'a> {
    pub operands: Operands<'a>,
    pub saved: Saved<'a>,
    pub input: Input<'a>,
    pub gradients: Gradients<'a>,
}

/// Bytes of scratch that [`launch`] needs for so many modules, whether or not they have z.
pub(crate) fn bytes(problem: &Problem, modules: usize) -> usize {
    let [.., of_module] = Cut::of(&problem.desc, problem.tokens).parts(&problem.desc, problem.tokens);
    HEAD.saturating_add(of_module.saturating_mul(modules))
}

/// Runs the backward of up to [`tile::MODULES`] modules of one problem: products, tokens, the linear gate's sums and sums over
/// segments, each in one launch, after one for z unless it is there. What the views say and the problem needs is there; `t`
/// may be 0. The head of the scratch is neither read nor written.
///
/// # Errors
/// [`Error::Unsupported`] where a block's share of the problem does not fit in shared memory, for more columns or blocks than
/// 32 bits count, or more modules than a launch takes; [`Error::Operand`] for an operand that the problem reads and is not
/// there; [`Error::Shape`] for a scratch that is too small; what [`Gpu`] refuses.
pub(crate) fn launch<G: Gpu>(
    gpu: &G,
    problem: &Problem,
    modules: &[BackwardModule<'_>],
    scratch: &Scratch<'_>,
) -> Result<()> {
    if modules.len() > tile::MODULES {
        let reason = format!("{} modules; one launch takes at most {}", modules.len(), tile::MODULES);
        return Err(Error::unsupported(BACKWARD, reason));
    }
    if modules.is_empty() {
        return Ok(());
    }
    scratch.check(BACKWARD, bytes(problem, modules.len()))?;
    let cut = Cut::of(&problem.desc, problem.tokens);
    let mut group = Group::of(problem, &cut, modules, scratch.address + HEAD as u64)?;
    let entries = |(rows, cols): (usize, usize)| rows.saturating_mul(cols).div_ceil(tile::THREADS);
    let Desc { rows, cols, rank, components, split, gate, .. } = problem.desc;
    let of_b = entries((rows / split, rank / split));
    let of_gate = entries(gate.parameter_shape(rank, components, cols));
    let launches = per_token(problem, &cut, modules, gpu.shared_limit())?;
    let sums = of_module(of_b.saturating_add(of_gate), modules.len())?;

    let run = |entry, blocks: u32, shared, scalars: &[u8]| {
        let kernel = Kernel::of(BACKWARD, Family::LowrankGrad, Some(problem.dtype), entry)?;
        gpu.launch(&kernel, Grid { blocks: blocks * modules.len() as u32, shared }, &[], &mut [], scalars)
    };
    for Launch { entry, blocks, shared } in launches {
        run(entry, blocks, shared, group.scalars(blocks))?;
    }
    run(&tile::REDUCE, sums, 0, group.sums(of_b as u32, sums))
}

/// A launch over the modules of a group.
struct Launch {
    entry: &'static Entry,
    /// Of a module.
    blocks: u32,
    shared: u32,
}

/// Everything up to the sums over segments, in order; none of it without tokens.
fn per_token(problem: &Problem, cut: &Cut, modules: &[BackwardModule<'_>], shared_limit: u32) -> Result<Vec<Launch>> {
    let Problem { desc, dtype, tokens } = *problem;
    if tokens == 0 {
        return Ok(Vec::new());
    }
    let drops = modules.iter().any(|module| module.operands.dropout.is_some());
    let [of_premix, of_products, of_tokens] = fitting(&desc, cut.shared(&desc, dtype.into(), drops), shared_limit)?;
    let launch = |entry, count, shared| Ok(Launch { entry, blocks: of_module(count, modules.len())?, shared });
    let products = if cut.tile == tile::NARROW { &tile::NARROW_PRODUCTS } else { &tile::WIDE_PRODUCTS };
    let of_segment = cut.slices.saturating_mul(cut.depth_slices);
    let mut launches = Vec::with_capacity(4);
    if !all_mixed(modules) {
        launches.push(launch(&tile::PREMIX, tokens.div_ceil(tile::WARPS as usize), of_premix)?);
    }
    launches.push(launch(products, cut.segments.saturating_mul(of_segment), of_products)?);
    // G has been read: its columns S may change.
    launches.push(launch(&tile::TOKENS, cut.chunks, of_tokens)?);
    if desc.gate.reads_input() {
        let columns = desc.cols.div_ceil(tile::THREADS);
        launches.push(launch(&tile::LINEAR, cut.linear_chunks.saturating_mul(columns), 0)?);
    }
    Ok(launches)
}

/// Blocks of a module, if a launch can have them for all modules.
fn of_module(count: usize, modules: usize) -> Result<u32> {
    blocks(BACKWARD, count.saturating_mul(modules))?;
    Ok(count as u32) // fits, as the product does
}

/// Shared memory of the kernels, if the device has it.
fn fitting(desc: &Desc, bytes: [usize; 3], limit: u32) -> Result<[u32; 3]> {
    let needed = bytes.into_iter().max().unwrap_or(0);
    if needed > limit as usize {
        let Desc { rank, components, .. } = *desc;
        let reason = format!(
            "rank {rank} with {components} components needs {needed} bytes of shared memory a block, the device has {limit}"
        );
        return Err(Error::unsupported(BACKWARD, reason));
    }
    Ok(bytes.map(|bytes| bytes as u32))
}
