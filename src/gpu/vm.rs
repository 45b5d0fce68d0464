//! The virtual machine as a device: kernels run on the CPU by `ptx-vm`, checked as by a sanitizer and counted as by a
//! profiler. For tests and for counting; it is slower than the CPU backend by orders of magnitude.

use super::variants::VARIANTS;
use super::{Gpu, Grid, Kernel, Place, image};
use crate::error::{Error, Result};
use bytemuck::Pod;
use ptx_vm::{Accumulation, Arg, Checks, Counters, Launch, LaunchError, Memory, MemoryError, Module, Schedule};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How launches are run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What is checked. Any finding fails the operation. The default is everything but races between blocks.
    pub checks: Checks,
    /// Draws the order of lanes, warps and blocks from this seed; without one they take turns.
    pub seed: Option<u64>,
    /// Blocks alive at a time.
    pub resident: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { checks: Checks::ALL, seed: None, resident: 4 }
    }
}

/// What a launch cost.
#[derive(Clone, Debug)]
pub struct Launched {
    /// The kernel's name.
    pub kernel: &'static str,
    /// The variant that was compiled for, such as `norms.bf16.sm_80`.
    pub variant: String,
    /// Everything counted; buffers go by the names of the operands.
    pub counters: Counters,
}

/// Bytes of shared memory that a block can have on an sm_90.
const MAX_SHARED: u32 = 227 << 10;

/// Launches that [`Vm::take_launches`] can still tell.
const KEPT: usize = 64;

#[derive(Debug)]
struct State {
    memory: Memory,
    /// Loaded images, by variant.
    modules: HashMap<usize, Module>,
    launches: Vec<Launched>,
    used: Used,
}

/// What a [`Vm`] was asked for, beside launches. A step of an operation whose operands lie on the device asks for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Buffers that were allocated.
    pub allocations: u64,
    /// Copies to the device.
    pub writes: u64,
    /// Copies from the device.
    pub reads: u64,
}

/// A virtual machine. Copies are handles of the same one; two are equal if they run launches the same way.
#[derive(Clone, Debug)]
pub struct Vm {
    settings: Settings,
    accumulation: Accumulation,
    state: Arc<Mutex<State>>,
}

impl Default for Vm {
    fn default() -> Self {
        Self::new(Settings::default())
    }
}

impl PartialEq for Vm {
    fn eq(&self, other: &Self) -> bool {
        (&self.settings, self.accumulation) == (&other.settings, other.accumulation)
    }
}

impl Eq for Vm {}

impl Vm {
    /// A machine of its own.
    pub fn new(settings: Settings) -> Self {
        let state =
            State { memory: Memory::new(), modules: HashMap::new(), launches: Vec::new(), used: Used::default() };
        Self { settings, accumulation: Accumulation::default(), state: Arc::new(Mutex::new(state)) }
    }

    /// The same machine, with tensor cores that accumulate so.
    #[must_use]
    pub fn accumulating(self, accumulation: Accumulation) -> Self {
        Self { accumulation, ..self }
    }

    /// Makes sure that every kernel of this build can be run.
    ///
    /// # Errors
    /// [`Error::Device`] where nothing was compiled with the crate and no compiler is found now.
    pub fn probe(&self) -> Result<()> {
        (0..VARIANTS.len()).try_for_each(|variant| image::image(variant).map(drop).map_err(refused))
    }

    /// The last launches (at most 64), oldest first, and forgets them.
    pub fn take_launches(&self) -> Vec<Launched> {
        std::mem::take(&mut self.state().launches)
    }

    /// What was asked for since the machine was made.
    pub fn used(&self) -> Used {
        self.state().used
    }

    /// A panic elsewhere leaves memory and modules whole: no call of theirs is interrupted half-way through a change that
    /// the next would rely on.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Memory of a [`Vm`].
#[derive(Debug)]
pub(crate) struct Buffer {
    handle: ptx_vm::Buffer<u8>,
    owner: Arc<Mutex<State>>,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut state = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        // Freed once, by its one owner, in the memory it came from: nothing to fail.
        let _ = state.memory.free(self.handle);
    }
}

