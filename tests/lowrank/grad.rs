//! The adapter's backward: the reference against finite differences, the implementations against the reference.

use crate::common::branch::{DOWNS, Exact, GATES, Problem, desc, zeros};
use crate::common::gradients::{assert_backward, run, scattered};
use crate::common::{Padded, devices, for_every_element, kernel_devices, on_threads};
use idlora::lowrank::{Bias, Desc, DownProjection, Dropout, Gate, Gradients, InputGradient, Plan};
use idlora::reference::lowrank as reference;
use idlora::{Device, Elem, Mat, bf16};
use proptest::prelude::*;

const DROPOUT: Dropout = Dropout { probability: 0.3, seed: 21, offset: 3 };

/// `L = Σ G ⊙ Y` in f64, as a function of everything that can be differentiated.
fn loss(exact: &Exact) -> f64 {
    exact.y().data().iter().zip(exact.g.data()).map(|(y, g)| y * g).sum()
}

/// Central differences of the loss by every entry of what `pick` chooses. With steps of 1e-5 and entries of unit size the
/// truncation is about `h²·|L'''|` = 1e-10·|L'''| and the rounding `ε·|L|/h` = 1e-9, so 1e-6 is a wide margin, and no wrong formula
/// meets it.
fn differences_agree(what: &str, exact: &mut Exact, gradient: &Mat<f64>, pick: impl Fn(&mut Exact) -> &mut Mat<f64>) {
    const STEP: f64 = 1e-5;
    for i in 0..gradient.rows() {
        for j in 0..gradient.cols() {
            let start = pick(exact).row(i)[j];
            let mut at = |x: f64| {
                pick(exact).row_mut(i)[j] = x;
                loss(exact)
            };
            let slope = (at(start + STEP) - at(start - STEP)) / (2.0 * STEP);
            at(start);
            let found = gradient.row(i)[j];
            assert!(
                (slope - found).abs() <= 1e-6 * (1.0 + slope.abs()),
                "{what} at [{i}, {j}]: {found}, slope {slope}"
            );
        }
    }
}

/// The reference's backward of what the reference's forward computes.
fn reference_gradients(exact: &Exact) -> reference::Gradients {
    let (adapter, x) = (exact.adapter(), exact.x());
    let a = reference::gates(&adapter, x.as_ref(), exact.input());
    reference::backward(&adapter, x.as_ref(), a.as_ref(), exact.input(), exact.factors(), exact.g.as_ref())
}

#[test]
fn the_reference_is_the_derivative_of_its_forward() {
    for gate in GATES {
        for bias in [Bias::None, Bias::Included, Bias::Separate] {
            for (split, dropout) in [(1, None), (2, Some(DROPOUT)), (3, None)] {
                let desc = Desc { gate, bias, ..desc(24, 5, 6, 3, split) };
                let mut exact = Problem::<f32>::random(desc, 4, dropout, 1).exact();
                let gradients = reference_gradients(&exact);
                let what = format!("{gate:?} {bias:?} s {split}");
                differences_agree(&format!("{what}: B"), &mut exact, &gradients.b, |e| &mut e.b);
                differences_agree(&format!("{what}: gate"), &mut exact, &gradients.parameters, |e| &mut e.gate);
                let dy0 = scattered(&exact.g, &gradients.x, &exact.skeleton);
                differences_agree(&format!("{what}: Y0"), &mut exact, &dy0, |e| &mut e.y0);
                match &gradients.h {
                    Some(dh) => differences_agree(&format!("{what}: H"), &mut exact, dh, |e| &mut e.h),
                    None => assert!(!gate.reads_input()),
                }
            }
        }
    }
}

/// With the explicit down-projection H also enters through X: `dH = dX W[S]`, plus the gate's share.
#[test]
fn the_reference_is_the_derivative_through_the_explicit_down_projection() {
    for gate in GATES {
        let desc = Desc { gate, down: DownProjection::Gemm, ..desc(24, 5, 4, 3, 2) };
        let mut exact = Problem::<f32>::random(desc, 4, Some(DROPOUT), 2).exact();
        let gradients = reference_gradients(&exact);
        let mut chosen = Vec::new();
        exact.skeleton.iter().for_each(|&row| chosen.extend_from_slice(exact.w.row(row as usize)));
        let chosen = Mat::from_vec(chosen, 12, 5).unwrap();
        let mut dh = reference::product(gradients.x.as_ref(), chosen.as_ref());
        if let Some(share) = &gradients.h {
            dh.data_mut().iter_mut().zip(share.data()).for_each(|(dh, share)| *dh += share);
        }
        differences_agree(&format!("{gate:?}: H"), &mut exact, &dh, |e| &mut e.h);
    }
}

