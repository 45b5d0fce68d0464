//! Truncated pivoted QR: every refusal and its message.

use crate::common::factors::{KERNEL_TIERS, TIERS};
use crate::common::matrices::Draw;
use crate::common::{Padded, devices, kernel_devices};
use idlora::qr::{Desc, Groups, Plan, Stop, Tier};
use idlora::{MatRef, bf16};

#[test]
fn refusals_say_what_is_wrong() {
    let w = Draw::new(1).gaussian(4, 3);
    let padded = Padded::<f32>::new(&w, 0);
    let desc = Desc { cols: 3, rank: 2, tier: Tier::Gram, seed: 0 };
    let kernel = kernel_devices().into_iter().map(|device| (device, KERNEL_TIERS));
    for (device, tiers) in devices().into_iter().map(|device| (device, &TIERS[..])).chain(kernel) {
        let message = |desc: Desc, groups: Groups, stop: Stop| {
            Plan::new(&device, desc).and_then(|plan| plan.run(padded.view(), &groups, &stop)).unwrap_err().to_string()
        };
        let ok = Stop::default();
        assert_eq!(message(Desc { cols: 0, ..desc }, Groups::all(4), ok), "qr: `cols` is 0, expected at least 1");
        assert_eq!(message(Desc { cols: 5, ..desc }, Groups::all(4), ok), "qr: `w` has 3 columns, expected 5 columns");
        assert_eq!(message(desc, Groups::all(5), ok), "qr: `groups` is row 4, expected row numbers below 4");
        assert_eq!(
            message(desc, Groups::all(4), Stop { absolute: -1.0, relative: 0.0 }),
            "qr: `absolute` is -1, expected a tolerance of at least 0"
        );
        assert_eq!(
            message(desc, Groups::all(4), Stop { absolute: 0.0, relative: f64::NAN }),
            "qr: `relative` is NaN, expected a tolerance of at least 0"
        );
        for &tier in tiers {
            for (value, name) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf")] {
                let mut bad = w.clone();
                bad.row_mut(2)[1] = value;
                let bad = Padded::<bf16>::new(&bad, 2);
                let plan = Plan::new(&device, Desc { tier, ..desc }).unwrap();
                let run = |rows: Vec<u32>| plan.run(bad.view(), &Groups::new(vec![0, rows.len()], rows).unwrap(), &ok);
                assert_eq!(
                    run(vec![3, 2, 0]).unwrap_err().to_string(),
                    format!("qr: `w` has {name} at row 2, column 1; every entry must be finite")
                );
                assert!(run(vec![3, 1, 0]).is_ok(), "rows outside the groups do not matter");
                let (all, three) = (Groups::all(4), Groups::new(vec![0, 0, 3], vec![3, 2, 0]).unwrap());
                let good = Padded::<bf16>::new(&w, 1);
                let batch = [(good.view(), &all), (bad.view(), &three), (bad.view(), &all)];
                assert_eq!(
                    plan.run_many(&batch, &ok).unwrap_err().to_string(),
                    format!("qr: `w[1]` has {name} at row 2, column 1; every entry must be finite")
                );
            }
        }
        let (plan, all, short) = (Plan::new(&device, desc).unwrap(), Groups::all(4), Groups::all(5));
        let (w, narrow) = (padded.view(), MatRef::with_ld(padded.view().data(), 3, 2, 3).unwrap());
        let many = |other: (MatRef<'_, f32>, &Groups)| plan.run_many(&[(w, &all), other], &ok).unwrap_err().to_string();
        assert_eq!(many((narrow, &all)), "qr: `w` has 2 columns in w[1], expected 3 columns");
        assert_eq!(many((w, &short)), "qr: `groups` is row 4 in w[1], expected row numbers below 4");
        let nothing: [(MatRef<'_, f32>, &Groups); 0] = [];
        assert!(plan.run_many(&nothing, &ok).unwrap().is_empty(), "a batch of nothing");
        let none =
            Plan::new(&device, Desc { rank: 0, ..desc }).unwrap().run(padded.view(), &Groups::all(4), &ok).unwrap();
        assert!(none[0].jpvt.is_empty() && none[0].info.remaining > 0.0, "rank 0 is legal");
    }
    let groups = |indptr: Vec<usize>| Groups::new(indptr, vec![0; 3]).unwrap_err().to_string();
    assert_eq!(groups(vec![]), "qr: `indptr` is empty, expected a list that starts with 0");
    assert_eq!(groups(vec![1, 3]), "qr: `indptr` is [1, …], expected a list that starts with 0");
    assert_eq!(
        groups(vec![0, 2, 1, 3]),
        "qr: `indptr` is falling from 2 to 1 at entry 2, expected a list that never falls"
    );
    assert_eq!(groups(vec![0, 2]), "qr: `indptr` is […, 2], expected a list that ends with 3, the number of rows");
    assert_eq!(
        Groups::from_labels(&[0, 2, 1], 2).unwrap_err().to_string(),
        "qr: `labels` is 2 at position 1, expected labels below 2, the number of groups"
    );
    let grouped = Groups::from_labels(&[1, 0, 1, 3], 4).unwrap();
    let rows: Vec<&[u32]> = (0..grouped.len()).map(|g| grouped.group(g)).collect();
    assert_eq!(rows, [&[1u32][..], &[0, 2], &[], &[3]]);
    assert!(Groups::new(vec![0], vec![]).unwrap().is_empty());
}
