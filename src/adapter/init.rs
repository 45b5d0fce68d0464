//! From a pretrained weight to an adapter: cluster the rows, choose r of each cluster, start the trained tensors.

use super::config::OP;
use super::{BInit, Config, Digest, IdLora, Parts};
use crate::cluster::{self, Axis, Clustering};
use crate::device::Device;
use crate::elem::Elem;
use crate::error::{Error, Result};
use crate::interp;
use crate::lowrank::Gate;
use crate::mat::{Mat, MatRef};
use crate::random::{Stream, Use};
use crate::select::{self, Skeleton};
use rayon::prelude::*;
use std::time::Instant;

/// What initialising one module found.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Report {
    /// Rows per cluster.
    pub sizes: Vec<usize>,
    /// Σ of squared distances to the centroids, in the chosen space.
    pub inertia: f64,
    /// Lloyd steps taken.
    pub iterations: usize,
    /// Whether clustering stopped by itself.
    pub converged: bool,
    /// `‖W − W·A⁺A‖_F / ‖W‖_F` with A = all chosen rows.
    pub relative_error: f64,
    /// The same for each cluster against its own chosen rows.
    pub cluster_errors: Vec<f64>,
    /// Rank reached in each cluster.
    pub rank_reached: Vec<usize>,
    /// Wall-clock seconds of the set-up.
    pub seconds: f64,
}

impl IdLora {
    /// Makes the adapter of module `name` from its base weight `W [m, n]`.
    ///
    /// On `device` rows are clustered and chosen; the errors in the [`Report`] are measured on the CPU, whatever it is.
    ///
    /// Clusters the rows, chooses `rank` of them in every cluster, and starts the trained tensors: `T ~ N(0, 1/r)` for the
    /// inner gates, `W_g ~ U(±1/√n)` for the linear ones, `1/k` for the static gate; B = 0, or `N(0, 1/r)`. Everything random
    /// comes from [`Config::module_seed`]. The same input gives the same bits whatever the number of threads.
    ///
    /// Cost: a pass over W per Lloyd step, plus the selection's, plus `2·m·n·k·r` operations for the errors in the [`Report`].
    ///
    /// # Errors
    /// Those of [`Config::check`]; [`Error::Parameter`] for an empty name; [`Error::NonFinite`] with the first NaN or infinity
    /// of W; those of clustering and selection, such as an all-zero row under direction clustering.
    pub fn init<T: Elem>(device: &Device, name: &str, w: MatRef<'_, T>, config: &Config) -> Result<(Self, Report)> {
        let started = Instant::now();
        check_name(name)?;
        config.check(w.rows(), w.cols())?;
        check_finite(OP, || name.to_owned(), w)?;
        let (digest, chosen) = rayon::join(|| Digest::of(w), || choose_rows(device, name, w, config));
        let (skeleton, mut report) = chosen?;
        let adapter = Self::from_parts(Parts {
            name: name.to_owned(),
            rows: w.rows(),
            cols: w.cols(),
            dtype: T::DTYPE,
            config: *config,
            skeleton,
            b: start_of_b(name, w.rows(), config)?,
            gate: start_of_gate(name, w.cols(), config)?,
            digest,
        })?;
        report.seconds = started.elapsed().as_secs_f64();
        Ok((adapter, report))
    }
}

