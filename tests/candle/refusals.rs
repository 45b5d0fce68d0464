//! What is refused, in which words; and that nothing has happened then.

use crate::model::{Model, config, model};
use candle_core::{DType, Device, Module, Tensor};
use candle_nn::{Linear as BaseLinear, VarMap};
use idlora::adapter::Config;
use idlora::candle::{IdLoraLinear, Linear, Linears, adapt, load, merge, save, visit_adapters};
use idlora::lowrank::Gate;

fn zeros(shape: &[usize], dtype: DType) -> Tensor {
    Tensor::zeros(shape, dtype, &Device::Cpu).unwrap()
}

fn random(rows: usize, cols: usize) -> Tensor {
    Tensor::randn(0f32, 1.0, (rows, cols), &Device::Cpu).unwrap()
}

fn new(weight: Tensor, bias: Option<Tensor>) -> idlora::Result<IdLoraLinear> {
    IdLoraLinear::new(&BaseLinear::new(weight, bias), "up", &config(), &VarMap::new()).map(|(layer, _)| layer)
}

fn count(model: &mut Model) -> usize {
    let mut adapted = 0;
    model
        .visit_linears(&mut |_, linear| {
            adapted += usize::from(linear.adapted().is_some());
            Ok(())
        })
        .unwrap();
    adapted
}

#[test]
fn bases() {
    let weight = || random(8, 6);
    assert_refused!(
        new(weight().to_dtype(DType::F64).unwrap(), None),
        Parameter,
        "`dtype of `weight`` is F64",
        "F32, F16 or BF16"
    );
    assert_refused!(new(zeros(&[2, 8, 6], DType::F32), None), Shape, "`weight`", "[2, 8, 6]", "two dimensions [m, n]");
    assert_refused!(new(weight(), Some(zeros(&[6], DType::F32))), Shape, "`bias` has shape [6]", "expected shape [8]");
    assert_refused!(
        new(weight(), Some(zeros(&[8], DType::F16))),
        Parameter,
        "`dtype of `bias`` is F16",
        "F32, the weight's"
    );
    assert_refused!(new(random(3, 6), None), Parameter, "`rank` is 2 with 2 clusters", "3 rows");
    let weight = (weight() * f64::NAN).unwrap();
    assert_refused!(new(weight, None), NonFinite, "`up` has NaN at row 0, column 0");
}

#[test]
fn inputs() {
    let layer = new(random(8, 6), None).unwrap();
    let refused = |x: &Tensor, parts: [&str; 2]| {
        let message = layer.forward(x).unwrap_err().to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    };
    refused(&zeros(&[3, 5], DType::F32), ["`x` has shape [3, 5]", "expected shape […, 6]"]);
    refused(&zeros(&[], DType::F32), ["`x` has no dimensions", "expected shape […, 6]"]);
    refused(&zeros(&[3, 6], DType::F16), ["`dtype of `x`` is F16", "F32, the base weight's"]);
    refused(&zeros(&[3, 6], DType::U32), ["`dtype of `x`` is U32", "F32, F16 or BF16"]);
}

#[test]
fn dropout() {
    let mut layer = new(random(8, 6), None).unwrap();
    for probability in [1.0, -0.1, f32::NAN] {
        assert_refused!(layer.set_dropout(probability, 0), Parameter, "dropout probability", "[0, 1)");
    }
}

#[test]
fn variables_that_are_there_already() {
    let vars = VarMap::new();
    let base = BaseLinear::new(random(8, 6), None);
    IdLoraLinear::new(&base, "up", &config(), &vars).unwrap();
    assert_refused!(IdLoraLinear::new(&base, "up", &config(), &vars), Operand, "`vars`", "`up.b` already");
    assert_eq!(vars.all_vars().len(), 2);
}

