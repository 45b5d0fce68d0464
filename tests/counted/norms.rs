//! Norms: the matrix once.

use super::*;
use idlora::norms::{Axis, Desc, Plan};

fn count<T: Elem>(device: &Device, vm: &Vm, values: &Mat<f64>) {
    let (rows, cols) = values.shape();
    let data: Vec<T> = weights(values);
    let bytes = size_of_val(data.as_slice()) as f64;
    for (axis, points, gate) in [(Axis::Rows, rows, 1.02), (Axis::Cols, cols, 1.04)] {
        let plan = Plan::new(device, Desc { rows, cols, axis }).unwrap();
        vm.take_launches();
        plan.run(MatRef::new(&data, rows, cols).unwrap(), &mut vec![0.0; points]).unwrap();
        let launches = vm.take_launches();
        let ([w, partial, norms], each, conflicts) = streamed(&launches, ["w", "partial", "norms"], bytes, data.len());
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
    for_every_shape!(count);
}
