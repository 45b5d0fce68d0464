//! `R` from given pivots, against the definition in `f64`.

use super::*;
use crate::gpu::qr::{NONE, Phase};
use crate::gpu::vm::{Settings, Vm, machine};
use crate::mat::{Mat, MatRef};
use crate::qr::{Desc, Factor, Groups, Stop, Tier};
use crate::random::{Stream, Use};
use crate::reference::qr as reference;
use half::{bf16, f16};

const U: f64 = f64::EPSILON / 2.0;

/// What a group is made of, and how many of its greedy pivots are given.
struct Case {
    rows: Mat<f64>,
    pivots: Vec<u32>,
}

fn machines() -> Vec<Vm> {
    let settings = |seed, resident| Settings { seed, resident, ..Settings::default() };
    let all = [settings(None, 4), settings(Some(1), 1), settings(Some(2), 3), settings(Some(3), 16)];
    all.into_iter().filter_map(machine).collect()
}

fn gaussian(seed: u64, rows: usize, cols: usize) -> Mat<f64> {
    let mut draw = Stream::new(seed, Use::Gate);
    let data = (0..rows * cols).map(|_| f64::from(f16::from_f64(draw.normal()))).map(|x| f64::from(bf16::from_f64(x)));
    Mat::from_vec(data.collect(), rows, cols).unwrap()
}

fn case(rows: Mat<f64>, rank: usize) -> Case {
    let pivots = reference::pivoted_qr(rows.as_ref(), rank, 0.0).jpvt.into_iter().map(|p| p as u32).collect();
    Case { rows, pivots }
}

fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// Groups in one matrix whose rows lie in reverse order, `pad` elements of NaN apart; the factors and phases that come of it.
fn solved<T: Elem>(vm: &Vm, cases: &[Case], pad: usize, origin: Origin, stop: Stop) -> (Vec<Factor>, Vec<u32>) {
    let cols = cases[0].rows.cols();
    let rows: Vec<&[f64]> = cases.iter().flat_map(|case| (0..case.rows.rows()).map(|i| case.rows.row(i))).collect();
    let padding = vec![T::from_f32(f32::NAN); pad];
    let data: Vec<T> = rows
        .iter()
        .rev()
        .flat_map(|row| row.iter().map(|&x| T::from_f32(x as f32)).chain(padding.iter().copied()))
        .collect();
    let w = MatRef::with_ld(&data, rows.len(), cols, cols + pad).unwrap();
    let mut indptr = vec![0];
    indptr.extend(cases.iter().scan(0, |end, case| {
        *end += case.rows.rows();
        Some(*end)
    }));
    let groups = Groups::new(indptr, (0..rows.len() as u32).rev().collect()).unwrap();
    let rank = cases.iter().map(|case| case.pivots.len()).max().unwrap().max(1);
    let desc = Desc { cols, rank, tier: Tier::Gram, seed: 0 };
    let problem = Problem::upload(vm, &desc, &[(w, &groups)], &stop).unwrap();
    let mut state = State::new(vm, &problem).unwrap();
    let mut jpvt = vec![NONE; cases.len() * problem.rank];
    for (case, to) in cases.iter().zip(jpvt.chunks_mut(problem.rank)) {
        to[..case.pivots.len()].copy_from_slice(&case.pivots);
    }
    let reached: Vec<u32> = cases.iter().map(|case| case.pivots.len() as u32).collect();
    vm.write(OP, &mut state.jpvt, &jpvt).unwrap();
    vm.write(OP, &mut state.reached, &reached).unwrap();
    vm.write(OP, &mut state.phase, &vec![Phase::Forced as u32; cases.len()]).unwrap();
    solve::<_, T>(vm, &problem, &mut state, origin).unwrap();
    let mut phases = vec![0; cases.len()];
    vm.download(OP, &state.phase, &mut phases).unwrap();
    (state.download(vm, &problem).unwrap(), phases)
}

