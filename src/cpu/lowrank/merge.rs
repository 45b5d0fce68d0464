//! Merging into the base weight and back, in f64 and rounded once: set-up work, where exactness is worth more than time.

use crate::cpu::gemm::{Factor, gemm};
use crate::elem::Elem;
use crate::error::Result;
use crate::lowrank::{Desc, Factors, Parameters};
use crate::mat::{Mat, MatMut, MatRef};
use rayon::prelude::*;

/// `W ← W + U (P W)`.
pub(crate) fn merge<T: Elem>(desc: &Desc, parameters: &Parameters<'_>, w: MatMut<'_, T>) -> Result<()> {
    let v = mixed(desc, parameters, None, w.as_ref())?;
    add_update(desc, parameters, 1.0, &v, w)
}

/// `W ← W − U (I + P U)⁻¹ (P W)`.
pub(crate) fn unmerge<T: Elem>(
    desc: &Desc,
    parameters: &Parameters<'_>,
    factors: &Factors,
    w: MatMut<'_, T>,
) -> Result<()> {
    let v = mixed(desc, parameters, Some(factors), w.as_ref())?;
    add_update(desc, parameters, -1.0, &v, w)
}

/// `P W`, or with factors `(I + P U)⁻¹ P W`.
pub(crate) fn mixed<T: Elem>(
    desc: &Desc,
    parameters: &Parameters<'_>,
    factors: Option<&Factors>,
    w: MatRef<'_, T>,
) -> Result<Mat<f64>> {
    let mut rows = mix_rows(desc, parameters, factors.map(Factors::order), w)?;
    if let Some(factors) = factors {
        substitute(factors.lu(), &mut rows);
    }
    Ok(rows)
}

/// `P W [r, n]` with `P = Σ_i ᾱ_i E_{S_i}`, its rows in an order.
fn mix_rows<T: Elem>(
    desc: &Desc,
    parameters: &Parameters<'_>,
    order: Option<&[u32]>,
    w: MatRef<'_, T>,
) -> Result<Mat<f64>> {
    let mut mixed = Mat::zeros(desc.rank, desc.cols)?;
    for (rows, &weight) in parameters.skeleton.chunks_exact(desc.rank).zip(parameters.gate.row(0)) {
        for j in 0..desc.rank {
            let row = rows[order.map_or(j, |order| order[j] as usize)];
            for (to, from) in mixed.row_mut(j).iter_mut().zip(w.row(row as usize)) {
                *to += f64::from(weight) * f64::from(from.to_f32());
            }
        }
    }
    Ok(mixed)
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

/// `V ← U⁻¹ L⁻¹ V` (LAPACK's `getrs`). Product by product, each rounded: `kernels/lowrank_merge.cu` does the same.
fn substitute(lu: MatRef<'_, f64>, v: &mut Mat<f64>) {
    let n = lu.rows();
    for k in 0..n {
        for i in k + 1..n {
            subtract_row(v, i, k, lu.row(i)[k]);
        }
    }
    for k in (0..n).rev() {
        let pivot = lu.row(k)[k];
        v.row_mut(k).iter_mut().for_each(|x| *x /= pivot);
        for i in 0..k {
            subtract_row(v, i, k, lu.row(i)[k]);
        }
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
    use crate::lowrank::factors::tests::{matrix, system};

    #[test]
    fn solutions_satisfy_their_system_even_with_a_zero_diagonal() {
        for n in [1, 2, 5, 16] {
            let (a, factors) = system(n);
            let v = matrix(n, 3, 2);
            let ordered = factors.order().iter().flat_map(|&i| v.row(i as usize).to_vec()).collect();
            let mut x = Mat::from_vec(ordered, n, 3).unwrap();
            substitute(factors.lu(), &mut x);
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
}
