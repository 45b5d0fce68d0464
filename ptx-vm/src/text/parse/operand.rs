//! Operands of instructions.

use super::Parser;
use crate::error::LoadError;
use crate::text::lexer::Kind;
use crate::text::limits;
use crate::text::tree::{Operand, OperandKind};

impl<'a> Parser<'a> {
    /// Operands up to the semicolon, which is taken too. A parenthesis opens a list in a call and a constant elsewhere.
    pub(super) fn operands(&mut self, call: bool) -> Result<Vec<Operand<'a>>, LoadError> {
        let mut operands = Vec::new();
        if !self.is(";") {
            self.list(&mut operands, call)?;
        }
        if !self.is(";") {
            return Err(self.expected("`,` or `;`"));
        }
        self.bump()?;
        Ok(operands)
    }

    fn list(&mut self, list: &mut Vec<Operand<'a>>, call: bool) -> Result<(), LoadError> {
        loop {
            limits::check("operands in a list", list.len() as u64 + 1, limits::LIST, self.at())?;
            let operand = self.operand(call)?;
            list.push(operand);
            if !self.accept(",")? {
                return Ok(());
            }
        }
    }

    fn operand(&mut self, call: bool) -> Result<Operand<'a>, LoadError> {
        let at = self.at();
        let kind = match self.token.kind {
            Kind::Mark("[") => self.address()?,
            Kind::Mark("{") => OperandKind::Vector(self.enclosed("}")?),
            Kind::Mark("(") if call => OperandKind::Group(self.enclosed(")")?),
            Kind::Mark("!") if matches!(self.peek()?, Kind::Word(_)) => {
                self.bump()?;
                OperandKind::Not(self.name()?.1)
            }
            _ if self.at_constant() => OperandKind::Constant(self.constant()?),
            Kind::Word(name) => {
                self.bump()?;
                if self.accept("|")? {
                    OperandKind::Pair(name, self.name()?.1)
                } else {
                    OperandKind::Name(name, self.offset()?)
                }
            }
            _ => return Err(self.expected("an operand")),
        };
        Ok(Operand { at, kind })
    }

    /// A list between brackets, of which the opening one stands here.
    fn enclosed(&mut self, close: &str) -> Result<Vec<Operand<'a>>, LoadError> {
        self.bump()?;
        let mut list = Vec::new();
        if !self.is(close) {
            self.nest(|parser| parser.list(&mut list, false))?;
        }
        self.expect(close)?;
        Ok(list)
    }

    /// `+4`, if it stands here.
    fn offset(&mut self) -> Result<i64, LoadError> {
        if self.accept("+")? { self.integer() } else { Ok(0) }
    }

    fn address(&mut self) -> Result<OperandKind<'a>, LoadError> {
        self.bump()?;
        let address = match self.token.kind {
            _ if self.at_constant() => OperandKind::Absolute(self.integer()?),
            Kind::Word(name) => {
                self.bump()?;
                OperandKind::Address(name, self.offset()?)
            }
            _ => return Err(self.expected("an address")),
        };
        if !self.accept(",")? {
            self.expect("]")?;
            return Ok(address);
        }
        self.nest(|parser| parser.list(&mut Vec::new(), false))?;
        self.expect("]")?;
        Ok(OperandKind::Compound)
    }
}
