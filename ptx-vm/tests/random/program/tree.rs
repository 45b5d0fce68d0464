//! What a random program is: a tree of statements over a few typed variables.
//!
//! The tree says what happens, not how PTX spells it; how it is spelled (branch styles, address forms) is drawn too and
//! stored beside, so that a tree prints to one text only.

use super::operations::Pure;

/// The kinds of registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// `.b16`
    Short,
    /// `.b32`
    Word,
    /// `.b64`
    Long,
    /// `.f32`
    Float,
    /// `.pred`
    Pred,
}

impl Class {
    pub const ALL: [Class; 5] = [Class::Short, Class::Word, Class::Long, Class::Float, Class::Pred];

    /// Variables of this kind in every frame, and the number of the first.
    pub fn variables(self) -> (u8, u8) {
        match self {
            Class::Short => (4, 0),
            Class::Word => (6, 4),
            Class::Long => (4, 10),
            Class::Float => (4, 14),
            Class::Pred => (4, 18),
        }
    }

    pub fn bits(self) -> u32 {
        match self {
            Class::Short => 16,
            Class::Word | Class::Float => 32,
            Class::Long => 64,
            Class::Pred => 1,
        }
    }

    /// The bits that a register of this kind keeps.
    pub fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }
}

/// A variable of a frame (the kernel's or a function's), by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Var(pub u8);

impl Var {
    pub const COUNT: usize = 22;

    pub fn class(self) -> Class {
        let of = |class: &Class| (class.variables().1..class.variables().1 + class.variables().0).contains(&self.0);
        Class::ALL.into_iter().find(of).expect("numbers are below COUNT")
    }
}

/// A source operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    Var(Var),
    /// `!p`
    Not(Var),
    /// Register contents of the class that the operation takes.
    Const(u64),
}

/// `@p` or `@!p`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    pub var: Var,
    pub negated: bool,
}

/// Memory that belongs to one thread: 32 bytes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Region {
    Global,
    Shared,
    /// The frame's own array.
    Local,
    /// Whatever the caller passed by pointer; functions only.
    Passed,
}

/// Bytes of a [`Region`].
pub const REGION: usize = 32;

/// Where in a region an access of `size` bytes (a power of two) goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub region: Region,
    pub offset: Offset,
    /// Through a generic address.
    pub generic: bool,
}

/// An offset in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offset {
    Const(u8),
    /// A variable's value, cut down to an aligned offset inside the region.
    Masked(Var),
}

/// The mask that makes any number an aligned offset of `size` bytes in a region.
pub fn offset_mask(size: usize) -> u8 {
    (REGION - size) as u8
}

/// An element of a load or store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    /// With its dot.
    pub suffix: &'static str,
    pub bytes: usize,
    pub signed: bool,
    /// Registers that may hold it.
    pub classes: &'static [Class],
}

const fn element(suffix: &'static str, bytes: usize, signed: bool, classes: &'static [Class]) -> Element {
    Element { suffix, bytes, signed, classes }
}

/// Every element type.
pub const ELEMENTS: [Element; 13] = {
    use Class::*;
    [
        element(".u32", 4, false, &[Word, Long]),
        element(".b32", 4, false, &[Word, Float, Long]),
        element(".s32", 4, true, &[Word, Long]),
        element(".f32", 4, false, &[Float]),
        element(".u64", 8, false, &[Long]),
        element(".s64", 8, true, &[Long]),
        element(".b64", 8, false, &[Long]),
        element(".u8", 1, false, &[Short, Word, Long]),
        element(".s8", 1, true, &[Short, Word, Long]),
        element(".b8", 1, false, &[Short, Word, Long]),
        element(".u16", 2, false, &[Short, Word, Long]),
        element(".s16", 2, true, &[Short, Word, Long]),
        element(".b16", 2, false, &[Short, Word, Long]),
    ]
};

/// An atomic on a thread's own memory, so that its result is known.
#[derive(Clone, Copy)]
pub struct Atomic {
    pub op: &'static str,
    /// With its dot.
    pub suffix: &'static str,
    pub class: Class,
    /// Old value, `b`, `c` (`cas` only) to the new value.
    pub meaning: fn(u64, u64, u64) -> u64,
    /// In device memory the operation flushes subnormal numbers (`add.f32`).
    pub flushes: bool,
}

/// An operation of many threads on one word, whose outcome does not depend on their order.
#[derive(Clone, Copy)]
pub struct Total {
    pub op: &'static str,
    pub suffix: &'static str,
    pub class: Class,
    pub start: u64,
    pub meaning: fn(u64, u64) -> u64,
}

/// `redux.sync`.
#[derive(Debug)]
pub struct Reduction {
    pub op: &'static str,
    pub suffix: &'static str,
    pub meaning: fn(u32, u32) -> u32,
}

/// What the lanes of a warp do together.
#[derive(Clone, Copy, Debug)]
pub enum Collective {
    Vote { kind: Vote, dst: Var, pred: Guard },
    Shuffle { mode: Shuffle, dst: Var, pred: Option<Var>, src: Var, b: Operand, c: u32 },
    Reduce { reduction: &'static Reduction, dst: Var, src: Var },
    MatchAny { dst: Var, src: Var },
    MatchAll { dst: Var, pred: Var, src: Var },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    All,
    Any,
    Uniform,
    Ballot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shuffle {
    Up,
    Down,
    Butterfly,
    Index,
}

/// Special registers whose value a thread knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    Tid(usize),
    Ntid(usize),
    Ctaid(usize),
    Nctaid(usize),
    Lane,
    LanemaskLt,
    LanemaskGe,
}

/// How many times a loop runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trips {
    Const(u8),
    /// A variable's lowest bits: this mask.
    Masked(Var, u8),
}

