//! Running the adapter's backward and holding it against the reference.

use super::Padded;
use super::bounds::{backward_bounds, stored};
use super::branch::{Forward, Problem, assert_within, zeros};
use idlora::lowrank::{Gradients, InputGradient, Plan, Saved};
use idlora::reference::lowrank as reference;
use idlora::{Device, Elem, Mat};

/// `dY0 = G` with `dX` added at the chosen columns.
pub fn scattered(g: &Mat<f64>, dx: &Mat<f64>, skeleton: &[u32]) -> Mat<f64> {
    let mut out = g.clone();
    for t in 0..g.rows() {
        for (&column, dx) in skeleton.iter().zip(dx.row(t)) {
            out.row_mut(t)[column as usize] += dx;
        }
    }
    out
}

/// What the backward produced.
pub struct Found<T> {
    pub b: Padded<f32>,
    pub gate: Padded<f32>,
    /// `dY0` or `dX`.
    pub input: Padded<T>,
    pub h: Option<Padded<T>>,
}

/// `z` of what a forward has saved, as a kernel that redoes the sum gives it, to the bit: it rounds `d X`, then fuses. The rows
/// are padded where the number of tokens is odd.
pub fn mixed<T: Elem>(problem: &Problem<T>, forward: &Forward<T>) -> Padded<f32> {
    let (tokens, rank) = (problem.tokens(), problem.desc.rank);
    let factors = problem.dropout.map(|dropout| dropout.factors(tokens, problem.width()).unwrap());
    let mut z = Padded::poisoned(tokens, rank, tokens % 2 * 3);
    for t in 0..tokens {
        let (x, a) = (forward.x.view(), forward.a.view());
        for (j, z) in z.view_mut().row_mut(t).iter_mut().enumerate() {
            *z = a.row(t).iter().enumerate().fold(0.0f32, |sum, (i, &a)| {
                let c = i * rank + j;
                let d = factors.as_ref().map_or(1.0, |factors| factors.row(t)[c]);
                a.mul_add(d * x.row(t)[c].to_f32(), sum)
            });
        }
    }
    z
}

/// Runs the backward; `scatter` or separate; into `start` where it accumulates, else into poisoned buffers.
pub fn run<T: Elem>(
    device: &Device,
    problem: &Problem<T>,
    saved: Saved<'_, T>,
    scatter: bool,
    start: Option<(&Padded<f32>, &Padded<f32>)>,
) -> Found<T> {
    let (tokens, desc) = (problem.tokens(), problem.desc);
    let poisoned = |of: &Padded<f32>| Padded::poisoned(of.view().rows(), of.view().cols(), 3);
    let (mut b, mut gate) = match start {
        Some((b, gate)) => (b.clone(), gate.clone()),
        None => (poisoned(&problem.b), poisoned(&problem.gate)),
    };
    let mut input = if scatter { problem.g.clone() } else { Padded::poisoned(tokens, problem.width(), 2) };
    let mut h = desc.gate.reads_input().then(|| Padded::poisoned(tokens, desc.cols, 1));
    let plan = Plan::new(device, desc).unwrap();
    let gradients = Gradients {
        b: b.view_mut(),
        gate: gate.view_mut(),
        h_gate: h.as_mut().map(Padded::view_mut),
        accumulate: start.is_some(),
    };
    let to = if scatter {
        InputGradient::Scatter(input.view_mut())
    } else {
        InputGradient::Separate { g: problem.g.view(), dx: input.view_mut() }
    };
    plan.backward(&problem.parameters(), &problem.layer(), saved, to, gradients).unwrap();
    for padded in [&b, &gate] {
        padded.assert_guards();
    }
    input.assert_guards();
    h.iter().for_each(Padded::assert_guards);
    problem.g.assert_guards();
    Found { b, gate, input, h }
}

/// Every gradient is the reference's within the derived bounds, from what a forward has saved; scattered or separate, with `z` or
/// without changes nothing else; nothing outside the views is touched.
pub fn assert_backward<T: Elem>(device: &Device, problem: &Problem<T>, forward: &Forward<T>) {
    let (desc, tokens) = (problem.desc, problem.tokens());
    let what = format!("{device} {:?} {desc:?} t {tokens} {:?}", T::DTYPE, problem.dropout);
    let exact = problem.exact();
    let (x, a) = (forward.x.to_f64(), forward.a.to_f64());
    let expected =
        reference::backward(&exact.adapter(), x.as_ref(), a.as_ref(), exact.input(), exact.factors(), exact.g.as_ref());
    let bounds = backward_bounds::<T>(device, &exact, &x, &a);
    let found = run(device, problem, forward.saved(), false, None);
    assert_within(&format!("{what}: dB"), &found.b.to_f64(), &expected.b, &bounds.b);
    assert_within(&format!("{what}: gate gradient"), &found.gate.to_f64(), &expected.parameters, &bounds.gate);
    let bound = stored::<T>(bounds.x.clone(), &expected.x);
    assert_within(&format!("{what}: dX"), &found.input.to_f64(), &expected.x, &bound);
    if let (Some(h), Some(share)) = (&found.h, &expected.h) {
        let bound = stored::<T>(bounds.h, share);
        assert_within(&format!("{what}: dH"), &h.to_f64(), share, &bound);
    }

    let z = mixed(problem, forward);
    let into_g = run(device, problem, Saved { z: Some(z.view()), ..forward.saved() }, true, None);
    z.assert_guards();
    assert_eq!(into_g.b.to_f64(), found.b.to_f64(), "{what}: dB must see G before the scatter, and the same z");
    assert_eq!(into_g.gate.to_f64(), found.gate.to_f64(), "{what}");
    let expected_g = scattered(&exact.g, &expected.x, &exact.skeleton);
    let wide = scattered(&zeros(tokens, desc.rows), &bounds.x, &exact.skeleton);
    let mut bound = stored::<T>(wide.clone(), &expected_g);
    // Other columns stay to the bit.
    bound.data_mut().iter_mut().zip(wide.data()).for_each(|(b, w)| *b = if *w == 0.0 { 0.0 } else { *b });
    assert_within(&format!("{what}: dY0"), &into_g.input.to_f64(), &expected_g, &bound);
}
