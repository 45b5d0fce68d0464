//! What a measurement is of.

use super::bucket;
use crate::elem::Dtype;
use crate::error::{Error, Result};
use crate::gpu::tunable::Tunable;
use crate::gpu::{Gpu, image};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// Everything that decides which way of running a kernel is the fastest. A choice holds for one key alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Key {
    /// What is tuned, such as `shared_gemm`.
    pub kernel: String,
    /// Element of the matrices: `f16`, `bf16` or `f32`.
    pub element: String,
    /// Sizes, gate and alignment, such as `m=4096 n=4096 k=4 r=32 s=2 gate=inner align=16`.
    pub shape: String,
    /// Tokens, rounded up to a power of two.
    pub tokens: u64,
    /// Name of the device.
    pub device: String,
    /// Its multiprocessors.
    pub multiprocessors: u32,
    /// Its driver, and what else of the machine changes times.
    pub driver: String,
    /// SHA-256 of the compiled kernels, in hexadecimal.
    pub image: String,
}

impl Key {
    /// The key of a problem on a device. Compiles the problem's kernels where the build has none.
    ///
    /// # Errors
    /// [`Error::Device`] where the kernels cannot be had, and what [`Gpu::identity`] says.
    pub(super) fn of<G: Gpu, P: Tunable>(gpu: &G, problem: &P) -> Result<Self> {
        let identity = gpu.identity()?;
        Ok(Self {
            kernel: problem.kernel().to_owned(),
            element: name(problem.dtype()).to_owned(),
            shape: problem.shape(),
            tokens: bucket(problem.tokens()) as u64,
            image: images(&problem.images())
                .map_err(|reason| Error::Device { device: identity.device.clone(), reason })?,
            device: identity.device,
            multiprocessors: identity.multiprocessors,
            driver: identity.driver,
        })
    }

    /// Whether the problem is the same, whatever the machine and the kernels.
    pub(super) fn same_problem(&self, other: &Self) -> bool {
        let problem = |key: &Self| (key.kernel.clone(), key.element.clone(), key.shape.clone(), key.tokens);
        problem(self) == problem(other)
    }

    /// Whether the machine is the same.
    pub(super) fn same_machine(&self, other: &Self) -> bool {
        (&self.device, self.multiprocessors, &self.driver) == (&other.device, other.multiprocessors, &other.driver)
    }

    /// The machine, for people.
    pub(super) fn machine(&self) -> String {
        format!("{} ({} multiprocessors, driver {})", self.device, self.multiprocessors, self.driver)
    }

    /// A part that holds what would act on a terminal, or the beginning of one that is too long to be a name.
    pub(super) fn unprintable(&self) -> Option<&str> {
        let parts = [&self.kernel, &self.element, &self.shape, &self.device, &self.driver, &self.image];
        parts.into_iter().find(|part| !printable(part)).map(String::as_str)
    }
}

/// Text of a record that may be shown: one short line.
pub(super) fn printable(text: &str) -> bool {
    text.chars().count() <= 512 && !text.chars().any(char::is_control)
}

/// Text of a file as a part of a message: what would act on a terminal is spelt out, and it has an end.
pub(super) fn plain(text: &str) -> String {
    let spelt = text.chars().flat_map(|c| {
        let (shown, escaped) = if c.is_control() { (None, Some(c.escape_default())) } else { (Some(c), None) };
        shown.into_iter().chain(escaped.into_iter().flatten())
    });
    spelt.take(200).collect()
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let image = self.image.get(..12).unwrap_or(&self.image);
        write!(f, "{} {} {} t={}", self.kernel, self.element, self.shape, self.tokens)?;
        write!(f, " on {}, image {image}", self.machine())
    }
}

fn name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F16 => "f16",
        Dtype::BF16 => "bf16",
        Dtype::F32 => "f32",
    }
}

/// The hash of the PTX of variants, in their order.
fn images(variants: &[usize]) -> Result<String, String> {
    let mut hash = Sha256::new();
    for &variant in variants {
        let ptx = image::image(variant)?.ptx.as_bytes();
        hash.update((ptx.len() as u64).to_le_bytes());
        hash.update(ptx);
    }
    Ok(hexadecimal(&hash.finalize()))
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
