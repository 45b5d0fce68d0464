//! The kernel as a tuner sees it: ways, what each should cost, and operands to time it on.

use super::config::ways;
use super::{Adapter, Layer, Problem, Way, launch, scratch_bytes};
use crate::elem::Dtype;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::gpu::draw::{Draw, of_sums};
use crate::gpu::lowrank::step::{HEAD, Scratch};
use crate::gpu::lowrank::{SavedMut, View, ViewMut};
use crate::gpu::model::{Card, Work};
use crate::gpu::tunable::{Prepared, Tunable, align};
use crate::gpu::variants::shared_gemm::{CHUNK_BYTES, Tile};
use crate::gpu::variants::{Family, rows};
use crate::shared_gemm::OP;
use crate::tune::Config;

/// A problem, of as many tokens as are measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tuned(pub Problem);

/// κ of the operands that are timed.
const SCALE: f32 = 0.5;

/// Warp instructions of a block, counted on the virtual machine at 128 tokens, m = 256, bf16 (`what_is_estimated_is_counted`
/// keeps them): copying a stage of 64 columns, and what a tile takes beside its stages. In the order of the tiles.
const COUNTED: [[f64; 2]; 4] = [[3128.0, 5561.0], [2568.0, 4542.0], [1808.0, 2940.0], [4232.0, 8868.0]];
/// A chunk of the update, for each row of its operands, and a token's gate and z at k = 4, r = 32, for each component.
const OF_A_ROW: f64 = 24.0;
const OF_A_TOKEN: f64 = 195.0;
/// Passes over shared memory: a row of a stage with its address, a tile's rounding and storing for each row and column, a
/// token's gate values for each component.
const PASSES: [f64; 3] = [1.5, 2.2, 3.0];

/// Operations of a tensor product, 16 × 8 × 16.
pub(super) const PRODUCT: f64 = 4096.0;

impl Tuned {
    /// How many there are of what a way's tiles do.
    fn tiles(&self, way: Way) -> Tiles {
        let problem = &self.0;
        let (blocks, [leading, columns]) = way.tiles(problem);
        let Tile { warp: [down, across], columns: width, .. } = *way.tile();
        let padded = |size: usize, to: u32| size.next_multiple_of(to as usize) as f64;
        let part = problem.desc.rows / problem.desc.split;
        // Parts of z that each tile reaches into.
        let reached = |tile: usize| {
            let last = ((tile + 1) * width as usize).min(problem.desc.rows) - 1;
            last / part - tile * width as usize / part + 1
        };
        let chunks = problem.chunks() as f64;
        Tiles {
            blocks: blocks as f64,
            leading: leading as f64,
            columns: columns as f64,
            tokens: padded(problem.tokens, down),
            width: padded(problem.width(), across),
            rows: padded(problem.desc.rows, across),
            chunks: if chunks > 0.0 { chunks * (0..columns).map(reached).sum::<usize>() as f64 } else { 0.0 },
        }
    }

    /// Steps of 16 along r/s, for those 8 columns at a time that reach into each part.
    fn update_products(&self) -> f64 {
        let desc = &self.0.desc;
        if desc.components == 0 {
            return 0.0;
        }
        let part = desc.rows / desc.split;
        let eights = (0..desc.split).map(|p| ((p + 1) * part).div_ceil(8) - p * part / 8).sum::<usize>();
        (3 * eights * (desc.rank / desc.split).div_ceil(16)) as f64
    }

