//! `.f32`: correctly rounded operations against exact comparisons; `min`, `max` and signs against the manual's text; the
//! approximations against f64 within a bound that is tighter than any of the manual's, and against its tables of special
//! values.

use super::exact::{Exact, F32, MODES, Mode};
use super::values::{Domain, floats};
use super::{Tally, refused};

/// Every f32 NaN result.
const NAN: u64 = 0x7fff_ffff;
const ONE: u64 = 0x3f80_0000;
const FLUSH: [(&str, bool); 2] = [("", false), (".ftz", true)];

/// Which modifiers a correctly rounded operation takes.
struct Form {
    op: &'static str,
    /// The rounding must be written.
    required: bool,
    sat: bool,
}

fn verdict(got: u64, want: u64) -> Result<(), String> {
    if got == want { Ok(()) } else { Err(format!("want {want:#x}")) }
}

fn rounded(t: &mut Tally, form: &Form, d: &[&Domain], exact: impl Fn([u64; 4], Mode) -> Exact) {
    for (rounding, mode) in &MODES[usize::from(form.required)..] {
        for (flush, ftz) in FLUSH {
            for sat in if form.sat { &["", ".sat"][..] } else { &[""] } {
                t.judge(&format!("{}{rounding}{flush}{sat}.f32", form.op), d, |x, got| {
                    let x = if ftz { x.map(|v| F32.flush(v)) } else { x };
                    let result = F32.result(&exact(x, *mode), *mode, ftz, got);
                    verdict(got, if sat.is_empty() { result.unwrap_or(NAN) } else { saturated(result) })
                });
            }
        }
    }
}

/// Clamped to [+0, 1], NaN to +0.
fn saturated(result: Option<u64>) -> u64 {
    match result {
        None => 0,
        Some(negative) if F32.negative(negative) => 0,
        Some(positive) => positive.min(ONE),
    }
}

/// The chapter.
pub fn float(t: &mut Tally) {
    let d = floats(8, 23);
    let form = |op, required, sat| Form { op, required, sat };
    rounded(t, &form("add", false, true), &[&d, &d], |[a, b, ..], mode| F32.add(a, b, mode));
    rounded(t, &form("sub", false, true), &[&d, &d], |[a, b, ..], mode| F32.add(a, b ^ F32.sign(), mode));
    rounded(t, &form("mul", false, true), &[&d, &d], |[a, b, ..], mode| F32.mul(a, b, mode));
    rounded(t, &form("fma", true, true), &[&d, &d, &d], |[a, b, c, _], mode| F32.fma(a, b, c, mode));
    rounded(t, &form("mad", true, true), &[&d, &d, &d], |[a, b, c, _], mode| F32.fma(a, b, c, mode));
    rounded(t, &form("div", true, false), &[&d, &d], |[a, b, ..], _| F32.div(a, b));
    rounded(t, &form("rcp", true, false), &[&d], |[a, ..], _| F32.div(ONE, a));
    rounded(t, &form("sqrt", true, false), &[&d], |[a, ..], _| F32.sqrt(a));
    signs(t, &d);
    extremes(t, &d);
    quotients(t, &d);
    roots(t, &d);
    exponentials(t, &d);
    trigonometric(t, &d);
    refusals();
}

fn signs(t: &mut Tally, d: &Domain) {
    let sign = F32.sign();
    t.check("copysign.f32", &[d, d], |[a, b, ..]| if F32.negative(a) { b | sign } else { b & !sign });
    for (flush, ftz) in FLUSH {
        let seen = |a| if ftz { F32.flush(a) } else { a };
        t.check(&format!("abs{flush}.f32"), &[d], |[a, ..]| seen(a) & !sign);
        t.check(&format!("neg{flush}.f32"), &[d], |[a, ..]| seen(a) ^ sign);
    }
}

/// The manual's program for `min` and `max`.
fn extremes(t: &mut Tally, d: &Domain) {
    let key = |v: u64| if F32.negative(v) { -i128::from(F32.magnitude(v)) - 1 } else { i128::from(v) };
    for (op, largest) in [("min", false), ("max", true)] {
        for (flush, ftz) in FLUSH {
            for (nan, nan_wins) in [("", false), (".NaN", true)] {
                for (xorsign, of_magnitudes) in [("", false), (".xorsign.abs", true)] {
                    t.check(&format!("{op}{flush}{nan}{xorsign}.f32"), &[d, d], |[a, b, ..]| {
                        let [a, b] = [a, b].map(|v| if ftz { F32.flush(v) } else { v });
                        let sign = (a ^ b) & F32.sign();
                        let [a, b] = [a, b].map(|v| if of_magnitudes { F32.magnitude(v) } else { v });
                        let chosen = match (F32.is_nan(a), F32.is_nan(b)) {
                            (true, true) => return NAN,
                            (true, _) | (_, true) if nan_wins => return NAN,
                            (true, false) => b,
                            (false, true) => a,
                            (false, false) if (key(a) > key(b)) == largest => a,
                            (false, false) => b,
                        };
                        if of_magnitudes { chosen | sign } else { chosen }
                    });
                }
            }
        }
    }
}

