//! The sketch of pivoted QR: the rows once.

use super::*;
use idlora::qr::{Desc, Groups, Plan, Stop, Tier};

fn count<T: Elem>(device: &Device, vm: &Vm, (rows, cols): (usize, usize), rank: usize) {
    let data: Vec<T> = weights(&Draw::new(1).gaussian(rows, cols));
    let (bytes, oversampling) = (size_of_val(data.as_slice()) as f64, 8);
    let indptr: Vec<usize> = (0..=4).map(|g| g * rows / 4).collect();
    let groups = Groups::new(indptr, (0..rows as u32).collect()).unwrap();
    let plan = Plan::new(device, Desc { cols, rank, tier: Tier::Sketch { oversampling }, seed: 0 }).unwrap();
    vm.take_launches();
    plan.run(MatRef::new(&data, rows, cols).unwrap(), &groups, &Stop::default()).unwrap();
    let launches = vm.take_launches();
    let (exact, others): (Vec<Launched>, Vec<Launched>) = launches.into_iter().partition(|l| l.kernel == "qr_exact");
    assert_eq!(exact.len(), 2, "the sketch's and the rows'");
    assert_eq!(moved(&exact, "w"), 0.0, "the sketch has left nothing of the rows to the exact tier");
    let is_sketch = |l: &Launched| ["sketch_narrow", "sketch_wide"].contains(&l.kernel);
    let sketch: Vec<Launched> = others.into_iter().filter(is_sketch).collect();
    let [launch] = sketch.as_slice() else { panic!("{} sketches", sketch.len()) };
    let width = (rank + oversampling).next_multiple_of(if launch.kernel == "sketch_wide" { 32 } else { 8 });
    let [w, y, tables] = [&["w"][..], &["y"], &["rows", "tiles"]]
        .map(|names| names.iter().map(|name| moved(&sketch, name)).sum::<f64>() / bytes);
    // As multiples of all of Ω for every block.
    let blocks = 4 * (rows / 4).div_ceil(if launch.kernel == "sketch_wide" { 32 } else { 64 });
    let omega = moved(&sketch, "omega") / (blocks * cols * width * size_of::<f64>()) as f64;
    let products = (rows * cols * width) as f64;
    let (each, conflicts) = (launch.counters.thread_instructions() as f64 / products, conflicts(&sketch));
    println!(
        "{:>5} {rows:>5}×{cols:<5} rank {rank:>3} {:<13}  w {w:.4}  y {y:.4}  tables {tables:.4}  Ω {omega:.4} a block  \
         {each:>4.2} instructions a product  {conflicts} bank conflicts",
        T::DTYPE.name(),
        launch.kernel
    );
    assert!((1.0..=1.02).contains(&w), "{rows}×{cols}: w {w}");
    let written = (rows * width * size_of::<f32>()) as f64 / bytes;
    // A lane's columns are 16 bytes a store.
    assert!(y <= 2.0 * written + 1e-9 && omega <= 1.0 + 1e-9, "{rows}×{cols}: y {y}, Ω {omega}");
    assert_eq!(conflicts, 0, "{rows}×{cols}");
}

/// As multiples of the bytes of `W`; `Ω`, which every block reads, apart.
#[test]
fn sketches_read_the_rows_once() {
    for (device, vm) in machines() {
        for (shape, rank) in [((512, 384), 8), ((256, 2048), 32), ((288, 512), 64)] {
            count::<f16>(&device, &vm, shape, rank);
            count::<bf16>(&device, &vm, shape, rank);
            count::<f32>(&device, &vm, shape, rank);
        }
    }
}
