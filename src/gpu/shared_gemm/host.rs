//! The layer on operands in host memory: there, one launch, and back.

use super::{Adapter, Layer, Problem, launch, scratch_bytes, supported};
use crate::elem::Elem;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::gpu::lowrank::step::Scratch;
use crate::gpu::lowrank::{SavedMut as SavedThere, View, ViewMut};
use crate::lowrank::SavedMut;
use crate::mat::{MatMut, zeroed};
use crate::shared_gemm::{Desc, OP, Operands};
use bytemuck::Pod;

/// Runs the layer; all shapes have been checked. Nothing is written on error.
///
/// # Errors
/// Those of [`launch`].
pub(crate) fn run<G: Gpu, T: Elem>(
    gpu: &G,
    desc: &Desc,
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
    let mut y_there = There::new(gpu, "y", &y)?;
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
    launch(gpu, &problem, &mut layer, components.as_mut(), &Scratch::at(gpu.address(&scratch), bytes))?;

    // Everything comes back before anything is written.
    let fetched = y_there.fetch(gpu)?;
    if let (Some((_, _, Some(there))), Some(saved)) = (adapter_there, saved) {
        there.fetch(gpu, saved)?;
    }
    back(&fetched, &mut y);
    Ok(())
}

/// An output on the device, which goes there as it is, so that what lies between its rows comes back so.
struct There<G: Gpu> {
    buffer: G::Buffer,
    bytes: usize,
    ld: usize,
}

impl<G: Gpu> There<G> {
    fn new<T: Pod>(gpu: &G, name: &'static str, here: &MatMut<'_, T>) -> Result<Self> {
        let data = here.as_ref().data();
        Ok(Self { buffer: gpu.upload(OP, name, data)?, bytes: size_of_val(data), ld: here.ld() })
    }

    fn view(&mut self, gpu: &G) -> ViewMut<'_> {
        ViewMut::whole(gpu, &mut self.buffer, self.ld)
    }

    fn fetch(&self, gpu: &G) -> Result<Vec<u8>> {
        let mut bytes = zeroed("result", self.bytes)?;
        gpu.download(OP, &self.buffer, &mut bytes)?;
        Ok(bytes)
    }
}

/// What is left for the backward, on the device.
struct Saved<G: Gpu> {
    x: There<G>,
    gate: There<G>,
    z: Option<There<G>>,
}

impl<G: Gpu> Saved<G> {
    fn new<T: Elem>(gpu: &G, saved: &SavedMut<'_, T>) -> Result<Self> {
        Ok(Self {
            x: There::new(gpu, "x", &saved.x)?,
            gate: There::new(gpu, "a", &saved.gate)?,
            z: saved.z.as_ref().map(|z| There::new(gpu, "z", z)).transpose()?,
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

fn back<T: Pod>(bytes: &[u8], to: &mut MatMut<'_, T>) {
    bytemuck::cast_slice_mut::<T, u8>(to.data_mut()).copy_from_slice(bytes);
}
