//! The backward on operands in host memory: there, the launches, and back.

use super::backward::{Cut, Gradients as GradientsThere, Input, Saved as SavedThere, Workspace, launch};
use super::forward::{Round, back};
use super::{Operands, Problem, View};
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
    let problem = Problem { desc: *desc, dtype: T::DTYPE, tokens, scale: parameters.scale, dropout };
    let skeleton = gpu.upload(BACKWARD, "skeleton", parameters.skeleton)?;
    let b = gpu.upload(BACKWARD, "b", parameters.b.data())?;
    let gate = gpu.upload(BACKWARD, "gate", parameters.gate.data())?;
    let h_there = desc.gate.reads_input().then(|| gpu.upload(BACKWARD, "h", h.data())).transpose()?;
    let x = gpu.upload(BACKWARD, "x", saved.x.data())?;
    let a = gpu.upload(BACKWARD, "a", saved.gate.data())?;
    let there = Operands {
        skeleton: View::whole(&skeleton, 0),
        b: View::whole(&b, parameters.b.ld()),
        gate: View::whole(&gate, parameters.gate.ld()),
        h: h_there.as_ref().map(|buffer| View::whole(buffer, h.ld())),
        bias: None,
    };
    let saved = SavedThere { x: View::whole(&x, saved.x.ld()), gate: View::whole(&a, saved.gate.ld()) };

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
        None => Input::Scatter(target_there.view()),
        Some((g, ld)) => Input::Separate { g: View::whole(g, *ld), dx: target_there.view() },
    };
    let produced = GradientsThere {
        b: b_there.view(),
        gate: gate_there.view(),
        h_gate: share_there.as_mut().map(Round::view),
        accumulate,
    };
    let mut workspace = workspace(gpu, desc, tokens)?;
    launch(gpu, &problem, &there, &saved, input, produced, &mut workspace)?;

    let fetched = (target_there.fetch(gpu)?, b_there.fetch(gpu)?, gate_there.fetch(gpu)?);
    if let (Some(there), Some(h_gate)) = (share_there, &mut h_gate) {
        back(&there.fetch(gpu)?, h_gate);
    }
    back(&fetched.0, &mut target);
    back(&fetched.1, &mut grad_b);
    back(&fetched.2, &mut grad_gate);
    Ok(())
}

fn workspace<G: Gpu>(gpu: &G, desc: &Desc, tokens: usize) -> Result<Workspace<G::Buffer>> {
    let [z, dz, b, gate, dl] = Cut::of(desc, tokens).workspace(desc, tokens);
    let floats = |name, len| gpu.allocate::<f32>(BACKWARD, name, len);
    Ok(Workspace {
        z: floats("z", z)?,
        dz: floats("dz", dz)?,
        b: floats("b_sums", b)?,
        gate: floats("gate_sums", gate)?,
        dl: floats("dl", dl)?,
    })
}

#[cfg(all(test, feature = "vm"))]
mod tests {
    use super::super::ViewMut;
    use super::*;
    use crate::device::Device;
    use crate::gpu::vm::Vm;
    use crate::lowrank::{Bias, DownProjection, Dropout, Gate, Layer, Plan};
    use crate::mat::{MatMut, MatRef};
    use half::bf16;

    const TOKENS: usize = 19;
    const DESC: Desc = Desc {
        rows: 70,
        cols: 20,
        rank: 6,
        components: 2,
        split: 2,
        gate: Gate::LinearSoftmax,
        down: DownProjection::Gather,
        bias: Bias::None,
    };
    const DROPOUT: Dropout = Dropout { probability: 0.25, seed: 3, offset: 5 };
    const PROBLEM: Problem =
        Problem { desc: DESC, dtype: crate::elem::Dtype::BF16, tokens: TOKENS, scale: 0.5, dropout: Some(DROPOUT) };
    /// Elements of g, x, h (bf16), a, b, gate (f32), which are read, and of dX, the share of dH, and what is added to.
    const SIZES: [usize; 8] =
        [TOKENS * 70, TOKENS * 12, TOKENS * 20, TOKENS * 2, 35 * 3, 2 * 20, TOKENS * 12, TOKENS * 20];

    /// Values between -1 and 1 of operand `i`, after `start` that are NaN.
    fn values(start: usize, i: usize) -> Vec<f32> {
        let value = |at: usize| ((at * 37 + i * 11) % 101) as f32 / 50.0 - 1.0;
        std::iter::repeat_n(f32::NAN, start).chain((0..SIZES[i]).map(value)).collect()
    }

    fn narrow(start: usize, i: usize) -> Vec<bf16> {
        values(start, i).iter().map(|&x| bf16::from_f32(x)).collect()
    }

    fn skeleton() -> Vec<u32> {
        (0..12).map(|i| (i * 41 % 70) as u32).collect()
    }

