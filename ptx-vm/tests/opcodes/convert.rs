//! Conversions.

mod domains;
mod oracle;

use super::Tally;
use super::values::{Domain, floats, integers};
use oracle::{Spelling, convert as expected, integer};
use ptx_vm::isa::{Alu, Op, opcode_table};

/// The chapter: whatever `cvt` the loader accepts, against an oracle that goes by the spelling.
pub fn convert(t: &mut Tally) {
    for (_, instructions) in opcode_table() {
        for instruction in instructions {
            let spelling = instruction.spelling.as_str();
            match instruction.decoded.op {
                Op::Alu(Alu::Cvt(_)) => one_operand(t, spelling),
                Op::Alu(Alu::CvtPack(_)) => two_operands(t, spelling),
                Op::Alu(Alu::CvtPackSat(..)) => pack_sat(t, spelling),
                _ => {}
            }
        }
    }
}

fn one_operand(t: &mut Tally, spelling: &str) {
    let s = Spelling::new(spelling);
    match (s.to, s.from) {
        ("tf32", _) => scalar(t, spelling, |s, x| expected(s, x) << 13),
        ("e4m3x2" | "e5m2x2", _) => pair_of_f16(t, spelling, &s),
        ("f16x2", _) => scalar(t, spelling, |s, x| expected(s, x >> 8) << 16 | expected(s, x & 0xff)),
        _ => scalar(t, spelling, expected),
    }
}

fn scalar(t: &mut Tally, spelling: &str, result: impl Fn(&Spelling<'_>, u64) -> u64) {
    let s = Spelling::new(spelling);
    let mut operands = domains::plain(s.from);
    if integer(s.to).is_none() {
        match s.from {
            "f32" | "f64" if oracle::float(s.to).fraction < oracle::float(s.from).fraction => {
                operands.push(domains::ties(s.to, s.from, oracle::float(s.to).largest / 1000));
            }
            _ if integer(s.from).is_some() => operands.extend(domains::integer_ties(s.to, s.from)),
            _ => {}
        }
    }
    if ["f32", "f64"].contains(&s.from) {
        operands.push(domains::integer_ends(s.from));
    }
    for domain in operands {
        t.check(spelling, &[&domain], |x| result(&s, x[0]));
    }
}

/// The first operand goes to the high half.
fn two_operands(t: &mut Tally, spelling: &str) {
    let s = Spelling::new(spelling);
    let half = if s.to.starts_with('e') { 8 } else { 16 };
    let ties = domains::ties(s.to, s.from, oracle::float(s.to).largest.div_ceil(500));
    let plain = floats(8, 23);
    for [a, b] in [[&plain, &plain], [&ties, &plain], [&plain, &ties]] {
        t.check(spelling, &[a, b], |x| expected(&s, x[0]) << half | expected(&s, x[1]));
    }
}

/// Every f16 in both halves.
fn pair_of_f16(t: &mut Tally, spelling: &str, s: &Spelling<'_>) {
    for part in [0..0x8000u64, 0x8000..0x1_0000] {
        let edges = part.map(|x| x << 16 | x.wrapping_mul(0x9e37) & 0xffff).collect();
        let domain = Domain { bits: 32, edges, shape: |bits, _| bits };
        t.check(spelling, &[&domain], |x| expected(s, x[0] >> 16) << 8 | expected(s, x[0] & 0xffff));
    }
}

fn pack_sat(t: &mut Tally, spelling: &str) {
    let words: Vec<&str> = spelling.split('.').collect();
    let (bits, signed) = integer(words[3]).expect("an integer type");
    let clamp = |x: u64| {
        let (least, most) = if signed { (-1i64 << (bits - 1), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) };
        i64::from(x as i32).clamp(least, most) as u64 & ((1 << bits) - 1)
    };
    let with_c = words.len() == 6;
    let word = integers(32);
    // An operand that the spelling does not have is whatever the scratch slot holds.
    t.check(spelling, &[&word; 3], |x| {
        let c = if with_c { x[2] << (2 * bits) } else { 0 };
        (c | clamp(x[0]) << bits | clamp(x[1])) & u64::from(u32::MAX)
    });
}

#[test]
fn all() {
    convert(&mut Tally::new());
}

/// The 16-bit formats and their neighbours in f32, all of them: nearest against the `half` crate.
#[test]
fn every_tie_of_f16_and_bf16() {
    let nearest = |to, x: u64| match to {
        "f16" => u64::from(half::f16::from_f32(f32::from_bits(x as u32)).to_bits()),
        _ => u64::from(half::bf16::from_f32(f32::from_bits(x as u32)).to_bits()),
    };
    for to in ["f16", "bf16"] {
        let spelling = format!("cvt.rn.{to}.f32");
        let instruction = ptx_vm::isa::Instruction::parse(&spelling).expect("accepted");
        for x in domains::ties(to, "f32", 1).edges {
            if !f32::from_bits(x as u32).is_nan() {
                assert_eq!(instruction.eval([x, 0, 0, 0]), Some(nearest(to, x)), "{spelling} of {x:#x}");
            }
        }
    }
}
