//! A group of modules as the kernels of the forward take it: `Group` of `kernels/common/shrink.cuh`.

use super::layout::Layout;
use super::view::{View, ViewMut};
use crate::elem::Dtype;
use crate::error::{Error, Result};
use crate::gpu::variants::lowrank as tile;
use crate::lowrank::{Bias, Desc, DownProjection, Dropout, FORWARD, Gate};

/// What the modules of a group have in common, checked by [`Plan`](crate::lowrank::Plan).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Problem {
    pub desc: Desc,
    pub dtype: Dtype,
    /// t.
    pub tokens: usize,
}

/// What a module reads. `h`, `w` and `bias` must be there where the problem reads them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operands<'a> {
    /// `[k·r]` of u32.
    pub skeleton: View<'a>,
    /// `[m/s, r/s]` of f32.
    pub b: View<'a>,
    /// f32.
    pub gate: View<'a>,
    /// κ.
    pub scale: f32,
    pub h: Option<View<'a>>,
    pub w: Option<View<'a>>,
    pub bias: Option<View<'a>>,
    pub dropout: Option<Dropout>,
}

/// What is left for the backward: `X`, gate values in f32, and `z [t, r]` in f32 where it is wanted.
#[derive(Debug)]
pub(crate) struct SavedMut<'a> {
    pub x: ViewMut<'a>,
    pub gate: ViewMut<'a>,
    pub z: Option<ViewMut<'a>>,
}

/// One module's forward. In place, `y0` is where `y` is.
#[derive(Debug)]
pub(crate) struct Module<'a> {
    pub operands: Operands<'a>,
    pub y0: View<'a>,
    pub y: ViewMut<'a>,
    /// X, where it is not gathered; it may lie where X is saved, and is not written again then.
    pub given: Option<View<'a>>,
    pub saved: Option<SavedMut<'a>>,
}

/// `Adapter` of `kernels/common/module.cuh`: what both directions read.
#[repr(C)]
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Adapter {
    skeleton: u64,
    b: u64,
    gate: u64,
    h: u64,
    ld_b: u64,
    ld_gate: u64,
    ld_h: u64,
    seed: u64,
    offset: u64,
    drops: u32,
    threshold: u32,
    kept: f32,
    scale: f32,
}

const _: () = assert!(size_of::<Adapter>() == 88);

impl Adapter {
    /// # Errors
    /// [`Error::Operand`] for an H that the gate reads and is not there.
    pub fn of(op: &'static str, desc: &Desc, operands: &Operands<'_>) -> Result<Self> {
        let Operands { skeleton, b, gate, scale, dropout, .. } = *operands;
        let (h, ld_h) = needed(op, "h", operands.h, desc.gate.reads_input())?;
        let ((b, ld_b), (gate, ld_gate)) = (place(b), place(gate));
        let mut row =
            Self { skeleton: skeleton.address, b, gate, h, ld_b, ld_gate, ld_h, kept: 1.0, scale, ..Self::default() };
        if let Some(dropout) = dropout {
            (row.drops, row.seed, row.offset) = (1, dropout.seed, dropout.offset);
            // p < 1, so below 2^32.
            row.threshold = dropout.threshold() as u32;
            row.kept = dropout.kept_scale();
        }
        Ok(row)
    }
}

/// Address and distance of rows, as kernels have them.
pub(super) fn place(view: View<'_>) -> (u64, u64) {
    (view.address, view.ld as u64)
}

fn needed(op: &'static str, operand: &'static str, view: Option<View<'_>>, read: bool) -> Result<(u64, u64)> {
    match view {
        Some(view) => Ok(place(view)),
        None if read => Err(Error::operand(op, operand, "is missing; the problem reads it")),
        None => Ok((0, 0)),
    }
}

/// `Module` of `shrink.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
struct Row {
    adapter: Adapter,
    y0: u64,
    bias: u64,
    given: u64,
    y: u64,
    x: u64,
    a: u64,
    z: u64,
    ld_y0: u64,
    ld_given: u64,
    ld_y: u64,
    ld_x: u64,
    ld_a: u64,
    ld_z: u64,
}

const _: () = assert!(size_of::<Row>() == 192);

/// `Shape` of `shrink.cuh`.
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
    bias_kind: u32,
    blocks: u32,
    layout: Layout,
}

const _: () = assert!(size_of::<Shape>() == 88);

/// `Group` of `shrink.cuh`: the scalars of a launch.
#[repr(C)]
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Group {
    shape: Shape,
    modules: [Row; tile::MODULES],
}

const _: () = assert!(size_of::<Group>() == tile::SCALARS);

impl Group {
    /// The table of modules, each of `blocks` blocks.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for more than [`tile::MODULES`], or more rows or columns than 32 bits count; [`Error::Operand`] for an operand that the problem
    /// reads and is not there.
    pub fn of(problem: &Problem, modules: &[Module<'_>], layout: Layout, blocks: u32) -> Result<Self> {
        if modules.len() > tile::MODULES {
            let reason = format!("{} modules; one launch takes at most {}", modules.len(), tile::MODULES);
            return Err(Error::unsupported(FORWARD, reason));
        }
        let Desc { rows, cols, rank, components, split, gate, bias, down } = problem.desc;
        let narrow = |what: &str, size: usize| {
            u32::try_from(size)
                .map_err(|_| Error::unsupported(FORWARD, format!("{size} {what} are more than {}", u32::MAX)))
        };
        let shape = Shape {
            tokens: problem.tokens as u64,
            rows: narrow("rows", rows)?,
            cols: narrow("columns", cols)?,
            rank: narrow("ranks", rank)?,
            components: narrow("components", components)?,
            split: narrow("parts", split)?,
            gate_kind: gate_kind(gate),
            bias_kind: match (bias, down) {
                // An X that is not gathered has no bias to lose.
                (Bias::None, _) | (Bias::Included, DownProjection::Gemm) => 0,
                (Bias::Included, DownProjection::Gather) => 1,
                (Bias::Separate, _) => 2,
            },
            blocks,
            layout,
        };
        let mut group = Self { shape, ..Self::default() };
        for (row, module) in group.modules.iter_mut().zip(modules) {
            *row = Row::of(&problem.desc, module)?;
        }
        Ok(group)
    }
}

impl Row {
    fn of(desc: &Desc, module: &Module<'_>) -> Result<Self> {
        let Module { operands, y0, y, given, saved } = module;
        let (bias, _) = needed(FORWARD, "bias", operands.bias, desc.bias != Bias::None)?;
        let mut row = Self { adapter: Adapter::of(FORWARD, desc, operands)?, bias, ..Self::default() };
        (row.y0, row.ld_y0) = place(*y0);
        (row.y, row.ld_y) = place(y.as_view());
        if let Some(SavedMut { x, gate, z }) = saved {
            if given.is_none_or(|given| given.address != x.address) {
                (row.x, row.ld_x) = place(x.as_view());
            }
            (row.a, row.ld_a) = place(gate.as_view());
            if let Some(z) = z {
                (row.z, row.ld_z) = place(z.as_view());
            }
        }
        if let Some(given) = given {
            (row.given, row.ld_given) = place(*given);
        }
        Ok(row)
    }
}

/// `Gate` of the kernels.
pub(super) fn gate_kind(gate: Gate) -> u32 {
    match gate {
        Gate::Inner => 0,
        Gate::RmsInner => 1,
        Gate::Linear => 2,
        Gate::LinearSoftmax => 3,
        Gate::Static => 4,
    }
}
