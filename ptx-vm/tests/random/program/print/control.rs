//! Branches, loops, calls.

use super::super::tree::{Class, Guard, Operand, Region, Stmt, Trips, Var};
use super::{Printer, condition, generic_base, guarded, name, operand, suffix};

impl Printer<'_> {
    pub(super) fn compound(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::If { cond, swapped, then, other } => {
                self.open("");
                if *swapped {
                    self.branch(&condition(*cond), other, then);
                } else {
                    self.branch(&condition(Guard { negated: !cond.negated, ..*cond }), then, other);
                }
                self.close();
            }
            Stmt::Loop { trips, counter, rotated, body } => self.counted(*trips, *counter, *rotated, body),
            Stmt::Switch { on, table, cases } => self.switch(*on, *table, cases),
            _ => unreachable!("not compound"),
        }
    }

    /// `near`, unless the condition holds: then `far`, which stands behind it.
    pub(super) fn branch(&mut self, condition: &str, near: &[Stmt], far: &[Stmt]) {
        let (other, end) = (self.label("else"), self.label("end"));
        if far.is_empty() {
            self.put(format!("@{condition} bra {end};"));
            self.stmts(near);
        } else {
            self.put(format!("@{condition} bra {other};"));
            self.stmts(near);
            self.put(format!("bra {end};"));
            self.put(format!("{other}:"));
            self.stmts(far);
        }
        self.put(format!("{end}:"));
    }

    fn counted(&mut self, trips: Trips, counter: Option<Var>, rotated: bool, body: &[Stmt]) {
        self.open(".reg .b32 i, n; .reg .pred p;");
        match trips {
            Trips::Const(trips) => self.put(format!("mov.u32 n, {trips};")),
            Trips::Masked(var, mask) => self.put(format!("and.b32 n, {}, {mask};", name(var))),
        }
        self.put("mov.u32 i, 0;");
        let [head, next, done] = ["head", "next", "done"].map(|name| self.label(name));
        if rotated {
            self.put(format!("setp.eq.s32 p, n, 0; @p bra {done};"));
        }
        self.put(format!("{head}:"));
        if !rotated {
            self.put(format!("setp.ge.u32 p, i, n; @p bra {done};"));
        }
        if let Some(counter) = counter {
            self.put(format!("mov.u32 {}, i;", name(counter)));
        }
        self.loops.push(self.depth);
        self.stmts(body);
        self.loops.pop();
        self.put(format!("{next}:"));
        self.put("add.s32 i, i, 1;");
        if rotated {
            self.put(format!("setp.lt.s32 p, i, n; @p bra {head};"));
        } else {
            self.put(format!("bra {head};"));
        }
        self.put(format!("{done}:"));
        self.close();
    }

    fn switch(&mut self, on: Var, table: bool, cases: &[(Vec<Stmt>, bool)]) {
        self.open(".reg .b32 s; .reg .pred p;");
        self.put(format!("rem.u32 s, {}, {};", name(on), cases.len()));
        let end = self.label("end");
        let labels: Vec<String> = (0..cases.len()).map(|i| self.label(&format!("case{i}"))).collect();
        if table {
            self.put(format!("targets: .branchtargets {};", labels.join(", ")));
            self.put("brx.idx s, targets;");
        } else {
            for (i, label) in labels.iter().enumerate().skip(1) {
                self.put(format!("setp.eq.s32 p, s, {i}; @p bra {label};"));
            }
        }
        for (label, (body, falls)) in labels.iter().zip(cases) {
            self.put(format!("{label}:"));
            self.stmts(body);
            if !falls {
                self.put(format!("bra {end};"));
            }
        }
        self.put(format!("{end}:"));
        self.close();
    }

    pub(super) fn jump(&mut self, stmt: &Stmt) {
        let at = |name: &str, depth: usize| format!("$L_{name}_{depth}");
        match stmt {
            Stmt::Break(guard, levels) => {
                let target = at("done", self.loops[self.loops.len() - 1 - usize::from(*levels)]);
                self.put(format!("{}bra {target};", guarded(guard)));
            }
            Stmt::Continue(guard) => {
                let target = at("next", self.loops[self.loops.len() - 1]);
                self.put(format!("{}bra {target};", guarded(guard)));
            }
            Stmt::Return(None) => self.put("bra $L_leave;"),
            // A return of some lanes in the middle of a function.
            Stmt::Return(Some(guard)) => {
                let result = self.result.expect("only functions return");
                self.open("");
                let stay = self.label("stay");
                self.put(format!("@{} bra {stay};", condition(Guard { negated: !guard.negated, ..*guard })));
                self.put(format!("st.param{} [result], {};", suffix(result.class()), name(result)));
                self.put("ret;");
                self.put(format!("{stay}:"));
                self.close();
            }
            Stmt::Exit(guard) => {
                self.put(format!("{}{};", guarded(guard), if guard.is_some() { "exit" } else { "ret" }))
            }
            _ => unreachable!("not a jump"),
        }
    }

    pub(super) fn call(&mut self, number: usize, passed: Region, args: &[Operand], dst: Var) {
        let function = &self.program.functions[number];
        self.open("");
        let classes = || std::iter::once(Class::Long).chain(function.params.iter().copied());
        let values = std::iter::once(generic_base(passed).to_owned())
            .chain(args.iter().zip(&function.params).map(|(arg, class)| operand(*arg, *class)));
        for (i, (class, value)) in classes().zip(values).enumerate() {
            self.put(format!(".param {} param{i};", suffix(class)));
            self.put(format!("st.param{} [param{i}+0], {value};", suffix(class)));
        }
        let ty = suffix(dst.class());
        self.put(format!(".param {ty} retval0;"));
        let params: Vec<String> = (0..classes().count()).map(|i| format!("param{i}")).collect();
        self.put(format!("call (retval0), f{number}, ({});", params.join(", ")));
        self.put(format!("ld.param{ty} {}, [retval0+0];", name(dst)));
        self.close();
    }
}
