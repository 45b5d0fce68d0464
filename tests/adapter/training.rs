//! A trainer's life with an adapter: start at the base model, go downhill along the gradients, add up micro-batches, save,
//! load, go on.

use crate::common::matrices::Draw;
use crate::common::{Padded, devices};
use crate::{GATES, bits, on_threads, random};
use idlora::adapter::{BInit, Config, IdLora, Layer, Scaling};
use idlora::format::native;
use idlora::lowrank::{Bias, DownProjection, Gate, InputGradient, Output, Saved, SavedMut};
use idlora::{Device, Elem, Mat, MatMut, bf16, f16};

/// Inputs of the layer and the base output, as the base layer would have rounded it.
struct Batch<T> {
    h: Padded<T>,
    y0: Padded<T>,
}

/// What a forward leaves.
struct Forward<T> {
    y: Padded<T>,
    x: Padded<T>,
    gate: Padded<f32>,
}

impl<T: Elem> Batch<T> {
    fn new(w: &Padded<T>, tokens: usize, seed: u64) -> Self {
        let h = random::<T>(seed, tokens, w.view().cols(), 2);
        let y0 = Padded::new(&times_transposed(&h.to_f64(), &w.to_f64()), 3);
        Self { h, y0 }
    }

    fn layer(&self, adapter: &IdLora) -> Layer<'_, T> {
        let h = adapter.config().gate.reads_input().then(|| self.h.view());
        Layer { h, w: None, bias: None, dropout: None }
    }

    fn forward(&self, device: &Device, adapter: &IdLora) -> Forward<T> {
        let Config { rank, clusters, .. } = *adapter.config();
        let (tokens, rows) = self.y0.view().shape();
        let mut y = Padded::poisoned(tokens, rows, 1);
        let mut x = Padded::poisoned(tokens, rank * clusters, 1);
        let mut gate = Padded::poisoned(tokens, clusters, 1);
        let output = Output::OutOfPlace { y0: self.y0.view(), y: y.view_mut() };
        let saved = SavedMut { x: x.view_mut(), gate: gate.view_mut(), z: None };
        adapter.forward(device, DownProjection::Gather, Bias::None, &self.layer(adapter), output, Some(saved)).unwrap();
        Forward { y, x, gate }
    }

    /// Adds the gradients for `∂L/∂Y = g` to the adapter's.
    fn backward(&self, device: &Device, adapter: &mut IdLora, forward: &Forward<T>, g: &Padded<T>) {
        let mut g = g.clone();
        let mut h_gate = Padded::<T>::poisoned(self.h.view().rows(), adapter.cols(), 1);
        let h_gate: Option<MatMut<'_, T>> = adapter.config().gate.reads_input().then(|| h_gate.view_mut());
        let saved = Saved { x: forward.x.view(), gate: forward.gate.view(), z: None };
        let layer = self.layer(adapter);
        let input = InputGradient::Scatter(g.view_mut());
        adapter.backward(device, DownProjection::Gather, Bias::None, &layer, saved, input, h_gate).unwrap();
    }

    fn tokens(&self, range: std::ops::Range<usize>) -> Self {
        Self { h: part(&self.h, range.clone()), y0: part(&self.y0, range) }
    }
}

fn part<T: Elem>(whole: &Padded<T>, range: std::ops::Range<usize>) -> Padded<T> {
    let values = whole.to_f64();
    let rows = values.data()[range.start * values.cols()..range.end * values.cols()].to_vec();
    Padded::new(&Mat::from_vec(rows, range.len(), values.cols()).unwrap(), 1)
}

fn times_transposed(a: &Mat<f64>, b: &Mat<f64>) -> Mat<f64> {
    let entry = |i: usize, j: usize| a.row(i).iter().zip(b.row(j)).map(|(x, y)| x * y).sum();
    let data = (0..a.rows()).flat_map(|i| (0..b.rows()).map(move |j| entry(i, j))).collect();
    Mat::from_vec(data, a.rows(), b.rows()).unwrap()
}

