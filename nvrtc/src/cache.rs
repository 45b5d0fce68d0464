//! What was compiled before, in a folder that any number of processes may share.

use crate::{CompileError, Compiled, Nvrtc, Source};
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// First line of an entry; another layout has another.
const FORMAT: &[u8] = b"idlora-nvrtc 1\n";

/// A folder of [`Compiled`] sources. An entry holds all that went into it, headers, options, the compiler's own version and the
/// working directory among it, and is taken only where all of that is the same to the byte; one that is damaged is made anew. There is one entry
/// for each name, architecture and set of options, so that the folder does not grow with every change of a source. Entries are
/// written elsewhere and renamed into place. A folder that cannot be read or written costs time, nothing else.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The cache in a folder, which is made when there is something to put into it.
    pub fn new(folder: impl Into<PathBuf>) -> Cache {
        Cache { folder: folder.into() }
    }

    /// What [`Nvrtc::compile`] returns, from the folder where it is there. Errors are not kept.
    ///
    /// # Errors
    ///
    /// [`CompileError`] with the compiler's log.
    pub fn compile(&self, nvrtc: &Nvrtc, source: &Source<'_>) -> Result<Compiled, CompileError> {
        // Line information names files from the working directory on.
        let here = std::env::current_dir().unwrap_or_default();
        let key = key(&format!("{} in {}", compiler(nvrtc), here.display()), source);
        let path = self.folder.join(name(source));
        if let Some(compiled) = std::fs::read(&path).ok().and_then(|entry| read(&entry, &key)) {
            return Ok(compiled);
        }
        let compiled = nvrtc.compile(source)?;
        // Without an entry the next one compiles again.
        let _ = self.write(&path, &entry(&key, &compiled));
        Ok(compiled)
    }

    fn write(&self, path: &Path, entry: &[u8]) -> std::io::Result<()> {
        static WRITTEN: AtomicUsize = AtomicUsize::new(0);
        std::fs::create_dir_all(&self.folder)?;
        let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
        let new = self.folder.join(format!("new.{}.{number}", std::process::id()));
        let written = std::fs::write(&new, entry).and_then(|()| std::fs::rename(&new, path));
        if written.is_err() {
            let _ = std::fs::remove_file(&new);
        }
        written
    }
}

/// How the compiler calls itself, to the build, in the head of what it makes of nothing: [`Nvrtc::version`] is the same for
/// several.
fn compiler(nvrtc: &Nvrtc) -> &'static str {
    static COMPILER: OnceLock<String> = OnceLock::new();
    COMPILER.get_or_init(|| {
        let nothing = nvrtc.compile(&Source { text: "", ..Source::default() });
        nothing.map(|compiled| compiled.ptx).unwrap_or_else(|error| error.to_string())
    })
}

/// The file of an entry.
fn name(source: &Source<'_>) -> String {
    let mut text = Vec::new();
    source.options.iter().for_each(|option| put(&mut text, option.as_bytes()));
    put(&mut text, source.name.as_bytes());
    let stem = source.name.rsplit(['/', '\\']).next().unwrap_or_default();
    let stem: String = stem.chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).take(64).collect();
    format!("{stem}.{}.{:016x}", source.arch, hash(&text))
}

/// All that a result depends on.
fn key(compiler: &str, source: &Source<'_>) -> Vec<u8> {
    let Source { name, text, arch, options, headers } = *source;
    let mut key = Vec::new();
    [compiler, name, text, arch].iter().for_each(|part| put(&mut key, part.as_bytes()));
    put(&mut key, &(options.len() as u64).to_le_bytes());
    options.iter().for_each(|option| put(&mut key, option.as_bytes()));
    headers.iter().for_each(|(name, text)| {
        put(&mut key, name.as_bytes());
        put(&mut key, text.as_bytes());
    });
    key
}

fn entry(key: &[u8], Compiled { ptx, cubin, log }: &Compiled) -> Vec<u8> {
    let mut entry = FORMAT.to_vec();
    [key, ptx.as_bytes(), cubin, log.as_bytes()].iter().for_each(|part| put(&mut entry, part));
    let sum = hash(&entry);
    entry.extend(sum.to_le_bytes());
    entry
}

