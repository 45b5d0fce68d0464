//! Derived error bounds of the adapter branch, forward and backward.

use super::branch::{Exact, U, rounding, underflow, zeros};
use idlora::lowrank::{Bias, Desc, DownProjection, Gate};
use idlora::reference::lowrank as reference;
use idlora::{Device, Dtype, Elem, Mat};

/// How far the forward's results may be from the reference's.
pub struct Bounds {
    pub x: Mat<f64>,
    pub a: Mat<f64>,
    pub z: Mat<f64>,
    pub y: Mat<f64>,
}

/// `|a|·|b|` summed.
pub fn absolute(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a * b).abs()).sum()
}

/// Forward error bounds. A dot product of `K` terms in f32 is off by at most `(K + 1)·u·Σ|a||b|` whatever the order of the
/// sum (fused or not), errors `δ` of its operands enter to first order with the other operand's size and to second order
/// as they are, and every rounding adds `u` of its result. [`SLACK`] covers `γ_K = K·u/(1 − K·u)` against `K·u`.
///
/// Kernels sum in another order and expand on tensor cores: see [`Expansion`].
pub fn forward_bounds<T: Elem>(device: &Device, exact: &Exact) -> Bounds {
    let expansion = Expansion::of::<T>(device);
    let Desc { rank, components, split, rows, .. } = exact.desc;
    let (x, tokens) = (exact.x(), exact.y0.rows());
    let adapter = exact.adapter();
    let a = reference::gates(&adapter, x.as_ref(), exact.input());
    let z = exact.z();
    let mut bounds = Bounds {
        x: Mat::zeros(tokens, x.cols()).unwrap(),
        a: Mat::zeros(tokens, components).unwrap(),
        z: Mat::zeros(tokens, rank).unwrap(),
        y: Mat::zeros(tokens, rows).unwrap(),
    };
    for t in 0..tokens {
        for (c, bound) in bounds.x.row_mut(t).iter_mut().enumerate() {
            let value = x.row(t)[c];
            *bound = SLACK
                * match (exact.desc.down, exact.desc.bias) {
                    // A copy.
                    (DownProjection::Gather, Bias::None | Bias::Separate) => 0.0,
                    // A subtraction in f32, rounded to T.
                    (DownProjection::Gather, Bias::Included) => U * value.abs() + rounding::<T>(value),
                    (DownProjection::Gemm, _) => {
                        let row = exact.w.row(exact.skeleton[c] as usize);
                        let error = projection::<T>(device, exact.h.row(t), row);
                        error + rounding::<T>(value.abs() + error)
                    }
                };
        }
        let dx = bounds.x.row(t);
        for (i, bound) in bounds.a.row_mut(t).iter_mut().enumerate() {
            let at = i * rank..(i + 1) * rank;
            *bound = SLACK * gate_bound(exact, t, a.row(t), i, &x.row(t)[at.clone()], &dx[at]);
        }
        let dz = z_bounds(exact, t, [a.row(t), bounds.a.row(t), x.row(t), dx]);
        // Below the normal range each of the 2k roundings may lose half of the smallest subnormal.
        let lost = 2.0 * components as f64 * underflow::<f32>();
        bounds.z.row_mut(t).iter_mut().zip(&dz).for_each(|(bound, dz)| *bound = dz + lost);
        let (part, depth) = (rows / split, rank / split);
        for (c, bound) in bounds.y.row_mut(t).iter_mut().enumerate() {
            let of = c / part * depth..(c / part + 1) * depth;
            let b = exact.b.row(c % part);
            let reach: Vec<f64> = z.row(t)[of.clone()].iter().zip(&dz[of.clone()]).map(|(z, d)| z.abs() + d).collect();
            let product = exact.scale * absolute(b, &dz[of]) + expansion.error(b, &reach, exact.scale);
            let size = exact.y0.row(t)[c].abs()
                + if exact.desc.bias == Bias::Separate { exact.bias[c].abs() } else { 0.0 }
                + exact.scale * absolute(b, &reach);
            *bound = SLACK * (product + 2.0 * U * size + rounding::<T>(size));
        }
    }
    bounds
}

