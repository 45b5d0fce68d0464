//! Choosing the ways in which a plan's kernels run.

use super::Plan;
use crate::device::on_device;
use crate::elem::Dtype;
use crate::error::Result;
use crate::tune::{Outcome, Tuner};

impl Plan {
    /// Chooses how the forward's kernels run for `tokens` tokens of an element: the forward itself, and the explicit
    /// down-projection where there is one. What is chosen serves every number of tokens with the same next power of two, on this
    /// plan and on clones made afterwards; a trainer calls this once for each shape that its loop meets, before the loop, and
    /// outside of graph captures.
    ///
    /// Results never depend on it: all ways give the same bits. Where a choice does not serve a call (more modules than it has
    /// tickets for, or dropout, which takes shared memory), that call runs the default. [`Plan::workspace_bytes`] is the same as
    /// before, and launches allocate as little as before. The backward has nothing to choose: its cut is the order of its sums.
    ///
    /// Operands of the problem are made on the device for as long as it takes: about `2·t·m` elements, and `(t + k·r)·n` for a
    /// down-projection, with t the power of two. [`Device::Cpu`](crate::Device::Cpu) has nothing to choose: the list is empty.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) for a problem that does not fit the device,
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory), and what the device refuses. Choices of before then stand.
    pub fn tune(&mut self, tuner: &Tuner, dtype: Dtype, tokens: usize) -> Result<Vec<Outcome>> {
        let outcomes = on_device!(
            &self.device,
            cpu => nothing(tuner),
            gpu => crate::gpu::lowrank::tuned::tune(gpu, tuner, &self.desc, dtype, tokens)
        )?;
        for Outcome { config, .. } in &outcomes {
            self.chosen.set(dtype, tokens, *config, crate::gpu::lowrank::tuned::same_choice(config));
        }
        Ok(outcomes)
    }
}

/// What the CPU chooses.
fn nothing(_: &Tuner) -> Result<Vec<Outcome>> {
    Ok(Vec::new())
}

#[cfg(all(test, feature = "vm"))]
mod tests;
