//! Norms of rows and columns.

mod common;

use common::matrices::{Draw, zoo};
use common::{Padded, devices, on_threads};
use idlora::norms::{Axis, Desc, Plan};
use idlora::{Device, Elem, Mat, bf16, f16, reference};
use proptest::prelude::*;

fn norms<T: Elem>(device: &Device, w: &Padded<T>, axis: Axis) -> Vec<f32> {
    let (rows, cols) = w.view().shape();
    let mut out = vec![f32::NAN; if axis == Axis::Rows { rows } else { cols }];
    Plan::new(device, Desc { rows, cols, axis }).unwrap().run(w.view(), &mut out).unwrap();
    out
}

/// The sums of squares (here and in the reference) are off by `n·2⁻⁵³` of themselves each, the square root halves
/// that, and the result is rounded once to `f32`, in its subnormal range to a multiple of 2⁻¹⁴⁹.
fn assert_norms<T: Elem>(what: &str, padded: &Padded<T>) {
    let exact = padded.to_f64();
    for device in devices() {
        for (axis, expected, terms) in [
            (Axis::Rows, reference::norms::row_norms(exact.as_ref()), exact.cols()),
            (Axis::Cols, reference::norms::col_norms(exact.as_ref()), exact.rows()),
        ] {
            let found = norms(&device, padded, axis);
            assert_eq!(found.len(), expected.len());
            for (i, (&x, &y)) in found.iter().zip(&expected).enumerate() {
                let bound = y * (0.5f64.powi(24) + (terms + 1) as f64 * f64::EPSILON) + 0.5f64.powi(150);
                assert!((f64::from(x) - y).abs() <= bound, "{what} {:?} {axis:?} {i}: {x:e}, not {y:e}", T::DTYPE);
            }
        }
    }
    padded.assert_guards();
}

fn holds<T: Elem>() {
    for (rows, cols) in [(20, 14), (14, 20), (129, 17), (257, 3), (3, 1030)] {
        for (name, values) in zoo(1, rows, cols) {
            assert_norms(name, &Padded::<T>::new(&values, 3));
        }
    }
    // Every length around the unrolling, one row, one column, nothing at all.
    for n in [0, 1, 2, 15, 16, 17, 31, 33, 511, 512, 513, 529] {
        assert_norms("edges", &Padded::<T>::new(&Draw::new(n as u64).gaussian(2, n), 1));
        assert_norms("edges", &Padded::<T>::new(&Draw::new(n as u64).gaussian(n, 1), 2));
    }
}

#[test]
fn norms_equal_the_definition() {
    holds::<f32>();
    holds::<f16>();
    holds::<bf16>();
}

fn survives_scale<T: Elem>(scales: &[f64]) {
    for &scale in scales {
        let values = Draw::new(9).gaussian(7, 40).data().iter().map(|x| x * scale).collect();
        let padded = Padded::<T>::new(&Mat::from_vec(values, 7, 40).unwrap(), 1);
        assert_norms("scaled", &padded);
        for device in devices() {
            for axis in [Axis::Rows, Axis::Cols] {
                assert!(norms(&device, &padded, axis).iter().all(|x| x.is_finite() && *x > 0.0), "{scale:e} {axis:?}");
            }
        }
    }
}

#[test]
fn extreme_scales_neither_vanish_nor_overflow() {
    survives_scale::<f32>(&[1e-44, 1e-40, 1e-30, 1e30, 3e36]);
    survives_scale::<bf16>(&[1e-38, 1e-30, 1e30, 3e36]);
    survives_scale::<f16>(&[1e-7, 1e-5, 1e4]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_shape(seed in 0u64..1 << 40, rows in 0usize..300, cols in 0usize..70, pad in 0usize..4) {
        assert_norms("any", &Padded::<f32>::new(&Draw::new(seed).gaussian(rows, cols), pad));
        assert_norms("any", &Padded::<f16>::new(&Draw::new(seed).gaussian(rows, cols), pad));
    }
}

#[test]
fn the_same_bits_for_one_and_two_threads() {
    let padded = Padded::<f32>::new(&Draw::new(2).gaussian(700, 90), 3);
    for device in devices() {
        for axis in [Axis::Rows, Axis::Cols] {
            let run = |threads| {
                on_threads(threads, || norms(&device, &padded, axis)).iter().map(|x| x.to_bits()).collect::<Vec<_>>()
            };
            assert_eq!(run(1), run(2));
        }
    }
}

#[test]
fn refusals_say_what_is_wrong() {
    for device in devices() {
        let mut values = Draw::new(2).gaussian(3, 5);
        let plan = |axis| Plan::new(&device, Desc { rows: 3, cols: 5, axis }).unwrap();
        let good = Padded::<f32>::new(&values, 0);
        let message = |error: idlora::Error| error.to_string();
        assert_eq!(
            message(plan(Axis::Rows).run(good.view(), &mut [0.0; 5]).unwrap_err()),
            "norms: `out` has length 5, expected length 3"
        );
        assert_eq!(
            message(plan(Axis::Cols).run(good.view(), &mut [0.0; 3]).unwrap_err()),
            "norms: `out` has length 3, expected length 5"
        );
        assert_eq!(
            message(plan(Axis::Cols).run(good.view().row_range(0..2), &mut [0.0; 5]).unwrap_err()),
            "norms: `w` has shape [2, 5], expected shape [3, 5]"
        );
        for (value, name) in [(f64::NAN, "NaN"), (f64::NEG_INFINITY, "-inf")] {
            values.row_mut(1)[4] = value;
            let bad = Padded::<f16>::new(&values, 1);
            for (axis, points) in [(Axis::Rows, 3), (Axis::Cols, 5)] {
                let mut out = vec![7.0; points];
                assert_eq!(
                    message(plan(axis).run(bad.view(), &mut out).unwrap_err()),
                    format!("norms: `w` has {name} at row 1, column 4; every entry must be finite")
                );
                assert!(out.iter().all(|&x| x == 7.0), "nothing written");
            }
        }
    }
}
