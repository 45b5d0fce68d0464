//! One allocation: its bytes and which of them are defined.

use super::poison;

/// One allocation.
#[derive(Clone, Debug)]
pub(crate) struct Allocation {
    /// Handle; stable over the life of the memory.
    pub id: u32,
    /// First address, 256-aligned (what `cudaMalloc` promises), far from its neighbours.
    pub base: u64,
    /// Contents; uninitialised bytes are poison.
    pub bytes: Vec<u8>,
    /// One bit per byte: something wrote it. Empty when all are written, which is what an upload leaves.
    pub written: Vec<u64>,
    /// For reports.
    pub name: String,
    /// `.const` variables.
    pub constant: bool,
}

impl Allocation {
    /// Poisoned, without id and name; `None` if the host has not so much memory.
    pub(super) fn uninitialised(base: u64, len: u64) -> Option<Allocation> {
        let len = usize::try_from(len).ok()?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).ok()?;
        bytes.resize(len, 0);
        poison(&mut bytes);
        let written = vec![0; len.div_ceil(64)];
        Some(Allocation { id: 0, base, bytes, written, name: String::new(), constant: false })
    }

    /// Replaces the contents by as many bytes.
    pub(super) fn overwrite(&mut self, bytes: &[u8]) {
        self.bytes.copy_from_slice(bytes);
        self.written = Vec::new();
    }
}
