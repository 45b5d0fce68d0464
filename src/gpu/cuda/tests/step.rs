//! A step on operands of the device: what of the driver it calls.

use super::{Cuda, assert_clean, line, play};
use crate::Device;
use crate::elem::{Dtype, bf16};
use crate::lowrank::resident::{
    Backward, Forward, Gradients, InputGradient, Layer, Output, Parameters, Saved, SavedMut, Skeleton,
};
use crate::lowrank::{Bias, Desc, DownProjection, Gate, Plan};
use crate::resident::{Buffer, MatMut, MatRef, Workspace};
use cudarc::driver::{CudaContext, CudaStream};
use std::sync::Arc;

const TOKENS: usize = 3;
const STEPS: i32 = 100;

#[test]
fn a_step_only_launches() {
    let Some(report) = play("step", &[]) else { return };
    assert_clean(&report);
    // The forward and, with z kept, four kernels of the backward; once more before.
    assert_eq!(line(&report, "launches"), 5 * (i64::from(STEPS) + 1));
}

#[test]
fn slices_of_cudarc_are_ordered_by_their_events() {
    let Some(report) = play("slices", &[("PAPER_DEVICES", "2")]) else { return };
    assert_clean(&report);
}

/// What the driver has counted: calls that a step has no need of, launches, the last one's stream.
fn counted() -> (i32, i32, usize) {
    // SAFETY: the driver of paper, which is loaded already, with functions of these types.
    unsafe {
        let library = libloading::Library::new("libcuda.so.1").unwrap();
        let number = |name: &str| library.get::<unsafe extern "C" fn() -> i32>(name).unwrap()();
        let stream = library.get::<unsafe extern "C" fn() -> usize>("paper_stream").unwrap()();
        (number("paper_calls"), number("paper_launches"), stream)
    }
}

fn on_a_stream() -> (Arc<CudaStream>, Device, Plan) {
    Cuda::count().unwrap(); // opens the driver, without which `cudarc` panics
    let stream = CudaContext::new(0).unwrap().new_stream().unwrap();
    let device = Device::Cuda(Cuda::on_stream(stream.clone()).unwrap());
    let (gate, down, bias) = (Gate::LinearSoftmax, DownProjection::Gather, Bias::None);
    let desc = Desc { rows: 16, cols: 8, rank: 2, components: 2, split: 2, gate, down, bias };
    let plan = Plan::new(&device, desc).unwrap();
    (stream, device, plan)
}

/// A hundred steps, forward and backward, on a stream of the caller's while `cudarc` tracks events.
pub fn only_launches() {
    let (stream, device, plan) = on_a_stream();
    let skeleton = Skeleton::new(&plan, &[3, 1, 8, 15]).unwrap();
    let mut workspace = Workspace::new(&device, plan.workspace_bytes(Dtype::BF16, TOKENS, 1)).unwrap();
    let elements = |len| Buffer::<bf16>::zeros(&device, len).unwrap();
    let floats = |len| Buffer::<f32>::zeros(&device, len).unwrap();
    let (h, mut y, mut x, mut g) = (elements(24), elements(48), elements(12), elements(48));
    let (b, gate, mut a, mut z, mut db, mut dgate) =
        (floats(8), floats(16), floats(6), floats(6), floats(8), floats(16));
    let mut step = || {
        let h = MatRef::new(&h, TOKENS, 8).unwrap();
        let layer = Layer { h: Some(h), w: None, bias: None, dropout: None };
        let (b, gate) = (MatRef::new(&b, 8, 1).unwrap(), MatRef::new(&gate, 2, 8).unwrap());
        let parameters = Parameters { skeleton: &skeleton, b, gate, scale: 1.0 };
        let forward = Forward {
            parameters: parameters.clone(),
            layer: layer.clone(),
            output: Output::InPlace(MatMut::new(&mut y, TOKENS, 16).unwrap()),
            saved: Some(SavedMut {
                x: MatMut::new(&mut x, TOKENS, 4).unwrap(),
                gate: MatMut::new(&mut a, TOKENS, 2).unwrap(),
                z: Some(MatMut::new(&mut z, TOKENS, 2).unwrap()),
            }),
        };
        plan.launch_forward(&mut [forward], &mut workspace).unwrap();
        let (x, gate) = (MatRef::new(&x, TOKENS, 4).unwrap(), MatRef::new(&a, TOKENS, 2).unwrap());
        let backward = Backward {
            parameters,
            layer,
            saved: Saved { x, gate, z: Some(MatRef::new(&z, TOKENS, 2).unwrap()) },
            input: InputGradient::Scatter(MatMut::new(&mut g, TOKENS, 16).unwrap()),
            gradients: Gradients {
                b: MatMut::new(&mut db, 8, 1).unwrap(),
                gate: MatMut::new(&mut dgate, 2, 8).unwrap(),
                h_gate: None,
                accumulate: true,
            },
        };
        plan.launch_backward(&mut [backward], &mut workspace).unwrap();
    };
    step(); // loads the images
    let (calls, launches, _) = counted();
    (0..STEPS).for_each(|_| step());
    assert_eq!(counted(), (calls, launches + 5 * STEPS, stream.cu_stream().addr()));
    y.to_vec().unwrap();
    assert!(counted().0 > calls, "the count counts");
}

/// A view waits for the slice's writer, and its drop records the use; not before, and once for all copies.
pub fn slices_are_ordered() {
    let (stream, device, _) = on_a_stream();
    let Device::Cuda(cuda) = &device else { unreachable!() };
    let elsewhere = stream.context().new_stream().unwrap();
    let mut slice = elsewhere.alloc_zeros::<f32>(12).unwrap();
    let (before, ..) = counted();
    let view = MatRef::from_cuda(cuda, &slice, 3, 4, 4).unwrap();
    assert_eq!(counted().0, before + 1, "waits for the write");
    let copy = view.clone();
    drop(view);
    assert_eq!(counted().0, before + 1);
    drop(copy);
    assert_eq!(counted().0, before + 2, "records the read");
    let mut view = MatMut::from_cuda(cuda, &mut slice, 2, 4, 8).unwrap();
    assert_eq!(counted().0, before + 4, "waits for reads and writes");
    drop(view.reborrow());
    drop(view);
    assert_eq!(counted().0, before + 5, "records the write");
    let message = MatRef::from_cuda(cuda, &slice, 3, 4, 5).unwrap_err().to_string();
    assert!(message.contains("`data` has 12 elements, expected at least 14"), "{message}");
    let view = slice.slice(4..);
    let view = MatRef::from_cuda(cuda, &view, 2, 4, 4).unwrap();
    assert_eq!((view.shape(), view.ld()), ((2, 4), 4));

    let other = CudaContext::new(1).unwrap().default_stream().alloc_zeros::<f32>(12).unwrap();
    let message = MatRef::from_cuda(cuda, &other, 3, 4, 4).unwrap_err().to_string();
    let expected = "operand `slice` is of cuda:1, whose addresses mean nothing on cuda:0";
    assert_eq!(message, format!("matrix view: {expected}"));
}
