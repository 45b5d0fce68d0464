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
    let (first, uniforms) = draws(m, k, seed)?;
    let mut centroids: Mat<f64> = Mat::zeros(k, points.dim())?;
    let mut nearest: Vec<f64> = zeroed("distances", m)?;
    let mut latest: Vec<f64> = zeroed("distances", m)?;
    let mut taken: Vec<bool> = zeroed("seeds", m)?;
    nearest.fill(f64::INFINITY);
    let mut p = first as usize;
    for j in 0..k {
        taken[p] = true;
        let point = points.point(p)?;
        centroids.row_mut(j).iter_mut().zip(&point).for_each(|(c, &x)| *c = f64::from(x));
        if j + 1 == k {
            break;
        }
        points.squared_distances(arch, &mut latest, |_| &point)?;
        nearest.iter_mut().zip(&latest).for_each(|(old, new)| *old = old.min(*new));
        p = draw(&nearest, &taken, uniforms[j + 1]);
    }
    Ok(centroids)
}

/// What the seed decides: the first of `m` points, and for each of the `k` seeds (but for the first, whose entry is 0) the fraction at
/// which it is drawn. Every backend draws these.
pub(crate) fn draws(m: usize, k: usize, seed: u64) -> Result<(u32, Vec<f64>)> {
    let mut stream = Stream::new(seed, Use::Seeding);
    let first = stream.below(m as u64) as u32;
    let mut uniforms: Vec<f64> = zeroed("draws", k)?;
    uniforms.iter_mut().skip(1).for_each(|at| *at = stream.uniform());
    Ok((first, uniforms))
}

/// The point at fraction `at` of the sum of `weights`; one of weight zero only if all are.
pub(crate) fn draw(weights: &[f64], taken: &[bool], at: f64) -> usize {
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