/// How the block's threads add up a predicate (`bar.red`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockVote {
    Count,
    And,
    Or,
}

/// What may be asked of all threads of a block or warp at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uniform {
    /// A bit of the block's number.
    BlockBit(u8),
    /// A bit of the warp's number in its block.
    WarpBit(u8),
}

/// A statement. Those from [`Stmt::Collective`] on stand only where all threads of the warp, those from [`Stmt::Barrier`]
/// on where all threads of the block come by together.
#[derive(Clone)]
pub enum Stmt {
    Pure {
        guard: Option<Guard>,
        op: &'static Pure,
        dst: Var,
        src: Vec<Operand>,
    },
    /// `d1:d0 = a1:a0 + b1:b0` (or −) through the carry flag.
    Carry {
        guard: Option<Guard>,
        subtract: bool,
        dst: [Var; 2],
        a: [Operand; 2],
        b: [Operand; 2],
    },
    Special {
        dst: Var,
        special: Special,
    },
    Load {
        guard: Option<Guard>,
        element: Element,
        /// Between `ld` and the space: nothing, `.volatile`, ….
        strength: &'static str,
        dst: Vec<Var>,
        place: Place,
    },
    Store {
        guard: Option<Guard>,
        element: Element,
        strength: &'static str,
        src: Vec<Operand>,
        place: Place,
    },
    Atomic {
        guard: Option<Guard>,
        atomic: &'static Atomic,
        /// No result: `red`, where there is one.
        dst: Option<Var>,
        place: Place,
        b: Operand,
        c: Operand,
    },
    /// Into one of the totals of the block (shared) or of the grid.
    Total {
        guard: Option<Guard>,
        shared: bool,
        index: usize,
        /// `atom` with a result that nobody reads, not `red`.
        returns: bool,
        value: Operand,
    },
    If {
        cond: Guard,
        /// The else branch stands first in the text.
        swapped: bool,
        then: Vec<Stmt>,
        other: Vec<Stmt>,
    },
    Loop {
        trips: Trips,
        /// Receives the number of the iteration at its start.
        counter: Option<Var>,
        /// Tested at its end, not at its start.
        rotated: bool,
        body: Vec<Stmt>,
    },
    /// Out of the loop that many levels outside the innermost.
    Break(Option<Guard>, u8),
    /// To the next iteration of the innermost loop.
    Continue(Option<Guard>),
    Switch {
        on: Var,
        /// `brx.idx` instead of a chain of comparisons.
        table: bool,
        /// Each with whether it falls through into the next.
        cases: Vec<(Vec<Stmt>, bool)>,
    },
    Call {
        function: usize,
        passed: Region,
        args: Vec<Operand>,
        dst: Var,
    },
    /// From a function, with the value of its result variable at this moment.
    Return(Option<Guard>),
    /// The thread ends.
    Exit(Option<Guard>),
    /// Of all lanes of the warp.
    Collective(Collective),
    /// Of the lanes where the predicate holds, and of those where it does not, in the two sides of a branch.
    Masked {
        pred: Var,
        then: Collective,
        other: Collective,
    },
    /// A branch that the whole warp or block takes one way.
    Together {
        when: Uniform,
        then: Vec<Stmt>,
        other: Vec<Stmt>,
    },
    /// A loop with the same count for all, so that its body may hold barriers.
    Repeat {
        times: u8,
        body: Vec<Stmt>,
    },
    /// By its spelling, operands included.
    Barrier(&'static str),
    BlockVote {
        kind: BlockVote,
        dst: Var,
        pred: Guard,
    },
    /// Each thread receives what the thread `distance` further (around the block's end) had in `src`.
    Exchange {
        dst: Var,
        src: Var,
        distance: u32,
    },
    /// Between barriers, everybody reads a total of the block.
    ReadTotal {
        dst: Var,
        index: usize,
    },
}

/// A function: its parameters initialise the first variables of these classes, the rest start at 0.
#[derive(Clone)]
pub struct Function {
    pub params: Vec<Class>,
    pub result: Var,
    pub body: Vec<Stmt>,
}

/// A kernel with its launch.
#[derive(Clone)]
pub struct Program {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    /// Of everything that the buffers hold at the start.
    pub seed: u64,
    /// The exchange area is dynamic shared memory.
    pub dynamic: bool,
    /// The text carries `.file` and `.loc`.
    pub line_info: bool,
    pub functions: Vec<Function>,
    pub body: Vec<Stmt>,
}

impl Program {
    pub fn threads(&self) -> u32 {
        self.block.iter().product()
    }

    pub fn blocks(&self) -> u32 {
        self.grid.iter().product()
    }
}

/// The variables that parameters of these classes initialise: for each class the first ones in turn.
pub fn parameter_variables(params: &[Class]) -> Vec<Var> {
    let before = |i: usize| params[..i].iter().filter(|class| **class == params[i]).count() as u8;
    params.iter().enumerate().map(|(i, class)| Var(class.variables().1 + before(i))).collect()
}
