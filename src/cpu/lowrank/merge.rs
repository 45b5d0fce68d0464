//! Merging into the base weight and back, in f64 and rounded once: set-up work, where exactness is worth more than time.

use crate::cpu::gemm::{Factor, gemm};
use crate::elem::Elem;
use crate::error::{Error, Result};
use crate::lowrank::{Desc, Parameters, UNMERGE};
use crate::mat::{Mat, MatMut, MatRef};
use rayon::prelude::*;

/// `W ← W + U (P W)`.
pub(crate) fn merge<T: Elem>(desc: &Desc, parameters: &Parameters<'_>, w: MatMut<'_, T>) -> Result<()> {
    let mixed = mix_rows(desc, parameters, w.as_ref())?;
    add_update(desc, parameters, 1.0, &mixed, w)
}

/// `W ← W − U (I + P U)⁻¹ (P W)`.
pub(crate) fn unmerge<T: Elem>(desc: &Desc, parameters: &Parameters<'_>, w: MatMut<'_, T>) -> Result<()> {
    let mut system = mixed_update(desc, parameters)?;
    for i in 0..desc.rank {
        system.row_mut(i)[i] += 1.0;
    }
    let mut mixed = mix_rows(desc, parameters, w.as_ref())?;
    solve(&mut system, &mut mixed)?;
    add_update(desc, parameters, -1.0, &mixed, w)
}

