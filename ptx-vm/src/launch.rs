//! A launch: what to run, on what, under which checks and schedule; and what came of it.

use crate::alu::mma::Accumulation;
use crate::bus::Bus;
use crate::check::{Checks, Finding, FindingKind, Findings};
use crate::count::{Counters, Recorder};
use crate::error::LaunchError;
use crate::exec;
use crate::memory::{Buffer, Memory, Slice};
use crate::module::Kernel;
use crate::program::Program;
use bytemuck::NoUninit;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::ops::Range;

/// Threads of a block, as on every GPU so far.
const MAX_THREADS: u32 = 1024;
/// Bytes of shared memory of a block: what an sm_90 block can have.
const MAX_SHARED: u64 = 227 * 1024;

/// Bytes of shared and local memory of all blocks alive at a time: a hostile module must not take the machine's memory.
const MAX_RESIDENT_BYTES: u64 = 4 << 30;

/// For each buffer passed as slices only: its id and what may be touched.
type Allowed = Vec<(u32, Vec<Range<u64>>)>;

/// In which order lanes, warps and blocks take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Schedule {
    /// Lanes at the lowest instruction first, warps and blocks in turn.
    #[default]
    InOrder,
    /// Everything in an order drawn from [`Launch::seed`].
    Random,
}

/// One kernel argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg(pub(crate) ArgKind);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ArgKind {
    /// Buffer id, memory id, byte range that may be touched (`None`: all of it); the address is that of its start.
    Pointer {
        buffer: u32,
        memory: u64,
        range: Option<Range<u64>>,
    },
    Bytes(Vec<u8>),
}

impl Arg {
    /// A scalar or a `#[repr(C)]` struct passed by value. Its layout must be the kernel's.
    pub fn value<T: NoUninit>(value: T) -> Arg {
        Arg::bytes(bytemuck::bytes_of(&value))
    }

    /// The same, from bytes whose number only run time knows.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Arg {
        Arg(ArgKind::Bytes(bytes.into()))
    }
}

impl<T> From<Buffer<T>> for Arg {
    fn from(buffer: Buffer<T>) -> Arg {
        Arg(ArgKind::Pointer { buffer: buffer.id, memory: buffer.memory, range: None })
    }
}

impl<T> From<Slice<T>> for Arg {
    fn from(slice: Slice<T>) -> Arg {
        let bytes = |index: usize| (index * size_of::<T>()) as u64;
        let range = Some(bytes(slice.start)..bytes(slice.end));
        Arg(ArgKind::Pointer { buffer: slice.buffer.id, memory: slice.buffer.memory, range })
    }
}

/// A launch. Fill in what differs from the default, then [`Launch::run`] it.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory of a block.
    pub dynamic_shared: u32,
    /// Arguments in order.
    pub args: Vec<Arg>,
    /// Which checks run.
    pub checks: Checks,
    /// Who takes turns how.
    pub schedule: Schedule,
    /// For [`Schedule::Random`], and for the order in which blocks start.
    pub seed: u64,
    /// Blocks alive at a time.
    pub resident: u32,
    /// Warp instructions of the whole launch before it is given up with [`crate::FindingKind::StepLimit`].
    pub step_limit: u64,
    /// Order and precision of tensor-core sums.
    pub accumulation: Accumulation,
    /// Moves half of the inexact results of approximate functions (`ex2`, `rcp`, `tanh`, …), drawn from the seed, to the
    /// neighbour on the other side of the true value, so that tests do not lean on bits that a GPU does not have.
    pub perturb: bool,
}

impl Default for Launch {
    fn default() -> Self {
        Launch {
            grid: [1, 1, 1],
            block: [32, 1, 1],
            dynamic_shared: 0,
            args: Vec::new(),
            checks: Checks::ALL,
            schedule: Schedule::InOrder,
            seed: 0,
            resident: 1,
            step_limit: 1 << 32,
            accumulation: Accumulation::Exact,
            perturb: false,
        }
    }
}

/// What came of a launch.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What it cost.
    pub counters: Counters,
    /// What it did wrong, in the order of first occurrence.
    pub findings: Vec<Finding>,
    /// Every thread ran to its end (no trap, deadlock or step limit).
    pub completed: bool,
}

impl Launch {
    /// Runs the kernel to its end on the calling thread.
    ///
    /// # Errors
    ///
    /// [`LaunchError`] when the launch itself is wrong (arguments, shape, shared memory); nothing has run then. What the
    /// kernel does wrong is in [`Outcome::findings`].
    pub fn run(&self, kernel: &Kernel, memory: &mut Memory) -> Result<Outcome, LaunchError> {
        let program = &*kernel.program;
        self.check_shape(program)?;
        let (params, allowed) = self.bind(program, memory)?;
        let variables = memory.instantiate(kernel)?;
        let findings = Findings::new(self.grid, self.block);
        let recorder = Recorder::new(program);
        let mut bus = Bus::new(memory, program, self.checks, findings, recorder, params, allowed);
        let completed = exec::run(self, program, &mut bus, &variables);
        let Bus { findings, recorder, memory, .. } = bus;
        Ok(Outcome { counters: recorder.finish(program, memory), findings: findings.into_vec(), completed })
    }

