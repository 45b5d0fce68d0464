//! `IdLoraLinear`: a frozen linear layer of candle's with an adapter on it.

use super::branch::Branch;
use super::dropout::Drops;
use super::frozen::{Base, Frozen};
use super::tensor::{self, OP, refused, said};
use crate::adapter::{Config, Counters, IdLora, Report};
use crate::error::{Error, Result};
use crate::lowrank::{DownProjection, Dropout};
use crate::mat::Mat;
use candle_core::{Module, Tensor, Var};
use candle_nn::{Linear, VarMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A frozen linear layer `y = W h + b` with an adapter on it, as candle's models call it.
///
/// `B` and the gate's parameters are f32 variables, registered in a [`VarMap`] as `NAME.b` and `NAME.gate`. The output has the
/// input's element type, which is the base weight's. Copies of a layer share its variables.
#[derive(Clone, Debug)]
pub struct IdLoraLinear {
    frozen: Arc<Frozen>,
    b: Var,
    gate: Var,
    down: DownProjection,
    dropout: Option<Drops>,
    training: bool,
    trainable: bool,
}

/// The operation of a call, and its inputs.
struct Call {
    x: Tensor,
    b: Tensor,
    gate: Tensor,
    branch: Branch,
}

/// A layer that is not in a [`VarMap`] yet.
pub(super) struct Unregistered {
    frozen: Frozen,
    b: Mat<f32>,
    gate: Mat<f32>,
}

impl Unregistered {
    /// With rows chosen anew.
    pub fn new(base: &Linear, name: &str, config: &Config) -> Result<(Self, Report)> {
        let base = Base::new(base)?;
        let (adapter, report) = base.init(name, config)?;
        let (frozen, b, gate) = base.with_own(adapter);
        Ok((Self { frozen, b, gate }, report))
    }

    /// With those of an adapter.
    pub fn of(base: &Linear, adapter: IdLora, checked: bool) -> Result<Self> {
        let (frozen, b, gate) = Base::new(base)?.freeze(adapter, checked)?;
        Ok(Self { frozen, b, gate })
    }

    /// The layers, with their variables in the map: all of them or, after an error, none.
    pub fn register(all: Vec<Self>, vars: &VarMap) -> Result<Vec<IdLoraLinear>> {
        let layers = all.into_iter().map(Self::into_layer).collect::<Result<Vec<_>>>()?;
        let mut map = vars.data().lock().unwrap_or_else(PoisonError::into_inner);
        let names = layers.iter().flat_map(|layer| [layer.name_of("b"), layer.name_of("gate")]);
        if let Some(name) = names.into_iter().find(|name| map.contains_key(name)) {
            return Err(Error::operand(OP, "vars", format!("has a variable `{name}` already")));
        }
        for layer in &layers {
            map.insert(layer.name_of("b"), layer.b.clone());
            map.insert(layer.name_of("gate"), layer.gate.clone());
        }
        Ok(layers)
    }

    fn into_layer(self) -> Result<IdLoraLinear> {
        let Self { frozen, b, gate } = self;
        let device = frozen.weight().device();
        let var = |values: Mat<f32>| {
            let shape = values.shape();
            Var::from_vec(values.into_vec(), shape, device).map_err(said)
        };
        let (b, gate) = (var(b)?, var(gate)?);
        let (down, dropout) = (DownProjection::Gather, None);
        Ok(IdLoraLinear { frozen: Arc::new(frozen), b, gate, down, dropout, training: true, trainable: true })
    }
}

impl IdLoraLinear {
    /// Adapts a layer: chooses rows of its weight, as [`IdLora::init`] does, on the CPU wherever the weight lies, and registers
    /// the trained variables in `vars`. The weight and the bias are frozen: no gradient of theirs is computed.
    ///
    /// # Errors
    /// Those of [`IdLora::init`]; [`Error::Parameter`] for a weight or bias of another element type than f32, f16 and bf16;
    /// [`Error::Shape`]; [`Error::Device`] for a device that is neither the CPU nor CUDA; [`Error::Operand`] where `vars` has a
    /// variable of that name; [`Error::Candle`].
    pub fn new(base: &Linear, name: &str, config: &Config, vars: &VarMap) -> Result<(Self, Report)> {
        let (layer, report) = Unregistered::new(base, name, config)?;
        Ok((Self::registered(layer, vars)?, report))
    }

    /// Puts an adapter on the layer whose weight it was made from, and registers its variables in `vars`.
    ///
    /// # Errors
    /// [`Error::Digest`] for another weight, and those of [`IdLoraLinear::new`].
    pub fn from_adapter(base: &Linear, adapter: IdLora, vars: &VarMap) -> Result<Self> {
        Self::registered(Unregistered::of(base, adapter, true)?, vars)
    }

    /// [`IdLoraLinear::from_adapter`] on any weight of the shape, such as a requantised one: row numbers stay meaningful as far
    /// as the rows do. From then on the adapter is one of this weight, and says so when it is saved.
    ///
    /// # Errors
    /// Those of [`IdLoraLinear::new`].
    pub fn from_adapter_on_another_base(base: &Linear, adapter: IdLora, vars: &VarMap) -> Result<Self> {
        Self::registered(Unregistered::of(base, adapter, false)?, vars)
    }

    fn registered(layer: Unregistered, vars: &VarMap) -> Result<Self> {
        // One goes in, one comes out.
        let mut layers = Unregistered::register(vec![layer], vars)?;
        Ok(layers.remove(0))
    }

    /// The module's name in its model.
    pub fn name(&self) -> &str {
        self.frozen.name()
    }

    /// The frozen layer.
    pub fn base(&self) -> &Linear {
        self.frozen.base()
    }

    /// The choices that the adapter was made with.
    pub fn config(&self) -> &Config {
        self.frozen.config()
    }

    /// Chosen rows of the base weight, `[k, r]` row-major.
    pub fn skeleton(&self) -> &[u32] {
        self.frozen.skeleton()
    }

    /// What the adapter costs.
    pub fn counters(&self) -> Counters {
        self.frozen.counters()
    }

    /// The shared matrix `B [m/s, r/s]`.
    pub fn b(&self) -> &Var {
        &self.b
    }

    /// The gate's parameters: `[1, r]`, `[k, n]` or `[1, k]`.
    pub fn gate(&self) -> &Var {
        &self.gate
    }

    /// The adapter with the variables' values of now, to save it or to use it without candle.
    ///
    /// # Errors
    /// [`Error::NonFinite`] where training has left NaN or infinity, [`Error::Candle`] where a device does not give the values.
    pub fn adapter(&self) -> Result<IdLora> {
        let values = |var: &Var| {
            let (rows, cols) = var.dims2().map_err(said)?;
            let values = var.flatten_all().and_then(|all| all.to_vec1::<f32>()).map_err(said)?;
            Mat::from_vec(values, rows, cols)
        };
        self.frozen.adapter(values(&self.b)?, values(&self.gate)?)
    }

    /// A plain layer that computes what this one computes outside of training: the update is in a copy of the weight, rounded to
    /// its element type. The layer itself stays as it is. Computed on the CPU wherever the weight lies, in f64.
    ///
    /// # Errors
    /// [`Error::Unsupported`] unless the gate is static; those of [`IdLoraLinear::adapter`].
    pub fn merged(&self) -> Result<Linear> {
        self.frozen.merged(&self.adapter()?)
    }

    /// Where `X` comes from: gathered from the base layer's product `W h` (at first), or a product of its own with the chosen
    /// rows, in f32 whatever the element type, which costs `t·n·k·r` multiplications more.
    pub fn set_down(&mut self, down: DownProjection) {
        self.down = down;
    }

    /// Dropout on `X` in training, none with a `probability` of 0: see [`Dropout`]. Every training call draws a mask of its own;
    /// all of them follow from `seed`, the layer's name and the number of the call, which begins at 0 again.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a probability outside [0, 1).
    pub fn set_dropout(&mut self, probability: f32, seed: u64) -> Result<()> {
        let drops = Drops::new(probability, seed, self.name())?;
        self.dropout = (probability > 0.0).then_some(drops);
        Ok(())
    }

    /// The mask of training call number `call`, where there is dropout.
    pub fn dropout_of(&self, call: u64) -> Option<Dropout> {
        self.dropout.as_ref().map(|drops| drops.of(call))
    }

    /// Training calls since dropout was set, all copies of the layer together: a part of what a run that is resumed needs.
    pub fn dropout_calls(&self) -> u64 {
        self.dropout.as_ref().map_or(0, Drops::calls)
    }

    /// Goes on after so many training calls. Without dropout there is nothing to go on with.
    pub fn set_dropout_calls(&mut self, calls: u64) {
        if let Some(drops) = &self.dropout {
            drops.set_calls(calls);
        }
    }

    /// Whether [`Module::forward`] trains (at first it does): only then is there dropout.
    pub fn set_training(&mut self, training: bool) {
        self.training = training;
    }

    /// Whether candle tracks `B` and the gate (at first it does). Where it tracks them not, and the input neither, as in
    /// inference, a call keeps nothing for a backward.
    pub fn set_trainable(&mut self, trainable: bool) {
        self.trainable = trainable;
    }

    /// The adapted output `[…, m]` of `x […, n]`, with dropout if `train`, whatever [`IdLoraLinear::set_training`] has said.
    ///
    /// (candle's own `ModuleT` covers every `Module` and drops the flag; called as a method, this one is found first.)
    ///
    /// # Errors
    /// candle's, in this crate's words where this crate refuses: another element type, device or last dimension than the base's.
    pub fn forward_t(&self, x: &Tensor, train: bool) -> candle_core::Result<Tensor> {
        let Call { x, b, gate, branch } = self.call(x, train)?;
        x.apply_op3(&b, &gate, branch)
    }

    /// A call that has run the base layer's product and not yet the adapter.
    fn call(&self, x: &Tensor, train: bool) -> candle_core::Result<Call> {
        let tokens = self.check(x).map_err(refused)?;
        let (rows, cols) = self.frozen.shape();
        let x = x.contiguous()?;
        let base = x.detach().reshape((tokens, cols))?.matmul(&self.frozen.weight().t()?)?;
        let [b, gate] = [&self.b, &self.gate].map(|var| match self.trainable {
            true => var.as_tensor().clone(),
            false => var.as_detached_tensor(),
        });
        let mut dims = x.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = rows;
        }
        let branch = Branch {
            frozen: Arc::clone(&self.frozen),
            desc: self.frozen.desc(self.down),
            tokens,
            dropout: self.dropout.as_ref().filter(|_| train).map(Drops::next),
            shape: dims.into(),
            keep: [&x, &b, &gate].into_iter().any(Tensor::track_op),
            base: Mutex::new(Some(base)),
            saved: OnceLock::new(),
        };
        Ok(Call { x, b, gate, branch })
    }

    /// How many tokens `x` holds.
    fn check(&self, x: &Tensor) -> Result<usize> {
        let (_, cols) = self.frozen.shape();
        let Some((&last, leading)) = x.dims().split_last() else {
            return Err(Error::shape(OP, "x", format!("shape […, {cols}]"), "no dimensions"));
        };
        if last != cols {
            return Err(Error::shape(OP, "x", format!("shape […, {cols}]"), format!("shape {:?}", x.dims())));
        }
        let (expected, found) = (self.frozen.dtype(), tensor::dtype("dtype of `x`", x)?);
        if found != expected {
            let expected = format!("{}, the base weight's", expected.name());
            return Err(Error::parameter(OP, "dtype of `x`", expected, found.name()));
        }
        if !x.device().same_device(self.frozen.weight().device()) {
            return Err(Error::operand(OP, "x", "lies on another device than the base weight"));
        }
        Ok(leading.iter().product())
    }

    fn name_of(&self, variable: &str) -> String {
        format!("{}.{variable}", self.name())
    }
}

