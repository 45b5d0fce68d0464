//! `.f64`: correctly rounded operations against exact comparisons, the rest against the manual's tables.

use super::exact::{Exact, F64, MODES};
use super::values::{Domain, floats};
use super::{Tally, refused};

/// What a NaN result is: the first NaN operand, made quiet, else the one that CUDA calls `CUDART_NAN`.
fn nan(operands: &[u64]) -> u64 {
    operands.iter().find(|v| F64.is_nan(**v)).map_or(0xfff8_0000_0000_0000, |v| v | 1 << 51)
}

/// Checks every rounding of a correctly rounded operation, the absent one only if it may be absent.
fn rounded(
    t: &mut Tally,
    op: &str,
    required: bool,
    d: &[&Domain],
    exact: impl Fn([u64; 4], super::exact::Mode) -> Exact,
) {
    for (suffix, mode) in &MODES[usize::from(required)..] {
        t.judge(&format!("{op}{suffix}.f64"), d, |x, got| {
            let want = F64.result(&exact(x, *mode), *mode, false, got).unwrap_or_else(|| nan(&x[..d.len()]));
            if got == want { Ok(()) } else { Err(format!("want {want:#x}")) }
        });
    }
}

/// The chapter.
pub fn double(t: &mut Tally) {
    let d = floats(11, 52);
    let one = 1f64.to_bits();
    rounded(t, "add", false, &[&d, &d], |[a, b, ..], mode| F64.add(a, b, mode));
    rounded(t, "sub", false, &[&d, &d], |[a, b, ..], mode| F64.add(a, b ^ F64.sign(), mode));
    rounded(t, "mul", false, &[&d, &d], |[a, b, ..], mode| F64.mul(a, b, mode));
    rounded(t, "fma", true, &[&d, &d, &d], |[a, b, c, _], mode| F64.fma(a, b, c, mode));
    rounded(t, "mad", true, &[&d, &d, &d], |[a, b, c, _], mode| F64.fma(a, b, c, mode));
    rounded(t, "div", true, &[&d, &d], |[a, b, ..], _| F64.div(a, b));
    rounded(t, "rcp", true, &[&d], |[a, ..], _| F64.div(one, a));
    rounded(t, "sqrt", true, &[&d], |[a, ..], _| F64.sqrt(a));
    signs(t, &d);
    extremes(t, &d);
    approximations(t, &d);
    refused(&[
        "fma.f64",
        "div.f64",
        "rcp.f64",
        "sqrt.f64",
        "add.sat.f64",
        "add.ftz.f64",
        "div.approx.f64",
        "abs.ftz.f64",
    ]);
    refused(&[
        "min.NaN.f64",
        "max.ftz.f64",
        "rcp.approx.f64",
        "sqrt.approx.f64",
        "ex2.approx.f64",
        "mad.f64",
        "sin.approx.f64",
    ]);
}

fn signs(t: &mut Tally, d: &Domain) {
    let sign = F64.sign();
    t.check("abs.f64", &[d], |[a, ..]| a & !sign);
    t.check("neg.f64", &[d], |[a, ..]| a ^ sign);
    t.check("copysign.f64", &[d, d], |[a, b, ..]| if F64.negative(a) { b | sign } else { b & !sign });
}

fn extremes(t: &mut Tally, d: &Domain) {
    // In the order of the values, with −0 below +0.
    let key = |v: u64| if F64.negative(v) { -i128::from(F64.magnitude(v)) - 1 } else { i128::from(v) };
    for (op, largest) in [("min.f64", false), ("max.f64", true)] {
        t.check(op, &[d, d], |[a, b, ..]| match (F64.is_nan(a), F64.is_nan(b)) {
            (true, true) => nan(&[a]),
            (true, false) => b,
            (false, true) => a,
            (false, false) if (key(a) > key(b)) == largest => a,
            (false, false) => b,
        });
    }
}

fn approximations(t: &mut Tally, d: &Domain) {
    const UPPER: u64 = 0xffff_ffff_0000_0000;
    let within = |got: u64, want: f64, bound: f64| {
        let error = (f64::from_bits(got) - want).abs();
        if error <= bound * want.abs() { Ok(()) } else { Err(format!("want {want:e} within {bound:e}")) }
    };
    let exactly = |got: u64, want: u64| if got == want { Ok(()) } else { Err(format!("want {want:#x}")) };
    // Only the upper halves count: 20 bits of fraction, so 2^-20 is one unit of the result.
    t.judge("rcp.approx.ftz.f64", &[d], |[a, ..], got| {
        let seen = F64.flush(a & UPPER);
        let sign = a & F64.sign();
        match F64.magnitude(seen) {
            _ if F64.is_nan(a) => exactly(got, nan(&[a]) & UPPER),
            0 => exactly(got, sign | F64.infinity()),
            // Beyond 2^1022 the reciprocal is subnormal, and flushed.
            m if m > 2045 << 52 => exactly(got, sign),
            _ => exactly(got & !UPPER, 0).and(within(got, 1.0 / f64::from_bits(seen), 2f64.powi(-20))),
        }
    });
    for (spelling, kept, bound) in [("rsqrt.approx.ftz.f64", UPPER, 20), ("rsqrt.approx.f64", u64::MAX, 50)] {
        t.judge(spelling, &[d], |[a, ..], got| {
            let seen = if kept == UPPER { F64.flush(a & UPPER) } else { a };
            match F64.magnitude(seen) {
                _ if F64.is_nan(a) => exactly(got, nan(&[a]) & kept),
                0 => exactly(got, (a & F64.sign()) | F64.infinity()),
                _ if F64.negative(a) => exactly(got, nan(&[])),
                m if m == F64.infinity() => exactly(got, 0),
                // Squared, and multiplied with the operand, the result is one.
                _ => exactly(got & !kept, 0).and({
                    let r = f64::from_bits(got);
                    within((f64::from_bits(seen) * r * r).to_bits(), 1.0, 2f64.powi(1 - bound))
                }),
            }
        });
    }
}

#[test]
fn all() {
    double(&mut Tally::new());
}
