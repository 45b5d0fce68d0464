//! Norms on a device: `kernels/norms.cu`.

use super::variants::{Element, Family, norms as tile};
use super::{Gpu, Kernel, blocks};
use crate::elem::Elem;
use crate::error::{Error, Result};
use crate::mat::MatRef;
use crate::norms::Axis;

/// `Shape` of `norms.cu`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Shape {
    pub rows: u64,
    pub cols: u64,
    pub ld: u64,
}

const _: () = assert!(size_of::<Shape>() == tile::SCALARS);

/// No element is NaN or infinite.
pub(super) const NONE: u64 = u64::MAX;

/// Writes the norm of every row or column to `out`, whose length is the number of them.
///
/// # Errors
/// [`Error::NonFinite`] for the first NaN or infinity of `w`, row by row; `out` is then unchanged. What [`Gpu`] refuses.
pub(crate) fn norms<G: Gpu, T: Elem>(
    gpu: &G,
    op: &'static str,
    w: MatRef<'_, T>,
    axis: Axis,
    out: &mut [f32],
) -> Result<()> {
    let (rows, cols) = w.shape();
    if rows == 0 || cols == 0 {
        out.fill(0.0); // the norm of no elements
        return Ok(());
    }
    let kernel = |entry| Kernel::of(op, Family::Norms, Some(T::DTYPE), entry);
    let shape = Shape { rows: rows as u64, cols: cols as u64, ld: w.ld() as u64 };
    let scalars = bytemuck::bytes_of(&shape);

    let input = gpu.upload(op, "w", w.data())?;
    let mut offender = gpu.upload(op, "offender", &[NONE])?;
    let mut norms = gpu.allocate::<f32>(op, "norms", out.len())?;
    match axis {
        Axis::Rows => {
            let grid = blocks(op, rows.div_ceil(tile::ROW_WARPS as usize))?;
            gpu.launch(&kernel(&tile::ROWS)?, grid.into(), &[&input], &mut [&mut norms, &mut offender], scalars)?;
        }
        Axis::Cols => {
            let chunks = rows.div_ceil(tile::CHUNK_ROWS as usize);
            let tiles = cols.div_ceil(tile::tile_columns(Element::from(T::DTYPE)));
            let grid = blocks(op, chunks.saturating_mul(tiles))?;
            let mut partial = gpu.allocate::<f32>(op, "partial", chunks.saturating_mul(cols))?;
            gpu.launch(&kernel(&tile::COLUMNS)?, grid.into(), &[&input], &mut [&mut partial, &mut offender], scalars)?;
            let grid = blocks(op, cols.div_ceil(tile::FINISH_THREADS as usize))?;
            gpu.launch(&kernel(&tile::COLUMNS_FINISH)?, grid.into(), &[&partial], &mut [&mut norms], scalars)?;
        }
    }
    let mut first = [NONE];
    gpu.download(op, &offender, &mut first)?;
    if first[0] != NONE {
        let (row, col) = ((first[0] / shape.cols) as usize, (first[0] % shape.cols) as usize);
        return Err(Error::NonFinite { op, operand: "w".to_owned(), row, col, value: w.row(row)[col].to_f32() });
    }
    gpu.download(op, &norms, out)
}