/// z of token `t`: what the operands' errors change, and k + 2 roundings, two products and k sums.
pub fn z_bounds(exact: &Exact, t: usize, [a, da, x, dx]: [&[f64]; 4]) -> Vec<f64> {
    let Desc { rank, components, .. } = exact.desc;
    let term = |i: usize, j: usize| {
        let c = i * rank + j;
        let factor = exact.factors.as_ref().map_or(1.0, |d| d.row(t)[c]);
        let (size, x) = (a[i].abs(), x[c].abs());
        let reach = factor * (size + da[i]) * (x + dx[c]);
        reach - factor * size * x + (components + 2) as f64 * U * reach
    };
    (0..rank).map(|j| SLACK * (0..components).map(|i| term(i, j)).sum::<f64>()).collect()
}

/// Error of `⟨h, w⟩` of the explicit down-projection, before it is rounded to `T`.
///
/// Kernels sum stages of 64 columns (32 of f32) from zero, each on tensor cores: as many additions as columns and one for every
/// 16, which may cut at 2U of the terms' sizes; then the stages' sums, which round. f32 is three bf16 terms of either operand,
/// the five lesser products in a sum of their own: each is at most `u` or `u²` of the leading one. Below the range of f32 every
/// product and every addition may lose its smallest subnormal.
fn projection<T: Elem>(device: &Device, h: &[f64], w: &[f64]) -> f64 {
    let (cols, size) = (h.len(), absolute(h, w));
    if *device == Device::Cpu {
        return (cols + 1) as f64 * U * size;
    }
    let float = T::DTYPE == Dtype::F32;
    let stage = if float { 32 } else { 64 };
    let columns = cols.min(stage);
    let additions = (columns + columns.div_ceil(16)) as f64;
    let stages = cols.div_ceil(stage) as f64;
    let below = 2f64.powi(-149) * 2.0 * cols as f64;
    if !float {
        return (additions * 2.0 + stages) * U * size + below;
    }
    let u = 2f64.powi(-8);
    let lesser = 5.0 * (2.0 * u + 3.0 * u * u);
    // Half of bf16's smallest subnormal is lost of either operand.
    let lost = underflow::<idlora::bf16>() * h.iter().zip(w).map(|(h, w)| h.abs() + w.abs()).sum::<f64>();
    let relative = additions * 2.0 * U * (1.0 + 2.0 * u + lesser) + Expansion::left(3) + U + stages * U;
    relative * size + lost + 6.0 * below
}

/// How `κB z` is computed.
enum Expansion {
    /// In f32.
    Float,
    /// From so many bf16 terms of each operand, the rounding of each at most 2⁻⁸ of its value.
    Terms(i32),
}

impl Expansion {
    fn of<T: Elem>(device: &Device) -> Self {
        match (device, T::DTYPE) {
            (Device::Cpu, _) => Self::Float,
            (_, Dtype::F16 | Dtype::BF16) => Self::Terms(2),
            (_, Dtype::F32) => Self::Terms(3),
        }
    }

    /// Its error: κB is rounded once, then r/s terms are summed.
    fn error(&self, b: &[f64], z: &[f64], scale: f64) -> f64 {
        let (depth, size) = (b.len() as f64, scale * absolute(b, z));
        let Self::Terms(terms) = *self else { return (depth + 2.0) * U * size };
        let (u, left) = (2f64.powi(-8), Self::left(terms));
        // Products are exact. A tensor core may cut where f32 rounds: 2U an addition. Two terms: three products in one sum.
        // Three: one, and the five others, each at most (2 or so)·2⁻⁸ of it, in another; then the sums' sum.
        let sums = if terms == 2 { 3.0 * depth } else { depth + 5.0 * depth * 2.0 * u + 1.0 };
        // Below the range of bf16, half of its smallest subnormal is lost of either operand.
        let lost = underflow::<idlora::bf16>() * b.iter().zip(z).map(|(b, z)| scale * b.abs() + z).sum::<f64>();
        (U + left + sums * 2.0 * U * (1.0 + 2.0 * u)) * size + lost
    }
}

