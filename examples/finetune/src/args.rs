//! The command line.

use crate::data::Measure;
use crate::error::{Error, Result};
use crate::method::Method;
use crate::train::Settings;
use clap::{Parser, Subcommand, ValueEnum};
use idlora::lowrank::Gate;
use idlora::select::Selection;
use serde::de::DeserializeOwned;
use std::path::PathBuf;

/// Fine-tunes all-MiniLM-L6-v2 on BBC News: a head alone, LoRA, ID-LoRA.
#[derive(Debug, Parser)]
#[command(name = "finetune", version)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// One run: trains, measures, writes DIR/result.json. A killed run goes on where it was.
    Run(Run),
    /// Tries a grid of learning rates on validation documents, for a head, LoRA and ID-LoRA.
    TuneLr(Tune),
    /// All methods, five seeds each, every run a process of its own. What is finished is kept.
    Sweep(Sweep),
    /// Seconds per step of all methods, each against LoRA, step by step in turn.
    Cost(Cost),
    /// One side of `cost`: a step for every line of standard input.
    #[command(hide = true)]
    Steps(Trained),
    /// A table and a plot of what `sweep` and `cost` left.
    Report(Report),
}

/// Where things are, and how a step looks.
#[derive(Clone, Debug, clap::Args)]
pub struct Common {
    /// Folder that `fetch` filled
    #[arg(long, default_value = "examples/finetune/data")]
    pub data: PathBuf,
    /// Folder for results
    #[arg(long, default_value = "examples/finetune/out")]
    pub out: PathBuf,
    /// Documents in a step
    #[arg(long, default_value_t = 32)]
    pub batch: usize,
    /// Tokens of a document that are read
    #[arg(long, default_value_t = 64)]
    pub max_tokens: usize,
}

/// The families of methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// The head alone
    Head,
    /// LoRA
    Lora,
    /// ID-LoRA
    Idlora,
}

/// What is trained, and on what.
#[derive(Clone, Debug, clap::Args)]
pub struct Trained {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become help text")]
    pub common: Common,
    /// What is trained
    #[arg(long, value_enum)]
    pub method: Kind,
    /// How ID-LoRA weighs its components
    #[arg(long, value_parser = kebab::<Gate>, default_value = "linear-softmax")]
    pub gate: Gate,
    /// Which rows ID-LoRA chooses
    #[arg(long, value_parser = kebab::<Selection>, default_value = "pivoted-qr")]
    pub select: Selection,
}

/// One run.
#[derive(Clone, Debug, clap::Args)]
pub struct Run {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become help text")]
    pub trained: Trained,
    /// Seed of the head, the adapters and the order of the documents
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Highest learning rate, if not that of the protocol
    #[arg(long)]
    pub rate: Option<f64>,
    /// What the accuracy is measured on
    #[arg(long, value_enum, default_value = "test")]
    pub measure: Measure,
    /// Decoupled weight decay
    #[arg(long, default_value_t = 0.01)]
    pub weight_decay: f64,
    /// Steps between two checkpoints
    #[arg(long, default_value_t = 10)]
    pub checkpoint: usize,
}

/// Learning rates.
#[derive(Clone, Debug, clap::Args)]
pub struct Tune {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become help text")]
    pub common: Common,
    /// Runs at a time, one thread each
    #[arg(long, default_value_t = 1)]
    pub jobs: usize,
}

/// Many runs.
#[derive(Clone, Debug, clap::Args)]
pub struct Sweep {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become help text")]
    pub common: Common,
    /// Runs at a time, one thread each
    #[arg(long, default_value_t = 1)]
    pub jobs: usize,
    /// Seeds: 1 to this
    #[arg(long, default_value_t = 5)]
    pub seeds: u64,
    /// Learning rates that `tune-lr` wrote, instead of those of the protocol
    #[arg(long)]
    pub rates: Option<PathBuf>,
}

/// Time.
#[derive(Clone, Debug, clap::Args)]
pub struct Cost {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become help text")]
    pub common: Common,
    /// Pairs of steps, LoRA's and the method's, in a round
    #[arg(long, default_value_t = 5)]
    pub pairs: usize,
    /// Rounds, each with new processes
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
}

/// The report.
#[derive(Clone, Debug, clap::Args)]
pub struct Report {
    /// Folder that `sweep` and `cost` wrote to
    #[arg(long, default_value = "examples/finetune/out")]
    pub out: PathBuf,
    /// The table as markdown
    #[arg(long)]
    pub markdown: bool,
    /// Where to draw the plot
    #[arg(long)]
    pub plot: Option<PathBuf>,
}

impl Trained {
    /// The method.
    pub fn method(&self) -> Method {
        let &Self { method, gate, select, .. } = self;
        match method {
            Kind::Head => Method::Head,
            Kind::Lora => Method::Lora,
            Kind::Idlora => Method::Idlora { gate, select },
        }
    }
}

impl Run {
    /// What decides the run's result.
    ///
    /// # Errors
    /// [`Error::Operand`] for a rate or a weight decay that is negative or not finite.
    pub fn settings(&self) -> Result<Settings> {
        let &Self { ref trained, seed, measure, weight_decay, .. } = self;
        let (common, method) = (&trained.common, trained.method());
        let rate = self.rate.unwrap_or_else(|| method.rate());
        for (what, value) in [("learning rate", rate), ("weight decay", weight_decay)] {
            if !value.is_finite() || value < 0.0 {
                return Err(Error::operand(what, "a finite number that is not negative", value));
            }
        }
        Ok(Settings { method, seed, rate, measure, batch: common.batch, max_tokens: common.max_tokens, weight_decay })
    }
}

/// Reads a gate or a selection by its name in files.
fn kebab<T: DeserializeOwned>(name: &str) -> std::result::Result<T, String> {
    serde_json::from_value(serde_json::Value::String(name.to_owned())).map_err(|error| error.to_string())
}
