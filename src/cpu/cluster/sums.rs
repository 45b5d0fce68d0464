//! Sums of the points of each cluster, and the inertia, in `f64`.
//!
//! Sums are cut by columns: a task owns a stripe of the sums of all clusters and adds points to it in their order, so that
//! neither partial sums nor the number of threads enter.

use super::points::Points;
use super::vectorized;
use crate::elem::Elem;
use crate::error::Result;
use crate::mat::{Mat, zeroed};
use pulp::Arch;
use rayon::prelude::*;

/// Columns of a task: long enough to stream from memory, short enough to keep the sums of 16 clusters in the second cache.
const STRIPE: usize = 1024;

/// A point that changes its cluster, or gets its first.
pub(super) struct Move {
    pub(super) point: usize,
    pub(super) from: Option<usize>,
    pub(super) to: usize,
}

/// `Σ x` per cluster, stripe by stripe, each `[k, ≤ STRIPE]`.
pub(super) struct Sums {
    stripes: Vec<Mat<f64>>,
}

impl Sums {
    pub(super) fn new(k: usize, dim: usize) -> Result<Self> {
        let stripes = (0..dim).step_by(STRIPE).map(|first| Mat::zeros(k, STRIPE.min(dim - first)));
        Ok(Self { stripes: stripes.collect::<Result<_>>()? })
    }

    /// Subtracts moved points from the clusters they leave and adds them to those they join.
    pub(super) fn apply<T: Elem>(&mut self, arch: Arch, points: &Points<'_, T>, moves: &[Move]) -> Result<()> {
        self.stripes.par_iter_mut().enumerate().try_for_each(|(stripe, sums)| {
            let mut buffer = zeroed("a widened strip", sums.cols())?;
            vectorized(
                arch,
                #[inline(always)]
                || {
                    for step in moves {
                        let x = points.load(step.point, stripe * STRIPE, &mut buffer);
                        let factor = points.factor(step.point);
                        if let Some(from) = step.from {
                            add(sums.row_mut(from), x, -factor);
                        }
                        add(sums.row_mut(step.to), x, factor);
                    }
                },
            );
            Ok(())
        })
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

#[inline(always)]
fn add(sums: &mut [f64], x: &[f32], factor: f64) {
    for (sum, &x) in sums.iter_mut().zip(x) {
        *sum += f64::from(x) * factor;
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
