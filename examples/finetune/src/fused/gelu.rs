//! GELU, the exact one with the error function.

use super::{exp, values};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};

/// `x Φ(x)`, Φ the normal distribution's, within 2e-7·(1 + |x|).
///
/// # Errors
/// candle's, for anything but f32 on the CPU.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Forward)
}

struct Forward;
struct Backward;

/// Φ(x) and e^(−x²/2). Abramowitz and Stegun 7.1.26: |error| of Φ ≤ 7.5e-8.
#[inline(always)]
fn normal(x: f32) -> (f32, f32) {
    const P: f32 = 0.327_591_1;
    const A: [f32; 5] = [0.254_829_6, -0.284_496_74, 1.421_413_7, -1.453_152, 1.061_405_4];
    let t = 1.0 / (1.0 + P * std::f32::consts::FRAC_1_SQRT_2 * x.abs());
    let e = exp(-0.5 * x * x);
    let tail = 0.5 * e * t * (A[0] + t * (A[1] + t * (A[2] + t * (A[3] + t * A[4]))));
    (if x < 0.0 { tail } else { 1.0 - tail }, e)
}

impl CustomOp1 for Forward {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values(self.name(), storage, layout)?;
        let y = x.iter().map(|&x| x * normal(x).0).collect();
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        x.apply_op2_no_bwd(&gradient.contiguous()?, &Backward).map(Some)
    }
}

impl CustomOp2 for Backward {
    fn name(&self) -> &'static str {
        "gelu backward"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        /// 1/√(2π)
        const DENSITY: f32 = 0.398_942_3;
        let (x, gradient) = (values(self.name(), s1, l1)?, values(self.name(), s2, l2)?);
        let slope = |x: f32| {
            let (distribution, e) = normal(x);
            distribution + x * DENSITY * e
        };
        let dx = x.iter().zip(gradient).map(|(&x, &g)| g * slope(x)).collect();
        Ok((CpuStorage::F32(dx), l1.shape().clone()))
    }
}
