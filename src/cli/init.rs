//! `idlora init`.

use super::args::Init;
use super::modules::{self, Choice, Module, Skipped};
use super::output::{self, check_free};
use super::{Failure, Result, chart, curves, text};
use idlora::adapter::{Config, Counters, IdLora, Report};
use idlora::format::checkpoint::Checkpoint;
use idlora::{Device, with_weight};
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use std::path::Path;
use std::time::Instant;

/// Weights that are in memory together, unless one alone is larger.
const BATCH_BYTES: u64 = 64 << 20;

pub fn run(args: &Init) -> Result<()> {
    let started = Instant::now();
    check_free(&args.out)?;
    if let Some(plot) = &args.plot {
        check_free(&plot.path)?;
        if plot.path == args.out {
            return Err(Failure::command(format!("--plot and --out are both {}", args.out.display())));
        }
    }
    let checkpoint = Checkpoint::open(&args.weights)?;
    let choice = modules::choose(&checkpoint, args)?;
    for skipped in &choice.skipped {
        output::message(&format!("left out {} {:?}: {}", skipped.name, skipped.shape, skipped.reason));
    }
    let threads = args.threads.map_or(0, usize::from);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|error| Failure::command(format!("--threads {threads}: {error}")))?;
    let made = pool.install(|| make_adapters(&checkpoint, &choice.modules, &args.device))?;
    let (adapters, reports): (Vec<IdLora>, Vec<Report>) = made.into_iter().unzip();
    // Drawn before the adapter is written and renamed after it, so that a failure leaves neither.
    let drawing = match &args.plot {
        Some(plot) => {
            let curves = pool.install(|| curves::measure(&checkpoint, &choice.modules, args))?;
            Some((plot, chart::draw(&curves, plot.format)?))
        }
        None => None,
    };
    idlora::format::native::save(&args.out, &adapters)?;
    if let Some((plot, bytes)) = drawing {
        chart::write(&plot.path, &bytes)?;
    }
    report(args, &choice, &adapters, &reports, started.elapsed().as_secs_f64())
}

fn make_adapters(checkpoint: &Checkpoint, modules: &[Module], device: &Device) -> Result<Vec<(IdLora, Report)>> {
    let bar = progress_bar(modules.len(), "modules");
    let mut made = Vec::with_capacity(modules.len());
    for batch in batches(modules) {
        let results: Vec<idlora::Result<(IdLora, Report)>> = batch
            .par_iter()
            .with_max_len(1)
            .map(|module| {
                let weight = module.read(checkpoint)?;
                let result = with_weight!(&weight, w => IdLora::init(device, &module.name, w.as_ref(), &module.config));
                bar.inc(1);
                result
            })
            .collect();
        // In the modules' order, so that of several failures the first is told, whatever the threads did.
        for (module, result) in batch.iter().zip(results) {
            made.push(result.map_err(|error| named(module, error))?);
        }
    }
    bar.finish_and_clear();
    Ok(made)
}

/// Puts the module's name in front of errors that do not carry it.
pub fn named(module: &Module, error: idlora::Error) -> Failure {
    match error {
        error @ (idlora::Error::NonFinite { .. } | idlora::Error::Format { .. } | idlora::Error::Io { .. }) => {
            error.into()
        }
        error => Failure::command(format!("module `{}`: {error}", module.name)),
    }
}

/// Consecutive modules whose weights fit in [`BATCH_BYTES`] together. Within a batch modules are worked on at once; a
/// thread that waits inside one may start another, so the batch is what bounds memory.
pub fn batches(modules: &[Module]) -> impl Iterator<Item = &[Module]> {
    let mut rest = modules;
    std::iter::from_fn(move || {
        let mut bytes = 0u64;
        let fitting = rest.iter().take_while(|module| {
            bytes = bytes.saturating_add(module.bytes);
            bytes <= BATCH_BYTES
        });
        let (batch, after) = rest.split_at(fitting.count().max(1).min(rest.len()));
        rest = after;
        (!batch.is_empty()).then_some(batch)
    })
}

