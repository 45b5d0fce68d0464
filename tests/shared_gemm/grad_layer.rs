//! A layer's whole backward: the forward's kernel, the adapter's backward beside G, the input gradient onto the gate's share.

use crate::common::bounds::{backward_bounds, stored};
use crate::common::branch::{self, GATES, assert_within};
use crate::common::matrices::Draw;
use crate::common::{Padded, devices, kernel_devices};
use crate::grad_problem::rounded;
use crate::problem::{Found, Problem};
use idlora::lowrank::{self, Bias, DownProjection, Dropout, Gate, Gradients, InputGradient, Layer, Saved};
use idlora::reference::{lowrank as reference, shared_gemm};
use idlora::shared_gemm::{Addend, Desc, GradAdapter, GradOperands, Plan};
use idlora::{Device, Elem, Mat, MatRef, bf16, f16};

/// The adapter on the layer's output, for its backward.
fn adapter_of(desc: &Desc) -> lowrank::Desc {
    let Desc { rows, cols, rank, components, split, gate, .. } = *desc;
    lowrank::Desc { rows, cols, rank, components, split, gate, down: DownProjection::Gather, bias: Bias::None }
}

/// dH of what a forward has left, as a trainer computes it.
fn backward<T: Elem>(device: &Device, problem: &Problem<T>, forward: &Found<T>, g: &Padded<T>) -> Padded<T> {
    let (tokens, desc) = (g.view().rows(), problem.desc);
    let operands = problem.operands();
    let mut dx = Padded::poisoned(tokens, problem.skeleton.len(), 3);
    let mut dh = Padded::poisoned(tokens, desc.cols, 5);
    let [mut b, mut gate] =
        [&problem.b, &problem.gate].map(|of| Padded::poisoned(of.view().rows(), of.view().cols(), 0));
    let linear = desc.gate.reads_input();
    let gradients =
        Gradients { b: b.view_mut(), gate: gate.view_mut(), h_gate: linear.then(|| dh.view_mut()), accumulate: false };
    let layer = Layer { h: linear.then(|| problem.h.view()), w: None, bias: None, dropout: problem.dropout };
    let saved = Saved { x: forward.x.view(), gate: forward.a.view(), z: Some(forward.z.view()) };
    let input = InputGradient::Separate { g: g.view(), dx: dx.view_mut() };
    let parameters = operands.adapter.unwrap();
    lowrank::Plan::new(device, adapter_of(&desc))
        .unwrap()
        .backward(&parameters, &layer, saved, input, gradients)
        .unwrap();
    let operands = GradOperands {
        g: g.view(),
        w: operands.w,
        adapter: Some(GradAdapter { skeleton: &problem.skeleton, dx: dx.view() }),
        add: if linear { Addend::InPlace } else { Addend::None },
    };
    Plan::new(device, desc).unwrap().input_gradient(&operands, dh.view_mut()).unwrap();
    dh.assert_guards();
    dh
}

fn sizes(a: &Mat<f64>) -> Mat<f64> {
    let mut a = a.clone();
    a.data_mut().iter_mut().for_each(|x| *x = x.abs());
    a
}

/// dH is the layer's by the reference, from X and gate values as they were left. Bound: that of dX and of the gate's share as the
/// adapter's backward leaves them, through `|W[S]|`, and the sum's own.
fn assert_layer<T: Elem>(device: &Device, desc: Desc, tokens: usize, dropout: Option<Dropout>, seed: u64) {
    let problem = Problem::<T>::random(desc, tokens, dropout, [1, 0, 3], seed);
    let forward = problem.run(device, true).unwrap();
    let g = Padded::<T>::new(&Draw::new(seed + 1).gaussian(tokens, desc.rows), 2);
    let found = backward(device, &problem, &forward, &g).to_f64();

    let layer = problem.exact();
    let (x, a, g) = (forward.x.to_f64(), forward.a.to_f64(), g.to_f64());
    let exact = branch::Exact {
        desc: adapter_of(&desc),
        skeleton: layer.skeleton,
        b: layer.b,
        gate: layer.gate,
        scale: layer.scale,
        h: layer.h,
        w: layer.w,
        bias: layer.bias,
        y0: branch::zeros(tokens, desc.rows),
        g,
        factors: layer.factors,
    };
    let gradients =
        reference::backward(&exact.adapter(), x.as_ref(), a.as_ref(), exact.input(), exact.factors(), exact.g.as_ref());
    let bounds = backward_bounds::<T>(device, &exact, &x, &a);
    let of_dx = stored::<T>(bounds.x, &gradients.x);
    let of_share = gradients.h.as_ref().map(|share| stored::<T>(bounds.h, share));
    fn whole(exact: &branch::Exact, g: &Mat<f64>, w: &Mat<f64>, dx: &Mat<f64>, share: Option<&Mat<f64>>) -> Mat<f64> {
        let share: Option<MatRef<'_, f64>> = share.map(Mat::as_ref);
        shared_gemm::input_gradient(g.as_ref(), w.as_ref(), Some((&exact.skeleton, dx.as_ref())), share)
    }
    let expected = whole(&exact, &exact.g, &exact.w, &gradients.x, gradients.h.as_ref());
    let none = branch::zeros(tokens, desc.rows);
    let w_sizes = sizes(&exact.w);
    let passed_on = whole(&exact, &none, &w_sizes, &of_dx, of_share.as_ref());
    let mut all =
        whole(&exact, &sizes(&exact.g), &w_sizes, &sizes(&gradients.x), gradients.h.as_ref().map(sizes).as_ref());
    all.data_mut().iter_mut().zip(passed_on.data()).for_each(|(size, error)| *size += error);
    let mut bound = rounded::<T>(device, desc.rows + problem.skeleton.len(), all);
    bound.data_mut().iter_mut().zip(passed_on.data()).for_each(|(bound, error)| *bound += error);
    assert_within(&format!("{device} {:?} {desc:?}: dH of the layer", T::DTYPE), &found, &expected, &bound);
}

#[test]
fn forward_backward_and_input_gradient_are_the_layers() {
    const DROPOUT: Dropout = Dropout { probability: 0.3, seed: 5, offset: 2 };
    for device in devices().into_iter().chain(kernel_devices()) {
        for (i, gate) in GATES.into_iter().enumerate() {
            let desc = Desc { rows: 132, cols: 72, rank: 8, components: 3, split: 2, gate, bias: true };
            let dropout = i.is_multiple_of(2).then_some(DROPOUT);
            assert_layer::<bf16>(&device, desc, 70, dropout, 20 + i as u64);
            assert_layer::<f16>(&device, Desc { rows: 90, cols: 33, rank: 6, split: 3, ..desc }, 9, None, 30);
        }
        if device == Device::Cpu {
            let desc = Desc { rows: 60, cols: 21, rank: 6, components: 4, split: 2, gate: Gate::Linear, bias: false };
            assert_layer::<f32>(&device, desc, 9, Some(DROPOUT), 40);
        }
    }
}
