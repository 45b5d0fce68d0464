//! The Gram tier of pivoted QR on devices that run kernels: the CPU's properties, and what its own rounding decides.

use crate::common::factors::{assert_factors, assert_greedy, factor, largest, margin, norm, rounding};
use crate::common::matrices::{Draw, kahan, zoo};
use crate::common::{Padded, for_every_element, kernel_devices};
use idlora::elem::Dtype;
use idlora::qr::{Desc, Factor, Groups, Plan, Stop, Tier};
use idlora::reference::qr as reference;
use idlora::{Device, Elem, Mat, bf16, f16};

fn gram<T: Elem>(device: &Device, w: &Padded<T>, rank: usize, stop: Stop) -> Factor {
    factor(device, w.view(), rank, Tier::Gram, &stop)
}

fn assert_sound<T: Elem>(what: &str, w: &Padded<T>, f: &Factor, rank: usize, tolerance: f64) {
    let c = w.to_f64();
    assert_greedy(what, &c, f, rank, tolerance, Tier::Gram);
    assert_factors(what, &c, f);
    if T::DTYPE == Dtype::F32 {
        assert_eq!(f.info.handover, (largest(&c) > 0.0).then_some(0), "{what}: rows of f32 go to the exact tier");
    }
}

fn holds_on_the_zoo<T: Elem>() {
    for device in kernel_devices() {
        for (rows, cols, rank) in [(20, 14, 20), (13, 37, 6), (50, 70, 9)] {
            for (name, values) in zoo(5, rows, cols) {
                let w = Padded::<T>::new(&values, 3);
                let what = format!("{name} {rows}×{cols} {:?} rank {rank}", T::DTYPE);
                let f = gram(&device, &w, rank, Stop::default());
                assert_sound(&what, &w, &f, rank, rounding(&w.to_f64(), rank));
                if T::DTYPE != Dtype::F32 && rows == 50 && ["gaussian", "spiked", "graded"].contains(&name) {
                    assert_eq!(f.info.handover, None, "{what}");
                }
            }
        }
    }
}

#[test]
fn pivots_are_greedy_and_factors_exact_on_the_zoo() {
    for_every_element!(holds_on_the_zoo());
}

/// The same pivots as the reference as long as its leader is ahead by more than the margin of `f64`: what rounding of the Gram
/// matrix could decide is not decided by it.
fn agrees_with_the_reference<T: Elem>() {
    for device in kernel_devices() {
        for (name, values) in zoo(11, 24, 31) {
            let w = Padded::<T>::new(&values, 1);
            let (c, rank) = (w.to_f64(), 12);
            let expected = reference::pivoted_qr(c.as_ref(), rank, rounding(&c, rank));
            let f = gram(&device, &w, rank, Stop::default());
            for (j, (&p, &q)) in f.jpvt.iter().zip(&expected.jpvt).enumerate() {
                let rest = reference::residual(c.as_ref(), &expected.jpvt[..j]);
                let mut norms: Vec<f64> = (0..c.rows()).map(|i| norm(rest.row(i))).collect();
                norms.sort_by(|a, b| b.total_cmp(a));
                if norms[0] - norms[1] <= margin(&c, rank) {
                    break; // either may be taken
                }
                assert_eq!(p as usize, q, "{name} {:?}: pivot {j}", T::DTYPE);
            }
        }
    }
}

#[test]
fn pivots_agree_with_the_reference() {
    for_every_element!(agrees_with_the_reference());
}

/// Rows around fragments, warps' parts and blocks; columns around products, stages and chunks; every alignment of rows.
fn holds_at_tile_edges<T: Elem>() {
    let shapes =
        [(1, 1), (1, 513), (2, 15), (15, 16), (16, 17), (17, 63), (31, 64), (33, 65), (65, 127), (97, 129), (129, 40)];
    for device in kernel_devices() {
        for (pad, (rows, cols)) in [2, 0, 1, 8, 7, 3].into_iter().cycle().zip(shapes) {
            let w = Padded::<T>::new(&Draw::new(rows as u64).gaussian(rows, cols), pad);
            for rank in [1, 9] {
                let f = gram(&device, &w, rank, Stop::default());
                let what = format!("{rows}×{cols} {:?} rank {rank}", T::DTYPE);
                assert_eq!(f.jpvt.len(), rank.min(rows).min(cols), "{what}");
                assert_sound(&what, &w, &f, rank, rounding(&w.to_f64(), rank));
            }
        }
    }
}

#[test]
fn shapes_around_tile_edges() {
    for_every_element!(holds_at_tile_edges());
}