    /// dX or dY0, the share of dH, dB and dW_g added to what was there, from host memory.
    fn expected(vm: &Vm, scatter: bool) -> (Vec<bf16>, Vec<bf16>, Vec<f32>, Vec<f32>) {
        let [mut g, x, h] = [narrow(0, 0), narrow(0, 1), narrow(0, 2)];
        let [a, b, gate] = [values(0, 3), values(0, 4), values(0, 5)];
        let (mut dx, mut share, mut grad_b, mut grad_gate) = (narrow(0, 6), narrow(0, 7), values(0, 4), values(0, 5));
        let chosen = skeleton();
        let parameters = Parameters {
            skeleton: &chosen,
            b: MatRef::new(&b, 35, 3).unwrap(),
            gate: MatRef::new(&gate, 2, 20).unwrap(),
            scale: 0.5,
        };
        let layer =
            Layer { h: Some(MatRef::new(&h, TOKENS, 20).unwrap()), w: None, bias: None, dropout: Some(DROPOUT) };
        let saved = Saved { x: MatRef::new(&x, TOKENS, 12).unwrap(), gate: MatRef::new(&a, TOKENS, 2).unwrap() };
        let gradients = Gradients {
            b: MatMut::new(&mut grad_b, 35, 3).unwrap(),
            gate: MatMut::new(&mut grad_gate, 2, 20).unwrap(),
            h_gate: Some(MatMut::new(&mut share, TOKENS, 20).unwrap()),
            accumulate: true,
        };
        let input = if scatter {
            InputGradient::Scatter(MatMut::new(&mut g, TOKENS, 70).unwrap())
        } else {
            let dx = MatMut::new(&mut dx, TOKENS, 12).unwrap();
            InputGradient::Separate { g: MatRef::new(&g, TOKENS, 70).unwrap(), dx }
        };
        let plan = Plan::new(&Device::Vm(vm.clone()), DESC).unwrap();
        plan.backward(&parameters, &layer, saved, input, gradients).unwrap();
        (if scatter { g } else { dx }, share, grad_b, grad_gate)
    }

    /// What [`launch`] is given and [`backward`] never gives it: operands somewhere in their buffers.
    #[test]
    fn operands_start_anywhere_in_their_buffers() {
        let vm = Vm::default();
        if let Err(error) = vm.probe() {
            assert!(std::env::var_os("REQUIRE_NVRTC").is_none(), "{error}");
            return println!("skipped: {error}");
        }
        for scatter in [false, true] {
            let (target, share, grad_b, grad_gate) = expected(&vm, scatter);
            let elements = |name, start, i| vm.upload(BACKWARD, name, &narrow(start, i)).unwrap();
            let floats = |name, start, i| vm.upload(BACKWARD, name, &values(start, i)).unwrap();
            let [mut g, x, h] = [elements("g", 3, 0), elements("x", 7, 1), elements("h", 5, 2)];
            let [a, b, gate] = [floats("a", 2, 3), floats("b", 9, 4), floats("gate", 4, 5)];
            let (mut dx_there, mut share_there) = (elements("dx", 11, 6), elements("h_gate", 13, 7));
            let (mut b_there, mut gate_there) = (floats("grad_b", 15, 4), floats("grad_gate", 6, 5));
            let chosen = vm.upload(BACKWARD, "skeleton", &[&[u32::MAX][..], &skeleton()].concat()).unwrap();
            let there = Operands {
                skeleton: View { buffer: &chosen, start: 1, ld: 0 },
                b: View { buffer: &b, start: 9, ld: 3 },
                gate: View { buffer: &gate, start: 4, ld: 20 },
                h: Some(View { buffer: &h, start: 5, ld: 20 }),
                bias: None,
            };
            let saved =
                SavedThere { x: View { buffer: &x, start: 7, ld: 12 }, gate: View { buffer: &a, start: 2, ld: 2 } };
            let input = if scatter {
                Input::Scatter(ViewMut { buffer: &mut g, start: 3, ld: 70 })
            } else {
                let dx = ViewMut { buffer: &mut dx_there, start: 11, ld: 12 };
                Input::Separate { g: View { buffer: &g, start: 3, ld: 70 }, dx }
            };
            let produced = GradientsThere {
                b: ViewMut { buffer: &mut b_there, start: 15, ld: 3 },
                gate: ViewMut { buffer: &mut gate_there, start: 6, ld: 20 },
                h_gate: Some(ViewMut { buffer: &mut share_there, start: 13, ld: 20 }),
                accumulate: true,
            };
            let mut workspace = workspace(&vm, &DESC, TOKENS).unwrap();
            launch(&vm, &PROBLEM, &there, &saved, input, produced, &mut workspace).unwrap();

            let found = |buffer, start: usize, expected: &[bf16], name| {
                let mut all = vec![bf16::ZERO; start + expected.len()];
                vm.download(BACKWARD, buffer, &mut all).unwrap();
                assert!(all[..start].iter().all(|x| x.is_nan()), "before {name}");
                assert_eq!(&all[start..], expected, "{name}");
            };
            let (place, start) = if scatter { (&g, 3) } else { (&dx_there, 11) };
            found(place, start, &target, "target");
            found(&share_there, 13, &share, "share");
            for (buffer, start, expected) in [(&b_there, 15, &grad_b), (&gate_there, 6, &grad_gate)] {
                let mut all = vec![0.0f32; start + expected.len()];
                vm.download(BACKWARD, buffer, &mut all).unwrap();
                assert!(all[..start].iter().all(|x| x.is_nan()) && all[start..] == expected[..]);
            }
        }
    }

    #[test]
    fn a_missing_operand_is_named() {
        let vm = Vm::default();
        let one = |name| vm.upload(BACKWARD, name, &[0.0f32]).unwrap();
        let ([mut g, mut b, mut gate], read) = (["g", "grad_b", "grad_gate"].map(one), one("read"));
        let view = || View::whole(&read, 1);
        let there = Operands { skeleton: view(), b: view(), gate: view(), h: None, bias: None };
        let produced = GradientsThere {
            b: ViewMut::whole(&mut b, 1),
            gate: ViewMut::whole(&mut gate, 1),
            h_gate: None,
            accumulate: false,
        };
        let saved = SavedThere { x: view(), gate: view() };
        let mut workspace = workspace(&vm, &DESC, TOKENS).unwrap();
        let input = Input::Scatter(ViewMut::whole(&mut g, 1));
        let error = launch(&vm, &PROBLEM, &there, &saved, input, produced, &mut workspace).unwrap_err().to_string();
        assert_eq!(error, "lowrank backward: operand `h` is missing; the problem reads it");
    }
}
