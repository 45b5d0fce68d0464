//! Everything an instruction can be once its spelling is understood.

use super::alu::Alu;
use super::types::{Order, Space, Type};

/// A decoded operation. What each does to memory is in `bus`, to lanes and control flow in `exec`, to values in `alu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// A pure function of register values.
    Alu(Alu),
    /// Logic on predicates.
    Pred(PredOp),
    /// Arithmetic through the carry flag.
    Carry(CarryOp),
    /// `ld`, `ldu`, `ld.global.nc`.
    Load(Access),
    /// `st`.
    Store(Access),
    /// `atom` and `red`.
    Atom(Atomic),
    /// `cp.async.{ca,cg}.shared.global` of 4, 8 or 16 bytes.
    CopyAsync(u8),
    /// `cp.async.commit_group`
    CopyAsyncCommit,
    /// `cp.async.wait_group N` (N in the instruction's immediate).
    CopyAsyncWaitGroup,
    /// `cp.async.wait_all`
    CopyAsyncWaitAll,
    /// `ldmatrix.sync.aligned.m8n8.x{1,2,4}{.trans}.shared.b16`
    LoadMatrix {
        /// Matrices: 1, 2 or 4.
        count: u8,
        /// `.trans`
        transposed: bool,
    },
    /// `mma.sync.aligned`
    Mma(Mma),
    /// `shfl.sync`
    Shfl(Shfl),
    /// `vote.sync`
    Vote(Vote),
    /// `match.any.sync` (false) and `match.all.sync` (true), 32 or 64 bits.
    Match {
        /// `.all`
        all: bool,
        /// `.b32` or `.b64`
        ty: Type,
    },
    /// `redux.sync`
    Redux(AtomOp, Type),
    /// `activemask.b32`
    ActiveMask,
    /// `bar.warp.sync`
    WarpBarrier,
    /// `bar`, `barrier`
    Barrier(Barrier),
    /// `membar`, `fence`
    Fence(Order),
    /// `bra`: target in the immediate; the guard decides per lane.
    Branch,
    /// `brx.idx`: targets in the instruction's list.
    BranchIndexed,
    /// `call`: entry in the immediate; the return address goes to the callee's link register.
    Call,
    /// `ret` from a function; from a kernel it is an `Exit`.
    Return,
    /// `exit`
    Exit,
    /// `trap`
    Trap,
    /// `isspacep`
    IsSpace(Space),
    /// `cvta`: to generic from `space`, or back (`to`).
    Cvta {
        /// The space that is not generic.
        space: Space,
        /// `cvta.to.space`
        to: bool,
    },
    /// `%clock`, `%clock64`, `%globaltimer`, `%warpid` … read by `mov`: counts executed instructions.
    ReadClock,
    /// Accepted and without effect on results: `nanosleep`, `prefetch`, `pmevent`, `applypriority`, `discard`…
    Nop,
}

/// Logic on predicates; operands by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // named after the instruction
pub enum PredOp {
    Mov,
    Not,
    And,
    Or,
    Xor,
    /// `selp.pred` does not exist; `setp` on predicates neither.
    Cnot,
}

/// Extended-precision arithmetic: 32 or 64 bits, carry read and written apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CarryOp {
    /// What is computed.
    pub kind: CarryKind,
    /// 64-bit (`.u64`, `.s64`).
    pub wide: bool,
    /// Signed (matters for `MadHi` only).
    pub signed: bool,
    /// Adds the flag (`addc`, `subc`, `madc`).
    pub carry_in: bool,
    /// Writes the flag (`.cc`).
    pub carry_out: bool,
}

/// See [`CarryOp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // named after the instruction
pub enum CarryKind {
    Add,
    Sub,
    MadLo,
    MadHi,
}

/// A load or store. Registers: `vector` of them, in the instruction's list; address in the first source, offset in the immediate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Access {
    /// Where.
    pub space: Space,
    /// Of one element, as it lies in memory.
    pub ty: Type,
    /// 1, 2, 4 or 8 elements.
    pub vector: u8,
    /// Strength.
    pub order: Order,
    /// `ld.global.nc`: the bytes must not be written during the launch.
    pub read_only: bool,
}

