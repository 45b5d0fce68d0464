//! [`Plan::launch_backward`]: the bits of the host's way, alone, in groups, with the forward's workspace.

use crate::common::branch::{Problem, desc};
use crate::common::{for_every_element, kernel_devices};
use crate::module::{DROPOUT, Here, Module, WAYS, Way, problems, workspace};
use idlora::lowrank::{Bias, Desc, Gate, Plan};
use idlora::resident::Workspace;
use idlora::{Device, Elem, bf16};

/// A step there, a step here, of one module.
fn step<T: Elem>(plan: &Plan, device: &Device, problem: &Problem<T>, way: Way, workspace: &mut Workspace) {
    let what = format!("{device} {:?} {:?} t {} {way:?}", T::DTYPE, problem.desc, problem.tokens());
    let (mut here, mut there) = (Here::new(problem), Module::new(plan, device, problem, way));
    here.forward(plan, problem, way);
    here.backward(plan, problem, way);
    plan.launch_forward(&mut [there.forward()], workspace).unwrap();
    plan.launch_backward(&mut [there.backward()], workspace).unwrap();
    there.assert_is(&what, &here);
}

fn agrees<T: Elem>(device: &Device) {
    for tokens in [0, 1, 19] {
        for problem in problems::<T>(tokens) {
            for way in WAYS {
                let plan = Plan::new(device, problem.desc).unwrap();
                step(&plan, device, &problem, way, &mut workspace::<T>(&plan, device, tokens, 1));
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
        for gate in [Gate::LinearSoftmax, Gate::RmsInner] {
            let desc = Desc { gate, bias: Bias::Included, ..desc(70, 20, 6, 2, 2) };
            let plan = Plan::new(&device, desc).unwrap();
            let dropouts = [Some(DROPOUT), None, Some(idlora::lowrank::Dropout { seed: 5, ..DROPOUT })];
            let mut problems: Vec<Problem<bf16>> =
                (0..3).map(|i| Problem::random(desc, 17, dropouts[i], 7 + i as u64)).collect();
            for (i, problem) in problems.iter_mut().enumerate() {
                problem.scale = 0.5 + i as f32;
            }
            let ways = [WAYS[1], WAYS[0], WAYS[1]];
            let mut modules: Vec<Module<bf16>> =
                problems.iter().zip(ways).map(|(p, way)| Module::new(&plan, &device, p, way)).collect();
            let mut workspace = workspace::<bf16>(&plan, &device, 17, 3);
            let mut group: Vec<_> = modules.iter_mut().map(Module::forward).collect();
            plan.launch_forward(&mut group, &mut workspace).unwrap();
            drop(group);
            let mut group: Vec<_> = modules.iter_mut().map(Module::backward).collect();
            plan.launch_backward(&mut group, &mut workspace).unwrap();
            drop(group);
            for (i, problem) in problems.iter().enumerate() {
                let mut here = Here::new(problem);
                here.forward(&plan, problem, ways[i]);
                here.backward(&plan, problem, ways[i]);
                modules[i].assert_is(&format!("{device} {gate:?} module {i}"), &here);
            }
        }
    }
}

/// More modules than a launch takes.
#[test]
fn large_groups_are_several_launches() {
    for device in kernel_devices() {
        let desc = Desc { gate: Gate::Static, ..desc(24, 7, 4, 3, 2) };
        let plan = Plan::new(&device, desc).unwrap();
        let problems: Vec<Problem<f32>> = (0..11).map(|seed| Problem::random(desc, 3, None, seed)).collect();
        let mut modules: Vec<Module<f32>> =
            problems.iter().map(|problem| Module::new(&plan, &device, problem, WAYS[1])).collect();
        let mut workspace = workspace::<f32>(&plan, &device, 3, 11);
        assert_eq!(workspace.bytes(), plan.workspace_bytes(idlora::Dtype::F32, 3, 8), "those of one launch");
        let mut group: Vec<_> = modules.iter_mut().map(Module::forward).collect();
        plan.launch_forward(&mut group, &mut workspace).unwrap();
        drop(group);
        let mut group: Vec<_> = modules.iter_mut().map(Module::backward).collect();
        plan.launch_backward(&mut group, &mut workspace).unwrap();
        plan.launch_backward::<f32>(&mut [], &mut workspace).unwrap();
        drop(group);
        for (module, problem) in modules.iter().zip(&problems) {
            let mut here = Here::new(problem);
            here.forward(&plan, problem, WAYS[1]);
            here.backward(&plan, problem, WAYS[1]);
            module.assert_is(&device.to_string(), &here);
        }
    }
}

/// One workspace for plans of several shapes in turn, as large as the largest wants.
#[test]
fn one_workspace_serves_every_plan_in_turn() {
    for device in kernel_devices() {
        let problems: Vec<Problem<bf16>> = [5, 1, 33].into_iter().flat_map(problems).collect();
        let plan = |problem: &Problem<bf16>| Plan::new(&device, problem.desc).unwrap();
        let bytes = problems.iter().map(|p| plan(p).workspace_bytes(idlora::Dtype::BF16, p.tokens(), 1));
        let mut workspace = Workspace::new(&device, bytes.max().unwrap()).unwrap();
        for (i, problem) in problems.iter().enumerate() {
            step(&plan(problem), &device, problem, WAYS[i % 2], &mut workspace);
        }
    }
}
