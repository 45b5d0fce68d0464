//! Models: all linear layers by name, adapted, saved and loaded in one call.

use super::layer::{IdLoraLinear, Unregistered};
use super::tensor::OP;
use crate::adapter::{Config, Counters, IdLora, Report};
use crate::error::{Error, Result};
use crate::format::native;
use candle_core::{Module, Tensor};
use candle_nn::{Linear as BaseLinear, VarMap};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A linear layer of a model: candle's own, or the same with an adapter on it.
#[derive(Clone, Debug)]
pub enum Linear {
    /// As it was made.
    Base(BaseLinear),
    /// Frozen, with an adapter on it.
    IdLora(IdLoraLinear),
}

impl Linear {
    /// candle's layer: the base of an adapted one.
    pub fn base(&self) -> &BaseLinear {
        match self {
            Self::Base(base) => base,
            Self::IdLora(layer) => layer.base(),
        }
    }

    /// The adapted layer, if it is one.
    pub fn adapted(&self) -> Option<&IdLoraLinear> {
        match self {
            Self::Base(_) => None,
            Self::IdLora(layer) => Some(layer),
        }
    }

    /// The adapted layer, if it is one, to change how it runs.
    pub fn adapted_mut(&mut self) -> Option<&mut IdLoraLinear> {
        match self {
            Self::Base(_) => None,
            Self::IdLora(layer) => Some(layer),
        }
    }

    /// The output, of an adapted layer with dropout if `train`: see [`IdLoraLinear::forward_t`].
    ///
    /// # Errors
    /// candle's.
    pub fn forward_t(&self, x: &Tensor, train: bool) -> candle_core::Result<Tensor> {
        match self {
            Self::Base(base) => base.forward(x),
            Self::IdLora(layer) => layer.forward_t(x, train),
        }
    }
}

impl From<BaseLinear> for Linear {
    fn from(base: BaseLinear) -> Self {
        Self::Base(base)
    }
}

impl Module for Linear {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Base(base) => base.forward(x),
            Self::IdLora(layer) => layer.forward(x),
        }
    }
}

/// A model that can list its linear layers.
pub trait Linears {
    /// Calls `visit` with every linear layer and its name, always in the same order; names differ. Stops at the first error
    /// and returns it.
    ///
    /// # Errors
    /// Those of `visit`.
    fn visit_linears(&mut self, visit: &mut dyn FnMut(&str, &mut Linear) -> Result<()>) -> Result<()>;
}

/// What [`adapt`] made of a layer.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Adapted {
    /// The layer's name.
    pub name: String,
    /// What choosing its rows found.
    pub report: Report,
    /// What the adapter costs.
    pub counters: Counters,
}

/// Adapts every linear layer whose name `matches`, and registers the trained variables in `vars`: all of them or, after an
/// error, none. To adapt layers by several configurations, call it once for each.
///
/// # Errors
/// [`Error::Operand`] where no name matches, a match is adapted already, or two layers have one name; for a layer, those of
/// [`IdLoraLinear::new`].
pub fn adapt<M: Linears + ?Sized>(
    model: &mut M,
    matches: impl Fn(&str) -> bool,
    config: &Config,
    vars: &VarMap,
) -> Result<Vec<Adapted>> {
    let (mut layers, mut adapted) = (Vec::new(), Vec::new());
    let mut seen = Names::default();
    model.visit_linears(&mut |name, linear| {
        seen.add(name)?;
        if !matches(name) {
            return Ok(());
        }
        let (layer, report) = Unregistered::new(unadapted(name, linear)?, name, config)?;
        adapted.push((name.to_owned(), report));
        layers.push(layer);
        Ok(())
    })?;
    if layers.is_empty() {
        return Err(Error::operand(OP, "matches", format!("matches no linear layer of the model, which has {seen}")));
    }
    let counters = put(model, layers, vars)?;
    let with_counters = |((name, report), counters)| Adapted { name, report, counters };
    Ok(adapted.into_iter().zip(counters).map(with_counters).collect())
}

/// Writes the adapters of a model, in the order of its layers, to the folder `dir`, which must not exist: as
/// [`format::native::save`](crate::format::native::save), whose files know nothing of candle.
///
/// # Errors
/// [`Error::Operand`] where no layer is adapted; those of [`IdLoraLinear::adapter`] and of `format::native::save`.
pub fn save<M: Linears + ?Sized>(dir: &Path, model: &mut M) -> Result<()> {
    let mut adapters = Vec::new();
    visit_adapters(model, &mut |layer| {
        adapters.push(layer.adapter()?);
        Ok(())
    })?;
    native::save(dir, &adapters)
}

