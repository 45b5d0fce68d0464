//! The softmax of attention: scaled, over the tokens that are there.

use super::{exp, max, sum_pairs, values};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};
use std::sync::Arc;

/// `softmax(scale · scores)` over the first `lengths[i]` entries of every row of document i; 0 for the rest.
///
/// # Errors
/// candle's, for scores that are not f32 `[documents, heads, queries, tokens]` on the CPU, and for lengths that do not fit.
pub fn softmax(scores: &Tensor, scale: f32, lengths: &[usize]) -> Result<Tensor> {
    let (documents, _, _, tokens) = scores.dims4()?;
    if lengths.len() != documents || lengths.iter().any(|&length| length == 0 || length > tokens) {
        bail!("softmax: expected {documents} lengths in 1..={tokens}, found {lengths:?}");
    }
    scores.contiguous()?.apply_op1(Forward { scale, lengths: lengths.into() })
}

struct Forward {
    scale: f32,
    lengths: Arc<[usize]>,
}

struct Backward {
    scale: f32,
    lengths: Arc<[usize]>,
}

/// How many entries of each row count, row after row.
fn rows(lengths: &[usize], shape: &Shape) -> impl Iterator<Item = usize> {
    let per_document = shape.elem_count() / shape.dims()[3].max(1) / lengths.len().max(1);
    lengths.iter().flat_map(move |&length| std::iter::repeat_n(length, per_document))
}

impl CustomOp1 for Forward {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let scores = values(self.name(), storage, layout)?;
        let shape = layout.shape();
        let tokens = shape.dims()[3];
        let mut weights = vec![0.0f32; scores.len()];
        let all = weights.chunks_exact_mut(tokens).zip(scores.chunks_exact(tokens));
        for ((weights, scores), length) in all.zip(rows(&self.lengths, shape)) {
            let (weights, scores) = (&mut weights[..length], &scores[..length]);
            let most = max(scores);
            weights.iter_mut().zip(scores).for_each(|(weight, &score)| *weight = exp(self.scale * (score - most)));
            let one_over = 1.0 / sum_pairs(weights, weights, |weight, _| weight);
            weights.iter_mut().for_each(|weight| *weight *= one_over);
        }
        Ok((CpuStorage::F32(weights), shape.clone()))
    }

    fn bwd(&self, _scores: &Tensor, weights: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let backward = Backward { scale: self.scale, lengths: self.lengths.clone() };
        weights.apply_op2_no_bwd(&gradient.contiguous()?, &backward).map(Some)
    }
}

impl CustomOp2 for Backward {
    fn name(&self) -> &'static str {
        "softmax backward"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (weights, gradient) = (values(self.name(), s1, l1)?, values(self.name(), s2, l2)?);
        let shape = l1.shape();
        let tokens = shape.dims()[3];
        let mut out = vec![0.0f32; weights.len()];
        let all = out.chunks_exact_mut(tokens).zip(weights.chunks_exact(tokens)).zip(gradient.chunks_exact(tokens));
        for (((out, weights), gradient), length) in all.zip(rows(&self.lengths, shape)) {
            let (weights, gradient) = (&weights[..length], &gradient[..length]);
            let mean = sum_pairs(weights, gradient, |weight, g| weight * g);
            let pairs = weights.iter().zip(gradient);
            out.iter_mut().zip(pairs).for_each(|(out, (&weight, &g))| *out = self.scale * weight * (g - mean));
        }
        Ok((CpuStorage::F32(out), shape.clone()))
    }
}
