//! The order in which the cost model would try the ways of running a kernel.

use super::Config;
use crate::error::{Error, Result};
use crate::gpu::model::Card;
use crate::gpu::tunable::Tunable;

/// A way, and what the model says of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ranked {
    pub config: Config,
    /// Seconds, finite; infinite where it is refused.
    pub modelled: f64,
    /// Why it cannot be run.
    pub refused: Option<String>,
}

/// All legal ways: the default first, the others from the fastest to the slowest, equals in the operation's order, refused ones
/// at the end.
///
/// # Errors
/// [`Error::Unsupported`] for none at all; what the model says of the default.
pub(super) fn rank<P: Tunable>(problem: &P, card: &Card) -> Result<Vec<Ranked>> {
    let candidates = problem.candidates(card);
    let mut ranked = candidates.iter().map(|config| estimate(problem, card, config));
    let Some(default) = ranked.next() else {
        return Err(Error::unsupported(problem.kernel(), format!("no way of running it is legal on {}", card.name)));
    };
    let default = default?;
    let others = ranked.zip(&candidates[1..]).map(|(estimated, &config)| {
        estimated.unwrap_or_else(|error| Ranked { config, modelled: f64::INFINITY, refused: Some(error.to_string()) })
    });
    let mut others: Vec<Ranked> = others.collect();
    others.sort_by(|a, b| a.modelled.total_cmp(&b.modelled)); // stable
    Ok([default].into_iter().chain(others).collect())
}

fn estimate<P: Tunable>(problem: &P, card: &Card, config: &Config) -> Result<Ranked> {
    let modelled: f64 = problem.work(card, config)?.iter().map(|work| card.time(work).seconds).sum();
    if modelled.is_finite() {
        return Ok(Ranked { config: *config, modelled, refused: None });
    }
    Err(Error::unsupported(problem.kernel(), format!("the cost model gives {modelled} seconds for {config}")))
}

/// The model's own choice: the fastest, the default among equals.
pub(super) fn fastest(ranked: &[Ranked]) -> Config {
    ranked.iter().fold(&ranked[0], |best, next| if next.modelled < best.modelled { next } else { best }).config
}
