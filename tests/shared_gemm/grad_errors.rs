//! Every refusal of the input gradient, and that nothing was written.

use crate::common::Padded;
use crate::grad_problem::{Adds, GradProblem, desc};
use idlora::shared_gemm::{Addend, Desc, GradAdapter, GradOperands, Plan};
use idlora::{Device, MatRef, bf16};

/// The error on some operands of a layer [12, 5] with two components of rank 4.
fn refused(desc: Desc, operands: &GradOperands<'_, bf16>, shape: (usize, usize)) -> String {
    let mut dh = Padded::<bf16>::poisoned(shape.0, shape.1, 1);
    let error = Plan::new(&Device::Cpu, desc).unwrap().input_gradient(operands, dh.view_mut()).unwrap_err();
    assert!(dh.to_f64().data().iter().all(|x| x.is_nan()), "{error}: written");
    error.to_string()
}

#[test]
fn operands_that_do_not_fit() {
    let layer = desc(12, 5, 2, 4);
    let problem = GradProblem::<bf16>::random(layer, 3, Adds::Matrix, [1, 2, 3, 4, 5], 1);
    let good = problem.operands();
    let small = [bf16::ZERO; 64];
    let view = |rows, cols| MatRef::new(&small, rows, cols).unwrap();
    assert_eq!(
        refused(layer, &GradOperands { g: view(3, 11), ..good }, (3, 5)),
        "shared gemm gradient: `g` has shape [3, 11], expected shape [3, 12]"
    );
    assert!(refused(layer, &GradOperands { w: view(11, 5), ..good }, (3, 5)).contains("`w` has shape [11, 5]"));
    assert!(refused(layer, &good, (2, 5)).contains("`dh` has shape [2, 5], expected shape [3, 5]"));
    assert!(refused(layer, &good, (3, 6)).contains("`dh` has shape [3, 6], expected shape [3, 5]"));
    let add = Addend::Matrix(view(3, 4));
    let error = refused(layer, &GradOperands { add, ..good }, (3, 5));
    assert!(error.contains("`add` has shape [3, 4], expected shape [3, 5]"), "{error}");
}

#[test]
fn components_that_do_not_fit() {
    let layer = desc(12, 5, 2, 4);
    let problem = GradProblem::<bf16>::random(layer, 3, Adds::Nothing, [0; 5], 2);
    let good = problem.operands();
    let components = good.adapter.unwrap();
    let with = |adapter| refused(layer, &GradOperands { adapter: Some(adapter), ..good }, (3, 5));
    let small = [bf16::ZERO; 64];
    for (rows, cols) in [(3, 7), (2, 8)] {
        let dx = MatRef::new(&small, rows, cols).unwrap();
        let error = with(GradAdapter { dx, ..components });
        assert!(error.contains(&format!("`dx` has shape [{rows}, {cols}], expected shape [3, 8]")), "{error}");
    }
    let error = with(GradAdapter { skeleton: &components.skeleton[..7], ..components });
    assert!(error.contains("`skeleton` has length 7, expected length 8"), "{error}");
    let error = with(GradAdapter { skeleton: &[0, 1, 2, 3, 4, 5, 6, 12], ..components });
    assert!(error.contains("`skeleton` is 12 at 7, expected row numbers below 12"), "{error}");
    let error = with(GradAdapter { skeleton: &[0, 1, 2, 3, 4, 5, 6, 3], ..components });
    assert!(error.contains("`skeleton` is 3 twice"), "{error}");

    let error = refused(layer, &GradOperands { adapter: None, ..good }, (3, 5));
    assert_eq!(error, "shared gemm gradient: operand `adapter` is missing; the problem reads it");
    let error = refused(Desc::frozen(12, 5, true), &good, (3, 5));
    assert_eq!(error, "shared gemm gradient: operand `adapter` was passed, but the problem has no components");
}