/// After an error the model is as it was, and so are the variables.
#[test]
fn models() {
    let weights = VarMap::new();
    let (mut model, vars) = (model(&weights), VarMap::new());
    assert_refused!(
        adapt(&mut model, |name| name == "tail", &config(), &vars),
        Operand,
        "matches no linear layer",
        "`blocks.0.down`",
        "and 1 more"
    );
    // The head has 6 rows: the last of the layers is the one that fails.
    let large = Config { rank: 4, ..config() };
    assert_refused!(adapt(&mut model, |_| true, &large, &vars), Parameter, "`rank` is 4 with 2 clusters", "6 rows");
    assert_eq!((count(&mut model), vars.all_vars().len()), (0, 0));

    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("adapter");
    assert_refused!(save(&dir, &mut model), Operand, "no adapted layer");
    assert_refused!(visit_adapters(&mut model, &mut |_| Ok(())), Operand, "no adapted layer");
    assert!(!dir.exists());

    adapt(&mut model, |name| name == "head", &config(), &vars).unwrap();
    assert_refused!(adapt(&mut model, |_| true, &config(), &vars), Operand, "has an adapter on `head` already");
    assert_eq!((count(&mut model), vars.all_vars().len()), (1, 2));
}

#[test]
fn files() {
    let weights = VarMap::new();
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("adapter");
    let mut trained = model(&weights);
    adapt(&mut trained, |_| true, &config(), &VarMap::new()).unwrap();
    save(&dir, &mut trained).unwrap();

    let vars = VarMap::new();
    assert_refused!(load(&folder.path().join("nowhere"), &mut model(&weights), &vars), Io, "nowhere", "read");
    assert_refused!(load(&dir, &mut trained, &vars), Operand, "has an adapter on `blocks.0.up` already");
    // Another model of the same shape: no digest fits.
    let mut other = model(&VarMap::new());
    assert_refused!(load(&dir, &mut other, &vars), Digest, "module `blocks.0.up`");
    // A part of the model: a name is left over.
    let mut part = One(Linear::from(trained_base(&mut trained)));
    assert_refused!(load(&dir, &mut part, &vars), Operand, "no linear layer `blocks.0.down`", "it has `blocks.0.up`");
    assert_eq!((count(&mut other), vars.all_vars().len()), (0, 0));
    assert!(part.0.adapted().is_none());
}

/// The first layer of the model, without its adapter.
fn trained_base(model: &mut Model) -> BaseLinear {
    let mut found = None;
    model
        .visit_linears(&mut |_, linear| {
            found.get_or_insert_with(|| linear.base().clone());
            Ok(())
        })
        .unwrap();
    found.unwrap()
}

struct One(Linear);

impl Linears for One {
    fn visit_linears(&mut self, visit: &mut dyn FnMut(&str, &mut Linear) -> idlora::Result<()>) -> idlora::Result<()> {
        visit("blocks.0.up", &mut self.0)
    }
}

#[test]
fn two_layers_of_one_name() {
    struct Twice(One);
    impl Linears for Twice {
        fn visit_linears(
            &mut self,
            visit: &mut dyn FnMut(&str, &mut Linear) -> idlora::Result<()>,
        ) -> idlora::Result<()> {
            self.0.visit_linears(visit)?;
            self.0.visit_linears(visit)
        }
    }
    let mut model = Twice(One(BaseLinear::new(random(8, 6), None).into()));
    let vars = VarMap::new();
    assert_refused!(adapt(&mut model, |_| true, &config(), &vars), Operand, "two linear layers named `blocks.0.up`");
    assert_eq!(vars.all_vars().len(), 0);
}

/// One gate that cannot be merged, and nothing is.
#[test]
fn what_cannot_be_merged() {
    let weights = VarMap::new();
    let mut model = model(&weights);
    assert_refused!(merge(&mut model), Operand, "has no adapted layer");
    let fixed = Config { gate: Gate::Static, ..config() };
    let vars = VarMap::new();
    adapt(&mut model, |name| name == "blocks.0.up", &fixed, &vars).unwrap();
    adapt(&mut model, |name| name == "blocks.1.down", &config(), &vars).unwrap();
    assert_refused!(merge(&mut model), Unsupported, "the gate Inner", "only a Static gate can");
    assert_eq!(count(&mut model), 2);
}

/// NaN that training has left is not saved.
#[test]
fn parameters_that_are_not_finite() {
    let vars = VarMap::new();
    let (layer, _) = IdLoraLinear::new(&BaseLinear::new(random(8, 6), None), "up", &config(), &vars).unwrap();
    layer.b().set(&(layer.b().as_tensor() * f64::NAN).unwrap()).unwrap();
    assert_refused!(layer.adapter(), NonFinite, "`b` has NaN at row 0, column 0");
}
