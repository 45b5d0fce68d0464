//! Merging a static adapter into its base weight, and undoing it.

use crate::common::branch::{self, GATES, Problem, assert_within, rounding};
use crate::common::matrices::Draw;
use crate::common::{Padded, devices, for_every_element, kernel_devices, on_threads};
use crate::kernels::with_edges;
use idlora::lowrank::{Bias, Desc, Gate, merge, unmerge};
use idlora::reference::lowrank as reference;
use idlora::{Device, Elem, Mat, bf16, f16};
use proptest::prelude::*;

thread_local! {
    /// Every device; loaded once for all cases.
    static DEVICES: Vec<Device> = [devices(), kernel_devices()].concat();
}

fn every_device() -> Vec<Device> {
    DEVICES.with(Clone::clone)
}

fn on_every_device(property: impl FnMut(&Device)) {
    every_device().iter().for_each(property);
}

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
    assert_undone(&Problem::<T>::random(desc, 1, None, seed));
}

fn assert_undone<T: Elem>(problem: &Problem<T>) {
    let exact = problem.exact();
    let desc = problem.desc;
    let factor = reference::merge_factor(&exact.adapter(), desc.rows);
    let merged = reference::merge(&exact.adapter(), exact.w.as_ref());
    let size = reference::product(map(&factor, f64::abs).as_ref(), map(&exact.w, f64::abs).as_ref());
    let inverse = map(&reference::inverse(factor.as_ref()).unwrap(), f64::abs);
    on_every_device(|device| {
        let what = format!("{device} {:?} {desc:?} ld {}", T::DTYPE, problem.w.view().ld());
        let mut w = problem.w.clone();
        merge(device, &desc, &problem.parameters(), w.view_mut()).unwrap();
        w.assert_guards();
        let mut bound = map(&merged, |x| store::<T>(x));
        bound.data_mut().iter_mut().zip(size.data()).for_each(|(b, s)| *b += 1e-13 * s);
        assert_within(&format!("{what}: merged"), &w.to_f64(), &merged, &bound);

        let stored = w.to_f64();
        let undone = reference::product(reference::inverse(factor.as_ref()).unwrap().as_ref(), stored.as_ref());
        unmerge(device, &desc, &problem.parameters(), w.view_mut()).unwrap();
        w.assert_guards();
        let conditioned = reference::product(inverse.as_ref(), map(&stored, f64::abs).as_ref());
        let mut bound = map(&undone, |x| store::<T>(x));
        // f64 rounding through a solve of condition below 1e4.
        bound.data_mut().iter_mut().zip(conditioned.data()).for_each(|(b, c)| *b += 1e-11 * c);
        assert_within(&format!("{what}: undone"), &w.to_f64(), &undone, &bound);

        let off = map(&merged, |x| store::<T>(x));
        let spread = reference::product(inverse.as_ref(), off.as_ref());
        bound.data_mut().iter_mut().zip(spread.data()).for_each(|(b, s)| *b += 1.01 * s);
        assert_within(&format!("{what}: W comes back"), &w.to_f64(), &exact.w, &bound);
    });
}

#[test]
fn merging_is_undone_for_every_element_type() {
    for split in [1, 2, 3] {
        for_every_element!(merging_is_undone(desc(72, 21, 6, 4, split), 1));
    }
    for_every_element!(merging_is_undone(desc(1, 1, 1, 1, 1), 2));
    for_every_element!(merging_is_undone(desc(2, 5, 2, 1, 2), 3));
}

/// Around the kernels' tiles, in elements of 2 and of 4 bytes: 128 and 256 rows, 64 and 32 columns, 16 of r/s, panels of 8 rows
/// of Z, 64 columns of Z; rows that are aligned to 16 bytes, to a pair and to nothing; the first and the last row chosen.
fn tiles_are_whole<T: Elem>() {
    for (desc, padding) in [
        (desc(129, 65, 17, 2, 1), 0),
        (desc(2 * 128, 128, 32, 2, 2), 0),
        (desc(257, 33, 9, 3, 1), 3),
        (desc(2 * 130, 96, 18, 3, 2), 8),
        (desc(3 * 5, 63, 3, 1, 3), 1),
        // All rows are chosen.
        (desc(24, 1, 24, 1, 1), 0),
        (desc(48, 40, 12, 4, 4), 8),
    ] {
        let mut problem = with_edges(Problem::<T>::random(desc, 1, None, 11));
        problem.w = Padded::new(&problem.w.to_f64(), padding);
        // So far from singular that 1e-11 covers the solve.
        problem.scale = 0.5;
        assert_undone(&problem);
    }
}

