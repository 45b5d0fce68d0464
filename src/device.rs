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
}

impl FromStr for Device {
    type Err = Error;

    /// Parses what `--device` takes: `cpu`.
    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "cpu" => Ok(Self::Cpu),
            _ => Err(Error::Device {
                device: text.to_owned(),
                reason: "not known to this build, which has `cpu`".to_owned(),
            }),
        }
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_parse_as_they_print() {
        assert_eq!(Device::Cpu.to_string().parse::<Device>().unwrap(), Device::Cpu);
        let message = "cuda:0".parse::<Device>().unwrap_err().to_string();
        assert!(message.contains("cuda:0") && message.contains("cpu"), "{message}");
    }
}
