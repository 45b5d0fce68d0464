//! Truncated pivoted QR: the greedy rule, the factors, stopping, ties, scales and threads.

use crate::common::factors::{
    GREEDY, SKETCH, TIERS, U, assert_factors, assert_greedy, cases, factor, largest, margin, norm, rounding, thorough,
    with_all,
};
use crate::common::matrices::{Draw, zoo};
use crate::common::{Padded, on_threads};
use idlora::qr::{Desc, Factor, Groups, Plan, Stop, Tier};
use idlora::reference::qr as reference;
use idlora::{Elem, Mat, bf16, f16, interp};
use proptest::prelude::*;

fn holds_on_the_zoo<T: Elem>() {
    for (rows, cols) in [(20, 14), (13, 37), (50, 70)] {
        for (name, values) in zoo(5, rows, cols) {
            let padded = Padded::<T>::new(&values, 3);
            let c = padded.to_f64();
            for (device, tier) in cases(&TIERS) {
                for rank in [1, 6, rows].into_iter().filter(|&rank| thorough(&device) || rank > 1) {
                    let what = format!("{name} {rows}×{cols} {:?} rank {rank} {tier:?}", T::DTYPE);
                    let f = factor(&device, padded.view(), rank, tier, &Stop::default());
                    assert_greedy(&what, &c, &f, rank, rounding(&c, rank), tier);
                    assert_factors(&what, &c, &f);
                    if tier != Tier::Gram {
                        assert_eq!(f.info.handover, None);
                    }
                }
            }
        }
    }
}

#[test]
fn pivots_are_greedy_and_factors_exact_on_the_zoo_f32() {
    holds_on_the_zoo::<f32>();
}

#[test]
fn pivots_are_greedy_and_factors_exact_on_the_zoo_f16() {
    holds_on_the_zoo::<f16>();
}

#[test]
fn pivots_are_greedy_and_factors_exact_on_the_zoo_bf16() {
    holds_on_the_zoo::<bf16>();
}

/// The same pivots as the reference as long as its leader is ahead of the runner-up by more than the margin; errors
/// at most 1.001 × the reference's while the pivots agree, afterwards 1.1 × plus `c·r·u·‖C‖_F`.
fn agrees_with_the_reference<T: Elem>() {
    for (name, values) in zoo(11, 24, 31) {
        let padded = Padded::<T>::new(&values, 1);
        let c = padded.to_f64();
        let rank = 12;
        let expected = reference::pivoted_qr(c.as_ref(), rank, rounding(&c, rank));
        for (device, tier) in cases(&GREEDY) {
            let f = factor(&device, padded.view(), rank, tier, &Stop::default());
            let mut agree = true;
            for (j, (&p, &q)) in f.jpvt.iter().zip(&expected.jpvt).enumerate() {
                let rest = reference::residual(c.as_ref(), &expected.jpvt[..j]);
                let mut norms: Vec<f64> = (0..c.rows()).map(|i| norm(rest.row(i))).collect();
                norms.sort_by(|a, b| b.total_cmp(a));
                let clear = norms[0] - norms[1] > margin(&c, rank);
                assert!(!agree || !clear || p as usize == q, "{name} {tier:?}: pivot {j} is {p}, not {q}");
                agree &= p as usize == q;
                if name == "kahan" {
                    continue;
                }
                let ours: Vec<usize> = f.jpvt[..=j].iter().map(|&p| p as usize).collect();
                let error = idlora::reference::interp::relative_error(c.as_ref(), &ours);
                let theirs = idlora::reference::interp::relative_error(c.as_ref(), &expected.jpvt[..=j]);
                let bound = if agree { 1.001 * theirs } else { 1.1 * theirs };
                let floor = (c.rows() * rank) as f64 * U;
                assert!(
                    error <= bound + floor,
                    "{name} {tier:?}: error {error:e} after {j}, {theirs:e} by the reference"
                );
            }
        }
    }
}

