//! The adapter's forward against the f64 reference, and the identities that make it cheap.

use crate::common::bounds::forward_bounds;
use crate::common::branch::{BIASES, DOWNS, GATES, Problem, assert_forward, assert_within, desc, devices_for, scaled};
use crate::common::matrices::Draw;
use crate::common::{Padded, devices, for_every_element, on_threads};
use idlora::lowrank::{Bias, Desc, DownProjection, Dropout, Gate, Layer, Output, Plan, SavedMut};
use idlora::reference::lowrank as reference;
use idlora::{Device, Elem, Mat, MatMut, bf16, f16};
use proptest::prelude::*;

const DROPOUT: Dropout = Dropout { probability: 0.3, seed: 11, offset: 5 };

fn forward_is_the_references<T: Elem>(
    devices: &[Device],
    desc: Desc,
    tokens: usize,
    dropout: Option<Dropout>,
    seed: u64,
) {
    let problem = Problem::<T>::random(desc, tokens, dropout, seed);
    devices.iter().for_each(|device| assert_forward(device, &problem));
}

#[test]
fn every_variant_is_the_references() {
    for (i, gate) in GATES.into_iter().enumerate() {
        for bias in BIASES {
            for down in DOWNS {
                for (split, dropout) in [(1, None), (2, Some(DROPOUT)), (3, None)] {
                    let desc = Desc { gate, bias, down, ..desc(36 + 6 * i, 21, 6, 3, split) };
                    for_every_element!(forward_is_the_references(&devices_for(down), desc, 14, dropout, 1));
                }
            }
        }
    }
}

prop_compose! {
    /// Shapes around the edges of tiles (24 sub-rows, 12 and 6 rows, panels of 8, 16, 32 and chunks of 192 columns).
    fn shapes()(
        split in 1usize..=4,
        depth in prop::sample::select(vec![1usize, 2, 5, 7, 8, 9, 15, 16, 17, 33]),
        components in 1usize..=4,
        part in prop::sample::select(vec![1usize, 6, 7, 15, 16, 17, 31, 33, 191, 192, 193, 209, 385]),
        cols in prop::sample::select(vec![1usize, 2, 17, 32, 191, 193]),
        variant in (0..5usize, 0..3usize, 0..2usize),
    ) -> Desc {
        let part = part.max(components * depth);
        Desc {
            gate: GATES[variant.0],
            bias: BIASES[variant.1],
            down: DOWNS[variant.2],
            ..desc(part * split, cols, depth * split, components, split)
        }
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
        for_every_element!(forward_is_the_references(&devices(), desc, tokens, dropout, seed));
    }
}

/// The whole of §3 at once, in f64: gathered, premixed and reshaped equals the paper's formula with explicit `A_i` and
/// an explicit block-diagonal `I_s⊗B`.
#[test]
fn the_premixed_form_is_the_papers_formula() {
    for gate in GATES {
        for (split, bias) in [(1, Bias::None), (2, Bias::Included), (3, Bias::Included)] {
            let desc = Desc { gate, bias, ..desc(30, 17, 6, 4, split) };
            let mut exact = Problem::<f32>::random(desc, 5, None, 3).exact();
            let b = (bias == Bias::Included).then_some(&exact.bias[..]);
            exact.y0 = reference::base(exact.h.as_ref(), exact.w.as_ref(), b);
            let y = exact.y();
            for t in 0..5 {
                let literal = reference::literal(&exact.adapter(), exact.h.row(t), exact.w.as_ref(), b);
                for (c, (y, l)) in y.row(t).iter().zip(&literal).enumerate() {
                    assert!((y - l).abs() <= 1e-12 * (1.0 + l.abs()), "{gate:?} s {split} at [{t}, {c}]: {y} and {l}");
                }
            }
        }
    }
}

#[test]
fn gathering_finds_the_down_projection_already_computed() {
    let exact = Problem::<f32>::random(Desc { bias: Bias::Included, ..desc(40, 23, 4, 5, 2) }, 7, None, 4).exact();
    let y0 = reference::base(exact.h.as_ref(), exact.w.as_ref(), Some(&exact.bias));
    let gathered = reference::gather(y0.as_ref(), Some(&exact.bias), &exact.skeleton);
    let projected = reference::project(exact.h.as_ref(), exact.w.as_ref(), &exact.skeleton);
    let tolerance = scaled(Mat::from_vec(vec![1e-14; projected.data().len()], 7, 20).unwrap(), 10.0);
    assert_within("gathered X", &gathered, &projected, &tolerance);
}

