//! Our AdamW against candle's.

use crate::{assert_close, tensor};
use candle_core::{Tensor, Var};
use candle_nn::{Optimizer, ParamsAdamW, VarMap};
use idlora_finetune::adamw::AdamW;

/// A sum of squares around a target, whose gradient differs from number to number.
fn loss(x: &Tensor, target: &Tensor) -> Tensor {
    (x - target).unwrap().sqr().unwrap().sum_all().unwrap()
}

#[test]
fn steps_are_candles() {
    let (start, target) = (tensor(&[4, 9], 1).unwrap(), tensor(&[4, 9], 2).unwrap());
    let (vars, rate, weight_decay) = (VarMap::new(), 0.03, 0.4);
    let ours = Var::from_tensor(&start).unwrap();
    vars.data().lock().unwrap().insert("x".to_owned(), ours.clone());
    let mut own = AdamW::new(&vars, weight_decay);
    let theirs = Var::from_tensor(&start).unwrap();
    let params = ParamsAdamW { lr: rate, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay };
    let mut peer = candle_nn::AdamW::new(vec![theirs.clone()], params).unwrap();
    for step in 1..=12 {
        // A rate that changes, as a schedule's does.
        let now = rate / f64::from(step);
        own.step(&loss(&ours, &target).backward().unwrap(), now).unwrap();
        peer.set_learning_rate(now);
        peer.backward_step(&loss(&theirs, &target)).unwrap();
        // Theirs rounds every term to f32: a few units in the last place of numbers below 2, a step.
        assert_close(&format!("step {step}"), &theirs, &ours, 5e-7 * step as f32);
    }
}

#[test]
fn a_tensor_without_a_gradient_stays() {
    let vars = VarMap::new();
    for name in ["a", "b"] {
        vars.data().lock().unwrap().insert(name.to_owned(), Var::from_tensor(&tensor(&[3], 1).unwrap()).unwrap());
    }
    let of = |name: &str| vars.data().lock().unwrap()[name].as_tensor().clone();
    let mut optimizer = AdamW::new(&vars, 0.5);
    optimizer.step(&of("a").sum_all().unwrap().backward().unwrap(), 0.1).unwrap();
    assert_eq!(of("b").to_vec1::<f32>().unwrap(), tensor(&[3], 1).unwrap().to_vec1::<f32>().unwrap());
    assert_ne!(of("a").to_vec1::<f32>().unwrap(), of("b").to_vec1::<f32>().unwrap());
}

#[test]
fn restoring_something_else_changes_nothing() {
    let vars = VarMap::new();
    vars.data().lock().unwrap().insert("a".to_owned(), Var::from_tensor(&tensor(&[3], 1).unwrap()).unwrap());
    let mut optimizer = AdamW::new(&vars, 0.0);
    let mut state = optimizer.state().unwrap();
    state.insert("first.a".to_owned(), tensor(&[4], 1).unwrap());
    let error = optimizer.restore(&state, 7).unwrap_err().to_string();
    assert_eq!(error, "first.a: expected shape [3], found [4]");
    state.remove("first.a");
    assert_eq!(
        optimizer.restore(&state, 7).unwrap_err().to_string(),
        "first.a: expected a tensor of this name, found none"
    );
    assert_eq!(optimizer.steps(), 0);
}
