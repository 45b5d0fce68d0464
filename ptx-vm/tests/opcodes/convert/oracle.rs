//! What a conversion must give, from its spelling: rounding by search for floating-point results, the standard library's
//! integral roundings and saturating casts for integers.

use super::super::half::exact::{Format, Round, compare, parts};
use half::{bf16, f16};

/// A spelling, taken apart.
pub struct Spelling<'a> {
    pub to: &'a str,
    pub from: &'a str,
    modifiers: Vec<&'a str>,
}

impl<'a> Spelling<'a> {
    pub fn new(spelling: &'a str) -> Spelling<'a> {
        let mut words: Vec<&str> = spelling.split('.').skip(1).collect();
        let from = words.pop().expect("an operand type");
        let to = words.pop().expect("a result type");
        Spelling { to, from, modifiers: words }
    }

    pub fn has(&self, modifier: &str) -> bool {
        self.modifiers.contains(&modifier)
    }
}

/// A value, exactly: `m * 2^e`.
#[derive(Clone, Copy)]
enum Value {
    Nan,
    Infinite(bool),
    Finite(bool, u64, i32),
}

impl Value {
    fn of_f64(x: f64) -> Value {
        if x.is_nan() {
            return Value::Nan;
        }
        if x.is_infinite() {
            return Value::Infinite(x < 0.0);
        }
        let (negative, m, e) = parts(x);
        Value::Finite(negative, m, e)
    }
}

/// `(bits, signed)` of an integer type.
pub fn integer(ty: &str) -> Option<(u32, bool)> {
    let bits = ty.get(1..)?.parse().ok()?;
    match &ty[..1] {
        "s" => Some((bits, true)),
        "u" => Some((bits, false)),
        _ => None,
    }
}

pub fn float(ty: &str) -> Format {
    match ty {
        "f16" | "f16x2" => Format::F16,
        "bf16" | "bf16x2" => Format::BF16,
        "f32" => Format::F32,
        "f64" => Format::F64,
        "tf32" => Format::TF32,
        "e4m3x2" => Format::E4M3,
        "e5m2x2" => Format::E5M2,
        _ => panic!("{ty} is no floating-point type"),
    }
}

/// An operand of a floating-point type as a double, which holds all of them.
pub fn to_f64(ty: &str, x: u64) -> f64 {
    match ty {
        "f16" | "f16x2" => f16::from_bits(x as u16).to_f64(),
        "bf16" => bf16::from_bits(x as u16).to_f64(),
        "f32" => f64::from(f32::from_bits(x as u32)),
        "f64" => f64::from_bits(x),
        // e5m2 is the upper half of an f16.
        "e5m2x2" => f16::from_bits((x as u16 & 0xff) << 8).to_f64(),
        "e4m3x2" => e4m3(x as u8),
        _ => panic!("{ty} is no floating-point type"),
    }
}

/// Bias 7, no infinities, one NaN of each sign.
fn e4m3(x: u8) -> f64 {
    let (field, fraction) = (i32::from(x >> 3 & 15), f64::from(x & 7));
    let magnitude = match (field, x & 7) {
        (15, 7) => f64::NAN,
        (0, _) => fraction / 8.0 * 2f64.powi(-6),
        _ => (1.0 + fraction / 8.0) * 2f64.powi(field - 7),
    };
    if x & 0x80 != 0 { -magnitude } else { magnitude }
}

fn signed(bits: u32, x: u64) -> i64 {
    (x << (64 - bits)) as i64 >> (64 - bits)
}

/// One value converted; the result in its low bits, sign-extended if it is a signed integer.
pub fn convert(s: &Spelling<'_>, x: u64) -> u64 {
    match (integer(s.to), integer(s.from)) {
        (Some(to), Some((bits, true))) => to_integer(s, to, i128::from(signed(bits, x))),
        (Some(to), Some((bits, false))) => to_integer(s, to, i128::from(x & (u64::MAX >> (64 - bits)))),
        (Some(to), None) => float_to_integer(s, to, operand(s, x)),
        (None, Some((bits, true))) => {
            let value = signed(bits, x);
            to_float(s, Value::Finite(value < 0, value.unsigned_abs(), 0), x)
        }
        (None, Some((bits, false))) => to_float(s, Value::Finite(false, x & (u64::MAX >> (64 - bits)), 0), x),
        (None, None) => to_float(s, Value::of_f64(integral(s, operand(s, x))), x),
    }
}

/// With `.sat` the nearest value of the type, else the low bits.
fn to_integer(s: &Spelling<'_>, (bits, is_signed): (u32, bool), value: i128) -> u64 {
    let (least, most) = if is_signed { (-1 << (bits - 1), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) };
    match s.has("sat") {
        true => value.clamp(least, most) as u64,
        false if is_signed => signed(bits, value as u64) as u64,
        false => value as u64 & (u64::MAX >> (64 - bits)),
    }
}

/// The operand after `.ftz`.
fn operand(s: &Spelling<'_>, x: u64) -> f64 {
    let value = to_f64(s.from, x);
    let flushed = s.has("ftz") && s.from == "f32" && value.abs() < f64::from(f32::MIN_POSITIVE);
    if flushed { 0f64.copysign(value) } else { value }
}

fn integral(s: &Spelling<'_>, x: f64) -> f64 {
    match s.modifiers.first() {
        Some(&"rni") => x.round_ties_even(),
        Some(&"rzi") => x.trunc(),
        Some(&"rmi") => x.floor(),
        Some(&"rpi") => x.ceil(),
        _ => x,
    }
}

fn float_to_integer(s: &Spelling<'_>, (bits, is_signed): (u32, bool), x: f64) -> u64 {
    let top = 1u64 << (bits - 1);
    let x = integral(s, x);
    match is_signed {
        // The manual's table for NaN, sign-extended like every signed result.
        true if x.is_nan() && (s.from == "f64" || bits == 64) => signed(bits, top) as u64,
        false if x.is_nan() && (s.from == "f64" || bits == 64) => top,
        true => (x as i64).clamp(signed(bits, top), (top - 1) as i64) as u64,
        false => (x as u64).min(top | (top - 1)),
    }
}

fn to_float(s: &Spelling<'_>, value: Value, x: u64) -> u64 {
    let format = float(s.to);
    let bits = match value {
        Value::Nan => return nan(s, x),
        Value::Infinite(negative) => signed_bits(format, negative, overflow(s, format)),
        Value::Finite(negative, m, e) => {
            let round = match s.modifiers.first() {
                Some(&"rna") => Round::NearestAway,
                Some(&"rz") => Round::TowardsZero,
                Some(&"rm") if negative => Round::AwayFromZero,
                Some(&"rp") if !negative => Round::AwayFromZero,
                Some(&"rm" | &"rp") => Round::TowardsZero,
                _ => Round::Nearest,
            };
            let rough = m as f64 * 2f64.powi(e / 2) * 2f64.powi(e - e / 2);
            let magnitude = format.round(round, rough, |k, q| compare((m, e), (k, q)));
            signed_bits(format, negative, magnitude.min(overflow(s, format)))
        }
    };
    let negative = bits & format.sign() != 0;
    let subnormal = bits & (format.sign() - 1) < 1 << format.fraction;
    match () {
        _ if negative && (s.has("sat") || s.has("relu")) => 0,
        _ if s.has("ftz") && s.to == "f32" && subnormal => bits & format.sign(),
        _ if s.has("sat") => bits.min(format.one()),
        _ => bits,
    }
}

fn signed_bits(format: Format, negative: bool, magnitude: u64) -> u64 {
    if negative { format.sign() | magnitude } else { magnitude }
}

/// What lies beyond the largest finite value.
fn overflow(s: &Spelling<'_>, format: Format) -> u64 {
    if s.has("satfinite") { format.largest } else { format.largest + 1 }
}

/// A NaN's bits: canonical in and from the formats of 16 bits and less, otherwise quiet with what fits of its payload.
fn nan(s: &Spelling<'_>, x: u64) -> u64 {
    if s.has("sat") {
        return 0;
    }
    let flags = s.has("ftz") || s.has("relu");
    match (s.to, s.from) {
        ("f32", "f32") | ("f64", "f64") if s.modifiers.is_empty() => x,
        ("f32", "bf16") if !flags => x << 16,
        ("f32", "f16" | "bf16") => 0x7fff_ffff,
        ("f64", "f16" | "bf16") => 0x7fff_ffff_e000_0000,
        ("f32", "f64") => x >> 32 & 0x8000_0000 | 0x7fc0_0000 | x >> 29 & 0x7f_ffff,
        ("f64", "f32") => (x & 0x8000_0000) << 32 | 0x7ff8_0000_0000_0000 | (x & 0x7f_ffff) << 29,
        ("f32", _) => x | 0x40_0000,
        ("f64", _) => x | 0x8_0000_0000_0000,
        ("tf32", _) if s.has("relu") => 0x3_ffff,
        ("tf32", _) => x >> 13 | 0x200,
        (to, _) => float(to).sign() - 1,
    }
}
