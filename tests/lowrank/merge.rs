//! Merging a static adapter into its base weight, and undoing it.

use crate::common::branch::{self, GATES, Problem, assert_within, rounding};
use crate::common::matrices::Draw;
use crate::common::{Padded, devices, for_every_element, on_threads};
use idlora::lowrank::{Bias, Desc, Gate, merge, unmerge};
use idlora::reference::lowrank as reference;
use idlora::{Elem, Mat, bf16};
use proptest::prelude::*;

fn desc(rows: usize, cols: usize, rank: usize, components: usize, split: usize) -> Desc {
    Desc { gate: Gate::Static, ..branch::desc(rows, cols, rank, components, split) }
}

/// u of the stored type: merging works in f64 and rounds to f32, then to T.
fn store<T: Elem>(x: f64) -> f64 {
    x.abs() / 16_777_216.0 * 1.01 + rounding::<T>(x * 1.01) + f64::from(f32::MIN_POSITIVE)
}

fn map(a: &Mat<f64>, f: impl Fn(f64) -> f64) -> Mat<f64> {
    Mat::from_vec(a.data().iter().map(|&x| f(x)).collect(), a.rows(), a.cols()).unwrap()
}

/// The merged weight is the reference's to the rounding of its storage (and to f64's of the sums, 1e-13 of their size).
/// Unmerging applies `(I + U P)⁻¹` to what was stored, so it brings W back within `|(I + U P)⁻¹| |W' − stored|` and its own
/// rounding; subtracting the delta, recomputed from the merged rows, does not.
fn merging_is_undone<T: Elem>(desc: Desc, seed: u64) {
    for device in devices() {
        let problem = Problem::<T>::random(desc, 1, None, seed);
        let what = format!("{:?} {desc:?}", T::DTYPE);
        let exact = problem.exact();
        let mut w = problem.w.clone();
        merge(&device, &desc, &problem.parameters(), w.view_mut()).unwrap();
        w.assert_guards();
        let merged = reference::merge(&exact.adapter(), exact.w.as_ref());
        let size = reference::product(
            map(&reference::merge_factor(&exact.adapter(), desc.rows), f64::abs).as_ref(),
            map(&exact.w, f64::abs).as_ref(),
        );
        let mut bound = map(&merged, |x| store::<T>(x));
        bound.data_mut().iter_mut().zip(size.data()).for_each(|(b, s)| *b += 1e-13 * s);
        assert_within(&format!("{what}: merged"), &w.to_f64(), &merged, &bound);

        let stored = w.to_f64();
        let undone = reference::unmerge(&exact.adapter(), stored.as_ref()).unwrap();
        unmerge(&device, &desc, &problem.parameters(), w.view_mut()).unwrap();
        w.assert_guards();
        let inverse = reference::inverse(reference::merge_factor(&exact.adapter(), desc.rows).as_ref()).unwrap();
        let inverse = map(&inverse, f64::abs);
        let conditioned = reference::product(inverse.as_ref(), map(&stored, f64::abs).as_ref());
        let mut bound = map(&undone, |x| store::<T>(x));
        // f64 rounding through a solve of condition below 1e4.
        bound.data_mut().iter_mut().zip(conditioned.data()).for_each(|(b, c)| *b += 1e-11 * c);
        assert_within(&format!("{what}: undone"), &w.to_f64(), &undone, &bound);

        let off = map(&merged, |x| store::<T>(x));
        let spread = reference::product(inverse.as_ref(), off.as_ref());
        bound.data_mut().iter_mut().zip(spread.data()).for_each(|(b, s)| *b += 1.01 * s);
        assert_within(&format!("{what}: W comes back"), &w.to_f64(), &exact.w, &bound);
    }
}

#[test]
fn merging_is_undone_for_every_element_type() {
    for split in [1, 2, 3] {
        for_every_element!(merging_is_undone(desc(72, 21, 6, 4, split), 1));
    }
    for_every_element!(merging_is_undone(desc(1, 1, 1, 1, 1), 2));
    for_every_element!(merging_is_undone(desc(2, 5, 2, 1, 2), 3));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn ragged_shapes_merge_and_come_back(
        split in 1usize..4, depth in 1usize..6, components in 1usize..4, extra in 0usize..40,
        cols in prop::sample::select(vec![1usize, 7, 32, 65]), seed in any::<u64>(),
    ) {
        let desc = desc(split * (components * depth + extra), cols, split * depth, components, split);
        // A random I + U P may be nearly singular; then the reference says so, and the bound would say nothing.
        let exact = Problem::<f32>::random(desc, 1, None, seed).exact();
        let inverse = reference::inverse(reference::merge_factor(&exact.adapter(), desc.rows).as_ref());
        prop_assume!(inverse.is_some_and(|inverse| inverse.data().iter().all(|x| x.abs() < 50.0)));
        for_every_element!(merging_is_undone(desc, seed));
    }
}