impl Access {
    /// Bytes that one lane touches.
    pub const fn bytes(self) -> u32 {
        self.ty.bytes() * self.vector as u32
    }
}

/// An atomic read-modify-write. Sources: address, `b`, and for `Cas` `c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Atomic {
    /// What is computed.
    pub op: AtomOp,
    /// Of the memory word.
    pub ty: Type,
    /// Where.
    pub space: Space,
    /// Strength.
    pub order: Order,
    /// `atom` returns the old value, `red` does not.
    pub returns: bool,
}

/// Operations of `atom`, `red` and `redux`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // named after the modifier
pub enum AtomOp {
    Add,
    Min,
    Max,
    Inc,
    Dec,
    And,
    Or,
    Xor,
    Exch,
    Cas,
}

/// A tensor-core product `D = A·B + C`. The instruction's list holds the registers of D, A, B, C in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mma {
    /// `m16n8k16` (16) or `m16n8k8` (8).
    pub k: u8,
    /// Of A and B: f16 or bf16.
    pub input: Type,
    /// Of C and D: f32 or f16.
    pub accumulator: Type,
}

impl Mma {
    /// Registers of D, A, B and C, 32 bits each.
    pub const fn registers(self) -> [usize; 4] {
        let c = if matches!(self.accumulator, Type::F32) { 4 } else { 2 };
        let a = self.k as usize / 4;
        [c, a, a / 2, c]
    }
}

/// `shfl.sync` modes. Sources: `a`, `b`, `c`, membermask. Destinations: value and an optional predicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // named after the modifier
pub enum Shfl {
    Up,
    Down,
    Butterfly,
    Index,
}

/// `vote.sync` kinds. Sources: predicate (maybe negated), membermask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // named after the modifier
pub enum Vote {
    All,
    Any,
    Uniform,
    Ballot,
}

/// `bar.{sync,arrive,red}` and `barrier.…`. Sources: barrier number, thread count (missing: all), predicate for a reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Barrier {
    /// What it does.
    pub kind: BarrierKind,
    /// `bar` and `barrier.….aligned`: every live lane of the warp must be there.
    pub aligned: bool,
}

/// See [`Barrier`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // named after the modifier
pub enum BarrierKind {
    Sync,
    Arrive,
    RedPopc,
    RedAnd,
    RedOr,
}

/// What an instruction costs, for the profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Integer and bit arithmetic, comparisons of integers, `mov`.
    Integer,
    /// f32 arithmetic on the FMA pipe.
    F32,
    /// f64 arithmetic.
    F64,
    /// f16 and bf16 arithmetic.
    Half,
    /// `rcp`, `sqrt`, `sin`, `ex2`, … and division.
    Special,
    /// `cvt`.
    Convert,
    /// Tensor cores.
    Tensor,
    /// Loads and stores of device memory, generic ones included.
    Global,
    /// Loads and stores of shared memory, `ldmatrix`.
    Shared,
    /// Loads and stores of local memory: spills, local arrays.
    Local,
    /// Loads of constants and parameters.
    Constant,
    /// `atom`, `red`.
    Atomic,
    /// `cp.async` and its groups.
    AsyncCopy,
    /// `shfl`, `vote`, `match`, `redux`.
    Collective,
    /// Barriers and fences.
    Sync,
    /// Branches, calls, exits.
    Control,
}

impl Class {
    /// Every class, in order.
    pub const ALL: [Class; 16] = [
        Class::Integer,
        Class::F32,
        Class::F64,
        Class::Half,
        Class::Special,
        Class::Convert,
        Class::Tensor,
        Class::Global,
        Class::Shared,
        Class::Local,
        Class::Constant,
        Class::Atomic,
        Class::AsyncCopy,
        Class::Collective,
        Class::Sync,
        Class::Control,
    ];
}