impl Expansion {
    /// What terms leave over (nothing of 24 bits, where they are three), and the products left out.
    fn left(terms: i32) -> f64 {
        let u = 2f64.powi(-8);
        let first = if terms == 2 { 3.0 * u * u } else { 2.0 * u.powi(3) };
        first * (1.0 + 2.0 * u)
    }

    /// Error of a sum of `count` products in the backward, relative to their sizes. On tensor cores three or six products of
    /// terms stand for one, in one sum that may cut at each; partial sums are added by eight warps and in slices of at least
    /// 256, or in segments of at least 128.
    fn gradient(&self, count: usize) -> f64 {
        match *self {
            Self::Float => count as f64 * U,
            Self::Terms(terms) => {
                let products = if terms == 2 { 3 } else { 6 };
                Self::left(terms) + (2 * products * count + 8 + count / 128 + 1) as f64 * U
            }
        }
    }

    /// What is lost below the range of bf16 in a product of two values.
    fn lost(&self, a: f64, b: f64) -> f64 {
        if matches!(self, Self::Float) { 0.0 } else { underflow::<idlora::bf16>() * (a.abs() + b.abs()) }
    }
}

/// Error of gate value `i` of token `t`, whose `x` is off by `dx`. Dot products are in f32 wherever they run.
pub fn gate_bound(exact: &Exact, t: usize, a: &[f64], i: usize, x: &[f64], dx: &[f64]) -> f64 {
    let parameters = exact.gate.row(0);
    let rank = x.len() as f64;
    let inner = || {
        let reach: Vec<f64> = x.iter().zip(dx).map(|(x, dx)| x.abs() + dx).collect();
        absolute(parameters, dx) + (rank + 1.0) * U * absolute(parameters, &reach)
    };
    let logit = |i: usize| (exact.desc.cols + 1) as f64 * U * absolute(exact.gate.row(i), exact.h.row(t));
    match exact.desc.gate {
        Gate::Inner => inner(),
        // n/ρ: ρ is 1/√r-Lipschitz in x, at least 1e-3, and rounded once (its squares are summed in f64).
        Gate::RmsInner => {
            let rho = reference::rms(x);
            let drho = (dx.iter().map(|d| d * d).sum::<f64>() / rank).sqrt() + 2.0 * U * rho;
            (inner() + a[i].abs() * drho) / (rho - drho).max(1e-3) + 2.0 * U * a[i].abs()
        }
        Gate::Linear => logit(i),
        // Logits off by at most D move every ratio of weights by at most e^(2D).
        Gate::LinearSoftmax => {
            let largest = (0..a.len()).map(logit).fold(0.0, f64::max);
            a[i] * ((2.0 * largest).exp_m1() + 2.0 * U)
        }
        Gate::Static => 0.0,
    }
}

/// How far the backward's results may be from the reference's, before they are rounded to `T`.
pub struct GradientBounds {
    pub b: Mat<f64>,
    pub gate: Mat<f64>,
    pub x: Mat<f64>,
    pub h: Mat<f64>,
}

/// `γ_K` against `K·u`, and products of errors with each other.
pub const SLACK: f64 = 1.02;

