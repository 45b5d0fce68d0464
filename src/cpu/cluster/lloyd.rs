//! Lloyd's iteration: steps, repair of empty clusters, the minimum size, convergence, and the exact means at the end.

use super::assign::assign_min_size;
use super::centres::Centres;
use super::points::Points;
use super::step::{Step, argmin};
use super::sums::inertia;
use crate::cluster::{Clustering, Info, Options, Space};
use crate::elem::Elem;
use crate::error::Result;
use crate::mat::{Mat, zeroed};
use pulp::Arch;

/// A partition, in the units of the points.
pub(crate) struct Partition {
    pub(crate) labels: Vec<u32>,
    pub(crate) centroids: Mat<f64>,
    pub(crate) sizes: Vec<usize>,
    pub(crate) info: Info,
}

impl Partition {
    /// The partition in the units of `W`, which the points are times `2^exponent`.
    pub(crate) fn scaled_back(self, exponent: i32) -> Result<Clustering> {
        let back = 2f64.powi(-exponent);
        let mut centroids: Mat<f32> = Mat::zeros(self.centroids.rows(), self.centroids.cols())?;
        for (to, from) in centroids.data_mut().iter_mut().zip(self.centroids.data()) {
            *to = (from * back) as f32;
        }
        let info = Info { inertia: self.info.inertia * back * back, ..self.info };
        Ok(Clustering { labels: self.labels, centroids, sizes: self.sizes, info })
    }
}

/// What an iteration goes by.
pub(super) struct Rules<'a> {
    pub(super) space: Space,
    pub(super) min_size: usize,
    pub(super) options: &'a Options<'a>,
}

/// Iterates from `centroids`.
pub(super) fn iterate<T: Elem>(
    arch: Arch,
    points: &Points<'_, T>,
    mut centroids: Mat<f64>,
    rules: &Rules<'_>,
) -> Result<Partition> {
    let mut centres = Centres::new(arch, &centroids)?;
    let mut step = Step::new(points, centroids.rows())?;
    let mut info = Info::default();
    let mut least_movement = 0.0;
    let mut short = false;
    for iteration in 1..=rules.options.max_iterations {
        centres.set(arch, &centroids)?;
        let mut labels = Vec::new();
        // Short a step ago is mostly short again: nearest labels would not be used.
        if !short || rules.min_size == 1 {
            labels = step.nearest(arch, points, &mut centres)?;
            if rules.min_size == 1 {
                info.repaired += repair(arch, points, &mut step, &mut labels, &mut centres, &mut centroids)?;
            }
            short = falls_short(&labels, centroids.rows(), rules.min_size);
        }
        if short {
            labels = least_labels(&step.scores(arch, points, &centres)?, rules.min_size, &mut short);
            info.constrained += usize::from(short);
        }
        let unchanged = step.adopt(arch, points, labels)? == 0;
        let means = step.sums.means(&step.sizes)?;
        if iteration == 1 {
            let mean = overall_mean(&means, &step.sizes)?;
            least_movement = rules.options.tolerance * variance(&points.squares, &mean);
            centres.set_mean(arch, mean)?;
        }
        let next = in_space(rules.space, means, &centroids);
        let movement: f64 = next.data().iter().zip(centroids.data()).map(|(a, b)| (a - b) * (a - b)).sum();
        centroids = next;
        info.iterations = iteration;
        info.converged = unchanged || movement <= least_movement;
        if info.converged {
            break;
        }
    }
    info.inertia = match step.sums.inertia(points, &step.sizes, &centroids) {
        Some(inertia) => inertia,
        None => inertia(arch, points, &step.labels, &centroids)?,
    };
    Ok(Partition { labels: step.labels, centroids, sizes: step.sizes, info })
}

/// Means as centroids: of unit length for directions. Members that cancel leave no direction: the old one stays.
pub(crate) fn in_space(space: Space, mut means: Mat<f64>, old: &Mat<f64>) -> Mat<f64> {
    if space == Space::Direction {
        for j in 0..means.rows() {
            let norm = means.row(j).iter().map(|x| x * x).sum::<f64>().sqrt();
            if norm > 0.0 {
                means.row_mut(j).iter_mut().for_each(|x| *x /= norm);
            } else {
                means.row_mut(j).copy_from_slice(old.row(j));
            }
        }
    }
    means
}

/// The mean of all points, from those of the clusters.
fn overall_mean(means: &Mat<f64>, sizes: &[usize]) -> Result<Vec<f64>> {
    let count = sizes.iter().sum::<usize>() as f64;
    let mut mean: Vec<f64> = zeroed("mean", means.cols())?;
    for (j, &size) in sizes.iter().enumerate() {
        mean.iter_mut().zip(means.row(j)).for_each(|(all, c)| *all += c * (size as f64 / count));
    }
    Ok(mean)
}

