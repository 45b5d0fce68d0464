//! A planted bug and its clean twin: how they are launched, and what must come of it.

use crate::common;
use crate::source::{self, Mark};
use ptx_vm::{Arg, Buffer, Checks, Finding, FindingKind, Launch, Memory, Module, Outcome, Schedule};
use std::collections::BTreeSet;

/// Which of the two is launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twin {
    Buggy,
    Clean,
}

/// Fills a memory; the arguments, and the buffer with the answer.
pub type Setup = fn(&mut Memory, Twin) -> (Vec<Arg>, Buffer<u32>);

/// One row of a table of planted bugs.
pub struct Case {
    /// The kernels are `<name>_buggy` and `<name>_clean`, or one `<name>` for which only the arguments differ.
    name: &'static str,
    kind: FindingKind,
    launch: Launch,
    setup: Setup,
    /// Block and thread of the first finding, in order; `None` where the schedule decides who is second in a race.
    at: Option<([u32; 3], [u32; 3])>,
}

impl Case {
    /// One block of 64 threads with `out` and `in` as arguments; found in thread 0.
    pub fn new(name: &'static str, kind: FindingKind) -> Case {
        let launch = Launch { checks: Checks::GLOBAL_RACES, ..common::shape(1, 64) };
        Case { name, kind, launch, setup: crate::setup::out_in, at: Some(([0; 3], [0; 3])) }
    }

    /// With other arguments.
    pub fn with(self, setup: Setup) -> Case {
        Case { setup, ..self }
    }

    /// With another shape.
    pub fn shape(mut self, blocks: u32, threads: u32) -> Case {
        (self.launch.grid, self.launch.block) = ([blocks, 1, 1], [threads, 1, 1]);
        self
    }

    /// With other settings of the launch.
    pub fn launch(mut self, change: impl FnOnce(&mut Launch)) -> Case {
        change(&mut self.launch);
        self
    }

    /// First found in this block and thread.
    pub fn at(mut self, block: u32, thread: u32) -> Case {
        self.at = Some(([block, 0, 0], [thread, 0, 0]));
        self
    }

    /// First found in either party's thread.
    pub fn either(self) -> Case {
        Case { at: None, ..self }
    }

    fn run(&self, module: &Module, twin: Twin, launch: &Launch) -> Result<(Outcome, Vec<u32>), String> {
        let suffixed = format!("{}_{}", self.name, if twin == Twin::Buggy { "buggy" } else { "clean" });
        let kernel = module.kernel(&suffixed).or_else(|_| module.kernel(self.name)).map_err(|e| e.to_string())?;
        let mut memory = Memory::new();
        let (args, answer) = (self.setup)(&mut memory, twin);
        let outcome = Launch { args, ..launch.clone() }.run(&kernel, &mut memory).map_err(|e| e.to_string())?;
        Ok((outcome, memory.download(&answer).map_err(|e| e.to_string())?))
    }
}

/// Runs a table of cases, both twins under every schedule; panics with everything that is not as it should be.
#[track_caller]
pub fn check(file: &str, cases: &[Case]) {
    let Some(module) = common::load(&format!("planted/{file}")) else { return };
    let text = source::read(file);
    let mut complaints = forgotten(&module, cases);
    for case in cases {
        let buggy = format!("{}_buggy", case.name);
        let kernel = if module.kernel(&buggy).is_ok() { &buggy } else { case.name };
        let judge = Judge { case, file, kernel, marks: source::marks(&text, kernel) };
        let found = [judge.buggy(&module), judge.clean(&module), judge.unchecked(&module)].concat();
        complaints.extend(found.into_iter().map(|complaint| format!("{}: {complaint}", case.name)));
    }
    assert!(complaints.is_empty(), "{file}:\n{}", complaints.join("\n"));
}

/// Kernels of the file that no case runs.
fn forgotten(module: &Module, cases: &[Case]) -> Vec<String> {
    let known = |kernel: &str| {
        cases
            .iter()
            .any(|case| kernel.strip_prefix(case.name).is_some_and(|rest| ["", "_buggy", "_clean"].contains(&rest)))
    };
    module.kernels().filter(|kernel| !known(kernel)).map(|kernel| format!("no case runs {kernel}")).collect()
}

struct Judge<'a> {
    case: &'a Case,
    file: &'a str,
    kernel: &'a str,
    marks: Vec<Mark>,
}

