//! Sums of the points of each cluster, and the inertia, in `f64`.
//!
//! Sums are cut by columns: a task owns a stripe of the sums of all clusters and adds points to it in an order that the moves
//! alone decide, so that neither partial sums nor the number of threads enter.

use super::points::Points;
use super::vectorized;
use crate::elem::Elem;
use crate::error::Result;
use crate::mat::{Mat, zeroed};
use pulp::Arch;
use rayon::prelude::*;

/// Columns of a task: long enough to stream from memory, short enough to keep the sums of 16 clusters in the second cache.
const STRIPE: usize = 1024;

/// Points that one pass over the sums of a cluster adds: their rows stream from memory side by side.
const GROUP: usize = 4;

/// A point that changes its cluster, or gets its first.
pub(super) struct Move {
    pub(super) point: usize,
    pub(super) from: Option<usize>,
    pub(super) to: usize,
}

/// Points that a cluster gains or loses, and their factors: negative where it loses, 0 where the group is short.
struct Group {
    cluster: usize,
    points: [usize; GROUP],
    factors: [f64; GROUP],
}

/// `Σ x` per cluster, stripe by stripe, each `[k, ≤ STRIPE]`.
pub(super) struct Sums {
    stripes: Vec<Mat<f64>>,
    /// Points added and subtracted so far.
    operations: usize,
}

impl Sums {
    pub(super) fn new(k: usize, dim: usize) -> Result<Self> {
        let stripes = (0..dim).step_by(STRIPE).map(|first| Mat::zeros(k, STRIPE.min(dim - first)));
        Ok(Self { stripes: stripes.collect::<Result<_>>()?, operations: 0 })
    }

    /// Subtracts moved points from the clusters they leave and adds them to those they join.
    pub(super) fn apply<T: Elem>(
        &mut self,
        arch: Arch,
        points: &Points<'_, T>,
        moves: &[Move],
        k: usize,
    ) -> Result<()> {
        let groups = grouped(points, moves, k);
        self.operations += moves.iter().map(|step| 1 + usize::from(step.from.is_some())).sum::<usize>();
        self.stripes.par_iter_mut().enumerate().try_for_each(|(stripe, sums)| {
            let mut buffers: [Vec<f32>; GROUP] = Default::default();
            for buffer in &mut buffers {
                *buffer = zeroed("a widened strip", sums.cols())?;
            }
            for group in &groups {
                let [a, b, c, d] = buffers.each_mut();
                let [p, q, r, s] = group.points;
                let load = |p, buffer| points.load(p, stripe * STRIPE, buffer);
                let rows = [load(p, a), load(q, b), load(r, c), load(s, d)];
                vectorized(
                    arch,
                    #[inline(always)]
                    || add(sums.row_mut(group.cluster), rows, group.factors),
                );
            }
            Ok(())
        })
    }

    /// `Σ ‖x_p − c_label(p)‖² = Σ ‖x_p‖² − Σ_j (2⟨S_j, c_j⟩ − n_j‖c_j‖²)`, without a pass over `W`, unless rounding could move it by
    /// more than a part in 10¹⁰.
    ///
    /// With `R` the largest norm of a point, and centroids no longer than that, `M` additions leave a sum off by at most
    /// `(M + 1)·u·M·R`, and norms and dots of length `n` by `(n + 16)·u·R²` for each of `m` points, in four terms.
    pub(super) fn inertia<T>(&self, points: &Points<'_, T>, sizes: &[usize], centroids: &Mat<f64>) -> Option<f64> {
        let (m, n, operations) = (points.squares.len() as f64, centroids.cols() as f64, self.operations as f64);
        let largest = points.squares.iter().fold(0.0, |max: f64, &square| max.max(square));
        let bound = f64::EPSILON * largest * (operations * (operations + 1.0) + 2.0 * m * (n + 16.0));
        let mut inertia: f64 = points.squares.iter().sum();
        for (j, &size) in sizes.iter().enumerate() {
            for (c, sums) in centroids.row(j).chunks(STRIPE).zip(&self.stripes) {
                inertia -= c.iter().zip(sums.row(j)).map(|(c, sum)| c * (2.0 * sum - size as f64 * c)).sum::<f64>();
            }
        }
        (bound <= 1e-10 * inertia).then_some(inertia)
    }