#[test]
fn pivots_and_errors_agree_with_the_reference() {
    agrees_with_the_reference::<f32>();
    agrees_with_the_reference::<f16>();
    agrees_with_the_reference::<bf16>();
}

fn gaussian<T: Elem>(seed: u64, rows: usize, cols: usize, pad: usize) -> Padded<T> {
    Padded::new(&Draw::new(seed).gaussian(rows, cols), pad)
}

/// Whether the leader after `pivots` is ahead of everyone by more than the derived error of a Cholesky on the Gram matrix,
/// `ε(s_p² + s_i²)` with `s_i = ‖c_i‖ + Σ_a |t_ia|‖c_{J_a}‖` and `ε = 2(n + r + 4)·u` (see `cpu/qr/gram.rs`), and trusted
/// to 2⁻¹⁰ of its square. `slack` is for the rounding of the coefficients here and there.
fn gram_decides(c: &Mat<f64>, pivots: &[usize], rank: usize, slack: f64) -> bool {
    let truncated = reference::pivoted_qr(c.as_ref(), pivots.len(), 0.0);
    assert_eq!(truncated.jpvt, pivots, "the reference agrees up to the handover");
    let t = idlora::reference::interp::coeffs(&truncated);
    let rest = reference::residual(c.as_ref(), pivots);
    let epsilon = 2.0 * (c.cols() + rank + 4) as f64 * U * slack;
    let bound = |i: usize| {
        let spread: f64 = pivots.iter().zip(t.row(i)).map(|(&p, t)| t.abs() * norm(c.row(p))).sum();
        epsilon * (norm(c.row(i)) + spread).powi(2)
    };
    let left: Vec<usize> = (0..c.rows()).filter(|i| !pivots.contains(i)).collect();
    let square = |i: usize| norm(rest.row(i)).powi(2);
    let p = left.iter().copied().fold(left[0], |p, i| if square(i) > square(p) { i } else { p });
    let ahead = |&i: &usize| i == p || square(p) - bound(p) > square(i) + bound(i);
    square(p) > 1024.0 * bound(p) && left.iter().all(ahead)
}

/// Kahan's matrix with its ties broken: leads are clear, but the coefficients grow as 1.36ʲ, and the bound of the Gram
/// matrix's rounding with their square. The Gram tier must decide exactly the steps that lie outside the bound.
#[test]
fn the_gram_tier_decides_what_its_rounding_cannot() {
    let mut kahan = crate::common::matrices::kahan(60, 1.2);
    for i in 0..60 {
        kahan.row_mut(i).iter_mut().for_each(|x| *x *= (1.0 - 1e-4f64).powi(i as i32));
    }
    let decaying = zoo(2, 40, 30).into_iter().filter(|(name, _)| ["exponential", "graded"].contains(name));
    for (name, values) in decaying.chain([("kahan", kahan)]) {
        let padded = Padded::<f32>::new(&values, 1);
        let c = padded.to_f64();
        let rank = c.rows().min(c.cols());
        for device in with_all(&TIERS) {
            let f = factor(&device, padded.view(), rank, Tier::Gram, &Stop::default());
            assert_greedy(name, &c, &f, rank, rounding(&c, rank), Tier::Gram);
            let taken: Vec<usize> = f.jpvt.iter().map(|&p| p as usize).collect();
            let handover = f.info.handover.unwrap_or(taken.len());
            assert!(handover > 5 && (name != "kahan" || handover < 40), "{name}: handed over at {handover}");
            for j in 0..handover {
                assert!(gram_decides(&c, &taken[..j], rank, 0.9), "{name}: step {j} lay within the rounding");
            }
            if handover < taken.len() {
                assert!(!gram_decides(&c, &taken[..handover], rank, 1.1), "{name}: no need to hand over at {handover}");
            }
        }
    }
}

