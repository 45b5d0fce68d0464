//! Which rows each rule picks in a cluster.

use crate::common::matrices::{Draw, zoo};
use crate::common::{Padded, devices, kernel_devices, on_threads};
use idlora::cluster::{Clustering, Info, Space};
use idlora::select::{Desc, Plan, Selection, Skeleton};
use idlora::{Device, Elem, Mat, bf16, f16};
use proptest::prelude::*;

const ALL: [Selection; 5] =
    [Selection::Centroid, Selection::PivotedQr, Selection::Sketch, Selection::Norm, Selection::Random];
/// Rules that rank rows by a score each, or draw them.
const SCORED: [Selection; 3] = [Selection::Centroid, Selection::Norm, Selection::Random];
const SPACES: [Space; 3] = [Space::Full, Space::Direction, Space::Norm];

fn all_devices() -> Vec<Device> {
    [devices(), kernel_devices()].concat()
}

/// A clustering with given labels and arbitrary centroids: selection takes both as they are.
fn clustering(labels: Vec<u32>, k: usize, dim: usize, seed: u64) -> Clustering {
    let sizes = (0..k).map(|g| labels.iter().filter(|&&l| l as usize == g).count()).collect();
    let draw = &mut Draw::new(seed);
    let centroids = Mat::from_vec((0..k * dim).map(|_| draw.normal() as f32).collect(), k, dim).unwrap();
    Clustering { labels, centroids, sizes, info: Info::default() }
}

/// Random labels with at least `least` points each.
fn labels(draw: &mut Draw, points: usize, k: usize, least: usize) -> Vec<u32> {
    let mut labels: Vec<u32> = (0..points).map(|i| if i < k * least { i % k } else { draw.below(k) } as u32).collect();
    for i in (1..points).rev() {
        labels.swap(i, draw.below(i + 1));
    }
    labels
}

fn run<T: Elem>(device: &Device, w: &Padded<T>, desc: Desc, clustering: &Clustering) -> Skeleton {
    Plan::new(device, desc).unwrap().run(w.view(), clustering).unwrap()
}

/// Exactly `rank` distinct rows of each cluster.
fn assert_partition(what: &str, skeleton: &Skeleton, labels: &[u32], k: usize, rank: usize) {
    assert_eq!(skeleton.rows.len(), k * rank, "{what}");
    assert_eq!(skeleton.rank_reached.len(), k, "{what}");
    for (i, &row) in skeleton.rows.iter().enumerate() {
        assert_eq!(labels[row as usize] as usize, i / rank, "{what}: row {row} at place {i}");
    }
    let mut rows = skeleton.rows.clone();
    rows.sort_unstable();
    rows.dedup();
    assert_eq!(rows.len(), k * rank, "{what}: rows repeat");
}

/// `k` clusters of at least `rank` points, `more` points in all, of `cols` columns and `pad` behind them.
#[derive(Clone, Copy, Debug)]
struct Drawn {
    seed: u64,
    k: usize,
    rank: usize,
    more: usize,
    cols: usize,
    pad: usize,
}

