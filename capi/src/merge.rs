//! An adapter and its base weight: whether they belong together, and the update written into the weight.

use crate::adapter::{Adapter, idlora_adapter};
use crate::choices::{Choice, by_dtype};
use crate::device::idlora_device;
use crate::host;
use crate::operands::{idlora_matrix, idlora_matrix_mut};
use crate::pointer;
use crate::status::{Answer, answer};
use idlora::{Device, Elem};

/// Whether W [m, n] in host memory is the very weight that the adapter was made from, to the bit and to the element type; if not,
/// IDLORA_STATUS_DIGEST. One pass over it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn idlora_adapter_check_base(
    adapter: *const idlora_adapter,
    dtype: u32,
    w: *const idlora_matrix,
) -> i32 {
    answer(|| {
        // SAFETY: header, idlora_adapter_check_base: `adapter` is a handle.
        let adapter = unsafe { pointer::shared("adapter", adapter) }?;
        by_dtype!(Choice::of("dtype", dtype)?, T => {
            // SAFETY: header, idlora_adapter_check_base: `w` is a matrix of such elements on the host.
            adapter.lora.check_base(unsafe { host::needed_view::<T>("w", w) }?)?;
        });
        Ok(())
    })
}

/// Writes the update into the base weight W [m, n] in host memory, elements of `dtype`, so that the base layer alone gives the
/// adapted output: with the adapter's own B and gate (idlora_adapter_write), static gates only. Runs on `device`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn idlora_merge(
    device: *const idlora_device,
    adapter: *const idlora_adapter,
    dtype: u32,
    w: *const idlora_matrix_mut,
) -> i32 {
    // SAFETY: header, idlora_merge: handles, and a matrix of such elements on the host that nobody else uses.
    answer(|| unsafe { with_weight(device, adapter, dtype, w, Way::Merge) })
}

/// Undoes idlora_merge, up to rounding, with the very B and gate that were merged.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn idlora_unmerge(
    device: *const idlora_device,
    adapter: *const idlora_adapter,
    dtype: u32,
    w: *const idlora_matrix_mut,
) -> i32 {
    // SAFETY: header, idlora_unmerge: handles, and a matrix of such elements on the host that nobody else uses.
    answer(|| unsafe { with_weight(device, adapter, dtype, w, Way::Unmerge) })
}

#[derive(Clone, Copy)]
enum Way {
    Merge,
    Unmerge,
}

/// # Safety
/// `device` and `adapter` are handles, `w` a matrix on the host that nobody else uses.
unsafe fn with_weight(
    device: *const idlora_device,
    adapter: *const idlora_adapter,
    dtype: u32,
    w: *const idlora_matrix_mut,
    way: Way,
) -> Answer {
    // SAFETY: this function's contract.
    let (device, adapter) = unsafe { (pointer::shared("device", device)?, pointer::shared("adapter", adapter)?) };
    by_dtype!(Choice::of("dtype", dtype)?, T => {
        // SAFETY: this function's contract.
        merged::<T>(device, adapter, unsafe { host::needed_view_mut("w", w) }?, way)
    })
}

fn merged<T: Elem>(device: &Device, adapter: &Adapter, w: idlora::MatMut<'_, T>, way: Way) -> Answer {
    match way {
        Way::Merge => adapter.lora.merge(device, w)?,
        Way::Unmerge => adapter.lora.unmerge(device, w)?,
    }
    Ok(())
}
