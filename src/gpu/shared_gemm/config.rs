//! The ways of running the kernel: a tile, and how many blocks of tokens share columns at a time.

use super::Problem;
use crate::elem::Dtype;
use crate::error::{Error, Result};
use crate::gpu::model::Card;
use crate::gpu::occupancy::Need;
use crate::gpu::variants::Family;
use crate::gpu::variants::shared_gemm::{self as tile, TILES, Tile};
use crate::gpu::{Gpu, Kernel};
use crate::shared_gemm::OP;
use crate::tune::Config;

/// Blocks of tokens that share columns, unless something else was chosen, and what else is tried.
const RASTERS: [u32; 4] = [8, 4, 16, 32];

/// One of the ways: an index of [`TILES`], and a raster from 1 to [`tile::RASTER`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub index: usize,
    pub raster: u32,
}

impl Default for Way {
    fn default() -> Self {
        Self { index: 0, raster: RASTERS[0] }
    }
}

impl Way {
    /// What a configuration says, if it is one of this kernel.
    pub fn of(config: &Config) -> Option<Self> {
        let &Config::SharedGemm { tokens, columns, raster } = config else { return None };
        let index = TILES.iter().position(|tile| (tile.tokens, tile.columns) == (tokens, columns))?;
        (1..=tile::RASTER).contains(&raster).then_some(Self { index, raster })
    }

    /// The same.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for another kernel's configuration, or one that this build does not have.
    pub fn known(config: &Config) -> Result<Self> {
        Self::of(config).ok_or_else(|| match config {
            Config::SharedGemm { .. } => refused(config, "there is no such tile, or no such raster"),
            _ => refused(config, "is another kernel's"),
        })
    }

    /// What a caller asks for.
    ///
    /// # Errors
    /// As [`Way::known`], and for a tile that needs more than the device has.
    pub fn asked<G: Gpu>(gpu: &G, config: &Config) -> Result<Self> {
        let way = Self::known(config)?;
        if way.tile().ring() > gpu.shared_limit() {
            return Err(refused(config, "a block of the device has less shared memory"));
        }
        Ok(way)
    }

    pub fn config(self) -> Config {
        let Tile { tokens, columns, .. } = *self.tile();
        Config::SharedGemm { tokens, columns, raster: self.raster }
    }

    pub fn tile(self) -> &'static Tile {
        &TILES[self.index]
    }

    /// Blocks of tokens, and tiles of each: leading ones, and those of Y.
    pub fn tiles(self, problem: &Problem) -> (usize, [usize; 2]) {
        let Tile { tokens, columns, .. } = *self.tile();
        let [width, rows] = [problem.width(), problem.desc.rows].map(|size| size.div_ceil(columns as usize));
        (problem.tokens.div_ceil(tokens as usize), [width, rows])
    }

    /// What a block needs of a multiprocessor, by the assembler's log.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the kernel is not compiled for the element, and cannot be.
    pub fn need(self, dtype: Dtype) -> Result<Need> {
        let kernel = Kernel::of_tile(OP, Family::SharedGemm, Some(dtype), self.index, &tile::GEMM)?;
        Need::of(&kernel, self.tile().ring())
    }

    /// Whether a multiprocessor of the card holds a block.
    fn fits(self, card: &Card, dtype: Dtype) -> bool {
        self.need(dtype).is_ok_and(|need| card.multiprocessor.blocks(need).0 > 0)
    }
}

fn refused(config: &Config, reason: &str) -> Error {
    Error::unsupported(OP, format!("the configuration `{config}`: {reason}"))
}

/// Every way that a card has for a problem, and that differs from the others there; the default first, whatever it needs.
pub(super) fn ways(card: &Card, problem: &Problem) -> Vec<Way> {
    let mut ways = vec![Way::default()];
    for index in 0..TILES.len() {
        let way = Way { index, ..Way::default() };
        let (blocks, [leading, rows]) = way.tiles(problem);
        let few = i32::try_from(blocks.saturating_mul(leading + rows)).is_ok();
        if !few || !way.fits(card, problem.dtype) {
            continue;
        }
        // A raster beyond the blocks of tokens is one of as many.
        let mut tried = Vec::new();
        for raster in RASTERS {
            let within = blocks.min(raster as usize);
            if !tried.contains(&within) {
                tried.push(within);
                ways.extend(Some(Way { raster, ..way }).filter(|&way| way != Way::default()));
            }
        }
    }
    ways
}
