//! k-means++ seeding (Arthur and Vassilvitskii, 2007).

use super::points::Points;
use crate::elem::Elem;
use crate::error::Result;
use crate::mat::{Mat, zeroed};
use crate::random::{Stream, Use};
use pulp::Arch;

/// `k` points as centroids: the first uniform, each other with probability proportional to its squared distance from the
/// nearest one before it. Where all points coincide with a centroid already, the lowest not yet taken. `k` passes over `W`.
pub(super) fn plus_plus<T: Elem>(arch: Arch, points: &Points<'_, T>, k: usize, seed: u64) -> Result<Mat<f64>> {
    let m = points.count();
    let mut stream = Stream::new(seed, Use::Seeding);
    let mut centroids: Mat<f64> = Mat::zeros(k, points.dim())?;
    let mut nearest: Vec<f64> = zeroed("distances", m)?;
    let mut latest: Vec<f64> = zeroed("distances", m)?;
    let mut taken: Vec<bool> = zeroed("seeds", m)?;
    nearest.fill(f64::INFINITY);
    let mut p = stream.below(m as u64) as usize;
    for j in 0..k {
        taken[p] = true;
        let point = points.point(p)?;
        centroids.row_mut(j).iter_mut().zip(&point).for_each(|(c, &x)| *c = f64::from(x));
        if j + 1 == k {
            break;
        }
        points.squared_distances(arch, &mut latest, |_| &point)?;
        nearest.iter_mut().zip(&latest).for_each(|(old, new)| *old = old.min(*new));
        p = draw(&nearest, &taken, stream.uniform());
    }
    Ok(centroids)
}

/// The point at fraction `at` of the sum of `weights`; one of weight zero only if all are.
fn draw(weights: &[f64], taken: &[bool], at: f64) -> usize {
    let target = at * weights.iter().sum::<f64>();
    let mut sum = 0.0;
    let mut last = None;
    for (p, weight) in weights.iter().enumerate().filter(|(p, weight)| **weight > 0.0 && !taken[*p]) {
        sum += weight;
        last = Some(p);
        if sum > target {
            break;
        }
    }
    last.or_else(|| taken.iter().position(|taken| !taken)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::draw;

    #[test]
    fn draws_follow_the_weights_and_never_repeat() {
        let (weights, taken) = ([0.0, 3.0, 0.0, 1.0], [true, false, false, false]);
        assert_eq!(draw(&weights, &taken, 0.0), 1, "weight zero is never drawn");
        assert_eq!(draw(&weights, &taken, 0.74), 1);
        assert_eq!(draw(&weights, &taken, 0.76), 3);
        assert_eq!(draw(&weights, &taken, 1.0 - f64::EPSILON / 2.0), 3);
        assert_eq!(draw(&[0.0; 4], &taken, 0.9), 1, "all coincide: the lowest not taken");
    }
}
