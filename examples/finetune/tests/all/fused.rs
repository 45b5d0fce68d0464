//! Fused operations against candle's elementary ones, values and gradients.

use crate::{assert_close, tensor};
use candle_core::{D, Device, Result, Tensor, Var};
use idlora_finetune::fused::{self, LayerNorm};

/// Values and gradients of both, for a random gradient of the output.
fn compare(
    what: &str,
    x: &Tensor,
    bound: f32,
    plain: impl Fn(&Tensor) -> Result<Tensor>,
    fused: impl Fn(&Tensor) -> Result<Tensor>,
) {
    let run = |f: &dyn Fn(&Tensor) -> Result<Tensor>| -> Result<(Tensor, Tensor)> {
        let x = Var::from_tensor(x)?;
        let y = f(x.as_tensor())?;
        let gradients = (&y * tensor(y.dims(), 77)?)?.sum_all()?.backward()?;
        Ok((y, gradients.get(&x).unwrap().clone()))
    };
    let (expected, found) = (run(&plain).unwrap(), run(&fused).unwrap());
    assert_close(what, &expected.0, &found.0, bound);
    assert_close(&format!("{what}, gradient"), &expected.1, &found.1, bound);
}

#[test]
fn gelu_is_candles() {
    // |error| of Φ below 1e-7 and of its slope below 3e-7, times |x| ≤ 6 and a gradient of at most 1.
    let x = (tensor(&[7, 301], 1).unwrap() * 6.0).unwrap();
    compare("gelu", &x, 4e-6, |x| x.gelu_erf(), fused::gelu);
}

#[test]
fn softmax_is_candles_over_the_tokens_that_are_there() {
    let (lengths, tokens, scale) = ([19, 1, 8], 19, 0.3f32);
    let scores = (tensor(&[3, 2, 5, tokens], 2).unwrap() * 20.0).unwrap();
    let mask: Vec<f32> = lengths
        .iter()
        .flat_map(|&length| (0..tokens).map(move |token| if token < length { 0.0 } else { f32::NEG_INFINITY }))
        .collect();
    let mask = Tensor::from_vec(mask, (3, 1, 1, tokens), &Device::Cpu).unwrap();
    let plain = |scores: &Tensor| {
        let scaled = (scores * f64::from(scale))?.broadcast_add(&mask)?;
        candle_nn::ops::softmax(&scaled, D::Minus1)
    };
    compare("softmax", &scores, 2e-6, plain, |scores| fused::softmax(scores, scale, &lengths));
}

#[test]
fn layer_norm_is_candles() {
    let (x, width) = (tensor(&[3, 5, 83], 3).unwrap(), 83);
    let (scale, shift) = (tensor(&[width], 4).unwrap(), tensor(&[width], 5).unwrap());
    let plain = |x: &Tensor| {
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        centred.broadcast_div(&(variance + 1e-3)?.sqrt()?)?.broadcast_mul(&scale)?.broadcast_add(&shift)
    };
    let norm = LayerNorm::new(&scale, &shift, 1e-3).unwrap();
    compare("layer norm", &x, 5e-6, plain, |x| norm.forward(x));
}

#[test]
fn linear_is_candles_and_leaves_the_weight_alone() {
    let x = tensor(&[3, 5, 24], 6).unwrap();
    for bias in [None, Some(tensor(&[17], 8).unwrap())] {
        let layer = candle_nn::Linear::new(tensor(&[17, 24], 7).unwrap(), bias);
        compare("linear", &x, 1e-5, |x| candle_core::Module::forward(&layer, x), |x| fused::linear(&layer, x));
    }
    let weight = Var::from_tensor(&tensor(&[17, 24], 7).unwrap()).unwrap();
    let layer = candle_nn::Linear::new(weight.as_tensor().clone(), None);
    let x = Var::from_tensor(&x).unwrap();
    let gradients = fused::linear(&layer, &x).unwrap().sum_all().unwrap().backward().unwrap();
    assert!(gradients.get(&x).is_some() && gradients.get(&weight).is_none());
}

#[test]
fn what_does_not_fit_is_refused() {
    let x = tensor(&[2, 3, 4, 5], 9).unwrap();
    let message = |result: Result<Tensor>| result.unwrap_err().to_string();
    assert!(message(fused::softmax(&x, 1.0, &[5, 6])).contains("expected 2 lengths in 1..=5, found [5, 6]"));
    assert!(message(fused::softmax(&x, 1.0, &[5])).contains("expected 2 lengths"));
    let norm = LayerNorm::new(&tensor(&[4], 1).unwrap(), &tensor(&[4], 2).unwrap(), 0.0).unwrap();
    assert!(message(norm.forward(&x)).contains("expected rows of 4"));
    assert!(LayerNorm::new(&tensor(&[4], 1).unwrap(), &tensor(&[5], 2).unwrap(), 0.0).is_err());
    let layer = candle_nn::Linear::new(tensor(&[3, 4], 1).unwrap(), None);
    assert!(message(fused::linear(&layer, &x)).contains("expected rows of 4"));
}
