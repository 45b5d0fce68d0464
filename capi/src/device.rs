//! Devices: by name, or on a CUDA stream of the caller.

use crate::pointer::{self, Handle, Place};
use crate::status::{Answer, answer};
use idlora::Device;
use std::ffi::{c_char, c_void};

/// Where work runs.
pub struct idlora_device {
    _opaque: (),
}

impl Handle for idlora_device {
    type Value = Device;
    const TAG: u64 = 0x6964_6c6f_7261_0001;
    const NAME: &'static str = "idlora_device";
}

/// Opens a device by name: "cpu"; "cuda" (the first) or "cuda:N", with the default stream of its primary context; "vm", a virtual
/// machine that runs the CUDA kernels on the CPU, checked, for tests. Which there are depends on how the library was built
/// (cargo features cuda and vm) and on the machine; why one is not there is in idlora_last_error().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn idlora_device_open(name: *const c_char, device: *mut *mut idlora_device) -> i32 {
    answer(|| {
        // SAFETY: header, idlora_device_open: `name` is a text, `device` a place for a handle.
        let (device, name) = unsafe { (Place::of_handle("device", device)?, pointer::text("name", name)?) };
        device.put(pointer::give(name.parse()?));
        Ok(())
    })
}

/// Opens CUDA device number `ordinal` on a stream of the caller: a CUstream or cudaStream_t of the device's primary context, or
/// null for its default stream. The stream is borrowed: it is not destroyed, and must stay until this handle and every
/// buffer, workspace and plan made with it are closed. Everything the device is asked for is queued there, so it is in
/// order with whatever else the caller queues on it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn idlora_device_on_stream(
    ordinal: usize,
    stream: *mut c_void,
    device: *mut *mut idlora_device,
) -> i32 {
    answer(|| {
        // SAFETY: header, idlora_device_on_stream: `device` is a place for a handle.
        let device = unsafe { Place::of_handle("device", device) }?;
        // SAFETY: header, idlora_device_on_stream: `stream` is null or such a stream, and outlives the device.
        device.put(pointer::give(unsafe { on_stream(ordinal, stream) }?));
        Ok(())
    })
}

/// # Safety
/// `stream` is null or a stream of the device's primary context that outlives what is returned and everything made with it.
#[cfg(feature = "cuda")]
unsafe fn on_stream(ordinal: usize, stream: *mut c_void) -> Answer<Device> {
    use idlora::cuda::Cuda;
    // By the library's own door first: it refuses in words where `cudarc` would panic, without a driver for one.
    let cuda = Cuda::new(ordinal)?;
    if stream.is_null() {
        return Ok(Device::Cuda(cuda));
    }
    // SAFETY: this function's contract; `cuda` has the primary context.
    let stream = unsafe { cuda.stream().context().wrap_borrowed_stream(stream.cast()) };
    Ok(Device::Cuda(Cuda::on_stream(stream)?))
}

/// # Safety
/// None is needed: there is no CUDA in this build.
#[cfg(not(feature = "cuda"))]
unsafe fn on_stream(ordinal: usize, _stream: *mut c_void) -> Answer<Device> {
    // The library's own refusal, which says what this build has.
    Ok(format!("cuda:{ordinal}").parse()?)
}

/// Waits until everything queued on the device so far has run; at once on "cpu" and "vm". Tells what went wrong there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn idlora_device_wait(device: *const idlora_device) -> i32 {
    answer(|| {
        // SAFETY: header, idlora_device_wait: `device` is a handle.
        wait(unsafe { pointer::shared("device", device) }?)
    })
}

fn wait(device: &Device) -> Answer {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(cuda) = device {
        let failed = |error: idlora::cuda::cudarc::driver::DriverError| idlora::Error::Device {
            device: device.to_string(),
            reason: error.to_string(),
        };
        cuda.stream().synchronize().map_err(failed)?;
    }
    let _ = device;
    Ok(())
}

/// Closes a device. Null is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn idlora_device_close(device: *mut idlora_device) -> i32 {
    // SAFETY: header, idlora_device_close: `device` is null or a handle that is not used any more.
    answer(|| unsafe { pointer::close("device", device) })
}
