//! Training: dropout, training and not, micro-batches, layers used twice, and a loss that falls.

use crate::case::{Case, Shape, bits, small, values};
use crate::common::branch::GATES;
use candle_core::{Module, Tensor, Var};
use candle_nn::{AdamW, Optimizer};
use idlora::lowrank::Gate;

fn dropping(gate: Gate) -> Case<f32> {
    Case::new(&Shape { dropout: 0.5, ..small(gate) })
}

#[test]
fn every_training_call_draws_a_mask_of_its_own() {
    let case = dropping(Gate::Inner);
    let masks: Vec<_> = (0..3).map(|call| case.layer.dropout_of(call).unwrap()).collect();
    assert!(masks[0] != masks[1] && masks[1] != masks[2] && masks[0] != masks[2], "{masks:?}");
    let outputs: Vec<_> = (0..3).map(|_| bits(&case.layer.forward_t(&case.x, true).unwrap())).collect();
    assert!(outputs[0] != outputs[1] && outputs[1] != outputs[2]);
    assert_eq!(case.layer.dropout_calls(), 3);
    // The same layer again, and one that goes on where another run ended.
    let again = dropping(Gate::Inner);
    assert_eq!(bits(&again.layer.forward_t(&again.x, true).unwrap()), outputs[0]);
    let mut resumed = dropping(Gate::Inner);
    resumed.layer.set_dropout_calls(2);
    assert_eq!(bits(&resumed.layer.forward_t(&resumed.x, true).unwrap()), outputs[2]);
}

#[test]
fn copies_of_a_layer_count_their_calls_together() {
    let case = dropping(Gate::Inner);
    let copy = case.layer.clone();
    let outputs = [&case.layer, &copy].map(|layer| bits(&layer.forward_t(&case.x, true).unwrap()));
    assert_ne!(outputs[0], outputs[1]);
    assert_eq!(case.layer.dropout_calls(), 2);
}

#[test]
fn masks_of_other_layers_and_seeds_differ() {
    let mut case = dropping(Gate::Inner);
    let first = case.layer.dropout_of(0);
    case.layer.set_dropout(0.5, 18).unwrap();
    assert_ne!(case.layer.dropout_of(0), first);
    let vars = candle_nn::VarMap::new();
    let named = |name: &str| {
        let (mut layer, _) =
            idlora::candle::IdLoraLinear::new(case.layer.base(), name, &case.shape.config(), &vars).unwrap();
        layer.set_dropout(0.5, 18).unwrap();
        layer.dropout_of(0).unwrap()
    };
    assert_ne!(named("a"), named("b"));
}

#[test]
fn dropout_is_for_training() {
    let mut case = dropping(Gate::RmsInner);
    let plain = bits(&case.layer.forward_t(&case.x, false).unwrap());
    assert_eq!(case.layer.dropout_calls(), 0, "no mask was drawn");
    assert_ne!(bits(&case.layer.forward(&case.x).unwrap()), plain, "a layer trains at first");
    case.layer.set_training(false);
    assert_eq!(bits(&case.layer.forward(&case.x).unwrap()), plain);
    case.layer.set_training(true);
    case.layer.set_dropout(0.0, 1).unwrap();
    assert_eq!(bits(&case.layer.forward(&case.x).unwrap()), plain);
}

/// Gradients of two halves of a batch, the second with the offset that its masks begin at, add up to those of the whole, and a
/// layer that stands twice in a graph gets the sum of both uses. f32 sums of so few terms: 1e-5 of their size is wide.
#[test]
fn gradients_add_up() {
    for gate in GATES {
        let case = Case::<f32>::new(&Shape { leading: vec![8], ..small(gate) });
        let of = |loss: Tensor| {
            let gradients = loss.backward().unwrap();
            [case.layer.b(), case.layer.gate()].map(|var| values(gradients.get(var).unwrap()))
        };
        let loss = |range: std::ops::Range<usize>| {
            let part = |tensor: &Tensor| tensor.narrow(0, range.start, range.len()).unwrap();
            (case.layer.forward(&part(&case.x)).unwrap() * part(&case.g)).unwrap().sum_all().unwrap()
        };
        let (whole, first, second) = (of(loss(0..8)), of(loss(0..3)), of(loss(3..8)));
        let both = of((loss(0..3) + loss(3..8)).unwrap());
        for i in 0..2 {
            let size = whole[i].iter().fold(1.0f64, |most, x| most.max(x.abs()));
            for (j, whole) in whole[i].iter().enumerate() {
                let sum = first[i][j] + second[i][j];
                assert!((whole - sum).abs() <= 1e-5 * size, "{gate:?}: {whole} against {sum}");
                assert!((both[i][j] - sum).abs() <= 1e-5 * size, "{gate:?}: {} against {sum}", both[i][j]);
            }
        }
    }
}

/// A backward may be run again, and gives the same.
#[test]
fn a_graph_can_be_run_twice() {
    let case = dropping(Gate::LinearSoftmax);
    let x = Var::from_tensor(&case.x).unwrap();
    let loss = (case.layer.forward_t(&x, true).unwrap() * &case.g).unwrap().sum_all().unwrap();
    let run = || {
        let gradients = loss.backward().unwrap();
        [x.as_tensor(), case.layer.b(), case.layer.gate()].map(|tensor| bits(gradients.get(tensor).unwrap()))
    };
    assert_eq!(run(), run());
}

/// An output that the adapter can reach is reached by every gate; the optimiser takes the variables from the map.
#[test]
fn a_loss_falls() {
    for gate in GATES {
        let case = Case::<f32>::new(&Shape { leading: vec![16], ..small(gate) });
        let target = case.layer.forward(&case.x).unwrap().detach();
        assert_eq!(case.vars.all_vars().len(), 2);
        for var in case.vars.all_vars() {
            let moved = (var.as_tensor() + var.randn_like(0.0, 0.3).unwrap()).unwrap();
            var.set(&moved).unwrap();
        }
        let loss = || (case.layer.forward(&case.x).unwrap() - &target).unwrap().sqr().unwrap().mean_all().unwrap();
        let mut optimizer = AdamW::new_lr(case.vars.all_vars(), 1e-2).unwrap();
        let before = loss().to_scalar::<f32>().unwrap();
        for _ in 0..200 {
            optimizer.backward_step(&loss()).unwrap();
        }
        let after = loss().to_scalar::<f32>().unwrap();
        assert!(after < 0.1 * before, "{gate:?}: {before} became {after}");
    }
}
