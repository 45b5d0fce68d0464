//! The tile of `lowrank.cu`.

use super::{Element, Entry, Family, Variant};

/// Warps of a block: the multiprocessor's registers hold two such blocks.
pub const WARPS: u32 = 8;
/// Modules that one launch serves at most.
pub const MODULES: usize = 8;
/// Bytes of `Group`.
pub const SCALARS: usize = 88 + MODULES * 192;

/// In the order of the file.
pub const ENTRIES: &[Entry] = &[FORWARD];

/// All operands by address, in `Group`.
pub const FORWARD: Entry =
    Entry { name: "lowrank_forward", inputs: 0, outputs: 0, scalars: SCALARS, block: [32, WARPS] };

pub(super) const fn variant(element: Element) -> Variant {
    Variant { family: Family::Lowrank, element: Some(element), arch: "sm_80", tile: &[("WARPS", WARPS)] }
}

/// Elements of a step of 16 of a term of z.
pub const STEP: usize = 288;

/// Terms that a float enters as, see `common/terms.cuh`.
pub const fn terms(element: Element) -> usize {
    match element {
        Element::F16 | Element::BF16 => 2,
        Element::F32 => 3,
    }
}

/// Elements between rows of a window that has shared memory of its own: `STAGE_PITCH`.
pub const fn stage_pitch(element: Element) -> usize {
    match element {
        Element::F16 | Element::BF16 => 40,
        Element::F32 => 24,
    }
}
