//! Forward: one pass over `Y0`, tile by tile.

use super::kernels::{self, CHUNK_LD, Expand, Panels, ROW_ALIGN};
use super::{Context, Operands, chunk_scratch, chunks, dropout, gate, project_input, tile_tokens};
use crate::elem::{Dtype, Elem};
use crate::error::Result;
use crate::lowrank::{Bias, Desc, DownProjection, Output, Parameters, SavedMut};
use crate::mat::{MatMut, MatRef, zeroed};
use rayon::prelude::*;
use std::ops::Range;

/// Runs the forward; all shapes have been checked.
pub(crate) fn forward<T: Elem>(
    desc: Desc,
    parameters: &Parameters<'_>,
    operands: Operands<'_, T>,
    output: Output<'_, T>,
    saved: Option<SavedMut<'_, T>>,
) -> Result<()> {
    let context = Context::new(desc, parameters, operands).with_input_factors()?;
    let scale = parameters.scale;
    let constants = Constants {
        up: Panels::pack(context.depth(), context.part(), kernels::wide(context.arch), |d, c| {
            scale * parameters.b.row(c)[d]
        })?,
        shift: context.shift()?,
        bias: match desc.bias {
            Bias::Separate => operands.bias.iter().map(|b| b.to_f32()).collect(),
            Bias::None | Bias::Included => Vec::new(),
        },
    };
    let mut jobs = split(&context, output, saved)?;
    let run = |job: &mut Job<'_, T>| job.run(&context, &constants);
    match jobs.as_mut_slice() {
        [only] => run(only),
        jobs => jobs.par_iter_mut().for_each(run),
    }
    Ok(())
}

/// What every tile reads besides the context.
struct Constants {
    /// `κ Bᵀ [r/s, m/s]`.
    up: Panels,
    /// `b[S]` where the bias is subtracted, else empty.
    shift: Vec<f32>,
    /// `b` where it is added, else empty.
    bias: Vec<f32>,
}

/// A run of consecutive tiles and the scratch for one of them.
struct Job<'a, T> {
    first_token: usize,
    y: MatMut<'a, T>,
    y0: Option<MatRef<'a, T>>,
    saved: Option<SavedMut<'a, T>>,
    scratch: Scratch<T>,
}

/// At most this many jobs: enough for every thread to find one, few enough that scratch stays small.
const MAX_JOBS: usize = 32;

/// Cuts the tokens into jobs of whole tiles.
fn split<'a, T: Elem>(
    context: &Context<'_, T>,
    output: Output<'a, T>,
    saved: Option<SavedMut<'a, T>>,
) -> Result<Vec<Job<'a, T>>> {
    let (y, y0) = match output {
        Output::InPlace(y) => (y, None),
        Output::OutOfPlace { y0, y } => (y, Some(y0)),
    };
    let tile = tile_tokens(context.desc.split);
    let tokens = y.rows().div_ceil(tile).div_ceil(MAX_JOBS).max(1) * tile;
    let outputs: Vec<_> = y.par_row_blocks(tokens).collect();
    let mut saved: Vec<_> = match saved {
        Some(SavedMut { x, gate, z }) => {
            let mut z = z.map_or_else(Vec::new, |z| z.par_row_blocks(tokens).map(Some).collect());
            z.resize_with(outputs.len(), || None);
            let blocks = x.par_row_blocks(tokens).zip(gate.par_row_blocks(tokens));
            blocks.zip(z).map(|((x, gate), z)| Some(SavedMut { x, gate, z })).collect()
        }
        None => Vec::new(),
    };
    saved.resize_with(outputs.len(), || None);
    let job = |(i, (y, saved)): (usize, (MatMut<'a, T>, _))| {
        let first_token = i * tokens;
        let y0 = y0.map(|y0| y0.row_range(first_token..first_token + y.rows()));
        let scratch = Scratch::new(context, tile.min(y.rows()))?;
        Ok(Job { first_token, y, y0, saved, scratch })
    };
    outputs.into_iter().zip(saved).enumerate().map(job).collect()
}

