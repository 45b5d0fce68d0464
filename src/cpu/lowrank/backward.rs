//! Backward: one pass over `G`. Parameter gradients are summed per segment of tokens and the segments added in order;
//! segments depend on the problem alone, so the bits do not depend on the number of threads.

use super::kernels::{self, CHUNK_LD, Expand, Outer, Panels, Project, ROW_ALIGN};
use super::{
    Context, Operands, chunk_scratch, chunks, dropout, gate, load_chunk, load_parts, store_parts, tile_tokens,
};
use crate::elem::Elem;
use crate::error::Result;
use crate::lowrank::{Desc, Gradients, InputGradient, Parameters, Saved};
use crate::mat::{MatMut, MatRef, zeroed};
use rayon::prelude::*;

/// Runs the backward; all shapes have been checked.
pub(crate) fn backward<T: Elem>(
    desc: Desc,
    parameters: &Parameters<'_>,
    operands: Operands<'_, T>,
    saved: Saved<'_, T>,
    input: InputGradient<'_, T>,
    gradients: Gradients<'_, T>,
) -> Result<()> {
    let context = Context::new(desc, parameters, operands);
    let scale = parameters.scale;
    let width = kernels::narrow(context.arch, context.depth());
    let constants = Constants {
        b: Panels::pack(context.part(), context.depth(), width, |d, c| scale * parameters.b.row(d)[c])?,
        gate: match gradients.h_gate {
            Some(_) => {
                let wide = kernels::wide(context.arch);
                Some(Panels::pack(desc.components, desc.cols, wide, |d, c| parameters.gate.row(d)[c])?)
            }
            None => None,
        },
    };
    let Gradients { mut b, gate, h_gate, accumulate } = gradients;
    let mut segments = split(&context, saved, input, h_gate)?;
    let run = |segment: &mut Segment<'_, T>| segment.run(&context, &constants);
    match segments.as_mut_slice() {
        [only] => run(only),
        segments => segments.par_iter_mut().for_each(run),
    }
    let mut sums = segments.into_iter().map(|segment| segment.sums);
    let mut total = match sums.next() {
        Some(sums) => sums,
        None => Sums::new(&context)?,
    };
    for sums in sums {
        total.add(&sums);
    }
    write(&mut b, accumulate, |row, col| scale * total.b.at(row, col));
    write_gate(gate, accumulate, desc, &total);
    Ok(())
}

/// What every tile reads besides the context.
struct Constants {
    /// `κ B [m/s, r/s]`.
    b: Panels,
    /// `W_g [k, n]`, where the gate's share of `dH` is wanted.
    gate: Option<Panels>,
}

/// Parameter gradients of a segment.
struct Sums {
    /// `Gᵀ z [m/s, r/s]`, still without κ.
    b: Panels,
    /// Gradient of `T` or of the constants.
    gate: Vec<f32>,
    /// `Hᵀ dl [n, k]` of the linear gates.
    linear: Panels,
}

impl Sums {
    fn new<T: Elem>(context: &Context<'_, T>) -> Result<Self> {
        let Desc { rank, components, cols, gate, .. } = context.desc;
        let panels = |rows: usize, cols: usize| {
            Panels::zeros(rows.next_multiple_of(ROW_ALIGN), cols, kernels::narrow(context.arch, cols))
        };
        let linear = gate.reads_input();
        Ok(Self {
            b: panels(context.part(), context.depth())?,
            gate: zeroed("gate gradient", if linear { 0 } else { rank.max(components) })?,
            linear: if linear { panels(cols, components)? } else { Panels::zeros(0, 1, 1)? },
        })
    }

    fn add(&mut self, other: &Self) {
        let add = |to: &mut [f32], from: &[f32]| to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        add(self.b.data_mut(), other.b.data());
        add(&mut self.gate, &other.gate);
        add(self.linear.data_mut(), other.linear.data());
    }
}

fn write(to: &mut MatMut<'_, f32>, accumulate: bool, value: impl Fn(usize, usize) -> f32) {
    for row in 0..to.rows() {
        for (col, to) in to.row_mut(row).iter_mut().enumerate() {
            let value = value(row, col);
            *to = if accumulate { *to + value } else { value };
        }
    }
}

fn write_gate(mut to: MatMut<'_, f32>, accumulate: bool, desc: Desc, total: &Sums) {
    if desc.gate.reads_input() {
        write(&mut to, accumulate, |component, col| total.linear.at(col, component));
    } else {
        write(&mut to, accumulate, |_, col| total.gate[col]);
    }
}

/// A run of consecutive tiles, its sums, and the scratch for one tile.
struct Segment<'a, T> {
    first_token: usize,
    x: MatRef<'a, T>,
    a: MatRef<'a, f32>,
    input: InputGradient<'a, T>,
    h_gate: Option<MatMut<'a, T>>,
    sums: Sums,
    scratch: Scratch,
}

/// At most this many segments, each of this many tokens at least.
const MAX_SEGMENTS: usize = 8;
const MIN_TOKENS: usize = 128;

