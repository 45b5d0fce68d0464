//! The model against BERT written down in f64, and what it learns from.

use crate::tiny::{self, FEATURES, HEADS, INNER, LAYERS};
use crate::{assert_close, tensor};
use candle_core::{Device, Tensor};
use candle_nn::VarMap;
use idlora::candle::Linears;
use idlora_finetune::method::Method;
use idlora_finetune::model::{Classifier, Weights};
use idlora_finetune::tokens::Batch;
use std::collections::HashMap;
use std::f64::consts::PI;

type Rows = Vec<Vec<f64>>;

/// One document at a time, as the formulas say it.
struct Definition(HashMap<String, Rows>);

impl Definition {
    fn new() -> Self {
        let rows = |tensor: &Tensor| -> Rows {
            let width = *tensor.dims().last().unwrap();
            let flat = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            flat.chunks(width).map(|row| row.iter().map(|&x| f64::from(x)).collect()).collect()
        };
        Self(tiny::tensors().iter().map(|(name, tensor)| (name.clone(), rows(tensor))).collect())
    }

    fn linear(&self, name: &str, x: &Rows) -> Rows {
        let (weight, bias) = (&self.0[&format!("{name}.weight")], &self.0[&format!("{name}.bias")][0]);
        let dot = |row: &[f64], x: &[f64]| row.iter().zip(x).map(|(a, b)| a * b).sum::<f64>();
        x.iter().map(|x| weight.iter().zip(bias).map(|(row, bias)| dot(row, x) + bias).collect()).collect()
    }

    fn norm(&self, name: &str, x: &Rows) -> Rows {
        let (scale, shift) = (&self.0[&format!("{name}.weight")][0], &self.0[&format!("{name}.bias")][0]);
        let row = |x: &Vec<f64>| {
            let mean = x.iter().sum::<f64>() / x.len() as f64;
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
            let normal = |at: usize| (x[at] - mean) / (variance + 1e-12).sqrt() * scale[at] + shift[at];
            (0..x.len()).map(normal).collect()
        };
        x.iter().map(row).collect()
    }

    fn attention(&self, layer: &str, x: &Rows) -> Rows {
        let of = |part: &str| self.linear(&format!("{layer}.attention.self.{part}"), x);
        let (query, key, value) = (of("query"), of("key"), of("value"));
        let width = FEATURES / HEADS;
        let mut out = vec![vec![0.0; FEATURES]; x.len()];
        for head in 0..HEADS {
            let columns = head * width..(head + 1) * width;
            for (out, query) in out.iter_mut().zip(&query) {
                let score =
                    |key: &Vec<f64>| columns.clone().map(|c| query[c] * key[c]).sum::<f64>() / (width as f64).sqrt();
                let weights: Vec<f64> = key.iter().map(|key| score(key).exp()).collect();
                let total: f64 = weights.iter().sum();
                for c in columns.clone() {
                    out[c] = weights.iter().zip(&value).map(|(weight, value)| weight / total * value[c]).sum();
                }
            }
        }
        out
    }

    /// The mean over the document's tokens of the last layer's output.
    fn pooled(&self, ids: &[u32]) -> Vec<f64> {
        let embedding = |part: &str, at: usize| &self.0[&format!("embeddings.{part}_embeddings.weight")][at];
        let sum = |(at, &id): (usize, &u32)| {
            let all = [embedding("word", id as usize), embedding("position", at), embedding("token_type", 0)];
            (0..FEATURES).map(|c| all.iter().map(|row| row[c]).sum()).collect()
        };
        let mut x = self.norm("embeddings.LayerNorm", &ids.iter().enumerate().map(sum).collect());
        for layer in (0..LAYERS).map(|layer| format!("encoder.layer.{layer}")) {
            let attended = self.linear(&format!("{layer}.attention.output.dense"), &self.attention(&layer, &x));
            x = self.norm(&format!("{layer}.attention.output.LayerNorm"), &add(&x, &attended));
            let mut inner = self.linear(&format!("{layer}.intermediate.dense"), &x);
            assert_eq!(inner[0].len(), INNER);
            inner.iter_mut().flatten().for_each(|x| *x *= 0.5 * (1.0 + erf(*x / 2f64.sqrt())));
            let out = self.linear(&format!("{layer}.output.dense"), &inner);
            x = self.norm(&format!("{layer}.output.LayerNorm"), &add(&x, &out));
        }
        (0..FEATURES).map(|c| x.iter().map(|row| row[c]).sum::<f64>() / x.len() as f64).collect()
    }
}

fn add(a: &Rows, b: &Rows) -> Rows {
    a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b).collect()).collect()
}

