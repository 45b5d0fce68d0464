//! Local memory of the threads, and the kernel's parameters.

use super::lanes::{self, Element};
use super::report::{Request, report};
use super::shadow::Written;
use super::shared::low;
use super::{BlockMemory, Bus, Lanes64};
use crate::check::FindingKind;
use crate::memory::poison;

/// Local memory of a block's threads, made warp by warp when first touched: few kernels use much of it.
pub(super) struct Local {
    len: u32,
    warps: Vec<Option<WarpLocal>>,
}

/// Local memory of a warp, one lane after the other.
struct WarpLocal {
    bytes: Vec<u8>,
    written: Written,
}

impl Local {
    pub fn new(len: u32, warps: u32) -> Local {
        Local { len, warps: (0..warps).map(|_| None).collect() }
    }

    /// From one lane's memory to the next: whole words of shadow state.
    fn stride(&self) -> u64 {
        u64::from(self.len).next_multiple_of(64)
    }

    fn warp(&mut self, warp: u32) -> Option<&mut WarpLocal> {
        let len = 32 * self.stride() as usize;
        let slot = self.warps.get_mut(warp as usize)?;
        Some(slot.get_or_insert_with(|| {
            let mut bytes = vec![0; len];
            poison(&mut bytes);
            WarpLocal { bytes, written: Written::new(len) }
        }))
    }

    /// Offsets in the warp's bytes.
    fn place(&self, offset: &Lanes64) -> Lanes64 {
        let stride = self.stride();
        std::array::from_fn(|lane| lane as u64 * stride + offset[lane])
    }
}

impl Bus<'_> {
    pub(super) fn load_local(
        &mut self,
        block: &mut BlockMemory,
        request: Request,
        element: Element,
        mask: u32,
        address: &Lanes64,
        out: &mut [Lanes64],
    ) -> u32 {
        let offset = low(address);
        let lanes = self.local_bounds(&block.local, request, mask, &offset);
        let place = block.local.place(&offset);
        let Some(warp) = block.local.warp(request.at.warp) else { return 0 };
        lanes::gather(&warp.bytes, element, lanes, &place, out);
        let missing = if self.checks.uninitialised { warp.written.missing(lanes, &place, request.size) } else { 0 };
        if missing != 0 {
            report(&mut self.findings, self.program, FindingKind::Uninitialised, request.at, missing, |lane| {
                let place = self.local_arrays.describe(offset[lane]);
                format!("{request} at local {:#x}, {place}, which nothing wrote", offset[lane])
            });
        }
        lanes
    }

    pub(super) fn store_local(
        &mut self,
        block: &mut BlockMemory,
        request: Request,
        element: Element,
        mask: u32,
        address: &Lanes64,
        values: &[Lanes64],
    ) {
        let offset = low(address);
        let lanes = self.local_bounds(&block.local, request, mask, &offset);
        let place = block.local.place(&offset);
        let Some(warp) = block.local.warp(request.at.warp) else { return };
        lanes::scatter(&mut warp.bytes, element, lanes, &place, values);
        warp.written.record(lanes, &place, request.size);
    }

    fn local_bounds(&mut self, local: &Local, request: Request, mask: u32, offset: &Lanes64) -> u32 {
        let aligned = self.aligned(request, mask, offset);
        let inside = lanes::inside(aligned, offset, request.size, u64::from(local.len));
        let crossing = self.local_arrays.crossing(inside, offset, request.size);
        let wrong = aligned & !inside | crossing;
        if wrong != 0 {
            report(&mut self.findings, self.program, FindingKind::LocalOutOfBounds, request.at, wrong, |lane| {
                let place = self.local_arrays.describe(offset[lane]);
                format!("{request} at local {:#x}, {place}; the thread has {} bytes", offset[lane], local.len)
            });
        }
        inside & !crossing
    }

    pub(super) fn load_param(
        &mut self,
        request: Request,
        element: Element,
        mask: u32,
        address: &Lanes64,
        out: &mut [Lanes64],
    ) -> u32 {
        let offset = low(address);
        let aligned = self.aligned(request, mask, &offset);
        let len = self.params.len();
        let inside = lanes::inside(aligned, &offset, request.size, len as u64);
        let lanes = inside & !self.parameters.crossing(inside, &offset, request.size);
        if lanes != aligned {
            let kind = FindingKind::ParamOutOfBounds;
            report(&mut self.findings, self.program, kind, request.at, aligned & !lanes, |lane| {
                let place = self.parameters.describe(offset[lane]);
                format!("{request} at parameter {:#x}, {place}; the kernel has {len} bytes", offset[lane])
            });
        }
        lanes::gather(&self.params, element, lanes, &offset, out);
        lanes
    }

    /// Parameters cannot be written.
    pub(super) fn refuse_param(&mut self, request: Request, mask: u32, address: &Lanes64) {
        report(&mut self.findings, self.program, FindingKind::ReadOnly, request.at, mask, |lane| {
            let offset = address[lane] & 0xffff_ffff;
            format!("{request} at parameter {offset:#x}, {}", self.parameters.describe(offset))
        });
    }

    /// Atomics reach device and shared memory only.
    pub(super) fn refuse_local(&mut self, request: Request, mask: u32, address: &Lanes64) {
        report(&mut self.findings, self.program, FindingKind::LocalOutOfBounds, request.at, mask, |lane| {
            format!(
                "{request} at local {:#x}: atomics reach device and shared memory only",
                address[lane] & 0xffff_ffff
            )
        });
    }
}
