//! The adapter's forward and backward on operands that lie on a device, as a trainer runs them: planned once, then a few launches
//! a step on the caller's stream with the caller's memory.
//!
//! [`Plan::launch_forward`] and [`Plan::launch_backward`] do what [`Plan::forward`] and [`Plan::backward`] do, with the same checks
//! and the same bits. They allocate nothing on the device, copy nothing and wait for nothing;
//! [`resident`](crate::resident) says what that means for the order of things and for who keeps what alive.
//!
//! * **Plan once.** A [`Plan`] for every shape, a [`Skeleton`] for every module, one [`Workspace`] for the stream, as
//!   large as the largest [`Plan::workspace_bytes`].
//! * **Modules of one shape in one launch.** Query, key and value, or gate and up, are a slice of modules: each with its own
//!   operands, all with the same number of tokens. Up to 8 modules are one launch of each kernel, more are several of at most 8.
//! * **Graphs.** A step can be captured in a CUDA graph. Run it once before (images are loaded at the first launch), capture on
//!   the stream of [`Cuda::on_stream`](crate::cuda::Cuda::on_stream), keep every operand and the workspace alive and in place
//!   as long as the graph is launched, and let no two launches of it, nor of anything else that has the same workspace,
//!   overlap. Addresses, `scale`, number of tokens and the seed of the dropout are what they were: a captured training
//!   step draws the same mask every time. `cudarc`'s event tracking does not go into a capture: build views of its slices
//!   outside, or from addresses, or with its tracking off.
//!
//! ```
//! use idlora::lowrank::resident::{Backward, Forward, Gradients, InputGradient, Layer, Output, Parameters, Saved, SavedMut, Skeleton};
//! use idlora::lowrank::{Bias, Desc, DownProjection, Gate, Plan};
//! use idlora::resident::{Buffer, MatMut, MatRef, Workspace};
//! use idlora::{Device, Dtype};
//!
//! # #[cfg(not(feature = "vm"))]
//! # fn main() {}
//! # #[cfg(feature = "vm")]
//! # fn main() -> idlora::Result<()> {
//! # if let Err(reason) = idlora::vm::Vm::default().probe() { println!("skipped: {reason}"); return Ok(()); }
//! let device = Device::Vm(Default::default()); // or Device::Cuda(Cuda::on_stream(the trainer's)?)
//! let (tokens, rows, cols, rank, components) = (3, 16, 8, 2, 2);
//!
//! // Once.
//! let (gate, down, bias) = (Gate::RmsInner, DownProjection::Gather, Bias::None);
//! let plan = Plan::new(&device, Desc { rows, cols, rank, components, split: 2, gate, down, bias })?;
//! let skeleton = Skeleton::new(&plan, &[3, 1, 8, 15])?;
//! let mut workspace = Workspace::new(&device, plan.workspace_bytes(Dtype::F32, tokens, 1))?;
//! let b = Buffer::from_slice(&device, &[0.5f32; 8])?;
//! let t = Buffer::from_slice(&device, &[1.0f32, -1.0])?;
//! let mut y = Buffer::from_slice(&device, &[0.25f32; 48])?; // the base layer's output
//! let (mut x, mut a) = (Buffer::zeros(&device, 12)?, Buffer::zeros(&device, 6)?);
//! let mut g = Buffer::from_slice(&device, &[1.0f32; 48])?; // ∂L/∂Y
//! let (mut db, mut dt) = (Buffer::zeros(&device, 8)?, Buffer::zeros(&device, 2)?);
//!
//! // Every step.
//! let parameters = Parameters {
//!     skeleton: &skeleton,
//!     b: MatRef::new(&b, 8, 1)?,
//!     gate: MatRef::new(&t, 1, rank)?,
//!     scale: 2.0,
//! };
//! let layer = Layer { h: None, w: None, bias: None, dropout: None };
//! let saved = SavedMut { x: MatMut::new(&mut x, tokens, 4)?, gate: MatMut::new(&mut a, tokens, 2)?, z: None };
//! let output = Output::InPlace(MatMut::new(&mut y, tokens, rows)?);
//! let forward = Forward { parameters: parameters.clone(), layer: layer.clone(), output, saved: Some(saved) };
//! plan.launch_forward(&mut [forward], &mut workspace)?; // queued; more modules of the shape would be more of the slice
//!
//! let saved = Saved { x: MatRef::new(&x, tokens, 4)?, gate: MatRef::new(&a, tokens, 2)?, z: None };
//! let input = InputGradient::Scatter(MatMut::new(&mut g, tokens, rows)?);
//! let (db_there, dt_there) = (MatMut::new(&mut db, 8, 1)?, MatMut::new(&mut dt, 1, rank)?);
//! let gradients = Gradients { b: db_there, gate: dt_there, h_gate: None, accumulate: false };
//! let backward = Backward { parameters, layer, saved, input, gradients };
//! plan.launch_backward(&mut [backward], &mut workspace)?;
//! assert!(db.to_vec()?.iter().all(|x| x.is_finite())); // waits
//! # Ok(())
//! # }
//! ```

