//! The tile of `shared_gemm.cu`.

use super::{Element, Entry, Family, Variant};

/// Tokens and columns of a tile: of the chosen rows too, of which there are 128 at k = 4, r = 32.
pub const BLOCK: u32 = 128;
/// Warps of a block.
pub const WARPS: u32 = 8;
/// Stages of the ring: two are under way while one is multiplied.
pub const STAGES: u32 = 3;
/// Dynamic shared memory of a block: 128 bytes of a row, two operands. Two blocks fit a multiprocessor of an H100.
pub const RING: u32 = STAGES * 2 * BLOCK * 128;
/// Components at most: gate values of four tokens for each warp fit the ring.
pub const COMPONENTS: usize = RING as usize / (WARPS as usize * 4 * 4);
/// Elements of z in a row of terms.
pub const CHUNK: usize = 32;
/// Bytes of a row of terms: two of each.
pub const CHUNK_BYTES: usize = 2 * 2 * CHUNK;
/// Words of the head before those of each block of tokens.
pub const COUNTERS: usize = 32;

/// In the order of the file.
pub const ENTRIES: &[Entry] = &[GEMM];

/// All operands by address, in `Problem`.
pub const GEMM: Entry = Entry { name: "shared_gemm", inputs: 0, outputs: 0, scalars: 224, block: [32, WARPS] };

pub(super) const fn variant(element: Element) -> Variant {
    let tile = &[("BLOCK", BLOCK), ("WARPS", WARPS), ("STAGES", STAGES)];
    Variant { family: Family::SharedGemm, element: Some(element), arch: "sm_80", tile }
}
