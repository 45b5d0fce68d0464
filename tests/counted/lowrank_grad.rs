//! The adapter's backward: G and dX once, X twice, B once a segment, partial sums written and read once.

use super::*;
use crate::common::branch::{Problem, desc};
use idlora::MatMut;
use idlora::lowrank::{Desc, Gate, Gradients, InputGradient, Plan, Saved};

const TOKENS: usize = 256;
const COMPONENTS: usize = 4;
const SPLIT: usize = 2;
const COLS: usize = 64;

/// A call with everything that the variant produces, and what it launched.
fn launches<T: Elem>(device: &Device, vm: &Vm, gate: Gate, rows: usize, rank: usize, scatter: bool) -> Vec<Launched> {
    let problem = Desc { gate, ..desc(rows, COLS, rank, COMPONENTS, SPLIT) };
    // B and the gate as drawn; the rest without the products that a random problem is drawn by.
    let drawn = Problem::<T>::random(problem, 0, None, 1).padded(0, 0, 0);
    let draw = &mut Draw::new(2);
    let width = COMPONENTS * rank;
    let [mut g, x, h] = [rows, width, COLS].map(|cols| weights::<T>(&draw.gaussian(TOKENS, cols)));
    let a: Vec<f32> = draw.gaussian(TOKENS, COMPONENTS).data().iter().map(|&a| a as f32).collect();
    let (mut dx, mut share) = (vec![T::from_f32(0.0); TOKENS * width], vec![T::from_f32(0.0); TOKENS * COLS]);
    let (gate_rows, gate_cols) = gate.parameter_shape(rank, COMPONENTS, COLS);
    let (mut b, mut of_gate) = (vec![0.0f32; rows / SPLIT * rank / SPLIT], vec![0.0f32; gate_rows * gate_cols]);
    let mut layer = drawn.layer();
    layer.h = Some(MatRef::new(&h, TOKENS, COLS).unwrap());
    let saved =
        Saved { x: MatRef::new(&x, TOKENS, width).unwrap(), gate: MatRef::new(&a, TOKENS, COMPONENTS).unwrap() };
    let input = if scatter {
        InputGradient::Scatter(MatMut::new(&mut g, TOKENS, rows).unwrap())
    } else {
        let dx = MatMut::new(&mut dx, TOKENS, width).unwrap();
        InputGradient::Separate { g: MatRef::new(&g, TOKENS, rows).unwrap(), dx }
    };
    let gradients = Gradients {
        b: MatMut::new(&mut b, rows / SPLIT, rank / SPLIT).unwrap(),
        gate: MatMut::new(&mut of_gate, gate_rows, gate_cols).unwrap(),
        h_gate: gate.reads_input().then(|| MatMut::new(&mut share, TOKENS, COLS).unwrap()),
        accumulate: false,
    };
    vm.take_launches();
    Plan::new(device, problem).unwrap().backward(&drawn.parameters(), &layer, saved, input, gradients).unwrap();
    vm.take_launches()
}

fn count<T: Elem>(device: &Device, vm: &Vm, gate: Gate, rows: usize, rank: usize) {
    let launches = launches::<T>(device, vm, gate, rows, rank, false);
    assert_eq!(launches.len(), if gate.reads_input() { 6 } else { 5 });
    let element = size_of::<T>() as f64;
    let (g, x) = ((TOKENS * rows) as f64 * element, (TOKENS * rank * COMPONENTS) as f64 * element);
    let b_bytes = (rows / SPLIT * rank / SPLIT * 4) as f64;
    let sub_rows = TOKENS * SPLIT;
    let segments = sub_rows.div_ceil((8 * rank / SPLIT).max(128)) as f64;
    let of = |operand, bytes: f64| moved(&launches, operand) / bytes;
    let [of_g, of_x, of_dx] = [of("g", g), of("x", x), of("dx", x)];
    let [of_b, sums, dz, z] =
        [of("b", segments * b_bytes), of("b_sums", 2.0 * segments * b_bytes), of("dz", g), of("z", g)];
    let products = &launches[1].counters;
    let each = launches.iter().map(|launch| launch.counters.thread_instructions()).sum::<u64>() as f64
        / (TOKENS * rows) as f64;
    let tensor = products.tensor_products() as f64;
    println!(
        "{} m {rows} r {rank} {gate:?}: G {of_g:.3}, X {of_x:.3}, dX {of_dx:.3}, B {of_b:.3} of {segments} segments, its sums \
         {sums:.3} ({:.3} of G), dz {dz:.3} of G, z {z:.3} of G, {tensor:.0} tensor products, {each:.2} instructions an element",
        launches[1].variant,
        sums * 2.0 * segments * b_bytes / g
    );
    assert!((1.0..=1.02).contains(&of_g), "G {of_g}");
    assert!((1.0..=2.04).contains(&of_x), "X {of_x}");
    assert!((1.0..=1.02).contains(&of_dx), "dX {of_dx}");
    assert!(of_b <= 1.0, "B {of_b}");
    assert!(sums <= 1.0, "partial sums of B {sums}");
    assert_eq!(conflicts(&launches), 0, "bank conflicts");
    if gate.reads_input() {
        let h = of("h", (TOKENS * COLS) as f64 * element);
        let share = of("h_gate", (TOKENS * COLS) as f64 * element);
        assert!((1.0..=1.02).contains(&h) && (1.0..=1.02).contains(&share), "H {h}, its share of dH {share}");
    }
}

#[test]
fn the_backward_reads_g_once() {
    for (device, vm) in machines() {
        for (rows, rank) in [(1536, 32), (1536, 128), (4096, 32), (4096, 128)] {
            count::<bf16>(&device, &vm, Gate::Inner, rows, rank);
        }
        count::<f16>(&device, &vm, Gate::RmsInner, 1536, 32);
        count::<f32>(&device, &vm, Gate::LinearSoftmax, 1536, 32);
        count::<bf16>(&device, &vm, Gate::Static, 1536, 32);
    }
}

/// In place, G is read once for the products, and the sectors of its chosen columns once more, read and written.
#[test]
fn scattering_touches_only_the_chosen_sectors() {
    for (device, vm) in machines() {
        let launches = launches::<bf16>(&device, &vm, Gate::Inner, 4096, 32, true);
        let sectors = moved(&launches, "g") / 32.0 - (TOKENS * 4096 * 2) as f64 / 32.0;
        assert!(sectors <= (2 * TOKENS * COMPONENTS * 32) as f64, "{sectors} sectors");
    }
}
