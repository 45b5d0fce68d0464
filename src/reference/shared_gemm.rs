//! A frozen layer with its components in f64.

use super::lowrank::{Adapter, base, project, update};
use crate::mat::{Mat, MatRef};

/// `Y = H Wᵀ + b + κ (I_s⊗B) Σ_i a_i (d_i ⊙ X_i)` with `X = H W[S]ᵀ`; without an adapter, the layer alone.
pub fn forward(
    adapter: Option<&Adapter<'_>>,
    h: MatRef<'_, f64>,
    w: MatRef<'_, f64>,
    bias: Option<&[f64]>,
    factors: Option<MatRef<'_, f64>>,
) -> Mat<f64> {
    let mut y = base(h, w, bias);
    if let Some(adapter) = adapter {
        let x = project(h, w, adapter.skeleton);
        let added = update(adapter, x.as_ref(), Some(h), factors);
        y.data_mut().iter_mut().zip(added.data()).for_each(|(y, u)| *y += u);
    }
    y
}
