//! Set-up on devices that run kernels, on real weights: the CPU's clusters and rows, wherever the choice is not a rounding tie.

use crate::common::{for_every_element, kernel_devices};
use idlora::adapter::{Config, IdLora};
use idlora::cluster::{self, Axis, Clustering};
use idlora::format::checkpoint::Checkpoint;
use idlora::reference::{cluster as distances, qr as residuals};
use idlora::select::{self, Selection, Skeleton};
use idlora::{Device, Elem, Mat, MatRef, with_weight};
use std::path::Path;

const QUERY: &str = "encoder.layer.0.attention.self.query.weight";
const RANK: usize = 16;
const CLUSTERS: usize = 4;

/// MiniLM's first query weight, rounded to `T`.
fn query<T: Elem>() -> Mat<T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/minilm-layer0.safetensors");
    let weight = Checkpoint::open(path).unwrap().read(QUERY).unwrap();
    with_weight!(&weight, w => {
        let data = w.data().iter().map(|x| T::from_f32(x.to_f32())).collect();
        Mat::from_vec(data, w.rows(), w.cols()).unwrap()
    })
}

fn clustered<T: Elem>(device: &Device, w: MatRef<'_, T>, space: cluster::Space) -> Clustering {
    let (rows, cols) = w.shape();
    let desc = cluster::Desc { rows, cols, axis: Axis::Rows, space, clusters: CLUSTERS, min_size: RANK };
    cluster::Plan::new(device, desc).unwrap().run(w, &cluster::Options::default()).unwrap()
}

fn selected<T: Elem>(device: &Device, w: MatRef<'_, T>, clustering: &Clustering, desc: select::Desc) -> Skeleton {
    select::Plan::new(device, desc).unwrap().run(w, clustering).unwrap()
}

/// Points that lie in another cluster than on the CPU, all of them nearly as far from one centroid as from the other.
///
/// A label is decided by scores that are `f32` sums over the columns, off by no more than 2⁻¹⁶ of the squared norms here.
fn ties_of_labels(w: &Mat<f64>, cpu: &Clustering, other: &Clustering) -> Vec<usize> {
    let means = distances::means(w.as_ref(), &cpu.labels, CLUSTERS);
    let table = distances::squared_distances(w.as_ref(), means.as_ref());
    let differ = (0..w.rows()).filter(|&p| cpu.labels[p] != other.labels[p]);
    differ
        .inspect(|&p| {
            let [mine, theirs] = [cpu, other].map(|c| table.row(p)[c.labels[p] as usize]);
            let norm: f64 = w.row(p).iter().map(|x| x * x).sum();
            assert!((mine - theirs).abs() <= 0.5f64.powi(16) * norm, "row {p}: {mine:e} and {theirs:e} are no tie");
        })
        .collect()
}

/// The first place in a cluster's list where the rows part, where their residuals behind the common pivots must tie in `f64`.
fn tie_of_pivots(w: &Mat<f64>, cpu: &[u32], other: &[u32]) -> Option<usize> {
    let j = (0..cpu.len()).find(|&j| cpu[j] != other[j])?;
    let common: Vec<usize> = cpu[..j].iter().map(|&row| row as usize).collect();
    let rest = residuals::residual(w.as_ref(), &common);
    let norm = |row: u32| rest.row(row as usize).iter().map(|x| x * x).sum::<f64>().sqrt();
    let (mine, theirs) = (norm(cpu[j]), norm(other[j]));
    let largest = (0..w.rows()).map(|i| w.row(i).iter().map(|x| x * x).sum::<f64>().sqrt()).fold(0.0, f64::max);
    let bound = 24.0 * (RANK as f64).sqrt() * (w.cols() + RANK) as f64 * f64::EPSILON * largest;
    assert!((mine - theirs).abs() <= bound, "pivot {j} is row {} or {}: {mine:e}, {theirs:e}", cpu[j], other[j]);
    Some(j)
}

fn agrees_with_the_cpu<T: Elem>() {
    let weight = query::<T>();
    let wide = weight.data().iter().map(|x| f64::from(x.to_f32())).collect();
    let wide = Mat::from_vec(wide, weight.rows(), weight.cols()).unwrap();
    let w = weight.as_ref();
    for device in kernel_devices() {
        for space in [cluster::Space::Full, cluster::Space::Direction, cluster::Space::Norm] {
            let what = format!("{device} {:?} {space:?}", T::DTYPE);
            let (cpu, other) = (clustered(&Device::Cpu, w, space), clustered(&device, w, space));
            if space == cluster::Space::Full {
                let ties = ties_of_labels(&wide, &cpu, &other);
                println!("{what}: {} rows, labels tie at {ties:?}", w.rows());
            } else {
                assert_eq!(cpu.labels, other.labels, "{what}");
            }
            // The rules are compared on the same clusters.
            for selection in [Selection::PivotedQr, Selection::Sketch, Selection::Centroid, Selection::Norm] {
                let desc = select::Desc { selection, rank: RANK, seed: 5, space };
                let [mine, theirs] = [&Device::Cpu, &device].map(|device| selected(device, w, &cpu, desc));
                assert_eq!(mine.rank_reached, theirs.rank_reached, "{what} {selection:?}");
                let groups = mine.rows.chunks(RANK).zip(theirs.rows.chunks(RANK));
                for (g, (mine, theirs)) in groups.enumerate().filter(|(_, (mine, theirs))| mine != theirs) {
                    assert_eq!(selection, Selection::PivotedQr, "{what}: cluster {g}: {mine:?}, {theirs:?}");
                    println!("{what}: cluster {g}: pivots tie at {:?}", tie_of_pivots(&wide, mine, theirs));
                }
            }
        }
    }
}

#[test]
fn clusters_and_rows_are_those_of_the_cpu() {
    for_every_element!(agrees_with_the_cpu());
}

/// The whole of `init`: the same adapter, and a report that tells the same.
#[test]
fn adapters_are_those_of_the_cpu() {
    let weight = query::<idlora::f16>();
    for device in kernel_devices() {
        let config = Config { rank: RANK, ..Config::default() };
        let [(mine, report), (theirs, other)] =
            [&Device::Cpu, &device].map(|device| IdLora::init(device, QUERY, weight.as_ref(), &config).unwrap());
        assert_eq!(mine.skeleton(), theirs.skeleton(), "{device}");
        assert_eq!((&report.sizes, &report.rank_reached), (&other.sizes, &other.rank_reached), "{device}");
        assert_eq!((report.iterations, report.converged), (other.iterations, other.converged), "{device}");
        assert!((report.inertia / other.inertia - 1.0).abs() < 1e-9, "{device}");
        assert_eq!(report.relative_error, other.relative_error, "{device}: of the same rows");
    }
}
