//! The structs of a call: its matrices and what goes with them.

use crate::overlap::Spans;
use crate::pointer::Growing;
use crate::status::{Answer, Refusal};
use idlora::Dtype;
use idlora::lowrank::Dropout;
use std::ffi::c_void;

/// A matrix that is read. All 0: absent.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct idlora_matrix {
    /// Its first element: a pointer on the host, an address on a device.
    pub data: *const c_void,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Elements between the starts of two rows, at least cols; 0 stands for cols.
    pub ld: usize,
}

/// A matrix that is written. All 0: absent.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct idlora_matrix_mut {
    /// Its first element: a pointer on the host, an address on a device.
    pub data: *mut c_void,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Elements between the starts of two rows, at least cols; 0 stands for cols.
    pub ld: usize,
}

/// Dropout on x, in training only: the same values in a forward and its backward draw the same mask. Element (token, c) of
/// x [t, k*r] is dropped where word c % 4 of Philox4x32-10 at counter (lo(token), hi(token), c / 4, 0), key (lo(seed), hi(seed)),
/// token counted from offset, is below floor(probability * 2^32); the others are multiplied by 1 / (1 - probability).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct idlora_dropout {
    /// Seed of the mask; change it every step.
    pub seed: u64,
    /// Tokens that came before row 0, of earlier micro-batches of the step.
    pub offset: u64,
    /// Probability that an element is dropped, in [0, 1); 0 is no dropout.
    pub probability: f32,
    /// 0.
    pub reserved: u32,
}

/// What a forward reads and writes. "Elements" are of `dtype`; t is the rows of y, and may be 0.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct idlora_forward_operands {
    /// sizeof(idlora_forward_operands).
    pub struct_size: usize,
    /// An idlora_dtype: the element type of h, w, bias, y0, y and saved_x.
    pub dtype: u32,
    /// 0.
    pub reserved: u32,
    /// The shared matrix B [m/s, r/s], float. Needed.
    pub b: idlora_matrix,
    /// The gate's parameters, float: [1, r] (inner gates), [k, n] (linear gates) or [1, k] (static). Needed.
    pub gate: idlora_matrix,
    /// The layer's input H [t, n], elements. Needed by linear gates and by IDLORA_DOWN_GEMM; others do not look at it.
    pub h: idlora_matrix,
    /// The base weight W [m, n], elements. Needed by IDLORA_DOWN_GEMM; others do not look at it.
    pub w: idlora_matrix,
    /// The base bias [1, m], elements. Needed unless the plan has IDLORA_BIAS_NONE, which refuses one.
    pub bias: idlora_matrix,
    /// Dropout on x.
    pub dropout: idlora_dropout,
    /// The base output Y0 [t, m], elements, where it is to stay as it is. Absent: y holds it.
    pub y0: idlora_matrix,
    /// Receives the adapted output Y [t, m], elements. Without y0 it holds Y0 before. Needed.
    pub y: idlora_matrix_mut,
    /// Receives X [t, k*r], elements, for the backward. Absent in inference, together with the next two.
    pub saved_x: idlora_matrix_mut,
    /// Receives the gate's values [t, k], float, for the backward.
    pub saved_gate: idlora_matrix_mut,
    /// Receives z [t, r], float: on a device it saves the backward a pass over X. May be absent.
    pub saved_z: idlora_matrix_mut,
}

