//! What is refused, in the words of the host's way, with the module's place; nothing is launched.

use crate::common::branch::{Problem, desc};
use crate::common::kernel_devices;
use crate::module::{DROPOUT, Module, WAYS, workspace};
use idlora::lowrank::resident::{Backward, Forward, InputGradient, Output, Saved, SavedMut, Skeleton};
use idlora::lowrank::{Bias, Desc, DownProjection, Dropout, Gate, Plan};
use idlora::resident::{Buffer, MatMut, MatRef, Workspace};
use idlora::{Device, Error, Mat, MatRef as HostRef, bf16};

const TOKENS: usize = 5;

fn plain() -> Desc {
    desc(24, 7, 4, 3, 2)
}

/// A matrix of zeros, of whatever shape a case wants, kept for the process.
fn zeros<T: idlora::Elem>(device: &Device, rows: usize, cols: usize) -> MatRef<'static, T> {
    let buffer = Buffer::<T>::zeros(device, rows * cols).unwrap();
    MatRef::new(Box::leak(Box::new(buffer)), rows, cols).unwrap()
}

fn zeros_mut<T: idlora::Elem>(device: &Device, rows: usize, cols: usize) -> MatMut<'static, T> {
    let buffer = Buffer::<T>::zeros(device, rows * cols).unwrap();
    MatMut::new(Box::leak(Box::new(buffer)), rows, cols).unwrap()
}

/// Both directions of one module alone, and as the second of two, with one thing changed in it.
struct Refusals<'d> {
    device: &'d Device,
    desc: Desc,
}

