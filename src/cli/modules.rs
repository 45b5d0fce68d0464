//! Which tensors of a checkpoint get an adapter, and with which configuration.

use super::args::{Init, Layout};
use super::text::counted;
use super::{Failure, Result};
use idlora::adapter::Config;
use idlora::format::checkpoint::{Checkpoint, TensorInfo, Weight};
use regex::Regex;

/// Matrices that are no linear layer of the body: embeddings, heads, poolers. Names as Hugging Face models spell them.
const NOT_ADAPTED: &str = r"(?i)embed|lm_head|pooler|classifier|relative_attention_bias|(^|\.)(wte|wpe|shared|score|head|heads|output_layer)\.weight$|^output\.weight$";

/// One matrix to adapt.
#[derive(Clone, Debug)]
pub struct Module {
    pub name: String,
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub cols: usize,
    /// Bytes of its weight.
    pub bytes: u64,
    pub config: Config,
    pub layout: Layout,
}

/// A matrix that the default choice leaves out.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Skipped {
    pub name: String,
    pub shape: Vec<usize>,
    pub reason: String,
}

/// What `init` will work on.
#[derive(Debug)]
pub struct Choice {
    pub modules: Vec<Module>,
    pub skipped: Vec<Skipped>,
}

impl Module {
    /// The weight as `[out, in]`.
    pub fn read(&self, checkpoint: &Checkpoint) -> idlora::Result<Weight> {
        let stored = checkpoint.read(&self.name)?;
        match self.layout {
            Layout::OutIn => Ok(stored),
            Layout::InOut => stored.transposed(),
        }
    }
}

/// Chooses the matrices and checks every configuration against its shape, without reading a weight.
pub fn choose(checkpoint: &Checkpoint, args: &Init) -> Result<Choice> {
    let candidates: Vec<&TensorInfo> = match &args.matching {
        Some(regex) => explicit(checkpoint, regex)?,
        None => linear_weights(checkpoint),
    };
    let mut choice = Choice { modules: Vec::new(), skipped: Vec::new() };
    let mut used = vec![false; args.pattern.len()];
    for tensor in candidates {
        let pattern = args.pattern.iter().position(|pattern| pattern.regex.is_match(&tensor.name));
        let module = module_of(tensor, args, pattern);
        if let Some(at) = pattern {
            used[at] = true;
        }
        match module.config.check(module.rows, module.cols) {
            Ok(()) => choice.modules.push(module),
            // What was asked for by name must fit; what was only found may not.
            Err(error) if args.matching.is_some() || pattern.is_some() => {
                return Err(Failure::command(format!("module `{}`: {error}", tensor.name)));
            }
            Err(error) => choice.skipped.push(Skipped {
                name: tensor.name.clone(),
                shape: tensor.shape.clone(),
                reason: error.to_string(),
            }),
        }
    }
    if let Some(at) = used.iter().position(|used| !used) {
        let regex = &args.pattern[at].regex;
        return Err(Failure::command(format!(
            "--pattern `{regex}` is the first match of no module: check the expression and the order of the patterns"
        )));
    }
    match (choice.modules.is_empty(), choice.skipped.first()) {
        (false, _) => Ok(choice),
        (true, Some(first)) => Err(Failure::command(format!(
            "{}: no matrix fits; {} left out, the first `{}`: {}",
            checkpoint.path().display(),
            counted(choice.skipped.len(), "matrix"),
            first.name,
            first.reason
        ))),
        (true, None) => Err(nothing_found(checkpoint)),
    }
}

fn module_of(tensor: &TensorInfo, args: &Init, pattern: Option<usize>) -> Module {
    let mut config = args.config();
    if let Some(pattern) = pattern.map(|at| &args.pattern[at]) {
        config.rank = pattern.rank;
        config.alpha = pattern.alpha;
    }
    let (rows, cols) = match args.layout {
        Layout::OutIn => (tensor.shape[0], tensor.shape[1]),
        Layout::InOut => (tensor.shape[1], tensor.shape[0]),
    };
    Module { name: tensor.name.clone(), rows, cols, bytes: tensor.bytes, config, layout: args.layout }
}

fn linear_weights(checkpoint: &Checkpoint) -> Vec<&TensorInfo> {
    let excluded = Regex::new(NOT_ADAPTED).expect("a constant that a test compiles");
    let linear = |tensor: &&TensorInfo| {
        tensor.shape.len() == 2
            && tensor.weight_dtype().is_some()
            && tensor.name.ends_with(".weight")
            && !excluded.is_match(&tensor.name)
    };
    checkpoint.tensors().iter().filter(linear).collect()
}

fn explicit<'a>(checkpoint: &'a Checkpoint, regex: &Regex) -> Result<Vec<&'a TensorInfo>> {
    let found: Vec<&TensorInfo> = checkpoint.tensors().iter().filter(|tensor| regex.is_match(&tensor.name)).collect();
    // Biases and norms share their layer's name: vectors that a match sweeps up are meant no more than by default.
    let matrices: Vec<&TensorInfo> = found.iter().copied().filter(|tensor| tensor.shape.len() == 2).collect();
    if let Some(tensor) = matrices.iter().find(|tensor| tensor.weight_dtype().is_none()) {
        return Err(Failure::command(format!(
            "{}: tensor `{}` has element type {}; only F16, BF16 and F32 can be adapted",
            checkpoint.path().display(),
            tensor.name,
            tensor.dtype
        )));
    }
    match (matrices.is_empty(), found.first()) {
        (false, _) => Ok(matrices),
        (true, Some(tensor)) => Err(Failure::command(format!(
            "--match `{regex}` finds no matrix in {}: `{}` has shape {:?}",
            checkpoint.path().display(),
            tensor.name,
            tensor.shape
        ))),
        (true, None) => {
            let example = checkpoint.tensors().first().map(|tensor| format!(", the first being `{}`", tensor.name));
            Err(Failure::command(format!(
                "--match `{regex}` matches none of the {} in {}{}",
                counted(checkpoint.tensors().len(), "tensor"),
                checkpoint.path().display(),
                example.unwrap_or_default()
            )))
        }
    }
}

fn nothing_found(checkpoint: &Checkpoint) -> Failure {
    let unreadable = checkpoint.tensors().iter().find(|t| t.shape.len() == 2 && t.weight_dtype().is_none());
    let hint = match unreadable {
        Some(tensor) => format!("`{}` has element type {}, which cannot be adapted", tensor.name, tensor.dtype),
        None => "choose matrices with --match".to_owned(),
    };
    Failure::command(format!(
        "{}: no two-dimensional F16, BF16 or F32 tensor `*.weight` among its {}; {hint}",
        checkpoint.path().display(),
        counted(checkpoint.tensors().len(), "tensor")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_choice_knows_common_names() {
        let excluded = Regex::new(NOT_ADAPTED).unwrap();
        for name in [
            "embeddings.word_embeddings.weight",
            "model.embed_tokens.weight",
            "lm_head.weight",
            "transformer.wte.weight",
            "wpe.weight",
            "shared.weight",
            "pooler.dense.weight",
            "classifier.out_proj.weight",
            "score.weight",
            "output.weight",
        ] {
            assert!(excluded.is_match(name), "{name}");
        }
        for name in [
            "encoder.layer.0.attention.output.dense.weight",
            "encoder.layer.0.output.dense.weight",
            "model.layers.0.self_attn.q_proj.weight",
            "model.layers.0.mlp.shared_expert.up_proj.weight",
            "h.0.attn.c_attn.weight",
        ] {
            assert!(!excluded.is_match(name), "{name}");
        }
    }
}
