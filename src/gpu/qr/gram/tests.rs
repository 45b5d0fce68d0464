//! Gram matrices against the definition in `f64`, and what the host decides.

use super::*;
use crate::gpu::qr::Factor;
use crate::gpu::vm::{Settings, Vm, machine};
use crate::mat::MatRef;
use crate::qr::{Desc, Groups, Stop, Tier};
use crate::random::{Stream, Use};
use half::{bf16, f16};
use ptx_vm::Accumulation;

fn machines() -> Vec<Vm> {
    machine(Settings::default()).map_or_else(Vec::new, |vm| vec![vm.clone(), vm.accumulating(Accumulation::Sequential)])
}

/// Rows `[count, cols + pad]`, NaN in the padding.
fn rows<T: Elem>(count: usize, cols: usize, pad: usize, mut value: impl FnMut(usize) -> f32) -> Vec<T> {
    let at = |place: usize| if place % (cols + pad) < cols { value(place / (cols + pad)) } else { f32::NAN };
    (0..count * (cols + pad)).map(at).map(T::from_f32).collect()
}

fn normal(seed: u64, scale: f32) -> impl FnMut(usize) -> f32 {
    let mut draw = Stream::new(seed, Use::Gate);
    move |_| draw.normal() as f32 * scale
}

fn problem<T: Elem>(vm: &Vm, w: MatRef<'_, T>, groups: &Groups, rank: usize) -> Problem<Vm> {
    let desc = Desc { cols: w.cols(), rank, tier: Tier::Gram, seed: 0 };
    Problem::upload(vm, &desc, &[(w, groups)], &Stop::default()).unwrap()
}

/// `ε_G` of the kernel's header.
fn epsilon(cols: usize) -> f64 {
    (2.0 * 68.0 + cols.div_ceil(64) as f64) * 0.5f64.powi(24)
}

/// Every entry, mirrored ones too, for one shape. Returns the largest error, in units of the bound.
fn check<T: Elem>(vm: &Vm, count: usize, cols: usize, pad: usize, value: impl FnMut(usize) -> f32) -> f64 {
    let data: Vec<T> = rows(count, cols, pad, value);
    let w = MatRef::with_ld(&data, count, cols, cols + pad).unwrap();
    // Two groups; rows of the second in reverse.
    let first = count / 3;
    let order: Vec<u32> = (0..first as u32).chain((first as u32..count as u32).rev()).collect();
    let groups = Groups::new(vec![0, first, first, count], order).unwrap();
    let problem = problem(vm, w, &groups, 3);
    let batches = batches(&problem.indptr, usize::MAX);
    let mut work = Workspace::new(vm, &problem, T::DTYPE, &batches).unwrap();
    work.products(vm, T::DTYPE, &problem, 0..3).unwrap();
    let sizes = [first, 0, count - first];
    let mut gram = vec![0.0f32; sizes.iter().map(|&size| size * pitch(size)).sum()];
    vm.download(OP, &work.gram, &mut gram).unwrap();
    let (mut offset, mut worst) = (0, 0.0f64);
    for (g, size) in sizes.into_iter().enumerate() {
        let unit = Scale::of(0, T::DTYPE, problem.limits[g].largest).unit;
        let wide = |i: usize| -> Vec<f64> {
            w.row(groups.group(g)[i] as usize).iter().map(|x| f64::from(x.to_f32()) * unit).collect()
        };
        let c: Vec<Vec<f64>> = (0..size).map(wide).collect();
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        for i in 0..size {
            for j in (0..size).filter(|&j| j != i) {
                let found = f64::from(gram[offset + i * pitch(size) + j]);
                let bound = epsilon(cols) * (dot(&c[i], &c[i]) * dot(&c[j], &c[j])).sqrt();
                let error = (found - dot(&c[i], &c[j])).abs();
                assert!(
                    error <= bound,
                    "{:?} {count}×{cols}: G[{i}, {j}] of group {g}: {found:e} ± {bound:e}",
                    T::DTYPE
                );
                worst = worst.max(error / bound);
            }
        }
        offset += size * pitch(size);
    }
    worst
}