fn config(gate: Gate, b_init: BInit) -> Config {
    Config { rank: 4, alpha: 4.0, clusters: 3, gate, b_init, ..Config::default() }
}

fn initialised<T: Elem>(device: &Device, w: &Padded<T>, config: &Config) -> IdLora {
    IdLora::init(device, "model.0.query", w.view(), config).unwrap().0
}

fn all_bits<T: Elem>(values: &Padded<T>) -> Vec<u32> {
    values.view().iter_rows().flatten().map(|x| x.to_f32().to_bits()).collect()
}

fn all_gradients(adapter: &IdLora) -> Vec<f32> {
    adapter.parameters().iter().flat_map(|p| p.gradient.iter_rows().flatten().copied().collect::<Vec<_>>()).collect()
}

/// Scatters `values`, in the order of [`all_gradients`], over the trained tensors.
fn set_parameters(adapter: &mut IdLora, values: &[f64]) {
    let mut values = values.iter();
    for mut parameter in adapter.parameters_mut() {
        for i in 0..parameter.shape().0 {
            parameter.value.row_mut(i).iter_mut().zip(&mut values).for_each(|(x, &value)| *x = value as f32);
        }
    }
}

fn all_parameters(adapter: &IdLora) -> Vec<f64> {
    adapter
        .parameters()
        .iter()
        .flat_map(|p| p.value.iter_rows().flatten().map(|&x| f64::from(x)).collect::<Vec<_>>())
        .collect()
}

// ------------------------------------------------------------------------------------------------ the base model first

/// B = 0: the output is Y0 to the bit, in place or not, with or without a bias inside Y0; X is its chosen columns.
fn untrained<T: Elem>() {
    for device in devices() {
        let w = random::<T>(31, 26, 9, 2);
        let batch = Batch::new(&w, 7, 32);
        let bias: Vec<T> = (0..26).map(|i| T::from_f32(i as f32 * 0.25 - 3.0)).collect();
        for gate in GATES {
            let adapter = initialised(&device, &w, &config(gate, BInit::Zero));
            let forward = batch.forward(&device, &adapter);
            assert_eq!(all_bits(&forward.y), all_bits(&batch.y0), "{gate:?}");
            for (x, y0) in forward.x.view().iter_rows().zip(batch.y0.view().iter_rows()) {
                let chosen: Vec<T> = adapter.skeleton().iter().map(|&row| y0[row as usize]).collect();
                assert_eq!(x, chosen, "{gate:?}");
            }
            forward.y.assert_guards();
            let mut y = batch.y0.clone();
            let layer = Layer { bias: Some(&bias), ..batch.layer(&adapter) };
            let output = Output::InPlace(y.view_mut());
            adapter.forward(&device, DownProjection::Gather, Bias::Included, &layer, output, None).unwrap();
            assert_eq!(all_bits(&y), all_bits(&batch.y0), "{gate:?}, bias included");
        }
    }
}

#[test]
fn untrained_adapters_leave_the_base_output_to_the_bit() {
    untrained::<f32>();
    untrained::<f16>();
    untrained::<bf16>();
}

// -------------------------------------------------------------------------------------------------------- going downhill

/// A regression: half the squared distance to a teacher that differs from the student in B and in its gate.
struct Regression {
    batch: Batch<f32>,
    target: Padded<f32>,
}

impl Regression {
    fn new(device: &Device, w: &Padded<f32>, teacher: &IdLora) -> Self {
        let batch = Batch::new(w, 16, 42);
        let target = batch.forward(device, teacher).y;
        Self { batch, target }
    }

    fn residual(&self, forward: &Forward<f32>) -> Mat<f64> {
        let (y, target) = (forward.y.to_f64(), self.target.to_f64());
        let data = y.data().iter().zip(target.data()).map(|(y, t)| y - t).collect();
        Mat::from_vec(data, y.rows(), y.cols()).unwrap()
    }

