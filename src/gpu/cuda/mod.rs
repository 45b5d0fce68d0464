//! CUDA devices, through the driver's library alone: no toolkit, nothing linked. Work runs in order on one stream.
#![allow(unsafe_code)] // the driver's API; everything that is not FFI is behind `cudarc`'s safe types

mod driver;
mod module;
#[cfg(test)]
mod tests;

use super::variants::VARIANTS;
use super::{Gpu, Grid, Kernel, Place, image};
use crate::error::{Error, Result};
use bytemuck::Pod;
use cudarc::driver::sys::{CUevent_flags, CUresult};
use cudarc::driver::{CudaContext, CudaEvent, CudaSlice, DevicePtr, DriverError, result};
use driver::{Properties, words};
use module::{Arguments, Function, Module};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The crate whose streams [`Cuda::on_stream`] takes.
pub use cudarc;
pub use cudarc::driver::CudaStream;

/// What the kernels are compiled for: asynchronous copies, and `bf16` in the arithmetic units.
const OLDEST_CAPABILITY: (u32, u32) = (8, 0);

/// Launches that [`Cuda::take_launches`] can still tell.
const KEPT: usize = 4096;

/// How long a launch took.
#[derive(Clone, Debug, PartialEq)]
pub struct Launched {
    /// The kernel's name.
    pub kernel: &'static str,
    /// The variant that was compiled for, such as `norms.bf16.sm_80`.
    pub variant: String,
    /// Microseconds on the device, between events before and behind the kernel.
    pub microseconds: f64,
}

/// A launch between its events.
#[derive(Debug)]
struct Timed {
    kernel: &'static str,
    variant: usize,
    start: CudaEvent,
    end: CudaEvent,
}

#[derive(Debug, Default)]
struct State {
    /// Loaded images, by variant; as long as the last one that was asked for.
    modules: Vec<Option<Module>>,
    launches: VecDeque<Timed>,
    /// Kernels of which it is not known yet whether they did well.
    unfinished: Vec<&'static str>,
}

/// A CUDA device and the stream on it that work runs on. Copies are handles of the same one; two are equal if they use the
/// same stream in the same way.
#[derive(Clone, Debug)]
pub struct Cuda {
    stream: Arc<CudaStream>,
    properties: Arc<Properties>,
    timed: bool,
    state: Arc<Mutex<State>>,
}

impl PartialEq for Cuda {
    fn eq(&self, other: &Self) -> bool {
        (&self.stream, self.timed) == (&other.stream, other.timed)
    }
}

impl Eq for Cuda {}

impl Cuda {
    /// Opens a device by its number, with the default stream of its primary context: the one that PyTorch and candle share.
    ///
    /// # Errors
    /// [`Error::Device`] that names what is missing: the driver's library, a driver that is new enough, the device, its
    /// compute capability.
    pub fn new(ordinal: usize) -> Result<Self> {
        let properties = describe(ordinal).map_err(|reason| refused(ordinal, reason))?;
        let context = CudaContext::new(ordinal).map_err(|error| refused(ordinal, words(error)))?;
        Ok(Self::with(context.default_stream(), properties))
    }

    /// Runs on a stream of the caller's. What is on it before is done first.
    ///
    /// # Errors
    /// As [`Cuda::new`].
    pub fn on_stream(stream: Arc<CudaStream>) -> Result<Self> {
        let ordinal = stream.context().ordinal();
        let properties = describe(ordinal).map_err(|reason| refused(ordinal, reason))?;
        Ok(Self::with(stream, properties))
    }

    fn with(stream: Arc<CudaStream>, properties: Properties) -> Self {
        Self { stream, properties: Arc::new(properties), timed: false, state: Arc::default() }
    }

    /// How many devices the driver has.
    ///
    /// # Errors
    /// [`Error::Device`] where there is no driver, or none that is new enough.
    pub fn count() -> Result<usize> {
        count().map_err(|reason| Error::Device { device: "cuda".to_owned(), reason })
    }

    /// A handle that times every launch by events, for [`Cuda::take_launches`].
    #[must_use]
    pub fn timed(self) -> Self {
        Self { timed: true, ..self }
    }

    /// Makes sure that every kernel of this build can be run.
    ///
    /// # Errors
    /// [`Error::Device`] where an image cannot be had, or the driver does not take it.
    pub fn probe(&self) -> Result<()> {
        self.bind()?;
        let mut state = self.state();
        (0..VARIANTS.len()).try_for_each(|variant| self.module(&mut state, variant).map(drop))
    }

    /// The last launches of timed handles (at most 4096), oldest first, and forgets them. Waits for the last.
    ///
    /// # Errors
    /// [`Error::Device`] with the driver's words.
    pub fn take_launches(&self) -> Result<Vec<Launched>> {
        let launches = std::mem::take(&mut self.state().launches);
        let timed = |launch: Timed| {
            let microseconds =
                driver::microseconds(&launch.start, &launch.end).map_err(|reason| self.refused(reason))?;
            Ok(Launched { kernel: launch.kernel, variant: VARIANTS[launch.variant].name(), microseconds })
        };
        launches.into_iter().map(timed).collect()
    }

