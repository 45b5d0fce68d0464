//! A call on the CPU: the library's views of host memory.

use crate::operands::{
    Extent, dropout, idlora_backward_operands, idlora_forward_operands, idlora_matrix, idlora_matrix_mut,
};
use crate::plan::Plan;
use crate::pointer;
use crate::status::Answer;
use idlora::lowrank::{Gradients, InputGradient, Layer, Output, Parameters, Saved, SavedMut};
use idlora::{Elem, MatMut, MatRef};

/// # Safety
/// By the header, Matrices and Pointers: the matrix's span has elements of `T` that nobody writes during `'a`.
unsafe fn view<'a, T: Elem>(name: &str, matrix: &idlora_matrix) -> Answer<MatRef<'a, T>> {
    let Extent { rows, cols, ld, span } = Extent::of(name, matrix, size_of::<T>())?;
    // SAFETY: the same contract.
    let data = unsafe { pointer::elements(name, matrix.data.cast::<T>(), span) }?;
    Ok(MatRef::with_ld(data, rows, cols, ld)?)
}

/// # Safety
/// By the header, Matrices and Pointers: nobody else reads or writes the matrix's span during `'a`.
unsafe fn view_mut<'a, T: Elem>(name: &str, matrix: &idlora_matrix_mut) -> Answer<MatMut<'a, T>> {
    let Extent { rows, cols, ld, span } = Extent::of(name, &matrix.as_const(), size_of::<T>())?;
    // SAFETY: the same contract.
    let data = unsafe { pointer::elements_mut(name, matrix.data.cast::<T>(), span) }?;
    Ok(MatMut::with_ld(data, rows, cols, ld)?)
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

/// The view of a matrix that is passed by a pointer.
///
/// # Safety
/// `matrix` is null or readable; then as [`view`].
pub(crate) unsafe fn needed_view<'a, T: Elem>(name: &str, matrix: *const idlora_matrix) -> Answer<MatRef<'a, T>> {
    // SAFETY: this function's contract.
    let matrix = unsafe { pointer::elements(name, matrix, 1) }?;
    // SAFETY: this function's contract.
    unsafe { view(name, &matrix[0]) }
}

/// The same for a matrix that is written.
///
/// # Safety
/// `matrix` is null or readable; then as [`view_mut`].
pub(crate) unsafe fn needed_view_mut<'a, T: Elem>(
    name: &str,
    matrix: *const idlora_matrix_mut,
) -> Answer<MatMut<'a, T>> {
    // SAFETY: this function's contract.
    let matrix = unsafe { pointer::elements(name, matrix, 1) }?;
    // SAFETY: this function's contract.
    unsafe { view_mut(name, &matrix[0]) }
}

/// # Safety
/// By the header, idlora_forward_operands: every matrix is absent or what it says, on the host; `check` has found them apart.
pub(crate) unsafe fn forward<T: Elem>(plan: &Plan, operands: &idlora_forward_operands) -> Answer {
    // SAFETY: this function's contract.
    let (parameters, layer, output, saved) = unsafe {
        let layer = Layer {
            h: maybe::<T>("h", &operands.h)?,
            w: maybe("w", &operands.w)?,
            bias: bias(&operands.bias)?,
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
        (parameters(plan, &operands.b, &operands.gate)?, layer, output, saved)
    };
    Ok(plan.plan.forward(&parameters, &layer, output, saved)?)
}

/// # Safety
/// By the header, idlora_backward_operands: as [`forward`].
pub(crate) unsafe fn backward<T: Elem>(plan: &Plan, operands: &idlora_backward_operands) -> Answer {
    // SAFETY: this function's contract.
    let (parameters, layer, saved, input, gradients) = unsafe {
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
        (parameters(plan, &operands.b, &operands.gate)?, layer, saved, input, gradients)
    };
    Ok(plan.plan.backward(&parameters, &layer, saved, input, gradients)?)
}

/// # Safety
/// As [`view`].
unsafe fn parameters<'a>(plan: &'a Plan, b: &idlora_matrix, gate: &idlora_matrix) -> Answer<Parameters<'a>> {
    let (skeleton, scale) = (&plan.skeleton[..], plan.scale);
    // SAFETY: the same contract.
    Ok(unsafe { Parameters { skeleton, b: view("b", b)?, gate: view("gate", gate)?, scale } })
}

/// The one row of a bias, as `check` has found; the library looks how long it is.
///
/// # Safety
/// As [`view`].
unsafe fn bias<'a, T: Elem>(matrix: &idlora_matrix) -> Answer<Option<&'a [T]>> {
    // SAFETY: the same contract.
    let bias = unsafe { maybe::<T>("bias", matrix) }?;
    Ok(bias.and_then(|bias| bias.iter_rows().next()))
}