    fn loss(&self, device: &Device, adapter: &IdLora) -> f64 {
        0.5 * self.residual(&self.batch.forward(device, adapter)).data().iter().map(|x| x * x).sum::<f64>()
    }

    /// Loss and gradients, the latter over all trained numbers.
    fn step(&self, device: &Device, adapter: &mut IdLora) -> (f64, Vec<f64>) {
        let forward = self.batch.forward(device, adapter);
        let residual = self.residual(&forward);
        adapter.zero_grad();
        self.batch.backward(device, adapter, &forward, &Padded::new(&residual, 2));
        let loss = 0.5 * residual.data().iter().map(|x| x * x).sum::<f64>();
        (loss, all_gradients(adapter).into_iter().map(f64::from).collect())
    }
}

fn student_and_regression(device: &Device, gate: Gate, b_init: BInit) -> (IdLora, Regression) {
    let w = random::<f32>(41, 26, 9, 0);
    let teacher = initialised(device, &w, &Config { seed: 9, ..config(gate, BInit::Normal) });
    let student = initialised(device, &w, &config(gate, b_init));
    (student, Regression::new(device, &w, &teacher))
}

/// The loss falls along the negative gradient as fast as the gradient says, in B and in the gate, each alone.
///
/// Central differences over a step that changes the loss by 1 %: halving it bounds the error of the finer one by their
/// difference (it falls by four); rounding of Y moves the loss by less than 1e-5 of itself, hence 1e-3 of the slope.
#[test]
fn gradients_are_the_slope_of_the_loss() {
    for device in devices() {
        for gate in GATES {
            let (mut student, regression) = student_and_regression(&device, gate, BInit::Normal);
            let (loss, gradient) = regression.step(&device, &mut student);
            let start = all_parameters(&student);
            let of_b = student.b().rows() * student.b().cols();
            for (name, range) in [("b", 0..of_b), ("gate", of_b..start.len())] {
                let slope: f64 = gradient[range.clone()].iter().map(|x| x * x).sum();
                assert!(slope > 0.0, "{gate:?}: {name} has a gradient");
                let mut difference = |step: f64| {
                    let mut loss_at = |sign: f64| {
                        let mut moved = start.clone();
                        range.clone().for_each(|i| moved[i] -= sign * step * gradient[i]);
                        set_parameters(&mut student, &moved);
                        regression.loss(&device, &student)
                    };
                    (loss_at(-1.0) - loss_at(1.0)) / (2.0 * step)
                };
                let step = 0.01 * loss / slope;
                let (coarse, fine) = (difference(step), difference(step / 2.0));
                let bound = (coarse - fine).abs() + 2e-3 * slope;
                assert!((fine - slope).abs() <= bound, "{gate:?}, {name}: slope {fine}, gradient says {slope}");
                assert!(bound < 0.05 * slope, "{gate:?}, {name}: the test has teeth");
            }
        }
    }
}

/// Gradient descent by hand from B = 0, each step short enough to keep half of what the gradient promises (Armijo's rule, which
/// a short enough step always meets if the gradient is right): the loss falls in every step, and by a quarter within forty.
#[test]
fn gradient_descent_reduces_the_loss_with_every_gate() {
    for device in devices() {
        for gate in GATES {
            let (mut student, regression) = student_and_regression(&device, gate, BInit::Zero);
            let start = regression.loss(&device, &student);
            let mut rate = 1.0;
            let mut last = start;
            for step in 0..40 {
                if last < 0.75 * start {
                    break;
                }
                let (loss, gradient) = regression.step(&device, &mut student);
                let slope: f64 = gradient.iter().map(|x| x * x).sum();
                let from = all_parameters(&student);
                rate *= 4.0;
                loop {
                    let to: Vec<f64> = from.iter().zip(&gradient).map(|(x, g)| x - rate * g).collect();
                    set_parameters(&mut student, &to);
                    last = regression.loss(&device, &student);
                    if last <= loss - 0.5 * rate * slope {
                        break;
                    }
                    rate *= 0.5;
                    assert!(rate * slope > 1e-9 * loss, "{gate:?}, step {step}: no step along the gradient helps");
                }
            }
            assert!(last < 0.75 * start, "{gate:?}: {start} became {last}");
        }
    }
}

