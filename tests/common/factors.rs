//! What a truncated pivoted QR must satisfy, checked against residuals formed explicitly in f64.

use super::{devices, kernel_devices};
use idlora::qr::{Desc, Factor, Groups, Plan, Stop, Tier};
use idlora::reference::qr as reference;
use idlora::{Device, Elem, Mat, MatRef};

/// Unit roundoff of `f64`, in which everything accumulates.
pub const U: f64 = f64::EPSILON / 2.0;

pub const SKETCH: Tier = Tier::Sketch { oversampling: 8 };
pub const GREEDY: [Tier; 2] = [Tier::Gram, Tier::Exact];
pub const TIERS: [Tier; 3] = [Tier::Gram, Tier::Exact, SKETCH];

/// What the common suites ask of devices that run kernels; `qr_gram` and `qr_sketch` are the suites of their other tiers, whose
/// rounding is another.
pub const KERNEL_TIERS: &[Tier] = &[Tier::Exact];

/// Every device with each of `tiers` that it has.
pub fn cases(tiers: &[Tier]) -> Vec<(Device, Tier)> {
    let kernel = kernel_devices().into_iter().map(|device| (device, KERNEL_TIERS));
    let all = devices().into_iter().map(|device| (device, &TIERS[..])).chain(kernel);
    all.flat_map(|(device, has)| {
        tiers.iter().filter(|tier| has.contains(tier)).map(move |&tier| (device.clone(), tier))
    })
    .collect()
}

/// Whether there is time for every case: kernels run on a machine that is slow.
pub fn thorough(device: &Device) -> bool {
    *device == Device::Cpu
}

/// The devices that have all of `tiers`.
pub fn with_all(tiers: &[Tier]) -> Vec<Device> {
    let kernel = if tiers.iter().all(|tier| KERNEL_TIERS.contains(tier)) { kernel_devices() } else { Vec::new() };
    devices().into_iter().chain(kernel).collect()
}

pub fn factor<T: Elem>(device: &Device, w: MatRef<'_, T>, rank: usize, tier: Tier, stop: &Stop) -> Factor {
    let plan = Plan::new(device, Desc { cols: w.cols(), rank, tier, seed: 3 }).unwrap();
    plan.run(w, &Groups::all(w.rows()), stop).unwrap().remove(0)
}

pub fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

pub fn largest(c: &Mat<f64>) -> f64 {
    (0..c.rows()).map(|i| norm(c.row(i))).fold(0.0, f64::max)
}

/// How far two computed residual norms may be from the truth together.
///
/// A product `⟨q, c_i⟩` is off by `n·u·‖c‖`. With `ν₀` the norm last computed explicitly, `j` downdates change its
/// square by at most `2ν₀·√j·n·u·‖c‖`; the norm itself stays above `ν₀/10`, so it is off by `10·√j·n·u·‖c‖`. Twice
/// that for two norms, and the reference's own `(n + r)·u` on top.
pub fn margin(c: &Mat<f64>, rank: usize) -> f64 {
    24.0 * (rank.max(1) as f64).sqrt() * (c.cols() + rank + 4) as f64 * U * largest(c)
}

/// The greedy rule, the residuals and the rank, against residuals formed explicitly for the pivots taken.
pub fn assert_greedy(what: &str, c: &Mat<f64>, f: &Factor, rank: usize, tolerance: f64, tier: Tier) {
    let reached = f.jpvt.len();
    let slack = margin(c, rank);
    let greedy = matches!(tier, Tier::Gram | Tier::Exact);
    // The Gram tier promises residuals to 2⁻¹¹ of themselves before it hands over; pivots by the rule all the same.
    let relative = if tier == Tier::Gram && f.info.handover.is_none() { 0.5f64.powi(11) } else { 0.0 };
    assert_eq!(f.info.residuals.len(), reached, "{what}");
    assert_eq!(f.r.shape(), (reached, c.rows()), "{what}");
    let chosen: Vec<usize> = f.jpvt.iter().map(|&p| p as usize).collect();
    let mut unique = chosen.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), reached, "{what}: pivots {chosen:?} repeat");
    let left = |j: usize| -> Vec<f64> {
        let rest = reference::residual(c.as_ref(), &chosen[..j]);
        (0..c.rows()).map(|i| if chosen[..j].contains(&i) { 0.0 } else { norm(rest.row(i)) }).collect()
    };
    for (j, &p) in chosen.iter().enumerate() {
        let norms = left(j);
        let most = norms.iter().copied().fold(0.0, f64::max);
        assert!(!greedy || norms[p] >= most - slack, "{what}: step {j} took {p} at {:e}, not {most:e}", norms[p]);
        assert!(most >= tolerance - slack, "{what}: step {j} should have stopped: {most:e} ≤ {tolerance:e}");
        let said = f.info.residuals[j];
        assert!(
            (said - norms[p]).abs() <= slack + relative * norms[p],
            "{what}: residual {j} is {said:e}, not {:e}",
            norms[p]
        );
        assert!((f.r.row(j)[p] - said).abs() <= slack, "{what}: R[{j},{j}]");
        if greedy && j > 0 {
            assert!(said <= f.info.residuals[j - 1] + slack, "{what}: residuals rise at {j}");
        }
    }
    let most = left(reached).into_iter().fold(0.0, f64::max);
    assert!(
        (f.info.remaining - most).abs() <= slack + relative * most,
        "{what}: remaining {:e}, not {most:e}",
        f.info.remaining
    );
    if greedy && reached < rank.min(c.rows()).min(c.cols()) {
        assert!(most <= tolerance + slack, "{what}: stopped at {reached} with {most:e} > {tolerance:e} left");
    }
}

/// `RᵀR = C Cᵀ` wherever a pivot is involved (`Q` is orthonormal), and `R` is triangular.
///
/// Exact tier: an entry is a sum of `j` products of inner products, each off by `n·u`; Gram tier: the backward error
/// of Cholesky. Both stay below `4(n + r + 4)·u·‖c_i‖‖c_p‖`.
pub fn assert_factors(what: &str, c: &Mat<f64>, f: &Factor) {
    for (j, &p) in f.jpvt.iter().enumerate() {
        for i in 0..c.rows() {
            let product: f64 = (0..f.r.rows()).map(|a| f.r.row(a)[i] * f.r.row(a)[p as usize]).sum();
            let exact: f64 = c.row(i).iter().zip(c.row(p as usize)).map(|(x, y)| x * y).sum();
            let scale = norm(c.row(i)) * norm(c.row(p as usize));
            let bound = 4.0 * (c.cols() + f.r.rows() + 4) as f64 * U * scale;
            assert!((product - exact).abs() <= bound, "{what}: RᵀR at ({i}, pivot {j}): {product:e}, not {exact:e}");
        }
        for a in j + 1..f.r.rows() {
            assert_eq!(f.r.row(a)[p as usize], 0.0, "{what}: R below the diagonal at ({a}, {j})");
        }
    }
}

pub fn rounding(c: &Mat<f64>, rank: usize) -> f64 {
    let rank = rank.min(c.rows()).min(c.cols());
    4.0 * (c.cols() + rank) as f64 * U * largest(c)
}
