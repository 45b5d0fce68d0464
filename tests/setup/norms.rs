//! Norms of rows and columns.

use crate::common::matrices::{Draw, zoo};
use crate::common::{Padded, devices, kernel_devices, on_threads};
use idlora::norms::{Axis, Desc, Plan};
use idlora::{Device, Elem, Mat, bf16, f16, reference};
use proptest::prelude::*;

fn norms<T: Elem>(device: &Device, w: &Padded<T>, axis: Axis) -> Vec<f32> {
    let (rows, cols) = w.view().shape();
    let mut out = vec![f32::NAN; if axis == Axis::Rows { rows } else { cols }];
    Plan::new(device, Desc { rows, cols, axis }).unwrap().run(w.view(), &mut out).unwrap();
    out
}

/// How far the norm of `terms` elements, `y`, may be off.
///
/// CPU: the sums of squares (there and in the reference) are off by `n·2⁻⁵³` of themselves each, the square root halves
/// that, and the result is rounded once to `f32`, in its subnormal range to a multiple of 2⁻¹⁴⁹.
///
/// Kernels, with u = 2⁻²⁴: all terms are positive, so a sum whose terms pass at most `d` roundings is off by
/// `(1 + u)^d − 1` of itself, of which the root keeps half, and rounds once more. Scaling by powers of two is exact, and what
/// underflows when ranges are added is below 2⁻³⁰ of the sum. By the header of `kernels/norms.cu`, a row passes
/// `n/32 + 8 + 2` roundings in a lane, 5 in the warp, 1 of the ranges: `d ≤ n/32 + 17`. A column passes `16 + 8 + 1` in a
/// chunk, whose norm is off by `25/2 + 1` u, and as the square of that norm passes `n/128 + 2` more: together
/// `d ≤ n/128 + 28` for one root more. `d/2 + 2` u covers either with the terms of second order. Norms in the subnormal
/// range round by 2⁻¹⁵⁰: that of each chunk, which together enter as their root of sum of squares, and the last.
fn bound(device: &Device, axis: Axis, terms: usize, y: f64) -> f64 {
    let (n, unit, subnormal) = (terms as f64, 0.5f64.powi(24), 0.5f64.powi(150));
    match (device, axis) {
        (Device::Cpu, _) => y * (unit + (n + 1.0) * f64::EPSILON) + subnormal,
        (_, Axis::Rows) => y * unit * ((n / 32.0 + 17.0) / 2.0 + 2.0) + subnormal,
        (_, Axis::Cols) => y * unit * ((n / 128.0 + 28.0) / 2.0 + 2.0) + subnormal * (1.0 + (n / 128.0).ceil().sqrt()),
    }
}

fn assert_norms<T: Elem>(devices: &[Device], what: &str, padded: &Padded<T>) {
    let exact = padded.to_f64();
    for device in devices {
        for (axis, expected, terms) in [
            (Axis::Rows, reference::norms::row_norms(exact.as_ref()), exact.cols()),
            (Axis::Cols, reference::norms::col_norms(exact.as_ref()), exact.rows()),
        ] {
            let found = norms(device, padded, axis);
            assert_eq!(found.len(), expected.len());
            for (i, (&x, &y)) in found.iter().zip(&expected).enumerate() {
                let bound = bound(device, axis, terms, y);
                let what = format!("{what} on {device} {:?} {axis:?}", T::DTYPE);
                assert!((f64::from(x) - y).abs() <= bound, "{what} {i}: {x:e}, not {y:e}");
            }
        }
    }
    padded.assert_guards();
}

fn holds<T: Elem>() {
    let devices = devices();
    for (rows, cols) in [(20, 14), (14, 20), (129, 17), (257, 3), (3, 1030)] {
        for (name, values) in zoo(1, rows, cols) {
            assert_norms(&devices, name, &Padded::<T>::new(&values, 3));
        }
    }
    // Every length around the unrolling, one row, one column, nothing at all.
    for n in [0, 1, 2, 15, 16, 17, 31, 33, 511, 512, 513, 529] {
        assert_norms(&devices, "edges", &Padded::<T>::new(&Draw::new(n as u64).gaussian(2, n), 1));
        assert_norms(&devices, "edges", &Padded::<T>::new(&Draw::new(n as u64).gaussian(n, 1), 2));
    }
}

#[test]
fn norms_equal_the_definition() {
    holds::<f32>();
    holds::<f16>();
    holds::<bf16>();
}

/// Shapes around the tiles of `kernels/norms.cu`: 8 rows a block; 128 rows a chunk; tiles of 128 and 256 columns; vectors
/// of 4 and 8 elements, aligned, with heads and tails, and rows that are not aligned at all.
fn holds_in_kernels<T: Elem>() {
    let devices = kernel_devices();
    if devices.is_empty() {
        return;
    }
    for (name, values) in zoo(1, 20, 14) {
        assert_norms(&devices, name, &Padded::<T>::new(&values, 2));
    }
    for (rows, cols) in [(1, 1), (7, 127), (8, 128), (9, 129), (17, 255), (2, 256), (3, 257), (129, 5), (257, 33)] {
        let values = Draw::new(cols as u64).gaussian(rows, cols);
        for pad in [0, 1, 8, (16 - cols % 8) % 8] {
            assert_norms(&devices, "tiles", &Padded::<T>::new(&values, pad));
        }
    }
    for n in [0, 2, 7, 9, 31, 33, 127, 128, 1025] {
        assert_norms(&devices, "edges", &Padded::<T>::new(&Draw::new(n as u64).gaussian(2, n), 1));
        assert_norms(&devices, "edges", &Padded::<T>::new(&Draw::new(n as u64).gaussian(n, 1), 2));
    }
}

