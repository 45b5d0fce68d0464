//! Interpolation coefficients, and the error of representing rows by chosen ones.
//!
//! From a pivoted QR `Cᵀ P = Q R` of a group's rows `C [c, n]` with pivots `J`, the interpolative decomposition is `C
//! ≈ T · C[J, :]` with `Tᵀ P = [I, R₁₁⁻¹ R₁₂]` (Cheng, Gimbutas, Martinsson and Rokhlin 2005). How good *any* choice
//! of rows `A` can be is told by the projection on their span, `‖C − C A⁺ A‖_F / ‖C‖_F`, which no choice brings below
//! the error of the truncated SVD of the same rank.

use crate::cpu;
use crate::device::{Device, on_device};
use crate::elem::Elem;
use crate::error::{Error, Result, check_shape};
use crate::mat::{Mat, MatRef};
use crate::qr::Factor;

pub(crate) const OP: &str = "interp";

/// Interpolation coefficients `T [c, j]` with `C ≈ T · C[J, :]` and `T[J, :] = I` exactly, for `j` = the rank reached.
///
/// One triangular solve, `O(c·j²)`; the residual is that of the factorisation, `‖C − T·C[J,:]‖_F` = the norm of what
/// lies outside the span of the pivots.
///
/// # Errors
/// [`Error::Shape`] if `r` has not one row per pivot, [`Error::Parameter`] for a pivot that is not a column of `r`, or
/// whose diagonal entry is zero or not finite (as a repeated pivot's is).
pub fn coeffs(device: &Device, factor: &Factor) -> Result<Mat<f64>> {
    Ok(solve(device, &[factor])?.remove(0))
}

/// The coefficients of every factorisation: what [`coeffs`] gives for each, in one launch on a device that runs kernels.
///
/// # Errors
/// As [`coeffs`], for the first factorisation that has one.
pub fn coeffs_many(device: &Device, factors: &[Factor]) -> Result<Vec<Mat<f64>>> {
    solve(device, &factors.iter().collect::<Vec<_>>())
}

fn solve(device: &Device, factors: &[&Factor]) -> Result<Vec<Mat<f64>>> {
    factors.iter().try_for_each(|factor| check_factor(factor))?;
    on_device!(
        device,
        cpu => factors.iter().map(|factor| cpu::interp::coeffs(factor)).collect(),
        gpu => crate::gpu::interp::coeffs(gpu, factors)
    )
}

fn check_factor(factor: &Factor) -> Result<()> {
    let (jpvt, r) = (&factor.jpvt, &factor.r);
    let c = r.cols();
    check_shape(OP, "r", (jpvt.len(), c), r.shape())?;
    for (j, &p) in jpvt.iter().enumerate() {
        if p as usize >= c {
            return Err(Error::parameter(OP, "jpvt", format!("positions below {c}"), format!("{p} at step {j}")));
        }
        if jpvt[..j].contains(&p) {
            return Err(Error::parameter(OP, "jpvt", "distinct positions", format!("{p} twice")));
        }
        let diagonal = r.row(j)[p as usize];
        if diagonal == 0.0 || !diagonal.is_finite() {
            let expected = "a finite, non-zero diagonal entry for every pivot";
            return Err(Error::parameter(OP, "r", expected, format!("{diagonal} at step {j}")));
        }
    }
    Ok(())
}

fn check_rows(what: &'static str, rows: &[u32], count: usize) -> Result<()> {
    match rows.iter().find(|&&row| row as usize >= count) {
        None => Ok(()),
        Some(row) => Err(Error::parameter(OP, what, format!("row numbers below {count}"), format!("row {row}"))),
    }
}

fn ratio((total, left): (f64, Vec<f64>)) -> Vec<f64> {
    left.into_iter().map(|x| if total == 0.0 { 0.0 } else { (x / total).sqrt() }).collect()
}

