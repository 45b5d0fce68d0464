//! Generic addresses: every lane goes to the space whose window it lies in.

use super::Lanes64;
use super::lanes::select;
use crate::isa::Space;
use crate::program::windows;

/// Calls `f` with the lanes of each space that the addresses lie in, and their addresses there. An access that names its
/// space is that one call.
#[inline]
pub(super) fn each(space: Space, mask: u32, address: &Lanes64, mut f: impl FnMut(Space, u32, &Lanes64)) {
    if space != Space::Generic {
        return f(space, mask, address);
    }
    let mut rest = mask;
    while rest != 0 {
        let (space, _) = windows::route(address[rest.trailing_zeros() as usize]);
        let lanes = select(rest, |lane| windows::route(address[lane]).0 == space);
        rest &= !lanes;
        match space {
            Space::Global => f(space, lanes, address),
            _ => f(space, lanes, &address.map(|address| windows::route(address).1)),
        }
    }
}
