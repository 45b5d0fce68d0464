//! Texts as numbers, and documents as batches.

use crate::data::Corpus;
use crate::error::{Error, Result};
use candle_core::{Device, Tensor};
use std::path::Path;
use tokenizers::{Tokenizer, TruncationParams};

/// A tokenised document and its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// Token numbers, with those of the beginning and the end.
    pub ids: Vec<u32>,
    /// Its class.
    pub class: u32,
}

/// Documents beside each other.
pub struct Batch {
    /// Token numbers `[documents, tokens]`, 0 behind a document's end.
    pub ids: Tensor,
    /// How many tokens of each row count.
    pub lengths: Vec<usize>,
    /// Classes `[documents]`.
    pub classes: Tensor,
}

/// Reads `tokenizer.json`, cutting texts at `max_tokens`, without padding.
///
/// # Errors
/// [`Error::Tokenizer`] for what is not a tokenizer, [`Error::Operand`] for fewer than three tokens.
pub fn tokenizer(path: &Path, max_tokens: usize) -> Result<Tokenizer> {
    if max_tokens < 3 {
        return Err(Error::operand("max tokens", "at least 3: a beginning, a word, an end", max_tokens));
    }
    let failed = |error: tokenizers::Error| Error::Tokenizer(format!("{}: {error}", path.display()));
    let mut tokenizer = Tokenizer::from_file(path).map_err(failed)?;
    let truncation = TruncationParams { max_length: max_tokens, ..TruncationParams::default() };
    tokenizer.with_padding(None).with_truncation(Some(truncation)).map_err(failed)?;
    Ok(tokenizer)
}

/// Tokenises all documents; `max_tokens` is what the tokenizer cuts at.
///
/// # Errors
/// [`Error::Tokenizer`].
pub fn examples(corpus: &Corpus, tokenizer: &Tokenizer, max_tokens: usize) -> Result<Vec<Example>> {
    let all = corpus.documents.iter();
    all.map(|document| {
        Ok(Example { ids: encode(&document.text, tokenizer, max_tokens)?, class: document.class as u32 })
    })
    .collect()
}

/// The first `max_tokens` tokens of a text. A word makes a token or more, so that no word after the first `max_tokens` counts, unless
/// earlier ones made none (control characters); then the whole text is read.
fn encode(text: &str, tokenizer: &Tokenizer, max_tokens: usize) -> Result<Vec<u32>> {
    let of = |text: &str| match tokenizer.encode(text, true) {
        Ok(encoding) => Ok(encoding.get_ids().to_vec()),
        Err(error) => Err(Error::Tokenizer(error.to_string())),
    };
    let words: Vec<&str> = text.split_whitespace().take(max_tokens + 1).collect();
    if words.len() <= max_tokens {
        return of(text);
    }
    let ids = of(&words[..max_tokens].join(" "))?;
    if ids.len() < max_tokens { of(text) } else { Ok(ids) }
}

impl Batch {
    /// The named examples beside each other, as wide as the longest.
    ///
    /// # Errors
    /// [`Error::Operand`] for no examples, or one without tokens.
    pub fn new(examples: &[Example], members: &[usize]) -> Result<Self> {
        let lengths: Vec<usize> = members.iter().map(|&member| examples[member].ids.len()).collect();
        let (least, most) = (lengths.iter().min().copied().unwrap_or(0), lengths.iter().max().copied().unwrap_or(0));
        if least == 0 {
            return Err(Error::operand("batch", "documents of at least one token", "none"));
        }
        let mut ids = vec![0u32; members.len() * most];
        for (row, &member) in ids.chunks_exact_mut(most).zip(members) {
            let document = &examples[member].ids;
            row[..document.len()].copy_from_slice(document);
        }
        let classes: Vec<u32> = members.iter().map(|&member| examples[member].class).collect();
        Ok(Self {
            ids: Tensor::from_vec(ids, (members.len(), most), &Device::Cpu)?,
            lengths,
            classes: Tensor::from_vec(classes, members.len(), &Device::Cpu)?,
        })
    }
}
