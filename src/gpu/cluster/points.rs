//! The points of a clustering on a device: rows of a matrix by address, each times a factor of its own.

use crate::cluster::{OP, Space};
use crate::elem::{Dtype, Elem};
use crate::error::Result;
use crate::gpu::rows::Rows;
use crate::gpu::variants::{Entry, Family, points as tile};
use crate::gpu::{Gpu, Kernel, blocks};
use crate::mat::{Mat, MatRef, zeroed};

/// `Scale` of `kernels/common/points.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Scale {
    /// A power of two.
    pub power: f32,
    pub rest: f32,
}

impl Scale {
    /// Splits a factor, positive and finite. The power stays among the normal floats, so that the first product is exact
    /// for every element that counts; the rest then takes up to `2^23`.
    fn of(factor: f64) -> Self {
        let exponent = (factor.to_bits() >> 52) as i32 - 1023;
        let power = 2f64.powi(exponent.clamp(-126, 127));
        Self { power: power as f32, rest: (factor / power) as f32 }
    }
}

/// `Shape` of `points.cu`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Shape {
    pub count: u64,
    pub dim: u64,
}

const _: () = assert!(size_of::<Scale>() == 8 && size_of::<Shape>() == tile::SHAPE);

/// Points `x_p = factor_p · w_p`, at most of order one: one power of two for all in [`Space::Full`], the inverse norms in
/// [`Space::Direction`].
///
/// Where they are computed in `f32`, `x_p = (w_p · power_p) · rest_p`, each product rounded.
pub(super) struct Points<G: Gpu> {
    pub rows: Rows<G>,
    pub dtype: Dtype,
    /// `[count]` of [`Scale`].
    pub scales: G::Buffer,
    /// `[count]` factors in `f64`.
    pub factors: G::Buffer,
    host_scales: Vec<Scale>,
    /// `‖x_p‖²`.
    pub squares: Vec<f64>,
    pub count: usize,
    pub dim: usize,
}

impl<G: Gpu> Points<G> {
    /// Takes the measured rows as points of `space`; `exponent` is the power of two for [`Space::Full`]. In
    /// [`Space::Direction`] no row is all zero: the caller has looked at `rows.host_squares`.
    pub fn new<T: Elem>(gpu: &G, rows: Rows<G>, space: Space, exponent: i32) -> Result<Self> {
        let count = rows.host_squares.len();
        let mut factors: Vec<f64> = zeroed("scale factors", count)?;
        match space {
            Space::Direction => {
                factors.iter_mut().zip(&rows.host_squares).for_each(|(factor, square)| *factor = 1.0 / square.sqrt());
            }
            Space::Full | Space::Norm => factors.fill(2f64.powi(exponent)),
        }
        let host_scales: Vec<Scale> = factors.iter().map(|&factor| Scale::of(factor)).collect();
        let squares = rows.host_squares.iter().zip(&factors).map(|(square, f)| square * f * f).collect();
        let dim = rows.cols;
        let (scales, factors) = (gpu.upload(OP, "scales", &host_scales)?, gpu.upload(OP, "factors", &factors)?);
        Ok(Self { rows, dtype: T::DTYPE, scales, factors, host_scales, squares, count, dim })
    }

    /// `‖x_p − c_label(p)‖²` of every point by differences: exactly 0 where they agree. `centroids` is `[k, dim]` in `f32`, in
    /// the units of the points; `labels` `[count]`, 32 bits, all below k.
    pub fn distances(&self, gpu: &G, centroids: &G::Buffer, labels: &G::Buffer) -> Result<Vec<f64>> {
        let mut distances = gpu.allocate::<f64>(OP, "distances", self.count)?;
        let grid = blocks(OP, self.count.div_ceil(tile::POINT_WARPS as usize))?;
        let inputs = [&self.rows.addresses, &self.scales, centroids, labels];
        let shape = self.shape();
        let kernel = self.kernel(&tile::DISTANCES)?;
        gpu.launch(&kernel, grid.into(), &inputs, &mut [&mut distances], bytemuck::bytes_of(&shape))?;
        let mut out = zeroed("distances", self.count)?;
        gpu.download(OP, &distances, &mut out)?;
        Ok(out)
    }

    /// The coordinates of point `p`, as centroids start from them and kernels compute them; `w` holds the rows.
    pub fn point<T: Elem>(&self, w: MatRef<'_, T>, p: usize) -> Result<Vec<f32>> {
        let Scale { power, rest } = self.host_scales[p];
        let mut point = zeroed("a point", self.dim)?;
        point.iter_mut().zip(w.row(p)).for_each(|(x, w)| *x = (w.to_f32() * power) * rest);
        Ok(point)
    }

    pub(super) fn kernel(&self, entry: &'static Entry) -> Result<Kernel> {
        Kernel::of(OP, Family::Points, Some(self.dtype), entry)
    }

    pub(super) fn shape(&self) -> Shape {
        Shape { count: self.count as u64, dim: self.dim as u64 }
    }
}

/// `‖factor_p · w_p − c_label(p)‖²` of every row, all of it in `f64`: exactly 0 where they agree. `factors` `[count]` in `f64`;
/// `labels` `[count]`, 32 bits, all below `centroids.rows()`.
pub(super) fn residuals<G: Gpu>(
    gpu: &G,
    (op, dtype): (&'static str, Dtype),
    rows: &Rows<G>,
    factors: &G::Buffer,
    labels: &G::Buffer,
    centroids: &Mat<f64>,
) -> Result<Vec<f64>> {
    let count = rows.host_squares.len();
    let mut out = zeroed("squared residuals", count)?;
    if count == 0 || rows.cols == 0 {
        return Ok(out); // no coordinates differ
    }
    let centroids = gpu.upload(op, "centroids", centroids.data())?;
    let mut residuals = gpu.allocate::<f64>(op, "residuals", count)?;
    let kernel = Kernel::of(op, Family::Points, Some(dtype), &tile::RESIDUALS)?;
    let grid = blocks(op, count.div_ceil(tile::POINT_WARPS as usize))?;
    let shape = Shape { count: count as u64, dim: rows.cols as u64 };
    let inputs = [&rows.addresses, factors, &centroids, labels];
    gpu.launch(&kernel, grid.into(), &inputs, &mut [&mut residuals], bytemuck::bytes_of(&shape))?;
    gpu.download(op, &residuals, &mut out)?;
    Ok(out)
}

/// Squared distance of `factor · row` from its cluster's centroid for every row, as `select` ranks them. `labels` are all below
/// the number of centroids, which have as many columns as the rows.
pub(crate) fn row_distances<G: Gpu, T: Elem>(
    gpu: &G,
    op: &'static str,
    rows: &Rows<G>,
    factors: &[f64],
    labels: &[u32],
    centroids: MatRef<'_, f32>,
) -> Result<Vec<f64>> {
    let mut wide: Mat<f64> = Mat::zeros(centroids.rows(), centroids.cols())?;
    for j in 0..centroids.rows() {
        wide.row_mut(j).iter_mut().zip(centroids.row(j)).for_each(|(to, &c)| *to = f64::from(c));
    }
    let (factors, labels) = (gpu.upload(op, "factors", factors)?, gpu.upload(op, "labels", labels)?);
    residuals(gpu, (op, T::DTYPE), rows, &factors, &labels, &wide)
}