/// With `B = 0` the adapted layer is the base layer, to the bit and with the sign of its zeros.
fn without_b_nothing_changes<T: Elem>() {
    for device in devices_for(DownProjection::Gather) {
        for gate in GATES {
            for bias in [Bias::None, Bias::Included] {
                let desc = Desc { gate, bias, ..desc(44, 9, 4, 3, 2) };
                let mut problem = Problem::<T>::random(desc, 15, Some(DROPOUT), 5);
                problem.b = Padded::new(&Mat::zeros(22, 2).unwrap(), 0);
                for (i, x) in [-0.0, 0.0, 65504.0, -65504.0, 6e-8].into_iter().enumerate() {
                    problem.y0.view_mut().row_mut(i).fill(T::from_f32(x));
                }
                let before: Vec<u32> = problem.y0.view().iter_rows().flatten().map(|x| x.to_f32().to_bits()).collect();
                let y = problem.forward(&device, true).y;
                let after: Vec<u32> = y.view().iter_rows().flatten().map(|x| x.to_f32().to_bits()).collect();
                assert_eq!(before, after, "{:?} {gate:?} {bias:?}", T::DTYPE);
            }
        }
    }
}

#[test]
fn without_b_every_element_type_keeps_its_bits() {
    for_every_element!(without_b_nothing_changes());
}

/// Numerical rank by Gram–Schmidt with pivoting: columns left above `1e-9` of the largest.
fn numerical_rank(rows: &Mat<f64>) -> usize {
    let mut left: Vec<Vec<f64>> = rows.as_ref().iter_rows().map(<[f64]>::to_vec).collect();
    let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    let first = left.iter().map(|x| norm(x)).fold(0.0, f64::max);
    let mut rank = 0;
    loop {
        let best = left.iter().max_by(|a, b| norm(a).total_cmp(&norm(b))).cloned().unwrap_or_default();
        if norm(&best) <= 1e-9 * first || rank == left.len() {
            return rank;
        }
        rank += 1;
        let size = norm(&best);
        for row in &mut left {
            let along = row.iter().zip(&best).map(|(a, b)| a * b).sum::<f64>() / size;
            row.iter_mut().zip(&best).for_each(|(a, b)| *a -= along * b / size);
        }
    }
}

/// Every update lies in the column space of `I_s⊗B`: rank at most r, however many components are read (k·r here).
#[test]
fn updates_have_rank_r_at_most_and_lie_in_the_span_of_b() {
    for gate in GATES {
        let desc = Desc { gate, ..desc(48, 31, 6, 4, 2) };
        let exact = Problem::<f32>::random(desc, 40, None, 6).exact();
        let update = reference::update(&exact.adapter(), exact.x().as_ref(), exact.input(), None);
        assert_eq!(numerical_rank(&exact.x()), 24, "{gate:?}: what is read has rank k·r");
        assert_eq!(numerical_rank(&update), 6, "{gate:?}: what is written has rank r");
        let boosted = reference::block_diagonal(&exact.adapter());
        let mut both = update.data().to_vec();
        (0..6).for_each(|j| both.extend(boosted.as_ref().iter_rows().map(|row| row[j])));
        assert_eq!(numerical_rank(&Mat::from_vec(both, 46, 48).unwrap()), 6, "{gate:?}: in the span of I_s⊗B");
    }
}

/// A token's row of Y does not depend on the batch around it: micro-batches give the same bits.
fn tokens_do_not_see_each_other<T: Elem>() {
    for down in DOWNS {
        for (device, gate) in devices_for(down).into_iter().flat_map(|device| GATES.map(|gate| (device.clone(), gate)))
        {
            let desc = Desc { gate, down, ..desc(60, 33, 10, 3, 2) };
            let whole = Problem::<T>::random(desc, 61, Some(DROPOUT), 7);
            let y = whole.forward(&device, true).y.to_f64();
            let plan = Plan::new(&device, desc).unwrap();
            for at in [1usize, 12, 29] {
                let mut part = whole.y0.clone();
                for range in [0..at, at..61] {
                    let layer = Layer {
                        h: Some(whole.h.view().row_range(range.clone())),
                        dropout: Some(Dropout { offset: DROPOUT.offset + range.start as u64, ..DROPOUT }),
                        ..whole.layer()
                    };
                    let mut view = part.view_mut();
                    let ld = view.ld();
                    let rows = &mut view.data_mut()[range.start * ld..];
                    let output = Output::InPlace(MatMut::with_ld(rows, range.len(), 60, ld).unwrap());
                    plan.forward(&whole.parameters(), &layer, output, None).unwrap();
                }
                assert_eq!(part.to_f64(), y, "{:?} {gate:?} cut at {at}", T::DTYPE);
            }
        }
    }
}