mod backward;
mod forward;

use super::{Desc, Dropout, FORWARD, Plan, check};
use crate::device::on_device;
use crate::elem::Dtype;
use crate::error::{Error, Result};
use crate::gpu::Place;
use crate::gpu::lowrank::{Problem, View, step};
use crate::resident::{Buffer, MatMut, MatRef, Workspace, on_the_host};

/// The chosen rows of a module, checked once and on the device.
#[derive(Debug)]
pub struct Skeleton {
    buffer: Buffer<u32>,
    /// All are below it.
    rows: usize,
}

impl Skeleton {
    /// Checks `[k·r]` row numbers of W for plans of this shape and copies them to the plan's device.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of them, [`Error::Parameter`] for one beyond `rows` or one that is there twice,
    /// [`Error::Device`] for [`Device::Cpu`](crate::Device::Cpu), [`Error::OutOfMemory`].
    pub fn new(plan: &Plan, rows: &[u32]) -> Result<Self> {
        check::skeleton(FORWARD, &plan.desc, rows)?;
        Ok(Self { buffer: Buffer::from_slice(&plan.device, rows)?, rows: plan.desc.rows })
    }

    /// How many rows are chosen.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Never: a problem has components and ranks.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    pub(crate) fn view(&self) -> View<'_> {
        View::at(self.buffer.address(), 0)
    }

    pub(crate) fn place(&self) -> Place {
        self.buffer.place()
    }

    pub(crate) fn check(&self, op: &'static str, desc: &Desc) -> Result<()> {
        crate::error::check_len(op, "skeleton", desc.components * desc.rank, self.len())?;
        if self.rows != desc.rows {
            let found = format!("checked for a W of {} rows", self.rows);
            return Err(Error::parameter(op, "skeleton", format!("row numbers below {}", desc.rows), found));
        }
        Ok(())
    }
}

/// What a module holds, as both directions read it: [`Parameters`](super::Parameters) on a device.
#[derive(Clone, Debug)]
pub struct Parameters<'a> {
    /// Chosen rows of W.
    pub skeleton: &'a Skeleton,
    /// The shared matrix `B [m/s, r/s]`.
    pub b: MatRef<'a, f32>,
    /// The gate's parameters, shaped by [`Gate::parameter_shape`](super::Gate::parameter_shape).
    pub gate: MatRef<'a, f32>,
    /// κ.
    pub scale: f32,
}

