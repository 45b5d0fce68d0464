//! The tile of `interp.cu`.

use super::{Entry, Family, Variant};

/// Threads of a block, a column each at most.
pub const THREADS: u32 = 128;
/// Rows of R₁₁ that are substituted together: as many independent sums in each thread.
pub const PANEL: u32 = 8;
/// Columns of R₁₁ in shared memory at a time: 4 KiB, and all of R₁₁ in one piece for most ranks.
pub const CHUNK: u32 = 64;
/// Bytes of `Shape`.
pub const SCALARS: usize = 8;

/// In the order of the file.
pub const ENTRIES: &[Entry] = &[COEFFS];

/// `groups, tiles, panels, jpvt → t`.
pub const COEFFS: Entry = Entry { name: "interp_coeffs", inputs: 4, outputs: 1, scalars: SCALARS, block: [THREADS, 1] };

pub(super) const fn variant() -> Variant {
    let tile = &[("THREADS", THREADS), ("PANEL", PANEL), ("CHUNK", CHUNK)];
    Variant { family: Family::Interp, element: None, arch: "sm_80", tile }
}
