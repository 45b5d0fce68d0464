//! The backward of modules whose operands lie on a device.

use super::{Backward, InputGradient, here, on_device, on_the_host, workspace_here};
use crate::elem::Elem;
use crate::error::Result;
use crate::gpu::lowrank::{BackwardModule, Gradients, Input, Saved};
use crate::gpu::lowrank::{Problem, step};
use crate::gpu::{Gpu, Place};
use crate::lowrank::{BACKWARD, Desc, Plan, check};
use crate::resident::{MatMut, MatRef, Workspace};

impl Plan {
    /// Queues the backward of modules of this shape on the device's stream: [`Plan::backward`] where the operands lie. With no
    /// tokens the gradients are zero, or stay as they are where they are added to.
    ///
    /// # Errors
    /// As [`Plan::launch_forward`] and [`Plan::backward`].
    pub fn launch_backward<T: Elem>(&self, modules: &mut [Backward<'_, T>], workspace: &mut Workspace) -> Result<()> {
        on_device!(
            &self.device,
            cpu => Err(on_the_host(&self.device)),
            gpu => launch(gpu, &self.desc, modules, workspace)
        )
    }
}

fn launch<G: Gpu, T: Elem>(
    gpu: &G,
    desc: &Desc,
    modules: &mut [Backward<'_, T>],
    workspace: &mut Workspace,
) -> Result<()> {
    let place = gpu.place();
    let tokens = super::each(BACKWARD, "g", modules, |module| module.check(desc, place))?;
    workspace_here(BACKWARD, place, workspace)?;
    let problem = Problem { desc: *desc, dtype: T::DTYPE, tokens };
    let there: Vec<BackwardModule<'_>> = modules.iter_mut().map(|module| module.there(desc)).collect();
    step::backward(gpu, &problem, &there, &workspace.scratch())
}

impl<T> Backward<'_, T> {
    /// Checks all operands; the number of tokens.
    fn check(&self, desc: &Desc, place: Place) -> Result<usize> {
        let Self { parameters, layer, saved, input, gradients } = self;
        let tokens = match input {
            InputGradient::Scatter(g) => {
                here(BACKWARD, "g", place, g.place())?;
                check::input_shapes(desc, g.shape(), None)?
            }
            InputGradient::Separate { g, dx } => {
                here(BACKWARD, "g", place, g.place())?;
                here(BACKWARD, "dx", place, dx.place())?;
                check::input_shapes(desc, g.shape(), Some(dx.shape()))?
            }
        };
        parameters.check(BACKWARD, desc, place)?;
        check::layer_shapes_of_backward(desc, tokens, layer.h.as_ref().map(MatRef::shape), layer.dropout.as_ref())?;
        layer.check_places(BACKWARD, place)?;
        let z = saved.z.as_ref();
        check::saved(BACKWARD, desc, tokens, saved.x.shape(), saved.gate.shape(), z.map(MatRef::shape))?;
        here(BACKWARD, "saved x", place, saved.x.place())?;
        here(BACKWARD, "saved gate", place, saved.gate.place())?;
        here(BACKWARD, "saved z", place, z.and_then(MatRef::place))?;
        let h_gate = gradients.h_gate.as_ref();
        let (b, gate) = (&gradients.b, &gradients.gate);
        check::gradient_shapes(desc, tokens, b.shape(), gate.shape(), h_gate.map(MatMut::shape))?;
        here(BACKWARD, "gradient b", place, b.place())?;
        here(BACKWARD, "gradient gate", place, gate.place())?;
        here(BACKWARD, "gradient h_gate", place, h_gate.and_then(MatMut::place))?;
        Ok(tokens)
    }

    /// By addresses.
    fn there(&mut self, desc: &Desc) -> BackwardModule<'_> {
        let Self { parameters, layer, saved, input, gradients } = self;
        BackwardModule {
            operands: super::operands(parameters, layer, [desc.gate.reads_input(), false, false]),
            saved: Saved { x: saved.x.view(), gate: saved.gate.view(), z: saved.z.as_ref().map(MatRef::view) },
            input: match input {
                InputGradient::Scatter(g) => Input::Scatter(g.view_mut()),
                InputGradient::Separate { g, dx } => Input::Separate { g: g.view(), dx: dx.view_mut() },
            },
            gradients: Gradients {
                b: gradients.b.view_mut(),
                gate: gradients.gate.view_mut(),
                h_gate: gradients.h_gate.as_mut().map(MatMut::view_mut),
                accumulate: gradients.accumulate,
            },
        }
    }
}
