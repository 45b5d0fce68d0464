//! Approximate functions, made a little worse on purpose.
//!
//! A GPU's approximations differ from ours in the last place, so a kernel must not lean on their bits. Half of the inexact
//! results, drawn from a seed and the operands, become the neighbour on the other side of the true value: off by less than one
//! unit in the last place, which is inside the manual's bound of every such function. The same operands give the same bits.

use super::random::Random;
use super::registers::{Registers, WARP, lanes};
use crate::alu::eval;
use crate::isa::{Alu, FloatOp};
use crate::program::Inst;

/// Is this an approximate function whose results may be moved?
pub(crate) fn applies(alu: Alu) -> bool {
    matches!(alu, Alu::F32(op, _) if exact(op, 1.0, 1.0).is_some())
}

/// Executes such a function for the lanes of `mask`.
pub(crate) fn execute(registers: &mut Registers, inst: &Inst, alu: Alu, mask: u32, seed: u64) {
    let (a, b) = (registers.source(inst, 0), registers.source(inst, 1));
    let mut results = [0; WARP];
    for lane in lanes(mask) {
        let result = eval(alu, [a[lane], b[lane], 0, 0]);
        let drawn = Random::new(seed ^ a[lane] << 32 ^ b[lane]).below(2) == 1;
        results[lane] = if drawn { other_side(alu, a[lane], b[lane], result as u32).into() } else { result };
    }
    registers.write(inst.dst[0], mask, &results);
}

/// The neighbour of a result that encloses the true value with it; an exact or special result itself.
fn other_side(alu: Alu, a: u64, b: u64, result: u32) -> u32 {
    let (a, b, value) = (f32::from_bits(a as u32), f32::from_bits(b as u32), f32::from_bits(result));
    let Alu::F32(op, mode) = alu else { return result };
    let Some(truth) = exact(op, a, b) else { return result };
    let moved = if truth > f64::from(value) { value.next_up() } else { value.next_down() };
    // Subnormal operands or results may be flushed, and saturated results are exact.
    let special = mode.sat || [a, b, value, moved].iter().any(|v| v.is_subnormal() || !v.is_finite()) || value == 0.0;
    if special || truth == f64::from(value) { result } else { moved.to_bits() }
}

/// The function, to f64's precision.
fn exact(op: FloatOp, a: f32, b: f32) -> Option<f64> {
    let (a, b) = (f64::from(a), f64::from(b));
    Some(match op {
        FloatOp::DivApprox | FloatOp::DivFull => a / b,
        FloatOp::RcpApprox => 1.0 / a,
        FloatOp::SqrtApprox => a.sqrt(),
        FloatOp::RsqrtApprox => 1.0 / a.sqrt(),
        FloatOp::SinApprox => a.sin(),
        FloatOp::CosApprox => a.cos(),
        FloatOp::Lg2Approx => a.log2(),
        FloatOp::Ex2Approx => a.exp2(),
        FloatOp::TanhApprox => a.tanh(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::FloatMode;

    #[test]
    fn results_stay_within_one_unit_of_the_truth() {
        let mut moved = 0;
        for op in
            [FloatOp::RcpApprox, FloatOp::RsqrtApprox, FloatOp::SqrtApprox, FloatOp::Ex2Approx, FloatOp::Lg2Approx]
        {
            for i in 1..2000 {
                let a = i as f32 * 0.0137;
                let alu = Alu::F32(op, FloatMode::PLAIN);
                let plain = eval(alu, [a.to_bits().into(), 0, 0, 0]) as u32;
                let other = f32::from_bits(other_side(alu, a.to_bits().into(), 0, plain));
                let unit = f64::from(other.abs().next_up()) - f64::from(other.abs());
                let error = (f64::from(other) - exact(op, a, 0.0).unwrap()).abs();
                assert!(error <= unit, "{op:?}({a}): off by {error}, a unit is {unit}");
                moved += u32::from(other.to_bits() != plain);
            }
        }
        assert!(moved > 9000, "only {moved} of 9995 moved");
    }

    #[test]
    fn exact_and_special_results_stay() {
        for (op, a) in [
            (FloatOp::RcpApprox, 4.0),
            (FloatOp::RcpApprox, 0.0),
            (FloatOp::SqrtApprox, 9.0),
            (FloatOp::Ex2Approx, f32::NEG_INFINITY),
            (FloatOp::Lg2Approx, f32::NAN),
            (FloatOp::SinApprox, 0.0),
        ] {
            let alu = Alu::F32(op, FloatMode::PLAIN);
            let plain = eval(alu, [f32::to_bits(a).into(), 0, 0, 0]) as u32;
            assert_eq!(other_side(alu, f32::to_bits(a).into(), 0, plain), plain, "{op:?}({a})");
        }
    }
}
