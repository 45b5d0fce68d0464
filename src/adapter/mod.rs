//! `IdLora`: one adapted module as a trainer holds it.
//!
//! The base layer is `y = W h + b` with `W [m, n]`. The adapter freezes `k·r` row numbers S of W and trains a shared matrix
//! `B [m/s, r/s]` and a gate; its output is `y + κ (I_s⊗B) Σ_i a_i x_i` with `x_i = (W h)[S_i]` (see
//! [`lowrank`]). Trained tensors and their gradients are f32 whatever the activations.
//!
//! A step of training: [`IdLora::zero_grad`]; for every micro-batch [`IdLora::forward`] and [`IdLora::backward`], whose
//! gradients add up; then the optimiser walks over [`IdLora::parameters_mut`].
//!
//! ```
//! use idlora::adapter::{Config, IdLora, Layer};
//! use idlora::lowrank::{Bias, DownProjection, Gate, InputGradient, Output, Saved, SavedMut};
//! use idlora::{Device, Mat};
//!
//! # fn main() -> idlora::Result<()> {
//! let (m, n, t) = (8, 6, 3);
//! let wave = |rows, cols| Mat::from_vec((0..rows * cols).map(|i| (i as f32).sin()).collect(), rows, cols);
//! let device = Device::Cpu;
//! let config = Config { rank: 2, clusters: 2, gate: Gate::Inner, ..Config::default() };
//! let (mut adapter, report) = IdLora::init(&device, "layer.0.query", wave(m, n)?.as_ref(), &config)?;
//! assert_eq!(report.sizes.iter().sum::<usize>(), m);
//!
//! // The base layer has made Y0 [t, m]; the adapter turns it into Y, and keeps X and the gate values.
//! let mut y = wave(t, m)?;
//! let (mut x, mut gate) = (Mat::zeros(t, 2 * 2)?, Mat::zeros(t, 2)?);
//! let (down, bias) = (DownProjection::Gather, Bias::None);
//! let layer = Layer { h: None, w: None, bias: None, dropout: None };
//! let saved = SavedMut { x: x.as_mut(), gate: gate.as_mut(), z: None };
//! adapter.forward(&device, down, bias, &layer, Output::InPlace(y.as_mut()), Some(saved))?;
//!
//! // Backward: G = ∂L/∂Y becomes ∂L/∂Y0; the adapter's own gradients add up until the optimiser takes them.
//! let mut g = wave(t, m)?;
//! let saved = Saved { x: x.as_ref(), gate: gate.as_ref(), z: None };
//! adapter.backward(&device, down, bias, &layer, saved, InputGradient::Scatter(g.as_mut()), None)?;
//! for mut parameter in adapter.parameters_mut() {
//!     for i in 0..parameter.shape().0 {
//!         let gradient = parameter.gradient.row(i);
//!         parameter.value.row_mut(i).iter_mut().zip(gradient).for_each(|(value, g)| *value -= 1e-2 * g);
//!     }
//! }
//! adapter.zero_grad();
//! # Ok(())
//! # }
//! ```

mod config;
mod counters;
mod digest;
mod init;

pub use config::{BInit, Config, Scaling};
pub use counters::Counters;
pub use digest::Digest;
pub(crate) use digest::Rows as DigestRows;
pub use init::Report;

use crate::device::Device;
use crate::elem::{Dtype, Elem};
use crate::error::{Error, Result, check_len, check_shape};
use crate::lowrank::{self, Bias, DownProjection, Gradients, InputGradient, Output, Saved, SavedMut};
use crate::mat::{Mat, MatMut, MatRef};
use config::OP;
pub(crate) use init::check_finite;

/// Operands of the layer that some variants read.
pub type Layer<'a, T> = lowrank::Layer<'a, T>;

/// Everything that an adapter is made of, to take one apart or put one together: [`IdLora::from_parts`].
#[derive(Clone, Debug)]
pub struct Parts {
    /// The module's name in its model.
    pub name: String,
    /// Output features m.
    pub rows: usize,
    /// Input features n.
    pub cols: usize,
    /// Element type of the base weight.
    pub dtype: Dtype,
    /// The choices it was made with.
    pub config: Config,
    /// Chosen rows of the base weight, `[k, r]` row-major, all distinct.
    pub skeleton: Vec<u32>,
    /// The shared matrix `B [m/s, r/s]`.
    pub b: Mat<f32>,
    /// The gate's parameters: `[1, r]`, `[k, n]` or `[1, k]`.
    pub gate: Mat<f32>,
    /// Digest of the base weight.
    pub digest: Digest,
}

/// One adapted module: the chosen rows' numbers, the trained tensors and their gradients.
#[derive(Clone, Debug)]
pub struct IdLora {
    parts: Parts,
    grad_b: Mat<f32>,
    grad_gate: Mat<f32>,
    counters: Counters,
}