/// Groups of one matrix, ragged, with empty ones, single rows and repeated rows among them.
fn ragged_groups_hold<T: Elem>(seed: u64) {
    let (rows, cols, rank) = (60, 45, 11);
    let values = Draw::new(seed).gaussian(rows, cols);
    let w = Padded::<T>::new(&values, 1);
    let mut picked: Vec<u32> = (0..rows as u32).rev().collect();
    picked.extend([7, 7, 9, 5, 5, 5, 11]);
    let groups = Groups::new(vec![0, 0, 1, 30, 30, 43, 60, 67], picked).unwrap();
    for device in kernel_devices() {
        let plan = Plan::new(&device, Desc { cols, rank, tier: Tier::Gram, seed }).unwrap();
        let factors = plan.run(w.view(), &groups, &Stop::default()).unwrap();
        assert_eq!(factors.len(), 7);
        for (g, f) in factors.iter().enumerate() {
            let own: Vec<f64> = groups.group(g).iter().flat_map(|&i| w.to_f64().row(i as usize).to_vec()).collect();
            let c = Mat::from_vec(own, groups.group(g).len(), cols).unwrap();
            assert_sound(&format!("group {g}"), &Padded::<T>::new(&c, 0), f, rank, rounding(&c, rank));
            if T::DTYPE != Dtype::F32 {
                assert!(f.info.handover.is_some() || g != 6, "rows that repeat tie");
                assert!(f.info.handover.is_none() || ![0, 1, 3].contains(&g), "group {g}: one row or none");
            }
        }
    }
}

#[test]
fn ragged_groups_of_one_matrix() {
    for_every_element!(ragged_groups_hold(4));
}

fn tolerances_stop_it<T: Elem>() {
    for device in kernel_devices() {
        for (name, values) in zoo(21, 30, 26) {
            let w = Padded::<T>::new(&values, 0);
            let most = largest(&w.to_f64());
            for part in [0.5, 1e-3] {
                for stop in [Stop { relative: part, absolute: 0.0 }, Stop { relative: 0.0, absolute: part * most }] {
                    let f = gram(&device, &w, 26, stop);
                    let tolerance = (part * most).max(rounding(&w.to_f64(), 26));
                    assert_greedy(&format!("{name} {stop:?}"), &w.to_f64(), &f, 26, tolerance, Tier::Gram);
                }
            }
            let nothing = gram(&device, &w, 26, Stop { relative: 1.0, absolute: 0.0 });
            assert!(nothing.jpvt.is_empty(), "{name}: the first norm is at most 1 × itself");
        }
    }
}

#[test]
fn tolerances_stop_where_geqp3rk_stops() {
    tolerances_stop_it::<f16>();
    tolerances_stop_it::<bf16>();
}

/// A tolerance that is clear of every residual stops the tier itself; one that is a residual hands over.
#[test]
fn a_tolerance_within_the_bound_hands_over() {
    let w = Padded::<bf16>::new(&Draw::new(9).gaussian(20, 40), 0);
    for device in kernel_devices() {
        let whole = gram(&device, &w, 8, Stop::default());
        assert_eq!(whole.info.handover, None);
        let (before, at) = (whole.info.residuals[4], whole.info.residuals[5]);
        let between = gram(&device, &w, 8, Stop { absolute: 0.5 * (before + at), relative: 0.0 });
        assert_eq!((between.jpvt.as_slice(), between.info.handover), (&whole.jpvt[..5], None));
        let on = gram(&device, &w, 8, Stop { absolute: at * (1.0 + 1e-9), relative: 0.0 });
        assert_eq!((on.jpvt.as_slice(), on.info.handover), (&whole.jpvt[..5], Some(5)));
        let below = gram(&device, &w, 8, Stop { absolute: at * (1.0 - 1e-9), relative: 0.0 });
        assert_eq!((&below.jpvt[..6], below.info.handover), (&whole.jpvt[..6], Some(5)));
    }
}

/// Ties are handed over, and fall to the lowest position there.
fn hands_over_on_ties<T: Elem>() {
    for device in kernel_devices() {
        for (name, values) in zoo(8, 30, 22) {
            let w = Padded::<T>::new(&values, 0);
            let f = gram(&device, &w, 10, Stop::default());
            let exact = factor(&device, w.view(), 10, Tier::Exact, &Stop::default());
            if f.info.handover.is_some() {
                assert_eq!(f.jpvt, exact.jpvt, "{name}");
            }
            match name {
                "gaussian" | "spiked" => assert_eq!((&f.jpvt, f.info.handover), (&exact.jpvt, None), "{name}"),
                "identity" => assert_eq!((f.jpvt, f.info.handover), ((0..10).collect(), Some(0))),
                "duplicated" => assert!(f.info.handover.is_some(), "{name}"),
                "all-zero" => assert_eq!((f.jpvt.len(), f.info.handover, f.info.remaining), (0, None, 0.0)),
                _ => {}
            }
        }
        let same = Mat::from_vec([0.3, -1.7, 2.0, 0.9].repeat(9), 9, 4).unwrap();
        let f = gram(&device, &Padded::<T>::new(&same, 1), 3, Stop::default());
        assert_eq!((f.jpvt, f.info.handover), (vec![0], Some(0)));
    }
}

