//! The backward on operands that lie on the device: `kernels/lowrank_grad.cu`. Allocates nothing and waits for nothing.

use super::{Operands, Problem, View, ViewMut, gate_kind};
use crate::elem::Dtype;
use crate::error::{Error, Result};
use crate::gpu::variants::{Element, Entry, Family, lowrank_grad as tile};
use crate::gpu::{Gpu, Grid, Kernel, blocks};
use crate::lowrank::{BACKWARD, Desc, Gate};

/// What the forward has left.
#[derive(Debug)]
pub(crate) struct Saved<'a, B> {
    pub x: View<'a, B>,
    pub gate: View<'a, B>,
}

/// `G`, and where `dX` goes.
#[derive(Debug)]
pub(crate) enum Input<'a, B> {
    Scatter(ViewMut<'a, B>),
    Separate { g: View<'a, B>, dx: ViewMut<'a, B> },
}

/// What is produced; where `accumulate`, `b` and `gate` are added to.
#[derive(Debug)]
pub(crate) struct Gradients<'a, B> {
    pub b: ViewMut<'a, B>,
    pub gate: ViewMut<'a, B>,
    pub h_gate: Option<ViewMut<'a, B>>,
    pub accumulate: bool,
}

/// Memory between the kernels, as large as [`Cut`] says, whose contents do not matter before or after. Nobody else uses it
/// meanwhile.
#[derive(Debug)]
pub(crate) struct Workspace<B> {
    pub z: B,
    pub dz: B,
    pub b: B,
    pub gate: B,
    pub dl: B,
}

/// How the tokens are cut: by their number and the problem, never by the device, so that the bits are the same on all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    tile: tile::Tile,
    /// Sub-rows of a segment of `products`, and how many segments there are.
    segment_rows: usize,
    segments: usize,
    /// Slices of m/s and of r/s.
    slices: usize,
    depth_slices: usize,
    /// Tokens of a block of `tokens` and of `linear`, and how many there are.
    chunk: usize,
    chunks: usize,
    linear_chunk: usize,
    linear_chunks: usize,
}

/// At most so many partial sums of dB and dW_g, and of the other gates' gradients.
const MOST_SEGMENTS: usize = 64;
const MOST_CHUNKS: usize = 1024;

impl Cut {
    pub fn of(desc: &Desc, tokens: usize) -> Self {
        let (part, depth) = (desc.rows / desc.split, desc.rank / desc.split);
        let tile = if depth <= tile::NARROW.depth as usize { tile::NARROW } else { tile::WIDE };
        let rows = tokens.saturating_mul(desc.split);
        // Partial sums are read and written once, 8 r/s bytes for each column, against 2 segment_rows of G in 16 bits.
        let segment_rows =
            rows.div_ceil(MOST_SEGMENTS).max(8 * depth).max(128).min(rows.max(1)).next_multiple_of(tile::TILE_ROWS);
        let chunk = tokens.div_ceil(MOST_CHUNKS).max(32);
        let linear_chunk = tokens.div_ceil(MOST_SEGMENTS).max(128);
        Self {
            tile,
            segment_rows,
            segments: rows.div_ceil(segment_rows),
            slices: part.div_ceil(tile.columns as usize),
            depth_slices: depth.div_ceil(tile.depth as usize),
            chunk,
            chunks: tokens.div_ceil(chunk),
            linear_chunk,
            linear_chunks: tokens.div_ceil(linear_chunk),
        }
    }

    /// Floats of z, dz, the partial sums of B and the gate, and dl, in the order of [`Workspace`]. None is 0.
    pub fn workspace(&self, desc: &Desc, tokens: usize) -> [usize; 5] {
        let Desc { rows, cols, rank, components, split, gate, .. } = *desc;
        let product = |sizes: &[usize]| sizes.iter().copied().fold(1, usize::saturating_mul).max(1);
        let linear = gate.reads_input();
        [
            product(&[tokens, rank]),
            product(&[self.slices, tokens, rank]),
            product(&[self.segments, rows / split, rank / split]),
            if linear {
                product(&[self.linear_chunks, components, cols])
            } else {
                product(&[self.chunks, gradient(desc)])
            },
            if linear { product(&[tokens, components]) } else { 1 },
        ]
    }

