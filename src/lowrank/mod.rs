//! The adapter's own work, forward and backward: gather, gate, premix, expand.
//!
//! An ID-LoRA adapter's frozen factors are rows of the base weight, `A_i = W[S_i]`, so that `A_i h` is already there: it is
//! the chosen entries of the base layer's own output (the *gather identity*). `B` is shared by the components and linear,
//! so their weighted sum is taken before it (*premix*). Rank Boosting (split `s`) applies `B [m/s, r/s]` to each of the `s`
//! parts of `z`, which is a reshape. For a batch of `t` tokens, with `S [k, r]`, `G = ∂L/∂Y` and dropout factors `d` (ones
//! without dropout, see [`Dropout`]):
//!
//! ```text
//! forward   X  = Y0[:, S] − b[S]                      [t, k, r]     gather, rounded to the element type
//!           a  = gate(X) or gate(H)                   [t, k]        from X before dropout
//!           z  = Σ_i a_i ⊙ d_i ⊙ X_i                  [t, r]        premix
//!           Y  = Y0 + κ · reshape(reshape(z, [t·s, r/s]) · Bᵀ, [t, m])
//!
//! backward  Gs = reshape(κ G, [t·s, m/s]);  dz = reshape(Gs · B, [t, r]);  dB = Gsᵀ · reshape(z, [t·s, r/s])
//!           da_i = ⟨dz, d_i ⊙ X_i⟩
//!           inner     dT = Σ_{t,i} da_i X_i;  dX_i = a_i d_i ⊙ dz + da_i T
//!           rms       ρ_i = √(mean(X_i²) + ε);  u_i = X_i/ρ_i;  dT = Σ_{t,i} da_i u_i
//!                     dX_i = a_i d_i ⊙ dz + (da_i/ρ_i)(T − u_i ⟨T, u_i⟩/r)
//!           static    dᾱ_i = Σ_t da_i;  dX_i = a_i d_i ⊙ dz
//!           linear    dl = da (softmax: a ⊙ (da − ⟨a, da⟩));  dW_g = dlᵀ H;  dX_i = a_i d_i ⊙ dz;  dH += dl · W_g
//!           dY0 = G;  dY0[:, S] += dX;  dH += dY0 · W         the base backward, which the trainer runs anyway
//! ```
//!
//! Source: ID-LoRA (arXiv 2602.20727). The identities are exact; the tests hold them against the paper's literal formula.
//!
//! # What the caller must know
//!
//! * **Where the identity holds.** `Y0` must be the output of the linear layer itself: before any activation, after the
//!   all-reduce of a row-parallel layer, with no dropout on `H`, and with the bias declared ([`Bias`]). Elsewhere use
//!   [`DownProjection::Gemm`].
//! * **The bias's gradient** comes from `G`, not from the scattered `dY0`: `X` does not depend on `b`.
//! * **Numbers.** Everything is accumulated in f32 and rounded once when stored. `z` stays f32 between the products, for the
//!   inner gate is quadratic: in f16 it would overflow near `|x| = 100`. In f32 it overflows, to infinity, where
//!   `Σ_i |a_i x_i|` passes 3.4e38: for the inner gate near `‖T‖·|x|²·√r·k ≈ 3e38`, so `|x|` about 1e18; every finite f16
//!   activation is far below. The stored `Y` overflows where the element type does.
//! * **`B = 0`** leaves `Y0` as it is, to the bit, `−0.0` included (unless `b` is added), as long as `z` is finite.
//! * **Determinism.** The same bits for any number of threads, and a token's row of `Y` does not depend on the batch around it.
//! * **Operands that a variant does not read** ([`Layer::h`], [`Layer::w`]) may be passed and are not looked at, so that one
//!   call site serves every gate. A bias under [`Bias::None`] and a buffer for a gradient that does not exist are refused:
//!   ignoring them would be silently wrong.

pub(crate) mod check;
pub(crate) mod factors;
mod gate;
#[cfg(any(feature = "cuda", feature = "vm"))]
pub mod resident;
#[cfg(feature = "kernels")]
mod tune;

pub(crate) use factors::Factors;

use crate::cpu::lowrank as cpu;
use crate::device::{Device, on_device};
use crate::elem::Elem;
use crate::error::Result;
use crate::mat::{Mat, MatMut, MatRef};
pub use gate::Gate;

