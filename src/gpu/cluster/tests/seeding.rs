//! k-means++ seeds, against the CPU's.

use super::*;
use crate::cpu::cluster::seeding::{draw, draws};
use crate::gpu::cluster::seeding::{Round, seeds};
use crate::gpu::variants::points as tile;

/// Seeds are those that the CPU's draw takes from exact distances to the seeds before, wherever the fraction is farther from the
/// edges of that point's share than distances and prefix sums may be off. Counts such draws, and all.
fn seeds_match<T: Elem>(machines: &[Vm], count: &mut [usize; 2]) {
    for_every_case::<T>(|name, w, space, stream| {
        let (exact, (rows, cols)) = (w.points(space), w.shape);
        let (k, seed) = (rows.min(6), stream.next_u64());
        let found: Vec<(Vec<u32>, Vec<f32>)> = (machines.iter())
            .map(|vm| {
                let points = w.upload(vm, space);
                let seeds = seeds(vm, &points, k, seed).unwrap();
                let (mut numbers, mut centroids) = (vec![0; k], vec![0.0; k * cols]);
                vm.download(OP, &seeds.points, &mut numbers).unwrap();
                vm.download(OP, &seeds.centroids, &mut centroids).unwrap();
                for (&p, centroid) in numbers.iter().zip(centroids.chunks(cols)) {
                    assert_eq!(points.point(w.view(), p as usize).unwrap(), centroid, "{name}: seed {p}");
                }
                (numbers, centroids)
            })
            .collect();
        assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "{name}: schedules differ");
        let Some((numbers, _)) = found.first() else { return };
        let (first, uniforms) = draws(rows, k, seed).unwrap();
        assert_eq!(numbers[0], first, "{name}");
        let (mut nearest, mut off) = (vec![f64::INFINITY; rows], vec![0.0; rows]);
        let mut taken = vec![false; rows];
        for j in 1..k {
            let latest = exact.row(numbers[j - 1] as usize);
            taken[numbers[j - 1] as usize] = true;
            for p in 0..rows {
                let distance = exact.row(p).iter().zip(latest).map(|(x, c)| (x - c) * (x - c)).sum::<f64>();
                // The bound of the smaller distance is not below that of the larger one, which rounding might have preferred.
                off[p] = f64::max(off[p], distance_bound(exact.row(p), latest, space));
                nearest[p] = nearest[p].min(distance);
                if (0..j).any(|i| w.view().row(p) == w.view().row(numbers[i] as usize)) {
                    (nearest[p], off[p]) = (0.0, 0.0); // the same bits, at distance 0 here and there
                }
            }
            let p = draw(&nearest, &taken, uniforms[j]);
            let total: f64 = nearest.iter().sum();
            let through: f64 = nearest[..=p].iter().sum();
            let target = uniforms[j] * total;
            let bound = 2.0 * off.iter().sum::<f64>() + 2.0 * rows as f64 * U64 * total;
            let clear = (through - target).min(target - (through - nearest[p])) > bound || total + bound == 0.0;
            count[usize::from(clear)] += 1;
            assert!(!clear || numbers[j] as usize == p, "{name}: seed {j} is {}, not {p}", numbers[j]);
        }
        let mut distinct = numbers.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), k, "{name}: seeds {numbers:?} repeat");
    });
}

#[test]
fn seeds_are_those_of_the_cpu() {
    let machines = machines();
    let count = &mut [0, 0];
    seeds_match::<f32>(&machines, count);
    // What blocks do to each other depends on no element: one machine will do.
    let one = &machines[..machines.len().min(1)];
    seeds_match::<f16>(one, count);
    seeds_match::<bf16>(one, count);
    let [close, clear] = *count;
    assert!(machines.is_empty() || clear > 20 * close, "{clear} draws decided, {close} close to an edge");
}

/// The kernel's draw alone: weights are integers, so that no sum rounds and it is the CPU's to the point.
#[test]
fn draws_follow_the_weights_and_never_repeat() {
    let stream = &mut Stream::new(3, Use::Gate);
    let mut cases: Vec<(Vec<f64>, f64)> = Vec::new();
    for at in [0.0, 0.74, 0.76, 1.0 - f64::EPSILON / 2.0] {
        cases.push((vec![-1.0, 3.0, 0.0, 1.0], at));
        cases.push((vec![-1.0, 0.0, -1.0, 0.0], at));
    }
    for count in [1, 31, 32, 33, 1023, 1024, 1025, 5000] {
        for kind in 0..4 {
            let weight = |_| match (kind, stream.below(8)) {
                (0, x) => x as f64 - 1.0,
                (1, 0) => 1.0,
                (3, x) => 1.0 + x as f64,
                _ => 0.0,
            };
            let mut weights: Vec<f64> = (0..count).map(weight).collect();
            let seed = stream.below(count as u64) as usize;
            weights[seed] = if count == 1 { 2.0 } else { -1.0 };
            cases.push((weights, [stream.uniform(), 0.0, 1.0 - f64::EPSILON / 2.0][kind % 3]));
        }
    }
    let w = Padded::<f32>::new(&Mat::zeros(5000, 1).unwrap(), 0);
    for vm in machines() {
        let points = w.upload(&vm, Space::Full);
        for (weights, at) in &cases {
            let mut nearest = vm.upload(OP, "nearest", weights).unwrap();
            let mut numbers = vm.upload(OP, "seeds", &[0u32, 0]).unwrap();
            let mut centroids = vm.allocate::<f32>(OP, "centroids", 2).unwrap();
            let uniforms = vm.upload(OP, "uniforms", &[0.0, *at]).unwrap();
            let round = Round { count: weights.len() as u64, dim: 1, round: 1 };
            let inputs = [&points.rows.addresses, &points.scales, &uniforms];
            let outputs = &mut [&mut nearest, &mut numbers, &mut centroids];
            let kernel = points.kernel(&tile::SEED).unwrap();
            vm.launch(&kernel, 1.into(), &inputs, outputs, bytemuck::bytes_of(&round)).unwrap();
            let (mut left, mut found) = (weights.clone(), [0u32; 2]);
            vm.download(OP, &nearest, &mut left).unwrap();
            vm.download(OP, &numbers, &mut found).unwrap();

            let taken: Vec<bool> = weights.iter().map(|&x| x < 0.0).collect();
            let shares: Vec<f64> = weights.iter().map(|x| x.max(0.0)).collect();
            let expected = draw(&shares, &taken, *at);
            assert_eq!(found, [0, expected as u32], "{} weights at {at}", weights.len());
            let mut marked = weights.clone();
            marked[expected] = -1.0;
            assert_eq!(left, marked, "the seed is marked, and nothing else");
        }
    }
}

/// Points that all coincide: the lowest not yet taken.
#[test]
fn equal_points_are_taken_from_the_lowest() {
    for vm in machines() {
        let mut w = Mat::zeros(5, 9).unwrap();
        w.data_mut().fill(0.3);
        let w = Padded::<bf16>::new(&w, 2);
        for seed in 0..4 {
            let found = seeds(&vm, &w.upload(&vm, Space::Direction), 4, seed).unwrap();
            let mut numbers = [0u32; 4];
            vm.download(OP, &found.points, &mut numbers).unwrap();
            let rest = (0..5).filter(|&p| p != numbers[0]).take(3);
            assert_eq!(numbers[1..], rest.collect::<Vec<u32>>(), "seed {seed}");
        }
    }
}