/// Buffers for one tile.
struct Scratch<T> {
    /// A token's row of `X` in the element type.
    raw: Vec<T>,
    /// `X [tokens, k·r]`, rounded to the element type and widened again, as the backward will read it.
    x: Vec<f32>,
    /// Gate values `[tokens, k]`.
    a: Vec<f32>,
    /// Dropout factors of one token; ones without dropout.
    mask: Vec<f32>,
    /// `z [tokens, r]`, and the same interleaved for the expansion.
    z: Vec<f32>,
    interleaved: Vec<f32>,
    chunk: Vec<f32>,
    starts: Vec<usize>,
    /// `H W_gᵀ` and `H W[S]ᵀ`.
    logits: Panels,
    down: Panels,
}

impl<T: Elem> Scratch<T> {
    fn new(context: &Context<'_, T>, tokens: usize) -> Result<Self> {
        let Desc { rank, components, split, .. } = context.desc;
        let width = context.width();
        let rows = tokens.next_multiple_of(ROW_ALIGN);
        let like = |factor: &Option<Panels>| match factor {
            Some(panels) => Panels::zeros(rows, panels.cols, panels.width),
            None => Panels::zeros(0, 1, 1),
        };
        let mut mask = zeroed("dropout factors", width)?;
        mask.fill(1.0);
        Ok(Self {
            raw: vec![T::from_f32(0.0); width],
            x: zeroed("X", tokens * width)?,
            a: zeroed("gate values", tokens * components)?,
            mask,
            z: zeroed("z", tokens * rank)?,
            interleaved: zeroed("z", (tokens * split).next_multiple_of(kernels::ROWS) * context.depth())?,
            // f32 is updated where it lies; only conversions and products with H pass through scratch.
            chunk: if T::DTYPE != Dtype::F32 || context.reads_input() {
                chunk_scratch(tokens * split)?
            } else {
                Vec::new()
            },
            starts: Vec::with_capacity(tokens * split),
            logits: like(&context.gate)?,
            down: like(&context.down)?,
        })
    }
}

impl<T: Elem> Job<'_, T> {
    fn run(&mut self, context: &Context<'_, T>, constants: &Constants) {
        let tile = tile_tokens(context.desc.split);
        for first in (0..self.y.rows()).step_by(tile) {
            let count = tile.min(self.y.rows() - first);
            if let Some(y0) = self.y0 {
                for i in first..first + count {
                    self.y.row_mut(i).copy_from_slice(y0.row(i));
                }
            }
            // All of a token's chosen columns are read here, before `expand` updates any of them.
            self.scratch.shrink(
                context,
                constants,
                self.y.as_ref().row_range(first..first + count),
                self.first_token + first,
            );
            if let Some(saved) = &mut self.saved {
                self.scratch.save(saved, first, count);
            }
            self.scratch.expand(context, constants, &mut self.y, first, count);
        }
    }
}

