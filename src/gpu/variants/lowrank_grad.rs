//! The tile of `lowrank_grad.cu`.

use super::lowrank::terms;
use super::{Element, Entry, Family, Variant};

/// Warps of a block.
pub const WARPS: u32 = 8;
/// Threads of a block.
pub const THREADS: usize = 32 * WARPS as usize;
/// Sub-rows of G that are in shared memory at a time.
pub const TILE_ROWS: usize = 16;
/// Bytes of `Shape`.
pub const SCALARS: usize = 232;
/// Bytes of `Sum`.
pub const SUM: usize = 48;

/// What a block of `products` holds of B: columns of m/s, columns of r/s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    pub columns: u32,
    pub depth: u32,
}

/// Up to this r/s, dB's accumulators leave registers for two blocks of a multiprocessor.
pub const NARROW: Tile = Tile { columns: 512, depth: 16 };
/// For larger r/s: as many accumulators again, for fewer columns.
pub const WIDE: Tile = Tile { columns: 256, depth: 64 };

impl Tile {
    /// Shared memory of a block of `products`: two tiles of G, fragments of B and z, the warps' parts of dz.
    pub const fn shared(self, element: Element) -> usize {
        let (columns, depth) = (self.columns as usize, self.depth as usize);
        let g = 2 * TILE_ROWS * (columns + 8) * (16 / element.vector() as usize);
        let fragment = depth / 8 * 32 * 8;
        g + (columns / 16 + 1) * terms(element) * fragment + WARPS as usize * fragment * 2
    }
}

/// In the order of the file.
pub const ENTRIES: &[Entry] = &[PREMIX, NARROW_PRODUCTS, WIDE_PRODUCTS, TOKENS, LINEAR, REDUCE];

/// `x, a → z`.
pub const PREMIX: Entry = entry("lowrank_grad_premix", 2, 1, SCALARS);
/// `g, b, z → dz, sums`, with [`NARROW`].
pub const NARROW_PRODUCTS: Entry = entry("lowrank_grad_products_narrow", 3, 2, SCALARS);
/// `g, b, z → dz, sums`, with [`WIDE`].
pub const WIDE_PRODUCTS: Entry = entry("lowrank_grad_products_wide", 3, 2, SCALARS);
/// `dz, x, a, skeleton, gate → target, sums, dl`.
pub const TOKENS: Entry = entry("lowrank_grad_tokens", 5, 3, SCALARS);
/// `dl, h, gate → h_gate, sums`.
pub const LINEAR: Entry = entry("lowrank_grad_linear", 3, 2, SCALARS);
/// `sums → out`.
pub const REDUCE: Entry = entry("lowrank_grad_reduce", 1, 1, SUM);

const fn entry(name: &'static str, inputs: usize, outputs: usize, scalars: usize) -> Entry {
    Entry { name, inputs, outputs, scalars, block: [32, WARPS] }
}

pub(super) const fn variant(element: Element) -> Variant {
    let tile = &[
        ("WARPS", WARPS),
        ("NARROW_COLUMNS", NARROW.columns),
        ("NARROW_DEPTH", NARROW.depth),
        ("WIDE_COLUMNS", WIDE.columns),
        ("WIDE_DEPTH", WIDE.depth),
    ];
    Variant { family: Family::LowrankGrad, element: Some(element), arch: "sm_80", tile }
}
