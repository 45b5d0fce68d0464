//! The layer's input gradient on operands that lie on a device.

use crate::device::on_device;
use crate::elem::Elem;
use crate::error::Result;
use crate::gpu::shared_gemm::grad::{GradLayer, GradProblem, Way, launch};
use crate::gpu::{Gpu, Place};
use crate::lowrank::resident::{Skeleton, here};
use crate::resident::{MatMut, MatRef, on_the_host};
use crate::shared_gemm::grad::{GRAD, check};
use crate::shared_gemm::{Desc, Plan};

/// What is added to the product: [`Addend`](crate::shared_gemm::Addend) on a device.
#[derive(Clone, Debug)]
pub enum Addend<'a, T> {
    /// Nothing.
    None,
    /// A matrix `[t, n]`, such as a linear gate's share of `dH`.
    Matrix(MatRef<'a, T>),
    /// What is in `dH`.
    InPlace,
}

/// The components' part, `dX W[S]`: [`GradAdapter`](crate::shared_gemm::GradAdapter) on a device.
#[derive(Clone, Debug)]
pub struct GradAdapter<'a, T> {
    /// Chosen rows of W.
    pub skeleton: &'a Skeleton,
    /// `dX [t, k·r]`, which [`lowrank::Plan::launch_backward`](crate::lowrank::Plan::launch_backward) leaves under
    /// [`InputGradient::Separate`](crate::lowrank::resident::InputGradient::Separate).
    pub dx: MatRef<'a, T>,
}

/// What is read and written: [`GradOperands`](crate::shared_gemm::GradOperands) and the result on a device.
#[derive(Debug)]
pub struct InputGradient<'a, T> {
    /// `G = ∂L/∂Y [t, m]`.
    pub g: MatRef<'a, T>,
    /// The frozen weight `W [m, n]`.
    pub w: MatRef<'a, T>,
    /// The components' part, where the problem has some.
    pub adapter: Option<GradAdapter<'a, T>>,
    /// What is added.
    pub add: Addend<'a, T>,
    /// Receives `dH [t, n]`.
    pub dh: MatMut<'a, T>,
}

impl Plan {
    /// Queues `dH = G W + dX W[S]` on the device's stream: [`Plan::input_gradient`] where the operands lie, in one launch, without
    /// a workspace. `t` may be 0.
    ///
    /// # Errors
    /// As [`Plan::input_gradient`]; [`Error::Operand`](crate::Error::Operand) for an operand of another device or stream, [`Error::Device`](crate::Error::Device) for
    /// [`Device::Cpu`](crate::Device::Cpu). Nothing has been launched then.
    pub fn launch_input_gradient<T: Elem>(&self, operands: &mut InputGradient<'_, T>) -> Result<()> {
        on_device!(
            &self.device,
            cpu => Err(on_the_host(&self.device)),
            gpu => queue(gpu, &self.desc, &self.grad_way(T::DTYPE, operands.g.rows()), operands)
        )
    }
}

fn queue<G: Gpu, T: Elem>(gpu: &G, desc: &Desc, way: &Way, operands: &mut InputGradient<'_, T>) -> Result<()> {
    operands.check(desc, gpu.place())?;
    let InputGradient { g, w, adapter, add, dh } = operands;
    let (rows, cols) = w.shape();
    let width = adapter.as_ref().map_or(0, |adapter| adapter.skeleton.len());
    let problem = GradProblem { rows, cols, width, dtype: T::DTYPE, tokens: g.rows() };
    let there = dh.view_mut();
    let add = match add {
        Addend::None => None,
        Addend::Matrix(add) => Some(add.view()),
        Addend::InPlace => Some(crate::gpu::lowrank::View::at(there.address, there.ld)),
    };
    let components = adapter.as_ref().map(|adapter| [adapter.dx.view(), adapter.skeleton.view()]);
    launch(gpu, &problem, way, &mut GradLayer { g: g.view(), w: w.view(), components, add, dh: there })
}

impl<T> InputGradient<'_, T> {
    /// Checks all operands.
    fn check(&self, desc: &Desc, place: Place) -> Result<()> {
        let Self { g, w, adapter, add, dh } = self;
        let added = if let Addend::Matrix(add) = add { Some(add) } else { None };
        let dx = adapter.as_ref().map(|adapter| adapter.dx.shape());
        let chosen = || adapter.as_ref().map_or(Ok(()), |adapter| adapter.skeleton.check(GRAD, &desc.adapter()));
        check(desc, [g.shape(), w.shape(), dh.shape()], dx, added.map(MatRef::shape), chosen)?;
        here(GRAD, "g", place, g.place())?;
        here(GRAD, "w", place, w.place())?;
        here(GRAD, "add", place, added.and_then(MatRef::place))?;
        here(GRAD, "dh", place, dh.place())?;
        let Some(GradAdapter { skeleton, dx }) = adapter else { return Ok(()) };
        here(GRAD, "dx", place, dx.place())?;
        here(GRAD, "skeleton", place, Some(skeleton.place()))
    }
}
