//! What can go wrong, told by what was expected and what was found.

use std::path::{Path, PathBuf};

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or a folder that could not be read or written.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file whose content is not what it should be.
    #[error("{}: {what}: expected {expected}, found {found}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What of it.
        what: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// An argument, a tensor or a parameter that does not fit.
    #[error("{what}: expected {expected}, found {found}")]
    Operand {
        /// Which.
        what: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A run in a process of its own that did not end well.
    #[error("{run} ended with {status}; its output is in {}", log.display())]
    Run {
        /// Which.
        run: String,
        /// How it ended.
        status: String,
        /// Where its output is.
        log: PathBuf,
    },
    /// A step of `cost` that did not end well.
    #[error("a step of {method}: the process ended with {status}; expected seconds, found `{said}`")]
    Step {
        /// Whose.
        method: String,
        /// How it ended.
        status: String,
        /// What should have been seconds.
        said: String,
    },
    /// The tokenizer's.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// The plot's.
    #[error("plot: {0}")]
    Plot(String),
    /// candle's.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// idlora's.
    #[error(transparent)]
    Adapter(#[from] idlora::Error),
}

impl Error {
    /// [`Error::Io`] for use with `map_err`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// [`Error::Content`].
    pub fn content(path: &Path, what: impl ToString, expected: impl ToString, found: impl ToString) -> Self {
        let (what, expected, found) = (what.to_string(), expected.to_string(), found.to_string());
        Self::Content { path: path.to_owned(), what, expected, found }
    }

    /// [`Error::Operand`].
    pub fn operand(what: impl ToString, expected: impl ToString, found: impl ToString) -> Self {
        Self::Operand { what: what.to_string(), expected: expected.to_string(), found: found.to_string() }
    }
}