/// Rows around the edges of fragments, warps' parts and blocks; columns around those of products, stages and chunks.
#[test]
fn entries_are_within_the_bound() {
    for vm in machines() {
        for (count, cols, pad) in [(2, 1, 0), (17, 15, 1), (50, 16, 8), (99, 17, 7), (100, 63, 1), (51, 65, 7)] {
            check::<f16>(&vm, count, cols, pad, normal(7, 1.0));
            check::<bf16>(&vm, count, cols, pad, normal(8, 1.0));
        }
        check::<bf16>(&vm, 193, 64, 0, normal(1, 1.0));
        check::<f16>(&vm, 196, 128, 8, normal(2, 1.0));
        check::<bf16>(&vm, 390, 130, 6, normal(3, 1.0));
        check::<f16>(&vm, 30, 200, 0, normal(4, 1.0));
        check::<f16>(&vm, 6, 1000, 0, normal(5, 1e-4));
        check::<f16>(&vm, 6, 1000, 0, normal(6, 1e4));
        for scale in [1e-36, 1e-30, 1e-4, 1e10, 1e14, 1e30, 1e36] {
            check::<bf16>(&vm, 20, 70, 0, normal(9, scale));
        }
    }
}

/// Where all products are equal, sums round to the same side again and again: a pessimist's accumulators that went on for the
/// whole of a long row would leave the bound.
#[test]
fn long_rows_are_summed_in_two_levels() {
    for vm in machines() {
        let worst = check::<bf16>(&vm, 9, 12000, 0, |i| 1.0 + (2 * i + 1) as f32 / 128.0);
        println!("largest error {worst} of the bound");
        assert!(worst < 0.5, "{worst}");
    }
}

#[test]
fn units_are_powers_of_two_above_the_longest_row() {
    for (largest, unit) in [(1.0, 0.5), (0.99, 1.0), (3.0, 0.25), (0.0, 1.0), (2f64.powi(40), 0.5f64.powi(41))] {
        let scale = Scale::of(0, Dtype::BF16, largest);
        assert_eq!(scale.unit, unit, "{largest}");
        assert!(scale.load == 1.0 && f64::from(scale.entry) == unit * unit || scale.load == unit as f32, "{largest}");
    }
    for exponent in -160..150 {
        for dtype in [Dtype::F16, Dtype::BF16] {
            let scale = Scale::of(0, dtype, 1.5 * 2f64.powi(exponent));
            assert_eq!(scale.load == 1.0, dtype == Dtype::F16 || (-17..40).contains(&exponent), "{exponent}");
            let product = f64::from(scale.load).powi(2) * f64::from(scale.entry);
            if dtype == Dtype::BF16 || (-26..30).contains(&exponent) {
                assert_eq!(product, scale.unit * scale.unit, "{exponent}");
            }
        }
    }
}

#[test]
fn batches_fit_the_workspace_and_cover_every_group() {
    // Matrices of 64, 0, 128 (pitch 16), 8, 80 floats.
    let indptr = [0, 8, 8, 16, 17, 27];
    assert_eq!(batches(&indptr, usize::MAX).first(), Some(&(0..5)));
    assert_eq!(batches(&indptr, 128), [0..3, 3..4, 4..5]);
    assert_eq!(batches(&indptr, 1), [0..1, 1..2, 2..3, 3..4, 4..5]);
    assert_eq!(
        tiles(&[0, 5, 5, 262], 0..3),
        [[0, 0, 0], [2, 0, 0], [2, 128, 0], [2, 128, 128], [2, 256, 0], [2, 256, 128], [2, 256, 256]]
    );
    assert_eq!(tiles(&[0, 5, 5, 262], 1..2), [[0u32; 3]; 0]);
}

/// The pivots, phases and `R` of a run whose Gram matrices fit a workspace.
fn run(vm: &Vm, workspace: usize) -> Vec<Factor> {
    let data: Vec<f16> = rows(90, 100, 0, normal(3, 1.0));
    let w = MatRef::new(&data, 90, 100).unwrap();
    let groups = Groups::new(vec![0, 20, 55, 55, 90], (0..90).collect()).unwrap();
    let problem = problem(vm, w, &groups, 8);
    let mut state = State::new(vm, &problem).unwrap();
    pivots::<_, f16>(vm, &problem, &mut state, workspace).unwrap();
    solve::<_, f16>(vm, &problem, &mut state, Origin::Gram).unwrap();
    state.download(vm, &problem).unwrap()
}

#[test]
fn batches_do_not_enter_the_result() {
    let Some(vm) = machines().into_iter().next() else { return };
    let whole = run(&vm, WORKSPACE);
    assert_eq!(whole.iter().map(|f| f.jpvt.len()).collect::<Vec<_>>(), [8, 8, 0, 8]);
    for workspace in [1, 1500] {
        for (a, b) in whole.iter().zip(run(&vm, workspace)) {
            assert_eq!((&a.jpvt, &a.info, a.r.data()), (&b.jpvt, &b.info, b.r.data()));
        }
    }
}
