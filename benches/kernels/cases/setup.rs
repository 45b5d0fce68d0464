//! What sets an adapter up: norms, clustering, pivoted QR, interpolation, selection.

use super::{Case, Least, Run, Shape, random};
use idlora::cluster::{self, Axis, Clustering, Info, Options, Space};
use idlora::qr::{Factor, Groups, Stop, Tier};
use idlora::select::{self, Selection};
use idlora::{Device, Elem, Mat, MatRef, interp, norms, qr};
use std::cell::OnceCell;
use std::rc::Rc;

const OVERSAMPLING: usize = 8;

/// A weight that all of these read, and what some of them start from.
struct Weight<T> {
    shape: Shape,
    data: OnceCell<Vec<T>>,
    start: OnceCell<Vec<f32>>,
    factors: OnceCell<Vec<Factor>>,
}

impl<T: Elem> Weight<T> {
    fn view(&self) -> MatRef<'_, T> {
        let Shape { rows, cols, .. } = self.shape;
        let data = self.data.get_or_init(|| random(1, rows * cols, 1.0));
        MatRef::new(data, rows, cols).expect("rows·cols elements")
    }

    /// The first rows.
    fn start(&self) -> MatRef<'_, f32> {
        let Shape { cols, components, .. } = self.shape;
        let first = || self.view().data()[..components * cols].iter().map(|x| x.to_f32()).collect();
        MatRef::new(self.start.get_or_init(first), components, cols).expect("as many elements")
    }

    fn labels(&self) -> Vec<u32> {
        (0..self.shape.rows).map(|row| (row % self.shape.components) as u32).collect()
    }

    fn groups(&self) -> Groups {
        Groups::from_labels(&self.labels(), self.shape.components).expect("labels below the number of groups")
    }

    fn factors(&self) -> &[Factor] {
        let desc = qr::Desc { cols: self.shape.cols, rank: self.shape.rank, tier: Tier::Gram, seed: 0 };
        let factor = || qr::Plan::new(&Device::Cpu, desc)?.run(self.view(), &self.groups(), &Stop::default());
        self.factors.get_or_init(|| factor().expect("random weights have a factorisation"))
    }
}

pub fn cases<T: Elem>(shape: &Shape) -> Vec<Case> {
    let (data, start, factors) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
    let weight = Rc::new(Weight::<T> { shape: shape.clone(), data, start, factors });
    let mut all: Vec<Case> = [Axis::Rows, Axis::Cols].map(|axis| norms(&weight, axis)).into();
    all.extend([lloyd(&weight), seeding(&weight)]);
    let sketch = Tier::Sketch { oversampling: OVERSAMPLING };
    all.extend([Tier::Gram, Tier::Exact, sketch].map(|tier| factorisation(&weight, tier)));
    all.extend([interpolation(&weight), selection(&weight)]);
    all
}

fn case(operation: &'static str, shape: &Shape, more: &str, least: Least, run: Run) -> Case {
    let size = format!("m={} n={}{more}", shape.rows, shape.cols);
    Case { operation, size, least, layer: None, any_element: true, run }
}

/// Bytes of the weight, and its number of elements.
fn whole<T>(shape: &Shape) -> (f64, f64) {
    let elements = (shape.rows * shape.cols) as f64;
    (elements * size_of::<T>() as f64, elements)
}

/// W once, a norm each; a square and an addition an element.
fn norms<T: Elem>(weight: &Rc<Weight<T>>, axis: Axis) -> Case {
    let weight = weight.clone();
    let shape = weight.shape.clone();
    let Shape { rows, cols, .. } = shape;
    let (operation, count) = match axis {
        Axis::Rows => ("norms rows", rows),
        Axis::Cols => ("norms cols", cols),
    };
    let (bytes, elements) = whole::<T>(&shape);
    let least = Least { bytes: bytes + 4.0 * count as f64, operations: 2.0 * elements };
    let mut out = vec![0.0; count];
    let run = move |device: &Device| {
        norms::Plan::new(device, norms::Desc { rows, cols, axis })?.run(weight.view(), &mut out)?;
        Ok(least)
    };
    case(operation, &shape, "", least, Box::new(run))
}

fn problem(shape: &Shape) -> cluster::Desc {
    let &Shape { rows, cols, components, .. } = shape;
    cluster::Desc { rows, cols, axis: Axis::Rows, space: Space::Full, clusters: components, min_size: 1 }
}

/// A Lloyd step: W once, k dots and one sum for each of its elements.
fn step<T>(shape: &Shape) -> Least {
    let (bytes, elements) = whole::<T>(shape);
    Least { bytes, operations: (2.0 * shape.components as f64 + 1.0) * elements }
}

