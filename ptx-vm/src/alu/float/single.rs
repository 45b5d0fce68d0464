//! `.f32`.
//!
//! Nearest is Rust's own. The directed roundings take some neighbour of the exact value and compare the two exactly, in f64:
//! sums, products and `r·b` of f32 values have at most 49 bits and exponents between −298 and 257, so f64 holds every product
//! exactly, and a sum as a rounded part and a rest (Knuth's two-sum, whose rest is exact where nothing overflows).

use super::approximate;
use crate::isa::{FloatMode, FloatOp, Rounding};

/// The NaN that every f32 operation makes.
const NAN: u32 = 0x7fff_ffff;
const SIGN: u32 = 0x8000_0000;

/// See [`super::eval_f32`].
#[inline(always)]
pub(super) fn eval(op: FloatOp, mode: FloatMode, x: [u32; 4]) -> u32 {
    let bits = if mode.ftz { x.map(flush) } else { x };
    let [a, b, c, _] = bits.map(f32::from_bits);
    match op {
        FloatOp::Add => add(a, b, mode),
        FloatOp::Sub => add(a, -b, mode),
        FloatOp::Mul => {
            let product = Sum { high: f64::from(a) * f64::from(b), low: 0.0 };
            finish(settle(a * b, mode, product), mode)
        }
        FloatOp::Fma => fma(a, b, c, mode),
        FloatOp::Div => divide(a, b, mode),
        FloatOp::Rcp => divide(1.0, a, mode),
        FloatOp::Sqrt => finish(settle(a.sqrt(), mode, Root(f64::from(a))), mode),
        FloatOp::Abs => bits[0] & !SIGN,
        FloatOp::Neg => bits[0] ^ SIGN,
        FloatOp::Copysign => (bits[0] & SIGN) | (bits[1] & !SIGN),
        FloatOp::Min => least(bits, false),
        FloatOp::Max => greatest(bits, false),
        FloatOp::MinNan => least(bits, true),
        FloatOp::MaxNan => greatest(bits, true),
        FloatOp::MinXorsignAbs => sign_of_both(bits, least(magnitudes(bits), false)),
        FloatOp::MaxXorsignAbs => sign_of_both(bits, greatest(magnitudes(bits), false)),
        FloatOp::MinNanXorsignAbs => sign_of_both(bits, least(magnitudes(bits), true)),
        FloatOp::MaxNanXorsignAbs => sign_of_both(bits, greatest(magnitudes(bits), true)),
        FloatOp::DivFull => finish(a / b, mode),
        FloatOp::DivApprox => finish(approximate::divide(a, b), mode),
        FloatOp::RcpApprox => finish(1.0 / a, mode),
        FloatOp::SqrtApprox => finish(a.sqrt(), mode),
        FloatOp::RsqrtApprox => finish((1.0 / f64::from(a).sqrt()) as f32, mode),
        FloatOp::SinApprox => finish(f64::from(a).sin() as f32, mode),
        FloatOp::CosApprox => finish(f64::from(a).cos() as f32, mode),
        FloatOp::Lg2Approx => finish(approximate::log2(a), mode),
        FloatOp::Ex2Approx => finish(approximate::exp2(a), mode),
        FloatOp::TanhApprox => finish(f64::from(a).tanh() as f32, mode),
    }
}

/// Subnormals to zero of the same sign.
#[inline(always)]
fn flush(bits: u32) -> u32 {
    if bits & 0x7f80_0000 == 0 { bits & SIGN } else { bits }
}

/// The modifiers that act on a result, and the one NaN.
#[inline(always)]
fn finish(value: f32, mode: FloatMode) -> u32 {
    let bits = if mode.ftz { flush(value.to_bits()) } else { value.to_bits() };
    if mode.sat {
        // Neither comparison holds for NaN, nor for −0: both become +0.
        return match f32::from_bits(bits) {
            value if value >= 1.0 => 1f32.to_bits(),
            value if value > 0.0 => bits,
            _ => 0,
        };
    }
    if value.is_nan() { NAN } else { bits }
}

