//! [`Plan::launch_forward`]: the bits of the host's way, alone, in groups, with a shared workspace.

use crate::common::branch::{Problem, desc};
use crate::common::{for_every_element, kernel_devices};
use crate::module::{DROPOUT, Here, Module, WAYS, problems, workspace};
use idlora::lowrank::{Bias, Desc, Gate, Plan};
use idlora::resident::Workspace;
use idlora::{Device, Elem, bf16};

fn agrees<T: Elem>(device: &Device) {
    for tokens in [0, 1, 19] {
        for problem in problems::<T>(tokens) {
            for way in WAYS {
                let what = format!("{device} {:?} {:?} t {tokens} {way:?}", T::DTYPE, problem.desc);
                let plan = Plan::new(device, problem.desc).unwrap();
                let (mut here, mut there) = (Here::new(&problem), Module::new(&plan, device, &problem, way));
                here.forward(&plan, &problem, way);
                plan.launch_forward(&mut [there.forward()], &mut workspace::<T>(&plan, device, tokens, 1)).unwrap();
                there.assert_is(&what, &here);
            }
        }
    }
}

#[test]
fn resident_operands_give_the_bits_of_host_memory() {
    for device in kernel_devices() {
        for_every_element!(agrees(&device));
    }
}

/// Three modules of a shape with their own parameters, scale, dropout and way, together and each alone.
#[test]
fn a_group_is_its_modules() {
    for device in kernel_devices() {
        for gate in [Gate::LinearSoftmax, Gate::Inner] {
            let desc = Desc { gate, bias: Bias::Included, ..desc(70, 20, 6, 2, 2) };
            let plan = Plan::new(&device, desc).unwrap();
            let dropouts = [None, Some(DROPOUT), Some(idlora::lowrank::Dropout { seed: 5, ..DROPOUT })];
            let problems: Vec<Problem<bf16>> =
                (0..3).map(|i| Problem::random(desc, 17, dropouts[i], 7 + i as u64)).collect();
            let ways = [WAYS[0], WAYS[1], WAYS[0]];
            let mut modules: Vec<Module<bf16>> =
                problems.iter().zip(ways).map(|(p, way)| Module::new(&plan, &device, p, way)).collect();
            for (i, module) in modules.iter_mut().enumerate() {
                module.scale = 0.5 + i as f32;
            }
            let mut group: Vec<_> = modules.iter_mut().map(Module::forward).collect();
            plan.launch_forward(&mut group, &mut workspace::<bf16>(&plan, &device, 17, 3)).unwrap();
            drop(group);
            for (i, mut problem) in problems.into_iter().enumerate() {
                problem.scale = 0.5 + i as f32;
                let mut here = Here::new(&problem);
                here.forward(&plan, &problem, ways[i]);
                modules[i].assert_is(&format!("{device} {gate:?} module {i}"), &here);
            }
        }
    }
}

/// More modules than a launch takes, and none.
#[test]
fn large_groups_are_several_launches() {
    for device in kernel_devices() {
        let desc = Desc { gate: Gate::Static, ..desc(24, 7, 4, 3, 2) };
        let plan = Plan::new(&device, desc).unwrap();
        let problems: Vec<Problem<f32>> = (0..19).map(|seed| Problem::random(desc, 3, None, seed)).collect();
        let mut modules: Vec<Module<f32>> =
            problems.iter().map(|problem| Module::new(&plan, &device, problem, WAYS[0])).collect();
        let mut group: Vec<_> = modules.iter_mut().map(Module::forward).collect();
        let mut workspace = workspace::<f32>(&plan, &device, 3, 19);
        take_launches(&device);
        plan.launch_forward(&mut group, &mut workspace).unwrap();
        assert!(take_launches(&device).is_none_or(|launches| launches == 3));
        plan.launch_forward::<f32>(&mut [], &mut workspace).unwrap();
        assert!(take_launches(&device).is_none_or(|launches| launches == 0));
        drop(group);
        for (module, problem) in modules.iter().zip(&problems) {
            let mut here = Here::new(problem);
            here.forward(&plan, problem, WAYS[0]);
            module.assert_is(&device.to_string(), &here);
        }
    }
}

/// Launches since the last call, where they are counted.
pub fn take_launches(device: &Device) -> Option<usize> {
    match device {
        #[cfg(feature = "vm")]
        Device::Vm(vm) => Some(vm.take_launches().len()),
        _ => None,
    }
}

/// One workspace for plans of several shapes in turn, as large as the largest wants, twice around.
#[test]
fn one_workspace_serves_every_plan_in_turn() {
    for device in kernel_devices() {
        let cases: Vec<(Problem<bf16>, Plan)> = [5, 1, 33]
            .into_iter()
            .flat_map(problems)
            .map(|problem| {
                let plan = Plan::new(&device, problem.desc).unwrap();
                (problem, plan)
            })
            .collect();
        let bytes = cases.iter().map(|(p, plan)| plan.workspace_bytes(idlora::Dtype::BF16, p.tokens(), 1));
        let mut workspace = Workspace::new(&device, bytes.max().unwrap()).unwrap();
        for round in 0..2 {
            for (i, (problem, plan)) in cases.iter().enumerate() {
                let way = WAYS[(i + round) % 2];
                let (mut here, mut there) = (Here::new(problem), Module::new(plan, &device, problem, way));
                here.forward(plan, problem, way);
                plan.launch_forward(&mut [there.forward()], &mut workspace).unwrap();
                there.assert_is(&format!("{device} {:?} round {round}", problem.desc), &here);
            }
        }
    }
}
