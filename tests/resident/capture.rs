//! A step captured in a CUDA graph, and `cudarc`'s slices as operands: where a GPU is at hand.

use crate::common::branch::{Problem, desc};
use crate::common::kernel_devices;
use crate::module::{Here, Module, WAYS, workspace};
use cudarc::driver::CudaContext;
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use idlora::cuda::{Cuda, cudarc};
use idlora::lowrank::resident::{Forward, Output};
use idlora::lowrank::{Bias, Desc, Gate, Plan};
use idlora::resident::{Buffer, MatMut, MatRef};
use idlora::{Device, bf16};

/// Every CUDA device, on a stream of its own. `kernel_devices` says what is skipped, or that it may not be.
fn streams() -> Vec<Cuda> {
    let mut streams = Vec::new();
    for device in kernel_devices() {
        let Device::Cuda(cuda) = device else { continue };
        let stream = CudaContext::new(cuda.ordinal()).unwrap().new_stream().unwrap();
        streams.push(Cuda::on_stream(stream).unwrap());
    }
    streams
}

/// Decoding, one token: captured once, launched twice, each time on another base output.
#[test]
fn a_captured_step_is_launched_again_and_again() {
    for cuda in streams() {
        let device = Device::Cuda(cuda.clone());
        let desc = Desc { gate: Gate::LinearSoftmax, bias: Bias::Separate, ..desc(1024, 256, 16, 4, 2) };
        let plan = Plan::new(&device, desc).unwrap();
        let problems = [1, 2, 3].map(|seed| Problem::<bf16>::random(desc, 1, None, seed));
        let mut module = Module::new(&plan, &device, &problems[0], WAYS[1]);
        let mut workspace = workspace::<bf16>(&plan, &device, 1, 1);
        // Images are loaded at the first launch.
        plan.launch_forward(&mut [module.forward()], &mut workspace).unwrap();
        module.y.buffer.to_vec().unwrap();

        cuda.stream().begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
        let launched = plan.launch_forward(&mut [module.forward()], &mut workspace);
        let graph = cuda.stream().end_capture(CUgraphInstantiate_flags(0)).unwrap();
        launched.unwrap();
        let graph = graph.expect("a step that launches is no empty graph");
        for problem in &problems[1..] {
            // The same adapter on other activations.
            let other = Module::new(&plan, &device, problem, WAYS[1]);
            module.y0.buffer.write(&other.y0.buffer.to_vec().unwrap()).unwrap();
            let h = other.h.as_ref().unwrap().buffer.to_vec().unwrap();
            module.h.as_mut().unwrap().buffer.write(&h).unwrap();
            graph.launch().unwrap();
            let first = &problems[0];
            let expected = Problem {
                desc,
                skeleton: first.skeleton.clone(),
                b: first.b.clone(),
                gate: first.gate.clone(),
                scale: first.scale,
                h: problem.h.clone(),
                w: first.w.clone(),
                bias: first.bias.clone(),
                y0: problem.y0.clone(),
                g: first.g.clone(),
                dropout: None,
                y_pad: first.y_pad,
            };
            let mut here = Here::new(&expected);
            here.forward(&plan, &expected, WAYS[1]);
            module.y.assert_is("Y", &here.y);
            module.x.assert_is("X", &here.x);
            module.z.assert_is("z", &here.z);
        }
    }
}

/// Base output and result in `cudarc`'s slices, written on one stream and used on another.
#[test]
fn slices_of_cudarc_are_operands() {
    for cuda in streams() {
        let device = Device::Cuda(cuda.clone());
        let desc = Desc { gate: Gate::Inner, ..desc(70, 20, 6, 2, 2) };
        let plan = Plan::new(&device, desc).unwrap();
        let problem = Problem::<f32>::random(desc, 19, None, 4);
        let (mut here, mut module) = (Here::new(&problem), Module::new(&plan, &device, &problem, WAYS[1]));
        here.forward(&plan, &problem, WAYS[1]);
        let elsewhere = cuda.stream().context().new_stream().unwrap();
        let y0 = elsewhere.clone_htod(here.y0.view().data()).unwrap();
        let mut y = elsewhere.alloc_zeros::<f32>(19 * 70).unwrap();
        let forward = module.forward();
        let forward = Forward {
            output: Output::OutOfPlace {
                y0: MatRef::from_cuda(&cuda, &y0, 19, 70, here.y0.view().ld()).unwrap(),
                y: MatMut::from_cuda(&cuda, &mut y, 19, 70, 70).unwrap(),
            },
            ..forward
        };
        plan.launch_forward(&mut [forward], &mut workspace::<f32>(&plan, &device, 19, 1)).unwrap();
        let found = elsewhere.clone_dtoh(&y).unwrap();
        for (row, expected) in here.y.view().iter_rows().enumerate() {
            let bits = |row: &[f32]| row.iter().map(|y| y.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&found[row * 70..][..70]), bits(expected), "row {row}");
        }
        let short = MatRef::from_cuda(&cuda, &y0, 190, 70, 70).unwrap_err().to_string();
        assert!(short.contains("expected at least 13300 elements"), "{short}");
        let view = y0.slice(3..);
        MatRef::from_cuda(&cuda, &view, 2, 70, 70).unwrap();
        drop(Buffer::<f32>::zeros(&device, 1).unwrap());
    }
}
