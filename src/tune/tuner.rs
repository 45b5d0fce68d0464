//! The tuner: modes, and what it finds.

use super::key::Key;
use super::ranking::{self, Ranked};
use super::record::{Entry, Measurement, Record};
use super::search::{Clock, Search};
use super::{Config, store};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::tunable::Tunable;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a [`Tuner`] may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// The cost model chooses. Nothing is read, nothing is timed.
    Off,
    /// The record chooses; where it says nothing, a table for the card that came with this crate, and else the default.
    /// Deterministic: one record, one choice on every rank.
    Cached,
    /// The record chooses; where it says nothing, candidates are timed, and the winner is recorded.
    Full,
}

/// Chooses among the ways of running a kernel.
///
/// Ranks that must run alike share a record: one of them fills it ([`Tuner::full`]), all of them read it ([`Tuner::cached`]).
#[derive(Clone)]
pub struct Tuner {
    mode: Mode,
    path: Option<PathBuf>,
    budget: Option<Duration>,
    progress: Option<Arc<Listener>>,
    /// Records that came with the crate.
    tables: &'static [&'static str],
}

/// Entries that are not used and named one by one.
const NOTICES: usize = 8;

type Listener = dyn Fn(&Progress<'_>) + Send + Sync;

/// What a tuner is about to do, see [`Tuner::on_progress`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// What is being tuned.
    pub key: &'a Key,
    /// The way that is run next.
    pub config: Config,
    /// What for.
    pub stage: Stage,
    /// Steps of the stage that are done.
    pub done: usize,
    /// Steps that it has at most.
    pub total: usize,
}

/// What candidates are run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// All of them, one after another.
    Timing,
    /// Two of them, in turns.
    Comparing,
    /// The winner's outputs against the default's.
    Verifying,
}

/// Where a choice comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The operation's default: the record says nothing, and nothing was to be timed.
    Default,
    /// The cost model.
    Model,
    /// The record.
    Record,
    /// A table of measurements that came with this crate: of the same kernels on the same card, with whatever driver.
    Shipped,
    /// Measurements, now.
    Measured,
}

/// A way of running a kernel, and what is known of its speed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Candidate {
    /// The way.
    pub config: Config,
    /// Seconds that the cost model expects; infinite where it cannot be run.
    pub modelled: f64,
    /// Median of the seconds measured, where it was timed.
    pub measured: Option<f64>,
    /// What became of it, such as `winner: 1.08× the default over 9 pairs`, `not timed: ranked 9th`, `slower: 1.30×`,
    /// `refused: …`.
    pub verdict: String,
}

/// What a tuner has chosen for a kernel.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Outcome {
    /// What decides a choice, for people.
    pub key: String,
    /// The choice.
    pub config: Config,
    /// Where it comes from.
    pub source: Source,
    /// All legal ways, in the order of the cost model, the default first.
    pub candidates: Vec<Candidate>,
    /// What was wrong with the record or with a candidate, where something was.
    pub notices: Vec<String>,
}

impl Tuner {
    /// The cost model alone.
    pub fn off() -> Self {
        Self { mode: Mode::Off, path: None, budget: None, progress: None, tables: super::tables::MEASURED }
    }

    /// The record alone. See [`default_path`](super::record::default_path) for where records usually are.
    pub fn cached(path: impl Into<PathBuf>) -> Self {
        Self { mode: Mode::Cached, path: Some(path.into()), ..Self::off() }
    }

    /// Records what it measures. The file and its folder are made when there is something to store.
    pub fn full(path: impl Into<PathBuf>) -> Self {
        Self { mode: Mode::Full, path: Some(path.into()), ..Self::off() }
    }

    /// Stops measuring after so long, for each choice; what has been measured by then decides. Where not even the default has
    /// been, the cost model does, and nothing is recorded.
    #[must_use]
    pub fn budget(self, budget: Duration) -> Self {
        Self { budget: Some(budget), ..self }
    }