impl Refusals<'_> {
    fn modules(&self, plan: &Plan) -> [Module<bf16>; 2] {
        [1, 2].map(|seed| {
            let problem = Problem::random(self.desc, TOKENS, None, seed);
            Module::new(plan, self.device, &problem, WAYS[1])
        })
    }

    fn forward(&self, change: impl Fn(&mut Forward<'_, bf16>), expected: &str) {
        let plan = Plan::new(self.device, self.desc).unwrap();
        let [mut first, mut second] = self.modules(&plan);
        let mut workspace = workspace::<bf16>(&plan, self.device, TOKENS, 2);
        let mut group = [first.forward(), second.forward()];
        change(&mut group[1]);
        let together = plan.launch_forward(&mut group, &mut workspace).unwrap_err();
        let alone = plan.launch_forward(&mut group[1..], &mut workspace).unwrap_err();
        assert_says(&alone, &together, "lowrank forward", expected);
        drop(group);
        assert!(second.y.buffer.to_vec().unwrap().iter().all(|y| y.is_nan()), "nothing was written");
    }

    fn backward(&self, change: impl Fn(&mut Backward<'_, bf16>), expected: &str) {
        let plan = Plan::new(self.device, self.desc).unwrap();
        let [mut first, mut second] = self.modules(&plan);
        let mut workspace = workspace::<bf16>(&plan, self.device, TOKENS, 2);
        let mut group = [first.backward(), second.backward()];
        change(&mut group[1]);
        let together = plan.launch_backward(&mut group, &mut workspace).unwrap_err();
        let alone = plan.launch_backward(&mut group[1..], &mut workspace).unwrap_err();
        assert_says(&alone, &together, "lowrank backward", expected);
        drop(group);
        assert!(second.dx.buffer.to_vec().unwrap().iter().all(|x| x.is_nan()), "nothing was written");
    }
}

/// Alone the message is `expected`; in a group it also says which module it is.
fn assert_says(alone: &Error, together: &Error, op: &str, expected: &str) {
    let (alone, together) = (alone.to_string(), together.to_string());
    assert!(alone.starts_with(&format!("{op}: {expected}")), "{alone}");
    assert!(!alone.contains("modules["), "{alone}");
    let plain = together.replace(" in modules[1]", "").replace(" (modules[1])", "");
    assert!(plain == alone && together != alone, "`{together}` against `{alone}`");
}

#[test]
fn the_forward_refuses_what_does_not_fit() {
    for device in &kernel_devices() {
        let zeros = |rows, cols| zeros::<bf16>(device, rows, cols);
        let zeros_mut = |rows, cols| zeros_mut::<bf16>(device, rows, cols);
        let floats = |rows, cols| self::zeros_mut::<f32>(device, rows, cols);
        let plain = Refusals { device, desc: plain() };
        let in_place = |rows, cols| Output::InPlace(zeros_mut(rows, cols));
        plain.forward(|f| f.output = in_place(5, 23), "`y` has shape [5, 23], expected shape [5, 24]");
        let output =
            |y0: [usize; 2], y: [usize; 2]| Output::OutOfPlace { y0: zeros(y0[0], y0[1]), y: zeros_mut(y[0], y[1]) };
        plain.forward(|f| f.output = output([5, 23], [5, 24]), "`y0` has shape [5, 23], expected shape [5, 24]");
        plain.forward(|f| f.output = output([5, 24], [4, 24]), "`y` has shape [4, 24], expected shape [5, 24]");
        let float = |rows, cols| self::zeros::<f32>(device, rows, cols);
        plain.forward(|f| f.parameters.b = float(11, 2), "`b` has shape [11, 2], expected shape [12, 2]");
        plain.forward(|f| f.parameters.gate = float(1, 2), "`gate` has shape [1, 2], expected shape [1, 4]");
        plain.forward(|f| f.parameters.scale = f32::NAN, "`scale` is NaN, expected a finite number");
        plain.forward(|f| f.layer.bias = Some(zeros(1, 24)), "operand `bias` was passed, but the problem says");
        let dropout = |probability, offset| Some(Dropout { probability, seed: 0, offset });
        plain.forward(|f| f.layer.dropout = dropout(1.0, 0), "`dropout probability` is 1, expected in [0, 1)");
        plain.forward(|f| f.layer.dropout = dropout(0.5, u64::MAX - 3), "`dropout offset` is 18446744073709551612");
        let saved = |x: [usize; 2], gate: [usize; 2], z: Option<[usize; 2]>| {
            let z = z.map(|z| floats(z[0], z[1]));
            Some(SavedMut { x: zeros_mut(x[0], x[1]), gate: floats(gate[0], gate[1]), z })
        };
        for (x, gate, z, expected) in [
            ([5, 11], [5, 3], None, "`saved x` has shape [5, 11], expected shape [5, 12]"),
            ([5, 12], [4, 3], None, "`saved gate` has shape [4, 3], expected shape [5, 3]"),
            ([5, 12], [5, 3], Some([5, 3]), "`saved z` has shape [5, 3], expected shape [5, 4]"),
        ] {
            plain.forward(|f| f.saved = saved(x, gate, z), expected);
        }

        let linear = Refusals { device, desc: Desc { gate: Gate::Linear, ..plain.desc } };
        linear.forward(|f| f.layer.h = None, "operand `h` is missing; a linear gate reads H");
        linear.forward(|f| f.layer.h = Some(zeros(4, 7)), "`h` has shape [4, 7], expected shape [5, 7]");
        let gemm = Refusals { device, desc: Desc { down: DownProjection::Gemm, ..plain.desc } };
        gemm.forward(|f| f.layer.h = None, "operand `h` is missing; the explicit down-projection reads H");
        let both = |h: [usize; 2], w: Option<[usize; 2]>| (zeros(h[0], h[1]), w.map(|w| zeros(w[0], w[1])));
        for (w, expected) in [
            (None, "operand `w` is missing; the explicit down-projection reads W[S]"),
            (Some([9, 7]), "`w` has shape [9, 7], expected shape [24, 7]"),
        ] {
            gemm.forward(
                |f| {
                    let (h, w) = both([5, 7], w);
                    (f.layer.h, f.layer.w) = (Some(h), w);
                },
                expected,
            );
        }
        for bias in [Bias::Included, Bias::Separate] {
            let biased = Refusals { device, desc: Desc { bias, ..plain.desc } };
            biased
                .forward(|f| f.layer.bias = None, "operand `bias` is missing; the problem says that the layer has one");
            biased.forward(|f| f.layer.bias = Some(zeros(1, 3)), "`bias` has length 3, expected length 24");
        }
    }
}

#[test]
fn the_backward_refuses_what_does_not_fit() {
    for device in &kernel_devices() {
        let zeros = |rows, cols| zeros::<bf16>(device, rows, cols);
        let zeros_mut = |rows, cols| zeros_mut::<bf16>(device, rows, cols);
        let floats = |rows, cols| self::zeros_mut::<f32>(device, rows, cols);
        let plain = Refusals { device, desc: plain() };
        let scatter = |rows, cols| InputGradient::Scatter(zeros_mut(rows, cols));
        plain.backward(|b| b.input = scatter(5, 25), "`g` has shape [5, 25], expected shape [5, 24]");
        for (rows, cols) in [(5, 11), (6, 12)] {
            let expected = format!("`dx` has shape [{rows}, {cols}], expected shape [5, 12]");
            let input = || InputGradient::Separate { g: zeros(5, 24), dx: zeros_mut(rows, cols) };
            plain.backward(|b| b.input = input(), &expected);
        }
        plain.backward(|b| b.parameters.scale = f32::INFINITY, "`scale` is inf, expected a finite number");
        plain.backward(
            |b| b.layer.dropout = Some(Dropout { probability: 2.0, ..DROPOUT }),
            "`dropout probability` is 2",
        );
        let saved = |x: [usize; 2], gate: [usize; 2], z: Option<[usize; 2]>| Saved {
            x: zeros(x[0], x[1]),
            gate: self::zeros::<f32>(device, gate[0], gate[1]),
            z: z.map(|z| self::zeros::<f32>(device, z[0], z[1])),
        };
        for (x, gate, z, expected) in [
            ([4, 12], [5, 3], None, "`saved x` has shape [4, 12], expected shape [5, 12]"),
            ([5, 12], [5, 4], None, "`saved gate` has shape [5, 4], expected shape [5, 3]"),
            ([5, 12], [5, 3], Some([4, 4]), "`saved z` has shape [4, 4], expected shape [5, 4]"),
        ] {
            plain.backward(|b| b.saved = saved(x, gate, z), expected);
        }
        let linear = Refusals { device, desc: Desc { gate: Gate::Linear, ..plain.desc } };
        plain.backward(|b| b.gradients.b = floats(12, 3), "`gradient b` has shape [12, 3], expected shape [12, 2]");
        plain.backward(|b| b.gradients.gate = floats(1, 3), "`gradient gate` has shape [1, 3], expected shape [1, 4]");
        let share = |rows, cols| Some(zeros_mut(rows, cols));
        plain
            .backward(|b| b.gradients.h_gate = share(5, 7), "operand `gradient h_gate` was passed, but the gate Inner");
        let expected = "`gradient h_gate` has shape [5, 8], expected shape [5, 7]";
        linear.backward(|b| b.gradients.h_gate = share(5, 8), expected);
        linear.backward(|b| b.layer.h = None, "operand `h` is missing; the gradient of a linear gate reads H");
    }
}

#[test]
fn skeletons_are_checked_once_and_for_their_shape() {
    for device in kernel_devices() {
        let plan = Plan::new(&device, plain()).unwrap();
        for (rows, expected) in [
            (vec![0, 1, 2], "`skeleton` has length 3, expected length 12"),
            (vec![0, 1, 2, 3, 4, 24, 6, 7, 8, 9, 10, 11], "`skeleton` is 24 at 5, expected row numbers below 24"),
            (vec![0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 3], "`skeleton` is 3 twice, expected distinct row numbers"),
        ] {
            let message = Skeleton::new(&plan, &rows).unwrap_err().to_string();
            assert_eq!(message, format!("lowrank forward: {expected}"));
        }
        let wider = Plan::new(&device, Desc { rows: 48, ..plain() }).unwrap();
        let foreign = Skeleton::new(&wider, &(20..32).collect::<Vec<_>>()).unwrap();
        let short = Plan::new(&device, Desc { components: 2, ..plain() }).unwrap();
        let short = Skeleton::new(&short, &(0..8).collect::<Vec<_>>()).unwrap();
        assert_eq!((short.len(), short.is_empty()), (8, false));
        let mut module = Module::new(&plan, &device, &Problem::<bf16>::random(plain(), TOKENS, None, 1), WAYS[0]);
        let mut workspace = workspace::<bf16>(&plan, &device, TOKENS, 1);
        for (skeleton, expected) in [
            (&foreign, "`skeleton` is checked for a W of 48 rows, expected row numbers below 24"),
            (&short, "`skeleton` has length 8, expected length 12"),
        ] {
            let mut forward = module.forward();
            forward.parameters.skeleton = skeleton;
            let message = plan.launch_forward(&mut [forward], &mut workspace).unwrap_err().to_string();
            assert_eq!(message, format!("lowrank forward: {expected}"));
        }
    }
    let cpu = Plan::new(&Device::Cpu, plain()).unwrap();
    let message = Skeleton::new(&cpu, &(0..12).collect::<Vec<_>>()).unwrap_err().to_string();
    assert!(message.starts_with("device `cpu`: runs no kernels"), "{message}");
}

#[test]
fn groups_have_one_number_of_tokens() {
    for device in kernel_devices() {
        let plan = Plan::new(&device, plain()).unwrap();
        let module = |tokens| Module::new(&plan, &device, &Problem::<bf16>::random(plain(), tokens, None, 1), WAYS[0]);
        let (mut five, mut six) = (module(5), module(6));
        let mut workspace = workspace::<bf16>(&plan, &device, 6, 2);
        let forward = plan.launch_forward(&mut [five.forward(), six.forward()], &mut workspace).unwrap_err();
        let expected = "has 6 rows in modules[1], expected 5 rows as in modules[0]";
        assert_eq!(forward.to_string(), format!("lowrank forward: `y` {expected}"));
        let backward = plan.launch_backward(&mut [five.backward(), six.backward()], &mut workspace).unwrap_err();
        assert_eq!(backward.to_string(), format!("lowrank backward: `g` {expected}"));
    }
}

/// A byte less than the plan says; the error says how many.
#[test]
fn a_workspace_that_is_too_small_is_refused() {
    for device in kernel_devices() {
        let plan = Plan::new(&device, plain()).unwrap();
        let needed = plan.workspace_bytes(idlora::Dtype::BF16, TOKENS, 1);
        assert!(needed > 256);
        let mut small = Workspace::new(&device, needed - 1).unwrap();
        let mut module = Module::new(&plan, &device, &Problem::<bf16>::random(plain(), TOKENS, None, 1), WAYS[0]);
        plan.launch_forward(&mut [module.forward()], &mut small).unwrap();
        let message = plan.launch_backward(&mut [module.backward()], &mut small).unwrap_err().to_string();
        let expected = format!("`workspace` has {} bytes, expected at least {needed} bytes", needed - 1);
        assert_eq!(message, format!("lowrank backward: {expected}"));
        let huge = Plan::new(&device, Desc { cols: usize::MAX / 2, gate: Gate::Linear, ..plain() }).unwrap();
        assert_eq!(huge.workspace_bytes(idlora::Dtype::F32, usize::MAX / 2, 8), usize::MAX);
    }
}

/// Of another machine, every operand is refused; the CPU refuses all.
#[cfg(feature = "vm")]
#[test]
fn operands_of_another_device_are_refused() {
    let other = Device::Vm(idlora::vm::Vm::default());
    for device in kernel_devices() {
        let desc = Desc { gate: Gate::Linear, bias: Bias::Included, ..plain() };
        let (plan, foreign) = (Plan::new(&device, desc).unwrap(), Plan::new(&other, desc).unwrap());
        let problem = Problem::<bf16>::random(desc, TOKENS, None, 1);
        let module = |plan, device| Module::new(plan, device, &problem, WAYS[1]);
        let (mut ours, mut theirs) = (module(&plan, &device), module(&foreign, &other));
        let mut workspace = workspace::<bf16>(&plan, &device, TOKENS, 1);
        let names = ["skeleton", "b", "gate", "h", "bias", "y0", "y", "saved x", "saved gate", "saved z"];
        for (i, name) in names.into_iter().enumerate() {
            let (mut a, b) = (ours.forward(), theirs.forward());
            let (Output::OutOfPlace { y0, y }, Output::OutOfPlace { y0: y0_there, y: y_there }) =
                (&mut a.output, b.output)
            else {
                unreachable!()
            };
            let (saved, there) = (a.saved.as_mut().unwrap(), b.saved.unwrap());
            match i {
                0 => a.parameters.skeleton = b.parameters.skeleton,
                1 => a.parameters.b = b.parameters.b,
                2 => a.parameters.gate = b.parameters.gate,
                3 => a.layer.h = b.layer.h,
                4 => a.layer.bias = b.layer.bias,
                5 => *y0 = y0_there,
                6 => *y = y_there,
                7 => saved.x = there.x,
                8 => saved.gate = there.gate,
                _ => saved.z = there.z,
            }
            let message = plan.launch_forward(&mut [a], &mut workspace).unwrap_err().to_string();
            refused(&message, "lowrank forward", name);
        }
        let names = ["g", "dx", "saved x", "saved gate", "saved z", "gradient b", "gradient gate", "gradient h_gate"];
        for (i, name) in names.into_iter().enumerate() {
            let (mut a, b) = (ours.backward(), theirs.backward());
            let (InputGradient::Separate { g, dx }, InputGradient::Separate { g: g_there, dx: dx_there }) =
                (&mut a.input, b.input)
            else {
                unreachable!()
            };
            match i {
                0 => *g = g_there,
                1 => *dx = dx_there,
                2 => a.saved.x = b.saved.x,
                3 => a.saved.gate = b.saved.gate,
                4 => a.saved.z = b.saved.z,
                5 => a.gradients.b = b.gradients.b,
                6 => a.gradients.gate = b.gradients.gate,
                _ => a.gradients.h_gate = b.gradients.h_gate,
            }
            let message = plan.launch_backward(&mut [a], &mut workspace).unwrap_err().to_string();
            refused(&message, "lowrank backward", name);
        }
        let mut elsewhere = Workspace::new(&other, 1 << 20).unwrap();
        let message = plan.launch_forward(&mut [ours.forward()], &mut elsewhere).unwrap_err().to_string();
        refused(&message, "lowrank forward", "workspace");
        let cpu = Plan::new(&Device::Cpu, desc).unwrap();
        let forward = cpu.launch_forward(&mut [ours.forward()], &mut workspace);
        let backward = cpu.launch_backward(&mut [ours.backward()], &mut workspace);
        for error in [forward, backward] {
            let message = error.unwrap_err().to_string();
            assert!(message.starts_with("device `cpu`: runs no kernels"), "{message}");
        }
    }
}

#[cfg(feature = "vm")]
fn refused(message: &str, op: &str, operand: &str) {
    let expected = format!("{op}: operand `{operand}` lies on another device, or on another stream, than the plan's");
    assert_eq!(message, expected);
}

/// H that a variant does not read is not looked at.
#[test]
fn superfluous_inputs_are_ignored() {
    for device in kernel_devices() {
        let plan = Plan::new(&device, plain()).unwrap();
        let mut module = Module::new(&plan, &device, &Problem::<bf16>::random(plain(), TOKENS, None, 1), WAYS[1]);
        let odd = Mat::from_vec(vec![bf16::NAN; 6], 2, 3).unwrap();
        let odd = Buffer::from_slice(&device, HostRef::data(&odd.as_ref())).unwrap();
        let mut forward = module.forward();
        forward.layer.h = Some(MatRef::new(&odd, 2, 3).unwrap());
        forward.layer.w = Some(MatRef::new(&odd, 2, 3).unwrap());
        plan.launch_forward(&mut [forward], &mut workspace::<bf16>(&plan, &device, TOKENS, 1)).unwrap();
    }
}
