//! The tiles of `shared_gemm_grad.cu`.

use super::{Element, Entry, Family, Variant};

/// Stages of the ring: two are under way while one is multiplied.
pub const STAGES: u32 = 3;
/// Elements of K of a stage.
pub const DEPTH: usize = 64;
/// Bytes of `Problem`.
const SCALARS: usize = 112;

/// In the order of the file. All operands by address, in `Problem`.
pub const ENTRIES: &[Entry] =
    &[entry("shared_gemm_grad_128x128", 8), entry("shared_gemm_grad_64x128", 4), entry("shared_gemm_grad_64x64", 2)];

const fn entry(name: &'static str, warps: u32) -> Entry {
    Entry { name, inputs: 0, outputs: 0, scalars: SCALARS, block: [32, warps] }
}

/// What a block of an entry point takes.
#[derive(Debug)]
pub struct Tile {
    pub tokens: u32,
    pub columns: u32,
    pub entry: &'static Entry,
    /// Registers of a thread at most, by its launch bounds.
    pub registers: u32,
}

/// The default first, the others for fewer tokens or columns. Two, three and four blocks fit a multiprocessor of an H100.
pub const TILES: &[Tile] = &[
    Tile { tokens: 128, columns: 128, entry: &ENTRIES[0], registers: 128 },
    Tile { tokens: 64, columns: 128, entry: &ENTRIES[1], registers: 168 },
    Tile { tokens: 64, columns: 64, entry: &ENTRIES[2], registers: 255 },
];

impl Tile {
    /// Bytes of dynamic shared memory: of each stage, 128 of a row of the first operand, 64 rows of the second.
    pub const fn ring(&self) -> u32 {
        STAGES * (self.tokens + self.columns) * 128
    }
}

pub(super) const fn variant(element: Element) -> Variant {
    Variant { family: Family::SharedGemmGrad, element: Some(element), arch: "sm_80", tile: &[("STAGES", STAGES)] }
}
