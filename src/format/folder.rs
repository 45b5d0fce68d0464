//! Adapters to a folder of files: what may be written, and that it appears whole or not at all.

use crate::adapter::IdLora;
use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

/// Runs `write` on a temporary folder beside `dir`, then renames it: `dir`, which must not exist, either holds everything or
/// does not exist, and nothing else is left behind.
///
/// # Errors
/// [`Error::Io`] where `dir` exists or its parent cannot be written to, and whatever `write` returns.
pub(super) fn write_new_folder(dir: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if dir.symlink_metadata().is_ok() {
        let source = io::Error::new(io::ErrorKind::AlreadyExists, "it exists already");
        return Err(Error::io(dir, "create the output folder", source));
    }
    // The parent of `adapter` is the empty path, which no call accepts.
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = tempfile::Builder::new()
        .prefix(".idlora-")
        .tempdir_in(parent)
        .map_err(|source| Error::io(parent, "create a folder in it", source))?;
    write(temporary.path())?;
    std::fs::rename(temporary.path(), dir).map_err(|source| Error::io(dir, "create the output folder", source))?;
    let _renamed = temporary.keep(); // it is not there any more: nothing to delete
    Ok(())
}

/// Refuses what no folder can hold: no adapter, two of one name, and parameters in which training has left NaN or infinity.
pub(super) fn check_adapters(op: &'static str, adapters: &[IdLora]) -> Result<()> {
    if adapters.is_empty() {
        return Err(Error::operand(op, "adapters", "is empty: there is nothing to save"));
    }
    let mut names = BTreeSet::new();
    for adapter in adapters {
        if !names.insert(adapter.name()) {
            return Err(Error::operand(op, "adapters", format!("has two modules named `{}`", adapter.name())));
        }
        for parameter in adapter.parameters() {
            let operand = || format!("{}.{}", adapter.name(), parameter.name);
            crate::adapter::check_finite(op, operand, parameter.value)?;
        }
    }
    Ok(())
}
