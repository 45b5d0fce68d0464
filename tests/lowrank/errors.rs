//! Bad input to the adapter branch: every refusal names the operand, what would do and what was found, and writes nothing.

use crate::common::branch::Problem;
use crate::common::{Padded, devices};
use idlora::lowrank::{
    Bias, Desc, DownProjection, Dropout, Gate, Gradients, InputGradient, Layer, Output, Parameters, Plan, Saved,
    SavedMut,
};
use idlora::{Error, Mat, MatRef, bf16};

const TOKENS: usize = 5;

fn desc() -> Desc {
    let (gate, down, bias) = (Gate::Inner, DownProjection::Gather, Bias::None);
    Desc { rows: 24, cols: 7, rank: 4, components: 3, split: 2, gate, down, bias }
}

/// Every part of the message.
fn assert_says(error: &Error, parts: &[&str]) {
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "`{message}` does not say `{part}`");
    }
}

#[test]
fn impossible_problems_are_refused() {
    for device in devices() {
        let refused = |desc: Desc, parts: &[&str]| {
            let error = Plan::new(&device, desc).unwrap_err();
            assert!(matches!(error, Error::Parameter { .. }), "{error:?}");
            assert_says(&error, parts);
        };
        refused(Desc { rows: 0, ..desc() }, &["lowrank", "`rows` is 0", "at least 1"]);
        refused(Desc { cols: 0, ..desc() }, &["`cols` is 0"]);
        refused(Desc { rank: 0, ..desc() }, &["`rank` is 0"]);
        refused(Desc { components: 0, ..desc() }, &["`components` is 0"]);
        refused(Desc { split: 0, ..desc() }, &["`split` is 0"]);
        refused(Desc { split: 3, ..desc() }, &["`split` is 3", "divisor of rank 4 and of rows 24"]);
        refused(Desc { rows: 25, ..desc() }, &["`split` is 2", "rows 25"]);
        refused(Desc { components: 7, ..desc() }, &["`rank` is 4 with 7 components", "at most rows = 24"]);
        refused(Desc { components: usize::MAX, ..desc() }, &["components", "at most rows = 24"]);
        refused(Desc { rows: 1 << 33, ..desc() }, &["`rows` is 8589934592", "at most 4294967295"]);
    }
}

/// Runs the forward with one thing changed, and checks that Y0 stays.
fn forward_refuses(
    desc: Desc,
    change: impl for<'a> Fn(&'a Problem<bf16>, &mut Parameters<'a>, &mut Layer<'a, bf16>),
    parts: &[&str],
) {
    for device in devices() {
        let problem = Problem::<bf16>::random(desc, TOKENS, None, 1);
        let (mut parameters, mut layer) = (problem.parameters(), problem.layer());
        change(&problem, &mut parameters, &mut layer);
        let mut y = problem.y0.clone();
        let plan = Plan::new(&device, desc).unwrap();
        let error = plan.forward(&parameters, &layer, Output::InPlace(y.view_mut()), None).unwrap_err();
        assert_says(&error, parts);
        assert_says(&error, &["lowrank forward"]);
        assert_eq!(y.to_f64(), problem.y0.to_f64());
    }
}

#[test]
fn bad_skeletons_are_refused() {
    let cases: [(&'static [u32], &[&str]); 3] = [
        (&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], &["`skeleton` has length 11", "expected length 12"]),
        (&[0, 1, 2, 3, 4, 24, 6, 7, 8, 9, 10, 11], &["`skeleton` is 24 at 5", "below 24"]),
        (&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 3], &["`skeleton` is 3 twice", "distinct"]),
    ];
    for (skeleton, parts) in cases {
        forward_refuses(desc(), |_, parameters, _| parameters.skeleton = skeleton, parts);
    }
}

#[test]
fn bad_parameters_are_refused() {
    forward_refuses(desc(), |p, q, _| q.b = p.b.view().row_range(0..11), &["`b` has shape [11, 2]", "[12, 2]"]);
    forward_refuses(desc(), |p, q, _| q.gate = p.b.view().row_range(0..1), &["`gate` has shape [1, 2]", "[1, 4]"]);
    for scale in [f32::NAN, f32::INFINITY] {
        forward_refuses(desc(), |_, q, _| q.scale = scale, &["`scale` is", "finite"]);
    }
    let linear = Desc { gate: Gate::Linear, ..desc() };
    forward_refuses(linear, |p, q, _| q.gate = p.gate.view().row_range(0..2), &["`gate` has shape [2, 7]", "[3, 7]"]);
}

