//! Row-major matrices: borrowed views with a leading dimension, and one owned type.
//!
//! A view proves once, by checked arithmetic, that `(rows − 1)·ld + cols` elements are there; everything after that
//! indexes rows without further thought. Elements between `cols` and `ld` are padding: never read, never written.

use crate::error::{Error, Result};
use rayon::prelude::*;

/// Elements that a `[rows, cols]` view with leading dimension `ld` spans, or `None` on overflow.
fn span(rows: usize, cols: usize, ld: usize) -> Option<usize> {
    match rows.checked_sub(1) {
        None => Some(0),
        Some(full) => full.checked_mul(ld)?.checked_add(cols),
    }
}

pub(crate) fn check(len: usize, rows: usize, cols: usize, ld: usize) -> Result<usize> {
    if ld < cols {
        return Err(Error::shape("matrix view", "ld", format!("at least cols = {cols}"), format!("{ld}")));
    }
    let need = span(rows, cols, ld).ok_or(Error::OutOfMemory {
        op: "matrix view",
        what: "a view whose size overflows",
        bytes: usize::MAX,
    })?;
    if len < need {
        return Err(Error::shape(
            "matrix view",
            "data",
            format!("at least {need} elements for [{rows}, {cols}] with ld {ld}"),
            format!("{len} elements"),
        ));
    }
    Ok(need)
}

/// A borrowed row-major matrix `[rows, cols]` whose rows start `ld` elements apart.
#[derive(Clone, Copy, Debug)]
pub struct MatRef<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    ld: usize,
}

impl<'a, T> MatRef<'a, T> {
    /// A contiguous view of the first `rows·cols` elements.
    ///
    /// # Errors
    /// [`Error::Shape`] if `data` is too short, [`Error::OutOfMemory`] if the size overflows.
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Result<Self> {
        Self::with_ld(data, rows, cols, cols)
    }

    /// A view whose rows start `ld ≥ cols` elements apart.
    ///
    /// # Errors
    /// [`Error::Shape`] if `ld < cols` or `data` is too short, [`Error::OutOfMemory`] if the size overflows.
    pub fn with_ld(data: &'a [T], rows: usize, cols: usize, ld: usize) -> Result<Self> {
        let need = check(data.len(), rows, cols, ld)?;
        Ok(Self { data: &data[..need], rows, cols, ld })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Elements between the starts of two rows.
    pub fn ld(&self) -> usize {
        self.ld
    }

    /// `(rows, cols)`.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    /// Row `i`. Panics if `i ≥ rows`, as indexing a slice does.
    #[inline]
    pub fn row(&self, i: usize) -> &'a [T] {
        assert!(i < self.rows, "row {i} of {}", self.rows);
        &self.data[i * self.ld..][..self.cols]
    }

    /// Rows `range` as a view of their own. Panics if the range leaves the matrix, as slicing does.
    pub fn row_range(&self, range: std::ops::Range<usize>) -> MatRef<'a, T> {
        assert!(range.start <= range.end && range.end <= self.rows, "rows {range:?} of {}", self.rows);
        let rows = range.len();
        let data = if rows == 0 {
            &self.data[..0]
        } else {
            &self.data[range.start * self.ld..(range.end - 1) * self.ld + self.cols]
        };
        MatRef { data, rows, cols: self.cols, ld: self.ld }
    }

    /// The rows from first to last.
    pub fn iter_rows(&self) -> impl ExactSizeIterator<Item = &'a [T]> + use<'a, T> {
        let (data, cols, ld) = (self.data, self.cols, self.ld);
        (0..self.rows).map(move |i| &data[i * ld..][..cols])
    }

    /// The whole matrix as one slice, where there is no padding.
    pub fn as_contiguous(&self) -> Option<&'a [T]> {
        (self.ld == self.cols || self.rows <= 1).then_some(self.data)
    }

    /// The spanned elements, padding included (the last row has none).
    pub fn data(&self) -> &'a [T] {
        self.data
    }
}

/// A borrowed, writable row-major matrix `[rows, cols]` whose rows start `ld` elements apart.
#[derive(Debug)]
pub struct MatMut<'a, T> {
    data: &'a mut [T],
    rows: usize,
    cols: usize,
    ld: usize,
}

impl<'a, T> MatMut<'a, T> {
    /// A contiguous view of the first `rows·cols` elements.
    ///
    /// # Errors
    /// [`Error::Shape`] if `data` is too short, [`Error::OutOfMemory`] if the size overflows.
    pub fn new(data: &'a mut [T], rows: usize, cols: usize) -> Result<Self> {
        Self::with_ld(data, rows, cols, cols)
    }

    /// A view whose rows start `ld ≥ cols` elements apart.
    ///
    /// # Errors
    /// [`Error::Shape`] if `ld < cols` or `data` is too short, [`Error::OutOfMemory`] if the size overflows.
    pub fn with_ld(data: &'a mut [T], rows: usize, cols: usize, ld: usize) -> Result<Self> {
        let need = check(data.len(), rows, cols, ld)?;
        Ok(Self { data: &mut data[..need], rows, cols, ld })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Elements between the starts of two rows.
    pub fn ld(&self) -> usize {
        self.ld
    }

    /// `(rows, cols)`.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    /// Row `i`. Panics if `i ≥ rows`, as indexing a slice does.
    #[inline]
    pub fn row(&self, i: usize) -> &[T] {
        assert!(i < self.rows, "row {i} of {}", self.rows);
        &self.data[i * self.ld..][..self.cols]
    }

    /// Row `i`, writable. Panics if `i ≥ rows`, as indexing a slice does.
    #[inline]
    pub fn row_mut(&mut self, i: usize) -> &mut [T] {
        assert!(i < self.rows, "row {i} of {}", self.rows);
        &mut self.data[i * self.ld..][..self.cols]
    }

    /// A read-only view of the same matrix.
    pub fn as_ref(&self) -> MatRef<'_, T> {
        MatRef { data: self.data, rows: self.rows, cols: self.cols, ld: self.ld }
    }