pub(crate) const FORWARD: &str = "lowrank forward";
pub(crate) const BACKWARD: &str = "lowrank backward";
pub(crate) const MERGE: &str = "lowrank merge";
pub(crate) const UNMERGE: &str = "lowrank unmerge";

/// ε of the rms-inner gate.
pub(crate) const RMS_EPSILON: f64 = 1e-6;

/// Where `X` comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DownProjection {
    /// The chosen columns of the base output: exact wherever `Y0` is the linear layer's own output.
    #[default]
    Gather,
    /// An explicit `X = H · W[S]ᵀ`, where it is not (row-parallel layers before the all-reduce, dropout on `H`).
    Gemm,
}

/// What the base layer did with its bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Bias {
    /// The layer has none.
    #[default]
    None,
    /// `Y0` includes it: it is subtracted from the gathered `X`. A bias much larger than `W h` cancels digits that a
    /// rounded `Y0` no longer has; the error of `X` is bounded by `u·|Y0|`.
    Included,
    /// `Y0` is without it: `X` is gathered as it is and `b` is added to `Y`. The exact alternative.
    Separate,
}

/// The problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Desc {
    /// Output features m.
    pub rows: usize,
    /// Input features n.
    pub cols: usize,
    /// Rank r of a component.
    pub rank: usize,
    /// Components k.
    pub components: usize,
    /// Rank Boosting's split s; divides `rank` and `rows`.
    pub split: usize,
    /// How components are weighted.
    pub gate: Gate,
    /// Where `X` comes from.
    pub down: DownProjection,
    /// What the base layer did with its bias.
    pub bias: Bias,
}

/// What the adapter holds, as both directions read it.
#[derive(Clone, Copy, Debug)]
pub struct Parameters<'a> {
    /// Chosen rows of W, `[k, r]` row-major, all distinct (checked at every call, in `O(k·r·log(k·r))`).
    pub skeleton: &'a [u32],
    /// The shared matrix `B [m/s, r/s]`.
    pub b: MatRef<'a, f32>,
    /// The gate's parameters, shaped by [`Gate::parameter_shape`].
    pub gate: MatRef<'a, f32>,
    /// κ.
    pub scale: f32,
}

/// Dropout on `X`, after the gather: it zeroes what is *mixed* (`z = Σ_i a_i ⊙ d_i ⊙ X_i`), and the gate reads `X` as it was
/// before, so that a token's weights are those of inference. The paper does not say where its dropout sits; this is LoRA's
/// place for it, the input of the trained matrix. It never sits on `H`, where the gather identity would be lost.
///
/// The mask is counter-based: entry `(token, c)` of `X [t, k·r]` takes word `c mod 4` of Philox4x32-10 at the counter
/// `[lo(token), hi(token), c / 4, 0]` under the key `[lo(seed), hi(seed)]`, where `token` is its row plus `offset`. It is
/// dropped where the word is below `⌊p·2³²⌋`, and multiplied by `1/(1 − p)` elsewhere. The backward draws the same mask again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability that an entry of `X` is zeroed, in [0, 1).
    pub probability: f32,
    /// Seed of the mask; a trainer changes it every step.
    pub seed: u64,
    /// Number of tokens that came before row 0 (micro-batches of one step).
    pub offset: u64,
}

impl Dropout {
    /// The factors `[tokens, columns]` that entries of `X` are multiplied by: 0 or `1/(1 − p)`. `columns` is k·r.
    ///
    /// # Errors
    /// [`Error::Parameter`](crate::Error::Parameter) for a probability outside [0, 1) or an offset that overflows,
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn factors(&self, tokens: usize, columns: usize) -> Result<Mat<f32>> {
        check::dropout("lowrank dropout", self, tokens)?;
        let mut factors = Mat::zeros(tokens, columns)?;
        for token in 0..tokens {
            cpu::fill_dropout(self, token as u64, factors.row_mut(token));
        }
        Ok(factors)
    }

    /// Words below this drop their entry.
    pub(crate) fn threshold(&self) -> u64 {
        (f64::from(self.probability) * 4_294_967_296.0).floor() as u64
    }

    /// `1/(1 − p)`.
    pub(crate) fn kept_scale(&self) -> f32 {
        1.0 / (1.0 - self.probability)
    }
}

/// Base output and where the adapted output goes.
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

