//! Images in the driver: which form of an image a device takes, loading it, and its entry points.

use super::driver::words;
use crate::gpu::image::Image;
use cudarc::driver::sys::{self, CUfunction_attribute_enum as Attribute, CUjit_option};
use cudarc::driver::{CudaContext, DriverError, result};
use std::ffi::{CString, c_void};
use std::sync::Arc;

/// What of an image the driver is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Machine code.
    Cubin,
    /// The driver's own compiler makes machine code of it.
    Ptx,
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Form::Cubin => "cubin",
            Form::Ptx => "PTX",
        }
    }
}

/// The forms of an image for `arch` (`sm_80`, `sm_90a`) that a device of this compute capability runs, best first. Machine
/// code runs within its major version from its minor version on, PTX from its version on, and what was made for features
/// of one architecture (`a`) on that one only.
///
/// # Errors
/// Where it runs neither.
fn forms(arch: &str, capability: (u32, u32)) -> Result<&'static [Form], String> {
    let (digits, only) = match arch.trim_start_matches("sm_").strip_suffix('a') {
        Some(digits) => (digits, true),
        None => (arch.trim_start_matches("sm_"), false),
    };
    let target = digits.parse::<u32>().map(|number| (number / 10, number % 10));
    let Ok(target) = target else { return Err(format!("`{arch}` is no architecture")) };
    let (major, minor) = capability;
    let same = capability == target;
    let cubin = if only { same } else { major == target.0 && minor >= target.1 };
    let ptx = if only { same } else { capability >= target };
    match (cubin, ptx) {
        (true, _) => Ok(&[Form::Cubin, Form::Ptx]),
        (false, true) => Ok(&[Form::Ptx]),
        (false, false) => {
            let least = if only { "" } else { " or later" };
            let (x, y) = target;
            Err(format!("made for compute capability {x}.{y}{least}, the device has {major}.{minor}"))
        }
    }
}

/// A copy that starts at a multiple of 8 bytes, as an ELF file wants, and ends with a zero byte, as a string wants.
fn aligned(bytes: &[u8]) -> Vec<u64> {
    let mut words = vec![0u64; bytes.len() / 8 + 1];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
    words
}

/// A loaded image.
#[derive(Debug)]
pub(super) struct Module {
    handle: sys::CUmodule,
    context: Arc<CudaContext>,
    /// The few that were asked for, by name.
    functions: Vec<(&'static str, Function)>,
}

// SAFETY: the driver's handles may be used from any thread in which their context is current; every user binds it.
unsafe impl Send for Module {}

impl Drop for Module {
    fn drop(&mut self) {
        self.context.record_err(self.context.bind_to_thread());
        // SAFETY: loaded by `cuModuleLoadDataEx`, unloaded here only. The driver waits for kernels that still run.
        self.context.record_err(unsafe { result::module::unload(self.handle) });
    }
}

/// An entry point of a [`Module`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Function {
    pub handle: sys::CUfunction,
    /// Bytes of dynamic shared memory that a launch may ask for.
    allowed: u32,
}

impl Module {
    /// Loads an image for `arch` into the context, which is current.
    ///
    /// # Errors
    /// Why the driver takes no form of it, with its compiler's log.
    pub fn load(context: &Arc<CudaContext>, image: &Image, arch: &str, capability: (u32, u32)) -> Result<Self, String> {
        let mut refusals = Vec::new();
        for &form in forms(arch, capability)? {
            let bytes = match form {
                Form::Cubin => image.cubin.as_ref(),
                Form::Ptx => image.ptx.as_bytes(),
            };
            if bytes.is_empty() {
                continue;
            }
            match load(bytes) {
                Ok(handle) => return Ok(Self { handle, context: context.clone(), functions: Vec::new() }),
                Err(reason) => refusals.push(format!("{}: {reason}", form.name())),
            }
        }
        Err(refusals.join("; "))
    }

    /// An entry point that may be launched with that many bytes of dynamic shared memory. The context is current.
    ///
    /// # Errors
    /// Where the image has none of that name, or the device not that much shared memory.
    pub fn function(&mut self, name: &'static str, shared: u32) -> Result<Function, DriverError> {
        let place = match self.functions.iter().position(|(known, _)| *known == name) {
            Some(place) => place,
            None => {
                self.functions.push((name, self.look_up(name)?));
                self.functions.len() - 1
            }
        };
        let function = &mut self.functions[place].1;
        if shared > function.allowed {
            let bytes = i32::try_from(shared).map_err(|_| DriverError(sys::CUresult::CUDA_ERROR_INVALID_VALUE))?;
            let attribute = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function is one of this module.
            unsafe { result::function::set_function_attribute(function.handle, attribute, bytes) }?;
            function.allowed = shared;
        }
        Ok(*function)
    }

    fn look_up(&self, name: &str) -> Result<Function, DriverError> {
        let name = CString::new(name).map_err(|_| DriverError(sys::CUresult::CUDA_ERROR_NOT_FOUND))?;
        // SAFETY: the module is loaded.
        let handle = unsafe { result::module::get_function(self.handle, name) }?;
        let attribute = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: the driver has just returned the function.
        let allowed = unsafe { result::function::get_function_attribute(handle, attribute) }?;
        Ok(Function { handle, allowed: u32::try_from(allowed).unwrap_or(0) })
    }
}

/// Bytes for the log of the driver's compiler.
const LOG_BYTES: usize = 8 << 10;

