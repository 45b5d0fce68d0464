//! Exact tier: left-looking Gram–Schmidt, one pass over the rows per pivot, in `f64` throughout.
//!
//! With `Q` orthonormal, `R[j, i] = ⟨q_j, c_i⟩` comes from the rows themselves, and `‖c_i‖² − Σ_{a≤j} R[a,i]²` is the
//! squared residual of row `i`. The difference cancels, so a residual that has fallen to a tenth of the norm it was
//! last computed for is computed anew by projection. This is LAPACK's safeguard (`tol3z` in `xLAQP2`) with 10⁻² in
//! place of √ε: the downdated norm `ν` then carries at most `u·ν₀²/(2ν) ≤ 5u·ν₀` per step instead of 5·10³·u·ν₀,
//! which matters to who wins a near tie and costs little.

use super::basis::Basis;
use super::dots::{Gathered, dots};
use super::{Kept, Limits};
use crate::cpu::norms::for_each_tile;
use crate::elem::Elem;
use crate::error::Result;
use crate::mat;
use pulp::Arch;
use rayon::prelude::*;

/// Share of its reference to which a squared residual may fall by downdating.
const DOWNDATE: f64 = 1e-2;

/// Pivots that are given, and whether to go on greedily after them.
#[derive(Clone, Copy)]
pub(super) struct Start<'a> {
    pub(super) pivots: &'a [usize],
    pub(super) greedy: bool,
}

struct Exact<'a, T> {
    arch: Arch,
    rows: Gathered<'a, T>,
    limits: Limits,
    basis: Basis,
    /// Squared residual of every row, and what it was when last computed without cancellation.
    squares: Vec<f64>,
    reference: Vec<f64>,
    taken: Vec<bool>,
    kept: Kept,
}

/// Row `i` in `f64`.
pub(crate) fn wide_row<T: Elem>(row: &[T]) -> Result<Vec<f64>> {
    let mut wide: Vec<f64> = mat::zeroed("a row", row.len())?;
    for_each_tile(row, |start, tile| {
        for (to, &from) in wide[start..].iter_mut().zip(tile) {
            *to = f64::from(from);
        }
    });
    Ok(wide)
}

/// Factors `rows`, whose squared norms are `squares`.
pub(super) fn factor<T: Elem>(
    arch: Arch,
    rows: Gathered<'_, T>,
    squares: Vec<f64>,
    limits: Limits,
    start: Start<'_>,
) -> Result<Kept> {
    let mut exact = Exact {
        arch,
        rows,
        limits,
        basis: Basis::new(arch, limits.rank, rows.cols())?,
        reference: squares.clone(),
        squares,
        taken: vec![false; rows.len()],
        kept: Kept::default(),
    };
    if exact.given(start.pivots)? && start.greedy {
        exact.greedy()?;
    }
    exact.kept.remaining =
        super::leader(&exact.squares, &exact.taken).map_or(0.0, |p| exact.squares[p].max(0.0).sqrt());
    Ok(exact.kept)
}

impl<T: Elem> Exact<'_, T> {
    /// Takes the given pivots; false if the tolerances stopped it before the last.
    fn given(&mut self, pivots: &[usize]) -> Result<bool> {
        let mut norms = Vec::new();
        for &p in pivots {
            let mut row = wide_row(self.rows.row(p))?;
            let norm = self.basis.project(self.basis.len(), &mut row);
            if norm <= self.limits.rounding {
                break; // dependent on those before it
            }
            self.basis.push(&row, norm);
            norms.push(norm);
        }
        let vectors: Vec<&[f64]> = (0..norms.len()).map(|j| self.basis.vector(j)).collect();
        let products = dots(self.arch, self.rows, &vectors)?;
        for ((&p, &norm), r) in pivots.iter().zip(&norms).zip(products) {
            if self.stops() {
                return Ok(false);
            }
            self.take(p, norm, r)?;
        }
        Ok(norms.len() == pivots.len())
    }

    fn greedy(&mut self) -> Result<()> {
        while self.kept.jpvt.len() < self.limits.rank && !self.stops() {
            let Some(p) = super::leader(&self.squares, &self.taken) else { break };
            let mut row = wide_row(self.rows.row(p))?;
            let norm = self.basis.project(self.basis.len(), &mut row);
            if norm <= self.limits.tolerance {
                // The downdated norm was rounding; another row may lead. (Below the tolerance even after squaring.)
                let square = norm.min(self.limits.tolerance * (1.0 - 4.0 * f64::EPSILON)).powi(2);
                (self.squares[p], self.reference[p]) = (square, square);
                continue;
            }
            self.basis.push(&row, norm);
            let r = dots(self.arch, self.rows, &[self.basis.vector(self.basis.len() - 1)])?;
            self.take(p, norm, r.into_iter().next().unwrap_or_default())?;
        }
        Ok(())
    }

    fn stops(&self) -> bool {
        super::leader(&self.squares, &self.taken)
            .is_none_or(|p| self.squares[p].max(0.0).sqrt() <= self.limits.tolerance)
    }

    /// Appends pivot `p` with its row of `R` and downdates the residuals.
    fn take(&mut self, p: usize, norm: f64, mut r: Vec<f64>) -> Result<()> {
        for (r, &taken) in r.iter_mut().zip(&self.taken) {
            if taken {
                *r = 0.0; // below the diagonal
            }
        }
        r[p] = norm;
        self.taken[p] = true;
        let mut cancelled = Vec::new(); // rows, with what their squared residuals were
        for (i, &r) in r.iter().enumerate() {
            if self.taken[i] {
                continue;
            }
            let before = self.squares[i];
            self.squares[i] -= r * r;
            // What was rounding already stays it.
            if self.squares[i] <= DOWNDATE * self.reference[i] && self.reference[i].sqrt() > self.limits.rounding {
                cancelled.push((i, before));
            }
        }
        self.kept.push(p, norm, r);
        let count = self.kept.jpvt.len();
        let (basis, rows) = (&self.basis, self.rows);
        let anew: Vec<Result<f64>> =
            cancelled.par_iter().map(|&(i, _)| Ok(basis.project(count, &mut wide_row(rows.row(i))?).powi(2))).collect();
        for ((i, before), square) in cancelled.into_iter().zip(anew) {
            let square = square?.min(before); // a residual does not rise, only its rounding can
            (self.squares[i], self.reference[i]) = (square, square);
        }
        Ok(())
    }
}
