//! The adapter branch alone, forward and backward: named shapes, random operands.
//!
//! `RAYON_NUM_THREADS=1 cargo bench --bench lowrank`; peers are measured beside it by `benches/peers/`.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use idlora::lowrank::{
    Bias, Desc, DownProjection, Gate, Gradients, InputGradient, Layer, Output, Parameters, Plan, Saved, SavedMut,
};
use idlora::{Device, Elem, Mat, bf16, f16};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A named problem: tokens and shape.
struct Shape {
    name: &'static str,
    tokens: usize,
    size: usize,
    rank: usize,
    split: usize,
    gate: Gate,
}

const SHAPES: [Shape; 6] = [
    Shape { name: "square-r32", tokens: 2048, size: 4096, rank: 32, split: 2, gate: Gate::Inner },
    Shape { name: "square-r16", tokens: 2048, size: 4096, rank: 16, split: 2, gate: Gate::Inner },
    Shape { name: "square-r128", tokens: 2048, size: 4096, rank: 128, split: 2, gate: Gate::Inner },
    Shape { name: "square-r32-softmax", tokens: 2048, size: 4096, rank: 32, split: 2, gate: Gate::LinearSoftmax },
    Shape { name: "decode-r32", tokens: 1, size: 4096, rank: 32, split: 2, gate: Gate::Inner },
    Shape { name: "minilm-r16", tokens: 512, size: 384, rank: 16, split: 2, gate: Gate::LinearSoftmax },
];

/// Uniform in ±`size`.
fn random<T: Elem>(rng: &mut ChaCha8Rng, rows: usize, cols: usize, size: f32) -> Mat<T> {
    let draw = |_| T::from_f32(((rng.next_u64() >> 40) as f32 / (1 << 23) as f32 - 1.0) * size);
    Mat::from_vec((0..rows * cols).map(draw).collect(), rows, cols).expect("sizes agree")
}

/// Forward (in place) and backward (scattered) of one shape. The adapter's B is so small that repeating either in place
/// on the same buffers leaves them of unit size.
fn branch<T: Elem>(criterion: &mut Criterion, shape: &Shape) {
    const COMPONENTS: usize = 4;
    let Shape { tokens, size, rank, split, gate, .. } = *shape;
    let (down, bias) = (DownProjection::Gather, Bias::None);
    let desc = Desc { rows: size, cols: size, rank, components: COMPONENTS, split, gate, down, bias };
    let rng = &mut ChaCha8Rng::seed_from_u64(1);
    let width = COMPONENTS * rank;
    let skeleton: Vec<u32> = (0..width).map(|i| ((i * 37 % width) * (size / width)) as u32).collect();
    let b = random::<f32>(rng, size / split, rank / split, 1e-7);
    let (gate_rows, gate_cols) = gate.parameter_shape(rank, COMPONENTS, size);
    let weights = random::<f32>(rng, gate_rows, gate_cols, 0.1);
    let h = random::<T>(rng, tokens, size, 1.0);
    let (mut y, mut g) = (random::<T>(rng, tokens, size, 1.0), random::<T>(rng, tokens, size, 1.0));
    let (mut x, mut a) = (random::<T>(rng, tokens, width, 1.0), random::<f32>(rng, tokens, COMPONENTS, 1.0));
    let (mut db, mut dgate, mut dh) = (b.clone(), weights.clone(), h.clone());
    let parameters = Parameters { skeleton: &skeleton, b: b.as_ref(), gate: weights.as_ref(), scale: 2.0 };
    let layer = Layer { h: Some(h.as_ref()), w: None, bias: None, dropout: None };
    let plan = Plan::new(&Device::Cpu, desc).expect("a legal problem");

    let mut group = criterion.benchmark_group(shape.name);
    group.sample_size(20).throughput(Throughput::Bytes((tokens * size * size_of::<T>()) as u64));
    group.bench_function(BenchmarkId::new("forward", T::DTYPE.name()), |bencher| {
        bencher.iter(|| {
            let saved = SavedMut { x: x.as_mut(), gate: a.as_mut(), z: None };
            plan.forward(&parameters, &layer, Output::InPlace(y.as_mut()), Some(saved)).expect("operands fit");
        });
    });
    group.bench_function(BenchmarkId::new("backward", T::DTYPE.name()), |bencher| {
        bencher.iter(|| {
            let saved = Saved { x: x.as_ref(), gate: a.as_ref(), z: None };
            let h_gate = gate.reads_input().then(|| dh.as_mut());
            let gradients = Gradients { b: db.as_mut(), gate: dgate.as_mut(), h_gate, accumulate: false };
            let input = InputGradient::Scatter(g.as_mut());
            plan.backward(&parameters, &layer, saved, input, gradients).expect("operands fit");
        });
    });
    group.finish();
}

fn lowrank(criterion: &mut Criterion) {
    for shape in &SHAPES {
        branch::<f32>(criterion, shape);
        branch::<bf16>(criterion, shape);
        branch::<f16>(criterion, shape);
    }
}

criterion_group!(benches, lowrank);
criterion_main!(benches);
