//! What kernels cost, counted on the virtual machine: the table, and the gates it must keep.

mod common;

use common::kernel_devices;
use common::matrices::Draw;
use idlora::norms::{Axis, Desc, Plan};
use idlora::{Device, Elem, Mat, MatRef, bf16, f16};

/// Bytes that an operand moved over all launches: read and written, in whole sectors.
fn moved(device: &Device, launches: &[idlora::vm::Launched], operand: &str) -> u64 {
    assert!(matches!(device, Device::Vm(_)));
    let traffic = launches.iter().flat_map(|launch| launch.counters.allocations());
    traffic.filter(|(name, _)| name == operand).map(|(_, t)| 32 * (t.read.sectors + t.written.sectors)).sum()
}

fn count<T: Elem>(device: &Device, values: &Mat<f64>) {
    let Device::Vm(vm) = device else { return };
    let (rows, cols) = (values.rows(), values.cols());
    let data: Vec<T> = values.as_ref().data().iter().map(|&x| T::from_f32(x as f32)).collect();
    let bytes = size_of_val(data.as_slice()) as f64;
    for (axis, points, gate) in [(Axis::Rows, rows, 1.02), (Axis::Cols, cols, 1.04)] {
        let plan = Plan::new(device, Desc { rows, cols, axis }).unwrap();
        vm.take_launches();
        plan.run(MatRef::new(&data, rows, cols).unwrap(), &mut vec![0.0; points]).unwrap();
        let launches = vm.take_launches();
        let [w, partial, norms] =
            ["w", "partial", "norms"].map(|operand| moved(device, &launches, operand) as f64 / bytes);
        let instructions: u64 = launches.iter().map(|launch| launch.counters.thread_instructions()).sum();
        let conflicts: u64 = launches.iter().map(|launch| launch.counters.shared().conflicts).sum();
        let each = instructions as f64 / data.len() as f64;
        println!(
            "{:>5} {rows:>5}×{cols:<5} {axis:?}  w {w:.4}  partial {partial:.4}  norms {norms:.4}  gate {gate:.2}  \
             {each:>5.1} instructions an element  {conflicts} bank conflicts",
            T::DTYPE.name()
        );
        assert!(w >= 1.0 && w + partial <= gate, "{axis:?} {rows}×{cols}: w {w}, partial {partial}, gate {gate}");
        assert_eq!(conflicts, 0, "{axis:?} {rows}×{cols}");
    }
}

/// As multiples of the bytes of `W`.
#[test]
fn norms_read_the_matrix_once() {
    for device in kernel_devices() {
        for (rows, cols) in [(1536, 384), (1024, 4096)] {
            let values = Draw::new(1).gaussian(rows, cols);
            count::<f16>(&device, &values);
            count::<bf16>(&device, &values);
            count::<f32>(&device, &values);
        }
    }
}
