//! The forward of a few tokens, whose columns are cut over blocks: `kernels/lowrank_decode.cu`.

use super::group::{Group, Module, Problem};
use super::layout::Layout;
use super::step::{HEAD, Scratch};
use crate::error::Result;
use crate::gpu::variants::{Family, lowrank, lowrank_decode as tile};
use crate::gpu::{Gpu, Grid, Kernel, blocks};
use crate::lowrank::{Desc, FORWARD};

/// Blocks of a launch: about as many as a device has multiprocessors.
const BLOCKS: usize = 128;
/// Tokens of a token group: a warp takes one at a time, so that more would take turns.
pub(super) const GROUPS: [usize; 4] = [1, 2, 4, 8];
/// Static shared memory of a block: whether it is the last one.
const STATIC: usize = 16;
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

/// How a launch is cut: no bit depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// Tokens of a token group.
    pub tokens: usize,
    /// Token groups of all modules.
    pub pairs: usize,
    /// Windows of columns of a slice.
    pub windows: usize,
    pub slices: usize,
}

impl Shares {
    /// Token groups of `tokens`, and slices of `windows`.
    pub fn of(problem: &Problem, modules: usize, tokens: usize, windows: usize) -> Self {
        let pairs = problem.tokens.div_ceil(tokens).saturating_mul(modules);
        Self { tokens, pairs, windows, slices: all_windows(problem).div_ceil(windows) }
    }

    /// Token groups of `tokens`, and slices of as few rounds of windows as [`BLOCKS`] allow.
    fn rounds(problem: &Problem, modules: usize, tokens: usize) -> Self {
        let pairs = problem.tokens.div_ceil(tokens).saturating_mul(modules);
        let round = lowrank::WARPS as usize;
        let rounds = all_windows(problem).div_ceil(round).div_ceil((BLOCKS / pairs.max(1)).max(1));
        Self::of(problem, modules, tokens, round * rounds)
    }

    /// The fewest tokens of a token group for which there are tickets and a warp has one window, else the most.
    ///
    /// Slices of fewer windows leave warps without any. Each warp takes as long as before, for it waits and does not compute;
    /// what shrinks is the bytes that a multiprocessor asks for, 16 KiB of B at `r/s` = 16, while every block gathers again.
    /// Only a measurement can tell, so they are candidates of the tuner and not the default.
    pub fn choose(problem: &Problem, modules: usize) -> Self {
        let all = GROUPS.map(|tokens| Self::rounds(problem, modules, tokens));
        let fits = |shares: &&Self| shares.pairs <= TICKETS && shares.windows == lowrank::WARPS as usize;
        *all.iter().find(fits).unwrap_or(&all[all.len() - 1])
    }

    /// Whether there are tickets for it.
    pub fn has_tickets(&self) -> bool {
        self.pairs <= TICKETS
    }

    /// The cuts that are worth a measurement: from slices that leave most warps idle to those of two windows a warp.
    pub fn candidates(problem: &Problem) -> impl Iterator<Item = Self> {
        let all = all_windows(problem);
        let windows = [2, 4, 8, 16].into_iter().filter(move |windows| *windows == 2 || windows / 2 < all);
        let tokens = GROUPS.into_iter().filter(|tokens| tokens / 2 < problem.tokens);
        tokens.flat_map(move |tokens| windows.clone().map(move |windows| Self::of(problem, 1, tokens, windows)))
    }

    /// Bytes of the slice's table of chosen columns, behind the rest of a block's shared memory.
    fn chosen_bytes(&self, desc: &Desc) -> usize {
        self.windows.saturating_mul(desc.split).saturating_mul(4)
    }

    /// A block's shared memory but for the table; `None` beyond `limit`.
    pub fn layout(&self, problem: &Problem, drops: bool, limit: usize) -> Option<Layout> {
        let left = limit.checked_sub(self.chosen_bytes(&problem.desc).saturating_add(STATIC))?;
        Layout::of(&problem.desc, problem.dtype.into(), drops, self.tokens, false, left).ok()
    }

    /// Bytes of a block's shared memory.
    pub fn shared(&self, problem: &Problem, layout: &Layout) -> u32 {
        layout.bytes(&problem.desc, problem.dtype.into()) + self.chosen_bytes(&problem.desc) as u32
    }
}

/// Windows of a sub-row.
pub(super) fn all_windows(problem: &Problem) -> usize {
    (problem.desc.rows / problem.desc.split).div_ceil(tile::window(problem.dtype.into()))
}

/// Whether this kernel serves so many modules of the problem.
pub(super) fn applies(problem: &Problem, modules: usize) -> bool {
    problem.tokens <= tile::MAX_TOKENS && (1..=lowrank::MODULES).contains(&modules)
}

/// Runs the forward in one launch, cut so, with tickets at the head of the scratch.
///
/// # Errors
/// Those of [`launch`](super::launch).
pub(super) fn launch<G: Gpu>(
    gpu: &G,
    problem: &Problem,
    modules: &[Module<'_>],
    scratch: &Scratch<'_>,
    shares: &Shares,
    layout: Layout,
) -> Result<()> {
    let Shares { pairs, windows, slices, .. } = *shares;
    let group = Group::of(problem, modules, layout, (pairs / modules.len()) as u32)?;
    // What is within the limits of shared memory and of a grid, 32 bits count.
    let cut = Cut {
        tickets: scratch.address,
        modules: modules.len() as u32,
        slices: slices as u32,
        windows: windows as u32,
        chosen: layout.bytes(&problem.desc, problem.dtype.into()),
    };
    let blocks = blocks(FORWARD, pairs.saturating_mul(slices))?;
    let grid = Grid { blocks, shared: shares.shared(problem, &layout) };
    let kernel = Kernel::of(FORWARD, Family::LowrankDecode, Some(problem.dtype), &tile::FORWARD)?;
    gpu.launch(&kernel, grid, &[], &mut [], bytemuck::bytes_of(&Decode { group, cut }))
}

#[cfg(all(test, feature = "vm"))]
mod tests;
