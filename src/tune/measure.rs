//! Running candidates: seconds and outputs.

use super::Config;
use super::search::Clock;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::tunable::{Prepared, Tunable};
use std::time::Duration;

/// A sample takes at least so long, by repeating what it measures: events of a device tell half a microsecond.
const SAMPLE: Duration = Duration::from_millis(1);
/// Most runs of a sample.
const REPEATS: u32 = 64;
/// What outputs hold before a run whose outputs are compared: a way that leaves some out is not saved by the one before it.
const POISON: u8 = 0xa5;

/// A problem's operands on a device, and how its runs are timed.
pub(super) struct Bench<'a, G: Gpu, P: Tunable> {
    gpu: &'a G,
    problem: &'a P,
    clock: Clock<'a>,
    prepared: Option<Prepared<G>>,
}

impl<'a, G: Gpu, P: Tunable> Bench<'a, G, P> {
    pub fn new(gpu: &'a G, problem: &'a P, clock: Clock<'a>) -> Self {
        Self { gpu, problem, clock, prepared: None }
    }

    /// Loads what the way needs, and finds how many of its runs make a sample; the seconds of one.
    ///
    /// # Errors
    /// As [`Bench::seconds`].
    pub fn warm_up(&mut self, config: &Config) -> Result<(u32, f64)> {
        self.seconds(config, 1)?;
        let before = (self.clock)();
        let seconds = self.seconds(config, 1)?;
        let took = (self.clock)().saturating_sub(before).max(Duration::from_nanos(1));
        let repeats = SAMPLE.as_nanos().div_ceil(took.as_nanos());
        Ok((u32::try_from(repeats).unwrap_or(REPEATS).clamp(1, REPEATS), seconds))
    }

    /// Seconds of a run, the mean of several.
    ///
    /// # Errors
    /// What preparing and running it says; [`Error::Device`] for a clock that gives no time.
    pub fn seconds(&mut self, config: &Config, repeats: u32) -> Result<f64> {
        let (gpu, problem) = (self.gpu, self.problem);
        let result = self.prepared().and_then(|prepared| {
            gpu.seconds(&mut || (0..repeats).try_for_each(|_| problem.run(gpu, prepared, config)))
        });
        let result = result.and_then(|seconds| {
            if seconds.is_finite() && seconds >= 0.0 {
                return Ok(seconds / f64::from(repeats));
            }
            let device = gpu.identity()?.device;
            Err(Error::Device { device, reason: format!("its clock gave {seconds} seconds") })
        });
        self.kept_if(result)
    }

    /// What a run writes.
    ///
    /// # Errors
    /// What preparing and running it says.
    pub fn outputs(&mut self, config: &Config) -> Result<Vec<Vec<u8>>> {
        let (gpu, problem) = (self.gpu, self.problem);
        let result = self.prepared().and_then(|prepared| {
            let mut contents = Vec::with_capacity(prepared.outputs.len());
            for (buffer, bytes) in &mut prepared.outputs {
                let mut content = crate::mat::zeroed::<u8>("outputs", *bytes)?;
                content.fill(POISON);
                gpu.write(problem.kernel(), buffer, &content)?;
                contents.push(content);
            }
            problem.run(gpu, prepared, config)?;
            for ((buffer, _), content) in prepared.outputs.iter().zip(&mut contents) {
                gpu.download(problem.kernel(), buffer, content)?;
            }
            Ok(contents)
        });
        self.kept_if(result)
    }

    fn prepared(&mut self) -> Result<&mut Prepared<G>> {
        let prepared = match self.prepared.take() {
            Some(prepared) => prepared,
            None => self.problem.prepare(self.gpu)?,
        };
        Ok(self.prepared.insert(prepared))
    }

    /// A run that failed may have left its scratch half-way: the next one gets operands of its own.
    fn kept_if<T>(&mut self, result: Result<T>) -> Result<T> {
        if result.is_err() {
            self.prepared = None;
        }
        result
    }
}

/// The middle of some numbers, the mean of the two where there are two; `None` of none.
pub(super) fn median(numbers: &[f64]) -> Option<f64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    Some(if sorted.len() % 2 == 1 { upper } else { f64::midpoint(sorted[sorted.len() / 2 - 1], upper) })
}
