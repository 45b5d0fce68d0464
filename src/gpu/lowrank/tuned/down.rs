//! The explicit down-projection as a tuner sees it.

use super::super::down::{self, Module};
use super::{image, not_served, work};
use crate::elem::Dtype;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::gpu::draw::Draw;
use crate::gpu::lowrank::{Problem, View, ViewMut};
use crate::gpu::model::{Card, Work};
use crate::gpu::tunable::{Prepared, Tunable, align};
use crate::gpu::variants::Family;
use crate::gpu::variants::lowrank_down::{TILES, Tile};
use crate::lowrank::FORWARD;
use crate::tune::Config;

/// One module's product.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Down(pub Problem);

impl Down {
    fn width(&self) -> usize {
        self.0.desc.components.saturating_mul(self.0.desc.rank)
    }
}

impl Tunable for Down {
    fn kernel(&self) -> &'static str {
        "lowrank_down"
    }

    fn dtype(&self) -> Dtype {
        self.0.dtype
    }

    fn tokens(&self) -> usize {
        self.0.tokens
    }

    fn shape(&self) -> String {
        let (n, width, size) = (self.0.desc.cols, self.width(), self.0.dtype.size());
        format!("n={n} kr={width} align={}", align(&[n * size, width * size]))
    }

    fn images(&self) -> Vec<usize> {
        image(Family::LowrankDown, self.0.dtype).into_iter().collect()
    }

    fn candidates(&self, card: &Card) -> Vec<Config> {
        let default = down::choose(&self.0, 1);
        let others = TILES.iter().filter(|tile| *tile != default);
        let legal = |tile: &&Tile| tile.shared + work::static_shared(tile) <= card.multiprocessor.block_shared;
        let config = |tile: &Tile| Config::LowrankDown { tokens: tile.tokens as u32, columns: tile.columns as u32 };
        std::iter::once(default).chain(others.filter(legal)).map(config).collect()
    }

    fn work(&self, _: &Card, config: &Config) -> Result<Vec<Work>> {
        let tile = down::tile_of(config).ok_or_else(|| not_served(config))?;
        Ok(vec![work::of_down(&self.0, self.width(), tile)])
    }

    fn prepare<G: Gpu>(&self, gpu: &G) -> Result<Prepared<G>> {
        let Problem { desc, dtype, tokens } = self.0;
        let draw = Draw { gpu, op: FORWARD };
        let width = self.width();
        // Of W the chosen rows, in another order: the kernel meets no others.
        let inputs = vec![
            draw.elements("h", dtype, tokens.saturating_mul(desc.cols), 1, 0)?,
            draw.elements("w", dtype, width.saturating_mul(desc.cols), 2, 0)?,
            draw.skeleton(width, width)?,
        ];
        let bytes = tokens.saturating_mul(width).saturating_mul(dtype.size());
        let outputs = vec![(gpu.allocate::<u8>(FORWARD, "x", bytes)?, bytes)];
        Ok(Prepared { inputs, outputs, scratch: None })
    }

    fn run<G: Gpu>(&self, gpu: &G, prepared: &mut Prepared<G>, config: &Config) -> Result<()> {
        let tile = down::tile_of(config).ok_or_else(|| not_served(config))?;
        let from = |i: usize, ld| View::whole(gpu, &prepared.inputs[i], ld);
        let (n, width) = (self.0.desc.cols, self.width());
        let x = ViewMut::at(gpu.address(&prepared.outputs[0].0), width);
        let product = Module { h: from(0, n), w: from(1, n), skeleton: from(2, 0), x };
        down::launch_tile(gpu, &self.0, &[product], tile)
    }
}
