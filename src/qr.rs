//! Truncated pivoted QR of the transpose of groups of rows: which rows of a weight span the others best.
//!
//! For a group's rows `C [c, n]` the factorisation is `Cᵀ P ≈ Q R` with `Q [n, j]` orthonormal: a row-major `C` *is*
//! a column-major `Cᵀ`, so nothing is transposed. Pivots are greedy (Businger and Golub): step `j` takes the row
//! whose part outside the span of the rows taken before is longest, ties to the lowest position in the group. It
//! stops after `rank` pivots or by a tolerance, as LAPACK's `xGEQP3RK` does with `KMAX`, `ABSTOL` and `RELTOL`. One
//! ragged batch: every group of rows of `W` is factored on its own.
//!
//! The weights are taken as exact numbers and everything accumulates in `f64`, so the pivots and residuals are those
//! of LAPACK's `dgeqp3` on the widened rows wherever the leader's residual norm exceeds the runner-up's by more than
//! a small multiple of `(n + r)·2⁻⁵³·max‖c_i‖`; nearer ties may fall either way, exact ones (equal rows) fall to the
//! lowest position. A row that is a combination of others only up to the rounding of its element type still counts as
//! independent: give [`Stop::relative`] to treat such residuals as nothing.
//!
//! Cost for one group: the Gram tier reads the rows about `r/4` times and computes `c·n·r` products, the exact tier
//! reads them `r` times, the sketch tier twice. Groups and rows run in parallel, with the same bits for every number
//! of threads.
//!
//! ```
//! use idlora::{Device, MatRef, qr};
//! // Row 2 is the longest; rows 0 and 1 share a direction, and row 1 is the longer of them.
//! let w = [1.0f32, 0.0, 2.0, 0.0, 0.0, 3.0];
//! let w = MatRef::new(&w, 3, 2)?;
//! let desc = qr::Desc { cols: 2, rank: 2, tier: qr::Tier::Gram, seed: 0 };
//! let factors = qr::Plan::new(&Device::Cpu, desc)?.run(w, &qr::Groups::all(3), &qr::Stop::default())?;
//! assert_eq!(factors[0].jpvt, [2, 1]);
//! assert_eq!(factors[0].info.residuals, [3.0, 2.0]);
//! # Ok::<(), idlora::Error>(())
//! ```

use crate::cpu;
use crate::device::{Device, on_device};
use crate::elem::Elem;
use crate::error::{Error, Result};
use crate::mat::{Mat, MatRef};

pub(crate) const OP: &str = "qr";

/// How the pivots are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Tier {
    /// Pivoted Cholesky of the Gram matrix `C Cᵀ`, its columns computed a few at a time when they are needed. Hands
    /// over to [`Tier::Exact`] at the first step that rounding of the Gram matrix could decide, and says so in
    /// [`Info::handover`]. The CPU forms that matrix in `f64`. Devices that run kernels form it in `f32` on tensor cores, so
    /// they hand over earlier, and for weights of `f32`, whose products `f32` does not hold, at once (step 0).
    #[default]
    Gram,
    /// Left-looking Gram–Schmidt with LAPACK's norm safeguard, one pass over the rows per pivot.
    Exact,
    /// Pivots of a seeded Gaussian sketch `C Ω` with `oversampling` more columns than the rank (Halko, Martinsson and
    /// Tropp 2011). `R` and the residuals are those of the rows themselves for these pivots.
    ///
    /// A device that runs kernels keeps the sketch in `f32`. Where its longest residual is below `2⁻¹⁶` of that row's sketch,
    /// which rounding could be, the pivots from there on are those of [`Tier::Exact`].
    Sketch {
        /// Sketch columns beyond the rank.
        oversampling: usize,
    },
}

/// The problem: at most `rank` pivots in every group of rows of length `cols`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Desc {
    /// Length of a row of `W`.
    pub cols: usize,
    /// Pivots per group at most (LAPACK's `KMAX`).
    pub rank: usize,
    /// How the pivots are found.
    pub tier: Tier,
    /// Seed of the sketch; unused by the other tiers.
    pub seed: u64,
}

