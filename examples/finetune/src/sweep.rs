//! `finetune sweep`: all methods, all seeds.

use crate::args;
use crate::data::Measure;
use crate::disk;
use crate::error::Result;
use crate::method::{Method, Rates};
use crate::processes::{Job, run_all};
use std::path::Path;

/// Folder of the runs.
pub const RUNS: &str = "runs";

/// Runs the command.
///
/// # Errors
/// Those of the runs.
pub fn main(args: &args::Sweep) -> Result<()> {
    let rates = args.rates.as_deref().map(disk::read_json).transpose()?.unwrap_or_default();
    let jobs = jobs(&args.common.out, args.seeds, &rates);
    // The first failure is told after all runs, with the others' results on disk.
    run_all(&jobs, &args.common, args.jobs)?.into_iter().collect::<Result<Vec<_>>>()?;
    println!("{} runs are in {}", jobs.len(), args.common.out.join(RUNS).display());
    Ok(())
}

/// Seed after seed, so that a sweep that ends early has done all methods with the same seeds.
pub fn jobs(out: &Path, seeds: u64, rates: &Rates) -> Vec<Job> {
    let job = |seed, method: Method| Job {
        method,
        seed,
        rate: rates.of(method),
        measure: Measure::Test,
        folder: out.join(RUNS).join(format!("{}-seed-{seed}", method.folder())),
    };
    (1..=seeds).flat_map(|seed| Method::all().into_iter().map(move |method| job(seed, method))).collect()
}