/// Reads adapters that [`save`], or any other program that links this crate, has written to the folder `dir`, puts them on the layers of
/// those names, and registers the trained variables in `vars`: all of them or, after an error, none. The costs, in the
/// order of the model's layers.
///
/// # Errors
/// Those of [`format::native::load`](crate::format::native::load); [`Error::Operand`] for a name that no layer of the model
/// has, or whose layer is adapted already; [`Error::Digest`] for a layer of another weight.
pub fn load<M: Linears + ?Sized>(dir: &Path, model: &mut M, vars: &VarMap) -> Result<Vec<(String, Counters)>> {
    let mut adapters: BTreeMap<String, IdLora> =
        native::load(dir)?.into_iter().map(|adapter| (adapter.name().to_owned(), adapter)).collect();
    let (mut layers, mut names) = (Vec::new(), Vec::new());
    let mut seen = Names::default();
    model.visit_linears(&mut |name, linear| {
        seen.add(name)?;
        if let Some(adapter) = adapters.remove(name) {
            layers.push(Unregistered::of(unadapted(name, linear)?, adapter, true)?);
            names.push(name.to_owned());
        }
        Ok(())
    })?;
    if let Some(name) = adapters.keys().next() {
        return Err(Error::operand(OP, "model", format!("has no linear layer `{name}`; it has {seen}")));
    }
    Ok(names.into_iter().zip(put(model, layers, vars)?).collect())
}

/// Makes plain layers of all adapted ones, with the update in the weight ([`IdLoraLinear::merged`]), as PEFT's `merge_and_unload`
/// does: all of them or, after an error, none. Returns how many. Nothing in the model depends on the trained variables afterwards.
///
/// Until it returns there are two copies of every adapted weight; a base weight that somebody else holds is not changed.
///
/// # Errors
/// [`Error::Operand`] where no layer is adapted, and those of [`IdLoraLinear::merged`].
pub fn merge<M: Linears + ?Sized>(model: &mut M) -> Result<usize> {
    let mut merged = Vec::new();
    visit_adapters(model, &mut |layer| {
        merged.push(layer.merged()?);
        Ok(())
    })?;
    let count = merged.len();
    let mut merged = merged.into_iter();
    model.visit_linears(&mut |_, linear| {
        if linear.adapted().is_some() {
            // Visited in the same order as before.
            merged.next().into_iter().for_each(|base| *linear = Linear::Base(base));
        }
        Ok(())
    })?;
    Ok(count)
}

/// Calls `visit` with every adapted layer, to set [dropout](IdLoraLinear::set_dropout),
/// [training or not](IdLoraLinear::set_training) and the like, or to read.
///
/// # Errors
/// [`Error::Operand`] where no layer is adapted, and those of `visit`.
pub fn visit_adapters<M: Linears + ?Sized>(
    model: &mut M,
    visit: &mut dyn FnMut(&mut IdLoraLinear) -> Result<()>,
) -> Result<()> {
    let mut any = false;
    model.visit_linears(&mut |_, linear| {
        let Some(layer) = linear.adapted_mut() else { return Ok(()) };
        any = true;
        visit(layer)
    })?;
    if any { Ok(()) } else { Err(Error::operand(OP, "model", "has no adapted layer")) }
}

/// candle's layer, if it has no adapter yet.
fn unadapted<'a>(name: &str, linear: &'a Linear) -> Result<&'a BaseLinear> {
    match linear {
        Linear::Base(base) => Ok(base),
        Linear::IdLora(_) => Err(Error::operand(OP, "model", format!("has an adapter on `{name}` already"))),
    }
}

/// Registers the layers and puts them in the model, whose order they have; their costs.
fn put<M: Linears + ?Sized>(model: &mut M, layers: Vec<Unregistered>, vars: &VarMap) -> Result<Vec<Counters>> {
    let layers = Unregistered::register(layers, vars)?;
    let counters = layers.iter().map(IdLoraLinear::counters).collect();
    let mut layers: BTreeMap<String, IdLoraLinear> =
        layers.into_iter().map(|layer| (layer.name().to_owned(), layer)).collect();
    model.visit_linears(&mut |name, linear| {
        if let Some(layer) = layers.remove(name) {
            *linear = Linear::IdLora(layer);
        }
        Ok(())
    })?;
    Ok(counters)
}

/// Names seen so far.
#[derive(Default)]
struct Names(BTreeSet<String>);

impl Names {
    fn add(&mut self, name: &str) -> Result<()> {
        if self.0.insert(name.to_owned()) {
            return Ok(());
        }
        Err(Error::operand(OP, "model", format!("has two linear layers named `{name}`")))
    }
}

impl std::fmt::Display for Names {
    /// A few of them: enough to see how they are written.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const SHOWN: usize = 4;
        let shown: Vec<String> = self.0.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
        match self.0.len() {
            0 => f.write_str("none"),
            count if count <= SHOWN => f.write_str(&shown.join(", ")),
            count => write!(f, "{} and {} more", shown.join(", "), count - SHOWN),
        }
    }
}
