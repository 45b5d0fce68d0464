//! Findings: what a kernel did wrong, where, and how often.

use crate::program::Program;
use std::collections::HashMap;
use std::fmt;

/// The kind of a [`Finding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FindingKind {
    /// An address outside every allocation, or outside the sub-slice that was passed.
    GlobalOutOfBounds,
    /// An address outside the block's shared memory, or across the end of the array it began in.
    SharedOutOfBounds,
    /// An address outside the thread's local memory.
    LocalOutOfBounds,
    /// An address outside the kernel's parameters.
    ParamOutOfBounds,
    /// A write to constant memory, to parameters, or to bytes read by `ld.global.nc` in this launch.
    ReadOnly,
    /// An address that is not a multiple of the access's size.
    Misaligned,
    /// Reads of bytes that nothing wrote.
    Uninitialised,
    /// Touching data of a `cp.async` that has not been waited for.
    InFlight,
    /// Unordered accesses of two threads to a byte of shared memory.
    SharedRace,
    /// Unordered accesses of two blocks to a byte of device memory.
    GlobalRace,
    /// A barrier reached by part of a warp that must reach it whole, or with different thread counts.
    BarrierDivergence,
    /// A warp operation whose mask names lanes that will not come, or leaves out the one that executes.
    MissingLanes,
    /// Every thread waits for something that cannot happen.
    Deadlock,
    /// The step limit ended the launch: an endless loop, or a wait on a block that is not resident.
    StepLimit,
    /// The kernel executed `trap`.
    Trap,
    /// The same launch gave other bits under another schedule.
    OrderDependence,
}

/// A line of the CUDA source.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceLine {
    /// As `.file` names it.
    pub file: String,
    /// From 1.
    pub line: u32,
}

impl fmt::Display for SourceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Something a kernel did wrong. Repetitions at the same instruction are counted, not listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub kind: FindingKind,
    /// In which kernel.
    pub kernel: String,
    /// Block of the first occurrence.
    pub block: [u32; 3],
    /// Thread of the first occurrence.
    pub thread: [u32; 3],
    /// CUDA line, where the module has line information.
    pub source: Option<SourceLine>,
    /// Line of the PTX text.
    pub ptx_line: u32,
    /// Address, sizes, the other party.
    pub detail: String,
    /// How often it happened.
    pub occurrences: u64,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} in {} at ", self.kind, self.kernel)?;
        match &self.source {
            Some(source) => write!(f, "{source}")?,
            None => write!(f, "PTX line {}", self.ptx_line)?,
        }
        write!(f, ", block {:?}, thread {:?}: {} ({}×)", self.block, self.thread, self.detail, self.occurrences)
    }
}

/// Who and where: an instruction executed by a warp of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    /// Linear block index.
    pub block: u64,
    /// Warp in the block.
    pub warp: u32,
    /// Instruction.
    pub pc: u32,
}

/// Extents of a launch, for turning linear indices into coordinates.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    grid: [u32; 3],
    block: [u32; 3],
}

impl Shape {
    /// Coordinates of a block.
    pub fn block(self, linear: u64) -> [u32; 3] {
        unravel(linear, self.grid)
    }

    /// Coordinates of a thread in its block.
    pub fn thread(self, warp: u32, lane: u32) -> [u32; 3] {
        unravel(u64::from(warp) * 32 + u64::from(lane), self.block)
    }

    /// Blocks of the grid.
    pub fn blocks(self) -> u64 {
        self.grid.iter().fold(1, |product, &extent| product.saturating_mul(u64::from(extent)))
    }
}

/// Where an instruction stands, in words.
pub(crate) fn place(program: &Program, pc: u32) -> String {
    let (source, ptx_line) = source(program, pc);
    source.map_or_else(|| format!("PTX line {ptx_line}"), |source| source.to_string())
}

/// The CUDA line of an instruction, where there is line information, and its PTX line.
fn source(program: &Program, pc: u32) -> (Option<SourceLine>, u32) {
    let place = program.places.get(pc as usize).copied().unwrap_or_default();
    let file = (place.file as usize).checked_sub(1).and_then(|i| program.files.get(i));
    (file.map(|file| SourceLine { file: file.clone(), line: place.line }), place.ptx_line)
}

/// Collects findings of one launch.
#[derive(Debug)]
pub(crate) struct Findings {
    shape: Shape,
    found: Vec<Finding>,
    /// Findings by kind and instruction, for counting repetitions.
    index: HashMap<(FindingKind, u32), usize>,
}

