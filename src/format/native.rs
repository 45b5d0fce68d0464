//! The adapter's own format: a folder with one safetensors file, readable by any safetensors library.
//!
//! `DIR/adapter.safetensors` holds, for every module NAME:
//!
//! | tensor | type | shape |
//! |---|---|---|
//! | `NAME.skeleton` | U32 | `[k, r]`: chosen rows of the base weight |
//! | `NAME.b` | F32 | `[m/s, r/s]` |
//! | `NAME.gate` | F32 | `[1, r]` (inner gates), `[k, n]` (linear gates) or `[1, k]` (static) |
//!
//! and in `__metadata__`: `format` = `idlora`, `version` = `1`, and `modules`, the JSON text of a list with one object per
//! module: `name`, `rows`, `cols`, `dtype` and `digest` of its base weight, and its `config`. Modules keep their order, and
//! the same adapters always make the same bytes. `docs/format.md` has it byte for byte, with a reader in Python.

use super::folder::{check_adapters, write_new_folder};
use super::header::{self, Declared, Entry, Header};
use crate::adapter::{Config, Digest, IdLora, Parts};
use crate::elem::Dtype;
use crate::error::{Error, Result};
use crate::mat::{Mat, zeroed};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// The file's name in its folder.
pub const FILE: &str = "adapter.safetensors";

const SAVE: &str = "save";
const FORMAT: &str = "idlora";
const VERSION: &str = "1";
const METADATA: [&str; 3] = ["format", "version", "modules"];
const SUFFIXES: [&str; 3] = ["skeleton", "b", "gate"];

/// What the metadata says of one module.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Module {
    name: String,
    rows: usize,
    cols: usize,
    dtype: Dtype,
    digest: Digest,
    config: Config,
}

impl Module {
    fn of(adapter: &IdLora) -> Self {
        Self {
            name: adapter.name().to_owned(),
            rows: adapter.rows(),
            cols: adapter.cols(),
            dtype: adapter.dtype(),
            digest: adapter.digest(),
            config: *adapter.config(),
        }
    }
}

/// Writes `adapters` to the folder `dir`, which must not exist; its parent must.
///
/// Everything is written to a temporary folder beside it, which is renamed at the end: `dir` either holds the whole adapter
/// or does not exist, and nothing else is left behind.
///
/// # Errors
/// [`Error::Io`] where `dir` exists or its parent cannot be written to; [`Error::Operand`] where there is no adapter or two
/// have the same name; [`Error::NonFinite`] where training has left NaN or infinity, which [`load`] would refuse.
pub fn save(dir: &Path, adapters: &[IdLora]) -> Result<()> {
    check_adapters(SAVE, adapters)?;
    let header = header_bytes(adapters)?;
    write_new_folder(dir, |folder| {
        let path = folder.join(FILE);
        write(&path, &header, adapters).map_err(|source| Error::io(&path, "write", source))
    })
}

fn header_bytes(adapters: &[IdLora]) -> Result<Vec<u8>> {
    let modules: Vec<Module> = adapters.iter().map(Module::of).collect();
    let modules = serde_json::to_string(&modules)
        .map_err(|error| Error::unsupported(SAVE, format!("cannot write the metadata: {error}")))?;
    let tensors: Vec<(String, &str, [usize; 2])> = adapters.iter().flat_map(tensors).collect();
    let declared: Vec<Declared<'_>> = tensors
        .iter()
        .map(|(name, dtype, shape)| Declared { name, dtype, shape, bytes: 4 * shape[0] as u64 * shape[1] as u64 })
        .collect();
    let [format, version, list] = METADATA;
    Ok(header::encode(&[(format, FORMAT), (version, VERSION), (list, &modules)], &declared))
}

/// Names, types and shapes of a module's tensors, in the order of the file.
fn tensors(adapter: &IdLora) -> impl Iterator<Item = (String, &'static str, [usize; 2])> {
    let config = adapter.config();
    let shapes = [(config.clusters, config.rank), adapter.b().shape(), adapter.gate().shape()];
    let types = ["U32", "F32", "F32"];
    let name = adapter.name();
    SUFFIXES
        .iter()
        .zip(types)
        .zip(shapes)
        .map(move |((suffix, dtype), (rows, cols))| (format!("{name}.{suffix}"), dtype, [rows, cols]))
}

fn write(path: &Path, header: &[u8], adapters: &[IdLora]) -> io::Result<()> {
    let mut file = BufWriter::new(File::create_new(path)?);
    file.write_all(header)?;
    for adapter in adapters {
        for row in adapter.skeleton() {
            file.write_all(&row.to_le_bytes())?;
        }
        for tensor in [adapter.b(), adapter.gate()] {
            for x in tensor.iter_rows().flatten() {
                file.write_all(&x.to_le_bytes())?;
            }
        }
    }
    file.into_inner()?.sync_all()
}

