//! Layer normalisation with frozen γ and β.

use super::{sum_pairs, values};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};
use std::sync::Arc;

/// `γ (x − mean)/√(variance + ε) + β` over the last dimension.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    scale: Arc<[f32]>,
    shift: Arc<[f32]>,
    epsilon: f32,
}

impl LayerNorm {
    /// From γ and β, vectors of one length that are not trained.
    ///
    /// # Errors
    /// candle's, for tensors that are not f32 vectors of one length.
    pub fn new(scale: &Tensor, shift: &Tensor, epsilon: f32) -> Result<Self> {
        let (scale, shift) = (scale.to_vec1::<f32>()?, shift.to_vec1::<f32>()?);
        if scale.len() != shift.len() || scale.is_empty() {
            bail!("layer norm: expected γ and β of one length, found {} and {}", scale.len(), shift.len());
        }
        Ok(Self { scale: scale.into(), shift: shift.into(), epsilon })
    }

    /// Normalises every row of `x [.., n]`.
    ///
    /// # Errors
    /// candle's, for anything but f32 on the CPU, and rows of another length.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if x.dims().last() != Some(&self.scale.len()) {
            bail!("layer norm: expected rows of {}, found shape {:?}", self.scale.len(), x.dims());
        }
        x.contiguous()?.apply_op1(self.clone())
    }

    /// Mean and 1/√(variance + ε) of a row.
    fn moments(&self, row: &[f32]) -> (f32, f32) {
        let one_over = 1.0 / row.len() as f32;
        let mean = one_over * sum_pairs(row, row, |x, _| x);
        let variance = one_over * sum_pairs(row, row, |x, _| (x - mean) * (x - mean));
        (mean, 1.0 / (variance + self.epsilon).sqrt())
    }
}

impl CustomOp1 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer norm"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values("layer norm", storage, layout)?;
        let mut y = vec![0.0f32; x.len()];
        let width = self.scale.len();
        for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            let (mean, factor) = self.moments(x);
            let affine = self.scale.iter().zip(self.shift.iter());
            y.iter_mut()
                .zip(x)
                .zip(affine)
                .for_each(|((y, &x), (&scale, &shift))| *y = (x - mean) * factor * scale + shift);
        }
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        x.apply_op2_no_bwd(&gradient.contiguous()?, self).map(Some)
    }
}

/// The backward: the gradient of x from x and that of y.
impl CustomOp2 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer norm backward"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, gradient) = (values("layer norm", s1, l1)?, values("layer norm", s2, l2)?);
        let mut out = vec![0.0f32; x.len()];
        let width = self.scale.len();
        let one_over = 1.0 / width as f32;
        let mut scaled = vec![0.0f32; width];
        for ((out, x), gradient) in
            out.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(gradient.chunks_exact(width))
        {
            let (mean, factor) = self.moments(x);
            scaled
                .iter_mut()
                .zip(gradient.iter().zip(self.scale.iter()))
                .for_each(|(out, (g, scale))| *out = g * scale);
            let average = one_over * sum_pairs(&scaled, x, |g, _| g);
            let along = one_over * factor * sum_pairs(&scaled, x, |g, x| g * (x - mean));
            out.iter_mut()
                .zip(&scaled)
                .zip(x)
                .for_each(|((out, &g), &x)| *out = factor * (g - average - (x - mean) * factor * along));
        }
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }
}
