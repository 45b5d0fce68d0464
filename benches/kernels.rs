//! Times the kernels of every operation on every CUDA device, by events around each launch: no transfer, no host code.
//!
//! `least` is what the operation cannot do without: the passes over `W` that `kernels/*.cu` state under Traffic. The floor is
//! the time which the device's own copy of memory, measured first, takes for as many bytes. `W` has just been uploaded, so
//! that what fits the L2 cache is read from there: the large shapes tell about memory.
//!
//! * `NAME ...` runs only the operations whose names contain one of these.
//! * `--vm` counts on the virtual machine instead, at the smallest shape.
//! * `--test` runs a tiny case of everything once, on whatever there is.
#![cfg_attr(not(any(feature = "cuda", feature = "vm")), allow(dead_code))]

use idlora::cluster::{self, Axis, Clustering, Info, Options, Space};
use idlora::qr::{Groups, Stop, Tier};
use idlora::select::{self, Selection};
use idlora::{Device, Elem, Error, Mat, MatRef, bf16, interp, norms, qr};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::process::ExitCode;

/// A weight, and what the method does with it.
struct Shape {
    rows: usize,
    cols: usize,
    clusters: usize,
    rank: usize,
}

/// MiniLM's intermediate weight, LLaMA-3-8B's query and gate projections.
const SHAPES: [Shape; 3] = [
    Shape { rows: 1536, cols: 384, clusters: 4, rank: 16 },
    Shape { rows: 4096, cols: 4096, clusters: 4, rank: 32 },
    Shape { rows: 14336, cols: 4096, clusters: 4, rank: 32 },
];
const TINY: [Shape; 1] = [Shape { rows: 40, cols: 24, clusters: 2, rank: 3 }];

/// Lloyd steps of the clustering.
const STEPS: usize = 20;

struct Arguments {
    vm: bool,
    test: bool,
    names: Vec<String>,
}

impl Arguments {
    /// Options of cargo's that mean nothing here are passed over.
    fn parse() -> Self {
        let mut found = Self { vm: false, test: false, names: Vec::new() };
        for argument in std::env::args().skip(1) {
            match argument.as_str() {
                "--vm" => found.vm = true,
                "--test" => found.test = true,
                option if option.starts_with('-') => {}
                _ => found.names.push(argument),
            }
        }
        found
    }

    fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|part| name.contains(part.as_str()))
    }

    fn shapes(&self) -> &'static [Shape] {
        match (self.test, self.vm) {
            (true, _) => &TINY,
            (false, true) => &SHAPES[..1],
            (false, false) => &SHAPES,
        }
    }
}

/// An operation on a weight: runs it, and says how many bytes it cannot do without.
type Run<'a> = Box<dyn Fn(&Device) -> Result<usize, Error> + 'a>;

/// Sums of four uniform numbers: close to normal, never all zero.
fn random<T: Elem>(rows: usize, cols: usize) -> Vec<T> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut uniform = || (rng.next_u64() >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
    (0..rows * cols).map(|_| T::from_f32((0..4).map(|_| uniform()).sum())).collect()
}

