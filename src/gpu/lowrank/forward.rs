//! The forward on operands in host memory: there, one launch, and back.

use super::step::Scratch;
use super::{Module, Operands, Problem, SavedMut as SavedThere, View, ViewMut, step};
use crate::cpu::lowrank::Operands as HostOperands;
use crate::elem::Elem;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::lowrank::{Bias, Desc, DownProjection, FORWARD, Output, Parameters, SavedMut};
use crate::mat::{MatMut, zeroed};
use crate::tune::Chosen;
use bytemuck::Pod;

/// Runs the forward in the ways that were chosen; all shapes have been checked. Nothing is written on error.
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
    chosen: &Chosen,
) -> Result<()> {
    let (mut y, y0) = match output {
        Output::InPlace(y) => (y, None),
        Output::OutOfPlace { y0, y } => (y, Some(y0)),
    };
    let tokens = y.rows();
    if tokens == 0 {
        return Ok(());
    }
    let HostOperands { h, w, bias, dropout } = operands;
    let explicit = desc.down == DownProjection::Gemm;
    let problem = Problem { desc: *desc, dtype: T::DTYPE, tokens };
    let skeleton = gpu.upload(FORWARD, "skeleton", parameters.skeleton)?;
    let b = gpu.upload(FORWARD, "b", parameters.b.data())?;
    let gate = gpu.upload(FORWARD, "gate", parameters.gate.data())?;
    let h_there = (explicit || desc.gate.reads_input()).then(|| gpu.upload(FORWARD, "h", h.data())).transpose()?;
    let w_there = explicit.then(|| gpu.upload(FORWARD, "w", w.data())).transpose()?;
    let bias_there = (desc.bias != Bias::None).then(|| gpu.upload(FORWARD, "bias", bias)).transpose()?;
    let y0_there = y0.map(|y0| Ok((gpu.upload(FORWARD, "y0", y0.data())?, y0.ld()))).transpose()?;
    let operands = Operands {
        skeleton: View::whole(gpu, &skeleton, 0),
        b: View::whole(gpu, &b, parameters.b.ld()),
        gate: View::whole(gpu, &gate, parameters.gate.ld()),
        scale: parameters.scale,
        h: h_there.as_ref().map(|buffer| View::whole(gpu, buffer, h.ld())),
        w: w_there.as_ref().map(|buffer| View::whole(gpu, buffer, w.ld())),
        bias: bias_there.as_ref().map(|buffer| View::whole(gpu, buffer, 0)),
        dropout,
    };

    // Outputs go there as they are, so that what lies between their rows comes back so.
    let mut y_there = Round::there(gpu, FORWARD, "y", &y)?;
    let mut saved_there = saved.as_ref().map(|saved| Rounds::there(gpu, saved)).transpose()?;
    let y_view = y_there.view(gpu);
    let y0_view = match &y0_there {
        None => View::at(y_view.address, y_view.ld),
        Some((y0, ld)) => View::whole(gpu, y0, *ld),
    };
    let saved_view = saved_there.as_mut().map(|there| there.view(gpu));
    let module = Module { operands, y0: y0_view, y: y_view, given: None, saved: saved_view };
    let bytes = step::forward_bytes(&problem, 1);
    let scratch = gpu.zeroed::<u8>(FORWARD, "workspace", bytes)?;
    step::forward(gpu, &problem, &mut [module], &Scratch::at(gpu.address(&scratch), bytes), chosen)?;

    // Everything comes back before anything is written.
    let fetched = y_there.fetch(gpu)?;
    if let (Some(there), Some(saved)) = (saved_there, saved) {
        there.fetch(gpu, saved)?;
    }
    back(&fetched, &mut y);
    Ok(())
}

/// What is left for the backward, on the device.
struct Rounds<G: Gpu> {
    x: Round<G>,
    gate: Round<G>,
    z: Option<Round<G>>,
}

impl<G: Gpu> Rounds<G> {
    fn there<T: Elem>(gpu: &G, saved: &SavedMut<'_, T>) -> Result<Self> {
        Ok(Self {
            x: Round::there(gpu, FORWARD, "x", &saved.x)?,
            gate: Round::there(gpu, FORWARD, "a", &saved.gate)?,
            z: saved.z.as_ref().map(|z| Round::there(gpu, FORWARD, "z", z)).transpose()?,
        })
    }

    fn view(&mut self, gpu: &G) -> SavedThere<'_> {
        SavedThere { x: self.x.view(gpu), gate: self.gate.view(gpu), z: self.z.as_mut().map(|z| z.view(gpu)) }
    }

    fn fetch<T: Elem>(&self, gpu: &G, saved: SavedMut<'_, T>) -> Result<()> {
        let SavedMut { mut x, mut gate, z } = saved;
        let of_z = self.z.as_ref().map(|z| z.fetch(gpu)).transpose()?;
        let fetched = (self.x.fetch(gpu)?, self.gate.fetch(gpu)?);
        back(&fetched.0, &mut x);
        back(&fetched.1, &mut gate);
        if let (Some(of_z), Some(mut z)) = (of_z, z) {
            back(&of_z, &mut z);
        }
        Ok(())
    }
}

/// An output on the device, with the padding that it has here.
pub(crate) struct Round<G: Gpu> {
    op: &'static str,
    pub buffer: G::Buffer,
    bytes: usize,
    pub ld: usize,
}

impl<G: Gpu> Round<G> {
    pub fn there<T: Pod>(gpu: &G, op: &'static str, name: &'static str, here: &MatMut<'_, T>) -> Result<Self> {
        let data = here.as_ref().data();
        Ok(Self { op, buffer: gpu.upload(op, name, data)?, bytes: size_of_val(data), ld: here.ld() })
    }

    pub fn view(&mut self, gpu: &G) -> ViewMut<'_> {
        ViewMut::whole(gpu, &mut self.buffer, self.ld)
    }

    pub fn fetch(&self, gpu: &G) -> Result<Vec<u8>> {
        let mut bytes = zeroed("result", self.bytes)?;
        gpu.download(self.op, &self.buffer, &mut bytes)?;
        Ok(bytes)
    }
}

pub(crate) fn back<T: Pod>(bytes: &[u8], to: &mut MatMut<'_, T>) {
    bytemuck::cast_slice_mut::<T, u8>(to.data_mut()).copy_from_slice(bytes);
}
