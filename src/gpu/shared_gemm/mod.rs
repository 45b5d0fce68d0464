//! A layer with its components in one kernel on a device: `kernels/shared_gemm.cu`.
//!
//! Two layers, as of the adapter. [`launch`] takes operands that lie on the device, allocates nothing and waits for nothing.
//! [`run`] takes host memory there and back.

mod config;
pub(crate) mod grad;
mod host;
#[cfg(all(test, feature = "vm"))]
mod tests;
mod tuned;

pub(crate) use config::Way;
pub(crate) use grad::{TunedGrad, input_gradient};
pub(crate) use host::run;
pub(crate) use tuned::Tuned;

use super::lowrank::step::{ALIGN, HEAD, Scratch};
use super::lowrank::{SavedMut, View, ViewMut};
use super::variants::{Family, shared_gemm as tile};
use super::{Gpu, Grid, Kernel, blocks};
use crate::elem::Dtype;
use crate::error::{Error, Result};
use crate::lowrank::{Dropout, Gate};
use crate::shared_gemm::{Desc, OP};

/// A problem that [`Plan`](crate::shared_gemm::Plan) has checked, of so many tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Problem {
    pub desc: Desc,
    pub dtype: Dtype,
    /// t.
    pub tokens: usize,
}

impl Problem {
    /// Columns of X: k·r.
    fn width(&self) -> usize {
        self.desc.components.saturating_mul(self.desc.rank)
    }

    /// Chunks of r/s in a row of z.
    fn chunks(&self) -> usize {
        if self.desc.components == 0 { 0 } else { (self.desc.rank / self.desc.split).div_ceil(tile::CHUNK) }
    }
}

/// The layer: `H [t, n]`, `W [m, n]`, the bias `[m]` where there is one, and `Y [t, m]`.
#[derive(Debug)]
pub(crate) struct Layer<'a> {
    pub h: View<'a>,
    pub w: View<'a>,
    pub bias: Option<View<'a>>,
    pub y: ViewMut<'a>,
}

/// The components: `[k·r]` of u32, `B [m/s, r/s]` and the gate in f32, and what is left for the backward.
#[derive(Debug)]
pub(crate) struct Adapter<'a> {
    pub skeleton: View<'a>,
    pub b: View<'a>,
    pub gate: View<'a>,
    pub scale: f32,
    pub dropout: Option<Dropout>,
    pub saved: Option<SavedMut<'a>>,
}

/// `Problem` of `shared_gemm.cu`.
#[repr(C)]
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
struct Scalars {
    h: u64,
    w: u64,
    bias: u64,
    skeleton: u64,
    b: u64,
    gate: u64,
    y: u64,
    x: u64,
    a: u64,
    z: u64,
    head: u64,
    flags: u64,
    terms: u64,
    ld_h: u64,
    ld_w: u64,
    ld_b: u64,
    ld_gate: u64,
    ld_y: u64,
    ld_x: u64,
    ld_a: u64,
    ld_z: u64,
    tokens: u64,
    seed: u64,
    offset: u64,
    rows: u32,
    cols: u32,
    rank: u32,
    components: u32,
    split: u32,
    gate_kind: u32,
    raster: u32,
    width: u32,
    drops: u32,
    threshold: u32,
    kept: f32,
    scale: f32,
}

const _: () = assert!(size_of::<Scalars>() == tile::GEMM.scalars);

/// Bytes of the scratch's parts behind its head: flags of blocks of tokens, z as terms, and X where it is not saved. They are
/// the same for every [`Way`].
fn parts(problem: &Problem) -> [usize; 3] {
    let Problem { desc, dtype, tokens } = problem;
    if desc.components == 0 {
        return [0; 3];
    }
    let flags = tokens.div_ceil(tile::LEAST_TOKENS).saturating_mul(2 * 4);
    let rows = tokens.saturating_mul(desc.split).saturating_mul(problem.chunks());
    let x = tokens.saturating_mul(problem.width()).saturating_mul(dtype.size());
    [flags, rows.saturating_mul(tile::CHUNK_BYTES), x]
        .map(|bytes| bytes.checked_next_multiple_of(ALIGN).unwrap_or(usize::MAX))
}

/// Bytes of scratch that [`launch`] needs: the head, then what does not matter before or after.
pub(crate) fn scratch_bytes(problem: &Problem) -> usize {
    parts(problem).into_iter().fold(HEAD, usize::saturating_add)
}

