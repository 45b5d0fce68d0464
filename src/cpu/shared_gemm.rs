//! A layer with its components on the CPU: the layer's product in f32, rounded to the element type, then the adapter in place.

use super::gemm::{Factor, gemm};
use super::lowrank;
use crate::elem::Elem;
use crate::error::Result;
use crate::lowrank::{Output, SavedMut};
use crate::mat::{MatMut, MatRef, zeroed};
use crate::shared_gemm::{Desc, Operands};
use rayon::prelude::*;

/// Tokens of a job; fixed, so that no result depends on the number of threads.
const TOKENS: usize = 64;

/// Runs the layer; all shapes have been checked.
pub(crate) fn run<T: Elem>(
    desc: &Desc,
    operands: &Operands<'_, T>,
    mut y: MatMut<'_, T>,
    saved: Option<SavedMut<'_, T>>,
) -> Result<()> {
    let Operands { h, w, bias, adapter, dropout } = *operands;
    let adapter = adapter.filter(|_| desc.components > 0);
    let w_wide = widened(w)?;
    let w_wide = MatRef::new(&w_wide, w.rows(), w.cols())?;
    // The adapter adds the bias after its gather.
    let added = if adapter.is_some() { None } else { bias };
    let blocks: Vec<_> = y.reborrow().par_row_blocks(TOKENS).enumerate().collect();
    blocks.into_par_iter().try_for_each(|(block, y)| {
        let first = block * TOKENS;
        multiply(h.row_range(first..first + y.rows()), w_wide, added, y)
    })?;
    let Some(parameters) = adapter else { return Ok(()) };
    let operands = lowrank::Operands { h, w, bias: bias.unwrap_or(&[]), dropout };
    lowrank::forward(desc.adapter(), &parameters, operands, Output::InPlace(y), saved)
}

/// The elements of a matrix without padding, as f32.
fn widened<T: Elem>(a: MatRef<'_, T>) -> Result<Vec<f32>> {
    let mut wide = zeroed("operand in f32", a.rows().saturating_mul(a.cols()))?;
    for (row, to) in a.iter_rows().zip(wide.chunks_exact_mut(a.cols())) {
        T::widen(row, to);
    }
    Ok(wide)
}

/// `Y = H Wᵀ + b` of some tokens, rounded once.
fn multiply<T: Elem>(h: MatRef<'_, T>, w: MatRef<'_, f32>, bias: Option<&[T]>, mut y: MatMut<'_, T>) -> Result<()> {
    let (tokens, rows) = (y.rows(), w.rows());
    let h_wide = widened(h)?;
    let mut product = zeroed("product", tokens.saturating_mul(rows))?;
    let h_wide = Factor::Plain(MatRef::new(&h_wide, tokens, h.cols())?);
    gemm(1.0f32, h_wide, Factor::Transposed(w), false, MatMut::new(&mut product, tokens, rows)?);
    for (t, sums) in product.chunks_exact_mut(rows).enumerate() {
        if let Some(bias) = bias {
            sums.iter_mut().zip(bias).for_each(|(sum, b)| *sum += b.to_f32());
        }
        T::narrow(sums, y.row_mut(t));
    }
    Ok(())
}
