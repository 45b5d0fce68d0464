//! The driver's library: whether it is there, what it says, and what devices it has. Nothing else of `cudarc` may be called
//! before [`open`] has succeeded: without the library it panics.

use cudarc::driver::result::device;
use cudarc::driver::sys::{self, CUdevice_attribute_enum as Attribute};
use cudarc::driver::{CudaEvent, DriverError, result};
use libloading::Library;
use std::sync::OnceLock;

/// The driver's library on this platform.
const LIBRARY: &str = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };

/// The oldest driver that `cudarc` has bindings for, as the version of CUDA that it speaks.
const OLDEST: (u32, u32) = (11, 4);

/// The driver, after it was initialised.
#[derive(Clone, Copy, Debug)]
pub(super) struct Driver {
    /// The newest CUDA that it speaks.
    pub version: (u32, u32),
    pub devices: usize,
}

/// A device as the driver describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Properties {
    pub name: String,
    /// Compute capability.
    pub capability: (u32, u32),
    pub multiprocessors: u32,
    /// Bytes of memory.
    pub memory: usize,
    /// Bytes of shared memory that a block can have, static and dynamic together.
    pub shared_limit: u32,
    /// The newest CUDA that the driver speaks.
    pub driver: (u32, u32),
}

/// Loads the driver once for the process; it stays loaded.
fn library() -> Result<&'static Library, String> {
    static LOADED: OnceLock<Result<Library, String>> = OnceLock::new();
    let loaded = LOADED.get_or_init(|| {
        // SAFETY: NVIDIA's driver library may be initialised at any time, and is never unloaded.
        unsafe { Library::new(LIBRARY) }.map_err(|error| {
            // The loader's own words are the source.
            let source = std::error::Error::source(&error).map(ToString::to_string);
            without_driver(&source.unwrap_or_else(|| error.to_string()))
        })
    });
    loaded.as_ref().map_err(Clone::clone)
}

fn without_driver(reason: &str) -> String {
    let named = if reason.contains(LIBRARY) { String::new() } else { format!("{LIBRARY}: ") };
    format!("no CUDA driver here: {named}{reason}")
}

/// Initialises the driver.
///
/// # Errors
/// What is missing: the library, a driver that is new enough, a device.
pub(super) fn open() -> Result<Driver, String> {
    library()?;
    let mut version = 0;
    // SAFETY: writes one int.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result().map_err(words)?;
    let version = decode(version);
    new_enough(version)?;
    result::init().map_err(|error| format!("the driver does not start: {}", words(error)))?;
    let devices = device::get_count().map_err(words)?;
    Ok(Driver { version, devices: usize::try_from(devices).unwrap_or(0) })
}

/// 13020 is 13.2.
fn decode(version: i32) -> (u32, u32) {
    let version = version.unsigned_abs();
    (version / 1000, version % 1000 / 10)
}

fn new_enough(version: (u32, u32)) -> Result<(), String> {
    if version >= OLDEST {
        return Ok(());
    }
    Err(format!(
        "the driver is too old: it is for CUDA {}.{}, needed is {}.{}",
        version.0, version.1, OLDEST.0, OLDEST.1
    ))
}

/// Describes a device; makes no context on it.
///
/// # Errors
/// As [`open`], and where there is no such device.
pub(super) fn describe(ordinal: usize) -> Result<Properties, String> {
    let driver = open()?;
    let index = match i32::try_from(ordinal) {
        Ok(index) if ordinal < driver.devices => index,
        _ => return Err(no_such(driver.devices)),
    };
    let read = || -> Result<Properties, DriverError> {
        let handle = device::get(index)?;
        // SAFETY: the handle was returned by `device::get`.
        let attribute = |which| unsafe { device::get_attribute(handle, which) }.map(i32::unsigned_abs);
        Ok(Properties {
            name: device::get_name(handle)?,
            capability: (
                attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
                attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
            ),
            multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            // SAFETY: as above.
            memory: unsafe { device::total_mem(handle) }?,
            shared_limit: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
            driver: driver.version,
        })
    };
    read().map_err(words)
}

/// What the model of a card wants to know of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Figures {
    /// Thousands of cycles a second of multiprocessors, at most.
    pub clock: u32,
    /// Thousands of cycles a second of device memory, at most; it moves data twice in each.
    pub memory_clock: u32,
    /// Bits that it moves at a time.
    pub bus: u32,
    /// Bytes of the second cache.
    pub cache: u32,
    /// Of a multiprocessor.
    pub threads: u32,
    pub blocks: u32,
    /// Bytes of shared memory of a multiprocessor.
    pub shared: u32,
}

