//! The input gradient: shapes around the tiles, scales, schedules, and what makes it the layer's.

use crate::common::branch::{Exact, GATES, assert_within, scaled, zeros};
use crate::common::gradients::scattered;
use crate::common::{Padded, devices, for_every_element, kernel_devices, on_threads};
use crate::grad_problem::{ADDS, Adds, GradProblem, assert_gradient, desc};
use crate::problem::{Problem, intermediate, reference_y};
use idlora::reference::{lowrank, shared_gemm as reference};
use idlora::shared_gemm::Desc;
use idlora::{Device, Elem, Mat, bf16, f16};
use proptest::prelude::*;

/// Paddings of G, W, dX, addend and dH: all rows aligned to 16 bytes (where sizes are multiples of 8), none, or some.
const PADDINGS: [[usize; 5]; 3] = [[8, 16, 8, 8, 16], [3, 1, 5, 7, 1], [8, 1, 0, 8, 3]];

thread_local! {
    /// Loaded once for all cases.
    static DEVICES: Vec<Device> = devices().into_iter().chain(kernel_devices()).collect();
}

fn check<T: Elem>(desc: Desc, tokens: usize, adds: Adds, pads: [usize; 5], seed: u64) {
    let problem = GradProblem::<T>::random(desc, tokens, adds, pads, seed);
    DEVICES.with(|devices| devices.iter().for_each(|device| assert_gradient(device, &problem)));
}