/// Row and column counts around the edges of strips, blocks, tiles, slices and lanes.
fn holds_at_tile_edges<T: Elem>() {
    let shapes =
        [(1, 1), (1, 513), (2, 511), (3, 512), (11, 1030), (12, 5), (13, 8), (47, 17), (48, 3), (49, 9), (97, 33)];
    for (rows, cols) in shapes.into_iter().chain([(3, 129), (4, 4095), (3, 4097), (2, 8200), (32, 11), (33, 12)]) {
        let padded = gaussian::<T>(rows as u64, rows, cols, 2);
        let c = padded.to_f64();
        for (device, tier) in cases(&TIERS) {
            for rank in (1..=7).filter(|rank| thorough(&device) || [2, 7].contains(rank)) {
                let f = factor(&device, padded.view(), rank, tier, &Stop::default());
                let what = format!("{rows}×{cols} {:?} rank {rank} {tier:?}", T::DTYPE);
                assert_eq!(f.jpvt.len(), rank.min(rows).min(cols), "{what}");
                assert_greedy(&what, &c, &f, rank, rounding(&c, rank), tier);
                assert_factors(&what, &c, &f);
            }
        }
    }
}

#[test]
fn shapes_around_tile_edges() {
    holds_at_tile_edges::<f32>();
    holds_at_tile_edges::<f16>();
    holds_at_tile_edges::<bf16>();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_shape_any_groups(
        seed in 0u64..1 << 40, rows in 1usize..80, cols in 1usize..60, rank in 1usize..20, pad in 0usize..5,
    ) {
        let draw = &mut Draw::new(seed);
        let zoo = zoo(seed, rows, cols);
        let (name, values) = &zoo[draw.below(zoo.len())];
        let padded = Padded::<f32>::new(values, pad);
        let all = padded.to_f64();
        // Two groups of rows in random order, repetitions allowed, and an empty one between them.
        let (first, second) = (draw.below(2 * rows), 1 + draw.below(rows));
        let picked: Vec<u32> = (0..first + second).map(|_| draw.below(all.rows()) as u32).collect();
        let groups = Groups::new(vec![0, first, first, first + second], picked).unwrap();
        for (device, tier) in cases(&GREEDY) {
                let plan = Plan::new(&device, Desc { cols: all.cols(), rank, tier, seed }).unwrap();
                let factors = plan.run(padded.view(), &groups, &Stop::default()).unwrap();
                prop_assert_eq!(factors.len(), 3);
                prop_assert!(factors[1].jpvt.is_empty() && factors[1].info.remaining == 0.0);
                for (g, f) in factors.iter().enumerate() {
                    let rows = groups.group(g);
                    let data = rows.iter().flat_map(|&i| all.row(i as usize).to_vec()).collect();
                    let c = Mat::from_vec(data, rows.len(), all.cols()).unwrap();
                    let what = format!("{name} group {g} {tier:?}");
                    assert_greedy(&what, &c, f, rank, rounding(&c, rank), tier);
                    assert_factors(&what, &c, f);
                }
        }
    }
}

fn tolerances_stop_it<T: Elem>() {
    for (name, values) in zoo(21, 30, 26) {
        let padded = Padded::<T>::new(&values, 0);
        let c = padded.to_f64();
        let most = largest(&c);
        for (device, tier) in cases(&GREEDY) {
            let parts: &[f64] = if thorough(&device) { &[0.9, 0.1, 1e-3, 1e-7] } else { &[0.1, 1e-7] };
            for &part in parts {
                for stop in [Stop { relative: part, absolute: 0.0 }, Stop { relative: 0.0, absolute: part * most }] {
                    let f = factor(&device, padded.view(), 26, tier, &stop);
                    let tolerance = (part * most).max(rounding(&c, 26));
                    assert_greedy(&format!("{name} {tier:?} {stop:?}"), &c, &f, 26, tolerance, tier);
                }
            }
            let nothing = factor(&device, padded.view(), 26, tier, &Stop { relative: 1.0, absolute: 0.0 });
            assert!(nothing.jpvt.is_empty(), "{name} {tier:?}: the first norm is at most 1 × itself");
        }
    }
}

