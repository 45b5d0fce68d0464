//! The adapter on a device: `kernels/lowrank.cu`.
//!
//! Two layers. [`launch`] takes operands that lie on the device, allocates nothing and waits for nothing: where a trainer's
//! own buffers enter. [`forward`] takes host memory there and back.

mod backward;
mod backward_host;
mod forward;
mod layout;

pub(crate) use backward_host::backward;
pub(crate) use forward::forward;

use super::variants::{Element, Family, lowrank as tile};
use super::{Gpu, Kernel, blocks};
use crate::elem::Dtype;
use crate::error::{Error, Result};
use crate::lowrank::{Bias, Desc, Dropout, FORWARD, Gate};
use layout::Layout;

/// A matrix in a buffer of the device: its first element and the distance of its rows, in elements.
#[derive(Debug)]
pub(crate) struct View<'a, B> {
    pub buffer: &'a B,
    pub start: usize,
    pub ld: usize,
}

impl<'a, B> View<'a, B> {
    /// A whole buffer.
    pub fn whole(buffer: &'a B, ld: usize) -> Self {
        Self { buffer, start: 0, ld }
    }
}

/// A matrix that is written.
#[derive(Debug)]
pub(crate) struct ViewMut<'a, B> {
    pub buffer: &'a mut B,
    pub start: usize,
    pub ld: usize,
}

impl<'a, B> ViewMut<'a, B> {
    /// A whole buffer.
    pub fn whole(buffer: &'a mut B, ld: usize) -> Self {
        Self { buffer, start: 0, ld }
    }
}

/// The problem, checked by [`Plan`](crate::lowrank::Plan).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Problem {
    pub desc: Desc,
    pub dtype: Dtype,
    /// t.
    pub tokens: usize,
    /// κ.
    pub scale: f32,
    pub dropout: Option<Dropout>,
}

/// What is read. `h` and `bias` must be there where the problem reads them.
#[derive(Debug)]
pub(crate) struct Operands<'a, B> {
    /// `[k·r]` of u32.
    pub skeleton: View<'a, B>,
    /// `[m/s, r/s]` of f32.
    pub b: View<'a, B>,
    /// f32.
    pub gate: View<'a, B>,
    pub h: Option<View<'a, B>>,
    pub bias: Option<View<'a, B>>,
}

/// `Y0` and `Y`.
#[derive(Debug)]
pub(crate) enum Target<'a, B> {
    InPlace(ViewMut<'a, B>),
    OutOfPlace { y0: View<'a, B>, y: ViewMut<'a, B> },
}

/// What is left for the backward: `X`, and gate values in f32.
#[derive(Debug)]
pub(crate) struct Saved<'a, B> {
    pub x: ViewMut<'a, B>,
    pub gate: ViewMut<'a, B>,
}

/// `Shape` of `lowrank.cu`.
#[repr(C)]
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
struct Shape {
    y0: u64,
    y: u64,
    h: u64,
    skeleton: u64,
    b: u64,
    gate: u64,
    bias: u64,
    x: u64,
    a: u64,
    ld_y0: u64,
    ld_y: u64,
    ld_h: u64,
    ld_b: u64,
    ld_gate: u64,
    ld_x: u64,
    ld_a: u64,
    tokens: u64,
    seed: u64,
    offset: u64,
    rows: u32,
    cols: u32,
    rank: u32,
    components: u32,
    split: u32,
    gate_kind: u32,
    bias_kind: u32,
    in_place: u32,
    drops: u32,
    threshold: u32,
    kept: f32,
    scale: f32,
    layout: Layout,
}

const _: () = assert!(size_of::<Shape>() == tile::SCALARS);

/// Runs the forward in one launch. The buffers hold what the views say and the problem needs; `t` may be 0.
///
/// # Errors
/// [`Error::Unsupported`] where a block's share of the problem does not fit in shared memory, or more columns or blocks than
/// 32 bits count; [`Error::Operand`] for an operand that the problem reads and is not there; what [`Gpu`] refuses.
pub(crate) fn launch<G: Gpu>(
    gpu: &G,
    problem: &Problem,
    operands: &Operands<'_, G::Buffer>,
    target: Target<'_, G::Buffer>,
    saved: Option<Saved<'_, G::Buffer>>,
) -> Result<()> {
    let Problem { desc, dtype, tokens, .. } = *problem;
    if tokens == 0 {
        return Ok(());
    }
    let element = Element::from(dtype);
    let layout = Layout::choose(&desc, element, problem.dropout.is_some(), gpu.shared_limit() as usize)?;
    let grid = super::Grid {
        blocks: blocks(FORWARD, tokens.div_ceil(layout.tokens()))?,
        shared: layout.bytes(&desc, element),
    };
    let mut shape = shape(problem, operands, layout)?;

    // A pointer that is not followed.
    let unread = operands.skeleton.buffer;
    let (y0, y) = match target {
        Target::InPlace(y) => {
            (shape.in_place, shape.ld_y0) = (1, y.ld as u64);
            (unread, y)
        }
        Target::OutOfPlace { y0, y } => {
            (shape.y0, shape.ld_y0) = (y0.start as u64, y0.ld as u64);
            (y0.buffer, y)
        }
    };
    (shape.y, shape.ld_y) = (y.start as u64, y.ld as u64);
    let h = operands.h.as_ref().map_or(unread, |h| h.buffer);
    let bias = operands.bias.as_ref().map_or(unread, |bias| bias.buffer);
    let inputs = &[y0, h, unread, operands.b.buffer, operands.gate.buffer, bias];
    let kernel = |entry| Kernel::of(FORWARD, Family::Lowrank, Some(dtype), entry);
    match saved {
        None => gpu.launch(&kernel(&tile::FORWARD)?, grid, inputs, &mut [y.buffer], bytemuck::bytes_of(&shape)),
        Some(Saved { x, gate }) => {
            (shape.x, shape.ld_x) = (x.start as u64, x.ld as u64);
            (shape.a, shape.ld_a) = (gate.start as u64, gate.ld as u64);
            let outputs = &mut [y.buffer, x.buffer, gate.buffer];
            gpu.launch(&kernel(&tile::FORWARD_SAVING)?, grid, inputs, outputs, bytemuck::bytes_of(&shape))
        }
    }
}