/// The trap: P reads rows that merging has changed.
#[test]
fn subtracting_the_delta_does_not_undo_a_merge() {
    let exact = Problem::<f32>::random(desc(24, 9, 4, 4, 2), 1, None, 4).exact();
    let merged = reference::merge(&exact.adapter(), exact.w.as_ref());
    let again = reference::merge(&exact.adapter(), merged.as_ref());
    let mut subtracted = merged.clone();
    for (x, (a, m)) in subtracted.data_mut().iter_mut().zip(again.data().iter().zip(merged.data())) {
        *x -= a - m;
    }
    let distance = |a: &Mat<f64>| {
        a.data().iter().zip(exact.w.data()).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
            / exact.w.data().iter().map(|w| w * w).sum::<f64>().sqrt()
    };
    let undone = reference::unmerge(&exact.adapter(), merged.as_ref()).unwrap();
    assert!(distance(&undone) < 1e-12, "{}", distance(&undone));
    assert!(distance(&subtracted) > 1e-2, "{}", distance(&subtracted));
}

/// A merged layer needs no adapter: for any input, its output is the adapted one.
#[test]
fn the_merged_layer_is_the_adapted_layer() {
    for device in devices() {
        for (split, bias) in [(1, Bias::None), (2, Bias::Included), (3, Bias::Included)] {
            let desc = Desc { bias, ..desc(48, 17, 6, 4, split) };
            let problem = Problem::<f32>::random(desc, 6, None, 5);
            let mut exact = problem.exact();
            let b = (bias == Bias::Included).then_some(&exact.bias[..]);
            exact.y0 = reference::base(exact.h.as_ref(), exact.w.as_ref(), b);
            let adapted = exact.y();
            let mut w = problem.w.clone();
            merge(&device, &desc, &problem.parameters(), w.view_mut()).unwrap();
            let merged = reference::base(exact.h.as_ref(), w.to_f64().as_ref(), b);
            // What rounding W' to f32 does to a product with H.
            let size = reference::base(map(&exact.h, f64::abs).as_ref(), map(&w.to_f64(), f64::abs).as_ref(), None);
            let bound = map(&size, |s| 1.01 * s / 16_777_216.0 + 1e-12);
            assert_within(&format!("s {split} {bias:?}"), &merged, &adapted, &bound);
        }
    }
}

/// `I + P U` singular: one component, one row, κ·ᾱ·B = −1 wipes that row out.
#[test]
fn what_cannot_be_undone_is_refused_and_leaves_w_alone() {
    for device in devices() {
        let desc = desc(3, 4, 1, 1, 1);
        let mut problem = Problem::<f32>::random(desc, 1, None, 6);
        let row = problem.skeleton[0] as usize;
        problem.scale = 2.0;
        problem.gate = Padded::new(&Mat::from_vec(vec![0.5], 1, 1).unwrap(), 0);
        problem.b.view_mut().row_mut(row)[0] = -1.0;
        let mut w = problem.w.clone();
        merge(&device, &desc, &problem.parameters(), w.view_mut()).unwrap();
        assert!(w.view().row(row).iter().all(|&x| x == 0.0), "the row is lost");
        let before = w.to_f64();
        let error = unmerge(&device, &desc, &problem.parameters(), w.view_mut()).unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, idlora::Error::Unsupported { .. }), "{error:?}");
        assert!(message.contains("singular") && message.contains("reload the base weight"), "{message}");
        assert_eq!(w.to_f64(), before);
    }
}

#[test]
fn gates_that_depend_on_the_token_are_refused_with_the_reason() {
    for device in devices() {
        for gate in GATES.into_iter().filter(|&gate| gate != Gate::Static) {
            let desc = Desc { gate, ..desc(12, 5, 2, 2, 1) };
            let problem = Problem::<bf16>::random(desc, 1, None, 7);
            let mut w = problem.w.clone();
            for (error, verb) in [
                (merge(&device, &desc, &problem.parameters(), w.view_mut()).unwrap_err(), "merged"),
                (unmerge(&device, &desc, &problem.parameters(), w.view_mut()).unwrap_err(), "un-merged"),
            ] {
                let message = error.to_string();
                assert!(message.contains(&format!("{gate:?}")) && message.contains("every token"), "{message}");
                assert!(message.contains(verb) && message.contains("Static"), "{message}");
            }
            assert_eq!(w.to_f64(), problem.w.to_f64());
        }
    }
}

#[test]
fn one_and_two_threads_give_the_same_bits() {
    for device in devices() {
        let desc = desc(256, 33, 8, 4, 2);
        let mut problem = Problem::<bf16>::random(desc, 1, None, 8);
        problem.w = Padded::new(&Draw::new(1).gaussian(256, 33), 3);
        let on = |threads: usize| {
            on_threads(threads, || {
                let mut w = problem.w.clone();
                merge(&device, &desc, &problem.parameters(), w.view_mut()).unwrap();
                let merged = w.to_f64();
                unmerge(&device, &desc, &problem.parameters(), w.view_mut()).unwrap();
                (merged, w.to_f64())
            })
        };
        assert!(on(1) == on(2));
    }
}
