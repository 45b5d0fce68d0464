//! Operands where conversions go wrong: every value of a narrow type, the middles between values of the result's type and
//! their neighbours, the ends of integer ranges.

use super::super::half::{every_16_bits, exact::Format};
use super::super::values::{Domain, floats, integers};
use super::oracle::{float, integer};

/// For an operand type, apart from what the result type adds.
pub fn plain(from: &str) -> Vec<Domain> {
    match (from, integer(from)) {
        ("f16" | "bf16" | "u16" | "s16" | "e4m3x2" | "e5m2x2", _) => every_16_bits().into(),
        (_, Some((8, _))) => vec![Domain { bits: 8, edges: (0..256).collect(), shape: |bits, _| bits >> 30 }],
        (_, Some((bits, _))) => vec![integers(bits)],
        ("f32", _) => vec![floats(8, 23)],
        ("f64", _) => vec![floats(11, 52)],
        _ => panic!("no operands of type {from}"),
    }
}

/// Both signs of doubles, in the operand's type, with their neighbours.
fn around(from: &str, values: impl Iterator<Item = f64>) -> Domain {
    let (bits, sign) = if from == "f64" { (64, 1 << 63) } else { (32, 1 << 31) };
    let narrow = |x: f64| if from == "f64" { x.to_bits() } else { u64::from((x as f32).to_bits()) };
    let edges = values.flat_map(|x| {
        let middle = narrow(x);
        [middle.saturating_sub(1), middle, middle + 1].into_iter().flat_map(move |m| [m, m | sign])
    });
    let plain = floats(8, 23);
    Domain { bits, edges: edges.collect(), shape: plain.shape }
}

/// Middles of the result's type, spread over all its exponents.
pub fn ties(to: &str, from: &str, step: u64) -> Domain {
    let format = float(to);
    let value = move |bits: u64| {
        let (m, e) = format.value(bits);
        m as f64 * 2f64.powi(e / 2) * 2f64.powi(e - e / 2)
    };
    let some = (0..format.largest + 2).step_by(step as usize);
    around(from, some.map(move |bits| value(bits) / 2.0 + value(bits + 1) / 2.0))
}

/// Integers in the middle between two values of the result's type, and beside it.
pub fn integer_ties(to: &str, from: &str) -> Option<Domain> {
    let Format { fraction, .. } = float(to);
    let (bits, _) = integer(from)?;
    let places = (fraction + 2..=bits).map(|width| width - fraction - 2);
    let significands = [1, 3, 5, (1 << fraction) - 1].map(|low| (1u64 << (fraction + 1)) + low);
    let middles: Vec<u64> =
        places.flat_map(|places| significands.map(|m| m.checked_shl(places).unwrap_or(0))).collect();
    let mask = u64::MAX >> (64 - bits);
    let near = middles.iter().flat_map(|m| [m - 1, *m, m + 1]);
    let edges: Vec<u64> = near.flat_map(|m| [m & mask, m.wrapping_neg() & mask]).collect();
    (!edges.is_empty()).then(|| Domain { bits, edges, shape: integers(bits).shape })
}

/// Halves, and the ends of every integer type.
pub fn integer_ends(from: &str) -> Domain {
    let halves = (0..40).map(|i| f64::from(i) / 4.0);
    let powers = (3..66).flat_map(|i| [-0.5, 0.0, 0.5, 1.0, 1.5].map(|offset| 2f64.powi(i) + offset));
    around(from, halves.chain(powers))
}