    /// Calls `listener` before every run of a candidate, on the thread that tunes: time that it takes is part of the budget,
    /// never of a measurement.
    #[must_use]
    pub fn on_progress(self, listener: impl Fn(&Progress<'_>) + Send + Sync + 'static) -> Self {
        Self { progress: Some(Arc::new(listener)), ..self }
    }

    /// What it may do.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Chooses for a problem.
    ///
    /// # Errors
    /// [`Error::Unsupported`] inside a graph capture for [`Mode::Full`], before anything is allocated or timed; what the device
    /// refuses of the default.
    pub(crate) fn choose<G: Gpu, P: Tunable>(&self, gpu: &G, problem: &P) -> Result<Outcome> {
        let started = Instant::now();
        self.choose_by(&|| started.elapsed(), gpu, problem)
    }

    /// As [`Tuner::choose`], with the time since it began.
    pub(super) fn choose_by<G: Gpu, P: Tunable>(&self, clock: Clock<'_>, gpu: &G, problem: &P) -> Result<Outcome> {
        if self.mode == Mode::Full && gpu.capturing()? {
            let reason = "a graph is being captured, where nothing can be timed: tune before";
            return Err(Error::unsupported(problem.kernel(), reason));
        }
        let ranked = ranking::rank(problem, &gpu.card()?)?;
        let key = Key::of(gpu, problem)?;
        let mut notices = Vec::new();
        let recorded = self.recorded(&key, &ranked, &mut notices).map(|entry| (entry, Source::Record));
        if let Some((entry, source)) = recorded.or_else(|| Some((self.shipped(&key, &ranked)?, Source::Shipped))) {
            let candidates = ranked.iter().map(|way| known(way, Some(&entry))).collect();
            return Ok(Outcome { key: key.to_string(), config: entry.config, source, candidates, notices });
        }
        let (config, source) = match self.mode {
            Mode::Off => (ranking::fastest(&ranked), Source::Model),
            Mode::Cached => (ranked[0].config, Source::Default),
            Mode::Full => return self.measure(clock, gpu, problem, &key, &ranked, notices),
        };
        let candidates = ranked.iter().map(|way| known(way, None)).collect();
        Ok(Outcome { key: key.to_string(), config, source, candidates, notices })
    }

    fn measure<G: Gpu, P: Tunable>(
        &self,
        clock: Clock<'_>,
        gpu: &G,
        problem: &P,
        key: &Key,
        ranked: &[Ranked],
        mut notices: Vec<String>,
    ) -> Result<Outcome> {
        let report = |config: Config, stage, done, total| {
            if let Some(listener) = &self.progress {
                listener(&Progress { key, config, stage, done, total });
            }
        };
        let found = Search::new(gpu, problem, ranked, (clock, self.budget), &report).run()?;
        notices.extend(found.notices);
        let (config, source) = match found.winner {
            Some(winner) => (winner, Source::Measured),
            None => (ranking::fastest(ranked), Source::Model),
        };
        if let (Some(config), Some(path)) = (found.winner, &self.path) {
            let (measurements, finals) = (found.measurements, found.finals);
            let version = env!("CARGO_PKG_VERSION").to_owned();
            let entry = Entry { key: key.clone(), config, measurements, finals, version };
            match store::merge(path, &[entry]) {
                Ok(said) => notices.extend(said),
                Err(reason) => notices.push(format!("{}: {reason}", path.display())),
            }
        }
        Ok(Outcome { key: key.to_string(), config, source, candidates: found.candidates, notices })
    }

    /// What the record says, if it can be used.
    fn recorded(&self, key: &Key, ranked: &[Ranked], notices: &mut Vec<String>) -> Option<Entry> {
        let path = self.path.as_ref()?;
        let record = match store::read(path) {
            Ok(record) => record,
            Err(refused) => {
                notices.push(format!("{}: {refused}", path.display()));
                return None;
            }
        };
        let unused = record.notices();
        let more = unused.len().saturating_sub(NOTICES);
        let more = (more > 0).then(|| format!("{more} more entries are not used"));
        let said = unused.into_iter().take(NOTICES).chain(more).chain(others(&record, key));
        notices.extend(said.map(|notice| format!("{}: {notice}", path.display())));
        let entry = record.get(key)?;
        if !legal(entry, ranked) {
            let reason = format!("{} is not legal now, though recorded for `{key}`", entry.config);
            notices.push(format!("{}: stale: {reason}", path.display()));
            return None;
        }
        Some(entry.clone())
    }

    /// What a table that came with the crate says, to a tuner that does not measure. The driver is that of whoever measured.
    fn shipped(&self, key: &Key, ranked: &[Ranked]) -> Option<Entry> {
        if self.mode != Mode::Cached {
            return None;
        }
        let tables = self.tables.iter().filter_map(|text| Record::parse(text).ok());
        let mut entries = tables.flat_map(|table| table.entries().cloned().collect::<Vec<_>>());
        entries.find(|entry| {
            let here = Key { driver: key.driver.clone(), ..entry.key.clone() };
            here == *key && legal(entry, ranked)
        })
    }

    #[cfg(test)]
    pub(super) fn with_tables(self, tables: &'static [&'static str]) -> Self {
        Self { tables, ..self }
    }
}

fn legal(entry: &Entry, ranked: &[Ranked]) -> bool {
    ranked.iter().any(|way| way.config == entry.config && way.refused.is_none())
}

/// Why the record's entries for the problem are not for this key, unless there is one that is.
fn others(record: &Record, key: &Key) -> Vec<String> {
    if record.get(key).is_some() {
        return Vec::new();
    }
    let near = |here: bool| {
        let mut near = record.entries().filter(|entry| entry.key.same_problem(key));
        near.find(|entry| entry.key.same_machine(key) == here)
    };
    let stale = near(true).map(|entry| format!("stale: {} was measured with other kernels", entry.config));
    let machine = |entry: &Entry| format!("foreign: {} was measured on {}", entry.config, entry.key.machine());
    stale.into_iter().chain(near(false).map(machine)).collect()
}

/// A way, with what an entry says of it.
fn known(way: &Ranked, entry: Option<&Entry>) -> Candidate {
    let measurement = entry.and_then(|entry| entry.measurements.iter().find(|one| one.config == way.config));
    let verdict = match (&way.refused, measurement) {
        (Some(reason), _) => format!("refused: {reason}"),
        (None, Some(measurement)) => measurement.verdict.clone(),
        (None, None) => "not timed".to_owned(),
    };
    let measured = measurement.and_then(Measurement::seconds);
    Candidate { config: way.config, modelled: way.modelled, measured, verdict }
}

impl fmt::Debug for Tuner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mode, path, budget, progress, tables: _ } = self;
        let listens = progress.is_some();
        f.debug_struct("Tuner")
            .field("mode", mode)
            .field("path", path)
            .field("budget", budget)
            .field("listens", &listens)
            .finish()
    }
}
