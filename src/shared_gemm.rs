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
//! product as well. Devices take `f16` and `bf16`, and up to 768 components; a `z` that is not finite makes NaN or infinity of
//! its token's part of `Y`, on a device in all 8 columns that have one in that part.
//!
//! **Speed.** A device has several ways of running the kernel, all with the same bits: `Plan::tune` lets a
//! `Tuner` choose, `Plan::choose` says which.

mod check;
#[cfg(any(feature = "cuda", feature = "vm"))]
pub mod resident;

pub(crate) mod grad;
#[cfg(feature = "kernels")]
mod tune;

pub use grad::{Addend, GradAdapter, GradOperands};

use crate::cpu::shared_gemm as cpu;
use crate::device::{Device, on_device};
use crate::elem::Elem;
use crate::error::Result;
use crate::lowrank::{self, Bias, DownProjection, Dropout, Gate, Parameters, SavedMut};
use crate::mat::{MatMut, MatRef};
#[cfg(feature = "kernels")]
use crate::tune::Chosen;

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
    #[cfg(feature = "kernels")]
    chosen: Chosen,
}

impl Plan {
    /// Checks the problem.
    ///
    /// # Errors
    /// [`Error::Parameter`](crate::Error::Parameter) for a size of 0 (but `components`), a split that does not divide `rank` and `rows`, or `k·r > m`.
    pub fn new(device: &Device, desc: Desc) -> Result<Self> {
        check::desc(&desc)?;
        Ok(Self {
            device: device.clone(),
            desc,
            #[cfg(feature = "kernels")]
            chosen: Chosen::default(),
        })
    }

    /// The problem.
    pub fn desc(&self) -> &Desc {
        &self.desc
    }

    /// Computes `Y [t, m]` for `t = H.rows()` tokens; `t` may be 0. `O(t·m·n)` operations, of which the components add
    /// `k·r/m + r/(s·n)`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where an operand does not fit the problem,
    /// [`Error::Parameter`](crate::Error::Parameter) for a bad skeleton, scale or dropout,
    /// [`Error::Operand`](crate::Error::Operand) for an operand that the problem reads and is not there, or one that is there and
    /// does not belong to it, [`Error::Unsupported`](crate::Error::Unsupported) for f32 or more than 768 components on a device,
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory). Nothing has been written then.
    pub fn run<T: Elem>(
        &self,
        operands: &Operands<'_, T>,
        y: MatMut<'_, T>,
        saved: Option<SavedMut<'_, T>>,
    ) -> Result<()> {
        let desc = &self.desc;
        let found = check::Layer {
            h: operands.h.shape(),
            w: operands.w.shape(),
            y: y.as_ref().shape(),
            bias: operands.bias.map(<[T]>::len),
            adapter: operands.adapter.is_some(),
            dropout: operands.dropout.as_ref(),
            saved: saved.as_ref().map(|saved| {
                let z = saved.z.as_ref().map(|z| z.as_ref().shape());
                (saved.x.as_ref().shape(), saved.gate.as_ref().shape(), z)
            }),
        };
        found.check(desc, || operands.adapter.as_ref().map_or(Ok(()), |adapter| check::parameters(desc, adapter)))?;
        on_device!(
            &self.device,
            cpu => cpu::run(desc, operands, y, saved),
            gpu => crate::gpu::shared_gemm::run(gpu, desc, self.way(T::DTYPE, operands.h.rows()), operands, y, saved)
        )
    }
}
