//! Squared singular values: how much of a matrix the best approximation of each rank leaves.
//!
//! They are the eigenvalues of the smaller Gram matrix `X Xᵀ`, where `X` is `W` or its transpose, whichever has fewer
//! rows. Up to [`WHOLE`] rows that matrix is formed and diagonalised whole. Beyond, `X Xᵀ` is projected on a block
//! Krylov space (Musco and Musco 2015): `span{Ω, XXᵀΩ, (XXᵀ)²Ω, …}` from a seeded Gaussian block a little wider than
//! the largest rank asked for, grown until the errors settle. Projections only lose, so those errors are never below
//! the true ones.

use crate::cpu::gemm::{self, Factor};
use crate::cpu::qr::basis::{Basis, rounding};
use crate::cpu::qr::wide_row;
use crate::elem::Elem;
use crate::error::Result;
use crate::mat::{Mat, MatMut, MatRef};
use crate::random::{Stream, Use};
use pulp::Arch;
use rayon::prelude::*;

/// Largest side whose Gram matrix is diagonalised whole.
pub(crate) const WHOLE: usize = 2048;
/// Columns of the Krylov block beyond the largest rank.
const OVERSAMPLING: usize = 16;
/// Blocks of the Krylov space at most.
const BLOCKS: usize = 8;
/// Relative change of every wanted error at which the space is large enough.
const SETTLED: f64 = 1e-4;
/// Rows per parallel product: fixed, so that the bits do not depend on the threads.
const ROWS: usize = 64;
/// Seed of the Krylov block: nobody has a reason to choose another.
const SEED: u64 = 0;

/// The share of `‖W‖_F²` that the best approximation of each rank leaves; `total` is `‖W‖_F² > 0`.
pub(crate) fn tails<T: Elem>(w: MatRef<'_, T>, total: f64, ranks: &[usize]) -> Result<Vec<f64>> {
    let x = short_side(w)?;
    if x.rows() <= WHOLE {
        let mut gram = Mat::zeros(x.rows(), x.rows())?;
        lower_products(x.as_ref(), x.as_ref(), 0, &mut gram);
        let values = eigenvalues(gram);
        // From the smallest up, so that a small tail is not a difference of large sums.
        let tail = |p: usize| values.iter().take(values.len().saturating_sub(p)).map(|v| v.max(0.0)).sum::<f64>();
        return Ok(ranks.iter().map(|&p| tail(p) / total).collect());
    }
    krylov_tails(&x, total, ranks)
}

/// `W`, or `Wᵀ` where that has fewer rows, in `f64`.
fn short_side<T: Elem>(w: MatRef<'_, T>) -> Result<Mat<f64>> {
    let (m, n) = w.shape();
    let mut x = Mat::zeros(m.min(n), m.max(n))?;
    for (i, row) in w.iter_rows().enumerate() {
        let row = wide_row(row)?;
        if m <= n {
            x.row_mut(i).copy_from_slice(&row);
        } else {
            for (j, &value) in row.iter().enumerate() {
                x.row_mut(j)[i] = value;
            }
        }
    }
    Ok(x)
}

/// `out[first + i, j] = ⟨a_i, b_j⟩` for `j ≤ first + i`: new rows of a symmetric matrix's lower triangle.
fn lower_products(a: MatRef<'_, f64>, b: MatRef<'_, f64>, first: usize, out: &mut Mat<f64>) {
    let ld = out.cols();
    out.data_mut()[first * ld..].par_chunks_mut((ROWS * ld).max(1)).enumerate().for_each(|(block, data)| {
        let rows = data.len() / ld;
        let range = block * ROWS..(block * ROWS + rows).min(a.rows());
        if range.start >= range.end {
            return;
        }
        let columns = (first + range.end).min(b.rows());
        let out = MatMut::with_ld(data, range.len(), columns, ld).expect("a block of whole rows");
        gemm::gemm(1.0, Factor::Plain(a.row_range(range)), Factor::Transposed(b.row_range(0..columns)), false, out);
    });
}

/// `C = A·B` by blocks of rows in parallel.
fn product(a: MatRef<'_, f64>, b: Factor<'_, f64>, cols: usize) -> Result<Mat<f64>> {
    let mut c = Mat::zeros(a.rows(), cols)?;
    c.as_mut().par_row_blocks(ROWS).enumerate().for_each(|(block, out)| {
        let rows = block * ROWS..block * ROWS + out.rows();
        gemm::gemm(1.0, Factor::Plain(a.row_range(rows)), b, false, out);
    });
    Ok(c)
}

