//! The text as a tree: names are still names, opcodes still spellings.

use super::constant::Constant;
use super::lexer::At;
use crate::isa::{Space, Type};

/// A whole text.
#[derive(Debug, Default)]
pub(super) struct Module<'a> {
    pub version: (u32, u32),
    pub target: String,
    /// By number; index 0 is file 1.
    pub files: Vec<String>,
    pub variables: Vec<Variable<'a>>,
    pub functions: Vec<Function<'a>>,
}

/// A variable in memory, of the module or of a function.
#[derive(Debug)]
pub(super) struct Variable<'a> {
    pub at: At,
    pub name: &'a str,
    pub space: Space,
    pub align: u32,
    /// `None` for an array without a size (`.extern .shared`).
    pub size: Option<u64>,
    /// Declared `.extern`: defined elsewhere, or dynamic shared memory.
    pub external: bool,
    pub initial: Initial<'a>,
}

/// An initial value.
#[derive(Debug, Default)]
pub(super) struct Initial<'a> {
    /// Leading bytes; the rest is zero.
    pub bytes: Vec<u8>,
    /// Addresses of other variables, eight bytes each.
    pub pointers: Vec<Pointer<'a>>,
}

/// The address of a variable inside an initial value.
#[derive(Debug)]
pub(super) struct Pointer<'a> {
    pub at: At,
    pub offset: u64,
    pub name: &'a str,
    pub addend: i64,
}

/// A kernel or a function, or its declaration.
#[derive(Debug)]
pub(super) struct Function<'a> {
    pub at: At,
    pub name: &'a str,
    pub kernel: bool,
    pub returns: Vec<Param<'a>>,
    pub params: Vec<Param<'a>>,
    /// Threads of a block by `.maxntid` or `.reqntid` (true).
    pub threads: Option<(u32, bool)>,
    /// `None` for a declaration.
    pub body: Option<Block<'a>>,
}

/// A formal parameter.
#[derive(Debug)]
pub(super) struct Param<'a> {
    pub at: At,
    pub name: &'a str,
    pub ty: Type,
    pub place: ParamPlace,
}

/// Where a formal parameter lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ParamPlace {
    /// `.reg`
    Register,
    /// `.param`: `array` for `.b8 name[size]`.
    Memory { size: u64, align: u32, array: bool },
}

/// What stands between braces.
#[derive(Debug)]
pub(super) struct Block<'a> {
    pub statements: Vec<Statement<'a>>,
    pub end: At,
}

/// A line of a function.
#[derive(Debug)]
pub(super) enum Statement<'a> {
    Block(Block<'a>),
    Label(At, &'a str),
    /// `label: .branchtargets a, b;`
    Targets(At, &'a str, Vec<(At, &'a str)>),
    Registers(Registers<'a>),
    Variable(Box<Variable<'a>>),
    /// `.loc file line`
    Loc(u32, u32),
    Instruction(Instruction<'a>),
}

/// `.reg .b32 %r<5>` or one name of `.reg .b32 a, b`.
#[derive(Debug)]
pub(super) struct Registers<'a> {
    pub at: At,
    pub name: &'a str,
    pub ty: Type,
    /// Names with a number: `name0` … below the count.
    pub count: Option<u32>,
}

/// An instruction.
#[derive(Debug)]
pub(super) struct Instruction<'a> {
    pub at: At,
    pub guard: Option<Guard<'a>>,
    /// With all modifiers.
    pub spelling: &'a str,
    pub operands: Vec<Operand<'a>>,
}

/// `@p`, `@!p`
#[derive(Debug)]
pub(super) struct Guard<'a> {
    pub at: At,
    pub name: &'a str,
    pub negated: bool,
}

/// An operand and where it begins.
#[derive(Debug)]
pub(super) struct Operand<'a> {
    pub at: At,
    pub kind: OperandKind<'a>,
}

/// What an operand looks like.
#[derive(Debug)]
pub(super) enum OperandKind<'a> {
    /// A name, maybe with an offset: register, special register, symbol, label, `_`.
    Name(&'a str, i64),
    /// `!p`
    Not(&'a str),
    /// `p|q`
    Pair(&'a str, &'a str),
    Constant(Constant),
    /// `{a, b}`
    Vector(Vec<Operand<'a>>),
    /// `[name+4]`
    Address(&'a str, i64),
    /// `[64]`
    Absolute(i64),
    /// `[a, b, …]`: of textures and tensor maps.
    Compound,
    /// `(a, b)` of a call.
    Group(Vec<Operand<'a>>),
}

impl OperandKind<'_> {
    /// For messages.
    pub fn describe(&self) -> String {
        use super::lexer::shorten;
        match self {
            OperandKind::Name("_", 0) => "`_`".to_owned(),
            OperandKind::Name(name, 0) => format!("`{}`", shorten(name)),
            OperandKind::Name(name, offset) => format!("`{}+{offset}`", shorten(name)),
            OperandKind::Not(name) => format!("`!{}`", shorten(name)),
            OperandKind::Pair(a, b) => format!("`{}|{}`", shorten(a), shorten(b)),
            OperandKind::Constant(Constant::Int { .. }) => "an integer".to_owned(),
            OperandKind::Constant(_) => "a floating-point number".to_owned(),
            OperandKind::Vector(elements) => format!("a vector of {}", elements.len()),
            OperandKind::Address(name, _) => format!("the address [{}]", shorten(name)),
            OperandKind::Absolute(address) => format!("the address [{address}]"),
            OperandKind::Compound => "an address of several parts".to_owned(),
            OperandKind::Group(_) => "a list in parentheses".to_owned(),
        }
    }
}
