//! [`shared_gemm::Plan::launch`](idlora::shared_gemm::Plan::launch): the host's bits whatever the tile, errors, what a step asks
//! the device for.

use crate::common::branch::{GATES, Problem, desc};
use crate::common::{Padded, kernel_devices};
use crate::module::{DROPOUT, There};
use idlora::lowrank::resident::{Parameters, SavedMut, Skeleton};
use idlora::lowrank::{self, Bias, Dropout, Gate};
use idlora::resident::{Buffer, MatMut, MatRef, Workspace};
use idlora::shared_gemm::resident::Layer;
use idlora::shared_gemm::{Desc, Operands, Plan};
use idlora::tune::Config;
use idlora::{Device, Dtype, Elem, bf16, f16};

const TILES: [[u32; 2]; 4] = [[128, 128], [64, 128], [64, 64], [128, 256]];

/// A problem of the adapter as one of the layer.
fn of_layer(problem: &lowrank::Desc) -> Desc {
    let lowrank::Desc { rows, cols, rank, components, split, gate, bias, .. } = *problem;
    Desc { rows, cols, rank, components, split, gate, bias: bias != Bias::None }
}

/// All operands on a device, somewhere in larger buffers.
struct Step<T> {
    skeleton: Skeleton,
    scale: f32,
    dropout: Option<Dropout>,
    b: There<f32>,
    gate: There<f32>,
    h: There<T>,
    w: There<T>,
    bias: Option<There<T>>,
    y: There<T>,
    x: There<T>,
    a: There<f32>,
    z: There<f32>,
}

impl<T: Elem> Step<T> {
    fn new(plan: &Plan, device: &Device, problem: &Problem<T>) -> Self {
        let (t, Desc { rows, rank, components, .. }) = (problem.tokens(), *plan.desc());
        let bias = idlora::MatRef::new(&problem.bias, 1, rows).unwrap();
        Self {
            skeleton: plan.skeleton(&problem.skeleton).unwrap(),
            scale: problem.scale,
            dropout: problem.dropout,
            b: There::new(device, problem.b.view(), 3),
            gate: There::new(device, problem.gate.view(), 1),
            h: There::new(device, problem.h.view(), 5),
            w: There::new(device, problem.w.view(), 8),
            bias: plan.desc().bias.then(|| There::new(device, bias, 1)),
            y: There::new(device, Padded::poisoned(t, rows, 7).view(), 2),
            x: There::new(device, Padded::poisoned(t, problem.width(), 1).view(), 4),
            a: There::new(device, Padded::poisoned(t, components, 2).view(), 7),
            z: There::new(device, Padded::poisoned(t, rank, 3).view(), 6),
        }
    }

    fn layer(&mut self) -> Layer<'_, T> {
        let Self { skeleton, scale, dropout, b, gate, h, w, bias, y, x, a, z } = self;
        let saved = SavedMut { x: x.view_mut(), gate: a.view_mut(), z: Some(z.view_mut()) };
        Layer {
            h: h.view(),
            w: w.view(),
            bias: bias.as_ref().map(There::view),
            y: y.view_mut(),
            adapter: Some(Parameters { skeleton, b: b.view(), gate: gate.view(), scale: *scale }),
            dropout: *dropout,
            saved: Some(saved),
        }
    }

    /// To the bit what [`Plan::run`] leaves in host memory.
    fn assert_is_the_host_s(&self, plan: &Plan, problem: &Problem<T>) {
        let (t, Desc { rows, rank, components, bias, .. }) = (problem.tokens(), *plan.desc());
        let mut y = Padded::poisoned(t, rows, 7);
        let (mut x, mut a) = (Padded::poisoned(t, problem.width(), 1), Padded::poisoned(t, components, 2));
        let mut z = Padded::poisoned(t, rank, 3);
        let operands = Operands {
            h: problem.h.view(),
            w: problem.w.view(),
            bias: bias.then_some(&problem.bias[..]),
            adapter: Some(problem.parameters()),
            dropout: problem.dropout,
        };
        let saved = lowrank::SavedMut { x: x.view_mut(), gate: a.view_mut(), z: Some(z.view_mut()) };
        plan.run(&operands, y.view_mut(), Some(saved)).unwrap();
        self.y.assert_is("Y", &y);
        self.x.assert_is("X", &x);
        self.a.assert_is("gate", &a);
        self.z.assert_is("z", &z);
    }
}

