//! The sketch tier on a device: `kernels/qr_sketch.cu`.
//!
//! The sketch `Y` is a small matrix of rows in `f32`, so the exact tier takes its pivots, by the same kernel. They are then the
//! given pivots of the rows themselves. Nothing is read back on the way.

use super::solve::{self, Origin};
use super::{Limits, Problem, State, exact};
use crate::elem::{Dtype, Elem};
use crate::error::Result;
use crate::gpu::rows::Rows;
use crate::gpu::variants::{Entry, Family, qr_sketch as tile};
use crate::gpu::{Gpu, Grid, Kernel, blocks};
use crate::mat;
use crate::qr::{Desc, OP};
use crate::random::{Stream, Use};

/// `Tile` of `qr_sketch.cu`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Tile {
    omega: u64,
    scale: f64,
    first: u32,
    rows: u32,
}

/// `Shape` of `qr_sketch.cu`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Shape {
    cols: u64,
    width: u32,
    column_tiles: u32,
}

/// `Batch` of `qr_sketch.cu`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Batch {
    count: u64,
    groups: u32,
    rank: u32,
}

const _: () = assert!(
    size_of::<Tile>() == tile::TILE && size_of::<Shape>() == tile::SCALARS && size_of::<Batch>() == tile::SCALARS
);

/// Takes the pivots of a seeded sketch of every group's rows, and finishes the groups as far as [`solve::solve`] can. Where
/// the sketch has nothing but rounding left before the last pivot, the exact tier goes on from there by the greedy rule.
pub(super) fn run<G: Gpu, T: Elem>(
    gpu: &G,
    desc: &Desc,
    oversampling: usize,
    problem: &Problem<G>,
    state: &mut State<G>,
) -> Result<()> {
    if problem.count() == 0 || problem.rank == 0 {
        return Ok(());
    }
    let small = small(gpu, problem, sketched::<G, T>(gpu, desc.seed, oversampling, problem)?)?;
    let mut found = State::new(gpu, &small)?;
    exact::run::<G, f32>(gpu, &small, &mut found)?;
    let kernel = Kernel::of(OP, Family::QrSketch, Some(T::DTYPE), &tile::PIVOTS)?;
    let State { reached, jpvt, r, .. } = &found;
    let inputs = &[&small.rows.squares, &small.device_indptr, &problem.device_limits, reached, jpvt, r];
    let outputs = &mut [&mut state.phase, &mut state.reached, &mut state.jpvt];
    let grid = blocks(OP, problem.groups().div_ceil(tile::WARPS as usize))?;
    let batch = Batch { count: problem.count() as u64, groups: problem.groups() as u32, rank: problem.rank as u32 };
    gpu.launch(&kernel, grid.into(), inputs, outputs, bytemuck::bytes_of(&batch))?;
    solve::solve::<G, T>(gpu, problem, state, Origin::Sketch)
}

/// The problem of finding the pivots of the sketch. A row of it is about `√columns` times as long as what it is the sketch of,
/// and has nothing but rounding left where that has; [`tile::PIVOTS`] judges the pivots more strictly.
fn small<G: Gpu>(gpu: &G, problem: &Problem<G>, sketch: Sketch<G>) -> Result<Problem<G>> {
    let small = |limits: &Limits| {
        let scale = inverse_power(limits.largest) * (sketch.columns as f64).sqrt();
        let (rounding, largest) = (limits.rounding * scale, limits.largest * scale);
        Limits { tolerance: rounding, rounding, largest, rank: limits.rank }
    };
    let limits: Vec<Limits> = problem.limits.iter().map(small).collect();
    let narrow: Vec<u32> = problem.indptr.iter().map(|&end| end as u32).collect();
    Ok(Problem {
        device_indptr: gpu.upload(OP, "indptr", &narrow)?,
        device_limits: gpu.upload(OP, "limits", &limits)?,
        rows: Rows::resident(gpu, OP, Dtype::F32, sketch.y, (problem.count(), sketch.columns, sketch.ld))?,
        indptr: problem.indptr.clone(),
        limits,
        rank: problem.rank,
    })
}

/// How a sketch is cut into blocks.
struct Cut {
    entry: &'static Entry,
    /// Rows and columns of a block.
    rows: usize,
    columns: usize,
    /// Elements of a row in shared memory at a time.
    chunk: usize,
    /// Floats of a row of `y`: the sketch's columns, in whole warps'.
    width: usize,
}