impl<T: Elem> Scratch<T> {
    /// `X`, the gate and `z` of the tile whose base outputs are `y0` and whose first token is `token`.
    fn shrink(&mut self, context: &Context<'_, T>, constants: &Constants, y0: MatRef<'_, T>, token: usize) {
        let Desc { rank, components, gate, down, .. } = context.desc;
        let width = context.width();
        let count = y0.rows();
        if context.reads_input() {
            let h = context.operands.h.row_range(token..token + count);
            let mut factors = Vec::with_capacity(2);
            factors.extend(context.gate.as_ref().map(|panels| (panels, &mut self.logits)));
            factors.extend(context.down.as_ref().map(|panels| (panels, &mut self.down)));
            project_input(context.arch, h, &mut self.chunk, &mut factors);
        }
        for i in 0..count {
            let x = &mut self.x[i * width..][..width];
            match down {
                DownProjection::Gather => {
                    let row = y0.row(i);
                    for (to, &column) in self.raw.iter_mut().zip(context.parameters.skeleton) {
                        *to = row[column as usize];
                    }
                    T::widen(&self.raw, x);
                    if !constants.shift.is_empty() {
                        x.iter_mut().zip(&constants.shift).for_each(|(x, b)| *x -= b);
                        round(x, &mut self.raw);
                    }
                }
                DownProjection::Gemm => {
                    for (c, x) in x.iter_mut().enumerate() {
                        *x = self.down.at(i, c);
                    }
                    round(x, &mut self.raw);
                }
            }
        }
        // Apart from the gather, whose misses overlap better when nothing waits for them.
        for i in 0..count {
            let x = &self.x[i * width..][..width];
            let a = &mut self.a[i * components..][..components];
            if gate.reads_input() {
                a.iter_mut().enumerate().for_each(|(c, a)| *a = self.logits.at(i, c));
            }
            gate::values(gate, context.parameters.gate.data(), x, a);
            if let Some(dropout) = &context.operands.dropout {
                dropout::fill(dropout, (token + i) as u64, &mut self.mask);
            }
            gate::premix(x, &self.mask, a, &mut self.z[i * rank..][..rank]);
        }
    }

    fn save(&mut self, saved: &mut SavedMut<'_, T>, first: usize, count: usize) {
        let width = self.raw.len();
        let components = saved.gate.cols();
        for i in 0..count {
            T::narrow(&self.x[i * width..][..width], saved.x.row_mut(first + i));
            saved.gate.row_mut(first + i).copy_from_slice(&self.a[i * components..][..components]);
            if let Some(z) = &mut saved.z {
                let rank = z.cols();
                z.row_mut(first + i).copy_from_slice(&self.z[i * rank..][..rank]);
            }
        }
    }

    /// `Y += κ (I_s⊗B) z` (and `+ b`) on rows `first..first + count` of `y`: where `y` is f32 in place, else chunk by chunk
    /// through f32 scratch, rounded once.
    fn expand(
        &mut self,
        context: &Context<'_, T>,
        constants: &Constants,
        y: &mut MatMut<'_, T>,
        first: usize,
        count: usize,
    ) {
        let (split, part, ld) = (context.desc.split, context.part(), y.ld());
        let Self { z, interleaved, chunk, starts, .. } = self;
        kernels::interleave(&z[..count * context.desc.rank], context.depth(), interleaved);
        let rows = count * split;
        for range in chunks(part) {
            starts.clear();
            if let Some(data) = T::as_f32_mut(y.data_mut()) {
                starts.extend((0..rows).map(|row| (first + row / split) * ld + row % split * part + range.start));
                context.arch.dispatch(constants.product(interleaved, &range, data, starts, split));
                continue;
            }
            starts.extend((0..rows).map(|row| row * CHUNK_LD));
            super::load_parts(context.arch, y.as_ref().row_range(first..first + count), part, &range, chunk);
            context.arch.dispatch(constants.product(interleaved, &range, chunk, starts, split));
            super::store_parts(context.arch, chunk, part, &range, y, first..first + count);
        }
    }
}

impl Constants {
    /// The expansion of one chunk of columns; `starts` says where the sub-rows lie in `y`.
    fn product<'a>(
        &'a self,
        z: &'a [f32],
        range: &Range<usize>,
        y: &'a mut [f32],
        starts: &'a [usize],
        split: usize,
    ) -> Expand<'a> {
        let bias = (!self.bias.is_empty()).then_some(kernels::Bias { values: &self.bias, split });
        Expand { z, panels: &self.up, first: range.start, cols: range.len(), y, starts, bias }
    }
}

/// Rounds `x` to the element type, leaving the rounded values in both.
fn round<T: Elem>(x: &mut [f32], raw: &mut [T]) {
    T::narrow(x, raw);
    T::widen(raw, x);
}
