//! k-means on the CPU.
//!
//! One pass measures the points (finite, largest magnitude, norms); a seed is one pass and a Lloyd step at most one for labels and
//! one for moved points. Means and the inertia come from sums in `f64`, the latter from one more pass where those could not tell
//! it exactly enough. Columns are clustered as the rows of a transposed copy.

mod assign;
mod centres;
mod codes;
mod dots;
pub(crate) mod lloyd;
mod measure;
mod norm;
mod points;
pub(crate) mod seeding;
mod step;
mod sums;

pub(crate) use assign::assign_min_size;
pub(crate) use points::transposed;

use crate::cluster::{Axis, Clustering, Desc, Info, OP, Options, Space};
use crate::elem::Elem;
use crate::error::{Error, Result};
use crate::mat::{Mat, MatRef, zeroed};
use measure::Measure;
use points::Points;
use pulp::Arch;

/// Runs `body`, a closure marked `#[inline(always)]`, compiled for the instruction set of `arch`.
///
/// The bound makes the closure an `FnOnce`: one that pulp sees as `FnMut` is called through a shim that keeps the body out of the
/// function compiled for the instruction set, and the loops stay scalar.
#[inline(always)]
fn vectorized<R>(arch: Arch, body: impl FnOnce() -> R) -> R {
    arch.dispatch(body)
}

/// Clusters the points of `w`; `desc` and `options` are checked, shapes agree.
pub(crate) fn run<T: Elem>(desc: &Desc, w: MatRef<'_, T>, options: &Options<'_>) -> Result<Clustering> {
    let arch = Arch::new();
    let transpose = match desc.axis {
        Axis::Rows => None,
        Axis::Cols => Some(transposed(w)?),
    };
    let rows = transpose.as_ref().map_or(w, Mat::as_ref);
    let measure = Measure::of(arch, rows)?;
    if !measure.max.is_finite() {
        return Err(non_finite("w", w));
    }
    if desc.space == Space::Norm {
        return by_norm(desc, &measure.squares);
    }
    check_directions(desc, &measure.squares)?;
    by_lloyd(arch, desc, rows, &measure, options)
}

/// Refuses points without a direction where those are compared.
pub(crate) fn check_directions(desc: &Desc, squares: &[f64]) -> Result<()> {
    match squares.iter().position(|&square| square == 0.0) {
        Some(p) if desc.space == Space::Direction => {
            let kind = if desc.axis == Axis::Rows { "row" } else { "column" };
            let reason = format!("has no direction in its all-zero {kind} {p}; cluster by full vectors or norms");
            Err(Error::operand(OP, "w", reason))
        }
        _ => Ok(()),
    }
}

/// The first entry of `w`, row by row, that is NaN or infinite; there is one.
pub(crate) fn non_finite<T: Elem>(operand: &str, w: MatRef<'_, T>) -> Error {
    let entries = w.iter_rows().enumerate().flat_map(|(i, row)| row.iter().enumerate().map(move |(j, x)| (i, j, x)));
    let found = entries.map(|(i, j, x)| (i, j, x.to_f32())).find(|(_, _, x)| !x.is_finite());
    let (row, col, value) = found.unwrap_or((0, 0, f32::NAN));
    Error::NonFinite { op: OP, operand: operand.to_owned(), row, col, value }
}

/// The power of two that brings the largest entry into `[1, 2)`, or less where starting centroids are far larger still.
pub(crate) fn common_exponent(max: f32, start: Option<MatRef<'_, f32>>) -> i32 {
    let exponent = |x: f32| if x == 0.0 { 0 } else { (f64::from(x).to_bits() >> 52) as i32 - 1023 };
    let start = start.map_or(0.0, |start| start.iter_rows().flatten().fold(0.0f32, |max, x| max.max(x.abs())));
    let fit = -exponent(max);
    if start == 0.0 { fit } else { fit.min(40 - exponent(start)) }
}

fn by_lloyd<T: Elem>(
    arch: Arch,
    desc: &Desc,
    rows: MatRef<'_, T>,
    measure: &Measure,
    options: &Options<'_>,
) -> Result<Clustering> {
    let exponent = if desc.space == Space::Full { common_exponent(measure.max, options.start) } else { 0 };
    let points = Points::new(rows, measure, desc.space, exponent)?;
    let start = match options.start {
        Some(start) => starting_centroids(start, desc.space, exponent)?,
        None => seeding::plus_plus(arch, &points, desc.clusters, options.seed)?,
    };
    let rules = lloyd::Rules { space: desc.space, min_size: desc.min_size, options };
    lloyd::iterate(arch, &points, start, &rules)?.scaled_back(exponent)
}

/// The caller's centroids in the units of the points.
pub(crate) fn starting_centroids(start: MatRef<'_, f32>, space: Space, exponent: i32) -> Result<Mat<f64>> {
    let scale = 2f64.powi(exponent);
    let mut centroids: Mat<f64> = Mat::zeros(start.rows(), start.cols())?;
    for j in 0..start.rows() {
        let square: f64 = start.row(j).iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        let factor = match space {
            Space::Direction if square == 0.0 => {
                return Err(Error::operand(OP, "start", format!("has no direction in its all-zero row {j}")));
            }
            Space::Direction => 1.0 / square.sqrt(),
            Space::Full | Space::Norm => scale,
        };
        centroids.row_mut(j).iter_mut().zip(start.row(j)).for_each(|(c, &x)| *c = f64::from(x) * factor);
    }
    Ok(centroids)
}

/// Clusters points by their norms alone, given the squares of those.
pub(crate) fn by_norm(desc: &Desc, squares: &[f64]) -> Result<Clustering> {
    let norms: Vec<f64> = squares.iter().map(|square| square.sqrt()).collect();
    let labels = norm::partition(&norms, desc.clusters, desc.min_size)?;
    let mut sizes: Vec<usize> = zeroed("sizes", desc.clusters)?;
    let mut means: Vec<f64> = zeroed("means", desc.clusters)?;
    for (norm, &label) in norms.iter().zip(&labels) {
        sizes[label as usize] += 1;
        means[label as usize] += norm;
    }
    means.iter_mut().zip(&sizes).for_each(|(mean, &size)| *mean /= size as f64);
    let inertia = norms.iter().zip(&labels).map(|(norm, &label)| (norm - means[label as usize]).powi(2)).sum();
    let centroids = Mat::from_vec(means.iter().map(|&mean| mean as f32).collect(), desc.clusters, 1)?;
    Ok(Clustering { labels, centroids, sizes, info: Info { inertia, converged: true, ..Info::default() } })
}