    /// The sums divided by `sizes`, `[k, dim]`.
    pub(super) fn means(&self, sizes: &[usize]) -> Result<Mat<f64>> {
        let dim = self.stripes.iter().map(Mat::cols).sum();
        let mut means: Mat<f64> = Mat::zeros(sizes.len(), dim)?;
        for (j, &size) in sizes.iter().enumerate() {
            for (mean, sums) in means.row_mut(j).chunks_mut(STRIPE).zip(&self.stripes) {
                mean.iter_mut().zip(sums.row(j)).for_each(|(mean, sum)| *mean = sum / size as f64);
            }
        }
        Ok(means)
    }
}

/// What `moves` add to each cluster, in their order, in groups.
fn grouped<T: Elem>(points: &Points<'_, T>, moves: &[Move], k: usize) -> Vec<Group> {
    let mut open: Vec<Vec<(usize, f64)>> = vec![Vec::new(); k];
    let mut groups = Vec::new();
    let mut close = |cluster: usize, members: &mut Vec<(usize, f64)>| {
        let member = |i: usize| members.get(i).copied().unwrap_or((members[0].0, 0.0));
        let all: [_; GROUP] = std::array::from_fn(member);
        groups.push(Group { cluster, points: all.map(|(p, _)| p), factors: all.map(|(_, factor)| factor) });
        members.clear();
    };
    for step in moves {
        let factor = points.factor(step.point);
        for (cluster, factor) in step.from.map(|from| (from, -factor)).into_iter().chain([(step.to, factor)]) {
            open[cluster].push((step.point, factor));
            if open[cluster].len() == GROUP {
                close(cluster, &mut open[cluster]);
            }
        }
    }
    for (cluster, members) in open.iter_mut().enumerate().filter(|(_, members)| !members.is_empty()) {
        close(cluster, members);
    }
    groups
}

/// `sums += Σ factor·row`.
#[inline(always)]
fn add(sums: &mut [f64], rows: [&[f32]; GROUP], factors: [f64; GROUP]) {
    let rows = rows.map(|row| &row[..sums.len()]);
    for (i, sum) in sums.iter_mut().enumerate() {
        let mut total = *sum;
        for (row, factor) in rows.iter().zip(factors) {
            total += f64::from(row[i]) * factor;
        }
        *sum = total;
    }
}

/// `Σ ‖x_p − c_label(p)‖²`, of differences, in `f64`; one pass over `W`.
pub(super) fn inertia<T: Elem>(
    arch: Arch,
    points: &Points<'_, T>,
    labels: &[u32],
    centroids: &Mat<f64>,
) -> Result<f64> {
    /// Points of a task, whose squares are added in order.
    const TASK: usize = 64;
    let mut squares: Vec<f64> = zeroed("squared residuals", labels.len().div_ceil(TASK))?;
    squares.par_iter_mut().zip(labels.par_chunks(TASK)).enumerate().try_for_each(|(task, (square, labels))| {
        let mut buffer = zeroed("a widened row", points.dim())?;
        vectorized(
            arch,
            #[inline(always)]
            || {
                for (i, &label) in labels.iter().enumerate() {
                    let p = task * TASK + i;
                    let x = points.load(p, 0, &mut buffer);
                    *square += squared_residual(x, points.factor(p), centroids.row(label as usize));
                }
            },
        );
        Ok::<_, crate::Error>(())
    })?;
    Ok(squares.iter().sum())
}

/// `Σ (factor·x − c)²`.
#[inline(always)]
fn squared_residual(x: &[f32], factor: f64, c: &[f64]) -> f64 {
    let ((x, x_tail), (c, c_tail)) = (x.as_chunks::<8>(), c.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (x, c) in x.iter().zip(c) {
        for lane in 0..8 {
            let r = f64::from(x[lane]) * factor - c[lane];
            sums[lane] += r * r;
        }
    }
    for (lane, (x, c)) in x_tail.iter().zip(c_tail).enumerate() {
        let r = f64::from(*x) * factor - c;
        sums[lane] += r * r;
    }
    sums.iter().sum()
}
