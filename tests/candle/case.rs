//! A layer with random operands, and the same operands as the adapter's own tests have them.

use crate::common::branch::Problem;
#[cfg(feature = "candle-cuda")]
use crate::common::kernel_devices;
use crate::common::matrices::Draw;
use crate::common::{Padded, branch::scaled};
use candle_core::{DType, Device, Tensor, WithDType};
use candle_nn::{Linear, Module, VarMap};
use idlora::adapter::{BInit, Config, IdLora};
use idlora::candle::IdLoraLinear;
use idlora::lowrank::{Bias, Desc, DownProjection, Gate};
use idlora::{Device as OurDevice, Elem, Mat};

/// Sizes and variants of a layer.
#[derive(Clone, Debug)]
pub struct Shape {
    pub rows: usize,
    pub cols: usize,
    pub rank: usize,
    pub clusters: usize,
    pub split: usize,
    pub gate: Gate,
    pub down: DownProjection,
    pub bias: bool,
    /// Probability.
    pub dropout: f32,
    /// Before the last.
    pub leading: Vec<usize>,
    /// Of the operands.
    pub seed: u64,
}

/// `[2, 3]` tokens of a small layer.
pub fn small(gate: Gate) -> Shape {
    Shape {
        rows: 12,
        cols: 7,
        rank: 2,
        clusters: 3,
        split: 2,
        gate,
        down: DownProjection::Gather,
        bias: true,
        dropout: 0.0,
        leading: vec![2, 3],
        seed: 5,
    }
}

impl Shape {
    pub fn config(&self) -> Config {
        let Self { rank, clusters, split, gate, .. } = *self;
        Config { rank, clusters, split, gate, alpha: 3.0, b_init: BInit::Normal, seed: 11, ..Config::default() }
    }

    pub fn tokens(&self) -> usize {
        self.leading.iter().product()
    }

    /// The shape of a tensor with `last` columns.
    pub fn with_last(&self, last: usize) -> Vec<usize> {
        self.leading.iter().copied().chain([last]).collect()
    }
}

/// A layer, and an input and a gradient of its output.
pub struct Case<T> {
    pub shape: Shape,
    pub layer: IdLoraLinear,
    pub vars: VarMap,
    /// `[…, n]`.
    pub x: Tensor,
    /// `∂L/∂Y`, `[…, m]`.
    pub g: Tensor,
    h: Padded<T>,
    w: Padded<T>,
    bias: Vec<T>,
    g_values: Padded<T>,
}

/// candle's devices that this build and machine have, and this crate's name of each. A skip is printed; `IDLORA_REQUIRE` makes it
/// a failure.
pub fn devices() -> Vec<(Device, OurDevice)> {
    #[cfg(feature = "candle-cuda")]
    let cuda = kernel_devices()
        .into_iter()
        .find(|device| device.to_string() == "cuda:0")
        .map(|ours| (Device::new_cuda(0).unwrap(), ours));
    #[cfg(not(feature = "candle-cuda"))]
    let cuda = None;
    [(Device::Cpu, OurDevice::Cpu)].into_iter().chain(cuda).collect()
}

/// As a tensor.
fn tensor<T: Elem + WithDType>(device: &Device, values: &Padded<T>, shape: &[usize]) -> Tensor {
    let all: Vec<T> = values.view().iter_rows().flatten().copied().collect();
    Tensor::from_vec(all, shape, device).unwrap()
}

/// Every value, exactly.
pub fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Every value's bits, widened.
pub fn bits(tensor: &Tensor) -> Vec<u32> {
    let all: Vec<f32> = tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    all.iter().map(|x| x.to_bits()).collect()
}

/// As a matrix of so many columns.
pub fn matrix(tensor: &Tensor, cols: usize) -> Mat<f64> {
    let all = values(tensor);
    let rows = all.len() / cols;
    Mat::from_vec(all, rows, cols).unwrap()
}

impl<T: Elem + WithDType> Case<T> {
    /// On the CPU.
    pub fn new(shape: &Shape) -> Self {
        Self::on(&Device::Cpu, shape)
    }

    /// `H ~ N(0, 1)`, `W ~ N(0, 1/n)`, everything else of unit size.
    pub fn on(device: &Device, shape: &Shape) -> Self {
        Self::made(device, shape, |x| x, 1.0 / (shape.cols as f64).sqrt())
    }

