//! CUDA devices: events around each launch.

#[cfg(not(feature = "cuda"))]
pub fn run(_: &crate::arguments::Arguments, _: &mut crate::record::Results) -> Result<bool, String> {
    Err("this build has no CUDA devices (feature `cuda`)".to_owned())
}

#[cfg(feature = "cuda")]
pub use there::run;

#[cfg(feature = "cuda")]
mod there {
    use crate::arguments::Arguments;
    use crate::cases::{Case, Extent, Least};
    use crate::cublas::Cublas;
    use crate::record::{self, Kernel, Peer, Results};
    use crate::sweep::{Asked, median, sweep};
    use crate::table;
    use idlora::Device;
    use idlora::cuda::Cuda;
    use idlora::cuda::cudarc::driver::{CudaContext, DriverError};
    use idlora::device::{Facts, list};
    use std::time::{Duration, Instant};

    const EXTENT: Extent = Extent { tokens: 4096, steps: 20 };

    /// Times every device; whether all went well.
    pub fn run(arguments: &Arguments, results: &mut Results) -> Result<bool, String> {
        let count = Cuda::count().map_err(|error| error.to_string())?;
        if count == 0 {
            return Err("the driver has no device".to_owned());
        }
        let mut well = true;
        for ordinal in 0..count {
            let cuda = Cuda::new(ordinal).map_err(|error| error.to_string())?.timed();
            let bandwidth = copy_bandwidth(ordinal).map_err(|error| error.to_string())?;
            let device = describe(ordinal, bandwidth);
            let name = device.name.clone();
            table::heading(&device);
            results.devices.push(device);
            let cublas = Cublas::open(cuda.stream());
            if let Err(reason) = &cublas {
                println!("cuBLAS: not run: {reason}");
            }
            table::columns();
            let brief = arguments.test;
            well &= sweep(arguments, results, (&name, EXTENT, true), &mut |asked| {
                measure(&cuda, cublas.as_ref().ok(), brief, asked)
            });
        }
        Ok(well)
    }

    fn describe(ordinal: usize, bandwidth: f64) -> record::Device {
        let name = format!("cuda:{ordinal}");
        let mut description = "a CUDA device".to_owned();
        for listing in list().into_iter().filter(|listing| listing.device == name) {
            if let Ok(Facts::Cuda { name, capability: (x, y), driver: (major, minor), .. }) = listing.found {
                description = format!("{name}, compute capability {x}.{y}, driver for CUDA {major}.{minor}");
            }
        }
        record::Device { name, description, model: false, memory: Some(bandwidth), cache: None, peak: None }
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

    /// One run by kernel, in the order of first launch.
    fn once(cuda: &Cuda, case: &mut Case) -> Result<(Least, Vec<Kernel>), String> {
        let least = (case.run)(&Device::Cuda(cuda.clone())).map_err(|error| error.to_string())?;
        let mut kernels: Vec<Kernel> = Vec::new();
        for launch in cuda.take_launches().map_err(|error| error.to_string())? {
            let place = kernels.iter().position(|kernel| kernel.name == launch.kernel).unwrap_or_else(|| {
                kernels.push(Kernel { name: launch.kernel.to_owned(), ..Kernel::default() });
                kernels.len() - 1
            });
            kernels[place].launches += 1;
            *kernels[place].seconds.get_or_insert(0.0) += launch.microseconds * 1e-6;
        }
        Ok((least, kernels))
    }

    fn total(kernels: &[Kernel]) -> f64 {
        kernels.iter().filter_map(|kernel| kernel.seconds).sum()
    }

    /// At least three runs and at most twenty, for about two seconds, after one to warm up. The kernels are those of the median.
    fn measure(
        cuda: &Cuda,
        cublas: Option<&Cublas>,
        brief: bool,
        asked: Asked<'_>,
    ) -> Result<Vec<record::Case>, String> {
        let Asked { case, mut blank, shape, dtype } = asked;
        cuda.take_launches().map_err(|error| error.to_string())?;
        let (least, first) = once(cuda, case)?;
        let mut runs = vec![first];
        if !brief {
            runs.clear();
            let start = Instant::now();
            while runs.len() < 3 || (runs.len() < 20 && start.elapsed() < Duration::from_secs(2)) {
                runs.push(once(cuda, case)?.1);
            }
        }
        runs.sort_by(|a, b| total(a).total_cmp(&total(b)));
        blank.samples = runs.iter().map(|kernels| total(kernels)).collect();
        blank.seconds = median(&blank.samples);
        blank.kernels = runs.swap_remove(runs.len() / 2);
        (blank.least_bytes, blank.operations) = (least.bytes, least.operations);
        if let (Some(cublas), Some(tokens)) = (cublas, case.layer) {
            let seconds = cublas.seconds(shape, dtype, tokens).map_err(|reason| format!("cuBLAS: {reason}"))?;
            blank.peers.push(Peer { name: "cuBLAS".to_owned(), seconds });
        }
        Ok(vec![blank])
    }
}
