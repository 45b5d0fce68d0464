//! The input gradient: tensor-core operations are exactly the exact number, dH is written once, what is added is read once.

use super::*;
use idlora::MatMut;
use idlora::lowrank::Gate;
use idlora::shared_gemm::{Addend, Desc, GradAdapter, GradOperands, Plan};

const COMPONENTS: usize = 4;
const RANK: usize = 32;

/// What one run cost.
fn run<T: Elem>(device: &Device, vm: &Vm, desc: Desc, tokens: usize, adds: bool) -> Vec<Launched> {
    let Desc { rows, cols, .. } = desc;
    let draw = &mut Draw::new(3);
    // Rows of short matrices, over and over: only the count matters.
    let mut tiled = |rows: usize, cols: usize| -> Vec<T> {
        let values = weights::<T>(&draw.gaussian(8, cols));
        (0..rows * cols).map(|i| values[i % values.len()]).collect()
    };
    let width = COMPONENTS * RANK;
    let (g, w, dx, add) = (tiled(tokens, rows), tiled(rows, cols), tiled(tokens, width), tiled(tokens, cols));
    // Not in order, and neighbours are far apart.
    let skeleton: Vec<u32> = (0..width).map(|c| (c * 37 % width * (rows / width)) as u32).collect();
    let adapter = GradAdapter { skeleton: &skeleton, dx: MatRef::new(&dx, tokens, width).unwrap() };
    let operands = GradOperands {
        g: MatRef::new(&g, tokens, rows).unwrap(),
        w: MatRef::new(&w, rows, cols).unwrap(),
        adapter: (desc.components > 0).then_some(adapter),
        add: if adds { Addend::Matrix(MatRef::new(&add, tokens, cols).unwrap()) } else { Addend::None },
    };
    let mut dh = vec![T::from_f32(0.0); tokens * cols];
    vm.take_launches();
    let to = MatMut::new(&mut dh, tokens, cols).unwrap();
    Plan::new(device, desc).unwrap().input_gradient(&operands, to).unwrap();
    vm.take_launches()
}

/// Products of 16 × 8 × 16 are those of the layer and of the chosen rows, and no more. dH moves once, the addend once, G and W
/// once for every tile across and down.
fn count<T: Elem>(device: &Device, vm: &Vm, tokens: usize, rows: usize, cols: usize) {
    let frozen = (tokens * rows * cols / 2048) as f64;
    let whole = |rows: usize, cols: usize| (rows * cols * size_of::<T>()) as f64;
    let with = Desc { rows, cols, rank: RANK, components: COMPONENTS, split: 1, gate: Gate::Static, bias: false };
    for (desc, adds) in [(Desc::frozen(rows, cols, false), false), (with, false), (with, true)] {
        let launches = run::<T>(device, vm, desc, tokens, adds);
        assert_eq!(launches.len(), 1, "one launch");
        let counters = &launches[0].counters;
        let width = desc.components * desc.rank;
        let exact = 1.0 + width as f64 / rows as f64;
        let tensor = counters.tensor_products() as f64 / frozen;
        let written = moved(&launches, "dh") / whole(tokens, cols);
        let added = moved(&launches, "add") / whole(tokens, cols);
        let of_g = moved(&launches, "g") / whole(tokens, rows);
        let of_w = moved(&launches, "w") / whole(rows + width, cols);
        println!(
            "{:>5} t {tokens} m {rows} n {cols} k·r {width:>3} {:<8}  tensor {tensor:.5} of the layer, exact {exact:.5}  dH \
             {written:.4}  addend {added:.4}  G {of_g:.3} of {}  W {of_w:.3} of {}  conflicts {}  {:.2} instructions a tensor \
             product",
            T::DTYPE.name(),
            if adds { "and more" } else { "" },
            cols.div_ceil(128),
            tokens.div_ceil(128),
            conflicts(&launches),
            counters.thread_instructions() as f64 / 32.0 / counters.tensor_products() as f64,
        );
        assert_eq!(tensor, exact, "tensor operations");
        assert_eq!(written, 1.0, "dH");
        assert_eq!(added, f64::from(u8::from(adds)), "addend");
        assert_eq!(of_g, cols.div_ceil(128) as f64, "G");
        assert_eq!(of_w, tokens.div_ceil(128) as f64, "W");
        assert_eq!(conflicts(&launches), 0, "bank conflicts");
    }
}

#[test]
fn the_input_gradient_costs_its_own_products() {
    for (device, vm) in machines() {
        count::<bf16>(&device, &vm, 128, 2048, 256);
        count::<f16>(&device, &vm, 256, 256, 128);
    }
}

/// The shape of the gate, too long for every run:
/// `cargo test --features vm --test counted -- --ignored --nocapture the_input_gradient_at_full_size`.
#[test]
#[ignore = "half a minute"]
fn the_input_gradient_at_full_size() {
    for (device, vm) in machines() {
        count::<bf16>(&device, &vm, 256, 4096, 4096);
    }
}