    /// The same view for a shorter while.
    pub fn reborrow(&mut self) -> MatMut<'_, T> {
        MatMut { data: self.data, rows: self.rows, cols: self.cols, ld: self.ld }
    }

    /// Blocks of `size` consecutive rows (the last may be shorter), to be written in parallel.
    pub fn par_row_blocks(self, size: usize) -> impl IndexedParallelIterator<Item = MatMut<'a, T>>
    where
        T: Send,
    {
        let (cols, ld) = (self.cols, self.ld);
        // A matrix without columns has no elements to hand out, whatever its rows.
        self.data.par_chunks_mut((ld * size).max(1)).map(move |data| {
            let rows = (data.len().saturating_sub(cols)) / ld.max(1) + 1;
            MatMut { data, rows, cols, ld }
        })
    }

    /// The spanned elements, padding included (the last row has none).
    pub fn data_mut(&mut self) -> &mut [T] {
        self.data
    }
}

/// An owned, contiguous row-major matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Mat<T> {
    data: Vec<T>,
    rows: usize,
    cols: usize,
}

impl<T: Clone + Default> Mat<T> {
    /// A `[rows, cols]` matrix of `T::default()`.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if the size overflows or the allocator refuses.
    pub fn zeros(rows: usize, cols: usize) -> Result<Self> {
        let data = zeroed("matrix", rows.saturating_mul(cols))?;
        Ok(Self { data, rows, cols })
    }
}

/// A vector of `len` default values, or [`Error::OutOfMemory`] instead of an abort.
pub(crate) fn zeroed<T: Clone + Default>(what: &'static str, len: usize) -> Result<Vec<T>> {
    let mut data = Vec::new();
    data.try_reserve_exact(len).map_err(|_| Error::OutOfMemory {
        op: "allocation",
        what,
        bytes: len.saturating_mul(size_of::<T>()),
    })?;
    data.resize(len, T::default());
    Ok(data)
}

impl<T> Mat<T> {
    /// Takes `data` as `[rows, cols]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `data` does not hold exactly `rows·cols` elements.
    pub fn from_vec(data: Vec<T>, rows: usize, cols: usize) -> Result<Self> {
        if Some(data.len()) != rows.checked_mul(cols) {
            return Err(Error::shape(
                "matrix",
                "data",
                format!("exactly [{rows}, {cols}] elements"),
                format!("{} elements", data.len()),
            ));
        }
        Ok(Self { data, rows, cols })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// `(rows, cols)`.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    /// Row `i`. Panics if `i ≥ rows`, as indexing a slice does.
    pub fn row(&self, i: usize) -> &[T] {
        &self.data[i * self.cols..][..self.cols]
    }

    /// Row `i`, writable. Panics if `i ≥ rows`, as indexing a slice does.
    pub fn row_mut(&mut self, i: usize) -> &mut [T] {
        &mut self.data[i * self.cols..][..self.cols]
    }

    /// All elements, row by row.
    pub fn data(&self) -> &[T] {
        &self.data
    }

    /// All elements, row by row, writable.
    pub fn data_mut(&mut self) -> &mut [T] {
        &mut self.data
    }

    /// The elements, row by row, given away.
    pub fn into_vec(self) -> Vec<T> {
        self.data
    }

    /// A view of the whole matrix.
    pub fn as_ref(&self) -> MatRef<'_, T> {
        MatRef { data: &self.data, rows: self.rows, cols: self.cols, ld: self.cols }
    }

    /// A writable view of the whole matrix.
    pub fn as_mut(&mut self) -> MatMut<'_, T> {
        MatMut { data: &mut self.data, rows: self.rows, cols: self.cols, ld: self.cols }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_need_exactly_their_span() {
        let data = [0.0f32; 11];
        assert!(MatRef::with_ld(&data, 3, 3, 4).is_ok(), "the last row needs no padding");
        assert!(MatRef::with_ld(&data, 3, 4, 4).is_err());
        assert!(MatRef::with_ld(&data, 2, 5, 4).is_err(), "ld below cols");
        assert!(MatRef::<f32>::with_ld(&[], 0, 7, 9).is_ok(), "no rows, no elements");
        assert!(MatRef::with_ld(&data, usize::MAX, 3, 4).is_err());
        assert!(Mat::<f32>::zeros(usize::MAX / 2, 3).is_err());
    }

    #[test]
    fn parallel_blocks_cover_every_row_once() {
        for (rows, cols, ld, size) in [(7, 3, 5, 2), (6, 3, 3, 2), (1, 4, 9, 3), (5, 2, 2, 8), (0, 3, 3, 2)] {
            let mut data = vec![0; span(rows, cols, ld).unwrap()];
            let view = MatMut::with_ld(&mut data, rows, cols, ld).unwrap();
            view.par_row_blocks(size).enumerate().for_each(|(block, mut part)| {
                assert!(part.rows() <= size);
                for i in 0..part.rows() {
                    part.row_mut(i).fill(block * size + i + 1);
                }
            });
            let view = MatRef::with_ld(&data, rows, cols, ld).unwrap();
            for i in 0..rows {
                assert!(view.row(i).iter().all(|&x| x == i + 1));
            }
            let written = data.iter().filter(|&&x| x != 0).count();
            assert_eq!(written, rows * cols, "padding stays untouched");
        }
    }
}