impl Judge<'_> {
    /// The bug is found under every schedule, and nothing else is.
    fn buggy(&self, module: &Module) -> Vec<String> {
        let launches = common::schedules(&self.case.launch, &[self.case.launch.resident]);
        let complaints = launches.iter().map(|launch| {
            let (outcome, _) = self.case.run(module, Twin::Buggy, launch)?;
            self.findings(&outcome, launch)
        });
        complaints.filter_map(Result::err).collect()
    }

    fn findings(&self, outcome: &Outcome, launch: &Launch) -> Result<(), String> {
        let told = || {
            let all: String = outcome.findings.iter().map(|finding| format!("\n    {finding}")).collect();
            format!(" ({:?}, seed {}){all}", launch.schedule, launch.seed)
        };
        if !outcome.findings.iter().any(|finding| finding.kind == self.case.kind) {
            return Err(format!("no {:?}{}", self.case.kind, told()));
        }
        if let Some(wrong) = outcome.findings.iter().find(|finding| !self.expected(finding)) {
            return Err(format!("unexpected {wrong}{}", told()));
        }
        let certain = |mark: &&Mark| {
            mark.certain && (launch.schedule == Schedule::InOrder || self.marks.iter().all(|m| m.certain))
        };
        let lines: BTreeSet<u32> =
            outcome.findings.iter().filter_map(|finding| Some(finding.source.as_ref()?.line)).collect();
        if let Some(missed) = self.marks.iter().filter(certain).find(|mark| !lines.contains(&mark.line)) {
            return Err(format!("line {} is not reported{}", missed.line, told()));
        }
        let first = outcome.findings.first().map(|finding| (finding.block, finding.thread));
        if launch.schedule == Schedule::InOrder && self.case.at.is_some() && first != self.case.at {
            return Err(format!("found at {first:?}, not at {:?}{}", self.case.at, told()));
        }
        let ends = !matches!(self.case.kind, FindingKind::Trap | FindingKind::Deadlock | FindingKind::StepLimit);
        if outcome.completed && !ends {
            return Err(format!("completed{}", told()));
        }
        Ok(())
    }

    /// Of the right kind, in the right kernel, file and line.
    fn expected(&self, finding: &Finding) -> bool {
        let kind = format!("{:?}", finding.kind);
        let own = format!("{:?}", self.case.kind);
        let source = finding.source.as_ref().filter(|source| source.file.ends_with(&format!("planted/{}", self.file)));
        let marked = self.marks.iter().any(|mark| {
            let kinds = [Some(&own), mark.kind.as_ref()];
            source.is_some_and(|source| source.line == mark.line) && kinds.contains(&Some(&kind))
        });
        finding.kernel == self.kernel && finding.occurrences > 0 && marked
    }

    /// The twin ends with no finding under every schedule, with the same bits.
    fn clean(&self, module: &Module) -> Vec<String> {
        let mut answers = BTreeSet::new();
        let mut complaints = Vec::new();
        for launch in common::schedules(&self.case.launch, &[self.case.launch.resident]) {
            let told = format!("clean twin ({:?}, seed {})", launch.schedule, launch.seed);
            match self.case.run(module, Twin::Clean, &launch) {
                Err(error) => complaints.push(format!("{told}: {error}")),
                Ok((outcome, answer)) => {
                    complaints.extend(outcome.findings.iter().map(|finding| format!("{told}: {finding}")));
                    if !outcome.completed {
                        complaints.push(format!("{told} did not complete"));
                    }
                    answers.insert(answer);
                }
            }
        }
        if answers.len() > 1 {
            complaints.push("clean twin: other bits under another schedule".to_owned());
        }
        complaints
    }

    /// With its check off, the bug is not reported, unless the launch cannot end because of it.
    fn unchecked(&self, module: &Module) -> Vec<String> {
        let mut checks = self.case.launch.checks;
        let switch = match self.case.kind {
            FindingKind::Uninitialised => &mut checks.uninitialised,
            FindingKind::InFlight => &mut checks.in_flight,
            FindingKind::SharedRace => &mut checks.shared_races,
            FindingKind::GlobalRace => &mut checks.global_races,
            FindingKind::BarrierDivergence | FindingKind::MissingLanes => &mut checks.sync,
            _ => return Vec::new(),
        };
        *switch = false;
        let launch = Launch { checks, ..self.case.launch.clone() };
        match self.case.run(module, Twin::Buggy, &launch) {
            Err(error) => vec![error],
            Ok((outcome, _)) if !outcome.completed => Vec::new(),
            Ok((outcome, _)) => {
                let found = outcome.findings.iter().filter(|finding| finding.kind == self.case.kind);
                found.map(|finding| format!("reported although its check is off: {finding}")).collect()
            }
        }
    }
}