    fn shared(&self, desc: &Desc, element: Element, drops: bool) -> [usize; 3] {
        let Desc { rank, components, .. } = *desc;
        let warps = tile::WARPS as usize;
        let mask = if drops { warps.saturating_mul(components.saturating_mul(rank).div_ceil(4)) } else { 0 };
        let floats = rank.saturating_mul(2).saturating_add(gradient(desc)).saturating_add(components);
        [mask, self.tile.shared(element), floats.saturating_mul(4 * warps).saturating_add(mask)]
    }
}

/// Entries of the gate's gradient that the kernel `tokens` sums.
fn gradient(desc: &Desc) -> usize {
    match desc.gate {
        Gate::Inner | Gate::RmsInner => desc.rank,
        Gate::Static => desc.components,
        Gate::Linear | Gate::LinearSoftmax => 0,
    }
}

/// `Shape` of `products.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
struct Shape {
    g: u64,
    b: u64,
    gate: u64,
    x: u64,
    a: u64,
    h: u64,
    skeleton: u64,
    dx: u64,
    h_gate: u64,
    ld_g: u64,
    ld_b: u64,
    ld_gate: u64,
    ld_x: u64,
    ld_a: u64,
    ld_h: u64,
    ld_dx: u64,
    ld_h_gate: u64,
    tokens: u64,
    seed: u64,
    offset: u64,
    rows: u32,
    cols: u32,
    rank: u32,
    components: u32,
    split: u32,
    gate_kind: u32,
    scatters: u32,
    shares: u32,
    drops: u32,
    threshold: u32,
    kept: f32,
    scale: f32,
    segment_rows: u32,
    slices: u32,
    depth_slices: u32,
    chunk: u32,
    linear_chunk: u32,
    gradient: u32,
}

const _: () = assert!(size_of::<Shape>() == tile::SCALARS);

/// `Sum` of `lowrank_grad.cu`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Sum {
    out: u64,
    ld: u64,
    rows: u64,
    cols: u64,
    segments: u32,
    accumulates: u32,
    scale: f32,
    unused: u32,
}

const _: () = assert!(size_of::<Sum>() == tile::SUM);

/// Runs the backward. The buffers hold what the views say and the problem needs; `t` may be 0.
///
/// # Errors
/// [`Error::Unsupported`] where a block's share of the problem does not fit in shared memory, or more columns or blocks than
/// 32 bits count; [`Error::Operand`] for an operand that the problem reads and is not there; what [`Gpu`] refuses.
pub(crate) fn launch<G: Gpu>(
    gpu: &G,
    problem: &Problem,
    operands: &Operands<'_, G::Buffer>,
    saved: &Saved<'_, G::Buffer>,
    input: Input<'_, G::Buffer>,
    gradients: Gradients<'_, G::Buffer>,
    workspace: &mut Workspace<G::Buffer>,
) -> Result<()> {
    let Problem { desc, dtype, tokens, scale, .. } = *problem;
    let cut = Cut::of(&desc, tokens);
    let Gradients { b, gate, h_gate, accumulate } = gradients;
    if tokens > 0 {
        per_token(gpu, problem, &cut, operands, saved, input, h_gate, workspace)?;
    }
    let chunks = if desc.gate.reads_input() { cut.linear_chunks } else { cut.chunks };
    let of_gate = desc.gate.parameter_shape(desc.rank, desc.components, desc.cols);
    let of_b = (desc.rows / desc.split, desc.rank / desc.split);
    reduce(gpu, dtype, &workspace.b, cut.segments, of_b, scale, accumulate, b)?;
    reduce(gpu, dtype, &workspace.gate, chunks, of_gate, 1.0, accumulate, gate)
}