/// The error function by its power series: for |x| ≤ 4 its terms stay below 1e6, so that ten digits are right.
fn erf(x: f64) -> f64 {
    if x.abs() > 4.0 {
        return x.signum(); // within 2e-8
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    2.0 / PI.sqrt() * sum
}

fn weights() -> (tempfile::TempDir, Weights) {
    let dir = tempfile::tempdir().unwrap();
    tiny::write_model(dir.path());
    let weights = Weights::read(dir.path()).unwrap();
    (dir, weights)
}

#[test]
fn documents_of_any_length_are_pooled_as_defined() {
    let (_dir, weights) = weights();
    let bert = weights.bert().unwrap();
    let examples = tiny::examples(6);
    let batch = Batch::new(&examples, &[0, 1, 2, 3, 4, 5]).unwrap();
    assert!(batch.lengths.iter().min() < batch.lengths.iter().max());
    let found = bert.pool(&batch.ids, &batch.lengths).unwrap();
    let definition = Definition::new();
    let expected: Vec<f32> =
        examples.iter().flat_map(|example| definition.pooled(&example.ids)).map(|x| x as f32).collect();
    let expected = Tensor::from_vec(expected, (6, FEATURES), &Device::Cpu).unwrap();
    // Sums of 64 to 96 terms of size 1 in f32, through two layers that each normalise.
    assert_close("pooled", &expected, &found, 2e-5);
    assert_eq!(
        bert.encode(&batch.ids, &batch.lengths).unwrap().dims(),
        [6, *batch.lengths.iter().max().unwrap(), FEATURES]
    );
}

#[test]
fn linears_are_listed_by_their_names_in_checkpoints() {
    let (_dir, weights) = weights();
    let mut bert = weights.bert().unwrap();
    let tensors = tiny::tensors();
    let mut names = Vec::new();
    bert.visit_linears(&mut |name, linear| {
        assert_eq!(linear.base().weight().dims(), tensors[&format!("{name}.weight")].dims());
        names.push(name.to_owned());
        Ok(())
    })
    .unwrap();
    assert_eq!((names.len(), names[0].as_str()), (6 * LAYERS, "encoder.layer.0.attention.self.query"));
}

#[test]
fn a_frozen_encoder_gets_no_gradient_and_every_adapter_gets_one() {
    let (_dir, weights) = weights();
    let batch = Batch::new(&tiny::examples(6), &[0, 1, 2, 3, 4, 5]).unwrap();
    for method in Method::all() {
        let vars = VarMap::new();
        let mut classifier = Classifier::new(weights.bert().unwrap(), 2, 1, &vars).unwrap();
        method.adapt(classifier.bert_mut(), 1, &vars).unwrap();
        // B starts at 0 and then hides A and the gate.
        for (name, var) in vars.data().lock().unwrap().iter() {
            if name.ends_with("lora_b") || name.ends_with(".b") {
                var.set(&(tensor(var.dims(), 5).unwrap() * 0.1).unwrap()).unwrap();
            }
        }
        let scores = classifier.forward(&batch.ids, &batch.lengths).unwrap();
        assert_eq!(scores.dims(), [6, 2]);
        let loss = candle_nn::loss::cross_entropy(&scores, &batch.classes).unwrap();
        let gradients = loss.backward().unwrap();
        for (name, var) in vars.data().lock().unwrap().iter() {
            let gradient = gradients.get(var).unwrap_or_else(|| panic!("{method}: {name} has no gradient"));
            let largest = gradient.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(largest > 1e-7, "{method}: the gradient of {name} is 0");
        }
    }
}

#[test]
fn a_model_that_is_not_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    tiny::write_model(dir.path());
    let mut tensors = tiny::tensors();
    tensors.remove("encoder.layer.1.output.dense.bias");
    candle_core::safetensors::save(&tensors, dir.path().join("model.safetensors")).unwrap();
    let message =
        |dir: &std::path::Path| Weights::read(dir).and_then(|weights| weights.bert()).err().unwrap().to_string();
    assert!(
        message(dir.path()).ends_with("encoder.layer.1.output.dense.bias: expected a tensor of this name, found none")
    );
    let config = std::fs::read_to_string(dir.path().join("config.json")).unwrap();
    std::fs::write(dir.path().join("config.json"), config.replace("gelu", "relu")).unwrap();
    assert!(message(dir.path()).ends_with("hidden_act: expected gelu, found relu"));
    std::fs::write(
        dir.path().join("config.json"),
        config.replace("\"num_attention_heads\": 4", "\"num_attention_heads\": 5"),
    )
    .unwrap();
    assert!(message(dir.path()).contains("a divisor of hidden_size, 64, found 5"));
    std::fs::remove_file(dir.path().join("config.json")).unwrap();
    assert!(message(dir.path()).starts_with("reading "));
}