#[test]
fn ties_are_handed_over_and_fall_to_the_lowest_index() {
    hands_over_on_ties::<f16>();
    hands_over_on_ties::<bf16>();
}

/// Scaling by a power of two scales `R` and changes nothing else, to the last bit, whichever way the rows are brought to
/// their unit.
fn scales_exactly<T: Elem>(pad: usize, powers: &[i32]) {
    for device in kernel_devices() {
        for (name, values) in zoo(4, 25, 18) {
            let rounded = Padded::<T>::new(&values, 0).to_f64();
            let plain = gram(&device, &Padded::<T>::new(&rounded, pad), 9, Stop::default());
            for scale in powers.iter().map(|&power| 2f64.powi(power)) {
                let scaled = rounded.data().iter().map(|x| x * scale).collect();
                let scaled = Padded::<T>::new(&Mat::from_vec(scaled, rounded.rows(), rounded.cols()).unwrap(), pad);
                if scaled.to_f64().data().iter().zip(rounded.data()).any(|(s, x)| *s != x * scale) {
                    continue; // not representable
                }
                let f = gram(&device, &scaled, 9, Stop::default());
                let what = format!("{name} {:?} × {scale:e}", T::DTYPE);
                assert_eq!((&f.jpvt, f.info.handover), (&plain.jpvt, plain.info.handover), "{what}");
                assert!(f.r.data().iter().zip(plain.r.data()).all(|(a, b)| *a == b * scale), "{what}: R");
            }
        }
    }
}

#[test]
fn powers_of_two_scale_through() {
    scales_exactly::<bf16>(6, &[80, -80, -12]);
    scales_exactly::<bf16>(1, &[-90, 30]);
    scales_exactly::<f16>(2, &[2, -2]);
}

#[test]
fn rows_of_every_scale_in_one_group() {
    let mut values = Draw::new(6).gaussian(12, 20);
    for (i, exponent) in [30, -30, 0, 10, -10, 20].into_iter().enumerate() {
        values.row_mut(i).iter_mut().for_each(|x| *x *= 10f64.powi(exponent));
    }
    let w = Padded::<bf16>::new(&values, 1);
    for device in kernel_devices() {
        let f = gram(&device, &w, 12, Stop::default());
        assert!(f.r.data().iter().all(|x| x.is_finite()));
        assert_eq!(f.jpvt[0], 0);
        assert_sound("every scale", &w, &f, 12, rounding(&w.to_f64(), 12));
    }
}

/// Whether the leader after `pivots` is ahead of everyone by more than the derived error of the kernel: `m_p/(1 − h)² + m_i`
/// with `m_i = ε(‖c_i‖ + Σ_a |t_ia|‖c_{J_a}‖)²`, `h = Σ_b m_b/d_b` over the pivots and `ε` of `kernels/qr_gram.cu`. `slack` is
/// for the error itself, which moves what the kernel compares.
fn gram_decides(c: &Mat<f64>, pivots: &[usize], rank: usize, slack: f64) -> bool {
    let epsilon = slack * (2.0 * 68.0 + (c.cols().div_ceil(64) + rank + 4) as f64) * 0.5f64.powi(24);
    let after = |count: usize| {
        let pivots = &pivots[..count];
        let truncated = reference::pivoted_qr(c.as_ref(), count, 0.0);
        assert_eq!(truncated.jpvt, pivots, "the reference agrees up to the handover");
        let (t, rest) = (idlora::reference::interp::coeffs(&truncated), reference::residual(c.as_ref(), pivots));
        let of = |i: usize| {
            let spread: f64 = pivots.iter().zip(t.row(i)).map(|(&p, t)| t.abs() * norm(c.row(p))).sum();
            (norm(rest.row(i)).powi(2), epsilon * (norm(c.row(i)) + spread).powi(2))
        };
        (0..c.rows()).map(of).collect::<Vec<_>>()
    };
    let ratio = |(j, &p): (usize, &usize)| after(j)[p].1 / after(j)[p].0;
    let h: f64 = pivots.iter().enumerate().map(ratio).sum();
    let now = after(pivots.len());
    let left: Vec<usize> = (0..c.rows()).filter(|i| !pivots.contains(i)).collect();
    let p = left.iter().copied().fold(left[0], |p, i| if now[i].0 > now[p].0 { i } else { p });
    let least = now[p].0 - now[p].1 / (1.0 - h).powi(2);
    h < 1.0 && least > 0.0 && left.iter().all(|&i| i == p || least > now[i].0 + now[i].1)
}

