//! What the operation demands of its operands. Every refusal names the operand, what would do, and what was found.

use super::{
    BACKWARD, Bias, Desc, DownProjection, Dropout, FORWARD, Gate, Gradients, InputGradient, Layer, MERGE, Output,
    Parameters, UNMERGE,
};
use crate::cpu::lowrank::Operands;
use crate::elem::Elem;
use crate::error::{Error, Result, check_len, check_shape};
use crate::mat::MatRef;

/// The problem itself.
pub(super) fn desc(op: &'static str, desc: &Desc) -> Result<()> {
    let Desc { rows, cols, rank, components, split, .. } = *desc;
    let sizes = [("rows", rows), ("cols", cols), ("rank", rank), ("components", components), ("split", split)];
    for (parameter, size) in sizes {
        if size == 0 {
            return Err(Error::parameter(op, parameter, "at least 1", size));
        }
    }
    if u32::try_from(rows).is_err() {
        return Err(Error::parameter(op, "rows", format!("at most {} (row numbers are u32)", u32::MAX), rows));
    }
    if rank % split != 0 || rows % split != 0 {
        return Err(Error::parameter(op, "split", format!("a divisor of rank {rank} and of rows {rows}"), split));
    }
    if components.checked_mul(rank).is_none_or(|chosen| chosen > rows) {
        let limit = format!("components · rank at most rows = {rows} (chosen rows are distinct)");
        return Err(Error::parameter(op, "rank", limit, format!("{rank} with {components} components")));
    }
    Ok(())
}

/// What the adapter holds.
pub(super) fn parameters(op: &'static str, desc: &Desc, parameters: &Parameters<'_>) -> Result<()> {
    let Desc { rows, cols, rank, components, split, gate, .. } = *desc;
    check_len(op, "skeleton", components * rank, parameters.skeleton.len())?;
    if let Some((place, &row)) = parameters.skeleton.iter().enumerate().find(|&(_, &row)| row as usize >= rows) {
        return Err(Error::parameter(op, "skeleton", format!("row numbers below {rows}"), format!("{row} at {place}")));
    }
    let mut sorted = parameters.skeleton.to_vec();
    sorted.sort_unstable();
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Error::parameter(op, "skeleton", "distinct row numbers", format!("{} twice", pair[0])));
    }
    check_shape(op, "b", (rows / split, rank / split), parameters.b.shape())?;
    check_shape(op, "gate", gate.parameter_shape(rank, components, cols), parameters.gate.shape())?;
    if !parameters.scale.is_finite() {
        return Err(Error::parameter(op, "scale", "a finite number", parameters.scale));
    }
    Ok(())
}

/// Base output and result; the number of tokens.
pub(super) fn output<T>(desc: &Desc, output: &Output<'_, T>) -> Result<usize> {
    match output {
        Output::InPlace(y) => {
            check_shape(FORWARD, "y", (y.rows(), desc.rows), y.as_ref().shape())?;
            Ok(y.rows())
        }
        Output::OutOfPlace { y0, y } => {
            check_shape(FORWARD, "y0", (y0.rows(), desc.rows), y0.shape())?;
            check_shape(FORWARD, "y", y0.shape(), y.as_ref().shape())?;
            Ok(y0.rows())
        }
    }
}

/// The gradient of the output and where that of the input goes; the number of tokens.
pub(super) fn input_gradient<T>(desc: &Desc, input: &InputGradient<'_, T>) -> Result<usize> {
    match input {
        InputGradient::Scatter(g) => {
            check_shape(BACKWARD, "g", (g.rows(), desc.rows), g.as_ref().shape())?;
            Ok(g.rows())
        }
        InputGradient::Separate { g, dx } => {
            check_shape(BACKWARD, "g", (g.rows(), desc.rows), g.shape())?;
            check_shape(BACKWARD, "dx", (g.rows(), desc.components * desc.rank), dx.as_ref().shape())?;
            Ok(g.rows())
        }
    }
}

/// An operand that the variant reads, with the shape it must have.
fn needed<'a, T: Elem>(
    op: &'static str,
    operand: &'static str,
    reason: &str,
    view: Option<MatRef<'a, T>>,
    shape: (usize, usize),
) -> Result<MatRef<'a, T>> {
    let view = view.ok_or_else(|| Error::operand(op, operand, format!("is missing; {reason}")))?;
    check_shape(op, operand, shape, view.shape())?;
    Ok(view)
}

