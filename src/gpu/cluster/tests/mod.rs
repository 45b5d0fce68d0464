//! Points, seeds, means and inertia on the virtual machine, against their definitions.

mod points;
mod seeding;

use super::points::Points;
use crate::cluster::{OP, Space};
use crate::elem::{Dtype, Elem};
use crate::gpu::Gpu;
use crate::gpu::rows::Rows;
use crate::gpu::vm::{Settings, Vm};
use crate::mat::{Mat, MatRef};
use crate::random::{Stream, Use};
use crate::reference::cluster as reference;
use half::{bf16, f16};

/// Half a unit in the last place of 1 in `f32` and `f64`.
const U32: f64 = 1.0 / (1u64 << 24) as f64;
const U64: f64 = 1.0 / (1u64 << 53) as f64;

/// Rows, columns, padding: around vectors of 4 and 8 elements, 32 of them, the points of a block and of a chunk.
const SHAPES: [(usize, usize, usize); 10] = [
    (1, 1, 0),
    (7, 3, 1),
    (8, 8, 0),
    (9, 9, 2),
    (31, 31, 1),
    (33, 256, 0),
    (32, 257, 2),
    (128, 12, 4),
    (300, 130, 1),
    (40, 516, 4),
];

/// Machines that run blocks in turn and in random orders, few and many at a time; none, said aloud, without a compiler.
fn machines() -> Vec<Vm> {
    let vm = Vm::default();
    match vm.probe() {
        Ok(()) => {
            let seeded = |(seed, resident)| Vm::new(Settings { seed: Some(seed), resident, ..Settings::default() });
            [vm].into_iter().chain([(1, 1), (2, 3), (3, 16)].map(seeded)).collect()
        }
        Err(error) if std::env::var_os("REQUIRE_NVRTC").is_some() => panic!("{error}"),
        Err(error) => {
            println!("skipped: {error}");
            Vec::new()
        }
    }
}

/// Rounded to `T`, rows padded with NaN.
struct Padded<T> {
    data: Vec<T>,
    shape: (usize, usize),
    ld: usize,
}

impl<T: Elem> Padded<T> {
    fn new(values: &Mat<f64>, pad: usize) -> Self {
        let (rows, cols) = values.shape();
        let nan = |_| T::from_f32(f32::NAN);
        let row = |i| values.row(i).iter().map(|&x| T::from_f32(x as f32)).chain((0..pad).map(nan));
        Self { data: (0..rows).flat_map(row).collect(), shape: (rows, cols), ld: cols + pad }
    }

    fn view(&self) -> MatRef<'_, T> {
        MatRef::with_ld(&self.data, self.shape.0, self.shape.1, self.ld).unwrap()
    }

    /// The points of `space` in `f64`, exactly in [`Space::Full`].
    fn points(&self, space: Space) -> Mat<f64> {
        let factor = 2f64.powi(self.exponent());
        let data = self.view().iter_rows().flatten().map(|x| f64::from(x.to_f32()) * factor).collect();
        let points = Mat::from_vec(data, self.shape.0, self.shape.1).unwrap();
        if space == Space::Direction { reference::directions(points.as_ref()) } else { points }
    }

    /// Of the power of two that brings the largest entry into `[1, 2)`.
    fn exponent(&self) -> i32 {
        let largest = self.view().iter_rows().flatten().fold(0.0f32, |max, x| max.max(x.to_f32().abs()));
        if largest == 0.0 { 0 } else { -f64::from(largest).log2().floor() as i32 }
    }

    fn upload(&self, vm: &Vm, space: Space) -> Points<Vm> {
        Points::new::<T>(vm, Rows::all(vm, OP, self.view()).unwrap(), space, self.exponent()).unwrap()
    }
}

/// Points around a few centres, every fifth a copy of an earlier one.
fn blobs(stream: &mut Stream, rows: usize, cols: usize, scale: f64) -> Mat<f64> {
    let mut w: Mat<f64> = Mat::zeros(rows, cols).unwrap();
    for i in 0..rows {
        if i % 5 == 4 {
            let copy = w.row(stream.below(i as u64) as usize).to_vec();
            w.row_mut(i).copy_from_slice(&copy);
        } else {
            let centre = (i % 3) as f64 - 1.0;
            w.row_mut(i).iter_mut().for_each(|x| *x = scale * (centre + 0.5 * stream.normal()));
        }
    }
    w
}

/// From the smallest subnormal to near the largest number of each element.
fn scales<T: Elem>() -> &'static [f64] {
    match T::DTYPE {
        Dtype::F16 => &[1.0, 3e-7, 1.5e4],
        Dtype::BF16 => &[1.0, 1e-40, 1e-38, 1e-30, 1e30, 8e37],
        Dtype::F32 => &[1.0, 3e-45, 1e-38, 1e-30, 1e30, 8e37],
    }
}

/// Every shape with matrices of every scale that this element has; rows are no zeros where directions are compared.
fn for_every_case<T: Elem>(mut property: impl FnMut(&str, &Padded<T>, Space, &mut Stream)) {
    let stream = &mut Stream::new(7, Use::Gate);
    for (case, &(rows, cols, pad)) in SHAPES.iter().enumerate() {
        let scales = scales::<T>();
        for scale in [1.0, scales[1 + case % (scales.len() - 1)]] {
            for space in [Space::Full, Space::Direction] {
                let mut values = blobs(stream, rows, cols, scale);
                for i in 0..rows {
                    match space {
                        // A direction needs an element that does not round to zero.
                        Space::Direction => values.row_mut(i)[i % cols] = scale * if i % 2 == 0 { 1.0 } else { -2.0 },
                        _ if i % 7 == 3 => values.row_mut(i).fill(0.0),
                        _ => {}
                    }
                }
                let w = Padded::<T>::new(&values, pad);
                let name = format!("{} {rows}×{cols}+{pad} times {scale:e}, {space:?}", T::DTYPE.name());
                property(&name, &w, space, stream);
            }
        }
    }
}

/// How far a squared distance may be off its exact value `Σ d²`, with `u = 2⁻²⁴`: a coordinate rounds in its factor and its
/// product (for directions; powers of two do not), a difference once more; `2⁻¹²⁵` is for coordinates that underflow. So a
/// difference is off by `δ` and its square by `2|d|δ + δ²`. The sum, here and there, rounds in `f64`.
fn distance_bound(x: &[f64], c: &[f64], space: Space) -> f64 {
    let roundings = if space == Space::Direction { 2.1 } else { 0.0 };
    let sum = 2.0 * (x.len() + 16) as f64 * U64;
    let of = |(x, c): (&f64, &f64)| {
        let d = (x - c).abs();
        let off = U32 * (roundings * (x.abs() + c.abs()) + 1.1 * d) + 2f64.powi(-125);
        2.0 * d * off + off * off + sum * d * d
    };
    x.iter().zip(c).map(of).sum()
}
