//! Errors of loading, of memory calls and of launching. What a *running* kernel does wrong is a [`crate::Finding`].

use thiserror::Error;

/// Why a PTX text was not accepted, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}, column {column}: {kind}")]
pub struct LoadError {
    /// Line in the text, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What is wrong.
    pub kind: LoadErrorKind,
}

/// See [`LoadError`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LoadErrorKind {
    /// The text is not PTX.
    #[error("expected {expected}, found {found}")]
    Syntax {
        /// What could stand here.
        expected: String,
        /// What stands here.
        found: String,
    },
    /// No such opcode.
    #[error("unknown opcode `{0}`")]
    UnknownOpcode(String),
    /// The opcode exists, but not with these modifiers.
    #[error("`{0}` is not supported with these modifiers")]
    UnknownModifiers(String),
    /// A name that nothing declares.
    #[error("`{0}` is not declared here")]
    UnknownName(String),
    /// A name declared twice in one scope.
    #[error("`{0}` is already declared in this scope")]
    Redeclared(String),
    /// An operand of the wrong kind, size or number.
    #[error("`{opcode}`: operand {operand} must be {expected}, found {found}")]
    Operand {
        /// The spelling of the instruction.
        opcode: String,
        /// Which operand, from 1.
        operand: usize,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// Valid PTX that this machine does not run.
    #[error("not supported: {0}")]
    Unsupported(String),
    /// Larger than the machine allows.
    #[error("{what}: {found} exceeds the limit of {limit}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How much there is.
        found: u64,
        /// How much there may be.
        limit: u64,
    },
}

/// Why a call on [`crate::Memory`] failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The buffer is freed, or belongs to another memory.
    #[error("buffer {0} is not in this memory")]
    UnknownBuffer(u32),
    /// Host data of the wrong length.
    #[error("buffer {buffer} holds {expected} elements, the host side {found}")]
    Length {
        /// The buffer.
        buffer: u32,
        /// Its length.
        expected: usize,
        /// The host slice's length.
        found: usize,
    },
    /// More memory than the limit.
    #[error("{requested} bytes more would exceed the limit of {limit}")]
    TooLarge {
        /// Bytes asked for.
        requested: u64,
        /// Bytes allowed in all.
        limit: u64,
    },
    /// No variable of that name in the module.
    #[error("the module has no variable `{0}`")]
    UnknownVariable(String),
}

/// Why a launch was refused before it began.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// No kernel of that name.
    #[error("the module has no kernel `{0}`")]
    UnknownKernel(String),
    /// Wrong number of arguments.
    #[error("kernel `{kernel}` takes {expected} arguments, {found} were given")]
    ArgumentCount {
        /// The kernel.
        kernel: String,
        /// Its parameters.
        expected: usize,
        /// Arguments given.
        found: usize,
    },
    /// An argument of the wrong size.
    #[error("kernel `{kernel}`, argument {index} (`{name}`): {expected} bytes expected, {found} given")]
    ArgumentSize {
        /// The kernel.
        kernel: String,
        /// Which, from 0.
        index: usize,
        /// The parameter's name.
        name: String,
        /// Its size.
        expected: u32,
        /// The argument's size.
        found: usize,
    },
    /// A grid or block with a zero or too large extent.
    #[error("{what} is {found:?}; {rule}")]
    Shape {
        /// `grid` or `block`.
        what: &'static str,
        /// What was given.
        found: [u32; 3],
        /// What is allowed.
        rule: String,
    },
    /// More shared memory than a block may have.
    #[error("{found} bytes of shared memory in a block; at most {limit}")]
    Shared {
        /// Static and dynamic bytes.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// More memory of blocks and threads alive at a time than a launch may take.
    #[error("{resident} resident blocks need {found} bytes of shared and local memory; at most {limit}")]
    Footprint {
        /// Blocks alive at a time.
        resident: u64,
        /// Bytes they need together.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// `resident` is zero, or a limit is.
    #[error("`{0}` must not be zero")]
    Zero(&'static str),
    /// A buffer that is not in this memory, or no room for the module's variables.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}
