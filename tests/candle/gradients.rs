//! Gradients of x, B and the gate against those of plain candle operations.

use crate::case::{Case, Shape, devices, matrix, small, values};
use crate::common::bounds::{SLACK, backward_bounds, stored};
use crate::common::branch::{DOWNS, Exact, GATES, U, assert_within, zeros};
use crate::common::for_every_element;
use crate::common::gradients::scattered;
use crate::definition::Definition;
use candle_core::{Tensor, Var, WithDType};
use idlora::lowrank::{DownProjection, Gate};
use idlora::reference::lowrank as reference;
use idlora::{Device, Dtype, Elem, Mat};
use proptest::prelude::*;

/// Gradients of `Σ G ⊙ Y` by x, B and the gate, as a trainer gets them.
fn found<T: Elem + WithDType>(case: &Case<T>) -> [Mat<f64>; 3] {
    let x = Var::from_tensor(&case.x).unwrap();
    let y = case.layer.forward_t(&x, true).unwrap();
    let loss = (y * &case.g).unwrap().sum_all().unwrap();
    let gradients = loss.backward().unwrap();
    let of = |tensor: &Tensor, cols: usize| matrix(gradients.get(tensor).expect("a gradient"), cols);
    let (b, gate) = (case.layer.b(), case.layer.gate());
    assert_eq!(gradients.get(&x).unwrap().dims(), case.x.dims());
    [of(&x, case.shape.cols), of(b, b.dim(1).unwrap()), of(gate, gate.dim(1).unwrap())]
}

/// `a · b` of the sizes of entries.
fn sizes(a: &Mat<f64>, b: &Mat<f64>) -> Mat<f64> {
    let mut out = zeros(a.rows(), b.cols());
    for i in 0..a.rows() {
        for (l, &x) in a.row(i).iter().enumerate() {
            out.row_mut(i).iter_mut().zip(b.row(l)).for_each(|(to, y)| *to += (x * y).abs());
        }
    }
    out
}

/// How far dx may be: `dY0`, rounded when it was stored, times `W`, a sum of m terms in f32 rounded to `T`; the gate's share,
/// rounded to `T`; and their sum, rounded to `T`.
///
/// candle multiplies by vectors of f16, and with one or two terms, by ways of their own, which round every sum to f16.
fn bound_of_x<T: Elem>(exact: &Exact, dx: &Mat<f64>, of_x: Mat<f64>, share: Option<(Mat<f64>, Mat<f64>)>) -> Mat<f64> {
    let unit = T::DTYPE.unit_roundoff();
    let in_f16 = T::DTYPE == Dtype::F16 && (dx.rows() == 1 || exact.desc.cols == 1 || exact.desc.rows <= 2);
    let of_sum = if in_f16 { unit } else { U };
    let wide = scattered(&zeros(dx.rows(), exact.desc.rows), &of_x, &exact.skeleton);
    let base = scattered(&exact.g, dx, &exact.skeleton);
    // Columns that nothing was added to are G to the bit.
    let mut error = stored::<T>(wide.clone(), &base);
    error.data_mut().iter_mut().zip(wide.data()).for_each(|(e, w)| *e = if *w == 0.0 { 0.0 } else { *e });
    let mut reach = base.clone();
    reach.data_mut().iter_mut().zip(error.data()).for_each(|(r, e)| *r = r.abs() + e);
    let (carried, size) = (sizes(&error, &exact.w), sizes(&reach, &exact.w));
    let mut bound = carried;
    for (i, bound) in bound.data_mut().iter_mut().enumerate() {
        let size = size.data()[i];
        let product = *bound + (exact.desc.rows + 1) as f64 * of_sum * size;
        *bound = SLACK * (product + unit * (size + product));
        if let Some((share, of_share)) = &share {
            let (value, error) = (share.data()[i].abs(), of_share.data()[i]);
            *bound += error + unit * (size + *bound + value + error);
        }
    }
    bound
}

/// Every gradient is that of [`Definition`], taken where the layer was, within the derived bounds.
fn assert_gradients<T: Elem + WithDType>(shape: &Shape) {
    for (device, ours) in devices() {
        assert_gradients_on::<T>(&ours, &Case::on(&device, shape));
    }
}

