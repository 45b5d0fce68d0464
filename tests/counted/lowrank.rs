//! The adapter's forward: Y0 and Y once, what is saved once, B once a block.

use super::*;
use crate::common::branch::desc;
use idlora::MatMut;
use idlora::lowrank::{Desc, Gate, Layer, Output, Parameters, Plan, SavedMut};

const COMPONENTS: usize = 4;
const SPLIT: usize = 2;
/// Columns of H.
const COLS: usize = 64;

/// Bank conflicts elsewhere than where random columns are gathered from shared memory, and there.
fn conflicts_by_line(launches: &[Launched]) -> (u64, u64) {
    let source = include_str!("../../kernels/common/shrink.cuh");
    let gather = 1 + source.lines().position(|line| line.contains("tile[places[c]]")).unwrap() as u32;
    let (mut elsewhere, mut gathering) = (0, 0);
    for line in launches.iter().flat_map(|launch| launch.counters.lines()) {
        let here = line.source.as_ref().is_some_and(|at| at.file.ends_with("shrink.cuh") && at.line == gather);
        *if here { &mut gathering } else { &mut elsewhere } += line.shared.conflicts;
    }
    (elsewhere, gathering)
}

/// Values that every operand of every shape is cut from, and the columns that are chosen first.
struct Drawn {
    values: Vec<f32>,
    columns: Vec<u32>,
}

impl Drawn {
    fn new(values: usize) -> Self {
        let draw = &mut Draw::new(2);
        let values = draw.gaussian(1, values).data().iter().map(|&x| x as f32).collect();
        // Distinct below any number of rows that they are taken modulo, as long as it is a multiple of 512.
        let mut columns: Vec<u32> = (0..512).collect();
        for i in 0..512 {
            columns.swap(i, i + draw.below(512 - i));
        }
        Self { values, columns }
    }

    /// Chosen among all rows, as far apart as they allow.
    fn skeleton(&self, rows: usize, width: usize) -> Vec<u32> {
        let stride = (rows / self.columns.len()) as u32;
        let place = |(i, &column): (usize, &u32)| column * stride + i as u32 % stride;
        self.columns[..width].iter().enumerate().map(place).collect()
    }
}

/// Out of place, everything saved; `gathered` sectors of Y0 on top where its tile does not fit.
fn count<T: Elem>((device, vm): &(Device, Vm), drawn: &Drawn, gate: Gate, tokens: usize, rows: usize, rank: usize) {
    let problem = Desc { gate, ..desc(rows, COLS, rank, COMPONENTS, SPLIT) };
    let width = COMPONENTS * rank;
    let cut = |rows: usize, cols: usize| MatRef::new(&drawn.values[..rows * cols], rows, cols).unwrap();
    let narrow = |len: usize| -> Vec<T> { drawn.values[..len].iter().map(|&x| T::from_f32(x)).collect() };
    let (gate_rows, gate_cols) = gate.parameter_shape(rank, COMPONENTS, COLS);
    let (y0, h, skeleton) = (narrow(tokens * rows), narrow(tokens * COLS), drawn.skeleton(rows, width));
    let parameters = Parameters {
        skeleton: &skeleton,
        b: cut(rows / SPLIT, rank / SPLIT),
        gate: cut(gate_rows, gate_cols),
        scale: 0.01,
    };
    let layer = Layer { h: Some(MatRef::new(&h, tokens, COLS).unwrap()), w: None, bias: None, dropout: None };
    let (mut y, mut x) = (vec![T::from_f32(0.0); tokens * rows], vec![T::from_f32(0.0); tokens * width]);
    let (mut a, mut z) = (vec![0.0f32; tokens * COMPONENTS], vec![0.0f32; tokens * rank]);
    let output = Output::OutOfPlace {
        y0: MatRef::new(&y0, tokens, rows).unwrap(),
        y: MatMut::new(&mut y, tokens, rows).unwrap(),
    };
    let saved = SavedMut {
        x: MatMut::new(&mut x, tokens, width).unwrap(),
        gate: MatMut::new(&mut a, tokens, COMPONENTS).unwrap(),
        z: Some(MatMut::new(&mut z, tokens, rank).unwrap()),
    };
    vm.take_launches();
    Plan::new(device, problem).unwrap().forward(&parameters, &layer, output, Some(saved)).unwrap();
    let launches = vm.take_launches();
    assert_eq!(launches.len(), 1, "one launch");

    let whole = (tokens * rows * size_of::<T>()) as f64;
    let holds = rows * size_of::<T>() * 8 < 220 << 10;
    let gathered = if holds { 0.0 } else { (tokens * width * 32) as f64 / whole };
    let blocks = (tokens / if holds && rows * size_of::<T>() * 16 > 220 << 10 { 8 } else { 16 }) as f64;
    let b_bytes = (rows / SPLIT * rank / SPLIT * 4) as f64;
    let [read, written] = [moved(&launches, "y0") / whole, moved(&launches, "y") / whole];
    let of_x = moved(&launches, "x") / (tokens * width * size_of::<T>()) as f64;
    let of_z = moved(&launches, "z") / (tokens * rank * 4) as f64;
    let b = moved(&launches, "b") / (blocks * b_bytes);
    let (elsewhere, gathering) = conflicts_by_line(&launches);
    let each = launches[0].counters.thread_instructions() as f64 / (tokens * rows) as f64;
    let tensor = launches[0].counters.tensor_products() as f64 / blocks;
    println!(
        "{:>5} t {tokens} m {rows:>5} r {rank:>3} {gate:?}  Y0 {read:.4} (gathered {gathered:.3})  Y {written:.4}  X \
         {of_x:.4}  z {of_z:.4}  B {b:.4} a block  {each:>5.1} instructions an element  {tensor} mma a block  conflicts \
         {elsewhere}, gathering {gathering}",
        T::DTYPE.name()
    );
    assert!(read >= 1.0 && read <= 1.02 + gathered, "Y0 {read}");
    assert!((1.0..=1.02).contains(&written), "Y {written}");
    assert!((1.0..=1.02).contains(&of_x), "X {of_x}");
    assert!((1.0..=1.02).contains(&of_z), "z {of_z}");
    assert!(b <= 1.0, "B {b}");
    assert_eq!(elsewhere, 0, "bank conflicts");
}

#[test]
fn the_forward_reads_and_writes_y_once() {
    let machines = machines();
    if machines.is_empty() {
        return;
    }
    let drawn = Drawn::new(80 * 14336);
    for machine in &machines {
        for (rows, rank) in [(1536, 32), (1536, 128), (4096, 32), (4096, 128)] {
            count::<bf16>(machine, &drawn, Gate::Inner, 256, rows, rank);
            count::<f16>(machine, &drawn, Gate::RmsInner, 256, rows, rank);
            count::<f32>(machine, &drawn, Gate::LinearSoftmax, 256, rows, rank);
        }
        count::<bf16>(machine, &drawn, Gate::Static, 80, 14336, 32);
    }
}
