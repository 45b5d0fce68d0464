//! What the input gradient offers a tuner: tiles, and how many blocks of tokens share columns at a time.

#[cfg(all(test, feature = "vm"))]
mod tests;

use super::{GradLayer, GradProblem, Way, launch};
use crate::elem::Dtype;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::draw::Draw;
use crate::gpu::lowrank::{View, ViewMut};
use crate::gpu::model::{Card, Work};
use crate::gpu::occupancy::Need;
use crate::gpu::tunable::{Prepared, Tunable, align};
use crate::gpu::variants::shared_gemm_grad::{DEPTH, TILES, Tile};
use crate::gpu::variants::{Family, rows};
use crate::shared_gemm::Desc;
use crate::shared_gemm::grad::GRAD;
use crate::tune::Config;

/// The blocks of tokens to try, the default's first.
const RASTERS: [u32; 3] = [8, 4, 16];
/// Instructions as the virtual machine counts them, of a warp: for a step of 16 along K; for 16 bytes that each lane copies, of a
/// stage that is whole and of any other; before and after its stages.
const STEP: f64 = 73.5;
const COPY: f64 = 4.5;
const EDGE: f64 = 31.0;
const WARP: f64 = 520.0;

/// The input gradient of a layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TunedGrad {
    pub desc: Desc,
    pub dtype: Dtype,
    pub tokens: usize,
}

impl TunedGrad {
    fn problem(&self) -> GradProblem {
        let Desc { rows, cols, rank, components, .. } = self.desc;
        let width = if components > 0 { components * rank } else { 0 };
        GradProblem { rows, cols, width, dtype: self.dtype, tokens: self.tokens }
    }

    fn align(&self) -> usize {
        let GradProblem { rows, cols, width, .. } = self.problem();
        align(&[rows, cols, width].map(|elements| elements.saturating_mul(self.dtype.size())))
    }
}

/// What a block of a tile needs.
fn need(tile: &Tile) -> Need {
    let [x, y] = tile.entry.block;
    Need { threads: x * y, registers: tile.registers, shared: tile.ring() }
}

impl Tunable for TunedGrad {
    fn kernel(&self) -> &'static str {
        Way::default().config().kernel()
    }

    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn tokens(&self) -> usize {
        self.tokens
    }

    fn shape(&self) -> String {
        let GradProblem { rows, cols, width, .. } = self.problem();
        format!("m={rows} n={cols} kr={width} align={}", self.align())
    }

    fn images(&self) -> Vec<usize> {
        rows(Family::SharedGemmGrad, Some(self.dtype.into())).collect()
    }

    fn candidates(&self, card: &Card) -> Vec<Config> {
        let mut ways: Vec<Way> = Vec::new();
        for tile in TILES.iter().filter(|tile| card.multiprocessor.blocks(need(tile)).0 > 0) {
            for raster in RASTERS {
                let way = Way { tile, raster };
                let [down, _] = way.tiles(&self.problem());
                // Beyond the last block of tokens, rasters are all the same.
                let order = |way: &Way| (way.tile.tokens, way.tile.columns, (way.raster as usize).min(down));
                if ways.iter().all(|other| order(other) != order(&way)) {
                    ways.push(way);
                }
            }
        }
        ways.iter().map(Way::config).collect()
    }

    fn work(&self, _: &Card, config: &Config) -> Result<Vec<Work>> {
        let way = way(config)?;
        let GradProblem { rows, cols, width, tokens, .. } = self.problem();
        let [down, across] = way.tiles(&self.problem());
        let need = need(way.tile);
        let blocks = (down * across) as f64;
        let warps = (tokens.div_ceil(64) * cols.div_ceil(32)) as f64; // with anything to multiply
        let steps = (rows.div_ceil(16) + width.div_ceil(16)) as f64;
        let stages = (rows.div_ceil(DEPTH) + width.div_ceil(DEPTH)) as f64;
        let whole = if self.align() == 16 {
            let [tokens, cols] = [tokens / way.tile.tokens as usize, cols / way.tile.columns as usize];
            (tokens * cols * (rows / DEPTH)) as f64 // stages, of all blocks
        } else {
            0.0
        };
        let elements = |matrices: f64| matrices * self.dtype.size() as f64;
        let (t, n, k) = (tokens as f64, cols as f64, (rows + width) as f64);
        // Each lane of a warp copies 16 bytes at a time: of a stage of both operands, and of a tile of the result.
        let copies = f64::from(way.tile.tokens + way.tile.columns) * 8.0 / 32.0;
        let stores = f64::from(way.tile.tokens * way.tile.columns) / 8.0 / 32.0;
        let (mma, ldmatrix) = (16.0, 6.0); // of a warp's step
        let fragments = f64::from(way.tile.tokens * way.tile.columns) / 64.0; // pairs of 32 lanes
        Ok(vec![Work {
            blocks: (down * across) as u64,
            need,
            memory: elements(t * k + rows as f64 * n + t * n) + 4.0 * width as f64,
            cache: elements((t * across as f64 + n * down as f64) * k + t * n),
            tensor: warps * steps * mma * 4096.0,
            instructions: warps * steps * STEP
                + copies * (whole * COPY + (blocks * stages - whole) * EDGE)
                + blocks * f64::from(need.threads / 32) * WARP,
            // Four passes for 16 bytes of each lane, and for four fragments of a warp.
            wavefronts: warps * steps * ldmatrix * 4.0 + blocks * (stages * copies * 4.0 + stores * 4.0 + fragments),
        }])
    }

    fn prepare<G: Gpu>(&self, gpu: &G) -> Result<Prepared<G>> {
        let GradProblem { rows, cols, width, tokens, .. } = self.problem();
        let draw = Draw { gpu, op: GRAD };
        let matrix =
            |name, rows: usize, cols, seed| draw.elements(name, self.dtype, rows.saturating_mul(cols), seed, 0);
        let mut inputs = vec![matrix("g", tokens, rows, 1)?, matrix("w", rows, cols, 2)?];
        if width > 0 {
            inputs.push(matrix("dx", tokens, width, 3)?);
            inputs.push(draw.skeleton(rows, width)?);
        }
        let len = tokens.saturating_mul(cols);
        let dh = gpu.zeroed::<u16>(GRAD, "dh", len)?;
        Ok(Prepared { inputs, outputs: vec![(dh, len.saturating_mul(self.dtype.size()))], scratch: None })
    }

    fn run<G: Gpu>(&self, gpu: &G, prepared: &mut Prepared<G>, config: &Config) -> Result<()> {
        let (problem, way) = (self.problem(), way(config)?);
        let (inputs, outputs) = (&prepared.inputs, &mut prepared.outputs);
        let whole = |i: usize, ld| inputs.get(i).map(|buffer| View::whole(gpu, buffer, ld));
        let missing = |operand| Error::operand(GRAD, operand, "was not prepared");
        let mut layer = GradLayer {
            g: whole(0, problem.rows).ok_or_else(|| missing("g"))?,
            w: whole(1, problem.cols).ok_or_else(|| missing("w"))?,
            components: whole(2, problem.width).zip(whole(3, 0)).map(|(dx, skeleton)| [dx, skeleton]),
            add: None,
            dh: outputs
                .first_mut()
                .map(|(dh, _)| ViewMut::whole(gpu, dh, problem.cols))
                .ok_or_else(|| missing("dh"))?,
        };
        launch(gpu, &problem, &way, &mut layer)
    }
}

fn way(config: &Config) -> Result<Way> {
    Way::of(config).ok_or_else(|| Error::unsupported(GRAD, format!("no way to run it is `{config}`")))
}
