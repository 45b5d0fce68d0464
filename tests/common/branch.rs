//! Problems for the adapter branch and their f64 counterparts.

use super::bounds::forward_bounds;
use super::matrices::Draw;
use super::{Padded, devices, kernel_devices};
use idlora::lowrank::{Bias, Desc, DownProjection, Dropout, Gate, Layer, Output, Parameters, Plan, Saved, SavedMut};
use idlora::reference::lowrank as reference;
use idlora::{Device, Elem, Mat, MatRef};

pub const GATES: [Gate; 5] = [Gate::Inner, Gate::RmsInner, Gate::Linear, Gate::LinearSoftmax, Gate::Static];
pub const BIASES: [Bias; 3] = [Bias::None, Bias::Included, Bias::Separate];
pub const DOWNS: [DownProjection; 2] = [DownProjection::Gather, DownProjection::Gemm];

/// Unit roundoff of the accumulation.
pub const U: f64 = 1.0 / 16_777_216.0;

/// Absolute error of rounding to `T` below its normal range: half of its smallest subnormal.
pub fn underflow<T: Elem>() -> f64 {
    match T::DTYPE {
        idlora::Dtype::F16 => 2f64.powi(-25),
        idlora::Dtype::BF16 => 2f64.powi(-134),
        idlora::Dtype::F32 => 2f64.powi(-150),
    }
}

/// Error of rounding `x` to `T`. f32 sums are already f32.
pub fn rounding<T: Elem>(x: f64) -> f64 {
    if T::DTYPE == idlora::Dtype::F32 { 0.0 } else { T::DTYPE.unit_roundoff() * x.abs() + underflow::<T>() }
}

/// A problem with all its operands, in the element type and exactly as f64.
pub struct Problem<T> {
    pub desc: Desc,
    pub skeleton: Vec<u32>,
    pub b: Padded<f32>,
    pub gate: Padded<f32>,
    pub scale: f32,
    pub h: Padded<T>,
    pub w: Padded<T>,
    pub bias: Vec<T>,
    pub y0: Padded<T>,
    pub g: Padded<T>,
    pub dropout: Option<Dropout>,
    /// Padding of the rows of `Y` out of place.
    pub y_pad: usize,
}

/// What the forward leaves.
#[derive(Clone)]
pub struct Forward<T> {
    pub y: Padded<T>,
    pub x: Padded<T>,
    pub a: Padded<f32>,
    pub z: Padded<f32>,
}

/// `value` of every entry, times `scale`.
pub fn scaled(mut a: Mat<f64>, scale: f64) -> Mat<f64> {
    a.data_mut().iter_mut().for_each(|x| *x *= scale);
    a
}

impl<T: Elem> Problem<T> {
    /// Random operands of unit size: `H ~ N(0, 1)`, `W ~ N(0, 1/n)`, `T ~ N(0, 1/r)`, `B ~ N(0, 1/r)`; `Y0` is the base output.
    pub fn random(desc: Desc, tokens: usize, dropout: Option<Dropout>, seed: u64) -> Self {
        let draw = &mut Draw::new(seed);
        let Desc { rows, cols, rank, components, split, .. } = desc;
        let mut all: Vec<u32> = (0..rows as u32).collect();
        for i in 0..rows {
            all.swap(i, i + draw.below(rows - i));
        }
        let skeleton = all[..components * rank].to_vec();
        let (gate_rows, gate_cols) = desc.gate.parameter_shape(rank, components, cols);
        let narrow = |size: usize| 1.0 / (size as f64).sqrt();
        let h = Padded::<T>::new(&draw.gaussian(tokens, cols), 3);
        let w = Padded::<T>::new(&scaled(draw.gaussian(rows, cols), narrow(cols)), 2);
        let bias: Vec<T> = (0..rows).map(|_| T::from_f32(draw.normal() as f32)).collect();
        let bias64: Vec<f64> = bias.iter().map(|b| f64::from(b.to_f32())).collect();
        let included = (desc.bias == Bias::Included).then_some(&bias64[..]);
        let y0 = Padded::new(&reference::base(h.to_f64().as_ref(), w.to_f64().as_ref(), included), 5);
        Self {
            desc,
            skeleton,
            b: Padded::new(&scaled(draw.gaussian(rows / split, rank / split), narrow(rank)), 1),
            gate: Padded::new(&scaled(draw.gaussian(gate_rows, gate_cols), narrow(gate_cols)), 4),
            scale: 1.5,
            h,
            w,
            bias,
            y0,
            g: Padded::new(&draw.gaussian(tokens, rows), 2),
            dropout,
            y_pad: 7,
        }
    }

