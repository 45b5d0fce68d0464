//! The three products of the adapter, each with one long and one short dimension, on register tiles. A general GEMM spends
//! its time packing the long operand of such shapes; here the long operand is read where it lies, and only the short one
//! (B, or the gate's matrix) is packed, once per call.
//!
//! ```text
//! Expand    Y[rows, cols] += Z[rows, depth] · P[depth, cols]     depth short (r/s, or k)
//! Project   C[rows, n]    += A[rows, cols]  · P[cols, n]         n short
//! Outer     D[cols, n]    += A[rows, cols]ᵀ · C[rows, n]         n short
//! ```
//!
//! Vectors run along the columns of the packed operand; the other one is read a scalar at a time and broadcast. Every
//! element is one chain of fused multiply-adds in the order of the contracted index, so its bits do not depend on where
//! in a tile it lies.

use crate::error::Result;
use crate::mat::zeroed;
use pulp::{Arch, Simd, WithSimd};

/// Long dimensions are walked in chunks of this many columns: a multiple of every panel width (at most 32) and of
/// every register tile below, small enough that a chunk of the tile and one of the packed operand share the first cache.
pub(super) const CHUNK: usize = 192;

/// Rows of an [`Expand`] register tile: with two vectors each, 12 accumulators of the 16 registers.
pub(super) const ROWS: usize = 6;

/// Both register tiles of [`Project`] and [`Outer`] (6 × 2 and 12 × 1 vectors) divide this.
pub(super) const ROW_ALIGN: usize = 12;

/// Row stride of a chunk in scratch: not a multiple of 4 KiB, so that rows do not fall into the same cache sets.
pub(super) const CHUNK_LD: usize = CHUNK + 16;

struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

/// Panel width for a packed operand whose columns are many.
pub(super) fn wide(arch: Arch) -> usize {
    2 * arch.dispatch(Lanes)
}

/// Panel width for a packed operand of `cols` columns: one vector where they fit in it.
pub(super) fn narrow(arch: Arch, cols: usize) -> usize {
    let lanes = arch.dispatch(Lanes);
    if cols <= lanes { lanes } else { 2 * lanes }
}

/// A matrix `[depth, cols]` cut into panels of `width` columns, each `[depth, width]` contiguous and padded with zeros.
pub(super) struct Panels {
    data: Vec<f32>,
    pub(super) depth: usize,
    pub(super) cols: usize,
    pub(super) width: usize,
}

impl Panels {
    /// All zero.
    pub(super) fn zeros(depth: usize, cols: usize, width: usize) -> Result<Self> {
        let len = depth.saturating_mul(cols.next_multiple_of(width));
        Ok(Self { data: zeroed("packed panels", len)?, depth, cols, width })
    }

    /// `value(d, c)` at row `d`, column `c`.
    pub(super) fn pack(depth: usize, cols: usize, width: usize, value: impl Fn(usize, usize) -> f32) -> Result<Self> {
        let mut panels = Self::zeros(depth, cols, width)?;
        for c in 0..cols {
            let panel = panels.panel_mut(c / width);
            for d in 0..depth {
                panel[d * width + c % width] = value(d, c);
            }
        }
        Ok(panels)
    }

    pub(super) fn count(&self) -> usize {
        self.cols.div_ceil(self.width)
    }

    pub(super) fn panel(&self, p: usize) -> &[f32] {
        &self.data[p * self.depth * self.width..][..self.depth * self.width]
    }

    pub(super) fn panel_mut(&mut self, p: usize) -> &mut [f32] {
        &mut self.data[p * self.depth * self.width..][..self.depth * self.width]
    }

    /// The element at row `d`, column `c`.
    pub(super) fn at(&self, d: usize, c: usize) -> f32 {
        self.panel(c / self.width)[d * self.width + c % self.width]
    }

    pub(super) fn data(&self) -> &[f32] {
        &self.data
    }

    pub(super) fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }
}

/// `y += z · P` on one chunk of columns, row by row wherever the rows lie. A product of exactly zero leaves `y` as it is, so
/// that with `B = 0` even `−0.0` keeps its bits.
pub(super) struct Expand<'a> {
    /// `[rows / ROWS][depth][ROWS]`, see [`interleave`].
    pub(super) z: &'a [f32],
    /// `[depth, all columns]`, of width [`wide`].
    pub(super) panels: &'a Panels,
    /// First column of the chunk; a multiple of the panel width.
    pub(super) first: usize,
    /// Columns of the chunk.
    pub(super) cols: usize,
    pub(super) y: &'a mut [f32],
    /// Where each row's chunk starts in `y`.
    pub(super) starts: &'a [usize],
    /// Added to `y` before the product.
    pub(super) bias: Option<Bias<'a>>,
}

