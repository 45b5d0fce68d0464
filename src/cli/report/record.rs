//! What the kernel sweeps write and `idlora report` reads. `benches/kernels` includes this file by path, so it stands on `serde` alone.

use serde::{Deserialize, Serialize};

/// The only version there is of the file.
pub const SCHEMA: u32 = 1;

/// A file of results: what was run on, and one entry for each case on each device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The crate's version.
    pub version: String,
    pub devices: Vec<Device>,
    pub cases: Vec<Case>,
}

/// What cases were run on, or which card a model is of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// As cases name it: `cpu`, `vm`, `cuda:0`, `model: H100 SXM`.
    pub name: String,
    /// What it is, in words.
    pub description: String,
    /// Whether times are a model's and not measured.
    pub model: bool,
    /// Bytes a second of its memory, where known: measured by a copy, or of the data sheet for a model.
    pub memory: Option<f64>,
    /// Bytes a second of its second cache, where known.
    pub cache: Option<f64>,
    /// Operations a second in this peak, such as of its tensor cores for 16-bit elements, where known.
    pub peak: Option<f64>,
}

/// An operation on a shape on a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// Such as `lowrank forward`.
    pub operation: String,
    /// A named shape, such as `llama-3-8b q_proj`.
    pub shape: String,
    /// What the name stands for: `t=2048 m=4096 n=4096 k=4 r=32 s=2`.
    pub size: String,
    /// `f32`, `f16` or `bf16`.
    pub dtype: String,
    /// The name of a [`Device`].
    pub device: String,
    /// Bytes that the operation cannot do without.
    pub least_bytes: f64,
    /// Floating-point operations; a multiplication and an addition are two.
    pub operations: f64,
    /// Seconds of the whole operation: the median of measurements, or a model's.
    pub seconds: Option<f64>,
    /// All measurements of `seconds`, sorted.
    pub samples: Vec<f64>,
    /// What it was launched as, where kernels ran.
    pub kernels: Vec<Kernel>,
    /// What others take for the same work, in the same run.
    pub peers: Vec<Peer>,
    /// Why there is no result.
    pub failure: Option<String>,
}

/// What the launches of one kernel did, added up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Kernel {
    pub name: String,
    pub launches: u64,
    pub seconds: Option<f64>,
    /// What bounds it, by a model.
    pub bound: Option<String>,
    /// What the virtual machine has counted, where it ran there.
    pub counters: Option<Counters>,
}

/// Counters of the virtual machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// Bytes read and written of every operand, in whole sectors of 32.
    pub operands: Vec<Operand>,
    pub thread_instructions: u64,
    pub warp_instructions: u64,
    /// Multiplications and additions of tensor cores, two each.
    pub tensor_operations: u64,
    pub bank_conflicts: u64,
}

/// An operand's traffic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Operand {
    pub name: String,
    pub read: u64,
    pub written: u64,
}

/// Somebody else's time for the same work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Such as `cuBLAS`.
    pub name: String,
    pub seconds: f64,
}