/// Every operation with kernels on one weight.
fn operations<'a, T: Elem>(shape: &'a Shape, w: MatRef<'a, T>, start: MatRef<'a, f32>) -> Vec<(String, Run<'a>)> {
    let &Shape { rows, cols, clusters, rank } = shape;
    let bytes = rows * cols * size_of::<T>();
    let mut all: Vec<(String, Run<'a>)> = Vec::new();

    for (name, axis, points) in [("norms rows", Axis::Rows, rows), ("norms cols", Axis::Cols, cols)] {
        let run = move |device: &Device| {
            let plan = norms::Plan::new(device, norms::Desc { rows, cols, axis })?;
            plan.run(w, &mut vec![0.0; points])?;
            Ok(bytes + points * size_of::<f32>())
        };
        all.push((name.to_owned(), Box::new(run)));
    }

    let desc = cluster::Desc { rows, cols, axis: Axis::Rows, space: Space::Full, clusters, min_size: 1 };
    let lloyd = move |device: &Device| {
        let options = Options { max_iterations: STEPS, tolerance: 0.0, seed: 0, start: Some(start) };
        let found = cluster::Plan::new(device, desc)?.run(w, &options)?;
        Ok(found.info.iterations * bytes)
    };
    all.push((format!("cluster k={clusters} steps={STEPS}"), Box::new(lloyd)));
    let seeded = move |device: &Device| {
        let options = Options { max_iterations: 1, tolerance: 0.0, seed: 0, start: None };
        cluster::Plan::new(device, desc)?.run(w, &options)?;
        Ok((clusters + 1) * bytes) // a pass for each centre, and the step
    };
    all.push((format!("cluster k={clusters} seeding"), Box::new(seeded)));

    let labels: Vec<u32> = (0..rows).map(|row| (row % clusters) as u32).collect();
    let groups = Groups::from_labels(&labels, clusters).expect("labels below the number of clusters");
    let tiers =
        [("gram", Tier::Gram, 1), ("exact", Tier::Exact, rank + 2), ("sketch", Tier::Sketch { oversampling: 8 }, 2)];
    for (name, tier, passes) in tiers {
        let groups = groups.clone();
        let run = move |device: &Device| {
            let plan = qr::Plan::new(device, qr::Desc { cols, rank, tier, seed: 0 })?;
            plan.run(w, &groups, &Stop::default())?;
            Ok(passes * bytes)
        };
        all.push((format!("qr {name} k={clusters} r={rank}"), Box::new(run)));
    }

    let desc = qr::Desc { cols, rank, tier: Tier::Gram, seed: 0 };
    let factors = qr::Plan::new(&Device::Cpu, desc).and_then(|plan| plan.run(w, &groups, &Stop::default()));
    let factors = factors.expect("random weights have a factorisation");
    let coeffs = move |device: &Device| {
        interp::coeffs_many(device, &factors)?;
        Ok(2 * rows * rank * size_of::<f64>()) // R in, T out
    };
    all.push((format!("interp k={clusters} r={rank}"), Box::new(coeffs)));

    let sizes = (0..clusters).map(|g| labels.iter().filter(|&&label| label as usize == g).count()).collect();
    let centroids = Mat::from_vec(start.data().to_vec(), clusters, cols).expect("the same shape");
    let clustering = Clustering { labels, centroids, sizes, info: Info::default() };
    let select = move |device: &Device| {
        let desc = select::Desc { selection: Selection::Centroid, rank, ..select::Desc::default() };
        select::Plan::new(device, desc)?.run(w, &clustering)?;
        Ok(bytes)
    };
    all.push((format!("select centroid k={clusters}"), Box::new(select)));
    all
}

/// What a case gives on a device: lines of the table.
type Measure<'a> = dyn FnMut(&str, &Run<'_>) -> Result<Vec<String>, String> + 'a;

/// Every case for every shape; whether all went well.
fn table(arguments: &Arguments, measure: &mut Measure<'_>) -> bool {
    let mut well = true;
    for shape in arguments.shapes() {
        well &= cases::<bf16>(arguments, shape, measure);
        well &= cases::<f32>(arguments, shape, measure);
    }
    well
}

fn cases<T: Elem>(arguments: &Arguments, shape: &Shape, measure: &mut Measure<'_>) -> bool {
    let data = random::<T>(shape.rows, shape.cols);
    let w = MatRef::new(&data, shape.rows, shape.cols).expect("rows·cols elements");
    let start: Vec<f32> = data[..shape.clusters * shape.cols].iter().map(|x| x.to_f32()).collect();
    let start = MatRef::new(&start, shape.clusters, shape.cols).expect("the first rows");
    let mut well = true;
    for (name, run) in operations(shape, w, start) {
        if !arguments.wants(&name) {
            continue;
        }
        let case = format!("{name:<22} {:>5}×{:<5} {:<4}", shape.rows, shape.cols, T::DTYPE.name());
        match measure(&case, &run) {
            Ok(lines) => lines.iter().for_each(|line| println!("{line}")),
            Err(reason) => {
                well = false;
                println!("{case} FAILED: {reason}");
            }
        }
    }
    well
}