#[test]
fn missing_and_misshapen_operands_are_refused() {
    for gate in [Gate::Linear, Gate::LinearSoftmax] {
        let linear = Desc { gate, ..desc() };
        forward_refuses(linear, |_, _, layer| layer.h = None, &["operand `h` is missing", "linear gate"]);
    }
    let gemm = Desc { down: DownProjection::Gemm, ..desc() };
    forward_refuses(gemm, |_, _, layer| layer.h = None, &["operand `h` is missing", "down-projection reads H"]);
    forward_refuses(gemm, |_, _, layer| layer.w = None, &["operand `w` is missing", "W[S]"]);
    forward_refuses(gemm, |p, _, l| l.h = Some(p.h.view().row_range(0..4)), &["`h` has shape [4, 7]", "[5, 7]"]);
    forward_refuses(gemm, |p, _, l| l.w = Some(p.w.view().row_range(0..9)), &["`w` has shape [9, 7]", "[24, 7]"]);
    for bias in [Bias::Included, Bias::Separate] {
        let biased = Desc { bias, ..desc() };
        forward_refuses(biased, |_, _, layer| layer.bias = None, &["operand `bias` is missing"]);
        forward_refuses(biased, |p, _, l| l.bias = Some(&p.bias[..3]), &["`bias` has length 3", "length 24"]);
    }
    forward_refuses(desc(), |p, _, l| l.bias = Some(&p.bias), &["operand `bias` was passed", "has none"]);
}

#[test]
fn bad_dropout_is_refused() {
    for probability in [1.0, -0.1, f32::NAN, 2.0] {
        let dropout = Dropout { probability, seed: 0, offset: 0 };
        forward_refuses(desc(), |_, _, l| l.dropout = Some(dropout), &["`dropout probability` is", "[0, 1)"]);
        assert_says(&dropout.factors(2, 2).unwrap_err(), &["[0, 1)"]);
    }
    let late = Dropout { probability: 0.5, seed: 0, offset: u64::MAX - 3 };
    forward_refuses(desc(), |_, _, l| l.dropout = Some(late), &["`dropout offset` is", "5 tokens below 2^64"]);
    let huge = Dropout { offset: 0, ..late }.factors(usize::MAX / 8, 16).unwrap_err();
    assert!(matches!(huge, Error::OutOfMemory { .. }), "{huge:?}");
}

#[test]
fn outputs_of_the_wrong_shape_are_refused() {
    for device in devices() {
        let problem = Problem::<bf16>::random(desc(), TOKENS, None, 2);
        let plan = Plan::new(&device, desc()).unwrap();
        let run = |output: Output<'_, bf16>, saved: Option<SavedMut<'_, bf16>>| {
            plan.forward(&problem.parameters(), &problem.layer(), output, saved).unwrap_err()
        };
        let poisoned = Padded::<bf16>::poisoned;
        let mut narrow = poisoned(TOKENS, 23, 0);
        assert_says(&run(Output::InPlace(narrow.view_mut()), None), &["`y` has shape [5, 23]", "[5, 24]"]);
        let mut short = poisoned(4, 24, 0);
        let output = Output::OutOfPlace { y0: problem.y0.view(), y: short.view_mut() };
        assert_says(&run(output, None), &["`y` has shape [4, 24]", "[5, 24]"]);
        let mut y = poisoned(TOKENS, 24, 0);
        let output = Output::OutOfPlace { y0: narrow.view(), y: y.view_mut() };
        assert_says(&run(output, None), &["`y0` has shape [5, 23]", "[5, 24]"]);

        let (mut x, mut gate) = (poisoned(TOKENS, 11, 0), Padded::<f32>::poisoned(TOKENS, 3, 0));
        let saved = SavedMut { x: x.view_mut(), gate: gate.view_mut(), z: None };
        assert_says(&run(Output::InPlace(y.view_mut()), Some(saved)), &["`saved x` has shape [5, 11]", "[5, 12]"]);
        let (mut x, mut gate) = (poisoned(TOKENS, 12, 0), Padded::<f32>::poisoned(4, 3, 0));
        let saved = SavedMut { x: x.view_mut(), gate: gate.view_mut(), z: None };
        assert_says(&run(Output::InPlace(y.view_mut()), Some(saved)), &["`saved gate` has shape [4, 3]", "[5, 3]"]);
        assert!(y.to_f64().data().iter().all(|x| x.is_nan()), "nothing was written");
    }
}

/// Buffers of the backward, each of which a case may replace.
struct Backward {
    g: Padded<bf16>,
    x: Padded<bf16>,
    a: Padded<f32>,
    dx: Option<Padded<bf16>>,
    b: Padded<f32>,
    gate: Padded<f32>,
    h_gate: Option<Padded<bf16>>,
    with_h: bool,
    dropout: Option<Dropout>,
}

