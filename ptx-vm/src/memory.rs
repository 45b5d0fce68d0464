//! Device memory: typed buffers with guard gaps between them.

mod contents;
mod variables;

#[cfg(test)]
mod tests;

pub(crate) use contents::Allocation;

use crate::error::MemoryError;
use crate::program::windows;
use bytemuck::Pod;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What bytes hold that nothing wrote, by the parity of their address: every aligned f16, bf16, f32 and f64 made of them is
/// a quiet NaN, and every integer implausibly large.
pub(crate) const POISON: [u8; 2] = [0xfb, 0x7f];
/// [`POISON`] as the register value of eight bytes at an even address.
pub(crate) const POISON_BITS: u64 = 0x7ffb_7ffb_7ffb_7ffb;

/// Fills bytes that start at an even address with poison.
pub(crate) fn poison(bytes: &mut [u8]) {
    let mut chunks = bytes.chunks_exact_mut(8);
    chunks.by_ref().for_each(|chunk| chunk.copy_from_slice(&POISON_BITS.to_le_bytes()));
    chunks.into_remainder().iter_mut().enumerate().for_each(|(i, byte)| *byte = POISON[i % 2]);
}

/// A buffer in a [`Memory`]: a handle, freely copied.
#[derive(Debug)]
pub struct Buffer<T> {
    pub(crate) id: u32,
    pub(crate) memory: u64,
    pub(crate) len: usize,
    pub(crate) element: PhantomData<fn() -> T>,
}

impl<T> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Buffer<T> {}

/// Part of a buffer as a kernel argument: during that launch, the kernel may touch nothing of the buffer but the slices
/// passed.
#[derive(Clone, Copy, Debug)]
pub struct Slice<T> {
    pub(crate) buffer: Buffer<T>,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl<T> Buffer<T> {
    /// Elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// No elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Part of the buffer; the range is clamped to the buffer.
    pub fn slice(&self, range: Range<usize>) -> Slice<T> {
        let end = range.end.min(self.len);
        Slice { buffer: *self, start: range.start.min(end), end }
    }
}

/// Device memory. A clone has the same buffers, with contents of its own from then on; buffers made later belong to the one
/// that made them.
#[derive(Clone, Debug)]
pub struct Memory {
    pub(crate) id: u64,
    /// Sorted by base, and thereby by id: neither is used twice.
    pub(crate) allocations: Vec<Allocation>,
    /// Bytes that all buffers together may have.
    limit: u64,
    /// Bytes that they have.
    total: u64,
    /// Buffers ever made.
    made: u64,
    /// End of the last allocation ever made, and its length.
    last: (u64, u64),
    /// Variables of each module used with this memory, as buffer ids.
    modules: HashMap<u64, Vec<u32>>,
}

/// A buffer id that no memory has used: clones must not confuse the buffers made after they parted.
fn fresh_id() -> Option<u32> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |id| id.checked_add(1)).ok()
}

impl Memory {
    /// Where device memory begins: beyond 32 bits, so that a truncated pointer leads nowhere.
    const FIRST: u64 = 1 << 36;
    /// The least gap between allocations. It grows with its neighbours, so a wrong stride lands in it as well.
    const GAP: u64 = 64 << 10;
    /// What `cudaMalloc` promises.
    const ALIGN: u64 = 256;