impl Findings {
    /// Different (kind, instruction) pairs kept; a kernel that does everything wrong needs no more.
    const LIMIT: usize = 1000;

    pub fn new(grid: [u32; 3], block: [u32; 3]) -> Findings {
        Findings { shape: Shape { grid, block }, found: Vec::new(), index: HashMap::new() }
    }

    /// The launch's extents.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Records a finding of one lane. `detail` is only called the first time.
    pub fn report(&mut self, program: &Program, kind: FindingKind, at: At, lane: u32, detail: impl FnOnce() -> String) {
        if let Some(&index) = self.index.get(&(kind, at.pc)) {
            self.found[index].occurrences += 1;
            return;
        }
        if self.found.len() == Self::LIMIT {
            return;
        }
        self.index.insert((kind, at.pc), self.found.len());
        let (source, ptx_line) = source(program, at.pc);
        self.found.push(Finding {
            kind,
            kernel: program.name.clone(),
            block: self.shape.block(at.block),
            thread: self.shape.thread(at.warp, lane),
            source,
            ptx_line,
            detail: detail(),
            occurrences: 1,
        });
    }

    pub fn into_vec(self) -> Vec<Finding> {
        self.found
    }
}

/// The coordinates of a linear index, x fastest.
fn unravel(linear: u64, extent: [u32; 3]) -> [u32; 3] {
    let (x, y) = (u64::from(extent[0]).max(1), u64::from(extent[1]).max(1));
    [(linear % x) as u32, (linear / x % y) as u32, (linear / x / y) as u32]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::Place;
    use std::sync::Arc;

    fn program() -> Program {
        let place = |file, line, ptx_line| Place { file, line, ptx_line };
        Program {
            name: "kernel".to_owned(),
            places: vec![place(2, 7, 31), place(0, 0, 32), place(9, 1, 33)],
            files: Arc::new(vec!["a.cuh".to_owned(), "b.cu".to_owned()]),
            ..Program::default()
        }
    }

    #[test]
    fn a_finding_names_block_thread_and_line() {
        let mut findings = Findings::new([3, 5, 2], [8, 4, 2]);
        let at = At { block: 1 + 3 * (2 + 5), warp: 1, pc: 0 };
        findings.report(&program(), FindingKind::ReadOnly, at, 13, || "detail".to_owned());
        let [finding] = findings.into_vec().try_into().unwrap();
        // Thread 45 of 8 × 4 × 2.
        assert_eq!((finding.block, finding.thread), ([1, 2, 1], [5, 1, 1]));
        let expected = "ReadOnly in kernel at b.cu:7, block [1, 2, 1], thread [5, 1, 1]: detail (1×)";
        assert_eq!(finding.to_string(), expected);
    }

    #[test]
    fn without_line_information_the_ptx_line_stands() {
        assert_eq!(place(&program(), 0), "b.cu:7");
        assert_eq!(place(&program(), 1), "PTX line 32");
        assert_eq!(place(&program(), 2), "PTX line 33", "a file that nothing names");
        assert_eq!(place(&program(), 3), "PTX line 0", "an instruction that does not exist");
    }

    #[test]
    fn repetitions_are_counted_by_kind_and_instruction() {
        let mut findings = Findings::new([1; 3], [32, 1, 1]);
        let kinds = [FindingKind::Trap, FindingKind::ReadOnly, FindingKind::Trap, FindingKind::Trap];
        for (i, (kind, pc)) in kinds.into_iter().zip([0, 0, 0, 1]).enumerate() {
            let at = At { block: 0, warp: 0, pc };
            findings.report(&program(), kind, at, i as u32, || i.to_string());
        }
        let found = findings.into_vec();
        let summary: Vec<_> = found.iter().map(|f| (f.kind, f.detail.as_str(), f.occurrences)).collect();
        let expected = [(FindingKind::Trap, "0", 2), (FindingKind::ReadOnly, "1", 1), (FindingKind::Trap, "3", 1)];
        assert_eq!(summary, expected);
    }

    #[test]
    fn a_kernel_that_does_everything_wrong_fills_a_bounded_list() {
        let mut findings = Findings::new([1; 3], [32, 1, 1]);
        for pc in (0..2 * Findings::LIMIT as u32).chain([0]) {
            findings.report(&program(), FindingKind::Trap, At { block: 0, warp: 0, pc }, 0, String::new);
        }
        let found = findings.into_vec();
        assert_eq!((found.len(), found[0].occurrences), (Findings::LIMIT, 2));
    }
}
