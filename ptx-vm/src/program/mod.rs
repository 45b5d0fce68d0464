//! A kernel as the machine runs it: flat instructions over numbered register slots.
//!
//! Names, scopes and nesting are gone. Functions that a kernel calls are part of its program, each with registers, local
//! memory and parameters of its own at fixed places: recursion is refused at load, so a thread is in a function at most once.

pub(crate) mod windows;

use crate::isa::{Op, Type};
use std::fmt;
use std::sync::Arc;

/// A register file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum File {
    /// Predicates, one bit a lane.
    Pred,
    /// 32 bits a lane; narrower registers live here, zero- or sign-extended as they were written.
    Word,
    /// 64 bits a lane.
    Double,
}

/// A register, constant or special value: an index into one of a warp's files.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Slot {
    /// Which file.
    pub file: File,
    /// Where in it.
    pub index: u16,
}

impl Slot {
    /// Stands for an operand that is not there. Index 0 of each file is a scratch slot that nothing reads.
    pub const NONE: Slot = Slot { file: File::Word, index: 0 };

    /// False for [`Slot::NONE`] and every other scratch slot.
    pub fn is_some(self) -> bool {
        self.index != 0
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = match self.file {
            File::Pred => "p",
            File::Word => "r",
            File::Double => "d",
        };
        write!(f, "{file}{}", self.index)
    }
}

/// `@p` or `@!p`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Guard {
    /// The predicate; index 0 means no guard.
    pub pred: u16,
    /// `!`
    pub negated: bool,
}

impl Guard {
    /// Every lane executes.
    pub const ALWAYS: Guard = Guard { pred: 0, negated: false };
}

/// One instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inst {
    /// What it does.
    pub op: Op,
    /// Who executes it.
    pub guard: Guard,
    /// Which predicate sources (`src[i]` for bit i) are negated.
    pub negated: u8,
    /// The result, and a second one (`p|q`; the predicate of `shfl`). Missing: [`Slot::NONE`], or index 0 of `Pred`.
    pub dst: [Slot; 2],
    /// Sources in the order of the text. For memory operations `src[0]` is the address.
    pub src: [Slot; 4],
    /// Address offset, branch target, entry of a call, immediate of `wait_group`.
    pub imm: i64,
    /// Range of [`Program::lists`]: elements of a vector access, registers of `mma` and `ldmatrix`, targets of `brx.idx`
    /// (as `Slot`s are not targets, those are in [`Program::targets`]).
    pub list: (u32, u16),
}

/// A value that differs between lanes, warps or blocks but not in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Special {
    /// `%tid.x` … (axis 0, 1, 2)
    Tid(u8),
    /// `%ntid.x` …
    Ntid(u8),
    /// `%ctaid.x` …
    Ctaid(u8),
    /// `%nctaid.x` …
    Nctaid(u8),
    /// `%laneid`
    LaneId,
    /// `%warpid`
    WarpId,
    /// `%nwarpid`
    NwarpId,
    /// `%smid`: always 0. `%gridid`, `%cluster_…`: 0 or 1 as for a launch without clusters.
    Constant(u32),
    /// `%lanemask_eq`, `le`, `lt`, `ge`, `gt`
    LanemaskEq,
    /// see `LanemaskEq`
    LanemaskLe,
    /// see `LanemaskEq`
    LanemaskLt,
    /// see `LanemaskEq`
    LanemaskGe,
    /// see `LanemaskEq`
    LanemaskGt,
    /// `%dynamic_smem_size`
    DynamicShared,
    /// `%total_smem_size`
    TotalShared,
    /// Base of the generic window or address that only the launch knows: a module variable, by its index in `Module::variables`.
    Variable(u32),
}

/// One kernel parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parameter {
    /// As the PTX names it.
    pub name: String,
    /// Offset in the parameter buffer.
    pub offset: u32,
    /// Size in bytes.
    pub size: u32,
    /// Alignment in bytes.
    pub align: u32,
    /// Scalar type, `None` for a struct passed by value (`.b8 name[N]`).
    pub ty: Option<Type>,
}

/// A place in the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Place {
    /// Index into [`Program::files`], counted from 1; 0 when the module has no line information.
    pub file: u32,
    /// Line in that file.
    pub line: u32,
    /// Line in the PTX text.
    pub ptx_line: u32,
}

/// Where a variable of the module lives and what it starts as.
#[derive(Clone, Debug)]
pub(crate) struct Variable {
    /// Its name.
    pub name: String,
    /// `.const` or `.global`.
    pub constant: bool,
    /// Size in bytes.
    pub size: u64,
    /// Alignment in bytes.
    pub align: u32,
    /// Leading bytes with an initial value (the rest is zero, as the manual says).
    pub init: Vec<u8>,
    /// Addresses of other variables inside the initial value: (offset, variable, addend).
    pub pointers: Vec<(u64, u32, i64)>,
}

/// A kernel, decoded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Program {
    /// The kernel's name.
    pub name: String,
    /// Instructions; the kernel's entry is 0.
    pub code: Vec<Inst>,
    /// One place per instruction.
    pub places: Vec<Place>,
    /// CUDA files named by `.file`, index 0 is file 1.
    pub files: Arc<Vec<String>>,
    /// Operand lists, see [`Inst::list`].
    pub lists: Vec<Slot>,
    /// Targets of `brx.idx`.
    pub targets: Vec<u32>,
    /// Slots of each file, constants and specials included: Pred, Word, Double.
    pub slots: [u16; 3],
    /// Slots that hold a constant in every lane. Never a destination.
    pub constants: Vec<(Slot, u64)>,
    /// Slots filled when a warp starts.
    pub specials: Vec<(Slot, Special)>,
    /// Parameters in order.
    pub parameters: Vec<Parameter>,
    /// Bytes of the parameter buffer.
    pub parameter_bytes: u32,
    /// Bytes of static shared memory; dynamic shared memory starts at `dynamic_offset`.
    pub shared_bytes: u32,
    /// Where `.extern .shared` arrays start: `shared_bytes` rounded up to the largest alignment of any of them.
    pub dynamic_offset: u32,
    /// Named arrays of static shared memory: (name, offset, size), by offset. For bounds and messages.
    pub shared_symbols: Vec<(String, u32, u32)>,
    /// Bytes of local memory of one thread (depots, function parameters).
    pub local_bytes: u32,
    /// Named arrays of local memory: (name, offset, size), by offset.
    pub local_symbols: Vec<(String, u32, u32)>,
    /// `.maxntid` (product) or `.reqntid`, with true for `.reqntid`.
    pub threads: Option<(u32, bool)>,
    /// The carry flag's predicate slot (0 if no instruction uses it).
    pub carry: u16,
}
