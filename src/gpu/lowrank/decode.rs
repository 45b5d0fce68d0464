//! The forward of a few tokens, whose columns are cut over blocks: `kernels/lowrank_decode.cu`.

use super::group::{Group, Module, Problem};
use super::layout::Layout;
use super::step::{HEAD, Scratch};
use crate::error::Result;
use crate::gpu::variants::{Element, Family, lowrank, lowrank_decode as tile};
use crate::gpu::{Gpu, Grid, Kernel, blocks};
use crate::lowrank::FORWARD;

/// Blocks of a launch: about as many as a device has multiprocessors.
const BLOCKS: usize = 128;
/// Tokens of a token group: a warp takes one at a time, so that more would take turns.
const GROUPS: [usize; 4] = [1, 2, 4, 8];
/// Tickets at the head of a scratch.
const TICKETS: usize = HEAD / 4;

/// What `Decode` of `kernels/common/decode.cuh` has besides the group.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Cut {
    tickets: u64,
    modules: u32,
    slices: u32,
    windows: u32,
    chosen: u32,
}

/// `Decode`: the scalars of the launch.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Decode {
    group: Group,
    cut: Cut,
}

const _: () = assert!(size_of::<Decode>() == tile::SCALARS);

/// How a launch is cut: by the problem alone, and no bit depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shares {
    /// Tokens of a token group.
    tokens: usize,
    /// Token groups of all modules.
    pairs: usize,
    /// Windows of columns of a slice.
    windows: usize,
    slices: usize,
}

impl Shares {
    /// Token groups of `tokens`, and slices of as few rounds of windows as [`BLOCKS`] allow.
    fn of(problem: &Problem, modules: usize, tokens: usize) -> Self {
        let pairs = problem.tokens.div_ceil(tokens).saturating_mul(modules);
        let windows = (problem.desc.rows / problem.desc.split).div_ceil(tile::window(problem.dtype.into()));
        let round = lowrank::WARPS as usize;
        let rounds = windows.div_ceil(round).div_ceil((BLOCKS / pairs.max(1)).max(1));
        Self { tokens, pairs, windows: round * rounds, slices: windows.div_ceil(round * rounds) }
    }

    /// The fewest tokens of a token group for which there are tickets and a warp has one window, else the most.
    fn choose(problem: &Problem, modules: usize) -> Self {
        let all = GROUPS.map(|tokens| Self::of(problem, modules, tokens));
        let fits = |shares: &&Self| shares.pairs <= TICKETS && shares.windows == lowrank::WARPS as usize;
        *all.iter().find(fits).unwrap_or(&all[all.len() - 1])
    }
}

/// Whether this kernel serves the problem: by the problem alone, never by the device.
pub(super) fn applies(problem: &Problem, modules: &[Module<'_>]) -> bool {
    problem.tokens <= tile::MAX_TOKENS && (1..=lowrank::MODULES).contains(&modules.len())
}

/// Runs the forward in one launch, with tickets at the head of the scratch. Where a block's share does not fit in shared
/// memory, the kernel for many tokens runs instead; no bit depends on which.
///
/// # Errors
/// Those of [`launch`](super::launch).
pub(super) fn launch<G: Gpu>(gpu: &G, problem: &Problem, modules: &[Module<'_>], scratch: &Scratch<'_>) -> Result<()> {
    if problem.tokens == 0 {
        return Ok(());
    }
    run(gpu, problem, modules, scratch, Shares::choose(problem, modules.len()))
}

fn run<G: Gpu>(
    gpu: &G,
    problem: &Problem,
    modules: &[Module<'_>],
    scratch: &Scratch<'_>,
    shares: Shares,
) -> Result<()> {
    let Shares { tokens, pairs, windows, slices } = shares;
    let (desc, element) = (&problem.desc, Element::from(problem.dtype));
    let drops = modules.iter().any(|module| module.operands.dropout.is_some());
    let chosen = windows.saturating_mul(desc.split).saturating_mul(4);
    let left = (gpu.shared_limit() as usize).checked_sub(chosen);
    let Some(layout) = left.and_then(|left| Layout::streaming(desc, element, drops, tokens, left)) else {
        return super::launch(gpu, problem, modules);
    };
    let end = layout.bytes(desc, element);
    let group = Group::of(problem, modules, layout, (pairs / modules.len()) as u32)?;
    // What is within the limits of shared memory and of a grid, 32 bits count.
    let cut = Cut {
        tickets: scratch.address,
        modules: modules.len() as u32,
        slices: slices as u32,
        windows: windows as u32,
        chosen: end,
    };
    let grid = Grid { blocks: blocks(FORWARD, pairs.saturating_mul(slices))?, shared: end + chosen as u32 };
    let kernel = Kernel::of(FORWARD, Family::LowrankDecode, Some(problem.dtype), &tile::FORWARD)?;
    gpu.launch(&kernel, grid, &[], &mut [], bytemuck::bytes_of(&Decode { group, cut }))
}

#[cfg(all(test, feature = "vm"))]
mod tests;
