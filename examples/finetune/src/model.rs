//! BERT with a head for classes, on the CPU in f32: everything frozen but the head and what is adapted.

use crate::error::{Error, Result};
use crate::fused::{self, LayerNorm};
use crate::lora::{Lora, register};
use crate::random::{Stream, Use};
use candle_core::{Device, Module, Tensor};
use candle_nn::VarMap;
use idlora::candle::{Linear, Linears};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// What of `config.json` the model is built by.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Config {
    /// Layers.
    pub num_hidden_layers: usize,
    /// Heads of attention.
    pub num_attention_heads: usize,
    /// Features.
    pub hidden_size: usize,
    /// ε of the layer norms.
    pub layer_norm_eps: f64,
    /// The activation, which must be `gelu`.
    pub hidden_act: String,
}

/// A linear layer as it is, adapted by idlora, or with LoRA.
pub enum Projection {
    /// As it is or adapted by idlora.
    Idlora(Linear),
    /// With LoRA.
    Lora(Lora),
}

struct Layer {
    query: Projection,
    key: Projection,
    value: Projection,
    attention_output: Projection,
    attention_norm: LayerNorm,
    intermediate: Projection,
    output: Projection,
    output_norm: LayerNorm,
}

/// The encoder.
pub struct Bert {
    heads: usize,
    words: Tensor,
    /// The sum of position and type, `[positions, features]`.
    positions: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
}

/// The encoder, pooled, and a linear head.
pub struct Classifier {
    bert: Bert,
    head: candle_nn::Linear,
}

impl Projection {
    /// The layer's output for `x [.., n]`.
    ///
    /// # Errors
    /// candle's, for operands that do not fit.
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Idlora(Linear::Base(base)) => fused::linear(base, x),
            Self::Idlora(adapted) => adapted.forward(x),
            Self::Lora(lora) => lora.forward(x),
        }
    }
}

impl Layer {
    fn forward(&self, x: &Tensor, lengths: &[usize], heads: usize) -> candle_core::Result<Tensor> {
        let attended = self.attention_output.forward(&self.attend(x, lengths, heads)?)?;
        let x = self.attention_norm.forward(&(x + attended)?)?;
        let inner = fused::gelu(&self.intermediate.forward(&x)?)?;
        self.output_norm.forward(&(&x + self.output.forward(&inner)?)?)
    }

    fn attend(&self, x: &Tensor, lengths: &[usize], heads: usize) -> candle_core::Result<Tensor> {
        let (documents, tokens, features) = x.dims3()?;
        let width = features / heads;
        let by_head =
            |projected: Tensor| projected.reshape((documents, tokens, heads, width))?.transpose(1, 2)?.contiguous();
        let query = by_head(self.query.forward(x)?)?;
        let key = by_head(self.key.forward(x)?)?;
        let value = by_head(self.value.forward(x)?)?;
        let scores = query.matmul(&key.t()?)?;
        let weights = fused::softmax(&scores, 1.0 / (width as f32).sqrt(), lengths)?;
        weights.matmul(&value)?.transpose(1, 2)?.reshape((documents, tokens, features))
    }

    fn projections(&mut self) -> [(&'static str, &mut Projection); 6] {
        [
            ("attention.self.query", &mut self.query),
            ("attention.self.key", &mut self.key),
            ("attention.self.value", &mut self.value),
            ("attention.output.dense", &mut self.attention_output),
            ("intermediate.dense", &mut self.intermediate),
            ("output.dense", &mut self.output),
        ]
    }
}

impl Bert {
    /// The last layer's output `[documents, tokens, features]` for token numbers `[documents, tokens]`.
    ///
    /// # Errors
    /// candle's, for operands that do not fit.
    pub fn encode(&self, ids: &Tensor, lengths: &[usize]) -> candle_core::Result<Tensor> {
        let (documents, tokens) = ids.dims2()?;
        let words = self.words.index_select(&ids.flatten_all()?, 0)?.reshape((documents, tokens, ()))?;
        let embedded = self.norm.forward(&words.broadcast_add(&self.positions.narrow(0, 0, tokens)?)?)?;
        self.layers.iter().try_fold(embedded, |x, layer| layer.forward(&x, lengths, self.heads))
    }

    /// The mean over every document's tokens, `[documents, features]`.
    ///
    /// # Errors
    /// candle's, for operands that do not fit.
    pub fn pool(&self, ids: &Tensor, lengths: &[usize]) -> candle_core::Result<Tensor> {
        let hidden = self.encode(ids, lengths)?;
        let (documents, tokens, _) = hidden.dims3()?;
        let weight = |length: usize, token: usize| if token < length { 1.0 / length as f32 } else { 0.0 };
        let weights = lengths.iter().flat_map(|&length| (0..tokens).map(move |token| weight(length, token))).collect();
        let weights = Tensor::from_vec(weights, (documents, 1, tokens), ids.device())?;
        weights.matmul(&hidden)?.squeeze(1)
    }

