//! Memory of a device.

use super::on_the_host;
use crate::device::Device;
use crate::error::{Error, Result, check_len};
use crate::gpu::{Gpu, Place};
use bytemuck::Pod;
use std::marker::PhantomData;

const OP: &str = "buffer";

/// Memory of one of the devices.
#[derive(Debug)]
enum Memory {
    #[cfg(feature = "cuda")]
    Cuda(<crate::cuda::Cuda as Gpu>::Buffer),
    #[cfg(feature = "vm")]
    Vm(<crate::vm::Vm as Gpu>::Buffer),
}

/// `len` elements on a device, freed when dropped, in the order of the device's stream: kernels that were launched before still
/// have it.
#[derive(Debug)]
pub struct Buffer<T> {
    /// Declared before the device, which it needs to be freed.
    memory: Memory,
    device: Device,
    len: usize,
    address: u64,
    place: Place,
    elements: PhantomData<T>,
}

/// One expression for whichever device the memory is of; the device is never another.
macro_rules! on_memory {
    ($device:expr, $of:expr, $gpu:ident, $memory:ident => $body:expr) => {
        match ($device, $of) {
            #[cfg(feature = "cuda")]
            (Device::Cuda($gpu), Memory::Cuda($memory)) => $body,
            #[cfg(feature = "vm")]
            (Device::Vm($gpu), Memory::Vm($memory)) => $body,
            #[allow(unreachable_patterns)] // with one device
            (device, _) => Err(on_the_host(device)),
        }
    };
}

impl<T: Pod> Buffer<T> {
    /// Memory with these contents. Waits until they are there.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::Device`] for [`Device::Cpu`] and what the device says.
    pub fn from_slice(device: &Device, data: &[T]) -> Result<Self> {
        let mut buffer = Self::allocate(device, "buffer", data.len(), false)?;
        buffer.write(data)?;
        Ok(buffer)
    }

    /// Memory of `len` elements, all bytes zero.
    ///
    /// # Errors
    /// As [`Buffer::from_slice`].
    pub fn zeros(device: &Device, len: usize) -> Result<Self> {
        Self::allocate(device, "buffer", len, true)
    }

    /// `name` is for reports.
    pub(super) fn allocate(device: &Device, name: &'static str, len: usize, zeroed: bool) -> Result<Self> {
        let (memory, address, place) = match device {
            Device::Cpu => return Err(on_the_host(device)),
            #[cfg(feature = "cuda")]
            Device::Cuda(gpu) => {
                let (memory, address) = allocate::<_, T>(gpu, name, len, zeroed)?;
                (Memory::Cuda(memory), address, gpu.place())
            }
            #[cfg(feature = "vm")]
            Device::Vm(gpu) => {
                let (memory, address) = allocate::<_, T>(gpu, name, len, zeroed)?;
                (Memory::Vm(memory), address, gpu.place())
            }
        };
        Ok(Self { memory, device: device.clone(), len, address, place, elements: PhantomData })
    }

    /// Overwrites all of it, behind everything launched so far, and waits until it is done.
    ///
    /// # Errors
    /// [`Error::Shape`] if `data` has another length; what the device says.
    pub fn write(&mut self, data: &[T]) -> Result<()> {
        check_len(OP, "data", self.len, data.len())?;
        on_memory!(&self.device, &mut self.memory, gpu, memory => gpu.write(OP, memory, data))
    }

    /// Copies all of it to `data`, behind everything launched so far. Waits.
    ///
    /// # Errors
    /// [`Error::Shape`] if `data` has another length; what the device says: what a kernel did that was launched before, too.
    pub fn copy_to(&self, data: &mut [T]) -> Result<()> {
        check_len(OP, "data", self.len, data.len())?;
        on_memory!(&self.device, &self.memory, gpu, memory => gpu.download(OP, memory, data))
    }

    /// [`Buffer::copy_to`] into new memory.
    ///
    /// # Errors
    /// As [`Buffer::copy_to`], and [`Error::OutOfMemory`].
    pub fn to_vec(&self) -> Result<Vec<T>> {
        let mut data = Vec::new();
        let bytes = self.len.saturating_mul(size_of::<T>());
        let too_much = |_| Error::OutOfMemory { op: OP, what: "a copy", bytes };
        data.try_reserve_exact(self.len).map_err(too_much)?;
        data.resize(self.len, T::zeroed());
        self.copy_to(&mut data)?;
        Ok(data)
    }
}

impl<T> Buffer<T> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where it lies.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Where the first element lies: as a kernel, or another library on the same device, finds it.
    pub fn address(&self) -> u64 {
        self.address
    }

    pub(crate) fn place(&self) -> Place {
        self.place
    }
}

fn allocate<G: Gpu, T: Pod>(gpu: &G, name: &'static str, len: usize, zeroed: bool) -> Result<(G::Buffer, u64)> {
    let memory = if zeroed { gpu.zeroed::<T>(OP, name, len) } else { gpu.allocate::<T>(OP, name, len) }?;
    let address = gpu.address(&memory);
    Ok((memory, address))
}
