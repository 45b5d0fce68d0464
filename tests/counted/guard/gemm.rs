//! Problems of the layer with its components, and of its input gradient: every tile.

use super::adapter::skeleton;
use super::{Device, Elem, MatRef, Problems, uniform};
use idlora::MatMut;
use idlora::lowrank::{Gate, Parameters};
use idlora::shared_gemm::{Addend, Desc, GradAdapter, GradOperands, Operands, Plan};
use idlora::tune::Config;

const COMPONENTS: usize = 4;
const SPLIT: usize = 2;
const RANK: usize = 32;
const TILES: [[u32; 2]; 4] = [[128, 128], [64, 128], [64, 64], [128, 256]];
const GRAD_TILES: [[u32; 2]; 3] = [[128, 128], [64, 128], [64, 64]];
const TOKENS: usize = 256;

pub fn add<T: Elem>(problems: &mut Problems) {
    problems.add("frozen:256x256x512", |device| forward::<T>(device, (256, 512), None, TILES[0]));
    problems.add("softmax:256x256x512,r=32", |device| {
        forward::<T>(device, (256, 512), Some(Gate::LinearSoftmax), TILES[0]);
    });
    problems.add("inner:256x256x512,r=32", |device| {
        TILES.into_iter().for_each(|tile| forward::<T>(device, (256, 512), Some(Gate::Inner), tile));
    });
    problems.add("gradient:256x512x256,r=32", |device| {
        GRAD_TILES.into_iter().for_each(|tile| gradient::<T>(device, (512, 256), tile));
    });
}

fn desc((rows, cols): (usize, usize), gate: Option<Gate>) -> Desc {
    let with = |gate| Desc { rows, cols, rank: RANK, components: COMPONENTS, split: SPLIT, gate, bias: false };
    gate.map_or(Desc::frozen(rows, cols, false), with)
}

/// A layer of `rows` and `cols`, frozen alone or with components.
fn forward<T: Elem>(device: &Device, (rows, cols): (usize, usize), gate: Option<Gate>, [tokens, columns]: [u32; 2]) {
    let (h, w) = (uniform::<T>(10, TOKENS * cols), uniform::<T>(11, rows * cols));
    let b: Vec<f32> = uniform(12, rows / SPLIT * RANK / SPLIT);
    let (gate_rows, gate_cols) = gate.map_or((0, 0), |gate| gate.parameter_shape(RANK, COMPONENTS, cols));
    let of_gate: Vec<f32> = uniform(13, gate_rows * gate_cols);
    let skeleton = skeleton(rows, COMPONENTS * RANK);
    let adapter = || Parameters {
        skeleton: &skeleton,
        b: MatRef::new(&b, rows / SPLIT, RANK / SPLIT).unwrap(),
        gate: MatRef::new(&of_gate, gate_rows, gate_cols).unwrap(),
        scale: 0.5,
    };
    let operands = Operands {
        h: MatRef::new(&h, TOKENS, cols).unwrap(),
        w: MatRef::new(&w, rows, cols).unwrap(),
        bias: None,
        adapter: gate.map(|_| adapter()),
        dropout: None,
    };
    let mut y = vec![T::from_f32(0.0); TOKENS * rows];
    let mut plan = Plan::new(device, desc((rows, cols), gate)).unwrap();
    plan.choose(T::DTYPE, TOKENS, Config::SharedGemm { tokens, columns, raster: 8 }).unwrap();
    plan.run(&operands, MatMut::new(&mut y, TOKENS, rows).unwrap(), None).unwrap();
}

/// Its input gradient, with components and an addend in place.
fn gradient<T: Elem>(device: &Device, (rows, cols): (usize, usize), [tokens, columns]: [u32; 2]) {
    let width = COMPONENTS * RANK;
    let (g, w, dx) = (uniform::<T>(14, TOKENS * rows), uniform::<T>(11, rows * cols), uniform::<T>(15, TOKENS * width));
    let mut dh = uniform::<T>(16, TOKENS * cols);
    let skeleton = skeleton(rows, width);
    let operands = GradOperands {
        g: MatRef::new(&g, TOKENS, rows).unwrap(),
        w: MatRef::new(&w, rows, cols).unwrap(),
        adapter: Some(GradAdapter { skeleton: &skeleton, dx: MatRef::new(&dx, TOKENS, width).unwrap() }),
        add: Addend::InPlace,
    };
    let mut plan = Plan::new(device, desc((rows, cols), Some(Gate::Inner))).unwrap();
    plan.choose(T::DTYPE, TOKENS, Config::SharedGemmGrad { tokens, columns, raster: 8 }).unwrap();
    plan.input_gradient(&operands, MatMut::new(&mut dh, TOKENS, cols).unwrap()).unwrap();
}
