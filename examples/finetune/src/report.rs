//! `finetune report`: what the runs say, as a table, in a few sentences, and as a plot.

use crate::args;
use crate::cost::{COST, Costs, Step};
use crate::disk;
use crate::error::{Error, Result};
use crate::method::{GATES, Method, SELECTIONS};
use crate::plot;
use crate::run::{Outcome, RESULT};
use crate::statistics::{deviation, mean, median};
use crate::sweep::RUNS;
use comfy_table::presets::{ASCII_MARKDOWN, UTF8_HORIZONTAL_ONLY};
use comfy_table::{CellAlignment, Table};
use std::path::Path;

/// All runs of one method.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The method.
    pub method: Method,
    /// Seeds, ascending.
    pub seeds: Vec<u64>,
    /// Test accuracies in the order of the seeds.
    pub accuracies: Vec<f64>,
    /// Numbers trained in the encoder.
    pub adapter_parameters: usize,
    /// Median bytes of peak memory.
    pub peak_memory: Option<f64>,
    /// Median seconds of set-up.
    pub setup_seconds: f64,
    /// From `finetune cost`.
    pub step: Option<Step>,
}

impl Row {
    /// Mean accuracy.
    pub fn mean(&self) -> f64 {
        mean(&self.accuracies)
    }

    /// Standard deviation of the accuracy over seeds.
    pub fn deviation(&self) -> f64 {
        deviation(&self.accuracies)
    }

    /// This method's accuracy less another's, seed by seed, where both have run.
    pub fn less(&self, other: &Self) -> Vec<f64> {
        let of = |seed: &u64| other.seeds.iter().position(|other| other == seed);
        let pairs = self.seeds.iter().zip(&self.accuracies);
        pairs.filter_map(|(seed, accuracy)| of(seed).map(|at| accuracy - other.accuracies[at])).collect()
    }
}

/// Runs the command.
///
/// # Errors
/// [`Error::Content`] where there are no runs; [`Error::Io`]; [`Error::Plot`].
pub fn main(args: &args::Report) -> Result<()> {
    let outcomes = read(&args.out.join(RUNS))?;
    let path = args.out.join(COST);
    let costs = if path.exists() { Some(disk::read_json::<Costs>(&path)?) } else { None };
    let rows = rows(&outcomes, costs.as_ref());
    println!("{}", table(&rows, args.markdown));
    for sentence in sentences(&rows) {
        println!("\n{sentence}");
    }
    if let Some(path) = &args.plot {
        disk::write(path, plot::draw(&rows)?.as_bytes())?;
    }
    Ok(())
}

/// All finished runs under a folder.
fn read(runs: &Path) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for entry in std::fs::read_dir(runs).map_err(Error::io("reading", runs))? {
        let path = entry.map_err(Error::io("reading", runs))?.path().join(RESULT);
        if path.exists() {
            outcomes.push(disk::read_json(&path)?);
        }
    }
    if outcomes.is_empty() {
        return Err(Error::content(runs, "finished runs", "at least one", 0));
    }
    Ok(outcomes)
}

/// One row for every method that has run, in the order of [`Method::all`].
pub fn rows(outcomes: &[Outcome], costs: Option<&Costs>) -> Vec<Row> {
    let row = |method: Method| {
        let mut of: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.settings.method == method).collect();
        of.sort_by_key(|outcome| outcome.settings.seed);
        let memory: Vec<f64> = of.iter().filter_map(|outcome| outcome.peak_memory).map(|bytes| bytes as f64).collect();
        Some(Row {
            method,
            seeds: of.iter().map(|outcome| outcome.settings.seed).collect(),
            accuracies: of.iter().map(|outcome| outcome.accuracy).collect(),
            adapter_parameters: of.first()?.adapter_parameters,
            peak_memory: (!memory.is_empty()).then(|| median(&memory)),
            setup_seconds: median(&of.iter().map(|outcome| outcome.setup_seconds).collect::<Vec<_>>()),
            step: costs.and_then(|costs| costs.step(method)),
        })
    };
    Method::all().into_iter().filter_map(row).collect()
}

