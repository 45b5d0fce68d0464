//! The explicit down-projection: H once for every column of tiles, chosen rows of W once for every row of them, X once.

use super::*;
use crate::common::branch::desc;
use idlora::MatMut;
use idlora::lowrank::{Desc, DownProjection, Gate, Layer, Output, Parameters, Plan, SavedMut};

const COMPONENTS: usize = 4;

/// Rows of H and of W that a block takes, by the kernel's name: the tiles of `kernels/lowrank_down.cu`.
fn tile(kernel: &str) -> [usize; 2] {
    match kernel {
        "lowrank_down_small" => [16, 16],
        "lowrank_down_medium" => [64, 64],
        "lowrank_down_large" => [128, 64],
        other => panic!("{other}"),
    }
}

fn count<T: Elem>(device: &Device, vm: &Vm, tokens: usize, cols: usize, rank: usize) -> &'static str {
    let width = COMPONENTS * rank;
    let rows = width + 32;
    let problem = Desc { gate: Gate::Static, down: DownProjection::Gemm, ..desc(rows, cols, rank, COMPONENTS, 1) };
    // The chosen rows are not the first, and neighbours are far apart.
    let skeleton: Vec<u32> = (0..width).map(|c| (c * 37 % width + 32) as u32).collect();
    let draw = &mut Draw::new(1);
    let (h, w) = (weights::<T>(&draw.gaussian(tokens, cols)), weights::<T>(&draw.gaussian(rows, cols)));
    let (b, gate) = (vec![0.0f32; rows * rank], vec![1.0f32; COMPONENTS]);
    let parameters = Parameters {
        skeleton: &skeleton,
        b: MatRef::new(&b, rows, rank).unwrap(),
        gate: MatRef::new(&gate, 1, COMPONENTS).unwrap(),
        scale: 1.0,
    };
    let layer = Layer {
        h: Some(MatRef::new(&h, tokens, cols).unwrap()),
        w: Some(MatRef::new(&w, rows, cols).unwrap()),
        bias: None,
        dropout: None,
    };
    let (mut y, mut x) = (vec![T::from_f32(0.0); tokens * rows], vec![T::from_f32(0.0); tokens * width]);
    let mut a = vec![0.0f32; tokens * COMPONENTS];
    let saved = SavedMut {
        x: MatMut::new(&mut x, tokens, width).unwrap(),
        gate: MatMut::new(&mut a, tokens, COMPONENTS).unwrap(),
        z: None,
    };
    vm.take_launches();
    let output = Output::InPlace(MatMut::new(&mut y, tokens, rows).unwrap());
    Plan::new(device, problem).unwrap().forward(&parameters, &layer, output, Some(saved)).unwrap();
    let launches = vm.take_launches();
    assert_eq!(launches.len(), 2, "the product, then the rest");
    let launch = &launches[..1];

    let size = size_of::<T>();
    let [of_tokens, of_columns] = tile(launch[0].kernel);
    let (down, across) = (tokens.div_ceil(of_tokens), width.div_ceil(of_columns));
    let of_h = moved(launch, "h") / (tokens * cols * size) as f64;
    let of_w = moved(launch, "w") / (width * cols * size) as f64;
    let of_x = moved(launch, "x") / (tokens * width * size) as f64;
    let tensor = launch[0].counters.tensor_products();
    let products = if size == 4 { 6 } else { 1 };
    let expected = down * across * (of_tokens / 16) * (of_columns / 8) * cols.div_ceil(16) * products;
    let each = launch[0].counters.thread_instructions() as f64 / (32 * tensor) as f64;
    println!(
        "{:>5} t {tokens:>3} n {cols} k·r {width:>3} {:>19}  H {of_h:.3} of {across}  W[S] {of_w:.3} of {down}  X {of_x:.3}  {tensor} \
         mma, {each:.1} instructions each  conflicts {}",
        T::DTYPE.name(),
        launch[0].kernel,
        conflicts(launch)
    );
    assert!(of_h >= 1.0 && of_h <= across as f64, "H {of_h}, gate {across}");
    assert!(of_w >= 1.0 && of_w <= down as f64, "W[S] {of_w}, gate {down}");
    assert_eq!(of_x, 1.0, "X");
    assert_eq!(tensor, expected as u64, "tensor operations");
    assert_eq!(conflicts(launch), 0, "bank conflicts");
    launch[0].kernel
}

#[test]
fn the_down_projection_reads_chosen_rows_once_for_every_row_of_tiles() {
    for (device, vm) in machines() {
        let mut kernels = Vec::new();
        for rank in [32, 128] {
            kernels.push(count::<f16>(&device, &vm, 256, 1024, rank));
            kernels.push(count::<bf16>(&device, &vm, 256, 4096, rank));
            kernels.push(count::<f32>(&device, &vm, 256, 1024, rank));
        }
        kernels.push(count::<f32>(&device, &vm, 256, 4096, 32));
        // Many tokens of few columns, and one token.
        kernels.push(count::<f16>(&device, &vm, 2048, 64, 128));
        kernels.push(count::<f32>(&device, &vm, 2048, 64, 128));
        kernels.push(count::<bf16>(&device, &vm, 1, 4096, 32));
        kernels.sort_unstable();
        kernels.dedup();
        assert_eq!(kernels, ["lowrank_down_large", "lowrank_down_medium", "lowrank_down_small"]);
    }
}