prop_compose! {
    /// Around the edges of tiles (128), warps' parts (64 and 32), vectors (8), steps (16) and stages (64).
    fn shapes()(
        rows in prop::sample::select(vec![1usize, 7, 8, 15, 17, 63, 64, 65, 129, 200]),
        cols in prop::sample::select(vec![1usize, 7, 8, 9, 31, 33, 63, 65, 96, 127, 128, 129, 200]),
        width in prop::sample::select(vec![0usize, 1, 7, 8, 15, 16, 17, 63, 64, 65, 130]),
    ) -> Desc {
        let width = width.min(rows);
        // As many components as there are ways to have them makes no difference: one, or rank one.
        if width.is_multiple_of(2) { desc(rows, cols, usize::from(width > 0), width) } else { desc(rows, cols, width, 1) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn ragged_shapes_are_the_references(
        desc in shapes(),
        tokens in prop::sample::select(vec![0usize, 1, 2, 17, 63, 64, 65, 127, 128, 129]),
        adds in prop::sample::select(ADDS.to_vec()),
        pads in prop::sample::select(PADDINGS.to_vec()),
        seed in any::<u64>(),
    ) {
        let tokens = if desc.cols > 150 { tokens.min(33) } else { tokens };
        for_every_element!(check(desc, tokens, adds, pads, seed));
    }
}

/// Full tiles and long sums, aligned, with and without components, several blocks of tokens and columns.
#[test]
fn whole_tiles_are_the_references() {
    check::<bf16>(desc(512, 256, 4, 32), 256, Adds::InPlace, [0; 5], 1);
    check::<f16>(desc(512, 128, 2, 64), 128, Adds::Matrix, [0; 5], 2);
    check::<bf16>(Desc::frozen(1024, 128, true), 128, Adds::Nothing, [0; 5], 3);
}

/// Full tiles next to ragged ones, aligned, whose last stages along m and k·r are not full.
#[test]
fn whole_tiles_with_ragged_sums_are_the_references() {
    check::<bf16>(desc(200, 136, 2, 36), 130, Adds::InPlace, PADDINGS[0], 12);
    check::<f16>(desc(72, 128, 1, 72), 128, Adds::Nothing, PADDINGS[0], 13);
}

/// Sizes near the ends of the element's range come through the sums, which are f32.
#[test]
fn extremes_of_the_range_are_the_references() {
    fn at<T: Elem>(of_g: f64, of_w: f64, of_dx: f64, adds: Adds) {
        let mut problem = GradProblem::<T>::random(desc(70, 40, 3, 6), 20, adds, PADDINGS[1], 4);
        problem.g = Padded::new(&scaled(problem.g.to_f64(), of_g), 3);
        problem.w = Padded::new(&scaled(problem.w.to_f64(), of_w), 0);
        problem.dx = Padded::new(&scaled(problem.dx.to_f64(), of_dx), 1);
        problem.add = Padded::new(&scaled(problem.add.to_f64(), of_g * of_w), 2);
        DEVICES.with(|devices| devices.iter().for_each(|device| assert_gradient(device, &problem)));
    }
    for adds in ADDS {
        at::<bf16>(1e30, 1e-30, 1e30, adds);
        at::<bf16>(1e-18, 1e-18, 1e-18, adds);
        at::<bf16>(1e18, 1e18, 1e18, adds);
        at::<f16>(1e4, 1e-3, 1e4, adds);
        at::<f16>(1e-3, 1e-4, 1e-3, adds);
    }
}

/// What is not finite makes its own token's gradient so, or its own columns', and no others: nothing of it enters the zeros
/// beyond an edge.
#[test]
fn what_is_not_finite_stays_with_its_token_and_its_columns() {
    for device in devices().into_iter().chain(kernel_devices()) {
        let mut problem = GradProblem::<bf16>::random(desc(75, 133, 3, 5), 131, Adds::Matrix, PADDINGS[1], 5);
        problem.g.view_mut().row_mut(2)[74] = bf16::INFINITY;
        problem.dx.view_mut().row_mut(130)[14] = bf16::NAN;
        problem.add.view_mut().row_mut(7)[132] = bf16::NEG_INFINITY;
        let found = problem.run(&device).unwrap().to_f64();
        for t in 0..131 {
            for (c, x) in found.row(t).iter().enumerate() {
                let expected = ![2, 130].contains(&t) && (t, c) != (7, 132);
                assert_eq!(x.is_finite(), expected, "{device} [{t}, {c}]: {x}");
            }
        }
    }
}

/// The chosen rows of W are those of G with dX added there: `(G with dX at S) · W`.
#[test]
fn the_reference_is_the_scattered_gradient() {
    let problem = GradProblem::<f32>::random(desc(30, 20, 4, 3), 9, Adds::Nothing, [0; 5], 6);
    let (g, w, dx) = (problem.g.to_f64(), problem.w.to_f64(), problem.dx.to_f64());
    let composed = lowrank::product(scattered(&g, &dx, &problem.skeleton).as_ref(), w.as_ref());
    let mut bound = zeros(9, 20);
    bound.data_mut().fill(1e-12);
    assert_within("dH", &problem.expected(), &composed, &bound);
}

/// The whole layer's gradient by f64: `dX` and the gate's share of the adapter's backward, then the input gradient.
fn layers_gradient(exact: &Exact, g: &Mat<f64>) -> Mat<f64> {
    let (adapter, (x, a, _)) = (exact.adapter(), intermediate(exact));
    let factors = exact.factors.as_ref().map(Mat::as_ref);
    let gradients = lowrank::backward(&adapter, x.as_ref(), a.as_ref(), Some(exact.h.as_ref()), factors, g.as_ref());
    let components = Some((&exact.skeleton[..], gradients.x.as_ref()));
    reference::input_gradient(g.as_ref(), exact.w.as_ref(), components, gradients.h.as_ref().map(Mat::as_ref))
}

/// Central differences of `Σ G ⊙ Y` by every entry of H, with a margin as of the adapter's gradients.
#[test]
fn the_reference_is_the_derivative_of_the_layer() {
    const STEP: f64 = 1e-5;
    for gate in GATES {
        let desc = Desc { rows: 24, cols: 7, rank: 4, components: 3, split: 2, gate, bias: true };
        let mut exact = Problem::<f32>::random(desc, 4, None, [0; 3], 7).exact();
        let g = crate::common::matrices::Draw::new(8).gaussian(4, 24);
        let dh = layers_gradient(&exact, &g);
        for t in 0..4 {
            for c in 0..7 {
                let start = exact.h.row(t)[c];
                let mut at = |x: f64| -> f64 {
                    exact.h.row_mut(t)[c] = x;
                    reference_y(&exact).data().iter().zip(g.data()).map(|(y, g)| y * g).sum()
                };
                let slope = (at(start + STEP) - at(start - STEP)) / (2.0 * STEP);
                at(start);
                let found = dh.row(t)[c];
                assert!((slope - found).abs() <= 1e-6 * (1.0 + slope.abs()), "{gate:?} [{t}, {c}]: {found}, {slope}");
            }
        }
    }
}

/// Where `dX` is zero, the frozen layer's own gradient, to the bit; and a matrix that is added is what is added in place.
#[test]
fn zeros_and_places_change_no_bit() {
    for device in devices().into_iter().chain(kernel_devices()) {
        let mut problem = GradProblem::<f16>::random(desc(90, 140, 3, 8), 70, Adds::Matrix, PADDINGS[0], 9);
        let matrix = problem.run(&device).unwrap().to_f64();
        problem.adds = Adds::InPlace;
        assert_eq!(problem.run(&device).unwrap().to_f64(), matrix, "{device}: in place");
        problem.dx.view_mut().data_mut().fill(f16::from_f32(0.0));
        let without = problem.run(&device).unwrap().to_f64();
        assert_ne!(without, matrix, "{device}: dX was not read");
        problem.desc = Desc::frozen(90, 140, false);
        problem.skeleton.clear();
        assert_eq!(problem.run(&device).unwrap().to_f64(), without, "{device}: frozen");
    }
}

/// A token of a batch by itself has the same bits, whatever the number of threads.
#[test]
fn a_batch_of_one_is_a_token_of_a_batch() {
    let whole = GradProblem::<bf16>::random(desc(100, 130, 2, 9), 130, Adds::InPlace, PADDINGS[2], 10);
    for device in kernel_devices() {
        let of_batch = whole.run(&device).unwrap().to_f64();
        for token in [0, 63, 128, 129] {
            let one = |rows: &Padded<bf16>| {
                let row = rows.to_f64().row(token).to_vec();
                Padded::new(&Mat::from_vec(row, 1, rows.view().cols()).unwrap(), 3)
            };
            let mut alone = GradProblem::<bf16>::random(desc(100, 130, 2, 9), 1, Adds::InPlace, PADDINGS[2], 10);
            (alone.w, alone.skeleton) = (whole.w.clone(), whole.skeleton.clone());
            (alone.g, alone.dx, alone.add) = (one(&whole.g), one(&whole.dx), one(&whole.add));
            let found = alone.run(&device).unwrap().to_f64();
            assert_eq!(found.row(0), of_batch.row(token), "{device}: token {token}");
        }
    }
    let [one, four] = [1, 4].map(|threads| on_threads(threads, || whole.run(&Device::Cpu).unwrap().to_f64()));
    assert_eq!(one, four);
}

/// The same bits for any order of lanes, warps and blocks and any number of resident blocks, and no block touches what another
/// writes: in place, too.
#[cfg(feature = "vm")]
#[test]
fn no_schedule_changes_a_bit() {
    use idlora::vm::{Settings, Vm};
    use ptx_vm::Checks;
    if kernel_devices().is_empty() {
        return;
    }
    for (adds, pads) in ADDS.into_iter().zip(PADDINGS) {
        let problem = GradProblem::<bf16>::random(desc(150, 200, 2, 33), 200, adds, pads, 11);
        let bits = |device: &Device| problem.run(device).unwrap().to_f64();
        let expected = bits(&Device::Vm(Vm::default()));
        for (seed, resident) in [(1, 1), (2, 2), (3, 5)] {
            let checks = Checks { global_races: true, ..Checks::ALL };
            let device = Device::Vm(Vm::new(Settings { checks, seed: Some(seed), resident }));
            assert!(bits(&device) == expected, "{adds:?} seed {seed}, {resident} resident");
        }
    }
}
