//! What is measured of the points: whether they are finite and how large they are; and the coding that goes by it.

use super::codes::{Coded, encode};
use super::vectorized;
use crate::elem::Elem;
use crate::error::Result;
use crate::mat::{MatRef, zeroed};
use pulp::Arch;
use rayon::prelude::*;

/// Points per task.
const TASK: usize = 64;
/// Independent sums: enough to cover the latency of additions.
const LANES: usize = 16;
/// Elements that stay in the first cache between measuring and widening.
const STRIP: usize = 1024;

/// What one pass over `W` tells about its rows.
pub(super) struct Measure {
    /// `‖w_p‖²`; every square of an `f32` fits in `f64`.
    pub(super) squares: Vec<f64>,
    /// The largest magnitude; infinite or NaN if any entry is.
    pub(super) max: f32,
}

impl Measure {
    /// Measures the rows of `w`.
    pub(super) fn of<T: Elem>(arch: Arch, w: MatRef<'_, T>) -> Result<Self> {
        let mut squares: Vec<f64> = zeroed("squared norms", w.rows())?;
        let max = (squares.par_chunks_mut(TASK).enumerate())
            .map(|(task, squares)| {
                let mut max = Max::default();
                for (i, square) in squares.iter_mut().enumerate() {
                    *square = measure(arch, w.row(task * TASK + i), &mut max);
                }
                max.0
            })
            .reduce(|| 0, u32::max);
        Ok(Self { squares, max: f32::from_bits(max) })
    }
}

/// Codes one vector after measuring it.
pub(super) fn measure_and_code(arch: Arch, x: &[f32], codes: &mut [i16]) -> Result<Coded> {
    let mut max = Max::default();
    let square = measure(arch, x, &mut max);
    code(arch, x, f32::from_bits(max.0), square, codes)
}

/// Codes `x`, whose largest magnitude is `max` and whose squared norm `square`.
fn code(arch: Arch, x: &[f32], max: f32, square: f64, codes: &mut [i16]) -> Result<Coded> {
    const SCALABLE: std::ops::Range<f32> = 1e-30..1e30;
    if max == 0.0 || SCALABLE.contains(&max) || !max.is_finite() {
        return Ok(encode(arch, x, max, square, codes));
    }
    // The reciprocal of a code's unit would leave the range of `f32`: bring the vector to order one first.
    let mut scaled: Vec<f32> = zeroed("a scaled row", x.len())?;
    scaled.iter_mut().zip(x).for_each(|(to, &x)| *to = (f64::from(x) / f64::from(max)) as f32);
    let max = f64::from(max);
    let coded = encode(arch, &scaled, 1.0, square / (max * max), codes);
    Ok(coded.times(max))
}

/// The bit pattern of the largest magnitude: their order is that of the magnitudes, NaN last.
#[derive(Default)]
struct Max(u32);

/// `‖row‖²`; `max` collects the magnitudes.
fn measure<T: Elem>(arch: Arch, row: &[T], max: &mut Max) -> f64 {
    vectorized(
        arch,
        #[inline(always)]
        || {
            let mut scratch = [0.0f32; STRIP];
            let mut sums = [0.0f64; LANES];
            for part in row.chunks(STRIP) {
                let x = match T::as_f32(part) {
                    Some(x) => x,
                    None => {
                        T::widen(part, &mut scratch[..part.len()]);
                        &scratch[..part.len()]
                    }
                };
                // Loops apart: mixed, integers and floating point keep each other from being vectorised.
                max.0 = x.iter().fold(max.0, |max, x| max.max(x.to_bits() & 0x7fff_ffff));
                let (body, tail) = x.as_chunks::<LANES>();
                for v in body {
                    for lane in 0..LANES {
                        sums[lane] += f64::from(v[lane]) * f64::from(v[lane]);
                    }
                }
                for (lane, v) in tail.iter().enumerate() {
                    sums[lane] += f64::from(*v) * f64::from(*v);
                }
            }
            sums.iter().sum()
        },
    )
}
