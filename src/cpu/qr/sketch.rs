//! Sketch tier: pivots of `Y = C Ω` with a seeded Gaussian `Ω [n, r + oversampling]`, one pass over the rows.
//!
//! `Y` is small, so its pivoted QR is the plain one: every step takes the longest row that is left, and removes its
//! direction from all of them. Only the pivots come from the sketch; `R` and the residuals belong to the rows
//! themselves.

use super::dots::Gathered;
use super::exact::wide_row;
use super::{Limits, leader};
use crate::cpu::gemm::{self, Factor};
use crate::elem::Elem;
use crate::error::Result;
use crate::mat::Mat;
use crate::random::{Stream, Use};
use rayon::prelude::*;

/// Rows sketched per product: fixed, so that the bits do not depend on the threads.
const BLOCK: usize = 64;

/// `Y [c, width]`.
fn sketched<T: Elem>(rows: Gathered<'_, T>, width: usize, seed: u64) -> Result<Mat<f64>> {
    let mut stream = Stream::new(seed, Use::Sketch);
    let mut omega = Mat::zeros(rows.cols(), width)?;
    omega.data_mut().iter_mut().for_each(|x| *x = stream.normal());
    let mut y = Mat::zeros(rows.len(), width)?;
    y.as_mut().par_row_blocks(BLOCK).enumerate().try_for_each(|(block, out)| -> Result<()> {
        let mut wide = Mat::zeros(out.rows(), rows.cols())?;
        for i in 0..out.rows() {
            wide.row_mut(i).copy_from_slice(&wide_row(rows.row(block * BLOCK + i))?);
        }
        gemm::gemm(1.0, Factor::Plain(wide.as_ref()), Factor::Plain(omega.as_ref()), false, out);
        Ok(())
    })?;
    Ok(y)
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

/// At most `limits.rank` pivots, fewer where the sketch has nothing but rounding left.
pub(super) fn pivots<T: Elem>(
    rows: Gathered<'_, T>,
    largest: f64,
    limits: Limits,
    oversampling: usize,
    seed: u64,
) -> Result<Vec<usize>> {
    if largest == 0.0 || limits.rank == 0 {
        return Ok(Vec::new());
    }
    // A sketch wider than the rows are long would only repeat them.
    let width = limits.rank.saturating_add(oversampling).min(rows.cols());
    let mut y = sketched(rows, width, seed)?;
    let mut taken = vec![false; rows.len()];
    let mut squares: Vec<f64> = (0..rows.len()).map(|i| dot(y.row(i), y.row(i))).collect();
    let first = squares.iter().fold(0.0f64, |a, &b| a.max(b)).sqrt();
    let rounding = limits.rounding / largest * first;
    let mut pivots = Vec::new();
    while pivots.len() < limits.rank {
        let Some(p) = leader(&squares, &taken) else { break };
        let norm = squares[p].sqrt();
        if norm <= rounding {
            break;
        }
        let q: Vec<f64> = y.row(p).iter().map(|x| x / norm).collect();
        for (i, square) in squares.iter_mut().enumerate() {
            let row = y.row_mut(i);
            let product = dot(&q, row);
            row.iter_mut().zip(&q).for_each(|(y, q)| *y -= product * q);
            *square = dot(row, row);
        }
        taken[p] = true;
        pivots.push(p);
    }
    Ok(pivots)
}
