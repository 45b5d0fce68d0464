//! What the operation demands of its operands. Every refusal names the operand, what would do, and what was found.

use super::{
    BACKWARD, Bias, Desc, DownProjection, Dropout, FORWARD, Gate, Gradients, InputGradient, Layer, MERGE, Output,
    Parameters, UNMERGE,
};
use crate::cpu::lowrank::Operands;
use crate::elem::Elem;
use crate::error::{Error, Result, check_len, check_shape};
use crate::mat::MatRef;

/// Rows and columns.
pub(super) type Shape = (usize, usize);

/// The problem itself.
pub(crate) fn desc(op: &'static str, desc: &Desc) -> Result<()> {
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
pub(crate) fn parameters(op: &'static str, desc: &Desc, parameters: &Parameters<'_>) -> Result<()> {
    skeleton(op, desc, parameters.skeleton)?;
    trained(op, desc, parameters.b.shape(), parameters.gate.shape(), parameters.scale)
}

/// The chosen rows.
pub(crate) fn skeleton(op: &'static str, desc: &Desc, skeleton: &[u32]) -> Result<()> {
    let Desc { rows, rank, components, .. } = *desc;
    check_len(op, "skeleton", components * rank, skeleton.len())?;
    if let Some((place, &row)) = skeleton.iter().enumerate().find(|&(_, &row)| row as usize >= rows) {
        return Err(Error::parameter(op, "skeleton", format!("row numbers below {rows}"), format!("{row} at {place}")));
    }
    let mut sorted = skeleton.to_vec();
    sorted.sort_unstable();
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Error::parameter(op, "skeleton", "distinct row numbers", format!("{} twice", pair[0])));
    }
    Ok(())
}

/// What is trained, and its scale.
pub(super) fn trained(op: &'static str, desc: &Desc, b: Shape, of_gate: Shape, scale: f32) -> Result<()> {
    let Desc { rows, cols, rank, components, split, gate, .. } = *desc;
    check_shape(op, "b", (rows / split, rank / split), b)?;
    check_shape(op, "gate", gate.parameter_shape(rank, components, cols), of_gate)?;
    if !scale.is_finite() {
        return Err(Error::parameter(op, "scale", "a finite number", scale));
    }
    Ok(())
}

/// Base output and result; the number of tokens.
pub(super) fn output<T>(desc: &Desc, output: &Output<'_, T>) -> Result<usize> {
    match output {
        Output::InPlace(y) => output_shapes(desc, None, y.shape()),
        Output::OutOfPlace { y0, y } => output_shapes(desc, Some(y0.shape()), y.shape()),
    }
}

/// [`output`] by shapes; in place without `y0`.
pub(super) fn output_shapes(desc: &Desc, y0: Option<Shape>, y: Shape) -> Result<usize> {
    let Some(y0) = y0 else {
        check_shape(FORWARD, "y", (y.0, desc.rows), y)?;
        return Ok(y.0);
    };
    check_shape(FORWARD, "y0", (y0.0, desc.rows), y0)?;
    check_shape(FORWARD, "y", y0, y)?;
    Ok(y0.0)
}

/// The gradient of the output and where that of the input goes; the number of tokens.
pub(super) fn input_gradient<T>(desc: &Desc, input: &InputGradient<'_, T>) -> Result<usize> {
    match input {
        InputGradient::Scatter(g) => input_shapes(desc, g.shape(), None),
        InputGradient::Separate { g, dx } => input_shapes(desc, g.shape(), Some(dx.shape())),
    }
}

/// [`input_gradient`] by shapes.
pub(super) fn input_shapes(desc: &Desc, g: Shape, dx: Option<Shape>) -> Result<usize> {
    check_shape(BACKWARD, "g", (g.0, desc.rows), g)?;
    if let Some(dx) = dx {
        check_shape(BACKWARD, "dx", (g.0, desc.components * desc.rank), dx)?;
    }
    Ok(g.0)
}

/// Why the forward reads an operand of the layer, where it does: `h`, then `w`.
fn reasons(desc: &Desc) -> [Option<&'static str>; 2] {
    let gemm = desc.down == DownProjection::Gemm;
    let of_h = if gemm { "the explicit down-projection reads H" } else { "a linear gate reads H" };
    [(gemm || desc.gate.reads_input()).then_some(of_h), gemm.then_some("the explicit down-projection reads W[S]")]
}

/// Why the backward reads `h`, where it does.
fn reason_of_backward(desc: &Desc) -> Option<&'static str> {
    desc.gate.reads_input().then_some("the gradient of a linear gate reads H")
}

/// [`layer`] by shapes and lengths.
pub(super) fn layer_shapes(
    op: &'static str,
    desc: &Desc,
    tokens: usize,
    [h, w]: [Option<Shape>; 2],
    bias: Option<usize>,
    drops: Option<&Dropout>,
) -> Result<()> {
    let [of_h, of_w] = reasons(desc);
    needed(op, "h", of_h, h, (tokens, desc.cols))?;
    needed(op, "w", of_w, w, (desc.rows, desc.cols))?;
    bias_length(op, desc, bias)?;
    drops.map_or(Ok(()), |drops| dropout(op, drops, tokens))
}

