//! What a plan was told to run is what it runs, from host memory and on a trainer's own buffers.

use super::*;
use crate::Device;
use crate::gpu::Gpu;
use crate::gpu::lowrank::{Problem, tuned};
use crate::gpu::tunable::Tunable;
use crate::gpu::vm::{Settings, Vm};
use crate::lowrank::{Bias, Desc, DownProjection, Gate, Layer, Output, Parameters, SavedMut, resident as there};
use crate::mat::{MatMut, MatRef};
use crate::resident::{Buffer, Workspace};
use crate::tune::{Config, Source};
use half::bf16;

const TOKENS: usize = 6;

fn desc(down: DownProjection) -> Desc {
    Desc { rows: 200, cols: 24, rank: 8, components: 2, split: 2, gate: Gate::RmsInner, down, bias: Bias::None }
}

fn plan(down: DownProjection) -> Option<(Vm, Plan)> {
    let vm = Vm::new(Settings::default());
    if let Err(error) = vm.probe() {
        assert!(std::env::var_os("REQUIRE_NVRTC").is_none(), "{error}");
        println!("skipped: {error}");
        return None;
    }
    let plan = Plan::new(&Device::Vm(vm.clone()), desc(down)).unwrap();
    Some((vm, plan))
}

/// Operands in host memory, in an order: skeleton apart.
struct Host {
    skeleton: Vec<u32>,
    b: Vec<f32>,
    gate: Vec<f32>,
    h: Vec<bf16>,
    w: Vec<bf16>,
    y0: Vec<bf16>,
}

impl Host {
    fn new() -> Self {
        let value = |i: usize| ((i * 7 + 3) % 23) as f32 / 16.0 - 0.6;
        let elements = |len: usize, from: usize| (0..len).map(|i| bf16::from_f32(value(i + from))).collect();
        Self {
            skeleton: (0..16).map(|c| (c * 41 + 5) % 200).collect(),
            b: (0..100 * 4).map(value).collect(),
            gate: (0..8).map(value).collect(),
            h: elements(TOKENS * 24, 1),
            w: elements(200 * 24, 2),
            y0: elements(TOKENS * 200, 3),
        }
    }

    /// Y and X.
    fn forward(&self, plan: &Plan) -> (Vec<bf16>, Vec<bf16>) {
        let (mut y, mut x, mut a) = (self.y0.clone(), vec![bf16::ZERO; TOKENS * 16], vec![0.0f32; TOKENS * 2]);
        let parameters = Parameters {
            skeleton: &self.skeleton,
            b: MatRef::new(&self.b, 100, 4).unwrap(),
            gate: MatRef::new(&self.gate, 1, 8).unwrap(),
            scale: 0.5,
        };
        let layer = Layer {
            h: Some(MatRef::new(&self.h, TOKENS, 24).unwrap()),
            w: Some(MatRef::new(&self.w, 200, 24).unwrap()),
            bias: None,
            dropout: None,
        };
        let saved = SavedMut {
            x: MatMut::new(&mut x, TOKENS, 16).unwrap(),
            gate: MatMut::new(&mut a, TOKENS, 2).unwrap(),
            z: None,
        };
        let output = Output::InPlace(MatMut::new(&mut y, TOKENS, 200).unwrap());
        plan.forward(&parameters, &layer, output, Some(saved)).unwrap();
        (y, x)
    }

    /// Y.
    fn launched(&self, plan: &Plan, device: &Device) -> Vec<bf16> {
        fn up<T: bytemuck::Pod>(device: &Device, data: &[T]) -> Buffer<T> {
            Buffer::from_slice(device, data).unwrap()
        }
        let skeleton = there::Skeleton::new(plan, &self.skeleton).unwrap();
        let (b, gate) = (up(device, &self.b), up(device, &self.gate));
        let (h, w, mut y) = (up(device, &self.h), up(device, &self.w), up(device, &self.y0));
        let module = there::Forward {
            parameters: there::Parameters {
                skeleton: &skeleton,
                b: crate::resident::MatRef::new(&b, 100, 4).unwrap(),
                gate: crate::resident::MatRef::new(&gate, 1, 8).unwrap(),
                scale: 0.5,
            },
            layer: there::Layer {
                h: Some(crate::resident::MatRef::new(&h, TOKENS, 24).unwrap()),
                w: Some(crate::resident::MatRef::new(&w, 200, 24).unwrap()),
                bias: None,
                dropout: None,
            },
            output: there::Output::InPlace(crate::resident::MatMut::new(&mut y, TOKENS, 200).unwrap()),
            saved: None,
        };
        let mut workspace = Workspace::new(device, plan.workspace_bytes(Dtype::BF16, TOKENS, 1)).unwrap();
        plan.launch_forward(&mut [module], &mut workspace).unwrap();
        y.to_vec().unwrap()
    }
}

