//! What the operation demands of its operands, by their shapes, wherever they lie.

use super::{Desc, OP};
use crate::error::{Error, Result, check_len, check_shape};
use crate::lowrank::{Dropout, Parameters, check};

type Shape = (usize, usize);

/// The problem itself.
pub(super) fn desc(desc: &Desc) -> Result<()> {
    if desc.components > 0 {
        check::desc(OP, &desc.adapter())?;
    }
    for (parameter, size) in [("rows", desc.rows), ("cols", desc.cols)] {
        if size == 0 {
            return Err(Error::parameter(OP, parameter, "at least 1", size));
        }
    }
    Ok(())
}

/// What the adapter holds, in host memory.
pub(super) fn parameters(desc: &Desc, adapter: &Parameters<'_>) -> Result<()> {
    check::parameters(OP, &desc.adapter(), adapter)
}

/// Operands that were passed.
pub(super) struct Layer<'a> {
    pub h: Shape,
    pub w: Shape,
    pub y: Shape,
    /// Its length.
    pub bias: Option<usize>,
    pub adapter: bool,
    pub dropout: Option<&'a Dropout>,
    /// X, gate values and z.
    pub saved: Option<(Shape, Shape, Option<Shape>)>,
}

impl Layer<'_> {
    /// Refuses what does not fit the problem; `parameters` refuses what the adapter holds.
    pub fn check(&self, desc: &Desc, parameters: impl FnOnce() -> Result<()>) -> Result<()> {
        let tokens = self.h.0;
        check_shape(OP, "h", (tokens, desc.cols), self.h)?;
        check_shape(OP, "w", (desc.rows, desc.cols), self.w)?;
        check_shape(OP, "y", (tokens, desc.rows), self.y)?;
        given("bias", self.bias.is_some(), desc.bias, "the problem says that the layer has none")?;
        if let Some(bias) = self.bias {
            check_len(OP, "bias", desc.rows, bias)?;
        }
        let has = desc.components > 0;
        given("adapter", self.adapter, has, "the problem has no components")?;
        if !has {
            given("dropout", self.dropout.is_some(), false, "the problem has no components")?;
            given("saved", self.saved.is_some(), false, "the problem has no components")?;
        }
        parameters()?;
        if let Some(dropout) = self.dropout {
            check::dropout(OP, dropout, tokens)?;
        }
        match self.saved {
            Some((x, gate, z)) => check::saved(OP, &desc.adapter(), tokens, x, gate, z),
            None => Ok(()),
        }
    }
}

/// Refuses an operand that is there and should not be, or the other way round.
fn given(operand: &'static str, found: bool, expected: bool, why_not: &str) -> Result<()> {
    match (found, expected) {
        (true, false) => Err(Error::operand(OP, operand, format!("was passed, but {why_not}"))),
        (false, true) => Err(Error::operand(OP, operand, "is missing; the problem reads it")),
        _ => Ok(()),
    }
}
