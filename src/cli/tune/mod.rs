//! `idlora tune`.

mod problems;
mod record;

use super::args::Tune;
use super::{Failure, Result, init, output, text};
use idlora::tune::{Candidate, Outcome, Source, Stage, Tuner};
use idlora::{Device, Dtype, lowrank, shared_gemm};
use indicatif::ProgressBar;
use problems::{Desc, Problem, problems};
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub fn run(args: &Tune) -> Result<()> {
    let path = match &args.record {
        Some(path) => path.clone(),
        None => idlora::tune::record::default_path()
            .ok_or_else(|| Failure::command("there is no folder for caches here; name a file with --record"))?,
    };
    if args.show {
        return record::show(&path, args.json);
    }
    if args.clear {
        return record::clear(&path);
    }
    if let Some(to) = &args.export {
        return record::export(&path, to);
    }
    measure(args, path)
}

fn device(args: &Tune) -> Result<Device> {
    match &args.device {
        Some(Device::Cpu) => Err(Failure::command("the CPU has nothing to tune; name another device with --device")),
        #[cfg(feature = "vm")]
        Some(Device::Vm(_)) => Ok(machine()),
        Some(device) => Ok(device.clone()),
        None => "cuda".parse().map_err(|error| {
            Failure::command(format!("{error}; --device vm tunes for a model of a card where there is none"))
        }),
    }
}

/// Whether the device has a clock: times of the virtual machine are a model's.
fn measures(device: &Device) -> bool {
    match device {
        #[cfg(feature = "vm")]
        Device::Vm(_) => false,
        _ => true,
    }
}

/// A machine that holds as many blocks as its card would: a time of fewer would be another card's.
#[cfg(feature = "vm")]
fn machine() -> Device {
    let settings = idlora::vm::Settings { resident: 0, ..idlora::vm::Settings::default() };
    Device::Vm(idlora::vm::Vm::new(settings))
}

/// What was found for a problem.
struct Found {
    problem: Problem,
    outcomes: Vec<Outcome>,
}

fn measure(args: &Tune, path: PathBuf) -> Result<()> {
    let device = device(args)?;
    let problems = problems(args)?;
    let bar = init::progress_bar(problems.len(), "problems  {msg}");
    let (start, all) = (Instant::now(), problems.len());
    let mut found = Vec::with_capacity(all);
    for (done, problem) in problems.into_iter().enumerate() {
        bar.set_message(problem.name.clone());
        let mut tuner = Tuner::full(&path).on_progress(listener(&bar));
        if let Some(budget) = args.budget {
            tuner = tuner.budget(share(budget, start.elapsed(), problem.operation.choices() * (all - done)));
        }
        let outcomes = tune(&device, &problem, &tuner)
            .map_err(|error| Failure::command(format!("{} with {} tokens: {error}", problem.name, problem.tokens)))?;
        found.push(Found { problem, outcomes });
        bar.inc(1);
    }
    bar.finish_and_clear();
    if args.json {
        return output::print_json(&json(&path, &found));
    }
    let mut notices: Vec<&String> = found.iter().flat_map(|f| &f.outcomes).flat_map(|o| &o.notices).collect();
    notices.dedup();
    for notice in notices {
        output::message(notice);
    }
    output::print(&for_people(&device, &path, &found, start.elapsed()))
}

/// A choice's part of what is left of the budget.
fn share(budget: Duration, spent: Duration, choices: usize) -> Duration {
    budget.saturating_sub(spent) / u32::try_from(choices.max(1)).unwrap_or(u32::MAX)
}