// --------------------------------------------------------------------------------------------------------- micro-batches

/// Small integers everywhere (W, H, B and the gate), so that with a gate that only multiplies and adds, every sum is exact in
/// f32 and in any order: micro-batches must give the very gradients of the batch.
#[test]
fn micro_batches_add_up_exactly_on_integers() {
    for device in devices() {
        for gate in [Gate::Inner, Gate::Linear, Gate::Static] {
            let integers = |seed: u64, rows: usize, cols: usize| {
                let draw = &mut Draw::new(seed);
                let data = (0..rows * cols).map(|_| draw.below(5) as f64 - 2.0).collect();
                Mat::from_vec(data, rows, cols).unwrap()
            };
            let w = Padded::<f32>::new(&integers(51, 20, 6), 0);
            let config = Config { scaling: Scaling::One, ..config(gate, BInit::Zero) };
            let mut adapter = initialised(&device, &w, &config);
            let trained = adapter.counters().trained;
            set_parameters(&mut adapter, integers(52, 1, trained).data());
            let h = Padded::<f32>::new(&integers(53, 11, 6), 1);
            let y0 = Padded::new(&times_transposed(&h.to_f64(), &w.to_f64()), 1);
            let g = Padded::new(&integers(54, 11, 20), 1);
            let batch = Batch { h, y0 };
            let whole = accumulated(&device, &mut adapter, &batch, &g, &[0, 11]);
            assert!(
                whole.iter().any(|&x| x != 0.0) && whole.iter().all(|x| x.fract() == 0.0 && x.abs() < 16_777_216.0)
            );
            for split in [1, 4, 10] {
                let parts = accumulated(&device, &mut adapter, &batch, &g, &[0, split, 11]);
                assert_eq!(parts, whole, "{gate:?}, split at {split}");
            }
        }
    }
}

/// Gradients after `zero_grad` and a backward of the tokens between each two cuts.
fn accumulated<T: Elem>(
    device: &Device,
    adapter: &mut IdLora,
    batch: &Batch<T>,
    g: &Padded<T>,
    cuts: &[usize],
) -> Vec<f32> {
    adapter.zero_grad();
    for cut in cuts.windows(2) {
        let micro = batch.tokens(cut[0]..cut[1]);
        let forward = micro.forward(device, adapter);
        micro.backward(device, adapter, &forward, &part(g, cut[0]..cut[1]));
    }
    all_gradients(adapter)
}