/// `Gate` of the kernels.
fn gate_kind(gate: Gate) -> u32 {
    match gate {
        Gate::Inner => 0,
        Gate::RmsInner => 1,
        Gate::Linear => 2,
        Gate::LinearSoftmax => 3,
        Gate::Static => 4,
    }
}

/// The scalars of what is read.
fn shape<B>(problem: &Problem, operands: &Operands<'_, B>, layout: Layout) -> Result<Shape> {
    let Desc { rows, cols, rank, components, split, gate, bias, .. } = problem.desc;
    let narrow = |what: &str, size: usize| {
        u32::try_from(size)
            .map_err(|_| Error::unsupported(FORWARD, format!("{size} {what} are more than {}", u32::MAX)))
    };
    let needed = |operand, view: &Option<View<'_, B>>, read: bool| match view {
        Some(view) => Ok((view.start as u64, view.ld as u64)),
        None if read => Err(Error::operand(FORWARD, operand, "is missing; the problem reads it")),
        None => Ok((0, 0)),
    };
    let (h, ld_h) = needed("h", &operands.h, gate.reads_input())?;
    let (shift, _) = needed("bias", &operands.bias, bias != Bias::None)?;
    let mut shape = Shape {
        h,
        ld_h,
        bias: shift,
        skeleton: operands.skeleton.start as u64,
        b: operands.b.start as u64,
        ld_b: operands.b.ld as u64,
        gate: operands.gate.start as u64,
        ld_gate: operands.gate.ld as u64,
        tokens: problem.tokens as u64,
        rows: narrow("rows", rows)?,
        cols: narrow("columns", cols)?,
        rank: narrow("ranks", rank)?,
        components: narrow("components", components)?,
        split: narrow("parts", split)?,
        gate_kind: gate_kind(gate),
        bias_kind: match bias {
            Bias::None => 0,
            Bias::Included => 1,
            Bias::Separate => 2,
        },
        kept: 1.0,
        scale: problem.scale,
        layout,
        ..Shape::default()
    };
    if let Some(dropout) = &problem.dropout {
        (shape.drops, shape.seed, shape.offset) = (1, dropout.seed, dropout.offset);
        // p < 1, so below 2^32.
        shape.threshold = dropout.threshold() as u32;
        shape.kept = dropout.kept_scale();
    }
    Ok(shape)
}

