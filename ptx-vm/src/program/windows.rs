//! The generic address space: which addresses mean which space.
//!
//! Shared, local and parameter memory are windows of 4 GiB each, far above device memory; inside one, the low 32 bits are
//! the space's own address. Device memory and constants are generic addresses as they are.

use crate::isa::Space;

/// Generic address of shared offset 0.
pub(crate) const SHARED: u64 = 0x7f10_0000_0000;
/// Generic address of local offset 0.
pub(crate) const LOCAL: u64 = 0x7f20_0000_0000;
/// Generic address of kernel parameter offset 0.
pub(crate) const PARAM: u64 = 0x7f30_0000_0000;
/// Size of a window.
pub(crate) const SIZE: u64 = 1 << 32;

/// The space a generic address lies in (`Global` for everything outside the windows), and the address in that space.
pub(crate) const fn route(address: u64) -> (Space, u64) {
    match address & !(SIZE - 1) {
        SHARED => (Space::Shared, address & (SIZE - 1)),
        LOCAL => (Space::Local, address & (SIZE - 1)),
        PARAM => (Space::Param, address & (SIZE - 1)),
        _ => (Space::Global, address),
    }
}

/// What `cvta` adds to an address of that space.
pub(crate) const fn base(space: Space) -> u64 {
    match space {
        Space::Shared => SHARED,
        Space::Local => LOCAL,
        Space::Param => PARAM,
        Space::Generic | Space::Global | Space::Const => 0,
    }
}
