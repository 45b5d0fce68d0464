//! What an operation offers a tuner.

use super::Gpu;
use super::model::{Card, Work};
use crate::elem::Dtype;
use crate::error::Result;
use crate::tune::Config;

/// A problem that kernels solve in several ways, all with the same bits.
pub(crate) trait Tunable {
    /// What is tuned, the first part of a key: `lowrank`, `lowrank_down`, `shared_gemm`, `shared_gemm_grad`.
    fn kernel(&self) -> &'static str;

    /// The element of the matrices.
    fn dtype(&self) -> Dtype;

    /// Tokens; keys hold the next power of two, and candidates are measured at it.
    fn tokens(&self) -> usize;

    /// Whatever else decides, in a fixed order: `m=4096 n=4096 k=4 r=32 s=2 gate=inner align=16`. Of bytes of rows, what [`align`] says.
    fn shape(&self) -> String;

    /// Variants whose images the candidates come from, as indices of `VARIANTS`; their hash is a part of the key.
    fn images(&self) -> Vec<usize>;

    /// The ways that are legal on a card: shared memory, registers, divisibility. The default is the first.
    fn candidates(&self, card: &Card) -> Vec<Config>;

    /// What a run costs in one of these ways, launch by launch.
    ///
    /// # Errors
    /// As [`Tunable::run`].
    fn work(&self, card: &Card, config: &Config) -> Result<Vec<Work>>;

    /// Operands of the problem on a device: random, never zero, the same every time. Outputs are not written in place of inputs.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    fn prepare<G: Gpu>(&self, gpu: &G) -> Result<Prepared<G>>;

    /// Queues the problem's launches, one of these ways. Allocates nothing and waits for nothing.
    ///
    /// # Errors
    /// What the operation's launch refuses.
    fn run<G: Gpu>(&self, gpu: &G, prepared: &mut Prepared<G>, config: &Config) -> Result<()>;
}

/// The largest power of two, up to 16, that divides all of these bytes: how rows that are packed can be copied. Rows that are not
/// there, of 0 bytes, do not matter.
pub(crate) fn align(bytes: &[usize]) -> usize {
    1 << bytes.iter().fold(16, |bits, bytes| bits | bytes).trailing_zeros()
}

/// Operands on a device, in the order that the operation knows.
pub(crate) struct Prepared<G: Gpu> {
    pub inputs: Vec<G::Buffer>,
    /// With their bytes: compared between ways.
    pub outputs: Vec<(G::Buffer, usize)>,
    /// Its head is zero between runs.
    pub scratch: Option<(G::Buffer, usize)>,
}