/// Tokens of a segment: whole tiles, and so many that all segments' sums together are at most half as large as `G`.
fn segment_tokens(desc: &Desc, tokens: usize) -> usize {
    let sums = (desc.rows / desc.split) * (desc.rank / desc.split)
        + if desc.gate.reads_input() { desc.components * desc.cols } else { 0 };
    let affordable = (tokens.saturating_mul(desc.rows) / 2 / sums.max(1)).clamp(1, MAX_SEGMENTS);
    tokens.div_ceil(affordable).max(MIN_TOKENS).next_multiple_of(tile_tokens(desc.split))
}

/// Cuts the tokens into segments.
fn split<'a, T: Elem>(
    context: &Context<'_, T>,
    saved: Saved<'a, T>,
    input: InputGradient<'a, T>,
    h_gate: Option<MatMut<'a, T>>,
) -> Result<Vec<Segment<'a, T>>> {
    let total = saved.x.rows();
    let tokens = segment_tokens(&context.desc, total);
    let rows = |i: usize| i * tokens..((i + 1) * tokens).min(total);
    let inputs: Vec<_> = match input {
        InputGradient::Scatter(g) => g.par_row_blocks(tokens).map(InputGradient::Scatter).collect(),
        InputGradient::Separate { g, dx } => dx
            .par_row_blocks(tokens)
            .enumerate()
            .map(|(i, dx)| InputGradient::Separate { g: g.row_range(rows(i)), dx })
            .collect(),
    };
    let mut shares: Vec<_> = match h_gate {
        Some(h_gate) => h_gate.par_row_blocks(tokens).map(Some).collect(),
        None => Vec::new(),
    };
    shares.resize_with(inputs.len(), || None);
    let segment = |(i, (input, h_gate))| {
        Ok(Segment {
            first_token: i * tokens,
            x: saved.x.row_range(rows(i)),
            a: saved.gate.row_range(rows(i)),
            input,
            h_gate,
            sums: Sums::new(context)?,
            scratch: Scratch::new(context, tile_tokens(context.desc.split).min(total))?,
        })
    };
    inputs.into_iter().zip(shares).enumerate().map(segment).collect()
}

/// Buffers for one tile.
struct Scratch {
    /// `X [tokens, k·r]` and its dropout factors (ones without dropout).
    x: Vec<f32>,
    mask: Vec<f32>,
    /// A token's `z`, `dz` and `dX`.
    token_z: Vec<f32>,
    dx: Vec<f32>,
    /// `z` and `dz` as panels of sub-rows.
    z: Panels,
    dz: Panels,
    /// Derivative by gate values or logits `[tokens, k]`; as panels and interleaved where the gate is linear.
    da: Vec<f32>,
    da_panels: Panels,
    interleaved: Vec<f32>,
    chunk: Vec<f32>,
}

impl Scratch {
    fn new<T: Elem>(context: &Context<'_, T>, tokens: usize) -> Result<Self> {
        let Desc { rank, components, split, .. } = context.desc;
        let width = context.width();
        let panels = |rows: usize, cols: usize| {
            Panels::zeros(rows.next_multiple_of(ROW_ALIGN), cols, kernels::narrow(context.arch, cols))
        };
        let mut mask = zeroed("dropout factors", tokens * width)?;
        mask.fill(1.0);
        Ok(Self {
            x: zeroed("X", tokens * width)?,
            mask,
            token_z: zeroed("z", rank)?,
            dx: zeroed("dX", width)?,
            z: panels(tokens * split, context.depth())?,
            dz: panels(tokens * split, context.depth())?,
            da: zeroed("gate derivatives", tokens * components)?,
            da_panels: panels(tokens, components)?,
            interleaved: zeroed("gate derivatives", tokens.next_multiple_of(kernels::ROWS) * components)?,
            chunk: chunk_scratch(tokens * split)?,
        })
    }
}

/// Copies a token's row `[r]` into or out of its `s` sub-rows of panels `[·, r/s]`.
fn to_panels(row: &[f32], token: usize, split: usize, panels: &mut Panels) {
    let (width, depth) = (panels.width, panels.cols);
    for (part, row) in row.chunks_exact(depth).enumerate() {
        for (p, from) in row.chunks(width).enumerate() {
            panels.panel_mut(p)[(token * split + part) * width..][..from.len()].copy_from_slice(from);
        }
    }
}

fn from_panels(panels: &Panels, token: usize, split: usize, row: &mut [f32]) {
    let (width, depth) = (panels.width, panels.cols);
    for (part, row) in row.chunks_exact_mut(depth).enumerate() {
        for (p, to) in row.chunks_mut(width).enumerate() {
            to.copy_from_slice(&panels.panel(p)[(token * split + part) * width..][..to.len()]);
        }
    }
}