fn kernels(vm: &Vm) -> Vec<&'static str> {
    vm.take_launches().iter().map(|launch| launch.kernel).collect()
}

/// Every candidate of both kernels, put where [`Plan::tune`] puts them: its kernel runs, and the bits are the default's.
#[test]
fn a_plan_runs_what_was_chosen() {
    let Some((vm, plan)) = plan(DownProjection::Gemm) else { return };
    let host = Host::new();
    let expected = host.forward(&plan);
    let problem = Problem { desc: *plan.desc(), dtype: Dtype::BF16, tokens: 8 };
    let card = vm.card().unwrap();
    let candidates = tuned::Forward(problem).candidates(&card);
    for config in candidates.into_iter().chain(tuned::Down(problem).candidates(&card)) {
        let mut plan = plan.clone();
        plan.chosen.set(Dtype::BF16, TOKENS, config, tuned::same_choice(&config));
        vm.take_launches();
        assert!(host.forward(&plan) == expected, "{config}");
        let ran = kernels(&vm);
        assert!(host.launched(&plan, &Device::Vm(vm.clone())) == expected.0, "{config}: on the device");
        assert_eq!(kernels(&vm), ran, "{config}: on the device");
        let expected = match config {
            Config::Lowrank { .. } => "lowrank_forward",
            Config::LowrankDown { tokens: 64, .. } => "lowrank_down_medium",
            Config::LowrankDown { tokens: 128, .. } => "lowrank_down_large",
            Config::LowrankDown { .. } => "lowrank_down_small",
            _ => "lowrank_decode",
        };
        assert!(ran.len() == 2 && ran.contains(&expected), "{config}: {ran:?}");
    }
}

/// A choice is of an element and of the numbers of tokens up to a power of two; a second one takes its place.
#[test]
fn a_choice_serves_its_element_and_numbers_of_tokens() {
    let Some((vm, mut plan)) = plan(DownProjection::Gather) else { return };
    let host = Host::new();
    let many = Config::Lowrank { tokens: 4, holds: false };
    for (dtype, tokens, expected) in [
        (Dtype::F16, 8, "lowrank_decode"),
        (Dtype::BF16, 4, "lowrank_decode"),
        (Dtype::BF16, 9, "lowrank_decode"),
        (Dtype::BF16, 5, "lowrank_forward"),
    ] {
        plan.chosen.set(dtype, tokens, many, tuned::same_choice(&many));
        vm.take_launches();
        host.forward(&plan);
        assert_eq!(kernels(&vm), [expected], "{dtype:?} {tokens}");
    }
    let few = Config::LowrankDecode { tokens: 2, windows: 2 };
    plan.chosen.set(Dtype::BF16, 8, few, tuned::same_choice(&few));
    host.forward(&plan);
    assert_eq!(kernels(&vm), ["lowrank_decode"]);
}

/// One outcome for each kernel there is; the workspace stays as it was, and so do the bits.
#[test]
fn tuning_chooses_for_every_kernel() {
    for (down, expected) in [(DownProjection::Gather, 1), (DownProjection::Gemm, 2)] {
        let Some((_, mut plan)) = plan(down) else { return };
        let (host, bytes) = (Host::new(), plan.workspace_bytes(Dtype::BF16, TOKENS, 3));
        let before = host.forward(&plan);
        let outcomes = plan.tune(&Tuner::off(), Dtype::BF16, TOKENS).unwrap();
        assert_eq!(outcomes.len(), expected);
        for outcome in &outcomes {
            assert!(matches!(outcome.source, Source::Default | Source::Model), "{outcome:?}");
            let found = plan.chosen.find(Dtype::BF16, TOKENS, |config| (*config == outcome.config).then_some(*config));
            assert_eq!(found, Some(outcome.config), "kept");
        }
        assert_eq!(plan.workspace_bytes(Dtype::BF16, TOKENS, 3), bytes);
        assert!(host.forward(&plan) == before);
    }
}

#[test]
fn the_cpu_has_nothing_to_choose() {
    let mut plan = Plan::new(&Device::Cpu, desc(DownProjection::Gemm)).unwrap();
    assert!(plan.tune(&Tuner::off(), Dtype::F32, 8).unwrap().is_empty());
}

/// Where not even a token fits, the error is the forward's.
#[test]
fn a_problem_that_does_not_fit_the_device_is_refused() {
    let Some((vm, _)) = plan(DownProjection::Gather) else { return };
    let large = Desc { rows: 200_000, rank: 20_000, components: 4, split: 1, ..desc(DownProjection::Gather) };
    let mut plan = Plan::new(&Device::Vm(vm), large).unwrap();
    let refused = plan.tune(&Tuner::off(), Dtype::BF16, 128).unwrap_err().to_string();
    assert!(refused.contains("rank 20000 with 4 components needs"), "{refused}");
}
