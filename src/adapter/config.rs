//! The choices that decide an adapter, and what of them the method allows.

use crate::cluster::{Axis, Space};
use crate::error::{Error, Result};
use crate::lowrank::Gate;
use crate::select::Selection;
use sha2::{Digest as _, Sha256};

/// The name under which the adapter's own checks refuse.
pub(super) const OP: &str = "adapter";

/// κ, the factor on the update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scaling {
    /// `α/r` (LoRA).
    #[default]
    AlphaOverRank,
    /// `α/√r` (rsLoRA).
    AlphaOverSqrtRank,
    /// 1.
    One,
}

/// How the shared matrix starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BInit {
    /// 0: the adapted model starts equal to the base model.
    #[default]
    Zero,
    /// Normal with variance 1/r, seeded: for tests and for porting.
    Normal,
}

/// Everything that decides an adapter, apart from the weight `W [m, n]` and the module's name.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Rank r of a component (16).
    pub rank: usize,
    /// α (32).
    pub alpha: f32,
    /// Components k (4).
    pub clusters: usize,
    /// Fewest rows in a cluster; `None` is `rank`.
    pub min_size: Option<usize>,
    /// Rank Boosting's split s (2).
    pub split: usize,
    /// What is chosen: rows. [`Axis::Cols`] is there to be refused: an adapter reads its down-projections off the base
    /// output, `A_i h = (W h)[S_i]`, and columns of W have no such identity. Cluster and decompose columns with
    /// [`cluster`](crate::cluster) and [`qr`](crate::qr) themselves.
    pub axis: Axis,
    /// Where rows are compared (full vectors).
    pub cluster_by: Space,
    /// Which rows of a cluster are chosen (pivoted QR).
    pub select: Selection,
    /// How components are weighted (linear softmax).
    pub gate: Gate,
    /// κ (α/r).
    pub scaling: Scaling,
    /// How B starts (0).
    pub b_init: BInit,
    /// Lloyd steps at most (100).
    pub max_iterations: usize,
    /// Seed of everything random (0); see [`Config::module_seed`].
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            rank: 16,
            alpha: 32.0,
            clusters: 4,
            min_size: None,
            split: 2,
            axis: Axis::Rows,
            cluster_by: Space::Full,
            select: Selection::PivotedQr,
            gate: Gate::LinearSoftmax,
            scaling: Scaling::AlphaOverRank,
            b_init: BInit::Zero,
            max_iterations: 100,
            seed: 0,
        }
    }
}

impl Config {
    /// Whether the method allows this on a weight `[rows, cols]`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for columns; [`Error::Shape`] for a weight without rows or columns, or with more rows than
    /// a u32 numbers; [`Error::Parameter`] for `rank`, `clusters` or `split` 0, `clusters·rank > rows`, `min_size` below
    /// `rank`, `min_size·clusters > rows`, a `split` that does not divide `rank` and `rows`, and an `alpha` that is not finite.
    pub fn check(&self, rows: usize, cols: usize) -> Result<()> {
        if self.axis == Axis::Cols {
            return Err(Error::unsupported(
                OP,
                "columns of W cannot be adapted: only rows satisfy W[S]·h = (W·h)[S]; choose rows, or cluster and decompose \
                 columns without an adapter",
            ));
        }
        if rows == 0 || cols == 0 || u32::try_from(rows).is_err() {
            let expected =
                if rows == 0 || cols == 0 { "at least one row and one column" } else { "at most 2^32 - 1 rows" };
            return Err(Error::shape(OP, "w", expected, format!("shape [{rows}, {cols}]")));
        }
        for (parameter, value) in [("rank", self.rank), ("clusters", self.clusters), ("split", self.split)] {
            if value == 0 {
                return Err(Error::parameter(OP, parameter, "at least 1", value));
            }
        }
        if !self.alpha.is_finite() {
            return Err(Error::parameter(OP, "alpha", "a finite number", self.alpha));
        }
        self.check_sizes(rows)
    }

    fn check_sizes(&self, rows: usize) -> Result<()> {
        let Self { rank, clusters, split, .. } = *self;
        let min_size = self.smallest_cluster();
        if clusters.checked_mul(rank).is_none_or(|chosen| chosen > rows) {
            let expected = format!("clusters · rank at most the {rows} rows of `w`");
            return Err(Error::parameter(OP, "rank", expected, format!("{rank} with {clusters} clusters")));
        }
        if min_size < rank {
            return Err(Error::parameter(OP, "min_size", format!("at least the rank, {rank}"), min_size));
        }
        if clusters.checked_mul(min_size).is_none_or(|least| least > rows) {
            let expected = format!("clusters · min_size at most the {rows} rows of `w`");
            return Err(Error::parameter(OP, "min_size", expected, format!("{min_size} with {clusters} clusters")));
        }
        if !rank.is_multiple_of(split) || !rows.is_multiple_of(split) {
            let expected = format!("a divisor of the rank, {rank}, and of the {rows} rows of `w`");
            return Err(Error::parameter(OP, "split", expected, split));
        }
        Ok(())
    }

    /// Fewest rows that a cluster may hold: `min_size`, or `rank` where it is not given.
    pub fn smallest_cluster(&self) -> usize {
        self.min_size.unwrap_or(self.rank)
    }

    /// κ.
    pub fn scale(&self) -> f32 {
        match self.scaling {
            Scaling::AlphaOverRank => self.alpha / self.rank as f32,
            Scaling::AlphaOverSqrtRank => self.alpha / (self.rank as f32).sqrt(),
            Scaling::One => 1.0,
        }
    }

    /// Seed of everything random in module `name`: clustering, selection, gate and B.
    ///
    /// It is `seed` XOR the first eight bytes of SHA-256(`name` in UTF-8), read as a little-endian u64, so that the modules
    /// of one model, which share a seed, do not share random numbers.
    pub fn module_seed(&self, name: &str) -> u64 {
        let hash: [u8; 32] = Sha256::digest(name).into();
        let mut first = [0; 8];
        first.copy_from_slice(&hash[..8]);
        self.seed ^ u64::from_le_bytes(first)
    }

    /// Shape of B: `[m/s, r/s]`. Only for a checked configuration.
    pub(crate) fn b_shape(&self, rows: usize) -> (usize, usize) {
        (rows / self.split, self.rank / self.split)
    }

    /// Shape of the gate's parameters.
    pub(crate) fn gate_shape(&self, cols: usize) -> (usize, usize) {
        self.gate.parameter_shape(self.rank, self.clusters, cols)
    }
}
