//! The C interface of `idlora`: `include/idlora.h`, which is generated from this crate and says everything that a caller must know.
//!
//! One file per subject, each with its exported functions: [`status`] (answers and words), [`choices`] (enumerations), [`device`],
//! [`memory`] (buffers, workspaces), [`config`], [`adapter`], [`merge`], [`files`], [`operands`] (structs of a call), [`plan`].
//! `pointer` is the door for pointers, `host` and `resident` make the library's views of operands.
//!
//! Exported functions are thin: one `unsafe` block that turns pointers into references by the promises of the header, then safe
//! code, all of it inside `status::answer`, which lets no panic pass.
#![allow(non_camel_case_types)] // names are those of the header
#![allow(clippy::missing_safety_doc)] // said once for all functions, at the top of the header

pub mod adapter;
pub mod choices;
pub mod config;
pub mod device;
pub mod files;
mod host;
pub mod memory;
pub mod merge;
pub mod operands;
mod overlap;
pub mod plan;
mod pointer;
#[cfg(any(feature = "cuda", feature = "vm"))]
mod resident;
pub mod status;

use std::ffi::c_char;

/// The number of this interface. It changes when something in this header is removed or changes its meaning; what is only
/// added leaves it. Compare it with idlora_abi() of the library that was loaded.
pub const IDLORA_ABI: u32 = 1;

/// The number of the interface that the library has: `IDLORA_ABI` of its header.
#[unsafe(no_mangle)]
pub extern "C" fn idlora_abi() -> u32 {
    IDLORA_ABI
}

/// The library's version, such as "0.1.0". Never freed.
#[unsafe(no_mangle)]
pub extern "C" fn idlora_version() -> *const c_char {
    const VERSION: &std::ffi::CStr =
        match std::ffi::CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(text) => text,
            Err(_) => panic!("a version without NUL"),
        };
    VERSION.as_ptr()
}
