//! A frozen layer with its components in f64.

use super::lowrank::{Adapter, base, product, project, update};
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

/// `dH = G W + dX W[S]`, and what is added to it; without components, `G W`.
pub fn input_gradient(
    g: MatRef<'_, f64>,
    w: MatRef<'_, f64>,
    components: Option<(&[u32], MatRef<'_, f64>)>,
    add: Option<MatRef<'_, f64>>,
) -> Mat<f64> {
    let mut dh = product(g, w);
    for t in 0..dh.rows() {
        for (c, dh) in dh.row_mut(t).iter_mut().enumerate() {
            if let Some((skeleton, dx)) = components {
                *dh += skeleton.iter().zip(dx.row(t)).map(|(&row, dx)| dx * w.row(row as usize)[c]).sum::<f64>();
            }
            *dh += add.map_or(0.0, |add| add.row(t)[c]);
        }
    }
    dh
}
