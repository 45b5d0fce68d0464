//! The explicit down-projection `X = H · W[S]ᵀ` on operands that lie on the device: `kernels/lowrank_down.cu`.

use super::group::Problem;
use super::view::{View, ViewMut};
use crate::error::{Error, Result};
use crate::gpu::variants::Family;
use crate::gpu::variants::lowrank_down::{MODULES, SCALARS, TILES, Tile};
use crate::gpu::{Gpu, Grid, Kernel, blocks};
use crate::lowrank::FORWARD;
use crate::tune::{Chosen, Config};

/// One module's product.
#[derive(Debug)]
pub(crate) struct Module<'a> {
    /// `[t, n]`.
    pub h: View<'a>,
    /// `[m, n]`, of which the chosen rows are read, by index.
    pub w: View<'a>,
    /// `[k·r]` of u32.
    pub skeleton: View<'a>,
    /// `[t, k·r]`, written.
    pub x: ViewMut<'a>,
}

/// `Module` of `lowrank_down.cu`.
#[repr(C)]
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
struct Row {
    h: u64,
    w: u64,
    skeleton: u64,
    x: u64,
    ld_h: u64,
    ld_w: u64,
    ld_x: u64,
}

const _: () = assert!(size_of::<Row>() == 56);

/// `Shape` of `lowrank_down.cu`.
#[repr(C)]
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
struct Shape {
    tokens: u64,
    cols: u64,
    width: u32,
    blocks: u32,
    across: u32,
    unused: u32,
}

const _: () = assert!(size_of::<Shape>() == 32);

/// `Group` of `lowrank_down.cu`: the scalars of a launch.
#[repr(C)]
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
struct Group {
    shape: Shape,
    modules: [Row; MODULES],
}

const _: () = assert!(size_of::<Group>() == SCALARS);

/// Multiprocessors that tiles are chosen for, an H100's. On others the choice is less good, and the bits are the same.
const MULTIPROCESSORS: usize = 132;

/// The tile of which the busiest multiprocessor reads the fewest rows: its blocks, each with its rows of H and of W. The larger
/// one of two equals, for it reads less in all.
pub(super) fn choose(problem: &Problem, modules: usize) -> &'static Tile {
    let width = problem.desc.components.saturating_mul(problem.desc.rank);
    let rows = |tile: &&Tile| {
        let (down, across) = (problem.tokens.div_ceil(tile.tokens), width.div_ceil(tile.columns));
        let blocks = down.saturating_mul(across).saturating_mul(modules);
        blocks.div_ceil(MULTIPROCESSORS).saturating_mul(tile.tokens + tile.columns)
    };
    TILES.iter().rev().min_by_key(rows).unwrap_or(&TILES[0])
}

/// Runs the products of up to `MODULES` modules in one launch, with the tile that was chosen.
///
/// # Errors
/// [`Error::Unsupported`] for more columns or blocks than 32 bits count, or more modules than a launch takes; what [`Gpu`]
/// refuses.
pub(super) fn launch<G: Gpu>(gpu: &G, problem: &Problem, modules: &[Module<'_>], chosen: &Chosen) -> Result<()> {
    let found = chosen.find(problem.dtype, problem.tokens, tile_of);
    launch_tile(gpu, problem, modules, found.unwrap_or_else(|| choose(problem, modules.len())))
}

/// A configuration's tile; `None` for one of another kernel, or that there is not.
pub(super) fn tile_of(config: &Config) -> Option<&'static Tile> {
    let Config::LowrankDown { tokens, columns } = *config else { return None };
    TILES.iter().find(|tile| (tile.tokens, tile.columns) == (tokens as usize, columns as usize))
}

pub(super) fn launch_tile<G: Gpu>(
    gpu: &G,
    problem: &Problem,
    modules: &[Module<'_>],
    tile: &'static Tile,
) -> Result<()> {
    if modules.len() > MODULES {
        let reason = format!("{} modules; one launch takes at most {MODULES}", modules.len());
        return Err(Error::unsupported(FORWARD, reason));
    }
    if problem.tokens == 0 || modules.is_empty() {
        return Ok(());
    }
    let width = problem.desc.components.saturating_mul(problem.desc.rank);
    let columns = u32::try_from(width).map_err(|_| {
        Error::unsupported(FORWARD, format!("{width} columns of the down-projection are more than {}", u32::MAX))
    })?;
    let across = width.div_ceil(tile.columns);
    let of_module = problem.tokens.div_ceil(tile.tokens).saturating_mul(across);
    let grid = Grid { blocks: blocks(FORWARD, of_module.saturating_mul(modules.len()))?, shared: tile.shared };
    let shape = Shape {
        tokens: problem.tokens as u64,
        cols: problem.desc.cols as u64,
        width: columns,
        blocks: of_module as u32, // fits, as the product does
        across: across as u32,    // no more than that
        unused: 0,
    };
    let mut group = Group { shape, ..Group::default() };
    for (row, Module { h, w, skeleton, x }) in group.modules.iter_mut().zip(modules) {
        *row = Row {
            h: h.address,
            w: w.address,
            skeleton: skeleton.address,
            x: x.address,
            ld_h: h.ld as u64,
            ld_w: w.ld as u64,
            ld_x: x.ld as u64,
        };
    }
    let kernel = Kernel::of(FORWARD, Family::LowrankDown, Some(problem.dtype), &tile.entry)?;
    gpu.launch(&kernel, grid, &[], &mut [], bytemuck::bytes_of(&group))
}

#[cfg(all(test, feature = "vm"))]
mod tests;
