//! Steps and fixed points of Lloyd's iteration, against the definitions.

use super::*;
use idlora::bf16;
use proptest::prelude::*;

fn lloyd_reaches_a_fixed_point<T: Elem>(
    devices: &[Device],
    rows: usize,
    cols: usize,
    k: usize,
    seed: u64,
    offset: f64,
) {
    let w = Padded::<T>::new(&blobs(&mut Draw::new(seed), rows, cols, k + 1, offset), seed as usize % 5);
    for device in devices {
        for space in [Space::Full, Space::Direction] {
            let options = Options { max_iterations: 500, tolerance: 0.0, seed, ..Options::default() };
            let got = cluster(device, w.view(), desc((rows, cols), k, 1, space), &options);
            assert!(got.info.converged, "{rows}×{cols}, k = {k}, {space:?}: {:?}", got.info);
            let name = format!("{rows}×{cols}, k = {k}, offset {offset}, {:?}", T::DTYPE);
            check_fixed_point(device, &name, &points_of(&w.to_f64(), space), &got, space);
        }
    }
}

/// One step from given centroids: labels wherever the margin is clear of rounding, and their means.
fn one_step_matches_the_definition<T: Elem>(devices: &[Device], rows: usize, cols: usize, k: usize, seed: u64) {
    let draw = &mut Draw::new(seed);
    let w = Padded::<T>::new(&blobs(draw, rows, cols, k, 0.3), 3);
    let start = Padded::<f32>::new(&blobs(draw, k, cols, k, 0.3), 2);
    for device in devices {
        for space in [Space::Full, Space::Direction] {
            let points = points_of(&w.to_f64(), space);
            let centroids = points_of(&start.to_f64(), space);
            let options = Options { max_iterations: 1, start: Some(start.view()), ..Options::default() };
            let got = cluster(device, w.view(), desc((rows, cols), k, 1, space), &options);
            assert_eq!(got.info.iterations, 1);
            check_partition("one step", &points, &got, 1);
            check_means("one step", &points, &got, space);
            let (labels, _) = reference::lloyd_step(points.as_ref(), centroids.as_ref());
            if got.info.repaired + got.info.constrained > 0 {
                continue; // a centroid was replaced: labels are not those of the start
            }
            let distances = reference::squared_distances(points.as_ref(), centroids.as_ref());
            let means = means(&points, &centroids);
            for (p, (&found, &expected)) in got.labels.iter().zip(&labels).enumerate() {
                let margin = distances.row(p)[found as usize] - distances.row(p)[expected as usize];
                let bound = 2.0 * score_bound(device, points.row(p), centroids.row(expected as usize), &means)
                    + 2.0 * score_bound(device, points.row(p), centroids.row(found as usize), &means);
                assert!(margin <= bound, "{rows}×{cols}: point {p} in {found}, not {expected}: {margin:e} > {bound:e}");
            }
        }
    }
}

/// Points beside the plane between two centroids, nearer to it than 16-bit codes can tell: still on the right side.
fn near_ties_are_decided<T: Elem>(cols: usize, seed: u64) {
    let (rows, k) = (200, 5);
    let draw = &mut Draw::new(seed);
    let start = Padded::<f32>::new(&draw.gaussian(k, cols), 0);
    let centroids = start.to_f64();
    let mut w = draw.gaussian(rows, cols);
    for i in 0..rows {
        let (a, b) = (i % k, (i + 1 + draw.below(k - 1)) % k);
        let (a, b) = (centroids.row(a).to_vec(), centroids.row(b).to_vec());
        let across: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a - b).collect();
        let along = 0.3 * dot(w.row(i), &across) / dot(&across, &across).max(1e-30);
        let side = (draw.uniform() - 0.5) * 10f64.powf(-2.0 - 4.0 * draw.uniform());
        for (((x, a), b), d) in w.row_mut(i).iter_mut().zip(&a).zip(&b).zip(&across) {
            *x = 0.5 * (a + b) + (side - along) * d + 0.3 * *x;
        }
    }
    let w = Padded::<T>::new(&w, 1);
    for device in all_devices() {
        let options = Options { max_iterations: 1, start: Some(start.view()), ..Options::default() };
        let got = cluster(&device, w.view(), desc((rows, cols), k, 1, Space::Full), &options);
        let points = w.to_f64();
        let distances = reference::squared_distances(points.as_ref(), centroids.as_ref());
        let means = means(&points, &centroids);
        let bound = |p: usize, j: u32| 2.0 * score_bound(&device, points.row(p), centroids.row(j as usize), &means);
        for (p, (&found, expected)) in got.labels.iter().zip(reference::nearest(distances.as_ref())).enumerate() {
            let margin = distances.row(p)[found as usize] - distances.row(p)[expected as usize];
            assert!(margin <= bound(p, found) + bound(p, expected), "{cols} columns: point {p}, off by {margin:e}");
        }
    }
}