/// `‖C − C·A⁺A‖_F / ‖C‖_F` for `C` = the given rows of `w` and `A` = its rows `skeleton` (of any rank); 0 where `C`
/// is zero.
///
/// Accumulates in `f64` and deflates explicitly, so small errors are as accurate as large ones, down to about
/// `n·2⁻⁵³`. `O(c·n·|skeleton|)`.
///
/// # Errors
/// [`Error::Parameter`] for a row number that is not in `w`, [`Error::NonFinite`] for NaN or infinity in one of the
/// rows.
pub fn relative_error<T: Elem>(device: &Device, w: MatRef<'_, T>, rows: &[u32], skeleton: &[u32]) -> Result<f64> {
    check_rows("rows", rows, w.rows())?;
    check_rows("skeleton", skeleton, w.rows())?;
    let errors = on_device!(
        device,
        cpu => ratio(cpu::interp::residual_squares(w, rows, skeleton, &[skeleton.len()])?),
        _ => return Err(device.lacks("interpolation errors"))
    );
    Ok(errors[0])
}

/// The same error for growing skeletons: entry `i` uses the first `checkpoints[i]` rows of `skeleton`, against all
/// rows of `w`. One pass of orthogonalisation for all of them, in whatever order they are given.
///
/// # Errors
/// As [`relative_error`]; [`Error::Parameter`] for a checkpoint beyond the skeleton.
pub fn error_curve<T: Elem>(
    device: &Device,
    w: MatRef<'_, T>,
    skeleton: &[u32],
    checkpoints: &[usize],
) -> Result<Vec<f64>> {
    check_rows("skeleton", skeleton, w.rows())?;
    if let Some(count) = checkpoints.iter().find(|&&count| count > skeleton.len()) {
        let expected = format!("at most {}, the skeleton's length", skeleton.len());
        return Err(Error::parameter(OP, "checkpoints", expected, count));
    }
    let rows: Vec<u32> = (0..w.rows() as u32).collect();
    let mut order: Vec<usize> = (0..checkpoints.len()).collect();
    order.sort_by_key(|&i| checkpoints[i]);
    let counts: Vec<usize> = order.iter().map(|&i| checkpoints[i]).collect();
    let sorted = on_device!(
        device,
        cpu => ratio(cpu::interp::residual_squares(w, &rows, skeleton, &counts)?),
        _ => return Err(device.lacks("interpolation errors"))
    );
    let mut errors = vec![0.0; checkpoints.len()];
    for (&i, error) in order.iter().zip(sorted) {
        errors[i] = error;
    }
    Ok(errors)
}

/// `‖W − W_p‖_F / ‖W‖_F` of the best rank-p approximation (truncated SVD), for each p in `ranks`: the optimum that no
/// choice of rows can beat. 0 where `W` is zero.
///
/// From the eigenvalues of the smaller Gram matrix in `f64`, so an error below about 1e-8 is rounding. Where both
/// sides exceed 2048 they are Ritz values of a seeded block Krylov space instead, grown until the errors settle to
/// 1e-4 of themselves or the space holds eight blocks: then errors are from above. `O(s²·l + s³)` for sides `s ≤ l`,
/// and a copy of `W` in `f64`.
///
/// # Errors
/// [`Error::NonFinite`] for NaN or infinity in `w`, [`Error::OutOfMemory`] for the copy.
pub fn svd_curve<T: Elem>(device: &Device, w: MatRef<'_, T>, ranks: &[usize]) -> Result<Vec<f64>> {
    on_device!(
        device,
        cpu => {
            let mut squares: Vec<f64> = crate::mat::zeroed("squared norms", w.rows())?;
            cpu::norms::squared_rows(OP, w, None, &mut squares)?;
            let total: f64 = squares.iter().sum();
            if total == 0.0 {
                return Ok(vec![0.0; ranks.len()]);
            }
            let tails = cpu::interp::svd::tails(w, total, ranks)?;
            Ok(tails.into_iter().map(|x| x.min(1.0).sqrt()).collect())
        },
        _ => Err(device.lacks("singular values"))
    )
}
