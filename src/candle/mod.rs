//! Adapted layers for models written with [candle](candle_core), with autograd (feature `candle`).
//!
//! [`IdLoraLinear`] wraps a frozen [`candle_nn::Linear`]. candle's graph tracks its input, `B` and the gate's parameters; forward
//! and backward are this crate's, on candle's own memory: on its CPU and, with the feature `candle-cuda`, on its CUDA devices,
//! on candle's stream. Gradients are those of the same layer written with candle's operations.
//!
//! A model that holds [`Linear`]s and lists them ([`Linears`]) is adapted, saved, loaded and, with static gates, merged by one call each:
//!
//! ```
//! use candle_core::{DType, Device, Module, Result, Tensor};
//! use candle_nn::{AdamW, Optimizer, VarBuilder, VarMap, linear, loss};
//! use idlora::adapter::Config;
//! use idlora::candle::{Linear, Linears, adapt, load, save};
//!
//! struct Model {
//!     up: Linear,
//!     down: Linear,
//! }
//!
//! impl Module for Model {
//!     fn forward(&self, x: &Tensor) -> Result<Tensor> {
//!         self.down.forward(&self.up.forward(x)?.relu()?)
//!     }
//! }
//!
//! impl Linears for Model {
//!     fn visit_linears(
//!         &mut self,
//!         visit: &mut dyn FnMut(&str, &mut Linear) -> idlora::Result<()>,
//!     ) -> idlora::Result<()> {
//!         visit("up", &mut self.up)?;
//!         visit("down", &mut self.down)
//!     }
//! }
//!
//! fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
//!     // Pretrained weights, here random ones; `linear` is candle's.
//!     let weights = VarMap::new();
//!     let from = VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu);
//!     let pretrained = || -> Result<Model> {
//!         Ok(Model { up: linear(8, 32, from.pp("up"))?.into(), down: linear(32, 8, from.pp("down"))?.into() })
//!     };
//!     let mut model = pretrained()?;
//!
//!     // Every layer whose name matches gets an adapter; `vars` holds what is trained, as any optimiser takes it.
//!     let (vars, config) = (VarMap::new(), Config { rank: 2, clusters: 2, ..Config::default() });
//!     let adapted = adapt(&mut model, |_| true, &config, &vars)?;
//!     assert_eq!(adapted[0].name, "up");
//!
//!     let x = Tensor::randn(0f32, 1.0, (4, 16, 8), &Device::Cpu)?;
//!     let target = x.affine(0.5, 0.0)?;
//!     let mut optimizer = AdamW::new_lr(vars.all_vars(), 1e-2)?;
//!     let before = loss::mse(&model.forward(&x)?, &target)?.to_scalar::<f32>()?;
//!     for _ in 0..40 {
//!         optimizer.backward_step(&loss::mse(&model.forward(&x)?, &target)?)?;
//!     }
//!     let after = loss::mse(&model.forward(&x)?, &target)?.to_scalar::<f32>()?;
//!     assert!(after < 0.8 * before, "{before} became {after}");
//!
//!     // The file is this crate's own format; it fits no other weights.
//!     let folder = tempfile::tempdir()?;
//!     let dir = folder.path().join("adapter");
//!     save(&dir, &mut model)?;
//!     let mut fresh = pretrained()?;
//!     load(&dir, &mut fresh, &VarMap::new())?;
//!     assert_eq!(fresh.forward(&x)?.flatten_all()?.to_vec1::<f32>()?, model.forward(&x)?.flatten_all()?.to_vec1::<f32>()?);
//!     Ok(())
//! }
//! ```
//!
//! # What the caller must know
//!
//! * **candle's fused `rms_norm`, `layer_norm` and `softmax_last_dim` have no backward** and cut the graph without a word: no
//!   gradient reaches the adapters behind them. Use the plain ones (`rms_norm_slow`, `layer_norm_slow`, `softmax`) wherever a
//!   gradient must pass.
//! * **Only the adapter trains.** Base weight and bias are taken out of the graph when a layer is adapted, even if they are
//!   variables. A `VarMap` of its own for the adapters keeps them out of the optimiser too.
//! * **Element types.** The input has the base weight's: f32, f16 or bf16. Trained variables are f32 whatever that is.
//! * **Training and not.** [`IdLoraLinear::set_training`] and [`IdLoraLinear::forward_t`] switch dropout;
//!   [`IdLoraLinear::set_trainable`] switches what candle tracks. candle's own `ModuleT` covers every `Module` and drops its flag.
//! * **Memory.** A tracked call keeps `X [t, k·r]` and the gate values `[t, k]`, and candle keeps its input, as it does for
//!   every operation. A call of which nothing is tracked keeps nothing.
//! * **The same bits** for any number of threads, as everywhere in this crate, as long as candle's own products give them.

mod branch;
mod cpu;
#[cfg(feature = "candle-cuda")]
mod cuda;
mod dropout;
mod frozen;
mod layer;
mod model;
mod tensor;

pub use layer::IdLoraLinear;
pub use model::{Adapted, Linear, Linears, adapt, load, merge, save, visit_adapters};