impl Gpu for Vm {
    type Buffer = Buffer;

    fn allocate<T: Pod>(&self, op: &'static str, name: &'static str, len: usize) -> Result<Buffer> {
        let bytes = len.saturating_mul(size_of::<T>());
        let mut state = self.state();
        state.used.allocations += 1;
        let too_much = |_: MemoryError| Error::OutOfMemory { op, what: name, bytes };
        let handle = state.memory.allocate::<u8>(bytes).map_err(too_much)?;
        state.memory.name(&handle, name).map_err(too_much)?;
        Ok(Buffer { handle, owner: self.state.clone() })
    }

    fn zeroed<T: Pod>(&self, op: &'static str, name: &'static str, len: usize) -> Result<Buffer> {
        let mut buffer = self.allocate::<T>(op, name, len)?;
        self.write(op, &mut buffer, &crate::mat::zeroed::<u8>(name, len * size_of::<T>())?)?;
        Ok(buffer)
    }

    fn write<T: Pod>(&self, op: &'static str, buffer: &mut Buffer, data: &[T]) -> Result<()> {
        let bytes = bytemuck::cast_slice(data);
        let refused = |_| length(op, "write", buffer.handle.len(), bytes.len());
        let mut state = self.state();
        state.used.writes += 1;
        state.memory.write(&buffer.handle, bytes).map_err(refused)
    }

    fn address(&self, buffer: &Buffer) -> u64 {
        // Of a buffer that its owner still holds: never missing.
        self.state().memory.address(&buffer.handle).unwrap_or(0)
    }

    fn place(&self) -> Place {
        Place([Arc::as_ptr(&self.state).addr(), 0])
    }

    fn download<T: Pod>(&self, op: &'static str, buffer: &Buffer, data: &mut [T]) -> Result<()> {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(data);
        let refused = || length(op, "download", buffer.handle.len(), bytes.len());
        let found = {
            let mut state = self.state();
            state.used.reads += 1;
            state.memory.download(&buffer.handle).map_err(|_| refused())?
        };
        if found.len() != bytes.len() {
            return Err(refused());
        }
        bytes.copy_from_slice(&found);
        Ok(())
    }

    fn launch(
        &self,
        kernel: &Kernel,
        grid: Grid,
        inputs: &[&Buffer],
        outputs: &mut [&mut Buffer],
        scalars: &[u8],
    ) -> Result<()> {
        kernel.check(inputs.len(), outputs.len(), scalars.len())?;
        let outputs = outputs.iter().map(|buffer| buffer.handle);
        let pointers = inputs.iter().map(|buffer| buffer.handle).chain(outputs);
        let args = pointers.map(Arg::from).chain([Arg::bytes(scalars)]).collect();
        let launch = Launch {
            grid: [grid.blocks, 1, 1],
            dynamic_shared: grid.shared,
            block: [kernel.entry.block[0], kernel.entry.block[1], 1],
            args,
            checks: self.settings.checks,
            schedule: if self.settings.seed.is_some() { Schedule::Random } else { Schedule::InOrder },
            seed: self.settings.seed.unwrap_or_default(),
            resident: self.settings.resident,
            accumulation: self.accumulation,
            ..Launch::default()
        };
        self.run(kernel, &launch)
    }

    fn resident(&self, _: &Kernel, _: u32) -> Result<u32> {
        Ok(self.settings.resident.max(1))
    }

    fn shared_limit(&self) -> u32 {
        MAX_SHARED
    }
}