/// With real numbers the sums differ by rounding alone. Each trained number's gradient is a sum over tokens (and halves, and
/// components) of products that Cauchy and Schwarz bound by norms: `κ‖G‖‖Z‖` for B, where `‖z‖ ≤ Σ|a_i|‖X_i‖`; `κ‖G‖‖B‖√s`
/// times `‖X‖` (da) times what da multiplies (`‖X‖`, `√r`, `‖H‖`, 1) for the gate. Two orders of summing terms of total size A,
/// each rounded in f32 after at most m + k·r + r + n roundings of its own, differ by at most `2·(t·s + m + k·r + r + n)·u·A`.
fn micro_batches<T: Elem>() {
    let (tokens, rows, cols) = (13, 26, 9);
    for device in devices() {
        let w = random::<T>(61, rows, cols, 0);
        let batch = Batch::new(&w, tokens, 62);
        let g = random::<T>(63, tokens, rows, 1);
        for gate in GATES {
            let config = config(gate, BInit::Normal);
            let mut adapter = initialised(&device, &w, &config);
            let whole = accumulated(&device, &mut adapter, &batch, &g, &[0, tokens]);
            let parts = accumulated(&device, &mut adapter, &batch, &g, &[0, 5, tokens]);
            let again = accumulated(&device, &mut adapter, &batch, &g, &[0, 5, tokens]);
            assert_eq!(bits(&parts), bits(&again), "{gate:?}: deterministic");
            assert_ne!(whole, accumulated(&device, &mut adapter, &batch, &g, &[5, tokens]), "{gate:?}: both count");

            let forward = batch.forward(&device, &adapter);
            let norm = |m: Mat<f64>| m.data().iter().map(|x| x * x).sum::<f64>().sqrt();
            let (x, a, h) = (norm(forward.x.to_f64()), norm(forward.gate.to_f64()), norm(batch.h.to_f64()));
            let b = norm(Mat::from_vec(adapter.b().data().iter().map(|&v| f64::from(v)).collect(), 13, 2).unwrap());
            let g_norm = norm(g.to_f64()) * f64::from(adapter.scale());
            let roundings = tokens * config.split + rows + config.clusters * config.rank + config.rank + cols;
            let unit = 2.0 * roundings as f64 * f64::from(f32::EPSILON) / 2.0;
            let da = g_norm * b * (config.split as f64).sqrt() * x;
            let of_gate = match gate {
                Gate::Inner => da * x,
                Gate::RmsInner => da * (config.rank as f64).sqrt(),
                Gate::Linear | Gate::LinearSoftmax => 2.0 * da * h,
                Gate::Static => da,
            };
            let of_b = 13 * 2;
            for (i, (one, two)) in whole.iter().zip(&parts).enumerate() {
                let bound = unit * if i < of_b { g_norm * a * x } else { of_gate };
                let error = f64::from((one - two).abs());
                assert!(error <= bound, "{gate:?}, number {i}: {one} or {two}, {error} over {bound}");
            }
        }
    }
}

#[test]
fn micro_batches_add_up_within_rounding() {
    micro_batches::<f32>();
    micro_batches::<f16>();
    micro_batches::<bf16>();
}

// ------------------------------------------------------------------------------------------------------- save, and threads

#[test]
fn a_loaded_adapter_goes_on_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    for device in devices() {
        for (i, gate) in GATES.into_iter().enumerate() {
            let w = random::<bf16>(71, 26, 9, 0);
            let batch = Batch::new(&w, 7, 72);
            let g = random::<bf16>(73, 7, 26, 0);
            let mut adapter = initialised(&device, &w, &config(gate, BInit::Normal));
            let path = folder.path().join(format!("{device}-{i}"));
            native::save(&path, std::slice::from_ref(&adapter)).unwrap();
            let mut loaded = native::load(&path).unwrap().remove(0);
            loaded.check_base(w.view()).unwrap();
            let [one, two] = [&adapter, &loaded].map(|adapter| batch.forward(&device, adapter));
            assert_eq!(all_bits(&one.y), all_bits(&two.y), "{gate:?}");
            assert_ne!(all_bits(&one.y), all_bits(&batch.y0), "{gate:?}: B is not 0");
            let gradients =
                [&mut adapter, &mut loaded].map(|adapter| accumulated(&device, adapter, &batch, &g, &[0, 7]));
            assert_eq!(bits(&gradients[0]), bits(&gradients[1]), "{gate:?}");
        }
    }
}

#[test]
fn training_is_the_same_bits_on_one_thread_and_two() {
    for gate in GATES {
        let w = random::<bf16>(81, 128, 40, 0);
        let batch = Batch::new(&w, 300, 82);
        let g = random::<bf16>(83, 300, 128, 0);
        let adapter = initialised(&Device::Cpu, &w, &Config { rank: 8, ..config(gate, BInit::Normal) });
        let run = || {
            let mut adapter = adapter.clone();
            let forward = batch.forward(&Device::Cpu, &adapter);
            batch.backward(&Device::Cpu, &mut adapter, &forward, &g);
            (all_bits(&forward.y), bits(&all_gradients(&adapter)))
        };
        let [one, two] = [1, 2].map(|threads| on_threads(threads, run));
        assert!(one == two, "{gate:?}");
    }
}
