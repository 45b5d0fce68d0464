//! Memory between the kernels of an operation.

use super::Buffer;
use crate::device::Device;
use crate::error::Result;
use crate::gpu::Place;
use crate::gpu::lowrank::step::{HEAD, Scratch};

/// Memory that an operation uses between its kernels: one allocation, made before the first step, as large as the operation says
/// (such as [`Plan::workspace_bytes`](crate::lowrank::Plan::workspace_bytes)). It never grows.
///
/// One workspace serves every plan of its device's stream in turn, whatever their shapes, as large as the most demanding one
/// needs: launches of one stream run one after the other, so that a step has read what it put there before the next one
/// writes. Its first 256 bytes are zero between steps, every step leaves them so, and nothing else of it is read before it is
/// written. After an error of a kernel it may hold anything: make a new one.
#[derive(Debug)]
pub struct Workspace {
    buffer: Buffer<u8>,
}

impl Workspace {
    /// Allocates `bytes`, at least the 256 of its head.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory), [`Error::Device`](crate::Error::Device) for [`Device::Cpu`] and what
    /// the device says.
    pub fn new(device: &Device, bytes: usize) -> Result<Self> {
        Ok(Self { buffer: Buffer::allocate(device, "workspace", bytes.max(HEAD), true)? })
    }

    /// Its size.
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }

    pub(crate) fn scratch(&mut self) -> Scratch<'_> {
        Scratch::at(self.buffer.address(), self.buffer.len())
    }

    pub(crate) fn place(&self) -> Place {
        self.buffer.place()
    }
}
