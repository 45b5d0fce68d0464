//! Rows of matrices on a device, by address: what set-up kernels read, whichever matrices the rows lie in.

use super::norms::{NONE, Shape};
use super::variants::{Family, norms as tile};
use super::{Gpu, Kernel, blocks};
use crate::elem::{Dtype, Elem};
use crate::error::{Error, Result};
use crate::mat::MatRef;

/// Rows of one length, uploaded and measured.
pub(crate) struct Rows<G: Gpu> {
    /// What the addresses lie in.
    _matrices: Vec<G::Buffer>,
    /// `[count]` addresses, 64 bits each.
    pub addresses: G::Buffer,
    /// `[count]` squared norms in `f64`, on the device and here: exact but for `n/32 + 15` roundings of the sum.
    pub squares: G::Buffer,
    pub host_squares: Vec<f64>,
    pub cols: usize,
}

impl<G: Gpu> Rows<G> {
    /// All rows of a matrix.
    ///
    /// # Errors
    /// As [`Rows::upload`].
    pub fn all<T: Elem>(gpu: &G, op: &'static str, w: MatRef<'_, T>) -> Result<Self> {
        let mut all: Vec<u32> = crate::mat::zeroed("row numbers", w.rows())?;
        all.iter_mut().zip(0..).for_each(|(row, i)| *row = i);
        Self::upload(gpu, op, &[(w, &all)])
    }

    /// The given rows of every matrix, one after another. All have as many columns as the first, and every row number is in
    /// its matrix.
    ///
    /// # Errors
    /// [`Error::NonFinite`] for the first NaN or infinity of those rows, in their order; what [`Gpu`] refuses.
    pub fn upload<T: Elem>(gpu: &G, op: &'static str, parts: &[(MatRef<'_, T>, &[u32])]) -> Result<Self> {
        let cols = parts.first().map_or(0, |(w, _)| w.cols());
        let count = parts.iter().map(|(_, rows)| rows.len()).sum();
        let mut addresses: Vec<u64> = Vec::with_capacity(count);
        let mut matrices = Vec::with_capacity(parts.len());
        for (w, rows) in parts {
            let matrix = gpu.upload(op, "w", w.data())?;
            let (base, stride) = (gpu.address(&matrix), (w.ld() * size_of::<T>()) as u64);
            addresses.extend(rows.iter().map(|&row| base + u64::from(row) * stride));
            matrices.push(matrix);
        }
        let (mut rows, offender) = Self::measured(gpu, op, T::DTYPE, matrices, &addresses, cols)?;
        if let Some(offender) = offender {
            let mut first = [NONE];
            gpu.download(op, &offender, &mut first)?;
            if first[0] != NONE {
                return Err(non_finite(op, parts, first[0] as usize / cols, first[0] as usize % cols));
            }
            gpu.download(op, &rows.squares, &mut rows.host_squares)?;
        }
        Ok(rows)
    }

    /// All rows of a matrix `(rows, cols, ld)` that is on the device and holds finite numbers. Nothing is read back: there are
    /// no squares here.
    ///
    /// # Errors
    /// What [`Gpu`] refuses.
    pub fn resident(
        gpu: &G,
        op: &'static str,
        dtype: Dtype,
        matrix: G::Buffer,
        (count, cols, ld): (usize, usize, usize),
    ) -> Result<Self> {
        let (base, stride) = (gpu.address(&matrix), (ld * dtype.size()) as u64);
        let addresses: Vec<u64> = (0..count as u64).map(|row| base + row * stride).collect();
        let (rows, _) = Self::measured(gpu, op, dtype, vec![matrix], &addresses, cols)?;
        Ok(Self { host_squares: Vec::new(), ..rows })
    }

    /// Rows whose squared norms are on the device, but not yet here, and the first element that is not finite. Nothing is
    /// launched for no elements.
    fn measured(
        gpu: &G,
        op: &'static str,
        dtype: Dtype,
        matrices: Vec<G::Buffer>,
        addresses: &[u64],
        cols: usize,
    ) -> Result<(Self, Option<G::Buffer>)> {
        let count = addresses.len();
        let addresses = gpu.upload(op, "rows", addresses)?;
        let mut squares = gpu.zeroed::<f64>(op, "squares", count)?;
        let mut found = None;
        if count > 0 && cols > 0 {
            let mut offender = gpu.upload(op, "offender", &[NONE])?;
            let kernel = Kernel::of(op, Family::Norms, Some(dtype), &tile::ROW_SQUARES)?;
            let shape = Shape { rows: count as u64, cols: cols as u64, ld: 0 };
            let grid = blocks(op, count.div_ceil(tile::ROW_WARPS as usize))?;
            let outputs = &mut [&mut squares, &mut offender];
            gpu.launch(&kernel, grid.into(), &[&addresses], outputs, bytemuck::bytes_of(&shape))?;
            found = Some(offender);
        }
        let host_squares = crate::mat::zeroed("squared norms", count)?;
        Ok((Self { _matrices: matrices, addresses, squares, host_squares, cols }, found))
    }
}

/// Names an element by its place in the list of rows; where there are several matrices, they are `w[0]`, `w[1]` and so on.
fn non_finite<T: Elem>(op: &'static str, parts: &[(MatRef<'_, T>, &[u32])], place: usize, col: usize) -> Error {
    let listed = parts.iter().enumerate().flat_map(|(m, (w, rows))| rows.iter().map(move |&row| (m, w, row as usize)));
    let (matrix, row, value) = match { listed }.nth(place) {
        Some((matrix, w, row)) => (matrix, row, w.row(row)[col].to_f32()),
        None => (0, place, f32::NAN),
    };
    let operand = if parts.len() == 1 { "w".to_owned() } else { format!("w[{matrix}]") };
    Error::NonFinite { op, operand, row, col, value }
}