    /// All operands are whole numbers of at most 2.
    pub fn whole(device: &Device, shape: &Shape) -> Self {
        let case = Self::made(device, shape, |x| x.round().clamp(-2.0, 2.0), 1.0);
        let b = case.layer.b();
        b.set(&(b.as_tensor() * 3.0).unwrap().round().unwrap().clamp(-2.0f32, 2.0).unwrap()).unwrap();
        case
    }

    fn made(device: &Device, shape: &Shape, entry: impl Fn(f64) -> f64, of_weight: f64) -> Self {
        let draw = &mut Draw::new(shape.seed);
        let (rows, cols, tokens) = (shape.rows, shape.cols, shape.tokens());
        let mut random = |rows, cols, scale| {
            let mut values = scaled(draw.gaussian(rows, cols), scale);
            values.data_mut().iter_mut().for_each(|x| *x = entry(*x));
            values
        };
        let h = Padded::<T>::new(&random(tokens, cols, 1.0), 0);
        let w = Padded::<T>::new(&random(rows, cols, of_weight), 0);
        let bias = Padded::<T>::new(&random(1, rows, 1.0), 0);
        let g_values = Padded::<T>::new(&random(tokens, rows, 1.0), 0);
        let bias_tensor = shape.bias.then(|| tensor(device, &bias, &[rows]));
        let base = Linear::new(tensor(device, &w, &[rows, cols]), bias_tensor);
        let vars = VarMap::new();
        let (mut layer, _) = IdLoraLinear::new(&base, "model.query", &shape.config(), &vars).unwrap();
        layer.set_down(shape.down);
        layer.set_dropout(shape.dropout, 17).unwrap();
        // The static gate starts with equal weights, which would hide a transposition.
        let (gate_rows, gate_cols) = layer.gate().dims2().unwrap();
        let gate = Padded::<f32>::new(&random(gate_rows, gate_cols, 1.0), 0);
        layer.gate().set(&tensor(device, &gate, &[gate_rows, gate_cols])).unwrap();
        let (x, g) = (tensor(device, &h, &shape.with_last(cols)), tensor(device, &g_values, &shape.with_last(rows)));
        let bias = bias.view().row(0).to_vec();
        Self { shape: shape.clone(), layer, vars, x, g, h, w, bias, g_values }
    }

    /// The layer without candle.
    pub fn adapter(&self) -> IdLora {
        self.layer.adapter().unwrap()
    }

    /// What the base layer makes of the tokens, `[t, m]`: candle's own numbers.
    pub fn base_output(&self) -> Tensor {
        self.layer.base().forward(&self.tokens()).unwrap()
    }

    /// `W h` of the tokens, `[t, m]`: the same without the bias.
    fn product(&self) -> Tensor {
        Linear::new(self.layer.base().weight().clone(), None).forward(&self.tokens()).unwrap()
    }

    fn tokens(&self) -> Tensor {
        self.x.reshape((self.shape.tokens(), self.shape.cols)).unwrap()
    }

    /// The same problem for the adapter alone, from what candle's product made; dropout is that of call 0.
    pub fn problem(&self) -> Problem<T> {
        let Shape { rows, cols, rank, clusters, split, gate, down, bias, .. } = self.shape;
        let bias = if bias { Bias::Separate } else { Bias::None };
        let adapter = self.adapter();
        let trained = |values: idlora::MatRef<'_, f32>| {
            let all = values.iter_rows().flatten().map(|&x| f64::from(x)).collect();
            Padded::<f32>::new(&Mat::from_vec(all, values.rows(), values.cols()).unwrap(), 0)
        };
        Problem {
            desc: Desc { rows, cols, rank, components: clusters, split, gate, down, bias },
            skeleton: adapter.skeleton().to_vec(),
            b: trained(adapter.b()),
            gate: trained(adapter.gate()),
            scale: adapter.scale(),
            h: self.h.clone(),
            w: self.w.clone(),
            bias: self.bias.clone(),
            y0: Padded::new(&matrix(&self.product(), rows), 0),
            g: self.g_values.clone(),
            dropout: self.layer.dropout_of(0),
            y_pad: 0,
        }
    }
}
