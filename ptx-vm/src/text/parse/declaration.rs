//! Variables and registers.

use super::Parser;
use super::initial::Values;
use crate::error::LoadError;
use crate::isa::{Space, Type};
use crate::text::lexer::Kind;
use crate::text::limits;
use crate::text::tree::{Initial, Registers, Statement, Variable};

/// What stands before the name of a variable.
struct Shape {
    space: Space,
    align: Option<u32>,
    ty: Type,
    vector: u32,
}

impl<'a> Parser<'a> {
    /// A type, which has to stand here.
    pub(super) fn ty(&mut self) -> Result<Type, LoadError> {
        let Kind::Directive(name) = self.token.kind else { return Err(self.expected("a type")) };
        match Type::from_suffix(name) {
            Some(ty) => {
                self.bump()?;
                Ok(ty)
            }
            None if matches!(name, "texref" | "samplerref" | "surfref") => {
                Err(self.at().unsupported("textures and surfaces"))
            }
            None => Err(self.expected("a type")),
        }
    }

    /// The number behind `.align`.
    pub(super) fn alignment(&mut self) -> Result<u32, LoadError> {
        let at = self.at();
        let align = self.number()?;
        limits::check("alignment", u64::from(align), limits::ALIGNMENT, at)?;
        if align.is_power_of_two() { Ok(align) } else { Err(at.syntax("a power of two", format!("`{align}`"))) }
    }

    /// `.reg .b32 %r<5>, a;` behind `.reg`.
    pub(super) fn registers(&mut self, statements: &mut Vec<Statement<'a>>) -> Result<(), LoadError> {
        if matches!(self.token.kind, Kind::Directive("v2" | "v4")) {
            return Err(self.at().unsupported("registers that are vectors"));
        }
        let ty = self.ty()?;
        loop {
            self.count_statement()?;
            let (at, name) = self.name()?;
            let mut count = None;
            if self.accept("<")? {
                count = Some(self.number()?);
                self.expect(">")?;
            }
            statements.push(Statement::Registers(Registers { at, name, ty, count }));
            if !self.accept(",")? {
                return self.expect(";");
            }
        }
    }

    /// `.align 4 .b8 a[16], b[4] = {1, 2};` behind the space. Calls `add` for each.
    pub(super) fn variables(
        &mut self,
        space: Space,
        external: bool,
        mut add: impl FnMut(Variable<'a>),
    ) -> Result<(), LoadError> {
        let shape = self.shape(space)?;
        loop {
            self.count_statement()?;
            add(self.variable(&shape, external)?);
            if !self.accept(",")? {
                return self.expect(";");
            }
        }
    }

    fn shape(&mut self, space: Space) -> Result<Shape, LoadError> {
        let (mut align, mut vector) = (None, 1);
        loop {
            match self.token.kind {
                Kind::Directive("align") => {
                    self.bump()?;
                    align = Some(self.alignment()?);
                }
                Kind::Directive("v2") => (vector, _) = (2, self.bump()?),
                Kind::Directive("v4") => (vector, _) = (4, self.bump()?),
                Kind::Directive("attribute") => self.attribute()?,
                _ => break,
            }
        }
        let at = self.at();
        let ty = self.ty()?;
        if ty == Type::Pred {
            return Err(at.syntax("a type that has a size", "`.pred`"));
        }
        Ok(Shape { space, align, ty, vector })
    }

    /// `.attribute(.managed)`: all memory here is managed.
    fn attribute(&mut self) -> Result<(), LoadError> {
        self.bump()?;
        self.expect("(")?;
        if !self.accept_directive("managed")? {
            return Err(self.at().unsupported("attributes of variables other than .managed"));
        }
        self.expect(")")
    }

    fn variable(&mut self, shape: &Shape, external: bool) -> Result<Variable<'a>, LoadError> {
        let (at, name) = self.name()?;
        let mut extents = self.extents()?;
        if shape.vector > 1 {
            extents.push(Some(u64::from(shape.vector)));
        }
        // Elements below each dimension: of a whole row, of a row of that, …
        let mut strides = vec![1u64; extents.len()];
        for dimension in (1..extents.len()).rev() {
            strides[dimension - 1] = strides[dimension].saturating_mul(extents[dimension].unwrap_or(0));
        }
        let row = strides.first().copied().unwrap_or(1);
        let mut length = extents.first().copied().unwrap_or(Some(1)).map(|extent| extent.saturating_mul(row));
        let mut initial = Initial::default();
        if self.accept("=")? {
            if !matches!(shape.space, Space::Global | Space::Const) {
                return Err(self.at().unsupported("initial values outside .global and .const"));
            }
            let mut values = Values::new(shape.ty);
            let all = 0..length.unwrap_or(u64::MAX);
            if extents.is_empty() {
                self.value(all, &mut values)?;
            } else {
                self.row(all, &strides, &mut values)?;
            }
            let given;
            (initial, given) = values.finish(self.at())?;
            let rows = given.div_ceil(row.max(1)).saturating_mul(row);
            length = Some(length.unwrap_or(rows));
        }
        let size = length.map(|length| length.saturating_mul(u64::from(shape.ty.bytes())));
        limits::check("size of a variable", size.unwrap_or(0), limits::VARIABLE_BYTES, at)?;
        let natural = shape.ty.bytes() * shape.vector;
        Ok(Variable { at, name, space: shape.space, align: shape.align.unwrap_or(natural), size, external, initial })
    }

    /// `[2][3]`; only the first may be left open, as in `[]`.
    fn extents(&mut self) -> Result<Vec<Option<u64>>, LoadError> {
        let mut extents = Vec::new();
        while self.accept("[")? {
            limits::check("extents of an array", extents.len() as u64 + 1, limits::NESTING, self.at())?;
            let open = self.is("]");
            if open && !extents.is_empty() {
                return Err(self.expected("an extent"));
            }
            extents.push(if open { None } else { Some(self.size()?) });
            self.expect("]")?;
        }
        Ok(extents)
    }

    /// Counts a statement of the module.
    pub(super) fn count_statement(&mut self) -> Result<(), LoadError> {
        self.statements += 1;
        limits::check("statements", self.statements, limits::STATEMENTS, self.at())
    }
}
