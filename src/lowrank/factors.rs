//! `L U` of `I + P U`, which is what unmerging needs beside the weight. It is as small as `r × r` and made of the adapter alone, so
//! that every device takes the same.

use super::{Desc, Parameters, UNMERGE};
use crate::error::{Error, Result};
use crate::mat::{Mat, MatRef};

/// The rows of `I + P U` in an order, as a unit lower times an upper triangular matrix (LAPACK's `getrf`).
#[derive(Debug)]
pub(crate) struct Factors {
    lu: Mat<f64>,
    order: Vec<u32>,
}

impl Factors {
    /// Factors `I + P U` by partial pivoting.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where it is singular to working precision, [`Error::OutOfMemory`].
    pub fn of(desc: &Desc, parameters: &Parameters<'_>) -> Result<Self> {
        let mut system = mixed_update(desc, parameters)?;
        for i in 0..desc.rank {
            system.row_mut(i)[i] += 1.0;
        }
        Self::of_system(system)
    }

    fn of_system(mut a: Mat<f64>) -> Result<Self> {
        let n = a.rows();
        let mut order: Vec<u32> = (0..n as u32).collect();
        let largest = a.data().iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
        for k in 0..n {
            // Ties and NaN keep the first row; NaN is refused below.
            let pivot = (k + 1..n).fold(k, |best, i| if a.row(i)[k].abs() > a.row(best)[k].abs() { i } else { best });
            let size = a.row(pivot)[k].abs();
            // Below this the rounding of A alone could have made the pivot.
            if size.is_nan() || size <= n as f64 * f64::EPSILON * largest {
                return Err(Error::unsupported(
                    UNMERGE,
                    format!(
                        "I + P U is singular to working precision (pivot {k} of {n} is {size:e}, the largest entry \
                         {largest:e}): the merged weight has lost what merging took from it; reload the base weight"
                    ),
                ));
            }
            swap_rows(&mut a, k, pivot);
            order.swap(k, pivot);
            for i in k + 1..n {
                eliminate(&mut a, k, i);
            }
        }
        Ok(Self { lu: a, order })
    }

    /// `L` below the diagonal, where it is 1, and `U`.
    pub fn lu(&self) -> MatRef<'_, f64> {
        self.lu.as_ref()
    }

    /// Which row of `I + P U` is factored as row `i`.
    pub fn order(&self) -> &[u32] {
        &self.order
    }
}

/// `P U [r, r]` with `U = κ (I_s⊗B)`.
fn mixed_update(desc: &Desc, parameters: &Parameters<'_>) -> Result<Mat<f64>> {
    let (part, depth) = (desc.rows / desc.split, desc.rank / desc.split);
    let mut out = Mat::zeros(desc.rank, desc.rank)?;
    for (rows, &weight) in parameters.skeleton.chunks_exact(desc.rank).zip(parameters.gate.row(0)) {
        for (j, &row) in rows.iter().enumerate() {
            let (block, row) = (row as usize / part, row as usize % part);
            let factor = f64::from(weight) * f64::from(parameters.scale);
            for (to, &b) in out.row_mut(j)[block * depth..][..depth].iter_mut().zip(parameters.b.row(row)) {
                *to += factor * f64::from(b);
            }
        }
    }
    Ok(out)
}

fn swap_rows(a: &mut Mat<f64>, i: usize, j: usize) {
    if i != j {
        let cols = a.cols();
        let (low, high) = (i.min(j), i.max(j));
        let (head, tail) = a.data_mut().split_at_mut(high * cols);
        head[low * cols..][..cols].swap_with_slice(&mut tail[..cols]);
    }
}

/// Clears column `k` of row `i` by row `k`, which is above, and keeps the factor there.
fn eliminate(a: &mut Mat<f64>, k: usize, i: usize) {
    let cols = a.cols();
    let (head, tail) = a.data_mut().split_at_mut(i * cols);
    let (from, to) = (&head[k * cols..][..cols], &mut tail[..cols]);
    let factor = to[k] / from[k];
    to[k] = factor;
    to[k + 1..].iter_mut().zip(&from[k + 1..]).for_each(|(to, from)| *to -= factor * from);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// `[n, cols]` of values between −1 and 1.
    pub fn matrix(n: usize, cols: usize, seed: usize) -> Mat<f64> {
        let value = |i: usize| ((i * i * 7919 + i * 31 + seed * 104_729) % 1009) as f64 / 504.5 - 1.0;
        Mat::from_vec((0..n * cols).map(value).collect(), n, cols).unwrap()
    }

    /// A system with a zero diagonal, and its factors.
    pub fn system(n: usize) -> (Mat<f64>, Factors) {
        let mut a = matrix(n, n, 1);
        if n > 1 {
            (0..n).for_each(|i| a.row_mut(i)[i] = 0.0);
        }
        let factors = Factors::of_system(a.clone()).unwrap();
        (a, factors)
    }

    #[test]
    fn the_factors_multiply_to_the_system_in_their_order() {
        for n in [1, 2, 5, 16] {
            let (a, factors) = system(n);
            let mut seen: Vec<u32> = factors.order().to_vec();
            seen.sort_unstable();
            assert_eq!(seen, (0..n as u32).collect::<Vec<_>>());
            for i in 0..n {
                let lower = |j: usize| if j == i { 1.0 } else { factors.lu().row(i)[j] };
                assert!((0..i).all(|j| lower(j).abs() <= 1.0), "n {n}: partial pivoting");
                for c in 0..n {
                    let terms: Vec<f64> = (0..=i.min(c)).map(|j| lower(j) * factors.lu().row(j)[c]).collect();
                    let (product, size) = (terms.iter().sum::<f64>(), terms.iter().map(|x| x.abs()).sum::<f64>());
                    let expected = a.row(factors.order()[i] as usize)[c];
                    // Each entry of A is exact but for the roundings of at most n subtractions of rounded products.
                    let bound = 2.0 * n as f64 * f64::EPSILON * size;
                    assert!((product - expected).abs() <= bound, "n {n} [{i}, {c}]: {product} against {expected}");
                }
            }
        }
    }

    #[test]
    fn a_singular_system_is_refused_with_the_reason() {
        let mut a = matrix(4, 4, 3);
        let copy = a.row(0).to_vec();
        a.row_mut(3).iter_mut().zip(copy).for_each(|(to, from)| *to = 2.0 * from);
        let message = Factors::of_system(a).unwrap_err().to_string();
        assert!(message.contains("singular") && message.contains("pivot 3 of 4"), "{message}");
    }
}
