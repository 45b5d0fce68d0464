//! The layer with its components on operands that lie on a device, as a trainer runs it: planned once, then one launch a step on
//! the caller's stream with the caller's memory.
//!
//! [`Plan::launch`] does what [`Plan::run`] does, with the same checks and the same bits. It allocates nothing on the device,
//! copies nothing and waits for nothing; [`resident`](crate::resident) says what that means for the order of things and for who
//! keeps what alive. The components are those of [`lowrank::resident`](crate::lowrank::resident), whose
//! [`Plan::launch_backward`](crate::lowrank::Plan::launch_backward) takes what is saved; a workspace serves both in turn. What it
//! leaves is what [`Plan::launch_input_gradient`] makes the layer's `dH` of.
//!
//! ```
//! use idlora::lowrank::Gate;
//! use idlora::lowrank::resident::Parameters;
//! use idlora::resident::{Buffer, MatMut, MatRef, Workspace};
//! use idlora::shared_gemm::resident::Layer;
//! use idlora::shared_gemm::{Desc, Plan};
//! use idlora::{Device, Dtype, bf16};
//!
//! # #[cfg(not(feature = "vm"))]
//! # fn main() {}
//! # #[cfg(feature = "vm")]
//! # fn main() -> idlora::Result<()> {
//! # if let Err(reason) = idlora::vm::Vm::default().probe() { println!("skipped: {reason}"); return Ok(()); }
//! let device = Device::Vm(Default::default()); // or Device::Cuda(Cuda::on_stream(the trainer's)?)
//! let (tokens, rows, cols, rank, components) = (3, 16, 8, 2, 2);
//! let one = |len| vec![bf16::ONE; len];
//!
//! // Once.
//! let plan = Plan::new(&device, Desc { rows, cols, rank, components, split: 2, gate: Gate::Inner, bias: false })?;
//! let skeleton = plan.skeleton(&[3, 1, 8, 15])?;
//! let mut workspace = Workspace::new(&device, plan.workspace_bytes(Dtype::BF16, tokens))?;
//! let (h, w) = (Buffer::from_slice(&device, &one(24))?, Buffer::from_slice(&device, &one(128))?);
//! let b = Buffer::from_slice(&device, &[0.5f32; 8])?;
//! let t = Buffer::from_slice(&device, &[1.0f32, -0.5])?;
//! let mut y = Buffer::from_slice(&device, &one(48))?;
//!
//! // Every step.
//! let parameters =
//!     Parameters { skeleton: &skeleton, b: MatRef::new(&b, 8, 1)?, gate: MatRef::new(&t, 1, rank)?, scale: 2.0 };
//! let mut layer = Layer {
//!     h: MatRef::new(&h, tokens, cols)?,
//!     w: MatRef::new(&w, rows, cols)?,
//!     bias: None,
//!     y: MatMut::new(&mut y, tokens, rows)?,
//!     adapter: Some(parameters),
//!     dropout: None,
//!     saved: None,
//! };
//! plan.launch(&mut layer, &mut workspace)?; // queued
//! drop(layer);
//! // X is 8 everywhere and a is 4, so z is 64, and Y = 8 + 2 · 0.5 · 64.
//! assert!(y.to_vec()?.iter().all(|y| y.to_f32() == 72.0)); // waits
//! # Ok(())
//! # }
//! ```

mod grad;

pub use grad::{Addend, GradAdapter, InputGradient};

use super::{Desc, OP, Plan, check};
use crate::device::on_device;
use crate::elem::{Dtype, Elem};
use crate::error::Result;
use crate::gpu::lowrank::SavedMut as SavedThere;
use crate::gpu::shared_gemm::{Adapter, Layer as LayerThere, Problem, Way, launch, scratch_bytes};
use crate::gpu::{Gpu, Place};
use crate::lowrank::Dropout;
use crate::lowrank::resident::{Parameters, SavedMut, Skeleton, here};
use crate::resident::{MatMut, MatRef, Workspace, on_the_host};

/// What is read and written: [`Operands`](super::Operands) and results on a device.
#[derive(Debug)]
pub struct Layer<'a, T> {
    /// The layer's input `H [t, n]`.
    pub h: MatRef<'a, T>,
    /// The frozen weight `W [m, n]`.
    pub w: MatRef<'a, T>,
    /// The bias `[1, m]`, where [`Desc::bias`] says that there is one.
    pub bias: Option<MatRef<'a, T>>,
    /// Receives `Y [t, m]`.
    pub y: MatMut<'a, T>,
    /// What the adapter holds, where there are components.
    pub adapter: Option<Parameters<'a>>,
    /// Dropout on `X`, in training only.
    pub dropout: Option<Dropout>,
    /// Where to leave what the backward needs.
    pub saved: Option<SavedMut<'a, T>>,
}