/// Cholesky of exact products is off by `(n + 4)u + (j + 3)u` of `‖c_i‖‖c_p‖`, below what `tests/common/factors.rs` allows;
/// a residual norm by the margin over twice itself, and by as much for the residual formed here.
fn assert_solved(what: &str, case: &Case, f: &Factor, origin: Origin) {
    let (c, pivots) = (&case.rows, &case.pivots);
    assert_eq!((&f.jpvt, f.r.shape()), (pivots, (pivots.len(), c.rows())), "{what}");
    let terms = (c.cols() + pivots.len() + 4) as f64;
    let largest = (0..c.rows()).map(|i| norm(c.row(i))).fold(0.0, f64::max);
    for (j, &p) in pivots.iter().enumerate() {
        for i in 0..c.rows() {
            let product: f64 = (0..=j).map(|a| f.r.row(a)[i] * f.r.row(a)[p as usize]).sum();
            let exact: f64 = c.row(i).iter().zip(c.row(p as usize)).map(|(x, y)| x * y).sum();
            let bound = 4.0 * terms * U * norm(c.row(i)) * norm(c.row(p as usize));
            assert!((product - exact).abs() <= bound, "{what}: RᵀR at ({i}, pivot {j}): {product:e}, not {exact:e}");
        }
        for a in j + 1..pivots.len() {
            assert_eq!(f.r.row(a)[p as usize], 0.0, "{what}: R below the diagonal at ({a}, {j})");
        }
    }
    let chosen: Vec<usize> = pivots.iter().map(|&p| p as usize).collect();
    let relative = if origin == Origin::Gram { 0.5f64.powi(11) } else { 0.0 };
    let close = |said: f64, norm: f64| {
        (said - norm).abs() <= 24.0 * (pivots.len().max(1) as f64).sqrt() * terms * U * largest + relative * norm
    };
    for (j, &p) in chosen.iter().enumerate() {
        let left = norm(reference::residual(c.as_ref(), &chosen[..j]).row(p));
        assert!(close(f.info.residuals[j], left), "{what}: residual {j} is {:e}, not {left:e}", f.info.residuals[j]);
    }
    let rest = reference::residual(c.as_ref(), &chosen);
    let most = (0..c.rows()).filter(|i| !chosen.contains(i)).map(|i| norm(rest.row(i))).fold(0.0, f64::max);
    assert!(close(f.info.remaining, most), "{what}: remaining {:e}, not {most:e}", f.info.remaining);
}

/// Ragged groups around the edges of panels, tiles and staged columns, of every alignment; one width by several schedules.
fn solves<T: Elem>(pads: &[usize]) {
    for (cols, pad) in [1, 7, 32, 33, 65, 130].into_iter().zip(pads.iter().cycle()) {
        let shapes = [(0, 0), (1, 1), (5, 0), (31, 7), (32, 8), (33, 9), (45, 33), (70, 17)];
        // Few residuals of nearly as many pivots as columns are as good as the exact tier's.
        for (origin, most) in [(Origin::Gram, cols - 1), (Origin::Sketch, cols / 2)] {
            let cases = (0..).zip(shapes).map(|(seed, (rows, rank))| case(gaussian(seed, rows, cols), most.min(rank)));
            let cases: Vec<Case> = cases.collect();
            let mut first: Option<Vec<Vec<u64>>> = None;
            for vm in machines().into_iter().take(if cols == 65 { 4 } else { 1 }) {
                let (factors, phases) = solved::<T>(&vm, &cases, *pad, origin, Stop::default());
                assert!(phases.iter().all(|&phase| phase == Phase::Done as u32), "{cols} columns: {phases:?}");
                for (g, (case, f)) in cases.iter().zip(&factors).enumerate() {
                    assert_solved(&format!("{cols} columns, group {g}, {origin:?}"), case, f, origin);
                }
                let bits = |f: &Factor| f.r.data().iter().chain([&f.info.remaining]).map(|x| x.to_bits()).collect();
                let bits: Vec<Vec<u64>> = factors.iter().map(bits).collect();
                assert!(first.get_or_insert_with(|| bits.clone()) == &bits, "{cols} columns: bits differ");
            }
        }
    }
}

#[test]
fn factors_for_given_pivots_are_exact_f32() {
    solves::<f32>(&[0, 3]);
}

#[test]
fn factors_for_given_pivots_are_exact_f16() {
    solves::<f16>(&[0, 1, 8]);
}

#[test]
fn factors_for_given_pivots_are_exact_bf16() {
    solves::<bf16>(&[3, 0]);
}

