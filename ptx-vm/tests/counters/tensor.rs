//! Tensor-core products and barrier waits.

use crate::common;
use crate::measure::measure;
use ptx_vm::isa::Class;
use ptx_vm::{Arg, Checks, Launch};

/// A product of m16n8k16 is 16·8·16 multiply-adds, one of m16n8k8 half as many. 3 blocks of 2 warps do 5 of each.
#[test]
fn products() {
    let launch = Launch { checks: Checks::ALL, ..common::shape(3, 64) };
    let measured = measure("counters/matrix.cu", "products", &launch, |memory| {
        vec![memory.upload(&[0_f32; 64]).unwrap().into(), Arg::value(5_i32)]
    });
    let Some(measured) = measured else { return };
    assert_eq!(measured.counters.class(Class::Tensor), 3 * 2 * 5 * 2);
    assert_eq!(measured.counters.tensor_products(), 3 * 2 * 5 * 2);
    assert_eq!(measured.counters.tensor_multiply_adds(), 3 * 2 * 5 * (2048 + 1024));
}

/// Each of 4 warps in 2 blocks waits three times, the first of a block once more.
#[test]
fn barrier_waits() {
    let measured = measure("counters/matrix.cu", "waits", &common::shape(2, 128), |memory| {
        vec![memory.upload(&[0_u32; 128]).unwrap().into()]
    });
    let Some(measured) = measured else { return };
    assert_eq!(measured.counters.barrier_waits(), 2 * (4 * 3 + 1));
}
