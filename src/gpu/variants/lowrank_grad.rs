//! The tile of `lowrank_grad.cu`.

use super::lowrank::terms;
use super::{Element, Entry, Family, Variant};

/// Warps of a block.
pub const WARPS: u32 = 8;
/// Threads of a block.
pub const THREADS: usize = 32 * WARPS as usize;
/// Sub-rows of G that are in shared memory at a time.
pub const TILE_ROWS: usize = 16;
/// Modules that one launch serves at most.
pub const MODULES: usize = 8;
/// Bytes of `Group`.
pub const SCALARS: usize = 80 + MODULES * 256;

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

/// z, where the forward has not left it.
pub const PREMIX: Entry = entry("lowrank_grad_premix");
/// dz and partial sums of dB, with [`NARROW`].
pub const NARROW_PRODUCTS: Entry = entry("lowrank_grad_products_narrow");
/// dz and partial sums of dB, with [`WIDE`].
pub const WIDE_PRODUCTS: Entry = entry("lowrank_grad_products_wide");
/// dX, and partial sums of the gate's gradient or the derivatives by its logits.
pub const TOKENS: Entry = entry("lowrank_grad_tokens");
/// Partial sums of a linear gate's gradient, and its share of dH.
pub const LINEAR: Entry = entry("lowrank_grad_linear");
/// dB and the gate's gradient.
pub const REDUCE: Entry = entry("lowrank_grad_reduce");

/// All operands by address, in `Group`.
const fn entry(name: &'static str) -> Entry {
    Entry { name, inputs: 0, outputs: 0, scalars: SCALARS, block: [32, WARPS] }
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