    /// The device's number.
    pub fn ordinal(&self) -> usize {
        self.stream.context().ordinal()
    }

    /// The stream that work runs on.
    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// Refuses what lies in another context, whose addresses mean nothing here.
    pub(crate) fn shares_context_with(&self, stream: &CudaStream) -> Result<()> {
        let (here, there) = (self.stream.context(), stream.context());
        if here == there {
            return Ok(());
        }
        let (here, there) = (here.ordinal(), there.ordinal());
        let reason = format!("is of cuda:{there}, whose addresses mean nothing on cuda:{here}");
        Err(Error::operand("matrix view", "slice", reason))
    }

    /// A panic elsewhere leaves the state whole: every change to it is one call.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bind(&self) -> Result<()> {
        self.stream.context().bind_to_thread().map_err(|error| self.refused(words(error)))
    }

    fn refused(&self, reason: String) -> Error {
        refused(self.ordinal(), reason)
    }

    /// The error of a call: what a kernel did that was launched before, or what the driver refuses.
    fn failed(&self, op: &'static str, error: DriverError) -> Error {
        let unfinished = std::mem::take(&mut self.state().unfinished);
        if driver::by_a_kernel(error.0 as u32) && !unfinished.is_empty() {
            return Error::Kernel { op, kernel: unfinished.join(", "), findings: vec![words(error)] };
        }
        self.refused(words(error))
    }

    /// Waits for everything launched so far.
    fn wait(&self, op: &'static str) -> Result<()> {
        self.stream.synchronize().map_err(|error| self.failed(op, error))?;
        self.state().unfinished.clear();
        Ok(())
    }

    /// The loaded image of a variant; the context is current.
    fn module<'a>(&self, state: &'a mut State, variant: usize) -> Result<&'a mut Module> {
        if state.modules.len() <= variant {
            state.modules.resize_with(variant + 1, || None);
        }
        match &mut state.modules[variant] {
            Some(loaded) => Ok(loaded),
            place => {
                let image = image::image(variant).map_err(|reason| self.refused(reason))?;
                let (context, capability) = (self.stream.context(), self.properties.capability);
                let not_taken = |reason| self.refused(format!("image {}: {reason}", VARIANTS[variant].name()));
                let loaded = Module::load(context, image, VARIANTS[variant].arch, capability).map_err(not_taken)?;
                Ok(place.insert(loaded))
            }
        }
    }

    fn function(&self, state: &mut State, kernel: &Kernel, shared: u32) -> Result<Function> {
        let found = self.module(state, kernel.variant)?.function(kernel.entry.name, shared);
        found.map_err(|error| not_run(kernel, words(error)))
    }

    /// An event at this point of the stream, if launches are timed.
    fn event(&self) -> Result<Option<CudaEvent>> {
        let event = self.timed.then(|| self.stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT)));
        event.transpose().map_err(|error| self.refused(words(error)))
    }
}

/// How many devices the driver has.
pub(crate) fn count() -> std::result::Result<usize, String> {
    driver::open().map(|driver| driver.devices)
}

/// A device that is there and runs the kernels.
pub(crate) fn describe(ordinal: usize) -> std::result::Result<Properties, String> {
    let properties = driver::describe(ordinal)?;
    if properties.capability >= OLDEST_CAPABILITY {
        return Ok(properties);
    }
    let ((x, y), (major, minor)) = (properties.capability, OLDEST_CAPABILITY);
    Err(format!("{} has compute capability {x}.{y}, the kernels need {major}.{minor}", properties.name))
}

fn refused(ordinal: usize, reason: String) -> Error {
    Error::Device { device: format!("cuda:{ordinal}"), reason }
}

fn not_run(kernel: &Kernel, reason: String) -> Error {
    Error::Kernel { op: kernel.op, kernel: kernel.entry.name.to_owned(), findings: vec![reason] }
}

/// Memory of a [`Cuda`], freed in the order of its stream.
#[derive(Debug)]
pub(crate) struct Buffer {
    /// At least a byte: the driver allocates nothing for nothing.
    memory: CudaSlice<u8>,
    bytes: usize,
    /// Asked for once: `cudarc` records an event each time, to order other streams behind the use. Every use of a buffer is on
    /// its own stream.
    address: u64,
}

impl Buffer {
    fn new(memory: CudaSlice<u8>, bytes: usize) -> Self {
        let (address, guard) = memory.device_ptr(memory.stream());
        drop(guard);
        Self { memory, bytes, address }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // On whichever thread that is: freeing wants the context current.
        let context = self.memory.context();
        context.record_err(context.bind_to_thread());
    }
}

impl Gpu for Cuda {
    type Buffer = Buffer;

