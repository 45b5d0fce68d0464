//! The tile of `qr_gram.cu`.

use super::{Element, Entry, Family, Variant};

/// Rows of a block of rows. Rows are read once for every 128 of their group, from the second-level cache where a
/// group fits it; smaller blocks read more, larger ones leave too few of them for one matrix.
pub const BLOCK: u32 = 128;
/// Stages of the ring: two are under way while one is multiplied.
pub const STAGES: u32 = 3;
/// Threads of a block of the factorisation.
pub const THREADS: u32 = 512;
/// Dynamic shared memory of a block of `qr_gram`: 128 bytes of a row, two operands.
pub const RING: u32 = STAGES * 2 * BLOCK * 128;
/// Static shared memory at most, of either kernel.
pub const STATIC: u32 = 2 * BLOCK * 8;
/// Bytes of `Scale`.
pub const SCALE: usize = 24;

/// In the order of the file.
pub const ENTRIES: &[Entry] = &[GRAM, CHOLESKY];

/// `rows, indptr, scales, tiles → gram`.
pub const GRAM: Entry = Entry { name: "qr_gram", inputs: 4, outputs: 1, scalars: 8, block: [256, 1] };
/// `gram, indptr, squares, limits, scales → jpvt, reached, phase, handover, factor, coeffs, left, norms, spread`.
pub const CHOLESKY: Entry = Entry { name: "qr_cholesky", inputs: 5, outputs: 9, scalars: 24, block: [THREADS, 1] };

pub(super) const fn variant(element: Element) -> Variant {
    let tile = &[("BLOCK", BLOCK), ("STAGES", STAGES), ("THREADS", THREADS)];
    Variant { family: Family::QrGram, element: Some(element), arch: "sm_80", tile }
}
