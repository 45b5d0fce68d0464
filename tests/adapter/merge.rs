//! Merging a static gate: the base layer with the merged weight gives the adapted output; any other gate is refused.

use crate::common::{Padded, devices};
use crate::{GATES, random};
use idlora::adapter::{BInit, Config, IdLora};
use idlora::lowrank::{Bias, DownProjection, Gate, Output};
use idlora::{Device, Elem, Error, Mat, bf16, f16};

fn config(gate: Gate) -> Config {
    Config { rank: 4, alpha: 1.0, clusters: 3, gate, b_init: BInit::Normal, ..Config::default() }
}

/// `(W h)_i` in f64, and `(|W| |h|)_i`.
fn products(w: &Mat<f64>, h: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let entry = |i: usize| w.row(i).iter().zip(h).map(|(x, y)| x * y);
    let plain = (0..w.rows()).map(|i| entry(i).sum()).collect();
    let sizes = (0..w.rows()).map(|i| entry(i).map(f64::abs).sum()).collect();
    (plain, sizes)
}

/// Per output, with `A = |W||h|` and `D = κ (I_s⊗|B|) Σ_i |ᾱ_i| A[S_i]`, the update's own size:
/// the merged weight is rounded to T once (`u·(A + D)`), after f32 sums of at most r/s + k terms; the adapter's Y0 and Y are
/// rounded to T (`u·A` in Y0 and, through X, `u·D`; `u·(A + D)` in Y) after f32 sums of as many terms:
/// `|y_merged − y_adapter| ≤ (3u + (r/s + k + 4)·2·u32)·(A + D)`. In f16, numbers under 2⁻¹⁴ round by up to 2⁻²⁵ each, at n
/// weights, and in Y0 and Y.
fn merged_output_is_the_adapters<T: Elem>() {
    let (rows, cols) = (26, 9);
    for device in devices() {
        let w = random::<T>(91, rows, cols, 2);
        let adapter = IdLora::init(&device, "m", w.view(), &config(Gate::Static)).unwrap().0;
        let mut merged = w.clone();
        adapter.merge(&device, merged.view_mut()).unwrap();
        merged.assert_guards();
        let h = random::<T>(92, 5, cols, 0).to_f64();
        let plain = w.to_f64();
        for token in 0..h.rows() {
            let (y0, sizes) = products(&plain, h.row(token));
            let y0 = Padded::<T>::new(&Mat::from_vec(y0, 1, rows).unwrap(), 0);
            let mut y = y0.clone();
            let layer = idlora::adapter::Layer { h: None, w: None, bias: None, dropout: None };
            let output = Output::InPlace(y.view_mut());
            adapter.forward(&device, DownProjection::Gather, Bias::None, &layer, output, None).unwrap();
            let (found, _) = products(&merged.to_f64(), h.row(token));
            let update = update_sizes(&adapter, &sizes);
            let Config { rank, clusters, split, .. } = *adapter.config();
            let relative =
                3.0 * T::DTYPE.unit_roundoff() + (rank / split + clusters + 4) as f64 * f64::from(f32::EPSILON);
            let tiny = (2.0f64).powi(-25) * (h.row(token).iter().map(|x| x.abs()).sum::<f64>() + 4.0);
            let mut moved = false;
            for i in 0..rows {
                let bound = relative * (sizes[i] + update[i]) + tiny;
                let adapted = f64::from(y.view().row(0)[i].to_f32());
                assert!((found[i] - adapted).abs() <= bound, "output {i}: merged {}, adapter {adapted}", found[i]);
                moved |= (adapted - f64::from(y0.view().row(0)[i].to_f32())).abs() > bound;
            }
            assert!(moved, "the update is larger than the bound somewhere");
        }
    }
}

/// `κ (I_s⊗|B|) Σ_i |ᾱ_i| A[S_i]`.
fn update_sizes(adapter: &IdLora, sizes: &[f64]) -> Vec<f64> {
    let Config { rank, split, .. } = *adapter.config();
    let mut mixed = vec![0.0; rank];
    for (chosen, a) in adapter.skeleton().chunks(rank).zip(adapter.gate().data()) {
        for (z, &row) in mixed.iter_mut().zip(chosen) {
            *z += f64::from(a.abs()) * sizes[row as usize];
        }
    }
    let b = adapter.b();
    let width = rank / split;
    (0..adapter.rows())
        .map(|i| {
            let (half, row) = (i / b.rows(), i % b.rows());
            let z = &mixed[half * width..][..width];
            f64::from(adapter.scale()) * b.row(row).iter().zip(z).map(|(b, z)| f64::from(b.abs()) * z).sum::<f64>()
        })
        .collect()
}

#[test]
fn a_merged_base_gives_the_adapted_output() {
    merged_output_is_the_adapters::<f32>();
    merged_output_is_the_adapters::<f16>();
    merged_output_is_the_adapters::<bf16>();
}

/// Unmerging recovers W to rounding: with `‖P U‖ ≤ 1/2` (asserted), `(I + P U)⁻¹` is at most 2, so a rounding `e` of the merged
/// weight comes back as at most `(1 + 2‖U‖‖P‖)·e`, and the result is rounded once more.
#[test]
fn unmerging_gives_the_base_back() {
    for device in devices() {
        let w = random::<f32>(93, 26, 9, 2);
        let adapter = IdLora::init(&device, "m", w.view(), &Config { alpha: 0.25, ..config(Gate::Static) }).unwrap().0;
        let mut other = w.clone();
        adapter.merge(&device, other.view_mut()).unwrap();
        let merged = other.to_f64();
        assert!(adapter.check_base(other.view()).is_err(), "the merged weight is another base");
        adapter.unmerge(&device, other.view_mut()).unwrap();
        other.assert_guards();

        let norm = |m: &Mat<f64>| m.data().iter().map(|x| x * x).sum::<f64>().sqrt();
        let b: f64 = adapter.b().data().iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() * 2.0;
        let u = f64::from(adapter.scale()) * b.sqrt();
        let p = adapter.gate().data().iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt() * 2.0;
        assert!(u * p <= 0.5, "{u} · {p}");
        let back = other.to_f64();
        let base = w.to_f64();
        let error: f64 = back.data().iter().zip(base.data()).map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt();
        let bound = (1.0 + 2.0 * u * p + 1.0) * 16.0 * f64::from(f32::EPSILON) * norm(&merged);
        assert!(error <= bound, "{error} over {bound}");
    }
}

#[test]
fn only_static_gates_merge_and_only_into_their_shape() {
    let w = random::<f32>(94, 26, 9, 0);
    for gate in GATES {
        let adapter = IdLora::init(&Device::Cpu, "m", w.view(), &config(gate)).unwrap().0;
        let mut other = w.clone();
        if gate == Gate::Static {
            let mut wrong = random::<f32>(95, 9, 26, 0);
            assert_refused!(adapter.merge(&Device::Cpu, wrong.view_mut()), Shape, "[26, 9]", "[9, 26]");
            assert_refused!(adapter.unmerge(&Device::Cpu, wrong.view_mut()), Shape, "[26, 9]", "[9, 26]");
        } else {
            assert_refused!(adapter.merge(&Device::Cpu, other.view_mut()), Unsupported, "only a Static gate can");
            assert_refused!(adapter.unmerge(&Device::Cpu, other.view_mut()), Unsupported, "only a Static gate can");
        }
        assert_eq!(other.to_f64(), w.to_f64(), "a refused merge writes nothing");
    }
}
