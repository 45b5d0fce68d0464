//! Documents in folders by class, and which of them train.

use crate::error::{Error, Result};
use crate::random::{Stream, Use};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Seed of the split into training and test documents: the same for every run.
const SPLIT_SEED: u64 = 2225;
/// One document in so many is a test document.
const TEST_ONE_IN: usize = 5;
/// One training document in so many validates while learning rates are chosen.
const VALIDATION_ONE_IN: usize = 10;

/// A text and its class.
#[derive(Clone, Debug)]
pub struct Document {
    /// Index in [`Corpus::classes`].
    pub class: usize,
    /// What it says.
    pub text: String,
}

/// All documents.
#[derive(Clone, Debug)]
pub struct Corpus {
    /// Names of the classes, sorted.
    pub classes: Vec<String>,
    /// By class and file name; no text twice.
    pub documents: Vec<Document>,
}

/// Which documents train and which are looked at afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Documents to train on.
    pub train: Vec<usize>,
    /// Documents to measure the accuracy on.
    pub held_out: Vec<usize>,
}

/// What a run is measured on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// The test documents, after training on all the others.
    Test,
    /// A tenth of the training documents, after training on the rest of them: the test documents are not touched.
    Validation,
}

impl Corpus {
    /// Reads `dir/CLASS/*.txt` in the order of the names. A text that an earlier document has word for word is dropped, so
    /// that no test document was trained on. Files that are not UTF-8 are Latin-1.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::Content`] for a folder with fewer than two classes.
    pub fn read(dir: &Path) -> Result<Self> {
        let folders = entries(dir)?.into_iter().filter(|path| path.is_dir());
        let (mut classes, mut documents, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
        for folder in folders {
            let files: Vec<_> =
                entries(&folder)?.into_iter().filter(|path| path.extension().is_some_and(|end| end == "txt")).collect();
            if files.is_empty() {
                continue;
            }
            for file in files {
                let text = decode(std::fs::read(&file).map_err(Error::io("reading", &file))?);
                if seen.insert(text.clone()) {
                    documents.push(Document { class: classes.len(), text });
                }
            }
            classes.push(folder.file_name().unwrap_or_default().to_string_lossy().into_owned());
        }
        if classes.len() < 2 {
            return Err(Error::content(dir, "folders of .txt files", "at least two classes", classes.len()));
        }
        Ok(Self { classes, documents })
    }

    /// The classes of all documents.
    pub fn labels(&self) -> Vec<usize> {
        self.documents.iter().map(|document| document.class).collect()
    }

    /// The documents to train on and to measure on.
    pub fn split(&self, measure: Measure) -> Split {
        let labels = self.labels();
        let all: Vec<usize> = (0..labels.len()).collect();
        let test = hold_out(&labels, &all, TEST_ONE_IN, SPLIT_SEED);
        match measure {
            Measure::Test => test,
            Measure::Validation => hold_out(&labels, &test.train, VALIDATION_ONE_IN, SPLIT_SEED),
        }
    }
}

/// Holds one in `one_in` of every class's members out, rounded, chosen by `seed`; both parts keep the order of `members`.
pub fn hold_out(labels: &[usize], members: &[usize], one_in: usize, seed: u64) -> Split {
    let mut stream = Stream::new(seed, Use::Split);
    let classes = labels.iter().max().map_or(0, |&most| most + 1);
    let mut held = HashSet::new();
    for class in 0..classes {
        let mut of_class: Vec<usize> = members.iter().copied().filter(|&member| labels[member] == class).collect();
        stream.shuffle(&mut of_class);
        let count = (of_class.len() + one_in / 2) / one_in;
        held.extend(of_class.into_iter().take(count));
    }
    let (held_out, train) = members.iter().partition(|member| held.contains(member));
    Split { train, held_out }
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io("reading", dir))? {
        all.push(entry.map_err(Error::io("reading", dir))?.path());
    }
    all.sort();
    Ok(all)
}

fn decode(bytes: Vec<u8>) -> String {
    match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => error.into_bytes().into_iter().map(char::from).collect(),
    }
}