#[cfg(feature = "cuda")]
mod cuda {
    use super::{Arguments, Device, Run, table};
    use idlora::cuda::Cuda;
    use idlora::cuda::cudarc::driver::{CudaContext, DriverError};
    use idlora::device::{Facts, list};
    use std::time::{Duration, Instant};

    /// Times every device; whether all went well.
    pub fn run(arguments: &Arguments) -> Result<bool, String> {
        let count = Cuda::count().map_err(|error| error.to_string())?;
        if count == 0 {
            return Err("the driver has no device".to_owned());
        }
        let mut well = true;
        for ordinal in 0..count {
            let cuda = Cuda::new(ordinal).map_err(|error| error.to_string())?.timed();
            let bandwidth = copy_bandwidth(ordinal).map_err(|error| error.to_string())?;
            describe(ordinal, bandwidth);
            well &= table(arguments, &mut |case, run| time(&cuda, bandwidth, arguments.test, case, run));
        }
        Ok(well)
    }

    fn describe(ordinal: usize, bandwidth: f64) {
        let device = format!("cuda:{ordinal}");
        for listing in list().into_iter().filter(|listing| listing.device == device) {
            if let Ok(Facts::Cuda { name, capability: (x, y), driver: (major, minor), .. }) = listing.found {
                println!("{device}: {name}, compute capability {x}.{y}, driver for CUDA {major}.{minor}");
            }
        }
        println!("copy: {:.0} GB/s", bandwidth / 1e9);
        println!(
            "{:<22} {:>11} {:<4} {:<24} {:>8} {:>10} {:>9} {:>8} {:>7}",
            "operation", "shape", "", "kernel", "launches", "µs", "least MB", "GB/s", "× floor"
        );
    }

    /// Bytes per second, read and written, of copies within the device's memory.
    fn copy_bandwidth(ordinal: usize) -> Result<f64, DriverError> {
        const BYTES: usize = 256 << 20;
        const COPIES: u32 = 20;
        let stream = CudaContext::new(ordinal)?.default_stream();
        let from = stream.alloc_zeros::<u8>(BYTES)?;
        let mut to = stream.alloc_zeros::<u8>(BYTES)?;
        stream.memcpy_dtod(&from, &mut to)?;
        stream.synchronize()?;
        let start = Instant::now();
        for _ in 0..COPIES {
            stream.memcpy_dtod(&from, &mut to)?;
        }
        stream.synchronize()?;
        Ok(2.0 * BYTES as f64 * f64::from(COPIES) / start.elapsed().as_secs_f64())
    }

