//! `idlora tune`.

use super::DEVICE;
use super::init::GateKind;
use clap::{ArgGroup as Group, Args as ArgGroup, ValueEnum};
use idlora::adapter::Config;
use idlora::{Device, Dtype};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, ArgGroup)]
#[command(group = Group::new("what").required(true).args(["model", "shapes", "show", "clear", "export"]))]
pub struct Tune {
    /// Tune for the linear layers of a model: its Hugging Face config.json or the folder with it, or all-minilm-l6-v2,
    /// smollm2-135m, llama-3-8b, qwen2.5-14b
    #[arg(long, value_name = "config.json|NAME")]
    pub model: Option<String>,

    /// Tune for the layers of a JSON file: an array of objects with `rows` and `cols`
    ///
    /// Each may also have `name`, `bias`, `tokens` (an array), `rank`, `clusters`, `split`, `gate`, `dtype` and `explicit`, which
    /// count instead of the flags.
    #[arg(long, value_name = "FILE")]
    pub shapes: Option<PathBuf>,

    /// Show the record: what was chosen for what, and how it was measured
    #[arg(long)]
    pub show: bool,

    /// Remove the record
    #[arg(long)]
    pub clear: bool,

    /// Write a copy of the record, for another machine with the same device and driver; FILE must not exist yet
    #[arg(long, value_name = "FILE")]
    pub export: Option<PathBuf>,

    /// Where kernels are timed; on `vm`, by a model of an H100 [default: the first CUDA device]
    #[arg(long, value_name = DEVICE)]
    pub device: Option<Device>,

    /// Numbers of tokens; each stands for all up to the next power of two
    #[arg(long, value_name = "T,…", value_delimiter = ',', default_values_t = [1, 2048].map(|t| NonZeroUsize::new(t).unwrap()))]
    pub tokens: Vec<NonZeroUsize>,

    /// Rank r of a component
    #[arg(long, value_name = "R", default_value_t = Config::default().rank)]
    pub rank: usize,

    /// Components k
    #[arg(long, value_name = "K", default_value_t = Config::default().clusters)]
    pub clusters: usize,

    /// Rank Boosting's split s
    #[arg(long, value_name = "S", default_value_t = Config::default().split)]
    pub split: usize,

    /// How the components are weighted
    #[arg(long, value_enum, value_name = "GATE", default_value_t = GateKind::LinearSoftmax)]
    pub gate: GateKind,

    /// Element of the weights
    #[arg(long, value_enum, value_name = "f16|bf16|f32", default_value_t = Element::Bf16, hide_possible_values = true)]
    pub dtype: Element,

    /// Which operations: the adapter on a layer's output, or the layer together with its adapter [default: both]
    #[arg(long, value_enum, value_name = "OP")]
    pub operation: Vec<Operation>,

    /// The adapter computes X = H W[S]ᵀ itself instead of gathering it from the layer's output
    #[arg(long)]
    pub explicit: bool,

    /// Stop measuring after so long in all; what has been measured by then decides
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub budget: Option<Duration>,

    /// The record [default: idlora/tune.json in the user's cache folder]
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,

    /// Print one JSON object instead of tables
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Operation {
    /// The adapter on a layer's output
    Lowrank,
    /// The layer together with its adapter, and its input gradient; f16 and bf16
    SharedGemm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Element {
    F16,
    Bf16,
    F32,
}

impl From<Element> for Dtype {
    fn from(element: Element) -> Self {
        match element {
            Element::F16 => Self::F16,
            Element::Bf16 => Self::BF16,
            Element::F32 => Self::F32,
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let value: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if value.is_nan() || value <= 0.0 {
        return Err("expected seconds above 0".to_owned());
    }
    Duration::try_from_secs_f64(value).map_err(|error| error.to_string())
}