/// Tails from Ritz values: `‖W‖² − Σ_{i≤p} θ_i`.
fn krylov_tails(x: &Mat<f64>, total: f64, ranks: &[usize]) -> Result<Vec<f64>> {
    let side = x.rows();
    let width = ranks.iter().copied().max().unwrap_or(0).saturating_add(OVERSAMPLING).min(side);
    let capacity = width.saturating_mul(BLOCKS).min(side);
    let mut stream = Stream::new(SEED, Use::Sketch);
    let mut block = Mat::zeros(width, side)?;
    block.data_mut().iter_mut().for_each(|v| *v = stream.normal());

    let mut basis = Basis::new(Arch::new(), capacity, side)?;
    let mut images = Mat::zeros(capacity, x.cols())?; // rows q_iᵀ X
    let mut tails: Option<Vec<f64>> = None;
    loop {
        let first = basis.len();
        extend(&mut basis, &mut block, capacity)?;
        let grown = basis.len();
        if grown == first {
            break; // the space is invariant: its Ritz values are exact
        }
        let fresh = basis.view()?.row_range(first..grown);
        let image = product(fresh, Factor::Plain(x.as_ref()), x.cols())?;
        for i in first..grown {
            images.row_mut(i).copy_from_slice(image.row(i - first));
        }
        let known = images.as_ref().row_range(0..grown);
        let mut projected = Mat::zeros(grown, grown)?;
        lower_products(known, known, 0, &mut projected);
        let values = eigenvalues(projected);
        let tail = |p: usize| (1.0 - values.iter().rev().take(p).sum::<f64>() / total).max(0.0);
        let current: Vec<f64> = ranks.iter().map(|&p| tail(p)).collect();
        // Errors are square roots of tails, so a tail may change by twice as much.
        let settled = |old: &Vec<f64>| old.iter().zip(&current).all(|(a, b)| (a - b).abs() <= 2.0 * SETTLED * b);
        let done = tails.as_ref().is_some_and(settled) || grown == capacity;
        tails = Some(current);
        if done {
            break;
        }
        block = product(image.as_ref(), Factor::Transposed(x.as_ref()), side)?;
    }
    Ok(tails.unwrap_or_else(|| vec![1.0; ranks.len()]))
}

/// Adds what the rows of `block` have outside the basis, up to `capacity` vectors.
fn extend(basis: &mut Basis, block: &mut Mat<f64>, capacity: usize) -> Result<()> {
    let side = block.cols();
    let norms: Vec<f64> = (0..block.rows()).map(|i| block.row(i).iter().map(|v| v * v).sum::<f64>().sqrt()).collect();
    if basis.len() > 0 {
        for _ in 0..2 {
            let known = basis.view()?;
            let products = product(block.as_ref(), Factor::Transposed(known), known.rows())?;
            block.as_mut().par_row_blocks(ROWS).enumerate().for_each(|(index, out)| {
                let rows = index * ROWS..index * ROWS + out.rows();
                let products = Factor::Plain(products.as_ref().row_range(rows));
                gemm::gemm(-1.0, products, Factor::Plain(known), true, out);
            });
        }
    }
    for (i, norm) in norms.iter().enumerate() {
        if basis.len() == capacity {
            break;
        }
        let mut row = block.row(i).to_vec();
        let left = basis.project(basis.len(), &mut row);
        if left > rounding(side, capacity) * norm {
            basis.push(&row, left);
        }
    }
    Ok(())
}

/// Eigenvalues, ascending, of the symmetric matrix whose lower triangle `a` holds.
pub(crate) fn eigenvalues(mut a: Mat<f64>) -> Vec<f64> {
    let (mut diagonal, mut below) = tridiagonal(&mut a);
    implicit_ql(&mut diagonal, &mut below);
    diagonal.sort_by(f64::total_cmp);
    diagonal
}