/// Loads an image, and on failure says why in the words of the driver and of its compiler.
fn load(image: &[u8]) -> Result<sys::CUmodule, String> {
    let image = aligned(image);
    let mut log = vec![0u8; LOG_BYTES];
    let mut options = [CUjit_option::CU_JIT_ERROR_LOG_BUFFER, CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    let mut values: [*mut c_void; 2] = [log.as_mut_ptr().cast(), std::ptr::without_provenance_mut(LOG_BYTES)];
    let mut module = std::ptr::null_mut();
    // SAFETY: `image` is a whole cubin or a string with its zero byte, aligned, and read during the call only; options and
    // values are two each, of the types that `cuda.h` names (a buffer, its size in place of a pointer).
    let status = unsafe {
        let (options, values) = (options.as_mut_ptr(), values.as_mut_ptr());
        sys::cuModuleLoadDataEx(&raw mut module, image.as_ptr().cast(), 2, options, values)
    };
    status.result().map(|()| module).map_err(|error| with_log(words(error), &log))
}

/// An error followed by what the log holds, if anything.
fn with_log(error: String, log: &[u8]) -> String {
    let text = String::from_utf8_lossy(log.split(|&byte| byte == 0).next().unwrap_or_default());
    match text.trim() {
        "" => error,
        text => format!("{error}\n{text}"),
    }
}

/// A launch's arguments as the driver reads them: one address per parameter, at which it finds as many bytes as the kernel
/// declares.
#[derive(Debug)]
pub(super) struct Arguments {
    pointers: Vec<sys::CUdeviceptr>,
    /// The struct of scalars, aligned for any member.
    scalars: Vec<u64>,
    has_scalars: bool,
}

impl Arguments {
    /// Inputs and outputs in order, then the struct of scalars if the kernel has one.
    pub fn new(pointers: impl IntoIterator<Item = sys::CUdeviceptr>, scalars: &[u8]) -> Self {
        let pointers = pointers.into_iter().collect();
        Self { pointers, scalars: aligned(scalars), has_scalars: !scalars.is_empty() }
    }

    /// The addresses; valid while `self` is neither moved nor changed.
    pub fn table(&mut self) -> Vec<*mut c_void> {
        let pointers = self.pointers.iter_mut().map(|pointer| std::ptr::from_mut(pointer).cast());
        let scalars = self.has_scalars.then(|| self.scalars.as_mut_ptr().cast());
        pointers.chain(scalars).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::variants::VARIANTS;

    #[test]
    fn a_device_takes_machine_code_of_its_own_generation_and_ptx_of_earlier_ones() {
        use Form::{Cubin, Ptx};
        let both: &[Form] = &[Cubin, Ptx];
        for (arch, capability, expected) in [
            ("sm_80", (8, 0), both),
            ("sm_80", (8, 6), both),
            ("sm_80", (8, 9), both),
            ("sm_80", (9, 0), &[Ptx]),
            ("sm_80", (10, 0), &[Ptx]),
            ("sm_80", (12, 1), &[Ptx]),
            ("sm_86", (8, 9), both),
            ("sm_90a", (9, 0), both),
            ("sm_100", (10, 3), both),
        ] {
            assert_eq!(forms(arch, capability), Ok(expected), "{arch} on {capability:?}");
        }
        let message = forms("sm_80", (7, 5)).unwrap_err();
        assert!(message.contains("8.0 or later") && message.contains("7.5"), "{message}");
        assert!(forms("sm_86", (8, 0)).is_err());
        let message = forms("sm_90a", (10, 0)).unwrap_err();
        assert!(message.contains("capability 9.0, the device has 10.0"), "{message}");
        assert!(forms("sm_90a", (8, 0)).is_err());
        assert!(forms("compute_80", (8, 0)).is_err());
    }

    #[test]
    fn every_variant_runs_on_the_oldest_device_that_is_let_in() {
        for variant in VARIANTS.iter().filter(|variant| !variant.arch.ends_with('a')) {
            assert!(forms(variant.arch, super::super::OLDEST_CAPABILITY).is_ok(), "{}", variant.name());
        }
    }

    #[test]
    fn images_are_aligned_and_end_with_a_zero_byte() {
        for len in 0..20 {
            let bytes: Vec<u8> = (1..=len).collect();
            let words = aligned(&bytes);
            let copy: &[u8] = bytemuck::cast_slice(&words);
            assert_eq!(&copy[..bytes.len()], bytes);
            assert!(copy.len() > bytes.len() && copy[bytes.len()..].iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn arguments_are_pointers_in_order_then_the_scalars() {
        let scalars: Vec<u8> = (1..=20).collect();
        let mut arguments = Arguments::new([0x1000, 0x2000, 0x3000], &scalars);
        let table = arguments.table();
        assert_eq!(table.len(), 4);
        // SAFETY: the table points into `arguments`, which is alive: three addresses, then the scalars.
        unsafe {
            for (entry, expected) in table.iter().zip([0x1000u64, 0x2000, 0x3000]) {
                assert_eq!(entry.cast::<u64>().read(), expected);
            }
            assert_eq!(std::slice::from_raw_parts(table[3].cast::<u8>(), scalars.len()), scalars);
        }
        assert_eq!(table[3].align_offset(8), 0);
        assert_eq!(Arguments::new([1, 2], &[]).table().len(), 2, "no scalars, no parameter");
    }

    #[test]
    fn a_log_follows_the_error() {
        assert_eq!(with_log("E".to_owned(), &[0; 8]), "E");
        assert_eq!(with_log("E".to_owned(), b"ptxas fatal: version\n\0old"), "E\nptxas fatal: version");
    }
}