fn number(bits: u64) -> f64 {
    f64::from(f32::from_bits(bits as u32))
}

/// The exact answer `want`, as f64, against an f32 result: within `bound`, relative, or half a subnormal unit. Where the bound
/// reaches beyond the largest number infinity will do, and with `.ftz` zero where it reaches below the least normal one.
fn near(got: u64, want: f64, bound: f64, ftz: bool) -> Result<(), String> {
    let got_number = number(got);
    let error = (got_number - want).abs();
    let close = error <= bound * want.abs() || (!ftz && error <= 2f64.powi(-150));
    let overflow = got_number.is_infinite()
        && want.abs() * (1.0 + bound) >= f64::from(f32::MAX)
        && got_number.signum() == want.signum();
    let least = f64::from(f32::MIN_POSITIVE) * (1.0 + bound);
    let flushed = ftz && F32.magnitude(got) == 0 && want.abs() < least && F32.negative(got) == want.is_sign_negative();
    let subnormal = ftz && got != F32.flush(got);
    if !subnormal && (close || overflow || flushed) { Ok(()) } else { Err(format!("want {want:e}")) }
}

/// 2^-23: for every function tighter than the manual's bound.
const BOUND: f64 = f32::EPSILON as f64;

/// Runs an approximation of one operand. `special` are the operands with one right answer, `want` is the value elsewhere.
fn approximate(t: &mut Tally, op: &str, d: &Domain, special: impl Fn(u64) -> Option<u64>, want: impl Fn(f64) -> f64) {
    for (flush, ftz) in FLUSH {
        if op == "tanh.approx" && ftz {
            continue;
        }
        t.judge(&format!("{op}{flush}.f32"), &[d], |[a, ..], got| {
            let a = if ftz { F32.flush(a) } else { a };
            match special(a) {
                _ if F32.is_nan(a) => verdict(got, NAN),
                Some(answer) => verdict(got, answer),
                None => near(got, want(number(a)), BOUND, ftz),
            }
        });
    }
}

const INFINITY: u64 = 0x7f80_0000;
const SIGN: u64 = 0x8000_0000;
/// −∞
const MINUS: u64 = INFINITY | SIGN;

fn quotients(t: &mut Tally, d: &Domain) {
    approximate(
        t,
        "rcp.approx",
        d,
        |a| match F32.magnitude(a) {
            0 => Some(a | INFINITY),
            INFINITY => Some(a & SIGN),
            _ => None,
        },
        |a| 1.0 / a,
    );
    for (flush, ftz) in FLUSH {
        for full in [false, true] {
            let op = if full { "full" } else { "approx" };
            t.judge(&format!("div.{op}{flush}.f32"), &[d, d], |[a, b, ..], got| {
                let [a, b] = [a, b].map(|v| if ftz { F32.flush(v) } else { v });
                let sign = (a ^ b) & SIGN;
                match F32.div(a, b) {
                    Exact::Nan => verdict(got, NAN),
                    // |b| between 2^126 and 2^128: by way of a reciprocal that is zero.
                    _ if !full && F32.magnitude(b) > 0x7e80_0000 && F32.magnitude(b) < INFINITY => {
                        verdict(got, if F32.magnitude(a) == INFINITY { NAN } else { sign })
                    }
                    Exact::Infinite(_) => verdict(got, sign | INFINITY),
                    Exact::Zero(_) => verdict(got, sign),
                    // Two units in the last place, of which the largest is 2^-23 of the value; a subnormal's is absolute.
                    Exact::Number(..) => near(got, number(a) / number(b), 2.0 * BOUND, ftz),
                }
            });
        }
    }
}

