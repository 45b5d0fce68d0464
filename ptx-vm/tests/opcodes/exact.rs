//! An oracle for correctly rounded arithmetic that never rounds: it compares exact values with floating-point numbers, and
//! finds the answer by definition, as the neighbour that the rounding asks for.

use std::cmp::Ordering::{self, Equal, Greater, Less};

/// `significand · 2^exponent`.
#[derive(Clone, Copy, Debug)]
pub struct Dyadic {
    pub significand: u128,
    pub exponent: i32,
}

impl Dyadic {
    /// By value.
    pub fn compare(self, other: Dyadic) -> Ordering {
        let key = |v: Dyadic| match v.significand {
            0 => (i32::MIN, 0),
            s => (v.exponent - s.leading_zeros() as i32, s << s.leading_zeros()),
        };
        key(self).cmp(&key(other))
    }

    fn times(self, other: Dyadic) -> Dyadic {
        Dyadic { significand: self.significand * other.significand, exponent: self.exponent + other.exponent }
    }
}

/// A binary floating-point format.
#[derive(Clone, Copy)]
pub struct Format {
    pub exponent: u32,
    pub fraction: u32,
}

pub const F32: Format = Format { exponent: 8, fraction: 23 };
pub const F64: Format = Format { exponent: 11, fraction: 52 };

/// What an operation gives before it is rounded; the flag is the sign.
pub enum Exact {
    Nan,
    Infinite(bool),
    Zero(bool),
    /// How its magnitude compares with a number.
    Number(bool, Box<dyn Fn(Dyadic) -> Ordering>),
}

/// A rounding modifier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    Nearest,
    Zero,
    Down,
    Up,
}

/// Every rounding modifier, the absent one first.
pub const MODES: [(&str, Mode); 5] =
    [("", Mode::Nearest), (".rn", Mode::Nearest), (".rz", Mode::Zero), (".rm", Mode::Down), (".rp", Mode::Up)];

impl Format {
    pub fn sign(self) -> u64 {
        1 << (self.exponent + self.fraction)
    }

    pub fn infinity(self) -> u64 {
        ((1 << self.exponent) - 1) << self.fraction
    }

    pub fn negative(self, bits: u64) -> bool {
        bits & self.sign() != 0
    }

    pub fn magnitude(self, bits: u64) -> u64 {
        bits & !self.sign()
    }

    pub fn is_nan(self, bits: u64) -> bool {
        self.magnitude(bits) > self.infinity()
    }

    fn is_infinite(self, bits: u64) -> bool {
        self.magnitude(bits) == self.infinity()
    }

    /// Subnormals to zero.
    pub fn flush(self, bits: u64) -> u64 {
        if self.magnitude(bits) >> self.fraction == 0 { bits & self.sign() } else { bits }
    }

    /// The value of a magnitude; infinity's is the power of two above the largest number, which is what halfway cases need.
    pub fn value(self, magnitude: u64) -> Dyadic {
        let (field, fraction) = (magnitude >> self.fraction, magnitude & ((1 << self.fraction) - 1));
        let least = 2 - (1 << (self.exponent - 1)) - self.fraction as i32;
        match field {
            0 => Dyadic { significand: u128::from(fraction), exponent: least },
            _ => Dyadic { significand: u128::from(fraction | 1 << self.fraction), exponent: least + field as i32 - 1 },
        }
    }

    /// The largest finite magnitude that is not above the exact value. `hint` saves time and changes nothing.
    fn floor(self, exact: &dyn Fn(Dyadic) -> Ordering, hint: u64) -> u64 {
        let reaches = |m: u64| exact(self.value(m)) != Less;
        let (mut low, mut high) = (0, self.infinity());
        for guess in [hint.saturating_sub(1), hint, hint + 1].into_iter().filter(|m| *m < self.infinity()) {
            if reaches(guess) { low = low.max(guess) } else { high = high.min(guess) }
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if reaches(middle) { low = middle } else { high = middle }
        }
        low
    }