/// What a backward reads and writes: parameters, h and dropout are those of its forward. G = dL/dY.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct idlora_backward_operands {
    /// sizeof(idlora_backward_operands).
    pub struct_size: usize,
    /// An idlora_dtype: the element type of h, saved_x, scatter, g, dx and grad_h.
    pub dtype: u32,
    /// 1: add to grad_b and grad_gate (micro-batches); 0: overwrite them.
    pub accumulate: u32,
    /// The shared matrix B [m/s, r/s], float. Needed.
    pub b: idlora_matrix,
    /// The gate's parameters, float, as in the forward. Needed.
    pub gate: idlora_matrix,
    /// The layer's input H [t, n], elements. Needed by linear gates; others do not look at it.
    pub h: idlora_matrix,
    /// Dropout on x.
    pub dropout: idlora_dropout,
    /// X [t, k*r], elements, as the forward has saved it. Needed.
    pub saved_x: idlora_matrix,
    /// The gate's values [t, k], float, as the forward has saved them. Needed.
    pub saved_gate: idlora_matrix,
    /// z [t, r], float, if the forward has saved it.
    pub saved_z: idlora_matrix,
    /// G [t, m], elements, which becomes dL/dY0: dX is added to its chosen columns. This, or g and dx.
    pub scatter: idlora_matrix_mut,
    /// G [t, m], elements, which stays as it is. Only without scatter.
    pub g: idlora_matrix,
    /// Receives dX [t, k*r], elements, for `dL/dH = G W + dX W[S]`. With g.
    pub dx: idlora_matrix_mut,
    /// Receives dL/dB [m/s, r/s], float. Needed.
    pub grad_b: idlora_matrix_mut,
    /// Receives the gradient of the gate's parameters, of their shape, float. Needed.
    pub grad_gate: idlora_matrix_mut,
    /// Receives a linear gate's share of dL/dH [t, n], elements, overwritten. May be absent; refused for other gates.
    pub grad_h: idlora_matrix_mut,
}

// SAFETY: `repr(C)`, `struct_size` first, numbers and pointers alone.
unsafe impl Growing for idlora_forward_operands {
    const NAME: &'static str = "idlora_forward_operands";
    const FIRST: usize = size_of::<Self>();
}

// SAFETY: `repr(C)`, `struct_size` first, numbers and pointers alone.
unsafe impl Growing for idlora_backward_operands {
    const NAME: &'static str = "idlora_backward_operands";
    const FIRST: usize = size_of::<Self>();
}

impl idlora_matrix {
    pub(crate) fn is_absent(&self) -> bool {
        self.data.is_null() && self.rows == 0 && self.cols == 0
    }
}

impl idlora_matrix_mut {
    /// The same matrix, to read.
    pub(crate) fn as_const(&self) -> idlora_matrix {
        idlora_matrix { data: self.data.cast_const(), rows: self.rows, cols: self.cols, ld: self.ld }
    }

    pub(crate) fn is_absent(&self) -> bool {
        self.as_const().is_absent()
    }
}

/// A matrix by its numbers, checked: what both backends make their views of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub rows: usize,
    pub cols: usize,
    pub ld: usize,
    /// Elements from the first to the last, padding between rows included.
    pub span: usize,
}

impl Extent {
    /// # Errors
    /// An `ld` below `cols`, a span that no memory holds, or elements at null.
    pub fn of(name: &str, matrix: &idlora_matrix, element: usize) -> Answer<Self> {
        let idlora_matrix { data, rows, cols, ld } = *matrix;
        let ld = if ld == 0 { cols } else { ld };
        if ld < cols {
            return Err(Refusal::argument(format!("`{name}` has ld {ld}, expected at least its {cols} columns, or 0")));
        }
        let span = match rows.checked_sub(1) {
            Some(full) if cols > 0 => full.checked_mul(ld).and_then(|full| full.checked_add(cols)),
            _ => Some(0),
        };
        let fits = |span: &usize| span.checked_mul(element).is_some_and(|bytes| bytes <= isize::MAX as usize);
        let Some(span) = span.filter(fits) else {
            let message = format!("`{name}` is [{rows}, {cols}] with ld {ld}, more than memory holds");
            return Err(Refusal::argument(message));
        };
        if span > 0 && data.is_null() {
            return Err(Refusal::argument(format!("`{name}` is [{rows}, {cols}], but its data is null")));
        }
        Ok(Self { rows, cols, ld, span })
    }
}

/// No dropout where the probability is 0; anything else is the library's to check.
pub(crate) fn dropout(dropout: &idlora_dropout) -> Option<Dropout> {
    let idlora_dropout { seed, offset, probability, .. } = *dropout;
    (probability != 0.0).then_some(Dropout { probability, seed, offset })
}

