//! The door for pointers: from what C passes to references, by the promises of the header, with the checks that are possible.

use crate::status::{Answer, Refusal};
use std::ffi::{CStr, c_char};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

/// An opaque type of the header; what its pointers point to is a [`Boxed`] value.
pub(crate) trait Handle {
    type Value;
    /// The first eight bytes of every such handle, by which those of other kinds are told apart.
    const TAG: u64;
    /// Its name in the header.
    const NAME: &'static str;
}

#[repr(C)]
struct Boxed<V> {
    tag: u64,
    value: V,
}

/// What is written over a tag when the handle is closed.
const CLOSED: u64 = 0xdead_1d10_4a00_0000;

fn null(name: &str) -> Refusal {
    Refusal::argument(format!("`{name}` is null"))
}

fn aligned<T>(name: &str, pointer: *const T) -> Answer {
    if pointer.is_null() {
        return Err(null(name));
    }
    if !pointer.is_aligned() {
        let need = align_of::<T>();
        return Err(Refusal::argument(format!(
            "`{name}` is {pointer:p}, expected a multiple of {need}, its alignment"
        )));
    }
    Ok(())
}

/// The handle's value, if it is one of this kind.
///
/// # Safety
/// By the header, Handles: `handle` is null or points to at least 8 readable bytes; if they are the tag, it is a live handle.
unsafe fn checked<H: Handle>(name: &str, handle: *const H) -> Answer<*mut Boxed<H::Value>> {
    let boxed = handle.cast::<Boxed<H::Value>>();
    aligned(name, boxed)?;
    // SAFETY: not null, aligned, and readable by this function's contract.
    match unsafe { boxed.cast::<u64>().read() } {
        tag if tag == H::TAG => Ok(boxed.cast_mut()),
        CLOSED => Err(Refusal::argument(format!("`{name}` was closed already"))),
        _ => Err(Refusal::argument(format!("`{name}` is no {}", H::NAME))),
    }
}

/// A new handle.
pub(crate) fn give<H: Handle>(value: H::Value) -> *mut H {
    Box::into_raw(Box::new(Boxed { tag: H::TAG, value })).cast()
}

/// A handle that is taken as const.
///
/// # Safety
/// By the header, Handles and Threads: null or a live handle that nobody takes as not const during `'a`.
pub(crate) unsafe fn shared<'a, H: Handle>(name: &str, handle: *const H) -> Answer<&'a H::Value> {
    // SAFETY: the same contract.
    let boxed = unsafe { checked(name, handle) }?;
    // SAFETY: made by `give`, alive, and shared for `'a`.
    Ok(unsafe { &(*boxed).value })
}

/// A handle that is taken as not const.
///
/// # Safety
/// By the header, Handles and Threads: null or a live handle that nobody else uses during `'a`.
pub(crate) unsafe fn exclusive<'a, H: Handle>(name: &str, handle: *mut H) -> Answer<&'a mut H::Value> {
    // SAFETY: the same contract.
    let boxed = unsafe { checked(name, handle) }?;
    // SAFETY: made by `give`, alive, and nobody else's for `'a`.
    Ok(unsafe { &mut (*boxed).value })
}

/// Closes a handle; null is none.
///
/// # Safety
/// By the header, Handles and Threads: null or a live handle that nobody else uses, now or later.
pub(crate) unsafe fn close<H: Handle>(name: &str, handle: *mut H) -> Answer {
    if handle.is_null() {
        return Ok(());
    }
    // SAFETY: the same contract.
    let boxed = unsafe { checked(name, handle) }?;
    // SAFETY: alive and nobody else's. Volatile, for a last write before the memory goes would be left out.
    unsafe { (&raw mut (*boxed).tag).write_volatile(CLOSED) };
    // SAFETY: made by `Box::into_raw` in `give` with this very type.
    drop(unsafe { Box::from_raw(boxed) });
    Ok(())
}

/// A place for a result, not null.
pub(crate) struct Place<T>(NonNull<T>);

impl<T> Place<T> {
    /// # Safety
    /// By the header, Pointers: null or good for a write of `T` during the call.
    pub unsafe fn at(name: &str, pointer: *mut T) -> Answer<Self> {
        aligned(name, pointer)?;
        NonNull::new(pointer).map(Self).ok_or_else(|| null(name))
    }

    pub fn put(&self, value: T) {
        // SAFETY: writable by the contract of `at`. What was there is C's, and needs no drop.
        unsafe { self.0.write(value) }
    }
}

impl<H: Handle> Place<*mut H> {
    /// A place for a handle, which is null until there is one.
    ///
    /// # Safety
    /// As [`Place::at`].
    pub unsafe fn of_handle(name: &str, pointer: *mut *mut H) -> Answer<Self> {
        // SAFETY: the same contract.
        let place = unsafe { Self::at(name, pointer) }?;
        place.put(std::ptr::null_mut());
        Ok(place)
    }
}

/// Text of the caller.
///
/// # Safety
/// By the header, Pointers: null or a text that ends with NUL and stays as it is during `'a`.
pub(crate) unsafe fn text<'a>(name: &str, pointer: *const c_char) -> Answer<&'a str> {
    if pointer.is_null() {
        return Err(null(name));
    }
    // SAFETY: this function's contract.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map_err(|error| Refusal::argument(format!("`{name}` is not UTF-8: {error}")))
}

