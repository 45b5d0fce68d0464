//! The points of a clustering as the kernels read them: rows of `W` times one factor each.

use super::dots::MAX_LANES;
use super::measure::Measure;
use super::vectorized;
use crate::cluster::Space;
use crate::elem::Elem;
use crate::error::Result;
use crate::mat::{Mat, MatRef, zeroed};
use pulp::Arch;
use rayon::prelude::*;

/// Points per task of a pass that only measures.
const TASK: usize = 64;
/// Factors between these bounds are multiplied into dots and sums; of others the power of two goes into a copy of
/// the row first, exactly, because a dot of the raw row could leave the range of `f32`.
const MODERATE: std::ops::RangeInclusive<f64> = 1.0 / (1u64 << 40) as f64..=(1u64 << 40) as f64;

/// Points `x_p = factor_p · w_p`, at most of order one: a power of two for all in [`Space::Full`] (so that squares neither
/// vanish nor overflow, and scaling `W` by a power of two changes no bit), the inverse norms in [`Space::Direction`].
pub(super) struct Points<'a, T> {
    pub(super) w: MatRef<'a, T>,
    factors: Vec<f64>,
    /// Rows must be multiplied by the power of two in their factor before they enter a dot.
    prescaled: bool,
    /// `‖x_p‖²`.
    pub(super) squares: Vec<f64>,
}

impl<'a, T: Elem> Points<'a, T> {
    /// Takes the rows of `w`, measured before, as points of `space`; `exponent` is the power of two for [`Space::Full`].
    pub(super) fn new(w: MatRef<'a, T>, measure: &Measure, space: Space, exponent: i32) -> Result<Self> {
        let mut factors: Vec<f64> = zeroed("scale factors", w.rows())?;
        match space {
            Space::Direction => {
                for (factor, square) in factors.iter_mut().zip(&measure.squares) {
                    *factor = 1.0 / square.sqrt();
                }
            }
            Space::Full | Space::Norm => factors.fill(2f64.powi(exponent)),
        }
        let prescaled = factors.iter().any(|factor| !MODERATE.contains(factor));
        let squares = measure.squares.iter().zip(&factors).map(|(s, f)| s * f * f).collect();
        Ok(Self { w, factors, prescaled, squares })
    }

    /// Number of points.
    pub(super) fn count(&self) -> usize {
        self.w.rows()
    }

    /// Coordinates of a point.
    pub(super) fn dim(&self) -> usize {
        self.w.cols()
    }

    /// Columns from `first` on of point `p` up to [`Self::factor`], as many as `buffer` holds: there, or borrowed from `W`.
    #[inline(always)]
    pub(super) fn load<'b>(&'b self, p: usize, first: usize, buffer: &'b mut [f32]) -> &'b [f32] {
        let part = &self.w.row(p)[first..first + buffer.len()];
        match T::as_f32(part) {
            Some(part) if !self.prescaled => return part,
            _ => self.widen(p, part, buffer),
        }
        buffer
    }

    /// All of point `p` up to [`Self::factor`], copied.
    #[inline]
    pub(super) fn copy(&self, p: usize, to: &mut [f32]) {
        self.widen(p, self.w.row(p), to);
    }

    /// Point `p` up to [`Self::factor`] where `W` holds it in `f32` just so, in whole vectors of every width.
    #[inline]
    pub(super) fn borrow(&self, p: usize) -> Option<&[f32]> {
        let whole = !self.prescaled && self.dim().is_multiple_of(MAX_LANES);
        if whole { T::as_f32(self.w.row(p)) } else { None }
    }

    #[inline(always)]
    fn widen(&self, p: usize, part: &[T], to: &mut [f32]) {
        T::widen(part, to);
        if self.prescaled {
            let factor = power_of_two(self.factors[p]);
            to.iter_mut().for_each(|x| *x = (f64::from(*x) * factor) as f32);
        }
    }

