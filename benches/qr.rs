//! Truncated pivoted QR by tier, with the norms that it starts from, on one thread. `RAYON_NUM_THREADS` does not
//! enter: the pool is its own, so that figures compare with single-threaded LAPACK.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use idlora::qr::{Desc, Groups, Plan, Stop, Tier};
use idlora::{Device, Elem, MatRef, bf16, norms};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::hint::black_box;

/// Candidate rows of a cluster, by name.
const SHAPES: [(&str, usize, usize); 2] = [("cluster-1024x4096", 1024, 4096), ("minilm-384x384", 384, 384)];

/// Sums of four uniform numbers: close to normal, never all zero.
fn random<T: Elem>(rows: usize, cols: usize) -> Vec<T> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut uniform = || (rng.next_u64() >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
    (0..rows * cols).map(|_| T::from_f32((0..4).map(|_| uniform()).sum())).collect()
}

fn factor<T: Elem>(c: &mut Criterion, pool: &rayon::ThreadPool) {
    for (name, rows, cols) in SHAPES {
        let data = random::<T>(rows, cols);
        let w = MatRef::new(&data, rows, cols).expect("rows·cols elements");
        let groups = Groups::all(rows);
        let mut group = c.benchmark_group(format!("qr/{name}/{}", T::DTYPE.name()));
        for rank in [16, 64] {
            for (tier_name, tier) in
                [("gram", Tier::Gram), ("exact", Tier::Exact), ("sketch", Tier::Sketch { oversampling: 8 })]
            {
                let plan = Plan::new(&Device::Cpu, Desc { cols, rank, tier, seed: 0 }).expect("a legal problem");
                group.bench_function(BenchmarkId::new(tier_name, rank), |b| {
                    pool.install(|| b.iter(|| black_box(plan.run(black_box(w), &groups, &Stop::default()))));
                });
            }
        }
        group.finish();
    }
}

fn row_norms<T: Elem>(c: &mut Criterion, pool: &rayon::ThreadPool) {
    for (name, rows, cols) in SHAPES {
        let data = random::<T>(rows, cols);
        let w = MatRef::new(&data, rows, cols).expect("rows·cols elements");
        let mut group = c.benchmark_group(format!("norms/{name}/{}", T::DTYPE.name()));
        group.throughput(Throughput::Bytes(size_of_val(data.as_slice()) as u64));
        for (axis_name, axis, points) in [("rows", norms::Axis::Rows, rows), ("cols", norms::Axis::Cols, cols)] {
            let plan = norms::Plan::new(&Device::Cpu, norms::Desc { rows, cols, axis }).expect("a legal problem");
            let mut out = vec![0.0; points];
            group.bench_function(axis_name, |b| {
                pool.install(|| b.iter(|| plan.run(black_box(w), black_box(&mut out))));
            });
        }
        group.finish();
    }
}

fn all(c: &mut Criterion) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread");
    factor::<f32>(c, &pool);
    factor::<bf16>(c, &pool);
    row_norms::<f32>(c, &pool);
    row_norms::<bf16>(c, &pool);
}

criterion_group!(benches, all);
criterion_main!(benches);
