//! Models: adapted, saved and loaded by one call.

use crate::case::bits;
use candle_core::{DType, Device, Module, Result, Tensor};
use candle_nn::{VarBuilder, VarMap, linear, linear_no_bias};
use idlora::adapter::{BInit, Config, Counters, IdLora};
use idlora::candle::{IdLoraLinear, Linear, Linears, adapt, load, merge, save, visit_adapters};
use idlora::format::native;
use idlora::lowrank::Gate;
use std::collections::BTreeSet;

/// Two blocks of two layers and a head.
pub struct Model {
    layers: Vec<(String, Linear)>,
}

impl Linears for Model {
    fn visit_linears(&mut self, visit: &mut dyn FnMut(&str, &mut Linear) -> idlora::Result<()>) -> idlora::Result<()> {
        self.layers.iter_mut().try_for_each(|(name, linear)| visit(name, linear))
    }
}

impl Module for Model {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for (_, linear) in &self.layers {
            x = linear.forward(&x)?.tanh()?;
        }
        Ok(x)
    }
}

/// The same numbers every time they come from the same map.
pub fn model(weights: &VarMap) -> Model {
    let from = VarBuilder::from_varmap(weights, DType::F32, &Device::Cpu);
    let mut layers = Vec::new();
    for block in 0..2 {
        let name = |layer: &str| format!("blocks.{block}.{layer}");
        layers.push((name("up"), linear(8, 20, from.pp(name("up"))).unwrap().into()));
        layers.push((name("down"), linear_no_bias(20, 8, from.pp(name("down"))).unwrap().into()));
    }
    layers.push(("head".to_owned(), linear(8, 6, from.pp("head")).unwrap().into()));
    Model { layers }
}

pub fn config() -> Config {
    Config { rank: 2, clusters: 2, gate: Gate::Inner, b_init: BInit::Normal, ..Config::default() }
}

fn in_blocks(name: &str) -> bool {
    name.starts_with("blocks.")
}

fn input() -> Tensor {
    let values: Vec<f32> = (0..40).map(|i| (i as f32 * 0.37).sin()).collect();
    Tensor::from_vec(values, (5, 8), &Device::Cpu).unwrap()
}

#[test]
fn one_call_adapts_what_matches() {
    let weights = VarMap::new();
    let (mut model, vars) = (model(&weights), VarMap::new());
    let before = bits(&model.forward(&input()).unwrap());
    let zero = Config { b_init: BInit::Zero, ..config() };
    let adapted = adapt(&mut model, in_blocks, &zero, &vars).unwrap();
    let names: Vec<&str> = adapted.iter().map(|adapted| adapted.name.as_str()).collect();
    assert_eq!(names, ["blocks.0.up", "blocks.0.down", "blocks.1.up", "blocks.1.down"]);
    assert_eq!(bits(&model.forward(&input()).unwrap()), before, "with B = 0 nothing changes");
    for (adapted, (rows, cols)) in adapted.iter().zip([(20, 8), (8, 20), (20, 8), (8, 20)]) {
        assert_eq!(adapted.counters, Counters::of(rows, cols, &zero).unwrap());
        assert_eq!(adapted.report.sizes.iter().sum::<usize>(), rows);
    }
    let registered: BTreeSet<String> = vars.data().lock().unwrap().keys().cloned().collect();
    let expected = names.iter().flat_map(|name| [format!("{name}.b"), format!("{name}.gate")]).collect();
    assert_eq!(registered, expected);
    for var in vars.all_vars() {
        assert_eq!(var.dtype(), DType::F32);
    }
    let trained: usize = vars.all_vars().iter().map(|var| var.elem_count()).sum();
    assert_eq!(trained, adapted.iter().map(|adapted| adapted.counters.trained).sum::<usize>());

    // The rest by another configuration.
    let config = Config { rank: 1, split: 1, ..config() };
    let head = adapt(&mut model, |name| name == "head", &config, &vars).unwrap();
    assert_eq!(head[0].name, "head");
    let mut ranks = Vec::new();
    visit_adapters(&mut model, &mut |layer| {
        ranks.push(layer.config().rank);
        Ok(())
    })
    .unwrap();
    assert_eq!(ranks, [2, 2, 2, 2, 1]);
}

/// The same as [`IdLora::init`] with the same name: a model adapted here is one adapted by the command line.
#[test]
fn an_adapter_is_that_of_its_weight() {
    let weights = VarMap::new();
    let (mut model, vars) = (model(&weights), VarMap::new());
    adapt(&mut model, in_blocks, &config(), &vars).unwrap();
    let (name, linear) = &model.layers[1];
    let layer = linear.adapted().unwrap();
    let values: Vec<f32> = layer.base().weight().flatten_all().unwrap().to_vec1().unwrap();
    let w = idlora::Mat::from_vec(values, 8, 20).unwrap();
    let (expected, _) = IdLora::init(&idlora::Device::Cpu, name, w.as_ref(), &config()).unwrap();
    let found = layer.adapter().unwrap();
    assert_eq!((found.skeleton(), found.digest()), (expected.skeleton(), expected.digest()));
    assert_eq!(found.b().data(), expected.b().data());
    assert_eq!(found.gate().data(), expected.gate().data());
    assert_eq!(layer.skeleton(), found.skeleton());
}

