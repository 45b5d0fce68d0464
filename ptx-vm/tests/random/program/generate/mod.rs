//! Bytes to programs.
//!
//! Every program that comes out is defined behaviour: each variable has a value before it is read, memory is a thread's own
//! or ordered by barriers, collectives and barriers stand where all their threads come by, loops are bounded.

mod thread;
mod uniform;

use super::choices::Choices;
use super::tree::{Class, Function, Guard, Operand, Program, Region, Stmt, Var};

/// Generates the program that these bytes describe; every string of bytes describes one.
pub fn generate(bytes: &[u8]) -> Program {
    let choices = Choices::new(bytes);
    let mut generator = Generator {
        choices,
        functions: Vec::new(),
        scope: Scope::Kernel,
        budget: 0,
        weight: 1,
        loops: 0,
        exits: false,
    };
    generator.program()
}

/// Who the statements are for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Kernel,
    Function,
}

/// How many threads come by a statement together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Thread,
    Warp,
    Block,
}

/// A function and the most statements that a call of it executes.
struct Costed {
    function: Function,
    cost: u32,
}

struct Generator<'a> {
    choices: Choices<'a>,
    functions: Vec<Costed>,
    scope: Scope,
    /// Statements that one thread may still execute.
    budget: u32,
    /// How often the loops around the current place repeat it, at most.
    weight: u32,
    /// Loops of this frame around the current place that `break` and `continue` may name.
    loops: u8,
    /// Threads may end here: no collective follows.
    exits: bool,
}

impl Generator<'_> {
    fn program(&mut self) -> Program {
        let seed = self.choices.bits();
        let (grid, block) = self.shape();
        let full_warps = block.iter().product::<u32>().is_multiple_of(32);
        let dynamic = self.choices.chance(40);
        let line_info = self.choices.chance(25);

        self.scope = Scope::Function;
        for _ in 0..self.choices.below(4) {
            let costed = self.function();
            self.functions.push(costed);
        }

        self.scope = Scope::Kernel;
        self.budget = 1500;
        let mut body = self.block(Level::Block, 0, full_warps, 10);
        self.exits = true;
        if self.choices.chance(40) {
            body.extend(self.block(Level::Thread, 0, full_warps, 4));
            if self.choices.chance(50) {
                // Not an aligned barrier: of a warp whose lanes have ended here and there, only some come by.
                body.push(Stmt::Barrier("barrier.sync 0;"));
            }
        }
        body.extend(self.block(Level::Thread, 0, full_warps, 4));
        let functions = self.functions.drain(..).map(|costed| costed.function).collect();
        Program { grid, block, seed, dynamic, line_info, functions, body }
    }

    /// Up to four blocks, up to 96 threads each, in up to three dimensions.
    fn shape(&mut self) -> ([u32; 3], [u32; 3]) {
        const GRIDS: [[u32; 3]; 6] = [[1, 1, 1], [2, 1, 1], [3, 1, 1], [1, 2, 2], [2, 2, 1], [1, 1, 3]];
        const BLOCKS: [[u32; 3]; 10] = [
            [32, 1, 1],
            [1, 1, 1],
            [64, 1, 1],
            [7, 5, 1],
            [8, 4, 2],
            [33, 1, 1],
            [96, 1, 1],
            [4, 4, 2],
            [16, 3, 1],
            [3, 1, 5],
        ];
        (self.choices.pick(&GRIDS), self.choices.pick(&BLOCKS))
    }

    fn function(&mut self) -> Costed {
        const BUDGET: u32 = 60;
        self.budget = BUDGET;
        let params = (0..self.choices.below(4)).map(|_| self.value_class()).collect();
        let class = self.value_class();
        let result = self.var(class);
        let body = self.block(Level::Thread, 0, false, 6);
        Costed { function: Function { params, result, body }, cost: BUDGET - self.budget + 1 }
    }

    /// Up to `most` statements, and what stands in them.
    fn block(&mut self, level: Level, depth: u8, full_warps: bool, most: usize) -> Vec<Stmt> {
        let count = self.choices.below(most + 1);
        let mut stmts = Vec::new();
        for _ in 0..count {
            if !self.spend(1) {
                break;
            }
            let together = level != Level::Thread && self.choices.chance(50);
            if together {
                stmts.push(self.together(level, depth, full_warps));
            } else {
                stmts.push(self.alone(depth));
            }
        }
        stmts
    }

    /// Takes the cost of something at the current place from the budget, if it is there.
    fn spend(&mut self, cost: u32) -> bool {
        let cost = cost.saturating_mul(self.weight);
        let enough = cost <= self.budget;
        if enough {
            self.budget -= cost;
        }
        enough
    }

    /// Statements inside a loop that runs up to `trips` times.
    fn repeated(&mut self, trips: u32, body: impl FnOnce(&mut Self) -> Vec<Stmt>) -> Vec<Stmt> {
        let outside = self.weight;
        self.weight = outside.saturating_mul(trips.max(1));
        let body = body(self);
        self.weight = outside;
        body
    }

    fn var(&mut self, class: Class) -> Var {
        let (count, first) = class.variables();
        Var(first + self.choices.below(count.into()) as u8)
    }

    /// Two or more different variables of a class that has as many.
    fn distinct(&mut self, class: Class, count: usize) -> Vec<Var> {
        let (of, first) = class.variables();
        let start = self.choices.below(of.into());
        (0..count).map(|i| Var(first + ((start + i) % usize::from(of)) as u8)).collect()
    }

    /// A class that a parameter can have.
    fn value_class(&mut self) -> Class {
        self.choices.pick(&[Class::Word, Class::Long, Class::Float, Class::Short])
    }

    fn operand(&mut self, class: Class) -> Operand {
        if class != Class::Pred && self.choices.chance(25) {
            Operand::Const(self.constant(class))
        } else {
            Operand::Var(self.var(class))
        }
    }

    fn constant(&mut self, class: Class) -> u64 {
        const FLOATS: [f32; 6] = [0.0, 1.0, -2.5, 1.0e-39, 3.0e38, f32::INFINITY];
        match class {
            Class::Float if self.choices.chance(70) => self.choices.pick(&FLOATS).to_bits().into(),
            _ => self.choices.value() & class.mask(),
        }
    }

    fn cond(&mut self) -> Guard {
        let var = self.var(Class::Pred);
        Guard { var, negated: self.choices.chance(50) }
    }

    fn guard(&mut self) -> Option<Guard> {
        self.choices.chance(30).then(|| self.cond())
    }

    /// A region that the current frame can reach.
    fn region(&mut self) -> Region {
        match self.scope {
            Scope::Kernel => self.choices.pick(&[Region::Global, Region::Shared, Region::Local]),
            Scope::Function => self.choices.pick(&[Region::Local, Region::Passed]),
        }
    }
}
