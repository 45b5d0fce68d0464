//! Sketch tier of pivoted QR on devices that run kernels: its pivots are those of the sketch in `f64`, as far as a sketch in
//! `f32` can decide; rank, `R` and residuals are those of the rows.

use crate::common::factors::{U, assert_factors, assert_greedy, factor, margin, norm, rounding};
use crate::common::matrices::{Draw, with_spectrum, zoo};
use crate::common::{Padded, for_every_element, kernel_devices};
use idlora::qr::{Desc, Factor, Groups, Plan, Stop, Tier};
use idlora::reference::{interp as reference_interp, qr as reference};
use idlora::{Device, Elem, Mat, interp};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

const OVERSAMPLING: usize = 8;
const SKETCH: Tier = Tier::Sketch { oversampling: OVERSAMPLING };

/// `C Ω` in `f64`: standard normals by Box and Muller from stream 2 of the seed, row by row.
fn sketch(c: &Mat<f64>, width: usize, seed: u64) -> Mat<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(2);
    let mut uniform = || (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let mut normal = || (-2.0 * (1.0 - uniform()).ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
    let omega = Mat::from_vec((0..c.cols() * width).map(|_| normal()).collect(), c.cols(), width).unwrap();
    let mut y = Mat::zeros(c.rows(), width).unwrap();
    for i in 0..c.rows() {
        for (k, &x) in c.row(i).iter().enumerate() {
            y.row_mut(i).iter_mut().zip(omega.row(k)).for_each(|(y, o)| *y += x * o);
        }
    }
    y
}

/// `t` with `y_i ≈ Σ t_ia y_{J_a}`, by Gram–Schmidt on the given pivots.
fn coefficients(y: &Mat<f64>, pivots: &[usize]) -> Mat<f64> {
    let mut r = Mat::zeros(pivots.len(), y.rows()).unwrap();
    for j in 0..pivots.len() {
        let rest = reference::residual(y.as_ref(), &pivots[..j]);
        let q = rest.row(pivots[j]).to_vec();
        let length = norm(&q);
        for i in 0..y.rows() {
            r.row_mut(j)[i] = q.iter().zip(rest.row(i)).map(|(q, y)| q * y).sum::<f64>() / length;
        }
    }
    let (jpvt, q) = (pivots.to_vec(), Mat::zeros(0, 0).unwrap());
    reference_interp::coeffs(&reference::Factor { jpvt, q, r, residuals: Vec::new(), remaining: 0.0 })
}

/// The pivots are greedy on the sketch as long as its rounding to `f32` can tell, and greedy on the rows from there on.
///
/// A row of `Y` is off by `2⁻²⁴` of itself, so its residual outside the pivots, with coefficients `t`, by `2⁻²⁴(‖y_i‖ + Σ
/// |t_ia|‖y_{J_a}‖)`; what `f64` adds is lost in the factor of 2. The longest residual is a pivot if it is above `2⁻¹⁶‖y_p‖`,
/// up to that same error; else the rows decide from there on.
fn assert_sketched(what: &str, c: &Mat<f64>, f: &Factor, rank: usize, seed: u64) {
    let pivots: Vec<usize> = f.jpvt.iter().map(|&p| p as usize).collect();
    let width = (rank.min(c.rows()).min(c.cols()) + OVERSAMPLING).min(c.cols());
    let y = sketch(c, width, seed);
    let mut by_rows = false;
    for (j, &p) in pivots.iter().enumerate() {
        let (before, t) = (&pivots[..j], coefficients(&y, &pivots[..j]));
        let rest = reference::residual(y.as_ref(), before);
        // Every row that may be the sketch's longest: the least and the most that its residual can be, and the threshold.
        let range = |i: usize| {
            let spread: f64 = before.iter().zip(t.row(i)).map(|(&a, t)| t.abs() * norm(y.row(a))).sum();
            let (residual, off) = (norm(rest.row(i)), f64::from(f32::EPSILON) * (norm(y.row(i)) + spread));
            (residual - off, residual + off, 0.5f64.powi(16) * norm(y.row(i)))
        };
        let left = (0..c.rows()).filter(|i| !before.contains(i));
        let ranges: Vec<(usize, (f64, f64, f64))> = left.map(|i| (i, range(i))).collect();
        let longest = ranges.iter().map(|(_, (least, _, _))| *least).fold(f64::MIN, f64::max);
        let leaders: Vec<_> = ranges.iter().filter(|(_, (_, most, _))| *most >= longest).collect();
        if !by_rows && leaders.iter().any(|&&(i, (_, most, threshold))| i == p && most > threshold) {
            continue;
        }
        let undecided = leaders.iter().any(|(_, (least, _, threshold))| least <= threshold);
        assert!(by_rows || undecided, "{what}: step {j} took {p}, which is not the longest row of the sketch");
        by_rows = true;
        let rows = reference::residual(c.as_ref(), before);
        let most = ranges.iter().map(|&(i, _)| norm(rows.row(i))).fold(0.0, f64::max);
        let greedy = norm(rows.row(p)) >= most - margin(c, rank);
        assert!(greedy, "{what}: step {j} took {p}, by neither the sketch nor the rows");
    }
}

fn holds_on_the_zoo<T: Elem>() {
    for device in kernel_devices() {
        for (rows, cols) in [(20, 14), (13, 37), (33, 50)] {
            for (name, values) in zoo(5, rows, cols) {
                let padded = Padded::<T>::new(&values, 3);
                let c = padded.to_f64();
                for rank in [1, 6, rows] {
                    let what = format!("{device} {name} {rows}×{cols} {:?} rank {rank}", T::DTYPE);
                    let f = factor(&device, padded.view(), rank, SKETCH, &Stop::default());
                    assert_greedy(&what, &c, &f, rank, rounding(&c, rank), SKETCH);
                    assert_factors(&what, &c, &f);
                    assert_sketched(&what, &c, &f, rank, 3);
                    let ours = factor(&Device::Cpu, padded.view(), rank, SKETCH, &Stop::default());
                    assert_eq!(f.info.handover, None, "{what}");
                    assert_eq!(f.jpvt.len(), ours.jpvt.len(), "{what}: the CPU's rank");
                    if ["gaussian", "spiked", "graded"].contains(&name) && rank < rows.min(cols) {
                        assert_eq!(f.jpvt, ours.jpvt, "{what}: leads are clear");
                    }
                }
            }
        }
    }
}

#[test]
fn pivots_are_the_sketchs_and_factors_exact_on_the_zoo() {
    for_every_element!(holds_on_the_zoo());
}

fn holds_at_tile_edges<T: Elem>() {
    for device in kernel_devices() {
        for (rows, cols) in
            [(1, 1), (1, 129), (2, 64), (3, 63), (12, 5), (31, 65), (33, 8), (64, 40), (65, 3), (97, 33)]
        {
            let padded = Padded::<T>::new(&Draw::new(rows as u64).gaussian(rows, cols), 2);
            let c = padded.to_f64();
            for rank in [1, 2, 7] {
                let f = factor(&device, padded.view(), rank, SKETCH, &Stop::default());
                let what = format!("{rows}×{cols} {:?} rank {rank}", T::DTYPE);
                assert_eq!(f.jpvt.len(), rank.min(rows).min(cols), "{what}");
                assert_greedy(&what, &c, &f, rank, rounding(&c, rank), SKETCH);
                assert_factors(&what, &c, &f);
                assert_sketched(&what, &c, &f, rank, 3);
            }
        }
    }
}

#[test]
fn shapes_around_tile_edges() {
    for_every_element!(holds_at_tile_edges());
}

/// Rows that depend on others exactly, in every element: combinations with small integers of rows of small integers. Their
/// sketches depend on each other only up to `2⁻²⁴`, far above what short rows that depend on nothing leave.
fn dependent(rows: usize, cols: usize, small: f64) -> Mat<f64> {
    let draw = &mut Draw::new(17);
    let base: Vec<Vec<f64>> = (0..3).map(|_| (0..cols).map(|_| draw.below(7) as f64 - 3.0).collect()).collect();
    let mut c = Mat::zeros(rows, cols).unwrap();
    for i in 0..rows - 2 {
        for base in &base {
            let factor = draw.below(5) as f64 - 2.0;
            c.row_mut(i).iter_mut().zip(base).for_each(|(x, b)| *x += factor * b);
        }
    }
    for i in rows - 2..rows {
        c.row_mut(i).iter_mut().for_each(|x| *x = (draw.below(9) as f64 - 4.0) * small);
    }
    c
}

fn rank_is_the_rows<T: Elem>(small: f64) {
    let c = dependent(40, 30, small);
    let padded = Padded::<T>::new(&c, 1);
    assert_eq!(padded.to_f64().data(), c.data(), "exact in the element");
    for device in kernel_devices() {
        for rank in [2, 3, 4, 5, 9] {
            let what = format!("{:?} rank {rank}", T::DTYPE);
            let f = factor(&device, padded.view(), rank, SKETCH, &Stop::default());
            let ours = factor(&Device::Cpu, padded.view(), rank, SKETCH, &Stop::default());
            assert_eq!((f.jpvt.len(), ours.jpvt.len()), (rank.min(5), rank.min(5)), "{what}");
            assert_greedy(&what, &c, &f, rank, rounding(&c, rank), SKETCH);
            assert_factors(&what, &c, &f);
            assert_sketched(&what, &c, &f, rank, 3);
        }
        // The same behind a group whose rows are short, but for one.
        let mut both = Mat::zeros(80, 30).unwrap();
        (0..40).for_each(|i| both.row_mut(i)[i % 30] = if i == 0 { 1.0 } else { small });
        (0..40).for_each(|i| both.row_mut(40 + i).copy_from_slice(c.row(i)));
        let groups = Groups::new(vec![0, 40, 80], (0..80).collect()).unwrap();
        let plan = Plan::new(&device, Desc { cols: 30, rank: 9, tier: SKETCH, seed: 3 }).unwrap();
        let factors = plan.run(Padded::<T>::new(&both, 1).view(), &groups, &Stop::default()).unwrap();
        assert_eq!(factors[1].jpvt, factor(&device, padded.view(), 9, SKETCH, &Stop::default()).jpvt);
        // All rows equal: one pivot, the first, and nothing left. No rows that are not zero: none.
        let same = Mat::from_vec([0.3, -1.7, 2.0, 0.9].repeat(9), 9, 4).unwrap();
        let f = factor(&device, Padded::<T>::new(&same, 1).view(), 3, SKETCH, &Stop::default());
        assert_eq!(f.jpvt, [0]);
        let f = factor(&device, Padded::<T>::new(&Mat::zeros(5, 6).unwrap(), 1).view(), 3, SKETCH, &Stop::default());
        assert_eq!((f.jpvt.len(), f.r.shape(), f.info.remaining), (0, (0, 5), 0.0));
    }
}

#[test]
fn the_rank_is_that_of_the_rows() {
    rank_is_the_rows::<f32>(2f64.powi(-30));
    rank_is_the_rows::<idlora::bf16>(2f64.powi(-30));
    rank_is_the_rows::<idlora::f16>(2f64.powi(-20));
}

fn tolerances_stop_it<T: Elem>() {
    for device in kernel_devices() {
        for (name, values) in zoo(21, 20, 16) {
            let padded = Padded::<T>::new(&values, 0);
            for part in [1.0, 0.1, 1e-3] {
                let stop = Stop { relative: part, absolute: 0.0 };
                let f = factor(&device, padded.view(), 16, SKETCH, &stop);
                let ours = factor(&Device::Cpu, padded.view(), 16, SKETCH, &stop);
                assert_eq!(f.jpvt.len(), ours.jpvt.len(), "{name} {part} {:?}", T::DTYPE);
            }
        }
    }
}

#[test]
fn tolerances_stop_it_where_they_stop_the_cpu() {
    tolerances_stop_it::<f32>();
    tolerances_stop_it::<idlora::f16>();
}

/// Scaling by a power of two scales `R` and changes nothing else, to the last bit.
fn scales_exactly<T: Elem>(powers: &[i32]) {
    for device in kernel_devices() {
        for (name, values) in zoo(4, 25, 18) {
            let rounded = Padded::<T>::new(&values, 0).to_f64();
            let plain = factor(&device, Padded::<T>::new(&rounded, 2).view(), 9, SKETCH, &Stop::default());
            for &power in powers {
                let scale = 2f64.powi(power);
                let scaled = rounded.data().iter().map(|x| x * scale).collect();
                let scaled = Padded::<T>::new(&Mat::from_vec(scaled, rounded.rows(), rounded.cols()).unwrap(), 2);
                if scaled.to_f64().data().iter().zip(rounded.data()).any(|(s, x)| *s != x * scale) {
                    continue; // not representable (f16's subnormals)
                }
                let f = factor(&device, scaled.view(), 9, SKETCH, &Stop::default());
                assert_eq!((&f.jpvt, f.info.handover), (&plain.jpvt, None), "{name} 2^{power}");
                assert!(f.r.data().iter().zip(plain.r.data()).all(|(a, b)| *a == b * scale), "{name} 2^{power}: R");
            }
        }
    }
}

#[test]
fn powers_of_two_scale_through() {
    scales_exactly::<f32>(&[80, -80, 118]);
    scales_exactly::<idlora::bf16>(&[80, -80, 118]);
    scales_exactly::<idlora::f16>(&[2, -2]);
}

#[test]
fn rows_of_every_scale_in_one_group() {
    let mut values = Draw::new(6).gaussian(12, 20);
    for (i, exponent) in [30, -30, 0, 10, -10, 20, 24, 17].into_iter().enumerate() {
        values.row_mut(i).iter_mut().for_each(|x| *x *= 10f64.powi(exponent));
    }
    let padded = Padded::<f32>::new(&values, 1);
    let c = padded.to_f64();
    for device in kernel_devices() {
        let f = factor(&device, padded.view(), 12, SKETCH, &Stop::default());
        assert!(f.r.data().iter().all(|x| x.is_finite()));
        assert_greedy("every scale", &c, &f, 12, rounding(&c, 12), SKETCH);
        assert_eq!(f.jpvt, factor(&Device::Cpu, padded.view(), 12, SKETCH, &Stop::default()).jpvt);
    }
}

/// Groups of several sizes in one batch over two matrices, some shorter than the rank, with a sketch of their own width: each as
/// it is alone.
fn ragged<T: Elem>() {
    let (rows, cols, rank) = (90, 47, 6);
    let first = Padded::<T>::new(&Draw::new(1).gaussian(rows, cols), 1);
    let second = Padded::<T>::new(&zoo(9, rows, cols)[2].1, 4);
    let all: Vec<u32> = (0..rows as u32).rev().collect();
    let indptr = vec![0, 33, 33, 36, 37, 80, 90];
    let groups = Groups::new(indptr, all).unwrap();
    let desc = Desc { cols, rank, tier: SKETCH, seed: 11 };
    for device in kernel_devices() {
        let plan = Plan::new(&device, desc).unwrap();
        let batch = [(first.view(), &groups), (second.view(), &groups)];
        let factors = plan.run_many(&batch, &Stop::default()).unwrap();
        for ((w, _), factors) in batch.iter().zip(&factors) {
            assert_eq!(factors.len(), groups.len());
            for (g, f) in factors.iter().enumerate() {
                let own = groups.group(g);
                let alone = Groups::new(vec![0, own.len()], own.to_vec()).unwrap();
                let alone = plan.run(*w, &alone, &Stop::default()).unwrap().remove(0);
                assert_eq!((&f.jpvt, f.r.data(), &f.info), (&alone.jpvt, alone.r.data(), &alone.info), "group {g}");
                let data: Vec<f64> =
                    own.iter().flat_map(|&i| w.row(i as usize).iter().map(|x| f64::from(x.to_f32()))).collect();
                let c = Mat::from_vec(data, own.len(), cols).unwrap();
                assert_sketched(&format!("group {g}"), &c, f, rank, desc.seed);
                assert_factors(&format!("group {g}"), &c, f);
            }
        }
    }
}

#[test]
fn groups_are_sketched_each_on_its_own() {
    for_every_element!(ragged());
}

/// The sketch is seeded, and close to the greedy choice where the spectrum decays.
#[test]
fn sketches_are_seeded_and_good() {
    let spectrum: Vec<f64> = (0..40).map(|j| 0.7f64.powi(j)).collect();
    let values = with_spectrum(&mut Draw::new(3), 60, 80, &spectrum);
    let padded = Padded::<f32>::new(&values, 0);
    for device in kernel_devices() {
        let run = |device: &Device, seed: u64, tier: Tier| {
            let plan = Plan::new(device, Desc { cols: 80, rank: 10, tier, seed }).unwrap();
            plan.run(padded.view(), &Groups::all(60), &Stop::default()).unwrap().remove(0).jpvt
        };
        let error = |jpvt: &[u32]| interp::error_curve(&Device::Cpu, padded.view(), jpvt, &[10]).unwrap()[0];
        let greedy = error(&run(&Device::Cpu, 0, Tier::Exact));
        let sketches: Vec<Vec<u32>> = (0..8).map(|seed| run(&device, seed, SKETCH)).collect();
        assert_eq!(sketches[5], run(&device, 5, SKETCH));
        assert!(sketches.iter().any(|s| *s != sketches[0]), "the seed enters");
        for (seed, sketch) in sketches.iter().enumerate() {
            assert!(error(sketch) <= 1.5 * greedy, "{} against {greedy}", error(sketch));
            assert_eq!(*sketch, run(&Device::Cpu, seed as u64, SKETCH), "the CPU's");
        }
    }
}

/// Any number of blocks at a time, in any order, the waits between blocks checked for races.
#[cfg(feature = "vm")]
#[test]
fn the_same_bits_for_every_schedule() {
    use idlora::vm::{Settings, Vm};
    if kernel_devices().is_empty() {
        return; // said there
    }
    let padded = Padded::<f32>::new(&Draw::new(77).gaussian(120, 70), 1);
    let equal = dependent(40, 70, 1.0);
    let mut values = padded.to_f64();
    (0..40).for_each(|i| values.row_mut(80 + i).copy_from_slice(equal.row(i)));
    let padded = Padded::<f32>::new(&values, 1);
    let groups = Groups::new(vec![0, 70, 80, 120], (0..120).collect()).unwrap();
    let run = |settings: Settings| {
        let device = Device::Vm(Vm::new(settings));
        let plan = Plan::new(&device, Desc { cols: 70, rank: 9, tier: SKETCH, seed: 1 }).unwrap();
        let factors = plan.run(padded.view(), &groups, &Stop::default()).unwrap();
        let bits = |f: Factor| (f.jpvt, f.r.data().iter().map(|x| x.to_bits()).collect::<Vec<_>>(), f.info);
        factors.into_iter().map(bits).collect::<Vec<_>>()
    };
    let expected = run(Settings::default());
    assert_eq!(expected.iter().map(|f| f.0.len()).collect::<Vec<_>>(), [9, 9, 5]);
    for (seed, resident) in [(1, 1), (2, 3), (3, 16)] {
        let checks = ptx_vm::Checks::GLOBAL_RACES;
        assert!(run(Settings { seed: Some(seed), resident, checks }) == expected, "seed {seed}");
    }
}

#[test]
fn refusals_and_the_smallest_problems() {
    for device in kernel_devices() {
        let mut values = Draw::new(2).gaussian(6, 5);
        values.row_mut(4)[3] = f64::NAN;
        let padded = Padded::<f32>::new(&values, 1);
        let run = |rank: usize, groups: &Groups| {
            let desc = Desc { cols: 5, rank, tier: SKETCH, seed: 0 };
            Plan::new(&device, desc).unwrap().run(padded.view(), groups, &Stop::default())
        };
        let message = run(2, &Groups::all(6)).unwrap_err().to_string();
        assert_eq!(message, "qr: `w` has NaN at row 4, column 3; every entry must be finite");
        let some = Groups::new(vec![0, 0, 2], vec![1, 3]).unwrap();
        let factors = run(9, &some).unwrap();
        assert_eq!((factors[0].jpvt.len(), factors[1].jpvt.len()), (0, 2));
        assert!(run(0, &some).unwrap().iter().all(|f| f.jpvt.is_empty()));
        assert!(run(2, &Groups::new(vec![0], vec![]).unwrap()).unwrap().is_empty());
        let huge = Tier::Sketch { oversampling: usize::MAX };
        let f = factor(&device, Padded::<f32>::new(&Draw::new(2).gaussian(6, 5), 0).view(), 2, huge, &Stop::default());
        assert_eq!(f.jpvt.len(), 2);
        assert!(f.info.remaining > U);
    }
}
