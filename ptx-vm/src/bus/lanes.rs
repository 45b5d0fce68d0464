//! Loops over the lanes of a warp: which lanes fit, and moving elements between registers and bytes.

use super::Lanes64;
use crate::isa::Type;
use crate::memory::POISON_BITS;

/// Calls `f` for every lane in `mask`, ascending. The whole warp is a loop of its own, which the compiler unrolls.
#[inline(always)]
pub(super) fn each(mask: u32, mut f: impl FnMut(usize)) {
    if mask == u32::MAX {
        (0..32).for_each(f);
    } else {
        let mut rest = mask;
        while rest != 0 {
            f(rest.trailing_zeros() as usize);
            rest &= rest - 1;
        }
    }
}

/// The lanes of `mask` for which `test` holds.
#[inline(always)]
pub(super) fn select(mask: u32, test: impl Fn(usize) -> bool) -> u32 {
    let mut chosen = 0;
    each(mask, |lane| chosen |= u32::from(test(lane)) << lane);
    chosen
}

/// Lanes whose `size` bytes begin and end within `len` bytes.
pub(super) fn inside(mask: u32, offset: &Lanes64, size: u32, len: u64) -> u32 {
    match len.checked_sub(u64::from(size)) {
        Some(last) => select(mask, |lane| offset[lane] <= last),
        None => 0,
    }
}

/// Lanes whose address is no multiple of `size`, a power of two.
pub(super) fn misaligned(mask: u32, address: &Lanes64, size: u32) -> u32 {
    let low = u64::from(size).wrapping_sub(1);
    let mut any = 0;
    each(mask, |lane| any |= address[lane]);
    if any & low == 0 { 0 } else { select(mask, |lane| address[lane] & low != 0) }
}

/// How elements of a type lie in memory: bytes of each, and whether they extend with their sign.
#[derive(Clone, Copy)]
pub(super) struct Element {
    pub bytes: u32,
    signed: bool,
}

impl Element {
    /// Types wider than a register are pairs of 64-bit elements.
    pub fn of(ty: Type) -> Element {
        Element { bytes: ty.bytes().clamp(1, 8), signed: ty.is_signed() }
    }

    /// The register contents for these bits in memory.
    fn extend(self, bits: u64) -> u64 {
        let unused = 64 - 8 * self.bytes;
        if self.signed { ((bits << unused) as i64 >> unused) as u64 } else { bits << unused >> unused }
    }
}

/// Loads: element i of every lane into `out[i]`.
pub(super) fn gather(bytes: &[u8], element: Element, mask: u32, offset: &Lanes64, out: &mut [Lanes64]) {
    match (element.bytes, element.signed) {
        (1, false) => gather_as(bytes, mask, offset, out, |b: [u8; 1]| u64::from(b[0])),
        (1, true) => gather_as(bytes, mask, offset, out, |b| i8::from_le_bytes(b) as u64),
        (2, false) => gather_as(bytes, mask, offset, out, |b| u64::from(u16::from_le_bytes(b))),
        (2, true) => gather_as(bytes, mask, offset, out, |b| i16::from_le_bytes(b) as u64),
        (4, false) => gather_as(bytes, mask, offset, out, |b| u64::from(u32::from_le_bytes(b))),
        (4, true) => gather_as(bytes, mask, offset, out, |b| i32::from_le_bytes(b) as u64),
        _ => gather_as(bytes, mask, offset, out, u64::from_le_bytes),
    }
}

#[inline(always)]
fn gather_as<const N: usize>(
    bytes: &[u8],
    mask: u32,
    offset: &Lanes64,
    out: &mut [Lanes64],
    extend: impl Fn([u8; N]) -> u64,
) {
    for (i, out) in out.iter_mut().enumerate() {
        each(mask, |lane| {
            let tail = bytes.get(offset[lane] as usize + i * N..);
            if let Some(chunk) = tail.and_then(|tail| tail.first_chunk::<N>()) {
                out[lane] = extend(*chunk);
            }
        });
    }
}

/// What loads that touch nothing valid return.
pub(super) fn gather_poison(element: Element, mask: u32, out: &mut [Lanes64]) {
    let value = element.extend(POISON_BITS);
    for out in out {
        each(mask, |lane| out[lane] = value);
    }
}

/// Stores: `values[i]` is element i of every lane. Of lanes that overlap, the last wins.
pub(super) fn scatter(bytes: &mut [u8], element: Element, mask: u32, offset: &Lanes64, values: &[Lanes64]) {
    match element.bytes {
        1 => scatter_as(bytes, mask, offset, values, |v| [v as u8]),
        2 => scatter_as(bytes, mask, offset, values, |v| (v as u16).to_le_bytes()),
        4 => scatter_as(bytes, mask, offset, values, |v| (v as u32).to_le_bytes()),
        _ => scatter_as(bytes, mask, offset, values, u64::to_le_bytes),
    }
}

#[inline(always)]
fn scatter_as<const N: usize>(
    bytes: &mut [u8],
    mask: u32,
    offset: &Lanes64,
    values: &[Lanes64],
    narrow: impl Fn(u64) -> [u8; N],
) {
    // Lane by lane, not element by element: overlapping vectors of two lanes must not interleave.
    each(mask, |lane| {
        let tail = bytes.get_mut(offset[lane] as usize..);
        let Some(place) = tail.and_then(|tail| tail.get_mut(..N * values.len())) else { return };
        for (chunk, values) in place.chunks_exact_mut(N).zip(values) {
            chunk.copy_from_slice(&narrow(values[lane]));
        }
    });
}

/// Do two lanes store the same bits?
pub(super) fn same_bits(element: Element, values: &[Lanes64], i: u32, j: u32) -> bool {
    let unused = 64 - 8 * element.bytes;
    values.iter().all(|v| (v[i as usize] ^ v[j as usize]) << unused == 0)
}
