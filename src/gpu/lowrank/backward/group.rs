//! A group of modules as the kernels of the backward take it: `Group` of `kernels/common/grad.cuh`.

use super::super::group::{Adapter, Problem, gate_kind, place};
use super::super::view::ViewMut;
use super::cut::{Cut, PARTS, gradient};
use super::{BackwardModule, Gradients, Input, Saved};
use crate::error::{Error, Result};
use crate::gpu::variants::lowrank_grad as tile;
use crate::lowrank::{BACKWARD, Desc};

/// `Module` of `grad.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
struct Row {
    adapter: Adapter,
    g: u64,
    x: u64,
    a: u64,
    target: u64,
    h_gate: u64,
    grad_b: u64,
    grad_gate: u64,
    z: u64,
    dz: u64,
    b_sums: u64,
    gate_sums: u64,
    dl: u64,
    ld_g: u64,
    ld_x: u64,
    ld_a: u64,
    ld_target: u64,
    ld_h_gate: u64,
    ld_grad_b: u64,
    ld_grad_gate: u64,
    ld_z: u64,
    scatters: u32,
    accumulates: u32,
}

const _: () = assert!(size_of::<Row>() == 256);

/// `Shape` of `grad.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
struct Shape {
    tokens: u64,
    rows: u32,
    cols: u32,
    rank: u32,
    components: u32,
    split: u32,
    gate_kind: u32,
    blocks: u32,
    segment_rows: u32,
    segments: u32,
    slices: u32,
    depth_slices: u32,
    chunk: u32,
    linear_chunk: u32,
    gradient: u32,
    gate_rows: u32,
    gate_cols: u32,
    gate_segments: u32,
    b_blocks: u32,
}

const _: () = assert!(size_of::<Shape>() == 80);

/// `Group` of `grad.cuh`: the scalars of every launch.
#[repr(C)]
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Group {
    shape: Shape,
    modules: [Row; tile::MODULES],
}

const _: () = assert!(size_of::<Group>() == tile::SCALARS);

impl Group {
    /// The table of at most [`tile::MODULES`] modules, whose parts of the scratch start at `scratch`, one after the other.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for sizes that 32 bits do not count, [`Error::Operand`] for an operand that the problem reads and
    /// is not there.
    pub fn of(problem: &Problem, cut: &Cut, modules: &[BackwardModule<'_>], scratch: u64) -> Result<Self> {
        let mut group = Self { shape: shape(problem, cut)?, ..Self::default() };
        let [starts @ .., bytes] = cut.parts(&problem.desc, problem.tokens);
        let mixed = all_mixed(modules);
        for (i, (row, module)) in group.modules.iter_mut().zip(modules).enumerate() {
            let here = scratch + (i * bytes) as u64;
            *row = Row::of(&problem.desc, module, mixed, starts.map(|start| here + start as u64))?;
        }
        Ok(group)
    }

    /// The scalars of a launch with so many blocks of each module.
    pub fn scalars(&mut self, blocks: u32) -> &[u8] {
        self.shape.blocks = blocks;
        bytemuck::bytes_of(self)
    }

    /// The scalars of the sums at the end: blocks of a module, of which the first ones sum dB.
    pub fn sums(&mut self, of_b: u32, blocks: u32) -> &[u8] {
        self.shape.b_blocks = of_b;
        self.scalars(blocks)
    }
}

/// Whether the forward has left z of every module.
pub(super) fn all_mixed(modules: &[BackwardModule<'_>]) -> bool {
    modules.iter().all(|module| module.saved.z.is_some())
}

fn shape(problem: &Problem, cut: &Cut) -> Result<Shape> {
    let Desc { rows, cols, rank, components, split, gate, .. } = problem.desc;
    let narrow = |what: &str, size: usize| {
        u32::try_from(size)
            .map_err(|_| Error::unsupported(BACKWARD, format!("{size} {what} are more than {}", u32::MAX)))
    };
    let (gate_rows, gate_cols) = gate.parameter_shape(rank, components, cols);
    Ok(Shape {
        tokens: problem.tokens as u64,
        rows: narrow("rows", rows)?,
        cols: narrow("columns", cols)?,
        rank: narrow("ranks", rank)?,
        components: narrow("components", components)?,
        split: narrow("parts", split)?,
        gate_kind: gate_kind(gate),
        segment_rows: narrow("sub-rows of a segment", cut.segment_rows)?,
        segments: narrow("segments", cut.segments)?,
        slices: narrow("slices of columns", cut.slices)?,
        depth_slices: narrow("slices of ranks", cut.depth_slices)?,
        chunk: narrow("tokens of a block", cut.chunk)?,
        linear_chunk: narrow("tokens of a block", cut.linear_chunk)?,
        gradient: narrow("ranks", gradient(&problem.desc))?,
        gate_rows: narrow("rows of the gate", gate_rows)?,
        gate_cols: narrow("columns of the gate", gate_cols)?,
        gate_segments: narrow("chunks", cut.gate_segments(&problem.desc))?,
        ..Shape::default()
    })
}

impl Row {
    fn of(desc: &Desc, module: &BackwardModule<'_>, mixed: bool, scratch: [u64; PARTS]) -> Result<Self> {
        let BackwardModule { operands, saved, input, gradients } = module;
        let Saved { x, gate: a, z } = saved;
        let Gradients { b: grad_b, gate: grad_gate, h_gate, accumulate } = gradients;
        let target = |view: &ViewMut<'_>| place(view.as_view());
        let ((g, ld_g), (to, ld_target), scatters) = match input {
            Input::Scatter(g) => (target(g), target(g), 1),
            Input::Separate { g, dx } => (place(*g), target(dx), 0),
        };
        let ((x, ld_x), (a, ld_a)) = (place(*x), place(*a));
        let (h_gate, ld_h_gate) = h_gate.as_ref().map_or((0, 0), target);
        let ((grad_b, ld_grad_b), (grad_gate, ld_grad_gate)) = (target(grad_b), target(grad_gate));
        let [of_z, dz, b_sums, gate_sums, dl] = scratch;
        let (z, ld_z) = z.filter(|_| mixed).map_or((of_z, desc.rank as u64), place);
        Ok(Self {
            adapter: Adapter::of(BACKWARD, desc, operands)?,
            g,
            x,
            a,
            target: to,
            h_gate,
            grad_b,
            grad_gate,
            z,
            dz,
            b_sums,
            gate_sums,
            dl,
            ld_g,
            ld_x,
            ld_a,
            ld_target,
            ld_h_gate,
            ld_grad_b,
            ld_grad_gate,
            ld_z,
            scatters,
            accumulates: (*accumulate).into(),
        })
    }
}