    /// Empty memory with a limit of 8 GiB.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Memory {
        Memory::with_limit(8 << 30)
    }

    /// Empty memory whose buffers may have so many bytes in all.
    pub fn with_limit(limit: u64) -> Memory {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let (allocations, modules) = (Vec::new(), HashMap::new());
        Memory { id, allocations, limit, total: 0, made: 0, last: (Self::FIRST, 0), modules }
    }

    /// An uninitialised buffer, filled with poison.
    pub fn allocate<T: Pod>(&mut self, len: usize) -> Result<Buffer<T>, MemoryError> {
        let id = self.reserve((len as u64).saturating_mul(size_of::<T>() as u64), 1)?;
        Ok(Buffer { id, memory: self.id, len, element: PhantomData })
    }

    /// A buffer with these contents.
    pub fn upload<T: Pod>(&mut self, data: &[T]) -> Result<Buffer<T>, MemoryError> {
        let buffer = self.allocate(data.len())?;
        self.write(&buffer, data)?;
        Ok(buffer)
    }

    /// Overwrites a whole buffer.
    pub fn write<T: Pod>(&mut self, buffer: &Buffer<T>, data: &[T]) -> Result<(), MemoryError> {
        let index = self.index(buffer.id, buffer.memory)?;
        if data.len() != buffer.len {
            return Err(MemoryError::Length { buffer: buffer.id, expected: buffer.len, found: data.len() });
        }
        self.allocations[index].overwrite(bytemuck::cast_slice(data));
        Ok(())
    }

    /// Reads a whole buffer. Bytes that nothing wrote come back as poison.
    pub fn download<T: Pod>(&self, buffer: &Buffer<T>) -> Result<Vec<T>, MemoryError> {
        let allocation = self.find(buffer.id, buffer.memory)?;
        let mut data = vec![T::zeroed(); buffer.len];
        bytemuck::cast_slice_mut(&mut data).copy_from_slice(&allocation.bytes);
        Ok(data)
    }

    /// Frees a buffer; its address range is never used again.
    pub fn free<T>(&mut self, buffer: Buffer<T>) -> Result<(), MemoryError> {
        let index = self.index(buffer.id, buffer.memory)?;
        self.total -= self.allocations.remove(index).bytes.len() as u64;
        Ok(())
    }

    /// Names a buffer in reports and findings.
    pub fn name<T>(&mut self, buffer: &Buffer<T>, name: &str) -> Result<(), MemoryError> {
        let index = self.index(buffer.id, buffer.memory)?;
        self.allocations[index].name = name.to_owned();
        Ok(())
    }

    /// The address of a buffer, for tables of addresses that kernels follow. Fixed until it is freed.
    ///
    /// # Errors
    ///
    /// [`MemoryError::UnknownBuffer`] for one that is freed or of another memory.
    pub fn address<T>(&self, buffer: &Buffer<T>) -> Result<u64, MemoryError> {
        Ok(self.find(buffer.id, buffer.memory)?.base)
    }

    /// The allocation behind a handle.
    pub(crate) fn find(&self, id: u32, memory: u64) -> Result<&Allocation, MemoryError> {
        Ok(&self.allocations[self.index(id, memory)?])
    }

    fn index(&self, id: u32, memory: u64) -> Result<usize, MemoryError> {
        if memory != self.id {
            return Err(MemoryError::UnknownBuffer(id));
        }
        self.allocations.binary_search_by_key(&id, |a| a.id).map_err(|_| MemoryError::UnknownBuffer(id))
    }

    /// Index of the last allocation whose base is at or below an address.
    pub(crate) fn at_or_below(&self, address: u64) -> Option<usize> {
        self.allocations.partition_point(|a| a.base <= address).checked_sub(1)
    }

    /// Makes an uninitialised allocation and returns its id.
    fn reserve(&mut self, bytes: u64, align: u32) -> Result<u32, MemoryError> {
        let too_large = MemoryError::TooLarge { requested: bytes, limit: self.limit };
        let Some(total) = self.total.checked_add(bytes).filter(|&total| total <= self.limit) else {
            return Err(too_large);
        };
        let Some(base) = self.next_base(bytes, align) else { return Err(too_large) };
        let Some(mut allocation) = Allocation::uninitialised(base, bytes) else { return Err(too_large) };
        let id = fresh_id().ok_or(too_large)?;
        (allocation.id, allocation.name) = (id, format!("buffer {}", self.made));
        self.allocations.push(allocation);
        self.last = (base + bytes, bytes);
        self.total = total;
        self.made += 1;
        Ok(id)
    }

    /// An address for so many bytes, clear of everything ever allocated and of the generic windows.
    fn next_base(&self, bytes: u64, align: u32) -> Option<u64> {
        let (end, neighbour) = self.last;
        let gap = Self::GAP.max(neighbour).max(bytes);
        let base = end.checked_add(gap)?.checked_next_multiple_of(Self::ALIGN.max(u64::from(align)))?;
        let last = base.checked_add(bytes)?.checked_add(gap)?;
        (last <= windows::SHARED).then_some(base)
    }
}