impl<T: Elem> Segment<'_, T> {
    fn run(&mut self, context: &Context<'_, T>, constants: &Constants) {
        let tile = tile_tokens(context.desc.split);
        for first in (0..self.x.rows()).step_by(tile) {
            let count = tile.min(self.x.rows() - first);
            self.scratch.load(context, self.x, self.a, first, count, self.first_token);
            // Both products read G before any of it is updated.
            let g = match &self.input {
                InputGradient::Scatter(g) => g.as_ref(),
                InputGradient::Separate { g, .. } => *g,
            };
            self.scratch.products(context, constants, g.row_range(first..first + count), &mut self.sums.b);
            for i in 0..count {
                self.scratch.token(context, self.a.row(first + i), i, &mut self.sums.gate);
                match &mut self.input {
                    InputGradient::Scatter(g) => {
                        let row = g.row_mut(first + i);
                        for (&dx, &column) in self.scratch.dx.iter().zip(context.parameters.skeleton) {
                            let to = &mut row[column as usize];
                            *to = T::from_f32(to.to_f32() + dx);
                        }
                    }
                    InputGradient::Separate { dx, .. } => T::narrow(&self.scratch.dx, dx.row_mut(first + i)),
                }
            }
            if context.desc.gate.reads_input() {
                self.linear(context, constants, first, count);
            }
        }
    }

    /// `dW_g += dlᵀ H`, and the gate's share `dl · W_g` of `dH`.
    fn linear(&mut self, context: &Context<'_, T>, constants: &Constants, first: usize, count: usize) {
        let Desc { components, cols, .. } = context.desc;
        let Scratch { da, da_panels, interleaved, chunk, .. } = &mut self.scratch;
        for (i, da) in da.chunks_exact(components).take(count).enumerate() {
            to_panels(da, i, 1, da_panels);
        }
        let token = self.first_token + first;
        let h = context.operands.h.row_range(token..token + count);
        for range in chunks(cols) {
            load_chunk(context.arch, h, &range, chunk);
            let (c, out) = (&*da_panels, &mut self.sums.linear);
            context.arch.dispatch(Outer { a: chunk, rows: count, c, first: range.start, cols: range.len(), out });
        }
        let (Some(panels), Some(h_gate)) = (&constants.gate, &mut self.h_gate) else {
            return;
        };
        kernels::interleave(&da[..count * components], components, interleaved);
        let starts: Vec<usize> = (0..count).map(|i| i * CHUNK_LD).collect();
        for range in chunks(cols) {
            chunk.fill(0.0);
            let (z, first_column) = (&interleaved[..], range.start);
            let (y, cols) = (&mut chunk[..], range.len());
            context.arch.dispatch(Expand { z, panels, first: first_column, cols, y, starts: &starts, bias: None });
            store_parts(context.arch, chunk, h_gate.cols(), &range, h_gate, first..first + count);
        }
    }
}

impl Scratch {
    /// Reads `X`, redraws its dropout and redoes `z`.
    fn load<T: Elem>(
        &mut self,
        context: &Context<'_, T>,
        x: MatRef<'_, T>,
        a: MatRef<'_, f32>,
        first: usize,
        count: usize,
        base: usize,
    ) {
        let width = context.width();
        for i in 0..count {
            let at = i * width..(i + 1) * width;
            T::widen(x.row(first + i), &mut self.x[at.clone()]);
            if let Some(dropout) = &context.operands.dropout {
                dropout::fill(dropout, (base + first + i) as u64, &mut self.mask[at.clone()]);
            }
            gate::premix(&self.x[at.clone()], &self.mask[at], a.row(first + i), &mut self.token_z);
            to_panels(&self.token_z, i, context.desc.split, &mut self.z);
        }
    }

    /// `dz = κ G (I_s⊗B)` and `dB += Gᵀ z`, chunk by chunk of `G`.
    fn products<T: Elem>(
        &mut self,
        context: &Context<'_, T>,
        constants: &Constants,
        g: MatRef<'_, T>,
        sums: &mut Panels,
    ) {
        let part = context.part();
        self.dz.data_mut().fill(0.0);
        for range in chunks(part) {
            load_parts(context.arch, g, part, &range, &mut self.chunk);
            let (a, first, cols) = (&self.chunk[..], range.start, range.len());
            context.arch.dispatch(Project { a, panels: &constants.b, first, cols, out: &mut self.dz });
            let rows = g.rows() * context.desc.split;
            context.arch.dispatch(Outer { a, rows, c: &self.z, first, cols, out: sums });
        }
    }

    /// `dX` of token `i` of the tile, and its part of the gate's gradient.
    fn token<T: Elem>(&mut self, context: &Context<'_, T>, a: &[f32], i: usize, gradient: &mut [f32]) {
        let Desc { components, split, gate, .. } = context.desc;
        let width = context.width();
        from_panels(&self.dz, i, split, &mut self.token_z);
        let (x, mask) = (&self.x[i * width..][..width], &self.mask[i * width..][..width]);
        let token = gate::Token { x, mask, a, dz: &self.token_z };
        let da = &mut self.da[i * components..][..components];
        token.backward(gate, context.parameters.gate.data(), &mut self.dx, da, gradient);
    }
}