#[test]
fn micro_batches_give_the_same_bits() {
    for_every_element!(tokens_do_not_see_each_other());
}

/// Runs `work` on a pool of `threads`.
fn threads_do_not_matter<T: Elem>() {
    for device in devices() {
        for gate in [Gate::RmsInner, Gate::LinearSoftmax] {
            let problem = Problem::<T>::random(Desc { gate, ..desc(80, 40, 8, 4, 2) }, 300, Some(DROPOUT), 8);
            let run = |threads| {
                let out = on_threads(threads, || problem.forward(&device, true));
                (out.y.to_f64(), out.x.to_f64(), out.a.to_f64(), out.z.to_f64())
            };
            assert!(run(1) == run(2), "{:?} {gate:?}", T::DTYPE);
        }
    }
}

#[test]
fn one_and_two_threads_give_the_same_bits() {
    for_every_element!(threads_do_not_matter());
}

/// The inner gate is quadratic: at |x| = 3e4 its z is near 1e10, far beyond f16, while a small B brings Y back into range.
/// Only an f32 z survives.
#[test]
fn large_activations_do_not_overflow_between_the_products() {
    for device in devices_for(DownProjection::Gather) {
        let mut problem = Problem::<f16>::random(desc(64, 8, 8, 4, 2), 9, None, 9);
        let draw = &mut Draw::new(10);
        problem.y0 = Padded::new(&scaled(draw.gaussian(9, 64), 1e4), 3);
        problem.b = Padded::new(&scaled(draw.gaussian(32, 4), 1e-6), 0);
        let exact = problem.exact();
        let x = exact.x();
        let a = reference::gates(&exact.adapter(), x.as_ref(), None);
        let z = reference::premix(x.as_ref(), a.as_ref(), None);
        assert!(z.data().iter().any(|z| z.abs() > 1e8), "the case must be beyond f16");
        let y = problem.forward(&device, true).y;
        assert_within("Y", &y.to_f64(), &exact.y(), &forward_bounds::<f16>(&device, &exact).y);
    }
}

/// Tiny and huge scales in f32 and bf16: the rms gate neither vanishes nor overflows where its squares would.
#[test]
fn the_rms_gate_is_scale_free_over_the_range_of_f32() {
    for device in devices_for(DownProjection::Gather) {
        for (size, expected) in [(1e25, 1.0), (1e-25, 1e-22)] {
            let mut problem =
                Problem::<f32>::random(Desc { gate: Gate::RmsInner, ..desc(32, 4, 4, 2, 1) }, 3, None, 11);
            problem.gate = Padded::new(&Mat::from_vec(vec![1.0, 0.0, 0.0, 0.0], 1, 4).unwrap(), 0);
            problem.b = Padded::new(&Mat::zeros(32, 4).unwrap(), 0);
            for t in 0..3 {
                problem.y0.view_mut().row_mut(t).fill(size);
            }
            for a in problem.forward(&device, true).a.to_f64().data() {
                assert!((a / expected - 1.0).abs() < 1e-6, "x = {size:e}: gate {a:e}, expected {expected:e}");
            }
        }
    }
}