#[inline(always)]
fn add(a: f32, b: f32, mode: FloatMode) -> u32 {
    let exact = Sum::new(f64::from(a), f64::from(b));
    let sum = if mode.rounding == Rounding::Down && exact.cancels(f64::from(a), f64::from(b)) { -0.0 } else { a + b };
    finish(settle(sum, mode, exact), mode)
}

#[inline(always)]
fn fma(a: f32, b: f32, c: f32, mode: FloatMode) -> u32 {
    let product = f64::from(a) * f64::from(b);
    let exact = Sum::new(product, f64::from(c));
    let sum = match mode.rounding {
        Rounding::Nearest | Rounding::NearestAway => a.mul_add(b, c),
        Rounding::Down if exact.cancels(product, f64::from(c)) => -0.0,
        // Rounded twice, but each rounding is monotonic: still one of the two neighbours of the exact value, if not the
        // nearest, and that is all that `settle` needs.
        _ => exact.high as f32,
    };
    finish(settle(sum, mode, exact), mode)
}

#[inline(always)]
fn divide(a: f32, b: f32, mode: FloatMode) -> u32 {
    finish(settle(a / b, mode, Quotient(f64::from(a), f64::from(b))), mode)
}

/// An exact value, as far as it can be compared with an f64 of at most 25 bits. Both are false if either is NaN.
trait Exact: Copy {
    fn below(self, y: f64) -> bool;
    fn above(self, y: f64) -> bool;
}

/// `high + low`, where `high` is that sum rounded to f64.
#[derive(Clone, Copy)]
struct Sum {
    high: f64,
    low: f64,
}

impl Sum {
    #[inline(always)]
    fn new(a: f64, b: f64) -> Sum {
        let high = a + b;
        let of_b = high - a;
        Sum { high, low: (a - (high - of_b)) + (b - of_b) }
    }

    /// Is this an exact zero of summands with opposite signs? It is +0, but −0 when rounding down.
    #[inline(always)]
    fn cancels(self, a: f64, b: f64) -> bool {
        self.high == 0.0 && a.is_sign_negative() != b.is_sign_negative()
    }
}

impl Exact for Sum {
    // Rounding is monotonic, so `high < y` decides for the exact value too; where `high` is `y`, the rest decides. With an
    // infinite summand the rest is NaN and decides nothing.
    #[inline(always)]
    fn below(self, y: f64) -> bool {
        self.high < y || (self.high == y && self.low < 0.0)
    }

    #[inline(always)]
    fn above(self, y: f64) -> bool {
        self.high > y || (self.high == y && self.low > 0.0)
    }
}

/// `a / b`, compared as `a` with `y·b`, which is exact. By its sign bit: for b = ±0 the quotient is infinite or NaN, and this
/// leaves it neither below nor above what it is compared with in `settle`.
#[derive(Clone, Copy)]
struct Quotient(f64, f64);

impl Exact for Quotient {
    #[inline(always)]
    fn below(self, y: f64) -> bool {
        let Quotient(a, b) = self;
        if b.is_sign_negative() { a > y * b } else { a < y * b }
    }

    #[inline(always)]
    fn above(self, y: f64) -> bool {
        let Quotient(a, b) = self;
        if b.is_sign_negative() { a < y * b } else { a > y * b }
    }
}

/// The square root, compared by `y²`; y is not negative there.
#[derive(Clone, Copy)]
struct Root(f64);

impl Exact for Root {
    #[inline(always)]
    fn below(self, y: f64) -> bool {
        self.0 < y * y
    }

    #[inline(always)]
    fn above(self, y: f64) -> bool {
        self.0 > y * y
    }
}

