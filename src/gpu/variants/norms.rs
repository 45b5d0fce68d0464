//! The tile of `norms.cu`.

use super::{Element, Entry, Family, Variant};

/// Rows of a block, a warp each.
pub const ROW_WARPS: u32 = 8;
/// Warps that share a chunk of rows.
pub const COLUMN_WARPS: u32 = 8;
/// Rows of a chunk. Fixed, because it decides the order of summation; large enough that the partial norms, 8 bytes
/// per chunk and column, cost 1/32 of reading 16-bit elements.
pub const CHUNK_ROWS: u32 = 128;
/// Columns of a block in the second stage.
pub const FINISH_THREADS: u32 = 256;
/// Bytes of `Shape`.
pub const SCALARS: usize = 24;

/// In the order of the file.
pub const ENTRIES: &[Entry] = &[ROWS, ROW_SQUARES, COLUMNS, COLUMNS_FINISH];

/// `w → norms, offender`.
pub const ROWS: Entry = Entry { name: "norm_rows", inputs: 1, outputs: 2, scalars: SCALARS, block: [32, ROW_WARPS] };
/// `rows → squares, offender`.
pub const ROW_SQUARES: Entry =
    Entry { name: "norm_row_squares", inputs: 1, outputs: 2, scalars: SCALARS, block: [32, ROW_WARPS] };
/// `w → partial, offender`.
pub const COLUMNS: Entry =
    Entry { name: "norm_columns", inputs: 1, outputs: 2, scalars: SCALARS, block: [32, COLUMN_WARPS] };
/// `partial → norms`.
pub const COLUMNS_FINISH: Entry =
    Entry { name: "norm_columns_finish", inputs: 1, outputs: 1, scalars: SCALARS, block: [FINISH_THREADS, 1] };

pub(super) const fn variant(element: Element) -> Variant {
    let tile = &[("ROW_WARPS", ROW_WARPS), ("COLUMN_WARPS", COLUMN_WARPS), ("CHUNK_ROWS", CHUNK_ROWS)];
    Variant { family: Family::Norms, element: Some(element), arch: "sm_80", tile }
}

/// Columns of a block in the first stage: 16 bytes of a row for each lane.
pub const fn tile_columns(element: Element) -> usize {
    32 * element.vector() as usize
}
