//! `finetune cost`: seconds of a step, all methods in turn, so that what disturbs one disturbs all.

use crate::args;
use crate::data::Measure;
use crate::disk;
use crate::error::{Error, Result};
use crate::method::{GATES, Method, SELECTIONS};
use crate::statistics::median;
use crate::task::Task;
use crate::train::{Settings, Trainer};
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};

/// The result's file.
pub const COST: &str = "cost.json";

/// What steps cost.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Costs {
    /// Threads of the process.
    pub threads: usize,
    /// By method.
    pub methods: Vec<MethodCost>,
}

/// What a step of one method costs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MethodCost {
    /// The method.
    pub method: Method,
    /// Median seconds of a step.
    pub seconds: f64,
    /// Median over the turns of its median seconds over LoRA's in the same turn.
    pub over_lora: f64,
}

/// Runs the command.
///
/// # Errors
/// Those of the training.
pub fn main(args: &args::Cost) -> Result<()> {
    if args.block == 0 || args.rounds == 0 {
        return Err(Error::operand(
            "turns and steps of a turn",
            "at least 1",
            format!("{}, {}", args.rounds, args.block),
        ));
    }
    let task = Task::read(&args.common.data, Measure::Test, args.common.max_tokens)?;
    // Which rows were chosen does not change a step.
    let gates = GATES.map(|gate| Method::Idlora { gate, select: SELECTIONS[0] });
    let methods: Vec<Method> = [Method::Lora, Method::Head].into_iter().chain(gates).collect();
    let mut trainers = methods.iter().map(|&method| trainer(&task, args, method)).collect::<Result<Vec<_>>>()?;
    let mut turns = vec![Vec::new(); trainers.len()];
    let mut all = vec![Vec::new(); trainers.len()];
    let bar = ProgressBar::new((args.rounds + 1) as u64);
    for round in 0..=args.rounds {
        for (number, trainer) in trainers.iter_mut().enumerate() {
            let from = trainer.done();
            for _ in 0..args.block {
                trainer.step(&task.examples)?;
            }
            // The first turn warms up.
            if round > 0 {
                let seconds = &trainer.history().seconds[from..];
                turns[number].push(median(seconds));
                all[number].extend_from_slice(seconds);
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let lora = turns[0].clone();
    let cost = |(number, &method): (usize, &Method)| {
        let ratios: Vec<f64> = turns[number].iter().zip(&lora).map(|(own, lora)| own / lora).collect();
        MethodCost { method, seconds: median(&all[number]), over_lora: median(&ratios) }
    };
    let methods = methods.iter().enumerate().map(cost).collect();
    let costs = Costs { threads: candle_core::utils::get_num_threads(), methods };
    for MethodCost { method, seconds, over_lora } in &costs.methods {
        println!("{method}: {seconds:.3} s a step, {over_lora:.3} of LoRA's");
    }
    disk::write_json(&args.common.out.join(COST), &costs)
}

fn trainer(task: &Task, args: &args::Cost, method: Method) -> Result<Trainer> {
    let settings = Settings {
        method,
        seed: 0,
        rate: method.rate(),
        measure: Measure::Test,
        batch: args.common.batch,
        max_tokens: args.common.max_tokens,
        weight_decay: 0.01,
    };
    Trainer::new(&task.weights, task.classes.len(), &task.split.train, settings)
}