impl Vm {
    fn run(&self, kernel: &Kernel, launch: &Launch) -> Result<()> {
        let failed = |findings| Error::Kernel { op: kernel.op, kernel: kernel.entry.name.to_owned(), findings };
        let not_run = |error: LaunchError| failed(vec![error.to_string()]);
        let mut state = self.state();
        let State { memory, modules, launches, .. } = &mut *state;
        let module = match modules.entry(kernel.variant) {
            std::collections::hash_map::Entry::Occupied(loaded) => loaded.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                let image = image::image(kernel.variant).map_err(refused)?;
                place.insert(Module::load(&image.ptx).map_err(|error| failed(vec![format!("PTX {error}")]))?)
            }
        };
        let entry = module.kernel(kernel.entry.name).map_err(not_run)?;
        let outcome = launch.run(&entry, memory).map_err(not_run)?;
        if launches.len() == KEPT {
            launches.remove(0);
        }
        let variant = VARIANTS[kernel.variant].name();
        launches.push(Launched { kernel: kernel.entry.name, variant, counters: outcome.counters });
        let mut findings: Vec<String> = outcome.findings.iter().map(ToString::to_string).collect();
        if !outcome.completed && findings.is_empty() {
            findings.push("did not run to its end".to_owned());
        }
        if findings.is_empty() { Ok(()) } else { Err(failed(findings)) }
    }
}

fn refused(reason: String) -> Error {
    Error::Device { device: "vm".to_owned(), reason }
}

fn length(op: &'static str, operand: &'static str, expected: usize, found: usize) -> Error {
    Error::shape(op, operand, format!("{expected} bytes"), format!("{found} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elem::Dtype;
    use crate::gpu::variants::{Family, norms};

    /// A machine, or `None`, said aloud, where there is no compiler and none is required.
    fn machine() -> Option<Vm> {
        let vm = Vm::default();
        match vm.probe() {
            Ok(()) => Some(vm),
            Err(error) if std::env::var_os("REQUIRE_NVRTC").is_some() => panic!("{error}"),
            Err(error) => {
                println!("skipped: {error}");
                None
            }
        }
    }

    #[test]
    fn buffers_return_what_was_uploaded_and_are_freed() {
        let vm = Vm::default();
        let buffer = vm.upload("test", "data", &[1.5f32, 2.5]).unwrap();
        let mut found = [0.0f32; 2];
        vm.download("test", &buffer, &mut found).unwrap();
        assert_eq!(found, [1.5, 2.5]);
        let message = vm.download("test", &buffer, &mut [0.0f32; 3]).unwrap_err().to_string();
        assert_eq!(message, "test: `download` has 12 bytes, expected 8 bytes");
        let handle = buffer.handle;
        drop(buffer);
        assert!(vm.state().memory.download(&handle).is_err(), "freed");
        assert!(matches!(
            vm.allocate::<f32>("test", "huge", usize::MAX).unwrap_err(),
            Error::OutOfMemory { op: "test", what: "huge", bytes: usize::MAX }
        ));
    }

    /// A workspace that is too small, and a buffer that nobody initialised.
    #[test]
    fn a_finding_is_an_error_that_names_operation_kernel_and_line() {
        let Some(vm) = machine() else { return };
        let kernel = Kernel::of("norms", Family::Norms, Some(Dtype::F32), &norms::ROWS).unwrap();
        let scalars: Vec<u8> = [2u64, 3, 3].iter().flat_map(|x| x.to_le_bytes()).collect();
        let w = vm.upload("norms", "w", &[1.0f32; 6]).unwrap();
        let mut offender = vm.upload("norms", "offender", &[u64::MAX]).unwrap();
        let mut norms = vm.allocate::<f32>("norms", "norms", 1).unwrap();
        let error = vm.launch(&kernel, 1.into(), &[&w], &mut [&mut norms, &mut offender], &scalars).unwrap_err();
        let message = error.to_string();
        assert!(message.starts_with("norms: kernel `norm_rows`: GlobalOutOfBounds"), "{message}");
        assert!(message.contains("kernels/norms.cu:"), "{message}");

        let unwritten = vm.allocate::<f32>("norms", "w", 6).unwrap();
        let mut norms = vm.allocate::<f32>("norms", "norms", 2).unwrap();
        let error =
            vm.launch(&kernel, 1.into(), &[&unwritten], &mut [&mut norms, &mut offender], &scalars).unwrap_err();
        assert!(error.to_string().contains("Uninitialised"), "{error}");
        assert_eq!(vm.take_launches().len(), 2);
        assert!(vm.take_launches().is_empty());
    }
}
