//! Lloyd's steps: the matrix once, or twice where centroids do not fit shared memory.

use super::*;
use idlora::cluster::{Axis, Desc, Options, Plan, Space};

/// Rows that a block takes at these shapes.
fn block(rows: usize) -> usize {
    rows.div_ceil(128).next_multiple_of(4).clamp(16, 128)
}

fn count<T: Elem>(device: &Device, vm: &Vm, values: &Mat<f64>, clusters: usize, passes: f64) {
    let (rows, cols) = values.shape();
    let data: Vec<T> = weights(values);
    let bytes = size_of_val(data.as_slice()) as f64;
    let start: Vec<f32> = values.data()[..clusters * cols].iter().map(|&x| x as f32).collect();
    let start = MatRef::new(&start, clusters, cols).unwrap();
    let desc = Desc { rows, cols, axis: Axis::Rows, space: Space::Full, clusters, min_size: 1 };
    let options = Options { max_iterations: 2, tolerance: 0.0, start: Some(start), ..Options::default() };
    vm.take_launches();
    let steps = Plan::new(device, desc).unwrap().run(MatRef::new(&data, rows, cols).unwrap(), &options).unwrap();
    let steps = steps.info.iterations as f64;
    let launches: Vec<Launched> =
        vm.take_launches().into_iter().filter(|launch| launch.kernel.starts_with("lloyd_")).collect();

    let step = |operand| moved(&launches, operand) / steps;
    let [w, labels, partial] = ["w", "labels", "partial"].map(|operand| step(operand) / bytes);
    let centroids = step("centred") + step("mean");
    let instructions: u64 = launches.iter().map(|launch| launch.counters.thread_instructions()).sum();
    let each = instructions as f64 / steps / data.len() as f64;
    // Sums apart sort their rows first, by scattered writes.
    let sums = launches.iter().filter(|launch| launch.kernel == "lloyd_sums");
    let conflicts = conflicts(&launches) - sums.map(|launch| launch.counters.shared().conflicts).sum::<u64>();
    println!(
        "{:>5} {rows:>5}×{cols:<5} k = {clusters:<2}  w {w:.4}  centroids {:.4}  partial {partial:.4}  labels {labels:.4}  \
         gate {:.2}  {each:>5.1} instructions an element  {conflicts} bank conflicts",
        T::DTYPE.name(),
        centroids / bytes,
        1.02 * passes
    );
    let of_blocks = |floats: usize| (rows.div_ceil(block(rows)) * floats * cols * 4) as f64;
    assert!(w >= passes && w <= 1.02 * passes, "{rows}×{cols}: w {w}");
    // An update reads each centroid and the mean twice, and writes the centroid.
    let update = (5 * clusters * cols * 4) as f64;
    assert!(centroids <= passes * of_blocks(clusters + 1) + update, "{rows}×{cols}: centroids {centroids}");
    assert!(partial * bytes <= 2.0 * of_blocks(clusters), "{rows}×{cols}: partial {partial}");
    assert_eq!(conflicts, 0, "{rows}×{cols}");
}

/// As multiples of the bytes of `W`, per step.
#[test]
fn steps_read_the_matrix_once() {
    for (device, vm) in machines() {
        for (rows, cols) in SHAPES {
            let values = Draw::new(1).gaussian(rows, cols);
            count::<f16>(&device, &vm, &values, 4, 1.0);
            count::<bf16>(&device, &vm, &values, 4, 1.0);
            count::<f32>(&device, &vm, &values, 4, 1.0);
        }
    }
}

#[test]
fn steps_of_many_centroids_read_the_matrix_twice() {
    for (device, vm) in machines() {
        let values = Draw::new(1).gaussian(256, 4096);
        count::<bf16>(&device, &vm, &values, 16, 2.0);
    }
}
