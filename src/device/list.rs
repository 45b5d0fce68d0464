//! What there is to run on.

/// A device that this crate knows, and what was found when it was looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The name that `Device::from_str` takes.
    pub device: String,
    /// What the device is, or why there is none.
    pub found: Result<Facts, String>,
}

/// What a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Facts {
    /// The CPU backend.
    Cpu {
        /// Threads of the current rayon pool.
        threads: usize,
        /// The vector instructions that are used, such as `AVX2`.
        simd: &'static str,
    },
    /// The virtual machine.
    Vm,
    /// A CUDA device.
    Cuda {
        /// The driver's name for it.
        name: String,
        /// Its compute capability.
        capability: (u32, u32),
        /// Its multiprocessors.
        multiprocessors: u32,
        /// Bytes of its memory.
        memory: usize,
        /// The newest CUDA that the driver speaks.
        driver: (u32, u32),
    },
}

/// Every device there is, and for every kind that is not there, why. Opens nothing: no memory of a device is used.
pub fn list() -> Vec<Listing> {
    let cpu = Facts::Cpu { threads: rayon::current_num_threads(), simd: simd() };
    let mut devices = vec![Listing { device: "cpu".to_owned(), found: Ok(cpu) }];
    devices.extend(cuda());
    devices.push(Listing { device: "vm".to_owned(), found: vm() });
    devices
}

fn simd() -> &'static str {
    let arch = format!("{:?}", pulp::Arch::new());
    match arch.split(['(', ' ']).next() {
        Some("V4") => "AVX-512",
        Some("V3") => "AVX2",
        Some("Neon") => "NEON",
        _ => "none",
    }
}

#[cfg(not(all(feature = "cuda", feature = "vm")))]
fn not_built(feature: &str) -> String {
    format!("not in this build, which was made without the feature `{feature}`")
}

#[cfg(not(feature = "vm"))]
fn vm() -> Result<Facts, String> {
    Err(not_built("vm"))
}

#[cfg(feature = "vm")]
fn vm() -> Result<Facts, String> {
    crate::gpu::image::image(0).map(|_| Facts::Vm)
}

#[cfg(not(feature = "cuda"))]
fn cuda() -> Vec<Listing> {
    vec![Listing { device: "cuda".to_owned(), found: Err(not_built("cuda")) }]
}

#[cfg(feature = "cuda")]
fn cuda() -> Vec<Listing> {
    use crate::gpu::cuda::{count, describe};
    let facts = |ordinal| {
        let properties = describe(ordinal)?;
        crate::gpu::image::image(0)?;
        Ok(Facts::Cuda {
            name: properties.name,
            capability: properties.capability,
            multiprocessors: properties.multiprocessors,
            memory: properties.memory,
            driver: properties.driver,
        })
    };
    let nothing = |reason| vec![Listing { device: "cuda".to_owned(), found: Err(reason) }];
    match count() {
        Ok(0) => nothing("the driver has no device".to_owned()),
        Ok(count) => {
            let listing = |ordinal| Listing { device: format!("cuda:{ordinal}"), found: facts(ordinal) };
            (0..count).map(listing).collect()
        }
        Err(reason) => nothing(reason),
    }
}