/// Every gate, every tile in turn, on one workspace that an adapter of more tokens uses in between.
fn agrees<T: Elem>(device: &Device) {
    let bytes = 1 << 20;
    let mut workspace = Workspace::new(device, bytes).unwrap();
    for (i, gate) in GATES.into_iter().enumerate() {
        for tokens in [0, 1, 70] {
            let bias = if i % 2 == 0 { Bias::Separate } else { Bias::None };
            let adapter = lowrank::Desc { gate, bias, ..desc(70, 20, 6, 2, 2) };
            let problem = Problem::<T>::random(adapter, tokens, (i % 2 == 0).then_some(DROPOUT), i as u64);
            let mut plan = Plan::new(device, of_layer(&adapter)).unwrap();
            let [rows, columns] = TILES[(i + tokens) % 4];
            plan.choose(T::DTYPE, tokens, Config::SharedGemm { tokens: rows, columns, raster: 1 + i as u32 }).unwrap();
            assert!(plan.workspace_bytes(T::DTYPE, tokens) <= bytes);
            let mut step = Step::new(&plan, device, &problem);
            plan.launch(&mut step.layer(), &mut workspace).unwrap();
            step.assert_is_the_host_s(&plan, &problem);
            overwrite(device, &mut workspace);
        }
    }
}

/// Leaves an adapter's X, which it does not save, where the layer's flags were.
fn overwrite(device: &Device, workspace: &mut Workspace) {
    let desc = lowrank::Desc { down: lowrank::DownProjection::Gemm, ..desc(24, 7, 4, 3, 2) };
    let plan = lowrank::Plan::new(device, desc).unwrap();
    let problem = Problem::<bf16>::random(desc, 100, None, 1);
    let mut module = crate::module::Module::new(&plan, device, &problem, crate::module::WAYS[0]);
    let forward = lowrank::resident::Forward { saved: None, ..module.forward() };
    plan.launch_forward(&mut [forward], workspace).unwrap();
}

#[test]
fn resident_operands_give_the_bits_of_host_memory() {
    for device in kernel_devices() {
        agrees::<bf16>(&device);
        agrees::<f16>(&device);
    }
}

/// The layer alone, its workspace no more than a head.
#[test]
fn the_frozen_layer_needs_a_head() {
    for device in kernel_devices() {
        let plan = Plan::new(&device, Desc::frozen(24, 7, false)).unwrap();
        assert_eq!(plan.workspace_bytes(Dtype::BF16, 5), 256);
        let problem = Problem::<bf16>::random(desc(24, 7, 4, 3, 2), 5, None, 1);
        let (h, w) = (There::new(&device, problem.h.view(), 1), There::new(&device, problem.w.view(), 2));
        let mut y = There::new(&device, Padded::poisoned(5, 24, 3).view(), 4);
        let mut layer =
            Layer { h: h.view(), w: w.view(), bias: None, y: y.view_mut(), adapter: None, dropout: None, saved: None };
        plan.launch(&mut layer, &mut Workspace::new(&device, 0).unwrap()).unwrap();
        drop(layer);
        let mut here = Padded::<bf16>::poisoned(5, 24, 3);
        let operands = Operands { h: problem.h.view(), w: problem.w.view(), bias: None, adapter: None, dropout: None };
        plan.run(&operands, here.view_mut(), None).unwrap();
        y.assert_is("Y", &here);
    }
}

/// Fifty steps of every tile: no allocation, no copy, one launch each.
#[cfg(feature = "vm")]
#[test]
fn a_step_allocates_and_copies_nothing() {
    for device in kernel_devices() {
        let Device::Vm(vm) = &device else { continue };
        let adapter = lowrank::Desc { gate: Gate::LinearSoftmax, bias: Bias::Separate, ..desc(24, 7, 4, 3, 2) };
        let mut plan = Plan::new(&device, of_layer(&adapter)).unwrap();
        let mut step = Step::new(&plan, &device, &Problem::<bf16>::random(adapter, 2, None, 1));
        let mut workspace = Workspace::new(&device, plan.workspace_bytes(Dtype::BF16, 2)).unwrap();
        let before = vm.used();
        for turn in 0..50 {
            let [tokens, columns] = TILES[turn % 4];
            plan.choose(Dtype::BF16, 2, Config::SharedGemm { tokens, columns, raster: 8 }).unwrap();
            vm.take_launches();
            plan.launch(&mut step.layer(), &mut workspace).unwrap();
            let launches = vm.take_launches();
            assert_eq!(launches.len(), 1);
            let tile = format!("shared_gemm.{tokens}x{columns}.bf16.");
            assert!(launches[0].variant.starts_with(&tile), "{} for {tile}", launches[0].variant);
        }
        assert_eq!(vm.used(), before);
        step.y.buffer.to_vec().unwrap();
        assert_eq!(vm.used().reads, before.reads + 1, "the count counts");
    }
}

