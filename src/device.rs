//! What a caller opens to run the operations on.

use crate::error::Error;
use std::str::FromStr;

/// Where the work runs. CPU work runs on the current rayon pool: wrap calls in `rayon::ThreadPool::install` to choose
/// the number of threads; results are the same bits for every number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Device {
    /// The CPU backend, always there.
    #[default]
    Cpu,
    /// The virtual machine (feature `vm`): the CUDA kernels, run on the CPU. Operations that have no kernel yet refuse it.
    #[cfg(feature = "vm")]
    Vm(crate::vm::Vm),
}

/// What [`Device`] can be in this build, as it is parsed.
const NAMES: &[&str] = &[
    "cpu",
    #[cfg(feature = "vm")]
    "vm",
];

impl Device {
    /// The error of an operation that has no kernel.
    #[cfg(feature = "vm")]
    pub(crate) fn lacks(&self, operation: &str) -> Error {
        let reason = format!("no kernel for {operation} on this device yet");
        Error::Device { device: self.to_string(), reason }
    }
}

impl FromStr for Device {
    type Err = Error;

    /// Parses what `--device` takes: `cpu`, and with the feature `vm` also `vm`.
    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "cpu" => Ok(Self::Cpu),
            #[cfg(feature = "vm")]
            "vm" => Ok(Self::Vm(crate::vm::Vm::default())),
            _ => Err(Error::Device {
                device: text.to_owned(),
                reason: format!("not known to this build, which has `{}`", NAMES.join("`, `")),
            }),
        }
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            #[cfg(feature = "vm")]
            Self::Vm(_) => f.write_str("vm"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_parse_as_they_print() {
        for name in NAMES {
            assert_eq!(name.parse::<Device>().unwrap().to_string(), *name);
        }
        assert_eq!("cpu".parse::<Device>().unwrap(), Device::Cpu);
        let message = "cuda:0".parse::<Device>().unwrap_err().to_string();
        assert!(message.contains("cuda:0") && NAMES.iter().all(|name| message.contains(name)), "{message}");
    }
}
