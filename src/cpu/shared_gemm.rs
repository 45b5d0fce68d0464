//! A layer with its components on the CPU: the layer's product in f32, rounded to the element type, then the adapter in place.
//! The input gradient is one sum in f32, of both products and what is added, rounded once.

use super::gemm::{Factor, gemm};
use super::lowrank;
use crate::elem::Elem;
use crate::error::Result;
use crate::lowrank::{Output, SavedMut};
use crate::mat::{MatMut, MatRef, zeroed};
use crate::shared_gemm::{Addend, Desc, GradOperands, Operands};
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

/// Computes `dH`; all shapes have been checked.
pub(crate) fn input_gradient<T: Elem>(operands: &GradOperands<'_, T>, dh: MatMut<'_, T>) -> Result<()> {
    let GradOperands { g, w, adapter, add } = *operands;
    let w_wide = widened(w)?;
    let w_wide = MatRef::new(&w_wide, w.rows(), w.cols())?;
    let chosen = adapter.map(|adapter| chosen_rows(w_wide, adapter.skeleton)).transpose()?;
    let blocks: Vec<_> = dh.par_row_blocks(TOKENS).enumerate().collect();
    blocks.into_par_iter().try_for_each(|(block, mut dh)| {
        let (first, tokens, cols) = (block * TOKENS, dh.rows(), w.cols());
        let of_block = first..first + tokens;
        let mut sums = zeroed("gradient", tokens.saturating_mul(cols))?;
        add_product(g.row_range(of_block.clone()), w_wide, &mut sums)?;
        if let (Some(adapter), Some(chosen)) = (adapter, &chosen) {
            let chosen = MatRef::new(chosen, adapter.skeleton.len(), cols)?;
            add_product(adapter.dx.row_range(of_block), chosen, &mut sums)?;
        }
        for (t, sums) in sums.chunks_exact_mut(cols).enumerate() {
            let more = match add {
                Addend::None => &[][..],
                Addend::Matrix(add) => add.row(first + t),
                Addend::InPlace => dh.row(t),
            };
            sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more.to_f32());
            T::narrow(sums, dh.row_mut(t));
        }
        Ok(())
    })
}

/// Rows of a matrix by number.
fn chosen_rows(w: MatRef<'_, f32>, skeleton: &[u32]) -> Result<Vec<f32>> {
    let mut chosen = zeroed("chosen rows in f32", skeleton.len().saturating_mul(w.cols()))?;
    for (&row, to) in skeleton.iter().zip(chosen.chunks_exact_mut(w.cols())) {
        to.copy_from_slice(w.row(row as usize));
    }
    Ok(chosen)
}

/// Adds `A B` to sums without padding.
fn add_product<T: Elem>(a: MatRef<'_, T>, b: MatRef<'_, f32>, sums: &mut [f32]) -> Result<()> {
    let a_wide = widened(a)?;
    let a_wide = Factor::Plain(MatRef::new(&a_wide, a.rows(), a.cols())?);
    gemm(1.0f32, a_wide, Factor::Plain(b), true, MatMut::new(sums, a.rows(), b.cols())?);
    Ok(())
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
