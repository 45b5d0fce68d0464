//! The Gram tier on a device: `kernels/qr_gram.cu`.
//!
//! Groups go through in batches whose Gram matrices fit [`WORKSPACE`] together, one after another on the device's queue.

use super::solve::{Origin, solve};
use super::{NONE, Problem, State};
use crate::elem::{Dtype, Elem};
use crate::error::Result;
use crate::gpu::variants::{Family, qr_gram as tile};
use crate::gpu::{Gpu, Grid, Kernel, blocks};
use crate::qr::OP;
use std::ops::Range;

/// Elements of the Gram matrices of one batch, where one group alone does not take more.
const WORKSPACE: usize = 1 << 28;

/// `GramShape` of `qr_gram.cu`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct GramShape {
    cols: u64,
}

/// `CholeskyShape` of `qr_gram.cu`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct CholeskyShape {
    cols: u64,
    count: u64,
    rank: u32,
    first_group: u32,
}

/// `Scale` of `qr_gram.cu`: where a group's matrix lies, and its unit.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
struct Scale {
    offset: u64,
    unit: f64,
    load: f32,
    entry: f32,
}

const _: () = assert!(size_of::<GramShape>() == tile::GRAM.scalars && size_of::<Scale>() == tile::SCALE);
const _: () = assert!(size_of::<CholeskyShape>() == tile::CHOLESKY.scalars);

/// Exponents of units for which products of bfloat16 are formed as they are. Above, sums could overflow; below, what
/// underflows (2⁻¹²⁶ at most, where a tensor core keeps no subnormal numbers) would be more than 2⁻⁹⁴ of the unit's square.
const DIRECT: Range<i32> = -16..41;

impl Scale {
    /// For a group whose longest row has norm `largest`. The unit is the power of two above it, within what `f32` has.
    fn of(offset: usize, dtype: Dtype, largest: f64) -> Self {
        let exponent = if largest > 0.0 { (largest.to_bits() >> 52) as i32 - 1022 } else { 0 };
        let exponent = exponent.clamp(-120, 126);
        let (unit, offset) = (2.0f64.powi(-exponent), offset as u64);
        if dtype == Dtype::F16 || DIRECT.contains(&exponent) {
            Self { offset, unit, load: 1.0, entry: (unit * unit) as f32 }
        } else {
            Self { offset, unit, load: unit as f32, entry: 1.0 }
        }
    }
}

/// Floats between the rows of a group's matrix.
fn pitch(size: usize) -> usize {
    size.next_multiple_of(8)
}

/// Groups that go through together: as many as fit `workspace`, at least one.
fn batches(indptr: &[usize], workspace: usize) -> Vec<Range<usize>> {
    let mut batches: Vec<Range<usize>> = Vec::new();
    let mut filled = 0usize;
    for (g, group) in indptr.windows(2).enumerate() {
        let size = group[1] - group[0];
        let needs = size.saturating_mul(pitch(size));
        filled = filled.saturating_add(needs);
        match batches.last_mut() {
            Some(batch) if filled <= workspace => batch.end = g + 1,
            _ => {
                batches.push(g..g + 1);
                filled = needs;
            }
        }
    }
    batches
}

/// Pairs of blocks of rows on and below the diagonal, of groups of these sizes: `Tile` of `qr_gram.cu`.
fn tiles(indptr: &[usize], groups: Range<usize>) -> Vec<[u32; 3]> {
    let starts = |end: usize| (0..end).step_by(tile::BLOCK as usize).map(|start| start as u32);
    let of = |g: usize| {
        let tops = starts(indptr[g + 1] - indptr[g]);
        tops.flat_map(move |top| starts(top as usize + 1).map(move |left| [g as u32, top, left]))
    };
    groups.flat_map(of).collect()
}

/// Finds pivots by pivoted Cholesky on the Gram matrix of every group, as far as its rounding lets it decide, and finishes
/// the groups where it reached the end. Rows of `f32` have products that `f32` does not hold: their groups are handed over as
/// they are, and so are those of more pivots than a block's shared memory has room for.
pub(super) fn run<G: Gpu, T: Elem>(gpu: &G, problem: &Problem<G>, state: &mut State<G>) -> Result<()> {
    let room = tile::RING.max((problem.rank as u32).saturating_mul(12)).saturating_add(tile::STATIC);
    if T::DTYPE == Dtype::F32 || room > gpu.shared_limit() {
        let step = |limits: &super::Limits| if limits.rank > 0 && limits.largest > 0.0 { 0 } else { NONE };
        let handover: Vec<u32> = problem.limits.iter().map(step).collect();
        return gpu.write(OP, &mut state.handover, &handover);
    }
    pivots::<G, T>(gpu, problem, state, WORKSPACE)?;
    solve::<G, T>(gpu, problem, state, Origin::Gram)
}

