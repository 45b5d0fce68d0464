//! The one error type of the crate: a variant per cause, each naming the operand, what was expected and what was found.
//!
//! Numerical outcomes (rank reached, iterations, repaired clusters) are not errors; they are returned in the `Info`
//! of each operation.

use std::path::PathBuf;

/// Result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call was refused. Nothing has been written when one of these is returned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operand's shape or length does not fit the problem.
    #[error("{op}: `{operand}` has {found}, expected {expected}")]
    Shape {
        /// Operation that refused.
        op: &'static str,
        /// Operand by its documented name.
        operand: &'static str,
        /// What would have been accepted.
        expected: String,
        /// What was passed.
        found: String,
    },
    /// A parameter lies outside what the method allows.
    #[error("{op}: `{parameter}` is {found}, expected {expected}")]
    Parameter {
        /// Operation that refused.
        op: &'static str,
        /// Parameter by its documented name.
        parameter: &'static str,
        /// What would have been accepted.
        expected: String,
        /// What was passed.
        found: String,
    },
    /// An operand that the chosen variant needs was not passed, or one that it cannot use was.
    #[error("{op}: operand `{operand}` {reason}")]
    Operand {
        /// Operation that refused.
        op: &'static str,
        /// Operand by its documented name.
        operand: &'static str,
        /// Why it is needed, or why it is refused.
        reason: String,
    },
    /// NaN or infinity where finite numbers are required.
    #[error("{op}: `{operand}` has {value} at row {row}, column {col}; every entry must be finite")]
    NonFinite {
        /// Operation that refused.
        op: &'static str,
        /// Operand or tensor name.
        operand: String,
        /// Row of the first offending entry.
        row: usize,
        /// Column of the first offending entry.
        col: usize,
        /// The entry itself.
        value: f32,
    },
    /// A request that the method itself excludes, with the reason.
    #[error("{op}: {reason}")]
    Unsupported {
        /// Operation that refused.
        op: &'static str,
        /// Why it cannot be done, and what can be done instead.
        reason: String,
    },
    /// Sizes whose product does not fit in memory or in the address space.
    #[error("{op}: cannot allocate {what} ({bytes} bytes)")]
    OutOfMemory {
        /// Operation that refused.
        op: &'static str,
        /// What was to be allocated.
        what: &'static str,
        /// How much; `usize::MAX` where the product overflows.
        bytes: usize,
    },
    /// A file that does not hold what it should.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and where.
        reason: String,
    },
    /// The operating system refused to read or write.
    #[error("{}: {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// An adapter is used with a base that it was not made from.
    #[error("module `{module}`: base weight has digest {found}, the adapter was made from {expected}")]
    Digest {
        /// The module.
        module: String,
        /// Digest stored with the adapter.
        expected: String,
        /// Digest of the weight that was passed.
        found: String,
    },
    /// A kernel that was not run, did not run to its end, or did what a sanitizer reports. A defect of this crate.
    #[error("{op}: kernel `{kernel}`: {}", findings.join("; "))]
    Kernel {
        /// Operation that launched it.
        op: &'static str,
        /// The entry point.
        kernel: String,
        /// What was found, in the order of first occurrence.
        findings: Vec<String>,
    },
    /// A device that is not there or not known.
    #[error("device `{device}`: {reason}")]
    Device {
        /// The device as it was asked for.
        device: String,
        /// Why it cannot be opened.
        reason: String,
    },
    /// What candle refused or could not do.
    #[cfg(feature = "candle")]
    #[error("{op}: {source}")]
    Candle {
        /// Operation that asked candle.
        op: &'static str,
        /// candle's reason.
        source: Box<candle_core::Error>,
    },
}

impl Error {
    pub(crate) fn shape(
        op: &'static str,
        operand: &'static str,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self::Shape { op, operand, expected: expected.into(), found: found.into() }
    }

    pub(crate) fn parameter(
        op: &'static str,
        parameter: &'static str,
        expected: impl Into<String>,
        found: impl ToString,
    ) -> Self {
        Self::Parameter { op, parameter, expected: expected.into(), found: found.to_string() }
    }

    pub(crate) fn operand(op: &'static str, operand: &'static str, reason: impl Into<String>) -> Self {
        Self::Operand { op, operand, reason: reason.into() }
    }

    pub(crate) fn unsupported(op: &'static str, reason: impl Into<String>) -> Self {
        Self::Unsupported { op, reason: reason.into() }
    }

    pub(crate) fn format(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::Format { path: path.into(), reason: reason.into() }
    }

    #[cfg(feature = "candle")]
    pub(crate) fn candle(op: &'static str, source: candle_core::Error) -> Self {
        Self::Candle { op, source: Box::new(source) }
    }

    pub(crate) fn io(path: impl Into<PathBuf>, action: &'static str, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), action, source }
    }
}

/// Refuses an operand whose shape is not `[rows, cols]`.
pub(crate) fn check_shape(
    op: &'static str,
    operand: &'static str,
    expected: (usize, usize),
    found: (usize, usize),
) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(Error::shape(
        op,
        operand,
        format!("shape [{}, {}]", expected.0, expected.1),
        format!("shape [{}, {}]", found.0, found.1),
    ))
}

/// Refuses an operand whose length is not `expected`.
pub(crate) fn check_len(op: &'static str, operand: &'static str, expected: usize, found: usize) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(Error::shape(op, operand, format!("length {expected}"), format!("length {found}")))
}
