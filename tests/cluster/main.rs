//! Clustering against its definitions: every point at its nearest centroid, every centroid the mean of its points, every
//! cluster large enough, the assignment and the one-dimensional partition optimal.

#[path = "../common/mod.rs"]
mod common;

mod exact;
mod golden;
mod invariances;
mod refusals;
mod steps;

use common::matrices::Draw;
use common::{Padded, devices, for_every_element, kernel_devices, on_threads};
use idlora::cluster::{Axis, Clustering, Desc, Options, Plan, Space, assign_min_size};
use idlora::reference::cluster as reference;
use idlora::{Device, Elem, Mat, MatRef};
use std::sync::OnceLock;

const U: f64 = 1.0 / (1u64 << 24) as f64;

/// Devices that run kernels, set up once.
fn kernels() -> &'static [Device] {
    static KERNELS: OnceLock<Vec<Device>> = OnceLock::new();
    KERNELS.get_or_init(kernel_devices)
}

/// Every implementation.
fn all_devices() -> Vec<Device> {
    devices().into_iter().chain(kernels().iter().cloned()).collect()
}

fn desc(w: (usize, usize), clusters: usize, min_size: usize, space: Space) -> Desc {
    Desc { rows: w.0, cols: w.1, axis: Axis::Rows, space, clusters, min_size }
}

fn cluster<T: Elem>(device: &Device, w: MatRef<'_, T>, desc: Desc, options: &Options<'_>) -> Clustering {
    Plan::new(device, desc).unwrap().run(w, options).unwrap()
}