/// Rows around the edges of blocks (8) and chunks (256), columns around vectors (8, 16), strips (256, 512) and strides (1024).
fn rows_and_cols() -> impl Strategy<Value = (usize, usize)> {
    let rows = prop_oneof![1usize..20, Just(63), Just(64), Just(65), Just(255), Just(256), Just(257), Just(300)];
    let cols = prop_oneof![1usize..40, Just(255), Just(256), Just(257), Just(511), Just(512), Just(513), Just(1025)];
    (rows, cols)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_converged_clustering_is_a_fixed_point((rows, cols) in rows_and_cols(), k in 1usize..9, seed in 0u64..1000, offset in prop_oneof![Just(0.0), Just(3.0)]) {
        let k = k.min(rows);
        for_every_element!(lloyd_reaches_a_fixed_point(&devices(), rows, cols, k, seed, offset));
    }

    #[test]
    fn one_step_from_given_centroids((rows, cols) in rows_and_cols(), k in 1usize..20, seed in 0u64..1000) {
        let k = k.min(rows);
        for_every_element!(one_step_matches_the_definition(&devices(), rows, cols, k, seed));
    }
}

#[test]
fn near_ties() {
    for (seed, cols) in [2, 5, 16, 33, 100, 300, 1025].into_iter().enumerate() {
        for_every_element!(near_ties_are_decided(cols, seed as u64));
    }
}

/// Points far from the origin and close to each other: the inertia keeps its digits where norms and sums cancel to four of them.
#[test]
fn inertia_survives_an_offset() {
    let (rows, cols, k) = (60, 40, 3);
    let mut w = Draw::new(12).gaussian(rows, cols);
    w.data_mut().iter_mut().for_each(|x| *x = 4096.0 + (*x * 4.0).round() / 1024.0);
    let w = Padded::<f32>::new(&w, 1);
    for device in all_devices() {
        let options = Options { max_iterations: 2, ..Options::default() };
        let got = cluster(&device, w.view(), desc((rows, cols), k, 1, Space::Full), &options);
        let points = w.to_f64();
        // Not of the centroids in `f32`: their rounding is as large as the spread of the points.
        let means = reference::means(points.as_ref(), &got.labels, k);
        let exact = reference::inertia(points.as_ref(), means.as_ref(), &got.labels);
        // Means are within 2⁻⁵²·4096·rows of exact ones, and an inertia is stationary in them.
        assert!((got.info.inertia / exact - 1.0).abs() <= 1e-10, "{:e} for {exact:e}", got.info.inertia);
    }
}

/// Larger than any block, wide dynamic range between rows, an offset that all rows share.
#[test]
fn long_rows_with_an_offset() {
    for_every_element!(lloyd_reaches_a_fixed_point(&devices(), 300, 2600, 7, 3, 2.0));
}

