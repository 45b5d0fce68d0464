//! What a sanitizer would say.

mod findings;

pub(crate) use findings::{At, Findings, Shape, place};
pub use findings::{Finding, FindingKind, SourceLine};

/// Which checks run. Bounds and alignment are always checked: a launch never reads or writes outside an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checks {
    /// Reads of bytes that nothing wrote: device, shared and local memory.
    pub uninitialised: bool,
    /// Touching the source or target of a `cp.async` that has not been waited for.
    pub in_flight: bool,
    /// Two threads of a block touch the same byte of shared memory, one writes, and nothing orders them.
    pub shared_races: bool,
    /// The same in device memory between blocks, with atomics and fences as edges. Off in [`Checks::ALL`]: it is slow.
    pub global_races: bool,
    /// Barriers that some threads do not reach, warp operations that name lanes which are not there.
    pub sync: bool,
}

impl Checks {
    /// No check that costs time.
    pub const NONE: Checks =
        Checks { uninitialised: false, in_flight: false, shared_races: false, global_races: false, sync: false };
    /// Every check but races in device memory.
    pub const ALL: Checks =
        Checks { uninitialised: true, in_flight: true, shared_races: true, global_races: false, sync: true };
    /// Every check there is.
    pub const GLOBAL_RACES: Checks = Checks { global_races: true, ..Checks::ALL };
}

impl Default for Checks {
    fn default() -> Self {
        Checks::ALL
    }
}
