//! An orthonormal basis grown one vector at a time by modified Gram–Schmidt, run twice.
//!
//! Twice is enough (Giraud, Langou, Rozložník, van den Eshof 2005): the basis is orthonormal to a small multiple of
//! `n·2⁻⁵³` unless a vector is dependent to rounding, and such a vector is never pushed. The norm of what the
//! projection leaves of a vector `v` is off by at most [`rounding`]`·‖v‖`: each of the `j` subtractions rounds by
//! `2⁻⁵³` of what it subtracts, and the second run removes what the error of the first run's products, `n·2⁻⁵³`, left
//! inside the span.

use crate::error::Result;
use crate::mat::{self, MatRef};
use pulp::{Arch, Simd, WithSimd};

/// Relative size below which nothing but rounding remains after projecting onto `rank` vectors of length `cols`.
pub(crate) fn rounding(cols: usize, rank: usize) -> f64 {
    4.0 * (cols + rank) as f64 * (f64::EPSILON / 2.0)
}

pub(crate) struct Basis {
    arch: Arch,
    vectors: Vec<f64>,
    cols: usize,
}

struct Project<'a> {
    vectors: &'a [f64],
    row: &'a mut [f64],
}

impl WithSimd for Project<'_> {
    type Output = f64;

    /// Leaves in `row` its part outside the span; returns the norm of that part.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        for _ in 0..2 {
            for vector in self.vectors.chunks_exact(self.row.len().max(1)) {
                let product = dot(simd, vector, self.row);
                subtract(simd, product, vector, self.row);
            }
        }
        dot(simd, self.row, self.row).sqrt()
    }
}

#[inline(always)]
fn dot<S: Simd>(simd: S, x: &[f64], y: &[f64]) -> f64 {
    const SUMS: usize = 4;
    let (x, x_tail) = S::as_simd_f64s(x);
    let (y, y_tail) = S::as_simd_f64s(y);
    let (x_chunks, x_rest) = x.as_chunks::<SUMS>();
    let (y_chunks, y_rest) = y.as_chunks::<SUMS>();
    let mut sums = [simd.splat_f64s(0.0); SUMS];
    for (x, y) in x_chunks.iter().zip(y_chunks) {
        for l in 0..SUMS {
            sums[l] = simd.mul_add_e_f64s(x[l], y[l], sums[l]);
        }
    }
    for (&x, &y) in x_rest.iter().zip(y_rest) {
        sums[0] = simd.mul_add_e_f64s(x, y, sums[0]);
    }
    let sum = simd.add_f64s(simd.add_f64s(sums[0], sums[1]), simd.add_f64s(sums[2], sums[3]));
    simd.reduce_sum_f64s(sum) + x_tail.iter().zip(y_tail).map(|(x, y)| x * y).sum::<f64>()
}

/// `y −= factor·x`
#[inline(always)]
fn subtract<S: Simd>(simd: S, factor: f64, x: &[f64], y: &mut [f64]) {
    let (x, x_tail) = S::as_simd_f64s(x);
    let (y, y_tail) = S::as_mut_simd_f64s(y);
    let minus = simd.splat_f64s(-factor);
    for (y, &x) in y.iter_mut().zip(x) {
        *y = simd.mul_add_e_f64s(minus, x, *y);
    }
    for (y, x) in y_tail.iter_mut().zip(x_tail) {
        *y -= factor * x;
    }
}

impl Basis {
    /// An empty basis of vectors of length `cols` with room for `capacity`.
    pub(crate) fn new(arch: Arch, capacity: usize, cols: usize) -> Result<Self> {
        let mut vectors = mat::zeroed("orthonormal basis", capacity.saturating_mul(cols))?;
        vectors.clear();
        Ok(Self { arch, vectors, cols })
    }

    pub(crate) fn len(&self) -> usize {
        self.vectors.len() / self.cols.max(1)
    }

    pub(crate) fn vector(&self, j: usize) -> &[f64] {
        &self.vectors[j * self.cols..][..self.cols]
    }

    /// All vectors, `[len, cols]`.
    pub(crate) fn view(&self) -> Result<MatRef<'_, f64>> {
        MatRef::new(&self.vectors, self.len(), self.cols)
    }

    /// Leaves in `row` its part outside the span of the first `count` vectors; returns the norm of that part.
    pub(crate) fn project(&self, count: usize, row: &mut [f64]) -> f64 {
        self.arch.dispatch(Project { vectors: &self.vectors[..count * self.cols], row })
    }

    /// Adds `row / norm`, for a row and norm that `project` left.
    pub(crate) fn push(&mut self, row: &[f64], norm: f64) {
        self.vectors.extend(row.iter().map(|x| x / norm));
    }

    /// Adds a zero vector in place of one that is dependent.
    pub(crate) fn push_zero(&mut self) {
        self.vectors.resize(self.vectors.len() + self.cols, 0.0);
    }
}