#[test]
fn dropout_keeps_its_share_scales_it_and_follows_seed_and_offset() {
    let (tokens, columns) = (400, 130);
    for probability in [0.05f32, 0.5, 0.9] {
        let dropout = Dropout { probability, seed: 3, offset: 0 };
        let factors = dropout.factors(tokens, columns).unwrap();
        let kept = factors.data().iter().filter(|&&d| d != 0.0).count() as f64;
        assert!(factors.data().iter().all(|&d| d == 0.0 || d == 1.0 / (1.0 - probability)));
        let (n, p) = ((tokens * columns) as f64, f64::from(probability));
        assert!((kept - n * (1.0 - p)).abs() <= 5.0 * (n * p * (1.0 - p)).sqrt(), "p {p}: kept {kept} of {n}");

        let later = Dropout { offset: 7, ..dropout }.factors(tokens - 7, columns).unwrap();
        assert_eq!(later.data(), &factors.data()[7 * columns..], "the offset counts tokens");
        assert_ne!(Dropout { seed: 4, ..dropout }.factors(tokens, columns).unwrap(), factors);
        assert_ne!(Dropout { offset: 1 << 32, ..dropout }.factors(tokens, columns).unwrap(), factors);
    }
    let none = Dropout { probability: 0.0, seed: 3, offset: 0 }.factors(5, 6).unwrap();
    assert!(none.data().iter().all(|&d| d == 1.0), "p = 0 drops nothing");
}

/// The mask is documented to the word, so that other backends and ports can draw it: pinned values of Random123's Philox4x32-10
/// at key 0 and counter 0 are 6627e8d5 e169c58d bc57ac4c 9b00dbd8, and p = 0.5 drops words below 8000_0000.
#[test]
fn the_mask_is_the_documented_one() {
    let half = Dropout { probability: 0.5, seed: 0, offset: 0 };
    assert_eq!(half.factors(1, 4).unwrap().data(), &[0.0, 2.0, 2.0, 2.0]);
    // 6627e8d5 / 2^32 = 0.39904…: dropped by p = 0.4, kept by p = 0.399
    assert_eq!(Dropout { probability: 0.4, ..half }.factors(1, 1).unwrap().data(), &[0.0]);
    assert_ne!(Dropout { probability: 0.399, ..half }.factors(1, 1).unwrap().data(), &[0.0]);
}

#[test]
fn dropout_of_zero_is_no_dropout() {
    for device in devices_for(DownProjection::Gather) {
        let none = Problem::<bf16>::random(desc(40, 9, 6, 3, 2), 13, None, 12);
        let zero = Dropout { probability: 0.0, seed: 1, offset: 2 };
        let with = Problem::<bf16>::random(desc(40, 9, 6, 3, 2), 13, Some(zero), 12);
        assert_eq!(none.forward(&device, true).y.to_f64(), with.forward(&device, true).y.to_f64());
    }
}

/// The gate and the mixing see `X` as it is saved, rounded: forward and backward then speak of the same numbers. With
/// `T = e_1` the inner gate is the first entry of each component, to the bit.
fn the_gate_reads_what_is_saved<T: Elem>() {
    for down in DOWNS {
        for device in devices_for(down) {
            let mut problem =
                Problem::<T>::random(Desc { bias: Bias::Included, down, ..desc(36, 19, 4, 3, 2) }, 13, None, 14);
            problem.gate = Padded::new(&Mat::from_vec(vec![1.0, 0.0, 0.0, 0.0], 1, 4).unwrap(), 0);
            let found = problem.forward(&device, true);
            let (x, a) = (found.x.to_f64(), found.a.to_f64());
            for t in 0..13 {
                for i in 0..3 {
                    assert_eq!(a.row(t)[i], x.row(t)[i * 4], "{:?} {down:?} at [{t}, {i}]", T::DTYPE);
                }
            }
        }
    }
}

#[test]
fn forward_and_backward_speak_of_the_same_x() {
    for_every_element!(the_gate_reads_what_is_saved());
}

/// An empty batch is a batch; SavedMut may be empty too.
#[test]
fn an_empty_batch_is_fine() {
    for device in devices_for(DownProjection::Gather) {
        let plan = Plan::new(&device, desc(8, 4, 2, 2, 2)).unwrap();
        let problem = Problem::<f32>::random(desc(8, 4, 2, 2, 2), 1, None, 13);
        let saved =
            SavedMut { x: MatMut::new(&mut [], 0, 4).unwrap(), gate: MatMut::new(&mut [], 0, 2).unwrap(), z: None };
        let output = Output::InPlace(MatMut::<f32>::new(&mut [], 0, 8).unwrap());
        plan.forward(&problem.parameters(), &problem.layer(), output, Some(saved)).unwrap();
    }
}
