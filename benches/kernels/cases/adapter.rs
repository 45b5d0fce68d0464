//! The adapter's own operations on a layer's output, and merging.

use super::{Case, Least, Shape, random, skeleton};
use idlora::lowrank::{
    self, Bias, Desc, DownProjection, Gate, Gradients, InputGradient, Layer, Output, Parameters, Plan, Saved, SavedMut,
};
use idlora::{Device, Elem, Error, Mat};

/// κ.
pub const SCALE: f32 = 2.0;

/// So small that B repeated in place on the same buffers leaves them of unit size.
const B_SIZE: f32 = 1e-7;

/// What an adapter holds.
pub struct Held {
    skeleton: Vec<u32>,
    b: Mat<f32>,
    gate: Mat<f32>,
}

impl Held {
    pub fn new(shape: &Shape, gate: Gate) -> Self {
        let &Shape { rows, cols, components, rank, split, .. } = shape;
        let (gate_rows, gate_cols) = gate.parameter_shape(rank, components, cols);
        let matrix = |seed, rows, cols, size| Mat::from_vec(random(seed, rows * cols, size), rows, cols);
        Self {
            skeleton: skeleton(shape),
            b: matrix(4, rows / split, rank / split, B_SIZE).expect("as many elements"),
            gate: matrix(5, gate_rows, gate_cols, 0.1).expect("as many elements"),
        }
    }

    pub fn parameters(&self, scale: f32) -> Parameters<'_> {
        Parameters { skeleton: &self.skeleton, b: self.b.as_ref(), gate: self.gate.as_ref(), scale }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Forward,
    Softmax,
    Down,
    Decode,
    Backward,
}

pub fn cases<T: Elem>(shape: &Shape) -> Vec<Case> {
    let kinds = [Kind::Forward, Kind::Softmax, Kind::Down, Kind::Decode, Kind::Backward];
    kinds.map(|kind| case::<T>(shape, kind)).into_iter().chain([merge::<T>(shape)]).collect()
}

fn case<T: Elem>(shape: &Shape, kind: Kind) -> Case {
    let tokens = if kind == Kind::Decode { 1 } else { shape.tokens };
    let shape = Shape { tokens, ..shape.clone() };
    let (operation, gate) = match kind {
        Kind::Forward => ("lowrank forward", Gate::Inner),
        Kind::Softmax => ("lowrank forward softmax", Gate::LinearSoftmax),
        Kind::Down => ("lowrank down", Gate::Inner),
        Kind::Decode => ("lowrank decode", Gate::Inner),
        Kind::Backward => ("lowrank backward", Gate::Inner),
    };
    let Shape { rows, cols, components, rank, split, .. } = shape;
    let name = if gate == Gate::Inner { "inner" } else { "linear-softmax" };
    let size = format!("t={tokens} m={rows} n={cols} k={components} r={rank} s={split} gate={name}");
    let least = least::<T>(&shape, kind);
    let mut branch: Option<Branch<T>> = None;
    let run = move |device: &Device| {
        let branch = branch.get_or_insert_with(|| Branch::new(&shape, gate, kind));
        match kind {
            Kind::Backward => branch.backward(device)?,
            _ => branch.forward(device)?,
        }
        Ok(least)
    };
    Case { operation, size, least, layer: None, any_element: true, run: Box::new(run) }
}

/// Forward: Y0 and B read, Y, X, a and z written (while decoding, Y alone); 2 t m r/s operations of the update, a scaling and an
/// addition each of t k r of the premix and of the gate. A linear gate reads H and W_g for t k n products, an explicit X reads
/// H and W[S] for t k r n.
///
/// Backward: G, B, X, a and z read, dX written, gradients written; dz and dB are 2 t m r/s operations each; da, dT and dX two, two
/// and three an element of X.
fn least<T>(shape: &Shape, kind: Kind) -> Least {
    let e = size_of::<T>() as f64;
    let [t, m, n, k, r, s] =
        [shape.tokens, shape.rows, shape.cols, shape.components, shape.rank, shape.split].map(|size| size as f64);
    let (x, b) = (t * k * r, m / s * r / s);
    let update = 2.0 * t * m * r / s;
    let saved = e * x + 4.0 * t * (k + r);
    let mixed = Least { bytes: 2.0 * e * t * m + 4.0 * (b + r), operations: update + 4.0 * x };
    match kind {
        Kind::Forward => Least { bytes: mixed.bytes + saved, ..mixed },
        Kind::Decode => mixed,
        Kind::Softmax => Least {
            bytes: 2.0 * e * t * m + 4.0 * b + saved + e * t * n + 4.0 * k * n,
            operations: update + 2.0 * x + 2.0 * t * k * n,
        },
        Kind::Down => {
            Least { bytes: mixed.bytes + saved + e * (t * n + k * r * n), operations: mixed.operations + 2.0 * x * n }
        }
        Kind::Backward => {
            Least { bytes: e * t * m + saved + e * x + 2.0 * 4.0 * (b + r), operations: 2.0 * update + 7.0 * x }
        }
    }
}