    /// What the codes of row `p` of `W` have to be multiplied by.
    pub(super) fn factor_of_codes(&self, p: usize) -> f64 {
        self.factors[p]
    }

    /// What a loaded row still has to be multiplied by.
    #[inline]
    pub(super) fn factor(&self, p: usize) -> f64 {
        if self.prescaled { self.factors[p] / power_of_two(self.factors[p]) } else { self.factors[p] }
    }

    /// The coordinates of point `p`, as centroids start from them.
    pub(super) fn point(&self, p: usize) -> Result<Vec<f32>> {
        let mut buffer: Vec<f32> = zeroed("a widened row", self.dim())?;
        let mut point = zeroed("a point", self.dim())?;
        let factor = self.factor(p) as f32;
        point.iter_mut().zip(self.load(p, 0, &mut buffer)).for_each(|(x, w)| *x = w * factor);
        Ok(point)
    }

    /// `‖x_p − centre(p)‖²` for every point, by differences: 0 exactly where they agree. One pass over `W`.
    pub(super) fn squared_distances<'c>(
        &self,
        arch: Arch,
        out: &mut [f64],
        centre: impl Fn(usize) -> &'c [f32] + Sync,
    ) -> Result<()> {
        out.par_chunks_mut(TASK).enumerate().try_for_each(|(task, out)| {
            let mut buffer = zeroed("a widened row", self.dim())?;
            for (i, distance) in out.iter_mut().enumerate() {
                let p = task * TASK + i;
                let (x, factor) = (self.load(p, 0, &mut buffer), self.factor(p) as f32);
                let c = centre(p);
                *distance = vectorized(
                    arch,
                    #[inline(always)]
                    || squared_distance(x, factor, c),
                );
            }
            Ok(())
        })
    }
}

/// The largest power of two up to `x`, positive and normal.
fn power_of_two(x: f64) -> f64 {
    f64::from_bits(x.to_bits() & f64::INFINITY.to_bits())
}

/// `Σ (factor·x − c)²`: differences and squares in `f32`, strips of them summed in `f64`.
#[inline(always)]
fn squared_distance(x: &[f32], factor: f32, c: &[f32]) -> f64 {
    let mut total = 0.0;
    for (x, c) in x.chunks(256).zip(c.chunks(256)) {
        let ((x, x_tail), (c, c_tail)) = (x.as_chunks::<16>(), c.as_chunks::<16>());
        let mut sums = [0.0f32; 16];
        for (x, c) in x.iter().zip(c) {
            for lane in 0..16 {
                let d = x[lane] * factor - c[lane];
                sums[lane] += d * d;
            }
        }
        for (lane, (x, c)) in x_tail.iter().zip(c_tail).enumerate() {
            let d = x * factor - c;
            sums[lane] += d * d;
        }
        total += sums.iter().map(|&s| f64::from(s)).sum::<f64>();
    }
    total
}

/// `wᵀ`, contiguous: columns become rows, tile by tile.
pub(crate) fn transposed<T: Elem>(w: MatRef<'_, T>) -> Result<Mat<T>> {
    const TILE: usize = 32;
    let (rows, cols) = w.shape();
    let mut out = Vec::new();
    let len = rows.saturating_mul(cols);
    out.try_reserve_exact(len).map_err(|_| crate::Error::OutOfMemory {
        op: "cluster",
        what: "the transpose of `w`",
        bytes: len.saturating_mul(size_of::<T>()),
    })?;
    out.resize(len, <T as bytemuck::Zeroable>::zeroed());
    out.par_chunks_mut(TILE * rows).enumerate().for_each(|(block, out)| {
        let first = block * TILE;
        for start in (0..rows).step_by(TILE) {
            for i in start..rows.min(start + TILE) {
                let row = &w.row(i)[first..];
                for (j, column) in out.chunks_exact_mut(rows).enumerate() {
                    column[i] = row[j];
                }
            }
        }
    });
    Mat::from_vec(out, cols, rows)
}
