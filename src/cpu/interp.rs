//! Interpolation coefficients and the errors of growing skeletons.

use crate::cpu::gemm::{self, Factor as Of};
use crate::cpu::norms;
use crate::cpu::qr::basis::{Basis, rounding};
use crate::cpu::qr::wide_row;
use crate::elem::Elem;
use crate::error::Result;
use crate::interp::OP;
use crate::mat::{self, Mat, MatRef};
use crate::qr::Factor;
use pulp::Arch;
use rayon::prelude::*;

pub(crate) mod svd;

/// Rows deflated together: fixed, because their sums are added in the order of the blocks.
const BLOCK: usize = 64;

/// `X = R₁₁⁻¹ R` by back substitution, `[reached, c]`.
fn back_substitute(r: &Mat<f64>, jpvt: &[u32]) -> Mat<f64> {
    let mut x = r.clone();
    for b in (0..jpvt.len()).rev() {
        let p = jpvt[b] as usize;
        let diagonal = r.row(b)[p];
        x.row_mut(b).iter_mut().for_each(|x| *x /= diagonal);
        let solved = x.row(b).to_vec();
        for a in 0..b {
            let factor = r.row(a)[p];
            x.row_mut(a).iter_mut().zip(&solved).for_each(|(x, s)| *x -= factor * s);
        }
    }
    x
}

/// Interpolation coefficients `T [c, j]` of a checked factor: the identity in the pivots' rows.
pub(crate) fn coeffs(factor: &Factor) -> Result<Mat<f64>> {
    let (reached, c) = factor.r.shape();
    let solved = back_substitute(&factor.r, &factor.jpvt);
    let mut t = Mat::zeros(c, reached)?;
    for i in 0..c {
        for (a, t) in t.row_mut(i).iter_mut().enumerate() {
            *t = solved.row(a)[i];
        }
    }
    for (a, &p) in factor.jpvt.iter().enumerate() {
        let row = t.row_mut(p as usize);
        row.fill(0.0);
        row[a] = 1.0;
    }
    Ok(t)
}

/// An orthonormal basis of the span of rows of `w`, in order. A row that those before it span to rounding gets a zero
/// vector, so that the first `p` vectors always belong to the first `p` rows.
fn skeleton_basis<T: Elem>(w: MatRef<'_, T>, skeleton: &[u32]) -> Result<Basis> {
    let mut basis = Basis::new(Arch::new(), skeleton.len(), w.cols())?;
    let mut squares: Vec<f64> = mat::zeroed("squared norms", skeleton.len())?;
    norms::squared_rows(OP, w, Some(skeleton), &mut squares)?;
    for (j, &s) in skeleton.iter().enumerate() {
        let mut row = wide_row(w.row(s as usize))?;
        let norm = basis.project(j, &mut row);
        if norm <= rounding(w.cols(), skeleton.len()) * squares[j].sqrt() {
            basis.push_zero();
        } else {
            basis.push(&row, norm);
        }
    }
    Ok(basis)
}

/// Squared Frobenius norm of the given rows, and of what is left of them outside the first `p` skeleton rows for
/// every `p` in `counts`, which never falls.
///
/// Blocks of rows are deflated in `f64`, once for all counts, so a small error is as accurate as a large one.
pub(crate) fn residual_squares<T: Elem>(
    w: MatRef<'_, T>,
    rows: &[u32],
    skeleton: &[u32],
    counts: &[usize],
) -> Result<(f64, Vec<f64>)> {
    let mut squares: Vec<f64> = mat::zeroed("squared norms", rows.len())?;
    norms::squared_rows(OP, w, Some(rows), &mut squares)?;
    let basis = skeleton_basis(w, skeleton)?;
    let vectors = basis.view()?;
    let partial: Vec<Result<Vec<f64>>> = rows
        .par_chunks(BLOCK)
        .map(|rows| {
            let mut rest = Mat::zeros(rows.len(), w.cols())?;
            for (i, &row) in rows.iter().enumerate() {
                rest.row_mut(i).copy_from_slice(&wide_row(w.row(row as usize))?);
            }
            let (mut done, mut sums) = (0, Vec::with_capacity(counts.len()));
            for &count in counts {
                let step = vectors.row_range(done..count);
                let mut products = Mat::zeros(rows.len(), step.rows())?;
                gemm::gemm(1.0, Of::Plain(rest.as_ref()), Of::Transposed(step), false, products.as_mut());
                gemm::gemm(-1.0, Of::Plain(products.as_ref()), Of::Plain(step), true, rest.as_mut());
                sums.push(rest.data().iter().map(|x| x * x).sum());
                done = count;
            }
            Ok(sums)
        })
        .collect();
    let mut sums = vec![0.0; counts.len()];
    for block in partial {
        for (sum, part) in sums.iter_mut().zip(block?) {
            *sum += part;
        }
    }
    Ok((squares.iter().sum(), sums))
}