/// Operands of the layer, empty where the forward does not read them.
pub(super) fn layer<'a, T: Elem>(
    op: &'static str,
    desc: &Desc,
    tokens: usize,
    layer: &Layer<'a, T>,
) -> Result<Operands<'a, T>> {
    let gemm = desc.down == DownProjection::Gemm;
    let (mut h, mut w) = (MatRef::new(&[], 0, 0)?, MatRef::new(&[], 0, 0)?);
    if gemm || desc.gate.reads_input() {
        let reason = if gemm { "the explicit down-projection reads H" } else { "a linear gate reads H" };
        h = needed(op, "h", reason, layer.h, (tokens, desc.cols))?;
    }
    if gemm {
        w = needed(op, "w", "the explicit down-projection reads W[S]", layer.w, (desc.rows, desc.cols))?;
    }
    let bias = bias(op, desc, layer)?;
    if let Some(drop) = &layer.dropout {
        dropout(op, drop, tokens)?;
    }
    Ok(Operands { h, w, bias, dropout: layer.dropout })
}

fn bias<'a, T>(op: &'static str, desc: &Desc, layer: &Layer<'a, T>) -> Result<&'a [T]> {
    match (desc.bias, layer.bias) {
        (Bias::None, None) => Ok(&[]),
        (Bias::None, Some(_)) => {
            let reason = "was passed, but the problem says that the layer has none; choose `Included` or `Separate`";
            Err(Error::operand(op, "bias", reason))
        }
        (Bias::Included | Bias::Separate, None) => {
            Err(Error::operand(op, "bias", "is missing; the problem says that the layer has one"))
        }
        (Bias::Included | Bias::Separate, Some(bias)) => {
            check_len(op, "bias", desc.rows, bias.len())?;
            Ok(bias)
        }
    }
}

/// The backward reads only `h` (linear gates) and the dropout: `X` has been saved.
pub(super) fn layer_of_backward<'a, T: Elem>(
    desc: &Desc,
    tokens: usize,
    layer: &Layer<'a, T>,
) -> Result<Operands<'a, T>> {
    let empty = MatRef::new(&[], 0, 0)?;
    let h = if desc.gate.reads_input() {
        needed(BACKWARD, "h", "the gradient of a linear gate reads H", layer.h, (tokens, desc.cols))?
    } else {
        empty
    };
    if let Some(drop) = &layer.dropout {
        dropout(BACKWARD, drop, tokens)?;
    }
    Ok(Operands { h, w: empty, bias: &[], dropout: layer.dropout })
}

/// Probability and counters of a mask.
pub(super) fn dropout(op: &'static str, dropout: &Dropout, tokens: usize) -> Result<()> {
    if !(0.0..1.0).contains(&dropout.probability) {
        return Err(Error::parameter(op, "dropout probability", "in [0, 1)", dropout.probability));
    }
    if dropout.offset.checked_add(tokens as u64).is_none() {
        let expected = format!("offset + {tokens} tokens below 2^64");
        return Err(Error::parameter(op, "dropout offset", expected, dropout.offset));
    }
    Ok(())
}

/// What passes from the forward to the backward.
pub(super) fn saved(
    op: &'static str,
    desc: &Desc,
    tokens: usize,
    x: (usize, usize),
    gate: (usize, usize),
) -> Result<()> {
    check_shape(op, "saved x", (tokens, desc.components * desc.rank), x)?;
    check_shape(op, "saved gate", (tokens, desc.components), gate)
}

/// Where parameter gradients go.
pub(super) fn gradients<T>(desc: &Desc, tokens: usize, gradients: &Gradients<'_, T>) -> Result<()> {
    let Desc { rows, cols, rank, components, split, gate, .. } = *desc;
    check_shape(BACKWARD, "gradient b", (rows / split, rank / split), gradients.b.as_ref().shape())?;
    let shape = gate.parameter_shape(rank, components, cols);
    check_shape(BACKWARD, "gradient gate", shape, gradients.gate.as_ref().shape())?;
    match &gradients.h_gate {
        Some(_) if !gate.reads_input() => {
            let reason = format!("was passed, but the gate {gate:?} does not read H and makes no gradient of it");
            Err(Error::operand(BACKWARD, "gradient h_gate", reason))
        }
        Some(h_gate) => check_shape(BACKWARD, "gradient h_gate", (tokens, cols), h_gate.as_ref().shape()),
        None => Ok(()),
    }
}

/// Merging and its inverse.
pub(super) fn merge(op: &'static str, problem: &Desc, held: &Parameters<'_>, w: (usize, usize)) -> Result<()> {
    if problem.gate != Gate::Static {
        let verb = if op == UNMERGE { "un-merged" } else { "merged" };
        debug_assert!(op == MERGE || op == UNMERGE);
        let reason = format!(
            "the gate {:?} weighs the components anew for every token, so its update is not a matrix and cannot be {verb} \
             into W; only a Static gate can",
            problem.gate
        );
        return Err(Error::unsupported(op, reason));
    }
    desc(op, problem)?;
    parameters(op, problem, held)?;
    check_shape(op, "w", (problem.rows, problem.cols), w)
}
