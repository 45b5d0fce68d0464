//! What [`launch`] is given and the host's backward never gives it: operands anywhere in their buffers, several modules.

use super::*;
use crate::device::Device;
use crate::elem::Dtype;
use crate::gpu::vm::{Settings, Vm, machine};
use crate::lowrank as public;
use crate::lowrank::{Bias, DownProjection, Dropout, Gate};
use crate::mat::{MatMut, MatRef};
use bytemuck::Pod;
use half::bf16;
use ptx_vm::Checks;

const DESC: Desc = Desc {
    rows: 70,
    cols: 20,
    rank: 6,
    components: 2,
    split: 2,
    gate: Gate::LinearSoftmax,
    down: DownProjection::Gather,
    bias: Bias::None,
};

/// Operand `i` of a module: as many NaN as it starts behind, then values between -1 and 1.
fn values(start: usize, len: usize, seed: usize) -> Vec<f32> {
    let value = |at: usize| ((at * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0;
    std::iter::repeat_n(f32::NAN, start).chain((0..len).map(value)).collect()
}

fn narrow(values: &[f32]) -> Vec<bf16> {
    values.iter().map(|&x| bf16::from_f32(x)).collect()
}

fn skeleton(module: usize) -> Vec<u32> {
    (0..12).map(|i| ((i * 41 + module * 7) % 70) as u32).collect()
}

/// How a module of a group differs from the others.
#[derive(Clone, Copy)]
struct Kind {
    module: usize,
    scatter: bool,
    accumulate: bool,
    dropout: Option<Dropout>,
    z: bool,
}

impl Kind {
    /// All mixed, each with a period of its own.
    fn of(module: usize, z: bool) -> Self {
        let dropout = Dropout { probability: 0.25, seed: 3 + module as u64, offset: 5 * module as u64 };
        let dropout = (module % 4 < 2).then_some(dropout);
        Self { module, scatter: module % 2 == 1, accumulate: module % 3 == 1, dropout, z }
    }

    /// Where an operand starts in its buffer.
    fn start(&self, operand: usize) -> usize {
        (operand * 5 + self.module * 3) % 13 + 1
    }

    fn scale(&self) -> f32 {
        0.5 + self.module as f32
    }
}

/// Elements of g, x, h, dX and the share of dH (bf16), and of a, b, gate, z, dB and the gate's gradient (f32).
fn sizes(desc: &Desc, tokens: usize) -> [usize; 11] {
    let Desc { rows, cols, rank, components, split, gate, .. } = *desc;
    let (gate_rows, gate_cols) = gate.parameter_shape(rank, components, cols);
    let (b, gate, x) = (rows / split * (rank / split), gate_rows * gate_cols, tokens * components * rank);
    [tokens * rows, x, tokens * cols, x, tokens * cols, tokens * components, b, gate, tokens * rank, b, gate]
}

/// A module on the device. What is read and what is written both lie behind NaN.
struct There {
    kind: Kind,
    buffers: Vec<<Vm as Gpu>::Buffer>,
    skeleton: <Vm as Gpu>::Buffer,
}

/// What is written, and z, which is not even where premix runs.
const OUTPUTS: [usize; 6] = [0, 3, 4, 8, 9, 10];

impl There {
    fn new(vm: &Vm, desc: &Desc, tokens: usize, kind: Kind) -> Self {
        let upload = |(i, len): (usize, usize)| {
            let values = values(kind.start(i), len, i + 13 * kind.module);
            if i < 5 {
                vm.upload(BACKWARD, "elements", &narrow(&values)).unwrap()
            } else {
                vm.upload(BACKWARD, "floats", &values).unwrap()
            }
        };
        let buffers = sizes(desc, tokens).into_iter().enumerate().map(upload).collect();
        let chosen = [&[u32::MAX][..], &skeleton(kind.module)].concat();
        Self { kind, buffers, skeleton: vm.upload(BACKWARD, "skeleton", &chosen).unwrap() }
    }

    fn module(&self, vm: &Vm, desc: &Desc) -> BackwardModule<'_> {
        let Desc { rows, cols, rank, components, split, gate, .. } = *desc;
        let (width, (_, gate_cols)) = (components * rank, gate.parameter_shape(rank, components, cols));
        let address = |i: usize| {
            let bytes = if i < 5 { 2 } else { 4 };
            vm.address(&self.buffers[i]) + (self.kind.start(i) * bytes) as u64
        };
        let at = |i, ld| View::at(address(i), ld);
        let to = |i, ld| ViewMut::at(address(i), ld);
        let Kind { scatter, accumulate, dropout, z, .. } = self.kind;
        BackwardModule {
            operands: Operands {
                skeleton: View::at(vm.address(&self.skeleton) + 4, 0),
                b: at(6, rank / split),
                gate: at(7, gate_cols),
                scale: self.kind.scale(),
                h: gate.reads_input().then(|| at(2, cols)),
                w: None,
                bias: None,
                dropout,
            },
            saved: Saved { x: at(1, width), gate: at(5, components), z: z.then(|| at(8, rank)) },
            input: if scatter {
                Input::Scatter(to(0, rows))
            } else {
                Input::Separate { g: at(0, rows), dx: to(3, width) }
            },
            gradients: Gradients {
                b: to(9, rank / split),
                gate: to(10, gate_cols),
                h_gate: gate.reads_input().then(|| to(4, cols)),
                accumulate,
            },
        }
    }

    /// Everything that is written, or may not be, with what lies before it.
    fn written(&self, vm: &Vm, desc: &Desc, tokens: usize) -> Vec<Vec<u8>> {
        let fetch = |i: usize| {
            let len = self.kind.start(i) + sizes(desc, tokens)[i];
            let mut bytes = vec![0; len * if i < 5 { 2 } else { 4 }];
            vm.download(BACKWARD, &self.buffers[i], &mut bytes).unwrap();
            bytes
        };
        OUTPUTS.map(fetch).to_vec()
    }
}

/// Runs a group of new modules, in a scratch that holds nothing, and returns what each has written and how many launches it took.
fn run(vm: &Vm, desc: &Desc, tokens: usize, kinds: &[Kind]) -> (Vec<Vec<Vec<u8>>>, usize) {
    let problem = Problem { desc: *desc, dtype: Dtype::BF16, tokens };
    let there: Vec<There> = kinds.iter().map(|&kind| There::new(vm, desc, tokens, kind)).collect();
    let modules: Vec<BackwardModule<'_>> = there.iter().map(|there| there.module(vm, desc)).collect();
    let needed = bytes(&problem, kinds.len());
    let scratch = vm.allocate::<u8>(BACKWARD, "workspace", needed).unwrap();
    vm.take_launches();
    launch(vm, &problem, &modules, &Scratch::at(vm.address(&scratch), needed)).unwrap();
    (there.iter().map(|there| there.written(vm, desc, tokens)).collect(), vm.take_launches().len())
}

fn raw<T: Pod>(start: &[T], values: &[T]) -> Vec<u8> {
    [bytemuck::cast_slice(start), bytemuck::cast_slice(values)].concat()
}

/// The same, by way of [`Plan`](public::Plan).
fn expected(vm: &Vm, desc: &Desc, tokens: usize, kind: Kind) -> Vec<Vec<u8>> {
    let Desc { rows, cols, rank, components, split, gate, .. } = *desc;
    let (width, (gate_rows, gate_cols)) = (components * rank, gate.parameter_shape(rank, components, cols));
    let sizes = sizes(desc, tokens);
    let floats = |i: usize| values(0, sizes[i], i + 13 * kind.module);
    let elements = |i: usize| narrow(&floats(i));
    let (mut g, x, h, mut dx, mut share) = (elements(0), elements(1), elements(2), elements(3), elements(4));
    let (a, b, of_gate, z, mut grad_b, mut grad_gate) =
        (floats(5), floats(6), floats(7), floats(8), floats(9), floats(10));
    let chosen = skeleton(kind.module);
    let parameters = public::Parameters {
        skeleton: &chosen,
        b: MatRef::new(&b, rows / split, rank / split).unwrap(),
        gate: MatRef::new(&of_gate, gate_rows, gate_cols).unwrap(),
        scale: kind.scale(),
    };
    let h = MatRef::new(&h, tokens, cols).unwrap();
    let layer = public::Layer { h: Some(h), w: None, bias: None, dropout: kind.dropout };
    let saved = public::Saved {
        x: MatRef::new(&x, tokens, width).unwrap(),
        gate: MatRef::new(&a, tokens, components).unwrap(),
        z: kind.z.then(|| MatRef::new(&z, tokens, rank).unwrap()),
    };
    let input = if kind.scatter {
        public::InputGradient::Scatter(MatMut::new(&mut g, tokens, rows).unwrap())
    } else {
        let dx = MatMut::new(&mut dx, tokens, width).unwrap();
        public::InputGradient::Separate { g: MatRef::new(&g, tokens, rows).unwrap(), dx }
    };
    let gradients = public::Gradients {
        b: MatMut::new(&mut grad_b, rows / split, rank / split).unwrap(),
        gate: MatMut::new(&mut grad_gate, gate_rows, gate_cols).unwrap(),
        h_gate: gate.reads_input().then(|| MatMut::new(&mut share, tokens, cols).unwrap()),
        accumulate: kind.accumulate,
    };
    let plan = public::Plan::new(&Device::Vm(vm.clone()), *desc).unwrap();
    plan.backward(&parameters, &layer, saved, input, gradients).unwrap();
    let before = |i: usize| vec![f32::NAN; kind.start(i)];
    vec![
        raw(&narrow(&before(0)), &g),
        raw(&narrow(&before(3)), &dx),
        raw(&narrow(&before(4)), &share),
        raw(&before(8), &z),
        raw(&before(9), &grad_b),
        raw(&before(10), &grad_gate),
    ]
}

#[test]
fn operands_start_anywhere_in_their_buffers() {
    let Some(vm) = machine(Settings::default()) else { return };
    for module in 0..4 {
        let kind = Kind::of(module, module > 1);
        let (found, _) = run(&vm, &DESC, 19, &[kind]);
        assert!(found[0] == expected(&vm, &DESC, 19, kind), "module {module}");
    }
}

/// To the bit what each module gives alone, for any schedule, no block touching what another one works on: several segments,
/// chunks and blocks of the sums each. With z, or with premix for all as soon as one has none.
#[test]
fn a_group_is_its_modules() {
    let Some(vm) = machine(Settings::default()) else { return };
    for (gate, tokens, linear) in [(Gate::LinearSoftmax, 140, 1), (Gate::RmsInner, 70, 0)] {
        let desc = Desc { gate, rows: 280, ..DESC };
        let alone = |kind: &Kind| run(&vm, &desc, tokens, &[*kind]).0.remove(0);
        for (count, z) in [(1, [true; 8]), (3, [true, true, false, true, true, true, true, true]), (8, [true; 8])] {
            let kinds: Vec<Kind> = (0..count).map(|i| Kind::of(i, z[i])).collect();
            let all = z[..count].iter().all(|&z| z);
            // Where one has none, none of the others is looked at.
            let seen = kinds.iter().map(|kind| Kind { z: all, ..*kind });
            let expected: Vec<_> = seen.map(|kind| alone(&kind)).collect();
            let (found, launches) = run(&vm, &desc, tokens, &kinds);
            assert!(found == expected, "{gate:?}, {count} modules");
            assert_eq!(launches, 3 + linear + usize::from(!all), "{gate:?}, {count} modules");
            if count == 8 {
                for (seed, resident) in [(1, 1), (2, 3), (3, 11)] {
                    let checks = Checks { global_races: true, ..Checks::ALL };
                    let vm = Vm::new(Settings { checks, seed: Some(seed), resident });
                    let (found, _) = run(&vm, &desc, tokens, &kinds);
                    assert!(found == expected, "{gate:?}, seed {seed}, {resident} resident");
                }
            }
        }
    }
}

/// Without tokens one launch, which writes zeros or nothing.
#[test]
fn no_tokens_take_one_launch() {
    let Some(vm) = machine(Settings::default()) else { return };
    let kinds: Vec<Kind> = (0..3).map(|i| Kind::of(i, false)).collect();
    let (found, launches) = run(&vm, &DESC, 0, &kinds);
    assert_eq!(launches, 1);
    for (kind, found) in kinds.iter().zip(found) {
        assert!(found == expected(&vm, &DESC, 0, *kind), "module {}", kind.module);
    }
}

#[test]
fn what_is_missing_too_small_or_too_many_is_refused() {
    let vm = Vm::default();
    let problem = Problem { desc: DESC, dtype: Dtype::BF16, tokens: 19 };
    let there: Vec<There> = (0..9).map(|i| There::new(&vm, &DESC, 19, Kind::of(i, true))).collect();
    let modules = |count: usize| -> Vec<BackwardModule<'_>> {
        there[..count].iter().map(|there| there.module(&vm, &DESC)).collect()
    };
    let refused = |modules: &[BackwardModule<'_>], bytes| {
        launch(&vm, &problem, modules, &Scratch::at(0, bytes)).unwrap_err().to_string()
    };
    let mut without_h = modules(2);
    without_h[1].operands.h = None;
    let message = refused(&without_h, bytes(&problem, 2));
    assert_eq!(message, "lowrank backward: operand `h` is missing; the problem reads it");
    let needed = bytes(&problem, 3);
    let message = refused(&modules(3), needed - 1);
    let (expected, found) = (format!("at least {needed} bytes"), format!("{} bytes", needed - 1));
    assert_eq!(message, format!("lowrank backward: `workspace` has {found}, expected {expected}"));
    let message = refused(&modules(9), bytes(&problem, 9));
    assert!(message.contains("9 modules; one launch takes at most 8"), "{message}");
    launch(&vm, &problem, &[], &Scratch::at(0, 0)).unwrap();
}