/// Whether `len` elements at a pointer are something that memory can hold.
fn sized<T>(name: &str, pointer: *const T, len: usize) -> Answer {
    aligned(name, pointer)?;
    let bytes = len.checked_mul(size_of::<T>()).filter(|&bytes| bytes <= isize::MAX as usize);
    if bytes.and_then(|bytes| pointer.addr().checked_add(bytes)).is_none() {
        return Err(Refusal::argument(format!("`{name}` has {len} elements, more than memory holds")));
    }
    Ok(())
}

/// Elements of the caller; without elements the pointer may be null.
///
/// # Safety
/// By the header, Pointers: `len` elements with values, which nobody writes during `'a`.
pub(crate) unsafe fn elements<'a, T>(name: &str, pointer: *const T, len: usize) -> Answer<&'a [T]> {
    if len == 0 {
        return Ok(&[]);
    }
    sized(name, pointer, len)?;
    // SAFETY: not null, aligned, of a size that exists; the rest is this function's contract.
    Ok(unsafe { std::slice::from_raw_parts(pointer, len) })
}

/// Elements of the caller, to write; without elements the pointer may be null.
///
/// # Safety
/// By the header, Pointers: `len` elements that nobody else reads or writes during `'a`. Memory that C has allocated and
/// not yet written holds whatever bytes it holds, all of which are values of the element types here.
pub(crate) unsafe fn elements_mut<'a, T>(name: &str, pointer: *mut T, len: usize) -> Answer<&'a mut [T]> {
    if len == 0 {
        return Ok(&mut []);
    }
    sized(name, pointer, len)?;
    // SAFETY: not null, aligned, of a size that exists; the rest is this function's contract.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer, len) })
}

/// A struct whose first member is `struct_size`.
///
/// # Safety
/// `repr(C)`, begins with a `usize`, and all bytes zero are a value.
pub(crate) unsafe trait Growing: Copy {
    /// Its name in the header.
    const NAME: &'static str;
    /// Bytes that it had in the first header of this ABI: what every caller has.
    const FIRST: usize;
}

/// The caller's `struct_size`.
///
/// # Safety
/// Null, or a readable `usize`.
unsafe fn struct_size<T: Growing>(name: &str, pointer: *const T) -> Answer<usize> {
    aligned(name, pointer)?;
    // SAFETY: aligned, not null; the trait says that a `usize` comes first.
    let size = unsafe { pointer.cast::<usize>().read() };
    // No header will have that much; a size beyond it is a struct that was never filled in.
    if size < T::FIRST || size > 16 * size_of::<T>() {
        let expected = size_of::<T>();
        let found = format!("`{name}`: struct_size is {size}, expected sizeof({}), which is {expected}", T::NAME);
        return Err(Refusal::argument(found));
    }
    Ok(size)
}

/// A struct of the caller, who may have an older header, whose missing members are 0, or a newer one.
///
/// # Safety
/// By the header, Structs: null or as many readable bytes as its `struct_size` says, of a struct of that name.
pub(crate) unsafe fn read<T: Growing>(name: &str, pointer: *const T) -> Answer<T> {
    // SAFETY: the same contract.
    let size = unsafe { struct_size(name, pointer) }?;
    let known = size.min(size_of::<T>());
    // SAFETY: the struct ends where its size says.
    let rest = unsafe { std::slice::from_raw_parts(pointer.cast::<u8>().add(known), size - known) };
    if rest.iter().any(|&byte| byte != 0) {
        let message = format!("`{name}` uses members of {} that this library does not know", T::NAME);
        return Err(Refusal::argument(message));
    }
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: `known` bytes are in both; all-zero is a value of `T`, and so are the bytes of one.
    unsafe {
        std::ptr::copy_nonoverlapping(pointer.cast::<u8>(), value.as_mut_ptr().cast(), known);
        Ok(value.assume_init())
    }
}

/// A place for a struct of the caller.
pub(crate) struct GrowingPlace<T> {
    at: NonNull<T>,
    size: usize,
}

impl<T: Growing> GrowingPlace<T> {
    /// # Safety
    /// By the header, Structs: null, or as many writable bytes as its `struct_size`, which is set, says.
    pub unsafe fn at(name: &str, pointer: *mut T) -> Answer<Self> {
        // SAFETY: the same contract.
        let size = unsafe { struct_size(name, pointer) }?;
        NonNull::new(pointer).map(|at| Self { at, size }).ok_or_else(|| null(name))
    }

    /// The same for a place that may be absent.
    ///
    /// # Safety
    /// As [`GrowingPlace::at`].
    pub unsafe fn maybe(name: &str, pointer: *mut T) -> Answer<Option<Self>> {
        if pointer.is_null() {
            return Ok(None);
        }
        // SAFETY: the same contract.
        unsafe { Self::at(name, pointer) }.map(Some)
    }

    /// Writes all but `struct_size`: what the caller's header knows of it, and zeros where that knows more.
    pub fn put(&self, value: &T) {
        let head = size_of::<usize>();
        let known = self.size.min(size_of::<T>());
        let (from, to) = (std::ptr::from_ref(value).cast::<u8>(), self.at.as_ptr().cast::<u8>());
        // SAFETY: `size` bytes are writable by the contract of `at`, at least `known` of them are in both, and `value` is not there.
        unsafe {
            std::ptr::copy_nonoverlapping(from.add(head), to.add(head), known - head);
            to.add(known).write_bytes(0, self.size - known);
        }
    }
}

#[cfg(test)]
mod tests;