fn widened(centroids: &Mat<f32>) -> Mat<f64> {
    let data = centroids.data().iter().map(|&c| f64::from(c)).collect();
    Mat::from_vec(data, centroids.rows(), centroids.cols()).unwrap()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

/// Groups of points around random centres, so that clusters exist and margins vary; `offset` moves all of them.
fn blobs(draw: &mut Draw, rows: usize, cols: usize, groups: usize, offset: f64) -> Mat<f64> {
    let centres = draw.gaussian(groups.max(1), cols);
    let mut w = draw.gaussian(rows, cols);
    for i in 0..rows {
        let group = draw.below(groups.max(1));
        w.row_mut(i).iter_mut().zip(centres.row(group)).for_each(|(x, c)| *x = 0.5 * *x + c + offset);
    }
    w
}

/// The points as the clustering compares them.
fn points_of(w: &Mat<f64>, space: Space) -> Mat<f64> {
    if space == Space::Direction { reference::directions(w.as_ref()) } else { w.clone() }
}

/// How far the implementation's `½‖c_j‖² − ⟨x,c_j⟩` may be off, less what is common to all `j`.
///
/// CPU: dots run over `c_j − μ` in `f32`, with `μ` the mean of the points, or of the centroids in the first step: a partial sum of a
/// strip of 256 columns at worst, the strips, and eight for the lanes, `μ` and `c_j − μ`, each rounding `u·Σ|x||c_j − μ|`.
///
/// Kernels, by the header of `kernels/cluster.cu`: `μ` is the mean of the points. A product passes the additions of its lane, 8 a
/// slot and two slots at most, 5 of the warp, and one per warp of 32 vectors, no shorter than 128 columns; no more than there are
/// columns. One more for the factor of a point in `f32`, one for `c_j − μ`, and one for terms of second order.
///
/// Offsets are sums of `n` terms in `f64`. Returned centroids are rounded to `f32`, which moves half a squared distance by
/// `u·‖c‖·‖x − c‖`.
fn score_bound(device: &Device, x: &[f64], c: &[f64], means: &[Vec<f64>; 2]) -> f64 {
    let n = x.len();
    let (roundings, means) = match device {
        Device::Cpu => (n.min(256) + n / 256 + 10, &means[..]),
        _ => (n.min(2 * 8 + 5 + n.div_ceil(128)) + 3, &means[..1]),
    };
    let away: f64 = x.iter().zip(c).map(|(x, c)| (x - c) * (x - c)).sum::<f64>().sqrt();
    let around = |mean: &Vec<f64>| {
        let products = x.iter().zip(c).zip(mean).map(|((x, c), m)| (x * (c - m)).abs()).sum::<f64>();
        let offset = norm(c) + norm(mean);
        roundings as f64 * U * products + 1e-15 * n as f64 * offset * offset
    };
    means.iter().map(around).fold(0.0, f64::max) + U * norm(c) * away
}

/// How far the centroid that labels were last taken from may be off the exact mean of its members, which is returned.
///
/// CPU: by nothing that counts, sums are `f64`. Kernels: it is the one before plus the mean of the deviations from that, which is
/// a mean too. With `D` no less than twice any distance from the mean of all points, deviations are at most `D` long; each
/// rounds by `2u·D`, their sum by `u·D` for each row of its block, and the centroid's own distance from the mean by `u·D`.
/// Directions: the factor of a point rounds by `u`, `D` is 2, and making a mean of length `l` a unit multiplies by `2/l` at most.
fn centroid_bound(device: &Device, points: &Mat<f64>, labels: &[u32], j: usize, k: usize, space: Space) -> f64 {
    if *device == Device::Cpu {
        return 0.0;
    }
    let block = points.rows().div_ceil(128).next_multiple_of(4).clamp(16, 128) as f64;
    if space == Space::Direction {
        let length = norm(reference::means(points.as_ref(), labels, k).row(j));
        return U * ((block + 3.0) * 2.0 + 1.0) * 2.0 / length;
    }
    let mean = reference::means(points.as_ref(), &vec![0; points.rows()], 1);
    let farthest = reference::squared_distances(points.as_ref(), mean.as_ref());
    U * (block + 3.0) * 2.0 * farthest.data().iter().fold(0.0f64, |max, &x| max.max(x)).sqrt()
}

/// Both means that dots may run around.
fn means(points: &Mat<f64>, centroids: &Mat<f64>) -> [Vec<f64>; 2] {
    let mean = |m: &Mat<f64>| reference::means(m.as_ref(), &vec![0; m.rows()], 1).into_vec();
    [mean(points), mean(centroids)]
}

/// How far the total cost of an assignment may be off an optimum: each point compares two scores, halves of squares. `off` is how
/// far each centroid may be off.
fn cost_bound(device: &Device, points: &Mat<f64>, centroids: &Mat<f64>, off: &[f64]) -> f64 {
    let means = means(points, centroids);
    let away = reference::squared_distances(points.as_ref(), centroids.as_ref());
    let of = |p: usize, j: usize| {
        score_bound(device, points.row(p), centroids.row(j), &means) + away.row(p)[j].sqrt() * off[j]
    };
    (0..points.rows()).map(|p| 4.0 * (0..centroids.rows()).map(|j| of(p, j)).fold(0.0, f64::max)).sum()
}

fn largest_norm(points: &Mat<f64>) -> f64 {
    (0..points.rows()).map(|p| norm(points.row(p))).fold(0.0, f64::max)
}

/// Everything that must hold of a converged clustering without an active minimum size.
fn check_fixed_point(device: &Device, name: &str, points: &Mat<f64>, got: &Clustering, space: Space) {
    let k = got.sizes.len();
    check_partition(name, points, got, 1);
    let centroids = widened(&got.centroids);
    let distances = reference::squared_distances(points.as_ref(), centroids.as_ref());
    let means = means(points, &centroids);
    let off: Vec<f64> = (0..k).map(|j| centroid_bound(device, points, &got.labels, j, k, space)).collect();
    for (p, &label) in got.labels.iter().enumerate() {
        let bound = |j: usize| {
            score_bound(device, points.row(p), centroids.row(j), &means) + distances.row(p)[j].sqrt() * off[j]
        };
        let own = distances.row(p)[label as usize];
        for j in 0..k {
            // Twice, because a score is half a squared distance.
            let bound = 2.0 * (bound(j) + bound(label as usize));
            assert!(
                own <= distances.row(p)[j] + bound,
                "{name} on {device}, {space:?}: point {p} sits in {label} at {own:e}, but {j} is at {:e}, bound {bound:e}",
                distances.row(p)[j]
            );
        }
    }
    check_means(name, points, got, space);
}

/// Labels in range, sizes right, no cluster short.
fn check_partition(name: &str, points: &Mat<f64>, got: &Clustering, min_size: usize) {
    let mut sizes = vec![0; got.sizes.len()];
    got.labels.iter().for_each(|&label| sizes[label as usize] += 1);
    assert_eq!(got.labels.len(), points.rows(), "{name}");
    assert_eq!(sizes, got.sizes, "{name}");
    assert!(sizes.iter().all(|&size| size >= min_size), "{name}: sizes {sizes:?} below {min_size}");
}

/// Centroids are the (normalised) means of their members, and the inertia is what it says.
///
/// Sums are `f64`, so a centroid is off by its rounding to `f32` and, for directions, by `1/‖mean‖` times nearly nothing.
fn check_means(name: &str, points: &Mat<f64>, got: &Clustering, space: Space) {
    let means = reference::means(points.as_ref(), &got.labels, got.sizes.len());
    let largest = largest_norm(points);
    for j in 0..got.sizes.len() {
        let length = norm(means.row(j));
        let scale = if space == Space::Direction { 1.0 / length } else { 1.0 };
        if space == Space::Direction && length < 1e-6 {
            continue; // members cancel: any direction is as good
        }
        for (&c, mean) in got.centroids.row(j).iter().zip(means.row(j)) {
            let bound = U * (scale * mean).abs() + 1e-12 * largest * scale + f64::from(f32::MIN_POSITIVE);
            assert!((f64::from(c) - scale * mean).abs() <= bound, "{name}, {space:?}: cluster {j}, {c:e} for {mean:e}");
        }
    }
    let exact = reference::inertia(points.as_ref(), widened(&got.centroids).as_ref(), &got.labels);
    // Rounding the centroids moves each by at most u·‖c‖ ≤ u·largest.
    let moved = U * largest;
    let count = points.rows() as f64;
    let bound = 1e-10 * exact + 2.0 * moved * (count * exact).sqrt() + count * moved * moved;
    assert!((got.info.inertia - exact).abs() <= bound, "{name}: inertia {:e}, exactly {exact:e}", got.info.inertia);
}