    /// Launches and microseconds of one run by kernel, in the order of first launch.
    type Kernels = Vec<(&'static str, usize, f64)>;

    fn once(cuda: &Cuda, run: &Run<'_>) -> Result<(usize, Kernels), String> {
        let least = run(&Device::Cuda(cuda.clone())).map_err(|error| error.to_string())?;
        let mut kernels = Kernels::new();
        for launch in cuda.take_launches().map_err(|error| error.to_string())? {
            match kernels.iter_mut().find(|(name, ..)| *name == launch.kernel) {
                Some((_, launches, microseconds)) => {
                    *launches += 1;
                    *microseconds += launch.microseconds;
                }
                None => kernels.push((launch.kernel, 1, launch.microseconds)),
            }
        }
        Ok((least, kernels))
    }

    fn total(kernels: &Kernels) -> f64 {
        kernels.iter().map(|(.., microseconds)| microseconds).sum()
    }

    /// The median of at least three runs and at most twenty, for about two seconds, after one to warm up.
    fn time(cuda: &Cuda, bandwidth: f64, brief: bool, case: &str, run: &Run<'_>) -> Result<Vec<String>, String> {
        cuda.take_launches().map_err(|error| error.to_string())?;
        let (least, first) = once(cuda, run)?;
        let mut runs = vec![first];
        if !brief {
            runs.clear();
            let start = Instant::now();
            while runs.len() < 3 || (runs.len() < 20 && start.elapsed() < Duration::from_secs(2)) {
                runs.push(once(cuda, run)?.1);
            }
        }
        runs.sort_by(|a, b| total(a).total_cmp(&total(b)));
        let median = &runs[runs.len() / 2];
        let mut lines: Vec<String> = median
            .iter()
            .map(|(kernel, launches, microseconds)| format!("{case} {kernel:<24} {launches:>8} {microseconds:>10.1}"))
            .collect();
        let (all, floor) = (total(median), least as f64 / bandwidth * 1e6);
        let launches: usize = median.iter().map(|(_, launches, _)| launches).sum();
        let (megabytes, rate) = (least as f64 / 1e6, least as f64 / all / 1e3);
        lines.push(format!(
            "{case} {:<24} {launches:>8} {all:>10.1} {megabytes:>9.1} {rate:>8.0} {:>7.2}",
            "all",
            all / floor
        ));
        Ok(lines)
    }
}

#[cfg(feature = "vm")]
mod vm {
    use super::{Arguments, Device, Run, table};
    use idlora::vm::{Launched, Vm};

    /// Counts on the virtual machine; whether all went well.
    pub fn run(arguments: &Arguments) -> Result<bool, String> {
        let vm = Vm::default();
        vm.probe().map_err(|error| error.to_string())?;
        println!("vm");
        println!(
            "{:<22} {:>11} {:<4} {:<24} {:>8} {:>9} {:>9} {:>13} {:>9}",
            "operation", "shape", "", "kernel", "", "read MB", "wrote MB", "instructions", "conflicts"
        );
        Ok(table(arguments, &mut |case, run| count(&vm, case, run)))
    }

    fn count(vm: &Vm, case: &str, run: &Run<'_>) -> Result<Vec<String>, String> {
        vm.take_launches();
        run(&Device::Vm(vm.clone())).map_err(|error| error.to_string())?;
        Ok(vm.take_launches().iter().map(|launch| line(case, launch)).collect())
    }

    /// Bytes in whole sectors.
    fn line(case: &str, launch: &Launched) -> String {
        let (mut read, mut written) = (0, 0);
        for (_, traffic) in launch.counters.allocations() {
            read += 32 * traffic.read.sectors;
            written += 32 * traffic.written.sectors;
        }
        let (instructions, conflicts) = (launch.counters.thread_instructions(), launch.counters.shared().conflicts);
        let (read, written) = (read as f64 / 1e6, written as f64 / 1e6);
        format!("{case} {:<24} {:>8} {read:>9.3} {written:>9.3} {instructions:>13} {conflicts:>9}", launch.kernel, "")
    }
}

#[cfg(not(feature = "cuda"))]
mod cuda {
    pub fn run(_: &super::Arguments) -> Result<bool, String> {
        Err("this build has no CUDA devices (feature `cuda`)".to_owned())
    }
}

#[cfg(not(feature = "vm"))]
mod vm {
    pub fn run(_: &super::Arguments) -> Result<bool, String> {
        Err("this build has no virtual machine (feature `vm`)".to_owned())
    }
}

/// Fails where an operation did, or where `IDLORA_REQUIRE` names a device that is not there.
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let required = std::env::var("IDLORA_REQUIRE").unwrap_or_default();
    let mut well = true;
    let mut tell = |kind: &str, outcome: Result<bool, String>| match outcome {
        Ok(all) => well &= all,
        Err(reason) => {
            println!("{kind}: not run: {reason}");
            well &= !required.split(',').any(|name| name == kind);
        }
    };
    if arguments.test || !arguments.vm {
        tell("cuda", cuda::run(&arguments));
    }
    if arguments.test || arguments.vm {
        tell("vm", vm::run(&arguments));
    }
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
