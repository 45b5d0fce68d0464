//! A call on candle's CPU: this crate's CPU backend on candle's own memory. The base product becomes the adapted output in place.

use super::branch::{Branch, Gradients, Operand, Saved, Tracked};
use super::tensor::{Element, elements, on_cpu, refused, take, with_element};
use crate::device::Device;
use crate::lowrank::{self, Bias, InputGradient, Layer, Output, Parameters, Plan, SavedMut};
use crate::mat::{Mat, MatMut, MatRef};
use candle_core::{CpuStorage, Device as CandleDevice, Result, Tensor, WithDType};

/// The adapted output `[t, m]`.
pub(super) fn forward(
    branch: &Branch,
    x: Operand<'_, CpuStorage>,
    b: Operand<'_, CpuStorage>,
    gate: Operand<'_, CpuStorage>,
) -> Result<CpuStorage> {
    with_element!(branch.frozen.dtype(), T => forward_of::<T>(branch, x, b, gate))
}

fn forward_of<T: Element>(
    branch: &Branch,
    x: Operand<'_, CpuStorage>,
    b: Operand<'_, CpuStorage>,
    gate: Operand<'_, CpuStorage>,
) -> Result<CpuStorage> {
    let (desc, tokens) = (branch.desc, branch.tokens);
    let mut y = take::<T>(branch.take_base()?)?;
    let h = matrix(elements::<T>(x.0, x.1)?, tokens, desc.cols)?;
    let weight = branch.frozen.weight().storage_and_layout();
    let w = matrix(on_cpu::<T>(&weight)?, desc.rows, desc.cols)?;
    let bias = branch.frozen.bias().map(Tensor::storage_and_layout);
    let bias = bias.as_ref().map(on_cpu::<T>).transpose()?;
    debug_assert_eq!(bias.is_some(), desc.bias != Bias::None);
    let layer = Layer { h: Some(h), w: Some(w), bias, dropout: branch.dropout };
    let output = Output::InPlace(MatMut::new(&mut y, tokens, desc.rows).map_err(refused)?);
    let parameters = parameters(branch, elements(b.0, b.1)?, elements(gate.0, gate.1)?)?;
    let plan = Plan::new(&Device::Cpu, desc).map_err(refused)?;
    if !branch.keep {
        plan.forward(&parameters, &layer, output, None).map_err(refused)?;
        return Ok(T::to_cpu_storage_owned(y));
    }
    let mut kept = Mat::<T>::zeros(tokens, branch.width()).map_err(refused)?;
    let mut values = Mat::<f32>::zeros(tokens, desc.components).map_err(refused)?;
    let saved = SavedMut { x: kept.as_mut(), gate: values.as_mut(), z: None };
    plan.forward(&parameters, &layer, output, Some(saved)).map_err(refused)?;
    branch.save(Saved { x: tensor(kept)?, gate: tensor(values)?, z: None })?;
    Ok(T::to_cpu_storage_owned(y))
}

/// The gradients of a call; see [`Branch::gradients`].
pub(super) fn backward(branch: &Branch, tracked: &Tracked<'_>, g: Tensor, wants_x: bool) -> Result<Gradients> {
    with_element!(branch.frozen.dtype(), T => backward_of::<T>(branch, tracked, g, wants_x))
}

fn backward_of<T: Element>(branch: &Branch, tracked: &Tracked<'_>, g: Tensor, wants_x: bool) -> Result<Gradients> {
    let (desc, tokens) = (branch.desc, branch.tokens);
    let plan = Plan::new(&Device::Cpu, desc).map_err(refused)?;
    let [x, b, gate] = [tracked.x, tracked.b, tracked.gate].map(Tensor::storage_and_layout);
    let kept = branch.kept()?;
    let [kept_x, kept_gate] = [&kept.x, &kept.gate].map(Tensor::storage_and_layout);
    let saved = lowrank::Saved {
        x: matrix(on_cpu::<T>(&kept_x)?, tokens, branch.width())?,
        gate: matrix(on_cpu::<f32>(&kept_gate)?, tokens, desc.components)?,
        z: None,
    };
    let h = matrix(on_cpu::<T>(&x)?, tokens, desc.cols)?;
    let layer = Layer { h: Some(h), w: None, bias: None, dropout: branch.dropout };
    let parameters = parameters(branch, on_cpu(&b)?, on_cpu(&gate)?)?;
    let mut of_b = Mat::<f32>::zeros(parameters.b.rows(), parameters.b.cols()).map_err(refused)?;
    let mut of_gate = Mat::<f32>::zeros(parameters.gate.rows(), parameters.gate.cols()).map_err(refused)?;
    let wants_h = wants_x && desc.gate.reads_input();
    let mut of_h = if wants_h { Some(Mat::<T>::zeros(tokens, desc.cols).map_err(refused)?) } else { None };
    let gradients = lowrank::Gradients {
        b: of_b.as_mut(),
        gate: of_gate.as_mut(),
        h_gate: of_h.as_mut().map(Mat::as_mut),
        accumulate: false,
    };
    let base = if wants_x {
        let mut g = Mat::from_vec(take::<T>(g)?, tokens, desc.rows).map_err(refused)?;
        let input = InputGradient::Scatter(g.as_mut());
        plan.backward(&parameters, &layer, saved, input, gradients).map_err(refused)?;
        Some(tensor(g)?)
    } else {
        let mut dx = Mat::<T>::zeros(tokens, branch.width()).map_err(refused)?;
        let g = g.storage_and_layout();
        let input = InputGradient::Separate { g: matrix(on_cpu(&g)?, tokens, desc.rows)?, dx: dx.as_mut() };
        plan.backward(&parameters, &layer, saved, input, gradients).map_err(refused)?;
        None
    };
    Ok(Gradients { b: tensor(of_b)?, gate: tensor(of_gate)?, h_gate: of_h.map(tensor).transpose()?, base })
}

fn parameters<'a>(branch: &'a Branch, b: &'a [f32], gate: &'a [f32]) -> Result<Parameters<'a>> {
    let Branch { desc, frozen, .. } = branch;
    let (rows, cols) = desc.gate.parameter_shape(desc.rank, desc.components, desc.cols);
    Ok(Parameters {
        skeleton: frozen.skeleton(),
        b: matrix(b, desc.rows / desc.split, desc.rank / desc.split)?,
        gate: matrix(gate, rows, cols)?,
        scale: frozen.scale(),
    })
}

fn matrix<T>(elements: &[T], rows: usize, cols: usize) -> Result<MatRef<'_, T>> {
    MatRef::new(elements, rows, cols).map_err(refused)
}

fn tensor<T: WithDType>(matrix: Mat<T>) -> Result<Tensor> {
    let shape = matrix.shape();
    Tensor::from_vec(matrix.into_vec(), shape, &CandleDevice::Cpu)
}
