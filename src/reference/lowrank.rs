//! The adapter's mathematics in f64, one function per definition. `t` tokens, `k` components of rank `r`, split `s`,
//! `W [m, n]`, `B [m/s, r/s]`; `X` is `[t, k·r]`, component by component.

use crate::lowrank::Gate;
use crate::mat::{Mat, MatRef};

/// ε of the rms-inner gate.
pub const RMS_EPSILON: f64 = 1e-6;

/// What the adapter holds.
#[derive(Clone, Copy, Debug)]
pub struct Adapter<'a> {
    /// Rank r of a component.
    pub rank: usize,
    /// Rank Boosting's split s.
    pub split: usize,
    /// How components are weighted.
    pub gate: Gate,
    /// Chosen rows `[k, r]`.
    pub skeleton: &'a [u32],
    /// `B [m/s, r/s]`.
    pub b: MatRef<'a, f64>,
    /// `T [1, r]`, `W_g [k, n]` or `ᾱ [1, k]`.
    pub parameters: MatRef<'a, f64>,
    /// κ.
    pub scale: f64,
}

impl Adapter<'_> {
    fn components(&self) -> usize {
        self.skeleton.len() / self.rank
    }
}

/// `⟨a, b⟩`.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// A `[rows, cols]` matrix of `value(i, j)`.
fn matrix(rows: usize, cols: usize, value: impl Fn(usize, usize) -> f64) -> Mat<f64> {
    let mut out = Mat::from_vec(vec![0.0; rows * cols], rows, cols).expect("sizes agree");
    for i in 0..rows {
        for j in 0..cols {
            out.row_mut(i)[j] = value(i, j);
        }
    }
    out
}

/// Base layer: `H Wᵀ + 1 bᵀ`.
pub fn base(h: MatRef<'_, f64>, w: MatRef<'_, f64>, bias: Option<&[f64]>) -> Mat<f64> {
    matrix(h.rows(), w.rows(), |t, i| dot(h.row(t), w.row(i)) + bias.map_or(0.0, |b| b[i]))
}

/// `X = Y0[:, S] − b[S]`; no bias where `Y0` is without it.
pub fn gather(y0: MatRef<'_, f64>, bias: Option<&[f64]>, skeleton: &[u32]) -> Mat<f64> {
    let value = |t: usize, c: usize| {
        let column = skeleton[c] as usize;
        y0.row(t)[column] - bias.map_or(0.0, |b| b[column])
    };
    matrix(y0.rows(), skeleton.len(), value)
}

/// `X = H W[S]ᵀ`: what the gather finds already computed.
pub fn project(h: MatRef<'_, f64>, w: MatRef<'_, f64>, skeleton: &[u32]) -> Mat<f64> {
    matrix(h.rows(), skeleton.len(), |t, c| dot(h.row(t), w.row(skeleton[c] as usize)))
}

/// `⟨T, x⟩`.
pub fn gate_inner(t: &[f64], x: &[f64]) -> f64 {
    dot(t, x)
}

/// `√(mean(x²) + ε)`.
pub fn rms(x: &[f64]) -> f64 {
    (dot(x, x) / x.len() as f64 + RMS_EPSILON).sqrt()
}

/// `⟨T, x / rms(x)⟩`.
pub fn gate_rms_inner(t: &[f64], x: &[f64]) -> f64 {
    dot(t, x) / rms(x)
}

/// `W_g h`.
pub fn gate_linear(w: MatRef<'_, f64>, h: &[f64]) -> Vec<f64> {
    w.iter_rows().map(|w| dot(w, h)).collect()
}

/// `softmax(W_g h)`.
pub fn gate_linear_softmax(w: MatRef<'_, f64>, h: &[f64]) -> Vec<f64> {
    let logits = gate_linear(w, h);
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = logits.iter().map(|l| (l - top).exp()).sum();
    logits.iter().map(|l| (l - top).exp() / total).collect()
}

