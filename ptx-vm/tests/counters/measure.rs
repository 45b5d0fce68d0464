//! Running a kernel of a CUDA file and looking its counters up.

use crate::common;
use ptx_vm::{Arg, Counters, Launch, LineCount, Memory, Module, Traffic};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Files that were loaded already: tables run one kernel many times.
static LOADED: Mutex<BTreeMap<String, Option<Module>>> = Mutex::new(BTreeMap::new());

fn load(file: &str) -> Option<Module> {
    let mut loaded = LOADED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    loaded.entry(file.to_owned()).or_insert_with(|| common::load(file)).clone()
}

/// The counters of a clean launch.
pub struct Measured {
    pub counters: Counters,
}

/// Runs a kernel twice, and requires equal counters.
#[track_caller]
pub fn measure(file: &str, kernel: &str, launch: &Launch, setup: impl Fn(&mut Memory) -> Vec<Arg>) -> Option<Measured> {
    let module = load(file)?;
    let counters = run(&module, kernel, launch, &setup);
    assert_eq!(counters, run(&module, kernel, launch, &setup), "{kernel}: the same launch counts differently");
    Some(Measured { counters })
}

#[track_caller]
fn run(module: &Module, kernel: &str, launch: &Launch, setup: &impl Fn(&mut Memory) -> Vec<Arg>) -> Counters {
    let mut memory = Memory::new();
    let launch = Launch { args: setup(&mut memory), ..launch.clone() };
    let outcome = launch.run(&module.kernel(kernel).unwrap(), &mut memory).unwrap();
    common::assert_clean(&outcome, kernel);
    outcome.counters
}

/// The number of the line of a kernel that ends with a comment.
#[track_caller]
pub fn line_of(file: &str, kernel: &str, comment: &str) -> u32 {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let begin = format!("{kernel}(");
    let mut lines = text.lines().zip(1..).skip_while(|(line, _)| !line.contains(&begin));
    lines.find(|(line, _)| line.ends_with(comment)).expect("no such comment").1
}

impl Measured {
    /// What went to and from a buffer; nothing if the kernel did not touch it.
    pub fn traffic(&self, name: &str) -> Traffic {
        self.counters.allocations().iter().find(|(n, _)| n == name).map(|(_, traffic)| *traffic).unwrap_or_default()
    }

    /// What a line cost.
    #[track_caller]
    pub fn line(&self, line: u32) -> &LineCount {
        let of_line = |count: &&LineCount| count.source.as_ref().is_some_and(|source| source.line == line);
        self.counters.lines().iter().find(of_line).expect("nothing was executed on this line")
    }
}