fn roots(t: &mut Tally, d: &Domain) {
    let root_special = |a| match a {
        0 | SIGN | INFINITY => Some(a),
        _ => F32.negative(a).then_some(NAN),
    };
    approximate(t, "sqrt.approx", d, root_special, f64::sqrt);
    let reciprocal_special = |a| match a {
        0 => Some(INFINITY),
        SIGN => Some(MINUS),
        INFINITY => Some(0),
        _ => F32.negative(a).then_some(NAN),
    };
    approximate(t, "rsqrt.approx", d, reciprocal_special, |a| 1.0 / a.sqrt());
}

/// Values where the exponential neither overflows nor vanishes, besides all the others.
fn with_moderate(d: &Domain) -> Domain {
    let moderate = (0..200).map(|i| ((i as f32 - 100.0) * 1.507).to_bits()).map(u64::from);
    let whole = (-151..=129).map(|i| u64::from((i as f32).to_bits()));
    Domain { bits: 32, edges: d.edges.iter().copied().chain(moderate).chain(whole).collect(), shape: d.shape }
}

fn exponentials(t: &mut Tally, d: &Domain) {
    let d = with_moderate(d);
    let exp_special = |a| match a {
        0 | SIGN => Some(ONE),
        INFINITY => Some(INFINITY),
        MINUS => Some(0),
        // Powers with a whole exponent are exact.
        _ if (-126.0..128.0).contains(&number(a)) && number(a).fract() == 0.0 => {
            Some(((number(a) + 127.0) as u64) << 23)
        }
        _ => None,
    };
    approximate(t, "ex2.approx", &d, exp_special, f64::exp2);
    let log_special = |a| match a {
        0 | SIGN => Some(MINUS),
        INFINITY => Some(INFINITY),
        ONE => Some(0),
        _ => F32.negative(a).then_some(NAN),
    };
    approximate(t, "lg2.approx", &d, log_special, f64::log2);
    let tanh_special = |a| match F32.magnitude(a) {
        INFINITY => Some(ONE | (a & SIGN)),
        // Zeros and subnormals are their own tangent.
        m if m < 0x0080_0000 => Some(a),
        _ => None,
    };
    // (e^2a − 1) / (e^2a + 1), without cancellation.
    let tanh = |a: f64| {
        let e = (2.0 * a.abs()).min(100.0).exp_m1();
        (e / (e + 2.0)).copysign(a)
    };
    approximate(t, "tanh.approx", &d, tanh_special, tanh);
}

fn trigonometric(t: &mut Tally, d: &Domain) {
    let d = with_moderate(d);
    for (op, cosine) in [("sin", false), ("cos", true)] {
        for (flush, ftz) in FLUSH {
            t.judge(&format!("{op}.approx{flush}.f32"), &[&d], |[a, ..], got| {
                let a = if ftz { F32.flush(a) } else { a };
                let x = number(a);
                match F32.magnitude(a) {
                    INFINITY.. => verdict(got, NAN),
                    0 => verdict(got, if cosine { ONE } else { a }),
                    // Beyond 100π the manual promises nothing: let it be a sine.
                    _ if x.abs() > 314.0 && number(got).abs() <= 1.0 => Ok(()),
                    _ if (number(got) - series(x, cosine)).abs() < 2f64.powi(-23) => Ok(()),
                    _ => Err(format!("want {}", series(x, cosine))),
                }
            });
        }
    }
}

/// Sine or cosine of up to 100π by its power series, after whole turns are taken off.
fn series(x: f64, cosine: bool) -> f64 {
    let x = x - (x / std::f64::consts::TAU).round() * std::f64::consts::TAU;
    let mut term = if cosine { 1.0 } else { x };
    let mut sum = term;
    for k in 1..20 {
        let n = f64::from(2 * k + i32::from(!cosine));
        term *= -x * x / (n * (n - 1.0));
        sum += term;
    }
    sum
}

fn refusals() {
    refused(&["fma.f32", "fma.ftz.f32", "mad.f32", "mad.ftz.f32", "div.f32", "div.ftz.f32", "rcp.f32", "sqrt.f32"]);
    refused(&["add.rni.f32", "add.rna.f32", "add.ftz.rn.f32", "add.sat.ftz.f32", "div.rn.sat.f32", "fma.rn.relu.f32"]);
    refused(&["tanh.approx.ftz.f32", "tanh.f32", "ex2.f32", "ex2.ftz.f32", "sin.f32", "rsqrt.f32", "rsqrt.rn.f32"]);
    refused(&["min.xorsign.f32", "min.abs.f32", "min.NaN.ftz.f32", "max.rn.f32", "copysign.ftz.f32", "neg.sat.f32"]);
}

#[test]
fn all() {
    float(&mut Tally::new());
}