/// Mean over the coordinates of their variance over the points: what scikit-learn's tolerance is relative to.
pub(crate) fn variance(squares: &[f64], mean: &[f64]) -> f64 {
    let square = squares.iter().sum::<f64>() / squares.len() as f64;
    (square - mean.iter().map(|x| x * x).sum::<f64>()).max(0.0) / mean.len() as f64
}

/// Restarts every empty cluster at the point farthest from its own centroid and labels anew; returns how many it restarted.
///
/// A restart lowers the cost of the nearest labels. It could raise that of labels under a larger minimum size, and a step would
/// then undo what the last one did; there the assignment fills empty clusters at the least cost instead. So it does here for
/// points that their centroids already meet to rounding, where a restart gains nothing.
fn repair<T: Elem>(
    arch: Arch,
    points: &Points<'_, T>,
    step: &mut Step,
    labels: &mut Vec<u32>,
    centres: &mut Centres,
    centroids: &mut Mat<f64>,
) -> Result<usize> {
    let k = centroids.rows();
    let mut repaired = 0;
    // A cluster that restarts may rob another of its last point, so this can repeat; it is cut off after k rounds.
    for _ in 0..k {
        let sizes = sizes(labels, k)?;
        let empty = (0..k).filter(|&j| sizes[j] == 0);
        let restarted = restart(arch, points, labels, empty, centroids)?;
        if restarted == 0 {
            break;
        }
        repaired += restarted;
        centres.set(arch, centroids)?;
        *labels = step.nearest(arch, points, centres)?;
    }
    Ok(repaired)
}

/// Moves the centroids of `empty` clusters to the farthest points; returns how many had somewhere to go.
fn restart<T: Elem>(
    arch: Arch,
    points: &Points<'_, T>,
    labels: &[u32],
    empty: impl Iterator<Item = usize>,
    centroids: &mut Mat<f64>,
) -> Result<usize> {
    let mut empty = empty.peekable();
    if empty.peek().is_none() {
        return Ok(0);
    }
    let mut own: Mat<f32> = Mat::zeros(centroids.rows(), centroids.cols())?;
    own.data_mut().iter_mut().zip(centroids.data()).for_each(|(to, &c)| *to = c as f32);
    let mut distances: Vec<f64> = zeroed("distances", points.count())?;
    points.squared_distances(arch, &mut distances, |p| own.row(labels[p] as usize))?;
    let restarts = restarts(empty, &mut distances, &points.squares);
    for &(j, farthest) in &restarts {
        let point = points.point(farthest)?;
        centroids.row_mut(j).iter_mut().zip(&point).for_each(|(c, &x)| *c = f64::from(x));
    }
    Ok(restarts.len())
}

/// Empty clusters, each with the farthest point that no other takes, as long as one is off its centroid by more than rounding.
/// `distances` are squared, `squares` those of the points' norms.
pub(crate) fn restarts(
    empty: impl Iterator<Item = usize>,
    distances: &mut [f64],
    squares: &[f64],
) -> Vec<(usize, usize)> {
    let mut restarts = Vec::new();
    for j in empty {
        let farthest = (1..distances.len()).fold(0, |best, p| if distances[p] > distances[best] { p } else { best });
        let rounding = 2.0 * f64::from(f32::EPSILON);
        if distances[farthest] <= rounding * rounding * squares[farthest] {
            break;
        }
        distances[farthest] = 0.0;
        restarts.push((j, farthest));
    }
    restarts
}

/// The labels of least cost with no cluster short; `short` becomes whether the nearest ones, which they else are, leave one so.
///
/// Scores are half the squared distances less a term of the point alone, which no assignment changes.
pub(crate) fn least_labels(scores: &Mat<f64>, min_size: usize, short: &mut bool) -> Vec<u32> {
    let nearest: Vec<u32> = scores.as_ref().iter_rows().map(argmin).collect();
    *short = falls_short(&nearest, scores.cols(), min_size);
    if *short { assign_min_size(scores.as_ref(), min_size) } else { nearest }
}

/// Whether some cluster would hold fewer than `min_size` points.
pub(crate) fn falls_short(labels: &[u32], k: usize, min_size: usize) -> bool {
    let mut missing = vec![min_size; k];
    labels.iter().for_each(|&label| missing[label as usize] = missing[label as usize].saturating_sub(1));
    missing.iter().any(|&missing| missing > 0)
}

/// Points per label.
pub(crate) fn sizes(labels: &[u32], k: usize) -> Result<Vec<usize>> {
    let mut sizes = zeroed("sizes", k)?;
    labels.iter().for_each(|&label| sizes[label as usize] += 1);
    Ok(sizes)
}