#[test]
fn tolerances_stop_where_geqp3rk_stops() {
    tolerances_stop_it::<f32>();
    tolerances_stop_it::<f16>();
    tolerances_stop_it::<bf16>();
}

/// Rows whose second residual is exactly the tolerance, while the downdated square of most of them is off by a rounding: only
/// the projected row tells that nothing above the tolerance is left.
#[test]
fn a_leader_that_rounding_lifts_above_the_tolerance_stops_it() {
    for (device, tier) in cases(&GREEDY) {
        for i in 0..24 {
            let values = Mat::from_vec(vec![20.0, 0.0, 7.3 + 0.37 * f64::from(i), 3.0], 2, 2).unwrap();
            let stop = Stop { absolute: 3.0, relative: 0.0 };
            let f = factor(&device, Padded::<f32>::new(&values, 1).view(), 2, tier, &stop);
            assert_eq!(f.jpvt, [0], "{device} {tier:?}: case {i}");
            assert!((f.info.remaining - 3.0).abs() <= 1e-12, "{device} {tier:?}: {:e}", f.info.remaining);
        }
    }
}

/// The Gram tier hands over where rows tie, takes the exact tier's pivots then, and does not hand over on random rows.
fn hands_over_on_ties<T: Elem>() {
    for device in with_all(&TIERS) {
        for (name, values) in zoo(8, 30, 22) {
            let padded = Padded::<T>::new(&values, 0);
            let gram = factor(&device, padded.view(), 10, Tier::Gram, &Stop::default());
            let exact = factor(&device, padded.view(), 10, Tier::Exact, &Stop::default());
            if gram.info.handover.is_some() {
                assert_eq!(gram.jpvt, exact.jpvt, "{name}");
            }
            match name {
                "gaussian" | "spiked" => assert_eq!((&gram.jpvt, gram.info.handover), (&exact.jpvt, None), "{name}"),
                "identity" => assert_eq!(
                    (gram.jpvt.as_slice(), gram.info.handover),
                    (&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9][..], Some(0))
                ),
                "duplicated" => assert!(gram.info.handover.is_some(), "{name}"),
                "all-zero" => assert_eq!((gram.jpvt.len(), gram.info.handover, gram.info.remaining), (0, None, 0.0)),
                _ => {}
            }
        }
    }
    for (device, tier) in cases(&TIERS) {
        // All rows equal: one pivot, the first, and nothing left.
        // So they are wherever they lie in memory: rows of an odd length have every alignment.
        let row = Draw::new(8).gaussian(1, 321);
        let same = Mat::from_vec(row.data().repeat(40), 40, 321).unwrap();
        let f = factor(&device, Padded::<T>::new(&same, 2).view(), 3, tier, &Stop::default());
        assert_eq!(f.jpvt, [0], "{tier:?}");
    }
    for (device, tier) in cases(&GREEDY) {
        // All rows tie at every step, in every block, warp and lane.
        let mut unit = Mat::zeros(70, 70).unwrap();
        (0..70).for_each(|i| unit.row_mut(i)[i] = 1.0);
        let f = factor(&device, Padded::<T>::new(&unit, 1).view(), 12, tier, &Stop::default());
        assert!(f.jpvt.iter().copied().eq(0..12), "{tier:?}: {:?}", f.jpvt);
    }
}

#[test]
fn ties_are_handed_over_and_fall_to_the_lowest_index() {
    hands_over_on_ties::<f32>();
    hands_over_on_ties::<f16>();
    hands_over_on_ties::<bf16>();
}