/// When to stop before `rank` pivots, as in LAPACK's `xGEQP3RK`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stop {
    /// `ABSTOL`: stop when the largest remaining norm is at most this. 0: never by this.
    pub absolute: f64,
    /// `RELTOL`: stop when the largest remaining norm is at most this times the largest initial one. 0: only when
    /// nothing but rounding remains, `4(n + r)·2⁻⁵³` of the largest initial norm.
    pub relative: f64,
}

/// Groups of rows of one matrix, ragged: group `g` holds rows `rows[indptr[g]..indptr[g+1]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups {
    indptr: Vec<usize>,
    rows: Vec<u32>,
}

impl Groups {
    /// Takes explicit groups. `indptr` starts at 0, never falls, and ends at `rows.len()`.
    ///
    /// # Errors
    /// [`Error::Parameter`] if `indptr` does not.
    pub fn new(indptr: Vec<usize>, rows: Vec<u32>) -> Result<Self> {
        let wrong = |expected: String, found: String| Err(Error::parameter(OP, "indptr", expected, found));
        if indptr.first() != Some(&0) {
            let found = indptr.first().map_or("empty".to_owned(), |first| format!("[{first}, …]"));
            return wrong("a list that starts with 0".to_owned(), found);
        }
        if let Some(g) = (1..indptr.len()).find(|&g| indptr[g] < indptr[g - 1]) {
            return wrong(
                "a list that never falls".to_owned(),
                format!("falling from {} to {} at entry {g}", indptr[g - 1], indptr[g]),
            );
        }
        let last = indptr[indptr.len() - 1];
        if last != rows.len() {
            return wrong(format!("a list that ends with {}, the number of rows", rows.len()), format!("[…, {last}]"));
        }
        Ok(Self { indptr, rows })
    }

    /// All rows `0..count` as one group (row numbers are 32 bits: rows beyond `u32::MAX` cannot be named and are left
    /// out).
    pub fn all(count: usize) -> Self {
        let rows: Vec<u32> = (0..u32::try_from(count).unwrap_or(u32::MAX)).collect();
        Self { indptr: vec![0, rows.len()], rows }
    }

    /// One group per label, rows in ascending order.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a label that is not below `groups`.
    pub fn from_labels(labels: &[u32], groups: usize) -> Result<Self> {
        let mut indptr = crate::mat::zeroed("group sizes", groups.saturating_add(1))?;
        for (i, &label) in labels.iter().enumerate() {
            match indptr.get_mut(label as usize + 1) {
                Some(count) => *count += 1,
                None => {
                    let expected = format!("labels below {groups}, the number of groups");
                    return Err(Error::parameter(OP, "labels", expected, format!("{label} at position {i}")));
                }
            }
        }
        for g in 0..groups {
            indptr[g + 1] += indptr[g];
        }
        let mut next = indptr.clone();
        let mut rows = crate::mat::zeroed("rows of groups", labels.len())?;
        for (i, &label) in labels.iter().enumerate() {
            rows[next[label as usize]] = i as u32;
            next[label as usize] += 1;
        }
        Ok(Self { indptr, rows })
    }

    /// Number of groups.
    pub fn len(&self) -> usize {
        self.indptr.len() - 1
    }

    /// Whether there is no group.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Row numbers of all groups, one after another.
    #[cfg(feature = "kernels")]
    pub(crate) fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// Row numbers of group `g`.
    pub fn group(&self, g: usize) -> &[u32] {
        &self.rows[self.indptr[g]..self.indptr[g + 1]]
    }
}

/// The truncated factorisation of one group: `Cᵀ P ≈ Q R`.
#[derive(Clone, Debug)]
pub struct Factor {
    /// Pivots in the order they were taken, as positions in the group (0-based). Its length is the rank reached.
    pub jpvt: Vec<u32>,
    /// `R = Qᵀ Cᵀ`, `[rank reached, group size]`, columns in the group's own order (not permuted).
    pub r: Mat<f64>,
    /// What happened on the way.
    pub info: Info,
}

/// Numerical outcome of one group's factorisation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Info {
    /// Residual norm of each pivot when it was taken: `R[j,j]`, never rising beyond rounding in the greedy tiers.
    pub residuals: Vec<f64>,
    /// Largest remaining residual norm after the last pivot (0 where every row was taken).
    pub remaining: f64,
    /// The Gram tier's step at which it handed over to the exact tier, if it did.
    pub handover: Option<usize>,
}