/// The whole layer, from the paper's literal formula: `dH = dY0 · W` rides on the base backward.
#[test]
fn the_scattered_gradient_is_the_derivative_of_the_papers_formula() {
    for gate in GATES {
        let mut exact = Problem::<f32>::random(Desc { gate, ..desc(24, 7, 4, 3, 2) }, 3, None, 3).exact();
        exact.y0 = reference::base(exact.h.as_ref(), exact.w.as_ref(), None);
        let gradients = reference_gradients(&exact);
        let dy0 = scattered(&exact.g, &gradients.x, &exact.skeleton);
        let mut dh = reference::product(dy0.as_ref(), exact.w.as_ref());
        if let Some(share) = &gradients.h {
            dh.data_mut().iter_mut().zip(share.data()).for_each(|(dh, share)| *dh += share);
        }
        for t in 0..3 {
            for c in 0..7 {
                let at = |step: f64| -> f64 {
                    let mut h = exact.h.row(t).to_vec();
                    h[c] += step;
                    let y = reference::literal(&exact.adapter(), &h, exact.w.as_ref(), None);
                    y.iter().zip(exact.g.row(t)).map(|(y, g)| y * g).sum()
                };
                let (slope, found) = ((at(1e-5) - at(-1e-5)) / 2e-5, dh.row(t)[c]);
                assert!(
                    (slope - found).abs() <= 1e-6 * (1.0 + slope.abs()),
                    "{gate:?} [{t}, {c}]: {found} and {slope}"
                );
            }
        }
    }
}

thread_local! {
    /// Every implementation, loaded once for all cases.
    static DEVICES: Vec<Device> = devices().into_iter().chain(kernel_devices()).collect();
}

/// On every device, from what the CPU's forward saves: kernels have no explicit down-projection, and their backward needs none.
fn backward_is_the_references<T: Elem>(desc: Desc, tokens: usize, dropout: Option<Dropout>, seed: u64) {
    let problem = Problem::<T>::random(desc, tokens, dropout, seed);
    let forward = problem.forward(&Device::Cpu, true);
    DEVICES.with(|devices| devices.iter().for_each(|device| assert_backward(device, &problem, &forward)));
}

#[test]
fn every_variant_is_the_references() {
    for (i, gate) in GATES.into_iter().enumerate() {
        for down in DOWNS {
            for (bias, split, dropout) in
                [(Bias::None, 1, None), (Bias::Included, 2, Some(DROPOUT)), (Bias::Separate, 3, None)]
            {
                let desc = Desc { gate, bias, down, ..desc(36 + 6 * i, 21, 6, 3, split) };
                for_every_element!(backward_is_the_references(desc, 14, dropout, 4));
            }
        }
    }
}

/// Enough tokens for several segments, whose partial sums must all be added.
#[test]
fn several_segments_are_the_references() {
    for gate in GATES {
        for_every_element!(backward_is_the_references(Desc { gate, ..desc(48, 9, 4, 3, 2) }, 400, Some(DROPOUT), 5));
    }
}

