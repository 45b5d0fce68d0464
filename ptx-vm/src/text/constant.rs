//! Literals and the constants that expressions make of them.

use crate::isa::Type;

/// A constant of the text. Integers have 64 bits, as the manual says, and are cut to size where they are used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Constant {
    Int {
        bits: u64,
        unsigned: bool,
    },
    /// `0f3F800000`
    Single(f32),
    /// `0d3FF0000000000000`, `1.0`
    Double(f64),
}

impl Constant {
    pub const fn signed(value: i64) -> Constant {
        Constant::Int { bits: value as u64, unsigned: false }
    }

    pub const fn truth(value: bool) -> Constant {
        Constant::signed(value as i64)
    }

    /// A literal of the text, `None` if it is malformed or does not fit.
    pub fn parse(text: &str) -> Option<Constant> {
        let hex = |digits: &str, length: usize| {
            let whole = digits.len() == length && digits.bytes().all(|b| b.is_ascii_hexdigit());
            if whole { u64::from_str_radix(digits, 16).ok() } else { None }
        };
        match text.as_bytes() {
            [b'0', b'f' | b'F', ..] => Some(Constant::Single(f32::from_bits(hex(&text[2..], 8)? as u32))),
            [b'0', b'd' | b'D', ..] => Some(Constant::Double(f64::from_bits(hex(&text[2..], 16)?))),
            [b'0', b'x' | b'X', ..] => Constant::integer(&text[2..], 16),
            [b'0', b'b' | b'B', ..] => Constant::integer(&text[2..], 2),
            _ if text.contains(['.', 'e', 'E']) => decimal(text).map(Constant::Double),
            [b'0', _, ..] => {
                Constant::integer(&text[1..], 8).or_else(|| Constant::integer(text, 10).filter(|_| text == "0U"))
            }
            _ => Constant::integer(text, 10),
        }
    }

    fn integer(text: &str, radix: u32) -> Option<Constant> {
        let digits = text.strip_suffix('U').unwrap_or(text);
        // `from_str_radix` takes a sign; a literal has none.
        if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
            return None;
        }
        let bits = u64::from_str_radix(digits, radix).ok()?;
        Some(Constant::Int { bits, unsigned: digits.len() < text.len() || bits > i64::MAX as u64 })
    }

    /// The value as an integer; `None` for a floating-point number.
    pub fn as_integer(self) -> Option<i64> {
        match self {
            Constant::Int { bits, .. } => Some(bits as i64),
            _ => None,
        }
    }

    /// The value as an instruction's operand of that type: low bits first, zero above. `None` where the assembler takes no
    /// such constant: f16 has none, `.f32` no integers, `.u32` no fractions.
    pub fn operand_bits(self, ty: Type) -> Option<u64> {
        match (self, ty) {
            (_, Type::Pred) => self.as_integer().map(|value| u64::from(value != 0)),
            (Constant::Single(value), Type::F32 | Type::B32) => Some(u64::from(value.to_bits())),
            (Constant::Double(value), Type::F32) => Some(u64::from((value as f32).to_bits())),
            (Constant::Single(value), Type::F64) => Some(f64::from(value).to_bits()),
            (Constant::Double(value), Type::F64 | Type::B64) => Some(value.to_bits()),
            (Constant::Int { bits, .. }, ty) if !ty.is_float() && ty.bits() <= 64 => {
                Some(bits & (u64::MAX >> (64 - ty.bits())))
            }
            _ => None,
        }
    }

    /// The value as an element of an initial value, where integers do for floats.
    pub fn initial_bits(self, ty: Type) -> Option<u64> {
        match (self, ty) {
            (Constant::Int { bits, unsigned }, Type::F32 | Type::F64) => {
                let value = if unsigned { bits as f64 } else { bits as i64 as f64 };
                Constant::Double(value).operand_bits(ty)
            }
            (Constant::Int { bits, .. }, Type::F16 | Type::Bf16 | Type::F16x2 | Type::Bf16x2) => {
                Some(bits & (u64::MAX >> (64 - ty.bits())))
            }
            _ => self.operand_bits(ty),
        }
    }
}

fn decimal(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals() {
        let int = |bits, unsigned| Some(Constant::Int { bits, unsigned });
        for (text, expected) in [
            ("0", int(0, false)),
            ("0U", int(0, true)),
            ("42", int(42, false)),
            ("42U", int(42, true)),
            ("42u", None),
            ("0x1fU", int(31, true)),
            ("0XFF", int(255, false)),
            ("017", int(15, false)),
            ("0b101", int(5, false)),
            ("18446744073709551615", int(u64::MAX, true)),
            ("9223372036854775807", int(i64::MAX as u64, false)),
            ("18446744073709551616", None),
            ("0x", None),
            ("019", None),
            ("12a", None),
            ("0x1g", None),
            ("1_000", None),
            ("0f3F800000", Some(Constant::Single(1.0))),
            ("0F3f800000", Some(Constant::Single(1.0))),
            ("0f3F80000", None),
            ("0f3F8000000", None),
            ("0d3FF8000000000000", Some(Constant::Double(1.5))),
            ("0d3FF8", None),
            ("1.5", Some(Constant::Double(1.5))),
            ("2.5e-1", Some(Constant::Double(0.25))),
            ("1e3", Some(Constant::Double(1000.0))),
            ("1.5f", None),
            ("1.2.3", None),
        ] {
            assert_eq!(Constant::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn operands_take_what_the_assembler_takes() {
        let (one, minus) = (Constant::Double(1.0), Constant::signed(-1));
        let single = Constant::Single(1.0);
        for (constant, ty, expected) in [
            (minus, Type::S16, Some(0xffff)),
            (minus, Type::B64, Some(u64::MAX)),
            (Constant::signed(0x1_ffff_ffff), Type::U32, Some(0xffff_ffff)),
            (minus, Type::F32, None),
            (minus, Type::F16, None),
            (one, Type::F32, Some(0x3f80_0000)),
            (single, Type::B32, Some(0x3f80_0000)),
            (single, Type::F64, Some(1f64.to_bits())),
            (one, Type::B64, Some(1f64.to_bits())),
            (one, Type::B32, None),
            (single, Type::B64, None),
            (single, Type::U32, None),
            (minus, Type::Pred, Some(1)),
            (Constant::signed(0), Type::Pred, Some(0)),
        ] {
            assert_eq!(constant.operand_bits(ty), expected, "{constant:?} as {ty:?}");
        }
    }
}
