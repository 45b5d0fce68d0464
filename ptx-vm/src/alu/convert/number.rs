//! A value apart from any format, and its rounding into one: the one place where conversions round.

use crate::isa::{Rounding, Type};

/// A binary floating-point format: sign, exponent, fraction, from the high bits to the low.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    exponent_bits: u32,
    fraction_bits: u32,
    /// Bits of the largest finite value.
    largest: u64,
    /// Bits of the largest magnitude that is no NaN: infinity, where there is one.
    top: u64,
}

impl Format {
    pub const F16: Format = Format::ieee(5, 10);
    pub const BF16: Format = Format::ieee(8, 7);
    pub const F32: Format = Format::ieee(8, 23);
    pub const F64: Format = Format::ieee(11, 52);
    /// Kept in the upper bits of an f32, see [`Format::TF32_SHIFT`].
    pub const TF32: Format = Format::ieee(8, 10);
    pub const TF32_SHIFT: u32 = 13;
    pub const E5M2: Format = Format::ieee(5, 2);
    /// No infinities: the top exponent holds numbers too, all ones is the NaN.
    pub const E4M3: Format = Format { exponent_bits: 4, fraction_bits: 3, largest: 0x7e, top: 0x7e };

    const fn ieee(exponent_bits: u32, fraction_bits: u32) -> Format {
        let infinity = ((1 << exponent_bits) - 1) << fraction_bits;
        Format { exponent_bits, fraction_bits, largest: infinity - 1, top: infinity }
    }

    /// Of a scalar type, or of one half of a packed pair.
    pub const fn of(ty: Type) -> Format {
        match ty {
            Type::F16 | Type::F16x2 => Format::F16,
            Type::Bf16 | Type::Bf16x2 => Format::BF16,
            Type::F64 => Format::F64,
            Type::Tf32 => Format::TF32,
            Type::E4m3x2 => Format::E4M3,
            Type::E5m2x2 => Format::E5M2,
            _ => Format::F32,
        }
    }

    const fn bias(self) -> i32 {
        (1 << (self.exponent_bits - 1)) - 1
    }

    /// Exponent of the smallest normal number, and of the subnormal ones.
    const fn lowest(self) -> i32 {
        1 - self.bias()
    }

    pub const fn sign(self) -> u64 {
        1 << (self.exponent_bits + self.fraction_bits)
    }

    pub const fn one(self) -> u64 {
        (self.bias() as u64) << self.fraction_bits
    }

    pub const fn is_nan(self, bits: u64) -> bool {
        bits & (self.sign() - 1) > self.top
    }

    pub const fn is_subnormal(self, bits: u64) -> bool {
        let magnitude = bits & (self.sign() - 1);
        magnitude != 0 && magnitude >> self.fraction_bits == 0
    }

    /// f16, bf16 and the 8-bit formats, whose operations return only one NaN.
    const fn is_narrow(self) -> bool {
        self.sign() <= 1 << 15
    }

    /// All ones but the sign.
    pub const fn canonical_nan(self) -> u64 {
        self.sign() - 1
    }
}

/// A value: exact, whatever format it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number {
    pub negative: bool,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// With its fraction bits, left-aligned.
    Nan(u64),
    Infinite,
    /// `significand * 2^exponent`
    Finite {
        significand: u64,
        exponent: i32,
    },
}

/// A narrow format's NaN widens as f32's canonical one.
const WIDENED_NAN: u64 = 0x7f_ffff << (64 - 23);

impl Number {
    /// Reads a value of the format; higher bits are ignored.
    pub fn from_float(format: Format, bits: u64) -> Number {
        let fraction = bits & ((1 << format.fraction_bits) - 1);
        let biased = (bits & (format.sign() - 1)) >> format.fraction_bits;
        let negative = bits & format.sign() != 0;
        let magnitude = bits & (format.sign() - 1);
        if format.is_nan(bits) {
            let narrow = format.is_narrow();
            let payload = if narrow { WIDENED_NAN } else { fraction << (64 - format.fraction_bits) };
            return Number { negative: negative && !narrow, kind: Kind::Nan(payload) };
        }
        if magnitude > format.largest {
            return Number { negative, kind: Kind::Infinite };
        }
        let (leading, exponent) = if biased == 0 { (0, 1) } else { (1, biased as i32) };
        let significand = leading << format.fraction_bits | fraction;
        let exponent = exponent - format.bias() - format.fraction_bits as i32;
        Number { negative, kind: Kind::Finite { significand, exponent } }
    }

