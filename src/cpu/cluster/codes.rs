//! 16-bit codes of vectors, whose dots are integers: half the memory traffic and twice the products per instruction of
//! `f32`, with an error bound that is known for every pair.
//!
//! A vector `x` is coded as `x ≈ unit·code`, `code ∈ [−LIMIT, LIMIT]`, and keeps `slack ≥ ‖x − unit·code‖`. For coded
//! vectors `x` and `c`,
//!
//! `|⟨x,c⟩ − unit_x·unit_c·⟨code_x,code_c⟩| = |⟨x − x̂, ĉ⟩ + ⟨x, c − ĉ⟩| ≤ slack_x·‖ĉ‖ + ‖x‖·slack_c`
//!
//! by Cauchy and Schwarz. Products are summed exactly in `i32` over [`SEGMENT`] columns and then in `f32`, whose rounding
//! adds at most `(n/SEGMENT + 8)·u·‖x̂‖·‖ĉ‖` (one per conversion, per addition, and per level of the last reduction).

use super::measure::measure_and_code;
use super::vectorized;
use crate::elem::Elem;
use crate::error::Result;
use crate::mat::{MatRef, zeroed};
use pulp::Arch;
use rayon::prelude::*;

/// Codes that one vector instruction multiplies; rows of codes are padded with zeros to a multiple of it.
const WIDTH: usize = 16;
/// Columns whose products are summed in `i32`.
pub(super) const SEGMENT: usize = 512;
/// Largest code: a lane sums 2·SEGMENT/WIDTH = 64 products of a segment, and 64·5792² < 2³¹.
const LIMIT: f32 = 5792.0;
const _: () = assert!((2 * SEGMENT / WIDTH) as i64 * (LIMIT as i64 * LIMIT as i64) < i32::MAX as i64);
/// Rows that share one pass over the centroids.
pub(super) const BLOCK: usize = 8;
/// Rows and vectors of a register tile: 8 accumulators, 6 loads for 8 products.
const TILE_ROWS: usize = 4;
const TILE_CENTROIDS: usize = 2;

/// Elements between the starts of rows that are read together, strip by strip: a multiple of every vector width, and for
/// long rows an odd multiple of a strip, so that strips of neighbouring rows fall into different sets of the first cache.
pub(super) fn row_stride(dim: usize) -> usize {
    const STRIP: usize = 256;
    if dim < 4 * STRIP { dim.next_multiple_of(WIDTH) } else { dim.div_ceil(STRIP) / 2 * 2 * STRIP + STRIP }
}

/// What is known of one coded vector.
#[derive(Clone, Copy, Default)]
pub(super) struct Coded {
    /// The value of code 1.
    pub(super) unit: f64,
    /// At least `‖x − unit·code‖`.
    pub(super) slack: f64,
    /// At least `‖x‖`.
    pub(super) norm: f64,
}

impl Coded {
    /// What is known of the vector times `factor`.
    pub(super) fn times(self, factor: f64) -> Self {
        Self { unit: self.unit * factor, slack: self.slack * factor, norm: self.norm * factor }
    }
}

/// Coded vectors of one length.
pub(super) struct Codes {
    pub(super) codes: Vec<i16>,
    pub(super) vectors: Vec<Coded>,
    /// Codes of a vector, zeros up to a multiple of [`WIDTH`] included.
    pub(super) width: usize,
    /// Codes between the starts of two vectors.
    pub(super) ld: usize,
}

impl Codes {
    pub(super) fn new(count: usize, dim: usize) -> Result<Self> {
        let ld = row_stride(dim);
        let len = count.saturating_mul(ld);
        let codes = zeroed("16-bit codes", len)?;
        Ok(Self { codes, vectors: zeroed("coded vectors", count)?, width: dim.next_multiple_of(WIDTH), ld })
    }

