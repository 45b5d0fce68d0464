//! Records as files: read with suspicion, written whole or not at all.
//!
//! Writers take a lock of the operating system on a file of its own beside the record (`tune.json.lock`). The system gives it
//! back however a process ends, so there are no stale locks; the file stays, since one that is deleted can be locked by two. The
//! record itself cannot be locked: it is replaced by renaming. Readers need no lock, for they see the old file or the new.

use super::record::{Entry, Record, Refusal};
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Bytes that a record may have: thousands of entries.
const MOST: u64 = 16 << 20;
/// How long a writer waits for others, each of which reads and writes one file.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why there is no record to be had from a path.
#[derive(Debug)]
pub(super) enum Refused {
    /// A file that holds something else.
    Broken(String),
    /// Something that is none of this version's business: left as it is.
    Barred(String),
    /// The system's refusal.
    Io { action: &'static str, error: io::Error },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(reason) | Self::Barred(reason) => f.write_str(reason),
            Self::Io { action, error } => write!(f, "{action}: {error}"),
        }
    }
}

/// Where records are kept: the path in the environment variable `IDLORA_TUNE`, else `idlora/tune.json` in the user's folder for
/// caches: `$XDG_CACHE_HOME` or `$HOME/.cache`, `$HOME/Library/Caches` on macOS, `%LOCALAPPDATA%` on Windows. Variables that are
/// empty, and folders that are not absolute, count as unset. `None` where nothing is set.
pub fn default_path() -> Option<PathBuf> {
    path_from(std::env::consts::OS, |name| std::env::var_os(name))
}

pub(super) fn path_from(os: &str, variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let named = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = |name: &str| named(name).filter(|folder| folder.is_absolute());
    if let Some(path) = named("IDLORA_TUNE") {
        return Some(path);
    }
    let caches = match os {
        "windows" => folder("LOCALAPPDATA"),
        "macos" => folder("HOME").map(|home| home.join("Library/Caches")),
        _ => folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache"))),
    };
    Some(caches?.join("idlora").join("tune.json"))
}

/// Reads a record; an empty one where there is no file.
pub(super) fn read(path: &Path) -> Result<Record, Refused> {
    let Some(size) = size(path)? else { return Ok(Record::default()) };
    if size > MOST {
        return Err(Refused::Broken(format!("has {size} bytes; a record has at most {MOST}")));
    }
    let refused = |error| Refused::Io { action: "reading", error };
    let mut bytes = Vec::new();
    // It may grow, or be another file by now: the limit holds all the same.
    File::open(path).and_then(|file| file.take(MOST + 1).read_to_end(&mut bytes)).map_err(refused)?;
    if bytes.len() as u64 > MOST {
        return Err(Refused::Broken(format!("has more than {MOST} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|error| Refused::Broken(format!("no record: {error}")))?;
    Record::parse(&text).map_err(|refusal| match refusal {
        Refusal::Schema(reason) => Refused::Barred(reason),
        Refusal::Broken(reason) => Refused::Broken(reason),
    })
}

/// The size of a plain file, before it is opened: opening a pipe would wait for its other end, and a link may lead anywhere.
fn size(path: &Path) -> Result<Option<u64>, Refused> {
    match path.symlink_metadata() {
        Ok(found) if found.is_file() => Ok(Some(found.len())),
        Ok(found) if found.is_symlink() => Err(Refused::Barred("is a symbolic link, which is not followed".to_owned())),
        Ok(_) => Err(Refused::Barred("is not a file".to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Refused::Io { action: "reading", error }),
    }
}

/// Adds entries to a file, in the place of those with the same keys. A broken file is moved aside first. Returns notices; fails
/// with the reason why nothing was stored.
pub(super) fn merge(path: &Path, entries: &[Entry]) -> Result<Vec<String>, String> {
    let not_stored = |action: &str, error: io::Error| format!("nothing is stored: {action}: {error}");
    make(folder(path)).map_err(|error| not_stored("making its folder", error))?;
    let _lock = lock(path).map_err(|error| not_stored("locking", error))?;
    let mut notices = Vec::new();
    let mut record = match read(path) {
        Ok(record) => record,
        Err(Refused::Broken(reason)) => {
            let aside = set_aside(path).map_err(|error| not_stored("moving a broken record aside", error))?;
            notices.push(format!("{}: {reason}; moved to {}", path.display(), aside.display()));
            Record::default()
        }
        Err(refused) => return Err(format!("nothing is stored: {refused}")),
    };
    entries.iter().for_each(|entry| record.insert(entry.clone()));
    let text = record.to_json();
    if text.len() as u64 > MOST {
        return Err(format!("nothing is stored: the record is full ({MOST} bytes); export and clear it"));
    }
    replace(path, &text).map_err(|error| not_stored("writing", error))?;
    Ok(notices)
}

/// Removes a file, whatever it is; says whether there was one.
pub(super) fn clear(path: &Path) -> io::Result<bool> {
    if !folder(path).exists() {
        return Ok(false);
    }
    let _lock = lock(path)?;
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a folder as the XDG specification wants it: for the user alone.
fn make(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

/// A file beside the record.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Waits for the lock; it ends with the file.
fn lock(path: &Path) -> io::Result<File> {
    let name = beside(path, ".lock");
    if name.symlink_metadata().is_ok_and(|found| !found.is_file()) {
        return Err(io::Error::other(format!("{} is not a file", name.display())));
    }
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(name)?;
    let started = Instant::now();
    loop {
        match fs4::FileExt::try_lock(&file) {
            Ok(()) => return Ok(file),
            Err(fs4::TryLockError::WouldBlock) if started.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(fs4::TryLockError::WouldBlock) => {
                return Err(io::Error::new(ErrorKind::TimedOut, format!("another process holds it for {PATIENCE:?}")));
            }
            Err(fs4::TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Gives a broken record a name of its own, under which it replaces no other.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let numbered = (2..10).map(|number| format!(".broken-{number}"));
    let mut names = [".broken".to_owned()].into_iter().chain(numbered).map(|suffix| beside(path, &suffix));
    let free = names.find(|name| name.symlink_metadata().is_err());
    let free = free.ok_or_else(|| io::Error::other("there are nine of them already"))?;
    fs::rename(path, &free)?;
    Ok(free)
}

/// Writes a file of another name and gives it this one. Under the lock: what a writer that was killed left there is nobody's.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let temporary = beside(path, ".new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = OpenOptions::new().write(true).create_new(true).open(&temporary).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        drop(file);
        fs::rename(&temporary, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&temporary); // the first error is the one to tell
    }
    written
}
