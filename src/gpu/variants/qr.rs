//! The tile of `qr.cu`.

use super::{Element, Entry, Family, Variant};

/// Warps of a block.
pub const WARPS: u32 = 8;
/// Columns of a tile of the pivot. Fixed, because it decides the order of summation.
pub const TILE: u32 = 128;
/// Columns of `q` in shared memory at a time: 36 KB, which no block has to ask for. Fixed, because it decides the order of
/// summation.
pub const SLICE: u32 = 4096;
/// Bytes of `Shape`.
pub const SCALARS: usize = 40;
/// Bytes of `Residual` and `Leader`.
pub const PAIR: usize = 16;

/// In the order of the file.
pub const ENTRIES: &[Entry] = &[EXACT];

/// `rows, squares, indptr, limits → phase, reached, jpvt, r, remaining, residuals, basis, partial, coeffs, leaders,
/// counters`.
pub const EXACT: Entry = Entry { name: "qr_exact", inputs: 4, outputs: 11, scalars: SCALARS, block: [32, WARPS] };

pub(super) const fn variant(element: Element) -> Variant {
    Variant {
        family: Family::Qr,
        element: Some(element),
        arch: "sm_80",
        tile: &[("WARPS", WARPS), ("TILE", TILE), ("SLICE", SLICE)],
    }
}
