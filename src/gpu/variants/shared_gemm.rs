//! The tiles of `shared_gemm.cu`.

use super::{Element, Entry, Family, Variant};

/// Warps of a block, whatever its tile.
pub const WARPS: u32 = 8;

/// What a block takes of Y at a time: a row of the table for each. All give the same bits.
#[derive(Debug, PartialEq, Eq)]
pub struct Tile {
    pub tokens: u32,
    pub columns: u32,
    /// Tokens and columns of a warp's part: so finely is a ragged tile computed.
    pub warp: [u32; 2],
    /// Stages of the ring: all but one are under way while one is multiplied.
    pub stages: u32,
    /// Blocks that share a multiprocessor, by their registers.
    pub resident: u32,
    /// As the compiler is told.
    options: &'static [(&'static str, u32)],
}

impl Tile {
    /// Dynamic shared memory of a block: 128 bytes of a row of either operand in a stage.
    pub const fn ring(&self) -> u32 {
        self.stages * (self.tokens + self.columns) * 128
    }
}

macro_rules! tile {
    ($tokens:literal x $columns:literal, warps of $down:literal x $across:literal, $stages:literal stages, $resident:literal resident) => {
        Tile {
            tokens: $tokens,
            columns: $columns,
            warp: [$down, $across],
            stages: $stages,
            resident: $resident,
            options: &[
                ("BLOCK_TOKENS", $tokens),
                ("BLOCK_COLUMNS", $columns),
                ("WARP_TOKENS", $down),
                ("WARP_COLUMNS", $across),
                ("WARPS", WARPS),
                ("STAGES", $stages),
                ("RESIDENT", $resident),
            ],
        }
    };
}

/// The default first, then two for few tokens or few columns, then one that reads the least.
pub const TILES: &[Tile] = &[
    tile!(128 x 128, warps of 64 x 32, 3 stages, 2 resident),
    tile!(64 x 128, warps of 32 x 32, 3 stages, 2 resident),
    tile!(64 x 64, warps of 32 x 16, 4 stages, 2 resident),
    tile!(128 x 256, warps of 64 x 64, 3 stages, 1 resident),
];
/// Tokens of the smallest tile, and tokens or columns of the largest.
pub const LEAST_TOKENS: usize = 64;
pub const LARGEST: usize = 256;

/// Components at most: gate values of four tokens for half of the warps fit every ring.
pub const COMPONENTS: usize = 768;
/// Elements of z in a row of terms.
pub const CHUNK: usize = 32;
/// Bytes of a row of terms: two of each.
pub const CHUNK_BYTES: usize = 2 * 2 * CHUNK;
/// Blocks of tokens that share columns at a time, at most.
pub const RASTER: u32 = 32;

const _: () = {
    let mut i = 0;
    while i < TILES.len() {
        let tile = &TILES[i];
        assert!(tile.ring() as usize >= WARPS as usize / 2 * 4 * 4 * COMPONENTS, "gate values fit the ring");
        assert!(tile.tokens as usize >= LEAST_TOKENS && tile.columns as usize <= LARGEST);
        assert!(tile.tokens / tile.warp[0] * (tile.columns / tile.warp[1]) == WARPS, "a warp for every part");
        i += 1;
    }
};

/// In the order of the file.
pub const ENTRIES: &[Entry] = &[GEMM];

/// All operands by address, in `Problem`.
pub const GEMM: Entry = Entry { name: "shared_gemm", inputs: 0, outputs: 0, scalars: 240, block: [32, WARPS] };

pub(super) const fn variant(element: Element, tile: usize) -> Variant {
    Variant { family: Family::SharedGemm, element: Some(element), arch: "sm_80", tile: TILES[tile].options }
}