fn lloyd<T: Elem>(weight: &Rc<Weight<T>>) -> Case {
    let weight = weight.clone();
    let shape = weight.shape.clone();
    let (steps, desc) = (shape.steps, problem(&shape));
    let times =
        |steps: usize, one: Least| Least { bytes: steps as f64 * one.bytes, operations: steps as f64 * one.operations };
    let one = step::<T>(&shape);
    let run = move |device: &Device| {
        let options = Options { max_iterations: steps, tolerance: 0.0, seed: 0, start: Some(weight.start()) };
        let found = cluster::Plan::new(device, desc)?.run(weight.view(), &options)?;
        Ok(times(found.info.iterations, one))
    };
    let more = format!(" k={} steps={steps}", shape.components);
    case("cluster lloyd", &shape, &more, times(steps, one), Box::new(run))
}

/// A pass for each centre, with a difference, a square and an addition an element, then one step.
fn seeding<T: Elem>(weight: &Rc<Weight<T>>) -> Case {
    let weight = weight.clone();
    let shape = weight.shape.clone();
    let (desc, one) = (problem(&shape), step::<T>(&shape));
    let (passes, (bytes, elements)) = (shape.components as f64, whole::<T>(&shape));
    let least = Least { bytes: passes * bytes + one.bytes, operations: 3.0 * passes * elements + one.operations };
    let run = move |device: &Device| {
        let options = Options { max_iterations: 1, tolerance: 0.0, seed: 0, start: None };
        cluster::Plan::new(device, desc)?.run(weight.view(), &options)?;
        Ok(least)
    };
    let more = format!(" k={}", shape.components);
    case("cluster seeding", &shape, &more, least, Box::new(run))
}

/// The rows once (the sketch's once more, for R), and R written, r doubles a row. Operations, with c rows in each of k groups:
/// the Gram's lower triangles take c(c+1)n and r steps of its factorisation c r²; the exact tier and R of the sketch 2 n r a
/// row, the sketch itself 2 n (r + oversampling).
fn factorisation<T: Elem>(weight: &Rc<Weight<T>>, tier: Tier) -> Case {
    let weight = weight.clone();
    let shape = weight.shape.clone();
    let (rank, (bytes, elements)) = (shape.rank, whole::<T>(&shape));
    let (rows, r) = (shape.rows as f64, rank as f64);
    let group = rows / shape.components as f64;
    let (operation, passes, operations) = match tier {
        Tier::Gram => ("qr gram", 1.0, (group + 1.0) * elements + rows * r * r),
        Tier::Exact => ("qr exact", 1.0, 2.0 * r * elements),
        Tier::Sketch { oversampling } => ("qr sketch", 2.0, 2.0 * (2.0 * r + oversampling as f64) * elements),
    };
    let least = Least { bytes: passes * bytes + 8.0 * rows * r, operations };
    let desc = qr::Desc { cols: shape.cols, rank, tier, seed: 0 };
    let run = move |device: &Device| {
        qr::Plan::new(device, desc)?.run(weight.view(), &weight.groups(), &Stop::default())?;
        Ok(least)
    };
    case(operation, &shape, &format!(" k={} r={rank}", shape.components), least, Box::new(run))
}

/// R in, T out, r doubles a row each; r² operations for a triangular solve.
fn interpolation<T: Elem>(weight: &Rc<Weight<T>>) -> Case {
    let weight = weight.clone();
    let shape = weight.shape.clone();
    let (entries, r) = ((shape.rows * shape.rank) as f64, shape.rank as f64);
    let least = Least { bytes: 16.0 * entries, operations: r * entries };
    let run = move |device: &Device| {
        interp::coeffs_many(device, weight.factors())?;
        Ok(least)
    };
    case("interp", &shape, &format!(" k={} r={}", shape.components, shape.rank), least, Box::new(run))
}

/// W once; a difference, a square and an addition an element.
fn selection<T: Elem>(weight: &Rc<Weight<T>>) -> Case {
    let weight = weight.clone();
    let shape = weight.shape.clone();
    let (bytes, elements) = whole::<T>(&shape);
    let least = Least { bytes, operations: 3.0 * elements };
    let (cols, clusters, rank) = (shape.cols, shape.components, shape.rank);
    let run = move |device: &Device| {
        let labels = weight.labels();
        let sizes = (0..clusters).map(|g| labels.iter().filter(|&&label| label as usize == g).count()).collect();
        let centroids = Mat::from_vec(weight.start().data().to_vec(), clusters, cols)?;
        let clustering = Clustering { labels, centroids, sizes, info: Info::default() };
        let desc = select::Desc { selection: Selection::Centroid, rank, ..select::Desc::default() };
        select::Plan::new(device, desc)?.run(weight.view(), &clustering)?;
        Ok(least)
    };
    case("select centroid", &shape, &format!(" k={clusters} r={rank}"), least, Box::new(run))
}
