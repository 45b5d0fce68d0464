//! The forward: the adapter's own to the bit, whatever the layout of the input; what is tracked.

use crate::case::{Case, Shape, bits, devices, small, values};
use crate::common::branch::{DOWNS, GATES};
use crate::common::{for_every_element, on_threads};
use candle_core::{Device, Module, Tensor, Var, WithDType};
use idlora::lowrank::Gate;
use idlora::{Device as OurDevice, Elem};

/// [`idlora::adapter::IdLora::forward`] on candle's base output.
fn expected<T: Elem + WithDType>(case: &Case<T>, device: &OurDevice) -> Vec<u32> {
    let forward = case.problem().forward(device, true);
    forward.y.view().iter_rows().flatten().map(|y| y.to_f32().to_bits()).collect()
}

fn assert_forward<T: Elem + WithDType>(shape: &Shape) {
    for (device, ours) in devices() {
        let case = Case::<T>::on(&device, shape);
        let y = case.layer.forward_t(&case.x, true).unwrap();
        let what = format!("{ours} {:?} {shape:?}", <T as Elem>::DTYPE);
        assert_eq!(y.dtype(), <T as WithDType>::DTYPE, "{what}");
        assert_eq!(y.dims(), shape.with_last(shape.rows), "{what}");
        assert_eq!(bits(&y), expected(&case, &ours), "{what}");
        assert!(values(&y).iter().all(|y| y.is_finite()), "{what}");
        assert_ne!(bits(&y), bits(&case.base_output()), "{what}: the adapter changes something");
    }
}

#[test]
fn the_output_is_the_adapters_to_the_bit() {
    for gate in GATES {
        for down in DOWNS {
            for (bias, dropout) in [(false, 0.0), (true, 0.0), (true, 0.4)] {
                let shape = Shape { down, bias, dropout, ..small(gate) };
                for_every_element!(assert_forward(&shape));
            }
        }
    }
}

/// Whatever the bias: it is added and rounded once, as candle does.
fn assert_untouched<T: Elem + WithDType>(shape: &Shape) {
    for (device, ours) in devices() {
        let case = Case::<T>::on(&device, shape);
        case.layer.b().set(&case.layer.b().zeros_like().unwrap()).unwrap();
        let y = case.layer.forward_t(&case.x, true).unwrap();
        assert_eq!(bits(&y), bits(&case.base_output()), "{ours} {:?} {shape:?}", <T as Elem>::DTYPE);
    }
}

#[test]
fn an_adapter_that_has_learnt_nothing_changes_no_bit() {
    for gate in GATES {
        for bias in [false, true] {
            for_every_element!(assert_untouched(&Shape { bias, dropout: 0.4, ..small(gate) }));
        }
    }
}

#[test]
fn any_leading_dimensions() {
    for leading in [vec![], vec![1], vec![5], vec![2, 3], vec![2, 1, 3, 2]] {
        for_every_element!(assert_forward(&Shape { leading: leading.clone(), ..small(Gate::Linear) }));
    }
}

/// Transposed, narrowed and broadcast inputs give what their copies give, and gradients of their own shape.
#[test]
fn any_layout_of_the_input() {
    for gate in [Gate::Inner, Gate::LinearSoftmax] {
        let case = Case::<f32>::new(&small(gate));
        let wide = Tensor::randn(0f32, 1.0, (3, 9, 2), &Device::Cpu).unwrap();
        let views = [
            wide.transpose(0, 2).unwrap().narrow(1, 1, 7).unwrap().transpose(1, 2).unwrap(),
            wide.narrow(1, 0, 7).unwrap().transpose(1, 2).unwrap(),
            wide.flatten_all().unwrap().narrow(0, 4, 7).unwrap().broadcast_as((2, 2, 7)).unwrap(),
            wide.flatten_all().unwrap().narrow(0, 5, 42).unwrap().reshape((6, 7)).unwrap(),
        ];
        for (i, view) in views.iter().enumerate() {
            let copy = view.force_contiguous().unwrap();
            let y = case.layer.forward(view).unwrap();
            assert_eq!(bits(&y), bits(&case.layer.forward(&copy).unwrap()), "{gate:?}, view {i}");
        }
        let base = Var::from_tensor(&wide).unwrap();
        let view = base.transpose(0, 2).unwrap().narrow(1, 1, 7).unwrap().transpose(1, 2).unwrap();
        let copy = Var::from_tensor(&view.force_contiguous().unwrap()).unwrap();
        let gradient = |x: &Tensor, of: &Var| {
            let y = case.layer.forward(x).unwrap();
            y.sqr().unwrap().sum_all().unwrap().backward().unwrap().get(of).unwrap().clone()
        };
        let (found, expected) = (gradient(&view, &base), gradient(&copy, &copy));
        assert_eq!(found.dims(), base.dims());
        let part = found.transpose(0, 2).unwrap().narrow(1, 1, 7).unwrap().transpose(1, 2).unwrap();
        assert_eq!(bits(&part), bits(&expected), "{gate:?}");
    }
}

