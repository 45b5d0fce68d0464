//! Clustering at the shapes of real layers, on random weights.
//!
//! The cost of one Lloyd step is the difference between the runs of 12 and of 2 steps, divided by 10: the first step and what
//! surrounds the steps are in both.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use idlora::cluster::{Axis, Clustering, Desc, Options, Plan, Space, assign_min_size};
use idlora::{Device, Elem, Mat, MatRef, bf16};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Standard normal entries, seeded.
fn gaussian(rows: usize, cols: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut uniform = || (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let mut normal = || (-2.0 * (1.0 - uniform()).ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
    (0..rows * cols).map(|_| normal() as f32).collect()
}

fn run<T: Elem>(w: MatRef<'_, T>, space: Space, clusters: usize, min_size: usize, options: &Options<'_>) -> Clustering {
    let desc = Desc { rows: w.rows(), cols: w.cols(), axis: Axis::Rows, space, clusters, min_size };
    Plan::new(&Device::Cpu, desc).unwrap().run(w, options).unwrap()
}

/// Lloyd from the first `k` rows, a fixed number of steps.
fn lloyd(c: &mut Criterion) {
    let mut group = c.benchmark_group("cluster/lloyd");
    group.sample_size(10);
    let (rows, cols) = (4096, 4096);
    let data = gaussian(rows, cols, 1);
    let half: Vec<bf16> = data.iter().map(|&x| bf16::from_f32(x)).collect();
    for k in [4, 16] {
        for steps in [2, 12] {
            let start = MatRef::new(&data, k, cols).unwrap();
            let options = Options { max_iterations: steps, tolerance: 0.0, seed: 0, start: Some(start) };
            let name = format!("{rows}x{cols}, k = {k}, {steps} steps");
            let w = MatRef::new(&data, rows, cols).unwrap();
            group.bench_function(BenchmarkId::new("f32", &name), |b| b.iter(|| run(w, Space::Full, k, 1, &options)));
            let w = MatRef::new(&half, rows, cols).unwrap();
            group.bench_function(BenchmarkId::new("bf16", &name), |b| b.iter(|| run(w, Space::Full, k, 1, &options)));
        }
    }
    group.finish();
}

/// The same where the minimum size keeps half of the points from their nearest centroid.
fn constrained(c: &mut Criterion) {
    let mut group = c.benchmark_group("cluster/constrained");
    group.sample_size(10);
    let (rows, cols) = (4096, 4096);
    let data = gaussian(rows, cols, 1);
    let w = MatRef::new(&data, rows, cols).unwrap();
    for k in [4, 16] {
        for steps in [2, 6] {
            let start = MatRef::new(&data, k, cols).unwrap();
            let options = Options { max_iterations: steps, tolerance: 0.0, seed: 0, start: Some(start) };
            let name = format!("{rows}x{cols}, k = {k}, {steps} steps");
            let min_size = rows / k;
            group.bench_function(BenchmarkId::new("f32", &name), |b| {
                b.iter(|| run(w, Space::Full, k, min_size, &options));
            });
        }
    }
    group.finish();
}

/// What an adapter's set-up runs: k-means++ and Lloyd to the default tolerance.
fn to_convergence(c: &mut Criterion) {
    let mut group = c.benchmark_group("cluster/to convergence");
    group.sample_size(10);
    for (rows, cols) in [(384, 384), (1536, 384), (2048, 2048)] {
        let data = gaussian(rows, cols, 2);
        let w = MatRef::new(&data, rows, cols).unwrap();
        for space in [Space::Full, Space::Direction, Space::Norm] {
            let name = format!("{rows}x{cols}, {space:?}");
            group.bench_function(BenchmarkId::new("f32, k = 4", name), |b| {
                b.iter(|| run(w, space, 4, 16, &Options::default()));
            });
        }
    }
    group.finish();
}

/// The parts that see no weights: the exact assignment, and the partition of norms.
fn exact_parts(c: &mut Criterion) {
    let mut group = c.benchmark_group("cluster/exact");
    group.sample_size(10);
    for (points, k) in [(4096, 4), (4096, 16), (14336, 16)] {
        let costs = gaussian(points, k, 3).into_iter().map(f64::from).collect();
        let costs = Mat::from_vec(costs, points, k).unwrap();
        group.bench_function(BenchmarkId::new("assignment", format!("{points} points, k = {k}")), |b| {
            b.iter(|| assign_min_size(costs.as_ref(), points / k).unwrap());
        });
        let norms = gaussian(points, 1, 4);
        let w = MatRef::new(&norms, points, 1).unwrap();
        group.bench_function(BenchmarkId::new("norms", format!("{points} points, k = {k}")), |b| {
            b.iter(|| run(w, Space::Norm, k, 16, &Options::default()));
        });
    }
    group.finish();
}

criterion_group!(benches, lloyd, constrained, to_convergence, exact_parts);
criterion_main!(benches);
