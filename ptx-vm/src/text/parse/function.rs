//! Kernels and functions.

use super::Parser;
use crate::error::LoadError;
use crate::isa::{Space, Type};
use crate::text::lexer::{At, Kind};
use crate::text::limits;
use crate::text::tree::{Block, Function, Guard, Instruction, Param, ParamPlace, Statement};

impl<'a> Parser<'a> {
    /// A kernel or function behind `.entry` or `.func`.
    pub(super) fn function(&mut self, kernel: bool) -> Result<Function<'a>, LoadError> {
        let returns = if !kernel && self.is("(") { self.params()? } else { Vec::new() };
        let (at, name) = self.name()?;
        let params = if self.is("(") { self.params()? } else { Vec::new() };
        let threads = self.performance_directives()?;
        let body = if self.accept(";")? {
            None
        } else if self.is("{") {
            Some(self.block()?)
        } else {
            return Err(self.expected("`{` or `;`"));
        };
        Ok(Function { at, name, kernel, returns, params, threads, body })
    }

    fn params(&mut self) -> Result<Vec<Param<'a>>, LoadError> {
        self.expect("(")?;
        let mut params = Vec::new();
        while !self.is(")") {
            limits::check("parameters", params.len() as u64 + 1, limits::LIST, self.at())?;
            params.push(self.param()?);
            if !self.accept(",")? {
                break;
            }
        }
        self.expect(")")?;
        Ok(params)
    }

    fn param(&mut self) -> Result<Param<'a>, LoadError> {
        let register = self.accept_directive("reg")?;
        if !register && !self.accept_directive("param")? {
            return Err(self.expected("`.param` or `.reg`"));
        }
        let mut align = None;
        if self.accept_directive("align")? {
            align = Some(self.alignment()?);
        }
        let type_at = self.at();
        let ty = self.ty()?;
        self.pointer_attributes()?;
        let (at, name) = self.name()?;
        if register {
            return Ok(Param { at, name, ty, place: ParamPlace::Register });
        }
        if ty == Type::Pred {
            return Err(type_at.syntax("a type that has a size", "`.pred`"));
        }
        let array = self.accept("[")?;
        let mut elements = 1;
        if array {
            if self.is("]") {
                return Err(self.at().unsupported("functions with any number of arguments"));
            }
            elements = self.size()?;
            self.expect("]")?;
        }
        let size = elements.saturating_mul(u64::from(ty.bytes()));
        limits::check("bytes of parameters", size, limits::PARAMETER_BYTES, at)?;
        let place = ParamPlace::Memory { size, align: align.unwrap_or(ty.bytes()), array };
        Ok(Param { at, name, ty, place })
    }

    /// `.ptr .global .align 4`: what a pointer points to, not what the parameter is.
    fn pointer_attributes(&mut self) -> Result<(), LoadError> {
        if !self.accept_directive("ptr")? {
            return Ok(());
        }
        if let Kind::Directive("global" | "shared" | "local" | "const") = self.token.kind {
            self.bump()?;
        }
        if self.accept_directive("align")? {
            self.alignment()?;
        }
        Ok(())
    }

    /// What stands between the parameters and the body.
    fn performance_directives(&mut self) -> Result<Option<(u32, bool)>, LoadError> {
        let mut threads = None;
        loop {
            let at = self.at();
            let Some(name) = self.any_directive()? else { return Ok(threads) };
            match name {
                "maxntid" | "reqntid" => {
                    let product = self.numbers()?.iter().fold(1u64, |product, n| product.saturating_mul(u64::from(*n)));
                    limits::check("threads of a block", product, limits::THREADS, at)?;
                    let required = name == "reqntid";
                    if required || threads.is_none() {
                        threads = Some((product as u32, required));
                    }
                }
                "minnctapersm" | "maxnctapersm" | "maxnreg" | "maxclusterrank" => {
                    self.numbers()?;
                }
                // A cluster of one block is what every block is.
                "reqnctapercluster" => {
                    if self.numbers()?.iter().any(|n| *n != 1) {
                        return Err(at.unsupported("clusters of blocks"));
                    }
                }
                "noreturn" | "explicitcluster" => {}
                "pragma" => self.pragma()?,
                _ => return Err(at.syntax("a performance directive, `{` or `;`", format!("`.{name}`"))),
            }
        }
    }

    /// `"nounroll";` behind `.pragma`.
    pub(super) fn pragma(&mut self) -> Result<(), LoadError> {
        self.text()?;
        while self.accept(",")? {
            self.text()?;
        }
        self.expect(";")
    }

    fn block(&mut self) -> Result<Block<'a>, LoadError> {
        self.expect("{")?;
        self.nest(|parser| {
            let mut statements = Vec::new();
            while !parser.is("}") {
                parser.count_statement()?;
                parser.statement(&mut statements)?;
            }
            let end = parser.bump()?.at;
            Ok(Block { statements, end })
        })
    }

    fn statement(&mut self, statements: &mut Vec<Statement<'a>>) -> Result<(), LoadError> {
        let at = self.at();
        match self.token.kind {
            Kind::Mark("{") => statements.push(Statement::Block(self.block()?)),
            Kind::Mark("@") => statements.push(Statement::Instruction(self.guarded()?)),
            // Not in the manual, and nothing can be meant by it.
            Kind::Mark(";") => drop(self.bump()?),
            Kind::Directive(name) => {
                self.bump()?;
                self.directive(at, name, statements)?;
            }
            Kind::Word(name) => {
                self.bump()?;
                if self.accept(":")? {
                    statements.push(self.label(at, name)?);
                } else {
                    statements.push(Statement::Instruction(self.instruction(at, None, name)?));
                }
            }
            _ => return Err(self.expected("an instruction, a declaration, a label or `}`")),
        }
        Ok(())
    }

    fn guarded(&mut self) -> Result<Instruction<'a>, LoadError> {
        self.bump()?;
        let negated = self.accept("!")?;
        let (guard_at, name) = self.name()?;
        let (at, spelling) = self.name()?;
        self.instruction(at, Some(Guard { at: guard_at, name, negated }), spelling)
    }

    fn instruction(
        &mut self,
        at: At,
        guard: Option<Guard<'a>>,
        spelling: &'a str,
    ) -> Result<Instruction<'a>, LoadError> {
        let call = spelling.split('.').next() == Some("call");
        let operands = self.operands(call)?;
        Ok(Instruction { at, guard, spelling, operands })
    }

    /// What stands behind `name:`.
    fn label(&mut self, at: At, name: &'a str) -> Result<Statement<'a>, LoadError> {
        match self.token.kind {
            Kind::Directive("branchtargets") => {
                self.bump()?;
                let mut targets = vec![self.name()?];
                while self.accept(",")? {
                    self.count_statement()?;
                    targets.push(self.name()?);
                }
                self.expect(";")?;
                Ok(Statement::Targets(at, name, targets))
            }
            Kind::Directive("callprototype" | "calltargets") => Err(self.at().unsupported("indirect calls")),
            _ => Ok(Statement::Label(at, name)),
        }
    }

    fn directive(&mut self, at: At, name: &'a str, statements: &mut Vec<Statement<'a>>) -> Result<(), LoadError> {
        let space = match name {
            "reg" => return self.registers(statements),
            "pragma" => return self.pragma(),
            "loc" => {
                statements.push(self.loc()?);
                return Ok(());
            }
            "shared" => Space::Shared,
            "local" => Space::Local,
            "param" => Space::Param,
            "global" | "const" => return Err(at.unsupported("global and constant variables inside functions")),
            _ => return Err(at.syntax("an instruction or a declaration", format!("`.{name}`"))),
        };
        self.variables(space, false, |variable| statements.push(Statement::Variable(Box::new(variable))))
    }

    /// `1 20 3` or `1 20 3, function_name $L, inlined_at 1 40 5` behind `.loc`: no semicolon ends it.
    fn loc(&mut self) -> Result<Statement<'a>, LoadError> {
        let at = self.at();
        let (file, line, _) = (self.number()?, self.number()?, self.number()?);
        limits::check("number of a file", u64::from(file), limits::FILES, at)?;
        while self.accept(",")? {
            match self.name()?.1 {
                "function_name" => {
                    self.name()?;
                    if self.accept("+")? {
                        self.number()?;
                    }
                }
                "inlined_at" => {
                    let _place = (self.number()?, self.number()?, self.number()?);
                }
                _ => return Err(self.expected("`function_name` or `inlined_at`")),
            }
        }
        Ok(Statement::Loc(file, line))
    }
}