/// The chosen rows `[k, r]` and everything of the report but the time.
fn choose_rows<T: Elem>(device: &Device, name: &str, w: MatRef<'_, T>, config: &Config) -> Result<(Vec<u32>, Report)> {
    let seed = config.module_seed(name);
    let desc = cluster::Desc {
        rows: w.rows(),
        cols: w.cols(),
        axis: Axis::Rows,
        space: config.cluster_by,
        clusters: config.clusters,
        min_size: config.smallest_cluster(),
    };
    let options = cluster::Options { max_iterations: config.max_iterations, seed, ..Default::default() };
    let clustering = cluster::Plan::new(device, desc)?.run(w, &options)?;
    let desc = select::Desc { selection: config.select, rank: config.rank, seed, space: config.cluster_by };
    let Skeleton { rows: skeleton, rank_reached } = select::Plan::new(device, desc)?.run(w, &clustering)?;

    let all: Vec<u32> = (0..w.rows() as u32).collect();
    // Errors measure the result and are no part of it: always on the CPU.
    let relative_error = interp::relative_error(&Device::Cpu, w, &all, &skeleton)?;
    let cluster_errors = members(&clustering)
        .iter()
        .zip(skeleton.chunks_exact(config.rank))
        .map(|(members, chosen)| interp::relative_error(&Device::Cpu, w, members, chosen))
        .collect::<Result<_>>()?;
    let Clustering { sizes, info, .. } = clustering;
    let report = Report {
        sizes,
        inertia: info.inertia,
        iterations: info.iterations,
        converged: info.converged,
        relative_error,
        cluster_errors,
        rank_reached,
        seconds: 0.0,
    };
    Ok((skeleton, report))
}

/// Row numbers of every cluster, ascending.
fn members(clustering: &Clustering) -> Vec<Vec<u32>> {
    let mut members = vec![Vec::new(); clustering.sizes.len()];
    for (row, &label) in clustering.labels.iter().enumerate() {
        members[label as usize].push(row as u32);
    }
    members
}

fn start_of_gate(name: &str, cols: usize, config: &Config) -> Result<Mat<f32>> {
    let shape = config.gate_shape(cols);
    let mut gate = Mat::zeros(shape.0, shape.1)?;
    let mut stream = Stream::new(config.module_seed(name), Use::Gate);
    let values = gate.data_mut().iter_mut();
    match config.gate {
        // Not 0: with B = 0 as well, no gradient would ever leave 0.
        Gate::Inner | Gate::RmsInner => {
            let deviation = (config.rank as f64).sqrt().recip();
            values.for_each(|x| *x = (stream.normal() * deviation) as f32);
        }
        Gate::Linear | Gate::LinearSoftmax => {
            let bound = (cols as f64).sqrt().recip();
            values.for_each(|x| *x = ((2.0 * stream.uniform() - 1.0) * bound) as f32);
        }
        Gate::Static => values.for_each(|x| *x = 1.0 / config.clusters as f32),
    }
    Ok(gate)
}

fn start_of_b(name: &str, rows: usize, config: &Config) -> Result<Mat<f32>> {
    let shape = config.b_shape(rows);
    let mut b = Mat::zeros(shape.0, shape.1)?;
    if config.b_init == BInit::Normal {
        let mut stream = Stream::new(config.module_seed(name), Use::SharedMatrix);
        let deviation = (config.rank as f64).sqrt().recip();
        b.data_mut().iter_mut().for_each(|x| *x = (stream.normal() * deviation) as f32);
    }
    Ok(b)
}

pub(super) fn check_name(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::parameter(OP, "name", "the module's name", "empty"));
    }
    Ok(())
}

/// Refuses NaN and infinity, naming the first in row order.
pub(crate) fn check_finite<T: Elem>(
    op: &'static str,
    operand: impl FnOnce() -> String,
    w: MatRef<'_, T>,
) -> Result<()> {
    let finite = |i: usize| row_is_finite(w.row(i));
    let Some(row) = (0..w.rows()).into_par_iter().with_min_len(64).position_first(|i| !finite(i)) else {
        return Ok(());
    };
    let values = w.row(row).iter().map(|x| x.to_f32());
    let (col, value) = values.enumerate().find(|(_, x)| !x.is_finite()).unwrap_or((0, f32::NAN));
    Err(Error::NonFinite { op, operand: operand(), row, col, value })
}

fn row_is_finite<T: Elem>(row: &[T]) -> bool {
    const EXPONENT: u32 = 0x7f80_0000; // all ones in NaN and infinity, and only there
    let mut wide = [0.0f32; 256];
    row.chunks(wide.len()).all(|part| {
        let wide = &mut wide[..part.len()];
        T::widen(part, wide);
        // No early exit within a part, so that the loop vectorises.
        !wide.iter().fold(false, |bad, x| bad | (x.to_bits() & EXPONENT == EXPONENT))
    })
}