/// Error bounds of the backward, from the saved `x` and `a` as they are; the rules are those of [`forward_bounds`].
pub fn backward_bounds<T: Elem>(device: &Device, exact: &Exact, x: &Mat<f64>, a: &Mat<f64>) -> GradientBounds {
    let Desc { rank, components, split, rows, cols, gate, .. } = exact.desc;
    let (gate_rows, gate_cols) = gate.parameter_shape(rank, components, cols);
    let mut bounds = GradientBounds {
        b: zeros(rows / split, rank / split),
        gate: zeros(gate_rows, gate_cols),
        x: zeros(x.rows(), x.cols()),
        h: zeros(x.rows(), cols),
    };
    let products = Expansion::of::<T>(device);
    for t in 0..x.rows() {
        let mut token = Token::new(exact, &products, x.row(t), a.row(t), t, x.rows());
        token.add_b(&products, &mut bounds.b);
        for i in 0..components {
            token.add_component(i, bounds.x.row_mut(t), &mut bounds.gate);
        }
        if gate.reads_input() {
            token.add_linear(bounds.h.row_mut(t), &mut bounds.gate);
        }
    }
    bounds
}

/// One token's intermediate quantities: `s…` bounds the size of what follows, `e…` its error.
struct Token<'a> {
    exact: &'a Exact,
    t: usize,
    tokens: usize,
    x: &'a [f64],
    a: &'a [f64],
    factors: Vec<f64>,
    sz: Vec<f64>,
    sdz: Vec<f64>,
    edz: Vec<f64>,
    sda: Vec<f64>,
    eda: Vec<f64>,
}

impl<'a> Token<'a> {
    fn new(exact: &'a Exact, products: &Expansion, x: &'a [f64], a: &'a [f64], t: usize, tokens: usize) -> Self {
        let Desc { rank, components, split, rows, .. } = exact.desc;
        let (part, depth) = (rows / split, rank / split);
        let factors = exact.factors.as_ref().map_or(vec![1.0; x.len()], |d| d.row(t).to_vec());
        let size = |c: usize| (factors[c] * x[c]).abs();
        let sz = (0..rank).map(|j| (0..components).map(|i| a[i].abs() * size(i * rank + j)).sum()).collect();
        let of = |j: usize, i: usize| (exact.g.row(t)[j / depth * part + i] * exact.b.row(i)[j % depth]).abs();
        let sdz: Vec<f64> = (0..rank).map(|j| exact.scale * (0..part).map(|i| of(j, i)).sum::<f64>()).collect();
        let lost = |j: usize, i: usize| {
            products.lost(exact.g.row(t)[j / depth * part + i], exact.scale * exact.b.row(i)[j % depth])
        };
        // κB is rounded, then m/s terms are summed.
        let edz: Vec<f64> = (0..rank)
            .map(|j| (products.gradient(part) + 2.0 * U) * sdz[j] + (0..part).map(|i| lost(j, i)).sum::<f64>())
            .collect();
        let over = |value: &dyn Fn(usize) -> f64| -> Vec<f64> {
            (0..components).map(|i| (0..rank).map(|j| size(i * rank + j) * value(j)).sum()).collect()
        };
        let sda = over(&|j| sdz[j] + edz[j]);
        // The error of dz, and r products of three factors.
        let eda = over(&|j| edz[j] + (rank + 2) as f64 * U * (sdz[j] + edz[j]));
        Self { exact, t, tokens, x, a, factors, sz, sdz, edz, sda, eda }
    }

    /// dB: z's k products of three factors and k sums, t·s terms in any order, κ, and one addition where it accumulates.
    fn add_b(&self, products: &Expansion, bound: &mut Mat<f64>) {
        let Desc { components, split, .. } = self.exact.desc;
        let (part, depth) = bound.shape();
        let relative = products.gradient(self.tokens * split) + (components + 5) as f64 * U;
        let g = self.exact.g.row(self.t);
        for i in 0..part {
            for (q, bound) in bound.row_mut(i).iter_mut().enumerate() {
                let of = |p: usize| (g[p * part + i], self.sz[p * depth + q]);
                let size: f64 = (0..split).map(of).map(|(g, z)| (g * z).abs()).sum();
                let lost: f64 = (0..split).map(of).map(|(g, z)| products.lost(g, z)).sum();
                *bound += SLACK * self.exact.scale * (relative * size + lost);
            }
        }
    }