/// Operands of the layer that some variants read: [`Layer`](super::Layer) on a device.
#[derive(Clone, Debug)]
pub struct Layer<'a, T> {
    /// The layer's input `H [t, n]`.
    pub h: Option<MatRef<'a, T>>,
    /// The base weight `W [m, n]`.
    pub w: Option<MatRef<'a, T>>,
    /// The base bias `[1, m]`.
    pub bias: Option<MatRef<'a, T>>,
    /// Dropout on `X`, in training only.
    pub dropout: Option<Dropout>,
}

/// Base output and where the adapted output goes: [`Output`](super::Output) on a device.
#[derive(Debug)]
pub enum Output<'a, T> {
    /// `Y0 [t, m]` becomes `Y`.
    InPlace(MatMut<'a, T>),
    /// `Y0 [t, m]` stays as it is.
    OutOfPlace {
        /// The base output.
        y0: MatRef<'a, T>,
        /// Receives `Y`.
        y: MatMut<'a, T>,
    },
}

/// What the forward leaves for the backward: [`SavedMut`](super::SavedMut) on a device.
#[derive(Debug)]
pub struct SavedMut<'a, T> {
    /// `X [t, k·r]` (before dropout).
    pub x: MatMut<'a, T>,
    /// Gate values `a [t, k]`.
    pub gate: MatMut<'a, f32>,
    /// `z [t, r]`, where `4·r` bytes a token are worth it: without it the backward reads `X` once more.
    pub z: Option<MatMut<'a, f32>>,
}

/// What the forward has left: [`Saved`](super::Saved) on a device.
#[derive(Clone, Debug)]
pub struct Saved<'a, T> {
    /// `X [t, k·r]` (before dropout).
    pub x: MatRef<'a, T>,
    /// Gate values `a [t, k]`.
    pub gate: MatRef<'a, f32>,
    /// `z [t, r]`, if it was kept.
    pub z: Option<MatRef<'a, f32>>,
}

/// Where `dX` goes: [`InputGradient`](super::InputGradient) on a device.
#[derive(Debug)]
pub enum InputGradient<'a, T> {
    /// Added to columns S of `G [t, m]`, which the caller gives away: it becomes `dY0`.
    Scatter(MatMut<'a, T>),
    /// `G [t, m]` stays as it is; `dX [t, k·r]` is written out.
    Separate {
        /// `∂L/∂Y`.
        g: MatRef<'a, T>,
        /// Receives `dX`.
        dx: MatMut<'a, T>,
    },
}

/// Gradients that the backward produces: [`Gradients`](super::Gradients) on a device.
#[derive(Debug)]
pub struct Gradients<'a, T> {
    /// `dB [m/s, r/s]`.
    pub b: MatMut<'a, f32>,
    /// Shaped like the gate's parameters.
    pub gate: MatMut<'a, f32>,
    /// The gate's share of `dH [t, n]`, overwritten: linear gates only, and only where it is wanted.
    pub h_gate: Option<MatMut<'a, T>>,
    /// Add to `b` and `gate` instead of overwriting them (micro-batches).
    pub accumulate: bool,
}

/// One module's forward.
#[derive(Debug)]
pub struct Forward<'a, T> {
    /// What the adapter holds.
    pub parameters: Parameters<'a>,
    /// What the layer gives it.
    pub layer: Layer<'a, T>,
    /// Base output and result.
    pub output: Output<'a, T>,
    /// Where to leave what the backward needs.
    pub saved: Option<SavedMut<'a, T>>,
}

/// One module's backward: same parameters and layer as its forward.
#[derive(Debug)]
pub struct Backward<'a, T> {
    /// What the adapter holds.
    pub parameters: Parameters<'a>,
    /// What the layer gives it; its `w` and its bias are not read.
    pub layer: Layer<'a, T>,
    /// What the forward has left.
    pub saved: Saved<'a, T>,
    /// `G`, and where `dX` goes.
    pub input: InputGradient<'a, T>,
    /// Where the parameters' gradients go.
    pub gradients: Gradients<'a, T>,
}

