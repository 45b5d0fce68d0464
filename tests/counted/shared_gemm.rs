//! A layer with its components: tensor-core operations against the exact number, Y written once and never read.

use super::*;
use idlora::MatMut;
use idlora::lowrank::{Gate, Parameters};
use idlora::shared_gemm::{Desc, Operands, Plan};
use idlora::tune::Config;

const COMPONENTS: usize = 4;
const RANK: usize = 32;

/// The kernel's tiles.
const TILES: [[u32; 2]; 4] = [[128, 128], [64, 128], [64, 64], [128, 256]];

/// What one run cost.
fn run<T: Elem>(device: &Device, vm: &Vm, desc: Desc, tokens: usize, tile: [u32; 2]) -> Vec<Launched> {
    let Desc { rows, cols, split, .. } = desc;
    let draw = &mut Draw::new(3);
    // Rows and columns of short matrices, over and over: only the count matters.
    let tiled = |draw: &mut Draw, rows: usize| -> Vec<T> {
        let values = weights::<T>(&draw.gaussian(8, cols));
        (0..rows * cols).map(|i| values[i % values.len()]).collect()
    };
    let (h, w) = (tiled(draw, tokens), tiled(draw, rows));
    let b = vec![0.25f32; rows / split * RANK / split];
    let (gate_rows, gate_cols) = desc.gate.parameter_shape(RANK, COMPONENTS, cols);
    let gate = vec![0.125f32; gate_rows * gate_cols];
    let skeleton: Vec<u32> = (0..COMPONENTS * RANK).map(|i| (i * (rows / (COMPONENTS * RANK))) as u32).collect();
    let adapter = Parameters {
        skeleton: &skeleton,
        b: MatRef::new(&b, rows / split, RANK / split).unwrap(),
        gate: MatRef::new(&gate, gate_rows, gate_cols).unwrap(),
        scale: 0.5,
    };
    let operands = Operands {
        h: MatRef::new(&h, tokens, cols).unwrap(),
        w: MatRef::new(&w, rows, cols).unwrap(),
        bias: None,
        adapter: (desc.components > 0).then_some(adapter),
        dropout: None,
    };
    let mut y = vec![T::from_f32(0.0); tokens * rows];
    vm.take_launches();
    let mut plan = Plan::new(device, desc).unwrap();
    plan.choose(T::DTYPE, tokens, Config::SharedGemm { tokens: tile[0], columns: tile[1], raster: 8 }).unwrap();
    plan.run(&operands, MatMut::new(&mut y, tokens, rows).unwrap(), None).unwrap();
    vm.take_launches()
}

/// Products of 16 × 8 × 16 are those of the layer, of the chosen rows, and three for each of r/s, and no more: within 1.5 % of
/// the exact number where n is 4096 and s is 2. Y moves once.
fn count<T: Elem>(device: &Device, vm: &Vm, tile: [u32; 2], gate: Gate, [tokens, rows, cols, split]: [usize; 4]) {
    let frozen = (tokens * rows * cols / 2048) as f64;
    let whole = (tokens * rows * size_of::<T>()) as f64;
    let with = Desc { rows, cols, rank: RANK, components: COMPONENTS, split, gate, bias: false };
    for desc in [Desc::frozen(rows, cols, false), with] {
        let launches = run::<T>(device, vm, desc, tokens, tile);
        assert_eq!(launches.len(), 1, "one launch");
        let counters = &launches[0].counters;
        let width = (desc.components * desc.rank) as f64;
        let depth = if desc.components > 0 { (RANK / split) as f64 } else { 0.0 };
        let exact = 1.0 + width / rows as f64 + depth / cols as f64;
        let tensor = counters.tensor_products() as f64 / frozen;
        let written = moved(&launches, "y") / whole;
        println!(
            "{:>5} {tile:?} t {tokens} m {rows} n {cols} k {} s {split} {gate:?}  tensor {tensor:.5} of the layer, exact {exact:.5} (+{:.2} %)  Y \
             {written:.4}  conflicts {}  {:.1} instructions a tensor product of the layer",
            T::DTYPE.name(),
            desc.components,
            100.0 * (tensor / exact - 1.0),
            conflicts(&launches),
            counters.thread_instructions() as f64 / 32.0 / frozen,
        );
        assert_eq!(tensor, 1.0 + width / rows as f64 + 3.0 * depth / cols as f64, "tensor operations");
        assert!(cols < 4096 || split < 2 || tensor <= 1.015 * exact, "tensor operations {tensor}, exact {exact}");
        assert_eq!(written, 1.0, "Y");
        assert_eq!(conflicts(&launches), 0, "bank conflicts");
    }
}

#[test]
fn the_layer_costs_its_own_products() {
    for (device, vm) in machines() {
        for tile in [TILES[0], TILES[3]] {
            count::<bf16>(&device, &vm, tile, Gate::Inner, [128, 256, 4096, 2]);
        }
        for tile in TILES {
            count::<f16>(&device, &vm, tile, Gate::LinearSoftmax, [128, 256, 256, 2]);
            count::<bf16>(&device, &vm, tile, Gate::RmsInner, [64, 256, 128, 1]);
        }
    }
}

/// The shapes of the gate, too long for every run:
/// `cargo test --features vm --test counted -- --ignored --nocapture the_layer_at_full_size`. With one part, r = 32 is the
/// first rank that misses the gate at n = m = 4096: three products of terms for each of r are 1.504 % over the exact number.
#[test]
#[ignore = "half a minute"]
fn the_layer_at_full_size() {
    for (device, vm) in machines() {
        count::<bf16>(&device, &vm, TILES[0], Gate::Inner, [256, 1024, 4096, 2]);
        count::<bf16>(&device, &vm, TILES[0], Gate::Inner, [256, 4096, 4096, 2]);
        count::<bf16>(&device, &vm, TILES[2], Gate::Inner, [64, 4096, 4096, 1]);
    }
}
