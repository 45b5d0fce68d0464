//! The forward on operands in host memory: there, one launch, and back.

use super::{Operands, Problem, Saved, Target, View, ViewMut, launch};
use crate::cpu::lowrank::Operands as HostOperands;
use crate::elem::Elem;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::lowrank::{Bias, Desc, FORWARD, Output, Parameters, SavedMut};
use crate::mat::{MatMut, zeroed};
use bytemuck::Pod;

/// Runs the forward; all shapes have been checked. Nothing is written on error.
///
/// # Errors
/// Those of [`launch`].
pub(crate) fn forward<G: Gpu, T: Elem>(
    gpu: &G,
    desc: &Desc,
    parameters: &Parameters<'_>,
    operands: HostOperands<'_, T>,
    output: Output<'_, T>,
    saved: Option<SavedMut<'_, T>>,
) -> Result<()> {
    let (mut y, y0) = match output {
        Output::InPlace(y) => (y, None),
        Output::OutOfPlace { y0, y } => (y, Some(y0)),
    };
    let tokens = y.rows();
    if tokens == 0 {
        return Ok(());
    }
    let HostOperands { h, bias, dropout, .. } = operands;
    let problem = Problem { desc: *desc, dtype: T::DTYPE, tokens, scale: parameters.scale, dropout };
    let skeleton = gpu.upload(FORWARD, "skeleton", parameters.skeleton)?;
    let b = gpu.upload(FORWARD, "b", parameters.b.data())?;
    let gate = gpu.upload(FORWARD, "gate", parameters.gate.data())?;
    let h_there = desc.gate.reads_input().then(|| gpu.upload(FORWARD, "h", h.data())).transpose()?;
    let bias_there = (desc.bias != Bias::None).then(|| gpu.upload(FORWARD, "bias", bias)).transpose()?;
    let y0_there = y0.map(|y0| Ok((gpu.upload(FORWARD, "y0", y0.data())?, y0.ld()))).transpose()?;
    let there = Operands {
        skeleton: View::whole(&skeleton, 0),
        b: View::whole(&b, parameters.b.ld()),
        gate: View::whole(&gate, parameters.gate.ld()),
        h: h_there.as_ref().map(|buffer| View::whole(buffer, h.ld())),
        bias: bias_there.as_ref().map(|buffer| View::whole(buffer, 0)),
    };

    // Outputs go there as they are, so that what lies between their rows comes back so.
    let mut y_there = Round::there(gpu, FORWARD, "y", &y)?;
    let target = match &y0_there {
        None => Target::InPlace(y_there.view()),
        Some((y0, ld)) => Target::OutOfPlace { y0: View::whole(y0, *ld), y: y_there.view() },
    };
    let Some(SavedMut { mut x, gate: mut a }) = saved else {
        launch(gpu, &problem, &there, target, None)?;
        return y_there.fetch(gpu).map(|bytes| back(&bytes, &mut y));
    };
    let (mut x_there, mut a_there) = (Round::there(gpu, FORWARD, "x", &x)?, Round::there(gpu, FORWARD, "a", &a)?);
    launch(gpu, &problem, &there, target, Some(Saved { x: x_there.view(), gate: a_there.view() }))?;
    let fetched = (y_there.fetch(gpu)?, x_there.fetch(gpu)?, a_there.fetch(gpu)?);
    back(&fetched.0, &mut y);
    back(&fetched.1, &mut x);
    back(&fetched.2, &mut a);
    Ok(())
}

/// An output on the device, with the padding that it has here.
pub(super) struct Round<G: Gpu> {
    op: &'static str,
    buffer: G::Buffer,
    bytes: usize,
    ld: usize,
}

impl<G: Gpu> Round<G> {
    pub fn there<T: Pod>(gpu: &G, op: &'static str, name: &'static str, here: &MatMut<'_, T>) -> Result<Self> {
        let data = here.as_ref().data();
        Ok(Self { op, buffer: gpu.upload(op, name, data)?, bytes: size_of_val(data), ld: here.ld() })
    }

    pub fn view(&mut self) -> ViewMut<'_, G::Buffer> {
        ViewMut::whole(&mut self.buffer, self.ld)
    }

    pub fn fetch(&self, gpu: &G) -> Result<Vec<u8>> {
        let mut bytes = zeroed("result", self.bytes)?;
        gpu.download(self.op, &self.buffer, &mut bytes)?;
        Ok(bytes)
    }
}

pub(super) fn back<T: Pod>(bytes: &[u8], to: &mut MatMut<'_, T>) {
    bytemuck::cast_slice_mut::<T, u8>(to.data_mut()).copy_from_slice(bytes);
}