/// A module with its operands. The forward is in place; the backward leaves G as it is and writes dX apart.
struct Branch<T> {
    desc: Desc,
    held: Held,
    h: Option<Mat<T>>,
    w: Option<Mat<T>>,
    /// Y, and G.
    y: Mat<T>,
    x: Mat<T>,
    dx: Mat<T>,
    a: Mat<f32>,
    z: Mat<f32>,
    db: Mat<f32>,
    dgate: Mat<f32>,
    saves: bool,
}

impl<T: Elem> Branch<T> {
    fn new(shape: &Shape, gate: Gate, kind: Kind) -> Self {
        let &Shape { rows, cols, components, rank, split, tokens, .. } = shape;
        let down = if kind == Kind::Down { DownProjection::Gemm } else { DownProjection::Gather };
        let held = Held::new(shape, gate);
        let matrix = |seed, rows, cols| Mat::from_vec(random(seed, rows * cols, 1.0), rows, cols);
        let made = |seed, rows, cols| matrix(seed, rows, cols).expect("as many elements");
        let reads_h = kind == Kind::Down || gate.reads_input();
        Self {
            desc: Desc { rows, cols, rank, components, split, gate, down, bias: Bias::None },
            h: reads_h.then(|| made(2, tokens, cols)),
            w: (kind == Kind::Down).then(|| made(3, rows, cols)),
            y: made(6, tokens, rows),
            x: made(7, tokens, components * rank),
            dx: made(8, tokens, components * rank),
            a: Mat::from_vec(random(9, tokens * components, 1.0), tokens, components).expect("as many elements"),
            z: Mat::from_vec(random(10, tokens * rank, 1.0), tokens, rank).expect("as many elements"),
            db: held.b.clone(),
            dgate: held.gate.clone(),
            held,
            saves: kind != Kind::Decode,
        }
    }

    fn forward(&mut self, device: &Device) -> Result<(), Error> {
        let Self { desc, held, h, w, y, x, a, z, .. } = self;
        let layer = Layer { h: h.as_ref().map(Mat::as_ref), w: w.as_ref().map(Mat::as_ref), bias: None, dropout: None };
        let saved = self.saves.then(|| SavedMut { x: x.as_mut(), gate: a.as_mut(), z: Some(z.as_mut()) });
        Plan::new(device, *desc)?.forward(&held.parameters(SCALE), &layer, Output::InPlace(y.as_mut()), saved)
    }

    fn backward(&mut self, device: &Device) -> Result<(), Error> {
        let Self { desc, held, y, x, dx, a, z, db, dgate, .. } = self;
        let layer = Layer { h: None, w: None, bias: None, dropout: None };
        let saved = Saved { x: x.as_ref(), gate: a.as_ref(), z: Some(z.as_ref()) };
        let input = InputGradient::Separate { g: y.as_ref(), dx: dx.as_mut() };
        let gradients = Gradients { b: db.as_mut(), gate: dgate.as_mut(), h_gate: None, accumulate: false };
        Plan::new(device, *desc)?.backward(&held.parameters(SCALE), &layer, saved, input, gradients)
    }
}

/// W read and written once, B once; 2 m n r/s operations of the update, 2 k r n of the chosen rows' sums.
fn merge<T: Elem>(shape: &Shape) -> Case {
    let shape = shape.clone();
    let Shape { rows, cols, components, rank, split, .. } = shape;
    let [m, n, k, r, s] = [rows, cols, components, rank, split].map(|size| size as f64);
    let least = Least {
        bytes: 2.0 * size_of::<T>() as f64 * m * n + 4.0 * m / s * r / s,
        operations: 2.0 * m * n * r / s + 2.0 * k * r * n,
    };
    let (gate, down, bias) = (Gate::Static, DownProjection::Gather, Bias::None);
    let desc = Desc { rows, cols, rank, components, split, gate, down, bias };
    let mut operands: Option<(Held, Mat<T>)> = None;
    let size = format!("m={rows} n={cols} k={components} r={rank} s={split}");
    let run = move |device: &Device| {
        let (held, w) = operands.get_or_insert_with(|| {
            let w = Mat::from_vec(random(3, rows * cols, 1.0), rows, cols).expect("as many elements");
            (Held::new(&shape, gate), w)
        });
        lowrank::merge(device, &desc, &held.parameters(SCALE), w.as_mut())?;
        Ok(least)
    };
    Case { operation: "lowrank merge", size, least, layer: None, any_element: true, run: Box::new(run) }
}