/// Operands of the layer that some variants read.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a, T> {
    /// The layer's input `H [t, n]`: linear gates and [`DownProjection::Gemm`].
    pub h: Option<MatRef<'a, T>>,
    /// The base weight `W [m, n]`: [`DownProjection::Gemm`], whose forward reads the chosen rows (and copies them, widened to
    /// f32, once a call).
    pub w: Option<MatRef<'a, T>>,
    /// The base bias `[m]`: [`Bias::Included`] and [`Bias::Separate`]; refused under [`Bias::None`].
    pub bias: Option<&'a [T]>,
    /// Dropout on `X`, in training only.
    pub dropout: Option<Dropout>,
}

/// What the forward leaves for the backward.
#[derive(Debug)]
pub struct SavedMut<'a, T> {
    /// `X [t, k·r]` (before dropout).
    pub x: MatMut<'a, T>,
    /// Gate values `a [t, k]`.
    pub gate: MatMut<'a, f32>,
    /// `z [t, r]`, where `4·r` bytes a token are worth it: a device's backward needs it before it reads `G`, and without it
    /// reads `X` once more to redo the sum, in a launch of its own. The same bits either way.
    pub z: Option<MatMut<'a, f32>>,
}

/// What the forward has left.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a, T> {
    /// `X [t, k·r]` (before dropout).
    pub x: MatRef<'a, T>,
    /// Gate values `a [t, k]`.
    pub gate: MatRef<'a, f32>,
    /// `z [t, r]`, if it was kept. The CPU, which has `X` at hand when it needs `z`, does not look at it.
    pub z: Option<MatRef<'a, f32>>,
}

/// Where `dX` goes. It never goes silently into a buffer that the trainer still shares.
///
/// Under [`DownProjection::Gemm`] both remain right as long as the base layer has read the same `H` and `W` as the
/// adapter: `dH = (G with dX added at S) · W = G W + dX W[S]`. Where it has not, take `dX` out and use `dX W[S]`.
#[derive(Debug)]
pub enum InputGradient<'a, T> {
    /// Added to columns S of `G [t, m]`, which the caller gives away: it becomes `dY0`.
    Scatter(MatMut<'a, T>),
    /// `G [t, m]` stays as it is; `dX [t, k·r]` is written out for `dH = G W + dX W[S]`.
    Separate {
        /// `∂L/∂Y`.
        g: MatRef<'a, T>,
        /// Receives `dX`.
        dx: MatMut<'a, T>,
    },
}

/// Gradients that the backward produces; always f32 for parameters.
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

/// A checked problem on a device.
#[derive(Clone, Debug)]
pub struct Plan {
    device: Device,
    desc: Desc,
    /// What was chosen by [`Plan::tune`].
    #[cfg(feature = "kernels")]
    #[cfg_attr(not(any(feature = "cuda", feature = "vm")), allow(dead_code))]
    chosen: crate::tune::Chosen,
}

impl Plan {
    /// Checks the problem.
    ///
    /// # Errors
    /// [`Error::Parameter`](crate::Error::Parameter) for a size of 0, a split that does not divide `rank` and `rows`, or
    /// `k·r > m`.
    pub fn new(device: &Device, desc: Desc) -> Result<Self> {
        check::desc(FORWARD, &desc)?;
        Ok(Self {
            device: device.clone(),
            desc,
            #[cfg(feature = "kernels")]
            chosen: crate::tune::Chosen::default(),
        })
    }

    /// The problem.
    pub fn desc(&self) -> &Desc {
        &self.desc
    }