prop_compose! {
    fn shapes()(
        split in 1usize..=4,
        depth in prop::sample::select(vec![1usize, 2, 5, 7, 8, 9, 15, 16, 17, 33]),
        components in 1usize..=4,
        part in prop::sample::select(vec![1usize, 5, 7, 12, 13, 16, 17, 31, 33, 191, 192, 193, 209, 385]),
        cols in prop::sample::select(vec![1usize, 2, 17, 32, 191, 193]),
        gate in 0..5usize,
    ) -> Desc {
        let part = part.max(components * depth);
        Desc { gate: GATES[gate], ..desc(part * split, cols, depth * split, components, split) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn ragged_shapes_are_the_references(
        desc in shapes(),
        tokens in prop::sample::select(vec![0usize, 1, 2, 5, 6, 7, 11, 12, 13, 23, 24, 25, 49]),
        dropout in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let dropout = dropout.then_some(DROPOUT);
        for_every_element!(backward_is_the_references(desc, tokens, dropout, seed));
    }
}

/// Accumulating adds the gradient, rounded once more, to what was there.
fn accumulating_adds<T: Elem>() {
    for device in devices().into_iter().chain(kernel_devices()) {
        for gate in GATES {
            let problem = Problem::<T>::random(Desc { gate, ..desc(40, 11, 6, 3, 2) }, 17, None, 6);
            let forward = problem.forward(&Device::Cpu, true);
            let once = run(&device, &problem, forward.saved(), false, None);
            let twice = run(&device, &problem, forward.saved(), false, Some((&once.b, &once.gate)));
            let doubled = |a: &Padded<f32>| {
                let mut a = a.to_f64();
                a.data_mut().iter_mut().for_each(|x| *x *= 2.0);
                a
            };
            // x + x is exact.
            assert_eq!(twice.b.to_f64(), doubled(&once.b), "{gate:?}");
            assert_eq!(twice.gate.to_f64(), doubled(&once.gate), "{gate:?}");
            assert_eq!(twice.input.to_f64(), once.input.to_f64(), "{gate:?}");
            assert_eq!(twice.h.map(|h| h.to_f64()), once.h.map(|h| h.to_f64()), "the share of dH is overwritten");
        }
    }
}

#[test]
fn gradients_accumulate_where_asked() {
    for_every_element!(accumulating_adds());
}

fn threads_do_not_matter<T: Elem>() {
    for device in devices() {
        for gate in GATES {
            let problem = Problem::<T>::random(Desc { gate, ..desc(64, 40, 8, 4, 2) }, 600, Some(DROPOUT), 7);
            let forward = problem.forward(&device, true);
            let on = |threads: usize| {
                let found = on_threads(threads, || run(&device, &problem, forward.saved(), true, None));
                (found.b.to_f64(), found.gate.to_f64(), found.input.to_f64(), found.h.map(|h| h.to_f64()))
            };
            assert!(on(1) == on(2), "{:?} {gate:?}", T::DTYPE);
        }
    }
}

#[test]
fn one_and_two_threads_give_the_same_bits() {
    for_every_element!(threads_do_not_matter());
}

/// The share of dH is optional, and asking for it changes nothing else.
#[test]
fn the_share_of_dh_is_optional() {
    for device in devices().into_iter().chain(kernel_devices()) {
        let problem = Problem::<bf16>::random(Desc { gate: Gate::Linear, ..desc(24, 10, 4, 3, 2) }, 9, None, 8);
        let forward = problem.forward(&Device::Cpu, true);
        let with = run(&device, &problem, forward.saved(), false, None);
        let (mut b, mut gate) = (Mat::zeros(12, 2).unwrap(), Mat::zeros(3, 10).unwrap());
        let mut dx = Padded::<bf16>::poisoned(9, 12, 0);
        let gradients = Gradients { b: b.as_mut(), gate: gate.as_mut(), h_gate: None, accumulate: false };
        let to = InputGradient::Separate { g: problem.g.view(), dx: dx.view_mut() };
        let plan = Plan::new(&device, problem.desc).unwrap();
        plan.backward(&problem.parameters(), &problem.layer(), forward.saved(), to, gradients).unwrap();
        let wide: Vec<f64> = gate.data().iter().map(|&x| f64::from(x)).collect();
        assert_eq!(wide, with.gate.to_f64().data());
        assert_eq!(dx.to_f64(), with.input.to_f64());
    }
}

/// Training may start at B = 0: then dB does not vanish as long as the gate does not, and the gate's gradient does.
#[test]
fn at_b_zero_only_b_moves() {
    for device in devices().into_iter().chain(kernel_devices()) {
        for gate in GATES {
            let mut problem = Problem::<f32>::random(Desc { gate, ..desc(24, 10, 4, 3, 2) }, 9, None, 9);
            problem.b = Padded::new(&zeros(12, 2), 0);
            let forward = problem.forward(&Device::Cpu, true);
            let found = run(&device, &problem, forward.saved(), false, None);
            assert!(found.b.to_f64().data().iter().all(|&x| x != 0.0), "{gate:?}: every entry of B has a gradient");
            assert!(found.gate.to_f64().data().iter().all(|&x| x == 0.0), "{gate:?}: the gate has none yet");
        }
    }
}

/// No tokens: zero gradients, or what was there.
#[test]
fn an_empty_batch_has_zero_gradients() {
    for device in devices().into_iter().chain(kernel_devices()) {
        for gate in GATES {
            let problem = Problem::<f32>::random(Desc { gate, ..desc(24, 10, 4, 3, 2) }, 0, None, 10);
            let forward = problem.forward(&Device::Cpu, true);
            let found = run(&device, &problem, forward.saved(), true, None);
            assert!(found.b.to_f64().data().iter().chain(found.gate.to_f64().data()).all(|&x| x == 0.0), "{gate:?}");
            let kept = run(&device, &problem, forward.saved(), true, Some((&problem.b, &problem.gate)));
            assert_eq!(kept.b.to_f64(), problem.b.to_f64(), "{gate:?}");
        }
    }
}
