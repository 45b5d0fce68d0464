//! Rounding by search: the format's own values are compared with the exact one, and nothing is shifted or truncated.

use std::cmp::Ordering;

/// A binary floating-point format of sign, exponent and fraction.
#[derive(Clone, Copy)]
pub struct Format {
    pub exponent: u32,
    pub fraction: u32,
    /// Bits of the largest finite value.
    pub largest: u64,
}

impl Format {
    pub const F16: Format = Format::ieee(5, 10);
    pub const BF16: Format = Format::ieee(8, 7);
    pub const TF32: Format = Format::ieee(8, 10);
    pub const F32: Format = Format::ieee(8, 23);
    pub const F64: Format = Format::ieee(11, 52);
    pub const E5M2: Format = Format::ieee(5, 2);
    pub const E4M3: Format = Format { exponent: 4, fraction: 3, largest: 0x7e };

    const fn ieee(exponent: u32, fraction: u32) -> Format {
        Format { exponent, fraction, largest: (((1 << exponent) - 1) << fraction) - 1 }
    }

    pub const fn sign(self) -> u64 {
        1 << (self.exponent + self.fraction)
    }

    pub const fn one(self) -> u64 {
        ((1 << (self.exponent - 1)) - 1) << self.fraction
    }

    /// Magnitude `bits` as `(m, e)` for `m * 2^e`, where `2^e` is also the distance to the next larger value.
    pub const fn value(self, bits: u64) -> (u64, i32) {
        let field = bits >> self.fraction;
        let fraction = bits & ((1 << self.fraction) - 1);
        let spacing = 2 - (1 << (self.exponent - 1)) - self.fraction as i32;
        if field == 0 { (fraction, spacing) } else { (fraction | 1 << self.fraction, spacing + field as i32 - 1) }
    }

    /// Bits of a value near `x`, no closer than the smallest normal one.
    fn guess(self, x: f64) -> u64 {
        let field = (x.to_bits() >> 52) as i64 - 1023 + (1 << (self.exponent - 1)) - 1;
        let fraction = (x.to_bits() & ((1 << 52) - 1)) >> (52 - self.fraction);
        if field <= 0 { 1 << self.fraction } else { (field as u64) << self.fraction | fraction }
    }

    /// Rounds an exact magnitude, of which only `compare(m, e)` with `m * 2^e` is known, to bits without sign. One above the
    /// largest finite value stands for an overflow. `rough` is about the magnitude: it saves time and changes nothing.
    pub fn round(self, to: Round, rough: f64, compare: impl Fn(u64, i32) -> Ordering) -> u64 {
        // Invariant: value(below) <= magnitude < value(above).
        let (mut below, mut above) = (0, self.largest + 1);
        let guess = self.guess(rough);
        for guess in [guess.saturating_sub(1), guess, guess + 1].into_iter().filter(|bits| *bits <= self.largest) {
            let (m, e) = self.value(guess);
            if compare(m, e) == Ordering::Less { above = above.min(guess) } else { below = below.max(guess) }
        }
        while above - below > 1 {
            let middle = below + (above - below) / 2;
            let (m, e) = self.value(middle);
            if compare(m, e) == Ordering::Less { above = middle } else { below = middle }
        }
        let (m, e) = self.value(below);
        if compare(m, e) == Ordering::Equal {
            return below;
        }
        let past_middle = compare(2 * m + 1, e - 1);
        let away = match to {
            Round::TowardsZero => false,
            Round::AwayFromZero => true,
            Round::Nearest => past_middle == Ordering::Greater || (past_middle == Ordering::Equal && below % 2 == 1),
            Round::NearestAway => past_middle != Ordering::Less,
        };
        below + u64::from(away)
    }
}

/// Rounding of a magnitude.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    Nearest,
    NearestAway,
    TowardsZero,
    AwayFromZero,
}

/// Compares `a * 2^x` with `b * 2^y`.
pub fn compare((a, x): (u64, i32), (b, y): (u64, i32)) -> Ordering {
    let top = |m: u64, e: i32| e + 64 - m.leading_zeros() as i32;
    match (a, b) {
        (0, 0) => Ordering::Equal,
        (0, _) => Ordering::Less,
        (_, 0) => Ordering::Greater,
        _ if top(a, x) != top(b, y) => top(a, x).cmp(&top(b, y)),
        // The same leading bit, so the exponents differ by less than 64.
        _ => (u128::from(a) << (x - y).max(0)).cmp(&(u128::from(b) << (y - x).max(0))),
    }
}

/// A finite double as sign and `m * 2^e`.
pub fn parts(x: f64) -> (bool, u64, i32) {
    let (m, e) = Format::F64.value(x.to_bits() & !(1 << 63));
    (x.is_sign_negative(), m, e)
}

/// Sums without rounding: two's complement in units of 2^-300, up to 2^339. bf16 needs 2^-266 to 2^257.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fixed([u64; 10]);

impl Fixed {
    const UNIT: i32 = -300;

    /// `m * 2^e`
    pub fn magnitude(m: u64, e: i32) -> Fixed {
        let trailing = m.trailing_zeros().min(63);
        let (m, places) = (m >> trailing, e + trailing as i32 - Fixed::UNIT);
        let mut words = [0; 10];
        if m != 0 {
            let places = usize::try_from(places).expect("a multiple of the unit");
            let wide = u128::from(m) << (places % 64);
            words[places / 64] = wide as u64;
            words[places / 64 + 1] = (wide >> 64) as u64;
        }
        Fixed(words)
    }

    /// Any finite double that is a multiple of the unit.
    pub fn from_f64(x: f64) -> Fixed {
        let (negative, m, e) = parts(x);
        let magnitude = Fixed::magnitude(m, e);
        if negative { magnitude.negated() } else { magnitude }
    }

    pub fn plus(self, other: Fixed) -> Fixed {
        let mut carry = 0;
        Fixed(std::array::from_fn(|i| {
            let sum = u128::from(self.0[i]) + u128::from(other.0[i]) + carry;
            carry = sum >> 64;
            sum as u64
        }))
    }

    fn negated(self) -> Fixed {
        Fixed(self.0.map(|word| !word)).plus(Fixed::magnitude(1, Fixed::UNIT))
    }

    pub fn is_negative(self) -> bool {
        self.0[9] >> 63 == 1
    }

    pub fn abs(self) -> Fixed {
        if self.is_negative() { self.negated() } else { self }
    }

    /// Of two that are not negative.
    pub fn compare(self, other: Fixed) -> Ordering {
        self.0.iter().rev().cmp(other.0.iter().rev())
    }
}

#[test]
fn a_bad_guess_changes_nothing() {
    for (rough, bits) in [0.0, 1e-45, 1.0, 1.5, 3e38, f64::MAX].into_iter().flat_map(|x| (0..300).map(move |b| (x, b)))
    {
        let bits = 0x3c00 - 150 + bits;
        let exact = Format::F16.value(bits);
        assert_eq!(Format::F16.round(Round::Nearest, rough, |m, e| compare(exact, (m, e))), bits);
    }
}

#[test]
fn search_agrees_with_the_processor() {
    for (x, y) in [(0.1, 0.2), (1.0, 1e-30), (3e38, 3e38), (1e-45, 0.75e-45), (1.0, f64::from(f32::EPSILON) / 2.0)] {
        let sum = Fixed::from_f64(x).plus(Fixed::from_f64(y));
        let bits = Format::F32.round(Round::Nearest, x + y, |m, e| sum.compare(Fixed::magnitude(m, e)));
        assert_eq!(bits, u64::from(((x + y) as f32).to_bits()), "{x} + {y}");
    }
}
