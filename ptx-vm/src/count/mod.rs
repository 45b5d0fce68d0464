//! What a profiler would count: exact, repeatable, per instruction, then per source line and per allocation.

mod banks;
mod class;
mod footprint;
mod recorder;
mod report;

#[cfg(test)]
mod tests;

pub(crate) use recorder::Recorder;

use crate::check::SourceLine;
use crate::isa::Class;
use crate::memory::Buffer;
use std::ops::AddAssign;

/// Bytes moved in one direction between the kernel and one allocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Warp instructions that touched it.
    pub requests: u64,
    /// Bytes asked for by active lanes.
    pub requested: u64,
    /// 32-byte sectors moved: different sectors of each warp instruction, added up.
    pub sectors: u64,
    /// Different bytes touched during the launch.
    pub distinct: u64,
}

/// Traffic of one allocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Loads, the read half of atomics, sources of `cp.async`.
    pub read: Moved,
    /// Stores, the write half of atomics.
    pub written: Moved,
}

/// Shared-memory traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SharedTraffic {
    /// Warp instructions.
    pub requests: u64,
    /// Bytes asked for by active lanes.
    pub requested: u64,
    /// Passes over the 32 banks that the requests took. An access of up to 4 bytes a lane goes in one pass, of 8 bytes in
    /// two (half a warp each), of 16 bytes and `ldmatrix` in four (a quarter, a matrix); each takes a further pass for every
    /// further word that it wants from its busiest bank. Lanes that want the same word share it, but atomics on one word
    /// take a pass each.
    pub wavefronts: u64,
    /// Passes beyond the least possible for the access width: bank conflicts, and atomics that wait for each other.
    pub conflicts: u64,
}

/// What one source line cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineCount {
    /// The CUDA line; `None` collects instructions without line information.
    pub source: Option<SourceLine>,
    /// Warp instructions.
    pub warp_instructions: u64,
    /// Thread instructions (active lanes).
    pub thread_instructions: u64,
    /// Device memory, all allocations together.
    pub global: Traffic,
    /// Shared memory.
    pub shared: SharedTraffic,
}

/// Counters of a launch. Equal launches have equal counters.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Warp and thread instructions of each class, as in [`Class::ALL`].
    classes: [[u64; 2]; Class::ALL.len()],
    /// The memory that `buffers` are handles of.
    memory: u64,
    /// Handles of `allocations`.
    buffers: Vec<u32>,
    allocations: Vec<(String, Traffic)>,
    shared: SharedTraffic,
    products: u64,
    multiply_adds: u64,
    waits: u64,
    lines: Vec<LineCount>,
}

impl PartialEq for Counters {
    /// The same kernel on the same data in another [`crate::Memory`] counts the same.
    fn eq(&self, other: &Counters) -> bool {
        let Counters { classes, memory: _, buffers: _, allocations, shared, products, multiply_adds, waits, lines } =
            self;
        (classes, allocations, lines) == (&other.classes, &other.allocations, &other.lines)
            && (shared, products, multiply_adds, waits)
                == (&other.shared, &other.products, &other.multiply_adds, &other.waits)
    }
}

impl Eq for Counters {}

impl Counters {
    /// Warp instructions executed, of one class. One that every lane's guard holds off counts: a warp issues it.
    pub fn class(&self, class: Class) -> u64 {
        self.classes[class as usize][0]
    }

    /// Thread instructions executed, of one class: lanes that a guard holds off do not count.
    pub fn class_threads(&self, class: Class) -> u64 {
        self.classes[class as usize][1]
    }

    /// Warp instructions of all classes.
    pub fn warp_instructions(&self) -> u64 {
        self.classes.iter().map(|[warps, _]| warps).sum()
    }

    /// Thread instructions of all classes.
    pub fn thread_instructions(&self) -> u64 {
        self.classes.iter().map(|[_, threads]| threads).sum()
    }

    /// What moved to and from a buffer; nothing for a buffer of another memory.
    pub fn traffic<T>(&self, buffer: &Buffer<T>) -> Traffic {
        let index = self.buffers.iter().position(|id| *id == buffer.id && self.memory == buffer.memory);
        index.map_or_else(Traffic::default, |index| self.allocations[index].1)
    }

    /// Every allocation that the kernel touched, by name, in the order of their creation; module variables are among them.
    pub fn allocations(&self) -> &[(String, Traffic)] {
        &self.allocations
    }

    /// Shared memory.
    pub fn shared(&self) -> SharedTraffic {
        self.shared
    }

    /// Tensor-core products (`mma` instructions, one for a whole warp).
    pub fn tensor_products(&self) -> u64 {
        self.products
    }

    /// Multiply-adds in tensor-core products: 16·8·16 in an m16n8k16.
    pub fn tensor_multiply_adds(&self) -> u64 {
        self.multiply_adds
    }

    /// How often a warp waited at a barrier of its block.
    pub fn barrier_waits(&self) -> u64 {
        self.waits
    }

    /// Every source line that was executed, by file and line; first what has no line information.
    pub fn lines(&self) -> &[LineCount] {
        &self.lines
    }
}

impl AddAssign for Moved {
    fn add_assign(&mut self, other: Moved) {
        self.requests += other.requests;
        self.requested += other.requested;
        self.sectors += other.sectors;
        self.distinct += other.distinct;
    }
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Traffic) {
        self.read += other.read;
        self.written += other.written;
    }
}

impl AddAssign for SharedTraffic {
    fn add_assign(&mut self, other: SharedTraffic) {
        self.requests += other.requests;
        self.requested += other.requested;
        self.wavefronts += other.wavefronts;
        self.conflicts += other.conflicts;
    }
}