/// From a neighbour of the exact value (the nearest, if that is asked for) to the rounding that is asked for.
///
/// Overflow needs no case of its own: a neighbour that is infinite lies beyond a finite exact value, and the step back from
/// it is the largest finite number; the step up from that is infinity. Nor does underflow: the step from ±0 is to the least
/// subnormal, and the one from a subnormal keeps the sign when it reaches zero.
#[inline(always)]
fn settle(near: f32, mode: FloatMode, exact: impl Exact) -> f32 {
    let (lower, higher) = (exact.below(f64::from(near)), exact.above(f64::from(near)));
    let rounded = match mode.rounding {
        Rounding::Nearest | Rounding::NearestAway => near,
        Rounding::Down => {
            if lower {
                near.next_down()
            } else {
                near
            }
        }
        Rounding::Up => {
            if higher {
                near.next_up()
            } else {
                near
            }
        }
        Rounding::Zero if (near > 0.0 && lower) || (near < 0.0 && higher) => f32::from_bits(near.to_bits() - 1),
        Rounding::Zero => near,
    };
    // Both neighbours of a value that is flushed are at most the least normal number; NaN is not.
    let flushed = mode.ftz && near.abs() <= f32::MIN_POSITIVE && is_tiny(near.is_sign_negative(), mode.rounding, exact);
    if flushed { 0f32.copysign(near) } else { rounded }
}

/// Does the value become subnormal? What counts is the value rounded to 24 bits as if there were no least exponent, as
/// NVIDIA's constant folding shows: 2⁻¹²⁶·(1 − 2⁻²⁴) is flushed, though as a subnormal it rounds up to 2⁻¹²⁶, and
/// 2⁻¹²⁶·(1 − 2⁻²⁶) is not.
#[inline(always)]
fn is_tiny(negative: bool, rounding: Rounding, exact: impl Exact) -> bool {
    const LEAST: f64 = f32::MIN_POSITIVE as f64;
    const UNIT: f64 = LEAST * f32::EPSILON as f64 / 2.0; // of 24 bits just below
    let below = |y: f64| if negative { exact.above(-y) } else { exact.below(y) };
    match (rounding, negative) {
        (Rounding::Nearest | Rounding::NearestAway, _) => below(LEAST - UNIT / 2.0),
        // Away from zero: everything above the last 24-bit value rounds up to the least normal one.
        (Rounding::Up, false) => exact.below(LEAST) && !exact.above(LEAST - UNIT),
        (Rounding::Down, true) => exact.above(-LEAST) && !exact.below(UNIT - LEAST),
        _ => below(LEAST),
    }
}

/// The other operand if one is NaN, unless NaN is to win; −0 is less than +0.
#[inline(always)]
fn least(bits: [u32; 4], nan_wins: bool) -> u32 {
    let [a, b, ..] = bits.map(f32::from_bits);
    let first = a < b || (a == b && a.is_sign_negative());
    pick(bits, first, nan_wins)
}

#[inline(always)]
fn greatest(bits: [u32; 4], nan_wins: bool) -> u32 {
    let [a, b, ..] = bits.map(f32::from_bits);
    let first = a > b || (a == b && b.is_sign_negative());
    pick(bits, first, nan_wins)
}

#[inline(always)]
fn pick([a, b, ..]: [u32; 4], first: bool, nan_wins: bool) -> u32 {
    let [a_nan, b_nan] = [a, b].map(|v| f32::from_bits(v).is_nan());
    if (a_nan && b_nan) || (nan_wins && (a_nan || b_nan)) {
        NAN
    } else if b_nan || (first && !a_nan) {
        a
    } else {
        b
    }
}

#[inline(always)]
fn magnitudes(bits: [u32; 4]) -> [u32; 4] {
    bits.map(|v| v & !SIGN)
}

/// `.xorsign`: the product of the operands' signs, on anything but NaN.
#[inline(always)]
fn sign_of_both(bits: [u32; 4], magnitude: u32) -> u32 {
    if f32::from_bits(magnitude).is_nan() { magnitude } else { magnitude | ((bits[0] ^ bits[1]) & SIGN) }
}
