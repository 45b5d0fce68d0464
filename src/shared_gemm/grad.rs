//! The layer's input gradient.

use super::{Desc, Plan};
use crate::cpu::shared_gemm as cpu;
use crate::device::on_device;
use crate::elem::Elem;
use crate::error::{Error, Result, check_shape};
use crate::lowrank::check::skeleton as check_skeleton;
use crate::mat::{MatMut, MatRef};

pub(crate) const GRAD: &str = "shared gemm gradient";

/// What the input gradient reads.
#[derive(Clone, Copy, Debug)]
pub struct GradOperands<'a, T> {
    /// `G = ∂L/∂Y [t, m]`.
    pub g: MatRef<'a, T>,
    /// The frozen weight `W [m, n]`.
    pub w: MatRef<'a, T>,
    /// The components' part, where the problem has some.
    pub adapter: Option<GradAdapter<'a, T>>,
    /// What else is in `dH`.
    pub add: Addend<'a, T>,
}

/// The components' part: `dX W[S]`.
#[derive(Clone, Copy, Debug)]
pub struct GradAdapter<'a, T> {
    /// Chosen rows of W, `[k, r]` row-major, all distinct.
    pub skeleton: &'a [u32],
    /// `dX [t, k·r]`, which [`lowrank::Plan::backward`](crate::lowrank::Plan::backward) leaves under
    /// [`InputGradient::Separate`](crate::lowrank::InputGradient::Separate).
    pub dx: MatRef<'a, T>,
}

/// What is added to `dH` before it is rounded: a linear gate's share
/// ([`Gradients::h_gate`](crate::lowrank::Gradients::h_gate)), or the gradient of another layer that reads the same `H`.
#[derive(Clone, Copy, Debug, Default)]
pub enum Addend<'a, T> {
    /// Nothing: `dH` is overwritten.
    #[default]
    None,
    /// A matrix `[t, n]`.
    Matrix(MatRef<'a, T>),
    /// What `dH` holds.
    InPlace,
}

impl Plan {
    /// Computes `dH = G W + dX W[S] [t, n]`, and what is added to it, for `t = G.rows()` tokens; `t` may be 0. The chosen rows
    /// are further terms of the product with `W`, so that `dH` is written once and rounded once. Without components it is the
    /// frozen layer's own gradient. `O(t·n·(m + k·r))` operations.
    ///
    /// After the adapter's [`backward`](crate::lowrank::Plan::backward) this is the rest of the layer's: a linear gate's share
    /// of `dH` is no part of `dX`, so pass it as [`Addend`].
    ///
    /// # Errors
    /// [`Error::Shape`] where an operand does not fit the problem, [`Error::Parameter`] for a bad skeleton, [`Error::Operand`]
    /// where the problem has components and the adapter is missing, or the other way round, [`Error::Unsupported`] for f32 on a
    /// device, [`Error::OutOfMemory`]. Nothing has been written then.
    pub fn input_gradient<T: Elem>(&self, operands: &GradOperands<'_, T>, dh: MatMut<'_, T>) -> Result<()> {
        let GradOperands { g, w, adapter, add } = operands;
        let shapes = [g.shape(), w.shape(), dh.as_ref().shape()];
        let added = if let Addend::Matrix(add) = add { Some(add.shape()) } else { None };
        let dx = adapter.as_ref().map(|adapter| adapter.dx.shape());
        check(&self.desc, shapes, dx, added, || {
            let skeleton = adapter.as_ref().map(|adapter| adapter.skeleton);
            skeleton.map_or(Ok(()), |skeleton| check_skeleton(GRAD, &self.desc.adapter(), skeleton))
        })?;
        on_device!(
            &self.device,
            cpu => cpu::input_gradient(operands, dh),
            gpu => {
                let way = self.grad_way(T::DTYPE, operands.g.rows());
                crate::gpu::shared_gemm::input_gradient(gpu, &way, operands, dh)
            }
        )
    }
}

/// Checks the shapes of `G`, `W` and `dH`, of `dX` where it is there, and of the addend; then what `chosen` checks of the rows.
pub(super) fn check(
    desc: &Desc,
    [g, w, dh]: [(usize, usize); 3],
    dx: Option<(usize, usize)>,
    add: Option<(usize, usize)>,
    chosen: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let tokens = g.0;
    check_shape(GRAD, "g", (tokens, desc.rows), g)?;
    check_shape(GRAD, "w", (desc.rows, desc.cols), w)?;
    check_shape(GRAD, "dh", (tokens, desc.cols), dh)?;
    let refused = |reason| Err(Error::operand(GRAD, "adapter", reason));
    match dx {
        Some(_) if desc.components == 0 => return refused("was passed, but the problem has no components"),
        None if desc.components > 0 => return refused("is missing; the problem reads it"),
        Some(dx) => {
            check_shape(GRAD, "dx", (tokens, desc.components * desc.rank), dx)?;
            chosen()?;
        }
        None => {}
    }
    add.map_or(Ok(()), |add| check_shape(GRAD, "add", (tokens, desc.cols), add))
}
