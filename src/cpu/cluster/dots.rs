//! Dots of a block of rows with all centroids, in `f32`.
//!
//! Strips of columns stay in the first cache while they meet every centroid; register tiles use each loaded vector two or
//! four times. Rows hold whole vectors of every width, as they are or padded with zeros; centroids are padded to
//! [`row_stride`](super::codes::row_stride), no shorter than rows. Each dot sums `lanes` partial sums per strip, then strips, then
//! lanes: at most `(n + 8)·u·Σ|x||c|` off.

use super::codes::BLOCK;
use crate::mat::Mat;
use pulp::{Arch, Simd, WithSimd};

/// Rows of a register tile.
const TILE_ROWS: usize = 4;
/// Centroids of a register tile: 4 × 2 accumulators cover the latency of two FMA units.
const TILE_CENTROIDS: usize = 2;
/// Columns of a strip: `BLOCK` rows and 16 centroids of it take 24 KiB.
const STRIP: usize = 256;
/// Widest vector that a register tile may be asked to run on, in `f32`.
pub(super) const MAX_LANES: usize = 16;

/// `dots[j·BLOCK + r] = ⟨rows_r, centroids_j⟩`; `lanes` holds `k·BLOCK·MAX_LANES` elements.
pub(super) fn dots(arch: Arch, rows: [&[f32]; BLOCK], centroids: &Mat<f32>, lanes: &mut [f32], dots: &mut [f32]) {
    arch.dispatch(Dots { rows, centroids, lanes, dots });
}

struct Dots<'a> {
    rows: [&'a [f32]; BLOCK],
    centroids: &'a Mat<f32>,
    lanes: &'a mut [f32],
    dots: &'a mut [f32],
}

impl WithSimd for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (k, n) = (self.centroids.rows(), self.rows[0].len());
        let sums = &mut S::as_mut_simd_f32s(self.lanes).0[..k * BLOCK];
        sums.fill(simd.splat_f32s(0.0));
        for first in (0..n).step_by(STRIP) {
            let cols = first..n.min(first + STRIP);
            for r in (0..BLOCK).step_by(TILE_ROWS) {
                let rows = std::array::from_fn(|i| &self.rows[r + i][cols.clone()]);
                for j in (0..k).step_by(TILE_CENTROIDS) {
                    let part = |i: usize| &self.centroids.row(j + i)[cols.clone()];
                    let sums = &mut sums[j * BLOCK + r..];
                    if j + TILE_CENTROIDS <= k {
                        tile::<S, TILE_CENTROIDS>(simd, rows, std::array::from_fn(part), sums);
                    } else {
                        tile::<S, 1>(simd, rows, [part(0)], sums);
                    }
                }
            }
        }
        for (dot, &sum) in self.dots.iter_mut().zip(sums.iter()) {
            *dot = simd.reduce_sum_f32s(sum);
        }
    }
}

/// Adds the products of `TILE_ROWS` rows and `C` centroids to `sums[c·BLOCK + r]`, every vector loaded once.
#[inline(always)]
fn tile<S: Simd, const C: usize>(simd: S, rows: [&[f32]; TILE_ROWS], centroids: [&[f32]; C], sums: &mut [S::f32s]) {
    let len = S::as_simd_f32s(rows[0]).0.len();
    let x: [&[S::f32s]; TILE_ROWS] = rows.map(|row| &S::as_simd_f32s(row).0[..len]);
    let c: [&[S::f32s]; C] = centroids.map(|centroid| &S::as_simd_f32s(centroid).0[..len]);
    let mut acc = [[simd.splat_f32s(0.0); TILE_ROWS]; C];
    for i in 0..len {
        for b in 0..C {
            for a in 0..TILE_ROWS {
                acc[b][a] = simd.mul_add_f32s(x[a][i], c[b][i], acc[b][a]);
            }
        }
    }
    for b in 0..C {
        for a in 0..TILE_ROWS {
            sums[b * BLOCK + a] = simd.add_f32s(sums[b * BLOCK + a], acc[b][a]);
        }
    }
}
