//! The tile of `qr_solve.cu`.

use super::{Element, Entry, Family, Variant};

/// Rows, and pivots, of a block of products: 32 × 32 entries leave enough blocks for one matrix, and read rows once for
/// 32 pivots.
pub const TILE: u32 = 32;
/// Columns staged at a time.
pub const DEPTH: u32 = 32;
/// Rows of `R` computed together.
pub const PANEL: u32 = 8;
/// Threads of a block.
pub const THREADS: u32 = 256;
/// Warps of a block, each with a workspace of its own.
pub const WARPS: u32 = THREADS / 32;
/// Bytes of `ProductShape` and of `SolveShape`.
pub const SCALARS: usize = 24;

/// In the order of the file.
pub const ENTRIES: &[Entry] = &[PRODUCTS, SOLVE];

/// `rows, indptr, phase, reached, jpvt, tiles → r`.
pub const PRODUCTS: Entry = Entry { name: "qr_products", inputs: 6, outputs: 1, scalars: SCALARS, block: [THREADS, 1] };
/// `squares, indptr, limits, reached, jpvt → phase, r, order, coeffs, remaining`.
pub const SOLVE: Entry = Entry { name: "qr_solve", inputs: 5, outputs: 5, scalars: SCALARS, block: [THREADS, 1] };

pub(super) const fn variant(element: Element) -> Variant {
    let tile = &[("TILE", TILE), ("DEPTH", DEPTH), ("PANEL", PANEL), ("THREADS", THREADS)];
    Variant { family: Family::QrSolve, element: Some(element), arch: "sm_80", tile }
}
