//! Who touched a byte last, and whether anything orders the next access after it.
//!
//! Happens-before by vector clocks at two levels: lanes of a warp are ordered by `bar.warp.sync`, warps of a block by block
//! barriers, threads of a block by strong accesses to shared memory and fences, blocks (opt-in) by those to device memory.
//!
//! Both detectors are exact up to the first race on a byte: an access is reported if and only if an earlier access
//! conflicts with it and nothing orders the two. After a race, the bytes count as freshly written by the later party.

mod cell;
mod clock;
mod edges;
mod global;
mod order;
mod sets;
mod shadow;
mod shared;

#[cfg(test)]
mod tests;

pub(crate) use edges::Strong;
pub(crate) use global::GlobalRaces;
pub(crate) use shared::SharedRaces;

/// A thread of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Thread {
    pub warp: u32,
    pub lane: u32,
}

/// The other party of a race.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// Who accessed the byte before.
    pub thread: Thread,
    /// The instruction of that access. If several instructions read the byte since the last barrier, one of them.
    pub pc: u32,
    /// Was that access a write?
    pub write: bool,
    /// The first byte in conflict.
    pub offset: u32,
}

/// The other block of a race in device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GlobalConflict {
    pub block: u64,
    pub pc: u32,
    pub write: bool,
    pub offset: u64,
}

/// The lanes of a mask, in ascending order.
fn lanes(mask: u32) -> impl Iterator<Item = u32> {
    let mut rest = mask;
    std::iter::from_fn(move || {
        let lane = rest.trailing_zeros();
        rest &= rest.wrapping_sub(1);
        (lane < 32).then_some(lane)
    })
}
