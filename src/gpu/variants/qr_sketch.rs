//! The tile of `qr_sketch.cu`.

use super::{Element, Entry, Family, Variant};

/// Warps of a block.
pub const WARPS: u32 = 8;
/// Columns of a warp where the sketch is no wider than a block's, 64; two rows a lane.
pub const NARROW: u32 = 8;
/// Columns of a warp where it is wider; one row a lane.
pub const WIDE: u32 = 32;
/// Elements of a row in shared memory at a time: whole sectors of every element.
pub const NARROW_CHUNK: u32 = 64;
/// The same for wide sketches, whose columns take more room.
pub const WIDE_CHUNK: u32 = 32;
/// Bytes of `Tile`.
pub const TILE: usize = 24;
/// Bytes of `Shape` and of `Batch`.
pub const SCALARS: usize = 16;

const BLOCK: [u32; 2] = [32, WARPS];

/// In the order of the file.
pub const ENTRIES: &[Entry] = &[SKETCH_NARROW, SKETCH_WIDE, PIVOTS];

/// `rows, tiles, omega → y`.
pub const SKETCH_NARROW: Entry = Entry { name: "sketch_narrow", inputs: 3, outputs: 1, scalars: SCALARS, block: BLOCK };
/// `rows, tiles, omega → y`.
pub const SKETCH_WIDE: Entry = Entry { name: "sketch_wide", inputs: 3, outputs: 1, scalars: SCALARS, block: BLOCK };
/// `squares, indptr, limits, found, found_jpvt, found_r → phase, reached, jpvt`.
pub const PIVOTS: Entry = Entry { name: "sketch_pivots", inputs: 6, outputs: 3, scalars: SCALARS, block: BLOCK };

pub(super) const fn variant(element: Element) -> Variant {
    let tile = &[
        ("WARPS", WARPS),
        ("NARROW", NARROW),
        ("WIDE", WIDE),
        ("NARROW_CHUNK", NARROW_CHUNK),
        ("WIDE_CHUNK", WIDE_CHUNK),
    ];
    Variant { family: Family::QrSketch, element: Some(element), arch: "sm_80", tile }
}
