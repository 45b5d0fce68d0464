//! The optima: assignments under a minimum size, partitions of norms.

use super::*;
use proptest::prelude::*;

/// Under a minimum size, one step costs no more than the exact optimum on the reference's distances.
fn constrained_step_is_optimal<T: Elem>(
    devices: &[Device],
    rows: usize,
    cols: usize,
    k: usize,
    min_size: usize,
    seed: u64,
) {
    let draw = &mut Draw::new(seed);
    let w = Padded::<T>::new(&blobs(draw, rows, cols, 2, 0.0), 1);
    // Starts crowd together, so that some clusters fall short.
    let mut start = blobs(draw, k, cols, k, 0.0);
    for j in 1..k {
        let first = start.row(0).to_vec();
        start.row_mut(j).iter_mut().zip(&first).for_each(|(x, f)| *x = f + 0.2 * *x + 0.3);
    }
    let start = Padded::<f32>::new(&start, 0);
    for device in devices {
        let options = Options { max_iterations: 1, start: Some(start.view()), ..Options::default() };
        let got = cluster(device, w.view(), desc((rows, cols), k, min_size, Space::Full), &options);
        check_partition("constrained", &w.to_f64(), &got, min_size);
        if got.info.repaired > 0 {
            continue;
        }
        let (points, centroids) = (w.to_f64(), start.to_f64());
        let distances = reference::squared_distances(points.as_ref(), centroids.as_ref());
        let optimum =
            reference::objective(distances.as_ref(), &reference::assign_min_size(distances.as_ref(), min_size));
        let found = reference::objective(distances.as_ref(), &got.labels);
        let bound = cost_bound(device, &points, &centroids, &vec![0.0; k]);
        assert!(found <= optimum + bound, "{rows}×{cols}, k = {k}: {found:e}, optimum {optimum:e}, bound {bound:e}");
        check_means("constrained", &points, &got, Space::Full);
    }
}