/// Shapes around the tiles of `kernels/cluster.cu`: 4 rows a tile and 16 a block, more from 2,049 points on; 4 centroids whose dots
/// are taken at a time; vectors of 4 and 8 columns, 32 and 512 of them, and as many in a second slot; and beyond one step's
/// shared memory or slots, labels and sums apart, 16 centroids a pass.
const KERNEL_SHAPES: [(usize, usize, usize); 17] = [
    (1, 1, 1),
    (3, 7, 2),
    (4, 8, 4),
    (5, 9, 5),
    (15, 127, 3),
    (16, 128, 4),
    (17, 129, 5),
    (33, 255, 8),
    (31, 256, 9),
    (47, 257, 1),
    (64, 33, 13),
    (2060, 5, 3),
    (20, 2050, 3),
    (22, 4100, 2),
    (9, 8200, 3),
    (40, 1510, 19),
    (34, 1400, 33),
];

fn kernel_shapes<T: Elem>() {
    for (seed, (rows, cols, k)) in KERNEL_SHAPES.into_iter().enumerate() {
        one_step_matches_the_definition::<T>(kernels(), rows, cols, k, seed as u64);
        if rows * cols < 10_000 {
            let offset = if seed % 2 == 0 { 0.0 } else { 3.0 };
            lloyd_reaches_a_fixed_point::<T>(kernels(), rows, cols, k, seed as u64, offset);
        }
    }
}

#[test]
fn kernels_step_around_the_edges_of_tiles() {
    for_every_element!(kernel_shapes());
}

/// Rows whose labels and sums are taken apart, to the end.
#[test]
fn kernels_of_long_rows_reach_a_fixed_point() {
    lloyd_reaches_a_fixed_point::<f32>(kernels(), 24, 4100, 3, 1, 2.0);
    lloyd_reaches_a_fixed_point::<bf16>(kernels(), 40, 1510, 19, 2, 0.0);
}

/// Exact ties go to the lowest cluster, and where one of several equal points must move, to the lowest point.
#[test]
fn ties_go_to_the_lowest() {
    let w = Padded::<f32>::new(&Mat::from_vec(vec![-1.0, 0.0, 1.0, 0.0], 4, 1).unwrap(), 0);
    for device in all_devices() {
        for start in [[-1.0, 1.0], [1.0, -1.0]] {
            let start = Padded::<f32>::new(&Mat::from_vec(start.to_vec(), 2, 1).unwrap(), 0);
            let options = Options { max_iterations: 1, start: Some(start.view()), ..Options::default() };
            let got = cluster(&device, w.view(), desc((4, 1), 2, 1, Space::Full), &options);
            assert_eq!((got.labels[1], got.labels[3]), (0, 0));
        }
    }
    let equal = Mat::from_vec(vec![2.0; 15], 5, 3).unwrap();
    assert_eq!(assign_min_size(equal.as_ref(), 1).unwrap(), [1, 2, 0, 0, 0]);
}

fn fewer_distinct_points_than_clusters<T: Elem>(distinct: usize, copies: usize, k: usize) {
    let seeds = Draw::new(12).gaussian(distinct, 19);
    let rows = distinct * copies;
    let data = (0..rows).flat_map(|i| seeds.row(i % distinct).to_vec()).collect();
    let w = Padded::<T>::new(&Mat::from_vec(data, rows, 19).unwrap(), 1);
    for device in all_devices() {
        for space in [Space::Full, Space::Direction] {
            let got = cluster(&device, w.view(), desc((rows, 19), k, 1, space), &Options::default());
            let points = points_of(&w.to_f64(), space);
            check_partition("duplicates", &points, &got, 1);
            assert!(got.info.converged, "{:?}", got.info);
            if k >= distinct {
                let total: f64 = points.data().iter().map(|x| x * x).sum();
                assert!(got.info.inertia <= 1e-13 * total, "{distinct} distinct, k = {k}: {:?}", got.info);
            }
        }
    }
}

#[test]
fn duplicated_points() {
    for (distinct, copies, k) in [(1, 9, 1), (1, 9, 4), (3, 7, 3), (3, 7, 5), (3, 7, 21), (10, 2, 6)] {
        for_every_element!(fewer_distinct_points_than_clusters(distinct, copies, k));
    }
}

