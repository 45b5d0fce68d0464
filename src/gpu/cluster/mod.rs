//! k-means on a device: `kernels/cluster.cu` for the steps, `kernels/points.cu` for what lies around them.

mod finish;
mod launch;
mod layout;
mod lloyd;
mod points;
mod seeding;
#[cfg(all(test, feature = "vm"))]
mod tests;

pub(crate) use points::row_distances;

use super::Gpu;
use super::rows::Rows;
use crate::cluster::{Axis, Clustering, Desc, OP, Options, Space};
use crate::cpu::cluster::{self as cpu};
use crate::elem::Elem;
use crate::error::{Error, Result};
use crate::mat::{Mat, MatRef, zeroed};
use points::Points;

/// Clusters the points of `w`; `desc` and `options` are checked, shapes agree. Columns are the rows of a transposed copy.
pub(crate) fn run<G: Gpu, T: Elem>(
    gpu: &G,
    desc: &Desc,
    w: MatRef<'_, T>,
    options: &Options<'_>,
) -> Result<Clustering> {
    let transpose = match desc.axis {
        Axis::Rows => None,
        Axis::Cols => Some(cpu::transposed(w)?),
    };
    let rows = transpose.as_ref().map_or(w, Mat::as_ref);
    let mut all: Vec<u32> = zeroed("rows", rows.rows())?;
    all.iter_mut().enumerate().for_each(|(i, row)| *row = i as u32);
    let measured = Rows::upload(gpu, OP, &[(rows, &all)]).map_err(|error| match error {
        Error::NonFinite { .. } => cpu::non_finite("w", w), // by its place in `w`, not in the copy
        other => other,
    })?;
    if desc.space == Space::Norm {
        return cpu::by_norm(desc, &measured.host_squares);
    }
    cpu::check_directions(desc, &measured.host_squares)?;
    let exponent = if desc.space == Space::Full { exponent(&measured.host_squares, options) } else { 0 };
    let points = Points::new::<T>(gpu, measured, desc.space, exponent)?;
    let start = match options.start {
        Some(start) => cpu::starting_centroids(start, desc.space, exponent)?,
        None => seeded(gpu, &points, desc.clusters, options.seed)?,
    };
    lloyd::iterate(gpu, &points, rows, &start, (desc, options))?.scaled_back(exponent)
}

/// The power of two that brings the longest point to length `[1, 2)`: entries are then no larger, and the next power of two is
/// at most `√dim` away from the largest. A norm that `f32` does not hold counts as its largest number, which no entry exceeds.
fn exponent(squares: &[f64], options: &Options<'_>) -> i32 {
    let longest = squares.iter().fold(0.0f64, |max, &square| max.max(square)).sqrt();
    cpu::common_exponent(longest.min(f64::from(f32::MAX)) as f32, options.start)
}

/// k-means++ centroids.
fn seeded<G: Gpu>(gpu: &G, points: &Points<G>, k: usize, seed: u64) -> Result<Mat<f64>> {
    let seeds = seeding::plus_plus(gpu, points, k, seed)?;
    let mut centroids: Vec<f32> = zeroed("centroids", k * points.dim)?;
    gpu.download(OP, &seeds, &mut centroids)?;
    Mat::from_vec(centroids.iter().map(|&c| f64::from(c)).collect(), k, points.dim)
}