#[test]
fn what_is_saved_is_what_is_loaded() {
    let weights = VarMap::new();
    let (mut trained, vars) = (model(&weights), VarMap::new());
    let adapted = adapt(&mut trained, in_blocks, &config(), &vars).unwrap();
    for var in vars.all_vars() {
        var.set(&(var.as_tensor() + 0.25).unwrap()).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("adapter");
    save(&dir, &mut trained).unwrap();

    let (mut fresh, loaded) = (model(&weights), VarMap::new());
    let costs = load(&dir, &mut fresh, &loaded).unwrap();
    assert_eq!(costs, adapted.iter().map(|a| (a.name.clone(), a.counters)).collect::<Vec<_>>());
    assert_eq!(bits(&fresh.forward(&input()).unwrap()), bits(&trained.forward(&input()).unwrap()));
    assert_eq!(loaded.all_vars().len(), vars.all_vars().len());
    for (name, var) in vars.data().lock().unwrap().iter() {
        assert_eq!(bits(&loaded.data().lock().unwrap()[name]), bits(var), "{name}");
    }

    // The file is the native one, and what was loaded saves as the same bytes.
    assert_eq!(native::load(&dir).unwrap().len(), 4);
    let again = folder.path().join("again");
    save(&again, &mut fresh).unwrap();
    let read = |dir: &std::path::Path| std::fs::read(dir.join(native::FILE)).unwrap();
    assert_eq!(read(&again), read(&dir));
}

/// Static gates become weights: those of [`IdLora::merge`] to the bit, and the output that the adapters gave, within
/// the rounding of f32 over two blocks of unit numbers (1e-5 is some hundred units). Everything else stays.
#[test]
fn what_is_merged_computes_the_same() {
    let weights = VarMap::new();
    let (mut model, vars) = (model(&weights), VarMap::new());
    let base = bits(&model.forward(&input()).unwrap());
    let kept = model.layers[0].1.base().weight().clone();
    let config = Config { gate: Gate::Static, ..config() };
    adapt(&mut model, in_blocks, &config, &vars).unwrap();
    visit_adapters(&mut model, &mut |layer| {
        layer.set_training(false);
        layer.set_dropout(0.5, 3)
    })
    .unwrap();
    let before = model.forward(&input()).unwrap();
    let adapters: Vec<_> =
        model.layers.iter().filter_map(|(_, linear)| linear.adapted()).map(|layer| layer.adapter().unwrap()).collect();
    let pretrained: Vec<Vec<f32>> = model
        .layers
        .iter()
        .map(|(_, linear)| linear.base().weight().flatten_all().unwrap().to_vec1().unwrap())
        .collect();

    assert_eq!(merge(&mut model).unwrap(), 4);
    for (adapter, (w, (name, linear))) in adapters.iter().zip(pretrained.into_iter().zip(&model.layers)) {
        assert!(linear.adapted().is_none(), "{name}");
        let mut expected = idlora::Mat::from_vec(w, adapter.rows(), adapter.cols()).unwrap();
        adapter.merge(&idlora::Device::Cpu, expected.as_mut()).unwrap();
        let found: Vec<f32> = linear.base().weight().flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(found, expected.data(), "{name}");
    }
    let after = model.forward(&input()).unwrap();
    let apart = (&after - &before).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    assert!(apart < 1e-5, "{apart}");
    assert_ne!(bits(&after), base, "the adapters do something");
    assert_eq!(
        bits(&self::model(&weights).forward(&input()).unwrap()),
        base,
        "the pretrained weights are as they were"
    );
    assert_ne!(bits(&kept), bits(model.layers[0].1.base().weight()));
}

/// A digest of another weight is kept out, unless the caller takes it; then the adapter is one of that weight.
#[test]
fn another_base_is_taken_only_when_asked() {
    let (one, two) = (VarMap::new(), VarMap::new());
    let (first, second) = (model(&one), model(&two));
    let base = |model: &Model| model.layers[0].1.base().clone();
    let (layer, _) = IdLoraLinear::new(&base(&first), "up", &config(), &VarMap::new()).unwrap();
    let adapter = || layer.adapter().unwrap();
    assert_refused!(
        IdLoraLinear::from_adapter(&base(&second), adapter(), &VarMap::new()),
        Digest,
        "module `up`",
        "adapter was made from"
    );
    let same = IdLoraLinear::from_adapter(&base(&first), adapter(), &VarMap::new()).unwrap();
    assert_eq!(same.adapter().unwrap().digest(), adapter().digest());
    let vars = VarMap::new();
    let other = IdLoraLinear::from_adapter_on_another_base(&base(&second), adapter(), &vars).unwrap();
    let moved = other.adapter().unwrap();
    assert_ne!(moved.digest(), adapter().digest());
    assert_eq!((moved.skeleton(), moved.b().data()), (adapter().skeleton(), adapter().b().data()));
    IdLoraLinear::from_adapter(&base(&second), moved, &VarMap::new()).unwrap();
}