    /// Codes the rows of `w`, all finite; one pass over `W`.
    pub(super) fn of_rows<T: Elem>(arch: Arch, w: MatRef<'_, T>) -> Result<Self> {
        /// Rows of a task.
        const TASK: usize = 64;
        let mut all = Self::new(w.rows(), w.cols())?;
        let ld = all.ld;
        let tasks = all.codes.par_chunks_mut(TASK * ld).zip(all.vectors.par_chunks_mut(TASK));
        tasks.enumerate().try_for_each(|(task, (codes, vectors))| {
            let mut buffer = zeroed("a widened row", w.cols())?;
            for (i, (codes, vector)) in codes.chunks_mut(ld).zip(vectors).enumerate() {
                let row = w.row(task * TASK + i);
                let x = match T::as_f32(row) {
                    Some(x) => x,
                    None => {
                        T::widen(row, &mut buffer);
                        &buffer
                    }
                };
                *vector = measure_and_code(arch, x, codes)?;
            }
            Ok::<_, crate::Error>(())
        })?;
        Ok(all)
    }

    pub(super) fn row(&self, i: usize) -> &[i16] {
        &self.codes[i * self.ld..][..self.width]
    }
}

/// Codes `x`, of largest magnitude `max` and squared norm `square`; codes past its end are left alone.
pub(super) fn encode(arch: Arch, x: &[f32], max: f32, square: f64, codes: &mut [i16]) -> Coded {
    if max == 0.0 || !max.is_finite() {
        codes.fill(0);
        return Coded::default();
    }
    let scale = LIMIT / max;
    let error = vectorized(
        arch,
        #[inline(always)]
        || round(x, scale, codes),
    );
    let unit = f64::from(max) / f64::from(LIMIT);
    let norm = square.sqrt() * (1.0 + 1e-9);
    // `x·scale` is off by two roundings, 2u·|x| in all; 0.1 % covers the sums of squares.
    let slack = 1.001 * unit * error.sqrt() + 2.0 * f64::from(f32::EPSILON) * norm;
    Coded { unit, slack, norm }
}

/// Rounds `x·scale` to codes; returns the sum of squares of what that takes off.
#[inline(always)]
fn round(x: &[f32], scale: f32, codes: &mut [i16]) -> f64 {
    /// Adding it leaves a number below 2²² rounded to an integer in the low bits of the significand.
    const ROUND: f32 = 12_582_912.0;
    let mut total = 0.0;
    for (x, codes) in x.chunks(SEGMENT).zip(codes.chunks_mut(SEGMENT)) {
        // Loops apart, each of one kind of result: together they would stay scalar.
        for (x, code) in x.iter().zip(codes) {
            *code = (x * scale + ROUND).to_bits().wrapping_sub(ROUND.to_bits()) as i16;
        }
        let off = |x: f32| x * scale - ((x * scale + ROUND) - ROUND);
        let mut errors = [0.0f32; 16];
        let (body, tail) = x.as_chunks::<16>();
        for x in body {
            for lane in 0..16 {
                errors[lane] += off(x[lane]) * off(x[lane]);
            }
        }
        for (error, &x) in errors.iter_mut().zip(tail) {
            *error += off(x) * off(x);
        }
        total += errors.iter().map(|&e| f64::from(e)).sum::<f64>();
    }
    total
}

/// The factor of `‖x̂‖·‖ĉ‖` in the rounding of [`dots`], doubled.
pub(super) fn rounding(dim: usize) -> f64 {
    (dim.div_ceil(SEGMENT) + 8) as f64 * f64::from(f32::EPSILON)
}

/// `lanes[i·BLOCK + r] = ⟨rows_r, vectors_which(i)⟩` in codes, in eight parts.
pub(super) fn dots(rows: [&[i16]; BLOCK], vectors: &Codes, which: &[usize], lanes: &mut [[f32; 8]]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        return simd.vectorize(
            #[inline(always)]
            || dots_on(simd, rows, vectors, which, lanes),
        );
    }
    dots_on(Portable, rows, vectors, which, lanes);
}

