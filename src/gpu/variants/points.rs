//! The tile of `points.cu`.

use super::{Element, Entry, Family, Variant};

/// Warps of a block that measures distances.
pub const POINT_WARPS: u32 = 8;
/// Points that a warp of [`NEAREST`] measures against the one centroid: what it reads of that, twice the bytes of a 16-bit
/// point, is shared among them.
pub const NEAREST_POINTS: u32 = 4;
/// Threads of the block that draws a seed.
pub const SEED_THREADS: u32 = 1024;
/// Warps that share a chunk of points.
pub const SUM_WARPS: u32 = 8;
/// Points of a chunk at most. Fixed, because it decides the order of summation; large enough that the sums of chunks, 16 bytes
/// written and read per chunk and column, cost 1/16 of reading 16-bit elements.
pub const CHUNK_POINTS: u32 = 128;
/// Columns of a block in the second stage of the means.
pub const MEAN_THREADS: u32 = 256;

/// Bytes of `Shape`.
pub const SHAPE: usize = 16;
/// Bytes of `Round`.
pub const ROUND: usize = 24;

/// In the order of the file.
pub const ENTRIES: &[Entry] = &[DISTANCES, NEAREST, RESIDUALS, SEED, SUMS, MEANS];

/// `rows, scales, centroids, labels → distances`.
pub const DISTANCES: Entry =
    Entry { name: "point_distances", inputs: 4, outputs: 1, scalars: SHAPE, block: [32, POINT_WARPS] };
/// `rows, scales, centroids → nearest`.
pub const NEAREST: Entry =
    Entry { name: "point_nearest", inputs: 3, outputs: 1, scalars: ROUND, block: [32, POINT_WARPS] };
/// `rows, factors, centroids, labels → residuals`.
pub const RESIDUALS: Entry =
    Entry { name: "point_residuals", inputs: 4, outputs: 1, scalars: SHAPE, block: [32, POINT_WARPS] };
/// `rows, scales, uniforms → nearest, seeds, centroids`.
pub const SEED: Entry = Entry { name: "point_seed", inputs: 3, outputs: 3, scalars: ROUND, block: [SEED_THREADS, 1] };
/// `rows, factors, order, starts → partial`.
pub const SUMS: Entry = Entry { name: "point_sums", inputs: 4, outputs: 1, scalars: SHAPE, block: [32, SUM_WARPS] };
/// `partial, starts, clusters → means`.
pub const MEANS: Entry = Entry { name: "point_means", inputs: 3, outputs: 1, scalars: SHAPE, block: [MEAN_THREADS, 1] };

pub(super) const fn variant(element: Element) -> Variant {
    let tile = &[
        ("POINT_WARPS", POINT_WARPS),
        ("NEAREST_POINTS", NEAREST_POINTS),
        ("SEED_THREADS", SEED_THREADS),
        ("SUM_WARPS", SUM_WARPS),
        ("CHUNK_POINTS", CHUNK_POINTS),
        ("MEAN_THREADS", MEAN_THREADS),
    ];
    Variant { family: Family::Points, element: Some(element), arch: "sm_80", tile }
}

/// Columns of a block of [`SUMS`]: 16 bytes of a row for each lane.
pub const fn tile_columns(element: Element) -> usize {
    32 * element.vector() as usize
}
