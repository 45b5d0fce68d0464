//! The element types of weights and activations: `f16`, `bf16`, `f32`, behind one sealed trait.

use half::slice::HalfFloatSliceExt;
pub use half::{bf16, f16};

/// Element type, as a value: what a file says it holds, what a kernel variant is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// IEEE binary16.
    F16,
    /// bfloat16: the upper half of a binary32.
    BF16,
    /// IEEE binary32.
    F32,
}

impl Dtype {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            Self::F16 | Self::BF16 => 2,
            Self::F32 => 4,
        }
    }

    /// Unit roundoff `u`: rounding to nearest is off by at most `u·|x|` in the normal range.
    pub const fn unit_roundoff(self) -> f64 {
        match self {
            Self::F16 => 1.0 / 2048.0,
            Self::BF16 => 1.0 / 256.0,
            Self::F32 => 1.0 / 16_777_216.0,
        }
    }

    /// The name that safetensors headers use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::F32 => "F32",
        }
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
    impl Sealed for f32 {}
}

/// An element of a weight or activation. Arithmetic never happens in this type: backends widen to `f32` (or wider),
/// accumulate there and round once, to nearest with ties to even, when they store.
pub trait Elem: sealed::Sealed + bytemuck::Pod + Send + Sync + PartialEq + std::fmt::Debug + 'static {
    /// The type as a value.
    const DTYPE: Dtype;

    /// Exact: every `f16`, `bf16` and `f32` is an `f32`.
    fn to_f32(self) -> f32;

    /// Rounds to nearest, ties to even.
    fn from_f32(x: f32) -> Self;

    /// Widens `src` into `dst`; both have the same length.
    fn widen(src: &[Self], dst: &mut [f32]);

    /// Rounds `src` into `dst`; both have the same length.
    fn narrow(src: &[f32], dst: &mut [Self]);

    /// The slice itself where the element already is `f32`, so that no copy is made.
    fn as_f32(src: &[Self]) -> Option<&[f32]> {
        let _ = src;
        None
    }

    /// The mutable slice itself where the element already is `f32`.
    fn as_f32_mut(src: &mut [Self]) -> Option<&mut [f32]> {
        let _ = src;
        None
    }
}

impl Elem for f32 {
    const DTYPE: Dtype = Dtype::F32;
    fn to_f32(self) -> f32 {
        self
    }
    fn from_f32(x: f32) -> Self {
        x
    }
    fn widen(src: &[Self], dst: &mut [f32]) {
        dst.copy_from_slice(src);
    }
    fn narrow(src: &[f32], dst: &mut [Self]) {
        dst.copy_from_slice(src);
    }
    fn as_f32(src: &[Self]) -> Option<&[f32]> {
        Some(src)
    }
    fn as_f32_mut(src: &mut [Self]) -> Option<&mut [f32]> {
        Some(src)
    }
}

impl Elem for f16 {
    const DTYPE: Dtype = Dtype::F16;
    fn to_f32(self) -> f32 {
        f16::to_f32(self)
    }
    fn from_f32(x: f32) -> Self {
        f16::from_f32(x)
    }
    fn widen(src: &[Self], dst: &mut [f32]) {
        src.convert_to_f32_slice(dst);
    }
    fn narrow(src: &[f32], dst: &mut [Self]) {
        dst.convert_from_f32_slice(src);
    }
}

impl Elem for bf16 {
    const DTYPE: Dtype = Dtype::BF16;
    fn to_f32(self) -> f32 {
        bf16::to_f32(self)
    }
    fn from_f32(x: f32) -> Self {
        bf16::from_f32(x)
    }
    fn widen(src: &[Self], dst: &mut [f32]) {
        assert_eq!(src.len(), dst.len());
        for (d, s) in dst.iter_mut().zip(src) {
            *d = f32::from_bits(u32::from(s.to_bits()) << 16);
        }
    }
    fn narrow(src: &[f32], dst: &mut [Self]) {
        assert_eq!(src.len(), dst.len());
        // Branch-free, so that the loop vectorises: round to nearest even in the integers, keep NaN a (quiet) NaN.
        for (d, &s) in dst.iter_mut().zip(src) {
            let bits = s.to_bits();
            let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
            let quiet = (bits >> 16) | 0x0040;
            *d = bf16::from_bits(if s.is_nan() { quiet } else { rounded } as u16);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All 65,536 patterns survive a round trip; NaN stays NaN.
    fn round_trip<T: Elem>(all: &[T]) {
        let mut wide = vec![0.0; all.len()];
        T::widen(all, &mut wide);
        let mut back = vec![T::from_f32(0.0); all.len()];
        T::narrow(&wide, &mut back);
        for ((&x, &w), &b) in all.iter().zip(&wide).zip(&back) {
            assert!(w.to_bits() == x.to_f32().to_bits() || (w.is_nan() && x.to_f32().is_nan()), "{x:?} widened to {w}");
            assert!(b == x || (b.to_f32().is_nan() && x.to_f32().is_nan()), "{x:?} became {b:?}");
        }
    }

    #[test]
    fn every_half_survives_widening() {
        round_trip(&(0..=u16::MAX).map(f16::from_bits).collect::<Vec<_>>());
        round_trip(&(0..=u16::MAX).map(bf16::from_bits).collect::<Vec<_>>());
    }

    #[test]
    fn narrowing_bf16_rounds_to_nearest_even_like_half() {
        for high in (0..=u16::MAX).step_by(7) {
            for low in [0u32, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
                let x = f32::from_bits((u32::from(high) << 16) | low);
                let mut got = [bf16::ZERO];
                <bf16 as Elem>::narrow(&[x], &mut got);
                let expected = bf16::from_f32(x);
                assert!(got[0].to_bits() == expected.to_bits() || (x.is_nan() && got[0].is_nan()), "{x:e}");
            }
        }
    }
}