/// [`layer_of_backward`] by shapes.
pub(super) fn layer_shapes_of_backward(
    desc: &Desc,
    tokens: usize,
    h: Option<Shape>,
    drops: Option<&Dropout>,
) -> Result<()> {
    needed(BACKWARD, "h", reason_of_backward(desc), h, (tokens, desc.cols))?;
    drops.map_or(Ok(()), |drops| dropout(BACKWARD, drops, tokens))
}

/// An operand that is read, if there is a reason, has the shape it must have.
fn needed(
    op: &'static str,
    operand: &'static str,
    reason: Option<&str>,
    found: Option<Shape>,
    expected: Shape,
) -> Result<()> {
    let Some(reason) = reason else { return Ok(()) };
    let found = found.ok_or_else(|| Error::operand(op, operand, format!("is missing; {reason}")))?;
    check_shape(op, operand, expected, found)
}

/// Operands of the layer, empty where the forward does not read them.
pub(super) fn layer<'a, T: Elem>(
    op: &'static str,
    desc: &Desc,
    tokens: usize,
    layer: &Layer<'a, T>,
) -> Result<Operands<'a, T>> {
    let shapes = [layer.h, layer.w].map(|view| view.map(|view| view.shape()));
    layer_shapes(op, desc, tokens, shapes, layer.bias.map(<[T]>::len), layer.dropout.as_ref())?;
    let [h, w] = reasons(desc);
    let empty = MatRef::new(&[], 0, 0)?;
    Ok(Operands {
        h: h.and(layer.h).unwrap_or(empty),
        w: w.and(layer.w).unwrap_or(empty),
        bias: layer.bias.unwrap_or_default(),
        dropout: layer.dropout,
    })
}

fn bias_length(op: &'static str, desc: &Desc, found: Option<usize>) -> Result<()> {
    match (desc.bias, found) {
        (Bias::None, None) => Ok(()),
        (Bias::None, Some(_)) => {
            let reason = "was passed, but the problem says that the layer has none; choose `Included` or `Separate`";
            Err(Error::operand(op, "bias", reason))
        }
        (Bias::Included | Bias::Separate, None) => {
            Err(Error::operand(op, "bias", "is missing; the problem says that the layer has one"))
        }
        (Bias::Included | Bias::Separate, Some(bias)) => check_len(op, "bias", desc.rows, bias),
    }
}

/// The backward reads only `h` (linear gates) and the dropout: `X` has been saved.
pub(super) fn layer_of_backward<'a, T: Elem>(
    desc: &Desc,
    tokens: usize,
    layer: &Layer<'a, T>,
) -> Result<Operands<'a, T>> {
    layer_shapes_of_backward(desc, tokens, layer.h.map(|h| h.shape()), layer.dropout.as_ref())?;
    let empty = MatRef::new(&[], 0, 0)?;
    let h = reason_of_backward(desc).and(layer.h).unwrap_or(empty);
    Ok(Operands { h, w: empty, bias: &[], dropout: layer.dropout })
}

/// Probability and counters of a mask.
pub(crate) fn dropout(op: &'static str, dropout: &Dropout, tokens: usize) -> Result<()> {
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
pub(crate) fn saved(
    op: &'static str,
    desc: &Desc,
    tokens: usize,
    x: Shape,
    gate: Shape,
    z: Option<Shape>,
) -> Result<()> {
    check_shape(op, "saved x", (tokens, desc.components * desc.rank), x)?;
    check_shape(op, "saved gate", (tokens, desc.components), gate)?;
    z.map_or(Ok(()), |z| check_shape(op, "saved z", (tokens, desc.rank), z))
}

/// Where parameter gradients go.
pub(super) fn gradients<T>(desc: &Desc, tokens: usize, gradients: &Gradients<'_, T>) -> Result<()> {
    let h_gate = gradients.h_gate.as_ref().map(|h_gate| h_gate.shape());
    gradient_shapes(desc, tokens, gradients.b.shape(), gradients.gate.shape(), h_gate)
}

/// [`gradients`] by shapes.
pub(super) fn gradient_shapes(
    desc: &Desc,
    tokens: usize,
    b: Shape,
    of_gate: Shape,
    h_gate: Option<Shape>,
) -> Result<()> {
    let Desc { rows, cols, rank, components, split, gate, .. } = *desc;
    check_shape(BACKWARD, "gradient b", (rows / split, rank / split), b)?;
    check_shape(BACKWARD, "gradient gate", gate.parameter_shape(rank, components, cols), of_gate)?;
    match h_gate {
        Some(_) if !gate.reads_input() => {
            let reason = format!("was passed, but the gate {gate:?} does not read H and makes no gradient of it");
            Err(Error::operand(BACKWARD, "gradient h_gate", reason))
        }
        Some(h_gate) => check_shape(BACKWARD, "gradient h_gate", (tokens, cols), h_gate),
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
