//! A call on a device: the library's views of its memory, by address.

use crate::memory::Workspace;
use crate::operands::{
    Extent, dropout, idlora_backward_operands, idlora_forward_operands, idlora_matrix, idlora_matrix_mut,
};
use crate::plan::Plan;
use crate::status::{Answer, Refusal};
use idlora::Elem;
use idlora::lowrank::resident::{
    Backward, Forward, Gradients, InputGradient, Layer, Output, Parameters, Saved, SavedMut, Skeleton,
};
use idlora::resident::{MatMut, MatRef};

/// # Safety
/// By the header, Where and Order: the matrix's span lies on the plan's device, and stays as it is until what is queued has run.
unsafe fn view<'a, T: Elem>(name: &str, matrix: &idlora_matrix) -> Answer<MatRef<'a, T>> {
    let Extent { rows, cols, ld, span } = Extent::of(name, matrix, size_of::<T>())?;
    // SAFETY: the same contract.
    let there = unsafe { MatRef::from_raw(matrix.data.addr() as u64, span, rows, cols, ld) };
    there.map_err(|error| misplaced(name, error))
}

/// # Safety
/// As [`view`], and nothing else reads or writes the span until what is queued has run.
unsafe fn view_mut<'a, T: Elem>(name: &str, matrix: &idlora_matrix_mut) -> Answer<MatMut<'a, T>> {
    let Extent { rows, cols, ld, span } = Extent::of(name, &matrix.as_const(), size_of::<T>())?;
    // SAFETY: the same contract.
    let there = unsafe { MatMut::from_raw(matrix.data.addr() as u64, span, rows, cols, ld) };
    there.map_err(|error| misplaced(name, error))
}

/// An address that the element's alignment does not allow, as the host says it.
fn misplaced(name: &str, error: idlora::Error) -> Refusal {
    Refusal::argument(format!("`{name}`: {error}"))
}

/// # Safety
/// As [`view`].
unsafe fn maybe<'a, T: Elem>(name: &str, matrix: &idlora_matrix) -> Answer<Option<MatRef<'a, T>>> {
    // SAFETY: the same contract.
    (!matrix.is_absent()).then(|| unsafe { view(name, matrix) }).transpose()
}

/// # Safety
/// As [`view_mut`].
unsafe fn maybe_mut<'a, T: Elem>(name: &str, matrix: &idlora_matrix_mut) -> Answer<Option<MatMut<'a, T>>> {
    // SAFETY: the same contract.
    (!matrix.is_absent()).then(|| unsafe { view_mut(name, matrix) }).transpose()
}

/// # Safety
/// As [`view`].
unsafe fn parameters<'a>(
    plan: &Plan,
    skeleton: &'a Skeleton,
    b: &idlora_matrix,
    gate: &idlora_matrix,
) -> Answer<Parameters<'a>> {
    // SAFETY: the same contract.
    Ok(unsafe { Parameters { skeleton, b: view("b", b)?, gate: view("gate", gate)?, scale: plan.scale } })
}

fn here(workspace: Option<&mut Workspace>) -> Answer<&mut idlora::resident::Workspace> {
    match workspace {
        Some(Workspace::There(workspace)) => Ok(workspace),
        Some(Workspace::Host) => Err(Refusal::argument("`workspace` is of \"cpu\", the plan is not")),
        None => Err(Refusal::argument("`workspace` is null, and this plan's device needs one")),
    }
}

/// # Safety
/// By the header, idlora_forward_operands: every matrix is absent or what it says, on the plan's device, until it has run.
pub(crate) unsafe fn forward<T: Elem>(
    plan: &Plan,
    skeleton: &Skeleton,
    operands: &idlora_forward_operands,
    workspace: Option<&mut Workspace>,
) -> Answer {
    let workspace = here(workspace)?;
    // SAFETY: this function's contract.
    let module = unsafe {
        let layer = Layer {
            h: maybe::<T>("h", &operands.h)?,
            w: maybe("w", &operands.w)?,
            bias: maybe("bias", &operands.bias)?,
            dropout: dropout(&operands.dropout),
        };
        let y = view_mut("y", &operands.y)?;
        let output = match maybe("y0", &operands.y0)? {
            Some(y0) => Output::OutOfPlace { y0, y },
            None => Output::InPlace(y),
        };
        let saved = match maybe_mut("saved_x", &operands.saved_x)? {
            Some(x) => Some(SavedMut {
                x,
                gate: view_mut("saved_gate", &operands.saved_gate)?,
                z: maybe_mut("saved_z", &operands.saved_z)?,
            }),
            None => None,
        };
        let parameters = parameters(plan, skeleton, &operands.b, &operands.gate)?;
        Forward { parameters, layer, output, saved }
    };
    Ok(plan.plan.launch_forward(&mut [module], workspace)?)
}

/// # Safety
/// By the header, idlora_backward_operands: as [`forward`].
pub(crate) unsafe fn backward<T: Elem>(
    plan: &Plan,
    skeleton: &Skeleton,
    operands: &idlora_backward_operands,
    workspace: Option<&mut Workspace>,
) -> Answer {
    let workspace = here(workspace)?;
    // SAFETY: this function's contract.
    let module = unsafe {
        let layer =
            Layer { h: maybe::<T>("h", &operands.h)?, w: None, bias: None, dropout: dropout(&operands.dropout) };
        let saved = Saved {
            x: view("saved_x", &operands.saved_x)?,
            gate: view("saved_gate", &operands.saved_gate)?,
            z: maybe("saved_z", &operands.saved_z)?,
        };
        let input = match maybe_mut("scatter", &operands.scatter)? {
            Some(g) => InputGradient::Scatter(g),
            None => InputGradient::Separate { g: view("g", &operands.g)?, dx: view_mut("dx", &operands.dx)? },
        };
        let gradients = Gradients {
            b: view_mut("grad_b", &operands.grad_b)?,
            gate: view_mut("grad_gate", &operands.grad_gate)?,
            h_gate: maybe_mut("grad_h", &operands.grad_h)?,
            accumulate: operands.accumulate == 1,
        };
        let parameters = parameters(plan, skeleton, &operands.b, &operands.gate)?;
        Backward { parameters, layer, saved, input, gradients }
    };
    Ok(plan.plan.launch_backward(&mut [module], workspace)?)
}
