//! `finetune tune-lr`: learning rates by validation documents, with a seed that no other run has.

use crate::args;
use crate::data::Measure;
use crate::disk;
use crate::error::{Error, Result};
use crate::method::{Method, Rates};
use crate::processes::{Job, run_all};
use crate::run::Outcome;
use comfy_table::{Table, presets::ASCII_MARKDOWN};

/// The chosen rates' file.
pub const RATES: &str = "rates.json";
/// Rates that may be tried, ascending.
pub const LADDER: [f64; 7] = [1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0];
/// How many of them are tried in any case; the next follows as long as the highest one tried is the best.
pub const FIRST: usize = 4;
/// No seed of a sweep.
const SEED: u64 = 0;
/// One of each kind that has a rate of its own.
const METHODS: usize = 3;

/// Accuracy and loss on validation documents; none where the run diverged.
pub type Trial = Option<(f64, f64)>;

/// Runs the command.
///
/// # Errors
/// Those of the runs, apart from ones that failed: a rate that is too high makes a loss that is no number, and is not chosen.
pub fn main(args: &args::Tune) -> Result<()> {
    let methods: [Method; METHODS] = [Method::Head, Method::Lora, Method::idlora()];
    let mut trials: [Vec<Trial>; METHODS] = Default::default();
    loop {
        let wanted: Vec<(usize, usize)> = (0..METHODS)
            .flat_map(|method| {
                let tried = trials[method].len();
                (tried..wanted(&trials[method])).map(move |rate| (method, rate))
            })
            .collect();
        if wanted.is_empty() {
            break;
        }
        let jobs: Vec<Job> = wanted.iter().map(|&(method, rate)| job(args, methods[method], LADDER[rate])).collect();
        for ((method, _), outcome) in wanted.into_iter().zip(run_all(&jobs, &args.common, args.jobs)?) {
            trials[method].push(trial(outcome)?);
        }
    }
    finish(args, &methods, &trials)
}

/// How many rates are to be tried, after these trials of the lowest ones.
pub fn wanted(trials: &[Trial]) -> usize {
    match best(trials) {
        _ if trials.len() < FIRST => FIRST,
        Some(at) if at + 1 == trials.len() => (trials.len() + 1).min(LADDER.len()),
        _ => trials.len(),
    }
}

/// The trial of the highest accuracy; of equals, that of the lowest loss.
pub fn best(trials: &[Trial]) -> Option<usize> {
    let finished = trials.iter().enumerate().filter_map(|(at, trial)| trial.map(|trial| (at, trial)));
    let best = finished.max_by(|(_, a), (_, b)| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
    best.map(|(at, _)| at)
}

fn trial(outcome: Result<Outcome>) -> Result<Trial> {
    match outcome {
        Ok(outcome) => Ok(Some((outcome.accuracy, outcome.loss))),
        Err(Error::Run { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn finish(args: &args::Tune, methods: &[Method], trials: &[Vec<Trial>]) -> Result<()> {
    let (mut table, mut chosen) = (Table::new(), Vec::new());
    table.load_style(ASCII_MARKDOWN).set_header(["method", "rate", "accuracy", "loss", ""]);
    for (method, trials) in methods.iter().zip(trials) {
        let none = || Error::operand(format!("rates of {method}"), "one whose run ends", "none");
        let best = best(trials).ok_or_else(none)?;
        chosen.push(LADDER[best]);
        for (at, trial) in trials.iter().enumerate() {
            let (accuracy, loss) = match trial {
                Some((accuracy, loss)) => (format!("{accuracy:.4}"), format!("{loss:.4}")),
                None => ("failed".to_owned(), String::new()),
            };
            let mark = if at == best { "chosen" } else { "" };
            table.add_row([method.to_string(), LADDER[at].to_string(), accuracy, loss, mark.to_owned()]);
        }
    }
    println!("{table}");
    let rates = Rates { head: chosen[0], lora: chosen[1], idlora: chosen[2] };
    disk::write_json(&args.common.out.join(RATES), &rates)
}

fn job(args: &args::Tune, method: Method, rate: f64) -> Job {
    let folder = args.common.out.join("rates").join(format!("{}-{rate}", method.folder()));
    Job { method, seed: SEED, rate, measure: Measure::Validation, folder }
}
