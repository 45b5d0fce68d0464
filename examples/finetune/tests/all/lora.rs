//! LoRA against its definition: y = W x + b + κ B A x, dB = κ gᵀ(A x), dA = κ (Bᵀ g)ᵀ x, dx = Wᵀ g + κ Aᵀ Bᵀ g.

use crate::{assert_close, tensor};
use candle_core::{Tensor, Var};
use candle_nn::{Linear, VarMap};
use idlora_finetune::lora::{Config, Lora};

fn sorted_names(vars: &VarMap) -> Vec<String> {
    let mut names: Vec<String> = vars.data().lock().unwrap().keys().cloned().collect();
    names.sort();
    names
}

#[test]
fn output_and_gradients_are_the_definitions() {
    let (rows, cols, rank) = (12, 20, 3);
    let (weight, bias) = (tensor(&[rows, cols], 1).unwrap(), tensor(&[rows], 2).unwrap());
    let vars = VarMap::new();
    let base = Linear::new(weight.clone(), Some(bias.clone()));
    let lora = Lora::new(base.clone(), "layer", Config { rank, alpha: 7.5 }, 9, 0, &vars).unwrap();
    assert_eq!(sorted_names(&vars), ["layer.lora_a", "layer.lora_b"]);
    let var = |name: &str| vars.data().lock().unwrap()[name].clone();
    let x = Var::from_tensor(&tensor(&[4, 5, cols], 3).unwrap()).unwrap();

    // It starts as the base.
    let expected = candle_core::Module::forward(&base, &x).unwrap();
    assert_close("start", &expected, &lora.forward(&x).unwrap(), 1e-5);

    let (a, b) = (var("layer.lora_a"), var("layer.lora_b"));
    assert!(a.as_tensor().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap() <= 1.0 / (cols as f32).sqrt());
    b.set(&tensor(&[rows, rank], 4).unwrap()).unwrap();
    let y = lora.forward(&x).unwrap();
    let g = tensor(&[4, 5, rows], 5).unwrap();
    let gradients = (&y * &g).unwrap().sum_all().unwrap().backward().unwrap();

    let product = |a: &Tensor, b: &Tensor| a.matmul(b).unwrap();
    let t = |a: &Tensor| a.t().unwrap().contiguous().unwrap();
    let (flat, g) = (x.reshape(((), cols)).unwrap(), g.reshape(((), rows)).unwrap());
    let (a, b, kappa) = (a.as_detached_tensor(), b.as_detached_tensor(), 2.5);
    let ax = product(&flat, &t(&a));
    let update = (product(&ax, &t(&b)) * kappa).unwrap();
    let whole = (product(&flat, &t(&weight)).broadcast_add(&bias).unwrap() + update).unwrap();
    assert_close("y", &whole, &y.reshape(((), rows)).unwrap(), 2e-5);
    let gb = product(&g, &b);
    let expected = [
        ("dB", (product(&t(&g), &ax) * kappa).unwrap(), gradients.get(&var("layer.lora_b")).unwrap().clone()),
        ("dA", (product(&t(&gb), &flat) * kappa).unwrap(), gradients.get(&var("layer.lora_a")).unwrap().clone()),
        (
            "dx",
            (product(&g, &weight) + (product(&gb, &a) * kappa).unwrap()).unwrap(),
            gradients.get(&x).unwrap().reshape(((), cols)).unwrap(),
        ),
    ];
    for (what, expected, found) in expected {
        assert_close(what, &expected, &found, 5e-5);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let (vars, base) = (VarMap::new(), Linear::new(tensor(&[6, 5], 1).unwrap(), None));
    let lora = |name: &str, rank: usize| Lora::new(base.clone(), name, Config { rank, alpha: 1.0 }, 0, 0, &vars);
    assert!(lora("none", 0).unwrap_err().to_string().contains("at least 1, found 0"));
    lora("layer", 2).unwrap();
    assert!(lora("layer", 2).unwrap_err().to_string().contains("a second layer.lora_a"));
}