/// Gate values `[t, k]` from `X` before dropout, or from `H` for the linear gates.
pub fn gates(adapter: &Adapter<'_>, x: MatRef<'_, f64>, h: Option<MatRef<'_, f64>>) -> Mat<f64> {
    let (k, r) = (adapter.components(), adapter.rank);
    let of_token = |t: usize| -> Vec<f64> {
        let parts = x.row(t).chunks(r);
        match (adapter.gate, h) {
            (Gate::Inner, _) => parts.map(|x| gate_inner(adapter.parameters.row(0), x)).collect(),
            (Gate::RmsInner, _) => parts.map(|x| gate_rms_inner(adapter.parameters.row(0), x)).collect(),
            (Gate::Static, _) => adapter.parameters.row(0).to_vec(),
            (Gate::Linear, Some(h)) => gate_linear(adapter.parameters, h.row(t)),
            (Gate::LinearSoftmax, Some(h)) => gate_linear_softmax(adapter.parameters, h.row(t)),
            (Gate::Linear | Gate::LinearSoftmax, None) => panic!("linear gates read H"),
        }
    };
    let rows: Vec<Vec<f64>> = (0..x.rows()).map(of_token).collect();
    matrix(x.rows(), k, |t, i| rows[t][i])
}

/// `z = Σ_i a_i ⊙ d_i ⊙ X_i`, with dropout factors `d [t, k·r]`.
pub fn premix(x: MatRef<'_, f64>, a: MatRef<'_, f64>, factors: Option<MatRef<'_, f64>>) -> Mat<f64> {
    let r = x.cols() / a.cols();
    let value = |t: usize, j: usize| {
        let term = |i: usize| a.row(t)[i] * factors.map_or(1.0, |d| d.row(t)[i * r + j]) * x.row(t)[i * r + j];
        (0..a.cols()).map(term).sum()
    };
    matrix(x.rows(), r, value)
}

/// `κ (I_s⊗B) z` for every token.
pub fn expand(adapter: &Adapter<'_>, z: MatRef<'_, f64>) -> Mat<f64> {
    let (part, depth) = adapter.b.shape();
    matrix(z.rows(), part * adapter.split, |t, c| {
        adapter.scale * dot(&z.row(t)[c / part * depth..][..depth], adapter.b.row(c % part))
    })
}

/// The update `κ Σ_i a_i (I_s⊗B) (d_i ⊙ x_i)` from `X`, with the shared `B` applied once.
pub fn update(
    adapter: &Adapter<'_>,
    x: MatRef<'_, f64>,
    h: Option<MatRef<'_, f64>>,
    factors: Option<MatRef<'_, f64>>,
) -> Mat<f64> {
    let a = gates(adapter, x, h);
    expand(adapter, premix(x, a.as_ref(), factors).as_ref())
}

/// The paper's formula word for word, for one token: `W h + b + κ Σ_i α_i (I_s⊗B) A_i h` with explicit `A_i = W[S_i]`
/// and an explicit block-diagonal `I_s⊗B`.
pub fn literal(adapter: &Adapter<'_>, h: &[f64], w: MatRef<'_, f64>, bias: Option<&[f64]>) -> Vec<f64> {
    let mut y: Vec<f64> = w.iter_rows().map(|w| dot(w, h)).collect();
    if let Some(bias) = bias {
        y.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
    }
    let boosted = block_diagonal(adapter);
    for (i, rows) in adapter.skeleton.chunks(adapter.rank).enumerate() {
        let a = matrix(adapter.rank, w.cols(), |j, c| w.row(rows[j] as usize)[c]);
        let x: Vec<f64> = a.as_ref().iter_rows().map(|a| dot(a, h)).collect();
        let alpha = match adapter.gate {
            Gate::Inner => gate_inner(adapter.parameters.row(0), &x),
            Gate::RmsInner => gate_rms_inner(adapter.parameters.row(0), &x),
            Gate::Linear => gate_linear(adapter.parameters, h)[i],
            Gate::LinearSoftmax => gate_linear_softmax(adapter.parameters, h)[i],
            Gate::Static => adapter.parameters.row(0)[i],
        };
        for (y, row) in y.iter_mut().zip(boosted.as_ref().iter_rows()) {
            *y += adapter.scale * alpha * dot(row, &x);
        }
    }
    y
}

