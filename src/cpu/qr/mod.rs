//! Truncated pivoted QR of groups of rows: the tiers, and what they share.

mod ahead;
pub(crate) mod basis;
pub(crate) mod dots;
mod exact;
mod gram;
mod sketch;

use crate::cpu::norms;
use crate::elem::Elem;
use crate::error::Result;
use crate::mat::{self, Mat, MatRef};
use crate::qr::{Desc, Factor, Groups, Info, OP, Stop, Tier};
use dots::Gathered;
pub(crate) use exact::wide_row;
use pulp::Arch;
use rayon::prelude::*;

/// When to stop, in the units of one group.
#[derive(Clone, Copy)]
struct Limits {
    /// Pivots at most.
    rank: usize,
    /// Stop when the largest remaining norm is at most this.
    tolerance: f64,
    /// Size below which a residual norm is rounding.
    rounding: f64,
}

/// A factorisation as it grows.
#[derive(Default)]
struct Kept {
    jpvt: Vec<usize>,
    r: Vec<Vec<f64>>,
    residuals: Vec<f64>,
    remaining: f64,
    handover: Option<usize>,
}

impl Kept {
    fn push(&mut self, p: usize, norm: f64, r: Vec<f64>) {
        self.jpvt.push(p);
        self.residuals.push(norm);
        self.r.push(r);
    }

    fn into_factor(self, size: usize) -> Result<Factor> {
        let mut r = Mat::zeros(self.r.len(), size)?;
        for (j, row) in self.r.iter().enumerate() {
            r.row_mut(j).copy_from_slice(row);
        }
        Ok(Factor {
            jpvt: self.jpvt.into_iter().map(|p| p as u32).collect(),
            r,
            info: Info { residuals: self.residuals, remaining: self.remaining, handover: self.handover },
        })
    }
}

/// The row with the largest value that is not taken; ties to the lowest index.
fn leader(squares: &[f64], taken: &[bool]) -> Option<usize> {
    let mut best: Option<usize> = None;
    for (i, (&square, &taken)) in squares.iter().zip(taken).enumerate() {
        if !taken && best.is_none_or(|b| square > squares[b]) {
            best = Some(i);
        }
    }
    best
}

/// Factors every group of rows of `w`; the groups are independent and run in parallel.
pub(crate) fn factor<T: Elem>(desc: &Desc, w: MatRef<'_, T>, groups: &Groups, stop: &Stop) -> Result<Vec<Factor>> {
    let arch = Arch::new();
    let factors: Vec<Result<Factor>> = (0..groups.len())
        .into_par_iter()
        .map(|g| factor_group(arch, desc, Gathered { w, rows: groups.group(g) }, stop))
        .collect();
    factors.into_iter().collect() // the first error by group, whichever came first in time
}

fn factor_group<T: Elem>(arch: Arch, desc: &Desc, rows: Gathered<'_, T>, stop: &Stop) -> Result<Factor> {
    let mut squares: Vec<f64> = mat::zeroed("squared norms", rows.len())?;
    norms::squared_rows(OP, rows.w, Some(rows.rows), &mut squares)?;
    let largest = squares.iter().fold(0.0f64, |a, &b| a.max(b)).sqrt();
    let rank = desc.rank.min(rows.len()).min(rows.cols());
    let rounding = basis::rounding(rows.cols(), rank) * largest;
    let tolerance = stop.absolute.max(stop.relative * largest).max(rounding);
    let limits = Limits { rank, tolerance, rounding };
    let kept = match desc.tier {
        Tier::Gram => gram::factor(arch, rows, squares, limits)?,
        Tier::Exact => exact::factor(arch, rows, squares, limits, exact::Start { pivots: &[], greedy: true })?,
        Tier::Sketch { oversampling } => {
            let pivots = sketch::pivots(rows, largest, limits, oversampling, desc.seed)?;
            exact::factor(arch, rows, squares, limits, exact::Start { pivots: &pivots, greedy: false })?
        }
    };
    kept.into_factor(rows.len())
}