#[test]
fn no_tokens() {
    for gate in GATES {
        for leading in [vec![0], vec![2, 0, 3]] {
            let case = Case::<f32>::new(&Shape { leading, dropout: 0.5, ..small(gate) });
            let x = Var::from_tensor(&case.x).unwrap();
            let y = case.layer.forward_t(&x, true).unwrap();
            assert_eq!(y.dims(), case.shape.with_last(case.shape.rows));
            let gradients = y.sum_all().unwrap().backward().unwrap();
            for var in [case.layer.b(), case.layer.gate()] {
                assert!(values(gradients.get(var).unwrap()).iter().all(|&x| x == 0.0), "{gate:?}");
            }
            assert_eq!(gradients.get(&x).unwrap().dims(), x.dims());
        }
    }
}

/// candle tracks B and the gate, unless told otherwise; the base never.
#[test]
fn what_is_tracked() {
    let mut case = Case::<f32>::new(&small(Gate::LinearSoftmax));
    let gradients = case.layer.forward(&case.x).unwrap().sum_all().unwrap().backward().unwrap();
    assert!(gradients.get(case.layer.b()).is_some() && gradients.get(case.layer.gate()).is_some());
    assert!(gradients.get(&case.x).is_none(), "of no use, and not computed");

    case.layer.set_trainable(false);
    let tracked = case.layer.forward(&case.x).unwrap();
    assert!(!tracked.track_op(), "nothing is tracked, so nothing is kept");
    let x = Var::from_tensor(&case.x).unwrap();
    let frozen = case.layer.forward(&x).unwrap();
    assert_eq!(bits(&frozen), bits(&tracked));
    let gradients = frozen.sum_all().unwrap().backward().unwrap();
    assert!(gradients.get(case.layer.b()).is_none() && gradients.get(case.layer.gate()).is_none());
    let through = gradients.get(&x).unwrap().clone();
    case.layer.set_trainable(true);
    let gradients = case.layer.forward(&x).unwrap().sum_all().unwrap().backward().unwrap();
    assert_eq!(bits(gradients.get(&x).unwrap()), bits(&through), "the same gradient of x either way");
}

/// Weights that are variables themselves get no gradient and are not changed by what the layer does with its output in place.
#[test]
fn the_base_is_frozen() {
    let weight = Var::randn(0f32, 1.0, (12, 7), &Device::Cpu).unwrap();
    let bias = Var::randn(0f32, 1.0, 12, &Device::Cpu).unwrap();
    let before = (bits(&weight), bits(&bias));
    let base = candle_nn::Linear::new(weight.as_tensor().clone(), Some(bias.as_tensor().clone()));
    let shape = small(Gate::Inner);
    let (layer, _) = idlora::candle::IdLoraLinear::new(&base, "a", &shape.config(), &candle_nn::VarMap::new()).unwrap();
    let x = Var::randn(0f32, 1.0, (4, 7), &Device::Cpu).unwrap();
    let input = bits(&x);
    let gradients = layer.forward(&x).unwrap().sqr().unwrap().sum_all().unwrap().backward().unwrap();
    assert!(gradients.get(&weight).is_none() && gradients.get(&bias).is_none());
    assert_eq!((bits(&weight), bits(&bias)), before);
    assert_eq!(bits(&x), input);
}

#[test]
fn the_same_bits_for_any_number_of_threads() {
    for gate in GATES {
        let run = |threads| {
            on_threads(threads, move || {
                let case =
                    Case::<f32>::new(&Shape { rows: 96, cols: 40, leading: vec![300], dropout: 0.2, ..small(gate) });
                let x = Var::from_tensor(&case.x).unwrap();
                let y = case.layer.forward_t(&x, true).unwrap();
                let gradients = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
                let of = |tensor: &Tensor| bits(gradients.get(tensor).unwrap());
                [bits(&y), of(&x), of(case.layer.b()), of(case.layer.gate())]
            })
        };
        assert_eq!(run(1), run(2), "{gate:?}");
    }
}
