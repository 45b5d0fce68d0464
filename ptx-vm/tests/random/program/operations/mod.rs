//! What the generator knows of arithmetic: spellings beside their meaning in plain Rust, written from the PTX manual.
//!
//! Where the manual leaves a result open (integer division by zero, the payload of a NaN passed through), the operation or
//! the operand is left out.

mod convert;
mod float;
mod integer;
mod long;
mod memory;
mod word;

pub use memory::{ATOMICS, REDUCTIONS, TOTALS};

use super::tree::Class;

/// A pure operation.
pub struct Pure {
    /// The spelling with its modifiers; or, if it contains `$`, a template in which `$g` stands for the guard, `$d` for the
    /// destination, `$a` to `$d` in this order for the sources.
    pub text: &'static str,
    pub result: Class,
    pub sources: &'static [Class],
    /// The last source is a constant other than 0.
    pub divides: bool,
    /// Of register contents; bits above the result's class do not matter.
    pub meaning: fn([u64; 4]) -> u64,
}

const fn pure(text: &'static str, result: Class, sources: &'static [Class], meaning: fn([u64; 4]) -> u64) -> Pure {
    Pure { text, result, sources, divides: false, meaning }
}

const fn divides(text: &'static str, result: Class, sources: &'static [Class], meaning: fn([u64; 4]) -> u64) -> Pure {
    Pure { text, result, sources, divides: true, meaning }
}

/// Every operation, by kind.
pub fn operations() -> [&'static [Pure]; 5] {
    [word::OPERATIONS, float::OPERATIONS, integer::OPERATIONS, long::OPERATIONS, convert::OPERATIONS]
}

const fn w(x: u64) -> u32 {
    x as u32
}

const fn s(x: u64) -> i32 {
    x as i32
}

/// Bits `from .. from + len` of a number `width` bits wide, extended with its sign or 0 (`bfe`).
fn extract(x: u64, from: u64, len: u64, width: u64, signed: bool) -> u64 {
    let (from, len) = (from & 0xff, len & 0xff);
    let bit = |i: u64| x >> i & 1;
    let sign = if signed && len > 0 { bit((from + len - 1).min(width - 1)) } else { 0 };
    let of = |i: u64| if i < len && from + i < width { bit(from + i) } else { sign };
    (0..width).fold(0, |d, i| d | of(i) << i)
}

/// `b` with the low `len` bits of `a` at `at` (`bfi`).
fn insert(a: u64, b: u64, at: u64, len: u64, width: u64) -> u64 {
    let (at, len) = (at & 0xff, len & 0xff);
    (0..len).filter(|i| at + i < width).fold(b, |d, i| d & !(1 << (at + i)) | (a >> i & 1) << (at + i))
}