/// `P W [r, n]` with `P = Σ_i ᾱ_i E_{S_i}`.
fn mix_rows<T: Elem>(desc: &Desc, parameters: &Parameters<'_>, w: MatRef<'_, T>) -> Result<Mat<f64>> {
    let mut mixed = Mat::zeros(desc.rank, desc.cols)?;
    for (rows, &weight) in parameters.skeleton.chunks_exact(desc.rank).zip(parameters.gate.row(0)) {
        for (j, &row) in rows.iter().enumerate() {
            for (to, from) in mixed.row_mut(j).iter_mut().zip(w.row(row as usize)) {
                *to += f64::from(weight) * f64::from(from.to_f32());
            }
        }
    }
    Ok(mixed)
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

/// Rows of `W` that are updated together.
const BLOCK: usize = 32;

/// `W ← W + sign·U·V` for `V [r, n]`.
fn add_update<T: Elem>(
    desc: &Desc,
    parameters: &Parameters<'_>,
    sign: f64,
    v: &Mat<f64>,
    mut w: MatMut<'_, T>,
) -> Result<()> {
    let (part, depth, cols) = (desc.rows / desc.split, desc.rank / desc.split, desc.cols);
    let factor = sign * f64::from(parameters.scale);
    let mut u = Mat::zeros(part, depth)?;
    for row in 0..part {
        for (to, &b) in u.row_mut(row).iter_mut().zip(parameters.b.row(row)) {
            *to = factor * f64::from(b);
        }
    }
    for block in 0..desc.split {
        let v = v.as_ref().row_range(block * depth..(block + 1) * depth);
        let rows = row_range_mut(&mut w, block * part, part)?;
        rows.par_row_blocks(BLOCK).enumerate().try_for_each(|(i, mut rows)| {
            let mut wide = Mat::zeros(rows.rows(), cols)?;
            for row in 0..rows.rows() {
                let from = rows.row(row).iter().map(|x| f64::from(x.to_f32()));
                wide.row_mut(row).iter_mut().zip(from).for_each(|(to, from)| *to = from);
            }
            let u = u.as_ref().row_range(i * BLOCK..i * BLOCK + rows.rows());
            gemm(1.0, Factor::Plain(u), Factor::Plain(v), true, wide.as_mut());
            for row in 0..rows.rows() {
                let to = rows.row_mut(row).iter_mut();
                to.zip(wide.row(row)).for_each(|(to, &from)| *to = T::from_f32(from as f32));
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Rows `first..first + rows` of `w`, writable.
fn row_range_mut<'a, T: Elem>(w: &'a mut MatMut<'_, T>, first: usize, rows: usize) -> Result<MatMut<'a, T>> {
    let (cols, ld) = (w.cols(), w.ld());
    MatMut::with_ld(&mut w.data_mut()[first * ld..], rows, cols, ld)
}

/// Solves `A X = V` in place of `V` by LU with partial pivoting (LAPACK's `getrf` and `getrs`); `A` is destroyed.
fn solve(a: &mut Mat<f64>, v: &mut Mat<f64>) -> Result<()> {
    let n = a.rows();
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
                    "I + P U is singular to working precision (pivot {k} of {n} is {size:e}, the largest entry {largest:e}): \
                     the merged weight has lost what merging took from it; reload the base weight"
                ),
            ));
        }
        swap_rows(a, k, pivot);
        swap_rows(v, k, pivot);
        for i in k + 1..n {
            let factor = a.row(i)[k] / a.row(k)[k];
            if factor != 0.0 {
                subtract_row(a, i, k, factor);
                subtract_row(v, i, k, factor);
            }
        }
    }
    for k in (0..n).rev() {
        let pivot = a.row(k)[k];
        v.row_mut(k).iter_mut().for_each(|x| *x /= pivot);
        for i in 0..k {
            let factor = a.row(i)[k];
            subtract_row(v, i, k, factor);
        }
    }
    Ok(())
}

fn swap_rows(a: &mut Mat<f64>, i: usize, j: usize) {
    if i != j {
        let cols = a.cols();
        let (low, high) = (i.min(j), i.max(j));
        let (head, tail) = a.data_mut().split_at_mut(high * cols);
        head[low * cols..][..cols].swap_with_slice(&mut tail[..cols]);
    }
}

/// `row i −= factor · row k`.
fn subtract_row(a: &mut Mat<f64>, i: usize, k: usize, factor: f64) {
    let cols = a.cols();
    let (low, high) = (i.min(k), i.max(k));
    let (head, tail) = a.data_mut().split_at_mut(high * cols);
    let (low, high) = (&mut head[low * cols..][..cols], &mut tail[..cols]);
    let (to, from) = if i < k { (low, high) } else { (high, low) };
    to.iter_mut().zip(from.iter()).for_each(|(to, from)| *to -= factor * from);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(n: usize, cols: usize, seed: usize) -> Mat<f64> {
        let value = |i: usize| ((i * i * 7919 + i * 31 + seed * 104_729) % 1009) as f64 / 504.5 - 1.0;
        Mat::from_vec((0..n * cols).map(value).collect(), n, cols).unwrap()
    }

    #[test]
    fn solutions_satisfy_their_system_even_with_a_zero_diagonal() {
        for n in [1, 2, 5, 16] {
            let mut a = matrix(n, n, 1);
            if n > 1 {
                (0..n).for_each(|i| a.row_mut(i)[i] = 0.0);
            }
            let v = matrix(n, 3, 2);
            let mut x = v.clone();
            solve(&mut a.clone(), &mut x).unwrap();
            for i in 0..n {
                for c in 0..3 {
                    let product: f64 = (0..n).map(|j| a.row(i)[j] * x.row(j)[c]).sum();
                    let size: f64 = (0..n).map(|j| (a.row(i)[j] * x.row(j)[c]).abs()).sum();
                    // LU with partial pivoting is backward stable up to its growth, at most 2^(n−1) and here below 100.
                    let bound = 300.0 * n as f64 * f64::EPSILON * (size + 100.0 * x.row(i)[c].abs());
                    assert!(
                        (product - v.row(i)[c]).abs() <= bound.max(1e-12),
                        "n {n}: {product} against {}",
                        v.row(i)[c]
                    );
                }
            }
        }
    }

    #[test]
    fn a_singular_system_is_refused_with_the_reason() {
        let mut a = matrix(4, 4, 3);
        let copy = a.row(0).to_vec();
        a.row_mut(3).iter_mut().zip(copy).for_each(|(to, from)| *to = 2.0 * from);
        let message = solve(&mut a, &mut matrix(4, 2, 4)).unwrap_err().to_string();
        assert!(message.contains("singular") && message.contains("pivot 3 of 4"), "{message}");
    }
}