impl Cut {
    fn of(columns: usize) -> Self {
        let warps = tile::WARPS as usize;
        let (narrow, wide) = (tile::NARROW as usize, tile::WIDE as usize);
        if columns <= warps * narrow {
            let (entry, width) = (&tile::SKETCH_NARROW, columns.next_multiple_of(narrow));
            Self { entry, rows: 64, columns: warps * narrow, chunk: tile::NARROW_CHUNK as usize, width }
        } else {
            let (entry, width) = (&tile::SKETCH_WIDE, columns.next_multiple_of(wide));
            Self { entry, rows: 32, columns: warps * wide, chunk: tile::WIDE_CHUNK as usize, width }
        }
    }

    /// Bytes of shared memory of a block.
    fn shared(&self) -> u32 {
        (self.chunk * (self.columns.min(self.width) + self.rows + 1) * size_of::<f64>()) as u32
    }
}

/// `2^−e` for `x` in `[2^e, 2^(e+1))`; 1 for 0.
fn inverse_power(x: f64) -> f64 {
    const EXPONENT: u64 = 0x7ff0_0000_0000_0000;
    if x == 0.0 { 1.0 } else { f64::from_bits((2046 << 52) - (x.to_bits() & EXPONENT)) }
}

/// `[count, columns]` in `f32`, rows `ld` apart.
struct Sketch<G: Gpu> {
    y: G::Buffer,
    columns: usize,
    ld: usize,
}

/// `Y = C Ω` of every group, scaled by a power of two so that its rows are of order one.
fn sketched<G: Gpu, T: Elem>(gpu: &G, seed: u64, oversampling: usize, problem: &Problem<G>) -> Result<Sketch<G>> {
    let cols = problem.rows.cols;
    // A sketch wider than the rows are long would only repeat them.
    let width = |limits: &Limits| (limits.rank as usize).saturating_add(oversampling).min(cols);
    let mut widths: Vec<usize> = problem.limits.iter().map(width).collect();
    widths.sort_unstable();
    widths.dedup();
    let columns = widths.last().map_or(1, |&width| width.max(1));
    let cut = Cut::of(columns);

    let place = |limits: &Limits| widths.binary_search(&width(limits)).unwrap_or(0) * cols * cut.width;
    let mut tiles = Vec::new();
    for (rows, limits) in problem.indptr.windows(2).zip(&problem.limits) {
        let (omega, scale) = (place(limits) as u64, inverse_power(limits.largest));
        tiles.extend((rows[0]..rows[1]).step_by(cut.rows).map(|first| {
            let rows = (rows[1] - first).min(cut.rows) as u32;
            Tile { omega, scale, first: first as u32, rows }
        }));
    }
    let column_tiles = cut.width.div_ceil(cut.columns);
    let grid = Grid { blocks: blocks(OP, tiles.len().saturating_mul(column_tiles))?, shared: cut.shared() };
    let shape = Shape { cols: cols as u64, width: cut.width as u32, column_tiles: column_tiles as u32 };
    let tiles = gpu.upload(OP, "tiles", &tiles)?;
    let omega = gpu.upload(OP, "omega", &normals(seed, &widths, cols, cut.width)?)?;
    let mut y = gpu.allocate::<f32>(OP, "y", problem.count().saturating_mul(cut.width))?;
    let kernel = Kernel::of(OP, Family::QrSketch, Some(T::DTYPE), cut.entry)?;
    let inputs = &[&problem.rows.addresses, &tiles, &omega];
    gpu.launch(&kernel, grid, inputs, &mut [&mut y], bytemuck::bytes_of(&shape))?;
    Ok(Sketch { y, columns, ld: cut.width })
}

/// `Ω [cols, width]` for every width, one after another, padded with zeros to `ld`: the numbers that the CPU draws.
fn normals(seed: u64, widths: &[usize], cols: usize, ld: usize) -> Result<Vec<f64>> {
    let mut omega = mat::zeroed("sketch", widths.len().saturating_mul(cols).saturating_mul(ld))?;
    for (&width, matrix) in widths.iter().zip(omega.chunks_exact_mut(cols * ld)) {
        let mut stream = Stream::new(seed, Use::Sketch);
        for row in matrix.chunks_exact_mut(ld) {
            row[..width].iter_mut().for_each(|x| *x = stream.normal());
        }
    }
    Ok(omega)
}

#[cfg(all(test, feature = "vm"))]
mod tests;
