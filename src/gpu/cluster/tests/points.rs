//! Distances, means and inertia, and what they read.

use super::*;
use crate::gpu::cluster::finish::{inertia, means};
use crate::gpu::cluster::seeding::seeds;
use crate::gpu::image::image;
use crate::gpu::variants::points as tile;

/// Distances from random centroids and from points themselves.
fn distances_match<T: Elem>(machines: &[Vm]) {
    for_every_case::<T>(|name, w, space, stream| {
        let (exact, (rows, cols)) = (w.points(space), w.shape);
        let k = 3;
        let labels: Vec<u32> = (0..rows).map(|_| stream.below(k as u64) as u32).collect();
        let mut centroids: Vec<f32> = (0..k * cols).map(|_| stream.normal() as f32).collect();
        let mut found: Vec<Vec<f64>> = Vec::new();
        let own = rows / 2; // whose point is the centroid of its label
        for vm in machines {
            let points = w.upload(vm, space);
            let point = points.point(w.view(), own).unwrap();
            centroids[labels[own] as usize * cols..][..cols].copy_from_slice(&point);
            let (c, l) = (vm.upload(OP, "centroids", &centroids).unwrap(), vm.upload(OP, "labels", &labels).unwrap());
            found.push(points.distances(vm, &c, &l).unwrap());
        }
        assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "{name}: schedules differ");
        let Some(found) = found.first() else { return };
        assert_eq!(found[own], 0.0, "{name}: a point is its own centroid");
        for p in 0..rows {
            let c: Vec<f64> = centroids[labels[p] as usize * cols..][..cols].iter().map(|&c| f64::from(c)).collect();
            let distance: f64 = exact.row(p).iter().zip(&c).map(|(x, c)| (x - c) * (x - c)).sum();
            let bound = distance_bound(exact.row(p), &c, space);
            assert!((found[p] - distance).abs() <= bound, "{name}, point {p}: {:e} for {distance:e}", found[p]);
        }
        for (p, q) in (0..rows).flat_map(|p| (0..p).map(move |q| (p, q))) {
            if labels[p] == labels[q] && w.view().row(p) == w.view().row(q) {
                assert_eq!(found[p], found[q], "{name}: equal rows {q} and {p}");
            }
        }
    });
}

#[test]
fn distances_match_the_definition() {
    let machines = machines();
    distances_match::<f32>(&machines);
    distances_match::<f16>(&machines);
    distances_match::<bf16>(&machines);
}

/// Means of all clusters, one of which is empty, and the inertia about them.
fn finish_matches<T: Elem>(machines: &[Vm]) {
    for_every_case::<T>(|name, w, space, stream| {
        let (exact, (rows, cols)) = (w.points(space), w.shape);
        let k = 4;
        // The last is empty; the first is mostly a single point.
        let labels: Vec<u32> = (0..rows).map(|i| if i == 0 { 0 } else { 1 + stream.below(2) as u32 }).collect();
        let mut sizes = vec![0usize; k];
        labels.iter().for_each(|&label| sizes[label as usize] += 1);
        let found: Vec<(Mat<f64>, f64)> = (machines.iter())
            .map(|vm| {
                let (points, labels) = (w.upload(vm, space), vm.upload(OP, "labels", &labels).unwrap());
                let means = means(vm, &points, &labels, &sizes).unwrap();
                let inertia = inertia(vm, &points, &labels, &means).unwrap();
                (means, inertia)
            })
            .collect();
        assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "{name}: schedules differ");
        let Some((found, inertia)) = found.first() else { return };
        let means = reference::means(exact.as_ref(), &labels, k);
        // Directions carry the roundings of a squared norm of `cols` terms, here and there.
        let roundings = (2 * rows + 8 + if space == Space::Direction { cols + 30 } else { 0 }) as f64;
        for (j, &size) in sizes.iter().enumerate() {
            for col in 0..cols {
                let members = (0..rows).filter(|&p| labels[p] as usize == j).map(|p| exact.row(p)[col].abs());
                let bound = roundings * U64 * members.sum::<f64>() / size.max(1) as f64;
                let (mean, exact) = (found.row(j)[col], if size == 0 { 0.0 } else { means.row(j)[col] });
                assert!((mean - exact).abs() <= bound, "{name}: cluster {j}, column {col}: {mean:e} for {exact:e}");
            }
        }
        let (mut of, mut bound) = (0.0, 0.0);
        for (p, &label) in labels.iter().enumerate() {
            for (x, c) in exact.row(p).iter().zip(found.row(label as usize)) {
                of += (x - c) * (x - c);
                // A difference is off by the roundings of both of its operands.
                let off = roundings * U64 * (x.abs() + c.abs());
                bound += 2.0 * (x - c).abs() * off + off * off;
            }
        }
        bound += 2.0 * (rows + cols) as f64 * U64 * of;
        assert!((inertia - of).abs() <= bound, "{name}: inertia {inertia:e} for {of:e}");
        if rows == 1 {
            assert_eq!(*inertia, 0.0, "{name}: a single point is its own mean");
        }
    });
}

