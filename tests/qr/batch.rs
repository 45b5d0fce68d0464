//! Truncated pivoted QR of batches: many matrices at once, and blocks that share out groups, to the bit.

use crate::common::Padded;
use crate::common::factors::{TIERS, assert_factors, assert_greedy, cases, rounding};
use crate::common::matrices::{Draw, zoo};
use idlora::qr::{Desc, Factor, Groups, Plan, Stop};
use idlora::{Elem, Mat, bf16, f16};

fn assert_same(what: &str, found: &[Factor], expected: &[Factor]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let bits = |f: &Factor| f.r.data().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    for (g, (a, b)) in found.iter().zip(expected).enumerate() {
        assert_eq!((&a.jpvt, &a.info, a.r.shape()), (&b.jpvt, &b.info, b.r.shape()), "{what}, group {g}");
        assert!(bits(a) == bits(b), "{what}, group {g}: R differs");
    }
}

/// Matrices of one length of rows, each with its own padding and its own groups: none, empty ones, all rows, rows in
/// random order more than once.
fn batch<T: Elem>() -> Vec<(Padded<T>, Groups)> {
    let cols = 41;
    let draw = &mut Draw::new(15);
    let mut some = |rows: usize, indptr: Vec<usize>| {
        let count = indptr[indptr.len() - 1];
        Groups::new(indptr, (0..count).map(|_| draw.below(rows) as u32).collect()).unwrap()
    };
    let groups = [
        some(30, vec![0, 0, 50, 50, 75, 76, 76]),
        Groups::all(17),
        Groups::new(vec![0], vec![]).unwrap(),
        some(9, vec![0, 4, 9, 40]),
    ];
    let zoo = |rows: usize, name: &str| zoo(3, rows, cols).into_iter().find(|(n, _)| *n == name).unwrap().1;
    let values =
        [Draw::new(1).gaussian(30, cols), zoo(17, "exponential"), Draw::new(2).gaussian(3, cols), zoo(9, "duplicated")];
    values.iter().zip(groups).enumerate().map(|(pad, (w, groups))| (Padded::new(w, pad), groups)).collect()
}

fn a_batch_is_one_by_one<T: Elem>() {
    let batch = batch::<T>();
    for (device, tier) in cases(&TIERS) {
        let plan = Plan::new(&device, Desc { cols: 41, rank: 7, tier, seed: 5 }).unwrap();
        let stop = Stop { absolute: 0.0, relative: 1e-6 };
        let views: Vec<_> = batch.iter().map(|(w, groups)| (w.view(), groups)).collect();
        let many = plan.run_many(&views, &stop).unwrap();
        assert_eq!(many.len(), batch.len());
        for (m, (found, (w, groups))) in many.iter().zip(&batch).enumerate() {
            let what = format!("{device} {tier:?} matrix {m}");
            assert_same(&what, found, &plan.run(w.view(), groups, &stop).unwrap());
            for (g, f) in found.iter().enumerate() {
                let rows = groups.group(g).iter().flat_map(|&i| w.to_f64().row(i as usize).to_vec()).collect();
                let c = Mat::from_vec(rows, groups.group(g).len(), 41).unwrap();
                let tolerance = rounding(&c, 7).max(1e-6 * crate::common::factors::largest(&c));
                assert_greedy(&what, &c, f, 7, tolerance, tier);
                assert_factors(&what, &c, f);
            }
        }
    }
}

#[test]
fn a_batch_is_its_matrices_one_by_one() {
    a_batch_is_one_by_one::<f32>();
    a_batch_is_one_by_one::<f16>();
    a_batch_is_one_by_one::<bf16>();
}

#[cfg(feature = "vm")]
mod machines {
    use super::*;
    use idlora::Device;
    use idlora::vm::{Settings, Vm};
    use ptx_vm::Checks;

    #[test]
    fn a_batch_is_one_launch() {
        for device in crate::common::kernel_devices() {
            let Device::Vm(vm) = &device else { continue };
            let batch = batch::<f32>();
            let plan = Plan::new(&device, Desc { cols: 41, rank: 3, tier: idlora::qr::Tier::Exact, seed: 5 }).unwrap();
            vm.take_launches();
            plan.run_many(&batch.iter().map(|(w, groups)| (w.view(), groups)).collect::<Vec<_>>(), &Stop::default())
                .unwrap();
            let launches: Vec<&str> = vm.take_launches().iter().map(|launch| launch.kernel).collect();
            assert_eq!(launches, ["norm_row_squares", "qr_exact"]);
        }
    }

    /// Teams of one, two and five blocks, more teams than one, in any order of blocks, warps and lanes: the same bits, and
    /// no race between blocks. Rows that fall to their rounding, so that rows are computed anew and leaders turn
    /// out to be rounding; and rows longer than a slice of shared memory.
    #[test]
    fn the_same_bits_for_every_schedule_and_number_of_blocks() {
        if crate::common::kernel_devices().is_empty() {
            return;
        }
        let falling = zoo(7, 150, 40).into_iter().filter(|(name, _)| ["exponential", "rank-deficient"].contains(name));
        let mut problems: Vec<(Mat<f64>, Groups, usize)> = falling
            .map(|(_, w)| {
                let rows = (0..w.rows() as u32).rev().collect();
                let groups = Groups::new(vec![0, 0, w.rows() - 20, w.rows() - 7, w.rows()], rows).unwrap();
                (w, groups, 9)
            })
            .collect();
        problems.push((Draw::new(9).gaussian(34, 4100), Groups::all(34), 2));
        assert_eq!(problems.len(), 3);
        for (w, groups, rank) in problems {
            let w = Padded::<bf16>::new(&w, 3);
            let run = |settings: Settings| {
                let device = Device::Vm(Vm::new(settings));
                let plan =
                    Plan::new(&device, Desc { cols: w.view().cols(), rank, tier: idlora::qr::Tier::Exact, seed: 1 })
                        .unwrap();
                plan.run(w.view(), &groups, &Stop::default()).unwrap()
            };
            let expected = run(Settings::default());
            for resident in [1, 2, 5] {
                for seed in 1..=3 {
                    let found = run(Settings { checks: Checks::GLOBAL_RACES, seed: Some(seed), resident });
                    assert_same(&format!("{resident} resident, seed {seed}"), &found, &expected);
                }
            }
        }
    }
}