    fn allocate<T: Pod>(&self, op: &'static str, name: &'static str, len: usize) -> Result<Buffer> {
        let bytes = len.saturating_mul(size_of::<T>());
        let too_much = || Error::OutOfMemory { op, what: name, bytes };
        if bytes > isize::MAX as usize {
            return Err(too_much());
        }
        // SAFETY: the memory holds anything until it is written; any bytes are `u8`s. Kernels write their outputs before
        // anybody reads them, by the headings Operands of their headers.
        let memory = unsafe { self.stream.alloc::<u8>(bytes.max(1)) }.map_err(|error| match error.0 {
            CUresult::CUDA_ERROR_OUT_OF_MEMORY => too_much(),
            _ => self.failed(op, error),
        })?;
        Ok(Buffer::new(memory, bytes))
    }

    fn zeroed<T: Pod>(&self, op: &'static str, name: &'static str, len: usize) -> Result<Buffer> {
        let mut buffer = self.allocate::<T>(op, name, len)?;
        self.stream.memset_zeros(&mut buffer.memory).map_err(|error| self.failed(op, error))?;
        Ok(buffer)
    }

    fn write<T: Pod>(&self, op: &'static str, buffer: &mut Buffer, data: &[T]) -> Result<()> {
        let bytes: &[u8] = bytemuck::cast_slice(data);
        if bytes.len() != buffer.bytes {
            return Err(length(op, "write", buffer.bytes, bytes.len()));
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let copied = self.stream.memcpy_htod(bytes, &mut buffer.memory);
        // `data` may go when this returns, so the copy must be over, whether or not it went well.
        let waited = self.wait(op);
        copied.map_err(|error| self.failed(op, error)).and(waited)
    }

    fn address(&self, buffer: &Buffer) -> u64 {
        buffer.address
    }

    fn place(&self) -> Place {
        // Every device's default stream has the same handle.
        Place([self.stream.context().cu_ctx().addr(), self.stream.cu_stream().addr()])
    }

    fn download<T: Pod>(&self, op: &'static str, buffer: &Buffer, data: &mut [T]) -> Result<()> {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(data);
        if bytes.len() != buffer.bytes {
            return Err(length(op, "download", buffer.bytes, bytes.len()));
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let memory = buffer.memory.slice(..buffer.bytes);
        let copied = self.stream.memcpy_dtoh(&memory, bytes);
        let waited = self.wait(op);
        copied.map_err(|error| self.failed(op, error)).and(waited)
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
        let outputs = outputs.iter().map(|buffer| buffer.address);
        let mut arguments = Arguments::new(inputs.iter().map(|buffer| buffer.address).chain(outputs), scalars);
        self.bind()?;
        let mut state = self.state();
        let function = self.function(&mut state, kernel, grid.shared)?;
        let [x, y] = kernel.entry.block;
        let start = self.event()?;
        let mut table = arguments.table();
        // SAFETY: the function's module is held by `state`, and never unloaded while a handle lives. `check` above has
        // compared the number of pointers and the bytes of scalars with the row of `variants`, which the heading Operands of
        // the kernel's header repeats and its `static_assert` on the struct of scalars holds to; the block is the one of its
        // `__launch_bounds__`. That buffers are as long as Operands and Requires say is the host code's part, which runs on
        // the virtual machine with every access checked. Buffers that are dropped later are freed behind this launch.
        let launched = unsafe {
            let stream = self.stream.cu_stream();
            result::launch_kernel(function.handle, (grid.blocks, 1, 1), (x, y, 1), grid.shared, stream, &mut table)
        };
        if let Err(error) = launched {
            drop(state);
            // An earlier kernel's fault shows here too.
            return Err(if driver::by_a_kernel(error.0 as u32) {
                self.failed(kernel.op, error)
            } else {
                not_run(kernel, words(error))
            });
        }
        if !state.unfinished.contains(&kernel.entry.name) {
            state.unfinished.push(kernel.entry.name);
        }
        if let (Some(start), Some(end)) = (start, self.event()?) {
            if state.launches.len() == KEPT {
                state.launches.pop_front();
            }
            state.launches.push_back(Timed { kernel: kernel.entry.name, variant: kernel.variant, start, end });
        }
        Ok(())
    }

    fn resident(&self, kernel: &Kernel, shared: u32) -> Result<u32> {
        self.bind()?;
        let function = self.function(&mut self.state(), kernel, shared)?;
        let threads = kernel.entry.block.iter().product::<u32>().cast_signed();
        // SAFETY: the function is one of a loaded module.
        let blocks = unsafe {
            result::occupancy::max_active_block_per_multiprocessor(function.handle, threads, shared as usize)
        };
        match blocks.map_err(|error| not_run(kernel, words(error)))?.max(0).cast_unsigned() {
            0 => Err(not_run(
                kernel,
                format!("no block of it fits a multiprocessor, with {shared} bytes of shared memory"),
            )),
            blocks => Ok(blocks.saturating_mul(self.properties.multiprocessors)),
        }
    }

    fn shared_limit(&self) -> u32 {
        self.properties.shared_limit
    }
}

fn length(op: &'static str, operand: &'static str, expected: usize, found: usize) -> Error {
    Error::shape(op, operand, format!("{expected} bytes"), format!("{found} bytes"))
}
