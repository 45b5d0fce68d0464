//! The search: which candidates are timed, how two are compared, what wins.

use super::measure::{Bench, median};
use super::ranking::Ranked;
use super::record::{Final, Measurement};
use super::{Candidate, Config, Stage};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::gpu::tunable::Tunable;
use std::time::Duration;

/// Candidates that are timed, the default among them.
pub(super) const TIMED: usize = 8;
/// Samples of each.
const SAMPLES: usize = 5;
/// Pairs of a comparison.
pub(super) const PAIRS: usize = 9;
/// A candidate so many times slower than the fastest is sampled no more.
const HOPELESS: f64 = 2.0;
/// Measurements that a clock repeats to the bit are enough at this number: on a virtual machine there is no noise.
const SETTLED: usize = 2;

/// The time since the choice began.
pub(super) type Clock<'a> = &'a dyn Fn() -> Duration;
/// Told the way that is run next, what for, how many steps are done and of how many.
type Report<'a> = &'a dyn Fn(Config, Stage, usize, usize);

/// What a search has found.
pub(super) struct Found {
    /// Nothing where not even the default was timed.
    pub winner: Option<Config>,
    pub candidates: Vec<Candidate>,
    pub measurements: Vec<Measurement>,
    pub finals: Vec<Final>,
    pub notices: Vec<String>,
}

/// A candidate on its way.
struct Runner {
    config: Config,
    modelled: f64,
    repeats: u32,
    samples: Vec<f64>,
    refused: Option<String>,
    /// It was to be measured after the budget's end.
    late: bool,
}

pub(super) struct Search<'a, G: Gpu, P: Tunable> {
    bench: Bench<'a, G, P>,
    clock: Clock<'a>,
    budget: Option<Duration>,
    report: Report<'a>,
    field: Vec<Runner>,
    finals: Vec<Final>,
    /// The default's outputs, once they are needed.
    reference: Option<Vec<Vec<u8>>>,
    notices: Vec<String>,
}

impl<'a, G: Gpu, P: Tunable> Search<'a, G, P> {
    pub fn new(
        gpu: &'a G,
        problem: &'a P,
        ranked: &[Ranked],
        (clock, budget): (Clock<'a>, Option<Duration>),
        report: Report<'a>,
    ) -> Self {
        let field = ranked.iter().map(|way| Runner {
            config: way.config,
            modelled: way.modelled,
            repeats: 1,
            samples: Vec::new(),
            refused: way.refused.clone(),
            late: false,
        });
        Self {
            bench: Bench::new(gpu, problem, clock),
            clock,
            budget,
            report,
            field: field.collect(),
            finals: Vec::new(),
            reference: None,
            notices: Vec::new(),
        }
    }

    /// # Errors
    /// What the default's runs say.
    pub fn run(mut self) -> Result<Found> {
        self.time()?;
        let winner = if self.field[0].samples.is_empty() { None } else { Some(self.winner()?) };
        if self.field.iter().any(|runner| runner.late) {
            self.notices.push("the budget ended before everything was measured".to_owned());
        }
        let verdicts: Vec<String> = (0..self.field.len()).map(|place| self.verdict(place, winner)).collect();
        let candidates = self.field.iter().zip(&verdicts).map(|(runner, verdict)| Candidate {
            config: runner.config,
            modelled: runner.modelled,
            measured: median(&runner.samples),
            verdict: verdict.clone(),
        });
        let run = |(runner, _): &(&Runner, &String)| !runner.samples.is_empty() || runner.refused.is_some();
        let known = self.field.iter().zip(&verdicts).filter(run).filter(|(runner, _)| runner.modelled.is_finite());
        let measurements = known.map(|(runner, verdict)| Measurement {
            config: runner.config,
            modelled: runner.modelled,
            samples: runner.samples.clone(),
            verdict: super::key::plain(verdict),
        });
        Ok(Found {
            winner: winner.map(|place| self.field[place].config),
            candidates: candidates.collect(),
            measurements: measurements.collect(),
            finals: self.finals,
            notices: self.notices,
        })
    }

    /// Times the best-ranked candidates, in rounds.
    fn time(&mut self) -> Result<()> {
        let mut timed = Vec::new();
        for place in 0..self.field.len() {
            if timed.len() == TIMED {
                break;
            }
            (self.report)(self.field[place].config, Stage::Timing, timed.len(), TIMED.min(self.field.len()));
            if self.field[place].refused.is_none() && self.first(place)? {
                timed.push(place);
            }
        }
        for _ in 1..SAMPLES {
            let medians = timed.iter().filter_map(|&place| median(&self.field[place].samples));
            let limit = HOPELESS * medians.fold(f64::INFINITY, f64::min);
            for &place in &timed {
                let samples = &self.field[place].samples;
                let hopeless = median(samples).is_none_or(|seconds| seconds > limit);
                if !(hopeless || settled(samples)) {
                    self.sample(place)?;
                }
            }
        }
        Ok(())
    }

    /// The first sample of a candidate, whether there is one.
    fn first(&mut self, place: usize) -> Result<bool> {
        if self.late(place) {
            return Ok(false);
        }
        let warm = self.bench.warm_up(&self.field[place].config);
        let Some((repeats, seconds)) = self.judged(place, warm)? else { return Ok(false) };
        self.field[place].repeats = repeats;
        if repeats > 1 {
            return Ok(self.sample(place)?.is_some());
        }
        self.field[place].samples.push(seconds);
        Ok(true)
    }

    /// A sample; none of a candidate that is refused, and none once the budget is spent.
    fn sample(&mut self, place: usize) -> Result<Option<f64>> {
        let seconds = self.seconds(place)?;
        self.field[place].samples.extend(seconds);
        Ok(seconds)
    }

    fn seconds(&mut self, place: usize) -> Result<Option<f64>> {
        if self.field[place].refused.is_some() || self.late(place) {
            return Ok(None);
        }
        let Runner { config, repeats, .. } = self.field[place];
        let seconds = self.bench.seconds(&config, repeats);
        self.judged(place, seconds)
    }

    /// A failure refuses a candidate; the default's is an error.
    fn judged<T>(&mut self, place: usize, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(found) => Ok(Some(found)),
            Err(error) if place == 0 => Err(error),
            Err(error) => {
                self.field[place].refused = Some(error.to_string());
                Ok(None)
            }
        }
    }