/// The sum of a group of lanes.
pub(super) fn total([a, b, c, d, e, f, g, h]: &[f32; 8]) -> f32 {
    ((a + b) + (c + d)) + ((e + f) + (g + h))
}

/// Eight `i32` sums.
trait Lanes: Copy {
    type Sum: Copy;
    fn zero(self) -> Self::Sum;
    /// `sum[l] + a[2l]·b[2l] + a[2l+1]·b[2l+1]`.
    fn add_products(self, sum: Self::Sum, a: &[i16; WIDTH], b: &[i16; WIDTH]) -> Self::Sum;
    fn add_to(self, sum: Self::Sum, total: &mut [f32; 8]);
}

#[derive(Clone, Copy)]
struct Portable;

impl Lanes for Portable {
    type Sum = [i32; 8];

    #[inline(always)]
    fn zero(self) -> Self::Sum {
        [0; 8]
    }

    #[inline(always)]
    fn add_products(self, sum: Self::Sum, a: &[i16; WIDTH], b: &[i16; WIDTH]) -> Self::Sum {
        let product = |i: usize| i32::from(a[i]) * i32::from(b[i]);
        std::array::from_fn(|lane| sum[lane] + product(2 * lane) + product(2 * lane + 1))
    }

    #[inline(always)]
    fn add_to(self, sum: Self::Sum, total: &mut [f32; 8]) {
        total.iter_mut().zip(sum).for_each(|(total, sum)| *total += sum as f32);
    }
}

#[cfg(target_arch = "x86_64")]
impl Lanes for pulp::x86::V3 {
    type Sum = pulp::i32x8;

    #[inline(always)]
    fn zero(self) -> Self::Sum {
        self.splat_i32x8(0)
    }

    #[inline(always)]
    fn add_products(self, sum: Self::Sum, a: &[i16; WIDTH], b: &[i16; WIDTH]) -> Self::Sum {
        let products = self.multiply_wrapping_add_adjacent_i16x16(pulp::cast(*a), pulp::cast(*b));
        self.wrapping_add_i32x8(sum, products)
    }

    #[inline(always)]
    fn add_to(self, sum: Self::Sum, total: &mut [f32; 8]) {
        *total = pulp::cast(self.add_f32x8(pulp::cast(*total), self.convert_i32x8_to_f32x8(sum)));
    }
}

#[inline(always)]
fn dots_on<L: Lanes>(simd: L, rows: [&[i16]; BLOCK], vectors: &Codes, which: &[usize], lanes: &mut [[f32; 8]]) {
    let lanes = &mut lanes[..which.len() * BLOCK];
    lanes.fill([0.0; 8]);
    for first in (0..vectors.width).step_by(SEGMENT) {
        let cols = first..vectors.width.min(first + SEGMENT);
        for (tile_index, which) in which.chunks(TILE_CENTROIDS).enumerate() {
            let part = |i: usize| &vectors.row(which[i])[cols.clone()];
            for r in (0..BLOCK).step_by(TILE_ROWS) {
                let rows = std::array::from_fn(|i| &rows[r + i][cols.clone()]);
                let lanes = &mut lanes[tile_index * TILE_CENTROIDS * BLOCK + r..];
                if which.len() == TILE_CENTROIDS {
                    tile::<L, TILE_CENTROIDS>(simd, rows, std::array::from_fn(part), lanes);
                } else {
                    (0..which.len()).for_each(|i| tile::<L, 1>(simd, rows, [part(i)], &mut lanes[i * BLOCK..]));
                }
            }
        }
    }
}

