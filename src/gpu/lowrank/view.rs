//! Operands that lie on the device, by address: kernels of the adapter take their operands by value in one table, so that one
//! launch serves several modules, and memory that somebody else owns is as good as our own.

use crate::gpu::Gpu;
use std::marker::PhantomData;

/// A matrix on the device: its first element and the distance of its rows, in elements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub address: u64,
    pub ld: usize,
    memory: PhantomData<&'a ()>,
}

impl<'a> View<'a> {
    /// A whole buffer.
    pub fn whole<G: Gpu>(gpu: &G, buffer: &'a G::Buffer, ld: usize) -> Self {
        Self::at(gpu.address(buffer), ld)
    }

    /// What lies there, as long as the caller keeps it.
    pub fn at(address: u64, ld: usize) -> Self {
        Self { address, ld, memory: PhantomData }
    }
}

/// A matrix that is written, by nobody else meanwhile.
#[derive(Debug)]
pub(crate) struct ViewMut<'a> {
    pub address: u64,
    pub ld: usize,
    memory: PhantomData<&'a mut ()>,
}

impl<'a> ViewMut<'a> {
    /// A whole buffer.
    pub fn whole<G: Gpu>(gpu: &G, buffer: &'a mut G::Buffer, ld: usize) -> Self {
        Self::at(gpu.address(buffer), ld)
    }

    /// What lies there, as long as the caller keeps it.
    pub fn at(address: u64, ld: usize) -> Self {
        Self { address, ld, memory: PhantomData }
    }

    /// The same matrix, read.
    pub fn as_view(&self) -> View<'_> {
        View::at(self.address, self.ld)
    }
}
