//! Forward and backward against the method's formulas, number by number and exactly.
//!
//! Everything is a small integer (W, H, b, G, B, the gate, κ = 2), and the inner, linear and static gates only multiply and add,
//! so every intermediate result is an integer below 2^24 that f32 holds exactly, in any order of summation. Equality is the
//! bound: a lost κ, a half of B in the wrong place, a bias subtracted twice all show.

use crate::common::matrices::Draw;
use crate::common::{Padded, devices};
use idlora::adapter::{BInit, Config, IdLora, Layer};
use idlora::lowrank::{Bias, DownProjection, Gate, InputGradient, Output, Saved, SavedMut};
use idlora::{Device, Mat};

const TOKENS: usize = 7;
const ROWS: usize = 24;
const COLS: usize = 6;
const KAPPA: f64 = 2.0;

fn integers(seed: u64, rows: usize, cols: usize) -> Mat<f64> {
    let draw = &mut Draw::new(seed);
    Mat::from_vec((0..rows * cols).map(|_| draw.below(5) as f64 - 2.0).collect(), rows, cols).unwrap()
}

/// Operands as the formulas read them.
struct Case {
    adapter: IdLora,
    w: Mat<f64>,
    h: Mat<f64>,
    bias: Vec<f64>,
    g: Mat<f64>,
}

/// What the formulas say.
struct Expected {
    /// `[t, m]`, with the bias.
    y: Mat<f64>,
    grad_b: Mat<f64>,
    grad_gate: Mat<f64>,
    /// `G` with dX scattered into it.
    grad_y0: Mat<f64>,
}

impl Case {
    fn new(device: &Device, gate: Gate, split: usize, with_bias: bool) -> Self {
        let w = integers(1, ROWS, COLS);
        let config = Config { rank: 4, alpha: 8.0, clusters: 3, split, gate, b_init: BInit::Zero, ..Config::default() };
        let mut adapter = IdLora::init(device, "m", Padded::<f32>::new(&w, 0).view(), &config).unwrap().0;
        assert_eq!(f64::from(adapter.scale()), KAPPA);
        for (seed, mut parameter) in (2..).zip(adapter.parameters_mut()) {
            let values = integers(seed, parameter.shape().0, parameter.shape().1);
            for i in 0..values.rows() {
                let to = parameter.value.row_mut(i).iter_mut();
                to.zip(values.row(i)).for_each(|(x, &value)| *x = value as f32);
            }
        }
        let bias = if with_bias { integers(6, 1, ROWS).into_vec() } else { vec![0.0; ROWS] };
        Self { adapter, w, h: integers(4, TOKENS, COLS), bias, g: integers(5, TOKENS, ROWS) }
    }

    /// `(W h)` of one token.
    fn product(&self, token: usize) -> Vec<f64> {
        (0..ROWS).map(|i| dot(self.w.row(i), self.h.row(token))).collect()
    }

    fn expected(&self) -> Expected {
        let Config { rank, clusters, split, gate, .. } = *self.adapter.config();
        let (b, parameters) = (wide(self.adapter.b().data()), wide(self.adapter.gate().data()));
        let (rows_of_b, width) = (ROWS / split, rank / split);
        let gate_cols = self.adapter.gate().cols();
        let mut y = Mat::zeros(TOKENS, ROWS).unwrap();
        let mut grad_b = Mat::zeros(rows_of_b, width).unwrap();
        let mut grad_gate = Mat::zeros(self.adapter.gate().rows(), gate_cols).unwrap();
        let mut grad_y0 = self.g.clone();
        for t in 0..TOKENS {
            let (product, g, h) = (self.product(t), self.g.row(t), self.h.row(t));
            let chosen = |i: usize| &self.adapter.skeleton()[i * rank..][..rank];
            let x: Vec<Vec<f64>> =
                (0..clusters).map(|i| chosen(i).iter().map(|&row| product[row as usize]).collect()).collect();
            let a: Vec<f64> = (0..clusters)
                .map(|i| match gate {
                    Gate::Inner => dot(&parameters, &x[i]),
                    Gate::Linear => dot(&parameters[i * gate_cols..][..gate_cols], h),
                    _ => parameters[i],
                })
                .collect();
            let z: Vec<f64> = (0..rank).map(|j| (0..clusters).map(|i| a[i] * x[i][j]).sum()).collect();
            let mut dz = vec![0.0; rank];
            for m in 0..ROWS {
                // Output m belongs to part q of the split, and to row p of B.
                let (q, p) = (m / rows_of_b, m % rows_of_b);
                for j in 0..width {
                    let weight = KAPPA * b[p * width + j];
                    y.row_mut(t)[m] += weight * z[q * width + j];
                    grad_b.row_mut(p)[j] += KAPPA * g[m] * z[q * width + j];
                    dz[q * width + j] += weight * g[m];
                }
                y.row_mut(t)[m] += product[m] + self.bias[m];
            }
            for i in 0..clusters {
                let da = dot(&dz, &x[i]);
                for j in 0..rank {
                    let through_gate = if gate == Gate::Inner { da * parameters[j] } else { 0.0 };
                    grad_y0.row_mut(t)[chosen(i)[j] as usize] += a[i] * dz[j] + through_gate;
                }
                match gate {
                    Gate::Inner => add(grad_gate.row_mut(0), da, &x[i]),
                    Gate::Linear => add(grad_gate.row_mut(i), da, h),
                    _ => grad_gate.row_mut(0)[i] += da,
                }
            }
        }
        Expected { y, grad_b, grad_gate, grad_y0 }
    }

