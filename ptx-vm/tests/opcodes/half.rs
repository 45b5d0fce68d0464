//! f16 and bf16.

pub mod exact;

use super::Tally;
use super::values::{Domain, floats};
use exact::{Fixed, Format, Round};
use half::{bf16, f16};

/// What a modifier-free test needs to know of a format.
#[derive(Clone, Copy)]
struct Half {
    name: &'static str,
    format: Format,
    value: fn(u16) -> f64,
    /// Bounds of the approximate functions: absolute for tanh, relative for ex2.
    tanh: f64,
    ex2: f64,
}

fn halves() -> [Half; 2] {
    let f16 = Half {
        name: "f16",
        format: Format::F16,
        value: |x| f16::from_bits(x).to_f64(),
        tanh: (-10.987f64).exp2(),
        ex2: (-9.9f64).exp2(),
    };
    let bf16 = Half {
        name: "bf16",
        format: Format::BF16,
        value: |x| bf16::from_bits(x).to_f64(),
        tanh: (-8f64).exp2(),
        ex2: (-7f64).exp2(),
    };
    [f16, bf16]
}

const NAN: u16 = 0x7fff;
const SIGN: u16 = 0x8000;

/// `.ftz`, `.sat`, `.relu` as written in a spelling.
#[derive(Clone, Copy)]
struct Flags {
    ftz: bool,
    sat: bool,
    relu: bool,
}

impl Flags {
    fn of(spelling: &str) -> Flags {
        let has = |flag| spelling.split('.').any(|modifier| modifier == flag);
        Flags { ftz: has("ftz"), sat: has("sat"), relu: has("relu") }
    }
}

impl Half {
    fn flush(self, flags: Flags, x: u16) -> u16 {
        let magnitude = (self.value)(x & !SIGN);
        let smallest_normal = (self.value)(1 << self.format.fraction);
        if flags.ftz && magnitude < smallest_normal { x & SIGN } else { x }
    }

    /// Flags that apply to a result.
    fn finish(self, flags: Flags, x: u16) -> u16 {
        let x = self.flush(flags, x);
        let value = (self.value)(x);
        match flags {
            Flags { sat: true, .. } if value.is_nan() => 0,
            Flags { relu: true, .. } if value.is_nan() => NAN,
            Flags { sat: true, .. } | Flags { relu: true, .. } if value <= 0.0 => 0,
            Flags { sat: true, .. } if value > 1.0 => self.format.one() as u16,
            _ => x,
        }
    }

    /// `p + q` rounded once to nearest; both are sums or products of halves, exact in f64.
    fn sum(self, p: f64, q: f64) -> u16 {
        // Enough to know whether there is anything to round, and an exact zero's sign.
        let rough = p + q;
        if rough.is_nan() {
            return NAN;
        }
        let sign = if rough.is_sign_negative() { SIGN } else { 0 };
        if rough.is_infinite() {
            return sign | (self.format.largest + 1) as u16;
        }
        let exact = Fixed::from_f64(p).plus(Fixed::from_f64(q)).abs();
        sign | self.format.round(Round::Nearest, rough.abs(), |m, e| exact.compare(Fixed::magnitude(m, e))) as u16
    }

    fn arithmetic(self, op: &str, flags: Flags, x: [u16; 3]) -> u16 {
        let [a, b, c] = x.map(|x| (self.value)(self.flush(flags, x)));
        let result = match op {
            "add" => self.sum(a, b),
            "sub" => self.sum(a, -b),
            "mul" => self.sum(a * b, -0.0),
            _ => self.sum(a * b, c),
        };
        self.finish(flags, result)
    }

    /// The manual's pseudo-code of `min` and `max`.
    fn extremum(self, spelling: &str, x: [u16; 3]) -> u16 {
        let has = |flag| spelling.split('.').any(|modifier| modifier == flag);
        let flags = Flags::of(spelling);
        let [a, b, _] = x.map(|x| self.flush(flags, x));
        let sign = (a ^ b) & SIGN;
        let [a, b] = if has("abs") { [a & !SIGN, b & !SIGN] } else { [a, b] };
        let (x, y) = ((self.value)(a), (self.value)(b));
        let nans = usize::from(x.is_nan()) + usize::from(y.is_nan());
        if nans == 2 || (nans == 1 && has("NaN")) {
            return NAN;
        }
        let below = x < y || (x == y && x.is_sign_negative());
        let result = match spelling.starts_with("min") {
            _ if x.is_nan() => b,
            _ if y.is_nan() => a,
            minimum if below == minimum => a,
            _ => b,
        };
        if has("abs") { result | sign } else { result }
    }

    fn sign_operation(self, op: &str, flags: Flags, x: u16) -> u16 {
        let x = self.flush(flags, x);
        match op {
            _ if (self.value)(x).is_nan() => NAN,
            "neg" => x ^ SIGN,
            _ => x & !SIGN,
        }
    }

