//! The fast approximations, far inside the manual's bounds: evaluated in f64 and rounded once. The two that attention and
//! activation kernels call most are polynomials without branches, so that 32 lanes of them vectorise.

/// `a · (1/b)`, with the reciprocal's range: for |b| > 2¹²⁶ it is flushed to zero, so the quotient is zero, or NaN for infinite
/// `a`, as the manual says. Subnormal divisors are scaled first, as NVIDIA's assembler does.
#[inline(always)]
pub(super) fn divide(a: f32, b: f32) -> f32 {
    const SCALE: f32 = (1u32 << 24) as f32;
    let (a, b) = if b.abs() < f32::MIN_POSITIVE { (a * SCALE, b * SCALE) } else { (a, b) };
    let reciprocal = 1.0 / b;
    let flushed = if reciprocal.is_subnormal() { 0f32.copysign(reciprocal) } else { reciprocal };
    a * flushed
}

/// 2ᵃ. With a = n + f, |f| ≤ ½: the series of 2ᶠ to f⁹, whose rest is below 2⁻³⁶, times 2ⁿ. Exact for integers.
#[inline(always)]
pub(super) fn exp2(a: f32) -> f32 {
    // Adding this rounds to an integer and leaves it in the low bits.
    const ROUNDER: f64 = (3u64 << 51) as f64;
    const SERIES: [f64; 10] = series();
    // Results beyond are zero and infinity as f32; this keeps 2ⁿ a normal f64. NaN stays.
    let a = f64::from(a).clamp(-200.0, 200.0);
    let shifted = a + ROUNDER;
    let f = a - (shifted - ROUNDER);
    let power = SERIES.iter().rev().fold(0.0, |sum, coefficient| sum * f + coefficient);
    let scale = f64::from_bits((shifted.to_bits() << 52).wrapping_add(1f64.to_bits()));
    (power * scale) as f32
}

/// (ln 2)ᵏ / k!
const fn series() -> [f64; 10] {
    let mut coefficients = [1.0; 10];
    let mut k = 1;
    while k < 10 {
        coefficients[k] = coefficients[k - 1] * std::f64::consts::LN_2 / k as f64;
        k += 1;
    }
    coefficients
}

/// log₂ a. With a = 2ⁿ·m, √½ ≤ m < √2, and t = (m − 1)/(m + 1), |t| < 0.172: log₂ m = 2/ln 2 · (t + t³/3 + … + t¹³/13), whose
/// relative error is below 2⁻³⁹, near a = 1 as well, because there n = 0 and m − 1 is exact.
#[inline(always)]
pub(super) fn log2(a: f32) -> f32 {
    const ROOT_HALF: u64 = std::f64::consts::FRAC_1_SQRT_2.to_bits();
    let bits = f64::from(a).to_bits();
    let n = (bits.wrapping_sub(ROOT_HALF) as i64 >> 52) as i32;
    let m = f64::from_bits(bits.wrapping_sub((n as u64) << 52));
    let t = (m - 1.0) / (m + 1.0);
    let square = t * t;
    let sum = (0..7).rev().fold(0.0, |sum, k| sum * square + 1.0 / f64::from(2 * k + 1));
    let log = f64::from(n) + t * sum * (2.0 / std::f64::consts::LN_2);
    match a {
        _ if a == 0.0 => f32::NEG_INFINITY,
        _ if a > 0.0 && a < f32::INFINITY => log as f32,
        _ if a > 0.0 => a,
        _ => f32::NAN,
    }
}

/// `rcp.approx.ftz.f64`, `rsqrt.approx.ftz.f64`: both see and make the upper half of an f64 only, and flush subnormals.
#[inline(always)]
pub(super) fn upper_half(a: f64, function: fn(f64) -> f64) -> f64 {
    const UPPER: u64 = 0xffff_ffff_0000_0000;
    let flush = |v: f64| if v.is_subnormal() { 0f64.copysign(v) } else { v };
    // A NaN whose payload lies in the lower half must not become an infinity.
    let seen = if a.is_nan() { a } else { f64::from_bits(a.to_bits() & UPPER) };
    f64::from_bits(flush(function(flush(seen))).to_bits() & UPPER)
}
