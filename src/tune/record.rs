//! Records of measurements: what a file of them holds.
//!
//! ```text
//! {"schema":1,"entries":[
//! {"entry":{"key":{…},"config":{…},"measurements":[…],"finals":[…],"version":"0.1.0"},"digest":"…"},
//! …
//! ]}
//! ```
//!
//! One entry a line, in the order of the keys, so that the same measurements are the same bytes. The digest is over the entry
//! as this crate writes it: one that has been changed since is refused, and the others stay.

use super::Config;
pub use super::key::Key;
use super::key::{hexadecimal, plain, printable};
use super::measure::median;
use super::store;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
pub use store::default_path;

/// The number of this layout.
pub(super) const SCHEMA: u64 = 1;
/// Entries that a file may have.
const ENTRIES: usize = 1 << 14;

/// A choice and everything measured for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Entry {
    /// What it is a choice for.
    pub key: Key,
    /// The choice.
    pub config: Config,
    /// Every way that was run, the default first.
    pub measurements: Vec<Measurement>,
    /// The comparisons in pairs, in the order in which they were made.
    pub finals: Vec<Final>,
    /// The version of this crate that measured.
    pub version: String,
}

/// A way of running a kernel, and how long it took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Measurement {
    /// The way.
    pub config: Config,
    /// Seconds that the cost model expected.
    pub modelled: f64,
    /// Seconds of a run, measured one after another; none where it was refused.
    pub samples: Vec<f64>,
    /// What became of it.
    pub verdict: String,
}

impl Measurement {
    /// The median of its samples.
    pub fn seconds(&self) -> Option<f64> {
        median(&self.samples)
    }
}

/// Two ways, timed in turns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Final {
    /// The one ranked first, and its challenger.
    pub configs: [Config; 2],
    /// Seconds of both, as they took turns; the first has the last turn too, unless the budget ended.
    pub seconds: [Vec<f64>; 2],
}

impl Final {
    /// Every time of the challenger's, after the mean of those of the other before and after it: if the clock drifts, that is
    /// what the other would have taken at the same moment.
    pub fn pairs(&self) -> impl Iterator<Item = [f64; 2]> {
        let [first, challenger] = &self.seconds;
        challenger.iter().zip(first).enumerate().map(|(turn, (&seconds, &before))| {
            let after = first.get(turn + 1).map_or(before, |&after| after);
            [f64::midpoint(before, after), seconds]
        })
    }
}

/// Entries of a file.
#[derive(Debug, Default)]
pub struct Record {
    entries: BTreeMap<Key, Entry>,
    /// What is not understood, kept as it is.
    unknown: Vec<Unknown>,
}

#[derive(Debug)]
struct Unknown {
    key: Option<Key>,
    reason: String,
    text: Box<RawValue>,
}

/// Why a text is no record of this version.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It says that it is of another.
    Schema(String),
    /// It is none at all.
    Broken(String),
}

#[derive(Deserialize)]
struct Head {
    schema: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File<'a> {
    #[allow(dead_code)] // read as `Head`
    schema: u64,
    #[serde(borrow)]
    entries: Vec<&'a RawValue>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    entry: Entry,
    digest: String,
}

