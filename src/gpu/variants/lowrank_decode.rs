//! The tile of `lowrank_decode.cu`.

use super::lowrank::{SCALARS as GROUP, WARPS};
use super::{Element, Entry, Family, Variant};

/// The most tokens of a module.
pub const MAX_TOKENS: usize = 64;
/// Bytes of `Decode`.
pub const SCALARS: usize = GROUP + 24;

/// In the order of the file.
pub const ENTRIES: &[Entry] = &[FORWARD];

/// All operands by address, in `Decode`.
pub const FORWARD: Entry =
    Entry { name: "lowrank_decode", inputs: 0, outputs: 0, scalars: SCALARS, block: [32, WARPS] };

pub(super) const fn variant(element: Element) -> Variant {
    Variant { family: Family::LowrankDecode, element: Some(element), arch: "sm_80", tile: &[("WARPS", WARPS)] }
}

/// Columns of a window: `WINDOW`.
pub const fn window(element: Element) -> usize {
    4 * element.vector() as usize
}