/// A matrix of zeros, kept for the process.
fn zeros<T: Elem>(device: &Device, rows: usize, cols: usize) -> MatRef<'static, T> {
    let buffer = Buffer::<T>::zeros(device, rows * cols).unwrap();
    MatRef::new(Box::leak(Box::new(buffer)), rows, cols).unwrap()
}

fn zeros_mut<T: Elem>(device: &Device, rows: usize, cols: usize) -> MatMut<'static, T> {
    let buffer = Buffer::<T>::zeros(device, rows * cols).unwrap();
    MatMut::new(Box::leak(Box::new(buffer)), rows, cols).unwrap()
}

const PLAIN: Desc = Desc { rows: 24, cols: 7, rank: 4, components: 3, split: 2, gate: Gate::Linear, bias: true };

fn plain() -> Problem<bf16> {
    Problem::random(lowrank::Desc { gate: Gate::Linear, bias: Bias::Separate, ..desc(24, 7, 4, 3, 2) }, 5, None, 1)
}

/// The message of a launch with one thing changed; nothing was written.
fn refused(device: &Device, desc: Desc, change: impl Fn(&mut Layer<'_, bf16>)) -> String {
    let plan = Plan::new(device, PLAIN).unwrap();
    let mut workspace = Workspace::new(device, plan.workspace_bytes(Dtype::BF16, 5)).unwrap();
    let mut step = Step::new(&plan, device, &plain());
    let mut layer = step.layer();
    change(&mut layer);
    let error = Plan::new(device, desc).unwrap().launch(&mut layer, &mut workspace).unwrap_err().to_string();
    drop(layer);
    assert!(step.y.buffer.to_vec().unwrap().iter().all(|y| y.is_nan()), "nothing was written");
    error
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    for device in &kernel_devices() {
        let is = |change: &dyn Fn(&mut Layer<'_, bf16>), expected: &str| {
            assert_eq!(refused(device, PLAIN, change), format!("shared gemm: {expected}"));
        };
        let element = |rows, cols| zeros::<bf16>(device, rows, cols);
        let float = |rows, cols| zeros::<f32>(device, rows, cols);
        is(&|l| l.h = element(5, 8), "`h` has shape [5, 8], expected shape [5, 7]");
        is(&|l| l.w = element(23, 7), "`w` has shape [23, 7], expected shape [24, 7]");
        is(&|l| l.y = zeros_mut(device, 4, 24), "`y` has shape [4, 24], expected shape [5, 24]");
        is(&|l| l.bias = Some(element(1, 23)), "`bias` has length 23, expected length 24");
        is(&|l| l.bias = None, "operand `bias` is missing; the problem reads it");
        is(&|l| l.adapter = None, "operand `adapter` is missing; the problem reads it");
        is(&|l| l.adapter.as_mut().unwrap().b = float(11, 2), "`b` has shape [11, 2], expected shape [12, 2]");
        is(&|l| l.adapter.as_mut().unwrap().gate = float(1, 4), "`gate` has shape [1, 4], expected shape [3, 7]");
        is(&|l| l.adapter.as_mut().unwrap().scale = f32::NAN, "`scale` is NaN, expected a finite number");
        let drops = |probability, offset| Some(Dropout { probability, seed: 0, offset });
        is(&|l| l.dropout = drops(1.0, 0), "`dropout probability` is 1, expected in [0, 1)");
        let expected = format!("`dropout offset` is {}, expected offset + 5 tokens below 2^64", u64::MAX);
        is(&|l| l.dropout = drops(0.5, u64::MAX), &expected);
        let floats = |rows, cols| zeros_mut::<f32>(device, rows, cols);
        let expected = "`saved x` has shape [5, 11], expected shape [5, 12]";
        is(&|l| l.saved.as_mut().unwrap().x = zeros_mut(device, 5, 11), expected);
        let expected = "`saved gate` has shape [4, 3], expected shape [5, 3]";
        is(&|l| l.saved.as_mut().unwrap().gate = floats(4, 3), expected);
        let expected = "`saved z` has shape [5, 3], expected shape [5, 4]";
        is(&|l| l.saved.as_mut().unwrap().z = Some(floats(5, 3)), expected);

        let says = |desc, change: &dyn Fn(&mut Layer<'_, bf16>), expected: &str| {
            assert_eq!(refused(device, desc, change), format!("shared gemm: operand {expected}"));
        };
        let none = "was passed, but the problem has no components";
        says(Desc { bias: false, ..PLAIN }, &|_| {}, "`bias` was passed, but the problem says that the layer has none");
        let frozen = Desc::frozen(24, 7, true);
        says(frozen, &|_| {}, &format!("`adapter` {none}"));
        let dropout = |l: &mut Layer<'_, bf16>| (l.adapter, l.dropout) = (None, drops(0.5, 0));
        says(frozen, &dropout, &format!("`dropout` {none}"));
        says(frozen, &|l| l.adapter = None, &format!("`saved` {none}"));
    }
}

/// A skeleton of another problem, f32, a workspace a byte too small, the CPU.
#[test]
fn what_the_device_does_not_run_is_refused() {
    for device in kernel_devices() {
        let plan = Plan::new(&device, PLAIN).unwrap();
        let mut step = Step::new(&plan, &device, &plain());
        let needed = plan.workspace_bytes(Dtype::BF16, 5);
        let mut small = Workspace::new(&device, needed - 1).unwrap();
        let message = plan.launch(&mut step.layer(), &mut small).unwrap_err().to_string();
        let expected = format!("`workspace` has {} bytes, expected at least {needed} bytes", needed - 1);
        assert_eq!(message, format!("shared gemm: {expected}"));
        let huge = Plan::new(&device, PLAIN).unwrap();
        assert_eq!(huge.workspace_bytes(Dtype::BF16, usize::MAX / 2), usize::MAX);

        let mut workspace = Workspace::new(&device, needed).unwrap();
        let message = plan.skeleton(&[1, 2]).unwrap_err().to_string();
        assert_eq!(message, "lowrank forward: `skeleton` has length 2, expected length 12");
        let message = Plan::new(&device, Desc::frozen(24, 7, true)).unwrap().skeleton(&[]).unwrap_err().to_string();
        assert!(message.contains("expected at least 1"), "{message}");
        let wider = Plan::new(&device, Desc { rows: 48, ..PLAIN }).unwrap();
        step.skeleton = wider.skeleton(&(20..32).collect::<Vec<_>>()).unwrap();
        let message = plan.launch(&mut step.layer(), &mut workspace).unwrap_err().to_string();
        assert_eq!(message, "shared gemm: `skeleton` is checked for a W of 48 rows, expected row numbers below 24");

        let float = Problem::<f32>::random(desc(24, 7, 4, 3, 2), 5, None, 1);
        let plan = Plan::new(&device, of_layer(&float.desc)).unwrap();
        let mut step = Step::new(&plan, &device, &float);
        let mut workspace = Workspace::new(&device, plan.workspace_bytes(Dtype::F32, 5)).unwrap();
        let message = plan.launch(&mut step.layer(), &mut workspace).unwrap_err().to_string();
        assert!(message.contains("run f32 on the CPU"), "{message}");
        let cpu = Plan::new(&Device::Cpu, of_layer(&float.desc)).unwrap();
        let message = cpu.launch(&mut step.layer(), &mut workspace).unwrap_err().to_string();
        assert!(message.starts_with("device `cpu`: runs no kernels"), "{message}");
    }
}

/// Of another machine, every operand is refused.
#[cfg(feature = "vm")]
#[test]
fn operands_of_another_device_are_refused() {
    let other = Device::Vm(idlora::vm::Vm::default());
    for device in kernel_devices() {
        let (plan, foreign) = (Plan::new(&device, PLAIN).unwrap(), Plan::new(&other, PLAIN).unwrap());
        let (mut ours, mut theirs) = (Step::new(&plan, &device, &plain()), Step::new(&foreign, &other, &plain()));
        let needed = plan.workspace_bytes(Dtype::BF16, 5);
        let mut workspace = Workspace::new(&device, needed).unwrap();
        let names = ["skeleton", "b", "gate", "h", "w", "bias", "y", "saved x", "saved gate", "saved z"];
        let says = |message: String, name: &str| {
            let reason = "lies on another device, or on another stream, than the plan's";
            assert_eq!(message, format!("shared gemm: operand `{name}` {reason}"));
        };
        for (i, name) in names.into_iter().enumerate() {
            let (mut a, b) = (ours.layer(), theirs.layer());
            let (adapter, of_b) = (a.adapter.as_mut().unwrap(), b.adapter.unwrap());
            let (saved, there) = (a.saved.as_mut().unwrap(), b.saved.unwrap());
            match i {
                0 => adapter.skeleton = of_b.skeleton,
                1 => adapter.b = of_b.b,
                2 => adapter.gate = of_b.gate,
                3 => a.h = b.h,
                4 => a.w = b.w,
                5 => a.bias = b.bias,
                6 => a.y = b.y,
                7 => saved.x = there.x,
                8 => saved.gate = there.gate,
                _ => saved.z = there.z,
            }
            says(plan.launch(&mut a, &mut workspace).unwrap_err().to_string(), name);
        }
        let mut elsewhere = Workspace::new(&other, needed).unwrap();
        says(plan.launch(&mut ours.layer(), &mut elsewhere).unwrap_err().to_string(), "workspace");
    }
}