fn rules_give_distinct_rows(devices: &[Device], drawn: Drawn) {
    let Drawn { seed, k, rank, more, cols, pad } = drawn;
    let draw = &mut Draw::new(seed);
    let points = k * rank + more;
    let zoo = zoo(seed, points, cols);
    for (name, values) in [&zoo[draw.below(5)], &zoo[6], &zoo[7]] {
        let w = Padded::<bf16>::new(values, pad);
        let clustering = clustering(labels(draw, points, k, rank), k, cols, seed);
        for device in devices {
            for &selection in &ALL {
                let desc = Desc { selection, rank, seed, space: Space::Full };
                let skeleton = run(device, &w, desc, &clustering);
                let what = format!("{name} {selection:?} on {device}, {drawn:?}");
                assert_partition(&what, &skeleton, &clustering.labels, k, rank);
                assert_eq!(skeleton, run(device, &w, desc, &clustering), "{what} twice");
                if !matches!(selection, Selection::PivotedQr | Selection::Sketch) {
                    assert!(skeleton.rank_reached.iter().all(|&x| x == rank), "{what}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn every_rule_gives_r_distinct_rows_per_cluster(
        seed in 0u64..1 << 40, k in 1usize..5, rank in 1usize..7, more in 0usize..20,
        cols in 1usize..12, pad in 0usize..3,
    ) {
        rules_give_distinct_rows(&devices(), Drawn { seed, k, rank, more, cols, pad });
    }
}

#[test]
fn every_rule_gives_distinct_rows_on_devices_with_kernels() {
    for (seed, (k, rank, more, cols)) in
        [(1, 1, 0, 1), (2, 6, 5, 4), (4, 3, 17, 11), (3, 5, 1, 9)].into_iter().enumerate()
    {
        rules_give_distinct_rows(&kernel_devices(), Drawn { seed: seed as u64, k, rank, more, cols, pad: seed });
    }
}

/// Scores by the definition; `f64` rounds them at `n·2⁻⁵³`, far below the gaps of random rows.
fn by_definition<T: Elem>(w: &Padded<T>, desc: Desc, clustering: &Clustering) -> Vec<u32> {
    let exact = w.to_f64();
    let length = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    let score = |i: usize| {
        let row = exact.row(i);
        let centroid: Vec<f64> =
            clustering.centroids.row(clustering.labels[i] as usize).iter().map(|&x| f64::from(x)).collect();
        match (desc.selection, desc.space) {
            (Selection::Norm, _) => -length(row),
            (_, Space::Full) => length(&row.iter().zip(&centroid).map(|(x, c)| x - c).collect::<Vec<_>>()),
            // Nearest by angle; the same order as by distance between unit vectors, whatever the centroid's length.
            (_, Space::Direction) => -row.iter().zip(&centroid).map(|(x, c)| x * c).sum::<f64>() / length(row),
            (_, Space::Norm) => (length(row) - centroid[0]).abs(),
        }
    };
    let mut all = Vec::new();
    for g in 0..clustering.sizes.len() {
        let mut rows: Vec<u32> =
            (0..exact.rows() as u32).filter(|&i| clustering.labels[i as usize] as usize == g).collect();
        rows.sort_by(|&a, &b| score(a as usize).total_cmp(&score(b as usize)));
        all.extend(&rows[..desc.rank]);
    }
    all
}

fn scores_by_definition<T: Elem>() {
    let draw = &mut Draw::new(8);
    let w = Padded::<T>::new(&draw.gaussian(60, 37), 3);
    let labels = labels(draw, 60, 4, 6);
    for device in all_devices() {
        for space in SPACES {
            let clustering = clustering(labels.clone(), 4, if space == Space::Norm { 1 } else { 37 }, 5);
            for selection in [Selection::Centroid, Selection::Norm] {
                let desc = Desc { selection, rank: 6, seed: 0, space };
                let skeleton = run(&device, &w, desc, &clustering);
                assert_eq!(skeleton.rows, by_definition(&w, desc, &clustering), "{:?} {desc:?}", T::DTYPE);
            }
        }
    }
}

#[test]
fn centroid_and_norm_order_by_their_definitions() {
    scores_by_definition::<f32>();
    scores_by_definition::<f16>();
    scores_by_definition::<bf16>();
}

/// A score in `f64`, and how far one summed in another order may be off it. With `u = 2⁻⁵³`, a sum of `n` squares rounds by
/// `(n + 16)·u` of itself; half of that reaches the factor of a direction and the norm, and a few roundings more. A difference of
/// coordinates that is off by `δ` makes a square off by `2|d|δ + δ²`.
fn score_and_bound(x: &[f64], c: &[f64], desc: Desc) -> (f64, f64) {
    let sum = (x.len() + 16) as f64 * f64::EPSILON / 2.0;
    let square: f64 = x.iter().map(|x| x * x).sum();
    let factor = if desc.space == Space::Direction { 1.0 / square.sqrt() } else { 1.0 };
    let off = if desc.space == Space::Direction { sum } else { 0.0 };
    match (desc.selection, desc.space) {
        (Selection::Norm, _) => (-square, sum * square),
        (_, Space::Norm) => ((square.sqrt() - c[0]).abs(), sum * (square.sqrt() + c[0].abs())),
        _ => x.iter().zip(c).fold((0.0, 0.0), |(score, bound), (x, c)| {
            let d = x * factor - c;
            let off = off * (x * factor).abs() + f64::EPSILON * d.abs();
            (score + d * d, bound + 2.0 * d.abs() * off + off * off + sum * d * d)
        }),
    }
}

/// The rows that the CPU picks, in its order, but where two scores are closer than both can tell: then the score at that place is
/// the same within that. Equal rows never are such a case.
fn kernels_pick_what_the_cpu_picks<T: Elem>(rows: usize, cols: usize, pad: usize) {
    let draw = &mut Draw::new(31);
    let (k, rank) = (3, 5);
    for (name, values) in zoo(17, rows, cols) {
        let w = Padded::<T>::new(&values, pad);
        let exact = w.to_f64();
        let labels = labels(draw, rows, k, rank);
        for space in SPACES {
            let clustering = clustering(labels.clone(), k, if space == Space::Norm { 1 } else { cols }, 9);
            for selection in SCORED {
                let desc = Desc { selection, rank, seed: 4, space };
                let plan = |device: &Device| Plan::new(device, desc).unwrap().run(w.view(), &clustering);
                for device in kernel_devices() {
                    let what = format!("{name} {:?} {rows}×{cols}+{pad} {desc:?}", T::DTYPE);
                    let (expected, found) = match (plan(&Device::Cpu), plan(&device)) {
                        (Ok(expected), Ok(found)) => (expected, found),
                        (expected, found) => {
                            assert_eq!(expected.unwrap_err().to_string(), found.unwrap_err().to_string(), "{what}");
                            continue;
                        }
                    };
                    assert_eq!(expected.rank_reached, found.rank_reached, "{what}");
                    assert_partition(&what, &found, &clustering.labels, k, rank);
                    for (i, (&p, &q)) in expected.rows.iter().zip(&found.rows).enumerate().filter(|(_, (p, q))| p != q)
                    {
                        let centroid: Vec<f64> =
                            clustering.centroids.row(i / rank).iter().map(|&c| f64::from(c)).collect();
                        let of = |p: u32| score_and_bound(exact.row(p as usize), &centroid, desc);
                        let ((a, a_off), (b, b_off)) = (of(p), of(q));
                        let close = selection != Selection::Random && (a - b).abs() <= 2.0 * (a_off + b_off);
                        assert!(close, "{what}: row {q} at {b:e} for row {p} at {a:e}, place {i}");
                        assert_ne!(exact.row(p as usize), exact.row(q as usize), "{what}: equal rows {p} and {q}");
                    }
                }
            }
        }
    }
}

#[test]
fn devices_with_kernels_pick_the_rows_of_the_cpu() {
    for (rows, cols, pad) in [(15, 1, 0), (40, 9, 2), (33, 64, 0), (70, 257, 1)] {
        kernels_pick_what_the_cpu_picks::<f32>(rows, cols, pad);
        kernels_pick_what_the_cpu_picks::<f16>(rows, cols, pad);
        kernels_pick_what_the_cpu_picks::<bf16>(rows, cols, pad);
    }
}

#[test]
fn ties_fall_to_the_lowest_row() {
    let w = Padded::<f32>::new(&Mat::from_vec(vec![1.0, -1.0, 1.0, -1.0, 1.0, 0.5], 6, 1).unwrap(), 0);
    let mut clustering = clustering(vec![0; 6], 1, 1, 1);
    for device in all_devices() {
        let rows = |selection, space, clustering: &Clustering| {
            run(&device, &w, Desc { selection, rank: 3, seed: 0, space }, clustering).rows
        };
        assert_eq!(rows(Selection::Norm, Space::Full, &clustering), [0, 1, 2]);
        clustering.centroids.row_mut(0)[0] = 1.0;
        assert_eq!(rows(Selection::Centroid, Space::Full, &clustering), [0, 2, 4]);
        assert_eq!(rows(Selection::Centroid, Space::Norm, &clustering), [0, 1, 2]);
    }
}

/// Pivots come first, in their order; then the lowest rows that are left. The rank is that of the rows.
fn fills_a_deficient_cluster<T: Elem>() {
    // Cluster 0: rows 0, 2, 4, 6, 8 are copies of two rows; cluster 1 is zero but for row 7.
    let mut values = Mat::zeros(10, 3).unwrap();
    for i in [0, 4, 8] {
        values.row_mut(i).copy_from_slice(&[1.0, 0.0, 2.0]);
    }
    for i in [2, 6] {
        values.row_mut(i).copy_from_slice(&[0.0, 3.0, -2.0]);
    }
    values.row_mut(7)[1] = 0.25;
    let w = Padded::<T>::new(&values, 1);
    let clustering = clustering((0..10).map(|i| i % 2).collect(), 2, 3, 1);
    for device in devices() {
        for selection in [Selection::PivotedQr, Selection::Sketch] {
            let desc = Desc { selection, rank: 4, seed: 0, space: Space::Full };
            let skeleton = run(&device, &w, desc, &clustering);
            assert_eq!(skeleton.rank_reached, [2, 1], "{selection:?}");
            let mut first = skeleton.rows[..2].to_vec();
            if selection == Selection::PivotedQr {
                assert_eq!(first, [2, 0], "longest first");
            }
            first.sort_unstable();
            assert_eq!(first, [0, 2], "{selection:?}");
            assert_eq!(skeleton.rows[2..], [4, 6, 7, 1, 3, 5], "{selection:?}");
        }
    }
}

#[test]
fn rank_deficient_clusters_are_filled_with_their_lowest_rows() {
    fills_a_deficient_cluster::<f32>();
    fills_a_deficient_cluster::<f16>();
    fills_a_deficient_cluster::<bf16>();
}

#[test]
fn seeds_enter_where_they_should_and_threads_nowhere() {
    let draw = &mut Draw::new(12);
    let w = Padded::<f32>::new(&draw.gaussian(400, 50), 2);
    let clustering = clustering(labels(draw, 400, 3, 50), 3, 50, 2);
    for device in all_devices() {
        for &selection in &ALL {
            let rows = |seed, threads| {
                let desc = Desc { selection, rank: 8, seed, space: Space::Full };
                on_threads(threads, || run(&device, &w, desc, &clustering).rows)
            };
            assert_eq!(rows(1, 1), rows(1, 2), "{selection:?}");
            let seeded = matches!(selection, Selection::Random | Selection::Sketch);
            assert_eq!(rows(1, 1) != rows(2, 1), seeded, "{selection:?}");
        }
        // Random: every row of a cluster is taken about as often as any other.
        let mut counts = [0u32; 20];
        let small = Padded::<f32>::new(&Draw::new(1).gaussian(20, 2), 0);
        let one = self::clustering(vec![0; 20], 1, 2, 1);
        for seed in 0..400 {
            let desc = Desc { selection: Selection::Random, rank: 5, seed, space: Space::Full };
            run(&device, &small, desc, &one).rows.iter().for_each(|&row| counts[row as usize] += 1);
        }
        // Binomial(400, 1/4): mean 100, deviation 8.7; six of them.
        assert!(counts.iter().all(|&count| (48..=152).contains(&count)), "{counts:?}");
    }
}

#[test]
fn refusals_say_what_is_wrong() {
    let w = Padded::<f32>::new(&Draw::new(1).gaussian(6, 3), 1);
    for device in all_devices() {
        let good = clustering(vec![0, 1, 0, 1, 0, 0], 2, 3, 1);
        let message = |desc: Desc, clustering: &Clustering, w: &Padded<f32>| {
            Plan::new(&device, desc).and_then(|plan| plan.run(w.view(), clustering)).unwrap_err().to_string()
        };
        for &selection in &ALL {
            let desc = Desc { selection, rank: 2, seed: 0, space: Space::Full };
            assert_eq!(message(Desc { rank: 0, ..desc }, &good, &w), "select: `rank` is 0, expected at least 1");
            assert_eq!(
                message(Desc { rank: 3, ..desc }, &good, &w),
                "select: `rank` is 3, expected at most 2, the size of cluster 1"
            );
            assert_eq!(
                message(desc, &clustering(vec![0, 1, 0, 1, 0], 2, 3, 1), &w),
                "select: `labels` has length 5, expected length 6"
            );
            assert_eq!(
                message(Desc { space: Space::Norm, ..desc }, &good, &w),
                "select: `centroids` has shape [2, 3], expected shape [2, 1]"
            );
            let mut stray = good.clone();
            stray.labels[4] = 7;
            assert_eq!(
                message(desc, &stray, &w),
                "select: `labels` is 7 at row 4, expected labels below 2, the number of clusters"
            );
            if selection != Selection::Random {
                let mut values = Draw::new(1).gaussian(6, 3);
                values.row_mut(5)[0] = f64::NAN;
                let bad = message(desc, &good, &Padded::new(&values, 0));
                assert!(bad.ends_with("`w` has NaN at row 5, column 0; every entry must be finite"), "{bad}");
            }
        }
        let mut values = Draw::new(1).gaussian(6, 3);
        values.row_mut(4).fill(0.0);
        let desc = Desc { selection: Selection::Centroid, rank: 2, seed: 0, space: Space::Direction };
        assert_eq!(
            message(desc, &good, &Padded::new(&values, 0)),
            "select: operand `w` has an all-zero row 4, which has no direction"
        );
    }
}
