//! Statements that a thread executes on its own.

use super::super::operations::{ATOMICS, TOTALS, operations};
use super::super::tree::{
    Class, ELEMENTS, Element, Guard, Offset, Operand, Place, Region, Special, Stmt, Trips, offset_mask,
};
use super::{Generator, Level, Scope};

/// Nesting of branches and loops.
const DEEPEST: u8 = 4;

impl Generator<'_> {
    /// One statement without collectives or barriers.
    pub(super) fn alone(&mut self, depth: u8) -> Stmt {
        match self.choices.below(16) {
            0..=5 => self.pure(),
            6 => self.carry_or_special(),
            7 => self.load(),
            8 => self.store(),
            9 if self.scope == Scope::Kernel => self.atomic(),
            10 if self.scope == Scope::Kernel => self.total(),
            11 | 12 if depth < DEEPEST => self.branch(depth),
            13 if depth < DEEPEST => self.looped(depth),
            14 => self.jump(),
            15 => self.call(),
            _ => self.pure(),
        }
    }

    fn pure(&mut self) -> Stmt {
        let kind = self.choices.pick(&operations());
        let op = &kind[self.choices.below(kind.len())];
        let mut src: Vec<Operand> = op.sources.iter().map(|class| self.operand(*class)).collect();
        if op.divides {
            // Small and positive, so that nothing overflows and quotients are not all 0.
            let divisor = 1 + self.choices.below(255) as u64;
            *src.last_mut().expect("a division has a divisor") = Operand::Const(divisor);
        }
        let last = src.last_mut().expect("there is a source");
        if op.text.starts_with("setp") && op.sources.last() == Some(&Class::Pred) && self.choices.chance(30) {
            *last = Operand::Not(self.var(Class::Pred));
        }
        // Position and length of a bit field: the assembler takes no constants that mean nothing.
        if op.text.starts_with("bfe") || op.text.starts_with("bfi") {
            for operand in src.iter_mut().rev().take(2) {
                if let Operand::Const(value) = operand {
                    *value &= 0xff;
                }
            }
        }
        // Braces around parts take registers only.
        if op.text.contains('{') {
            for (operand, class) in src.iter_mut().zip(op.sources) {
                if let Operand::Const(_) = operand {
                    *operand = Operand::Var(self.var(*class));
                }
            }
        }
        let dst = self.var(op.result);
        Stmt::Pure { guard: self.guard(), op, dst, src }
    }

    fn carry_or_special(&mut self) -> Stmt {
        if self.choices.chance(40) {
            let dst = self.distinct(Class::Word, 2);
            let mut pair = || [self.operand(Class::Word), self.operand(Class::Word)];
            let (a, b) = (pair(), pair());
            let subtract = self.choices.chance(50);
            return Stmt::Carry { guard: self.guard(), subtract, dst: [dst[0], dst[1]], a, b };
        }
        let axis = self.choices.below(3);
        let special = self.choices.pick(&[
            Special::Lane,
            Special::Tid(axis),
            Special::Ctaid(axis),
            Special::LanemaskLt,
            Special::LanemaskGe,
            Special::Ntid(axis),
            Special::Nctaid(axis),
        ]);
        Stmt::Special { dst: self.var(Class::Word), special }
    }

    /// An element type, how many of them, and a class of registers for them.
    fn elements(&mut self) -> (Element, usize, Class) {
        let element = self.choices.pick(&ELEMENTS);
        let class = self.choices.pick(element.classes);
        let most = if element.bytes == 8 { 2 } else { 4 };
        let count = self.choices.pick(&[1, 1, 2, most]);
        (element, count, class)
    }

    fn place(&mut self, size: usize) -> Place {
        let region = self.region();
        let offset = if self.choices.chance(40) {
            Offset::Masked(self.var(Class::Word))
        } else {
            Offset::Const(self.choices.byte() & offset_mask(size))
        };
        Place { region, offset, generic: region == Region::Passed || self.choices.chance(25) }
    }

    /// Modifiers that change nothing for memory of one thread.
    fn strength(&mut self, vector: usize) -> &'static str {
        if vector > 1 { "" } else { self.choices.pick(&["", "", "", ".volatile", ".relaxed.gpu", ".relaxed.cta"]) }
    }

    fn load(&mut self) -> Stmt {
        let (element, count, class) = self.elements();
        let dst = self.distinct(class, count);
        let place = self.place(element.bytes * count);
        let strength = self.strength_at(place, count);
        Stmt::Load { guard: self.guard(), element, strength, dst, place }
    }

    fn store(&mut self) -> Stmt {
        let (element, count, class) = self.elements();
        let src = (0..count).map(|_| Operand::Var(self.var(class))).collect();
        let place = self.place(element.bytes * count);
        let strength = self.strength_at(place, count);
        Stmt::Store { guard: self.guard(), element, strength, src, place }
    }

    /// Local memory has no strength: nobody else sees it.
    fn strength_at(&mut self, place: Place, vector: usize) -> &'static str {
        if place.region == Region::Local && !place.generic { "" } else { self.strength(vector) }
    }

    fn atomic(&mut self) -> Stmt {
        let atomic = &ATOMICS[self.choices.below(ATOMICS.len())];
        let size = atomic.class.bits() as usize / 8;
        let mut place = self.place(size);
        if place.region == Region::Local {
            place.region = Region::Global;
        }
        // Where a generic address decides about flushing, the spelling does not tell the outcome.
        place.generic &= !atomic.flushes;
        let dst = self.choices.chance(70).then(|| self.var(atomic.class));
        let (b, c) = (self.operand(atomic.class), self.operand(atomic.class));
        Stmt::Atomic { guard: self.guard(), atomic, dst, place, b, c }
    }

    fn total(&mut self) -> Stmt {
        let index = self.choices.below(TOTALS.len());
        let value = self.operand(TOTALS[index].class);
        let (shared, returns) = (self.choices.chance(50), self.choices.chance(30));
        Stmt::Total { guard: self.guard(), shared, index, returns, value }
    }

    fn branch(&mut self, depth: u8) -> Stmt {
        if self.choices.chance(25) {
            let cases = (0..1 + self.choices.below(4))
                .map(|_| (self.block(Level::Thread, depth + 1, false, 3), self.choices.chance(20)))
                .collect();
            return Stmt::Switch { on: self.var(Class::Word), table: self.choices.chance(40), cases };
        }
        let (cond, swapped) = (self.cond(), self.choices.chance(30));
        let then = self.block(Level::Thread, depth + 1, false, 5);
        let other = if self.choices.chance(60) { self.block(Level::Thread, depth + 1, false, 5) } else { Vec::new() };
        Stmt::If { cond, swapped, then, other }
    }

    fn looped(&mut self, depth: u8) -> Stmt {
        let trips = if self.choices.chance(60) {
            Trips::Masked(self.var(Class::Word), self.choices.pick(&[3, 1, 7]))
        } else {
            Trips::Const(self.choices.below(5) as u8)
        };
        let (counter, rotated) = (self.choices.chance(50), self.choices.chance(40));
        let counter = counter.then(|| self.var(Class::Word));
        let most = match trips {
            Trips::Const(trips) => trips,
            Trips::Masked(_, mask) => mask,
        };
        self.loops += 1;
        let body = self.repeated(most.into(), |this| this.block(Level::Thread, depth + 1, false, 5));
        self.loops -= 1;
        Stmt::Loop { trips, counter, rotated, body }
    }

    /// `break`, `continue`, `return` or `exit`, where there is one.
    fn jump(&mut self) -> Stmt {
        let guard: Option<Guard> = self.choices.chance(80).then(|| self.cond());
        match self.choices.below(4) {
            0 | 1 if self.loops > 0 => Stmt::Break(guard, self.choices.below(self.loops.into()) as u8),
            2 if self.loops > 0 => Stmt::Continue(guard),
            _ if self.scope == Scope::Function => Stmt::Return(guard),
            3 if self.exits => Stmt::Exit(guard),
            _ => self.pure(),
        }
    }

    fn call(&mut self) -> Stmt {
        if self.functions.is_empty() {
            return self.pure();
        }
        let function = self.choices.below(self.functions.len());
        if !self.spend(self.functions[function].cost) {
            return self.pure();
        }
        let params = self.functions[function].function.params.clone();
        let result = self.functions[function].function.result.class();
        let args = params.into_iter().map(|class| self.operand(class)).collect();
        Stmt::Call { function, passed: self.region(), args, dst: self.var(result) }
    }
}
