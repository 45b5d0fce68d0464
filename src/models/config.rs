//! What a `config.json` says of the linear layers.

use super::{Decoder, Linear, bert, linear};
use crate::error::{Error, Result};
use serde_json::{Map, Value};

const OP: &str = "model configuration";

/// Larger sizes are mistakes; products of three still fit 64 bits, with room.
const LARGEST: u64 = 1 << 24;

const KNOWN: [&str; 11] =
    ["bert", "roberta", "xlm-roberta", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "phi3", "gpt2"];
const NEOX: &str = "gpt_neox";

/// Keys by which models with several experts a block say so.
const EXPERTS: [&str; 4] = ["num_local_experts", "num_experts", "n_routed_experts", "moe_intermediate_size"];

/// The layers of a model. `source` names the text where it is none.
pub fn layers(source: &str, text: &str) -> Result<Vec<Linear>> {
    let value: Value = serde_json::from_str(text).map_err(|error| Error::format(source, error.to_string()))?;
    let Value::Object(keys) = value else {
        return Err(Error::format(source, "holds no JSON object, so it is no model's configuration"));
    };
    let config = Config(&keys);
    let Some(kind) = config.get("model_type").and_then(Value::as_str) else {
        let found = config.get("model_type").map_or("missing".to_owned(), shown);
        return Err(Error::parameter(OP, "model_type", format!("one of {}", known()), found));
    };
    let experts = EXPERTS.iter().find(|key| config.get(key).is_some());
    if let Some(reason) = experts.map(|key| format!("has `{key}`")) {
        return Err(Error::unsupported(
            OP,
            format!("model_type `{}` {reason}: mixtures of experts are not read; known are {}", quoted(kind), known()),
        ));
    }
    match kind {
        "bert" | "roberta" | "xlm-roberta" => {
            let hidden = config.size("hidden_size")?;
            config.divides("num_attention_heads", config.size("num_attention_heads")?, "hidden_size", hidden)?;
            Ok(bert(config.size("num_hidden_layers")?, hidden, config.size("intermediate_size")?))
        }
        "llama" | "mistral" | "qwen2" | "qwen3" | "gemma" | "gemma2" => Ok(config.decoder(kind)?.layers()),
        "phi3" => Ok(config.decoder(kind)?.fused()),
        "gpt2" => config.gpt2(),
        NEOX => config.gpt_neox(),
        _ => Err(Error::unsupported(OP, format!("model_type `{}` is not known; known are {}", quoted(kind), known()))),
    }
}

fn known() -> String {
    format!("`{}` and `{NEOX}`", KNOWN.join("`, `"))
}

/// A file's own word, short and on one line.
fn quoted(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() > 64 { format!("{}…", quoted(&text)) } else { text }
}

struct Config<'a>(&'a Map<String, Value>);

impl Config<'_> {
    /// `null` is as good as missing: `transformers` writes both.
    fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn size(&self, key: &'static str) -> Result<usize> {
        self.optional(key)?.ok_or_else(|| refused(key, "missing".to_owned()))
    }

    fn optional(&self, key: &'static str) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64() {
            Some(size @ 1..=LARGEST) => Ok(Some(size as usize)),
            _ => Err(refused(key, shown(value))),
        }
    }

    fn flag(&self, key: &'static str, default: bool) -> Result<bool> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value.as_bool().ok_or_else(|| Error::parameter(OP, key, "true or false", shown(value)))
    }

    fn divides(&self, key: &'static str, parts: usize, of: &str, whole: usize) -> Result<usize> {
        if whole.is_multiple_of(parts) {
            return Ok(whole / parts);
        }
        Err(Error::parameter(OP, key, format!("a divisor of `{of}`, which is {whole}"), parts))
    }

    /// Models with query, key, value and a gated feed-forward part. Heads of keys and values are as many as there are heads
    /// where the architecture has that default; elsewhere the default is a number of its own that nobody relies on.
    fn decoder(&self, kind: &str) -> Result<Decoder> {
        let (hidden, heads) = (self.size("hidden_size")?, self.size("num_attention_heads")?);
        let as_heads = matches!(kind, "llama" | "phi3") || self.0.contains_key("num_key_value_heads");
        let kv_heads = match self.optional("num_key_value_heads")? {
            None if as_heads => heads,
            found => found.ok_or_else(|| refused("num_key_value_heads", "missing".to_owned()))?,
        };
        self.divides("num_key_value_heads", kv_heads, "num_attention_heads", heads)?;
        let head_dim = match self.optional("head_dim")? {
            Some(head_dim) => head_dim,
            // Their defaults, 128 and 256, are not hidden_size over heads.
            None if matches!(kind, "qwen3" | "gemma" | "gemma2") => self.size("head_dim")?,
            None => self.divides("num_attention_heads", heads, "hidden_size", hidden)?,
        };
        for (key, count) in [("num_attention_heads", heads), ("num_key_value_heads", kv_heads)] {
            if count as u64 * head_dim as u64 > LARGEST {
                let most = LARGEST / head_dim as u64;
                return Err(Error::parameter(OP, key, format!("at most {most} heads of {head_dim}"), count));
            }
        }
        let attention_bias = match kind {
            "llama" | "qwen3" | "gemma" | "gemma2" => self.flag("attention_bias", false)?,
            _ => false,
        };
        Ok(Decoder {
            blocks: self.size("num_hidden_layers")?,
            hidden,
            intermediate: self.size("intermediate_size")?,
            heads,
            kv_heads,
            head_dim,
            qkv_bias: attention_bias || kind == "qwen2",
            o_bias: attention_bias,
            mlp_bias: kind == "llama" && self.flag("mlp_bias", false)?,
        })
    }

    fn gpt2(&self) -> Result<Vec<Linear>> {
        let (width, blocks) = (self.size("n_embd")?, self.size("n_layer")?);
        self.divides("n_head", self.size("n_head")?, "n_embd", width)?;
        let inner = self.optional("n_inner")?.unwrap_or(4 * width);
        Ok([
            ("attn.c_attn", (3 * width, width)),
            ("attn.c_proj", (width, width)),
            ("mlp.c_fc", (inner, width)),
            ("mlp.c_proj", (width, inner)),
        ]
        .map(|(name, shape)| linear(name, shape, blocks, true))
        .to_vec())
    }

    fn gpt_neox(&self) -> Result<Vec<Linear>> {
        let (hidden, blocks) = (self.size("hidden_size")?, self.size("num_hidden_layers")?);
        self.divides("num_attention_heads", self.size("num_attention_heads")?, "hidden_size", hidden)?;
        let inner = self.size("intermediate_size")?;
        let bias = self.flag("attention_bias", true)?;
        Ok([
            ("attention.query_key_value", (3 * hidden, hidden), bias),
            ("attention.dense", (hidden, hidden), bias),
            ("mlp.dense_h_to_4h", (inner, hidden), true),
            ("mlp.dense_4h_to_h", (hidden, inner), true),
        ]
        .map(|(name, shape, bias)| linear(name, shape, blocks, bias))
        .to_vec())
    }
}

fn refused(key: &'static str, found: String) -> Error {
    Error::parameter(OP, key, format!("a whole number from 1 to {LARGEST}"), found)
}