#[test]
fn ragged_tiles_merge_and_come_back() {
    for_every_element!(tiles_are_whole());
}

/// Columns from the smallest to the largest numbers of the element, so that a sum across columns or a rounding too many shows.
fn every_magnitude_merges<T: Elem>(smallest: i32, largest: f64) {
    let desc = desc(40, 24, 6, 3, 2);
    let mut problem = with_edges(Problem::<T>::random(desc, 1, None, 12));
    problem.scale = 0.5;
    let exact = problem.exact();
    let merged = reference::merge(&exact.adapter(), exact.w.as_ref());
    let mut w = exact.w.clone();
    for c in 0..desc.cols {
        let magnitude = |a: &Mat<f64>| (0..desc.rows).map(|i| a.row(i)[c].abs()).fold(0.0, f64::max);
        let size = magnitude(&exact.w).max(magnitude(&merged)) * 1.001;
        let exponent = f64::from(smallest) + (largest.log10() - f64::from(smallest)) * c as f64 / 23.0;
        (0..desc.rows).for_each(|i| w.row_mut(i)[c] *= 10f64.powf(exponent) / size);
    }
    problem.w = Padded::new(&w, 8);
    assert_undone(&problem);
}

#[test]
fn every_magnitude_merges_and_comes_back() {
    every_magnitude_merges::<f16>(-7, 6e4);
    every_magnitude_merges::<bf16>(-37, 3e38);
    every_magnitude_merges::<f32>(-37, 3e38);
}

/// Equal weights, equal entries of B and equal rows: every pivot is a tie.
fn equal_entries_merge<T: Elem>() {
    let desc = desc(36, 34, 6, 3, 2);
    let mut problem = with_edges(Problem::<T>::random(desc, 1, None, 13));
    problem.b.view_mut().data_mut().fill(0.125);
    problem.gate.view_mut().row_mut(0).fill(0.25);
    let first = problem.w.to_f64().row(0).to_vec();
    problem.w = Padded::new(&Mat::from_vec(first.repeat(36), 36, 34).unwrap(), 2);
    assert_undone(&problem);
}

#[test]
fn equal_entries_merge_and_come_back() {
    for_every_element!(equal_entries_merge());
}

/// What is too large becomes infinite, and a NaN stays in its column, as on the CPU.
#[test]
fn overflow_and_nan_are_the_cpus() {
    let desc = desc(140, 70, 4, 2, 2);
    let mut problem = with_edges(Problem::<f16>::random(desc, 1, None, 14));
    let chosen = problem.skeleton[1] as usize;
    problem.w.view_mut().row_mut(chosen)[3] = f16::from_f32(6e4);
    problem.w.view_mut().row_mut(chosen)[65] = f16::NAN;
    problem.scale = 50.0;
    let merged = |device: &Device| {
        let mut w = problem.w.clone();
        merge(device, &desc, &problem.parameters(), w.view_mut()).unwrap();
        w.to_f64()
    };
    let expected = merged(&Device::Cpu);
    // The row is component 0's second, which the first half of Z and so of W's rows takes.
    assert!((0..70).any(|i| expected.row(i)[3].is_infinite()) && (0..70).all(|i| expected.row(i)[65].is_nan()));
    on_every_device(|device| {
        for (found, expected) in merged(device).data().iter().zip(expected.data()) {
            let step = if expected.is_finite() { expected.abs() / 1024.0 + 1e-7 } else { 0.0 };
            assert!(found == expected || found.is_nan() && expected.is_nan() || (found - expected).abs() <= step);
        }
    });
}

