//! The directives of a module.

use super::Parser;
use crate::error::LoadError;
use crate::isa::Space;
use crate::text::lexer::{Kind, shorten};
use crate::text::limits;
use crate::text::tree::Module;

impl<'a> Parser<'a> {
    pub(super) fn module(&mut self) -> Result<Module<'a>, LoadError> {
        let mut module = Module::default();
        if !self.accept_directive("version")? {
            return Err(self.expected("`.version`"));
        }
        module.version = self.version()?;
        if !self.accept_directive("target")? {
            return Err(self.expected("`.target`"));
        }
        module.target = self.target()?;
        while self.token.kind != Kind::End {
            self.count_statement()?;
            self.module_directive(&mut module)?;
        }
        Ok(module)
    }

    fn version(&mut self) -> Result<(u32, u32), LoadError> {
        let Kind::Number(text) = self.token.kind else { return Err(self.expected("a version")) };
        let parts = text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        let version = parts.ok_or_else(|| self.expected("a version such as 9.0"))?;
        self.bump()?;
        Ok(version)
    }

    fn target(&mut self) -> Result<String, LoadError> {
        let (at, target) = self.name()?;
        if !target.starts_with("sm_") && !target.starts_with("compute_") {
            return Err(at.syntax("a target such as sm_80", format!("`{}`", shorten(target))));
        }
        while self.accept(",")? {
            let (at, option) = self.name()?;
            if !matches!(option, "debug" | "texmode_unified" | "texmode_independent") {
                return Err(at.unsupported(format!("target option {}", shorten(option))));
            }
        }
        Ok(target.to_owned())
    }

    fn module_directive(&mut self, module: &mut Module<'a>) -> Result<(), LoadError> {
        let external = match self.token.kind {
            Kind::Directive("extern") => {
                self.bump()?;
                true
            }
            Kind::Directive("visible" | "weak" | "common") => {
                self.bump()?;
                false
            }
            _ => return self.other_directive(module),
        };
        if !self.linkable(module, external)? {
            return Err(self.expected("a kernel, a function or a variable"));
        }
        Ok(())
    }

    /// What may stand behind `.visible`; false if something else does.
    fn linkable(&mut self, module: &mut Module<'a>, external: bool) -> Result<bool, LoadError> {
        let Kind::Directive(name) = self.token.kind else { return Ok(false) };
        let space = match name {
            "entry" | "func" => {
                self.bump()?;
                let function = self.function(name == "entry")?;
                module.functions.push(function);
                return Ok(true);
            }
            "global" => Space::Global,
            "const" => Space::Const,
            "shared" => Space::Shared,
            "local" => Space::Local,
            _ => return Ok(false),
        };
        self.bump()?;
        self.variables(space, external, |variable| module.variables.push(variable))?;
        Ok(true)
    }

    fn other_directive(&mut self, module: &mut Module<'a>) -> Result<(), LoadError> {
        if self.linkable(module, false)? {
            return Ok(());
        }
        let at = self.at();
        let Kind::Directive(name) = self.token.kind else { return Err(self.expected("a directive")) };
        self.bump()?;
        match name {
            "address_size" => match self.number()? {
                64 => Ok(()),
                other => Err(at.unsupported(format!("addresses of {other} bits"))),
            },
            "file" => self.file(module),
            "section" => self.section(),
            "pragma" => self.pragma(),
            "alias" => Err(at.unsupported("aliases")),
            "tex" => Err(at.unsupported("textures and surfaces")),
            _ => Err(at.syntax("a directive of a module", format!("`.{}`", shorten(name)))),
        }
    }

    /// `1 "kernel.cu"` behind `.file`, maybe with a time stamp and a size: no semicolon ends it.
    fn file(&mut self, module: &mut Module<'a>) -> Result<(), LoadError> {
        let at = self.at();
        let number = self.number()?;
        limits::check("number of a file", u64::from(number), limits::FILES, at)?;
        let name = self.text()?;
        while self.accept(",")? {
            self.constant()?;
        }
        // File 0 repeats the main file in newer debug formats; `.loc` never names it.
        if let Some(index) = (number as usize).checked_sub(1) {
            if module.files.len() <= index {
                module.files.resize(index + 1, String::new());
            }
            module.files[index] = name.to_owned();
        }
        Ok(())
    }

    /// `.debug_str { … }` behind `.section`: debug information, skipped.
    fn section(&mut self) -> Result<(), LoadError> {
        if self.any_directive()?.is_none() {
            return Err(self.expected("the name of a section"));
        }
        self.expect("{")?;
        let mut depth = 1u64;
        while depth > 0 {
            match self.token.kind {
                Kind::Mark("{") => depth += 1,
                Kind::Mark("}") => depth -= 1,
                Kind::End => return Err(self.expected("`}`")),
                _ => {}
            }
            self.bump()?;
        }
        Ok(())
    }
}
