//! f16 and bf16 to and from f32, without branches: loops over these vectorise.

/// `c ? a : b` on bits.
#[inline(always)]
const fn choose(c: bool, a: u32, b: u32) -> u32 {
    if c { a } else { b }
}

/// Exact; any NaN becomes 0x7fffffff.
#[inline(always)]
pub(crate) fn f32_from_f16(h: u16) -> f32 {
    let magnitude = u32::from(h & 0x7fff) << 13;
    // Scaling by 2^112 corrects the exponent's bias and normalises subnormals on the way.
    let finite = (f32::from_bits(magnitude) * f32::from_bits(0x7780_0000)).to_bits();
    let sign = u32::from(h & 0x8000) << 16;
    let special = choose(h & 0x7fff > 0x7c00, 0x7fff_ffff, sign | 0x7f80_0000);
    f32::from_bits(choose(h & 0x7c00 == 0x7c00, special, sign | finite))
}

/// Exact: the bits are the upper half of an f32's, a NaN's payload included.
#[inline(always)]
pub(crate) fn f32_from_bf16(h: u16) -> f32 {
    f32::from_bits(u32::from(h) << 16)
}

/// To nearest, ties to even; any NaN becomes 0x7fff.
#[inline(always)]
pub(crate) fn f16_from_f32(x: f32) -> u16 {
    let sign = (x.to_bits() >> 16) & 0x8000;
    let magnitude = x.to_bits() & 0x7fff_ffff;
    // Subnormal results: adding 0.5 puts the last place of the sum at 2^-24, the spacing of subnormals.
    let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0x3f00_0000);
    // Normal results: the exponent's bias from 127 to 15, and half a place less one for the tie, plus the last kept bit.
    let normal = magnitude.wrapping_sub(0x3800_0000).wrapping_add(0xfff + (magnitude >> 13 & 1)) >> 13;
    let finite = choose(magnitude < 0x3880_0000, subnormal, normal);
    // From 65520 on, the middle between the largest finite value and the next power of two.
    let bits = choose(magnitude >= 0x477f_f000, 0x7c00, finite);
    choose(magnitude > 0x7f80_0000, 0x7fff, sign | bits) as u16
}

/// To nearest, ties to even; any NaN becomes 0x7fff.
#[inline(always)]
pub(crate) fn bf16_from_f32(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    choose(bits & 0x7fff_ffff > 0x7f80_0000, 0x7fff, rounded) as u16
}
