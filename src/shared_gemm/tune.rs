//! Choosing the ways in which a plan's kernels run.

use super::Plan;
use crate::device::on_device;
use crate::elem::Dtype;
use crate::error::Result;
#[cfg(any(feature = "cuda", feature = "vm"))]
use crate::gpu::shared_gemm::{Problem, Tuned, TunedGrad, Way, grad::Way as GradWay, supported};
#[cfg(any(feature = "cuda", feature = "vm"))]
use crate::tune::bucket;
use crate::tune::{Config, Outcome, Tuner};

impl Plan {
    /// Lets a tuner choose how the device runs this problem, for so many tokens and all numbers that round up to the same power
    /// of two; every later [`Plan::run`], [`Plan::input_gradient`] and launch of this plan runs so. What has been chosen, for the
    /// layer and for its input gradient; nothing on the CPU, where there is nothing to choose. Where the tuner measures, it
    /// allocates operands of its own and waits.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) as [`Plan::run`],
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory) for operands to measure on, what the device refuses. The plan is what
    /// it was then.
    #[cfg_attr(not(any(feature = "cuda", feature = "vm")), allow(unused_variables))]
    pub fn tune(&mut self, tuner: &Tuner, dtype: Dtype, tokens: usize) -> Result<Vec<Outcome>> {
        let outcomes: Vec<Outcome> = on_device!(
            &self.device,
            cpu => Vec::new(),
            gpu => {
                let problem = Problem { desc: self.desc, dtype, tokens: bucket(tokens) };
                supported(&problem)?;
                let Problem { desc, dtype, tokens } = problem;
                vec![tuner.choose(gpu, &Tuned(problem))?, tuner.choose(gpu, &TunedGrad { desc, dtype, tokens })?]
            }
        );
        outcomes.iter().for_each(|outcome| self.set(dtype, tokens, outcome.config));
        Ok(outcomes)
    }

    /// Says how the device runs this problem, for so many tokens and all numbers that round up to the same power of two.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) for another kernel's configuration, or one that this build or the device
    /// does not have; [`Error::Device`](crate::Error::Device) on the CPU.
    #[cfg(any(feature = "cuda", feature = "vm"))]
    pub fn choose(&mut self, dtype: Dtype, tokens: usize, config: Config) -> Result<()> {
        on_device!(
            &self.device,
            cpu => {
                let reason = "runs no kernels; it has one way".to_owned();
                return Err(crate::Error::Device { device: self.device.to_string(), reason });
            },
            gpu => match config {
                Config::SharedGemmGrad { .. } => drop(GradWay::asked(gpu, &config)?),
                _ => drop(Way::asked(gpu, &config)?),
            }
        );
        self.set(dtype, tokens, config);
        Ok(())
    }

    /// In the place of what was chosen for the same kernel.
    fn set(&mut self, dtype: Dtype, tokens: usize, config: Config) {
        self.chosen.set(dtype, tokens, config, |other| other.kernel() == config.kernel());
    }

    /// How the kernel is run.
    #[cfg(any(feature = "cuda", feature = "vm"))]
    pub(super) fn way(&self, dtype: Dtype, tokens: usize) -> Way {
        self.chosen.find(dtype, tokens, Way::of).unwrap_or_default()
    }

    /// How the input gradient's kernel is run.
    #[cfg(any(feature = "cuda", feature = "vm"))]
    pub(super) fn grad_way(&self, dtype: Dtype, tokens: usize) -> GradWay {
        self.chosen.find(dtype, tokens, GradWay::of).unwrap_or_default()
    }
}
