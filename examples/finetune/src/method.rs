//! What is compared: a head alone, LoRA, ID-LoRA.

use crate::error::{Error, Result};
use crate::lora::{self, Lora};
use crate::model::{Bert, Projection};
use candle_nn::VarMap;
use idlora::adapter::Config;
use idlora::candle::Linear;
use idlora::lowrank::Gate;
use idlora::select::Selection;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The gates, the default first.
pub const GATES: [Gate; 5] = [Gate::LinearSoftmax, Gate::Linear, Gate::RmsInner, Gate::Inner, Gate::Static];
/// The ways of choosing rows, the default first.
pub const SELECTIONS: [Selection; 5] =
    [Selection::PivotedQr, Selection::Sketch, Selection::Norm, Selection::Centroid, Selection::Random];

/// One way of fine-tuning.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "name")]
pub enum Method {
    /// The head alone.
    Head,
    /// LoRA on query and value.
    Lora,
    /// ID-LoRA on query and value, its defaults apart from these two.
    Idlora {
        /// How components are weighted.
        gate: Gate,
        /// Which rows are chosen.
        select: Selection,
    },
}

/// Highest learning rates: all gates and selections share one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Of the head alone.
    pub head: f64,
    /// Of LoRA.
    pub lora: f64,
    /// Of ID-LoRA.
    pub idlora: f64,
}

impl Default for Rates {
    /// Those of the protocol, which `finetune tune-lr` chose (see the README).
    fn default() -> Self {
        Self { head: 1e-1, lora: 1e-2, idlora: 1e-2 }
    }
}

impl Rates {
    /// A method's.
    pub fn of(&self, method: Method) -> f64 {
        match method {
            Method::Head => self.head,
            Method::Lora => self.lora,
            Method::Idlora { .. } => self.idlora,
        }
    }
}

impl Method {
    /// ID-LoRA as it comes: what is compared with LoRA.
    pub fn idlora() -> Self {
        let Config { gate, select, .. } = Config::default();
        Self::Idlora { gate, select }
    }

    /// All that are compared: the head, LoRA, every gate at the default selection, the other selections at the default gate.
    pub fn all() -> Vec<Self> {
        let gates = GATES.map(|gate| Self::Idlora { gate, select: SELECTIONS[0] });
        let selections = SELECTIONS[1..].iter().map(|&select| Self::Idlora { gate: GATES[0], select });
        [Self::Head, Self::Lora].into_iter().chain(gates).chain(selections).collect()
    }

    /// The learning rate of its family in the protocol.
    pub fn rate(self) -> f64 {
        Rates::default().of(self)
    }

    /// A name for a folder.
    pub fn folder(self) -> String {
        self.to_string().replace(' ', "-")
    }

    /// Adapts the encoder and counts what it trains there.
    ///
    /// # Errors
    /// Those of the adapters; [`Error::Operand`] if idlora's counters do not say what was made.
    pub fn adapt(self, bert: &mut Bert, seed: u64, vars: &VarMap) -> Result<usize> {
        let before = count(vars);
        match self {
            Self::Head => {}
            Self::Lora => adapt_lora(bert, seed, vars)?,
            Self::Idlora { gate, select } => {
                let config = Config { gate, select, seed, ..Config::default() };
                let adapted = idlora::candle::adapt(bert, is_adapted, &config, vars)?;
                let counted: usize = adapted.iter().map(|module| module.counters.trained).sum();
                if counted != count(vars) - before {
                    let expected = format!("{counted}, as the counters say");
                    return Err(Error::operand("trained parameters", expected, count(vars) - before));
                }
            }
        }
        Ok(count(vars) - before)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head => f.write_str("head"),
            Self::Lora => f.write_str("lora"),
            Self::Idlora { gate, select } => write!(f, "idlora {} {}", kebab(gate), kebab(select)),
        }
    }
}

/// The name of a gate or a selection, as in files.
pub fn kebab(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Query and value of every layer.
pub fn is_adapted(name: &str) -> bool {
    name.ends_with(".attention.self.query") || name.ends_with(".attention.self.value")
}

fn adapt_lora(bert: &mut Bert, seed: u64, vars: &VarMap) -> Result<()> {
    for (number, (name, projection)) in (0..).zip(bert.projections().filter(|(name, _)| is_adapted(name))) {
        let Projection::Idlora(Linear::Base(base)) = &*projection else {
            return Err(Error::operand(name, "a layer that is not adapted yet", "an adapted one"));
        };
        let lora = Lora::new(base.clone(), &name, lora::Config::default(), seed, number, vars)?;
        *projection = Projection::Lora(lora);
    }
    Ok(())
}

/// Numbers that `vars` trains.
pub fn count(vars: &VarMap) -> usize {
    vars.all_vars().iter().map(|var| var.elem_count()).sum()
}