    /// Warp instructions and passes over shared memory. Blocks that wait poll, which is in neither.
    fn issued(&self, way: Way, tiles: &Tiles) -> [f64; 2] {
        let tile = way.tile();
        let [down, across] = tile.warp.map(|size| f64::from(size / 16));
        let rows = f64::from(tile.tokens + tile.columns);
        let all = tiles.blocks * (tiles.leading + tiles.columns);
        let stages = self.0.desc.cols.div_ceil(64) as f64;
        // Warps' parts that are there, of a stage of four steps each: a load of shared memory for 16 rows, with its address.
        let parts = tiles.tokens / f64::from(tile.warp[0]) * (tiles.rows + tiles.width) / f64::from(tile.warp[1]);
        let loads = parts * stages * 4.0 * (down + across);
        let products = parts * stages * 4.0 * down * across * 2.0;
        let chunks = tiles.blocks * tiles.chunks;
        let of_components = self.0.desc.components as f64 * self.0.tokens as f64;
        let [copy, rest] = COUNTED[way.index];
        let steps = if chunks > 0.0 { (self.0.desc.rank / self.0.desc.split).min(32).div_ceil(16) as f64 } else { 0.0 };
        // Either operand twice, four passes a load, of the warps whose columns are of the part.
        let part = tiles.blocks * tiles.columns / chunks.max(1.0);
        let of_chunk = rows + 64.0 * part.min(1.0) * steps * (down + across);
        [
            all * (stages * copy + rest)
                + products
                + 2.0 * loads
                + chunks * rows * OF_A_ROW
                + of_components * OF_A_TOKEN,
            all * (stages * rows * PASSES[0] + rows * PASSES[1])
                + 4.0 * loads
                + chunks * of_chunk
                + of_components * PASSES[2],
        ]
    }

    /// Bytes of device memory, each operand once, and of the second cache: what tiles read of it again and again.
    fn bytes(&self, tiles: &Tiles) -> [f64; 2] {
        let Problem { desc, dtype, tokens } = self.0;
        let [t, m, n, e] = [tokens, desc.rows, desc.cols, dtype.size()].map(|size| size as f64);
        let (width, split) = (self.0.width() as f64, desc.split as f64);
        let out = t * m * e + if desc.bias { m * e } else { 0.0 };
        if desc.components == 0 {
            let memory = (t + m) * n * e + out;
            return [memory, (tiles.columns * t + tiles.blocks * m) * n * e + out];
        }
        let gate = desc.gate.parameter_shape(desc.rank, desc.components, desc.cols);
        let b = m / split * (desc.rank as f64 / split) * 4.0;
        let memory = (t + m) * n * e + out + t * width * e + b + (gate.0 * gate.1) as f64 * 4.0;
        let operands = ((tiles.columns + tiles.leading) * t + tiles.blocks * (m + width)) * n * e;
        let z = t * (CHUNK_BYTES as f64) * (split * self.0.chunks() as f64 + tiles.chunks);
        let logits = if desc.gate.reads_input() {
            let k = desc.components as f64;
            t * n * e * (k / 4.0).ceil() + (t / 4.0).ceil() * k * n * 4.0
        } else {
            0.0
        };
        [memory, operands + out + 2.0 * t * width * e + z + tiles.blocks * split * b + logits]
    }
}

/// How many of what.
#[derive(Clone, Copy)]
struct Tiles {
    blocks: f64,
    /// Of each block of tokens: tiles of chosen rows, and of Y.
    leading: f64,
    columns: f64,
    /// Rounded up to warps' parts.
    tokens: f64,
    width: f64,
    rows: f64,
    /// Chunks of the update, of all tiles of a block of tokens.
    chunks: f64,
}

