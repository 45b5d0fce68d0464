//! The tile of `cluster.cu`.

use super::{Element, Entry, Family, Variant};

/// Rows that are in registers at a time, loaded while those before are worked on: enough to cover the latency of memory
/// with one block a multiprocessor.
pub const TILE_ROWS: u32 = 4;
/// Centroids whose dots with those rows are in registers.
pub const GROUP: u32 = 4;
/// Warps of a step, which has all centroids in shared memory and so a multiprocessor for itself.
pub const STEP_WARPS: u32 = 16;
/// Warps of a block that only scores.
pub const SCORE_WARPS: u32 = 8;
/// Warps of a block that only sums.
pub const SUM_WARPS: u32 = 4;
/// Warps of a block of the update.
pub const UPDATE_WARPS: u32 = 8;
/// Centroids that one pass of scoring over its rows takes.
pub const SCORED: u32 = 16;
/// The most rows of a block: as many roundings has a sum in `f32`.
pub const MAX_ROWS: u32 = 128;
/// Bytes of `Problem`.
pub const SCALARS: usize = 48;

/// In the order of the file.
pub const ENTRIES: &[Entry] = &[STEP, STEP_WIDE, LABELS, SCORES, SUMS, UPDATE];

const fn entry(name: &'static str, inputs: usize, outputs: usize, warps: u32) -> Entry {
    Entry { name, inputs, outputs, scalars: SCALARS, block: [32, warps] }
}

/// `rows, scales, mean, centred, offsets, labels → next, partial, sizes, state`.
pub const STEP: Entry = entry("lloyd_step", 6, 4, STEP_WARPS);
/// The same for rows of up to twice as many vectors.
pub const STEP_WIDE: Entry = entry("lloyd_step_wide", 6, 4, STEP_WARPS);
/// `rows, scales, centred, offsets, state → next`.
pub const LABELS: Entry = entry("lloyd_labels", 5, 1, SCORE_WARPS);
/// `rows, scales, centred, offsets → scores`.
pub const SCORES: Entry = entry("lloyd_scores", 4, 1, SCORE_WARPS);
/// `rows, scales, mean, centred, labels, next → partial, sizes, state`.
pub const SUMS: Entry = entry("lloyd_sums", 6, 3, SUM_WARPS);
/// `mean, partial → centred, offsets, sizes, means, movements, arrivals, state`.
pub const UPDATE: Entry = entry("lloyd_update", 2, 7, UPDATE_WARPS);

pub(super) const fn variant(element: Element) -> Variant {
    let tile = &[
        ("TILE_ROWS", TILE_ROWS),
        ("GROUP", GROUP),
        ("STEP_WARPS", STEP_WARPS),
        ("SCORE_WARPS", SCORE_WARPS),
        ("SUM_WARPS", SUM_WARPS),
        ("UPDATE_WARPS", UPDATE_WARPS),
        ("SCORED", SCORED),
        ("MAX_ROWS", MAX_ROWS),
    ];
    Variant { family: Family::Cluster, element: Some(element), arch: "sm_80", tile }
}