fn backward_refuses(desc: Desc, change: impl Fn(&mut Backward), parts: &[&str]) {
    for device in devices() {
        let problem = Problem::<bf16>::random(desc, TOKENS, None, 3);
        let forward = problem.forward(&device, true);
        let mut buffers = Backward {
            g: problem.g.clone(),
            x: forward.x,
            a: forward.a,
            dx: None,
            b: Padded::poisoned(12, 2, 1),
            gate: Padded::poisoned(problem.gate.view().rows(), problem.gate.view().cols(), 0),
            h_gate: None,
            with_h: true,
            dropout: None,
        };
        change(&mut buffers);
        let g = buffers.g.clone();
        let input = match &mut buffers.dx {
            None => InputGradient::Scatter(buffers.g.view_mut()),
            Some(dx) => InputGradient::Separate { g: buffers.g.view(), dx: dx.view_mut() },
        };
        let gradients = Gradients {
            b: buffers.b.view_mut(),
            gate: buffers.gate.view_mut(),
            h_gate: buffers.h_gate.as_mut().map(Padded::view_mut),
            accumulate: false,
        };
        let layer = Layer {
            h: if buffers.with_h { problem.layer().h } else { None },
            dropout: buffers.dropout,
            ..problem.layer()
        };
        let saved = Saved { x: buffers.x.view(), gate: buffers.a.view(), z: None };
        let plan = Plan::new(&device, desc).unwrap();
        let error = plan.backward(&problem.parameters(), &layer, saved, input, gradients).unwrap_err();
        assert_says(&error, parts);
        assert_says(&error, &["lowrank backward"]);
        assert_eq!(buffers.g.to_f64(), g.to_f64());
        assert!(buffers.b.to_f64().data().iter().all(|x| x.is_nan()), "nothing was written");
    }
}

#[test]
fn the_backward_refuses_what_does_not_fit() {
    let linear = Desc { gate: Gate::Linear, ..desc() };
    backward_refuses(
        desc(),
        |b| b.g = Padded::new(&Mat::zeros(5, 25).unwrap(), 0),
        &["`g` has shape [5, 25]", "[5, 24]"],
    );
    let dx = |rows, cols| move |b: &mut Backward| b.dx = Some(Padded::poisoned(rows, cols, 0));
    backward_refuses(desc(), dx(5, 11), &["`dx` has shape [5, 11]", "[5, 12]"]);
    backward_refuses(desc(), dx(6, 12), &["`dx` has shape [6, 12]", "[5, 12]"]);
    backward_refuses(desc(), |b| b.x = Padded::poisoned(4, 12, 0), &["`saved x` has shape [4, 12]", "[5, 12]"]);
    backward_refuses(desc(), |b| b.a = Padded::poisoned(5, 4, 0), &["`saved gate` has shape [5, 4]", "[5, 3]"]);
    backward_refuses(desc(), |b| b.b = Padded::poisoned(12, 3, 0), &["`gradient b` has shape [12, 3]", "[12, 2]"]);
    backward_refuses(desc(), |b| b.gate = Padded::poisoned(1, 3, 0), &["`gradient gate` has shape [1, 3]", "[1, 4]"]);
    backward_refuses(linear, |b| b.with_h = false, &["operand `h` is missing", "linear gate"]);
    let share = |b: &mut Backward| b.h_gate = Some(Padded::poisoned(5, 8, 0));
    backward_refuses(linear, share, &["`gradient h_gate` has shape [5, 8]", "[5, 7]"]);
    backward_refuses(desc(), share, &["operand `gradient h_gate` was passed", "Inner does not read H"]);
    let certain = Dropout { probability: 1.0, seed: 0, offset: 0 };
    backward_refuses(desc(), |b| b.dropout = Some(certain), &["`dropout probability` is 1"]);
}

/// H and W that a variant does not read are not looked at, so that one call site serves every gate.
#[test]
fn superfluous_inputs_are_ignored() {
    for device in devices() {
        let problem = Problem::<bf16>::random(desc(), TOKENS, None, 4);
        let expected = problem.forward(&device, true).y.to_f64();
        let odd = Mat::from_vec(vec![bf16::NAN; 6], 2, 3).unwrap();
        let layer = Layer { h: Some(odd.as_ref()), w: Some(odd.as_ref()), ..problem.layer() };
        let mut y = problem.y0.clone();
        let plan = Plan::new(&device, desc()).unwrap();
        plan.forward(&problem.parameters(), &layer, Output::InPlace(y.view_mut()), None).unwrap();
        assert_eq!(y.to_f64(), expected);
    }
}

#[test]
fn merging_refuses_a_weight_of_the_wrong_shape() {
    for device in devices() {
        let desc = Desc { gate: Gate::Static, ..desc() };
        let problem = Problem::<bf16>::random(desc, TOKENS, None, 5);
        let mut w = Padded::<bf16>::poisoned(24, 8, 0);
        let error = idlora::lowrank::merge(&device, &desc, &problem.parameters(), w.view_mut()).unwrap_err();
        assert_says(&error, &["lowrank merge", "`w` has shape [24, 8]", "[24, 7]"]);
        let duplicated = [0u32; 12];
        let parameters = Parameters { skeleton: &duplicated, ..problem.parameters() };
        let error = idlora::lowrank::unmerge(&device, &desc, &parameters, w.view_mut()).unwrap_err();
        assert_says(&error, &["lowrank unmerge", "`skeleton` is 0 twice"]);
        let empty: MatRef<'_, f32> = MatRef::new(&[], 0, 2).unwrap();
        let parameters = Parameters { b: empty, ..problem.parameters() };
        let error = idlora::lowrank::merge(&device, &desc, &parameters, w.view_mut()).unwrap_err();
        assert_says(&error, &["`b` has shape [0, 2]", "[12, 2]"]);
    }
}