    fn check(&mut self, device: &Device, down: DownProjection, bias: Bias) {
        let expected = self.expected();
        let context = format!("{:?}, {down:?}, {bias:?}", self.adapter.config().gate);
        let Config { rank, clusters, .. } = *self.adapter.config();
        let gemm = down == DownProjection::Gemm;
        // An explicit down-projection is there for base outputs that are not W h: here, off by an integer.
        let offset = if gemm { integers(7, TOKENS, ROWS) } else { Mat::zeros(TOKENS, ROWS).unwrap() };
        let mut y0 = offset.clone();
        for t in 0..TOKENS {
            add(y0.row_mut(t), 1.0, &self.product(t));
            add(y0.row_mut(t), if bias == Bias::Included { 1.0 } else { 0.0 }, &self.bias);
        }
        let mut y = Padded::<f32>::new(&y0, 2);
        let (h, w) = (Padded::<f32>::new(&self.h, 1), Padded::<f32>::new(&self.w, 1));
        let narrow: Vec<f32> = self.bias.iter().map(|&x| x as f32).collect();
        let reads_input = self.adapter.config().gate.reads_input();
        let layer = Layer {
            h: (gemm || reads_input).then(|| h.view()),
            w: gemm.then(|| w.view()),
            bias: (bias != Bias::None).then_some(&narrow[..]),
            dropout: None,
        };
        let mut x = Padded::<f32>::poisoned(TOKENS, clusters * rank, 3);
        let mut gate = Padded::<f32>::poisoned(TOKENS, clusters, 3);
        let saved = SavedMut { x: x.view_mut(), gate: gate.view_mut(), z: None };
        self.adapter.forward(device, down, bias, &layer, Output::InPlace(y.view_mut()), Some(saved)).unwrap();
        let mut adapted = expected.y.clone();
        add(adapted.data_mut(), 1.0, offset.data());
        assert_eq!(y.to_f64(), adapted, "{context}: y");

        let mut g = Padded::<f32>::new(&self.g, 2);
        let mut h_gate = Padded::<f32>::poisoned(TOKENS, COLS, 1);
        let saved = Saved { x: x.view(), gate: gate.view(), z: None };
        // With an explicit down-projection, dX goes to W[S] by a product of the trainer's own: it is written out.
        let mut dx = Padded::<f32>::poisoned(TOKENS, clusters * rank, 1);
        let input = match down {
            DownProjection::Gather => InputGradient::Scatter(g.view_mut()),
            DownProjection::Gemm => InputGradient::Separate { g: g.view(), dx: dx.view_mut() },
        };
        let h_gate = reads_input.then(|| h_gate.view_mut());
        self.adapter.zero_grad();
        self.adapter.backward(device, down, bias, &layer, saved, input, h_gate).unwrap();
        let gradients = self.adapter.parameters().map(|p| wide(p.gradient.data()));
        assert_eq!(gradients[0], expected.grad_b.data(), "{context}: dB");
        assert_eq!(gradients[1], expected.grad_gate.data(), "{context}: gate");
        let mut grad_y0 = self.g.clone();
        match down {
            DownProjection::Gather => grad_y0 = g.to_f64(),
            DownProjection::Gemm => {
                for t in 0..TOKENS {
                    let scattered = self.adapter.skeleton().iter().zip(dx.to_f64().row(t).to_vec());
                    scattered.for_each(|(&row, dx)| grad_y0.row_mut(t)[row as usize] += dx);
                }
            }
        }
        assert_eq!(grad_y0, expected.grad_y0, "{context}: dY0");
        for values in [&expected.y, &expected.grad_b, &expected.grad_gate, &expected.grad_y0] {
            assert!(values.data().iter().all(|x| x.abs() < 16_777_216.0), "{context}: the integers stay exact");
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn add(to: &mut [f64], factor: f64, from: &[f64]) {
    to.iter_mut().zip(from).for_each(|(x, y)| *x += factor * y);
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

#[test]
fn forward_and_backward_are_the_formulas_exactly_on_integers() {
    for device in devices() {
        for gate in [Gate::Inner, Gate::Linear, Gate::Static] {
            for split in [1, 2, 4] {
                for down in [DownProjection::Gather, DownProjection::Gemm] {
                    for bias in [Bias::None, Bias::Included, Bias::Separate] {
                        Case::new(&device, gate, split, bias != Bias::None).check(&device, down, bias);
                    }
                }
            }
        }
    }
}