/// Runs the layer, with its components where the problem has some. What the views say and the problem needs is there; `t` may
/// be 0. Every way gives the same bits.
///
/// # Errors
/// [`Error::Unsupported`] for f32, more components than a block takes or more tiles or columns than 32 bits count;
/// [`Error::Operand`] for an operand that the problem reads and is not there; [`Error::Shape`] for a scratch that is too small;
/// what [`Gpu`] refuses.
pub(crate) fn launch<G: Gpu>(
    gpu: &G,
    problem: &Problem,
    way: Way,
    layer: &mut Layer<'_>,
    adapter: Option<&mut Adapter<'_>>,
    scratch: &Scratch<'_>,
) -> Result<()> {
    let (desc, tokens) = (&problem.desc, problem.tokens);
    supported(problem)?;
    if tokens == 0 {
        return Ok(());
    }
    scratch.check(OP, scratch_bytes(problem))?;
    let (token_blocks, columns) = way.tiles(problem);
    let tiles = blocks(OP, token_blocks.saturating_mul(columns[0] + columns[1]))?;
    let mut scalars = of_layer(problem, layer)?;
    (scalars.head, scalars.raster) = (scratch.address, way.raster);
    match adapter {
        Some(adapter) if desc.components > 0 => add_adapter(&mut scalars, problem, adapter, scratch.address),
        None if desc.components > 0 => return Err(missing("adapter")),
        _ => {}
    }
    let kernel = Kernel::of_tile(OP, Family::SharedGemm, Some(problem.dtype), way.index, &tile::GEMM)?;
    let shared = way.tile().ring();
    let grid = Grid { blocks: tiles.min(gpu.resident(&kernel, shared)?), shared };
    gpu.launch(&kernel, grid, &[], &mut [], bytemuck::bytes_of(&scalars))
}

/// Refuses what the kernel is not made for.
pub(crate) fn supported(problem: &Problem) -> Result<()> {
    let desc = &problem.desc;
    if problem.dtype == Dtype::F32 {
        let reason = "the kernel multiplies f16 and bf16 on tensor cores, which have no exact products of f32; run f32 on the CPU";
        return Err(Error::unsupported(OP, reason));
    }
    if desc.components > tile::COMPONENTS {
        let reason = format!("{} components; the kernel takes at most {}", desc.components, tile::COMPONENTS);
        return Err(Error::unsupported(OP, reason));
    }
    for (what, size) in [("rows", desc.rows), ("columns", desc.cols)] {
        // The last tile's end is counted in 32 bits, too.
        if size > u32::MAX as usize - tile::LARGEST {
            return Err(Error::unsupported(OP, format!("{size} {what} are more than the kernel counts")));
        }
    }
    Ok(())
}

fn missing(operand: &'static str) -> Error {
    Error::operand(OP, operand, "is missing; the problem reads it")
}

/// The plain product.
fn of_layer(problem: &Problem, layer: &Layer<'_>) -> Result<Scalars> {
    let desc = &problem.desc;
    let bias = match layer.bias {
        Some(bias) if desc.bias => bias.address,
        None if desc.bias => return Err(missing("bias")),
        _ => 0,
    };
    Ok(Scalars {
        h: layer.h.address,
        w: layer.w.address,
        bias,
        y: layer.y.address,
        ld_h: layer.h.ld as u64,
        ld_w: layer.w.ld as u64,
        ld_y: layer.y.ld as u64,
        tokens: problem.tokens as u64,
        rows: desc.rows as u32, // both fit, see `supported`
        cols: desc.cols as u32,
        split: 1,
        kept: 1.0,
        ..Scalars::default()
    })
}

/// The components' part of the scalars. What their sizes say fits 32 bits, as `k·r ≤ m` does.
fn add_adapter(scalars: &mut Scalars, problem: &Problem, adapter: &mut Adapter<'_>, scratch: u64) {
    let desc = &problem.desc;
    let (width, [flags, terms, _]) = (problem.width(), parts(problem));
    (scalars.rank, scalars.components, scalars.width) = (desc.rank as u32, desc.components as u32, width as u32);
    (scalars.split, scalars.gate_kind) = (desc.split as u32, gate_kind(desc.gate));
    scalars.skeleton = adapter.skeleton.address;
    (scalars.b, scalars.ld_b) = (adapter.b.address, adapter.b.ld as u64);
    (scalars.gate, scalars.ld_gate) = (adapter.gate.address, adapter.gate.ld as u64);
    scalars.scale = adapter.scale;
    scalars.flags = scratch + HEAD as u64;
    scalars.terms = scalars.flags + flags as u64;
    (scalars.x, scalars.ld_x) = (scalars.terms + terms as u64, width as u64);
    if let Some(SavedMut { x, gate, z }) = &adapter.saved {
        (scalars.x, scalars.ld_x) = (x.address, x.ld as u64);
        (scalars.a, scalars.ld_a) = (gate.address, gate.ld as u64);
        if let Some(z) = z {
            (scalars.z, scalars.ld_z) = (z.address, z.ld as u64);
        }
    }
    if let Some(dropout) = &adapter.dropout {
        (scalars.drops, scalars.seed, scalars.offset) = (1, dropout.seed, dropout.offset);
        scalars.threshold = dropout.threshold() as u32; // p < 1, so below 2^32
        scalars.kept = dropout.kept_scale();
    }
}

/// `Gate` of the kernel.
fn gate_kind(gate: Gate) -> u32 {
    match gate {
        Gate::Inner => 0,
        Gate::RmsInner => 1,
        Gate::Linear => 2,
        Gate::LinearSoftmax => 3,
        Gate::Static => 4,
    }
}
