//! How fast the machine executes, on one core: thread instructions per second of a tiled f32 product without and with
//! checks, and the time of a 512³ bf16 product on tensor cores.
//!
//! `cargo bench -p ptx-vm`; needs NVRTC (`scripts/get-nvrtc`).

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use idlora_nvrtc::{Nvrtc, Source};
use ptx_vm::{Arg, Checks, Kernel, Launch, Memory, Module};
use std::hint::black_box;
use std::time::Duration;

/// A kernel of the tests, compiled.
fn kernel(nvrtc: Nvrtc, file: &str, name: &str) -> Kernel {
    let path = format!("{}/tests/kernels/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let source = Source { name: file, text: &text, options: &["--generate-line-info"], ..Source::default() };
    let compiled = nvrtc.compile(&source).unwrap_or_else(|error| panic!("{error}"));
    let module = Module::load(&compiled.ptx).unwrap_or_else(|error| panic!("{file}: {error}"));
    module.kernel(name).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Numbers in [-1, 1) from a small generator.
fn numbers(count: usize) -> Vec<f32> {
    let mut state = 1_u64;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(next).collect()
}

/// A launch with its operands in memory.
struct Problem {
    kernel: Kernel,
    launch: Launch,
    memory: Memory,
}

impl Problem {
    fn tiled(nvrtc: Nvrtc) -> Problem {
        let [m, n, k] = [128, 128, 128];
        let mut memory = Memory::new();
        let a = memory.upload(&numbers(m * k)).unwrap();
        let b = memory.upload(&numbers(k * n)).unwrap();
        let c = memory.allocate::<f32>(m * n).unwrap();
        let sizes = [m, n, k].map(|size| Arg::value(size as i32));
        let args = [a.into(), b.into(), c.into()].into_iter().chain(sizes).collect();
        let launch = Launch { grid: [n as u32 / 32, m as u32 / 32, 1], block: [32, 8, 1], args, ..Launch::default() };
        Problem { kernel: kernel(nvrtc, "gemm.cu", "gemm"), launch, memory }
    }

    fn tensor(nvrtc: Nvrtc) -> Problem {
        let [m, n, k] = [512; 3];
        let mut memory = Memory::new();
        let half =
            |values: Vec<f32>| -> Vec<u16> { values.iter().map(|v| half::bf16::from_f32(*v).to_bits()).collect() };
        let a = memory.upload(&half(numbers(m * k))).unwrap();
        let b = memory.upload(&half(numbers(k * n))).unwrap();
        let c = memory.allocate::<f32>(m * n).unwrap();
        let sizes = [m, n, k].map(|size| Arg::value(size as i32));
        let args = [a.into(), b.into(), c.into()].into_iter().chain(sizes).collect();
        let launch = Launch {
            grid: [n as u32 / 64, m as u32 / 64, 1],
            block: [128, 1, 1],
            dynamic_shared: 3 * 2 * (64 * 32 + 32 * 64),
            args,
            ..Launch::default()
        };
        Problem { kernel: kernel(nvrtc, "tensor.cu", "bf16_k16"), launch, memory }
    }

    /// Thread instructions of the launch.
    fn instructions(&self) -> u64 {
        let outcome = self.launch.run(&self.kernel, &mut self.memory.clone()).unwrap();
        assert!(outcome.findings.is_empty() && outcome.completed, "{:?}", outcome.findings);
        outcome.counters.thread_instructions()
    }
}

fn speed(criterion: &mut Criterion) {
    let nvrtc = match Nvrtc::find() {
        Ok(nvrtc) => nvrtc,
        Err(missing) => return eprintln!("skipped: {missing}"),
    };
    let checks = [("unchecked", Checks::NONE), ("all checks", Checks::ALL)];
    for (name, problem) in
        [("tiled f32 128³", Problem::tiled(nvrtc)), ("tensor-core bf16 512³", Problem::tensor(nvrtc))]
    {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(problem.instructions())).sample_size(10);
        group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
        for (checked, checks) in checks {
            let launch = Launch { checks, ..problem.launch.clone() };
            group.bench_function(checked, |bencher| {
                bencher.iter_batched_ref(
                    || problem.memory.clone(),
                    |memory| black_box(launch.run(&problem.kernel, memory).unwrap()),
                    BatchSize::PerIteration,
                );
            });
        }
        group.finish();
    }
}

criterion_group!(benches, speed);
criterion_main!(benches);
