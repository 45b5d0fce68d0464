//! The backward on operands in host memory: there, the launches, and back.

use super::forward::{Round, back};
use super::step::Scratch;
use super::{
    BackwardModule, Gradients as GradientsThere, Input, Operands, Problem, Saved as SavedThere, View, backward_bytes,
    launch_backward,
};
use crate::cpu::lowrank::Operands as HostOperands;
use crate::elem::Elem;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::lowrank::{BACKWARD, Desc, Gradients, InputGradient, Parameters, Saved};

/// Runs the backward; all shapes have been checked. Nothing is written on error.
///
/// # Errors
/// Those of [`launch`].
pub(crate) fn backward<G: Gpu, T: Elem>(
    gpu: &G,
    desc: &Desc,
    parameters: &Parameters<'_>,
    operands: HostOperands<'_, T>,
    saved: Saved<'_, T>,
    input: InputGradient<'_, T>,
    gradients: Gradients<'_, T>,
) -> Result<()> {
    let tokens = saved.x.rows();
    let HostOperands { h, dropout, .. } = operands;
    let problem = Problem { desc: *desc, dtype: T::DTYPE, tokens };
    let skeleton = gpu.upload(BACKWARD, "skeleton", parameters.skeleton)?;
    let b = gpu.upload(BACKWARD, "b", parameters.b.data())?;
    let gate = gpu.upload(BACKWARD, "gate", parameters.gate.data())?;
    let h_there = desc.gate.reads_input().then(|| gpu.upload(BACKWARD, "h", h.data())).transpose()?;
    let x = gpu.upload(BACKWARD, "x", saved.x.data())?;
    let a = gpu.upload(BACKWARD, "a", saved.gate.data())?;
    let z = saved.z.map(|z| Ok((gpu.upload(BACKWARD, "z", z.data())?, z.ld()))).transpose()?;
    let operands = Operands {
        skeleton: View::whole(gpu, &skeleton, 0),
        b: View::whole(gpu, &b, parameters.b.ld()),
        gate: View::whole(gpu, &gate, parameters.gate.ld()),
        scale: parameters.scale,
        h: h_there.as_ref().map(|buffer| View::whole(gpu, buffer, h.ld())),
        w: None,
        bias: None,
        dropout,
    };
    let saved = SavedThere {
        x: View::whole(gpu, &x, saved.x.ld()),
        gate: View::whole(gpu, &a, saved.gate.ld()),
        z: z.as_ref().map(|(z, ld)| View::whole(gpu, z, *ld)),
    };

    // Outputs go there as they are: what lies between their rows comes back so, and some are added to.
    let (g, mut target) = match input {
        InputGradient::Scatter(g) => (None, g),
        InputGradient::Separate { g, dx } => (Some((gpu.upload(BACKWARD, "g", g.data())?, g.ld())), dx),
    };
    let Gradients { b: mut grad_b, gate: mut grad_gate, mut h_gate, accumulate } = gradients;
    let mut target_there = Round::there(gpu, BACKWARD, if g.is_some() { "dx" } else { "g" }, &target)?;
    let mut b_there = Round::there(gpu, BACKWARD, "grad_b", &grad_b)?;
    let mut gate_there = Round::there(gpu, BACKWARD, "grad_gate", &grad_gate)?;
    let mut share_there = h_gate.as_ref().map(|h| Round::there(gpu, BACKWARD, "h_gate", h)).transpose()?;
    let input = match &g {
        None => Input::Scatter(target_there.view(gpu)),
        Some((g, ld)) => Input::Separate { g: View::whole(gpu, g, *ld), dx: target_there.view(gpu) },
    };
    let produced = GradientsThere {
        b: b_there.view(gpu),
        gate: gate_there.view(gpu),
        h_gate: share_there.as_mut().map(|there| there.view(gpu)),
        accumulate,
    };
    // Its head, which no kernel of the backward reads, may hold anything.
    let bytes = backward_bytes(&problem, 1);
    let scratch = gpu.allocate::<u8>(BACKWARD, "workspace", bytes)?;
    let module = BackwardModule { operands, saved, input, gradients: produced };
    launch_backward(gpu, &problem, &[module], &Scratch::at(gpu.address(&scratch), bytes))?;

    let fetched = (target_there.fetch(gpu)?, b_there.fetch(gpu)?, gate_there.fetch(gpu)?);
    if let (Some(there), Some(h_gate)) = (share_there, &mut h_gate) {
        back(&there.fetch(gpu)?, h_gate);
    }
    back(&fetched.0, &mut target);
    back(&fetched.1, &mut grad_b);
    back(&fetched.2, &mut grad_gate);
    Ok(())
}