/// A bar on stderr; nothing where that is no terminal.
pub fn progress_bar(length: usize, unit: &str) -> ProgressBar {
    let bar = ProgressBar::new(length as u64);
    let template = format!("{{bar:40}} {{pos}}/{{len}} {unit}");
    match ProgressStyle::with_template(&template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[derive(serde::Serialize)]
struct InitJson<'a> {
    weights: &'a Path,
    out: &'a Path,
    config: &'a Config,
    modules: Vec<ModuleJson<'a>>,
    skipped: &'a [Skipped],
    totals: Totals,
}

#[derive(serde::Serialize)]
struct ModuleJson<'a> {
    name: &'a str,
    rows: usize,
    cols: usize,
    rank: usize,
    clusters: usize,
    sizes: &'a [usize],
    /// One list of `rank` row numbers per cluster.
    indices: Vec<&'a [u32]>,
    inertia: f64,
    iterations: usize,
    converged: bool,
    relative_error: f64,
    cluster_errors: &'a [f64],
    rank_reached: &'a [usize],
    seconds: f64,
}

#[derive(serde::Serialize)]
struct Totals {
    modules: usize,
    trained: usize,
    frozen_bytes: usize,
    stored_bytes: usize,
    optimizer_bytes: usize,
    seconds: f64,
    /// Where the system tells it.
    peak_memory_bytes: Option<u64>,
}

fn report(args: &Init, choice: &Choice, adapters: &[IdLora], reports: &[Report], seconds: f64) -> Result<()> {
    let Counters { trained, frozen_bytes, stored_bytes, optimizer_bytes } =
        adapters.iter().map(IdLora::counters).sum::<Counters>();
    if !args.json {
        return output::print(&for_people(args, adapters, reports, seconds));
    }
    let modules = adapters.iter().zip(reports).map(|(adapter, report)| module_json(adapter, report)).collect();
    output::print_json(&InitJson {
        weights: &args.weights,
        out: &args.out,
        config: &args.config(),
        modules,
        skipped: &choice.skipped,
        totals: Totals {
            modules: adapters.len(),
            trained,
            frozen_bytes,
            stored_bytes,
            optimizer_bytes,
            seconds,
            peak_memory_bytes: peak_memory(),
        },
    })
}

fn module_json<'a>(adapter: &'a IdLora, report: &'a Report) -> ModuleJson<'a> {
    ModuleJson {
        name: adapter.name(),
        rows: adapter.rows(),
        cols: adapter.cols(),
        rank: adapter.config().rank,
        clusters: adapter.config().clusters,
        sizes: &report.sizes,
        indices: adapter.skeleton().chunks(adapter.config().rank).collect(),
        inertia: report.inertia,
        iterations: report.iterations,
        converged: report.converged,
        relative_error: report.relative_error,
        cluster_errors: &report.cluster_errors,
        rank_reached: &report.rank_reached,
        seconds: report.seconds,
    }
}

/// The most memory this process has held, from `/proc` where there is one.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn for_people(args: &Init, adapters: &[IdLora], reports: &[Report], seconds: f64) -> String {
    let head = ["module", "rows", "cols", "rank", "cluster sizes", "steps", "rel. error", "rank reached", "time"];
    let rows = adapters.iter().zip(reports).map(|(adapter, report)| {
        let rank = adapter.config().rank;
        vec![
            adapter.name().to_owned(),
            adapter.rows().to_string(),
            adapter.cols().to_string(),
            rank.to_string(),
            listed(&report.sizes),
            report.iterations.to_string() + if report.converged { "" } else { "+" },
            format!("{:.4}", report.relative_error),
            if report.rank_reached.iter().all(|&r| r == rank) {
                "full".to_owned()
            } else {
                listed(&report.rank_reached)
            },
            text::seconds(report.seconds),
        ]
    });
    let mut out = text::table(&head, rows);
    if reports.iter().any(|report| !report.converged) {
        out += "+ stopped before it had converged\n";
    }
    out += &format!("{}\n", costs(adapters));
    out += &format!("written to {} in {}\n", args.out.display(), text::seconds(seconds));
    if let Some(plot) = &args.plot {
        out += &format!("plot in {}\n", plot.path.display());
    }
    out
}

fn listed(numbers: &[usize]) -> String {
    numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(" ")
}

/// The counters of a model, each apart from the others.
pub fn costs(adapters: &[IdLora]) -> String {
    let total: Counters = adapters.iter().map(IdLora::counters).sum();
    format!(
        "{}: {} trained, {} frozen beside the base, {} stored, {} of optimiser state (AdamW)",
        text::counted(adapters.len(), "module"),
        text::counted(total.trained, "parameter"),
        text::bytes(total.frozen_bytes),
        text::bytes(total.stored_bytes),
        text::bytes(total.optimizer_bytes)
    )
}
