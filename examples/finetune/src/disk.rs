//! Files that are there whole or not at all.

use crate::error::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::Write;
use std::path::Path;

/// Writes `bytes` beside `path` and renames, so that a killed process leaves the old file or the new one.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(Error::io("making", folder))?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(Error::io("writing in", folder))?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(Error::io("writing", path))?;
    file.persist(path).map_err(|error| Error::io("writing", path)(error.error))?;
    Ok(())
}

/// Writes a value as JSON.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::content(path, "JSON", "a value that JSON can hold", error))?;
    write(path, format!("{text}\n").as_bytes())
}

/// Reads a value from JSON.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(Error::io("reading", path))?;
    serde_json::from_str(&text).map_err(|error| Error::content(path, "JSON", std::any::type_name::<T>(), error))
}