    /// Runs the forward on `t = Y0.rows()` tokens; `t` may be 0.
    ///
    /// Reads and writes each element of `Y0` once: `O(t·m·r/s)` operations for the expansion, `t·k·r` for the rest, and
    /// `t·n·k` more for the linear gates, `t·n·k·r` for [`DownProjection::Gemm`].
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where an operand does not fit the problem,
    /// [`Error::Parameter`](crate::Error::Parameter) for a bad skeleton, scale or dropout,
    /// [`Error::Operand`](crate::Error::Operand) for a missing operand (or a bias under [`Bias::None`]),
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory). Nothing has been written then.
    pub fn forward<T: Elem>(
        &self,
        parameters: &Parameters<'_>,
        layer: &Layer<'_, T>,
        output: Output<'_, T>,
        saved: Option<SavedMut<'_, T>>,
    ) -> Result<()> {
        let tokens = check::output(&self.desc, &output)?;
        check::parameters(FORWARD, &self.desc, parameters)?;
        let operands = check::layer(FORWARD, &self.desc, tokens, layer)?;
        if let Some(saved) = &saved {
            let z = saved.z.as_ref().map(|z| z.as_ref().shape());
            check::saved(FORWARD, &self.desc, tokens, saved.x.as_ref().shape(), saved.gate.as_ref().shape(), z)?;
        }
        on_device!(
            &self.device,
            cpu => cpu::forward(self.desc, parameters, operands, output, saved),
            gpu => crate::gpu::lowrank::forward(gpu, &self.desc, parameters, operands, output, saved, &self.chosen)
        )
    }

    /// Runs the backward of the same call: same parameters, same layer (its `w` and its bias are not read), what the
    /// forward saved, and `G = ∂L/∂Y`. With `t = 0` the gradients are zero.
    ///
    /// Reads `G` once: `O(t·m·r/s)` operations, twice the forward's, and `t·n·k` for a linear gate's gradient, as much
    /// again for its share of `dH`.
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and [`Error::Operand`](crate::Error::Operand) where `h_gate` is passed for a gate
    /// that makes no gradient of `H`.
    pub fn backward<T: Elem>(
        &self,
        parameters: &Parameters<'_>,
        layer: &Layer<'_, T>,
        saved: Saved<'_, T>,
        input: InputGradient<'_, T>,
        gradients: Gradients<'_, T>,
    ) -> Result<()> {
        let tokens = check::input_gradient(&self.desc, &input)?;
        check::parameters(BACKWARD, &self.desc, parameters)?;
        let operands = check::layer_of_backward(&self.desc, tokens, layer)?;
        check::saved(BACKWARD, &self.desc, tokens, saved.x.shape(), saved.gate.shape(), saved.z.map(|z| z.shape()))?;
        check::gradients(&self.desc, tokens, &gradients)?;
        on_device!(
            &self.device,
            cpu => cpu::backward(self.desc, parameters, operands, saved, input, gradients),
            gpu => crate::gpu::lowrank::backward(gpu, &self.desc, parameters, operands, saved, input, gradients)
        )
    }
}

/// `W ← (I + κ (I_s⊗B) P) W` in place, `P = Σ_i ᾱ_i E_{S_i}`: static gates only. Computed in f64 and rounded to the
/// element type at the end. `O(m·n·r/s)`.
///
/// The merged layer needs no adapter: its output is the adapter's, up to rounding. A bias is untouched by it.
///
/// # Errors
/// [`Error::Unsupported`](crate::Error::Unsupported) for a gate that depends on the token,
/// [`Error::Shape`](crate::Error::Shape) and [`Error::Parameter`](crate::Error::Parameter) as [`Plan::forward`].
pub fn merge<T: Elem>(device: &Device, desc: &Desc, parameters: &Parameters<'_>, w: MatMut<'_, T>) -> Result<()> {
    check::merge(MERGE, desc, parameters, w.as_ref().shape())?;
    on_device!(
        device,
        cpu => cpu::merge(desc, parameters, w),
        gpu => crate::gpu::lowrank::merge(gpu, desc, parameters, w)
    )
}

/// Undoes [`merge`]: `W ← W − U (I + P U)⁻¹ P W` with `U = κ (I_s⊗B)`; subtracting the delta would not, because merging
/// changes the rows `W[S]` themselves. `O(m·n·r/s + r²·n)`.
///
/// Merging has rounded `W'` to the element type, so that `W` comes back within `|(I + U P)⁻¹|·u·|W'| + u·|W|`, not to the
/// bit; keep the base weight where bits matter.
///
/// # Errors
/// As [`merge`], and [`Error::Unsupported`](crate::Error::Unsupported) where `I + P U` is singular: then `W'` has lower
/// rank than `W`, and no formula brings it back.
pub fn unmerge<T: Elem>(device: &Device, desc: &Desc, parameters: &Parameters<'_>, w: MatMut<'_, T>) -> Result<()> {
    check::merge(UNMERGE, desc, parameters, w.as_ref().shape())?;
    let factors = Factors::of(desc, parameters)?;
    on_device!(
        device,
        cpu => cpu::unmerge(desc, parameters, &factors, w),
        gpu => crate::gpu::lowrank::unmerge(gpu, desc, parameters, &factors, w)
    )
}