/// What an entry holds; `None` if it is not whole, or of another key.
fn read(entry: &[u8], key: &[u8]) -> Option<Compiled> {
    let (body, sum) = entry.split_last_chunk()?;
    if hash(body) != u64::from_le_bytes(*sum) {
        return None;
    }
    let mut rest = body.strip_prefix(FORMAT)?;
    if take(&mut rest)? != key {
        return None;
    }
    let mut text = || Some(take(&mut rest)?.to_vec());
    let (ptx, cubin, log) = (text()?, text()?, text()?);
    Some(Compiled { ptx: String::from_utf8(ptx).ok()?, cubin, log: String::from_utf8(log).ok()? })
}

/// Appends bytes behind their number.
fn put(to: &mut Vec<u8>, part: &[u8]) {
    to.extend((part.len() as u64).to_le_bytes());
    to.extend(part);
}

/// The bytes that [`put`] appended, from the front.
fn take<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, rest) = from.split_first_chunk()?;
    let (part, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
    *from = rest;
    Some(part)
}

/// Against accidents, not against enemies: who can write here can write what is compiled. Another Rust may hash otherwise, and
/// then compiles anew.
fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADERS: [(&str, &str); 2] = [("a.cuh", "int a;"), ("b.cuh", "int b;")];
    const SOURCE: Source<'_> =
        Source { name: "kernels/x.cu", text: "int x;", arch: "sm_80", options: &["-DA", "-DB"], headers: &HEADERS };

    fn compiled() -> Compiled {
        Compiled { ptx: "ptx".to_owned(), cubin: vec![0, 255, 7], log: String::new() }
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let key = key("13.0", &SOURCE);
        assert_eq!(read(&entry(&key, &compiled()), &key), Some(compiled()));
    }

    /// Everything that the result depends on, and nothing moved from one part to the next.
    #[test]
    fn whatever_differs_is_another_key() {
        let same = key("13.0", &SOURCE);
        let whole = entry(&same, &compiled());
        let others = [
            key("13.1", &SOURCE),
            key("13.0", &Source { name: "kernels/y.cu", ..SOURCE }),
            key("13.0", &Source { text: "int  x;", ..SOURCE }),
            key("13.0", &Source { arch: "sm_90", ..SOURCE }),
            key("13.0", &Source { options: &["-DA"], ..SOURCE }),
            key("13.0", &Source { options: &["-DA-DB"], ..SOURCE }),
            key("13.0", &Source { options: &["-DA", "-DB", "a.cuh", "int a;"], headers: &HEADERS[1..], ..SOURCE }),
            key("13.0", &Source { headers: &HEADERS[..1], ..SOURCE }),
            key("13.0", &Source { headers: &[("a.cuh", "int a;"), ("b.cuh", "int c;")], ..SOURCE }),
            key("13.0", &Source { headers: &[("a.cuh", "int a;b.cuh"), ("", "int b;")], ..SOURCE }),
        ];
        for (i, other) in others.iter().enumerate() {
            assert_eq!(read(&whole, other), None, "{i}");
        }
        assert_ne!(name(&SOURCE), name(&Source { options: &["-DA"], ..SOURCE }));
        assert_ne!(name(&SOURCE), name(&Source { arch: "sm_90", ..SOURCE }));
        assert_eq!(name(&SOURCE), name(&Source { text: "", headers: &[], ..SOURCE }), "the next one takes its place");
    }

    #[test]
    fn a_damaged_entry_is_none() {
        let key = key("13.0", &SOURCE);
        let whole = entry(&key, &compiled());
        for len in 0..whole.len() {
            assert_eq!(read(&whole[..len], &key), None, "cut off at {len}");
        }
        for i in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[i] ^= 16;
            assert_eq!(read(&damaged, &key), None, "byte {i}");
        }
        assert_eq!(read(&[&whole[..], &[0]].concat(), &key), None, "a byte too many");
    }
}