    /// Reads an integer of `bits` bits.
    pub fn from_integer(ty: Type, bits: u64) -> Number {
        let unused = 64 - ty.bits();
        let (negative, significand) = if ty.is_signed() {
            let value = ((bits << unused) as i64) >> unused;
            (value < 0, value.unsigned_abs())
        } else {
            (false, bits << unused >> unused)
        };
        Number { negative, kind: Kind::Finite { significand, exponent: 0 } }
    }

    /// Rounds to an integral value; zero keeps its sign.
    pub fn to_integral(self, rounding: Rounding) -> Number {
        match self.kind {
            Kind::Finite { significand, exponent } if exponent < 0 => {
                let significand = shift_out(significand, exponent.unsigned_abs(), rounding, self.negative);
                Number { kind: Kind::Finite { significand, exponent: 0 }, ..self }
            }
            _ => self,
        }
    }

    /// The value in the format, rounded; with `satfinite` what is beyond the largest finite value becomes that.
    pub fn to_float(self, format: Format, rounding: Rounding, satfinite: bool) -> u64 {
        let sign = if self.negative { format.sign() } else { 0 };
        match self.kind {
            Kind::Nan(_) if format.is_narrow() => format.canonical_nan(),
            Kind::Nan(payload) => {
                let quiet = 1 << (format.fraction_bits - 1);
                sign | format.top | quiet | payload >> (64 - format.fraction_bits)
            }
            Kind::Infinite if satfinite => sign | format.largest,
            Kind::Infinite => sign | format.top,
            Kind::Finite { significand: 0, .. } => sign,
            Kind::Finite { significand, exponent } => {
                let magnitude = round(format, significand, exponent, rounding, self.negative);
                let reachable = match rounding {
                    Rounding::Nearest | Rounding::NearestAway => true,
                    Rounding::Zero => false,
                    Rounding::Down => self.negative,
                    Rounding::Up => !self.negative,
                };
                let limit = if reachable && !satfinite { format.top } else { format.largest };
                sign | magnitude.min(limit)
            }
        }
    }

    /// The integral value in the integer type, clamped to its range, sign-extended to 64 bits if the type is signed; `None`
    /// for a NaN.
    pub fn to_integer(self, ty: Type) -> Option<u64> {
        let top = 1u64 << (ty.bits() - 1);
        let (least, most) = if ty.is_signed() { (top, top - 1) } else { (0, top | (top - 1)) };
        let magnitude = match self.kind {
            Kind::Nan(_) => return None,
            Kind::Infinite => u64::MAX,
            Kind::Finite { significand, exponent } => shift_in(significand, exponent),
        };
        Some(if self.negative { magnitude.min(least).wrapping_neg() } else { magnitude.min(most) })
    }
}

/// Bits of a magnitude without sign; not limited to the format's largest value.
fn round(format: Format, significand: u64, exponent: i32, rounding: Rounding, negative: bool) -> u64 {
    let leading = exponent + 63 - significand.leading_zeros() as i32;
    let binade = leading.max(format.lowest());
    let drop = binade - format.fraction_bits as i32 - exponent;
    let kept =
        if drop <= 0 { significand << -drop } else { shift_out(significand, drop.unsigned_abs(), rounding, negative) };
    // The leading bit of a normal number adds one to the exponent field, as does a carry out of the rounding.
    let field = (binade - format.lowest()) as u64;
    (field << format.fraction_bits) + kept
}

/// `significand / 2^places`, rounded to an integer.
fn shift_out(significand: u64, places: u32, rounding: Rounding, negative: bool) -> u64 {
    const HALF: u64 = 1 << 63;
    let (kept, dropped) = match places {
        1..64 => (significand >> places, significand << (64 - places)),
        64 => (0, significand),
        _ => (0, u64::from(significand != 0)),
    };
    let up = match rounding {
        Rounding::Nearest => dropped > HALF || (dropped == HALF && kept & 1 == 1),
        Rounding::NearestAway => dropped >= HALF,
        Rounding::Zero => false,
        Rounding::Down => negative && dropped != 0,
        Rounding::Up => !negative && dropped != 0,
    };
    kept + u64::from(up)
}

/// `significand * 2^exponent`, at most `u64::MAX`; the value is integral, so the exponent is not negative.
fn shift_in(significand: u64, exponent: i32) -> u64 {
    let places = exponent.unsigned_abs();
    if places > significand.leading_zeros() { u64::MAX } else { significand.unbounded_shl(places) }
}
