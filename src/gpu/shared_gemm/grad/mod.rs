//! The layer's input gradient on a device: `kernels/shared_gemm_grad.cu`.

mod host;
mod tuned;

pub(crate) use host::input_gradient;
pub(crate) use tuned::TunedGrad;

use crate::elem::Dtype;
use crate::error::{Error, Result};
use crate::gpu::lowrank::{View, ViewMut};
use crate::gpu::variants::Family;
use crate::gpu::variants::shared_gemm_grad::{TILES, Tile};
use crate::gpu::{Gpu, Grid, Kernel, blocks};
use crate::shared_gemm::grad::GRAD;
use crate::tune::Config;

/// A problem that [`Plan`](crate::shared_gemm::Plan) has checked, of so many tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GradProblem {
    /// m.
    pub rows: usize,
    /// n.
    pub cols: usize,
    /// k·r, at most m; 0 without components.
    pub width: usize,
    pub dtype: Dtype,
    /// t.
    pub tokens: usize,
}

/// `G [t, m]`, `W [m, n]`, `dX [t, k·r]` with the skeleton `[k·r]` of u32 where there are components, what is added, which may
/// be where `dH` is, and `dH [t, n]`.
#[derive(Debug)]
pub(crate) struct GradLayer<'a> {
    pub g: View<'a>,
    pub w: View<'a>,
    pub components: Option<[View<'a>; 2]>,
    pub add: Option<View<'a>>,
    pub dh: ViewMut<'a>,
}

/// One of the ways to run it, all with the same bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub tile: &'static Tile,
    /// Blocks of tokens that share columns at a time, at least 1.
    pub raster: u32,
}

impl Default for Way {
    fn default() -> Self {
        Self { tile: &TILES[0], raster: 8 }
    }
}

impl Way {
    /// What a configuration says; `None` where this version has no such way.
    pub fn of(config: &Config) -> Option<Self> {
        let Config::SharedGemmGrad { tokens, columns, raster } = *config else { return None };
        let tile = TILES.iter().find(|tile| (tile.tokens, tile.columns) == (tokens, columns))?;
        (raster > 0).then_some(Self { tile, raster })
    }

    /// What a caller asks for.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where this version has no such way, or a block of it needs more than the device has.
    pub fn asked<G: Gpu>(gpu: &G, config: &Config) -> Result<Self> {
        let refused = |reason: &str| Error::unsupported(GRAD, format!("the configuration `{config}`: {reason}"));
        let way = Self::of(config).ok_or_else(|| refused("there is no such tile, or no such raster"))?;
        if way.tile.ring() > gpu.shared_limit() {
            return Err(refused("a block of the device has less shared memory"));
        }
        Ok(way)
    }

    /// The same as a configuration.
    pub fn config(&self) -> Config {
        Config::SharedGemmGrad { tokens: self.tile.tokens, columns: self.tile.columns, raster: self.raster }
    }

    /// Tiles of tokens, and of columns.
    pub fn tiles(&self, problem: &GradProblem) -> [usize; 2] {
        [problem.tokens.div_ceil(self.tile.tokens as usize), problem.cols.div_ceil(self.tile.columns as usize)]
    }
}

/// `Problem` of `shared_gemm_grad.cu`.
#[repr(C)]
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
struct Scalars {
    g: u64,
    w: u64,
    dx: u64,
    skeleton: u64,
    add: u64,
    dh: u64,
    ld_g: u64,
    ld_w: u64,
    ld_dx: u64,
    ld_add: u64,
    ld_dh: u64,
    tokens: u64,
    rows: u32,
    cols: u32,
    width: u32,
    raster: u32,
}

const _: () = assert!(size_of::<Scalars>() == TILES[0].entry.scalars);

/// Refuses what the kernel is not made for.
///
/// # Errors
/// [`Error::Unsupported`] for f32.
pub(crate) fn supported(dtype: Dtype) -> Result<()> {
    if dtype == Dtype::F32 {
        let reason = "the kernel multiplies f16 and bf16 on tensor cores, which have no exact products of f32; run f32 on the CPU";
        return Err(Error::unsupported(GRAD, reason));
    }
    Ok(())
}

/// Computes `dH`. What the views say and the problem needs is there; `t` may be 0. Needs no scratch.
///
/// # Errors
/// [`Error::Unsupported`] for f32, or more columns, rows or tiles than 32 bits count; [`Error::Operand`] where the problem has
/// components and their operands are not there; what [`Gpu`] refuses.
pub(crate) fn launch<G: Gpu>(gpu: &G, problem: &GradProblem, way: &Way, layer: &mut GradLayer<'_>) -> Result<()> {
    supported(problem.dtype)?;
    for (what, size) in [("rows", problem.rows), ("columns", problem.cols)] {
        if u32::try_from(size).is_err() {
            return Err(Error::unsupported(GRAD, format!("{size} {what} are more than the kernel counts")));
        }
    }
    if problem.tokens == 0 {
        return Ok(());
    }
    let [down, across] = way.tiles(problem);
    let blocks = blocks(GRAD, down.saturating_mul(across))?;
    let mut scalars = Scalars {
        g: layer.g.address,
        w: layer.w.address,
        dh: layer.dh.address,
        ld_g: layer.g.ld as u64,
        ld_w: layer.w.ld as u64,
        ld_dh: layer.dh.ld as u64,
        tokens: problem.tokens as u64,
        rows: problem.rows as u32, // these fit, as k·r, which is no more than m, and the tiles do
        cols: problem.cols as u32,
        width: problem.width as u32,
        raster: way.raster.min(down as u32),
        ..Scalars::default()
    };
    if problem.width > 0 {
        let missing = || Error::operand(GRAD, "adapter", "is missing; the problem reads it");
        let [dx, skeleton] = layer.components.ok_or_else(missing)?;
        (scalars.dx, scalars.ld_dx, scalars.skeleton) = (dx.address, dx.ld as u64, skeleton.address);
    }
    if let Some(add) = &layer.add {
        (scalars.add, scalars.ld_add) = (add.address, add.ld as u64);
    }
    let kernel = Kernel::of(GRAD, Family::SharedGemmGrad, Some(problem.dtype), way.tile.entry)?;
    let grid = Grid { blocks, shared: way.tile.ring() };
    gpu.launch(&kernel, grid, &[], &mut [], bytemuck::bytes_of(&scalars))
}
