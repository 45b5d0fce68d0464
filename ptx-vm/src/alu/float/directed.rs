//! f64 arithmetic rounded towards zero, down or up: exact on integers, rounded once.

use crate::isa::Rounding;

/// A positive number, `significand · 2^exponent`, and if `more` then something above it by less than one unit of the
/// significand, which in that case has at least 54 bits.
#[derive(Clone, Copy)]
struct Real {
    significand: u128,
    exponent: i32,
    more: bool,
}

impl Real {
    /// Of a finite number other than zero: its magnitude, with a significand of exactly 53 bits.
    fn of(value: f64) -> Real {
        let bits = value.to_bits();
        let (field, fraction) = ((bits >> 52 & 0x7ff) as i32, bits & ((1 << 52) - 1));
        let (significand, exponent) = if field == 0 { (fraction, -1074) } else { (fraction | 1 << 52, field - 1075) };
        let shift = significand.leading_zeros() - 11;
        Real { significand: u128::from(significand << shift), exponent: exponent - shift as i32, more: false }
    }

    /// The same with its top bit at bit 125.
    fn aligned(self) -> Real {
        let shift = self.significand.leading_zeros() - 2;
        Real { significand: self.significand << shift, exponent: self.exponent - shift as i32, ..self }
    }

    /// The f64 towards zero or away from it.
    fn round(self, negative: bool, rounding: Rounding) -> f64 {
        let away = rounding == if negative { Rounding::Down } else { Rounding::Up };
        let top = self.exponent + 127 - self.significand.leading_zeros() as i32;
        // Weight of the result's last bit; subnormals have that of the least normal number.
        let unit = (top - 52).max(-1074);
        let dropped = unit - self.exponent;
        let (kept, rest) = match dropped {
            ..=0 => (self.significand << -dropped, self.more),
            1..=127 => (self.significand >> dropped, self.more || self.significand.trailing_zeros() < dropped as u32),
            _ => (0, true),
        };
        let magnitude = match top {
            ..=1023 => {
                // The exponent field counts from 1 for the hidden bit, which `kept` still has; rounding up may carry into
                // it, and from the largest number into infinity, as it should.
                ((unit + 1074) as u64) << 52
            }
            _ if away => return if negative { f64::NEG_INFINITY } else { f64::INFINITY },
            _ => return if negative { f64::MIN } else { f64::MAX },
        } + kept as u64
            + u64::from(rest && away);
        f64::from_bits(magnitude | u64::from(negative) << 63)
    }
}

/// `a + b`.
pub(super) fn add(a: f64, b: f64, rounding: Rounding) -> f64 {
    if !a.is_finite() || !b.is_finite() {
        return a + b;
    }
    let [x, y] = [a, b].map(|v| (v != 0.0).then(|| Real::of(v)));
    sum((x, a.is_sign_negative()), (y, b.is_sign_negative()), rounding)
}

/// `a · b`.
pub(super) fn mul(a: f64, b: f64, rounding: Rounding) -> f64 {
    let negative = a.is_sign_negative() != b.is_sign_negative();
    if !a.is_finite() || !b.is_finite() {
        return a * b;
    }
    product(a, b).map_or(if negative { -0.0 } else { 0.0 }, |product| product.round(negative, rounding))
}

/// `a · b + c`.
pub(super) fn fma(a: f64, b: f64, c: f64, rounding: Rounding) -> f64 {
    if !a.is_finite() || !b.is_finite() || !c.is_finite() {
        return a.mul_add(b, c);
    }
    let negative = a.is_sign_negative() != b.is_sign_negative();
    let summand = (c != 0.0).then(|| Real::of(c));
    sum((product(a, b), negative), (summand, c.is_sign_negative()), rounding)
}

/// `a / b`.
pub(super) fn div(a: f64, b: f64, rounding: Rounding) -> f64 {
    if !a.is_finite() || !b.is_finite() || a == 0.0 || b == 0.0 {
        return a / b;
    }
    let (x, y) = (Real::of(a), Real::of(b));
    // 127 bits by 53 bits: a quotient of 74 or 75 bits.
    let dividend = x.significand << 74;
    let quotient = Real {
        significand: dividend / y.significand,
        exponent: x.exponent - y.exponent - 74,
        more: !dividend.is_multiple_of(y.significand),
    };
    quotient.round(a.is_sign_negative() != b.is_sign_negative(), rounding)
}

/// √a.
pub(super) fn sqrt(a: f64, rounding: Rounding) -> f64 {
    if !a.is_finite() || a <= 0.0 {
        return a.sqrt();
    }
    let x = Real::of(a);
    // 125 or 126 bits with an even exponent: a root of 63 bits.
    let shift = 72 + (x.exponent & 1);
    let square = x.significand << shift;
    let root = square.isqrt();
    Real { significand: root, exponent: (x.exponent - shift) / 2, more: root * root != square }.round(false, rounding)
}

/// The exact product of finite numbers, 105 or 106 bits; `None` if it is zero.
fn product(a: f64, b: f64) -> Option<Real> {
    if a == 0.0 || b == 0.0 {
        return None;
    }
    let (x, y) = (Real::of(a), Real::of(b));
    Some(Real { significand: x.significand * y.significand, exponent: x.exponent + y.exponent, more: false })
}

/// The sum of two exact numbers of at most 106 bits, each with its sign; `None` is zero.
fn sum(x: (Option<Real>, bool), y: (Option<Real>, bool), rounding: Rounding) -> f64 {
    let zero = |negative: bool| if negative { -0.0 } else { 0.0 };
    let ((large, large_negative), (small, small_negative)) = match (x, y) {
        ((None, x_negative), (None, y_negative)) if x_negative == y_negative => return zero(x_negative),
        ((None, _), (None, _)) => return zero(rounding == Rounding::Down),
        ((Some(x), negative), (None, _)) | ((None, _), (Some(x), negative)) => return x.round(negative, rounding),
        ((Some(x), x_negative), (Some(y), y_negative)) => {
            let (x, y) = (x.aligned(), y.aligned());
            if (x.exponent, x.significand) >= (y.exponent, y.significand) {
                ((x, x_negative), (y, y_negative))
            } else {
                ((y, y_negative), (x, x_negative))
            }
        }
    };
    let distance = (large.exponent - small.exponent) as u32;
    let shifted = small.significand.checked_shr(distance).unwrap_or(0);
    // Bits shifted out. The lowest 20 bits are empty, so this happens only at a distance above 20, and then the difference
    // still has at least 125 bits.
    let more = distance > small.significand.trailing_zeros();
    let significand = if large_negative == small_negative {
        large.significand + shifted
    } else {
        // With `more`, the true difference lies less than one unit below: one unit less and something.
        large.significand - shifted - u128::from(more)
    };
    if significand == 0 {
        return zero(rounding == Rounding::Down);
    }
    Real { significand, exponent: large.exponent, more }.round(large_negative, rounding)
}
