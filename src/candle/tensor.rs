//! candle's tensors as this crate's matrices: the same memory, checked.

use crate::elem::{Dtype, Elem};
use crate::error::{Error, Result};
use candle_core::{
    CpuStorage, DType, Device, DeviceLocation, InplaceOp1, Layout, Storage, StorageRef, Tensor, WithDType,
};
use std::mem;
use std::sync::{Mutex, PoisonError};

/// The name under which this module refuses.
pub(super) const OP: &str = "candle layer";

/// An element that both sides know.
#[cfg(not(feature = "candle-cuda"))]
pub(super) trait Element: Elem + WithDType + Default {}

/// An element that both sides know, on candle's CUDA devices too.
#[cfg(feature = "candle-cuda")]
pub(super) trait Element: Elem + WithDType + Default + super::cuda::OnCuda {}

impl Element for f32 {}
impl Element for half::f16 {}
impl Element for half::bf16 {}

/// One expression for each element type, with `$t` as the type.
macro_rules! with_element {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            $crate::elem::Dtype::F32 => {
                type $t = f32;
                $body
            }
            $crate::elem::Dtype::F16 => {
                type $t = half::f16;
                $body
            }
            $crate::elem::Dtype::BF16 => {
                type $t = half::bf16;
                $body
            }
        }
    };
}
pub(super) use with_element;

/// The same words, so that `?` serves where candle's results are returned.
impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        Self::wrap(error)
    }
}

/// candle's error for what this crate refuses.
pub(super) fn refused(error: Error) -> candle_core::Error {
    error.into()
}

/// This crate's error for what candle refuses.
pub(super) fn said(error: candle_core::Error) -> Error {
    Error::candle(OP, error)
}

/// The element type of a tensor.
///
/// # Errors
/// [`Error::Parameter`] for one that the adapter's operations do not have.
pub(super) fn dtype(parameter: &'static str, tensor: &Tensor) -> Result<Dtype> {
    match tensor.dtype() {
        DType::F32 => Ok(Dtype::F32),
        DType::F16 => Ok(Dtype::F16),
        DType::BF16 => Ok(Dtype::BF16),
        other => Err(Error::parameter(OP, parameter, "F32, F16 or BF16", format!("{other:?}"))),
    }
}

/// Refuses a device that the adapter does not run on.
pub(super) fn check_device(device: &Device) -> Result<()> {
    let (name, reason) = match device.location() {
        DeviceLocation::Cpu => return Ok(()),
        DeviceLocation::Cuda { .. } if cfg!(feature = "candle-cuda") => return Ok(()),
        DeviceLocation::Cuda { gpu_id } => (format!("cuda:{gpu_id}"), "this build lacks the feature `candle-cuda`"),
        DeviceLocation::Metal { gpu_id } => {
            (format!("metal:{gpu_id}"), "adapters run on candle's CPU and CUDA devices")
        }
    };
    Err(Error::Device { device: name, reason: reason.to_owned() })
}

/// A contiguous tensor's elements in the host memory that it has.
pub(super) fn elements<'a, T: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [T]> {
    let all = storage.as_slice::<T>()?;
    let range = layout.contiguous_offsets().map(|(start, end)| start..end);
    let missing = || candle_core::Error::msg("candle layer: a tensor is not contiguous, or larger than its memory");
    range.and_then(|range| all.get(range)).ok_or_else(missing)
}

/// Reads a tensor that lies on the CPU, without copying it if it is contiguous.
pub(super) fn read<T: WithDType, R>(tensor: &Tensor, with: impl FnOnce(&[T]) -> R) -> candle_core::Result<R> {
    read_storage(&tensor.contiguous()?, |storage, layout| Ok(with(elements(storage, layout)?)))
}

/// The elements behind a read lock of a tensor that lies on the CPU.
pub(super) fn on_cpu<'a, T: WithDType>(
    (storage, layout): &'a (StorageRef<'_>, &Layout),
) -> candle_core::Result<&'a [T]> {
    elements(of_cpu(storage)?, layout)
}

fn read_storage<R>(
    tensor: &Tensor,
    with: impl FnOnce(&CpuStorage, &Layout) -> candle_core::Result<R>,
) -> candle_core::Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    with(of_cpu(&storage)?, layout)
}

fn of_cpu(storage: &Storage) -> candle_core::Result<&CpuStorage> {
    match storage {
        Storage::Cpu(storage) => Ok(storage),
        _ => Err(candle_core::Error::msg("candle layer: expected a tensor on the CPU")),
    }
}

/// The memory of a tensor that nobody else holds, so that it can be written in place: candle lends it to operations alone.
struct Take(Mutex<Option<CpuStorage>>);

impl InplaceOp1 for Take {
    fn name(&self) -> &'static str {
        "take"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
        let taken = mem::replace(storage, CpuStorage::U8(Vec::new()));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(taken);
        Ok(())
    }
}

/// Elements of a tensor on the CPU, row by row, which is given up: no copy, if it is contiguous and alone in its memory. The
/// caller has made it and shares it with nobody.
pub(super) fn take<T: WithDType>(tensor: Tensor) -> candle_core::Result<Vec<T>> {
    let len = read_storage(&tensor, |storage, _| Ok(storage.as_slice::<T>()?.len()))?;
    let whole = tensor.layout().contiguous_offsets() == Some((0, len));
    let tensor = if whole { tensor } else { tensor.force_contiguous()? };
    let take = Take(Mutex::new(None));
    tensor.inplace_op1(&take)?;
    let taken = take.0.into_inner().unwrap_or_else(PoisonError::into_inner);
    T::cpu_storage_data(taken.ok_or_else(|| candle_core::Error::msg("candle layer: candle has not run an operation"))?)
}
