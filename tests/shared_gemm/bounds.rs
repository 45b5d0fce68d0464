//! Derived error bounds. `U` = 2⁻²⁴.

use crate::common::bounds::{Bounds, SLACK, absolute, gate_bound, z_bounds};
use crate::common::branch::{Exact, U, rounding, underflow};
use crate::problem::intermediate;
use idlora::lowrank::{Bias, Desc};
use idlora::{Device, Elem, Mat, bf16};

/// How sums and the update are computed: on the CPU in f32, on a device on tensor cores, which may cut where f32 rounds.
struct Sums {
    tensor: bool,
}

impl Sums {
    /// Error of a sum of `count` products, relative to their sizes. Products of 16-bit elements are exact in either.
    fn of(&self, count: usize) -> f64 {
        if self.tensor { 2.0 * U * (count + 1) as f64 } else { U * (count + 1) as f64 }
    }

    /// Error of `κB z` by itself, but for its additions to the layer's sums: κB is rounded once; on the CPU r/s terms are
    /// summed in f32. On a device either enters as two bf16 terms, of which 3.03·2⁻¹⁶ is left out, and what lies below half of
    /// bf16's smallest subnormal.
    fn update(&self, b: &[f64], z: &[f64], scale: f64) -> f64 {
        let size = scale * absolute(b, z);
        if !self.tensor {
            return (b.len() as f64 + 2.0) * U * size;
        }
        let lost = underflow::<bf16>() * b.iter().zip(z).map(|(b, z)| scale * b.abs() + z).sum::<f64>();
        (U + 3.03 * 2f64.powi(-16)) * size + lost
    }
}

/// X: n products, rounded to `T`.
fn x_bounds<T: Elem>(sums: &Sums, exact: &Exact, x: &Mat<f64>) -> Mat<f64> {
    let mut bounds = Mat::zeros(x.rows(), x.cols()).unwrap();
    for t in 0..x.rows() {
        for (c, bound) in bounds.row_mut(t).iter_mut().enumerate() {
            let size = absolute(exact.h.row(t), exact.w.row(exact.skeleton[c] as usize));
            *bound = SLACK * (sums.of(exact.desc.cols) * size + rounding::<T>(x.row(t)[c].abs()));
        }
    }
    bounds
}

/// Error bounds of everything that the operation leaves.
pub fn bounds<T: Elem>(device: &Device, exact: &Exact) -> Bounds {
    let sums = Sums { tensor: *device != Device::Cpu };
    let Desc { rows, cols, rank, components, split, .. } = exact.desc;
    let (x, a, z) = intermediate(exact);
    let tokens = exact.h.rows();
    let mut bounds = Bounds {
        x: x_bounds::<T>(&sums, exact, &x),
        a: Mat::zeros(tokens, components).unwrap(),
        z: Mat::zeros(tokens, z.cols()).unwrap(),
        y: Mat::zeros(tokens, rows).unwrap(),
    };
    let (part, depth) = (rows / split, if components > 0 { rank / split } else { 0 });
    for t in 0..tokens {
        let dx = bounds.x.row(t);
        for i in 0..components {
            let at = i * rank..(i + 1) * rank;
            bounds.a.row_mut(t)[i] = SLACK * gate_bound(exact, t, a.row(t), i, &x.row(t)[at.clone()], &dx[at]);
        }
        if components > 0 {
            let dz = z_bounds(exact, t, [a.row(t), bounds.a.row(t), x.row(t), dx]);
            bounds.z.row_mut(t).copy_from_slice(&dz);
        }
        let dz = bounds.z.row(t);
        for c in 0..rows {
            let base = absolute(exact.h.row(t), exact.w.row(c));
            let (mut size, mut error, mut of_update) = (base, 0.0, 0.0);
            if components > 0 {
                let of = c / part * depth..(c / part + 1) * depth;
                let b = exact.b.row(c % part);
                let reach: Vec<f64> =
                    z.row(t)[of.clone()].iter().zip(&dz[of.clone()]).map(|(z, d)| z.abs() + d).collect();
                of_update = exact.scale * absolute(b, &reach);
                error = exact.scale * absolute(b, &dz[of]) + sums.update(b, &reach, exact.scale);
                size += of_update;
            }
            let bias = if exact.desc.bias != Bias::None { exact.bias[c].abs() } else { 0.0 };
            // A device has all of it in one sum, three products of terms for each of r/s, with the other parts' zeros adding
            // none; the CPU rounds the layer's product to `T`, then adds twice.
            error += if sums.tensor { sums.of(cols + 3 * depth) * size } else { sums.of(cols) * base };
            if !sums.tensor && components > 0 {
                error += rounding::<T>(base) + 2.0 * U * (base + of_update + bias);
            }
            bounds.y.row_mut(t)[c] = SLACK * (error + U * (size + bias) + rounding::<T>(size + bias));
        }
    }
    bounds
}