    /// All linear layers with their names.
    pub fn projections(&mut self) -> impl Iterator<Item = (String, &mut Projection)> {
        self.layers.iter_mut().enumerate().flat_map(|(number, layer)| {
            layer.projections().map(|(name, projection)| (format!("encoder.layer.{number}.{name}"), projection))
        })
    }
}

impl Linears for Bert {
    fn visit_linears(&mut self, visit: &mut dyn FnMut(&str, &mut Linear) -> idlora::Result<()>) -> idlora::Result<()> {
        for (name, projection) in self.projections() {
            if let Projection::Idlora(linear) = projection {
                visit(&name, linear)?;
            }
        }
        Ok(())
    }
}

impl Classifier {
    /// Puts a head on the encoder: weights uniform in ±1/√n by `seed`, bias 0; `head.weight` and `head.bias` of `vars`.
    ///
    /// # Errors
    /// candle's, for a head that `vars` holds already.
    pub fn new(bert: Bert, classes: usize, seed: u64, vars: &VarMap) -> Result<Self> {
        let features = bert.words.dim(1)?;
        let mut stream = Stream::new(seed, Use::Head);
        let bound = 1.0 / (features as f64).sqrt();
        let weight = (0..classes * features).map(|_| stream.uniform(bound)).collect();
        let weight = register(vars, "head.weight", Tensor::from_vec(weight, (classes, features), &Device::Cpu)?)?;
        let bias = register(vars, "head.bias", Tensor::from_vec(vec![0.0f32; classes], classes, &Device::Cpu)?)?;
        Ok(Self { bert, head: candle_nn::Linear::new(weight, Some(bias)) })
    }

    /// The encoder, to adapt it.
    pub fn bert_mut(&mut self) -> &mut Bert {
        &mut self.bert
    }

    /// Scores `[documents, classes]`.
    ///
    /// # Errors
    /// candle's, for operands that do not fit.
    pub fn forward(&self, ids: &Tensor, lengths: &[usize]) -> candle_core::Result<Tensor> {
        self.head.forward(&self.bert.pool(ids, lengths)?)
    }
}

/// What a model is built from, read once; any number of models share the tensors.
pub struct Weights {
    path: PathBuf,
    config: Config,
    tensors: HashMap<String, Tensor>,
}

impl Weights {
    /// Reads `config.json` and `model.safetensors` in `dir`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Content`] for what is not a configuration, candle's for what are not tensors.
    pub fn read(dir: &Path) -> Result<Self> {
        let config = crate::disk::read_json(&dir.join("config.json"))?;
        let path = dir.join("model.safetensors");
        let tensors = candle_core::safetensors::load(&path, &Device::Cpu)?;
        Ok(Self { path, config, tensors })
    }

    /// The encoder.
    ///
    /// # Errors
    /// [`Error::Content`] for another activation, heads that do not divide the features, and a tensor that is missing.
    pub fn bert(&self) -> Result<Bert> {
        let Config { num_hidden_layers, num_attention_heads: heads, hidden_size, .. } = self.config;
        if self.config.hidden_act != "gelu" {
            return Err(Error::content(&self.path, "hidden_act", "gelu", &self.config.hidden_act));
        }
        if heads == 0 || !hidden_size.is_multiple_of(heads) {
            let expected = format!("a divisor of hidden_size, {hidden_size}");
            return Err(Error::content(&self.path, "num_attention_heads", expected, heads));
        }
        let types = self.tensor("embeddings.token_type_embeddings.weight")?.narrow(0, 0, 1)?;
        Ok(Bert {
            heads,
            words: self.tensor("embeddings.word_embeddings.weight")?,
            positions: self.tensor("embeddings.position_embeddings.weight")?.broadcast_add(&types)?,
            norm: self.norm("embeddings.LayerNorm")?,
            layers: (0..num_hidden_layers).map(|number| self.layer(number)).collect::<Result<_>>()?,
        })
    }

    fn layer(&self, number: usize) -> Result<Layer> {
        let name = |part: &str| format!("encoder.layer.{number}.{part}");
        Ok(Layer {
            query: self.linear(&name("attention.self.query"))?,
            key: self.linear(&name("attention.self.key"))?,
            value: self.linear(&name("attention.self.value"))?,
            attention_output: self.linear(&name("attention.output.dense"))?,
            attention_norm: self.norm(&name("attention.output.LayerNorm"))?,
            intermediate: self.linear(&name("intermediate.dense"))?,
            output: self.linear(&name("output.dense"))?,
            output_norm: self.norm(&name("output.LayerNorm"))?,
        })
    }

    fn linear(&self, name: &str) -> Result<Projection> {
        let (weight, bias) = (self.tensor(&format!("{name}.weight"))?, self.tensor(&format!("{name}.bias"))?);
        Ok(Projection::Idlora(Linear::from(candle_nn::Linear::new(weight, Some(bias)))))
    }

    fn norm(&self, name: &str) -> Result<LayerNorm> {
        let (scale, shift) = (self.tensor(&format!("{name}.weight"))?, self.tensor(&format!("{name}.bias"))?);
        Ok(LayerNorm::new(&scale, &shift, self.config.layer_norm_eps as f32)?)
    }

    fn tensor(&self, name: &str) -> Result<Tensor> {
        let missing = || Error::content(&self.path, name, "a tensor of this name", "none");
        self.tensors.get(name).cloned().ok_or_else(missing)
    }
}