/// A checked problem on a device.
#[derive(Clone, Debug)]
pub struct Plan {
    device: Device,
    desc: Desc,
}

impl Plan {
    /// Plans the factorisation of groups of rows of one length.
    ///
    /// A `rank` beyond a group's size or the length of its rows is legal: the rank reached is then smaller.
    ///
    /// # Errors
    /// [`Error::Parameter`] if `cols` is 0.
    pub fn new(device: &Device, desc: Desc) -> Result<Self> {
        if desc.cols == 0 {
            return Err(Error::parameter(OP, "cols", "at least 1", 0));
        }
        Ok(Self { device: device.clone(), desc })
    }

    /// Factors every group of rows of `w [m, cols]`; one [`Factor`] per group, in order.
    ///
    /// # Errors
    /// [`Error::Shape`] if `w` has another number of columns, [`Error::Parameter`] for a row number that is not in
    /// `w` or a negative or NaN tolerance, [`Error::NonFinite`] for NaN or infinity in a row of a group.
    pub fn run<T: Elem>(&self, w: MatRef<'_, T>, groups: &Groups, stop: &Stop) -> Result<Vec<Factor>> {
        Ok(self.run_many(&[(w, groups)], stop)?.into_iter().flatten().collect())
    }

    /// Factors groups of rows of many matrices; for each matrix what [`Plan::run`] gives, to the bit. A device that runs
    /// kernels takes all groups of all matrices in one batch.
    ///
    /// ```
    /// use idlora::{Device, MatRef, qr};
    /// let (a, b) = ([1.0f32, 0.0, 2.0, 0.0], [0.0f32, 1.0, 0.0, 0.0, 3.0, 0.0]);
    /// let (a, b) = (MatRef::new(&a, 2, 2)?, MatRef::new(&b, 3, 2)?);
    /// let desc = qr::Desc { cols: 2, rank: 1, tier: qr::Tier::Exact, seed: 0 };
    /// let batch = [(a, &qr::Groups::all(2)), (b, &qr::Groups::all(3))];
    /// let factors = qr::Plan::new(&Device::Cpu, desc)?.run_many(&batch, &qr::Stop::default())?;
    /// assert_eq!((&factors[0][0].jpvt[..], &factors[1][0].jpvt[..]), (&[1][..], &[2][..]));
    /// # Ok::<(), idlora::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Plan::run`]; where there are several matrices, they are told apart as `w[0]`, `w[1]` and so on.
    pub fn run_many<T: Elem>(&self, batch: &[(MatRef<'_, T>, &Groups)], stop: &Stop) -> Result<Vec<Vec<Factor>>> {
        for (parameter, value) in [("absolute", stop.absolute), ("relative", stop.relative)] {
            if value.is_nan() || value < 0.0 {
                return Err(Error::parameter(OP, parameter, "a tolerance of at least 0", value));
            }
        }
        for (index, (w, groups)) in batch.iter().enumerate() {
            let place = if batch.len() == 1 { String::new() } else { format!(" in {}", matrix(index, batch.len())) };
            if w.cols() != self.desc.cols {
                let (expected, found) = (format!("{} columns", self.desc.cols), format!("{} columns{place}", w.cols()));
                return Err(Error::shape(OP, "w", expected, found));
            }
            if let Some(row) = groups.rows.iter().find(|&&row| row as usize >= w.rows()) {
                let (expected, found) = (format!("row numbers below {}", w.rows()), format!("row {row}{place}"));
                return Err(Error::parameter(OP, "groups", expected, found));
            }
        }
        on_device!(
            &self.device,
            cpu => {
                let factor = |w, groups| cpu::qr::factor(&self.desc, w, groups, stop);
                batch.iter().enumerate().map(|(index, &(w, groups))| factor(w, groups).map_err(|error| match error {
                    Error::NonFinite { op, row, col, value, .. } => {
                        Error::NonFinite { op, operand: matrix(index, batch.len()), row, col, value }
                    }
                    error => error,
                })).collect()
            },
            gpu => crate::gpu::qr::factor(gpu, &self.desc, batch, stop)
        )
    }
}

/// What errors call a matrix of a batch.
pub(crate) fn matrix(index: usize, matrices: usize) -> String {
    if matrices == 1 { "w".to_owned() } else { format!("w[{index}]") }
}