/// A start that nothing is near: its cluster is empty after the first labels and restarts at the farthest point.
#[test]
fn empty_clusters_restart_at_the_farthest_point() {
    let mut w = Draw::new(1).gaussian(50, 6);
    w.data_mut().iter_mut().for_each(|x| *x *= 0.01);
    w.row_mut(17).iter_mut().for_each(|x| *x += 5.0);
    let start = Mat::from_vec([vec![0.0; 6], vec![1e3; 6]].concat(), 2, 6).unwrap();
    let (w, start) = (Padded::<f32>::new(&w, 0), Padded::<f32>::new(&start, 0));
    for device in all_devices() {
        let options = Options { start: Some(start.view()), ..Options::default() };
        let got = cluster(&device, w.view(), desc((50, 6), 2, 1, Space::Full), &options);
        assert_eq!((got.info.repaired, got.info.converged), (1, true), "{:?}", got.info);
        assert_eq!(got.sizes, [49, 1]);
        assert_eq!(got.labels[17], 1);
        check_fixed_point(&device, "repaired", &w.to_f64(), &got, Space::Full);
        // A larger minimum size fills the cluster at the least cost instead.
        let got = cluster(&device, w.view(), desc((50, 6), 2, 5, Space::Full), &options);
        assert_eq!((got.info.repaired, got.info.converged), (0, true), "{:?}", got.info);
        assert_eq!((got.sizes, got.labels[17]), (vec![45, 5], 1));
    }
}

/// A restart that robs another cluster of its last point, which then restarts too; and two restarts at once. Step by step as on the CPU.
#[test]
fn restarts_repeat_and_come_together() {
    // So many that centroids which moved too far, or not far enough, change labels at the next step.
    let draw = &mut Draw::new(5);
    let points = (0..60).map(|_| 1.5 * draw.uniform()).chain([10.0]).collect();
    let w = Padded::<f32>::new(&Mat::from_vec(points, 61, 1).unwrap(), 0);
    for start in [[0.0, 6.0, 1e3], [0.375, 1e3, -1e3]] {
        let start = Padded::<f32>::new(&Mat::from_vec(start.to_vec(), 3, 1).unwrap(), 0);
        for max_iterations in 1..5 {
            let options = Options { max_iterations, tolerance: 0.0, start: Some(start.view()), ..Options::default() };
            let run = |device: &Device| {
                let got = cluster(device, w.view(), desc((61, 1), 3, 1, Space::Full), &options);
                (got.labels, got.info.iterations, got.info.converged, got.info.repaired, got.info.constrained)
            };
            let expected = run(&Device::Cpu);
            assert_eq!(expected.3, 2);
            for device in all_devices() {
                assert_eq!(run(&device), expected, "{device}, {max_iterations} steps");
            }
        }
    }
}

#[test]
fn iteration_limits_are_reported() {
    let w = Padded::<f32>::new(&Draw::new(2).gaussian(400, 10), 0);
    for device in all_devices() {
        let run = |max_iterations, tolerance| {
            let options = Options { max_iterations, tolerance, ..Options::default() };
            cluster(&device, w.view(), desc((400, 10), 8, 1, Space::Full), &options).info
        };
        let (cut, strict, loose) = (run(2, 0.0), run(1000, 0.0), run(1000, 1e-2));
        assert_eq!((cut.iterations, cut.converged), (2, false));
        assert!(strict.converged && strict.iterations > 2, "{strict:?}");
        assert!(loose.converged && loose.iterations < strict.iterations, "{loose:?} {strict:?}");
        assert!(strict.inertia < cut.inertia);
    }
}

/// Three far groups: each seed lies in a group of its own all but surely, the third far from both before it.
#[test]
fn seeding_prefers_far_points() {
    let mut w = Draw::new(7).gaussian(60, 3);
    for i in 20..60 {
        w.row_mut(i)[i / 40] += 1e4;
    }
    let w = Padded::<f32>::new(&w, 0);
    for device in all_devices() {
        for seed in 0..50 {
            let options = Options { max_iterations: 1, seed, ..Options::default() };
            let got = cluster(&device, w.view(), desc((60, 3), 3, 1, Space::Full), &options);
            assert_eq!(got.sizes, [20, 20, 20], "seed {seed}");
        }
    }
}
