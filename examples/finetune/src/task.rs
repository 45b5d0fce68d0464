//! The documents, tokenised, and the model's weights: what every run of one protocol shares.

use crate::data::{Corpus, Measure, Split};
use crate::error::Result;
use crate::model::Weights;
use crate::tokens::{self, Example};
use std::path::Path;

/// What a run reads.
pub struct Task {
    /// Names of the classes.
    pub classes: Vec<String>,
    /// All documents.
    pub examples: Vec<Example>,
    /// Which of them train.
    pub split: Split,
    /// The model.
    pub weights: Weights,
}

impl Task {
    /// Reads `data/model` and `data/documents`, as the script `fetch` leaves them.
    ///
    /// # Errors
    /// Those of the corpus, the tokenizer and the model.
    pub fn read(data: &Path, measure: Measure, max_tokens: usize) -> Result<Self> {
        let model = data.join("model");
        let tokenizer = tokens::tokenizer(&model.join("tokenizer.json"), max_tokens)?;
        let corpus = Corpus::read(&data.join("documents"))?;
        let split = corpus.split(measure);
        let examples = tokens::examples(&corpus, &tokenizer, max_tokens)?;
        Ok(Self { classes: corpus.classes, examples, split, weights: Weights::read(&model)? })
    }
}