/// A trained tensor and its gradient, to read.
#[derive(Clone, Copy, Debug)]
pub struct Parameter<'a> {
    /// `b` or `gate`, as in the adapter's file.
    pub name: &'static str,
    /// The tensor.
    pub value: MatRef<'a, f32>,
    /// Sum of its gradients since [`IdLora::zero_grad`], of the same shape.
    pub gradient: MatRef<'a, f32>,
}

/// A trained tensor and its gradient, to update.
#[derive(Debug)]
pub struct ParameterMut<'a> {
    /// `b` or `gate`, as in the adapter's file.
    pub name: &'static str,
    /// The tensor.
    pub value: MatMut<'a, f32>,
    /// Sum of its gradients since [`IdLora::zero_grad`], of the same shape; writable, for clipping.
    pub gradient: MatMut<'a, f32>,
}

impl Parameter<'_> {
    /// `(rows, cols)` of the tensor and of its gradient.
    pub fn shape(&self) -> (usize, usize) {
        self.value.shape()
    }
}

impl ParameterMut<'_> {
    /// `(rows, cols)` of the tensor and of its gradient.
    pub fn shape(&self) -> (usize, usize) {
        self.value.shape()
    }
}

impl IdLora {
    /// Puts an adapter together; its gradients are 0.
    ///
    /// # Errors
    /// Those of [`Config::check`]; [`Error::Shape`] for a tensor of another shape than the configuration says;
    /// [`Error::Parameter`] for an empty name, or a row number that is out of range or chosen twice; [`Error::NonFinite`] for
    /// NaN or infinity in `b` or `gate`.
    pub fn from_parts(parts: Parts) -> Result<Self> {
        init::check_name(&parts.name)?;
        let counters = Counters::of(parts.rows, parts.cols, &parts.config)?;
        check_skeleton(&parts)?;
        check_shape(OP, "b", parts.config.b_shape(parts.rows), parts.b.shape())?;
        check_shape(OP, "gate", parts.config.gate_shape(parts.cols), parts.gate.shape())?;
        check_finite(OP, || "b".to_owned(), parts.b.as_ref())?;
        check_finite(OP, || "gate".to_owned(), parts.gate.as_ref())?;
        let grad_b = Mat::zeros(parts.b.rows(), parts.b.cols())?;
        let grad_gate = Mat::zeros(parts.gate.rows(), parts.gate.cols())?;
        Ok(Self { parts, grad_b, grad_gate, counters })
    }

    /// Takes the adapter apart; the gradients are dropped.
    pub fn into_parts(self) -> Parts {
        self.parts
    }

    /// The module's name in its model.
    pub fn name(&self) -> &str {
        &self.parts.name
    }

    /// Output features m.
    pub fn rows(&self) -> usize {
        self.parts.rows
    }

    /// Input features n.
    pub fn cols(&self) -> usize {
        self.parts.cols
    }

    /// Element type of the base weight.
    pub fn dtype(&self) -> Dtype {
        self.parts.dtype
    }

    /// The choices it was made with.
    pub fn config(&self) -> &Config {
        &self.parts.config
    }

    /// Chosen rows of the base weight, `[k, r]` row-major, all distinct.
    pub fn skeleton(&self) -> &[u32] {
        &self.parts.skeleton
    }

    /// κ, the factor on the update.
    pub fn scale(&self) -> f32 {
        self.parts.config.scale()
    }

    /// Digest of the base weight.
    pub fn digest(&self) -> Digest {
        self.parts.digest
    }

