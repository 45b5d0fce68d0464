//! [`shared_gemm::Plan::launch_input_gradient`](idlora::shared_gemm::Plan::launch_input_gradient): the host's bits whatever the
//! tile and the addend, errors, what a step asks the device for.

use crate::common::branch::{Problem, desc};
use crate::common::{Padded, kernel_devices};
use crate::module::There;
use idlora::lowrank::Gate;
use idlora::lowrank::resident::Skeleton;
use idlora::resident::{Buffer, MatRef};
use idlora::shared_gemm::resident::{Addend, GradAdapter, InputGradient};
use idlora::shared_gemm::{self, Desc, GradOperands, Plan};
use idlora::tune::Config;
use idlora::{Device, Dtype, Elem, bf16, f16};

const TILES: [[u32; 2]; 3] = [[128, 128], [64, 128], [64, 64]];

/// What is added.
#[derive(Clone, Copy, Debug)]
enum Adds {
    Nothing,
    Matrix,
    InPlace,
}

/// All operands on a device, somewhere in larger buffers.
struct Step<T> {
    g: There<T>,
    w: There<T>,
    dx: There<T>,
    add: There<T>,
    dh: There<T>,
    skeleton: Option<Skeleton>,
}

impl<T: Elem> Step<T> {
    fn new(plan: &Plan, device: &Device, problem: &Problem<T>) -> Self {
        let components = plan.desc().components > 0;
        Self {
            g: There::new(device, problem.g.view(), 1),
            w: There::new(device, problem.w.view(), 8),
            dx: There::new(device, dx(problem).view(), 3),
            add: There::new(device, problem.h.view(), 5),
            dh: There::new(device, before(problem).view(), 2),
            skeleton: components.then(|| plan.skeleton(&problem.skeleton).unwrap()),
        }
    }

    fn operands(&mut self, adds: Adds) -> InputGradient<'_, T> {
        let Self { g, w, dx, add, dh, skeleton } = self;
        InputGradient {
            g: g.view(),
            w: w.view(),
            adapter: skeleton.as_ref().map(|skeleton| GradAdapter { skeleton, dx: dx.view() }),
            add: match adds {
                Adds::Nothing => Addend::None,
                Adds::Matrix => Addend::Matrix(add.view()),
                Adds::InPlace => Addend::InPlace,
            },
            dh: dh.view_mut(),
        }
    }
}

/// Any numbers will do: those of another operand.
fn dx<T: Elem>(problem: &Problem<T>) -> Padded<T> {
    let (t, width) = (problem.tokens(), problem.width());
    let values = problem.g.to_f64();
    let data = (0..t * width).map(|i| values.row(i / width)[i % width]).collect();
    Padded::new(&idlora::Mat::from_vec(data, t, width).unwrap(), 3)
}

/// `dH` before it is computed.
fn before<T: Elem>(problem: &Problem<T>) -> Padded<T> {
    Padded::new(&problem.h.to_f64(), 7)
}

/// Every addend, every tile in turn, with components and without.
fn agrees<T: Elem>(device: &Device) {
    let desc_of_all = desc(70, 20, 6, 2, 2);
    let with = Desc { rows: 70, cols: 20, rank: 6, components: 2, split: 2, gate: Gate::Inner, bias: false };
    for (i, adds) in [Adds::Nothing, Adds::Matrix, Adds::InPlace].into_iter().enumerate() {
        for (tokens, desc) in [(0, with), (1, with), (70, with), (70, Desc::frozen(70, 20, false))] {
            let problem = Problem::<T>::random(desc_of_all, tokens, None, i as u64);
            let mut plan = Plan::new(device, desc).unwrap();
            let [rows, columns] = TILES[(i + tokens) % 3];
            let config = Config::SharedGemmGrad { tokens: rows, columns, raster: 1 + i as u32 };
            plan.choose(T::DTYPE, tokens, config).unwrap();
            let mut step = Step::new(&plan, device, &problem);
            plan.launch_input_gradient(&mut step.operands(adds)).unwrap();

            let (mut here, dx) = (before(&problem), dx(&problem));
            let skeleton = &problem.skeleton;
            let adapter = shared_gemm::GradAdapter { skeleton, dx: dx.view() };
            let operands = GradOperands {
                g: problem.g.view(),
                w: problem.w.view(),
                adapter: (desc.components > 0).then_some(adapter),
                add: match adds {
                    Adds::Nothing => shared_gemm::Addend::None,
                    Adds::Matrix => shared_gemm::Addend::Matrix(problem.h.view()),
                    Adds::InPlace => shared_gemm::Addend::InPlace,
                },
            };
            plan.input_gradient(&operands, here.view_mut()).unwrap();
            step.dh.assert_is("dH", &here);
        }
    }
}

#[test]
fn resident_operands_give_the_bits_of_host_memory() {
    for device in kernel_devices() {
        agrees::<bf16>(&device);
        agrees::<f16>(&device);
    }
}

const PLAIN: Desc = Desc { rows: 24, cols: 7, rank: 4, components: 3, split: 2, gate: Gate::Inner, bias: false };

fn plain() -> Problem<bf16> {
    Problem::random(desc(24, 7, 4, 3, 2), 5, None, 1)
}

