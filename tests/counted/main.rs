//! What kernels cost, counted on the virtual machine: a table for each operation, and the gates it must keep.

#[path = "../common/mod.rs"]
mod common;

mod cluster;
mod guard;
mod interp;
mod lowrank;
mod lowrank_decode;
mod lowrank_down;
mod lowrank_grad;
mod lowrank_merge;
mod norms;
mod points;
mod qr;
mod qr_gram;
mod qr_sketch;
mod shared_gemm;
mod shared_gemm_grad;

use common::matrices::Draw;
use common::{for_every_element, kernel_devices};
use idlora::vm::{Launched, Vm};
use idlora::{Device, Elem, Mat, MatRef, bf16, f16};

/// Shapes of the gates: MiniLM's intermediate weight, and a slice of a large model's.
const SHAPES: [(usize, usize); 2] = [(1536, 384), (1024, 4096)];

/// Every virtual machine of this build.
fn machines() -> Vec<(Device, Vm)> {
    let machine = |device| if let Device::Vm(vm) = &device { Some((device.clone(), vm.clone())) } else { None };
    kernel_devices().into_iter().filter_map(machine).collect()
}

/// Bytes that an operand moved over all launches: read and written, in whole sectors.
fn moved(launches: &[Launched], operand: &str) -> f64 {
    let traffic = launches.iter().flat_map(|launch| launch.counters.allocations());
    let bytes = traffic.filter(|(name, _)| name == operand).map(|(_, t)| 32 * (t.read.sectors + t.written.sectors));
    bytes.sum::<u64>() as f64
}

/// Conflicts of shared-memory banks over all launches.
fn conflicts(launches: &[Launched]) -> u64 {
    launches.iter().map(|launch| launch.counters.shared().conflicts).sum()
}

/// Random weights, rounded to the element.
fn weights<T: Elem>(values: &Mat<f64>) -> Vec<T> {
    values.data().iter().map(|&x| T::from_f32(x as f32)).collect()
}

/// Bytes that operands moved as multiples of so many bytes, instructions of a thread for each of so many elements, and conflicts
/// of shared-memory banks: what streaming the weights costs.
fn streamed<const N: usize>(
    launches: &[Launched],
    operands: [&str; N],
    bytes: f64,
    elements: usize,
) -> ([f64; N], f64, u64) {
    let instructions: u64 = launches.iter().map(|launch| launch.counters.thread_instructions()).sum();
    let multiples = operands.map(|operand| moved(launches, operand) / bytes);
    (multiples, instructions as f64 / elements as f64, conflicts(launches))
}

/// Calls `$count::<T>(device, vm, values)` for every machine, every shape of the gates and every element type.
macro_rules! for_every_shape {
    ($count:ident) => {
        for (device, vm) in machines() {
            for (rows, cols) in SHAPES {
                let values = Draw::new(1).gaussian(rows, cols);
                for_every_element!($count(&device, &vm, &values));
            }
        }
    };
}
use for_every_shape;
