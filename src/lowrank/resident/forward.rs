//! The forward of modules whose operands lie on a device.

use super::{Forward, Output, here, on_device, on_the_host, workspace_here};
use crate::elem::Elem;
use crate::error::Result;
use crate::gpu::lowrank::{Module, Problem, SavedMut, step};
use crate::gpu::{Gpu, Place};
use crate::lowrank::{Bias, Desc, DownProjection, FORWARD, Plan, check};
use crate::resident::{MatMut, MatRef, Workspace};
use crate::tune::Chosen;

impl Plan {
    /// Queues the forward of modules of this shape on the device's stream: [`Plan::forward`] where the operands lie, in one
    /// launch for up to 8 modules, in the way that [`Plan::tune`] has chosen. All have the same number of tokens, which may be 0.
    ///
    /// # Errors
    /// As [`Plan::forward`], naming the module where there are several; [`Error::Shape`](crate::Error::Shape) for a workspace that is
    /// too small, [`Error::Operand`](crate::Error::Operand) for an operand of another device or stream,
    /// [`Error::Device`](crate::Error::Device) for [`Device::Cpu`](crate::Device::Cpu). Nothing has been launched then. What the
    /// device refuses may come after a launch.
    pub fn launch_forward<T: Elem>(&self, modules: &mut [Forward<'_, T>], workspace: &mut Workspace) -> Result<()> {
        on_device!(
            &self.device,
            cpu => Err(on_the_host(&self.device)),
            gpu => launch(gpu, &self.desc, modules, workspace, &self.chosen)
        )
    }
}

fn launch<G: Gpu, T: Elem>(
    gpu: &G,
    desc: &Desc,
    modules: &mut [Forward<'_, T>],
    workspace: &mut Workspace,
    chosen: &Chosen,
) -> Result<()> {
    let place = gpu.place();
    let tokens = super::each(FORWARD, "y", modules, |module| module.check(desc, place))?;
    workspace_here(FORWARD, place, workspace)?;
    let problem = Problem { desc: *desc, dtype: T::DTYPE, tokens };
    let mut there: Vec<Module<'_>> = modules.iter_mut().map(|module| module.there(desc)).collect();
    step::forward(gpu, &problem, &mut there, &workspace.scratch(), chosen)
}

impl<T> Forward<'_, T> {
    /// Checks all operands; the number of tokens.
    fn check(&self, desc: &Desc, place: Place) -> Result<usize> {
        let Self { parameters, layer, output, saved } = self;
        let (y0, y) = match output {
            Output::InPlace(y) => (None, y),
            Output::OutOfPlace { y0, y } => (Some(y0), y),
        };
        let tokens = check::output_shapes(desc, y0.map(MatRef::shape), y.shape())?;
        here(FORWARD, "y0", place, y0.and_then(MatRef::place))?;
        here(FORWARD, "y", place, y.place())?;
        parameters.check(FORWARD, desc, place)?;
        let [h, w, bias] = [&layer.h, &layer.w, &layer.bias].map(|view| view.as_ref().map(MatRef::shape));
        check::layer_shapes(
            FORWARD,
            desc,
            tokens,
            [h, w],
            bias.map(|(rows, cols)| rows * cols),
            layer.dropout.as_ref(),
        )?;
        layer.check_places(FORWARD, place)?;
        if let Some(saved) = saved {
            let z = saved.z.as_ref();
            check::saved(FORWARD, desc, tokens, saved.x.shape(), saved.gate.shape(), z.map(MatMut::shape))?;
            here(FORWARD, "saved x", place, saved.x.place())?;
            here(FORWARD, "saved gate", place, saved.gate.place())?;
            here(FORWARD, "saved z", place, z.and_then(MatMut::place))?;
        }
        Ok(tokens)
    }

    /// By addresses.
    fn there(&mut self, desc: &Desc) -> Module<'_> {
        let Self { parameters, layer, output, saved } = self;
        let explicit = desc.down == DownProjection::Gemm;
        let read = [explicit || desc.gate.reads_input(), explicit, desc.bias != Bias::None];
        let (y0, y) = match output {
            Output::InPlace(y) => (y.in_place(), y.view_mut()),
            Output::OutOfPlace { y0, y } => (y0.view(), y.view_mut()),
        };
        let saved = saved.as_mut().map(|saved| SavedMut {
            x: saved.x.view_mut(),
            gate: saved.gate.view_mut(),
            z: saved.z.as_mut().map(MatMut::view_mut),
        });
        Module { operands: super::operands(parameters, layer, read), y0, y, given: None, saved }
    }
}
