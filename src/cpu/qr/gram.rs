//! Gram tier: pivoted Cholesky of `G = C Cᵀ`, whose columns are computed when a pivot needs them.
//!
//! A pass over the rows computes the columns of a few candidates at once: the next pivot and those that a look-ahead
//! (`ahead`) expects after it. One that is not taken keeps its column for later. The candidates do not enter the
//! result: a product has the same bits in every company.
//!
//! Trust. Products of `f32` are exact in `f64`, so an entry of the computed Gram matrix is off by at most
//! `n·u‖c_a‖‖c_b‖`, and the Cholesky recurrence is exact for a matrix off by at most `(j+2)u‖c_a‖‖c_b‖` from that
//! (Higham, Accuracy and Stability, 10.3; u = 2⁻⁵³). A perturbation `E` of `G` changes the squared residual of row
//! `i` after pivots `J` by `vᵀ E v` to first order, with `v = e_i − Σ_a t_ia e_{J_a}` and `t_i` the interpolation
//! coefficients of the row. Hence, to first order,
//!
//! ```text
//! |δd_i| ≤ ε s_i²,   s_i = ‖c_i‖ + Σ_a |t_ia| ‖c_{J_a}‖,   ε = (n + r + 4)·u  (doubled here for the higher orders)
//! ```
//!
//! The coefficients are kept up to date beside the factor, so the bound is known for every row at every step. While
//! the leader's lower bound exceeds every other row's upper bound, the pivot is the one that exact arithmetic would
//! take. At the first step where it does not, or where a tolerance lies within the bound, the exact tier takes over
//! with the pivots found so far. It also takes over, or only computes `R` anew after the last pivot, where the bound
//! is more than 2⁻¹⁰ of a squared residual to be reported: residuals are good to 2⁻¹¹ of themselves.

use super::ahead::{self, Known};
use super::dots::{Gathered, TILE_VECTORS, dots};
use super::exact::{self, Start, wide_row};
use super::{Kept, Limits, leader};
use crate::elem::Elem;
use crate::error::Result;
use pulp::{Arch, Simd, WithSimd};

/// Rows updated together, so that a piece of the fresh column stays in the first-level cache.
const PIECE: usize = 512;

/// Columns of `G` computed in one pass at most.
const MOST_CANDIDATES: usize = 4 * TILE_VECTORS;
/// A squared residual is reported while it exceeds its bound by this factor.
const TRUSTED: f64 = 1024.0;

/// The recurrences of one pivot, over all rows.
struct Update<'a> {
    /// Column of `G`, overwritten by the column of `L`.
    column: &'a mut [f64],
    factor: &'a [Vec<f64>],
    /// Entries of the pivot's row: of `L`, and of the coefficients.
    pivot_factor: &'a [f64],
    pivot_coeffs: &'a [f64],
    root: f64,
    squares: &'a mut [f64],
    coeffs: &'a mut [Vec<f64>],
    /// The pivot's own coefficients.
    fresh: &'a mut [f64],
    norms: &'a [f64],
    /// Norms of the pivots' rows, this one's last.
    pivot_norms: &'a [f64],
    spread: &'a mut [f64],
}

impl WithSimd for Update<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let count = self.column.len();
        for start in (0..count).step_by(PIECE) {
            let piece = start..(start + PIECE).min(count);
            let column = &mut self.column[piece.clone()];
            for (l, &at_pivot) in self.factor.iter().zip(self.pivot_factor) {
                for (x, l) in column.iter_mut().zip(&l[piece.clone()]) {
                    *x -= l * at_pivot;
                }
            }
            let fresh = &mut self.fresh[piece.clone()];
            let spread = &mut self.spread[piece.clone()];
            let norm = self.pivot_norms[self.pivot_norms.len() - 1];
            for (i, x) in column.iter_mut().enumerate() {
                *x /= self.root;
                let square = &mut self.squares[piece.start + i];
                *square = (*square - *x * *x).max(0.0);
                fresh[i] = *x / self.root;
                spread[i] = self.norms[piece.start + i] + fresh[i].abs() * norm;
            }
            for ((t, &at_pivot), &norm) in self.coeffs.iter_mut().zip(self.pivot_coeffs).zip(self.pivot_norms) {
                for ((t, fresh), spread) in t[piece.clone()].iter_mut().zip(&*fresh).zip(spread.iter_mut()) {
                    *t -= fresh * at_pivot;
                    *spread += t.abs() * norm;
                }
            }
        }
    }
}

struct Gram<'a, T> {
    arch: Arch,
    rows: Gathered<'a, T>,
    limits: Limits,
    norms: Vec<f64>,
    squares: Vec<f64>,
    /// Bound of the coefficients' effect, `s_i`.
    spread: Vec<f64>,
    coeffs: Vec<Vec<f64>>,
    pivot_norms: Vec<f64>,
    taken: Vec<bool>,
    /// Columns of `G` computed and not yet used.
    columns: Vec<Option<Vec<f64>>>,
    kept: Kept,
}