    /// dX of component `i`, and what it adds to the gate's gradient (not where that is linear).
    fn add_component(&self, i: usize, dx: &mut [f64], gradient: &mut Mat<f64>) {
        let Desc { rank, components, gate, .. } = self.exact.desc;
        let (parameters, x) = (self.exact.gate.row(0), &self.x[i * rank..][..rank]);
        let (sda, eda) = (self.sda[i], self.eda[i]);
        // A sum over tokens and components, and one addition where it accumulates.
        let terms = (self.tokens * components + 3) as f64;
        let rho = reference::rms(x);
        let along = absolute(parameters, x) / rho / rank as f64;
        for (j, &x) in x.iter().enumerate() {
            // Size and error of what comes through the gate.
            let (size, error) = match gate {
                Gate::Inner => (parameters[j].abs() * sda, parameters[j].abs() * (eda + 2.0 * U * sda)),
                // da/ρ · (T − x/ρ · along): ρ is rounded once where it stands, along is a sum of r terms.
                Gate::RmsInner => {
                    let reach = parameters[j].abs() + (x / rho).abs() * along;
                    (sda / rho * reach, (eda + (rank + 14) as f64 * U * sda) / rho * reach)
                }
                Gate::Linear | Gate::LinearSoftmax | Gate::Static => (0.0, 0.0),
            };
            let mixed = (self.a[i] * self.factors[i * rank + j]).abs();
            let direct = mixed * (self.edz[j] + 2.0 * U * self.sdz[j]);
            dx[i * rank + j] = SLACK * (direct + error + U * (mixed * self.sdz[j] + size));
            match gate {
                Gate::Inner => gradient.row_mut(0)[j] += SLACK * x.abs() * (eda + terms * U * sda),
                Gate::RmsInner => gradient.row_mut(0)[j] += SLACK * x.abs() / rho * (eda + (terms + 3.0) * U * sda),
                Gate::Linear | Gate::LinearSoftmax | Gate::Static => {}
            }
        }
        if gate == Gate::Static {
            gradient.row_mut(0)[i] += SLACK * (eda + terms * U * sda);
        }
    }

    /// dW_g and the share of dH; the derivative by logits replaces that by gate values.
    fn add_linear(&mut self, dh: &mut [f64], gradient: &mut Mat<f64>) {
        let Desc { components, gate, .. } = self.exact.desc;
        if gate == Gate::LinearSoftmax {
            let mean = absolute(self.a, &self.sda);
            let emean = absolute(self.a, &self.eda) + (components + 1) as f64 * U * mean;
            for (i, a) in self.a.iter().enumerate() {
                self.eda[i] = a * (self.eda[i] + emean + 2.0 * U * (self.sda[i] + mean));
                self.sda[i] = a * (self.sda[i] + mean);
            }
        }
        for (c, dh) in dh.iter_mut().enumerate() {
            let h = self.exact.h.row(self.t)[c].abs();
            for i in 0..components {
                let (sda, eda, w) = (self.sda[i], self.eda[i], self.exact.gate.row(i)[c].abs());
                gradient.row_mut(i)[c] += SLACK * h * (eda + (self.tokens + 2) as f64 * U * sda);
                *dh += SLACK * w * (eda + (components + 1) as f64 * U * sda);
            }
        }
    }
}

/// Adds the rounding of `values` to `T`, their own error counted.
pub fn stored<T: Elem>(mut bound: Mat<f64>, values: &Mat<f64>) -> Mat<f64> {
    for (bound, value) in bound.data_mut().iter_mut().zip(values.data()) {
        let reach = value.abs() + *bound;
        *bound += U * reach + rounding::<T>(reach * (1.0 + U));
    }
    bound
}