    /// The same values with other paddings of the rows of `Y0`, `Y` out of place, and `B`.
    pub fn padded(mut self, y0: usize, y: usize, b: usize) -> Self {
        self.y0 = Padded::new(&self.y0.to_f64(), y0);
        self.y_pad = y;
        self.b = Padded::new(&self.b.to_f64(), b);
        self
    }

    pub fn tokens(&self) -> usize {
        self.y0.view().rows()
    }

    /// Columns of X.
    pub fn width(&self) -> usize {
        self.skeleton.len()
    }

    pub fn parameters(&self) -> Parameters<'_> {
        Parameters { skeleton: &self.skeleton, b: self.b.view(), gate: self.gate.view(), scale: self.scale }
    }

    /// Only what the variant reads, so that the tests show that nothing else is needed.
    pub fn layer(&self) -> Layer<'_, T> {
        let gemm = self.desc.down == DownProjection::Gemm;
        Layer {
            h: (gemm || self.desc.gate.reads_input()).then(|| self.h.view()),
            w: gemm.then(|| self.w.view()),
            bias: (self.desc.bias != Bias::None).then_some(&self.bias[..]),
            dropout: self.dropout,
        }
    }

    /// Runs the forward, in place or not, into poisoned buffers.
    pub fn forward(&self, device: &Device, in_place: bool) -> Forward<T> {
        self.forward_saving(device, in_place, true)
    }

    /// The same; without `saves_z`, `z` stays poisoned.
    pub fn forward_saving(&self, device: &Device, in_place: bool, saves_z: bool) -> Forward<T> {
        let (t, m) = self.y0.view().shape();
        let mut y = if in_place { self.y0.clone() } else { Padded::poisoned(t, m, self.y_pad) };
        let mut x = Padded::poisoned(t, self.width(), 1);
        let mut a = Padded::poisoned(t, self.desc.components, 2);
        let mut z = Padded::poisoned(t, self.desc.rank, 3);
        let output = if in_place {
            Output::InPlace(y.view_mut())
        } else {
            Output::OutOfPlace { y0: self.y0.view(), y: y.view_mut() }
        };
        let saved = SavedMut { x: x.view_mut(), gate: a.view_mut(), z: saves_z.then(|| z.view_mut()) };
        let plan = Plan::new(device, self.desc).unwrap();
        plan.forward(&self.parameters(), &self.layer(), output, Some(saved)).unwrap();
        Forward { y, x, a, z }
    }

    /// The operands as f64.
    pub fn exact(&self) -> Exact {
        let bias: Vec<f64> = self.bias.iter().map(|b| f64::from(b.to_f32())).collect();
        let factors = self.dropout.map(|dropout| {
            let factors = dropout.factors(self.tokens(), self.width()).unwrap();
            let values = factors.data().iter().map(|&d| f64::from(d)).collect();
            Mat::from_vec(values, self.tokens(), self.width()).unwrap()
        });
        Exact {
            desc: self.desc,
            skeleton: self.skeleton.clone(),
            b: self.b.to_f64(),
            gate: self.gate.to_f64(),
            scale: f64::from(self.scale),
            h: self.h.to_f64(),
            w: self.w.to_f64(),
            bias,
            y0: self.y0.to_f64(),
            g: self.g.to_f64(),
            factors,
        }
    }
}

impl<T: Elem> Forward<T> {
    /// Without `z`.
    pub fn saved(&self) -> Saved<'_, T> {
        Saved { x: self.x.view(), gate: self.a.view(), z: None }
    }

    pub fn assert_guards(&self) {
        self.y.assert_guards();
        self.x.assert_guards();
        self.a.assert_guards();
        self.z.assert_guards();
    }
}

/// A problem's operands as f64.
pub struct Exact {
    pub desc: Desc,
    pub skeleton: Vec<u32>,
    pub b: Mat<f64>,
    pub gate: Mat<f64>,
    pub scale: f64,
    pub h: Mat<f64>,
    pub w: Mat<f64>,
    pub bias: Vec<f64>,
    pub y0: Mat<f64>,
    pub g: Mat<f64>,
    pub factors: Option<Mat<f64>>,
}