impl Plan {
    /// Checks `[k·r]` row numbers of W and copies them to the plan's device.
    ///
    /// # Errors
    /// Those of [`Skeleton::new`], and as it says them; [`Error::Parameter`](crate::Error::Parameter) for a problem without
    /// components.
    pub fn skeleton(&self, rows: &[u32]) -> Result<Skeleton> {
        Skeleton::new(&crate::lowrank::Plan::new(&self.device, self.desc.adapter())?, rows)
    }

    /// Bytes of workspace that [`launch`](Self::launch) needs, however it is tuned. `usize::MAX` for what no memory holds.
    pub fn workspace_bytes(&self, dtype: Dtype, tokens: usize) -> usize {
        scratch_bytes(&Problem { desc: self.desc, dtype, tokens })
    }

    /// Queues the layer on the device's stream: [`Plan::run`] where the operands lie, in one launch. `t` may be 0.
    ///
    /// # Errors
    /// As [`Plan::run`]; [`Error::Shape`](crate::Error::Shape) for a workspace that is too small,
    /// [`Error::Operand`](crate::Error::Operand) for an operand of another device or stream,
    /// [`Error::Device`](crate::Error::Device) for [`Device::Cpu`](crate::Device::Cpu). Nothing has been launched then.
    pub fn launch<T: Elem>(&self, layer: &mut Layer<'_, T>, workspace: &mut Workspace) -> Result<()> {
        on_device!(
            &self.device,
            cpu => Err(on_the_host(&self.device)),
            gpu => queue(gpu, &self.desc, self.way(T::DTYPE, layer.h.rows()), layer, workspace)
        )
    }
}

fn queue<G: Gpu, T: Elem>(
    gpu: &G,
    desc: &Desc,
    way: Way,
    layer: &mut Layer<'_, T>,
    workspace: &mut Workspace,
) -> Result<()> {
    layer.check(desc, gpu.place())?;
    here(OP, "workspace", gpu.place(), Some(workspace.place()))?;
    let problem = Problem { desc: *desc, dtype: T::DTYPE, tokens: layer.h.rows() };
    let Layer { h, w, bias, y, adapter, dropout, saved } = layer;
    let mut components = adapter.as_ref().map(|adapter| Adapter {
        skeleton: adapter.skeleton.view(),
        b: adapter.b.view(),
        gate: adapter.gate.view(),
        scale: adapter.scale,
        dropout: *dropout,
        saved: saved.as_mut().map(|saved| SavedThere {
            x: saved.x.view_mut(),
            gate: saved.gate.view_mut(),
            z: saved.z.as_mut().map(MatMut::view_mut),
        }),
    });
    let bias = bias.as_ref().map(MatRef::view);
    let mut there = LayerThere { h: h.view(), w: w.view(), bias, y: y.view_mut() };
    launch(gpu, &problem, way, &mut there, components.as_mut(), &workspace.scratch())
}

impl<T> Layer<'_, T> {
    /// Checks all operands.
    fn check(&self, desc: &Desc, place: Place) -> Result<()> {
        let Self { h, w, bias, y, adapter, dropout, saved } = self;
        let found = check::Layer {
            h: h.shape(),
            w: w.shape(),
            y: y.shape(),
            bias: bias.as_ref().map(|bias| bias.rows() * bias.cols()),
            adapter: adapter.is_some(),
            dropout: dropout.as_ref(),
            saved: saved
                .as_ref()
                .map(|saved| (saved.x.shape(), saved.gate.shape(), saved.z.as_ref().map(MatMut::shape))),
        };
        let adapter = adapter.as_ref();
        found.check(desc, || adapter.map_or(Ok(()), |adapter| adapter.check(OP, &desc.adapter(), place)))?;
        here(OP, "h", place, h.place())?;
        here(OP, "w", place, w.place())?;
        here(OP, "bias", place, bias.as_ref().and_then(MatRef::place))?;
        here(OP, "y", place, y.place())?;
        let Some(saved) = saved else { return Ok(()) };
        here(OP, "saved x", place, saved.x.place())?;
        here(OP, "saved gate", place, saved.gate.place())?;
        here(OP, "saved z", place, saved.z.as_ref().and_then(MatMut::place))
    }
}
