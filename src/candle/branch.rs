//! The adapter's work as an operation of candle's graph. One [`Branch`] is one call of a layer.
//!
//! candle's operations have at most three tracked inputs and one output. Tracked are the layer's input `x`, `B` and the gate's
//! parameters; the base product `Y0 = W h`, which the operation turns into `Y` with the bias, is computed before it and outside
//! the graph, and the base weight is frozen, so that
//!
//! ```text
//! dx = (G with dX added at S) · W + the gate's own share of dx,      G = ∂L/∂Y
//! ```
//!
//! is one product of candle's, as in the base layer alone.

use super::frozen::Frozen;
use super::tensor::refused;
use crate::error::Error;
use crate::lowrank::{BACKWARD, Desc, Dropout};
use candle_core::{CpuStorage, CudaStorage, CustomOp3, Layout, MetalStorage, Result, Shape, Storage, Tensor};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// What the forward leaves for the backward.
#[derive(Debug)]
pub(super) struct Saved {
    /// `X [t, k·r]` before dropout.
    pub x: Tensor,
    /// Gate values `[t, k]`.
    pub gate: Tensor,
    /// `z [t, r]`, where the backward is faster with it.
    #[cfg_attr(not(feature = "candle-cuda"), allow(dead_code))]
    pub z: Option<Tensor>,
}

/// One call of a layer.
#[derive(Debug)]
pub(super) struct Branch {
    pub frozen: Arc<Frozen>,
    pub desc: Desc,
    pub tokens: usize,
    pub dropout: Option<Dropout>,
    /// Of the output.
    pub shape: Shape,
    /// Whether a backward can come.
    pub keep: bool,
    /// `Y0 [t, m]`, this call's own, until the forward takes it.
    pub base: Mutex<Option<Tensor>>,
    pub saved: OnceLock<Saved>,
}

/// Memory and where in it a contiguous tensor lies.
pub(super) type Operand<'a, S> = (&'a S, &'a Layout);

/// The tracked inputs of a call.
pub(super) struct Tracked<'a> {
    pub x: &'a Tensor,
    pub b: &'a Tensor,
    pub gate: &'a Tensor,
}

/// What the backward makes.
pub(super) struct Gradients {
    pub b: Tensor,
    pub gate: Tensor,
    /// The gate's own share of `dx [t, n]`, where there is one and it is wanted.
    pub h_gate: Option<Tensor>,
    /// `G` with `dX` added at the chosen columns, `[t, m]`, where it is wanted.
    pub base: Option<Tensor>,
}

impl Branch {
    /// Columns of `X`.
    pub fn width(&self) -> usize {
        self.desc.components * self.desc.rank
    }

    /// `Y0`, once.
    pub fn take_base(&self) -> Result<Tensor> {
        let base = self.base.lock().unwrap_or_else(PoisonError::into_inner).take();
        base.ok_or_else(|| candle_core::Error::msg("candle layer: an operation of one call ran twice"))
    }

    /// Leaves what the backward needs.
    pub fn save(&self, saved: Saved) -> Result<()> {
        let twice = |_| candle_core::Error::msg("candle layer: an operation of one call ran twice");
        self.saved.set(saved).map_err(twice)
    }

    /// What the forward has left.
    pub fn kept(&self) -> Result<&Saved> {
        let reason = "is missing: the forward ran without a tensor that candle tracks";
        self.saved.get().ok_or_else(|| refused(Error::operand(BACKWARD, "saved x", reason)))
    }

    /// The gradients of a call; `g [t, m]` is contiguous, and this call's own where that of `x` is wanted.
    fn gradients(&self, tracked: &Tracked<'_>, g: Tensor, wants_x: bool) -> Result<Gradients> {
        let on_cpu = matches!(&*g.storage_and_layout().0, Storage::Cpu(_));
        if on_cpu {
            return super::cpu::backward(self, tracked, g, wants_x);
        }
        #[cfg(feature = "candle-cuda")]
        if g.device().is_cuda() {
            return super::cuda::backward(self, tracked, g, wants_x);
        }
        super::tensor::check_device(g.device()).map_err(refused)?;
        Err(candle_core::Error::BackwardNotSupported { op: self.name() })
    }
}

impl CustomOp3 for Branch {
    fn name(&self) -> &'static str {
        "id-lora"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        of_x: &Layout,
        b: &CpuStorage,
        of_b: &Layout,
        gate: &CpuStorage,
        of_gate: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok((super::cpu::forward(self, (x, of_x), (b, of_b), (gate, of_gate))?, self.shape.clone()))
    }

    #[cfg(feature = "candle-cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        of_x: &Layout,
        b: &CudaStorage,
        of_b: &Layout,
        gate: &CudaStorage,
        of_gate: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        Ok((super::cuda::forward(self, (x, of_x), (b, of_b), (gate, of_gate))?, self.shape.clone()))
    }

    #[cfg(not(feature = "candle-cuda"))]
    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        Err(candle_core::Error::NotCompiledWithCudaSupport)
    }

    fn metal_fwd(
        &self,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
    ) -> Result<(MetalStorage, Shape)> {
        Err(candle_core::Error::NotCompiledWithMetalSupport)
    }

    fn bwd(
        &self,
        x: &Tensor,
        b: &Tensor,
        gate: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let wants_x = x.track_op();
        // The caller of a backward keeps its gradients, and `dX` is added to them here: into a copy.
        let g = if wants_x { g.force_contiguous()? } else { g.contiguous()? };
        let g = g.detach().reshape((self.tokens, self.desc.rows))?;
        let found = self.gradients(&Tracked { x, b, gate }, g, wants_x)?;
        let dx = match found.base {
            Some(base) => {
                let dx = base.matmul(self.frozen.weight())?;
                let dx = match found.h_gate {
                    Some(share) => (dx + share)?,
                    None => dx,
                };
                Some(dx.reshape(x.shape())?)
            }
            None => None,
        };
        Ok((dx, b.track_op().then_some(found.b), gate.track_op().then_some(found.gate)))
    }
}