    /// Both approximate functions: bounds, and the exact values of the manual's tables.
    fn approximation(self, spelling: &str, a: u16, got: u16) -> Result<(), String> {
        let (x, y) = ((self.value)(self.flush(Flags::of(spelling), a)), (self.value)(got));
        let tanh = spelling.starts_with("tanh");
        let want = if tanh { x.tanh() } else { x.exp2() };
        let largest = (self.value)(self.format.largest as u16);
        let smallest = (self.value)(1);
        let exact = |right: bool| if right { Ok(()) } else { Err(format!("want {want}")) };
        match x {
            _ if x.is_nan() => exact(got == NAN),
            _ if x.is_infinite() || x == 0.0 => exact(y == want && y.is_sign_negative() == want.is_sign_negative()),
            _ if tanh => exact((y - want).abs() <= self.tanh),
            _ if want > largest => exact(y >= largest),
            // A subnormal result keeps no relative bound, only its last place; bf16 flushes it.
            _ if self.name == "bf16" && want < (self.value)(0x80) => exact(y == 0.0 || y == (self.value)(0x80)),
            _ => exact((y - want).abs() <= self.ex2 * want + smallest / 2.0),
        }
    }

    fn domain(self) -> Domain {
        floats(self.format.exponent, self.format.fraction)
    }

    /// Pairs in which both halves go through all edges.
    fn pairs(self) -> Domain {
        let one = self.domain();
        let n = one.edges.len();
        let edges = (0..n).map(|i| one.edges[i] | one.edges[(7 * i + 3) % n] << 16).collect();
        Domain { bits: 32, edges, shape: one.shape }
    }

    /// `spelling` and its packed form, on one oracle; unary ones on every value there is.
    fn check(self, t: &mut Tally, stem: &str, sources: usize, one: impl Fn([u16; 3]) -> u16) {
        self.judge(t, stem, sources, |x, got| {
            let want = one(x);
            if got == want { Ok(()) } else { Err(format!("want {want:#x}")) }
        });
    }

    fn judge(self, t: &mut Tally, stem: &str, sources: usize, one: impl Fn([u16; 3], u16) -> Result<(), String>) {
        let low = |x: [u64; 4]| [x[0] as u16, x[1] as u16, x[2] as u16];
        let verdict = |x: [u64; 4], got: u64| {
            if got >> 16 != 0 {
                return Err("wider than 16 bits".to_owned());
            }
            one(low(x), got as u16)
        };
        let scalar = format!("{stem}.{}", self.name);
        if sources == 1 {
            for part in every_16_bits() {
                t.judge(&scalar, &[&part], verdict);
            }
        } else {
            t.judge(&scalar, &[&self.domain(); 3][..sources], verdict);
        }
        t.judge(&format!("{scalar}x2"), &[&self.pairs(); 3][..sources], |x, got| {
            one(low(x), got as u16)?;
            one(low(x.map(|v| v >> 16)), (got >> 16) as u16)?;
            if got >> 32 == 0 { Ok(()) } else { Err("wider than 32 bits".to_owned()) }
        });
    }
}

/// All 65,536 values, in parts small enough that a tally does not sample them.
pub fn every_16_bits() -> [Domain; 2] {
    let part = |range: std::ops::Range<u64>| Domain { bits: 16, edges: range.collect(), shape: |bits, _| bits >> 20 };
    [part(0..0x8000), part(0x8000..0x1_0000)]
}

/// The chapter.
pub fn half(t: &mut Tally) {
    for half in halves() {
        let f16 = half.name == "f16";
        let flushing: &[&str] = if f16 { &["", ".ftz"] } else { &[""] };
        for ftz in flushing {
            arithmetic(t, half, ftz);
            for op in ["neg", "abs"] {
                let stem = format!("{op}{ftz}");
                half.check(t, &stem, 1, |x| half.sign_operation(op, Flags::of(&stem), x[0]));
            }
            for op in ["min", "max"] {
                for modifiers in ["", ".NaN", ".xorsign.abs", ".NaN.xorsign.abs"] {
                    let stem = format!("{op}{ftz}{modifiers}");
                    half.check(t, &stem, 2, |x| half.extremum(&stem, x));
                }
            }
        }
        let approximate = ["tanh.approx", if f16 { "ex2.approx" } else { "ex2.approx.ftz" }];
        for stem in approximate {
            half.judge(t, stem, 1, |x, got| half.approximation(stem, x[0], got));
        }
    }
}

fn arithmetic(t: &mut Tally, half: Half, ftz: &str) {
    let f16 = half.name == "f16";
    let clamps: &[&str] = if f16 { &["", ".sat"] } else { &[""] };
    for op in ["add", "sub", "mul"] {
        for (rn, sat) in ["", ".rn"].into_iter().flat_map(|rn| clamps.iter().map(move |sat| (rn, sat))) {
            let stem = format!("{op}{rn}{ftz}{sat}");
            half.check(t, &stem, 2, |x| half.arithmetic(op, Flags::of(&stem), x));
        }
    }
    let clamps: &[&str] = if f16 { &["", ".sat", ".relu"] } else { &["", ".relu"] };
    for clamp in clamps {
        let stem = format!("fma.rn{ftz}{clamp}");
        half.check(t, &stem, 3, |x| half.arithmetic("fma", Flags::of(&stem), x));
    }
}

#[test]
fn all() {
    half(&mut Tally::new());
}