/// Fifty steps of every tile: no allocation, no copy, one launch each.
#[cfg(feature = "vm")]
#[test]
fn a_step_allocates_and_copies_nothing() {
    for device in kernel_devices() {
        let Device::Vm(vm) = &device else { continue };
        let mut plan = Plan::new(&device, PLAIN).unwrap();
        let mut step = Step::new(&plan, &device, &plain());
        let before = vm.used();
        for turn in 0..50 {
            let [tokens, columns] = TILES[turn % 3];
            plan.choose(Dtype::BF16, 5, Config::SharedGemmGrad { tokens, columns, raster: 8 }).unwrap();
            vm.take_launches();
            plan.launch_input_gradient(&mut step.operands(Adds::InPlace)).unwrap();
            let launches = vm.take_launches();
            assert_eq!(launches.len(), 1);
            let tile = format!("{tokens}x{columns}");
            assert!(launches[0].kernel.ends_with(&tile), "{} for {tile}", launches[0].kernel);
        }
        assert_eq!(vm.used(), before);
    }
}

/// The message of a launch with one thing changed; nothing was written.
fn refused(device: &Device, desc: Desc, change: impl Fn(&mut InputGradient<'_, bf16>)) -> String {
    let (plan, problem) = (Plan::new(device, PLAIN).unwrap(), plain());
    let mut step = Step::new(&plan, device, &problem);
    let mut operands = step.operands(Adds::Matrix);
    change(&mut operands);
    let error = Plan::new(device, desc).unwrap().launch_input_gradient(&mut operands).unwrap_err().to_string();
    drop(operands);
    step.dh.assert_is("dH", &before(&problem));
    error
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    for device in &kernel_devices() {
        let wider = Plan::new(device, Desc { rows: 48, ..PLAIN }).unwrap();
        let skeleton = wider.skeleton(&(20..32).collect::<Vec<_>>()).unwrap();
        let is = |change: &dyn Fn(&mut InputGradient<'_, bf16>), expected: &str| {
            assert_eq!(refused(device, PLAIN, change), format!("shared gemm gradient: {expected}"));
        };
        let other = || zeros(device, 6, 9);
        is(&|o| o.g = other(), "`g` has shape [6, 9], expected shape [6, 24]");
        is(&|o| o.w = other(), "`w` has shape [6, 9], expected shape [24, 7]");
        is(&|o| o.adapter.as_mut().unwrap().dx = other(), "`dx` has shape [6, 9], expected shape [5, 12]");
        is(&|o| o.add = Addend::Matrix(other()), "`add` has shape [6, 9], expected shape [5, 7]");
        is(&|o| o.adapter = None, "operand `adapter` is missing; the problem reads it");
        let of_more = "`skeleton` is checked for a W of 48 rows, expected row numbers below 24";
        let skeleton: &'static Skeleton = Box::leak(Box::new(skeleton));
        is(&|o| o.adapter.as_mut().unwrap().skeleton = skeleton, of_more);
        let none = "shared gemm gradient: operand `adapter` was passed, but the problem has no components";
        assert_eq!(refused(device, Desc::frozen(24, 7, false), |_| {}), none);

        let float = Problem::<f32>::random(desc(24, 7, 4, 3, 2), 5, None, 1);
        let plan = Plan::new(device, PLAIN).unwrap();
        let mut step = Step::new(&plan, device, &float);
        let message = plan.launch_input_gradient(&mut step.operands(Adds::Nothing)).unwrap_err().to_string();
        assert!(message.contains("run f32 on the CPU"), "{message}");
        let cpu = Plan::new(&Device::Cpu, PLAIN).unwrap();
        let message = cpu.launch_input_gradient(&mut step.operands(Adds::Nothing)).unwrap_err().to_string();
        assert!(message.starts_with("device `cpu`: runs no kernels"), "{message}");
        let config = Config::SharedGemmGrad { tokens: 128, columns: 256, raster: 8 };
        let message = Plan::new(device, PLAIN).unwrap().choose(Dtype::BF16, 5, config).unwrap_err().to_string();
        assert!(message.contains("128×256") && message.contains("no such tile"), "{message}");
    }
}

/// Zeros that closures can put into operands of any lifetime.
fn zeros(device: &Device, rows: usize, cols: usize) -> MatRef<'static, bf16> {
    let buffer = Buffer::<bf16>::zeros(device, rows * cols).unwrap();
    MatRef::new(Box::leak(Box::new(buffer)), rows, cols).unwrap()
}

/// Of another machine, every operand is refused.
#[cfg(feature = "vm")]
#[test]
fn operands_of_another_device_are_refused() {
    let other = Device::Vm(idlora::vm::Vm::default());
    for device in kernel_devices() {
        let (plan, foreign) = (Plan::new(&device, PLAIN).unwrap(), Plan::new(&other, PLAIN).unwrap());
        let (mut ours, mut theirs) = (Step::new(&plan, &device, &plain()), Step::new(&foreign, &other, &plain()));
        for (i, name) in ["g", "w", "add", "dh", "dx", "skeleton"].into_iter().enumerate() {
            let (mut a, b) = (ours.operands(Adds::Matrix), theirs.operands(Adds::Matrix));
            let (adapter, of_b) = (a.adapter.as_mut().unwrap(), b.adapter.unwrap());
            match i {
                0 => a.g = b.g,
                1 => a.w = b.w,
                2 => a.add = b.add,
                3 => a.dh = b.dh,
                4 => adapter.dx = of_b.dx,
                _ => adapter.skeleton = of_b.skeleton,
            }
            let message = plan.launch_input_gradient(&mut a).unwrap_err().to_string();
            let reason = "lies on another device, or on another stream, than the plan's";
            assert_eq!(message, format!("shared gemm gradient: operand `{name}` {reason}"));
        }
    }
}