fn reserved(value: u32, extra: u32) -> Answer {
    if value == 0 && extra == 0 {
        return Ok(());
    }
    Err(Refusal::argument("`reserved` is not 0: this library knows no meaning of it"))
}

impl idlora_forward_operands {
    /// What can be known before the library looks: needed operands, overlap.
    pub(crate) fn check(&self, dtype: Dtype) -> Answer {
        reserved(self.reserved, self.dropout.reserved)?;
        needed("y", self.y.is_absent())?;
        if !self.bias.is_absent() && self.bias.rows != 1 {
            let found = format!("shape [{}, {}]", self.bias.rows, self.bias.cols);
            let (op, operand, expected) = ("operands", "bias", "one row".to_owned());
            return Err(idlora::Error::Shape { op, operand, expected, found }.into());
        }
        together("saved_x", self.saved_x.is_absent(), "saved_gate", self.saved_gate.is_absent())?;
        if self.saved_x.is_absent() && !self.saved_z.is_absent() {
            return Err(operand("saved_z", "was passed without `saved_x` and `saved_gate`"));
        }
        let element = dtype.size();
        let mut spans = Spans::default();
        for (name, matrix) in [("b", &self.b), ("gate", &self.gate)] {
            needed(name, matrix.is_absent())?;
            spans.read(name, matrix, 4)?;
        }
        for (name, matrix) in [("h", &self.h), ("w", &self.w), ("bias", &self.bias), ("y0", &self.y0)] {
            spans.read(name, matrix, element)?;
        }
        for (name, matrix) in [("y", &self.y), ("saved_x", &self.saved_x)] {
            spans.write(name, matrix, element)?;
        }
        for (name, matrix) in [("saved_gate", &self.saved_gate), ("saved_z", &self.saved_z)] {
            spans.write(name, matrix, 4)?;
        }
        spans.check()
    }
}

impl idlora_backward_operands {
    /// What can be known before the library looks: needed operands, overlap.
    pub(crate) fn check(&self, dtype: Dtype) -> Answer {
        reserved(0, self.dropout.reserved)?;
        if self.accumulate > 1 {
            return Err(Refusal::argument(format!("`accumulate` is {}, expected 0 or 1", self.accumulate)));
        }
        if self.scatter.is_absent() {
            needed("g", self.g.is_absent())?;
            needed("dx", self.dx.is_absent())?;
        } else if !self.g.is_absent() || !self.dx.is_absent() {
            return Err(operand("scatter", "was passed together with `g` or `dx`; choose one way"));
        }
        let element = dtype.size();
        let mut spans = Spans::default();
        for (name, matrix) in [("b", &self.b), ("gate", &self.gate), ("saved_gate", &self.saved_gate)] {
            needed(name, matrix.is_absent())?;
            spans.read(name, matrix, 4)?;
        }
        needed("saved_x", self.saved_x.is_absent())?;
        spans.read("saved_z", &self.saved_z, 4)?;
        for (name, matrix) in [("h", &self.h), ("saved_x", &self.saved_x), ("g", &self.g)] {
            spans.read(name, matrix, element)?;
        }
        for (name, matrix) in [("grad_b", &self.grad_b), ("grad_gate", &self.grad_gate)] {
            needed(name, matrix.is_absent())?;
            spans.write(name, matrix, 4)?;
        }
        for (name, matrix) in [("scatter", &self.scatter), ("dx", &self.dx), ("grad_h", &self.grad_h)] {
            spans.write(name, matrix, element)?;
        }
        spans.check()
    }
}

fn operand(operand: &'static str, reason: &str) -> Refusal {
    idlora::Error::Operand { op: "operands", operand, reason: reason.to_owned() }.into()
}

fn needed(name: &'static str, absent: bool) -> Answer {
    if absent { Err(operand(name, "is missing")) } else { Ok(()) }
}

fn together(one: &'static str, one_absent: bool, other: &'static str, other_absent: bool) -> Answer {
    match (one_absent, other_absent) {
        (true, false) => Err(operand(one, &format!("is missing; `{other}` was passed"))),
        (false, true) => Err(operand(other, &format!("is missing; `{one}` was passed"))),
        _ => Ok(()),
    }
}
