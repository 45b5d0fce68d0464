//! Every refusal, and that nothing was written.

use crate::common::Padded;
use crate::problem::Problem;
use idlora::lowrank::{Dropout, Gate, SavedMut};
use idlora::shared_gemm::{Desc, Operands, Plan};
use idlora::{Device, MatMut, MatRef, bf16};

const DESC: Desc = Desc { rows: 12, cols: 5, rank: 4, components: 2, split: 2, gate: Gate::Inner, bias: true };

fn problem(desc: Desc) -> Problem<bf16> {
    Problem::random(desc, 3, None, [1, 2, 3], 1)
}

/// The error of a run on some operands.
fn refused(desc: Desc, operands: &Operands<'_, bf16>, y_rows: usize) -> String {
    let mut y = Padded::<bf16>::poisoned(y_rows, 12, 1);
    let error = Plan::new(&Device::Cpu, desc).unwrap().run(operands, y.view_mut(), None).unwrap_err();
    assert!(y.to_f64().data().iter().all(|x| x.is_nan()), "{error}: written");
    error.to_string()
}

#[test]
fn problems_that_are_none() {
    let error = |desc| Plan::new(&Device::Cpu, desc).unwrap_err().to_string();
    assert_eq!(error(Desc { rows: 0, ..Desc::frozen(1, 5, false) }), "shared gemm: `rows` is 0, expected at least 1");
    assert_eq!(error(Desc { cols: 0, ..Desc::frozen(1, 5, false) }), "shared gemm: `cols` is 0, expected at least 1");
    assert_eq!(error(Desc { rank: 0, ..DESC }), "shared gemm: `rank` is 0, expected at least 1");
    assert!(error(Desc { split: 3, ..DESC }).contains("`split` is 3, expected a divisor of rank 4"));
    assert!(error(Desc { components: 4, ..DESC }).contains("`rank` is 4 with 4 components"));
}

#[test]
fn operands_that_do_not_fit() {
    let problem = problem(DESC);
    let good = problem.operands();
    let small = [bf16::ZERO; 64];
    let view = |rows, cols| MatRef::new(&small, rows, cols).unwrap();
    assert_eq!(
        refused(DESC, &Operands { h: view(3, 4), ..good }, 3),
        "shared gemm: `h` has shape [3, 4], expected shape [3, 5]"
    );
    assert!(refused(DESC, &Operands { w: view(11, 5), ..good }, 3).contains("`w` has shape [11, 5]"));
    assert!(refused(DESC, &good, 2).contains("`y` has shape [2, 12], expected shape [3, 12]"));
    assert!(refused(DESC, &Operands { bias: Some(&small[..11]), ..good }, 3).contains("`bias` has length 11"));
    assert!(refused(DESC, &Operands { bias: None, ..good }, 3).contains("operand `bias` is missing"));
    assert!(refused(DESC, &Operands { adapter: None, ..good }, 3).contains("operand `adapter` is missing"));
    let plain = Desc { bias: false, ..DESC };
    assert!(
        refused(plain, &good, 3).contains("operand `bias` was passed, but the problem says that the layer has none")
    );
    let mut adapter = good.adapter.unwrap();
    adapter.scale = f32::NAN;
    assert!(refused(DESC, &Operands { adapter: Some(adapter), ..good }, 3).contains("`scale` is NaN"));
    let dropout = Some(Dropout { probability: 1.0, seed: 0, offset: 0 });
    assert!(refused(DESC, &Operands { dropout, ..good }, 3).contains("`dropout probability` is 1"));
}

#[test]
fn what_belongs_to_components_is_refused_without() {
    let problem = problem(DESC);
    let good = problem.operands();
    let desc = Desc::frozen(12, 5, true);
    assert!(refused(desc, &good, 3).contains("operand `adapter` was passed, but the problem has no components"));
    let dropout = Some(Dropout { probability: 0.5, seed: 0, offset: 0 });
    let error = refused(desc, &Operands { adapter: None, dropout, ..good }, 3);
    assert!(error.contains("operand `dropout` was passed"), "{error}");
}

#[test]
fn buffers_for_the_backward_must_fit() {
    let problem = problem(DESC);
    let mut y = Padded::<bf16>::poisoned(3, 12, 0);
    let (mut x, mut a) = ([bf16::ZERO; 24], [0.0f32; 9]);
    let saved = SavedMut { x: MatMut::new(&mut x, 3, 8).unwrap(), gate: MatMut::new(&mut a, 3, 3).unwrap(), z: None };
    let plan = Plan::new(&Device::Cpu, DESC).unwrap();
    let error = plan.run(&problem.operands(), y.view_mut(), Some(saved)).unwrap_err().to_string();
    assert_eq!(error, "shared gemm: `saved gate` has shape [3, 3], expected shape [3, 2]");
}

/// A kernel's block has room for so many components.
#[test]
fn more_components_than_a_device_takes() {
    for device in crate::common::kernel_devices() {
        let desc = Desc { rows: 800, cols: 1, rank: 1, components: 769, split: 1, gate: Gate::Static, bias: false };
        let error = problem(desc).run(&device, false).map(|_| ()).unwrap_err().to_string();
        assert_eq!(error, "shared gemm: 769 components; the kernel takes at most 768");
    }
}
