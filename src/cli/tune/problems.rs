//! What `idlora tune` tunes: layers, numbers of tokens, operations.

use crate::cli::args::{Element, Operation, Tune};
use crate::cli::{Failure, Result, output};
use idlora::Dtype;
use idlora::lowrank::{self, Bias, DownProjection, Gate};
use idlora::models::Model;
use idlora::shared_gemm;
use serde::Deserialize;
use std::path::Path;

/// Longer files hold no shapes.
const LONGEST: u64 = 1 << 24;

/// One thing to tune.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The layer, for people.
    pub name: String,
    pub tokens: usize,
    pub dtype: Dtype,
    pub operation: Desc,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Desc {
    Lowrank(lowrank::Desc),
    SharedGemm(shared_gemm::Desc),
}

/// A layer and its adapter.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Layer {
    name: Option<String>,
    rows: usize,
    cols: usize,
    #[serde(default)]
    bias: bool,
    tokens: Option<Vec<usize>>,
    rank: Option<usize>,
    clusters: Option<usize>,
    split: Option<usize>,
    gate: Option<Gate>,
    dtype: Option<Element>,
    explicit: Option<bool>,
}

/// Everything that the arguments name, each problem once.
pub fn problems(args: &Tune) -> Result<Vec<Problem>> {
    let mut found: Vec<Problem> = Vec::new();
    for layer in layers(args)? {
        for problem in of_layer(args, &layer) {
            let same = |known: &Problem| {
                (known.tokens, known.dtype, &known.operation) == (problem.tokens, problem.dtype, &problem.operation)
            };
            match found.iter_mut().find(|known| same(known)) {
                Some(known) => known.name = format!("{}, {}", known.name, problem.name),
                None => found.push(problem),
            }
        }
    }
    if found.is_empty() {
        return Err(Failure::command("there is nothing to tune: no layer has room for the adapter"));
    }
    Ok(found)
}

fn layers(args: &Tune) -> Result<Vec<Layer>> {
    if let Some(path) = &args.shapes {
        return read(path);
    }
    let name = args.model.as_deref().unwrap_or_default(); // one of the two is there, or clap has refused
    let model = match Model::named(name) {
        Some(model) => model,
        None if Path::new(name).exists() => Model::read(Path::new(name))?,
        None => {
            let known = Model::names().join(", ");
            return Err(Failure::command(format!("--model {name}: no such file or folder, and none of {known}")));
        }
    };
    // Only those whose rows suffice: of a model, all layers are asked for.
    let needed = args.clusters.saturating_mul(args.rank);
    let (fitting, others): (Vec<_>, Vec<_>) =
        model.layers.into_iter().partition(|l| l.rows >= needed && l.rows.is_multiple_of(args.split.max(1)));
    for linear in others {
        let (name, rows) = (linear.name, linear.rows);
        output::message(&format!(
            "{name}: {rows} rows do not hold {needed} chosen ones in {} parts; passed over",
            args.split
        ));
    }
    let layer = |linear: idlora::models::Linear| Layer {
        name: Some(linear.name),
        rows: linear.rows,
        cols: linear.cols,
        bias: linear.bias,
        tokens: None,
        rank: None,
        clusters: None,
        split: None,
        gate: None,
        dtype: None,
        explicit: None,
    };
    Ok(fitting.into_iter().map(layer).collect())
}

fn read(path: &Path) -> Result<Vec<Layer>> {
    let failed = |reason: String| Failure::command(format!("{}: {reason}", path.display()));
    let bytes = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if bytes > LONGEST {
        return Err(failed(format!("{bytes} bytes are more than a file of shapes has")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| failed(error.to_string()))
}

/// A layer's problems, for every number of tokens and every operation asked for.
fn of_layer(args: &Tune, layer: &Layer) -> Vec<Problem> {
    let &Layer { rows, cols, bias, .. } = layer;
    let rank = layer.rank.unwrap_or(args.rank);
    let components = layer.clusters.unwrap_or(args.clusters);
    let split = layer.split.unwrap_or(args.split);
    let gate = layer.gate.unwrap_or(args.gate.into());
    let dtype = layer.dtype.unwrap_or(args.dtype).into();
    let explicit = layer.explicit.unwrap_or(args.explicit);
    let wanted = |operation| args.operation.is_empty() || args.operation.contains(&operation);

    let down = if explicit { DownProjection::Gemm } else { DownProjection::Gather };
    let included = if bias { Bias::Included } else { Bias::None };
    let adapter = lowrank::Desc { rows, cols, rank, components, split, gate, down, bias: included };
    let mut operations = Vec::new();
    if wanted(Operation::Lowrank) {
        operations.push(Desc::Lowrank(adapter));
    }
    // Tensor cores have no exact products of f32: the kernel is not there for it.
    if wanted(Operation::SharedGemm) && dtype != Dtype::F32 {
        operations.push(Desc::SharedGemm(shared_gemm::Desc { rows, cols, rank, components, split, gate, bias }));
    }
    let name = layer.name.clone().unwrap_or_else(|| format!("{rows}×{cols}"));
    let flags: Vec<usize> = args.tokens.iter().map(|tokens| tokens.get()).collect();
    let tokens = layer.tokens.as_ref().unwrap_or(&flags);
    let of = |&tokens: &usize| operations.iter().map(move |operation| (tokens, operation.clone()));
    tokens
        .iter()
        .flat_map(of)
        .map(|(tokens, operation)| Problem { name: name.clone(), tokens, dtype, operation })
        .collect()
}