impl Exact {
    pub fn adapter(&self) -> reference::Adapter<'_> {
        reference::Adapter {
            rank: self.desc.rank,
            split: self.desc.split,
            gate: self.desc.gate,
            skeleton: &self.skeleton,
            b: self.b.as_ref(),
            parameters: self.gate.as_ref(),
            scale: self.scale,
        }
    }

    pub fn factors(&self) -> Option<MatRef<'_, f64>> {
        self.factors.as_ref().map(Mat::as_ref)
    }

    pub fn input(&self) -> Option<MatRef<'_, f64>> {
        self.desc.gate.reads_input().then(|| self.h.as_ref())
    }

    /// Reference X.
    pub fn x(&self) -> Mat<f64> {
        match self.desc.down {
            DownProjection::Gather => {
                let bias = (self.desc.bias == Bias::Included).then_some(&self.bias[..]);
                reference::gather(self.y0.as_ref(), bias, &self.skeleton)
            }
            DownProjection::Gemm => reference::project(self.h.as_ref(), self.w.as_ref(), &self.skeleton),
        }
    }

    /// Reference z.
    pub fn z(&self) -> Mat<f64> {
        let x = self.x();
        let a = reference::gates(&self.adapter(), x.as_ref(), self.input());
        reference::premix(x.as_ref(), a.as_ref(), self.factors())
    }

    /// Reference Y.
    pub fn y(&self) -> Mat<f64> {
        let mut y = reference::update(&self.adapter(), self.x().as_ref(), self.input(), self.factors());
        let separate = self.desc.bias == Bias::Separate;
        for t in 0..y.rows() {
            for (c, y) in y.row_mut(t).iter_mut().enumerate() {
                *y += self.y0.row(t)[c] + if separate { self.bias[c] } else { 0.0 };
            }
        }
        y
    }
}

/// Every device; those that run kernels take the explicit down-projection in a suite of its own, `down_kernels`.
pub fn devices_for(down: DownProjection) -> Vec<Device> {
    let kernels = if down == DownProjection::Gather { kernel_devices() } else { Vec::new() };
    devices().into_iter().chain(kernels).collect()
}

/// X, gate, z and Y are the reference's within the derived bounds; in place and out of place agree to the bit; nothing
/// outside the views is touched; Y0 stays as it is out of place; what is saved changes nothing.
pub fn assert_forward<T: Elem>(device: &Device, problem: &Problem<T>) {
    let (desc, tokens) = (problem.desc, problem.tokens());
    let what = format!("{device} {:?} {desc:?} t {tokens} {:?}", T::DTYPE, problem.dropout);
    let exact = problem.exact();
    let bounds = forward_bounds::<T>(device, &exact);
    let x = exact.x();
    let a = reference::gates(&exact.adapter(), x.as_ref(), exact.input());
    let found = problem.forward(device, true);
    found.assert_guards();
    assert_within(&format!("{what}: X"), &found.x.to_f64(), &x, &bounds.x);
    assert_within(&format!("{what}: gate"), &found.a.to_f64(), &a, &bounds.a);
    assert_within(&format!("{what}: z"), &found.z.to_f64(), &exact.z(), &bounds.z);
    assert_within(&format!("{what}: Y"), &found.y.to_f64(), &exact.y(), &bounds.y);

    let out = problem.forward_saving(device, false, false);
    out.assert_guards();
    problem.y0.assert_guards();
    assert_eq!(out.y.to_f64(), found.y.to_f64(), "{what}: out of place, without z");
    assert_eq!(out.x.to_f64(), found.x.to_f64(), "{what}: X without z");
    assert_eq!(out.a.to_f64(), found.a.to_f64(), "{what}: gate without z");
    let mut y = problem.y0.clone();
    let plan = Plan::new(device, desc).unwrap();
    plan.forward(&problem.parameters(), &problem.layer(), Output::InPlace(y.view_mut()), None).unwrap();
    y.assert_guards();
    assert_eq!(y.to_f64(), found.y.to_f64(), "{what}: nothing saved");
}

/// A zero matrix.
pub fn zeros(rows: usize, cols: usize) -> Mat<f64> {
    Mat::zeros(rows, cols).unwrap()
}

/// Panics where `found` is further from `expected` than `bound` allows (NaN is).
pub fn assert_within(what: &str, found: &Mat<f64>, expected: &Mat<f64>, bound: &Mat<f64>) {
    assert_eq!(found.shape(), expected.shape(), "{what}");
    for i in 0..found.rows() {
        for j in 0..found.cols() {
            let (f, e, b) = (found.row(i)[j], expected.row(i)[j], bound.row(i)[j]);
            assert!((f - e).abs() <= b, "{what} at [{i}, {j}]: {f:e}, expected {e:e} ± {b:e}");
        }
    }
}

/// The plainest problem of a shape: inner gate, gathered, no bias.
pub fn desc(rows: usize, cols: usize, rank: usize, components: usize, split: usize) -> Desc {
    let (gate, down, bias) = (Gate::Inner, DownProjection::Gather, Bias::None);
    Desc { rows, cols, rank, components, split, gate, down, bias }
}
