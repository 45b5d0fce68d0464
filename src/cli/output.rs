//! Where the commands' words go, and the checks of where their files will go.

use super::{Failure, Result};
use std::io::{ErrorKind, Write};
use std::path::Path;

/// Prints a finished report. A reader that has had enough (`| head`) is no failure.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::command(format!("stdout: {error}"))),
        _ => Ok(()),
    }
}

/// Prints one JSON object.
pub fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::command(format!("JSON: {error}")))?;
    print(&(text + "\n"))
}

/// One line on stderr. Where nobody listens there is nobody to tell.
pub fn message(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", text.replace('\n', " "));
}

/// Checks before any work that `path` can be made: that it is not there, and that its folder can be written to.
pub fn check_free(path: &Path) -> Result<()> {
    if path.symlink_metadata().is_ok() {
        return Err(Failure::command(format!(
            "{} is there already; nothing is overwritten: choose another name or remove it",
            path.display()
        )));
    }
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(Failure::command(format!(
            "{}: the folder {} does not exist; make it first",
            path.display(),
            folder.display()
        )));
    }
    tempfile::Builder::new()
        .prefix(".idlora-")
        .tempfile_in(folder)
        .map_err(|error| Failure::command(format!("{} cannot be written: {error}", path.display())))?;
    Ok(())
}