/// The same bits for any order of lanes, warps and blocks: every chosen row is read before any row is updated.
#[cfg(feature = "vm")]
#[test]
fn no_schedule_changes_a_bit_of_a_merge() {
    use idlora::vm::{Settings, Vm};
    use ptx_vm::Checks;
    if kernel_devices().is_empty() {
        return;
    }
    for (desc, padding) in [(desc(2 * 131, 130, 36, 3, 2), 6), (desc(150, 67, 10, 3, 1), 0)] {
        let mut problem = with_edges(Problem::<bf16>::random(desc, 1, None, 15));
        problem.w = Padded::new(&problem.w.to_f64(), padding);
        let bits = |device: &Device| {
            let mut w = problem.w.clone();
            merge(device, &desc, &problem.parameters(), w.view_mut()).unwrap();
            let merged = w.to_f64();
            unmerge(device, &desc, &problem.parameters(), w.view_mut()).unwrap();
            (merged, w.to_f64())
        };
        let expected = bits(&Device::Vm(Vm::default()));
        for (seed, resident) in [(1, 1), (2, 3), (3, 7)] {
            let checks = Checks { global_races: true, ..Checks::ALL };
            let device = Device::Vm(Vm::new(Settings { checks, seed: Some(seed), resident }));
            assert!(bits(&device) == expected, "{desc:?} seed {seed}, {resident} resident");
        }
    }
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
    for device in &every_device() {
        for (split, bias) in [(1, Bias::None), (2, Bias::Included), (3, Bias::Included)] {
            let desc = Desc { bias, ..desc(48, 17, 6, 4, split) };
            let problem = Problem::<f32>::random(desc, 6, None, 5);
            let mut exact = problem.exact();
            let b = (bias == Bias::Included).then_some(&exact.bias[..]);
            exact.y0 = reference::base(exact.h.as_ref(), exact.w.as_ref(), b);
            let adapted = exact.y();
            let mut w = problem.w.clone();
            merge(device, &desc, &problem.parameters(), w.view_mut()).unwrap();
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
    for device in &every_device() {
        let desc = desc(3, 4, 1, 1, 1);
        let mut problem = Problem::<f32>::random(desc, 1, None, 6);
        let row = problem.skeleton[0] as usize;
        problem.scale = 2.0;
        problem.gate = Padded::new(&Mat::from_vec(vec![0.5], 1, 1).unwrap(), 0);
        problem.b.view_mut().row_mut(row)[0] = -1.0;
        let mut w = problem.w.clone();
        merge(device, &desc, &problem.parameters(), w.view_mut()).unwrap();
        assert!(w.view().row(row).iter().all(|&x| x == 0.0), "the row is lost");
        let before = w.to_f64();
        let error = unmerge(device, &desc, &problem.parameters(), w.view_mut()).unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, idlora::Error::Unsupported { .. }), "{error:?}");
        assert!(message.contains("singular") && message.contains("reload the base weight"), "{message}");
        assert_eq!(w.to_f64(), before);
    }
}

#[test]
fn gates_that_depend_on_the_token_are_refused_with_the_reason() {
    for device in &every_device() {
        for gate in GATES.into_iter().filter(|&gate| gate != Gate::Static) {
            let desc = Desc { gate, ..desc(12, 5, 2, 2, 1) };
            let problem = Problem::<bf16>::random(desc, 1, None, 7);
            let mut w = problem.w.clone();
            for (error, verb) in [
                (merge(device, &desc, &problem.parameters(), w.view_mut()).unwrap_err(), "merged"),
                (unmerge(device, &desc, &problem.parameters(), w.view_mut()).unwrap_err(), "un-merged"),
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
    for device in &every_device() {
        let desc = desc(256, 33, 8, 4, 2);
        let mut problem = Problem::<bf16>::random(desc, 1, None, 8);
        problem.w = Padded::new(&Draw::new(1).gaussian(256, 33), 3);
        let on = |threads: usize| {
            on_threads(threads, || {
                let mut w = problem.w.clone();
                merge(device, &desc, &problem.parameters(), w.view_mut()).unwrap();
                let merged = w.to_f64();
                unmerge(device, &desc, &problem.parameters(), w.view_mut()).unwrap();
                (merged, w.to_f64())
            })
        };
        assert!(on(1) == on(2));
    }
}
