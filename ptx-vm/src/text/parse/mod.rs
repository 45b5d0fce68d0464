//! Tokens to a tree.

mod declaration;
mod expression;
mod function;
mod initial;
mod module;
mod operand;

use super::constant::Constant;
use super::lexer::{At, Kind, Lexer, Token};
use super::limits;
use super::tree::Module;
use crate::error::LoadError;

/// Parses a whole text.
pub(super) fn parse(text: &str) -> Result<Module<'_>, LoadError> {
    let mut parser = Parser::new(text)?;
    parser.module()
}

/// One token ahead of the text.
struct Parser<'a> {
    lexer: Lexer<'a>,
    token: Token<'a>,
    depth: u64,
    statements: u64,
    initial_bytes: u64,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Parser<'a>, LoadError> {
        let mut lexer = Lexer::new(text);
        let token = lexer.next()?;
        Ok(Parser { lexer, token, depth: 0, statements: 0, initial_bytes: 0 })
    }

    /// Takes the token and reads the next.
    fn bump(&mut self) -> Result<Token<'a>, LoadError> {
        let next = self.lexer.next()?;
        Ok(std::mem::replace(&mut self.token, next))
    }

    /// The token after this one.
    fn peek(&self) -> Result<Kind<'a>, LoadError> {
        Ok(self.lexer.clone().next()?.kind)
    }

    fn at(&self) -> At {
        self.token.at
    }

    fn is(&self, mark: &str) -> bool {
        self.token.kind == Kind::Mark(mark)
    }

    /// Takes the mark if it stands here.
    fn accept(&mut self, mark: &str) -> Result<bool, LoadError> {
        let here = self.is(mark);
        if here {
            self.bump()?;
        }
        Ok(here)
    }

    /// Takes the directive if it stands here.
    fn accept_directive(&mut self, name: &str) -> Result<bool, LoadError> {
        let here = self.token.kind == Kind::Directive(name);
        if here {
            self.bump()?;
        }
        Ok(here)
    }

    /// Takes the directive that stands here, whichever it is.
    fn any_directive(&mut self) -> Result<Option<&'a str>, LoadError> {
        let Kind::Directive(name) = self.token.kind else { return Ok(None) };
        self.bump()?;
        Ok(Some(name))
    }

    fn expect(&mut self, mark: &str) -> Result<(), LoadError> {
        if self.accept(mark)? { Ok(()) } else { Err(self.expected(format!("`{mark}`"))) }
    }

    /// The error that something else should stand here.
    fn expected(&self, what: impl Into<String>) -> LoadError {
        self.token.at.syntax(what, self.token.describe())
    }

    /// A name.
    fn name(&mut self) -> Result<(At, &'a str), LoadError> {
        let Kind::Word(name) = self.token.kind else { return Err(self.expected("a name")) };
        Ok((self.bump()?.at, name))
    }

    fn text(&mut self) -> Result<&'a str, LoadError> {
        let Kind::Text(text) = self.token.kind else { return Err(self.expected("a string")) };
        self.bump()?;
        Ok(text)
    }

    /// A literal that is an integer from 0 to `u32::MAX`.
    fn number(&mut self) -> Result<u32, LoadError> {
        let Kind::Number(text) = self.token.kind else { return Err(self.expected("a number")) };
        let value = Constant::parse(text).and_then(Constant::as_integer).and_then(|v| u32::try_from(v).ok());
        let value = value.ok_or_else(|| self.expected("a number of 32 bits"))?;
        self.bump()?;
        Ok(value)
    }

    /// Numbers separated by commas.
    fn numbers(&mut self) -> Result<Vec<u32>, LoadError> {
        let mut numbers = vec![self.number()?];
        while self.is(",") {
            self.bump()?;
            limits::check("numbers in a list", numbers.len() as u64 + 1, limits::LIST, self.at())?;
            numbers.push(self.number()?);
        }
        Ok(numbers)
    }

    /// Runs `inner` one level of nesting deeper.
    fn nest<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, LoadError>) -> Result<T, LoadError> {
        self.depth += 1;
        limits::check("nesting", self.depth, limits::NESTING, self.at())?;
        let result = inner(self);
        self.depth -= 1;
        result
    }
}
