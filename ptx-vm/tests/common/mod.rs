//! What tests that run CUDA share: compiling, running under every schedule, judging the outcome, numbers.
#![allow(dead_code)] // each test binary uses its part

pub mod numbers;

use bytemuck::Pod;
use idlora_nvrtc::{NotFound, Nvrtc, Source};
use ptx_vm::{Arg, Buffer, Checks, Counters, Kernel, Launch, Memory, Module, Outcome, Schedule};
use std::io::Write;
use std::path::Path;
use std::sync::Once;

/// A CUDA file of the tests and how to compile it.
#[derive(Clone, Copy, Debug)]
pub struct Cuda<'a> {
    /// Path below `tests/`; line information names it so.
    pub file: &'a str,
    /// A real architecture.
    pub arch: &'a str,
    /// Beyond `--generate-line-info`.
    pub options: &'a [&'a str],
}

impl<'a> Cuda<'a> {
    /// For sm_80, with line information.
    pub fn new(file: &'a str) -> Cuda<'a> {
        Cuda { file, arch: "sm_80", options: &[] }
    }

    /// Its PTX.
    ///
    /// `None`, said aloud, if there is no NVRTC; a panic instead where `REQUIRE_NVRTC` is set, so that a run that must
    /// check everything cannot pass by checking nothing.
    pub fn ptx(&self) -> Option<String> {
        let nvrtc = match Nvrtc::find() {
            Ok(nvrtc) => nvrtc,
            Err(missing) if std::env::var_os("REQUIRE_NVRTC").is_some() => panic!("{missing}"),
            Err(missing) => {
                skipped(self.file, &missing);
                return None;
            }
        };
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(self.file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let options: Vec<&str> = ["--generate-line-info"].iter().chain(self.options).copied().collect();
        let source = Source { name: self.file, text: &text, arch: self.arch, options: &options, headers: &[] };
        match nvrtc.compile(&source) {
            Ok(compiled) => Some(compiled.ptx),
            Err(error) => panic!("{} for {}: {error}", self.file, self.arch),
        }
    }

    /// Its PTX, loaded; `None` as for [`Cuda::ptx`].
    pub fn load(&self) -> Option<Module> {
        let ptx = self.ptx()?;
        Some(Module::load(&ptx).unwrap_or_else(|error| {
            let line = ptx.lines().nth(error.line.saturating_sub(1) as usize).unwrap_or_default();
            panic!("PTX of {} for {}: {error}\n{line}", self.file, self.arch)
        }))
    }
}

/// Says what was not checked. Straight to stderr, past the test harness, which would show it only if the test failed.
fn skipped(file: &str, missing: &NotFound) {
    static WHY: Once = Once::new();
    let say = |text: String| _ = std::io::stderr().write_all(text.as_bytes());
    WHY.call_once(|| say(format!("{missing}\n")));
    say(format!("skipped for want of NVRTC: {file}\n"));
}

/// A file's module for sm_80, see [`Cuda::load`].
pub fn load(file: &str) -> Option<Module> {
    Cuda::new(file).load()
}

/// A grid of blocks in x, everything else as by default.
pub fn shape(blocks: u32, threads: u32) -> Launch {
    Launch { grid: [blocks, 1, 1], block: [threads, 1, 1], step_limit: 1 << 24, ..Launch::default() }
}

/// The launch under every schedule that a correct kernel must not care about: in order, and three random ones, each
/// with that many blocks alive at a time.
pub fn schedules(launch: &Launch, resident: &[u32]) -> Vec<Launch> {
    let orders = [(Schedule::InOrder, 0), (Schedule::Random, 1), (Schedule::Random, 2), (Schedule::Random, 3)];
    let launch = |resident: u32, (schedule, seed)| Launch { schedule, seed, resident, ..launch.clone() };
    resident.iter().flat_map(|resident| orders.map(|order| launch(*resident, order))).collect()
}

/// Panics with every finding if there is one, or if the kernel did not end.
#[track_caller]
pub fn assert_clean(outcome: &Outcome, what: &str) {
    let findings: String = outcome.findings.iter().map(|finding| format!("\n  {finding}")).collect();
    assert!(findings.is_empty() && outcome.completed, "{what}: completed {}{findings}", outcome.completed);
}

/// Runs a kernel that must be clean and give the same bits under every schedule, with 1 and with 3 blocks alive at a
/// time.
///
/// `setup` fills a new memory and returns the arguments, and the buffer that holds the answer.
#[track_caller]
pub fn run<T: Pod>(kernel: &Kernel, launch: &Launch, setup: impl Fn(&mut Memory) -> (Vec<Arg>, Buffer<T>)) -> Vec<T> {
    run_resident(kernel, launch, &[1, 3], setup)
}

/// [`run`] with other numbers of blocks alive at a time.
#[track_caller]
pub fn run_resident<T: Pod>(
    kernel: &Kernel,
    launch: &Launch,
    resident: &[u32],
    setup: impl Fn(&mut Memory) -> (Vec<Arg>, Buffer<T>),
) -> Vec<T> {
    let launches = schedules(launch, resident);
    let (expected, counters) = once(kernel, &launches[0], &setup);
    for launch in &launches[1..] {
        let (found, _) = once(kernel, launch, &setup);
        let same = bytemuck::cast_slice::<T, u8>(&found) == bytemuck::cast_slice::<T, u8>(&expected);
        assert!(same, "{}: other bits than in order", describe(kernel, launch));
    }
    let (_, again) = once(kernel, &launches[0], &setup);
    assert!(again == counters, "{}: the same launch counts differently", describe(kernel, &launches[0]));
    expected
}

/// One clean launch: its answer and its cost.
#[track_caller]
fn once<T: Pod>(
    kernel: &Kernel,
    launch: &Launch,
    setup: &impl Fn(&mut Memory) -> (Vec<Arg>, Buffer<T>),
) -> (Vec<T>, Counters) {
    assert_eq!(Checks { global_races: false, ..launch.checks }, Checks::ALL, "tests of clean kernels leave checks on");
    let mut memory = Memory::new();
    let (args, answer) = setup(&mut memory);
    let outcome = Launch { args, ..launch.clone() }.run(kernel, &mut memory);
    let outcome = outcome.unwrap_or_else(|error| panic!("{}: {error}", describe(kernel, launch)));
    assert_clean(&outcome, &describe(kernel, launch));
    (memory.download(&answer).unwrap(), outcome.counters)
}

fn describe(kernel: &Kernel, launch: &Launch) -> String {
    format!("{}, {:?}, seed {}, resident {}", kernel.name(), launch.schedule, launch.seed, launch.resident)
}
