//! Sums of squares of rows and columns in `f64`.
//!
//! The square of an `f32` is exact in `f64` and lies between 1e-90 and 1e77, so nothing vanishes or overflows and only
//! the additions round: a sum of `n` squares is off by at most `n·2⁻⁵³` of itself, in any order.

use crate::elem::Elem;
use crate::error::{Error, Result};
use crate::mat::{self, MatRef};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Rows per parallel task. Every row is summed on its own, so this does not enter the result.
const ROWS: usize = 32;
/// Rows per partial sum of the column norms: fixed, because it decides the order of summation.
const COLUMN_ROWS: usize = 128;
/// Elements widened at once.
const TILE: usize = 512;
/// Independent sums per row, so that the additions overlap.
const SUMS: usize = 16;

/// The element at the first place where `row` is not finite.
pub(crate) fn first_non_finite<T: Elem>(row: &[T]) -> Option<(usize, f32)> {
    row.iter().map(|x| x.to_f32()).enumerate().find(|(_, x)| !x.is_finite())
}

/// Refuses a row that holds NaN or infinity.
pub(crate) fn check_finite<T: Elem>(op: &'static str, operand: &str, index: usize, row: &[T]) -> Result<()> {
    match first_non_finite(row) {
        None => Ok(()),
        Some((col, value)) => Err(Error::NonFinite { op, operand: operand.to_owned(), row: index, col, value }),
    }
}

/// Calls `body` with consecutive pieces of `row` as `f32`, and the column at which each starts.
#[inline(always)]
pub(crate) fn for_each_tile<T: Elem>(row: &[T], mut body: impl FnMut(usize, &[f32])) {
    if let Some(row) = T::as_f32(row) {
        return body(0, row);
    }
    let mut wide = [0.0f32; TILE];
    for (tile, piece) in row.chunks(TILE).enumerate() {
        let wide = &mut wide[..piece.len()];
        T::widen(piece, wide);
        body(tile * TILE, wide);
    }
}

struct RowSums<'a, 'w, T> {
    w: MatRef<'w, T>,
    /// Row numbers of `w`, or all of them from `first`.
    rows: Option<&'a [u32]>,
    first: usize,
    out: &'a mut [f64],
}

impl<T: Elem> WithSimd for RowSums<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (i, out) in self.out.iter_mut().enumerate() {
            let i = self.first + i;
            let row = self.w.row(self.rows.map_or(i, |rows| rows[i] as usize));
            let (mut sums, mut rest) = ([0.0f64; SUMS], 0.0);
            for_each_tile(row, |_, tile| {
                let (chunks, tail) = tile.as_chunks::<SUMS>();
                for chunk in chunks {
                    for (sum, &x) in sums.iter_mut().zip(chunk) {
                        *sum += f64::from(x) * f64::from(x);
                    }
                }
                for &x in tail {
                    rest += f64::from(x) * f64::from(x);
                }
            });
            *out = sums.iter().sum::<f64>() + rest;
        }
    }
}

/// `out[i] = Σ_j w[rows[i], j]²`, or of row `i` itself without a list. The same row gives the same bits wherever it
/// stands.
///
/// # Errors
/// [`Error::NonFinite`] in the name of `op`, for the first row that holds NaN or infinity.
pub(crate) fn squared_rows<T: Elem>(
    op: &'static str,
    w: MatRef<'_, T>,
    rows: Option<&[u32]>,
    out: &mut [f64],
) -> Result<()> {
    let arch = Arch::new();
    out.par_chunks_mut(ROWS)
        .enumerate()
        .for_each(|(block, out)| arch.dispatch(RowSums { w, rows, first: block * ROWS, out }));
    match out.iter().position(|sum| !sum.is_finite()) {
        None => Ok(()),
        Some(i) => {
            let row = rows.map_or(i, |rows| rows[i] as usize);
            check_finite(op, "w", row, w.row(row))
        }
    }
}

struct ColumnSums<'a, 'w, T> {
    w: MatRef<'w, T>,
    out: &'a mut [f64],
}

impl<T: Elem> WithSimd for ColumnSums<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for row in self.w.iter_rows() {
            for_each_tile(row, |start, tile| {
                for (sum, &x) in self.out[start..].iter_mut().zip(tile) {
                    *sum += f64::from(x) * f64::from(x);
                }
            });
        }
    }
}

/// `out[j] = Σ_i w[i, j]²`: one partial sum per 128 rows, added in the order of the rows.
///
/// # Errors
/// As [`squared_rows`]; [`Error::OutOfMemory`] for the partial sums.
pub(crate) fn squared_cols<T: Elem>(op: &'static str, w: MatRef<'_, T>, out: &mut [f64]) -> Result<()> {
    out.fill(0.0);
    let cols = w.cols();
    if w.rows() == 0 || cols == 0 {
        return Ok(());
    }
    let mut partial: Vec<f64> = mat::zeroed("partial sums", w.rows().div_ceil(COLUMN_ROWS) * cols)?;
    let arch = Arch::new();
    partial.par_chunks_mut(cols).enumerate().for_each(|(block, out)| {
        let first = block * COLUMN_ROWS;
        arch.dispatch(ColumnSums { w: w.row_range(first..(first + COLUMN_ROWS).min(w.rows())), out });
    });
    for sums in partial.chunks(cols) {
        for (out, sum) in out.iter_mut().zip(sums) {
            *out += sum;
        }
    }
    if out.iter().any(|sum| !sum.is_finite()) {
        for (i, row) in w.iter_rows().enumerate() {
            check_finite(op, "w", i, row)?;
        }
    }
    Ok(())
}