/// Adds one segment's products of `TILE_ROWS` rows and `C` vectors to `lanes[c·BLOCK + r]`, every load used `C` or
/// `TILE_ROWS` times.
#[inline(always)]
fn tile<L: Lanes, const C: usize>(simd: L, rows: [&[i16]; TILE_ROWS], vectors: [&[i16]; C], lanes: &mut [[f32; 8]]) {
    let len = rows[0].len() / WIDTH;
    let x: [&[[i16; WIDTH]]; TILE_ROWS] = rows.map(|row| &row.as_chunks::<WIDTH>().0[..len]);
    let c: [&[[i16; WIDTH]]; C] = vectors.map(|vector| &vector.as_chunks::<WIDTH>().0[..len]);
    let mut sums = [[simd.zero(); TILE_ROWS]; C];
    for i in 0..len {
        for b in 0..C {
            for a in 0..TILE_ROWS {
                sums[b][a] = simd.add_products(sums[b][a], &x[a][i], &c[b][i]);
            }
        }
    }
    for b in 0..C {
        for a in 0..TILE_ROWS {
            simd.add_to(sums[b][a], &mut lanes[b * BLOCK + a]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Stream, Use};

    /// Vectors of every kind: spread out, one spike, all at the largest code, tiny, huge, zero.
    fn vector(kind: usize, dim: usize, stream: &mut Stream) -> Vec<f32> {
        let draw = |_| stream.normal() as f32;
        let normal: Vec<f32> = (0..dim).map(draw).collect();
        match kind % 6 {
            0 => normal,
            1 => normal.iter().enumerate().map(|(i, x)| if i == dim / 2 { 300.0 } else { *x }).collect(),
            2 => vec![0.75; dim],
            3 => normal.iter().map(|x| x * 1e-38).collect(),
            4 => normal.iter().map(|x| x * 1e37).collect(),
            _ => vec![0.0; dim],
        }
    }

    fn coded(vectors: &[Vec<f32>]) -> Codes {
        let mut codes = Codes::new(vectors.len(), vectors[0].len()).unwrap();
        let ld = codes.ld;
        for (i, vector) in vectors.iter().enumerate() {
            let row = &mut codes.codes[i * ld..][..ld];
            codes.vectors[i] = measure_and_code(Arch::new(), vector, row).unwrap();
        }
        codes
    }

    #[test]
    fn dots_of_codes_keep_their_bound() {
        let mut stream = Stream::new(3, Use::Seeding);
        for dim in [1, 7, 15, 16, 17, 255, 256, 511, 512, 513, 1023, 1024, 1025, 4097, 14336] {
            let rows: Vec<_> = (0..BLOCK).map(|kind| vector(kind, dim, &mut stream)).collect();
            let others: Vec<_> = (0..7).map(|kind| vector(kind, dim, &mut stream)).collect();
            let (x, c) = (coded(&rows), coded(&others));
            let which = [6, 0, 1, 2, 3, 4, 5];
            let mut lanes = vec![[0.0; 8]; 7 * BLOCK];
            dots(std::array::from_fn(|r| x.row(r)), &c, &which, &mut lanes);
            let mut portable = vec![[f32::NAN; 8]; 7 * BLOCK];
            dots_on(Portable, std::array::from_fn(|r| x.row(r)), &c, &which, &mut portable);
            assert_eq!(lanes, portable, "the same integers on every machine");
            for (i, &j) in which.iter().enumerate() {
                for r in 0..BLOCK {
                    let exact: f64 = rows[r].iter().zip(&others[j]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                    let (x, c) = (x.vectors[r], c.vectors[j]);
                    let found = x.unit * c.unit * f64::from(total(&lanes[i * BLOCK + r]));
                    let (x_norm, c_norm) = (x.norm + x.slack, c.norm + c.slack);
                    let bound = x.slack * c_norm + x.norm * c.slack + rounding(dim) * x_norm * c_norm;
                    assert!((found - exact).abs() <= bound, "{dim}: row {r}, vector {j}: {found:e} for {exact:e}");
                    assert!(bound <= 0.02 * x.norm * c.norm || r == 1 || j == 1, "{dim}: a bound of no use, {bound:e}");
                }
            }
        }
    }
}
