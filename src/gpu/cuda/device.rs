//! The device behind the seam: memory, launches, time.

use super::driver::{Properties, words};
use super::module::Arguments;
use super::{Cuda, KEPT, Timed, card, driver, not_run};
use crate::error::{Error, Result};
use crate::gpu::model::Card;
use crate::gpu::{Gpu, Grid, Identity, Kernel, Place};
use bytemuck::Pod;
use cudarc::driver::sys::{CUresult, CUstreamCaptureStatus};
use cudarc::driver::{CudaSlice, DevicePtr, result};

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

    fn card(&self) -> Result<Card> {
        let figures = driver::figures(self.ordinal()).map_err(|reason| self.refused(reason))?;
        card::of(&self.properties, figures).map_err(|reason| self.refused(reason))
    }

    fn identity(&self) -> Result<Identity> {
        let Properties { name, multiprocessors, driver: (major, minor), .. } = self.properties.as_ref();
        let build = driver::build().map(|build| format!(", {build}")).unwrap_or_default();
        let driver = format!("CUDA {major}.{minor}{build}");
        Ok(Identity { device: name.clone(), multiprocessors: *multiprocessors, driver })
    }

    fn seconds(&self, run: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
        if self.capturing()? {
            let reason = "cannot be timed while its stream is captured: launches go into a graph, and nothing runs";
            return Err(self.refused(reason.to_owned()));
        }
        let timestamp = || self.timestamp().map_err(|error| self.failed("timing", error));
        let start = timestamp()?;
        run()?;
        let end = timestamp()?;
        self.wait("timing")?; // a fault is told as its kernel's
        let microseconds = driver::microseconds(&start, &end).map_err(|reason| self.refused(reason))?;
        Ok(microseconds * 1e-6)
    }

    fn capturing(&self) -> Result<bool> {
        use CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE as NONE;
        match self.stream.capture_status() {
            // A capture that failed goes on until it is ended.
            Ok(status) => Ok(status != NONE),
            // The default stream, while another is captured that must not wait for it.
            Err(error) if error.0 == CUresult::CUDA_ERROR_STREAM_CAPTURE_IMPLICIT => Ok(true),
            Err(error) => Err(self.failed("capture", error)),
        }
    }
}

fn length(op: &'static str, operand: &'static str, expected: usize, found: usize) -> Error {
    Error::shape(op, operand, format!("{expected} bytes"), format!("{found} bytes"))
}
