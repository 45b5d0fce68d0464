//! `finetune run`: one run, its checkpoints, its result.

use crate::args;
use crate::disk;
use crate::error::{Error, Result};
use crate::statistics::{mean, median};
use crate::task::Task;
use crate::train::{Settings, Trainer};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The result's file in a run's folder.
pub const RESULT: &str = "result.json";
/// The checkpoint's file in a run's folder.
pub const CHECKPOINT: &str = "checkpoint.safetensors";

/// What a run left.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// What decided it.
    pub settings: Settings,
    /// Share of the documents held out that were right.
    pub accuracy: f64,
    /// Mean loss on them.
    pub loss: f64,
    /// Documents trained on and held out.
    pub documents: (usize, usize),
    /// Numbers trained in the encoder.
    pub adapter_parameters: usize,
    /// Numbers trained in the head.
    pub head_parameters: usize,
    /// Mean loss of every step's documents.
    pub losses: Vec<f32>,
    /// Share of every step's documents that were right before the step.
    pub accuracies: Vec<f32>,
    /// Median seconds of a step; other work on the machine is in it.
    pub step_seconds: f64,
    /// Seconds that adapting took: clusters and chosen rows, or random numbers.
    pub setup_seconds: f64,
    /// The most memory that this process held, in bytes, where the system tells; that of the last process of a resumed run.
    pub peak_memory: Option<u64>,
}

/// Runs the command.
///
/// # Errors
/// Those of the task, the training and the files.
pub fn main(args: &args::Run) -> Result<()> {
    let settings = args.settings()?;
    let out = &args.trained.common.out;
    if args.checkpoint == 0 {
        return Err(Error::operand("steps between two checkpoints", "at least 1", 0));
    }
    let task = Task::read(&args.trained.common.data, settings.measure, settings.max_tokens)?;
    let mut trainer = Trainer::new(&task.weights, task.classes.len(), &task.split.train, settings)?;
    let path = out.join(CHECKPOINT);
    if trainer.resume(&path)? {
        eprintln!("goes on after {} of {} steps", trainer.done(), trainer.total());
    }
    train(&mut trainer, &task, &path, args.checkpoint)?;
    let outcome = finish(&trainer, &task, settings)?;
    disk::write_json(&out.join(RESULT), &outcome)?;
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("removing", &path)(error)),
        _ => Ok(()),
    }
}

fn train(trainer: &mut Trainer, task: &Task, checkpoint: &Path, every: usize) -> Result<()> {
    let name = trainer.settings().method.to_string();
    let bar = bar(trainer.total(), &name);
    while trainer.done() < trainer.total() {
        trainer.step(&task.examples)?;
        if trainer.done().is_multiple_of(every) || trainer.done() == trainer.total() {
            trainer.save(checkpoint)?;
        }
        // The last few steps: one batch alone jumps.
        let last = |all: &[f32]| mean(&all.iter().rev().take(8).map(|&x| f64::from(x)).collect::<Vec<_>>());
        let history = trainer.history();
        bar.set_message(format!("loss {:.3}, accuracy {:.3}", last(&history.losses), last(&history.accuracies)));
        bar.set_position(trainer.done() as u64);
    }
    bar.finish();
    Ok(())
}

fn finish(trainer: &Trainer, task: &Task, settings: Settings) -> Result<Outcome> {
    let held_out = &task.split.held_out;
    let bar = bar(held_out.len(), "measure");
    let evaluation = trainer.evaluate(&task.examples, held_out, |seen| bar.set_position(seen as u64))?;
    bar.finish();
    let history = trainer.history();
    let outcome = Outcome {
        settings,
        accuracy: evaluation.accuracy,
        loss: evaluation.loss,
        documents: (task.split.train.len(), held_out.len()),
        adapter_parameters: trainer.adapter_parameters,
        head_parameters: trainer.head_parameters,
        losses: history.losses.clone(),
        accuracies: history.accuracies.clone(),
        step_seconds: median(&history.seconds),
        setup_seconds: trainer.setup_seconds,
        peak_memory: peak_memory(),
    };
    let Outcome { accuracy, loss, step_seconds, .. } = outcome;
    eprintln!("{}: accuracy {accuracy:.4}, loss {loss:.4}, {step_seconds:.2} s a step", settings.method);
    Ok(outcome)
}

fn bar(length: usize, name: &str) -> ProgressBar {
    let bar = ProgressBar::new(length as u64).with_prefix(name.to_owned());
    let template = "{prefix} {bar:30} {pos}/{len} {msg} [{elapsed} < {eta}]";
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// The high-water mark of this process's resident memory; Linux tells it.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| 1024 * kib)
}
