//! The adapter on the CPU: tokens are cut into tiles small enough for the second cache, and each tile goes through gather,
//! gate, premix and expand (or their backward) before the next one is touched, so that `Y0` and `G` are read once.
//!
//! A *sub-row* is one of the `s` parts of a token's row: row `ρ = token·s + part` of `reshape(·, [t·s, m/s])`.

mod backward;
mod dropout;
mod forward;
mod gate;
mod kernels;
pub(crate) mod merge;

pub(crate) use backward::backward;
pub(crate) use dropout::fill as fill_dropout;
pub(crate) use forward::forward;
pub(crate) use merge::{merge, unmerge};

use crate::elem::Elem;
use crate::error::Result;
use crate::lowrank::{Bias, Desc, DownProjection, Dropout, Parameters};
use crate::mat::{MatMut, MatRef, zeroed};
use kernels::{CHUNK, CHUNK_LD, Panels, Project, ROW_ALIGN};
use pulp::Arch;
use std::ops::Range;

/// Sub-rows of a tile: a multiple of every register tile, and with rows of 16 KiB half of a 512 KiB cache at s = 2.
const TILE_ROWS: usize = 24;

/// Tokens of a tile; fixed by the split alone, so that no result depends on the number of threads.
fn tile_tokens(split: usize) -> usize {
    (TILE_ROWS / split).max(1)
}

/// The layer's operands after the checks; empty where the variant does not read them.
#[derive(Clone, Copy)]
pub(crate) struct Operands<'a, T> {
    pub(crate) h: MatRef<'a, T>,
    pub(crate) w: MatRef<'a, T>,
    pub(crate) bias: &'a [T],
    pub(crate) dropout: Option<Dropout>,
}

/// What both directions share for a whole call: the problem, and the short operands packed.
struct Context<'a, T> {
    arch: Arch,
    desc: Desc,
    parameters: Parameters<'a>,
    operands: Operands<'a, T>,
    /// `W_gᵀ [n, k]` of the linear gates.
    gate: Option<Panels>,
    /// `W[S]ᵀ [n, k·r]` of the explicit down-projection.
    down: Option<Panels>,
}

impl<'a, T: Elem> Context<'a, T> {
    fn new(desc: Desc, parameters: &Parameters<'a>, operands: Operands<'a, T>) -> Self {
        Self { arch: Arch::new(), desc, parameters: *parameters, operands, gate: None, down: None }
    }

    /// Packs what the forward reads of the layer's input side.
    fn with_input_factors(mut self) -> Result<Self> {
        let Desc { cols, components, .. } = self.desc;
        if self.desc.gate.reads_input() {
            let weight = self.parameters.gate;
            let width = kernels::narrow(self.arch, components);
            self.gate = Some(Panels::pack(cols, components, width, |d, c| weight.row(c)[d])?);
        }
        if self.desc.down == DownProjection::Gemm {
            let (w, skeleton) = (self.operands.w, self.parameters.skeleton);
            let width = kernels::narrow(self.arch, skeleton.len());
            self.down =
                Some(Panels::pack(cols, skeleton.len(), width, |d, c| w.row(skeleton[c] as usize)[d].to_f32())?);
        }
        Ok(self)
    }

    /// Whether the forward reads H.
    fn reads_input(&self) -> bool {
        self.desc.gate.reads_input() || self.desc.down == DownProjection::Gemm
    }

    /// Columns of `X`: k·r.
    fn width(&self) -> usize {
        self.parameters.skeleton.len()
    }

    /// r/s.
    fn depth(&self) -> usize {
        self.desc.rank / self.desc.split
    }

    /// m/s.
    fn part(&self) -> usize {
        self.desc.rows / self.desc.split
    }

    /// The bias that `X` must lose, at the chosen columns.
    fn shift(&self) -> Result<Vec<f32>> {
        if self.desc.bias != Bias::Included || self.desc.down == DownProjection::Gemm {
            return Ok(Vec::new());
        }
        let mut shift = zeroed("bias", self.width())?;
        for (to, &column) in shift.iter_mut().zip(self.parameters.skeleton) {
            *to = self.operands.bias[column as usize].to_f32();
        }
        Ok(shift)
    }
}

/// Chunks of `0..len`.
fn chunks(len: usize) -> impl Iterator<Item = Range<usize>> {
    (0..len).step_by(CHUNK).map(move |first| first..(first + CHUNK).min(len))
}

/// Scratch for one chunk of a tile of `rows` rows.
fn chunk_scratch(rows: usize) -> Result<Vec<f32>> {
    zeroed("tile", rows.next_multiple_of(ROW_ALIGN) * CHUNK_LD)
}

/// Columns `range` of `source`'s rows, widened.
fn load_chunk<T: Elem>(arch: Arch, source: MatRef<'_, T>, range: &Range<usize>, chunk: &mut [f32]) {
    load_parts(arch, source, source.cols(), range, chunk);
}

/// Columns `range` of every part of `source`'s rows, widened: sub-rows in order.
fn load_parts<T: Elem>(arch: Arch, source: MatRef<'_, T>, part: usize, range: &Range<usize>, chunk: &mut [f32]) {
    let split = source.cols() / part;
    // Dispatched, so that the conversion is compiled for the vectors that the machine has.
    arch.dispatch(
        #[inline(always)]
        || {
            for (row, to) in source.iter_rows().zip(chunk.chunks_exact_mut(split * CHUNK_LD)) {
                for (from, to) in row.chunks_exact(part).zip(to.chunks_exact_mut(CHUNK_LD)) {
                    T::widen(&from[range.clone()], &mut to[..range.len()]);
                }
            }
        },
    );
}

/// The way back of [`load_parts`], rounded: columns `range` of every part of rows `first..first + count` of `to`.
fn store_parts<T: Elem>(
    arch: Arch,
    chunk: &[f32],
    part: usize,
    range: &Range<usize>,
    to: &mut MatMut<'_, T>,
    rows: Range<usize>,
) {
    let split = to.cols() / part;
    arch.dispatch(
        #[inline(always)]
        || {
            for (row, from) in rows.zip(chunk.chunks_exact(split * CHUNK_LD)) {
                for (to, from) in to.row_mut(row).chunks_exact_mut(part).zip(from.chunks_exact(CHUNK_LD)) {
                    T::narrow(&from[..range.len()], &mut to[range.clone()]);
                }
            }
        },
    );
}

/// `out ← H · P` for the rows of a tile, several factors in one pass over `H`.
fn project_input<T: Elem>(arch: Arch, h: MatRef<'_, T>, chunk: &mut [f32], factors: &mut [(&Panels, &mut Panels)]) {
    for (_, out) in factors.iter_mut() {
        out.data_mut().fill(0.0);
    }
    for range in chunks(h.cols()) {
        load_chunk(arch, h, &range, chunk);
        for (panels, out) in factors.iter_mut() {
            arch.dispatch(Project { a: chunk, panels, first: range.start, cols: range.len(), out });
        }
    }
}
