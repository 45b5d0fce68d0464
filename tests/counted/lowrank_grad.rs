//! The adapter's backward: G, X and dX once, B once a segment, z once a slice of columns, partial sums written and read once.

use super::*;
use crate::common::branch::{Problem, desc};
use idlora::MatMut;
use idlora::lowrank::{Desc, Gate, Gradients, InputGradient, Plan, Saved};

const TOKENS: usize = 256;
const COMPONENTS: usize = 4;
const SPLIT: usize = 2;
const COLS: usize = 64;

/// A call with everything that the variant produces, and what it launched.
fn launches<T: Elem>((device, vm): &(Device, Vm), problem: Desc, z: bool, scatter: bool) -> Vec<Launched> {
    let Desc { rows, rank, gate, .. } = problem;
    // B and the gate as drawn; the rest without the products that a random problem is drawn by.
    let drawn = Problem::<T>::random(problem, 0, None, 1).padded(0, 0, 0);
    let draw = &mut Draw::new(2);
    let width = COMPONENTS * rank;
    let [mut g, x, h] = [rows, width, COLS].map(|cols| weights::<T>(&draw.gaussian(TOKENS, cols)));
    let a: Vec<f32> = draw.gaussian(TOKENS, COMPONENTS).data().iter().map(|&a| a as f32).collect();
    let of_z: Vec<f32> = draw.gaussian(TOKENS, rank).data().iter().map(|&z| z as f32).collect();
    let (mut dx, mut share) = (vec![T::from_f32(0.0); TOKENS * width], vec![T::from_f32(0.0); TOKENS * COLS]);
    let (gate_rows, gate_cols) = gate.parameter_shape(rank, COMPONENTS, COLS);
    let (mut b, mut of_gate) = (vec![0.0f32; rows / SPLIT * rank / SPLIT], vec![0.0f32; gate_rows * gate_cols]);
    let mut layer = drawn.layer();
    layer.h = Some(MatRef::new(&h, TOKENS, COLS).unwrap());
    let saved = Saved {
        x: MatRef::new(&x, TOKENS, width).unwrap(),
        gate: MatRef::new(&a, TOKENS, COMPONENTS).unwrap(),
        z: z.then(|| MatRef::new(&of_z, TOKENS, rank).unwrap()),
    };
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

/// Bytes that launches of one kernel read of an operand and wrote, in whole sectors.
fn of_kernel(launches: &[Launched], kernel: &str, operand: &str) -> (f64, f64) {
    let of = launches.iter().filter(|launch| launch.kernel.starts_with(&format!("lowrank_grad_{kernel}")));
    let traffic = of.flat_map(|launch| launch.counters.allocations()).filter(|(name, _)| name == operand);
    let bytes = traffic.map(|(_, t)| (32 * t.read.sectors, 32 * t.written.sectors));
    let (read, written) = bytes.fold((0, 0), |sum, moved| (sum.0 + moved.0, sum.1 + moved.1));
    (read as f64, written as f64)
}

fn count<T: Elem>(machine: &(Device, Vm), gate: Gate, rows: usize, rank: usize, z: bool) {
    let launches = launches::<T>(machine, Desc { gate, ..desc(rows, COLS, rank, COMPONENTS, SPLIT) }, z, false);
    assert_eq!(launches.len(), 3 + usize::from(gate.reads_input()) + usize::from(!z));
    let element = size_of::<T>() as f64;
    let (g, x) = ((TOKENS * rows) as f64 * element, (TOKENS * rank * COMPONENTS) as f64 * element);
    let (b_bytes, z_bytes) = ((rows / SPLIT * rank / SPLIT * 4) as f64, (TOKENS * rank * 4) as f64);
    let segments = (TOKENS * SPLIT).div_ceil((8 * rank / SPLIT).max(128)) as f64;
    // What a block holds of m/s: z is read, and a part of dz written and read, once for each.
    let slices = (rows / SPLIT).div_ceil(if rank / SPLIT > 16 { 256 } else { 512 }) as f64;
    let of = |operand, bytes: f64| moved(&launches, operand) / bytes;
    let [of_g, of_x, of_dx, of_b] = [of("g", g), of("x", x), of("dx", x), of("b", segments * b_bytes)];
    // Between the kernels: the products write dz and the sums of dB, tokens read dz.
    let (again, between) = of_kernel(&launches, "products", "workspace");
    let (dz, _) = of_kernel(&launches, "tokens", "workspace");
    let [of_z, dz] = [moved(&launches, "z") + again, dz].map(|bytes| bytes / (slices * z_bytes));
    let sums = between - slices * z_bytes;
    let each = launches.iter().map(|launch| launch.counters.thread_instructions()).sum::<u64>() as f64
        / (TOKENS * rows) as f64;
    let tensor: u64 = launches.iter().map(|launch| launch.counters.tensor_products()).sum();
    println!(
        "{} m {rows} r {rank} {gate:?}, {} launches: G {of_g:.3}, X {of_x:.3}, dX {of_dx:.3}, B {of_b:.3} of {segments} segments, \
         its sums {:.3} ({:.3} of G), z {of_z:.3} and dz {dz:.3} of {slices} slices (z {:.3} of G), {tensor} tensor products, \
         {each:.2} instructions an element",
        launches[0].variant,
        launches.len(),
        sums / (segments * b_bytes),
        2.0 * segments * b_bytes / g,
        slices * z_bytes / g,
    );
    assert!((1.0..=1.02).contains(&of_g), "G {of_g}");
    assert!((1.0..=if z { 1.02 } else { 2.04 }).contains(&of_x), "X {of_x}");
    assert!((1.0..=1.02).contains(&of_dx), "dX {of_dx}");
    assert!(of_b <= 1.0, "B {of_b}");
    assert!((1.0..=1.02).contains(&(sums / (segments * b_bytes))), "partial sums of B {sums}");
    assert!((1.0..=1.02).contains(&of_z) && (1.0..=1.02).contains(&dz), "z {of_z}, dz {dz}");
    assert_eq!(conflicts(&launches), 0, "bank conflicts");
    if gate.reads_input() {
        let h = of("h", (TOKENS * COLS) as f64 * element);
        let share = of("h_gate", (TOKENS * COLS) as f64 * element);
        assert!((1.0..=1.02).contains(&h) && (1.0..=1.02).contains(&share), "H {h}, its share of dH {share}");
    }
}

fn counts<T: Elem>(gate: Gate) {
    for machine in machines() {
        for (rows, rank) in [(1536, 32), (1536, 128), (4096, 32), (4096, 128)] {
            count::<T>(&machine, gate, rows, rank, true);
        }
        // What premix reads is X, whatever m is.
        for rank in [32, 128] {
            count::<T>(&machine, gate, 1536, rank, false);
        }
    }
}

#[test]
fn the_backward_of_f16_reads_g_and_x_once() {
    counts::<f16>(Gate::RmsInner);
}

#[test]
fn the_backward_of_bf16_reads_g_and_x_once() {
    counts::<bf16>(Gate::Inner);
    for machine in machines() {
        count::<bf16>(&machine, Gate::Static, 1536, 32, true);
    }
}

#[test]
fn the_backward_of_f32_reads_g_and_x_once() {
    counts::<f32>(Gate::LinearSoftmax);
}

/// In place, G is read once for the products, and the sectors of its chosen columns once more, read and written.
#[test]
fn scattering_touches_only_the_chosen_sectors() {
    for machine in machines() {
        let launches = launches::<bf16>(&machine, desc(4096, COLS, 32, COMPONENTS, SPLIT), true, true);
        let sectors = moved(&launches, "g") / 32.0 - (TOKENS * 4096 * 2) as f64 / 32.0;
        assert!(sectors <= (2 * TOKENS * COMPONENTS * 32) as f64, "{sectors} sectors");
    }
}