#[test]
fn kernels_equal_the_definition() {
    holds_in_kernels::<f32>();
    holds_in_kernels::<f16>();
    holds_in_kernels::<bf16>();
}

/// Elements of all three ranges in one row, and each next to another one where adding them matters.
#[test]
fn ranges_add_up() {
    let devices: Vec<Device> = devices().into_iter().chain(kernel_devices()).collect();
    let power = |e: i32| 2f64.powi(e);
    for (a, b) in [
        (-80, -81),
        (70, 69),
        (-60, -61),
        (-61, -73),
        (39, 40),
        (40, 28),
        (-149, -120),
        (124, -149),
        (0, -149),
        (124, 0),
    ] {
        // Mixed within every vector of 16 bytes, and from one vector to the next.
        for run in [1, 8] {
            let values = (0..40 * 24).map(|i| power(if i / run % 3 == 0 { a } else { b })).collect();
            let padded = Padded::<f32>::new(&Mat::from_vec(values, 40, 24).unwrap(), 0);
            assert_norms(&devices, &format!("2^{a} and 2^{b}"), &padded);
        }
    }
    let values = Mat::from_vec(vec![1e30; 9], 3, 3).unwrap();
    let huge = Mat::from_vec(vec![3e38; 9], 3, 3).unwrap();
    for device in &devices {
        for axis in [Axis::Rows, Axis::Cols] {
            assert!(norms(device, &Padded::<f32>::new(&values, 0), axis).iter().all(|x| x.is_finite()));
            let found = norms(device, &Padded::<f32>::new(&huge, 0), axis);
            assert_eq!(found, [f32::INFINITY; 3], "finite elements whose norm f32 cannot hold");
        }
    }
}

fn survives_scale<T: Elem>(scales: &[f64]) {
    let devices: Vec<Device> = devices().into_iter().chain(kernel_devices()).collect();
    for &scale in scales {
        let values = Draw::new(9).gaussian(7, 40).data().iter().map(|x| x * scale).collect();
        let padded = Padded::<T>::new(&Mat::from_vec(values, 7, 40).unwrap(), 1);
        assert_norms(&devices, "scaled", &padded);
        for device in &devices {
            for axis in [Axis::Rows, Axis::Cols] {
                assert!(norms(device, &padded, axis).iter().all(|x| x.is_finite() && *x > 0.0), "{scale:e} {axis:?}");
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
        assert_norms(&devices(), "any", &Padded::<f32>::new(&Draw::new(seed).gaussian(rows, cols), pad));
        assert_norms(&devices(), "any", &Padded::<f16>::new(&Draw::new(seed).gaussian(rows, cols), pad));
    }
}

/// Every order in which lanes, warps and blocks may run, with every check there is, races between blocks included.
#[cfg(feature = "vm")]
#[test]
fn the_same_bits_for_every_schedule() {
    use idlora::vm::{Settings, Vm};
    if kernel_devices().is_empty() {
        return;
    }
    fn same<T: Elem>(pad: usize) {
        let padded = Padded::<T>::new(&Draw::new(3).gaussian(300, 150), pad);
        let checks = ptx_vm::Checks::GLOBAL_RACES;
        let run = |seed, axis| {
            let vm = Vm::new(Settings { checks, seed, resident: 3 });
            norms(&Device::Vm(vm), &padded, axis).iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        for axis in [Axis::Rows, Axis::Cols] {
            let expected = run(None, axis);
            for seed in 1..=3 {
                assert_eq!(run(Some(seed), axis), expected, "{axis:?}, seed {seed}");
            }
        }
    }
    same::<f32>(2);
    same::<bf16>(1);
    same::<f16>(2);
}

/// The first in row-major order, whoever finds another one first.
#[test]
fn the_first_element_that_is_not_finite_is_named() {
    for device in devices().into_iter().chain(kernel_devices()) {
        for (places, first) in
            [(&[(140, 3), (7, 260), (7, 270)][..], (7, 260)), (&[(299, 299), (1, 0), (0, 299)], (0, 299))]
        {
            let mut values = Draw::new(4).gaussian(300, 300);
            for &(i, j) in places {
                values.row_mut(i)[j] = f64::INFINITY;
            }
            for axis in [Axis::Rows, Axis::Cols] {
                let padded = Padded::<bf16>::new(&values, 4);
                let plan = Plan::new(&device, Desc { rows: 300, cols: 300, axis }).unwrap();
                let message = plan.run(padded.view(), &mut [0.0; 300]).unwrap_err().to_string();
                assert!(
                    message.contains(&format!("inf at row {}, column {};", first.0, first.1)),
                    "{device}: {message}"
                );
            }
        }
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
    for device in devices().into_iter().chain(kernel_devices()) {
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
