//! Problems of the adapter: forward, decode, the explicit down-projection, backward, merging.

use super::{Device, Elem, MatRef, Problems, uniform};
use idlora::MatMut;
use idlora::lowrank::{self, Bias, DownProjection, Gate, Gradients, InputGradient, Layer, Output, Parameters, Plan};
use idlora::lowrank::{Saved, SavedMut};

const COMPONENTS: usize = 4;
const SPLIT: usize = 2;
const COLS: usize = 64;

pub fn add<T: Elem>(problems: &mut Problems) {
    problems.add("inner:128x512,r=32", |device| Case::<T>::new(128, 512, 32, Gate::Inner).forward(device));
    problems.add("softmax:128x512,r=64", |device| Case::<T>::new(128, 512, 64, Gate::LinearSoftmax).forward(device));
    problems.add("inner:8x2048,r=32", |device| Case::<T>::new(8, 2048, 32, Gate::Inner).forward(device));
    problems.add("down:16x512,r=32", |device| Case::<T>::new(16, 512, 32, Gate::Static).down(device));
    problems.add("down:512x512,r=128", |device| Case::<T>::new(512, 512, 128, Gate::Static).down(device));
    problems.add("down:1024x576,r=144", |device| Case::<T>::new(1024, 576, 144, Gate::Static).down(device));
    problems.add("inner:128x512,r=32,z", |device| Case::<T>::new(128, 512, 32, Gate::Inner).backward(device, true));
    problems.add("softmax:128x512,r=64,no-z", |device| {
        Case::<T>::new(128, 512, 64, Gate::LinearSoftmax).backward(device, false);
    });
    problems.add("merge:512x256,r=32", |device| merge::<T>(device, 512, 256, 32));
}

/// A call of the adapter with all of its operands.
struct Case<T> {
    desc: lowrank::Desc,
    tokens: usize,
    skeleton: Vec<u32>,
    b: Vec<f32>,
    gate: Vec<f32>,
    /// `[tokens, COLS]`.
    h: Vec<T>,
    /// `[rows, COLS]`.
    w: Vec<T>,
    /// Y0 or G, `[tokens, rows]`.
    y: Vec<T>,
}

/// Chosen rows, as far apart as they can be, and neighbours far apart, too.
pub fn skeleton(rows: usize, width: usize) -> Vec<u32> {
    (0..width).map(|i| (i * 37 % width * (rows / width)) as u32).collect()
}

impl<T: Elem> Case<T> {
    fn new(tokens: usize, rows: usize, rank: usize, gate: Gate) -> Self {
        let (down, bias) = (DownProjection::Gather, Bias::None);
        let desc = lowrank::Desc { rows, cols: COLS, rank, components: COMPONENTS, split: SPLIT, gate, down, bias };
        let (gate_rows, gate_cols) = gate.parameter_shape(rank, COMPONENTS, COLS);
        Self {
            desc,
            tokens,
            skeleton: skeleton(rows, COMPONENTS * rank),
            b: uniform(1, rows / SPLIT * rank / SPLIT),
            gate: uniform(2, gate_rows * gate_cols),
            h: uniform(3, tokens * COLS),
            w: uniform(4, rows * COLS),
            y: uniform(5, tokens * rows),
        }
    }