/// The table, as text or as markdown.
pub fn table(rows: &[Row], markdown: bool) -> Table {
    let mut table = Table::new();
    table.load_style(if markdown { ASCII_MARKDOWN } else { UTF8_HORIZONTAL_ONLY });
    table.set_header([
        "method",
        "accuracy, %",
        "runs",
        "adapter parameters",
        "of LoRA's",
        "s/step",
        "of LoRA's",
        "peak MB",
        "set-up s",
    ]);
    let lora = rows.iter().find(|row| row.method == Method::Lora).map(|row| row.adapter_parameters as f64);
    for row in rows {
        let or_dash = |cell: Option<String>| cell.unwrap_or_else(|| "–".to_owned());
        let deviation =
            if row.accuracies.len() > 1 { format!(" ± {:.2}", 100.0 * row.deviation()) } else { String::new() };
        table.add_row([
            row.method.to_string(),
            format!("{:.2}{deviation}", 100.0 * row.mean()),
            row.accuracies.len().to_string(),
            thousands(row.adapter_parameters),
            or_dash(lora.map(|lora| format!("{:.3}", row.adapter_parameters as f64 / lora))),
            or_dash(row.step.map(|step| format!("{:.2}", step.seconds))),
            or_dash(row.step.map(|Step { over_lora: [ratio, low, high], .. }| match row.method {
                Method::Lora => "1.00".to_owned(),
                _ => format!("{ratio:.2} ({low:.2}–{high:.2})"),
            })),
            or_dash(row.peak_memory.map(|bytes| format!("{:.0}", bytes / 1e6))),
            format!("{:.3}", row.setup_seconds),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// What the table says about the questions that were asked before the runs.
pub fn sentences(rows: &[Row]) -> Vec<String> {
    let find = |method: Method| rows.iter().find(|row| row.method == method);
    let (Some(lora), Some(default)) = (find(Method::Lora), find(Method::idlora())) else { return Vec::new() };
    if lora.accuracies.len() < 2 || default.accuracies.len() < 2 {
        return vec!["Fewer than two seeds: nothing is said about differences.".to_owned()];
    }
    let (gap, deviation) = (100.0 * (default.mean() - lora.mean()), 100.0 * lora.deviation());
    let fraction = 100.0 * default.adapter_parameters as f64 / lora.adapter_parameters as f64;
    let verdict = if gap >= -deviation && fraction <= 54.0 { "met" } else { "not met" };
    let mut all = vec![format!(
        "Expected before the runs: the default's mean accuracy no more than one standard deviation below LoRA's, at no more than \
         54 % of its parameters. Found: {gap:+.2} points, LoRA's standard deviation {deviation:.2}, {fraction:.0} %. {verdict}."
    )];
    let gates = GATES.map(|gate| Method::Idlora { gate, select: SELECTIONS[0] });
    let selections = SELECTIONS.map(|select| Method::Idlora { gate: GATES[0], select });
    for (what, others) in [("gates", &gates[1..]), ("selections", &selections[1..])] {
        let others: Vec<String> =
            others.iter().filter_map(|&method| find(method)).filter_map(|row| paired(row, default)).collect();
        if !others.is_empty() {
            all.push(format!(
                "Other {what} less the default, seed by seed, in points (mean ± its standard error): {}.",
                others.join(", ")
            ));
        }
    }
    all
}

fn paired(row: &Row, default: &Row) -> Option<String> {
    let differences: Vec<f64> = row.less(default).into_iter().map(|difference| 100.0 * difference).collect();
    let Method::Idlora { gate, select } = row.method else { return None };
    let name = if select == SELECTIONS[0] { crate::method::kebab(&gate) } else { crate::method::kebab(&select) };
    let error = deviation(&differences) / (differences.len() as f64).sqrt();
    (differences.len() > 1).then(|| format!("{name} {:+.2} ± {error:.2}", mean(&differences)))
}

/// A number with commas between its thousands.
pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
