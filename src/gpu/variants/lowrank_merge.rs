//! The tile of `lowrank_merge.cu`.

use super::{Element, Entry, Family, Variant};

/// Warps of a block.
pub const WARPS: u32 = 8;
/// Columns of Z that a block of the solve takes, a thread each.
pub const SOLVE_THREADS: u32 = 64;
/// Rows of Z that a thread of the solve keeps in registers.
pub const PANEL: u32 = 8;
/// Of r/s, what a block of the update has in shared memory at a time.
pub const DEPTH: u32 = 16;
/// Columns of W that a block of the mixed rows takes.
pub const MIXED_COLUMNS: usize = 64;
/// Bytes of `Merge`.
pub const SCALARS: usize = 128;

/// Rows of W that a block of the update owns.
pub const fn rows(element: Element) -> usize {
    1024 / element.vector() as usize
}

/// Columns of W that a block of the update owns.
pub const fn columns(element: Element) -> usize {
    8 * element.vector() as usize
}

/// In the order of the file.
pub const ENTRIES: &[Entry] = &[ROWS, SOLVE, UPDATE];

/// Z = P W.
pub const ROWS: Entry = entry("lowrank_merge_rows", [32, WARPS]);
/// Z ← (I + P U)⁻¹ Z.
pub const SOLVE: Entry = entry("lowrank_merge_solve", [SOLVE_THREADS, 1]);
/// W ± U Z.
pub const UPDATE: Entry = entry("lowrank_merge_update", [32, WARPS]);

/// All operands by address, in `Merge`.
const fn entry(name: &'static str, block: [u32; 2]) -> Entry {
    Entry { name, inputs: 0, outputs: 0, scalars: SCALARS, block }
}

pub(super) const fn variant(element: Element) -> Variant {
    let tile = &[("WARPS", WARPS), ("SOLVE_THREADS", SOLVE_THREADS), ("PANEL", PANEL), ("DEPTH", DEPTH)];
    Variant { family: Family::LowrankMerge, element: Some(element), arch: "sm_80", tile }
}
