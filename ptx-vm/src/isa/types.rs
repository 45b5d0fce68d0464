//! The vocabulary of PTX: types, state spaces, rounding modes, scopes.

/// A PTX type suffix (`.u32`, `.f16x2`, …).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // named after the suffix, one to one
pub enum Type {
    Pred,
    B8,
    B16,
    B32,
    B64,
    B128,
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    F16,
    F16x2,
    Bf16,
    Bf16x2,
    Tf32,
    F32,
    F64,
    U16x2,
    S16x2,
    E4m3x2,
    E5m2x2,
}

impl Type {
    /// Every type and its suffix, without the dot.
    pub const ALL: [(Type, &'static str); 25] = [
        (Type::Pred, "pred"),
        (Type::B8, "b8"),
        (Type::B16, "b16"),
        (Type::B32, "b32"),
        (Type::B64, "b64"),
        (Type::B128, "b128"),
        (Type::U8, "u8"),
        (Type::U16, "u16"),
        (Type::U32, "u32"),
        (Type::U64, "u64"),
        (Type::S8, "s8"),
        (Type::S16, "s16"),
        (Type::S32, "s32"),
        (Type::S64, "s64"),
        (Type::F16, "f16"),
        (Type::F16x2, "f16x2"),
        (Type::Bf16, "bf16"),
        (Type::Bf16x2, "bf16x2"),
        (Type::Tf32, "tf32"),
        (Type::F32, "f32"),
        (Type::F64, "f64"),
        (Type::U16x2, "u16x2"),
        (Type::S16x2, "s16x2"),
        (Type::E4m3x2, "e4m3x2"),
        (Type::E5m2x2, "e5m2x2"),
    ];

    /// The type named by a suffix, given without its dot.
    pub fn from_suffix(suffix: &str) -> Option<Type> {
        Type::ALL.iter().find(|(_, name)| *name == suffix).map(|(ty, _)| *ty)
    }

    /// The suffix, without its dot.
    pub fn suffix(self) -> &'static str {
        Type::ALL[self as usize].1
    }

    /// Size in bits; 1 for a predicate.
    pub const fn bits(self) -> u32 {
        match self {
            Type::Pred => 1,
            Type::B8 | Type::U8 | Type::S8 => 8,
            Type::B16 | Type::U16 | Type::S16 | Type::F16 | Type::Bf16 | Type::E4m3x2 | Type::E5m2x2 => 16,
            Type::B64 | Type::U64 | Type::S64 | Type::F64 => 64,
            Type::B128 => 128,
            _ => 32,
        }
    }

    /// Size in bytes as it lies in memory (predicates cannot).
    pub const fn bytes(self) -> u32 {
        self.bits() / 8
    }

    /// True for `.s8` … `.s64`.
    pub const fn is_signed(self) -> bool {
        matches!(self, Type::S8 | Type::S16 | Type::S32 | Type::S64)
    }

    /// True for every floating-point type, packed ones included.
    pub const fn is_float(self) -> bool {
        matches!(
            self,
            Type::F16
                | Type::F16x2
                | Type::Bf16
                | Type::Bf16x2
                | Type::Tf32
                | Type::F32
                | Type::F64
                | Type::E4m3x2
                | Type::E5m2x2
        )
    }
}

/// Rounding of a result: to a floating-point value, or (`…i`) to an integral one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rounding {
    /// `.rn`: nearest, ties to even. Also what an absent modifier means.
    Nearest,
    /// `.rz`: towards zero.
    Zero,
    /// `.rm`: towards minus infinity.
    Down,
    /// `.rp`: towards plus infinity.
    Up,
    /// `.rna`: nearest, ties away from zero.
    NearestAway,
}

/// A state space as an access names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Space {
    /// No space named: routed by the window that the address lies in.
    Generic,
    /// Device memory, module globals.
    Global,
    /// The block's memory.
    Shared,
    /// The thread's memory.
    Local,
    /// Read-only module data.
    Const,
    /// Parameters: a kernel's, or a function's (per thread).
    Param,
}

/// How far a synchronising access reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// The block.
    Cta,
    /// The cluster of blocks.
    Cluster,
    /// The device.
    Gpu,
    /// The whole system.
    Sys,
}

/// The memory-model strength of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// A plain access.
    Weak,
    /// `.volatile`: a relaxed access of system scope.
    Volatile,
    /// `.relaxed`, also what an atomic without a modifier is.
    Relaxed(Scope),
    /// `.acquire`.
    Acquire(Scope),
    /// `.release`.
    Release(Scope),
    /// `.acq_rel`.
    AcquireRelease(Scope),
}