/// Every step before the handover lay outside the bound, and the step of the handover within it.
fn decides_what_its_rounding_can<T: Elem>() {
    // Leads are clear, but the coefficients grow as 1.36ʲ, and the bound with their square.
    let mut clear = kahan(40, 1.2);
    for i in 0..40 {
        clear.row_mut(i).iter_mut().for_each(|x| *x *= 0.97f64.powi(i as i32));
    }
    // Coefficients of both signs, which a bound without them, or with their sums, would misjudge.
    let mut mixed = Draw::new(12).gaussian(24, 20);
    for i in 0..24 {
        let base = mixed.row(0).to_vec();
        let share = if i % 2 == 0 { 0.9 } else { -0.9 };
        let row = mixed.row_mut(i);
        row.iter_mut().zip(&base).for_each(|(x, b)| *x = (share * b + 0.3 * *x) * 0.8f64.powi(i as i32));
    }
    // Rows near one line, each half as long as the one before: the leads are clear, and every pivot adds as much to h.
    let mut line = Draw::new(14).gaussian(20, 60);
    let base: Vec<f64> = line.row(0).iter().map(|x| 256.0 * x).collect();
    for i in 0..20 {
        let row = line.row_mut(i);
        row.iter_mut().zip(&base).for_each(|(x, b)| *x = (b + 256.0 * 0.04 * *x) * 0.5f64.powi(i as i32));
    }
    let decaying = zoo(2, 40, 30).into_iter().filter(|(name, _)| ["exponential", "staircase"].contains(name));
    let ends = [("kahan", clear), ("mixed", mixed), ("line", line), ("long", Draw::new(3).gaussian(9, 1500))];
    for (name, values) in decaying.chain(ends) {
        let w = Padded::<T>::new(&values, 1);
        let c = w.to_f64();
        let rank = c.rows().min(c.cols());
        for device in kernel_devices() {
            let f = gram(&device, &w, rank, Stop::default());
            assert_sound(name, &w, &f, rank, rounding(&c, rank));
            let taken: Vec<usize> = f.jpvt.iter().map(|&p| p as usize).collect();
            let handover = f.info.handover.unwrap_or(taken.len());
            println!("{name} {:?}: handed over at {handover} of {}", T::DTYPE, taken.len());
            for j in 0..handover {
                assert!(gram_decides(&c, &taken[..j], rank, 0.9), "{name}: step {j} lay within the rounding");
            }
            if handover < taken.len() {
                assert!(!gram_decides(&c, &taken[..handover], rank, 1.1), "{name}: no need to hand over at {handover}");
            }
        }
    }
}

#[test]
fn the_gram_tier_decides_what_its_rounding_can() {
    decides_what_its_rounding_can::<f16>();
    decides_what_its_rounding_can::<bf16>();
}

/// The virtual machine's order of lanes, warps and blocks, and how many blocks are alive, do not enter the result; nor does a
/// pessimist's tensor core enter the pivots.
#[cfg(feature = "vm")]
#[test]
fn the_same_bits_for_every_schedule() {
    use idlora::vm::{Settings, Vm};
    if kernel_devices().is_empty() {
        return;
    }
    let mut values = Draw::new(31).gaussian(150, 90);
    let copy = values.row(70).to_vec();
    values.row_mut(140).copy_from_slice(&copy);
    let w = Padded::<bf16>::new(&values, 6);
    let groups = Groups::new(vec![0, 133, 133, 150], (0..150).rev().collect()).unwrap();
    let run = |vm: Vm| {
        let desc = Desc { cols: 90, rank: 12, tier: Tier::Gram, seed: 0 };
        Plan::new(&Device::Vm(vm), desc).unwrap().run(w.view(), &groups, &Stop::default()).unwrap()
    };
    let expected = run(Vm::default());
    assert!(expected[2].info.handover.is_none());
    for (seed, resident) in [(1, 1), (2, 2), (3, 5)] {
        let checks = ptx_vm::Checks::GLOBAL_RACES;
        for (a, b) in expected.iter().zip(run(Vm::new(Settings { checks, seed: Some(seed), resident }))) {
            assert_eq!((&a.jpvt, &a.info), (&b.jpvt, &b.info), "seed {seed}");
            assert!(a.r.data() == b.r.data(), "seed {seed}: R differs");
        }
    }
    let pessimist = run(Vm::default().accumulating(ptx_vm::Accumulation::Sequential));
    for (a, b) in expected.iter().zip(&pessimist) {
        assert_eq!(a.jpvt, b.jpvt);
    }
}