/// Scaling by a power of two scales `R` and changes nothing else, to the last bit.
fn scales_exactly<T: Elem>(power: i32) {
    for (name, values) in zoo(4, 25, 18) {
        let rounded = Padded::<T>::new(&values, 0).to_f64();
        for (device, tier) in cases(&TIERS) {
            let plain = factor(&device, Padded::<T>::new(&rounded, 0).view(), 9, tier, &Stop::default());
            for scale in [2f64.powi(power), 2f64.powi(-power)] {
                let scaled = rounded.data().iter().map(|x| x * scale).collect();
                let scaled = Padded::<T>::new(&Mat::from_vec(scaled, rounded.rows(), rounded.cols()).unwrap(), 2);
                if scaled.to_f64().data().iter().zip(rounded.data()).any(|(s, x)| *s != x * scale) {
                    continue; // not representable (f16's subnormals)
                }
                let f = factor(&device, scaled.view(), 9, tier, &Stop::default());
                assert_eq!(f.jpvt, plain.jpvt, "{name} {tier:?}");
                assert_eq!(f.info.handover, plain.info.handover, "{name} {tier:?}");
                assert!(f.r.data().iter().zip(plain.r.data()).all(|(a, b)| *a == b * scale), "{name} {tier:?}: R");
            }
        }
    }
}

#[test]
fn powers_of_two_scale_through() {
    scales_exactly::<f32>(80);
    scales_exactly::<bf16>(80);
    scales_exactly::<f16>(2);
}

#[test]
fn rows_of_every_scale_in_one_group() {
    let mut values = Draw::new(6).gaussian(12, 20);
    for (i, exponent) in [30, -30, 0, 10, -10, 20].into_iter().enumerate() {
        values.row_mut(i).iter_mut().for_each(|x| *x *= 10f64.powi(exponent));
    }
    let padded = Padded::<f32>::new(&values, 1);
    let c = padded.to_f64();
    for (device, tier) in cases(&TIERS) {
        let f = factor(&device, padded.view(), 12, tier, &Stop::default());
        assert!(f.r.data().iter().all(|x| x.is_finite()), "{tier:?}");
        assert_eq!(f.jpvt[0], 0, "{tier:?}");
        assert_greedy(&format!("{tier:?}"), &c, &f, 12, rounding(&c, 12), tier);
    }
}

#[test]
fn the_same_bits_for_one_and_two_threads() {
    let padded = gaussian::<f32>(77, 300, 600, 8);
    let groups = Groups::new(vec![0, 170, 170, 300], (0..300).rev().collect()).unwrap();
    for (device, tier) in cases(&TIERS) {
        let run = |threads: usize| {
            let plan = Plan::new(&device, Desc { cols: 600, rank: 9, tier, seed: 1 }).unwrap();
            on_threads(threads, || plan.run(padded.view(), &groups, &Stop::default()).unwrap())
        };
        for (a, b) in run(1).iter().zip(&run(2)) {
            assert_eq!((&a.jpvt, &a.info), (&b.jpvt, &b.info), "{tier:?}");
            let bits = |f: &Factor| f.r.data().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert!(bits(a) == bits(b), "{tier:?}: R differs");
        }
    }
}

/// The sketch is seeded, and close to the greedy choice where the spectrum decays.
#[test]
fn sketches_are_seeded_and_good() {
    let values = crate::common::matrices::with_spectrum(
        &mut Draw::new(3),
        60,
        80,
        &(0..40).map(|j| 0.7f64.powi(j)).collect::<Vec<_>>(),
    );
    let padded = Padded::<f32>::new(&values, 0);
    for device in with_all(&TIERS) {
        let run = |seed: u64, tier: Tier| {
            let plan = Plan::new(&device, Desc { cols: 80, rank: 10, tier, seed }).unwrap();
            plan.run(padded.view(), &Groups::all(60), &Stop::default()).unwrap().remove(0).jpvt
        };
        let error = |jpvt: &[u32]| interp::error_curve(&device, padded.view(), jpvt, &[10]).unwrap()[0];
        let greedy = error(&run(0, Tier::Exact));
        let sketches: Vec<Vec<u32>> = (0..8).map(|seed| run(seed, SKETCH)).collect();
        assert_eq!(sketches[5], run(5, SKETCH));
        assert!(sketches.iter().any(|s| *s != sketches[0]), "the seed enters");
        for sketch in &sketches {
            assert!(error(sketch) <= 1.5 * greedy, "{} against {greedy}", error(sketch));
        }
    }
}
