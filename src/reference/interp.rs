//! Interpolation coefficients, relative errors and singular values.

use crate::mat::{Mat, MatRef};
use crate::reference::qr::{Factor, residual};

/// `T [c, j]` with `C ≈ T · C[J, :]` and `T[J, :] = I`, from `R₁₁ Tᵀ = R`.
pub fn coeffs(factor: &Factor) -> Mat<f64> {
    let (reached, c) = factor.r.shape();
    let mut t = Mat::zeros(c, reached).expect("as large as R");
    for i in 0..c {
        for a in (0..reached).rev() {
            let known: f64 = (a + 1..reached).map(|b| factor.r.row(a)[factor.jpvt[b]] * t.row(i)[b]).sum();
            t.row_mut(i)[a] = (factor.r.row(a)[i] - known) / factor.r.row(a)[factor.jpvt[a]];
        }
    }
    for (a, &p) in factor.jpvt.iter().enumerate() {
        t.row_mut(p).fill(0.0);
        t.row_mut(p)[a] = 1.0;
    }
    t
}

fn frobenius(x: MatRef<'_, f64>) -> f64 {
    x.iter_rows().flatten().map(|x| x * x).sum::<f64>().sqrt()
}

/// `‖C − C·A⁺A‖_F / ‖C‖_F` for `A` = the rows `chosen` of `C`; 0 where `C` is zero.
pub fn relative_error(c: MatRef<'_, f64>, chosen: &[usize]) -> f64 {
    let whole = frobenius(c);
    if whole == 0.0 { 0.0 } else { frobenius(residual(c, chosen).as_ref()) / whole }
}

/// Singular values, largest first, by Hestenes' one-sided Jacobi: pairs of rows are rotated until all are orthogonal.
pub fn singular_values(w: MatRef<'_, f64>) -> Vec<f64> {
    let (m, n) = w.shape();
    let mut rows: Vec<Vec<f64>> = if m <= n {
        w.iter_rows().map(<[f64]>::to_vec).collect()
    } else {
        (0..n).map(|j| w.iter_rows().map(|row| row[j]).collect()).collect()
    };
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    for _ in 0..60 {
        let mut rotated = false;
        for p in 0..rows.len() {
            for q in p + 1..rows.len() {
                let (a, b, c) = (dot(&rows[p], &rows[p]), dot(&rows[q], &rows[q]), dot(&rows[p], &rows[q]));
                if c.abs() <= 1e-15 * (a * b).sqrt() {
                    continue;
                }
                rotated = true;
                let zeta = (b - a) / (2.0 * c);
                let t = zeta.signum() / (zeta.abs() + zeta.hypot(1.0));
                let cos = 1.0 / t.hypot(1.0);
                let (left, right) = rows.split_at_mut(q);
                for (x, y) in left[p].iter_mut().zip(&mut right[0]) {
                    (*x, *y) = (cos * *x - cos * t * *y, cos * t * *x + cos * *y);
                }
            }
        }
        if !rotated {
            break;
        }
    }
    let mut sigma: Vec<f64> = rows.iter().map(|row| dot(row, row).sqrt()).collect();
    sigma.sort_by(|a, b| b.total_cmp(a));
    sigma
}

/// `‖W − W_p‖_F / ‖W‖_F` of the best approximation of each rank `p` (Eckart and Young); 0 where `W` is zero.
pub fn svd_curve(w: MatRef<'_, f64>, ranks: &[usize]) -> Vec<f64> {
    let sigma = singular_values(w);
    let whole: f64 = sigma.iter().rev().map(|s| s * s).sum();
    let tail = |p: usize| sigma.iter().skip(p).rev().map(|s| s * s).sum::<f64>();
    ranks.iter().map(|&p| if whole == 0.0 { 0.0 } else { (tail(p) / whole).sqrt() }).collect()
}