fn assert_gradients_on<T: Elem + WithDType>(device: &Device, case: &Case<T>) {
    let shape = &case.shape;
    let what = format!("{device} {:?} {shape:?}", <T as Elem>::DTYPE);
    let problem = case.problem();
    let (exact, forward) = (problem.exact(), problem.forward(device, true));
    let [x, b, gate] = Definition::at(&exact, &forward).gradients().unwrap();
    let (kept_x, kept_a) = (forward.x.to_f64(), forward.a.to_f64());
    let mut bounds = backward_bounds::<T>(device, &exact, &kept_x, &kept_a);
    if shape.gate == Gate::LinearSoftmax {
        // The definition's weights add up to 1, those in f32 to 1 ± (k+1)u: each stands twice in `dl`, so that it is off by
        // 2(k+2)·u of the size that the bounds, which begin at 2u of it, are made of.
        let factor = (shape.clusters + 3) as f64;
        bounds.gate.data_mut().iter_mut().chain(bounds.h.data_mut()).for_each(|bound| *bound *= factor);
    }
    let parts = reference::backward(
        &exact.adapter(),
        kept_x.as_ref(),
        kept_a.as_ref(),
        exact.input(),
        exact.factors(),
        exact.g.as_ref(),
    );
    let share = parts.h.map(|share| {
        let error = stored::<T>(bounds.h.clone(), &share);
        (share, error)
    });
    let bound = bound_of_x::<T>(&exact, &parts.x, bounds.x, share);
    let [of_x, of_b, of_gate] = found(case);
    assert_within(&format!("{what}: dB"), &of_b, &b, &bounds.b);
    assert_within(&format!("{what}: gate gradient"), &of_gate, &gate, &bounds.gate);
    assert_within(&format!("{what}: dx"), &of_x, &x, &bound);
}

#[test]
fn gradients_are_those_of_plain_operations() {
    for gate in GATES {
        for down in DOWNS {
            for (bias, dropout, split) in [(false, 0.0, 1), (true, 0.0, 2), (true, 0.4, 2)] {
                let shape = Shape { down, bias, dropout, split, ..small(gate) };
                for_every_element!(assert_gradients(&shape));
            }
        }
    }
}

/// On whole numbers nothing is rounded: every sum is a multiple of 1/4 below 2²² (with κ = 3/2, dropout factors 2, and the sizes
/// here), so that output and gradients are those of plain operations in f64, to the bit. Tensor cores' terms hold them, too.
#[test]
fn whole_numbers_are_exact() {
    for gate in [Gate::Inner, Gate::Linear, Gate::Static] {
        for down in DOWNS {
            for (bias, dropout, split) in [(false, 0.0, 1), (true, 0.0, 2), (true, 0.5, 2)] {
                let shape = Shape { down, bias, dropout, split, ..small(gate) };
                for (device, ours) in devices() {
                    let case = Case::<f32>::whole(&device, &shape);
                    let exact = case.problem().exact();
                    let definition = Definition::of(&exact);
                    let what = format!("{ours} {shape:?}");
                    let y = Case::<f32>::whole(&device, &shape).layer.forward_t(&case.x, true).unwrap();
                    assert_eq!(values(&y), values(&definition.forward().unwrap()), "{what}: Y");
                    assert_eq!(found(&case), definition.gradients().unwrap(), "{what}");
                    assert!(exact.b.data().iter().any(|b| *b != 0.0), "{what}: B does something");
                }
            }
        }
    }
}

/// `X` is gathered before the bias is added: not one bit of it is lost to a bias, and so none of a gradient.
fn assert_bias_does_nothing<T: Elem + WithDType>(shape: &Shape) {
    for (device, ours) in devices() {
        let of = |bias| found(&Case::<T>::on(&device, &Shape { bias, ..shape.clone() }));
        assert_eq!(of(true), of(false), "{ours} {:?} {shape:?}", <T as Elem>::DTYPE);
    }
}

#[test]
fn a_bias_changes_no_gradient() {
    for gate in GATES {
        for_every_element!(assert_bias_does_nothing(&small(gate)));
    }
}

/// More tokens than a segment of the backward, more columns than a chunk.
#[test]
fn gradients_of_a_larger_layer() {
    for gate in [Gate::RmsInner, Gate::LinearSoftmax] {
        let shape = Shape { rows: 96, cols: 40, rank: 4, leading: vec![3, 101], dropout: 0.1, ..small(gate) };
        for_every_element!(assert_gradients(&shape));
    }
}

