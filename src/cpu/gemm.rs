//! The one door to the `gemm` crate: shapes checked, everything else safe code.
#![allow(unsafe_code)]

use crate::mat::{MatMut, MatRef};

/// Scalars that the `gemm` crate multiplies natively.
pub(crate) trait Scalar: Copy + 'static {
    const ONE: Self;
}

impl Scalar for f32 {
    const ONE: Self = 1.0;
}

impl Scalar for f64 {
    const ONE: Self = 1.0;
}

/// A factor of a product, as it is or transposed.
#[derive(Clone, Copy)]
pub(crate) enum Factor<'a, T> {
    Plain(MatRef<'a, T>),
    Transposed(MatRef<'a, T>),
}

impl<T> Factor<'_, T> {
    fn shape(&self) -> (usize, usize) {
        match self {
            Self::Plain(a) => a.shape(),
            Self::Transposed(a) => (a.cols(), a.rows()),
        }
    }

    /// Pointer, row stride, column stride.
    fn parts(&self) -> (*const T, isize, isize) {
        match self {
            Self::Plain(a) => (a.data().as_ptr(), a.ld() as isize, 1),
            Self::Transposed(a) => (a.data().as_ptr(), 1, a.ld() as isize),
        }
    }
}

/// `C ← alpha·A·B`, or `C ← C + alpha·A·B` with `accumulate`; on the calling thread, so that the bits do not depend on
/// the number of threads. Split the rows of `C` into blocks of a fixed size to run in parallel.
///
/// Panics if the shapes do not fit: callers have checked their operands by then.
pub(crate) fn gemm<T: Scalar>(alpha: T, a: Factor<'_, T>, b: Factor<'_, T>, accumulate: bool, mut c: MatMut<'_, T>) {
    let (m, n) = c.shape();
    let k = a.shape().1;
    assert_eq!(a.shape(), (m, k), "left factor");
    assert_eq!(b.shape(), (k, n), "right factor");
    let c_stride = c.ld() as isize;
    let ((a_ptr, a_row, a_col), (b_ptr, b_row, b_col)) = (a.parts(), b.parts());
    // SAFETY: every view has proved that (rows − 1)·ld + cols elements are there, the shapes agree by the assertions
    // above, and `c` is borrowed mutably, so it overlaps neither factor. `Scalar` admits only types that gemm knows.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.data_mut().as_mut_ptr(),
            1,
            c_stride,
            accumulate,
            a_ptr,
            a_col,
            a_row,
            b_ptr,
            b_col,
            b_row,
            T::ONE,
            alpha,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mat::Mat;

    fn filled(rows: usize, cols: usize, seed: usize) -> Mat<f64> {
        let value = |i: usize| ((i * 37 + seed * 11) % 23) as f64 - 11.0;
        Mat::from_vec((0..rows * cols).map(value).collect(), rows, cols).unwrap()
    }

    /// Small integers: products and sums are exact, so equality is the test.
    #[test]
    fn products_are_exact_on_integers_whatever_the_transposition() {
        for (m, n, k) in [(1, 1, 1), (3, 5, 7), (17, 33, 9), (4, 4, 0), (0, 3, 2), (64, 1, 50)] {
            for (ta, tb, accumulate) in
                [(false, false, false), (true, false, true), (false, true, true), (true, true, false)]
            {
                let a = if ta { filled(k, m, 1) } else { filled(m, k, 1) };
                let b = if tb { filled(n, k, 2) } else { filled(k, n, 2) };
                let at = |i: usize, l: usize| if ta { a.row(l)[i] } else { a.row(i)[l] };
                let bt = |l: usize, j: usize| if tb { b.row(j)[l] } else { b.row(l)[j] };
                let mut c = filled(m, n, 3);
                let before = c.clone();
                let fa = if ta { Factor::Transposed(a.as_ref()) } else { Factor::Plain(a.as_ref()) };
                let fb = if tb { Factor::Transposed(b.as_ref()) } else { Factor::Plain(b.as_ref()) };
                gemm(2.0, fa, fb, accumulate, c.as_mut());
                for i in 0..m {
                    for j in 0..n {
                        let dot: f64 = (0..k).map(|l| at(i, l) * bt(l, j)).sum();
                        let start = if accumulate { before.row(i)[j] } else { 0.0 };
                        assert_eq!(c.row(i)[j], start + 2.0 * dot, "({m},{n},{k}) at ({i},{j})");
                    }
                }
            }
        }
    }
}
