//! Programs as PTX text.
//!
//! Every compound statement is a `{ }` scope with registers and labels of its own under names that its neighbours use too,
//! as NVRTC does around calls and inline assembly: a loader with one flat table of names computes something else.

mod access;
mod control;
mod kernel;
mod together;

use super::tree::{Class, Guard, Operand, Program, Region, Special, Stmt, Var};
use std::fmt::Write;

/// The whole module. Its kernel is called `random`.
pub fn print(program: &Program) -> String {
    let mut printer = Printer { program, text: String::new(), loops: Vec::new(), depth: 0, line: 0, result: None };
    printer.module();
    printer.text
}

struct Printer<'a> {
    program: &'a Program,
    text: String,
    /// Depths of the scopes of the loops around the current place.
    loops: Vec<usize>,
    /// Scopes around the current place.
    depth: usize,
    /// CUDA line of the last `.loc`.
    line: u32,
    /// The variable that the current function returns.
    result: Option<Var>,
}

impl Printer<'_> {
    fn put(&mut self, text: impl AsRef<str>) {
        let indent = 4 * self.depth.min(10);
        writeln!(self.text, "{:indent$}{}", "", text.as_ref()).expect("a string takes everything");
    }

    fn open(&mut self, declarations: &str) {
        self.put("{");
        self.depth += 1;
        if !declarations.is_empty() {
            self.put(declarations);
        }
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.put("}");
    }

    /// A name that no scope around the current one uses.
    fn label(&self, name: &str) -> String {
        format!("$L_{name}_{}", self.depth)
    }

    fn stmts(&mut self, stmts: &[Stmt]) {
        for stmt in stmts {
            if self.program.line_info {
                self.line += 1;
                self.put(format!(".loc 1 {} 5", self.line));
            }
            self.stmt(stmt);
        }
    }

    fn stmt(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Pure { guard, op, dst, src } => self.pure(guard, op.text, *dst, op.sources, src),
            Stmt::Carry { guard, subtract, dst, a, b } => {
                let (g, op) = (guarded(guard), if *subtract { "sub" } else { "add" });
                let [a, b] = [a, b].map(|pair| pair.map(|part| operand(part, Class::Word)));
                self.open(".reg .b32 t;");
                self.put(format!("{g}{op}.cc.u32 t, {}, {};", a[0], b[0]));
                self.put(format!("{g}{op}c.u32 {}, {}, {};", name(dst[1]), a[1], b[1]));
                self.put(format!("{g}mov.u32 {}, t;", name(dst[0])));
                self.close();
            }
            Stmt::Special { dst, special: register } => {
                self.put(format!("mov.u32 {}, {};", name(*dst), special(*register)))
            }
            Stmt::Load { .. } | Stmt::Store { .. } | Stmt::Atomic { .. } | Stmt::Total { .. } => self.access(stmt),
            Stmt::If { .. } | Stmt::Loop { .. } | Stmt::Switch { .. } => self.compound(stmt),
            Stmt::Call { function, passed, args, dst } => self.call(*function, *passed, args, *dst),
            Stmt::Break(..) | Stmt::Continue(..) | Stmt::Return(..) | Stmt::Exit(..) => self.jump(stmt),
            Stmt::Collective(collective) => {
                let member = if self.program.threads().is_multiple_of(32) { "-1" } else { "%member" };
                self.collective(collective, member);
            }
            _ => self.together(stmt),
        }
    }

    fn pure(&mut self, guard: &Option<Guard>, text: &str, dst: Var, classes: &[Class], src: &[Operand]) {
        let sources: Vec<String> = src.iter().zip(classes).map(|(x, class)| operand(*x, *class)).collect();
        if !text.contains('$') {
            return self.put(format!("{}{text} {}, {};", guarded(guard), name(dst), sources.join(", ")));
        }
        let mut filled = text.replace("$g ", &guarded(guard)).replace("$d", &name(dst));
        for (placeholder, source) in ["$a", "$b", "$c"].iter().zip(&sources) {
            filled = filled.replace(placeholder, source);
        }
        self.put(filled);
    }
}

/// A variable's register.
fn name(var: Var) -> String {
    let class = var.class();
    format!("{}{}", prefix(class), var.0 - class.variables().1)
}

fn prefix(class: Class) -> &'static str {
    match class {
        Class::Short => "%rs",
        Class::Word => "%r",
        Class::Long => "%rd",
        Class::Float => "%f",
        Class::Pred => "%p",
    }
}

/// An untyped suffix of the class's size.
fn suffix(class: Class) -> &'static str {
    match class {
        Class::Short => ".b16",
        Class::Word | Class::Float => ".b32",
        Class::Long => ".b64",
        Class::Pred => ".pred",
    }
}

fn guarded(guard: &Option<Guard>) -> String {
    guard.map_or(String::new(), |guard| format!("@{} ", condition(guard)))
}

fn condition(guard: Guard) -> String {
    format!("{}{}", if guard.negated { "!" } else { "" }, name(guard.var))
}

fn operand(operand: Operand, class: Class) -> String {
    match operand {
        Operand::Var(var) => name(var),
        Operand::Not(var) => format!("!{}", name(var)),
        Operand::Const(value) => constant(value, class),
    }
}

/// Constants in all their forms: hexadecimal, with `U`, signed.
fn constant(value: u64, class: Class) -> String {
    let signed = match class {
        Class::Short => i64::from(value as i16),
        Class::Word => i64::from(value as i32),
        _ => value as i64,
    };
    match (class, value & 3) {
        (Class::Float, _) => format!("0f{value:08X}"),
        (_, 0 | 1) => signed.to_string(),
        (_, 2) => format!("0x{value:x}"),
        _ => format!("0x{value:X}U"),
    }
}

fn special(special: Special) -> String {
    let axis = |name: &str, axis: usize| format!("%{name}.{}", ["x", "y", "z"][axis]);
    match special {
        Special::Tid(i) => axis("tid", i),
        Special::Ntid(i) => axis("ntid", i),
        Special::Ctaid(i) => axis("ctaid", i),
        Special::Nctaid(i) => axis("nctaid", i),
        Special::Lane => "%laneid".to_owned(),
        Special::LanemaskLt => "%lanemask_lt".to_owned(),
        Special::LanemaskGe => "%lanemask_ge".to_owned(),
    }
}

/// The register that holds a region's generic address.
fn generic_base(region: Region) -> &'static str {
    match region {
        Region::Global => "%slot",
        Region::Shared => "%gshared",
        Region::Local => "%glocal",
        Region::Passed => "%passed",
    }
}