#[cfg(all(test, feature = "vm"))]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::gpu::vm::Vm;
    use crate::lowrank::{DownProjection, Layer, Output, Parameters, Plan, SavedMut};
    use crate::mat::{MatMut, MatRef};
    use half::bf16;

    const TOKENS: usize = 19;
    const DESC: Desc = Desc {
        rows: 70,
        cols: 20,
        rank: 6,
        components: 2,
        split: 2,
        gate: Gate::LinearSoftmax,
        down: DownProjection::Gather,
        bias: Bias::Included,
    };

    /// `len` values between −1 and 1, after `start` that are NaN.
    fn values(start: usize, len: usize, seed: usize) -> Vec<f32> {
        let value = |i: usize| ((i * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0;
        std::iter::repeat_n(f32::NAN, start).chain((0..len).map(value)).collect()
    }

    fn narrow(values: &[f32]) -> Vec<bf16> {
        values.iter().map(|&x| bf16::from_f32(x)).collect()
    }

    /// Y, X and the gate, by way of [`Plan`].
    fn expected(vm: &Vm, skeleton: &[u32], sizes: [usize; 5]) -> (Vec<bf16>, Vec<bf16>, Vec<f32>) {
        let Desc { rows, cols, rank, components, split, .. } = DESC;
        let [y0, h, bias, b, gate] = std::array::from_fn(|i| values(0, sizes[i], i));

        let (mut y, mut x) = (vec![bf16::ZERO; TOKENS * rows], vec![bf16::ZERO; TOKENS * rank * components]);
        let mut a = vec![0.0f32; TOKENS * components];
        let parameters = Parameters {
            skeleton,
            b: MatRef::new(&b, rows / split, rank / split).unwrap(),
            gate: MatRef::new(&gate, components, cols).unwrap(),
            scale: 0.5,
        };
        let [y0_here, h_here, bias_here] = [&y0, &h, &bias].map(|values| narrow(values));
        let layer = Layer {
            h: Some(MatRef::new(&h_here, TOKENS, cols).unwrap()),
            w: None,
            bias: Some(&bias_here),
            dropout: None,
        };
        let output = Output::OutOfPlace {
            y0: MatRef::new(&y0_here, TOKENS, rows).unwrap(),
            y: MatMut::new(&mut y, TOKENS, rows).unwrap(),
        };
        let saved = SavedMut {
            x: MatMut::new(&mut x, TOKENS, rank * components).unwrap(),
            gate: MatMut::new(&mut a, TOKENS, components).unwrap(),
        };
        Plan::new(&Device::Vm(vm.clone()), DESC).unwrap().forward(&parameters, &layer, output, Some(saved)).unwrap();
        (y, x, a)
    }

    /// What [`launch`] is given and [`forward`] never gives it: operands somewhere in their buffers, one launch, nothing more.
    #[test]
    fn operands_start_anywhere_in_their_buffers() {
        let vm = Vm::default();
        if let Err(error) = vm.probe() {
            assert!(std::env::var_os("REQUIRE_NVRTC").is_none(), "{error}");
            return println!("skipped: {error}");
        }
        let Desc { rows, cols, rank, components, split, .. } = DESC;
        let skeleton: Vec<u32> = (0..12).map(|i| (i * 41 % 70) as u32).collect();
        let sizes = [TOKENS * rows, TOKENS * cols, rows, rows / split * rank / split, components * cols];
        let (y, x, a) = expected(&vm, &skeleton, sizes);

        let there =
            |name, start: usize, i: usize| vm.upload(FORWARD, name, &narrow(&values(start, sizes[i], i))).unwrap();
        let [y0, h, bias] = [("y0", 3, 0), ("h", 7, 1), ("bias", 5, 2)].map(|(name, start, i)| there(name, start, i));
        let b = vm.upload(FORWARD, "b", &values(2, sizes[3], 3)).unwrap();
        let gate = vm.upload(FORWARD, "gate", &values(9, sizes[4], 4)).unwrap();
        let chosen = vm.upload(FORWARD, "skeleton", &[&[u32::MAX][..], &skeleton].concat()).unwrap();
        let mut y_there = vm.upload(FORWARD, "y", &narrow(&values(1, y.len(), 9))).unwrap();
        let mut x_there = vm.upload(FORWARD, "x", &narrow(&values(4, x.len(), 9))).unwrap();
        let mut a_there = vm.upload(FORWARD, "a", &values(6, a.len(), 9)).unwrap();
        let problem = Problem { desc: DESC, dtype: Dtype::BF16, tokens: TOKENS, scale: 0.5, dropout: None };
        let operands = Operands {
            skeleton: View { buffer: &chosen, start: 1, ld: 0 },
            b: View { buffer: &b, start: 2, ld: rank / split },
            gate: View { buffer: &gate, start: 9, ld: cols },
            h: Some(View { buffer: &h, start: 7, ld: cols }),
            bias: Some(View { buffer: &bias, start: 5, ld: 0 }),
        };
        let target = Target::OutOfPlace {
            y0: View { buffer: &y0, start: 3, ld: rows },
            y: ViewMut { buffer: &mut y_there, start: 1, ld: rows },
        };
        let saved = Saved {
            x: ViewMut { buffer: &mut x_there, start: 4, ld: rank * components },
            gate: ViewMut { buffer: &mut a_there, start: 6, ld: components },
        };
        vm.take_launches();
        launch(&vm, &problem, &operands, target, Some(saved)).unwrap();
        assert_eq!(vm.take_launches().len(), 1);

        let found = |buffer, start: usize, expected: &[bf16], name| {
            let mut all = vec![bf16::ZERO; start + expected.len()];
            vm.download(FORWARD, buffer, &mut all).unwrap();
            assert!(all[..start].iter().all(|x| x.is_nan()), "before {name}");
            assert_eq!(&all[start..], expected, "{name}");
        };
        found(&y_there, 1, &y, "y");
        found(&x_there, 4, &x, "x");
        let mut gates = vec![0.0f32; 6 + a.len()];
        vm.download(FORWARD, &a_there, &mut gates).unwrap();
        assert!(gates[..6].iter().all(|x| x.is_nan()) && gates[6..] == a);

        let without = Operands { h: None, ..operands };
        let target = Target::InPlace(ViewMut { buffer: &mut y_there, start: 1, ld: rows });
        let error = launch(&vm, &problem, &without, target, None).unwrap_err().to_string();
        assert_eq!(error, "lowrank forward: operand `h` is missing; the problem reads it");
    }
}