/// A converged clustering under a minimum size is a fixed point too: no assignment to its centroids costs less.
fn constrained_fixed_point<T: Elem>(
    devices: &[Device],
    rows: usize,
    cols: usize,
    k: usize,
    min_size: usize,
    seed: u64,
) {
    let w = Padded::<T>::new(&blobs(&mut Draw::new(seed), rows, cols, 2, 0.0), 1);
    for device in devices {
        for space in [Space::Full, Space::Direction] {
            let options = Options { max_iterations: 500, tolerance: 0.0, seed, ..Options::default() };
            let got = cluster(device, w.view(), desc((rows, cols), k, min_size, space), &options);
            let (points, centroids) = (points_of(&w.to_f64(), space), widened(&got.centroids));
            assert!(got.info.converged, "{:?}", got.info);
            check_partition("constrained", &points, &got, min_size);
            check_means("constrained", &points, &got, space);
            let distances = reference::squared_distances(points.as_ref(), centroids.as_ref());
            let best = reference::assign_min_size(distances.as_ref(), min_size);
            let optimum = reference::objective(distances.as_ref(), &best);
            let found = reference::objective(distances.as_ref(), &got.labels);
            let off: Vec<f64> = (0..k).map(|j| centroid_bound(device, &points, &got.labels, j, k, space)).collect();
            let bound = cost_bound(device, &points, &centroids, &off);
            assert!(
                found <= optimum + bound,
                "{rows}×{cols}, k = {k}: {found:e}, optimum {optimum:e}, bound {bound:e}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn one_step_under_a_minimum_size(rows in 4usize..60, cols in 1usize..30, k in 2usize..6, part in 0.3f64..1.0, seed in 0u64..1000) {
        let k = k.min(rows);
        let min_size = (((rows / k) as f64 * part) as usize).max(1);
        for_every_element!(constrained_step_is_optimal(&devices(), rows, cols, k, min_size, seed));
        for_every_element!(constrained_fixed_point(&devices(), rows, cols, k, min_size, seed));
    }

    #[test]
    fn the_assignment_is_optimal(m in 1usize..40, k in 1usize..7, part in 0.0f64..=1.0, levels in prop_oneof![Just(3.0), Just(1e6)], seed in 0u64..100_000) {
        let k = k.min(m);
        let min_size = (((m / k) as f64 * part).ceil() as usize).max(1);
        let draw = &mut Draw::new(seed);
        // Columns of very different levels leave several clusters short; few levels make ties.
        let shift: Vec<f64> = (0..k).map(|_| draw.uniform() * 3.0).collect();
        let costs: Vec<f64> = (0..m * k).map(|i| ((draw.normal() + shift[i % k]) * levels).round()).collect();
        let costs = Mat::from_vec(costs, m, k).unwrap();
        let labels = assign_min_size(costs.as_ref(), min_size).unwrap();
        for j in 0..k {
            prop_assert!(labels.iter().filter(|&&label| label as usize == j).count() >= min_size);
        }
        // Integers below 2⁵³: sums are exact in any order.
        let expected = reference::assign_min_size(costs.as_ref(), min_size);
        prop_assert_eq!(reference::objective(costs.as_ref(), &labels), reference::objective(costs.as_ref(), &expected));
    }

    #[test]
    fn norms_are_partitioned_optimally(m in 1usize..40, k in 1usize..6, part in 0.0f64..=1.0, ties in any::<bool>(), seed in 0u64..100_000) {
        let k = k.min(m);
        let min_size = (((m / k) as f64 * part).ceil() as usize).max(1);
        let draw = &mut Draw::new(seed);
        let values = (0..m).map(|_| { let x = draw.normal().exp(); if ties { (x * 2.0).round() } else { x } });
        let w = Padded::<f32>::new(&Mat::from_vec(values.collect(), m, 1).unwrap(), 2);
        let got = cluster(&Device::Cpu, w.view(), desc((m, 1), k, min_size, Space::Norm), &Options::default());
        let norms: Vec<f64> = w.to_f64().data().to_vec();
        let optimum = reference::norm_optimum(&norms, k, min_size);
        prop_assert!(got.sizes.iter().all(|&size| size >= min_size));
        prop_assert!(got.info.inertia <= optimum * (1.0 + 1e-9) + 1e-12, "{} for {}", got.info.inertia, optimum);
        prop_assert!(got.info.inertia >= optimum * (1.0 - 1e-9) - 1e-12, "{} beats {}", got.info.inertia, optimum);
        check_means("norms", &Mat::from_vec(norms, m, 1).unwrap(), &got, Space::Norm);
    }
}

fn kernels_keep_a_minimum_size<T: Elem>() {
    let shapes = [(4, 1, 2), (17, 9, 3), (33, 30, 5), (59, 4, 4), (48, 17, 2)];
    for (seed, (rows, cols, k)) in shapes.into_iter().enumerate() {
        for part in [2, 3] {
            constrained_step_is_optimal::<T>(kernels(), rows, cols, k, rows * part / 3 / k, seed as u64);
        }
        constrained_fixed_point::<T>(kernels(), rows, cols, k, rows * 5 / 6 / k, seed as u64);
    }
    // Labels and sums apart, and centroids in two passes.
    constrained_step_is_optimal::<T>(kernels(), 60, 1510, 19, 3, 1);
}

#[test]
fn kernels_keep_the_minimum_size() {
    for_every_element!(kernels_keep_a_minimum_size());
}

/// Every partition into intervals, without any dynamic programming.
fn brute_force(sorted: &[f64], k: usize, min_size: usize) -> f64 {
    if k == 0 {
        return if sorted.is_empty() { 0.0 } else { f64::INFINITY };
    }
    let error = |part: &[f64]| {
        let mean = part.iter().sum::<f64>() / part.len() as f64;
        part.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>()
    };
    let ends =
        (min_size..=sorted.len()).map(|end| error(&sorted[..end]) + brute_force(&sorted[end..], k - 1, min_size));
    ends.fold(f64::INFINITY, f64::min)
}

#[test]
fn the_reference_partition_of_norms_is_the_best_of_all() {
    let draw = &mut Draw::new(5);
    for _ in 0..200 {
        let m = 1 + draw.below(11);
        let (k, values) = (1 + draw.below(m), (0..m).map(|_| draw.normal().abs()).collect::<Vec<_>>());
        let min_size = 1 + draw.below(m / k);
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let (all, dynamic) = (brute_force(&sorted, k, min_size), reference::norm_optimum(&values, k, min_size));
        assert!((all - dynamic).abs() <= 1e-12 * (1.0 + all), "{all} for {dynamic}");
    }
}

#[test]
fn the_reference_assignment_is_the_best_of_all() {
    let draw = &mut Draw::new(6);
    for _ in 0..200 {
        let (m, k) = (1 + draw.below(6), 1 + draw.below(3));
        let k = k.min(m);
        let min_size = 1 + draw.below(m / k);
        let costs = Mat::from_vec((0..m * k).map(|_| draw.below(9) as f64 - 4.0).collect(), m, k).unwrap();
        let mut best = f64::INFINITY;
        for code in 0..k.pow(m as u32) {
            let labels: Vec<u32> = (0..m).map(|p| (code / k.pow(p as u32) % k) as u32).collect();
            if (0..k).all(|j| labels.iter().filter(|&&label| label as usize == j).count() >= min_size) {
                best = best.min(reference::objective(costs.as_ref(), &labels));
            }
        }
        let labels = reference::assign_min_size(costs.as_ref(), min_size);
        assert_eq!(reference::objective(costs.as_ref(), &labels), best);
    }
}
