//! What a step asks a device for: launches, nothing else; and operands by address.

use crate::common::branch::{Problem, desc};
use crate::common::kernel_devices;
use crate::module::{Here, Module, There, WAYS, Way, workspace};
use idlora::lowrank::resident::{Forward, Layer, Output, Parameters, SavedMut};
use idlora::lowrank::{Bias, Desc, Gate, Plan};
use idlora::resident::{MatMut, MatRef};
use idlora::vm::Used;
use idlora::{Device, Elem, bf16};

/// A hundred steps of two modules: no allocation, no copy, as many launches as kernels.
#[test]
fn a_step_allocates_and_copies_nothing() {
    for device in kernel_devices() {
        let Device::Vm(vm) = &device else { continue };
        let desc = Desc { gate: Gate::LinearSoftmax, ..desc(24, 7, 4, 3, 2) };
        let plan = Plan::new(&device, desc).unwrap();
        let way = Way { accumulates: false, ..WAYS[1] };
        let mut modules: Vec<Module<bf16>> =
            (0..2).map(|seed| Module::new(&plan, &device, &Problem::random(desc, 2, None, seed), way)).collect();
        let mut workspace = workspace::<bf16>(&plan, &device, 2, 2);
        let before = vm.used();
        assert_eq!(before, Used { allocations: 29, writes: 29, reads: 0 }, "14 buffers a module, and the workspace");
        for _ in 0..100 {
            vm.take_launches();
            let mut group: Vec<_> = modules.iter_mut().map(Module::forward).collect();
            plan.launch_forward(&mut group, &mut workspace).unwrap();
            drop(group);
            let mut group: Vec<_> = modules.iter_mut().map(Module::backward).collect();
            plan.launch_backward(&mut group, &mut workspace).unwrap();
            drop(group);
            let kernels: Vec<&str> = vm.take_launches().iter().map(|launch| launch.kernel).collect();
            // With z kept: forward, products, tokens, the linear gate's sums, sums over segments.
            assert_eq!(kernels.len(), 5, "{kernels:?}");
        }
        assert_eq!(vm.used(), before);
        modules[0].y.buffer.to_vec().unwrap();
        assert_eq!(vm.used().reads, before.reads + 1, "the count counts");
    }
}

#[allow(unsafe_code)]
fn raw<T: Elem>(there: &There<T>, view: &MatRef<'_, T>) -> MatRef<'static, T> {
    let len = there.buffer.len() - (view.address() - there.buffer.address()) as usize / size_of::<T>();
    // SAFETY: the buffer is of the plan's device, holds so many elements, and outlives the launch that the view is for.
    unsafe { MatRef::from_raw(view.address(), len, view.rows(), view.cols(), view.ld()) }.unwrap()
}

#[allow(unsafe_code)]
fn raw_mut<T: Elem>(there: &mut There<T>) -> MatMut<'static, T> {
    let view = there.view();
    let len = there.buffer.len() - (view.address() - there.buffer.address()) as usize / size_of::<T>();
    // SAFETY: as above, and the caller of the launch holds no other view of it.
    unsafe { MatMut::from_raw(view.address(), len, view.rows(), view.cols(), view.ld()) }.unwrap()
}

/// All operands by address.
#[test]
fn addresses_serve_as_buffers_do() {
    for device in kernel_devices() {
        let desc = Desc { gate: Gate::Linear, bias: Bias::Separate, ..desc(70, 20, 6, 2, 2) };
        let problem = Problem::<bf16>::random(desc, 9, None, 3);
        let plan = Plan::new(&device, desc).unwrap();
        let way = WAYS[1];
        let (mut here, mut there) = (Here::new(&problem), Module::new(&plan, &device, &problem, way));
        here.forward(&plan, &problem, way);
        let views = |there: &Option<There<bf16>>| there.as_ref().map(|there| raw(there, &there.view()));
        let forward = Forward {
            parameters: Parameters {
                skeleton: &there.skeleton,
                b: raw(&there.b, &there.b.view()),
                gate: raw(&there.gate, &there.gate.view()),
                scale: there.scale,
            },
            layer: Layer { h: views(&there.h), w: None, bias: views(&there.bias), dropout: None },
            output: Output::OutOfPlace { y0: raw(&there.y0, &there.y0.view()), y: raw_mut(&mut there.y) },
            saved: Some(SavedMut {
                x: raw_mut(&mut there.x),
                gate: raw_mut(&mut there.a),
                z: Some(raw_mut(&mut there.z)),
            }),
        };
        plan.launch_forward(&mut [forward], &mut workspace::<bf16>(&plan, &device, 9, 1)).unwrap();
        there.assert_is(&device.to_string(), &here);
    }
}
