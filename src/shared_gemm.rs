//! A frozen linear layer together with its components: `Y = H Wᵀ + b + κ (I_s⊗B) Σ_i a_i X_i` in one go.
//!
//! The adapter of [`lowrank`] works on the output of a layer that something else has computed, which costs a
//! pass over `Y`. Here the layer is part of the operation: on a device, `X = H W[S]ᵀ` comes first for each block of tokens,
//! and the update enters the sums of the layer's own product before they are rounded. Without components it is the layer alone.
//!
//! The formulas, gates and dropout are those of [`lowrank`], with `X` as of its explicit down-projection: rounded
//! to the element type, before the gate. What it leaves in [`SavedMut`] is what
//! [`lowrank::Plan::backward`](crate::lowrank::Plan::backward) reads. The bias is added to `Y` and is no part of `X`.
//!
//! **Numbers.** Sums are f32. A device rounds `Y` once; the CPU, which composes the layer and the adapter, rounds the layer's
//! product as well. Devices take `f16` and `bf16`, and up to 768 components; a `z` that is not finite there may make NaN of the
//! whole row of `Y`.

use crate::cpu::shared_gemm as cpu;
use crate::device::{Device, on_device};
use crate::elem::Elem;
use crate::error::{Error, Result, check_len, check_shape};
use crate::lowrank::{self, Bias, DownProjection, Dropout, Gate, Parameters, SavedMut, check};
use crate::mat::{MatMut, MatRef};

pub(crate) const OP: &str = "shared gemm";

/// The problem. Without components, `rank`, `split` and `gate` are not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Desc {
    /// Output features m.
    pub rows: usize,
    /// Input features n.
    pub cols: usize,
    /// Rank r of a component.
    pub rank: usize,
    /// Components k; 0 is the frozen layer alone.
    pub components: usize,
    /// Rank Boosting's split s; divides `rank` and `rows`.
    pub split: usize,
    /// How components are weighted.
    pub gate: Gate,
    /// Whether the layer has a bias.
    pub bias: bool,
}

impl Desc {
    /// The frozen layer alone.
    pub const fn frozen(rows: usize, cols: usize, bias: bool) -> Self {
        Self { rows, cols, rank: 0, components: 0, split: 1, gate: Gate::Static, bias }
    }

    /// The adapter on the layer's output, which is without its bias.
    pub(crate) fn adapter(&self) -> lowrank::Desc {
        let Self { rows, cols, rank, components, split, gate, bias } = *self;
        let bias = if bias { Bias::Separate } else { Bias::None };
        lowrank::Desc { rows, cols, rank, components, split, gate, down: DownProjection::Gather, bias }
    }
}

/// What is read.
#[derive(Clone, Copy, Debug)]
pub struct Operands<'a, T> {
    /// The layer's input `H [t, n]`.
    pub h: MatRef<'a, T>,
    /// The frozen weight `W [m, n]`.
    pub w: MatRef<'a, T>,
    /// The bias `[m]`, where [`Desc::bias`] says that there is one.
    pub bias: Option<&'a [T]>,
    /// What the adapter holds, where there are components.
    pub adapter: Option<Parameters<'a>>,
    /// Dropout on `X`, in training only.
    pub dropout: Option<Dropout>,
}

/// A checked problem on a device.
#[derive(Clone, Debug)]
pub struct Plan {
    device: Device,
    desc: Desc,
}

impl Plan {
    /// Checks the problem.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a size of 0 (but `components`), a split that does not divide `rank` and `rows`, or `k·r > m`.
    pub fn new(device: &Device, desc: Desc) -> Result<Self> {
        if desc.components > 0 {
            check::desc(OP, &desc.adapter())?;
        }
        for (parameter, size) in [("rows", desc.rows), ("cols", desc.cols)] {
            if size == 0 {
                return Err(Error::parameter(OP, parameter, "at least 1", size));
            }
        }
        Ok(Self { device: device.clone(), desc })
    }

    /// The problem.
    pub fn desc(&self) -> &Desc {
        &self.desc
    }

    /// Computes `Y [t, m]` for `t = H.rows()` tokens; `t` may be 0. `O(t·m·n)` operations, of which the components add
    /// `k·r/m + r/(s·n)`.
    ///
    /// # Errors
    /// [`Error::Shape`] where an operand does not fit the problem, [`Error::Parameter`] for a bad skeleton, scale or dropout,
    /// [`Error::Operand`] for an operand that the problem reads and is not there, or one that is there and does not belong to
    /// it, [`Error::Unsupported`] for f32 or more than 768 components on a device, [`Error::OutOfMemory`]. Nothing has been
    /// written then.
    pub fn run<T: Elem>(
        &self,
        operands: &Operands<'_, T>,
        y: MatMut<'_, T>,
        saved: Option<SavedMut<'_, T>>,
    ) -> Result<()> {
        let (desc, tokens) = (&self.desc, operands.h.rows());
        check_shape(OP, "h", (tokens, desc.cols), operands.h.shape())?;
        check_shape(OP, "w", (desc.rows, desc.cols), operands.w.shape())?;
        check_shape(OP, "y", (tokens, desc.rows), y.as_ref().shape())?;
        given(OP, "bias", operands.bias.is_some(), desc.bias, "the problem says that the layer has none")?;
        if let Some(bias) = operands.bias {
            check_len(OP, "bias", desc.rows, bias.len())?;
        }
        let has = desc.components > 0;
        given(OP, "adapter", operands.adapter.is_some(), has, "the problem has no components")?;
        if !has {
            given(OP, "dropout", operands.dropout.is_some(), false, "the problem has no components")?;
            given(OP, "saved", saved.is_some(), false, "the problem has no components")?;
        }
        if let Some(adapter) = &operands.adapter {
            check::parameters(OP, &desc.adapter(), adapter)?;
        }
        if let Some(dropout) = &operands.dropout {
            check::dropout(OP, dropout, tokens)?;
        }
        if let Some(saved) = &saved {
            let z = saved.z.as_ref().map(|z| z.as_ref().shape());
            let (x, gate) = (saved.x.as_ref().shape(), saved.gate.as_ref().shape());
            check::saved(OP, &desc.adapter(), tokens, x, gate, z)?;
        }
        on_device!(
            &self.device,
            cpu => cpu::run(desc, operands, y, saved),
            gpu => crate::gpu::shared_gemm::run(gpu, desc, operands, y, saved)
        )
    }
}

/// Refuses an operand that is there and should not be, or the other way round.
fn given(op: &'static str, operand: &'static str, found: bool, expected: bool, why_not: &str) -> Result<()> {
    match (found, expected) {
        (true, false) => Err(Error::operand(op, operand, format!("was passed, but {why_not}"))),
        (false, true) => Err(Error::operand(op, operand, "is missing; the problem reads it")),
        _ => Ok(()),
    }
}
