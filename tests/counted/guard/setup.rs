//! Problems of what sets an adapter up: norms, clustering, pivoted QR, interpolation.

use super::{Device, Elem, Mat, MatRef, Problems, uniform};
use idlora::cluster::{self, Space};
use idlora::interp;
use idlora::norms::{self, Axis};
use idlora::qr::{self, Factor, Groups, Info, Stop, Tier};
use idlora::select::{self, Selection};

pub fn add<T: Elem>(problems: &mut Problems) {
    problems.add("rows:256x512", |device| norms::<T>(device, Axis::Rows));
    problems.add("columns:256x512", |device| norms::<T>(device, Axis::Cols));
    problems.add("kmeans:256x512,k=4", |device| from_seeds::<T>(device, 256, 512, 4));
    // One vector more than a step has threads, then more than its shared memory holds.
    let vectors = |count: usize| count * 16 / size_of::<T>();
    problems.add("kmeans:wide,k=2", move |device| steps::<T>(device, 32, vectors(520), 2, 1, false));
    problems.add("kmeans:split,k=16", move |device| steps::<T>(device, 64, vectors(512), 16, 1, false));
    problems.add("kmeans:short,k=4", |device| steps::<T>(device, 64, 256, 4, 16, true));
    problems.add("kmeans:empty,k=4", |device| steps::<T>(device, 64, 256, 4, 1, true));
    let sketch = Tier::Sketch { oversampling: 8 };
    problems.add("exact:256x384,r=8", |device| qr::<T>(device, 256, 384, Tier::Exact, 8));
    problems.add("sketch:256x384,r=8", move |device| qr::<T>(device, 256, 384, sketch, 8));
    problems.add("sketch:160x128,r=64", move |device| qr::<T>(device, 160, 128, sketch, 64));
}

pub fn add_narrow<T: Elem>(problems: &mut Problems) {
    problems.add("gram:256x384,r=32", |device| qr::<T>(device, 256, 384, Tier::Gram, 32));
}

pub fn add_without_element(problems: &mut Problems) {
    problems.add("groups=2,c=384,j=16", |device| coefficients(device, 384, 16));
    problems.add("groups=2,c=384,j=128", |device| coefficients(device, 384, 128));
}

fn norms<T: Elem>(device: &Device, axis: Axis) {
    let (rows, cols) = (256, 512);
    let w = uniform::<T>(1, rows * cols);
    let mut norms = vec![0.0; if axis == Axis::Rows { rows } else { cols }];
    let plan = norms::Plan::new(device, norms::Desc { rows, cols, axis }).unwrap();
    plan.run(MatRef::new(&w, rows, cols).unwrap(), &mut norms).unwrap();
}

/// Seeds, two steps, and the rows nearest to the centroids.
fn from_seeds<T: Elem>(device: &Device, rows: usize, cols: usize, clusters: usize) {
    let w = uniform::<T>(2, rows * cols);
    let w = MatRef::new(&w, rows, cols).unwrap();
    let desc = cluster::Desc { rows, cols, axis: Axis::Rows, space: Space::Full, clusters, min_size: 1 };
    let options = cluster::Options { max_iterations: 2, tolerance: 0.0, ..cluster::Options::default() };
    let clustering = cluster::Plan::new(device, desc).unwrap().run(w, &options).unwrap();
    let desc = select::Desc { selection: Selection::Centroid, rank: 1, ..select::Desc::default() };
    select::Plan::new(device, desc).unwrap().run(w, &clustering).unwrap();
}

/// A step from the first points, or where `far` from centroids of which all but the first are far from every point.
fn steps<T: Elem>(device: &Device, rows: usize, cols: usize, clusters: usize, min_size: usize, far: bool) {
    let w = uniform::<T>(3, rows * cols);
    let at = |i: usize| if i < cols { 0.0 } else { 9.0 + (i / cols) as f32 };
    let start: Vec<f32> = (0..clusters * cols).map(|i| if far { at(i) } else { w[i].to_f32() }).collect();
    let start = Some(MatRef::new(&start, clusters, cols).unwrap());
    let desc = cluster::Desc { rows, cols, axis: Axis::Rows, space: Space::Full, clusters, min_size };
    let options = cluster::Options { max_iterations: 1, tolerance: 0.0, start, ..cluster::Options::default() };
    cluster::Plan::new(device, desc).unwrap().run(MatRef::new(&w, rows, cols).unwrap(), &options).unwrap();
}

/// Two groups, of rows that shrink by 2 %: every pivot is decided, whatever rounds.
fn qr<T: Elem>(device: &Device, rows: usize, cols: usize, tier: Tier, rank: usize) {
    let mut w = uniform::<T>(4, rows * cols);
    let mut size = 1.0;
    for rows in w.chunks_exact_mut(2 * cols) {
        rows.iter_mut().for_each(|x| *x = T::from_f32(x.to_f32() * size));
        size *= 0.98;
    }
    let labels: Vec<u32> = (0..rows).map(|i| (i % 2) as u32).collect();
    let plan = qr::Plan::new(device, qr::Desc { cols, rank, tier, seed: 0 }).unwrap();
    let groups = Groups::from_labels(&labels, 2).unwrap();
    plan.run(MatRef::new(&w, rows, cols).unwrap(), &groups, &Stop::default()).unwrap();
}

/// R whose pivots are spread over the rows.
fn coefficients(device: &Device, c: usize, j: usize) {
    let jpvt: Vec<u32> = (0..j).map(|b| (b * c / j) as u32).collect();
    let mut r = Mat::from_vec(uniform::<f32>(5, j * c).into_iter().map(f64::from).collect(), j, c).unwrap();
    for (b, &p) in jpvt.iter().enumerate() {
        (b + 1..j).for_each(|a| r.row_mut(a)[p as usize] = 0.0);
        r.row_mut(b)[p as usize] = 16.0;
    }
    let factor = Factor { jpvt, r, info: Info::default() };
    interp::coeffs_many(device, &[factor.clone(), factor]).unwrap();
}