/// What a step decides before it takes a pivot.
enum Next {
    Take(usize),
    Stop,
    HandOver,
}

/// Factors `rows`, whose squared norms are `squares`.
pub(super) fn factor<T: Elem>(arch: Arch, rows: Gathered<'_, T>, squares: Vec<f64>, limits: Limits) -> Result<Kept> {
    let norms: Vec<f64> = squares.iter().map(|x| x.sqrt()).collect();
    let mut gram = Gram {
        arch,
        rows,
        limits,
        spread: norms.clone(),
        norms,
        squares: squares.clone(),
        coeffs: Vec::new(),
        pivot_norms: Vec::new(),
        taken: vec![false; rows.len()],
        columns: vec![None; rows.len()],
        kept: Kept::default(),
    };
    let mut handover = None;
    while gram.kept.jpvt.len() < limits.rank && handover.is_none() {
        match gram.next() {
            Next::Take(p) => gram.take(p)?,
            Next::Stop => break,
            Next::HandOver => handover = Some(gram.kept.jpvt.len()),
        }
    }
    let last = leader(&gram.squares, &gram.taken).filter(|_| gram.norms.iter().any(|&x| x > 0.0));
    let trusted = last.is_none_or(|p| gram.squares[p] > TRUSTED * gram.margin(p));
    if trusted && handover.is_none() {
        let remaining = last.map_or(0.0, |p| gram.squares[p].sqrt());
        return Ok(Kept { remaining, ..gram.kept });
    }
    let start = Start { pivots: &gram.kept.jpvt, greedy: handover.is_some() };
    let kept = exact::factor(arch, rows, squares, limits, start)?;
    Ok(Kept { handover, ..kept })
}

impl<T: Elem> Gram<'_, T> {
    /// Bound of the error of row `i`'s squared residual.
    fn margin(&self, i: usize) -> f64 {
        let terms = (self.rows.cols() + self.limits.rank + 4) as f64;
        terms * f64::EPSILON * self.spread[i] * self.spread[i]
    }

    fn next(&self) -> Next {
        let Some(p) = leader(&self.squares, &self.taken) else { return Next::Stop };
        if self.norms.iter().all(|&x| x == 0.0) {
            return Next::Stop; // exact: a sum of squares
        }
        let (square, margin) = (self.squares[p], self.margin(p));
        let stop = self.limits.tolerance * self.limits.tolerance;
        let ahead = |i: usize| self.taken[i] || i == p || square - margin > self.squares[i] + self.margin(i);
        if square <= TRUSTED * margin || (square - stop).abs() <= margin || !(0..self.rows.len()).all(ahead) {
            return Next::HandOver;
        }
        if square <= stop { Next::Stop } else { Next::Take(p) }
    }

    /// The column of `G` for pivot `p`, with those of the likeliest next ones where it has to be computed.
    fn column(&mut self, p: usize) -> Result<Vec<f64>> {
        if let Some(column) = self.columns[p].take() {
            return Ok(column);
        }
        let left = self.limits.rank - self.kept.jpvt.len();
        let known = Known { squares: &self.squares, taken: &self.taken, factor: &self.kept.r };
        let mut candidates = ahead::likely(self.arch, self.rows, known, left)?;
        candidates.retain(|&i| self.columns[i].is_none());
        candidates.truncate(MOST_CANDIDATES);
        let vectors: Vec<Vec<f64>> = candidates.iter().map(|&i| wide_row(self.rows.row(i))).collect::<Result<_>>()?;
        let vectors: Vec<&[f64]> = vectors.iter().map(Vec::as_slice).collect();
        for (&i, column) in candidates.iter().zip(dots(self.arch, self.rows, &vectors)?) {
            self.columns[i] = Some(column);
        }
        Ok(self.columns[p].take().unwrap_or_default())
    }

    fn take(&mut self, p: usize) -> Result<()> {
        let mut column = self.column(p)?;
        let root = self.squares[p].sqrt();
        let mut fresh = crate::mat::zeroed("coefficients", self.rows.len())?;
        self.pivot_norms.push(self.norms[p]);
        let pivot_factor: Vec<f64> = self.kept.r.iter().map(|l| l[p]).collect();
        let pivot_coeffs: Vec<f64> = self.coeffs.iter().map(|t| t[p]).collect();
        self.arch.dispatch(Update {
            column: &mut column,
            factor: &self.kept.r,
            pivot_factor: &pivot_factor,
            pivot_coeffs: &pivot_coeffs,
            root,
            squares: &mut self.squares,
            coeffs: &mut self.coeffs,
            fresh: &mut fresh,
            norms: &self.norms,
            pivot_norms: &self.pivot_norms,
            spread: &mut self.spread,
        });
        for (x, &taken) in column.iter_mut().zip(&self.taken) {
            if taken {
                *x = 0.0; // below the diagonal
            }
        }
        column[p] = root;
        self.coeffs.push(fresh);
        self.taken[p] = true;
        self.kept.push(p, root, column);
        Ok(())
    }
}