    fn parameters(&self) -> Parameters<'_> {
        let lowrank::Desc { rows, rank, gate, .. } = self.desc;
        let (gate_rows, gate_cols) = gate.parameter_shape(rank, COMPONENTS, COLS);
        Parameters {
            skeleton: &self.skeleton,
            b: MatRef::new(&self.b, rows / SPLIT, rank / SPLIT).unwrap(),
            gate: MatRef::new(&self.gate, gate_rows, gate_cols).unwrap(),
            scale: 0.5,
        }
    }

    fn layer(&self) -> Layer<'_, T> {
        let gemm = self.desc.down == DownProjection::Gemm;
        let h = || MatRef::new(&self.h, self.tokens, COLS).unwrap();
        let w = || MatRef::new(&self.w, self.desc.rows, COLS).unwrap();
        let reads = gemm || self.desc.gate.reads_input();
        Layer { h: reads.then(h), w: gemm.then(w), bias: None, dropout: None }
    }

    /// In place, and all is saved.
    fn forward(&self, device: &Device) {
        let (tokens, rows, rank) = (self.tokens, self.desc.rows, self.desc.rank);
        let mut y = self.y.clone();
        let (mut x, mut a) = (uniform::<T>(0, tokens * COMPONENTS * rank), vec![0.0; tokens * COMPONENTS]);
        let mut z = vec![0.0; tokens * rank];
        let saved = SavedMut {
            x: MatMut::new(&mut x, tokens, COMPONENTS * rank).unwrap(),
            gate: MatMut::new(&mut a, tokens, COMPONENTS).unwrap(),
            z: Some(MatMut::new(&mut z, tokens, rank).unwrap()),
        };
        let output = Output::InPlace(MatMut::new(&mut y, tokens, rows).unwrap());
        Plan::new(device, self.desc).unwrap().forward(&self.parameters(), &self.layer(), output, Some(saved)).unwrap();
    }

    /// The forward that projects down by itself.
    fn down(mut self, device: &Device) {
        self.desc.down = DownProjection::Gemm;
        self.forward(device);
    }

    /// Every gradient; z is saved or has to be made anew.
    fn backward(&self, device: &Device, has_z: bool) {
        let lowrank::Desc { rows, rank, gate, .. } = self.desc;
        let (tokens, width) = (self.tokens, COMPONENTS * rank);
        let (gate_rows, gate_cols) = gate.parameter_shape(rank, COMPONENTS, COLS);
        let (x, a, z) = (uniform::<T>(6, tokens * width), uniform(7, tokens * COMPONENTS), uniform(8, tokens * rank));
        let (mut dx, mut share) = (vec![T::from_f32(0.0); tokens * width], vec![T::from_f32(0.0); tokens * COLS]);
        let (mut b, mut of_gate) = (vec![0.0; self.b.len()], vec![0.0; self.gate.len()]);
        let saved = Saved {
            x: MatRef::new(&x, tokens, width).unwrap(),
            gate: MatRef::new(&a, tokens, COMPONENTS).unwrap(),
            z: has_z.then(|| MatRef::new(&z, tokens, rank).unwrap()),
        };
        let input = InputGradient::Separate {
            g: MatRef::new(&self.y, tokens, rows).unwrap(),
            dx: MatMut::new(&mut dx, tokens, width).unwrap(),
        };
        let gradients = Gradients {
            b: MatMut::new(&mut b, rows / SPLIT, rank / SPLIT).unwrap(),
            gate: MatMut::new(&mut of_gate, gate_rows, gate_cols).unwrap(),
            h_gate: gate.reads_input().then(|| MatMut::new(&mut share, tokens, COLS).unwrap()),
            accumulate: false,
        };
        let plan = Plan::new(device, self.desc).unwrap();
        plan.backward(&self.parameters(), &self.layer(), saved, input, gradients).unwrap();
    }
}

/// Merging and undoing it.
fn merge<T: Elem>(device: &Device, rows: usize, cols: usize, rank: usize) {
    let case = Case::<T>::new(0, rows, rank, Gate::Static);
    let desc = lowrank::Desc { cols, ..case.desc };
    let parameters = Parameters { scale: 0.01, ..case.parameters() };
    let mut w = uniform::<T>(9, rows * cols);
    lowrank::merge(device, &desc, &parameters, MatMut::new(&mut w, rows, cols).unwrap()).unwrap();
    lowrank::unmerge(device, &desc, &parameters, MatMut::new(&mut w, rows, cols).unwrap()).unwrap();
}