#[test]
fn means_and_inertia_match_the_definition() {
    let machines = machines();
    finish_matches::<f32>(&machines);
    finish_matches::<f16>(&machines);
    finish_matches::<bf16>(&machines);
}

/// In multiples of the bytes of `W`: at most 1.02 by each kernel, no bank conflict anywhere. Partial sums are written and read once.
fn count<T: Elem>(vm: &Vm, rows: usize, cols: usize) {
    let stream = &mut Stream::new(1, Use::Gate);
    let w = Padded::<T>::new(&blobs(stream, rows, cols, 1.0), 0);
    let bytes = size_of_val(w.data.as_slice()) as f64;
    let (points, k) = (w.upload(vm, Space::Full), 8);
    let labels: Vec<u32> = (0..rows).map(|_| stream.below(k as u64) as u32).collect();
    let sizes: Vec<usize> = (0..k).map(|j| labels.iter().filter(|&&label| label as usize == j).count()).collect();
    let chunks: usize = sizes.iter().map(|size| size.div_ceil(tile::CHUNK_POINTS as usize)).sum();
    let centroids: Mat<f64> = Mat::zeros(k, cols).unwrap();
    let labels = vm.upload(OP, "labels", &labels).unwrap();
    vm.take_launches();
    points.distances(vm, &vm.upload(OP, "centroids", &vec![0.0f32; k * cols]).unwrap(), &labels).unwrap();
    means(vm, &points, &labels, &sizes).unwrap();
    inertia(vm, &points, &labels, &centroids).unwrap();
    seeds(vm, &points, 2, 1).unwrap();
    for launch in vm.take_launches() {
        let moved = |operand: &str| {
            let traffic = launch.counters.allocations().iter().filter(|(name, _)| *name == operand);
            traffic.map(|(_, t)| 32 * (t.read.sectors + t.written.sectors)).sum::<u64>() as f64
        };
        let (kernel, w) = (launch.kernel, moved("w") / bytes);
        let (partial, conflicts) = (moved("partial"), launch.counters.shared().conflicts);
        println!(
            "{:>5} {rows:>5}×{cols:<5} {kernel:<16}  w {w:.4}  centroids {:.3}  partial {:.4}  gate 1.02  \
             {:>5.1} instructions an element  {conflicts} bank conflicts",
            T::DTYPE.name(),
            moved("centroids") / bytes,
            partial / bytes,
            launch.counters.thread_instructions() as f64 / (rows * cols) as f64,
        );
        assert_eq!(conflicts, 0, "{kernel}");
        let passes = !matches!(kernel, "point_seed" | "point_means");
        assert!(w <= 1.02 && (!passes || w >= 1.0), "{kernel}: {w}");
        assert!(partial <= 1.01 * (8 * chunks * cols) as f64, "{kernel}: {partial} bytes of {chunks} partial sums");
    }
}

#[test]
fn points_are_read_once() {
    let Some(vm) = machines().into_iter().next() else { return };
    for (rows, cols) in [(1536, 384), (1024, 4096)] {
        count::<f16>(&vm, rows, cols);
        count::<bf16>(&vm, rows, cols);
        count::<f32>(&vm, rows, cols);
    }
}

/// A plain product may be fused with the sum that follows when PTX is assembled, which the virtual machine never does: points would
/// no longer be at distance 0 from their copies.
#[test]
fn products_of_coordinates_cannot_be_fused() {
    let Some(vm) = machines().into_iter().next() else { return };
    let w = Padded::<f32>::new(&Mat::zeros(1, 1).unwrap(), 0);
    let kernel = w.upload(&vm, Space::Full).kernel(&tile::NEAREST).unwrap();
    let ptx = &image(kernel.variant).unwrap().ptx;
    for (entry, plain, rounded) in [
        ("point_distances", "mul.f32", "mul.rn.f32"),
        ("point_nearest", "mul.f32", "mul.rn.f32"),
        ("point_seed", "mul.f32", "mul.rn.f32"),
        ("point_residuals", "mul.f64", "mul.rn.f64"),
    ] {
        let body = ptx.split(".entry ").find(|body| body.starts_with(entry)).unwrap();
        assert!(!body.contains(plain) && body.contains(rounded), "{entry}");
    }
}
