//! `finetune cost`: seconds of a step, every method against LoRA, step by step in turn.
//!
//! Machines change their speed within seconds, so LoRA's step and the other one of a pair follow each other, who is first
//! alternates, and it is the ratio of a pair that counts. Both are processes of their own, new ones in every round: where a
//! process has got its memory makes a step faster or slower, too.

use crate::args;
use crate::data::Measure;
use crate::disk;
use crate::error::{Error, Result};
use crate::method::{GATES, Method, SELECTIONS};
use crate::processes::Stepper;
use crate::statistics::{median, quantile};
use crate::task::Task;
use crate::train::{Settings, Trainer};
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The result's file.
pub const COST: &str = "cost.json";

/// What steps cost, on one thread.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Costs {
    /// By method, LoRA itself left out.
    pub methods: Vec<MethodCost>,
}

/// What a step of one method costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MethodCost {
    /// The method.
    pub method: Method,
    /// Seconds of a step of its own, and of the step of LoRA beside it.
    pub pairs: Vec<[f64; 2]>,
}

/// A method's steps in a few numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Median seconds.
    pub seconds: f64,
    /// Median over the pairs of its seconds over LoRA's, lower and upper quartile; 1 for LoRA.
    pub over_lora: [f64; 3],
}

impl Costs {
    /// A method's steps, if they were measured.
    pub fn step(&self, method: Method) -> Option<Step> {
        if method == Method::Lora {
            let all: Vec<f64> = self.methods.iter().flat_map(|cost| &cost.pairs).map(|&[_, lora]| lora).collect();
            return (!all.is_empty()).then(|| Step { seconds: median(&all), over_lora: [1.0; 3] });
        }
        let pairs = &self.methods.iter().find(|cost| cost.method == method)?.pairs;
        let own: Vec<f64> = pairs.iter().map(|&[own, _]| own).collect();
        let ratios: Vec<f64> = pairs.iter().map(|&[own, lora]| own / lora).collect();
        let over_lora = [0.5, 0.25, 0.75].map(|share| quantile(&ratios, share));
        Some(Step { seconds: median(&own), over_lora })
    }
}

/// Runs the command.
///
/// # Errors
/// [`Error::Operand`] for no rounds or no pairs, those of the steps, and those of the file.
pub fn main(args: &args::Cost) -> Result<()> {
    let (rounds, pairs) = (args.rounds, args.pairs);
    if rounds == 0 || pairs == 0 {
        return Err(Error::operand("rounds and pairs of steps", "at least 1", format!("{rounds}, {pairs}")));
    }
    // Which rows were chosen does not change a step.
    let gates = GATES.map(|gate| Method::Idlora { gate, select: SELECTIONS[0] });
    let methods = [Method::Head].into_iter().chain(gates);
    let mut costs: Vec<MethodCost> = methods.map(|method| MethodCost { method, pairs: Vec::new() }).collect();
    let bar = ProgressBar::new((rounds * costs.len()) as u64);
    for _ in 0..rounds {
        for MethodCost { method, pairs: all } in &mut costs {
            let mut lora = Stepper::start(Method::Lora, &args.common)?;
            let mut own = Stepper::start(*method, &args.common)?;
            // The first steps warm up.
            lora.step()?;
            own.step()?;
            for pair in 0..pairs {
                all.push(if pair % 2 == 0 {
                    let first = lora.step()?;
                    [own.step()?, first]
                } else {
                    [own.step()?, lora.step()?]
                });
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let costs = Costs { methods: costs };
    for method in [Method::Lora].into_iter().chain(costs.methods.iter().map(|cost| cost.method)) {
        let Some(Step { seconds, over_lora: [ratio, low, high] }) = costs.step(method) else { continue };
        println!("{method}: {seconds:.3} s a step, {ratio:.3} of LoRA's (quartiles {low:.3} and {high:.3})");
    }
    disk::write_json(&args.common.out.join(COST), &costs)
}

/// One side of pairs: takes a step for every line that comes in, and prints its seconds.
///
/// # Errors
/// Those of the task and the training.
pub fn steps(args: &args::Trained) -> Result<()> {
    let task = Task::read(&args.common.data, Measure::Test, args.common.max_tokens)?;
    let method = args.method();
    let settings = Settings {
        method,
        seed: 0,
        rate: method.rate(),
        measure: Measure::Test,
        batch: args.common.batch,
        max_tokens: args.common.max_tokens,
        weight_decay: 0.01,
    };
    let mut trainer = Trainer::new(&task.weights, task.classes.len(), &task.split.train, settings)?;
    for line in std::io::stdin().lines() {
        line.map_err(Error::io("reading", Path::new("standard input")))?;
        trainer.step(&task.examples)?;
        // Standard output is written line by line.
        println!("{}", trainer.history().seconds.last().copied().unwrap_or(f64::NAN));
    }
    Ok(())
}