    fn round(self, negative: bool, exact: &dyn Fn(Dyadic) -> Ordering, mode: Mode, hint: u64) -> u64 {
        let floor = self.floor(exact, hint);
        let below = self.value(floor);
        let middle = Dyadic { significand: 2 * below.significand + 1, exponent: below.exponent - 1 };
        let away = match mode {
            _ if exact(below) == Equal => false,
            Mode::Zero => false,
            Mode::Down => negative,
            Mode::Up => !negative,
            Mode::Nearest => match exact(middle) {
                Less => false,
                Equal => floor & 1 == 1,
                Greater => true,
            },
        };
        floor + u64::from(away)
    }

    /// Would the value be subnormal if it were rounded with exponents that have no end? Far up the scale there is no end.
    fn is_tiny(self, negative: bool, exact: &dyn Fn(Dyadic) -> Ordering, mode: Mode) -> bool {
        let up = 3 * (1 << (self.exponent - 1)) / 4;
        let least = 1 << self.fraction;
        let twice = 2 << self.fraction;
        if exact(self.value(twice)) != Less {
            return false;
        }
        let scaled = |y: Dyadic| exact(Dyadic { exponent: y.exponent - up, ..y });
        self.round(negative, &scaled, mode, 0) < least + ((up as u64) << self.fraction)
    }

    /// The bits of the rounded result, `None` for NaN.
    pub fn result(self, exact: &Exact, mode: Mode, ftz: bool, hint: u64) -> Option<u64> {
        let (negative, magnitude) = match exact {
            Exact::Nan => return None,
            Exact::Infinite(negative) => (*negative, self.infinity()),
            Exact::Zero(negative) => (*negative, 0),
            Exact::Number(negative, exact) if ftz && self.is_tiny(*negative, exact, mode) => (*negative, 0),
            Exact::Number(negative, exact) => (*negative, self.round(*negative, exact, mode, self.magnitude(hint))),
        };
        Some(magnitude | if negative { self.sign() } else { 0 })
    }

    /// `a · b + c`.
    pub fn fma(self, a: u64, b: u64, c: u64, mode: Mode) -> Exact {
        let (product_negative, c_negative) = (self.negative(a ^ b), self.negative(c));
        let infinite = self.is_infinite(a) || self.is_infinite(b);
        if [a, b, c].into_iter().any(|v| self.is_nan(v)) {
            return Exact::Nan;
        }
        match (infinite, self.is_infinite(c)) {
            (true, _) if self.magnitude(a) == 0 || self.magnitude(b) == 0 => return Exact::Nan,
            (true, true) if product_negative != c_negative => return Exact::Nan,
            (true, _) => return Exact::Infinite(product_negative),
            (false, true) => return Exact::Infinite(c_negative),
            (false, false) => {}
        }
        let product = self.value(self.magnitude(a)).times(self.value(self.magnitude(b)));
        let mut sum = Fixed::ZERO;
        sum.add(product, product_negative);
        sum.add(self.value(self.magnitude(c)), c_negative);
        if sum.is_zero() {
            let opposite = product_negative != c_negative;
            return Exact::Zero(if opposite { mode == Mode::Down } else { c_negative });
        }
        Exact::Number(sum.is_negative(), Box::new(move |y| sum.compare(y)))
    }

    /// `a + b`.
    pub fn add(self, a: u64, b: u64, mode: Mode) -> Exact {
        let one = self.infinity() >> (self.fraction + 1) << self.fraction;
        self.fma(a, one, b, mode)
    }

    /// `a · b`.
    pub fn mul(self, a: u64, b: u64, mode: Mode) -> Exact {
        self.fma(a, b, (a ^ b) & self.sign(), mode)
    }

    /// `a / b`.
    pub fn div(self, a: u64, b: u64) -> Exact {
        let negative = self.negative(a ^ b);
        let [x, y] = [a, b].map(|v| self.magnitude(v));
        match () {
            _ if self.is_nan(a) || self.is_nan(b) => Exact::Nan,
            _ if (x == 0 && y == 0) || (self.is_infinite(a) && self.is_infinite(b)) => Exact::Nan,
            _ if y == 0 || self.is_infinite(a) => Exact::Infinite(negative),
            _ if x == 0 || self.is_infinite(b) => Exact::Zero(negative),
            _ => {
                let (x, y) = (self.value(x), self.value(y));
                Exact::Number(negative, Box::new(move |q| x.compare(q.times(y))))
            }
        }
    }

