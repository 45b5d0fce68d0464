//! Memory for callers that have no other way to get some on a device, and the workspace of kernels.

use crate::device::idlora_device;
use crate::pointer::{self, Handle, Place};
use crate::status::{Answer, Refusal, answer};
use idlora::{Device, Error};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ffi::c_void;
use std::ptr::NonNull;

/// Memory of a device: for programs without CUDA of their own, and for programs that run on every device alike.
pub struct idlora_buffer {
    _opaque: (),
}

impl Handle for idlora_buffer {
    type Value = Memory;
    const TAG: u64 = 0x6964_6c6f_7261_0002;
    const NAME: &'static str = "idlora_buffer";
}

/// What kernels need between them; on "cpu" nothing.
pub struct idlora_workspace {
    _opaque: (),
}

impl Handle for idlora_workspace {
    type Value = Workspace;
    const TAG: u64 = 0x6964_6c6f_7261_0003;
    const NAME: &'static str = "idlora_workspace";
}

pub(crate) enum Memory {
    Host(Host),
    #[cfg(any(feature = "cuda", feature = "vm"))]
    There(idlora::resident::Buffer<u8>),
}

pub(crate) enum Workspace {
    Host,
    #[cfg(any(feature = "cuda", feature = "vm"))]
    There(idlora::resident::Workspace),
}

/// Host memory that is reached by its address alone, for the caller has that, too.
pub(crate) struct Host {
    start: NonNull<u8>,
    layout: Layout,
    bytes: usize,
}

impl Host {
    /// Of every element, and of whole cache lines.
    const ALIGNMENT: usize = 64;

    fn zeroed(bytes: usize) -> Answer<Self> {
        let too_much = || Error::OutOfMemory { op: "buffer", what: "buffer", bytes };
        let layout = Layout::from_size_align(bytes.max(1), Self::ALIGNMENT).map_err(|_| too_much())?;
        // SAFETY: the layout has at least a byte.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(too_much)?;
        Ok(Self { start, layout, bytes })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

fn same_size(bytes: usize, found: usize) -> Answer {
    if bytes == found {
        return Ok(());
    }
    let (expected, found) = (format!("{bytes}, the buffer's size"), found.to_string());
    Err(Error::Parameter { op: "buffer", parameter: "bytes", expected, found }.into())
}

impl Memory {
    fn new(device: &Device, bytes: usize) -> Answer<Self> {
        match device {
            Device::Cpu => Host::zeroed(bytes).map(Self::Host),
            #[cfg(any(feature = "cuda", feature = "vm"))]
            device => Ok(Self::There(idlora::resident::Buffer::zeros(device, bytes)?)),
            #[cfg(not(any(feature = "cuda", feature = "vm")))]
            device => Err(Refusal::argument(format!("device `{device}` has no memory in this build"))),
        }
    }

    fn address(&self) -> Answer<*mut c_void> {
        match self {
            Self::Host(host) => Ok(host.start.as_ptr().cast()),
            #[cfg(any(feature = "cuda", feature = "vm"))]
            Self::There(buffer) => match usize::try_from(buffer.address()) {
                Ok(address) => Ok(std::ptr::without_provenance_mut(address)),
                Err(_) => Err(Refusal::argument("`buffer` lies at an address that no pointer of the host holds")),
            },
        }
    }

    /// # Safety
    /// `data` is null or has `bytes` bytes to read.
    unsafe fn write(&mut self, data: *const c_void, bytes: usize) -> Answer {
        // SAFETY: this function's contract.
        let data = unsafe { pointer::elements("data", data.cast::<u8>(), bytes) }?;
        match self {
            Self::Host(host) => {
                same_size(host.bytes, bytes)?;
                // SAFETY: `bytes` bytes are in both. `copy`, for nothing hinders a caller from passing the buffer itself.
                unsafe { std::ptr::copy(data.as_ptr(), host.start.as_ptr(), bytes) };
                Ok(())
            }
            #[cfg(any(feature = "cuda", feature = "vm"))]
            Self::There(buffer) => {
                same_size(buffer.len(), bytes)?;
                Ok(buffer.write(data)?)
            }
        }
    }

    /// # Safety
    /// `data` is null or has `bytes` bytes to write.
    unsafe fn read(&self, data: *mut c_void, bytes: usize) -> Answer {
        match self {
            Self::Host(host) => {
                same_size(host.bytes, bytes)?;
                // SAFETY: this function's contract, for the checks alone.
                let _ = unsafe { pointer::elements("data", data.cast_const().cast::<u8>(), bytes) }?;
                if bytes > 0 {
                    // SAFETY: `bytes` bytes are in both, which may be the same.
                    unsafe { std::ptr::copy(host.start.as_ptr(), data.cast(), bytes) };
                }
                Ok(())
            }
            #[cfg(any(feature = "cuda", feature = "vm"))]
            Self::There(buffer) => {
                same_size(buffer.len(), bytes)?;
                // SAFETY: this function's contract.
                Ok(buffer.copy_to(unsafe { pointer::elements_mut("data", data.cast::<u8>(), bytes) }?)?)
            }
        }
    }
}

impl Workspace {
    fn new(device: &Device, bytes: usize) -> Answer<Self> {
        match device {
            Device::Cpu => Ok(Self::Host),
            #[cfg(any(feature = "cuda", feature = "vm"))]
            device => Ok(Self::There(idlora::resident::Workspace::new(device, bytes)?)),
            #[cfg(not(any(feature = "cuda", feature = "vm")))]
            device => Err(Refusal::argument(format!("device `{device}` needs no workspace of {bytes} bytes"))),
        }
    }
}

/// Memory of `bytes` bytes on a device ("cpu" included), all 0, aligned for every element. Freed by idlora_buffer_close, in the
/// order of the device's stream: what was queued before still has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn idlora_buffer_create(
    device: *const idlora_device,
    bytes: usize,
    buffer: *mut *mut idlora_buffer,
) -> i32 {
    answer(|| {
        // SAFETY: header, idlora_buffer_create: `device` is a handle, `buffer` a place for one.
        let (buffer, device) = unsafe { (Place::of_handle("buffer", buffer)?, pointer::shared("device", device)?) };
        buffer.put(pointer::give(Memory::new(device, bytes)?));
        Ok(())
    })
}

/// Where the buffer's first byte lies, as the matrices of a call take it: a pointer on "cpu", a device address elsewhere, which
/// the host must not read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn idlora_buffer_address(buffer: *const idlora_buffer, address: *mut *mut c_void) -> i32 {
    answer(|| {
        // SAFETY: header, idlora_buffer_address: `buffer` is a handle, `address` a place for a pointer.
        let (buffer, address) = unsafe { (pointer::shared("buffer", buffer)?, Place::at("address", address)?) };
        address.put(buffer.address()?);
        Ok(())
    })
}

