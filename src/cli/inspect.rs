//! `idlora inspect`.

use super::args::Inspect;
use super::{Result, init, output, text};
use idlora::adapter::{Config, Counters, Digest, IdLora};
use idlora::{Dtype, format::native};
use std::path::Path;

pub fn run(args: &Inspect) -> Result<()> {
    let adapters = native::load(&args.dir)?;
    if args.json { output::print_json(&json(&args.dir, &adapters)) } else { output::print(&for_people(&adapters)) }
}

#[derive(serde::Serialize)]
struct InspectJson<'a> {
    dir: &'a Path,
    modules: Vec<ModuleJson<'a>>,
    totals: TotalsJson,
}

#[derive(serde::Serialize)]
struct ModuleJson<'a> {
    name: &'a str,
    rows: usize,
    cols: usize,
    dtype: Dtype,
    rank: usize,
    clusters: usize,
    scale: f32,
    config: &'a Config,
    /// One list of `rank` row numbers per cluster.
    indices: Vec<&'a [u32]>,
    b_shape: [usize; 2],
    gate_shape: [usize; 2],
    counters: Counters,
    digest: Digest,
}

#[derive(serde::Serialize)]
struct TotalsJson {
    modules: usize,
    #[serde(flatten)]
    counters: Counters,
}

fn json<'a>(dir: &'a Path, adapters: &'a [IdLora]) -> InspectJson<'a> {
    let shape = |(rows, cols)| [rows, cols];
    let modules = adapters
        .iter()
        .map(|adapter| ModuleJson {
            name: adapter.name(),
            rows: adapter.rows(),
            cols: adapter.cols(),
            dtype: adapter.dtype(),
            rank: adapter.config().rank,
            clusters: adapter.config().clusters,
            scale: adapter.scale(),
            config: adapter.config(),
            indices: adapter.skeleton().chunks(adapter.config().rank).collect(),
            b_shape: shape(adapter.b().shape()),
            gate_shape: shape(adapter.gate().shape()),
            counters: adapter.counters(),
            digest: adapter.digest(),
        })
        .collect();
    let counters = adapters.iter().map(IdLora::counters).sum();
    InspectJson { dir, modules, totals: TotalsJson { modules: adapters.len(), counters } }
}

fn for_people(adapters: &[IdLora]) -> String {
    let head =
        ["module", "rows", "cols", "dtype", "rank", "k", "split", "gate", "κ", "trained", "first rows", "base digest"];
    let rows = adapters.iter().map(|adapter| {
        let config = adapter.config();
        let first: Vec<String> = adapter.skeleton().chunks(config.rank).map(|rows| rows[0].to_string()).collect();
        vec![
            adapter.name().to_owned(),
            adapter.rows().to_string(),
            adapter.cols().to_string(),
            adapter.dtype().name().to_owned(),
            config.rank.to_string(),
            config.clusters.to_string(),
            config.split.to_string(),
            kebab(&config.gate),
            adapter.scale().to_string(),
            text::grouped(adapter.counters().trained),
            first.join(" "),
            adapter.digest().to_string()[..12].to_owned(),
        ]
    });
    text::table(&head, rows) + &init::costs(adapters) + "\n"
}

/// A library enumeration as the command line spells it.
pub fn kebab(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => "?".to_owned(),
    }
}