impl Plan {
    /// Bytes of workspace that [`launch_forward`](Self::launch_forward) and [`launch_backward`](Self::launch_backward) need
    /// for so many modules at a time: the larger of the two. `usize::MAX` for what no memory holds.
    pub fn workspace_bytes(&self, dtype: Dtype, tokens: usize, modules: usize) -> usize {
        let problem = Problem { desc: self.desc, dtype, tokens };
        step::forward_bytes(&problem, modules).max(step::backward_bytes(&problem, modules))
    }
}

/// The number of tokens that all modules have, each of which `check` checks and counts.
///
/// # Errors
/// The first module's, with its place where there are several; [`Error::Shape`] for another number of tokens than the first.
fn each<M>(
    op: &'static str,
    operand: &'static str,
    modules: &[M],
    check: impl Fn(&M) -> Result<usize>,
) -> Result<usize> {
    let mut tokens = 0;
    for (place, module) in modules.iter().enumerate() {
        let found = check(module).and_then(|found| {
            if place == 0 {
                tokens = found;
            }
            if found == tokens {
                return Ok(());
            }
            Err(Error::shape(op, operand, format!("{tokens} rows as in modules[0]"), format!("{found} rows")))
        });
        found.map_err(|error| if modules.len() > 1 { in_module(error, place) } else { error })?;
    }
    Ok(tokens)
}

/// The error, with the module it is of.
fn in_module(mut error: Error, place: usize) -> Error {
    match &mut error {
        Error::Shape { found: text, .. } | Error::Parameter { found: text, .. } => {
            text.push_str(&format!(" in modules[{place}]"));
        }
        Error::Operand { reason: text, .. } | Error::Unsupported { reason: text, .. } => {
            text.push_str(&format!(" (modules[{place}])"));
        }
        _ => {}
    }
    error
}

/// Refuses an operand of another device or stream.
pub(crate) fn here(op: &'static str, operand: &'static str, place: Place, found: Option<Place>) -> Result<()> {
    if found.is_none_or(|found| found == place) {
        return Ok(());
    }
    Err(Error::operand(op, operand, "lies on another device, or on another stream, than the plan's"))
}

impl Parameters<'_> {
    pub(crate) fn check(&self, op: &'static str, desc: &Desc, place: Place) -> Result<()> {
        self.skeleton.check(op, desc)?;
        check::trained(op, desc, self.b.shape(), self.gate.shape(), self.scale)?;
        here(op, "skeleton", place, Some(self.skeleton.place()))?;
        here(op, "b", place, self.b.place())?;
        here(op, "gate", place, self.gate.place())
    }
}

impl<T> Layer<'_, T> {
    fn check_places(&self, op: &'static str, place: Place) -> Result<()> {
        for (operand, view) in [("h", &self.h), ("w", &self.w), ("bias", &self.bias)] {
            here(op, operand, place, view.as_ref().and_then(MatRef::place))?;
        }
        Ok(())
    }
}

/// What the kernels read of both; `h`, `w` and `bias` only where they read it.
fn operands<'m, T>(
    parameters: &'m Parameters<'_>,
    layer: &'m Layer<'_, T>,
    [h, w, bias]: [bool; 3],
) -> crate::gpu::lowrank::Operands<'m> {
    let read = |view: &'m Option<MatRef<'_, T>>, read: bool| view.as_ref().filter(|_| read).map(MatRef::view);
    crate::gpu::lowrank::Operands {
        skeleton: parameters.skeleton.view(),
        b: parameters.b.view(),
        gate: parameters.gate.view(),
        scale: parameters.scale,
        h: read(&layer.h, h),
        w: read(&layer.w, w),
        bias: read(&layer.bias, bias),
        dropout: layer.dropout,
    }
}

/// The workspace, if it is of the plan's device.
fn workspace_here(op: &'static str, place: Place, workspace: &Workspace) -> Result<()> {
    here(op, "workspace", place, Some(workspace.place()))
}