    /// The shared matrix `B [m/s, r/s]`.
    pub fn b(&self) -> MatRef<'_, f32> {
        self.parts.b.as_ref()
    }

    /// The gate's parameters: `[1, r]`, `[k, n]` or `[1, k]`.
    pub fn gate(&self) -> MatRef<'_, f32> {
        self.parts.gate.as_ref()
    }

    /// What the adapter costs.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The trained tensors with their gradients.
    pub fn parameters(&self) -> [Parameter<'_>; 2] {
        [
            Parameter { name: "b", value: self.parts.b.as_ref(), gradient: self.grad_b.as_ref() },
            Parameter { name: "gate", value: self.parts.gate.as_ref(), gradient: self.grad_gate.as_ref() },
        ]
    }

    /// The trained tensors with their gradients, writable: what an optimiser walks over.
    pub fn parameters_mut(&mut self) -> [ParameterMut<'_>; 2] {
        [
            ParameterMut { name: "b", value: self.parts.b.as_mut(), gradient: self.grad_b.as_mut() },
            ParameterMut { name: "gate", value: self.parts.gate.as_mut(), gradient: self.grad_gate.as_mut() },
        ]
    }

    /// Sets the gradients to 0.
    pub fn zero_grad(&mut self) {
        self.grad_b.data_mut().fill(0.0);
        self.grad_gate.data_mut().fill(0.0);
    }

    /// The adapted output of a batch of `t` tokens, from the base output `Y0 [t, m]`.
    ///
    /// `layer` holds what the gate, `down` and `bias` read; `saved` receives what [`IdLora::backward`] needs and may be left
    /// out in inference. Cost: `O(t·(k·r + m·r/s))`, one read and one write of the output.
    ///
    /// # Errors
    /// Those of [`lowrank::Plan::forward`]: an operand of the wrong shape, missing, or of no use.
    pub fn forward<T: Elem>(
        &self,
        device: &Device,
        down: DownProjection,
        bias: Bias,
        layer: &Layer<'_, T>,
        output: Output<'_, T>,
        saved: Option<SavedMut<'_, T>>,
    ) -> Result<()> {
        lowrank::Plan::new(device, self.desc(down, bias))?.forward(&self.operands(), layer, output, saved)
    }

    /// The gradients of the same call, from `G = ∂L/∂Y [t, m]`: those of B and of the gate are added to the adapter's own,
    /// that of the base output goes where `input` says, and `h_gate [t, n]` receives a linear gate's share of `∂L/∂H`.
    ///
    /// # Errors
    /// Those of [`lowrank::Plan::backward`]: an operand of the wrong shape, missing, or of no use.
    #[expect(clippy::too_many_arguments, reason = "one per operand of the layer; none has a sensible default")]
    pub fn backward<T: Elem>(
        &mut self,
        device: &Device,
        down: DownProjection,
        bias: Bias,
        layer: &Layer<'_, T>,
        saved: Saved<'_, T>,
        input: InputGradient<'_, T>,
        h_gate: Option<MatMut<'_, T>>,
    ) -> Result<()> {
        let plan = lowrank::Plan::new(device, self.desc(down, bias))?;
        let gradients = Gradients { b: self.grad_b.as_mut(), gate: self.grad_gate.as_mut(), h_gate, accumulate: true };
        plan.backward(&operands(&self.parts), layer, saved, input, gradients)
    }

    /// Writes the update into the base weight: `W ← (I + κ (I_s⊗B) P) W`, after which the base layer alone gives the adapted
    /// output. The digest is not checked here: see [`IdLora::check_base`].
    ///
    /// # Errors
    /// [`Error::Unsupported`] unless the gate is static, [`Error::Shape`] for a weight that is not `[m, n]`.
    pub fn merge<T: Elem>(&self, device: &Device, w: MatMut<'_, T>) -> Result<()> {
        lowrank::merge(device, &self.desc(DownProjection::Gather, Bias::None), &self.operands(), w)
    }

    /// Undoes [`IdLora::merge`] up to rounding, with the very B and gate that were merged.
    ///
    /// # Errors
    /// As for [`IdLora::merge`].
    pub fn unmerge<T: Elem>(&self, device: &Device, w: MatMut<'_, T>) -> Result<()> {
        lowrank::unmerge(device, &self.desc(DownProjection::Gather, Bias::None), &self.operands(), w)
    }

    /// Whether `w` is the very weight that the adapter was made from. One pass over it.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is not `[m, n]`, [`Error::Digest`] if its element type or any of its bits differ. A trainer that
    /// adapts a requantised base may take the latter as a warning: row numbers stay meaningful, their values moved.
    pub fn check_base<T: Elem>(&self, w: MatRef<'_, T>) -> Result<()> {
        check_shape(OP, "w", (self.rows(), self.cols()), w.shape())?;
        self.check_digest(T::DTYPE, Digest::of(w))
    }

    /// Whether `found`, the digest of a weight of element type `dtype`, is that of the base.
    pub(crate) fn check_digest(&self, dtype: Dtype, found: Digest) -> Result<()> {
        if found == self.digest() {
            return Ok(());
        }
        Err(Error::Digest {
            module: self.name().to_owned(),
            expected: format!("{} ({})", self.digest(), self.dtype().name()),
            found: format!("{found} ({})", dtype.name()),
        })
    }

    fn desc(&self, down: DownProjection, bias: Bias) -> lowrank::Desc {
        let Config { rank, clusters, split, gate, .. } = self.parts.config;
        lowrank::Desc { rows: self.rows(), cols: self.cols(), rank, components: clusters, split, gate, down, bias }
    }

    fn operands(&self) -> lowrank::Parameters<'_> {
        operands(&self.parts)
    }
}

/// Apart from the gradients, so that the backward can write those.
fn operands(parts: &Parts) -> lowrank::Parameters<'_> {
    lowrank::Parameters {
        skeleton: &parts.skeleton,
        b: parts.b.as_ref(),
        gate: parts.gate.as_ref(),
        scale: parts.config.scale(),
    }
}

fn check_skeleton(parts: &Parts) -> Result<()> {
    let Parts { rows, config, skeleton, .. } = parts;
    check_len(OP, "skeleton", config.clusters * config.rank, skeleton.len())?;
    if let Some(row) = skeleton.iter().find(|&&row| row as usize >= *rows) {
        return Err(Error::parameter(OP, "skeleton", format!("row numbers below {rows}"), row));
    }
    let mut sorted = skeleton.clone();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::parameter(OP, "skeleton", "distinct row numbers", format!("{} twice", pair[0]))),
        None => Ok(()),
    }
}