/// Householder's reduction to tridiagonal form (LAPACK's `xSYTD2`, lower): the diagonal and the entries below it.
fn tridiagonal(a: &mut Mat<f64>) -> (Vec<f64>, Vec<f64>) {
    let n = a.rows();
    let mut below = vec![0.0; n];
    let arch = Arch::new();
    for (k, below) in below.iter_mut().enumerate().take(n.saturating_sub(1)) {
        let mut v: Vec<f64> = (k + 1..n).map(|i| a.row(i)[k]).collect();
        let scale = v.iter().fold(0.0f64, |s, x| s.max(x.abs()));
        if scale == 0.0 {
            continue;
        }
        let norm = scale * v.iter().map(|x| (x / scale).powi(2)).sum::<f64>().sqrt();
        // H = I − v vᵀ·(2/‖v‖²) takes the column to (β, 0, …, 0); β has the sign that avoids cancellation.
        let beta = -norm.copysign(v[0]);
        *below = beta;
        v[0] -= beta;
        let length = v.iter().map(|x| (x / scale).powi(2)).sum::<f64>().sqrt() * scale;
        v.iter_mut().for_each(|x| *x *= std::f64::consts::SQRT_2 / length); // now H = I − v vᵀ
        arch.dispatch(|| reflect(a, k + 1, &v));
    }
    ((0..n).map(|i| a.row(i)[i]).collect(), below)
}

/// `A ← H A H` on rows and columns from `first`, `H = I − v vᵀ`: a symmetric update of rank two.
#[inline(always)]
fn reflect(a: &mut Mat<f64>, first: usize, v: &[f64]) {
    let count = v.len();
    let mut w = vec![0.0; count]; // A v, from the lower triangle
    for i in 0..count {
        let row = &a.row(first + i)[first..][..i];
        let mut sums = [0.0; 8];
        let (chunks, tail) = row.as_chunks::<8>();
        let (v_chunks, v_tail) = v[..i].as_chunks::<8>();
        for (x, y) in chunks.iter().zip(v_chunks) {
            for l in 0..8 {
                sums[l] += x[l] * y[l];
            }
        }
        let rest: f64 = tail.iter().zip(v_tail).map(|(x, y)| x * y).sum();
        for (w, x) in w[..i].iter_mut().zip(row) {
            *w += x * v[i];
        }
        w[i] += sums.iter().sum::<f64>() + rest + a.row(first + i)[first + i] * v[i];
    }
    let half = 0.5 * w.iter().zip(v).map(|(w, v)| w * v).sum::<f64>();
    w.iter_mut().zip(v).for_each(|(w, v)| *w -= half * v);
    for i in 0..count {
        let (vi, wi) = (v[i], w[i]);
        for ((x, v), w) in a.row_mut(first + i)[first..][..=i].iter_mut().zip(v).zip(&w) {
            *x -= vi * w + wi * v;
        }
    }
}

/// Eigenvalues of a symmetric tridiagonal matrix by the implicit QL method (Martin and Wilkinson 1968, EISPACK's
/// `imtql1`), in place; `e[i]` lies between `d[i]` and `d[i+1]`.
fn implicit_ql(d: &mut [f64], e: &mut [f64]) {
    const SWEEPS: usize = 60; // per eigenvalue; two are typical
    let n = d.len();
    for l in 0..n {
        for _ in 0..SWEEPS {
            let small = |m: usize| e[m].abs() <= f64::EPSILON * (d[m].abs() + d[m + 1].abs());
            let m = (l..n - 1).find(|&m| small(m)).unwrap_or(n - 1);
            if m == l {
                break;
            }
            let mut g = (d[l + 1] - d[l]) / (2.0 * e[l]);
            let mut r = g.hypot(1.0);
            g = d[m] - d[l] + e[l] / (g + r.copysign(g));
            let (mut s, mut c, mut p) = (1.0, 1.0, 0.0);
            let mut split = false;
            for i in (l..m).rev() {
                let (f, b) = (s * e[i], c * e[i]);
                r = f.hypot(g);
                e[i + 1] = r;
                if r == 0.0 {
                    d[i + 1] -= p;
                    e[m] = 0.0;
                    split = true;
                    break;
                }
                (s, c) = (f / r, g / r);
                g = d[i + 1] - p;
                r = (d[i] - g) * s + 2.0 * c * b;
                p = s * r;
                d[i + 1] = g + p;
                g = c * r - b;
            }
            if !split {
                d[l] -= p;
                e[l] = g;
                e[m] = 0.0;
            }
        }
    }
}
