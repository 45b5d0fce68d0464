//! What a caller opens to run the operations on, and [what there is](list()) to open.

mod list;

use crate::error::Error;
pub use list::{Facts, Listing, list};
use std::str::FromStr;

/// Where the work runs. CPU work runs on the current rayon pool: wrap calls in `rayon::ThreadPool::install` to choose
/// the number of threads; results are the same bits for every number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Device {
    /// The CPU backend, always there.
    #[default]
    Cpu,
    /// A CUDA device (feature `cuda`). Operations that have no kernel yet refuse it.
    #[cfg(feature = "cuda")]
    Cuda(crate::cuda::Cuda),
    /// The virtual machine (feature `vm`): the CUDA kernels, run on the CPU. Operations that have no kernel yet refuse it.
    #[cfg(feature = "vm")]
    Vm(crate::vm::Vm),
}

/// One expression for the CPU, one for the devices that run kernels.
macro_rules! on_device {
    ($device:expr, cpu => $cpu:expr, $gpu:pat => $body:expr) => {
        match $device {
            $crate::device::Device::Cpu => $cpu,
            #[cfg(feature = "cuda")]
            $crate::device::Device::Cuda($gpu) => $body,
            #[cfg(feature = "vm")]
            $crate::device::Device::Vm($gpu) => $body,
        }
    };
}
pub(crate) use on_device;

/// What [`Device`] can be in this build, as it is parsed.
const NAMES: &[&str] = &[
    "cpu",
    #[cfg(feature = "cuda")]
    "cuda",
    #[cfg(feature = "cuda")]
    "cuda:N",
    #[cfg(feature = "vm")]
    "vm",
];

impl Device {
    /// The error of an operation that has no kernel.
    #[cfg(any(feature = "cuda", feature = "vm"))]
    pub(crate) fn lacks(&self, operation: &str) -> Error {
        let reason = format!("no kernel for {operation} on this device yet");
        Error::Device { device: self.to_string(), reason }
    }
}

impl FromStr for Device {
    type Err = Error;

    /// Opens what `--device` takes: `cpu`; with the feature `cuda` also `cuda` (the first one) and `cuda:N`; with the feature
    /// `vm` also `vm`.
    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "cpu" => return Ok(Self::Cpu),
            #[cfg(feature = "vm")]
            "vm" => return Ok(Self::Vm(crate::vm::Vm::default())),
            _ => {}
        }
        #[cfg(feature = "cuda")]
        if let Some(ordinal) = ordinal(text) {
            return crate::cuda::Cuda::new(ordinal).map(Self::Cuda);
        }
        let reason = format!("not known to this build, which has `{}`", NAMES.join("`, `"));
        Err(Error::Device { device: text.to_owned(), reason })
    }
}

/// The number of a CUDA device: `cuda` is the first. Digits only, and as [`Device`] prints them.
#[cfg(feature = "cuda")]
fn ordinal(text: &str) -> Option<usize> {
    match text.strip_prefix("cuda")? {
        "" => Some(0),
        rest => {
            let digits = rest.strip_prefix(':')?;
            digits.parse().ok().filter(|ordinal: &usize| ordinal.to_string() == digits)
        }
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            #[cfg(feature = "cuda")]
            Self::Cuda(cuda) => write!(f, "cuda:{}", cuda.ordinal()),
            #[cfg(feature = "vm")]
            Self::Vm(_) => f.write_str("vm"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unknown_is_told_with_what_is_known() {
        for text in ["", "CPU", "gpu", "vm:0", "cuda:", "cuda:x", "cuda:-1", "cuda:01", "cuda:+1", "cuda0", "cuda:0:1"]
        {
            let message = text.parse::<Device>().unwrap_err().to_string();
            assert!(message.starts_with(&format!("device `{text}`: not known to this build")), "{message}");
            assert!(NAMES.iter().all(|name| message.contains(&format!("`{name}`"))), "{message}");
        }
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn cuda_devices_are_numbered() {
        assert_eq!(ordinal("cuda"), Some(0));
        assert_eq!(ordinal("cuda:0"), Some(0));
        assert_eq!(ordinal("cuda:13"), Some(13));
        assert_eq!(ordinal("cuda:99999999999999999999"), None);
        assert_eq!(ordinal("cpu"), None);
    }
}