/// Workspaces of the factorisation, of all groups.
struct Workspace<G: Gpu> {
    gram: G::Buffer,
    scales: G::Buffer,
    factor: G::Buffer,
    coeffs: G::Buffer,
    left: G::Buffer,
    norms: G::Buffer,
    spread: G::Buffer,
}

impl<G: Gpu> Workspace<G> {
    fn new(gpu: &G, problem: &Problem<G>, dtype: Dtype, batches: &[Range<usize>]) -> Result<Self> {
        let (count, rank) = (problem.count(), problem.rank);
        let (mut scales, mut longest) = (Vec::with_capacity(problem.groups()), 0);
        for batch in batches {
            let mut offset = 0usize;
            for g in batch.clone() {
                let size = problem.indptr[g + 1] - problem.indptr[g];
                scales.push(Scale::of(offset, dtype, problem.limits[g].largest));
                offset = offset.saturating_add(size.saturating_mul(pitch(size)));
            }
            longest = longest.max(offset);
        }
        Ok(Self {
            gram: gpu.allocate::<f32>(OP, "gram", longest)?,
            scales: gpu.upload(OP, "scales", &scales)?,
            factor: gpu.allocate::<f32>(OP, "factor", count.saturating_mul(rank))?,
            coeffs: gpu.allocate::<f32>(OP, "coeffs", count.saturating_mul(rank))?,
            left: gpu.allocate::<f64>(OP, "left", count)?,
            norms: gpu.allocate::<f32>(OP, "norms", count)?,
            spread: gpu.allocate::<f32>(OP, "spread", count)?,
        })
    }

    /// The Gram matrices of a batch.
    fn products(&mut self, gpu: &G, dtype: Dtype, problem: &Problem<G>, batch: Range<usize>) -> Result<()> {
        let tiles = tiles(&problem.indptr, batch);
        if tiles.is_empty() {
            return Ok(()); // groups without rows
        }
        let kernel = Kernel::of(OP, Family::QrGram, Some(dtype), &tile::GRAM)?;
        let grid = Grid { blocks: blocks(OP, tiles.len())?, shared: tile::RING };
        let shape = GramShape { cols: problem.rows.cols as u64 };
        let tiles = gpu.upload(OP, "tiles", &tiles)?;
        let inputs = &[&problem.rows.addresses, &problem.device_indptr, &self.scales, &tiles];
        gpu.launch(&kernel, grid, inputs, &mut [&mut self.gram], bytemuck::bytes_of(&shape))
    }

    /// Their pivots.
    fn cholesky(
        &mut self,
        gpu: &G,
        dtype: Dtype,
        problem: &Problem<G>,
        state: &mut State<G>,
        batch: Range<usize>,
    ) -> Result<()> {
        let kernel = Kernel::of(OP, Family::QrGram, Some(dtype), &tile::CHOLESKY)?;
        let (cols, count, rank) = (problem.rows.cols as u64, problem.count() as u64, problem.rank as u32);
        let shape = CholeskyShape { cols, count, rank, first_group: batch.start as u32 };
        let grid = Grid { blocks: blocks(OP, batch.len())?, shared: rank * 12 };
        let rows = &problem.rows;
        let inputs = &[&self.gram, &problem.device_indptr, &rows.squares, &problem.device_limits, &self.scales];
        let outputs = &mut [
            &mut state.jpvt,
            &mut state.reached,
            &mut state.phase,
            &mut state.handover,
            &mut self.factor,
            &mut self.coeffs,
            &mut self.left,
            &mut self.norms,
            &mut self.spread,
        ];
        gpu.launch(&kernel, grid, inputs, outputs, bytemuck::bytes_of(&shape))
    }
}

/// Pivots of every group: those that are decided to the end are [`Phase::Forced`](super::Phase::Forced) then.
fn pivots<G: Gpu, T: Elem>(gpu: &G, problem: &Problem<G>, state: &mut State<G>, workspace: usize) -> Result<()> {
    let batches = batches(&problem.indptr, workspace);
    let mut work = Workspace::new(gpu, problem, T::DTYPE, &batches)?;
    for batch in batches {
        work.products(gpu, T::DTYPE, problem, batch.clone())?;
        work.cholesky(gpu, T::DTYPE, problem, state, batch)?;
    }
    Ok(())
}

#[cfg(all(test, feature = "vm"))]
mod tests;
