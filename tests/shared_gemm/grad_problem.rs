//! Problems of the input gradient, and the property.

use crate::common::Padded;
use crate::common::branch::{U, assert_within, rounding, scaled};
use crate::common::matrices::Draw;
use idlora::lowrank::Gate;
use idlora::reference::shared_gemm as reference;
use idlora::shared_gemm::{Addend, Desc, GradAdapter, GradOperands, Plan};
use idlora::{Device, Elem, Error, Mat};

/// `γ_K` against `K·u`.
const SLACK: f64 = 1.02;

/// What is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adds {
    Nothing,
    Matrix,
    InPlace,
}

pub const ADDS: [Adds; 3] = [Adds::Nothing, Adds::Matrix, Adds::InPlace];

/// A problem with all its operands in the element type.
pub struct GradProblem<T> {
    pub desc: Desc,
    pub skeleton: Vec<u32>,
    pub g: Padded<T>,
    pub w: Padded<T>,
    pub dx: Padded<T>,
    pub add: Padded<T>,
    pub adds: Adds,
    pub dh_pad: usize,
}

/// A layer with `components` of rank `rank`; neither split nor gate matters here.
pub fn desc(rows: usize, cols: usize, components: usize, rank: usize) -> Desc {
    Desc { rows, cols, rank, components, split: 1, gate: Gate::Static, bias: false }
}

impl<T: Elem> GradProblem<T> {
    /// Random operands: `G ~ N(0, 1)`, `W ~ N(0, 1/m)`, `dX ~ N(0, 1)`, addend `~ N(0, 1)`. `pads` are those of the rows of G, W, dX,
    /// addend and dH.
    pub fn random(desc: Desc, tokens: usize, adds: Adds, pads: [usize; 5], seed: u64) -> Self {
        let draw = &mut Draw::new(seed);
        let Desc { rows, cols, rank, components, .. } = desc;
        let mut all: Vec<u32> = (0..rows as u32).collect();
        for i in 0..rows {
            all.swap(i, i + draw.below(rows - i));
        }
        let width = components * rank;
        Self {
            desc,
            skeleton: all[..width].to_vec(),
            g: Padded::new(&draw.gaussian(tokens, rows), pads[0]),
            w: Padded::new(&scaled(draw.gaussian(rows, cols), 1.0 / (rows as f64).sqrt()), pads[1]),
            dx: Padded::new(&draw.gaussian(tokens, width), pads[2]),
            add: Padded::new(&draw.gaussian(tokens, cols), pads[3]),
            adds,
            dh_pad: pads[4],
        }
    }

    pub fn operands(&self) -> GradOperands<'_, T> {
        let adapter = GradAdapter { skeleton: &self.skeleton, dx: self.dx.view() };
        GradOperands {
            g: self.g.view(),
            w: self.w.view(),
            adapter: (self.desc.components > 0).then_some(adapter),
            add: match self.adds {
                Adds::Nothing => Addend::None,
                Adds::Matrix => Addend::Matrix(self.add.view()),
                Adds::InPlace => Addend::InPlace,
            },
        }
    }

    /// Runs it into a poisoned buffer, or one that holds what is added.
    pub fn run(&self, device: &Device) -> Result<Padded<T>, Error> {
        let mut dh = match self.adds {
            Adds::InPlace => Padded::new(&self.add.to_f64(), self.dh_pad),
            Adds::Nothing | Adds::Matrix => Padded::poisoned(self.g.view().rows(), self.desc.cols, self.dh_pad),
        };
        Plan::new(device, self.desc)?.input_gradient(&self.operands(), dh.view_mut())?;
        dh.assert_guards();
        Ok(dh)
    }

    /// The reference on the operands as they are, or on their sizes.
    fn reference(&self, of: impl Fn(f64) -> f64) -> Mat<f64> {
        let [g, w, dx, add] = [&self.g, &self.w, &self.dx, &self.add].map(|operand| {
            let mut values = operand.to_f64();
            values.data_mut().iter_mut().for_each(|x| *x = of(*x));
            values
        });
        let components = (self.desc.components > 0).then(|| (&self.skeleton[..], dx.as_ref()));
        let add = (self.adds != Adds::Nothing).then(|| add.as_ref());
        reference::input_gradient(g.as_ref(), w.as_ref(), components, add)
    }

    pub fn expected(&self) -> Mat<f64> {
        self.reference(|x| x)
    }

    pub fn bounds(&self, device: &Device) -> Mat<f64> {
        rounded::<T>(device, self.desc.rows + self.skeleton.len(), self.reference(f64::abs))
    }
}

/// Error of sums of `products`, something added and all rounded to `T`, by their sizes: the products are exact in f32 for 16-bit
/// elements, but for what lies below its smallest subnormal, and rounded with their addition otherwise; on tensor cores, which
/// may cut where f32 rounds, 2U for U.
pub fn rounded<T: Elem>(device: &Device, products: usize, mut sizes: Mat<f64>) -> Mat<f64> {
    let additions = (products + 2) as f64;
    let relative = if *device == Device::Cpu { additions * U } else { 2.0 * additions * U };
    for size in sizes.data_mut() {
        let error = SLACK * (relative * *size + additions * 2f64.powi(-149));
        *size = error + rounding::<T>(*size + error);
    }
    sizes
}

/// dH is the reference's within the derived bound; nothing outside the view is touched; a device refuses f32.
pub fn assert_gradient<T: Elem>(device: &Device, problem: &GradProblem<T>) {
    let tokens = problem.g.view().rows();
    let what = format!("{device} {:?} {:?} t {tokens} {:?}", T::DTYPE, problem.desc, problem.adds);
    if *device != Device::Cpu && T::DTYPE == idlora::Dtype::F32 {
        let refused = problem.run(device).map(|_| ());
        assert!(matches!(&refused, Err(Error::Unsupported { reason, .. }) if reason.contains("f32")), "{what}");
        return;
    }
    let found = problem.run(device).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_within(&format!("{what}: dH"), &found.to_f64(), &problem.expected(), &problem.bounds(device));
}
