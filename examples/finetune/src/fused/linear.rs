//! A frozen linear layer.

use super::values;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use candle_nn::Linear;
use std::sync::{Mutex, PoisonError};

/// `W x + b` with W and b frozen: the backward makes the gradient of x and nothing else.
///
/// candle makes the product `W x` outside the graph; this adds the bias where candle would run a second pass.
///
/// # Errors
/// candle's, for operands that do not fit.
pub fn linear(layer: &Linear, x: &Tensor) -> Result<Tensor> {
    let (rows, cols) = layer.weight().dims2()?;
    if x.dims().last() != Some(&cols) {
        bail!("linear: expected rows of {cols}, found shape {:?}", x.dims());
    }
    let flat = x.contiguous()?.reshape(((), cols))?;
    let product = flat.detach().matmul(&layer.weight().t()?)?;
    let bias = layer.bias().map(|bias| bias.to_vec1::<f32>()).transpose()?;
    let y = flat.apply_op1(Frozen { weight: layer.weight().detach(), product: Mutex::new(Some(product)), bias })?;
    let mut shape = x.dims().to_vec();
    shape.pop();
    shape.push(rows);
    y.reshape(shape)
}

struct Frozen {
    weight: Tensor,
    /// Taken by the forward, so that the graph does not keep it beside the result.
    product: Mutex<Option<Tensor>>,
    bias: Option<Vec<f32>>,
}

impl CustomOp1 for Frozen {
    fn name(&self) -> &'static str {
        "frozen linear"
    }

    fn cpu_fwd(&self, _x: &CpuStorage, _layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let Some(product) = self.product.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            bail!("frozen linear: expected one forward, found a second");
        };
        let (storage, layout) = product.storage_and_layout();
        let candle_core::Storage::Cpu(storage) = &*storage else {
            bail!("frozen linear: expected the CPU, found {:?}", product.device());
        };
        let values = values(self.name(), storage, layout)?;
        let y = match &self.bias {
            None => values.to_vec(),
            Some(bias) => {
                let mut y = Vec::with_capacity(values.len());
                for row in values.chunks_exact(bias.len()) {
                    y.extend(row.iter().zip(bias).map(|(product, bias)| product + bias));
                }
                y
            }
        };
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, _x: &Tensor, _y: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        gradient.contiguous()?.matmul(&self.weight).map(Some)
    }
}