    /// Whether there is no time for a further measurement, of this candidate now.
    fn late(&mut self, place: usize) -> bool {
        let late = self.budget.is_some_and(|budget| (self.clock)() >= budget);
        self.field[place].late |= late;
        late
    }

    /// The fastest that wins its comparisons and gives the default's bits.
    fn winner(&mut self) -> Result<usize> {
        loop {
            let running = self.field.iter().enumerate().filter(|(_, runner)| runner.refused.is_none());
            let mut order: Vec<(f64, usize)> =
                running.filter_map(|(place, runner)| Some((median(&runner.samples)?, place))).collect();
            order.sort_by(|a, b| a.0.total_cmp(&b.0)); // stable: among equals the first ranked
            let mut winner = order.first().map_or(0, |&(_, place)| place);
            if let &[(_, first), (_, second), ..] = &order[..] {
                winner = self.compare(first.min(second), first.max(second))?;
            }
            if winner != 0 && order.iter().take(2).all(|&(_, place)| place != 0) {
                winner = self.compare(0, winner)?;
            }
            if winner == 0 || (self.field[winner].refused.is_none() && self.verified(winner)?) {
                return Ok(winner);
            }
        }
    }

    /// Times two in turns, A B A B … A. The challenger must win three pairs of four; where the budget allows none, their medians decide.
    fn compare(&mut self, holder: usize, challenger: usize) -> Result<usize> {
        let configs = [self.field[holder].config, self.field[challenger].config];
        let mut last = Final { configs, seconds: [Vec::new(), Vec::new()] };
        loop {
            let turn = last.seconds[1].len();
            (self.report)(configs[1], Stage::Comparing, turn, PAIRS);
            let Some(seconds) = self.seconds(holder)? else { break };
            last.seconds[0].push(seconds);
            if turn == PAIRS || (turn > SETTLED && last.seconds.iter().all(|seconds| settled(seconds))) {
                break;
            }
            let Some(seconds) = self.seconds(challenger)? else { break };
            last.seconds[1].push(seconds);
        }
        let (won, count) = (last.pairs().filter(|[a, b]| b < a).count(), last.pairs().count());
        let by_median = || median(&self.field[challenger].samples) < median(&self.field[holder].samples);
        let wins = if count == 0 { by_median() } else { won * 4 >= count * 3 };
        let out = |place: usize| self.field[place].refused.is_some();
        let winner = if out(challenger) || !(wins || out(holder)) { holder } else { challenger };
        if count > 0 {
            self.finals.push(last);
        }
        Ok(winner)
    }

