//! The explicit down-projection where it runs as a kernel: shapes around its tiles, rows chosen by index, schedules, scales.

use crate::common::branch::{BIASES, GATES, Problem, assert_forward, desc};
use crate::common::gradients::assert_backward;
use crate::common::{Padded, for_every_element, kernel_devices};
use idlora::lowrank::{Desc, DownProjection, Dropout, Gate, Output, Plan};
use idlora::{Device, Elem, Mat, bf16, f16};
use proptest::prelude::*;

const DROPOUT: Dropout = Dropout { probability: 0.4, seed: 0x1_0000_0007, offset: (1 << 32) - 9 };

thread_local! {
    /// Loaded once for all cases.
    static DEVICES: Vec<Device> = kernel_devices();
}

fn explicit(rows: usize, cols: usize, rank: usize, components: usize, split: usize) -> Desc {
    Desc { down: DownProjection::Gemm, ..desc(rows, cols, rank, components, split) }
}

/// Rows of H and of W: all at multiples of 16 bytes, or only those of one of them, or as they come.
#[derive(Clone, Copy, Debug)]
struct Aligned {
    h: bool,
    w: bool,
}

const ALIGNED: [Aligned; 4] = [
    Aligned { h: true, w: true },
    Aligned { h: true, w: false },
    Aligned { h: false, w: true },
    Aligned { h: false, w: false },
];

/// The first and the last row are chosen too, the last one first; rows that are not chosen are NaN, and so is what lies
/// between rows.
fn poisoned<T: Elem>(mut problem: Problem<T>, aligned: Aligned) -> Problem<T> {
    let Desc { rows, cols, .. } = problem.desc;
    for (place, row) in [(0, rows as u32 - 1), (problem.skeleton.len() - 1, 0)] {
        match problem.skeleton.iter().position(|&s| s == row) {
            Some(found) => problem.skeleton.swap(found, place),
            None => problem.skeleton[place] = row,
        }
    }
    let pad = |aligned| if aligned { 16 - cols % 8 } else { 8 - cols % 8 + 3 };
    problem.h = Padded::new(&problem.h.to_f64(), pad(aligned.h));
    problem.w = Padded::new(&problem.w.to_f64(), pad(aligned.w));
    let mut w = problem.w.view_mut();
    for row in (0..rows).filter(|&row| !problem.skeleton.contains(&(row as u32))) {
        w.row_mut(row).fill(T::from_f32(f32::NAN));
    }
    problem
}

prop_compose! {
    /// Shapes around the edges of tiles: 16 and 64 columns of X, steps of 16 columns of H, stages of 32 and 64, rounds of 256
    /// and 512.
    fn shapes()(
        split in 1usize..=2,
        depth in prop::sample::select(vec![1usize, 5, 8, 15, 16, 17, 31, 33]),
        components in 1usize..=4,
        more in prop::sample::select(vec![0usize, 1, 30]),
        cols in prop::sample::select(vec![1usize, 7, 15, 16, 17, 31, 33, 63, 64, 65, 129, 255, 257, 511, 512, 513]),
        variant in (0..5usize, 0..3usize),
    ) -> Desc {
        let (gate, bias) = (GATES[variant.0], BIASES[variant.1]);
        Desc { gate, bias, ..explicit((components * depth + more) * split, cols, depth * split, components, split) }
    }
}

