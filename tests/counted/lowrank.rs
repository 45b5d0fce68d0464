//! The adapter's forward: Y0 and Y once, X once, B once a block.

use super::*;
use crate::common::branch::{Problem, desc};
use idlora::MatMut;
use idlora::lowrank::{Bias, Desc, Gate, Output, Plan, SavedMut};

const COMPONENTS: usize = 4;
const SPLIT: usize = 2;

/// Bank conflicts elsewhere than where random columns are gathered from shared memory, and there.
fn conflicts_by_line(launches: &[Launched]) -> (u64, u64) {
    let source = include_str!("../../kernels/common/shrink.cuh");
    let gather = 1 + source.lines().position(|line| line.contains("tile[tile_row + places[c]]")).unwrap() as u32;
    let (mut elsewhere, mut gathering) = (0, 0);
    for line in launches.iter().flat_map(|launch| launch.counters.lines()) {
        let here = line.source.as_ref().is_some_and(|at| at.file.ends_with("shrink.cuh") && at.line == gather);
        *if here { &mut gathering } else { &mut elsewhere } += line.shared.conflicts;
    }
    (elsewhere, gathering)
}

/// Out of place, everything saved; `gathered` sectors of Y0 on top where its tile does not fit.
fn count<T: Elem>(device: &Device, vm: &Vm, gate: Gate, tokens: usize, rows: usize, rank: usize) {
    let problem = Desc { gate, bias: Bias::None, ..desc(rows, 64, rank, COMPONENTS, SPLIT) };
    // B and the gate as drawn; Y0 without the product that a random one is drawn by.
    let drawn = Problem::<T>::random(Desc { rows, ..problem }, 0, None, 1).padded(0, 0, 0);
    let draw = &mut Draw::new(2);
    let (y0, h) = (weights::<T>(&draw.gaussian(tokens, rows)), weights::<T>(&draw.gaussian(tokens, 64)));
    let width = COMPONENTS * rank;
    let (mut y, mut x) = (vec![T::from_f32(0.0); tokens * rows], vec![T::from_f32(0.0); tokens * width]);
    let mut a = vec![0.0f32; tokens * COMPONENTS];
    let mut layer = drawn.layer();
    layer.h = Some(MatRef::new(&h, tokens, 64).unwrap());
    let output = Output::OutOfPlace {
        y0: MatRef::new(&y0, tokens, rows).unwrap(),
        y: MatMut::new(&mut y, tokens, rows).unwrap(),
    };
    let saved = SavedMut {
        x: MatMut::new(&mut x, tokens, width).unwrap(),
        gate: MatMut::new(&mut a, tokens, COMPONENTS).unwrap(),
    };
    vm.take_launches();
    Plan::new(device, problem).unwrap().forward(&drawn.parameters(), &layer, output, Some(saved)).unwrap();
    let launches = vm.take_launches();
    assert_eq!(launches.len(), 1, "one launch");

    let whole = (tokens * rows * size_of::<T>()) as f64;
    let holds = rows * size_of::<T>() * 8 < 220 << 10;
    let gathered = if holds { 0.0 } else { (tokens * width * 32) as f64 / whole };
    let blocks = (tokens / if holds && rows * size_of::<T>() * 16 > 220 << 10 { 8 } else { 16 }) as f64;
    let b_bytes = (rows / SPLIT * rank / SPLIT * 4) as f64;
    let [read, written] = [moved(&launches, "y0") / whole, moved(&launches, "y") / whole];
    let saved = moved(&launches, "x") / (tokens * width * size_of::<T>()) as f64;
    let b = moved(&launches, "b") / (blocks * b_bytes);
    let (elsewhere, gathering) = conflicts_by_line(&launches);
    let each = launches[0].counters.thread_instructions() as f64 / (tokens * rows) as f64;
    let tensor = launches[0].counters.tensor_products() as f64 / blocks;
    println!(
        "{:>5} t {tokens} m {rows:>5} r {rank:>3} {gate:?}  Y0 {read:.4} (gathered {gathered:.3})  Y {written:.4}  X \
         {saved:.4}  B {b:.4} a block  {each:>5.1} instructions an element  {tensor} mma a block  conflicts {elsewhere}, \
         gathering {gathering}",
        T::DTYPE.name()
    );
    assert!(read >= 1.0 && read <= 1.02 + gathered, "Y0 {read}");
    assert!((1.0..=1.02).contains(&written), "Y {written}");
    assert!((1.0..=1.02).contains(&saved), "X {saved}");
    assert!(b <= 1.0, "B {b}");
    assert_eq!(elsewhere, 0, "bank conflicts");
}

#[test]
fn the_forward_reads_and_writes_y_once() {
    for (device, vm) in machines() {
        for (rows, rank) in [(1536, 32), (1536, 128), (4096, 32), (4096, 128)] {
            count::<bf16>(&device, &vm, Gate::Inner, 256, rows, rank);
        }
        count::<f16>(&device, &vm, Gate::RmsInner, 256, 1536, 32);
        count::<f32>(&device, &vm, Gate::LinearSoftmax, 256, 4096, 32);
        count::<bf16>(&device, &vm, Gate::Static, 32, 14336, 32);
    }
}