    /// Runs the launch once per seed, each on a copy of the memory, and reports allocations whose bits depend on the
    /// schedule. The memory is left as the default schedule leaves it, which is the first run.
    ///
    /// # Errors
    ///
    /// As [`Launch::run`].
    pub fn run_under(&self, seeds: &[u64], kernel: &Kernel, memory: &mut Memory) -> Result<Outcome, LaunchError> {
        let before = memory.clone();
        let mut outcome = Launch { schedule: Schedule::InOrder, ..self.clone() }.run(kernel, memory)?;
        for &seed in seeds {
            let mut other = before.clone();
            let launch = Launch { schedule: Schedule::Random, seed, ..self.clone() };
            let again = launch.run(kernel, &mut other)?;
            outcome.completed &= again.completed;
            let known = |finding: &Finding| {
                outcome.findings.iter().any(|f| f.kind == finding.kind && f.ptx_line == finding.ptx_line)
            };
            let fresh: Vec<Finding> = again.findings.into_iter().filter(|finding| !known(finding)).collect();
            outcome.findings.extend(fresh);
            outcome.findings.extend(order_dependence(kernel, memory, &other, seed));
        }
        Ok(outcome)
    }

    fn check_shape(&self, program: &Program) -> Result<(), LaunchError> {
        let shape = |what, found: [u32; 3], rule: String| Err(LaunchError::Shape { what, found, rule });
        for (what, found, limits) in
            [("grid", self.grid, [i32::MAX as u32, 65535, 65535]), ("block", self.block, [1024, 1024, 64])]
        {
            if found.iter().zip(limits).any(|(extent, limit)| *extent == 0 || *extent > limit) {
                return shape(what, found, format!("each extent is at least 1 and at most {limits:?}"));
            }
        }
        let threads = self.block.iter().map(|n| u64::from(*n)).product::<u64>();
        let (bound, exact) = program.threads.unwrap_or((MAX_THREADS, false));
        if exact && threads != u64::from(bound) {
            return shape("block", self.block, format!("the kernel requires {bound} threads"));
        }
        if threads > u64::from(bound.min(MAX_THREADS)) {
            return shape("block", self.block, format!("at most {} threads", bound.min(MAX_THREADS)));
        }
        let shared = u64::from(program.dynamic_offset.max(program.shared_bytes)) + u64::from(self.dynamic_shared);
        if shared > MAX_SHARED {
            return Err(LaunchError::Shared { found: shared, limit: MAX_SHARED });
        }
        let blocks = self.grid.iter().map(|n| u64::from(*n)).fold(1, u64::saturating_mul);
        let resident = blocks.min(self.resident.into());
        let found = resident.saturating_mul(shared + threads * u64::from(program.local_bytes));
        if found > MAX_RESIDENT_BYTES {
            return Err(LaunchError::Footprint { resident, found, limit: MAX_RESIDENT_BYTES });
        }
        for (name, value) in [("resident", u64::from(self.resident)), ("step_limit", self.step_limit)] {
            if value == 0 {
                return Err(LaunchError::Zero(name));
            }
        }
        Ok(())
    }

    /// The parameter buffer, and the byte ranges of buffers that are passed as slices only.
    fn bind(&self, program: &Program, memory: &Memory) -> Result<(Vec<u8>, Allowed), LaunchError> {
        let kernel = || program.name.clone();
        if self.args.len() != program.parameters.len() {
            let (expected, found) = (program.parameters.len(), self.args.len());
            return Err(LaunchError::ArgumentCount { kernel: kernel(), expected, found });
        }
        let mut params = vec![0; program.parameter_bytes as usize];
        let mut slices: BTreeMap<u32, Option<Vec<Range<u64>>>> = BTreeMap::new();
        for (index, (arg, parameter)) in self.args.iter().zip(&program.parameters).enumerate() {
            let bytes = match &arg.0 {
                ArgKind::Bytes(bytes) => bytes.clone(),
                ArgKind::Pointer { buffer, memory: owner, range } => {
                    let handle = Buffer::<u8> { id: *buffer, memory: *owner, len: 0, element: PhantomData };
                    let base = memory.address(&handle)?;
                    match range {
                        None => _ = slices.insert(*buffer, None),
                        Some(range) => {
                            let ranges = slices.entry(*buffer).or_insert_with(|| Some(Vec::new()));
                            ranges.iter_mut().for_each(|ranges| ranges.push(range.clone()));
                        }
                    }
                    (base + range.as_ref().map_or(0, |range| range.start)).to_le_bytes().to_vec()
                }
            };
            if bytes.len() != parameter.size as usize {
                let (name, expected, found) = (parameter.name.clone(), parameter.size, bytes.len());
                return Err(LaunchError::ArgumentSize { kernel: kernel(), index, name, expected, found });
            }
            let start = parameter.offset as usize;
            params[start..start + bytes.len()].copy_from_slice(&bytes);
        }
        let allowed = slices.into_iter().filter_map(|(id, ranges)| Some((id, ranges?))).collect();
        Ok((params, allowed))
    }
}

/// Findings for allocations that two schedules left with different bits.
fn order_dependence(kernel: &Kernel, one: &Memory, other: &Memory, seed: u64) -> Vec<Finding> {
    let pairs = one.allocations.iter().zip(&other.allocations);
    pairs
        .filter_map(|(a, b)| {
            let offset = a.bytes.iter().zip(&b.bytes).position(|(x, y)| x != y)?;
            Some(Finding {
                kind: FindingKind::OrderDependence,
                kernel: kernel.name().to_owned(),
                block: [0; 3],
                thread: [0; 3],
                source: None,
                ptx_line: 0,
                detail: format!("`{}` differs from byte {offset} on under seed {seed}", a.name),
                occurrences: 1,
            })
        })
        .collect()
}
