//! The tiles of `lowrank_down.cu`.

use super::{Element, Entry, Family, Variant};

/// Warps of a block.
pub const WARPS: u32 = 8;
/// Modules that one launch serves at most.
pub const MODULES: usize = 8;
/// Bytes of `Group`.
pub const SCALARS: usize = 32 + MODULES * 56;

/// What a block takes of X, and the dynamic shared memory it needs for that.
#[derive(Debug, PartialEq, Eq)]
pub struct Tile {
    pub entry: Entry,
    pub tokens: usize,
    pub columns: usize,
    pub shared: u32,
}

/// The smallest first.
pub const TILES: &[Tile] = &[
    Tile { entry: SMALL, tokens: 16, columns: 16, shared: 98304 },
    Tile { entry: MEDIUM, tokens: 64, columns: 64, shared: 65536 },
    Tile { entry: LARGE, tokens: 128, columns: 64, shared: 98304 },
];

/// In the order of the file.
pub const ENTRIES: &[Entry] = &[SMALL, MEDIUM, LARGE];

const SMALL: Entry = entry("lowrank_down_small");
const MEDIUM: Entry = entry("lowrank_down_medium");
const LARGE: Entry = entry("lowrank_down_large");

/// All operands by address, in `Group`.
const fn entry(name: &'static str) -> Entry {
    Entry { name, inputs: 0, outputs: 0, scalars: SCALARS, block: [32, WARPS] }
}

pub(super) const fn variant(element: Element) -> Variant {
    Variant { family: Family::LowrankDown, element: Some(element), arch: "sm_80", tile: &[("WARPS", WARPS)] }
}
