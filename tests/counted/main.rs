//! What kernels cost, counted on the virtual machine: a table for each operation, and the gates it must keep.

#[path = "../common/mod.rs"]
mod common;

mod cluster;
mod interp;
mod lowrank;
mod lowrank_grad;
mod norms;
mod points;
mod qr;
mod qr_gram;
mod qr_sketch;

use common::kernel_devices;
use common::matrices::Draw;
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
