//! The linear layers of models by their shapes: from a Hugging Face `config.json`, and of a few models by name. What tuning and
//! the kernel sweeps run on; no weights are read.
//!
//! ```
//! use idlora::models::Model;
//! let text = r#"{"model_type": "bert", "hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6,
//!                "num_attention_heads": 12}"#;
//! let model = Model::parse("minilm", text)?;
//! assert_eq!(model.shapes(), [(384, 384), (1536, 384), (384, 1536)]);
//! assert_eq!(model.layers, Model::named("all-minilm-l6-v2").unwrap().layers);
//! # Ok::<(), idlora::Error>(())
//! ```

mod config;

use crate::error::{Error, Result};
use std::path::Path;

/// Larger files are no configurations.
const LONGEST: u64 = 1 << 24;

/// Linear layers that a model has in each of its blocks.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Linear {
    /// As the model's tensors call it within a block, such as `q_proj`.
    pub name: String,
    /// Output features m.
    pub rows: usize,
    /// Input features n.
    pub cols: usize,
    /// How many the model has: one in each block.
    pub count: usize,
    /// Whether they have a bias.
    pub bias: bool,
}

/// A model's linear layers, but for embeddings and heads.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Model {
    /// What it was asked for as.
    pub name: String,
    /// In the order of a block's forward.
    pub layers: Vec<Linear>,
}

/// A block with a gated feed-forward part, as most decoders have it.
#[derive(Clone, Copy)]
struct Decoder {
    blocks: usize,
    hidden: usize,
    intermediate: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    qkv_bias: bool,
    o_bias: bool,
    mlp_bias: bool,
}

/// What is known by name, as published: blocks, hidden size, intermediate size, heads, heads of keys and values, a bias of
/// query, key and value. Heads have 64 features or 128.
const DECODERS: [(&str, [usize; 5], bool); 3] = [
    ("smollm2-135m", [30, 576, 1536, 9, 3], false),
    ("llama-3-8b", [32, 4096, 14336, 32, 8], false),
    ("qwen2.5-14b", [48, 5120, 13824, 40, 8], true),
];
const MINILM: &str = "all-minilm-l6-v2";

impl Model {
    /// A model that is known by name, in any case of letters: one of [`Model::names`].
    pub fn named(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        if name == MINILM {
            return Some(Self { name, layers: bert(6, 384, 1536) });
        }
        let &(_, [blocks, hidden, intermediate, heads, kv_heads], qkv_bias) =
            DECODERS.iter().find(|(known, ..)| *known == name)?;
        let head_dim = hidden / heads;
        let (o_bias, mlp_bias) = (false, false);
        let decoder = Decoder { blocks, hidden, intermediate, heads, kv_heads, head_dim, qkv_bias, o_bias, mlp_bias };
        Some(Self { name, layers: decoder.layers() })
    }

    /// What [`Model::named`] knows, smallest first.
    pub fn names() -> Vec<&'static str> {
        std::iter::once(MINILM).chain(DECODERS.map(|(name, ..)| name)).collect()
    }

    /// Reads the text of a `config.json`. Known are BERT and what is built like it (`bert`, `roberta`, `xlm-roberta`), `llama`
    /// (SmolLM2 too), `mistral`, `qwen2`, `qwen3`, `gemma`, `gemma2`, `phi3`, `gpt2` and `gpt_neox`. What an architecture's
    /// own code defaults to is taken as that default; other keys are not looked at.
    ///
    /// GPT-2 stores its weights as `[in, out]`; the shapes here are `[out, in]` for all models.
    ///
    /// # Errors
    /// [`Error::Format`] for what is no JSON object, [`Error::Unsupported`] for another `model_type` and for mixtures of
    /// experts, [`Error::Parameter`] for a key that is missing or holds what no model can have: sizes from 1 to 2²⁴, and
    /// heads that divide them.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        Ok(Self { name: name.to_owned(), layers: config::layers(name, text)? })
    }

    /// Reads a `config.json`, or the one in a folder; the model goes by the folder's name.
    ///
    /// # Errors
    /// As [`Model::parse`], [`Error::Io`] for a file that cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let file = if path.is_dir() { path.join("config.json") } else { path.to_path_buf() };
        let io = |source| Error::io(&file, "reading the model's configuration", source);
        let bytes = std::fs::metadata(&file).map_err(io)?.len();
        if bytes > LONGEST {
            return Err(Error::format(&file, format!("has {bytes} bytes, which no model's configuration needs")));
        }
        let text = std::fs::read_to_string(&file).map_err(io)?;
        let folder = file.canonicalize().map_err(io)?;
        let folder = folder.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        let layers = config::layers(&file.to_string_lossy(), &text)?;
        Ok(Self { name: folder.unwrap_or_else(|| "model".to_owned()), layers })
    }

    /// `(rows, cols)` of every layer, each once, in the order of their first layer.
    pub fn shapes(&self) -> Vec<(usize, usize)> {
        let mut shapes = Vec::new();
        for layer in &self.layers {
            if !shapes.contains(&(layer.rows, layer.cols)) {
                shapes.push((layer.rows, layer.cols));
            }
        }
        shapes
    }
}

fn linear(name: &str, (rows, cols): (usize, usize), count: usize, bias: bool) -> Linear {
    Linear { name: name.to_owned(), rows, cols, count, bias }
}

/// All layers of BERT have a bias.
fn bert(blocks: usize, hidden: usize, intermediate: usize) -> Vec<Linear> {
    let square = (hidden, hidden);
    [
        ("attention.self.query", square),
        ("attention.self.key", square),
        ("attention.self.value", square),
        ("attention.output.dense", square),
        ("intermediate.dense", (intermediate, hidden)),
        ("output.dense", (hidden, intermediate)),
    ]
    .map(|(name, shape)| linear(name, shape, blocks, true))
    .to_vec()
}

impl Decoder {
    /// Query, key and value apart, gate and up apart.
    fn layers(&self) -> Vec<Linear> {
        let Self { blocks, hidden, intermediate, .. } = *self;
        let (all, shared) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        [
            ("q_proj", (all, hidden), self.qkv_bias),
            ("k_proj", (shared, hidden), self.qkv_bias),
            ("v_proj", (shared, hidden), self.qkv_bias),
            ("o_proj", (hidden, all), self.o_bias),
            ("gate_proj", (intermediate, hidden), self.mlp_bias),
            ("up_proj", (intermediate, hidden), self.mlp_bias),
            ("down_proj", (hidden, intermediate), self.mlp_bias),
        ]
        .map(|(name, shape, bias)| linear(name, shape, blocks, bias))
        .to_vec()
    }

    /// Phi-3's: query, key and value are one layer, gate and up are one.
    fn fused(&self) -> Vec<Linear> {
        let Self { blocks, hidden, intermediate, .. } = *self;
        let (all, shared) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        [
            ("qkv_proj", (all + 2 * shared, hidden), self.qkv_bias),
            ("o_proj", (hidden, all), self.o_bias),
            ("gate_up_proj", (2 * intermediate, hidden), self.mlp_bias),
            ("down_proj", (hidden, intermediate), self.mlp_bias),
        ]
        .map(|(name, shape, bias)| linear(name, shape, blocks, bias))
        .to_vec()
    }
}
