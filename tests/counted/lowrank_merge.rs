//! Merging: W read and written once, its chosen rows once more, the mixed rows once a tile of rows.

use super::*;
use crate::common::branch::desc;
use idlora::MatMut;
use idlora::lowrank::{Desc, Gate, Parameters, merge, unmerge};

const RANK: usize = 32;
const COMPONENTS: usize = 4;
const SPLIT: usize = 2;

/// Bytes that an operand moved in a launch: read, and written.
fn each_way(launch: &Launched, operand: &str) -> [f64; 2] {
    let mut sum = [0, 0];
    for (_, traffic) in launch.counters.allocations().iter().filter(|(name, _)| name == operand) {
        sum = [sum[0] + traffic.read.sectors, sum[1] + traffic.written.sectors];
    }
    sum.map(|sectors| 32.0 * sectors as f64)
}

/// Merging, and undoing it where `undone`: its update is the same.
fn count<T: Elem>(device: &Device, vm: &Vm, rows: usize, cols: usize, undone: bool) {
    let problem = Desc { gate: Gate::Static, ..desc(rows, cols, RANK, COMPONENTS, SPLIT) };
    let (part, depth) = (rows / SPLIT, RANK / SPLIT);
    let draw = &mut Draw::new(1);
    let mut w: Vec<T> = weights(&draw.gaussian(rows, cols));
    let b: Vec<f32> = weights(&draw.gaussian(part, depth));
    // An odd step meets every row before it meets one again.
    let skeleton: Vec<u32> = (0..RANK * COMPONENTS).map(|i| (i * 41 % rows) as u32).collect();
    let parameters = Parameters {
        skeleton: &skeleton,
        b: MatRef::new(&b, part, depth).unwrap(),
        gate: MatRef::new(&[0.5, -0.25, 0.125, 0.75], 1, COMPONENTS).unwrap(),
        scale: 0.01,
    };
    vm.take_launches();
    merge(device, &problem, &parameters, MatMut::new(&mut w, rows, cols).unwrap()).unwrap();
    if undone {
        unmerge(device, &problem, &parameters, MatMut::new(&mut w, rows, cols).unwrap()).unwrap();
    }
    let launches = vm.take_launches();
    let kernels: Vec<&str> = launches.iter().map(|launch| launch.kernel).collect();
    let [mixing, update, solve] = ["lowrank_merge_rows", "lowrank_merge_update", "lowrank_merge_solve"];
    assert_eq!(kernels, [mixing, update, mixing, solve, update][..if undone { 5 } else { 2 }]);

    let bytes = size_of_val(w.as_slice()) as f64;
    let chosen = bytes / rows as f64 * skeleton.len() as f64;
    let z = (8 * RANK * cols) as f64;
    let (tile_rows, tile_cols) = (256 * size_of::<T>() / 4, 32 * 4 / size_of::<T>());
    // As the header says: Z once a tile of rows of a part, B once a tile of columns of each part.
    let z_tiles = part.div_ceil(tile_rows) as f64;
    let b_moved = (4 * rows * depth * cols.div_ceil(tile_cols)) as f64;
    let (mixed, first) = (&launches[0], &launches[1]);
    let [[w_chosen, _], [w_read, w_written]] = [each_way(mixed, "w"), each_way(first, "w")];
    let [[_, z_written], [z_read, _]] = [each_way(mixed, "z"), each_way(first, "z")];
    let [b_read, _] = each_way(first, "b");
    let per = |launch: &Launched| launch.counters.thread_instructions() as f64 / (rows * cols) as f64;
    println!(
        "{} {rows}×{cols}: W read {:.3} + {:.3} of the chosen rows, written {:.3}; Z written {:.3}, read {:.3} of {z_tiles} \
         tiles = {:.3} of W; B {:.3} of its formula = {:.3} of W; instructions an element: rows {:.2}, \
         update {:.2}",
        first.variant,
        w_read / bytes,
        w_chosen / chosen,
        w_written / bytes,
        z_written / z,
        z_read / z / z_tiles,
        z_read / bytes,
        b_read / b_moved,
        b_read / bytes,
        per(mixed),
        per(first)
    );
    let within = |what: &str, found: f64, least: f64| {
        assert!((least..=1.02 * least).contains(&found), "{what}: {found} bytes, the least is {least}");
    };
    for update in launches.iter().filter(|launch| launch.kernel == update) {
        let [read, written] = each_way(update, "w");
        within("W read", read, bytes);
        within("W written", written, bytes);
        within("Z read", each_way(update, "z")[0], z * z_tiles);
        within("B", each_way(update, "b")[0], b_moved);
    }
    within("chosen rows", w_chosen, chosen);
    within("Z written", z_written, z);
    for solved in launches.iter().filter(|launch| launch.kernel == solve) {
        let [read, written] = each_way(solved, "z").map(|bytes| bytes / z);
        println!("solved: Z read {read:.2}, written {written:.2}, instructions an element of W {:.2}", per(solved));
        // Four panels of 8: each reads itself and those before it, then itself and those after it, and is written twice.
        within("Z read by the solve", read, 2.0 * (1 + 2 + 3 + 4) as f64 / 4.0);
        within("Z written by the solve", written, 2.0);
    }
    assert_eq!(conflicts(&launches), 0, "bank conflicts");
}

#[test]
fn merging_reads_and_writes_the_weight_once() {
    for (device, vm) in machines() {
        count::<bf16>(&device, &vm, 1536, 384, true);
        count::<f32>(&device, &vm, 1536, 384, true);
        count::<bf16>(&device, &vm, 4096, 1024, false);
        count::<f32>(&device, &vm, 4096, 1024, false);
    }
}
