//! `R` for known pivots on a device: `kernels/qr_solve.cu`.

use super::{Problem, State};
use crate::elem::Elem;
use crate::error::Result;
use crate::gpu::variants::{Family, qr_solve as tile};
use crate::gpu::{Gpu, Kernel, blocks};
use crate::qr::OP;

/// Who found the pivots, which decides what their factorisation must stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The Gram tier: it has checked every pivot against a wider bound, and promises norms to 2⁻¹¹ of themselves.
    Gram,
    /// Anything else: every pivot is checked here, for dependence on those before it and against the tolerance, and norms are
    /// as good as the exact tier's.
    Sketch,
}

/// `ProductShape` of `qr_solve.cu`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct ProductShape {
    cols: u64,
    count: u64,
    rank: u32,
    pivot_tiles: u32,
}

/// `SolveShape` of `qr_solve.cu`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct SolveShape {
    cols: u64,
    count: u64,
    rank: u32,
    from_gram: u32,
}

const _: () = assert!(size_of::<ProductShape>() == tile::SCALARS && size_of::<SolveShape>() == tile::SCALARS);

/// `RowTile` of `common/qr.cuh`: rows from `first` on of every group, `rows` at a time.
pub(super) fn row_tiles(indptr: &[usize], rows: usize) -> Vec<[u32; 2]> {
    let groups = indptr.windows(2).map(|g| g[1] - g[0]).enumerate();
    groups.flat_map(|(g, size)| (0..size).step_by(rows).map(move |first| [g as u32, first as u32])).collect()
}

/// `R` and the remaining norm of the groups whose pivots are given, which are those in [`Phase::Forced`](super::Phase::Forced).
/// They are [`Phase::Done`](super::Phase::Done) then, but for those where the products' rounding is too large: these are left
/// to the exact tier as they are, with the same pivots.
///
/// # Errors
/// What [`Gpu`] refuses.
pub(super) fn solve<G: Gpu, T: Elem>(
    gpu: &G,
    problem: &Problem<G>,
    state: &mut State<G>,
    origin: Origin,
) -> Result<()> {
    let (groups, count, rank) = (problem.groups(), problem.count(), problem.rank);
    if count == 0 || rank == 0 {
        return Ok(());
    }
    let kernel = |entry| Kernel::of(OP, Family::QrSolve, Some(T::DTYPE), entry);
    let (cols, rows, wide) = (problem.rows.cols as u64, count as u64, rank as u32);

    let tiles = row_tiles(&problem.indptr, tile::TILE as usize);
    let pivot_tiles = rank.div_ceil(tile::TILE as usize);
    let shape = ProductShape { cols, count: rows, rank: wide, pivot_tiles: pivot_tiles as u32 };
    let grid = blocks(OP, tiles.len().saturating_mul(pivot_tiles))?;
    let tiles = gpu.upload(OP, "tiles", &tiles)?;
    let inputs = &[&problem.rows.addresses, &problem.device_indptr, &state.phase, &state.reached, &state.jpvt, &tiles];
    gpu.launch(&kernel(&tile::PRODUCTS)?, grid.into(), inputs, &mut [&mut state.r], bytemuck::bytes_of(&shape))?;

    let mut order = gpu.allocate::<u32>(OP, "order", count)?;
    let workspace = groups.saturating_mul(tile::WARPS as usize).saturating_mul(rank);
    let mut coeffs = gpu.allocate::<f64>(OP, "coeffs", workspace)?;
    let shape = SolveShape { cols, count: rows, rank: wide, from_gram: u32::from(origin == Origin::Gram) };
    let inputs = &[&problem.rows.squares, &problem.device_indptr, &problem.device_limits, &state.reached, &state.jpvt];
    let outputs = &mut [&mut state.phase, &mut state.r, &mut order, &mut coeffs, &mut state.remaining];
    gpu.launch(&kernel(&tile::SOLVE)?, blocks(OP, groups)?.into(), inputs, outputs, bytemuck::bytes_of(&shape))
}

#[cfg(all(test, feature = "vm"))]
mod tests;
