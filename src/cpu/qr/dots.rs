//! Products of gathered rows with a few `f64` vectors: the one kernel that reads the weight, whatever the tier.
//!
//! `out[j][i] = ⟨c_i, v_j⟩`. Rows are widened to `f64` in registers; a register tile of three rows and up to four
//! vectors makes that free, since conversions and fused multiply-adds use different ports. Every product has one
//! accumulator per lane that runs over the columns in order, so its bits depend neither on the other rows and vectors
//! of the call nor on the number of threads. Its error is at most `n·2⁻⁵³·‖c_i‖·‖v_j‖` (n additions in any order, by
//! Cauchy and Schwarz).

use crate::elem::Elem;
use crate::error::Result;
use crate::mat::{self, MatRef};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Rows and vectors of the register tile: 12 accumulators of 16 registers.
const TILE_ROWS: usize = 3;
pub(super) const TILE_VECTORS: usize = 4;
/// Rows that share a tile of the vectors while it lies in the first-level cache.
const STRIP: usize = 12;
const GROUPS: usize = STRIP / TILE_ROWS;
/// Columns of that tile: a multiple of every lane count.
const TILE_COLS: usize = 512;
/// Rows per parallel task.
const BLOCK: usize = 4 * STRIP;
/// Most lanes of an `f64` vector on any machine.
const MAX_LANES: usize = 8;

/// Rows of a matrix picked by number, where they lie.
#[derive(Clone, Copy)]
pub(crate) struct Gathered<'a, T> {
    pub(crate) w: MatRef<'a, T>,
    pub(crate) rows: &'a [u32],
}

impl<'a, T> Gathered<'a, T> {
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn cols(&self) -> usize {
        self.w.cols()
    }

    #[inline(always)]
    pub(crate) fn row(&self, i: usize) -> &'a [T] {
        self.w.row(self.rows[i] as usize)
    }
}

#[inline(always)]
fn widen<S: Simd>(src: &[f32]) -> S::f64s {
    let mut wide = [0.0f64; MAX_LANES];
    for (to, &from) in wide[..S::F64_LANES].iter_mut().zip(src) {
        *to = f64::from(from);
    }
    S::as_simd_f64s(&wide[..S::F64_LANES]).0[0]
}

/// Adds the products of one register tile over one tile of columns.
#[inline(always)]
fn tile<S: Simd, const Q: usize>(
    simd: S,
    rows: [&[f32]; TILE_ROWS],
    vectors: [&[S::f64s]; Q],
    sums: &mut [[S::f64s; Q]; TILE_ROWS],
) {
    let steps = vectors[0].len();
    let vectors = vectors.map(|v| &v[..steps]);
    let rows = rows.map(|row| &row[..steps * S::F64_LANES]);
    let mut acc = *sums; // a copy, so that it lives in registers
    for k in 0..steps {
        let x = rows.map(|row| widen::<S>(&row[k * S::F64_LANES..][..S::F64_LANES]));
        for j in 0..Q {
            for i in 0..TILE_ROWS {
                acc[i][j] = simd.mul_add_e_f64s(x[i], vectors[j][k], acc[i][j]);
            }
        }
    }
    *sums = acc;
}

/// Products of up to `STRIP` rows with `Q` vectors into `out[i·stride + j]`.
#[inline(always)]
fn strip<S: Simd, T: Elem, const Q: usize>(
    simd: S,
    rows: &[&[T]],
    vectors: [&[f64]; Q],
    wide: &mut [f32],
    out: &mut [f64],
    stride: usize,
) {
    let n = rows[0].len();
    let whole = n - n % S::F64_LANES;
    // A last incomplete group repeats its last row and drops the product.
    let at = |group: usize, i: usize| (group * TILE_ROWS + i).min(rows.len() - 1);
    let groups = rows.len().div_ceil(TILE_ROWS);
    let mut sums = [[[simd.splat_f64s(0.0); Q]; TILE_ROWS]; GROUPS];
    for start in (0..whole).step_by(TILE_COLS) {
        let end = (start + TILE_COLS).min(whole);
        let v = vectors.map(|v| S::as_simd_f64s(&v[start..end]).0);
        for (group, sums) in sums.iter_mut().enumerate().take(groups) {
            let picked: [&[T]; TILE_ROWS] = std::array::from_fn(|i| &rows[at(group, i)][start..end]);
            let wide = wide.as_chunks_mut::<TILE_COLS>().0;
            for (piece, wide) in picked.iter().zip(wide.iter_mut()) {
                if T::as_f32(piece).is_none() {
                    T::widen(piece, &mut wide[..end - start]);
                }
            }
            let pieces = std::array::from_fn(|i| T::as_f32(picked[i]).unwrap_or(&wide[i][..end - start]));
            tile::<S, Q>(simd, pieces, v, sums);
        }
    }
    for (i, row) in rows.iter().enumerate() {
        for (j, v) in vectors.iter().enumerate() {
            let mut sum = simd.reduce_sum_f64s(sums[i / TILE_ROWS][i % TILE_ROWS][j]);
            for (x, v) in row[whole..].iter().zip(&v[whole..]) {
                sum += f64::from(x.to_f32()) * v;
            }
            out[i * stride + j] = sum;
        }
    }
}

struct BlockDots<'a, 'w, T> {
    rows: Gathered<'w, T>,
    first: usize,
    vectors: &'a [&'a [f64]],
    out: &'a mut [f64],
}

impl<T: Elem> WithSimd for BlockDots<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let stride = self.vectors.len();
        let mut wide = [0.0f32; TILE_ROWS * TILE_COLS];
        for (index, out) in self.out.chunks_mut(STRIP * stride).enumerate() {
            let first = self.first + index * STRIP;
            let mut rows: [&[T]; STRIP] = [&[]; STRIP];
            let rows = &mut rows[..out.len() / stride];
            for (i, row) in rows.iter_mut().enumerate() {
                *row = self.rows.row(first + i);
            }
            for (quad, vectors) in self.vectors.chunks(TILE_VECTORS).enumerate() {
                let out = &mut out[quad * TILE_VECTORS..];
                match *vectors {
                    [a, b, c, d] => strip(simd, rows, [a, b, c, d], &mut wide, out, stride),
                    [a, b, c] => strip(simd, rows, [a, b, c], &mut wide, out, stride),
                    [a, b] => strip(simd, rows, [a, b], &mut wide, out, stride),
                    [a] => strip(simd, rows, [a], &mut wide, out, stride),
                    _ => unreachable!("chunks of 1 to {TILE_VECTORS}"),
                }
            }
        }
    }
}

/// `⟨c_i, v_j⟩` for every row `i` and vector `j`: one list of `c` products per vector.
pub(super) fn dots<T: Elem>(arch: Arch, rows: Gathered<'_, T>, vectors: &[&[f64]]) -> Result<Vec<Vec<f64>>> {
    let stride = vectors.len();
    let mut by_row: Vec<f64> = mat::zeroed("products of rows", rows.len() * stride)?;
    by_row
        .par_chunks_mut((BLOCK * stride).max(1))
        .enumerate()
        .for_each(|(block, out)| arch.dispatch(BlockDots { rows, first: block * BLOCK, vectors, out }));
    Ok((0..stride).map(|j| by_row.iter().skip(j).step_by(stride).copied().collect()).collect())
}