fn agrees<T: Elem>(desc: Desc, tokens: usize, dropout: Option<Dropout>, aligned: Aligned, seed: u64) {
    let problem = poisoned(Problem::<T>::random(desc, tokens, dropout, seed), aligned);
    DEVICES.with(|devices| devices.iter().for_each(|device| assert_forward(device, &problem)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]
    #[test]
    fn ragged_shapes_are_the_references(
        desc in shapes(),
        tokens in prop::sample::select(vec![0usize, 1, 2, 7, 15, 16, 17, 31, 33]),
        dropout in any::<bool>(),
        aligned in prop::sample::select(ALIGNED.to_vec()),
        seed in any::<u64>(),
    ) {
        // One element a case: the machine is slow, and cases are many.
        let agrees = [agrees::<f16>, agrees::<bf16>, agrees::<f32>][(seed % 3) as usize];
        agrees(desc, tokens, dropout.then_some(DROPOUT), aligned, seed);
    }
}

#[test]
fn every_gate_and_bias_is_the_references() {
    for (i, gate) in GATES.into_iter().enumerate() {
        for (j, bias) in BIASES.into_iter().enumerate() {
            let desc = Desc { gate, bias, ..explicit(50, 67, 6, 4, 2) };
            let dropout = (j == 1).then_some(DROPOUT);
            for_every_element!(agrees(desc, 17, dropout, ALIGNED[(i + j) % 4], 1));
        }
    }
}

/// Enough of X for 64 rows of H a block; that all tiles give the same bits is held where the kernel is launched.
#[test]
fn a_larger_tile_is_the_references() {
    agrees::<bf16>(Desc { gate: Gate::Static, ..explicit(97, 33, 97, 1, 1) }, 1100, None, ALIGNED[3], 2);
}

/// Products near the ends of float; f16 from its subnormals to where X overflows, below.
fn scales<T: Elem>(scales: &[(f32, f32)]) {
    for &(of_h, of_w) in scales {
        let mut problem =
            poisoned(Problem::<T>::random(explicit(40, 70, 5, 4, 1), 5, None, 4), Aligned { h: true, w: false });
        let times = |values: &mut Padded<T>, scale: f32| {
            let mut view = values.view_mut();
            for row in 0..view.rows() {
                view.row_mut(row).iter_mut().for_each(|x| *x = T::from_f32(x.to_f32() * scale));
            }
        };
        times(&mut problem.h, of_h);
        times(&mut problem.w, of_w);
        // What comes after X is held elsewhere.
        problem.gate = Padded::new(&Mat::zeros(1, 5).unwrap(), 0);
        DEVICES.with(|devices| devices.iter().for_each(|device| assert_forward(device, &problem)));
    }
}

#[test]
fn large_and_tiny_operands_are_the_references() {
    scales::<f16>(&[(6000.0, 1.0), (1e-6, 100.0), (1e-6, 1e-4)]);
    scales::<bf16>(&[(1e37, 1.0), (1e37, 1e-37), (1e-38, 1e30), (1e-20, 1e-22)]);
    scales::<f32>(&[(1e37, 1.0), (5e37, 1e-38), (1e-38, 1e30), (1e-39, 1.0), (1e-20, 1e-22)]);
}

/// One product: terms carry all digits of both operands.
#[test]
fn one_product_has_the_digits_of_its_operands() {
    for_every_element!(agrees(explicit(9, 1, 3, 2, 1), 3, None, ALIGNED[0], 5));
}

#[test]
fn beyond_its_element_x_is_infinite_with_its_sign() {
    for device in kernel_devices() {
        let mut problem = Problem::<f16>::random(explicit(8, 40, 1, 2, 1), 2, None, 6);
        (0..2).for_each(|row| problem.h.view_mut().row_mut(row).fill(f16::from_f32(60000.0)));
        let [first, second] = [problem.skeleton[0] as usize, problem.skeleton[1] as usize];
        problem.w.view_mut().row_mut(first).fill(f16::from_f32(3.0));
        problem.w.view_mut().row_mut(second).fill(f16::from_f32(-3.0));
        let x = problem.forward(&device, true).x.to_f64();
        assert_eq!(x.data(), [f64::INFINITY, f64::NEG_INFINITY, f64::INFINITY, f64::NEG_INFINITY]);
    }
}

/// The same bits for any order of lanes, warps and blocks; X is there before the forward reads it.
#[cfg(feature = "vm")]
#[test]
fn no_schedule_changes_a_bit() {
    use idlora::vm::{Settings, Vm};
    use ptx_vm::Checks;
    if kernel_devices().is_empty() {
        return;
    }
    fn bits<T: Elem>(problem: &Problem<T>, device: &Device) -> [Mat<f64>; 3] {
        let found = problem.forward(device, true);
        [found.y.to_f64(), found.x.to_f64(), found.a.to_f64()]
    }
    fn agree<T: Elem>() {
        let desc = Desc { gate: Gate::RmsInner, ..explicit(90, 700, 10, 4, 2) };
        for aligned in [ALIGNED[0], ALIGNED[3]] {
            let problem = poisoned(Problem::<T>::random(desc, 33, Some(DROPOUT), 7), aligned);
            let expected = bits(&problem, &Device::Vm(Vm::default()));
            for (seed, resident) in [(1, 1), (2, 3), (3, 7)] {
                let checks = Checks { global_races: true, ..Checks::ALL };
                let device = Device::Vm(Vm::new(Settings { checks, seed: Some(seed), resident }));
                assert!(bits(&problem, &device) == expected, "{:?} seed {seed}, {resident} resident", T::DTYPE);
            }
        }
    }
    for_every_element!(agree());
}

/// A token of a batch, by itself: the same bits.
#[test]
fn a_batch_of_one_is_a_token_of_a_batch() {
    for device in kernel_devices() {
        let problem = Problem::<bf16>::random(explicit(97, 130, 97, 1, 1), 1100, None, 8);
        let whole = problem.forward(&device, true);
        for token in [0, 63, 64, 1099] {
            let one = |from: &Padded<bf16>| {
                Padded::new(&Mat::from_vec(from.to_f64().row(token).to_vec(), 1, from.view().cols()).unwrap(), 5)
            };
            let mut alone = Problem::<bf16>::random(problem.desc, 1100, None, 8);
            (alone.y0, alone.h) = (one(&problem.y0), one(&problem.h));
            let found = alone.forward(&device, true);
            assert_eq!(found.x.to_f64().row(0), whole.x.to_f64().row(token), "X of token {token}");
            assert_eq!(found.y.to_f64().row(0), whole.y.to_f64().row(token), "Y of token {token}");
        }
    }
}

/// A step of training on the device: what its forward leaves, its backward takes.
fn trains<T: Elem>(gate: Gate) {
    for device in kernel_devices() {
        let desc = Desc { gate, ..explicit(70, 45, 12, 3, 2) };
        let problem = poisoned(Problem::<T>::random(desc, 21, Some(DROPOUT), 9), Aligned { h: false, w: true });
        assert_forward(&device, &problem);
        assert_backward(&device, &problem, &problem.forward(&device, true));
    }
}

#[test]
fn forward_and_backward_on_a_device_are_the_references() {
    for gate in GATES {
        for_every_element!(trains(gate));
    }
}

/// A wrong operand is refused before anything runs.
#[test]
fn a_missing_weight_is_refused() {
    for device in kernel_devices() {
        let problem = Problem::<f32>::random(explicit(16, 4, 2, 2, 1), 1, None, 10);
        let plan = Plan::new(&device, problem.desc).unwrap();
        let mut y = problem.y0.clone();
        let layer = idlora::lowrank::Layer { w: None, ..problem.layer() };
        let error = plan.forward(&problem.parameters(), &layer, Output::InPlace(y.view_mut()), None).unwrap_err();
        assert!(error.to_string().contains("operand `w`"), "{error}");
        assert_eq!(y.to_f64(), problem.y0.to_f64(), "unchanged");
    }
}