/// The definition, differentiated by candle, is the adapter's definition in f64, differentiated by hand: the bounds, which are
/// made of the latter's parts, are about the same thing. Both are in f64, with some hundred roundings of unit numbers.
#[test]
fn both_definitions_agree() {
    for gate in GATES {
        for down in DOWNS {
            let case = Case::<f32>::new(&Shape { down, dropout: 0.4, ..small(gate) });
            let mut exact = case.problem().exact();
            exact.y0 = reference::base(exact.h.as_ref(), exact.w.as_ref(), None);
            let (x, adapter) = (exact.x(), exact.adapter());
            let a = reference::gates(&adapter, x.as_ref(), exact.input());
            let by_hand =
                reference::backward(&adapter, x.as_ref(), a.as_ref(), exact.input(), exact.factors(), exact.g.as_ref());
            let [dx, db, dgate] = Definition::of(&exact).gradients().unwrap();
            let mut base =
                reference::product(scattered(&exact.g, &by_hand.x, &exact.skeleton).as_ref(), exact.w.as_ref());
            if let Some(share) = &by_hand.h {
                base.data_mut().iter_mut().zip(share.data()).for_each(|(x, share)| *x += share);
            }
            for (found, expected) in [(dx, base), (db, by_hand.b), (dgate, by_hand.parameters)] {
                let mut bound = expected.clone();
                bound.data_mut().iter_mut().for_each(|x| *x = 1e-12 * (10.0 + x.abs()));
                assert_within(&format!("{gate:?} {down:?}"), &found, &expected, &bound);
            }
            let y = Definition::of(&exact).forward().unwrap();
            for (found, expected) in values(&y).iter().zip(exact.y().data()) {
                assert!((found - expected).abs() <= 1e-12 * (10.0 + expected.abs()), "{gate:?} {down:?}: Y");
            }
        }
    }
}

/// Central differences of the layer itself, in f32, along random directions of all operands at once. With a step of 2⁻⁷ the
/// truncation is about h²·|L'''|, 6e-5 of unit numbers, and the rounding u·|L|/h about 1e-5 of the largest sum: 1 % of the
/// size of the loss's terms is a wide margin that no wrong formula meets.
#[test]
fn gradients_are_slopes() {
    for gate in GATES {
        for down in DOWNS {
            let shape = Shape { down, ..small(gate) };
            let case = Case::<f32>::new(&shape);
            let gradients = found(&case);
            let starts = [case.x.clone(), case.layer.b().copy().unwrap(), case.layer.gate().copy().unwrap()];
            for operand in 0..3 {
                let direction = starts[operand].randn_like(0.0, 1.0).unwrap();
                let at = |step: f64| -> f64 {
                    let moved = (&starts[operand] + (&direction * step).unwrap()).unwrap();
                    let x = if operand == 0 { moved.clone() } else { starts[0].clone() };
                    case.layer.b().set(if operand == 1 { &moved } else { &starts[1] }).unwrap();
                    case.layer.gate().set(if operand == 2 { &moved } else { &starts[2] }).unwrap();
                    let y = values(&case.layer.forward_t(&x, false).unwrap());
                    y.iter().zip(values(&case.g)).map(|(y, g)| y * g).sum()
                };
                const STEP: f64 = 1.0 / 128.0;
                let slope = (at(STEP) - at(-STEP)) / (2.0 * STEP);
                let terms: Vec<f64> =
                    gradients[operand].data().iter().zip(values(&direction)).map(|(g, d)| g * d).collect();
                let (expected, size) = (terms.iter().sum::<f64>(), terms.iter().map(|x| x.abs()).sum::<f64>());
                let what = format!("{gate:?} {down:?} operand {operand}");
                assert!((slope - expected).abs() <= 1e-2 * size, "{what}: {expected}, slope {slope}, size {size}");
            }
        }
    }
}

fn shapes() -> impl Strategy<Value = Shape> {
    let sizes = (1usize..=4, 1usize..=3, 1usize..=3, 0usize..=9, 1usize..=19);
    let leading = prop_oneof![
        Just(vec![]),
        (1usize..=40).prop_map(|t| vec![t]),
        (1usize..=4, 1usize..=9).prop_map(|(a, b)| vec![a, b]),
        (1usize..=3, 1usize..=2, 1usize..=5).prop_map(|(a, b, c)| vec![a, b, c]),
    ];
    let variants = (0..GATES.len(), any::<bool>(), any::<bool>(), prop_oneof![Just(0.0f32), Just(0.25), Just(0.6)]);
    (sizes, leading, variants, any::<u64>()).prop_map(|(sizes, leading, variants, seed)| {
        let ((depth, split, clusters, more, cols), (gate, gemm, bias, dropout)) = (sizes, variants);
        let rank = depth * split;
        let rows = (clusters * rank).next_multiple_of(split) + more * split;
        let down = if gemm { DownProjection::Gemm } else { DownProjection::Gather };
        Shape { rows, cols, rank, clusters, split, gate: GATES[gate], down, bias, dropout, leading, seed }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn gradients_of_any_shape(shape in shapes()) {
        for_every_element!(assert_gradients(&shape));
    }
}
