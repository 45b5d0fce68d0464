//! Runs in processes of their own: a run's peak memory is its own, and a killed one takes no other with it.

use crate::args::Common;
use crate::data::Measure;
use crate::disk;
use crate::error::{Error, Result};
use crate::method::{Method, kebab};
use crate::run::{Outcome, RESULT};
use indicatif::{ProgressBar, ProgressStyle};
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// A run to do.
#[derive(Clone, Debug)]
pub struct Job {
    /// What is trained.
    pub method: Method,
    /// Its seed.
    pub seed: u64,
    /// Its highest learning rate.
    pub rate: f64,
    /// What it is measured on.
    pub measure: Measure,
    /// Its folder.
    pub folder: PathBuf,
}

/// Does all jobs, `at_once` at a time, in their order; results that are there already are kept, and a run that fails stops no other.
/// Returns what each came to, in that order.
///
/// # Errors
/// [`Error::Operand`] for no runs at a time. A job's own are [`Error::Run`] for a run that failed, and [`Error::Content`] for a kept
/// result that had other settings.
pub fn run_all(jobs: &[Job], common: &Common, at_once: usize) -> Result<Vec<Result<Outcome>>> {
    if at_once == 0 {
        return Err(Error::operand("runs at a time", "at least 1", 0));
    }
    let bar = ProgressBar::new(jobs.len() as u64);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} runs [{elapsed} < {eta}] {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..at_once.min(jobs.len()) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(number) else { break };
                    let outcome = one(job, common, &bar);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((number, outcome));
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(number, _)| *number);
    Ok(done.into_iter().map(|(_, outcome)| outcome).collect())
}

fn one(job: &Job, common: &Common, bar: &ProgressBar) -> Result<Outcome> {
    if job.folder.join(RESULT).exists() {
        return kept(job, common);
    }
    let start = Instant::now();
    let outcome = spawn(job, common).and_then(|()| kept(job, common));
    let seconds = start.elapsed().as_secs_f64();
    let found = match &outcome {
        Ok(outcome) => format!("accuracy {:.4}", outcome.accuracy),
        Err(error) => error.to_string(),
    };
    let line = format!("{}, seed {}, rate {}: {found}, {seconds:.0} s", job.method, job.seed, job.rate);
    if bar.is_hidden() {
        println!("{line}");
    } else {
        bar.println(line);
    }
    outcome
}

fn spawn(job: &Job, common: &Common) -> Result<()> {
    let folder = &job.folder;
    std::fs::create_dir_all(folder).map_err(Error::io("making", folder))?;
    let log = folder.join("log.txt");
    let output = File::create(&log).map_err(Error::io("writing", &log))?;
    let measure = kebab(&job.measure);
    let mut command = command("run", job.method, common)?;
    command.arg("--out").arg(folder);
    command.args(["--seed", &job.seed.to_string(), "--rate", &job.rate.to_string(), "--measure", &measure]);
    let status = command.stdout(Stdio::null()).stderr(output).status().map_err(not_started)?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Run { run: format!("{}, seed {}", job.method, job.seed), status: status.to_string(), log })
}

/// A method in a process of its own, which takes a step when it is told to (`finetune steps`).
#[derive(Debug)]
pub struct Stepper {
    method: Method,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Stepper {
    /// Starts the process.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn start(method: Method, common: &Common) -> Result<Self> {
        let mut command = command("steps", method, common)?;
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(not_started)?;
        let pipe = || not_started(ErrorKind::BrokenPipe.into());
        let input = child.stdin.take().ok_or_else(pipe)?;
        let output = BufReader::new(child.stdout.take().ok_or_else(pipe)?);
        Ok(Self { method, child, input, output })
    }

    /// Seconds of the next step.
    ///
    /// # Errors
    /// [`Error::Step`] for a process that has ended or says something else.
    pub fn step(&mut self) -> Result<f64> {
        let mut said = String::new();
        let asked = writeln!(self.input).and_then(|()| self.output.read_line(&mut said));
        if let (Ok(_), Ok(seconds)) = (asked, said.trim().parse()) {
            return Ok(seconds);
        }
        // One that has ended keeps its status.
        let _ = self.child.kill();
        let status = self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        Err(Error::Step { method: self.method.to_string(), status, said })
    }
}

impl Drop for Stepper {
    fn drop(&mut self) {
        // It has nothing to lose; an error means that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// glibc gives the memory of every large tensor back to the system, and fetches it page by page for the next one: a fifth of the
/// time of a run. With these it keeps it; other allocators do not read them.
const ALLOCATOR: [(&str, &str); 3] = [
    ("MALLOC_MMAP_THRESHOLD_", "1073741824"),
    ("MALLOC_TRIM_THRESHOLD_", "4294967295"),
    ("MALLOC_TOP_PAD_", "67108864"),
];

/// This program again, with one thread: runs beside each other do not wait for each other's.
fn command(name: &str, method: Method, common: &Common) -> Result<Command> {
    let program = std::env::current_exe().map_err(Error::io("finding", Path::new("this program")))?;
    let mut command = Command::new(program);
    command.arg(name).arg("--data").arg(&common.data);
    command.args(["--batch", &common.batch.to_string(), "--max-tokens", &common.max_tokens.to_string()]);
    match method {
        Method::Head => command.args(["--method", "head"]),
        Method::Lora => command.args(["--method", "lora"]),
        Method::Idlora { gate, select } => {
            command.args(["--method", "idlora", "--gate", &kebab(&gate), "--select", &kebab(&select)])
        }
    };
    command.env("RAYON_NUM_THREADS", "1").envs(ALLOCATOR).stdin(Stdio::null());
    Ok(command)
}

fn not_started(error: std::io::Error) -> Error {
    Error::io("starting", Path::new("this program"))(error)
}

/// A result on disk, if it is the job's.
fn kept(job: &Job, common: &Common) -> Result<Outcome> {
    let path = job.folder.join(RESULT);
    let outcome: Outcome = disk::read_json(&path)?;
    let found = outcome.settings;
    let same = (found.method, found.seed, found.rate, found.measure) == (job.method, job.seed, job.rate, job.measure);
    if same && (found.batch, found.max_tokens) == (common.batch, common.max_tokens) {
        return Ok(outcome);
    }
    Err(Error::content(&path, "settings", format!("those of {job:?}"), format!("{found:?}")))
}