impl Tunable for Tuned {
    fn kernel(&self) -> &'static str {
        "shared_gemm"
    }

    fn dtype(&self) -> Dtype {
        self.0.dtype
    }

    fn tokens(&self) -> usize {
        self.0.tokens
    }

    fn shape(&self) -> String {
        let Problem { desc, dtype, .. } = &self.0;
        let align = align(&[desc.rows, desc.cols, self.0.width()].map(|elements| elements * dtype.size()));
        let crate::shared_gemm::Desc { rows, cols, rank, components, split, gate, bias } = desc;
        let gate = gate.name();
        format!("m={rows} n={cols} k={components} r={rank} s={split} gate={gate} bias={bias} align={align}")
    }

    fn images(&self) -> Vec<usize> {
        rows(Family::SharedGemm, Some(self.0.dtype.into())).collect()
    }

    fn candidates(&self, card: &Card) -> Vec<Config> {
        ways(card, &self.0).into_iter().map(Way::config).collect()
    }

    /// One launch. Its blocks take tiles until there are none; what is busy longest has most of these, so the tiles count as
    /// blocks.
    fn work(&self, _: &Card, config: &Config) -> Result<Vec<Work>> {
        let way = Way::known(config)?;
        let tiles = self.tiles(way);
        let [memory, cache] = self.bytes(&tiles);
        let steps = self.0.desc.cols.div_ceil(16) as f64;
        let products = tiles.tokens / 16.0 * ((tiles.rows + tiles.width) / 8.0 * steps + self.update_products());
        let all = tiles.blocks * (tiles.leading + tiles.columns);
        let [instructions, wavefronts] = self.issued(way, &tiles);
        Ok(vec![Work {
            blocks: all as u64,
            need: way.need(self.0.dtype)?,
            memory,
            cache,
            tensor: products * PRODUCT,
            instructions,
            wavefronts,
        }])
    }

    /// Inputs: H, W, bias, skeleton, B, gate; outputs: Y, X, gate values, z.
    fn prepare<G: Gpu>(&self, gpu: &G) -> Result<Prepared<G>> {
        let Problem { desc, dtype, tokens } = self.0;
        let (rows, cols, width) = (desc.rows, desc.cols, self.0.width());
        let draw = Draw { gpu, op: OP };
        let mut inputs = vec![
            draw.elements("h", dtype, tokens.saturating_mul(cols), 1, 0)?,
            draw.elements("w", dtype, rows.saturating_mul(cols), 2, of_sums(cols))?,
            draw.elements("bias", dtype, rows, 3, 0)?,
        ];
        let mut outputs = vec![(tokens * rows, dtype.size())];
        if desc.components > 0 {
            inputs.push(draw.skeleton(rows, width)?);
            inputs.push(draw.floats("b", rows / desc.split * (desc.rank / desc.split), 4, of_sums(desc.rank))?);
            let (gate_rows, gate_cols) = desc.gate.parameter_shape(desc.rank, desc.components, cols);
            inputs.push(draw.floats("gate", gate_rows * gate_cols, 5, of_sums(gate_cols))?);
            outputs.extend([(tokens * width, dtype.size()), (tokens * desc.components, 4), (tokens * desc.rank, 4)]);
        }
        let names = ["y", "x", "a", "z"].into_iter();
        let zeroed = |(name, (len, size)): (&'static str, (usize, usize))| {
            Ok((gpu.zeroed::<u8>(OP, name, len.saturating_mul(size))?, len * size))
        };
        let outputs = names.zip(outputs).map(zeroed).collect::<Result<_>>()?;
        let bytes = scratch_bytes(&self.0).max(HEAD);
        Ok(Prepared { inputs, outputs, scratch: Some((gpu.zeroed::<u8>(OP, "workspace", bytes)?, bytes)) })
    }

    fn run<G: Gpu>(&self, gpu: &G, prepared: &mut Prepared<G>, config: &Config) -> Result<()> {
        let desc = &self.0.desc;
        let read = |i: usize, ld| View::at(gpu.address(&prepared.inputs[i]), ld);
        let written = |i: usize, ld| ViewMut::at(gpu.address(&prepared.outputs[i].0), ld);
        let mut adapter = (desc.components > 0).then(|| {
            let (_, gate_cols) = desc.gate.parameter_shape(desc.rank, desc.components, desc.cols);
            let (x, gate) = (written(1, self.0.width()), written(2, desc.components));
            Adapter {
                skeleton: read(3, 0),
                b: read(4, desc.rank / desc.split),
                gate: read(5, gate_cols),
                scale: SCALE,
                dropout: None,
                saved: Some(SavedMut { x, gate, z: Some(written(3, desc.rank)) }),
            }
        });
        let mut layer = Layer {
            h: read(0, desc.cols),
            w: read(1, desc.cols),
            bias: desc.bias.then(|| read(2, 0)),
            y: written(0, desc.rows),
        };
        let (address, bytes) = prepared.scratch.as_ref().map_or((0, 0), |(at, bytes)| (gpu.address(at), *bytes));
        launch(gpu, &self.0, Way::known(config)?, &mut layer, adapter.as_mut(), &Scratch::at(address, bytes))
    }
}
