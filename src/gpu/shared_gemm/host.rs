//! The layer on operands in host memory: there, one launch, and back.

use super::{Adapter, Layer, Problem, Way, launch, scratch_bytes, supported};
use crate::elem::Elem;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::gpu::lowrank::step::Scratch;
use crate::gpu::lowrank::{Round, SavedMut as SavedThere, View, back};
use crate::lowrank::SavedMut;
use crate::mat::MatMut;
use crate::shared_gemm::{Desc, OP, Operands};

/// Runs the layer; all shapes have been checked. Nothing is written on error.
///
/// # Errors
/// Those of [`launch`].
pub(crate) fn run<G: Gpu, T: Elem>(
    gpu: &G,
    desc: &Desc,
    way: Way,
    operands: &Operands<'_, T>,
    mut y: MatMut<'_, T>,
    saved: Option<SavedMut<'_, T>>,
) -> Result<()> {
    let problem = Problem { desc: *desc, dtype: T::DTYPE, tokens: y.rows() };
    supported(&problem)?;
    if problem.tokens == 0 {
        return Ok(());
    }
    let Operands { h, w, bias, adapter, dropout } = operands;
    let h_there = gpu.upload(OP, "h", h.data())?;
    let w_there = gpu.upload(OP, "w", w.data())?;
    let bias_there = bias.map(|bias| gpu.upload(OP, "bias", bias)).transpose()?;
    // What lies between rows goes there as it is, and comes back so.
    let mut y_there = Round::there(gpu, OP, "y", &y)?;
    let adapter = adapter.as_ref().filter(|_| desc.components > 0);
    let mut adapter_there = adapter
        .map(|adapter| {
            let skeleton = gpu.upload(OP, "skeleton", adapter.skeleton)?;
            let b = gpu.upload(OP, "b", adapter.b.data())?;
            let gate = gpu.upload(OP, "gate", adapter.gate.data())?;
            Ok((adapter, [skeleton, b, gate], saved.as_ref().map(|saved| Saved::new(gpu, saved)).transpose()?))
        })
        .transpose()?;
    let mut components = adapter_there.as_mut().map(|(adapter, [skeleton, b, gate], saved)| Adapter {
        skeleton: View::whole(gpu, skeleton, 0),
        b: View::whole(gpu, b, adapter.b.ld()),
        gate: View::whole(gpu, gate, adapter.gate.ld()),
        scale: adapter.scale,
        dropout: *dropout,
        saved: saved.as_mut().map(|saved| saved.view(gpu)),
    });
    let bytes = scratch_bytes(&problem);
    let scratch = gpu.zeroed::<u8>(OP, "workspace", bytes)?;
    let mut layer = Layer {
        h: View::whole(gpu, &h_there, h.ld()),
        w: View::whole(gpu, &w_there, w.ld()),
        bias: bias_there.as_ref().map(|bias| View::whole(gpu, bias, 0)),
        y: y_there.view(gpu),
    };
    launch(gpu, &problem, way, &mut layer, components.as_mut(), &Scratch::at(gpu.address(&scratch), bytes))?;

    // Everything comes back before anything is written.
    let fetched = y_there.fetch(gpu)?;
    if let (Some((_, _, Some(there))), Some(saved)) = (adapter_there, saved) {
        there.fetch(gpu, saved)?;
    }
    back(&fetched, &mut y);
    Ok(())
}

/// What is left for the backward, on the device.
struct Saved<G: Gpu> {
    x: Round<G>,
    gate: Round<G>,
    z: Option<Round<G>>,
}

impl<G: Gpu> Saved<G> {
    fn new<T: Elem>(gpu: &G, saved: &SavedMut<'_, T>) -> Result<Self> {
        Ok(Self {
            x: Round::there(gpu, OP, "x", &saved.x)?,
            gate: Round::there(gpu, OP, "a", &saved.gate)?,
            z: saved.z.as_ref().map(|z| Round::there(gpu, OP, "z", z)).transpose()?,
        })
    }

    fn view(&mut self, gpu: &G) -> SavedThere<'_> {
        SavedThere { x: self.x.view(gpu), gate: self.gate.view(gpu), z: self.z.as_mut().map(|z| z.view(gpu)) }
    }

    fn fetch<T: Elem>(&self, gpu: &G, saved: SavedMut<'_, T>) -> Result<()> {
        let SavedMut { mut x, mut gate, z } = saved;
        let of_z = self.z.as_ref().map(|z| z.fetch(gpu)).transpose()?;
        let (of_x, of_gate) = (self.x.fetch(gpu)?, self.gate.fetch(gpu)?);
        back(&of_x, &mut x);
        back(&of_gate, &mut gate);
        if let (Some(of_z), Some(mut z)) = (of_z, z) {
            back(&of_z, &mut z);
        }
        Ok(())
    }
}
