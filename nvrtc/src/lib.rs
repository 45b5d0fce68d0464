//! CUDA C++ in, PTX, cubin and the assembler's log out: NVRTC, found and driven at run time, with no CUDA toolkit.
//!
//! Nothing is linked. [`Nvrtc::find`] loads the libraries from the first place that has them:
//!
//! 1. the folder named by the environment variable `IDLORA_NVRTC`: the libraries themselves, or a folder into which
//!    `pip` installed NVIDIA's wheel. When it is set, nowhere else is searched: whoever names a compiler means that one.
//! 2. `.nvrtc` in the current folder or the nearest parent that has one (where `scripts/get-nvrtc` installs),
//! 3. `$CUDA_HOME/lib64`, `$CUDA_PATH/lib64`, `/usr/local/cuda/lib64`,
//! 4. wherever the system's loader looks.
//!
//! [`Tool::find`] finds the programs that come with it, such as the assembler.
//!
//! ```
//! use idlora_nvrtc::{Nvrtc, Source};
//!
//! let nvrtc = match Nvrtc::find() {
//!     Ok(nvrtc) => nvrtc,
//!     Err(missing) => return println!("skipped: {missing}"),
//! };
//! let source = Source {
//!     name: "scale.cu",
//!     text: r#"extern "C" __global__ void scale(float *x, float a) { x[threadIdx.x] *= a; }"#,
//!     options: &["--generate-line-info"],
//!     ..Source::default()
//! };
//! let compiled = nvrtc.compile(&source).unwrap();
//! assert!(compiled.ptx.contains(".visible .entry scale("));
//! ```

mod cache;
mod library;
mod search;
mod tools;

pub use cache::Cache;
use library::Library;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use thiserror::Error;
pub use tools::{Tool, ToolNotFound};

/// NVRTC, loaded. Copies are handles of the one library of the process.
#[derive(Clone, Copy, Debug)]
pub struct Nvrtc {
    library: &'static Library,
}

/// A translation unit and how to compile it.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Names the text in messages and in line information.
    pub name: &'a str,
    /// CUDA C++.
    pub text: &'a str,
    /// `sm_80`, `sm_90a`, …: a real architecture, so that the assembler runs too and refuses wrong inline PTX. For a
    /// virtual one (`compute_80`) there is no cubin.
    pub arch: &'a str,
    /// Any further options of NVRTC.
    pub options: &'a [&'a str],
    /// Files that `#include` finds: name and text.
    pub headers: &'a [(&'a str, &'a str)],
}

impl Default for Source<'_> {
    fn default() -> Self {
        Source { name: "kernel.cu", text: "", arch: "sm_80", options: &[], headers: &[] }
    }
}

/// What NVRTC made of a [`Source`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// PTX text.
    pub ptx: String,
    /// Machine code; empty for a virtual architecture.
    pub cubin: Vec<u8>,
    /// Warnings, and with `--ptxas-options=-v` registers, spills and shared memory of every kernel.
    pub log: String,
}

/// Why a [`Source`] did not compile.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{status}\n{log}")]
pub struct CompileError {
    /// NVRTC's name for what went wrong, or what made the source impossible to hand over.
    pub status: String,
    /// The compiler's messages, with names and lines.
    pub log: String,
}

/// NVRTC is nowhere to be found.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("NVRTC was not found (scripts/get-nvrtc installs it); searched:{}", list(.searched))]
pub struct NotFound {
    /// The places in order, and what was wrong with each.
    pub searched: Vec<(PathBuf, String)>,
}

fn list(searched: &[(PathBuf, String)]) -> String {
    searched.iter().map(|(place, reason)| format!("\n  {}: {reason}", place.display())).collect()
}

impl Nvrtc {
    /// Loads NVRTC, once for the process: later calls return the first call's answer.
    ///
    /// # Errors
    ///
    /// [`NotFound`], with every place that was searched.
    pub fn find() -> Result<Nvrtc, NotFound> {
        static FOUND: OnceLock<Result<Library, NotFound>> = OnceLock::new();
        let found = FOUND.get_or_init(|| {
            let current = std::env::current_dir().unwrap_or_default();
            first(search::candidates(|name| std::env::var_os(name), &current))
        });
        match found {
            Ok(library) => Ok(Nvrtc { library }),
            Err(missing) => Err(missing.clone()),
        }
    }

    /// Major and minor version, such as (13, 0).
    pub fn version(&self) -> (i32, i32) {
        self.library.version()
    }

    /// The file it was loaded from; a bare file name if the system's loader found it.
    pub fn path(&self) -> &Path {
        self.library.path()
    }

    /// Compiles. The same source and version give the same PTX and cubin.
    ///
    /// # Errors
    ///
    /// [`CompileError`] with the compiler's log.
    pub fn compile(&self, source: &Source<'_>) -> Result<Compiled, CompileError> {
        self.library.compile(source)
    }
}

/// Loads the first candidate that can be loaded.
fn first(candidates: Vec<search::Candidate>) -> Result<Library, NotFound> {
    let mut searched = Vec::new();
    for candidate in candidates {
        let place = candidate.place.clone();
        match search::libraries(candidate).and_then(|files| Library::open(&files)) {
            Ok(library) => return Ok(library),
            Err(reason) => searched.push((place, reason)),
        }
    }
    Err(NotFound { searched })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_nvrtc_is_reported_with_every_place_and_reason() {
        let folder = std::env::temp_dir();
        let missing =
            first(search::candidates(|name| (name == "IDLORA_NVRTC").then(|| folder.clone().into()), &folder));
        let missing = missing.unwrap_err();
        assert_eq!(missing.searched.len(), 1);
        assert_eq!(missing.searched[0].0, folder);
        let text = missing.to_string();
        assert!(text.contains("scripts/get-nvrtc") && text.contains(&folder.display().to_string()), "{text}");
    }
}