impl Module for IdLoraLinear {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.forward_t(x, self.training)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lowrank::Gate;
    use candle_core::{CustomOp3 as _, Device};

    fn layer(gate: Gate) -> IdLoraLinear {
        let weight = Tensor::randn(0f32, 1.0, (12, 5), &Device::Cpu).unwrap();
        let config = Config { rank: 2, clusters: 3, gate, b_init: crate::adapter::BInit::Normal, ..Config::default() };
        IdLoraLinear::new(&Linear::new(weight, None), "up", &config, &VarMap::new()).unwrap().0
    }

    fn run(call: &Call) -> Tensor {
        call.x.apply_op3_no_bwd(&call.b, &call.gate, &call.branch).unwrap()
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    /// Something is kept if something is tracked, and `Y0` never.
    #[test]
    fn a_call_keeps_what_a_backward_can_ask_for() {
        let mut layer = layer(Gate::LinearSoftmax);
        let constant = Tensor::randn(0f32, 1.0, (4, 5), &Device::Cpu).unwrap();
        let variable = Var::from_tensor(&constant).unwrap();
        for (trainable, x, keeps) in [
            (true, &constant, true),
            (true, variable.as_tensor(), true),
            (false, variable.as_tensor(), true),
            (false, &constant, false),
        ] {
            layer.set_trainable(trainable);
            let call = layer.call(x, true).unwrap();
            run(&call);
            assert_eq!(call.branch.saved.get().is_some(), keeps, "trainable {trainable}");
            assert!(call.branch.base.lock().unwrap().is_none());
        }
    }

    /// candle's gradient of the output may be somebody else's as well: it stays as it is.
    #[test]
    fn a_backward_leaves_the_gradient_that_it_is_given() {
        for gate in [Gate::Inner, Gate::Linear] {
            let layer = layer(gate);
            let x = Var::randn(0f32, 1.0, (4, 5), &Device::Cpu).unwrap();
            let call = layer.call(&x, true).unwrap();
            let y = run(&call);
            let g = Tensor::randn(0f32, 1.0, (4, 12), &Device::Cpu).unwrap();
            let before = values(&g);
            let (dx, _, _) = call.branch.bwd(&call.x, &call.b, &call.gate, &y, &g).unwrap();
            assert!(values(&dx.unwrap()).iter().any(|x| *x != 0.0));
            assert_eq!(values(&g), before, "{gate:?}");
        }
    }
}