/// A bias `[split, all columns]` of sub-rows: row `ρ` takes part `ρ mod split`.
#[derive(Clone, Copy)]
pub(super) struct Bias<'a> {
    pub(super) values: &'a [f32],
    pub(super) split: usize,
}

impl<'a> Bias<'a> {
    #[inline(always)]
    fn row(self, row: usize, first: usize, cols: usize) -> &'a [f32] {
        let part = self.values.len() / self.split;
        &self.values[row % self.split * part + first..][..cols]
    }
}

impl WithSimd for Expand<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.bias {
            Some(bias) => self.tiles(simd, |row, first, cols| Some(bias.row(row, first, cols))),
            None => self.tiles(simd, |_, _, _| None),
        }
    }
}

impl<'a> Expand<'a> {
    #[inline(always)]
    fn tiles<S: Simd>(self, simd: S, bias: impl Fn(usize, usize, usize) -> Option<&'a [f32]>) {
        let (depth, width) = (self.panels.depth, self.panels.width);
        assert_eq!(width, 2 * S::F32_LANES);
        for (block, starts) in self.starts.chunks(ROWS).enumerate() {
            let z = self.z[block * depth * ROWS..][..depth * ROWS].as_chunks::<ROWS>().0;
            for at in (0..self.cols).step_by(width) {
                let panel = S::as_simd_f32s(self.panels.panel((self.first + at) / width)).0.as_chunks::<2>().0;
                let mut sums = [[simd.splat_f32s(0.0); 2]; ROWS];
                for (vectors, scalars) in panel.iter().zip(z) {
                    multiply_add(simd, &mut sums, vectors, scalars);
                }
                let live = width.min(self.cols - at);
                // A loop of known length is unrolled, so that the sums stay in registers.
                if let (Some(starts), true) = (starts.first_chunk::<ROWS>(), live == width) {
                    for i in 0..ROWS {
                        let bias = bias(block * ROWS + i, self.first + at, width);
                        add_whole(simd, &mut self.y[starts[i] + at..][..width], bias, sums[i]);
                    }
                } else {
                    let sums = sums;
                    for (i, (&start, sums)) in starts.iter().zip(&sums).enumerate() {
                        let bias = bias(block * ROWS + i, self.first + at, live);
                        add_part(&mut self.y[start + at..][..live], bias, bytemuck::cast_slice(sums));
                    }
                }
            }
        }
    }
}

/// `y += bias`, then `y += sum`, a zero sum taken as `−0.0`: adding that changes no number. (Keeping the old `y` where the
/// sum is zero would do the same, but compiles to a masked store, which some processors take one element at a time.)
#[inline(always)]
fn add_whole<S: Simd>(simd: S, y: &mut [f32], bias: Option<&[f32]>, sums: [S::f32s; 2]) {
    let y = S::as_mut_simd_f32s(y).0;
    for v in 0..2 {
        let base = match bias {
            Some(bias) => simd.add_f32s(y[v], S::as_simd_f32s(bias).0[v]),
            None => y[v],
        };
        let zero = simd.equal_f32s(sums[v], simd.splat_f32s(0.0));
        y[v] = simd.add_f32s(base, simd.select_f32s(zero, simd.splat_f32s(-0.0), sums[v]));
    }
}

/// The same for part of a row.
#[inline(always)]
fn add_part(y: &mut [f32], bias: Option<&[f32]>, sums: &[f32]) {
    for (c, (y, &sum)) in y.iter_mut().zip(sums).enumerate() {
        let base = bias.map_or(*y, |bias| *y + bias[c]);
        *y = base + if sum == 0.0 { -0.0 } else { sum };
    }
}

/// `sums[i] += scalars[i] · vectors`.
#[inline(always)]
fn multiply_add<S: Simd, const R: usize, const V: usize>(
    simd: S,
    sums: &mut [[S::f32s; V]; R],
    vectors: &[S::f32s; V],
    scalars: &[f32; R],
) {
    for (sums, &scalar) in sums.iter_mut().zip(scalars) {
        let scalar = simd.splat_f32s(scalar);
        for (sum, &vector) in sums.iter_mut().zip(vectors) {
            *sum = simd.mul_add_e_f32s(scalar, vector, *sum);
        }
    }
}

/// Adds the register tile to `out [R, V vectors]`.
#[inline(always)]
fn add_tile<S: Simd, const R: usize, const V: usize>(simd: S, out: &mut [f32], sums: &[[S::f32s; V]; R]) {
    let out = S::as_mut_simd_f32s(out).0.as_chunks_mut::<V>().0;
    for (out, sums) in out.iter_mut().zip(sums) {
        for (out, &sum) in out.iter_mut().zip(sums) {
            *out = simd.add_f32s(*out, sum);
        }
    }
}

