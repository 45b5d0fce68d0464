//! The ways of running the forward of a group: which kernel, and how its launch is cut. No bit depends on it.

use super::decode::{self, Shares};
use super::group::{Module, Problem};
use super::layout::{Layout, most_tokens};
use super::step::Scratch;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::tune::{Chosen, Config};

/// A way that a device can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// `lowrank.cu`: a block for some tokens and all their columns.
    Many(Layout),
    /// `lowrank_decode.cu`: columns cut over blocks.
    Few(Shares, Layout),
}

impl Way {
    /// A configuration's way; `None` where it is of another kernel, or does not serve so many modules of this problem within
    /// `limit` bytes of shared memory, of which dropout takes some.
    pub fn of(config: &Config, problem: &Problem, modules: usize, drops: bool, limit: usize) -> Option<Self> {
        match *config {
            Config::Lowrank { tokens, holds } => {
                let tokens = tokens as usize;
                if !(1..=most_tokens(&problem.desc)).contains(&tokens) {
                    return None;
                }
                Layout::of(&problem.desc, problem.dtype.into(), drops, tokens, holds, limit).ok().map(Self::Many)
            }
            Config::LowrankDecode { tokens, windows } => {
                if !decode::GROUPS.contains(&(tokens as usize)) || windows == 0 || !decode::applies(problem, modules) {
                    return None;
                }
                let shares = Shares::of(problem, modules, tokens as usize, windows as usize);
                let layout = shares.layout(problem, drops, limit).filter(|_| shares.has_tickets())?;
                Some(Self::Few(shares, layout))
            }
            _ => None,
        }
    }

    /// What runs where nobody has chosen: by the problem and, as far as shared memory goes, by the device.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) where not even one token fits.
    pub fn default(problem: &Problem, modules: usize, drops: bool, limit: usize) -> Result<Self> {
        if decode::applies(problem, modules) {
            let shares = Shares::choose(problem, modules);
            if let Some(layout) = shares.layout(problem, drops, limit) {
                return Ok(Self::Few(shares, layout));
            }
        }
        Layout::choose(&problem.desc, problem.dtype.into(), drops, limit).map(Self::Many)
    }

    /// The way that was chosen for the problem, where it serves these very modules; else the default.
    ///
    /// # Errors
    /// As [`Way::default`].
    pub fn chosen(chosen: &Chosen, problem: &Problem, modules: &[Module<'_>], limit: usize) -> Result<Self> {
        let drops = super::drops(modules);
        let way = |config: &Config| Self::of(config, problem, modules.len(), drops, limit);
        let found = chosen.find(problem.dtype, problem.tokens, way);
        found.map_or_else(|| Self::default(problem, modules.len(), drops, limit), Ok)
    }

    /// By value.
    pub fn config(&self) -> Config {
        match self {
            Self::Many(layout) => Config::Lowrank { tokens: layout.tokens() as u32, holds: layout.holds() },
            // Windows that a layout fits are few.
            Self::Few(shares, _) => {
                Config::LowrankDecode { tokens: shares.tokens as u32, windows: shares.windows as u32 }
            }
        }
    }

    /// Queues the forward of at least one token and one module.
    ///
    /// # Errors
    /// Those of [`launch`](super::launch).
    pub fn launch<G: Gpu>(
        &self,
        gpu: &G,
        problem: &Problem,
        modules: &[Module<'_>],
        scratch: &Scratch<'_>,
    ) -> Result<()> {
        match self {
            Self::Many(layout) => super::launch(gpu, problem, modules, *layout),
            Self::Few(shares, layout) => decode::launch(gpu, problem, modules, scratch, shares, *layout),
        }
    }
}
