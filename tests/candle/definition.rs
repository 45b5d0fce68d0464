//! The layer written with candle's plain operations in f64, whose gradients are candle's own.

use crate::common::branch::{Exact, Forward};
use candle_core::{D, DType, Device, Result, Tensor, Var};
use candle_nn::ops::softmax;
use idlora::lowrank::{Bias, Desc, DownProjection, Gate};
use idlora::{Elem, Mat};

/// Operands as f64 variables, and where in the rounded computation the derivative is taken.
pub struct Definition<'a> {
    exact: &'a Exact,
    pub x: Var,
    pub b: Var,
    pub gate: Var,
    /// What an implementation had at these places: values that replace those here, which have another rounding. Derivatives
    /// pass as if they had been computed.
    actual: Option<[Tensor; 2]>,
}

fn tensor(values: &Mat<f64>) -> Tensor {
    Tensor::from_slice(values.data(), values.shape(), &Device::Cpu).unwrap()
}

fn var(values: &Mat<f64>) -> Var {
    Var::from_tensor(&tensor(values)).unwrap()
}

/// The value of `value` with the derivative of `computed`.
fn straight(computed: Tensor, value: Option<&Tensor>) -> Result<Tensor> {
    match value {
        Some(value) => &computed + (value - computed.detach())?,
        None => Ok(computed),
    }
}

impl<'a> Definition<'a> {
    /// In exact arithmetic.
    pub fn of(exact: &'a Exact) -> Self {
        Self { exact, x: var(&exact.h), b: var(&exact.b), gate: var(&exact.gate), actual: None }
    }

    /// At the `X` and the gate values that an implementation had.
    pub fn at<T: Elem>(exact: &'a Exact, forward: &Forward<T>) -> Self {
        let actual = Some([tensor(&forward.x.to_f64()), tensor(&forward.a.to_f64())]);
        Self { actual, ..Self::of(exact) }
    }

    fn actual(&self, place: usize) -> Option<&Tensor> {
        self.actual.as_ref().map(|actual| &actual[place])
    }

    /// `Y [t, m]`.
    pub fn forward(&self) -> Result<Tensor> {
        let Desc { rows, rank, components, split, bias, down, .. } = self.exact.desc;
        let tokens = self.x.dim(0)?;
        let w = tensor(&self.exact.w);
        let y0 = self.x.matmul(&w.t()?)?;
        let chosen = Tensor::from_slice(&self.exact.skeleton, components * rank, &Device::Cpu)?;
        let x = match down {
            DownProjection::Gather => y0.index_select(&chosen, 1)?,
            DownProjection::Gemm => self.x.matmul(&w.index_select(&chosen, 0)?.t()?)?,
        };
        let x = straight(x, self.actual(0))?;
        let parts = x.reshape((tokens, components, rank))?;
        let a = self.gate_values(&parts)?;
        let mixed = match &self.exact.factors {
            Some(factors) => (&x * tensor(factors))?.reshape((tokens, components, rank))?,
            None => parts,
        };
        let z = mixed.broadcast_mul(&a.unsqueeze(2)?)?.sum(1)?;
        let update = z.reshape((tokens * split, rank / split))?.matmul(&self.b.t()?)?;
        let y = (y0 + (update.reshape((tokens, rows))? * self.exact.scale)?)?;
        match bias {
            Bias::None => Ok(y),
            _ => y.broadcast_add(&Tensor::from_slice(&self.exact.bias, (1, rows), &Device::Cpu)?),
        }
    }

    /// Gate values `[t, k]` of `X [t, k, r]`.
    fn gate_values(&self, parts: &Tensor) -> Result<Tensor> {
        let (tokens, components, rank) = parts.dims3()?;
        let inner = |x: &Tensor| x.broadcast_mul(&self.gate.reshape((1, 1, rank))?)?.sum(2);
        let a = match self.exact.desc.gate {
            Gate::Inner => inner(parts)?,
            Gate::RmsInner => {
                let rms = (parts.sqr()?.mean_keepdim(2)? + 1e-6)?.sqrt()?;
                inner(&parts.broadcast_div(&rms)?)?
            }
            Gate::Static => self.gate.broadcast_as((tokens, components))?,
            Gate::Linear => self.x.matmul(&self.gate.t()?)?,
            // Its derivative is one of its value: the logits are moved to where they give the actual one.
            Gate::LinearSoftmax => {
                let logits = self.actual(1).map(Tensor::log).transpose()?;
                return softmax(&straight(self.x.matmul(&self.gate.t()?)?, logits.as_ref())?, D::Minus1);
            }
        };
        straight(a, self.actual(1))
    }

    /// Gradients of `Σ G ⊙ Y` by x, B and the gate.
    pub fn gradients(&self) -> Result<[Mat<f64>; 3]> {
        let loss = (self.forward()? * tensor(&self.exact.g))?.sum_all()?;
        let gradients = loss.backward()?;
        let of = |var: &Var| -> Result<Mat<f64>> {
            let (rows, cols) = var.dims2()?;
            let gradient = match gradients.get(var) {
                Some(gradient) => gradient.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?,
                None => vec![0.0; rows * cols],
            };
            Ok(Mat::from_vec(gradient, rows, cols).unwrap())
        };
        Ok([of(&self.x)?, of(&self.b)?, of(&self.gate)?])
    }
}
