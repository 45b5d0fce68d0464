//! Euclidean norms of the rows or columns of a matrix.
//!
//! `out[i] = ‖w_i‖₂`, neither vanishing nor overflowing before the result itself does (the promise of LAPACK's
//! `xNRM2`). The CPU sums squares in `f64`, where those of every `f32` fit; kernels sum in `f32`, in three ranges. One
//! pass over `W`; `O(m·n)`.

use crate::cpu;
use crate::device::{Device, on_device};
use crate::elem::Elem;
use crate::error::{Result, check_len, check_shape};
use crate::mat::{self, MatRef};

const OP: &str = "norms";

/// Whether the points of an operation are the rows of `W` (output features) or its columns (input features).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Axis {
    /// Row `i` of `W` is point `i`.
    #[default]
    Rows,
    /// Column `j` of `W` is point `j`. Set-up only: the adapter has no gather identity on this side and refuses it.
    Cols,
}

/// The problem: norms along `axis` of a `[rows, cols]` matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Desc {
    /// Rows of `W`.
    pub rows: usize,
    /// Columns of `W`.
    pub cols: usize,
    /// What is measured.
    pub axis: Axis,
}

/// A checked problem on a device.
#[derive(Clone, Debug)]
pub struct Plan {
    device: Device,
    desc: Desc,
}

impl Plan {
    /// Plans the norms of one shape. Every shape is legal, an empty one included: the norm of no elements is 0.
    ///
    /// # Errors
    /// None on the CPU.
    pub fn new(device: &Device, desc: Desc) -> Result<Self> {
        Ok(Self { device: device.clone(), desc })
    }

    /// Writes one norm per point to `out`: `rows` of them along [`Axis::Rows`], `cols` along [`Axis::Cols`].
    ///
    /// On the CPU the `f64` sum is off by at most `n·2⁻⁵³` of itself, and rounded to `f32` once. On other devices the norm is
    /// off by at most `(d/2 + 2)·2⁻²⁴` of itself, where `d` is the longest chain of `f32` additions: `n/32 + 17` along rows,
    /// `n/128 + 28` along columns. A norm beyond the range of `f32`
    /// becomes infinity, though every element of `w` is finite.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where an operand does not fit the plan,
    /// [`Error::NonFinite`](crate::Error::NonFinite) for NaN or infinity in `w` (`out` is then unchanged).
    pub fn run<T: Elem>(&self, w: MatRef<'_, T>, out: &mut [f32]) -> Result<()> {
        check_shape(OP, "w", (self.desc.rows, self.desc.cols), w.shape())?;
        let points = match self.desc.axis {
            Axis::Rows => self.desc.rows,
            Axis::Cols => self.desc.cols,
        };
        check_len(OP, "out", points, out.len())?;
        on_device!(
            &self.device,
            cpu => self.run_on_cpu(w, out),
            gpu => crate::gpu::norms::norms(gpu, OP, w, self.desc.axis, out)
        )
    }

    fn run_on_cpu<T: Elem>(&self, w: MatRef<'_, T>, out: &mut [f32]) -> Result<()> {
        let mut squares: Vec<f64> = mat::zeroed("squared norms", out.len())?;
        match self.desc.axis {
            Axis::Rows => cpu::norms::squared_rows(OP, w, None, &mut squares)?,
            Axis::Cols => cpu::norms::squared_cols(OP, w, &mut squares)?,
        }
        for (out, square) in out.iter_mut().zip(squares) {
            *out = square.sqrt() as f32;
        }
        Ok(())
    }
}
