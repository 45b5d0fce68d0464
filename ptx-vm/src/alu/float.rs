//! f32 and f64.
//!
//! An f32 result that is NaN is `0x7fffffff`, as NVIDIA's hardware makes it; payloads are not kept (manual 9.7.3). An f64
//! result that is NaN is the first NaN operand, quieted, or without one `0xfff8000000000000`, CUDA's own f64 NaN. `abs`, `neg`
//! and `copysign` move nothing but the sign bit.

mod approximate;
mod directed;
mod double;
mod single;

use crate::isa::{FloatMode, FloatOp};

/// `.f32`, on bits.
#[inline(always)]
pub(crate) fn eval_f32(op: FloatOp, mode: FloatMode, x: [u32; 4]) -> u32 {
    single::eval(op, mode, x)
}

/// `.f64`, on bits.
#[inline(always)]
pub(crate) fn eval_f64(op: FloatOp, mode: FloatMode, x: [u64; 4]) -> u64 {
    double::eval(op, mode, x)
}