    /// √a.
    pub fn sqrt(self, a: u64) -> Exact {
        let x = self.magnitude(a);
        match self.negative(a) {
            _ if self.is_nan(a) => Exact::Nan,
            negative if x == 0 => Exact::Zero(negative),
            true => Exact::Nan,
            false if self.is_infinite(a) => Exact::Infinite(false),
            false => {
                let x = self.value(x);
                Exact::Number(false, Box::new(move |r| x.compare(r.times(r))))
            }
        }
    }
}

const LIMBS: usize = 72;
/// Weight of the lowest bit: below the product of two f64 subnormals and half of it.
const LOWEST: i32 = -2240;

/// A two's complement integer, in units of 2^LOWEST, wide enough for every sum of f64 products.
#[derive(Clone, Copy)]
struct Fixed([u64; LIMBS]);

impl Fixed {
    const ZERO: Fixed = Fixed([0; LIMBS]);

    fn add(&mut self, value: Dyadic, negative: bool) {
        let shift = (value.exponent - LOWEST) as usize;
        let (limb, bit) = (shift / 64, shift % 64);
        let (low, high) = (value.significand as u64, (value.significand >> 64) as u64);
        let spread = |v: u64| u128::from(v) << bit;
        let middle = u128::from((spread(low) >> 64) as u64) + u128::from(spread(high) as u64);
        let mut carry = 0u128;
        let parts = [u128::from(spread(low) as u64), middle, spread(high) >> 64];
        for (i, limb) in self.0[limb..].iter_mut().enumerate() {
            let part = parts.get(i).copied().unwrap_or(0) + carry;
            let before = *limb;
            (*limb, carry) = if negative {
                let after = before.wrapping_sub(part as u64);
                (after, (part >> 64) + u128::from(after > before))
            } else {
                let after = before.wrapping_add(part as u64);
                (after, (part >> 64) + u128::from(after < before))
            };
            if carry == 0 && i >= 3 {
                break;
            }
        }
    }

    fn is_zero(&self) -> bool {
        self.0.iter().all(|limb| *limb == 0)
    }

    fn is_negative(&self) -> bool {
        self.0[LIMBS - 1] >> 63 == 1
    }

    /// The magnitude against a number.
    fn compare(&self, y: Dyadic) -> Ordering {
        let negative = self.is_negative();
        let mut rest = *self;
        rest.add(y, !negative);
        match rest.is_negative() {
            _ if rest.is_zero() => Equal,
            sign if sign == negative => Greater,
            _ => Less,
        }
    }
}

/// The oracle itself, where the answers are known.
#[test]
fn known_values() {
    let f = |v: f64| v.to_bits();
    let result = |exact, mode| F64.result(&exact, mode, false, 0).map(f64::from_bits);
    assert_eq!(result(F64.add(f(1.0), f(1e-30), Mode::Up), Mode::Up), Some(1.0f64.next_up()));
    assert_eq!(result(F64.add(f(1.0), f(-1e-30), Mode::Zero), Mode::Zero), Some(1.0f64.next_down()));
    assert_eq!(result(F64.add(f(-1.0), f(-2.0), Mode::Nearest), Mode::Nearest), Some(-3.0));
    assert_eq!(result(F64.mul(f(1e300), f(1e300), Mode::Zero), Mode::Zero), Some(f64::MAX));
    assert_eq!(result(F64.mul(f(1e-300), f(-1e-300), Mode::Down), Mode::Down), Some(-f64::from_bits(1)));
    assert_eq!(result(F64.div(f(1.0), f(3.0)), Mode::Nearest), Some(1.0 / 3.0));
    assert_eq!(result(F64.sqrt(f(2.0)), Mode::Nearest), Some(std::f64::consts::SQRT_2));
    assert_eq!(result(F64.add(f(1.0), f(-1.0), Mode::Down), Mode::Down).map(f64::to_bits), Some(f(-0.0)));
}
