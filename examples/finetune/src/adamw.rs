//! AdamW (Loshchilov and Hutter, arXiv 1711.05101), with its state in the open so that a run can be continued.
//!
//! ```text
//! m ← β₁ m + (1 − β₁) g          v ← β₂ v + (1 − β₂) g²
//! θ ← (1 − η λ) θ − η (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε)
//! ```

use crate::error::{Error, Result};
use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use candle_nn::VarMap;
use std::collections::HashMap;

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// A trained tensor and its moments.
struct Slot {
    name: String,
    var: Var,
    first: Vec<f32>,
    second: Vec<f32>,
}

/// The optimiser of the tensors of a `VarMap`.
pub struct AdamW {
    slots: Vec<Slot>,
    steps: usize,
    weight_decay: f64,
}

impl AdamW {
    /// Takes all tensors of `vars`, in the order of their names, with moments of 0.
    pub fn new(vars: &VarMap, weight_decay: f64) -> Self {
        let data = vars.data().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let slot = |(name, var): (&String, &Var)| {
            let zero = vec![0.0; var.elem_count()];
            Slot { name: name.clone(), var: var.clone(), first: zero.clone(), second: zero }
        };
        let mut slots: Vec<Slot> = data.iter().map(slot).collect();
        slots.sort_by(|a, b| a.name.cmp(&b.name));
        Self { slots, steps: 0, weight_decay }
    }

    /// One step at learning rate `rate`. A tensor without a gradient stays as it is.
    ///
    /// # Errors
    /// candle's, for tensors that are not f32.
    pub fn step(&mut self, gradients: &GradStore, rate: f64) -> Result<()> {
        self.steps += 1;
        let correction = |beta: f64| 1.0 - beta.powf(self.steps as f64);
        let (first, second) = (correction(BETA1), correction(BETA2));
        for slot in &mut self.slots {
            let Some(gradient) = gradients.get(&slot.var) else { continue };
            let gradient = gradient.flatten_all()?.to_vec1::<f32>()?;
            let mut values = slot.var.flatten_all()?.to_vec1::<f32>()?;
            let moments = slot.first.iter_mut().zip(&mut slot.second);
            for ((value, (m, v)), &g) in values.iter_mut().zip(moments).zip(&gradient) {
                let g = f64::from(g);
                *m = (BETA1 * f64::from(*m) + (1.0 - BETA1) * g) as f32;
                *v = (BETA2 * f64::from(*v) + (1.0 - BETA2) * g * g) as f32;
                let update = f64::from(*m) / first / ((f64::from(*v) / second).sqrt() + EPSILON);
                *value = (f64::from(*value) * (1.0 - rate * self.weight_decay) - rate * update) as f32;
            }
            slot.var.set(&Tensor::from_vec(values, slot.var.shape(), slot.var.device())?)?;
        }
        Ok(())
    }

    /// Steps done.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Trained tensors and moments by name: `NAME`, `first.NAME`, `second.NAME`.
    ///
    /// # Errors
    /// candle's.
    pub fn state(&self) -> Result<HashMap<String, Tensor>> {
        let mut state = HashMap::new();
        for slot in &self.slots {
            let (shape, device) = (slot.var.shape(), slot.var.device());
            state.insert(slot.name.clone(), slot.var.as_detached_tensor().copy()?);
            state.insert(format!("first.{}", slot.name), Tensor::from_slice(&slot.first, shape, device)?);
            state.insert(format!("second.{}", slot.name), Tensor::from_slice(&slot.second, shape, device)?);
        }
        Ok(state)
    }

    /// Continues from what [`AdamW::state`] gave after `steps` steps.
    ///
    /// # Errors
    /// [`Error::Operand`] for a tensor that is missing or of another shape; then nothing is changed.
    pub fn restore(&mut self, state: &HashMap<String, Tensor>, steps: usize) -> Result<()> {
        let find = |name: String, like: &Var| match state.get(&name) {
            Some(tensor) if tensor.shape() == like.shape() => Ok(tensor.flatten_all()?.to_vec1::<f32>()?),
            Some(tensor) => {
                Err(Error::operand(name, format!("shape {:?}", like.dims()), format!("{:?}", tensor.dims())))
            }
            None => Err(Error::operand(name, "a tensor of this name", "none")),
        };
        let mut found = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            let name = &slot.name;
            let moments = (find(format!("first.{name}"), &slot.var)?, find(format!("second.{name}"), &slot.var)?);
            found.push((find(name.clone(), &slot.var)?, moments));
        }
        for (slot, (values, (first, second))) in self.slots.iter_mut().zip(found) {
            slot.var.set(&Tensor::from_vec(values, slot.var.shape(), slot.var.device())?)?;
            (slot.first, slot.second) = (first, second);
        }
        self.steps = steps;
        Ok(())
    }
}