/// `z [rows, depth]` reordered to `[rows / ROWS][depth][ROWS]`, the last block padded with zeros.
pub(super) fn interleave(z: &[f32], depth: usize, out: &mut Vec<f32>) {
    let blocks = (z.len() / depth.max(1)).div_ceil(ROWS);
    out.clear();
    out.resize(blocks * depth * ROWS, 0.0);
    for (row, z) in z.chunks_exact(depth.max(1)).enumerate() {
        let block = &mut out[row / ROWS * depth * ROWS..][..depth * ROWS];
        for (to, &from) in block.iter_mut().skip(row % ROWS).step_by(ROWS).zip(z) {
            *to = from;
        }
    }
}

/// `out += A · P` on one chunk of columns of `A`.
pub(super) struct Project<'a> {
    /// `[rows, CHUNK_LD]`, rows a multiple of [`ROW_ALIGN`].
    pub(super) a: &'a [f32],
    /// `[all columns of A, n]`, of width [`narrow`].
    pub(super) panels: &'a Panels,
    /// First column of the chunk.
    pub(super) first: usize,
    /// Columns of the chunk.
    pub(super) cols: usize,
    /// Panels of `C`: `depth` = rows.
    pub(super) out: &'a mut Panels,
}

impl WithSimd for Project<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if self.panels.width == S::F32_LANES { self.tiles::<S, 12, 1>(simd) } else { self.tiles::<S, 6, 2>(simd) }
    }
}

impl Project<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const R: usize, const V: usize>(self, simd: S) {
        let width = V * S::F32_LANES;
        assert_eq!((self.panels.width, self.out.width), (width, width));
        for p in 0..self.panels.count() {
            let panel = &self.panels.panel(p)[self.first * width..][..self.cols * width];
            let panel = &S::as_simd_f32s(panel).0.as_chunks::<V>().0[..self.cols];
            let tiles = self.out.panel_mut(p).chunks_exact_mut(R * width);
            for (a, out) in self.a.chunks_exact(R * CHUNK_LD).zip(tiles) {
                let rows: [&[f32]; R] = std::array::from_fn(|i| &a[i * CHUNK_LD..][..self.cols]);
                let mut sums = [[simd.splat_f32s(0.0); V]; R];
                for (j, vectors) in panel.iter().enumerate() {
                    multiply_add(simd, &mut sums, vectors, &rows.map(|row| row[j]));
                }
                add_tile(simd, out, &sums);
            }
        }
    }
}

/// `out += Aᵀ · C` on one chunk of columns of `A`.
pub(super) struct Outer<'a> {
    /// `[rows, CHUNK_LD]`; columns up to the next multiple of [`ROW_ALIGN`] are read, and end in rows of `out` that nobody reads.
    pub(super) a: &'a [f32],
    /// Rows that count.
    pub(super) rows: usize,
    /// `C`: panels whose `depth` is at least `rows`.
    pub(super) c: &'a Panels,
    /// First column of the chunk.
    pub(super) first: usize,
    /// Columns of the chunk.
    pub(super) cols: usize,
    /// Panels of `D`: `depth` is all columns of `A`, rounded up to [`ROW_ALIGN`].
    pub(super) out: &'a mut Panels,
}

impl WithSimd for Outer<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if self.c.width == S::F32_LANES { self.tiles::<S, 12, 1>(simd) } else { self.tiles::<S, 6, 2>(simd) }
    }
}

impl Outer<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const R: usize, const V: usize>(self, simd: S) {
        let width = V * S::F32_LANES;
        assert_eq!((self.c.width, self.out.width), (width, width));
        let cols = self.cols.next_multiple_of(R);
        for p in 0..self.c.count() {
            let c = S::as_simd_f32s(&self.c.panel(p)[..self.rows * width]).0.as_chunks::<V>().0;
            let out = &mut self.out.panel_mut(p)[self.first * width..][..cols * width];
            for (at, out) in (0..cols).step_by(R).zip(out.chunks_exact_mut(R * width)) {
                let mut sums = [[simd.splat_f32s(0.0); V]; R];
                for (row, vectors) in self.a.chunks_exact(CHUNK_LD).zip(c) {
                    if let Some(scalars) = row[at..].first_chunk::<R>() {
                        multiply_add(simd, &mut sums, vectors, scalars);
                    }
                }
                add_tile(simd, out, &sums);
            }
        }
    }
}