/// Dependent pivots, pivots below the tolerance, and a residual that is rounding stay with the exact tier.
#[test]
fn what_cannot_be_trusted_is_left_alone() {
    let Some(vm) = machines().into_iter().next() else { return };
    let left = |pivots: Vec<u32>, origin, stop, rows: Mat<f64>| {
        let zero = Case { rows: Mat::zeros(3, rows.cols()).unwrap(), pivots: vec![] };
        let (factors, phases) = solved::<f32>(&vm, &[zero, Case { rows, pivots: pivots.clone() }], 1, origin, stop);
        assert_eq!((phases[0], factors[0].info.remaining), (Phase::Done as u32, 0.0), "zero rows");
        assert_eq!(factors[1].jpvt, pivots);
        phases[1] == Phase::Forced as u32
    };
    let rows = || gaussian(5, 20, 30);
    let mut twice = rows();
    let copy = twice.row(4).to_vec();
    twice.row_mut(9).copy_from_slice(&copy);
    let no = Stop::default();
    assert!(left(vec![4, 9], Origin::Sketch, no, twice.clone()), "a row twice");
    assert!(!left(vec![4, 8], Origin::Sketch, no, twice), "the copy remains");
    // Rank 5: nothing but rounding remains after five pivots.
    let (weights, basis) = (gaussian(6, 20, 5), gaussian(7, 5, 30));
    let mut flat = Mat::zeros(20, 30).unwrap();
    for i in 0..20 {
        for j in 0..30 {
            let sum: f64 = (0..5).map(|a| (weights.row(i)[a] * 4.0).round() * (basis.row(a)[j] * 4.0).round()).sum();
            flat.row_mut(i)[j] = sum;
        }
    }
    let pivots: Vec<u32> = case(flat.clone(), 5).pivots;
    for origin in [Origin::Gram, Origin::Sketch] {
        assert!(left(pivots.clone(), origin, no, flat.clone()), "{origin:?}: the remaining norm is rounding");
        assert!(!left(pivots[..4].to_vec(), origin, no, flat.clone()), "{origin:?}: four of five are fine");
    }
    // A pivot shorter than the tolerance: the exact tier would have stopped, or taken another row.
    let pivots = case(rows(), 4).pivots;
    assert!(!left(pivots.clone(), Origin::Sketch, Stop { relative: 0.5, absolute: 0.0 }, rows()));
    assert!(left(pivots, Origin::Sketch, Stop { relative: 0.99, absolute: 0.0 }, rows()));
    // Nearly dependent pivots: norms to 2^-11 of themselves, not to the exact tier's bound.
    let mut near = rows();
    let data: Vec<f64> = near.row(4).iter().zip(near.row(5)).map(|(x, y)| x + 1e-5 * y).collect();
    near.row_mut(9).copy_from_slice(&data);
    assert!(left(vec![4, 9], Origin::Sketch, no, near.clone()));
    assert!(!left(vec![4, 9], Origin::Gram, no, near));
}

/// Groups in another phase are not touched.
#[test]
fn only_forced_groups_are_solved() {
    let Some(vm) = machines().into_iter().next() else { return };
    let data: Vec<f32> = gaussian(8, 8, 6).data().iter().map(|&x| x as f32).collect();
    let groups = Groups::new(vec![0, 4, 8], (0..8).collect()).unwrap();
    let desc = Desc { cols: 6, rank: 2, tier: Tier::Gram, seed: 0 };
    let w = MatRef::new(&data, 8, 6).unwrap();
    let problem = Problem::upload(&vm, &desc, &[(w, &groups)], &Stop::default()).unwrap();
    let mut state = State::new(&vm, &problem).unwrap();
    vm.write(OP, &mut state.reached, &[1u32, 1]).unwrap();
    vm.write(OP, &mut state.phase, &[Phase::Greedy as u32, Phase::Forced as u32]).unwrap();
    vm.write(OP, &mut state.r, &[1.0f64; 16]).unwrap();
    solve::<_, f32>(&vm, &problem, &mut state, Origin::Gram).unwrap();
    let mut phases = [9u32; 2];
    vm.download(OP, &state.phase, &mut phases).unwrap();
    assert_eq!(phases, [Phase::Greedy as u32, Phase::Done as u32]);
    let factors = state.download(&vm, &problem).unwrap();
    assert!(factors[0].r.data() == [1.0; 4] && factors[1].r.data()[0] != 1.0);
}