/// The figures of a device that [`describe`] has described. Apart from it: a driver may come that no longer tells all of them.
///
/// # Errors
/// Which one the driver does not tell.
pub(super) fn figures(ordinal: usize) -> Result<Figures, String> {
    let index = i32::try_from(ordinal).map_err(|error| error.to_string())?;
    let handle = device::get(index).map_err(words)?;
    let attribute = |which, name: &str| {
        // SAFETY: the handle was returned by `device::get`.
        match unsafe { device::get_attribute(handle, which) } {
            Ok(value @ 1..) => Ok(value.unsigned_abs()),
            Ok(value) => Err(format!("the driver tells no {name}: {value}")),
            Err(error) => Err(format!("the driver tells no {name}: {}", words(error))),
        }
    };
    Ok(Figures {
        clock: attribute(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE, "clock rate")?,
        memory_clock: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, "clock rate of memory")?,
        bus: attribute(Attribute::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, "width of the memory bus")?,
        cache: attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, "size of the second cache")?,
        threads: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, "threads")?,
        blocks: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR, "blocks")?,
        shared: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, "shared memory")?,
    })
}

/// The build of the driver, where the system tells: two of them may speak the same CUDA.
pub(super) fn build() -> Option<String> {
    built(&std::fs::read_to_string("/proc/driver/nvidia/version").ok()?)
}

/// `NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 …`
fn built(told: &str) -> Option<String> {
    let is_version = |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    told.lines().next()?.split_whitespace().find(is_version).map(str::to_owned)
}

fn no_such(devices: usize) -> String {
    match devices {
        0 => "the driver has no device".to_owned(),
        1 => "no such device: there is only `cuda:0`".to_owned(),
        more => format!("no such device: there are `cuda:0` to `cuda:{}`", more - 1),
    }
}

/// The driver's own words for an error.
pub(super) fn words(error: DriverError) -> String {
    let name = error.error_name().map(|text| text.to_string_lossy().into_owned());
    let text = error.error_string().map(|text| text.to_string_lossy().into_owned());
    match (name, text) {
        (Ok(name), Ok(text)) => format!("{name}: {text}"),
        (Ok(name), Err(_)) => name,
        _ => format!("{:?}", error.0),
    }
}

/// Whether an error is what a kernel that ran earlier did. The driver tells at the next call that waits.
pub(super) fn by_a_kernel(code: u32) -> bool {
    // Illegal address, time out, assertion; stack, instruction, alignment, address space, program counter, launch failure.
    matches!(code, 700 | 702 | 710 | 714..=719)
}

/// Microseconds between two events of one stream, after waiting for the second.
///
/// # Errors
/// The driver's words.
pub(super) fn microseconds(start: &CudaEvent, end: &CudaEvent) -> Result<f64, String> {
    // `CudaEvent::elapsed_ms` calls `cuEventElapsedTime_v2`, which panics on drivers before 12.8, which have none.
    type Elapsed = unsafe extern "C" fn(*mut f32, sys::CUevent, sys::CUevent) -> sys::CUresult;
    end.synchronize().map_err(words)?;
    // SAFETY: the type is that of `cuda.h`; the library is never unloaded.
    let elapsed = unsafe { library()?.get::<Elapsed>("cuEventElapsedTime") }.map_err(|error| error.to_string())?;
    let mut milliseconds = 0.0;
    // SAFETY: writes one float; both events live, were made with timing, and the second has passed.
    unsafe { elapsed(&raw mut milliseconds, start.cu_event(), end.cu_event()) }.result().map_err(words)?;
    Ok(f64::from(milliseconds) * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_decoded_and_compared() {
        assert_eq!(decode(13020), (13, 2));
        assert_eq!(decode(12080), (12, 8));
        assert_eq!(decode(11040), OLDEST);
        new_enough((11, 4)).unwrap();
        new_enough((13, 0)).unwrap();
        let message = new_enough((10, 2)).unwrap_err();
        assert!(message.contains("CUDA 10.2") && message.contains("11.4"), "{message}");
        assert!(new_enough((11, 3)).is_err());
    }

    #[test]
    fn the_build_is_found() {
        for (told, expected) in [
            (
                "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\nGCC version:  gcc \
                 version 12.2.0",
                Some("535.104.05"),
            ),
            (
                "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build  (dvs-builder@U16)",
                Some("550.54.15"),
            ),
            ("NVRM version: none\nGCC version: 12.2.0", None),
            ("", None),
        ] {
            assert_eq!(built(told).as_deref(), expected);
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(without_driver("libcuda.so.1: gone"), "no CUDA driver here: libcuda.so.1: gone");
        assert!(without_driver("gone").ends_with(&format!("{LIBRARY}: gone")));
        assert!(no_such(0).contains("no device"));
        assert!(no_such(1).contains("only `cuda:0`"));
        assert!(no_such(4).contains("`cuda:0` to `cuda:3`"));
    }

    #[test]
    fn only_faults_of_kernels_are_blamed_on_them() {
        for fault in [700, 702, 710, 714, 715, 716, 717, 718, 719] {
            assert!(by_a_kernel(fault), "{fault}");
        }
        // Out of memory, no binary, launch out of resources, peer access, system not ready.
        for other in [2, 209, 701, 704, 720, 802] {
            assert!(!by_a_kernel(other), "{other}");
        }
    }
}