/// Everything up to the partial sums.
#[allow(clippy::too_many_arguments)] // the operands
fn per_token<G: Gpu>(
    gpu: &G,
    problem: &Problem,
    cut: &Cut,
    operands: &Operands<'_, G::Buffer>,
    saved: &Saved<'_, G::Buffer>,
    input: Input<'_, G::Buffer>,
    h_gate: Option<ViewMut<'_, G::Buffer>>,
    workspace: &mut Workspace<G::Buffer>,
) -> Result<()> {
    let Problem { desc, dtype, tokens, .. } = *problem;
    let shared = cut.shared(&desc, dtype.into(), problem.dropout.is_some());
    let [of_premix, of_products, of_tokens] = fitting(&desc, shared, gpu.shared_limit())?;
    let grid = |count: usize, shared| Ok(Grid { blocks: blocks(BACKWARD, count)?, shared });
    let kernel = |entry: &'static Entry| Kernel::of(BACKWARD, Family::LowrankGrad, Some(dtype), entry);
    let products = if cut.tile == tile::NARROW { &tile::NARROW_PRODUCTS } else { &tile::WIDE_PRODUCTS };
    let columns = desc.cols.div_ceil(tile::THREADS);
    let grids = [
        grid(tokens.div_ceil(tile::WARPS as usize), of_premix)?,
        grid(cut.segments.saturating_mul(cut.slices).saturating_mul(cut.depth_slices), of_products)?,
        grid(cut.chunks, of_tokens)?,
        grid(cut.linear_chunks.saturating_mul(columns), 0)?,
    ];
    let mut shape = shape(problem, cut, operands, saved, h_gate.as_ref())?;
    match &input {
        Input::Scatter(g) => (shape.scatters, shape.g, shape.ld_g) = (1, g.start as u64, g.ld as u64),
        Input::Separate { g, dx } => {
            (shape.g, shape.ld_g) = (g.start as u64, g.ld as u64);
            (shape.dx, shape.ld_dx) = (dx.start as u64, dx.ld as u64);
        }
    }
    let scalars = bytemuck::bytes_of(&shape);

    let Workspace { z, dz, b, gate, dl } = workspace;
    let (x, a) = (saved.x.buffer, saved.gate.buffer);
    gpu.launch(&kernel(&tile::PREMIX)?, grids[0], &[x, a], &mut [z], scalars)?;
    let g = match &input {
        Input::Scatter(g) => &*g.buffer,
        Input::Separate { g, .. } => g.buffer,
    };
    gpu.launch(&kernel(products)?, grids[1], &[g, operands.b.buffer, z], &mut [dz, b], scalars)?;
    // G has been read: its columns S may change.
    let target = match input {
        Input::Scatter(g) => g.buffer,
        Input::Separate { dx, .. } => dx.buffer,
    };
    let inputs = &[&*dz, x, a, operands.skeleton.buffer, operands.gate.buffer];
    gpu.launch(&kernel(&tile::TOKENS)?, grids[2], inputs, &mut [target, gate, dl], scalars)?;
    if let Some(h) = &operands.h
        && desc.gate.reads_input()
    {
        // Without a share of dH, a pointer that is not followed.
        let share = h_gate.map_or(z, |h_gate| h_gate.buffer);
        let inputs = &[&*dl, h.buffer, operands.gate.buffer];
        gpu.launch(&kernel(&tile::LINEAR)?, grids[3], inputs, &mut [share, gate], scalars)?;
    }
    Ok(())
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

/// The scalars, but for G and dX.
fn shape<B>(
    problem: &Problem,
    cut: &Cut,
    operands: &Operands<'_, B>,
    saved: &Saved<'_, B>,
    h_gate: Option<&ViewMut<'_, B>>,
) -> Result<Shape> {
    let Desc { rows, cols, rank, components, split, gate, .. } = problem.desc;
    let narrow = |what: &str, size: usize| {
        u32::try_from(size)
            .map_err(|_| Error::unsupported(BACKWARD, format!("{size} {what} are more than {}", u32::MAX)))
    };
    let (h, ld_h) = match &operands.h {
        Some(h) => (h.start as u64, h.ld as u64),
        None if gate.reads_input() => return Err(Error::operand(BACKWARD, "h", "is missing; the problem reads it")),
        None => (0, 0),
    };
    let mut shape = Shape {
        b: operands.b.start as u64,
        ld_b: operands.b.ld as u64,
        gate: operands.gate.start as u64,
        ld_gate: operands.gate.ld as u64,
        x: saved.x.start as u64,
        ld_x: saved.x.ld as u64,
        a: saved.gate.start as u64,
        ld_a: saved.gate.ld as u64,
        h,
        ld_h,
        skeleton: operands.skeleton.start as u64,
        tokens: problem.tokens as u64,
        rows: narrow("rows", rows)?,
        cols: narrow("columns", cols)?,
        rank: narrow("ranks", rank)?,
        components: narrow("components", components)?,
        split: narrow("parts", split)?,
        gate_kind: gate_kind(gate),
        kept: 1.0,
        scale: problem.scale,
        segment_rows: narrow("sub-rows of a segment", cut.segment_rows)?,
        slices: narrow("slices of columns", cut.slices)?,
        depth_slices: narrow("slices of ranks", cut.depth_slices)?,
        chunk: narrow("tokens of a block", cut.chunk)?,
        linear_chunk: narrow("tokens of a block", cut.linear_chunk)?,
        gradient: narrow("ranks", gradient(&problem.desc))?,
        ..Shape::default()
    };
    if let Some(h_gate) = h_gate {
        (shape.shares, shape.h_gate, shape.ld_h_gate) = (1, h_gate.start as u64, h_gate.ld as u64);
    }
    if let Some(dropout) = &problem.dropout {
        (shape.drops, shape.seed, shape.offset) = (1, dropout.seed, dropout.offset);
        // p < 1, so below 2^32.
        shape.threshold = dropout.threshold() as u32;
        shape.kept = dropout.kept_scale();
    }
    Ok(shape)
}

/// Adds up partial sums `[segments, rows, cols]`.
#[allow(clippy::too_many_arguments)] // a matrix and what happens to it
fn reduce<G: Gpu>(
    gpu: &G,
    dtype: Dtype,
    sums: &G::Buffer,
    segments: usize,
    (rows, cols): (usize, usize),
    scale: f32,
    accumulate: bool,
    to: ViewMut<'_, G::Buffer>,
) -> Result<()> {
    let sum = Sum {
        out: to.start as u64,
        ld: to.ld as u64,
        rows: rows as u64,
        cols: cols as u64,
        segments: segments as u32, // at most MOST_CHUNKS
        accumulates: accumulate.into(),
        scale,
        unused: 0,
    };
    let grid = blocks(BACKWARD, rows.saturating_mul(cols).div_ceil(tile::THREADS))?;
    let kernel = Kernel::of(BACKWARD, Family::LowrankGrad, Some(dtype), &tile::REDUCE)?;
    gpu.launch(&kernel, grid.into(), &[sums], &mut [to.buffer], bytemuck::bytes_of(&sum))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lowrank::{Bias, DownProjection};

    #[test]
    fn tokens_are_cut_by_the_problem_and_partial_sums_are_few() {
        let (gate, down, bias) = (Gate::Static, DownProjection::Gather, Bias::None);
        let cut = |rank, tokens| {
            let desc = Desc { rows: 4096, cols: 1, rank, components: 4, split: 2, gate, down, bias };
            let cut = Cut::of(&desc, tokens);
            assert!(cut.segments <= MOST_SEGMENTS && cut.chunks <= MOST_CHUNKS && cut.linear_chunks <= MOST_SEGMENTS);
            (cut.segment_rows, cut.segments, cut.slices, cut.depth_slices)
        };
        assert_eq!(cut(32, 4096), (128, 64, 4, 1));
        assert_eq!(cut(128, 4096), (512, 16, 8, 1));
        assert_eq!(cut(130, 1), (16, 1, 8, 2));
        assert_eq!(cut(32, (1 << 20) + 1), (32784, 64, 4, 1));
    }
}