/// Reads the adapters of the folder `dir`, in the order in which they were saved.
///
/// # Errors
/// [`Error::Io`] where the file cannot be read; [`Error::Format`], naming the file and the tensor, module or key, for
/// anything in it that [`save`] would not have written.
pub fn load(dir: &Path) -> Result<Vec<IdLora>> {
    let path = dir.join(FILE);
    let bytes = std::fs::read(&path).map_err(|source| Error::io(&path, "read", source))?;
    let stored = Stored::parse(path, &bytes)?;
    let modules = stored.modules()?;
    stored.check_names(&modules)?;
    modules.into_iter().map(|module| stored.adapter(module)).collect()
}

/// A file whose header fits its length: every tensor's bytes are there.
struct Stored<'a> {
    path: PathBuf,
    tensors: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
    bytes: &'a [u8],
}

impl<'a> Stored<'a> {
    fn parse(path: PathBuf, bytes: &'a [u8]) -> Result<Self> {
        let Header { entries, metadata } =
            Header::read(&mut &bytes[..], bytes.len() as u64).map_err(|reason| Error::format(&path, reason))?;
        let tensors = entries.into_iter().map(|entry| (entry.name.clone(), entry)).collect();
        Ok(Self { path, tensors, metadata, bytes })
    }

    fn refuse(&self, reason: impl Into<String>) -> Error {
        Error::format(&self.path, reason)
    }

    fn modules(&self) -> Result<Vec<Module>> {
        self.expect("format", FORMAT)?;
        self.expect("version", VERSION)?;
        let text = self.metadata("modules")?;
        if let Some(key) = self.metadata.keys().find(|key| !METADATA.contains(&key.as_str())) {
            return Err(self.refuse(format!("its metadata has the unknown key `{key}`")));
        }
        let modules: Vec<Module> =
            serde_json::from_str(text).map_err(|error| self.refuse(format!("metadata `modules`: {error}")))?;
        if modules.is_empty() {
            return Err(self.refuse("metadata `modules` lists no module"));
        }
        Ok(modules)
    }

    fn metadata(&self, key: &str) -> Result<&str> {
        let value = self.metadata.get(key).map(String::as_str);
        value.ok_or_else(|| self.refuse(format!("is not an idlora adapter: its metadata has no `{key}`")))
    }

    fn expect(&self, key: &str, expected: &str) -> Result<()> {
        match self.metadata(key)? {
            found if found == expected => Ok(()),
            found => Err(self.refuse(format!("metadata `{key}` is `{found}`, expected `{expected}`"))),
        }
    }

    /// Refuses modules listed twice and tensors of no module.
    fn check_names(&self, modules: &[Module]) -> Result<()> {
        let mut names = BTreeSet::new();
        let mut unexpected: BTreeSet<&str> = self.tensors.keys().map(String::as_str).collect();
        for Module { name, .. } in modules {
            if !names.insert(name) {
                return Err(self.refuse(format!("metadata `modules` lists `{name}` twice")));
            }
            for suffix in SUFFIXES {
                unexpected.remove(format!("{name}.{suffix}").as_str());
            }
        }
        match unexpected.first() {
            Some(name) => Err(self.refuse(format!("tensor `{name}` belongs to no module of the adapter"))),
            None => Ok(()),
        }
    }

    fn adapter(&self, module: Module) -> Result<IdLora> {
        let Module { name, rows, cols, dtype, digest, config } = module;
        let in_module = |error: Error| self.refuse(format!("module `{name}`: {error}"));
        config.check(rows, cols).map_err(in_module)?;
        let shape = (config.clusters, config.rank);
        let skeleton = self.tensor(&name, "skeleton", "U32", shape, u32::from_le_bytes)?.into_vec();
        let b = self.tensor(&name, "b", "F32", config.b_shape(rows), f32::from_le_bytes)?;
        let gate = self.tensor(&name, "gate", "F32", config.gate_shape(cols), f32::from_le_bytes)?;
        let parts = Parts { name: name.clone(), rows, cols, dtype, config, skeleton, b, gate, digest };
        IdLora::from_parts(parts).map_err(in_module)
    }

    fn tensor<T: Copy + Default>(
        &self,
        module: &str,
        suffix: &str,
        dtype: &str,
        shape: (usize, usize),
        decode: impl Fn([u8; 4]) -> T,
    ) -> Result<Mat<T>> {
        let name = format!("{module}.{suffix}");
        let entry = self.tensors.get(&name).ok_or_else(|| self.refuse(format!("tensor `{name}` is missing")))?;
        if entry.dtype != dtype || entry.shape != [shape.0, shape.1] {
            return Err(self.refuse(format!(
                "tensor `{name}` is {} {:?}, expected {dtype} [{}, {}]",
                entry.dtype, entry.shape, shape.0, shape.1
            )));
        }
        // The header has been checked: the bytes are there, four for each element.
        let bytes = &self.bytes[entry.begin as usize..][..entry.bytes as usize];
        let mut values = zeroed("a stored tensor", bytes.len() / 4)?;
        for (value, bytes) in values.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *value = decode(*bytes);
        }
        Mat::from_vec(values, shape.0, shape.1)
    }
}