fn listener(bar: &ProgressBar) -> impl Fn(&idlora::tune::Progress<'_>) + Send + Sync + 'static {
    let bar = bar.clone();
    move |progress| {
        let stage = match progress.stage {
            Stage::Timing => "timing",
            Stage::Comparing => "comparing",
            Stage::Verifying => "verifying",
            _ => "running",
        };
        bar.set_message(format!("{stage} {} ({}/{})", progress.config, progress.done + 1, progress.total));
        bar.tick();
    }
}

impl Desc {
    /// Choices that a tuner makes for it.
    fn choices(&self) -> usize {
        match self {
            Self::Lowrank(desc) if desc.down == lowrank::DownProjection::Gather => 1,
            Self::Lowrank(_) | Self::SharedGemm(_) => 2,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Lowrank(_) => "adapter",
            Self::SharedGemm(_) => "layer with adapter",
        }
    }
}

fn tune(device: &Device, problem: &Problem, tuner: &Tuner) -> idlora::Result<Vec<Outcome>> {
    let Problem { tokens, dtype, .. } = *problem;
    match &problem.operation {
        Desc::Lowrank(desc) => lowrank::Plan::new(device, *desc)?.tune(tuner, dtype, tokens),
        Desc::SharedGemm(desc) => shared_gemm::Plan::new(device, *desc)?.tune(tuner, dtype, tokens),
    }
}

/// Seconds as milliseconds, with three digits or more.
fn milliseconds(seconds: f64) -> String {
    format!("{:.4} ms", seconds * 1e3)
}

const fn source(source: Source) -> &'static str {
    match source {
        Source::Default => "default",
        Source::Model => "cost model",
        Source::Record => "record",
        Source::Measured => "measured",
        _ => "chosen",
    }
}

/// A table for every choice, then what they come to.
fn for_people(device: &Device, path: &std::path::Path, found: &[Found], spent: Duration) -> String {
    let counted = !measures(device);
    let clock = if counted { "counted" } else { "measured" };
    let mut text = String::new();
    for Found { problem, outcomes } in found {
        for outcome in outcomes {
            let (what, machine) = outcome.key.split_once(" on ").unwrap_or((&outcome.key, ""));
            text += &format!("{} of {}: {what}\n  on {machine}\n", problem.operation.name(), problem.name);
            let head = ["candidate", "cost model", clock, "verdict"];
            text += &text::table(&head, outcome.candidates.iter().map(|one| row(one, outcome)));
            let source = if counted && outcome.source == Source::Measured { clock } else { source(outcome.source) };
            text += &format!("→ {}, {source}\n\n", outcome.config);
        }
    }
    let outcomes = || found.iter().flat_map(|f| &f.outcomes);
    let count = |wanted| outcomes().filter(|outcome| outcome.source == wanted).count();
    let (all, measured, recorded) = (outcomes().count(), count(Source::Measured), count(Source::Record));
    let summary = format!(
        "{} tuned in {}: {measured} {clock} now, {recorded} from the record {}\n",
        text::counted(all, "choice"),
        text::seconds(spent.as_secs_f64()),
        path.display()
    );
    let note = if counted {
        "Nothing was timed: the machine's clock is a model of a card, applied to what was counted.\n"
    } else {
        ""
    };
    text + &summary + note
}

fn row(candidate: &Candidate, outcome: &Outcome) -> Vec<String> {
    let mark = if candidate.config == outcome.config { "→ " } else { "  " };
    vec![
        format!("{mark}{}", candidate.config),
        milliseconds(candidate.modelled),
        candidate.measured.map_or_else(|| "-".to_owned(), milliseconds),
        candidate.verdict.clone(),
    ]
}

#[derive(serde::Serialize)]
struct TuneJson<'a> {
    record: &'a std::path::Path,
    choices: Vec<ChoiceJson<'a>>,
}

#[derive(serde::Serialize)]
struct ChoiceJson<'a> {
    layer: &'a str,
    key: &'a str,
    tokens: usize,
    dtype: Dtype,
    config: idlora::tune::Config,
    source: &'static str,
    candidates: Vec<CandidateJson<'a>>,
    notices: &'a [String],
}

#[derive(serde::Serialize)]
struct CandidateJson<'a> {
    config: idlora::tune::Config,
    /// Seconds; null where it cannot be run.
    modelled: Option<f64>,
    measured: Option<f64>,
    verdict: &'a str,
}

fn json<'a>(path: &'a std::path::Path, found: &'a [Found]) -> TuneJson<'a> {
    let choice = |problem: &'a Problem, outcome: &'a Outcome| ChoiceJson {
        layer: &problem.name,
        key: &outcome.key,
        tokens: problem.tokens,
        dtype: problem.dtype,
        config: outcome.config,
        source: source(outcome.source),
        candidates: outcome
            .candidates
            .iter()
            .map(|one| CandidateJson {
                config: one.config,
                modelled: Some(one.modelled).filter(|seconds| seconds.is_finite()),
                measured: one.measured,
                verdict: &one.verdict,
            })
            .collect(),
        notices: &outcome.notices,
    };
    let choices = found.iter().flat_map(|f| f.outcomes.iter().map(move |outcome| choice(&f.problem, outcome)));
    TuneJson { record: path, choices: choices.collect() }
}
