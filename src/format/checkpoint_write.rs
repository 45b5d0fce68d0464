//! Writing a checkpoint again with some of its weights replaced.

use super::checkpoint::{Checkpoint, TensorInfo, Weight};
use super::header::{self, Declared, element_bits};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

impl Checkpoint {
    /// Writes every tensor to one new safetensors file, asking `replace` for each what to write instead. Names, element
    /// types, shapes and the file's metadata stay as they are (`metadata` is added to it; an empty value removes a key);
    /// a sharded checkpoint becomes one file.
    ///
    /// One tensor is in memory at a time. `out` appears complete or not at all: it is written beside its place, then
    /// renamed.
    ///
    /// # Errors
    /// [`Error::Format`] if `out` is there already or a replacement has another shape or element type than its tensor,
    /// [`Error::Io`], and whatever `replace` returns.
    pub fn rewrite(
        &self,
        out: impl AsRef<Path>,
        metadata: &BTreeMap<String, String>,
        mut replace: impl FnMut(&TensorInfo) -> Result<Option<Weight>>,
    ) -> Result<()> {
        let mut order: Vec<&TensorInfo> = self.tensors().iter().collect();
        // Wide elements first keeps every tensor aligned to its element, whatever the shards held.
        order.sort_by_key(|tensor| std::cmp::Reverse(element_bits(&tensor.dtype).unwrap_or(0)));
        let mut merged = self.metadata().clone();
        merged.extend(metadata.iter().map(|(key, value)| (key.clone(), value.clone())));
        merged.retain(|_, value| !value.is_empty());
        let metadata: Vec<(&str, &str)> = merged.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let declared: Vec<Declared<'_>> = order.iter().map(|tensor| tensor.declared()).collect();
        write_new_file(out.as_ref(), |to| {
            let written = |error| Error::io(out.as_ref(), "writing", error);
            to.write_all(&header::encode(&metadata, &declared)).map_err(written)?;
            for tensor in &order {
                match replace(tensor)? {
                    Some(weight) => {
                        check_replacement(self, tensor, &weight)?;
                        to.write_all(&little_endian(&weight)).map_err(written)?;
                    }
                    None => self.copy_bytes(tensor, to, out.as_ref())?,
                }
            }
            Ok(())
        })
    }

    fn copy_bytes(&self, tensor: &TensorInfo, to: &mut impl Write, out: &Path) -> Result<()> {
        let path = self.shard(tensor);
        let read = |error| Error::io(path, "reading a tensor", error);
        let mut file = File::open(path).map_err(read)?;
        file.seek(SeekFrom::Start(tensor.begin)).map_err(read)?;
        let mut buffer = vec![0; 1 << 18];
        let mut left = tensor.bytes;
        while left > 0 {
            let part = &mut buffer[..left.min(1 << 18) as usize];
            file.read_exact(part).map_err(read)?;
            to.write_all(part).map_err(|error| Error::io(out, "writing", error))?;
            left -= part.len() as u64;
        }
        Ok(())
    }
}

impl TensorInfo {
    fn declared(&self) -> Declared<'_> {
        Declared { name: &self.name, dtype: &self.dtype, shape: &self.shape, bytes: self.bytes }
    }
}

fn check_replacement(checkpoint: &Checkpoint, tensor: &TensorInfo, weight: &Weight) -> Result<()> {
    let (rows, cols) = weight.shape();
    if tensor.shape == [rows, cols] && tensor.weight_dtype() == Some(weight.dtype()) {
        return Ok(());
    }
    let reason = format!(
        "tensor `{}` is {} {:?}, its replacement {} [{rows}, {cols}]",
        tensor.name,
        tensor.dtype,
        tensor.shape,
        weight.dtype().name()
    );
    Err(Error::format(checkpoint.path(), reason))
}

/// The elements as files have them.
pub(super) fn little_endian(weight: &Weight) -> std::borrow::Cow<'_, [u8]> {
    let bytes = weight.bytes();
    if cfg!(target_endian = "little") {
        return bytes.into();
    }
    let mut swapped = bytes.to_vec();
    swapped.chunks_exact_mut(weight.dtype().size()).for_each(<[u8]>::reverse);
    swapped.into()
}

/// Runs `write` on a file beside `path`, then renames it there. Nothing is left behind where it fails, and a file that
/// is there already stays as it is.
///
/// # Errors
/// [`Error::Format`] if `path` is there already, [`Error::Io`], and whatever `write` returns.
pub fn write_new_file(path: &Path, write: impl FnOnce(&mut BufWriter<&File>) -> Result<()>) -> Result<()> {
    if path.symlink_metadata().is_ok() {
        return Err(Error::format(path, "is there already; nothing is overwritten"));
    }
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".idlora-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666)); // less the umask, as for any new file
    }
    let temporary = builder.tempfile_in(folder).map_err(|error| Error::io(path, "creating", error))?;
    let mut writer = BufWriter::with_capacity(1 << 18, temporary.as_file());
    write(&mut writer)?;
    writer.flush().map_err(|error| Error::io(path, "writing", error))?;
    drop(writer);
    temporary.as_file().sync_all().map_err(|error| Error::io(path, "writing", error))?;
    temporary.persist_noclobber(path).map_err(|failed| Error::io(path, "creating", failed.error))?;
    Ok(())
}
