//! What lies around Lloyd's steps, and the selection of rows: each launch reads the points once.

use super::*;
use idlora::cluster::{Axis, Desc, Options, Plan, Space};
use idlora::select::{self, Selection};

/// As multiples of the bytes of `W`. Centroids come from L2: a row for every point, or for four in seeding.
fn count<T: Elem>(device: &Device, vm: &Vm, values: &Mat<f64>) {
    let (rows, cols) = values.shape();
    let data: Vec<T> = weights(values);
    let (w, bytes) = (MatRef::new(&data, rows, cols).unwrap(), size_of_val(data.as_slice()) as f64);
    let desc = Desc { rows, cols, axis: Axis::Rows, space: Space::Full, clusters: 3, min_size: 1 };
    vm.take_launches();
    let options = Options { max_iterations: 1, ..Options::default() };
    let clustering = Plan::new(device, desc).unwrap().run(w, &options).unwrap();
    let desc = select::Desc { selection: Selection::Centroid, rank: 1, ..select::Desc::default() };
    select::Plan::new(device, desc).unwrap().run(w, &clustering).unwrap();
    let launches = vm.take_launches();
    for kernel in ["point_nearest", "point_sums", "point_residuals"] {
        let launches: Vec<Launched> = launches.iter().filter(|launch| launch.kernel == kernel).cloned().collect();
        let passes = launches.len();
        assert!(passes > 0, "{kernel}");
        let ([w, centroids, partial], each, conflicts) =
            streamed(&launches, ["w", "centroids", "partial"], bytes * passes as f64, data.len() * passes);
        println!(
            "{:>5} {rows:>5}×{cols:<5} {kernel:<16}  w {w:.4}  gate 1.02  centroids {centroids:.3}  partial {partial:.4}  \
             {each:>5.1} instructions an element  {conflicts} bank conflicts",
            T::DTYPE.name()
        );
        assert!((1.0..=1.02).contains(&w), "{kernel} {rows}×{cols}: w {w}");
        assert_eq!(conflicts, 0, "{kernel} {rows}×{cols}");
    }
}

#[test]
fn points_are_read_once() {
    for_every_shape!(count);
}