impl Record {
    /// Reads a file. One that is not there is an empty record. Entries that are not understood are [`Record::notices`].
    ///
    /// # Errors
    /// [`Error::Format`] for a file that is no record of this version, or no file; [`Error::Io`] where it cannot be read.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        match store::read(path) {
            Ok(record) => Ok(record),
            Err(store::Refused::Io { action, error }) => Err(Error::io(path, action, error)),
            Err(refused) => Err(Error::format(path, refused.to_string())),
        }
    }

    /// Removes a file, whatever it holds, and says whether there was one. Waits for processes that are storing.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn clear(path: impl AsRef<Path>) -> Result<bool> {
        let path = path.as_ref();
        store::clear(path).map_err(|error| Error::io(path, "clearing", error))
    }

    /// Adds the entries to those of a file; where both have a key, these replace the file's. Returns notices.
    ///
    /// # Errors
    /// [`Error::Format`] where the file is not replaced, and why.
    pub fn merge_into(&self, path: impl AsRef<Path>) -> Result<Vec<String>> {
        let path = path.as_ref();
        let entries: Vec<Entry> = self.entries.values().cloned().collect();
        store::merge(path, &entries).map_err(|reason| Error::format(path, reason))
    }

    /// Its entries, in the order of their keys.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.values()
    }

    /// The entry of a key.
    pub fn get(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// Entries that are not understood, a line for each: of another version, changed by hand, damaged.
    pub fn notices(&self) -> Vec<String> {
        let place = |unknown: &Unknown| unknown.key.as_ref().map_or("an entry".to_owned(), |key| format!("`{key}`"));
        self.unknown.iter().map(|unknown| format!("{} is not used: {}", place(unknown), unknown.reason)).collect()
    }

    /// The text of a file with these entries, those that are not understood among them.
    pub fn to_json(&self) -> String {
        let lines = self.entries.values().map(sealed);
        let lines: Vec<String> =
            lines.chain(self.unknown.iter().map(|unknown| unknown.text.get().to_owned())).collect();
        format!("{{\"schema\":{SCHEMA},\"entries\":[\n{}\n]}}\n", lines.join(",\n"))
    }

    /// Puts an entry in the place of whatever there is for its key.
    pub(super) fn insert(&mut self, entry: Entry) {
        self.unknown.retain(|unknown| unknown.key.as_ref() != Some(&entry.key));
        self.entries.insert(entry.key.clone(), entry);
    }

    /// Reads a text.
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        let broken = |error: serde_json::Error| Refusal::Broken(format!("no record: {}", plain(&error.to_string())));
        let head: Head = serde_json::from_str(text).map_err(broken)?;
        if head.schema != SCHEMA {
            return Err(Refusal::Schema(format!("has schema {}, this version has {SCHEMA}", head.schema)));
        }
        let file: File<'_> = serde_json::from_str(text).map_err(broken)?;
        if file.entries.len() > ENTRIES {
            let reason = format!("no record: {} entries are more than {ENTRIES}", file.entries.len());
            return Err(Refusal::Broken(reason));
        }
        let mut record = Self::default();
        file.entries.into_iter().for_each(|text| record.take(text));
        Ok(record)
    }

    fn take(&mut self, text: &RawValue) {
        let found = entry(text.get()).and_then(|entry| match self.doubted(&entry.key) {
            true => Err("the record has several for this key".to_owned()),
            false => Ok(entry),
        });
        match found {
            Ok(entry) => drop(self.entries.insert(entry.key.clone(), entry)),
            Err(reason) => self.unknown.push(Unknown { key: key(text.get()), reason, text: text.to_owned() }),
        }
    }

    /// Whether there is an entry for a key already. Which of several holds, nobody can say: none does.
    fn doubted(&mut self, key: &Key) -> bool {
        if let Some(first) = self.entries.remove(key) {
            let reason = "the record has several for this key".to_owned();
            // What this crate has written is JSON.
            let text = RawValue::from_string(sealed(&first)).unwrap_or_else(|_| RawValue::NULL.to_owned());
            self.unknown.push(Unknown { key: Some(first.key), reason, text });
            return true;
        }
        self.unknown.iter().any(|unknown| unknown.key.as_ref() == Some(key))
    }
}

/// An entry with its digest, on one line.
fn sealed(entry: &Entry) -> String {
    let line = Sealed { entry: entry.clone(), digest: digest(entry) };
    serde_json::to_string(&line).unwrap_or_default() // no map with odd keys, no error of a writer
}

fn digest(entry: &Entry) -> String {
    let text = serde_json::to_string(entry).unwrap_or_default();
    hexadecimal(&Sha256::digest(text))
}

fn entry(text: &str) -> Result<Entry, String> {
    let Sealed { entry, digest: stated } = serde_json::from_str(text).map_err(|error| plain(&error.to_string()))?;
    if digest(&entry) != stated {
        return Err("it was changed after it was measured".to_owned());
    }
    let seconds = entry.measurements.iter().flat_map(|one| [one.modelled].into_iter().chain(one.samples.clone()));
    let mut seconds = seconds.chain(entry.finals.iter().flat_map(|one| one.seconds.concat()));
    if let Some(wrong) = seconds.find(|seconds| !(seconds.is_finite() && *seconds >= 0.0)) {
        return Err(format!("{wrong} are no seconds"));
    }
    let texts = entry.measurements.iter().map(|one| one.verdict.as_str()).chain([entry.version.as_str()]);
    if let Some(wrong) = { texts }.find(|text| !printable(text)).or(entry.key.unprintable()) {
        return Err(format!("`{}` is no name", plain(wrong)));
    }
    Ok(entry)
}

/// The key of an entry whose rest is not understood.
fn key(text: &str) -> Option<Key> {
    #[derive(Deserialize)]
    struct Outer {
        entry: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        key: Key,
    }
    let outer: Option<Outer> = serde_json::from_str(text).ok();
    outer.map(|outer| outer.entry.key).filter(|key| key.unprintable().is_none())
}
