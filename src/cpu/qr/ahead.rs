//! Which pivots the Gram tier will take next: a look-ahead that decides what a pass computes, never what it yields.
//!
//! The rows with the largest residuals are factored among themselves, in the Schur complement of the pivots so far.
//! While the leader of that small factorisation exceeds every residual outside it, its choice is the choice of the
//! whole, since residuals only fall. It is followed a little below that, where it is still right more often than not:
//! another pass costs about two unused columns.

use super::dots::{Gathered, TILE_VECTORS, dots};
use super::exact::wide_row;
use super::leader;
use crate::elem::Elem;
use crate::error::Result;
use pulp::Arch;

/// Rows that the look-ahead knows at most, and what part of all rows: their products with each other take the time of
/// half a column.
const MOST_ROWS: usize = 32;
const SHARE: usize = 16;
/// Rows per pivot that is left to be found.
const ROWS_PER_PIVOT: usize = 4;
/// Share of the largest squared residual outside to which the look-ahead is followed.
const FOLLOWED: f64 = 0.85;

/// A factorisation as far as it is known.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) squares: &'a [f64],
    pub(super) taken: &'a [bool],
    /// The rows of `R` so far.
    pub(super) factor: &'a [Vec<f64>],
}

/// The likeliest next pivots in order, the leader first; at least one if a row is left, at most `count`.
pub(super) fn likely<T: Elem>(arch: Arch, rows: Gathered<'_, T>, known: Known<'_>, count: usize) -> Result<Vec<usize>> {
    let most = MOST_ROWS.min(rows.len() / SHARE).max(TILE_VECTORS).min(ROWS_PER_PIVOT * count);
    let mut excluded = known.taken.to_vec();
    let mut chosen = Vec::with_capacity(most);
    while chosen.len() < most {
        let Some(next) = leader(known.squares, &excluded) else { break };
        excluded[next] = true;
        chosen.push(next);
    }
    if count <= 1 || chosen.len() <= 1 {
        chosen.truncate(count);
        return Ok(chosen);
    }
    let outside = leader(known.squares, &excluded).map_or(0.0, |i| known.squares[i]);
    let mut schur = schur_complement(arch, rows, known, &chosen)?;
    let mut squares: Vec<f64> = chosen.iter().map(|&i| known.squares[i]).collect();
    let mut taken = vec![false; chosen.len()];
    let mut order = Vec::with_capacity(count);
    while order.len() < count {
        let Some(p) = leader(&squares, &taken).filter(|&p| squares[p] > 0.0) else { break };
        if !order.is_empty() && squares[p] < FOLLOWED * outside {
            break;
        }
        order.push(chosen[p]);
        taken[p] = true;
        let root = squares[p].sqrt();
        let column: Vec<f64> = schur[p].iter().map(|x| x / root).collect();
        for ((row, square), &x) in schur.iter_mut().zip(&mut squares).zip(&column) {
            row.iter_mut().zip(&column).for_each(|(s, y)| *s -= x * y);
            *square -= x * x;
        }
    }
    if order.is_empty() {
        order.push(chosen[0]);
    }
    Ok(order)
}

/// `C Cᵀ − L Lᵀ` of the chosen rows.
fn schur_complement<T: Elem>(
    arch: Arch,
    rows: Gathered<'_, T>,
    known: Known<'_>,
    chosen: &[usize],
) -> Result<Vec<Vec<f64>>> {
    let numbers: Vec<u32> = chosen.iter().map(|&i| rows.rows[i]).collect();
    let mut schur = vec![vec![0.0; chosen.len()]; chosen.len()];
    for start in (0..chosen.len()).step_by(TILE_VECTORS) {
        let end = (start + TILE_VECTORS).min(chosen.len());
        let vectors: Vec<Vec<f64>> =
            chosen[start..end].iter().map(|&i| wide_row(rows.row(i))).collect::<Result<_>>()?;
        let vectors: Vec<&[f64]> = vectors.iter().map(Vec::as_slice).collect();
        // Symmetric: only with this row and those after it.
        let products = dots(arch, Gathered { w: rows.w, rows: &numbers[start..] }, &vectors)?;
        for (a, column) in (start..end).zip(products) {
            for (b, product) in (start..).zip(column) {
                (schur[a][b], schur[b][a]) = (product, product);
            }
        }
    }
    for l in known.factor {
        let l: Vec<f64> = chosen.iter().map(|&i| l[i]).collect();
        for (row, &x) in schur.iter_mut().zip(&l) {
            row.iter_mut().zip(&l).for_each(|(s, y)| *s -= x * y);
        }
    }
    Ok(schur)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mat::Mat;

    /// Rows of small integers, the first two equal and far longer than the rest.
    fn rows_with_twins() -> Mat<f32> {
        let (rows, cols) = (512, 64);
        let mut state = 1u64;
        let draw = |i: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 60) as f32 - 7.5) * if i < cols { 16.0 } else { 1.0 }
        };
        let mut data: Vec<f32> = (0..rows * cols).map(draw).collect();
        data.copy_within(..cols, cols);
        Mat::from_vec(data, rows, cols).unwrap()
    }

    #[test]
    fn the_look_ahead_finds_the_pivots_and_passes_over_a_twin() {
        let w = rows_with_twins();
        let all: Vec<u32> = (0..w.rows() as u32).collect();
        let wide: Vec<f64> = w.data().iter().map(|&x| f64::from(x)).collect();
        let squares: Vec<f64> = wide.chunks(w.cols()).map(|row| row.iter().map(|x| x * x).sum()).collect();
        let taken = vec![false; w.rows()];
        let known = Known { squares: &squares, taken: &taken, factor: &[] };
        let found = likely(Arch::new(), Gathered { w: w.as_ref(), rows: &all }, known, 8).unwrap();

        // By definition: project, and take the longest row that is left.
        let mut left: Vec<Vec<f64>> = wide.chunks(w.cols()).map(<[f64]>::to_vec).collect();
        let square = |row: &Vec<f64>| row.iter().map(|x| x * x).sum::<f64>();
        let expected: Vec<usize> = (0..found.len())
            .map(|_| {
                let p = (0..left.len()).max_by(|&a, &b| square(&left[a]).total_cmp(&square(&left[b]))).unwrap();
                let (pivot, length) = (left[p].clone(), square(&left[p]));
                for row in &mut left {
                    let product = row.iter().zip(&pivot).map(|(x, y)| x * y).sum::<f64>() / length;
                    row.iter_mut().zip(&pivot).for_each(|(x, y)| *x -= product * y);
                }
                p
            })
            .collect();
        assert!(found.len() >= 4, "{found:?}");
        assert!(found[0] <= 1 && expected[0] <= 1, "{found:?} {expected:?}");
        assert_eq!(found[1..], expected[1..]);
        assert!(!found[1..].contains(&(1 - found[0])), "the twin has no residual: {found:?}");
    }
}