/// Copies `bytes` bytes of host memory to the buffer, all of it, behind everything queued so far, and waits until that is done.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn idlora_buffer_write(buffer: *mut idlora_buffer, data: *const c_void, bytes: usize) -> i32 {
    // SAFETY: header, idlora_buffer_write: `buffer` is a handle, `data` has `bytes` bytes to read.
    answer(|| unsafe { pointer::exclusive("buffer", buffer)?.write(data, bytes) })
}

/// Copies the buffer, all of its `bytes` bytes, to host memory, behind everything queued so far. Waits, and tells what went wrong
/// on the device before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn idlora_buffer_read(buffer: *const idlora_buffer, data: *mut c_void, bytes: usize) -> i32 {
    // SAFETY: header, idlora_buffer_read: `buffer` is a handle, `data` has `bytes` bytes to write.
    answer(|| unsafe { pointer::shared("buffer", buffer)?.read(data, bytes) })
}

/// Frees a buffer. Null is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn idlora_buffer_close(buffer: *mut idlora_buffer) -> i32 {
    // SAFETY: header, idlora_buffer_close: `buffer` is null or a handle that is not used any more.
    answer(|| unsafe { pointer::close("buffer", buffer) })
}

/// A workspace of `bytes` bytes on a device, as idlora_plan_workspace says. One serves every plan of the device's stream in
/// turn, as large as the most demanding one needs. On "cpu" it holds nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn idlora_workspace_create(
    device: *const idlora_device,
    bytes: usize,
    workspace: *mut *mut idlora_workspace,
) -> i32 {
    answer(|| {
        // SAFETY: header, idlora_workspace_create: `device` is a handle, `workspace` a place for one.
        let (workspace, device) =
            unsafe { (Place::of_handle("workspace", workspace)?, pointer::shared("device", device)?) };
        workspace.put(pointer::give(Workspace::new(device, bytes)?));
        Ok(())
    })
}

/// Frees a workspace, in the order of the device's stream. Null is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn idlora_workspace_close(workspace: *mut idlora_workspace) -> i32 {
    // SAFETY: header, idlora_workspace_close: `workspace` is null or a handle that is not used any more.
    answer(|| unsafe { pointer::close("workspace", workspace) })
}