/// `I_s⊗B [m, r]`.
pub fn block_diagonal(adapter: &Adapter<'_>) -> Mat<f64> {
    let (part, depth) = adapter.b.shape();
    matrix(part * adapter.split, adapter.rank, |i, j| {
        if i / part == j / depth { adapter.b.row(i % part)[j % depth] } else { 0.0 }
    })
}

/// Gradients of a loss whose derivative by `Y` is `G`.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// `[m/s, r/s]`.
    pub b: Mat<f64>,
    /// Shaped like the gate's parameters.
    pub parameters: Mat<f64>,
    /// `dX [t, k·r]`.
    pub x: Mat<f64>,
    /// The gate's share of `dH [t, n]`, for the linear gates.
    pub h: Option<Mat<f64>>,
}

/// The adapter's backward from `X`, the gate values `a` and `G [t, m]`.
pub fn backward(
    adapter: &Adapter<'_>,
    x: MatRef<'_, f64>,
    a: MatRef<'_, f64>,
    h: Option<MatRef<'_, f64>>,
    factors: Option<MatRef<'_, f64>>,
    g: MatRef<'_, f64>,
) -> Gradients {
    let (tokens, k, r) = (x.rows(), a.cols(), adapter.rank);
    let (part, depth) = adapter.b.shape();
    let factor = |t: usize, c: usize| factors.map_or(1.0, |d| d.row(t)[c]);
    let z = premix(x, a, factors);
    let b = matrix(part, depth, |i, q| {
        let of = |t: usize, p: usize| adapter.scale * g.row(t)[p * part + i] * z.row(t)[p * depth + q];
        (0..tokens).flat_map(|t| (0..adapter.split).map(move |p| (t, p))).map(|(t, p)| of(t, p)).sum()
    });
    let dz = matrix(tokens, r, |t, j| {
        let of = |i: usize| adapter.scale * g.row(t)[j / depth * part + i] * adapter.b.row(i)[j % depth];
        (0..part).map(of).sum()
    });
    let da = matrix(tokens, k, |t, i| (0..r).map(|j| dz.row(t)[j] * factor(t, i * r + j) * x.row(t)[i * r + j]).sum());
    let mixed = |t: usize, c: usize| a.row(t)[c / r] * factor(t, c) * dz.row(t)[c % r];
    let t_row = adapter.parameters.row(0);
    let component = |t: usize, i: usize| &x.row(t)[i * r..][..r];
    let all = || (0..tokens).flat_map(|t| (0..k).map(move |i| (t, i)));
    let (parameters, x_gradient, dl) = match adapter.gate {
        Gate::Inner => (
            matrix(1, r, |_, j| all().map(|(t, i)| da.row(t)[i] * component(t, i)[j]).sum()),
            matrix(tokens, k * r, |t, c| mixed(t, c) + da.row(t)[c / r] * t_row[c % r]),
            None,
        ),
        Gate::RmsInner => (
            matrix(1, r, |_, j| all().map(|(t, i)| da.row(t)[i] * component(t, i)[j] / rms(component(t, i))).sum()),
            matrix(tokens, k * r, |t, c| {
                let x = component(t, c / r);
                let rho = rms(x);
                let along = dot(t_row, x) / rho / r as f64;
                mixed(t, c) + da.row(t)[c / r] / rho * (t_row[c % r] - x[c % r] / rho * along)
            }),
            None,
        ),
        Gate::Static => {
            (matrix(1, k, |_, i| (0..tokens).map(|t| da.row(t)[i]).sum()), matrix(tokens, k * r, mixed), None)
        }
        Gate::Linear | Gate::LinearSoftmax => {
            let h = h.expect("linear gates read H");
            let dl = if adapter.gate == Gate::Linear { da } else { softmax_backward(a, da.as_ref()) };
            let dw = matrix(k, h.cols(), |i, c| (0..tokens).map(|t| dl.row(t)[i] * h.row(t)[c]).sum());
            (dw, matrix(tokens, k * r, mixed), Some(dl))
        }
    };
    let h = dl.map(|dl| {
        let w = adapter.parameters;
        matrix(tokens, w.cols(), |t, c| (0..k).map(|i| dl.row(t)[i] * w.row(i)[c]).sum())
    });
    Gradients { b, parameters, x: x_gradient, h }
}

