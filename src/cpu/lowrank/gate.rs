//! The gates of one token, forward and backward, on f32 slices. `x` is a token's `[k, r]` row of `X`.

use crate::lowrank::{Gate, RMS_EPSILON};

/// `⟨a, b⟩` in eight interleaved chains: a single chain would be bound by the latency of an addition.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_chunks, a_rest) = a.as_chunks::<8>();
    let (b_chunks, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0f32; 8];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    let [a, b, c, d, e, f, g, h] = sums;
    (((a + e) + (b + f)) + ((c + g) + (d + h))) + rest
}

/// `√(mean(x²) + ε)`, the squares in f64: those of every f32 fit, so that large activations do not turn the gate off.
fn rms(x: &[f32]) -> f32 {
    let squares: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    (squares / x.len() as f64 + RMS_EPSILON).sqrt() as f32
}

/// Replaces logits by their softmax, in f64: there are only k of them.
fn softmax(logits: &mut [f32]) {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |x: f32| (f64::from(x) - f64::from(top)).exp();
    let total: f64 = logits.iter().map(|&x| weight(x)).sum();
    for x in logits {
        *x = (weight(*x) / total) as f32;
    }
}

/// Gate values of a token into `a [k]`, which holds the logits where the gate is linear.
pub(super) fn values(gate: Gate, parameters: &[f32], x: &[f32], a: &mut [f32]) {
    let rank = x.len() / a.len();
    match gate {
        Gate::Inner => {
            for (a, x) in a.iter_mut().zip(x.chunks_exact(rank)) {
                *a = dot(parameters, x);
            }
        }
        Gate::RmsInner => {
            for (a, x) in a.iter_mut().zip(x.chunks_exact(rank)) {
                *a = dot(parameters, x) / rms(x);
            }
        }
        Gate::Linear => {}
        Gate::LinearSoftmax => softmax(a),
        Gate::Static => a.copy_from_slice(parameters),
    }
}

/// `z = Σ_i a_i ⊙ mask_i ⊙ x_i` into `z [r]`.
pub(super) fn premix(x: &[f32], mask: &[f32], a: &[f32], z: &mut [f32]) {
    z.fill(0.0);
    let rank = z.len();
    for ((x, mask), &a) in x.chunks_exact(rank).zip(mask.chunks_exact(rank)).zip(a) {
        for ((z, x), mask) in z.iter_mut().zip(x).zip(mask) {
            *z += a * (mask * x);
        }
    }
}

/// One token of the backward.
pub(super) struct Token<'a> {
    pub(super) x: &'a [f32],
    pub(super) mask: &'a [f32],
    pub(super) a: &'a [f32],
    pub(super) dz: &'a [f32],
}

impl Token<'_> {
    /// Writes `dX [k·r]` and the derivative by gate values (by logits where the gate is linear) `da [k]`, and adds to the
    /// gate's gradient (not where it is linear: that one is `daᵀ H`).
    pub(super) fn backward(
        &self,
        gate: Gate,
        parameters: &[f32],
        dx: &mut [f32],
        da: &mut [f32],
        gradient: &mut [f32],
    ) {
        let rank = self.dz.len();
        for (i, (dx, da)) in dx.chunks_exact_mut(rank).zip(da.iter_mut()).enumerate() {
            let at = i * rank..(i + 1) * rank;
            let (x, mask, a) = (&self.x[at.clone()], &self.mask[at], self.a[i]);
            for (((dx, &dz), &mask), &x) in dx.iter_mut().zip(self.dz).zip(mask).zip(x) {
                *dx = dz * (mask * x);
            }
            *da = sum(dx);
            for ((dx, &dz), &mask) in dx.iter_mut().zip(self.dz).zip(mask) {
                *dx = a * (dz * mask);
            }
            match gate {
                Gate::Inner => {
                    axpy(*da, x, gradient);
                    axpy(*da, parameters, dx);
                }
                Gate::RmsInner => through_rms(x, *da, parameters, dx, gradient),
                Gate::Static => gradient[i] += *da,
                Gate::Linear | Gate::LinearSoftmax => {}
            }
        }
        if gate == Gate::LinearSoftmax {
            let mean = dot(self.a, da);
            for (da, a) in da.iter_mut().zip(self.a) {
                *da = a * (*da - mean);
            }
        }
    }
}

/// Σ of the entries, in the chains of [`dot`].
fn sum(x: &[f32]) -> f32 {
    let (chunks, rest) = x.as_chunks::<8>();
    let mut sums = [0.0f32; 8];
    for x in chunks {
        for (sum, x) in sums.iter_mut().zip(x) {
            *sum += x;
        }
    }
    sums.iter().sum::<f32>() + rest.iter().sum::<f32>()
}

/// `y += alpha · x`.
fn axpy(alpha: f32, x: &[f32], y: &mut [f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += alpha * x;
    }
}

/// `u = x/ρ`: `dT += da·u` and `dx += (da/ρ)(T − u ⟨T, u⟩/r)`.
fn through_rms(x: &[f32], da: f32, parameters: &[f32], dx: &mut [f32], gradient: &mut [f32]) {
    let rho = rms(x);
    let slope = da / rho;
    let along = dot(parameters, x) / rho / x.len() as f32;
    for (((dx, dt), &t), &x) in dx.iter_mut().zip(gradient).zip(parameters).zip(x) {
        *dt += slope * x;
        *dx += slope * (t - x / rho * along);
    }
}
