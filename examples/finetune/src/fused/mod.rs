//! The four pieces of a transformer that candle's CPU computes one number at a time, or computes more of than is needed.
//!
//! Each is one pass over its operand with a backward of its own, in f32 on the CPU, and is tested against candle's composition
//! of elementary operations. What they save here is in the README; the mathematics is the usual one:
//!
//! ```text
//! gelu         y = x Φ(x)                       dx = g (Φ(x) + x φ(x))
//! softmax      p = softmax(c·s) over a prefix   ds = c·p (g − ⟨g, p⟩)
//! layer norm   y = γ x̂ + β, x̂ = (x − μ)/σ       dx = (γg − mean(γg) − x̂ mean(γg x̂))/σ
//! linear       y = W x + b, W frozen            dx = Wᵀ g; candle's matmul would also make the gradient of W
//! ```

mod gelu;
mod layer_norm;
mod linear;
mod softmax;

pub use gelu::gelu;
pub use layer_norm::LayerNorm;
pub use linear::linear;
pub use softmax::softmax;

use candle_core::{CpuStorage, Layout, Result, bail};

/// The numbers of a contiguous f32 operand.
fn values<'a>(op: &str, storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&storage.as_slice::<f32>()?[from..to]),
        None => bail!("{op}: expected a contiguous operand, found strides {:?}", layout.stride()),
    }
}

/// Lanes of a sum: a fixed number, so that the order of additions is the same on every machine.
const LANES: usize = 16;

/// Σ f(a_i, b_i) in [`LANES`] interleaved partial sums.
fn sum_pairs(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for lane in 0..LANES {
            lanes[lane] += f(a[lane], b[lane]);
        }
    }
    for (lane, (&a, &b)) in a_rest.iter().zip(b_rest).enumerate() {
        lanes[lane] += f(a, b);
    }
    lanes.iter().sum()
}

/// The greatest number of a row, in lanes; −∞ for none.
fn max(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (blocks, rest) = row.as_chunks::<LANES>();
    for block in blocks {
        for lane in 0..LANES {
            lanes[lane] = if block[lane] > lanes[lane] { block[lane] } else { lanes[lane] };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |most, &x| most.max(x))
}

/// e^x within 2 units in the last place for x ≤ 88; 0 below −87, where the result would be subnormal. NaN stays NaN.
///
/// `x = n ln 2 + r` with |r| ≤ ln 2 / 2 (Cody and Waite's two-part ln 2), e^r by its Taylor polynomial of degree 7, whose
/// remainder is below 6e-9, 2^n by the exponent bits. There is no branch and no call, so that the compiler makes lanes of a loop.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Adding 1.5·2^23 rounds to an integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = if x < -87.0 { -87.0 } else { x };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (clamped - n * LN2_HIGH) - n * LN2_LOW;
    let tail = 1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0 + r * (1.0 / 5040.0)));
    let polynomial = 1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * tail)));
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    if x < -87.0 { 0.0 } else { polynomial * power }
}

#[cfg(test)]
mod tests {
    use super::{exp, max, sum_pairs};

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        for i in -870_000..=880_000 {
            let x = i as f32 * 1e-4;
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(error <= 2.0 * f64::from(f32::EPSILON), "exp({x}) is off by {error:e}");
        }
        assert_eq!((exp(0.0), exp(-100.0), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn lanes_leave_nothing_out() {
        for count in 0..70 {
            let row: Vec<f32> = (0..count).map(|i| (i * 37 % 71) as f32).collect();
            let exact: f32 = row.iter().map(|x| x * x).sum(); // integers below 2^24: exact in any order
            assert_eq!(sum_pairs(&row, &row, |a, b| a * b), exact);
            assert_eq!(max(&row), row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
    }
}