    /// Whether a candidate's outputs are the default's, bit for bit. One whose are not is refused.
    fn verified(&mut self, place: usize) -> Result<bool> {
        let (default, config) = (self.field[0].config, self.field[place].config);
        (self.report)(config, Stage::Verifying, 0, 1);
        let expected = match self.reference.take() {
            Some(reference) => reference,
            None => self.bench.outputs(&default)?,
        };
        let found = self.bench.outputs(&config);
        let found = self.judged(place, found)?;
        let difference = found.map(|found| first_difference(&expected, &found));
        self.reference = Some(expected);
        match difference {
            None => Ok(false),
            Some(None) => Ok(true),
            Some(Some((output, byte))) => {
                let reason = format!("output {output} differs from the default's at byte {byte}");
                self.notices.push(format!("{config} is refused: {reason}"));
                self.field[place].refused = Some(reason);
                Ok(false)
            }
        }
    }

    fn verdict(&self, place: usize, winner: Option<usize>) -> String {
        let runner = &self.field[place];
        if let Some(reason) = &runner.refused {
            return format!("refused: {reason}");
        }
        let Some((winner, seconds)) = winner.zip(median(&runner.samples)) else {
            return if runner.late { "not timed: the budget ended".to_owned() } else { unranked(place) };
        };
        if place == winner {
            return self.why_won(place);
        }
        match self.pairs(winner, place) {
            Some(Pairs { ratio, count, .. }) if ratio > 1.0 => format!("slower: {ratio:.2}× over {}", pairs(count)),
            Some(Pairs { won, count, .. }) => format!("not faster: won {won} of {}", pairs(count)),
            None => {
                let fastest = median(&self.field[winner].samples).unwrap_or(seconds);
                let ratio = ratio(seconds, fastest);
                if ratio > 1.0 { format!("slower: {ratio:.2}×") } else { "not faster than the winner".to_owned() }
            }
        }
    }

    fn why_won(&self, place: usize) -> String {
        if place == 0 {
            return "winner: the default".to_owned();
        }
        match self.pairs(place, 0) {
            Some(Pairs { ratio, count, .. }) => format!("winner: {ratio:.2}× the default over {}", pairs(count)),
            None => {
                let seconds = |place: usize| median(&self.field[place].samples).unwrap_or_default();
                format!("winner: {:.2}× the default by medians: no time for pairs", ratio(seconds(0), seconds(place)))
            }
        }
    }

    /// The last comparison of two, as it looks from the winner: how many times slower the other is, and what it won.
    fn pairs(&self, winner: usize, other: usize) -> Option<Pairs> {
        let (winner, other) = (self.field[winner].config, self.field[other].config);
        let last =
            self.finals.iter().rev().find(|last| last.configs.contains(&winner) && last.configs.contains(&other))?;
        let (w, o) = if last.configs[0] == winner { (0, 1) } else { (1, 0) };
        let ratios: Vec<f64> = last.pairs().map(|pair| ratio(pair[o], pair[w])).collect();
        let won = last.pairs().filter(|pair| pair[o] < pair[w]).count();
        Some(Pairs { ratio: median(&ratios)?, won, count: ratios.len() })
    }
}

struct Pairs {
    ratio: f64,
    won: usize,
    count: usize,
}

fn settled(samples: &[f64]) -> bool {
    samples.len() >= SETTLED && samples.iter().all(|sample| *sample == samples[0])
}

fn ratio(seconds: f64, of: f64) -> f64 {
    if seconds == of { 1.0 } else { seconds / of }
}

fn pairs(count: usize) -> String {
    format!("{count} pair{}", if count == 1 { "" } else { "s" })
}

fn unranked(place: usize) -> String {
    let rank = place + 1;
    let ending = match (rank % 100, rank % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("not timed: ranked {rank}{ending}")
}

/// The first output that differs, and the byte.
fn first_difference(expected: &[Vec<u8>], found: &[Vec<u8>]) -> Option<(usize, usize)> {
    let differs = |(output, (a, b)): (usize, (&Vec<u8>, &Vec<u8>))| {
        let byte = a.iter().zip(b).position(|(a, b)| a != b);
        byte.or((a.len() != b.len()).then_some(a.len().min(b.len()))).map(|byte| (output, byte))
    };
    expected.iter().zip(found).enumerate().find_map(differs)
}