/// `dl = a ⊙ (da − ⟨a, da⟩)`.
pub fn softmax_backward(a: MatRef<'_, f64>, da: MatRef<'_, f64>) -> Mat<f64> {
    matrix(a.rows(), a.cols(), |t, i| a.row(t)[i] * (da.row(t)[i] - dot(a.row(t), da.row(t))))
}

/// `P [r, m]` of a static gate: `Σ_i ᾱ_i E_{S_i}`.
pub fn mixing(adapter: &Adapter<'_>, rows: usize) -> Mat<f64> {
    let mut p = matrix(adapter.rank, rows, |_, _| 0.0);
    for (chosen, weight) in adapter.skeleton.chunks(adapter.rank).zip(adapter.parameters.row(0)) {
        for (j, &row) in chosen.iter().enumerate() {
            p.row_mut(j)[row as usize] += weight;
        }
    }
    p
}

/// `A B`.
pub fn product(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    matrix(a.rows(), b.cols(), |i, j| (0..a.cols()).map(|l| a.row(i)[l] * b.row(l)[j]).sum())
}

/// `I + κ (I_s⊗B) P`, explicitly `[m, m]`: the factor that merging puts before `W`.
pub fn merge_factor(adapter: &Adapter<'_>, rows: usize) -> Mat<f64> {
    let up = product(block_diagonal(adapter).as_ref(), mixing(adapter, rows).as_ref());
    matrix(rows, rows, |i, j| f64::from(i == j) + adapter.scale * up.row(i)[j])
}

/// `W' = (I + κ (I_s⊗B) P) W` for a static gate.
pub fn merge(adapter: &Adapter<'_>, w: MatRef<'_, f64>) -> Mat<f64> {
    product(merge_factor(adapter, w.rows()).as_ref(), w)
}

/// `W = (I + κ (I_s⊗B) P)⁻¹ W'`, by the explicit `[m, m]` inverse; `None` where there is none.
pub fn unmerge(adapter: &Adapter<'_>, merged: MatRef<'_, f64>) -> Option<Mat<f64>> {
    Some(product(inverse(merge_factor(adapter, merged.rows()).as_ref())?.as_ref(), merged))
}

/// Gauss and Jordan with partial pivoting.
pub fn inverse(a: MatRef<'_, f64>) -> Option<Mat<f64>> {
    let n = a.rows();
    let mut work = matrix(n, 2 * n, |i, j| if j < n { a.row(i)[j] } else { f64::from(j - n == i) });
    for k in 0..n {
        let pivot = (k..n).max_by(|&i, &j| work.row(i)[k].abs().total_cmp(&work.row(j)[k].abs()))?;
        let top = work.row(pivot).to_vec();
        if top[k] == 0.0 {
            return None;
        }
        let swapped = work.row(k).to_vec();
        work.row_mut(pivot).copy_from_slice(&swapped);
        let top: Vec<f64> = top.iter().map(|x| x / top[k]).collect();
        work.row_mut(k).copy_from_slice(&top);
        for i in (0..n).filter(|&i| i != k) {
            let factor = work.row(i)[k];
            work.row_mut(i).iter_mut().zip(&top).for_each(|(x, t)| *x -= factor * t);
        }
    }
    Some(matrix(n, n, |i, j| work.row(i)[n + j]))
}
