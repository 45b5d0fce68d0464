//! Every way of running the forward, and every tile of the down-projection: the same bits, and about the work that was estimated.

use super::super::step;
use super::*;
use crate::gpu::vm::{Launched, Settings, Vm, machine};
use crate::lowrank::{Dropout, Gate};
use crate::tune::Chosen;

const GATES: [Gate; 5] = [Gate::Inner, Gate::RmsInner, Gate::Linear, Gate::LinearSoftmax, Gate::Static];
const ELEMENTS: [Dtype; 3] = [Dtype::F16, Dtype::BF16, Dtype::F32];

fn desc([rows, cols]: [usize; 2], [rank, components, split]: [usize; 3], gate: Gate) -> Desc {
    Desc { rows, cols, rank, components, split, gate, down: DownProjection::Gather, bias: Bias::None }
}

/// Outputs of a run into memory that holds NaN, and what it launched.
fn outcome<P: Tunable>(vm: &Vm, problem: &P, prepared: &mut Prepared<Vm>, config: &Config) -> (Vec<Vec<u8>>, Launched) {
    for (buffer, bytes) in &mut prepared.outputs {
        vm.write(FORWARD, buffer, &vec![0xffu8; *bytes]).unwrap();
    }
    vm.take_launches();
    problem.run(vm, prepared, config).unwrap();
    let mut launches = vm.take_launches();
    assert_eq!(launches.len(), 1, "{config}");
    let found = prepared.outputs.iter().map(|(buffer, bytes)| {
        let mut data = vec![0u8; *bytes];
        vm.download(FORWARD, buffer, &mut data).unwrap();
        data
    });
    if let Some((head, bytes)) = &prepared.scratch {
        let mut data = vec![1u8; *bytes];
        vm.download(FORWARD, head, &mut data).unwrap();
        assert!(data.iter().all(|&byte| byte == 0), "{config}: tickets");
    }
    (found.collect(), launches.remove(0))
}

/// Every candidate has the bits of the first one, and writes every output whole. Candidates are distinct.
fn all_agree<P: Tunable>(vm: &Vm, problem: &P) -> Vec<Config> {
    let candidates = problem.candidates(&vm.card().unwrap());
    let mut prepared = problem.prepare(vm).unwrap();
    let (expected, _) = outcome(vm, problem, &mut prepared, &candidates[0]);
    let size = problem.dtype().size();
    for (bytes, size) in expected.iter().zip([size, size, 4, 4]) {
        assert!(
            bytes.chunks(size).all(|value| value.iter().any(|&byte| byte != 0xff)),
            "an output that is not written"
        );
    }
    for (i, config) in candidates.iter().enumerate() {
        assert!(!candidates[..i].contains(config), "{config} twice");
        let (found, launched) = outcome(vm, problem, &mut prepared, config);
        assert!(found == expected, "{} {} t {}: {config}", problem.dtype().name(), problem.shape(), problem.tokens());
        let kernel = if let Config::Lowrank { .. } = config { "lowrank_forward" } else { config.kernel() };
        assert!(launched.kernel.starts_with(kernel), "{config} ran {}", launched.kernel);
    }
    candidates
}

/// Ragged shapes, every gate and bias, X gathered and given, few tokens and many.
#[test]
fn every_candidate_of_the_forward_has_the_same_bits() {
    let Some(vm) = machine(Settings::default()) else { return };
    let shapes = [([300, 37], [24, 4, 2]), ([127, 20], [7, 3, 1]), ([330, 9], [33, 2, 33]), ([520, 70], [16, 2, 1])];
    let biases = [Bias::None, Bias::Included, Bias::Separate];
    for (i, tokens) in [1, 6, 37, 70].into_iter().enumerate() {
        for (j, dtype) in ELEMENTS.into_iter().enumerate() {
            for k in 0..2 {
                let (sizes, ranks) = shapes[(i + 2 * j + k) % 4];
                let down = if (i + j + k) % 3 == 0 { DownProjection::Gemm } else { DownProjection::Gather };
                let desc =
                    Desc { down, bias: biases[(i + j) % 3], ..desc(sizes, ranks, GATES[(i + 2 * j + 3 * k) % 5]) };
                let candidates = all_agree(&vm, &Forward(Problem { desc, dtype, tokens }));
                let few = candidates.iter().filter(|config| matches!(config, Config::LowrankDecode { .. })).count();
                assert_eq!(few > 1, tokens <= 64, "{candidates:?}");
                assert!(candidates.len() - few > 1, "{candidates:?}");
            }
        }
    }
}

#[test]
fn every_candidate_of_the_down_projection_has_the_same_bits() {
    let Some(vm) = machine(Settings::default()) else { return };
    for (dtype, [tokens, cols], ranks) in
        [(Dtype::F16, [3, 130], [9, 3, 1]), (Dtype::BF16, [70, 64], [32, 4, 2]), (Dtype::F32, [129, 33], [20, 4, 1])]
    {
        let desc = Desc { down: DownProjection::Gemm, ..desc([200, cols], ranks, Gate::Static) };
        assert_eq!(all_agree(&vm, &Down(Problem { desc, dtype, tokens })).len(), 3);
    }
}

/// The first candidate is what runs without a tuner, in shapes of both kernels; what a smaller card cannot run is none.
#[test]
fn the_default_comes_first_and_all_fit_the_card() {
    for (rows, tokens, default) in [
        (4096, 1, Config::LowrankDecode { tokens: 1, windows: 8 }),
        (14336, 64, Config::LowrankDecode { tokens: 8, windows: 16 }),
        (4096, 128, Config::Lowrank { tokens: 16, holds: true }),
        (14336, 128, Config::Lowrank { tokens: 16, holds: false }),
    ] {
        let problem = Problem { desc: desc([rows, 64], [32, 4, 2], Gate::Inner), dtype: Dtype::BF16, tokens };
        let of_h100 = Forward(problem).candidates(&Card::h100());
        assert_eq!(of_h100[0], default);
        let a100 = Card::a100();
        let limit = a100.multiprocessor.block_shared as usize;
        for config in Forward(problem).candidates(&a100) {
            assert!(of_h100.contains(&config));
            let work = Forward(problem).work(&a100, &config).unwrap();
            assert!(work.len() == 1 && work[0].need.shared as usize <= limit, "{config}: {:?}", work[0]);
        }
    }
    let too_large = Problem { desc: desc([200_000, 64], [20_000, 4, 1], Gate::Inner), dtype: Dtype::F16, tokens: 128 };
    assert!(Forward(too_large).candidates(&Card::h100()).is_empty());
}

/// What is no way of this problem is refused by name, and chosen by nobody.
#[test]
fn a_configuration_that_does_not_serve_the_problem_is_refused() {
    let Some(vm) = machine(Settings::default()) else { return };
    let problem = Problem { desc: desc([64, 8], [4, 2, 2], Gate::Static), dtype: Dtype::F32, tokens: 80 };
    let mut prepared = Forward(problem).prepare(&vm).unwrap();
    for config in [
        Config::Lowrank { tokens: 0, holds: true },
        Config::Lowrank { tokens: 17, holds: false },
        Config::LowrankDecode { tokens: 1, windows: 8 }, // 80 tokens
        Config::LowrankDown { tokens: 16, columns: 16 },
        Config::SharedGemm { tokens: 16, columns: 16, raster: 1 },
    ] {
        let refused = Forward(problem).run(&vm, &mut prepared, &config).unwrap_err().to_string();
        assert_eq!(refused, format!("lowrank forward: `{config}` does not serve this problem"));
        assert!(Forward(problem).work(&Card::h100(), &config).is_err());
    }
    let few = Problem { tokens: 64, ..problem };
    for (tokens, windows) in [(0, 8), (3, 8), (16, 8), (1, 0), (8, u32::MAX)] {
        let config = Config::LowrankDecode { tokens, windows };
        assert!(Forward(few).work(&Card::h100(), &config).is_err(), "{config}");
    }
    for config in [Config::LowrankDown { tokens: 16, columns: 64 }, Config::Lowrank { tokens: 16, holds: true }] {
        assert!(Down(problem).work(&Card::h100(), &config).unwrap_err().to_string().contains("does not serve"));
    }
}

/// The kernels of a step of so many modules, whose bits are the default's whatever was chosen.
fn kernels_of_step(
    vm: &Vm,
    problem: &Problem,
    modules: usize,
    dropout: Option<Dropout>,
    config: Config,
) -> Vec<&'static str> {
    let forward = Forward(*problem);
    let draw = Draw { gpu: vm, op: FORWARD };
    let Desc { rows, cols, rank, components, split, gate, .. } = problem.desc;
    let inputs = forward.prepare(vm).unwrap().inputs;
    let w = draw.elements("w", problem.dtype, rows * cols, 9, 0).unwrap();
    let h = draw.elements("h", problem.dtype, problem.tokens * cols, 2, 0).unwrap();
    let scratch_bytes = step::forward_bytes(problem, modules);
    let scratch = vm.zeroed::<u8>(FORWARD, "workspace", scratch_bytes).unwrap();
    let bytes = problem.tokens * rows * problem.dtype.size();
    let run = |chosen: &Chosen| {
        let ys: Vec<_> =
            (0..modules).map(|_| draw.elements("y", problem.dtype, problem.tokens * rows, 1, 0).unwrap()).collect();
        let mut group: Vec<Module<'_>> = ys
            .iter()
            .map(|y| Module {
                operands: Operands {
                    skeleton: View::whole(vm, &inputs[1], 0),
                    b: View::whole(vm, &inputs[2], rank / split),
                    gate: View::whole(vm, &inputs[3], gate.parameter_shape(rank, components, cols).1),
                    scale: 0.25,
                    h: Some(View::whole(vm, &h, cols)),
                    w: Some(View::whole(vm, &w, cols)),
                    bias: None,
                    dropout,
                },
                y0: View::whole(vm, y, rows),
                y: ViewMut::at(vm.address(y), rows),
                given: None,
                saved: None,
            })
            .collect();
        vm.take_launches();
        let scratch = Scratch::at(vm.address(&scratch), scratch_bytes);
        let before = vm.used();
        step::forward(vm, problem, &mut group, &scratch, chosen).unwrap();
        assert_eq!(vm.used(), before, "a step allocates and copies nothing");
        let kernels: Vec<&str> = vm.take_launches().iter().map(|launch| launch.kernel).collect();
        let found: Vec<Vec<u8>> = ys
            .iter()
            .map(|y| {
                let mut data = vec![0u8; bytes];
                vm.download(FORWARD, y, &mut data).unwrap();
                data
            })
            .collect();
        (found, kernels)
    };
    let (expected, _) = run(&Chosen::default());
    let mut chosen = Chosen::default();
    chosen.set(problem.dtype, problem.tokens, config, same_choice(&config));
    let (found, kernels) = run(&chosen);
    assert!(found == expected, "{config}: other bits in place");
    kernels
}

/// In place, for every candidate of both kernels: what was chosen runs, and the bits are the default's.
#[test]
fn a_step_runs_what_was_chosen() {
    let Some(vm) = machine(Settings::default()) else { return };
    let desc = Desc { down: DownProjection::Gemm, ..desc([200, 40], [8, 2, 2], Gate::Inner) };
    let problem = Problem { desc, dtype: Dtype::BF16, tokens: 5 };
    let card = vm.card().unwrap();
    for config in Forward(problem).candidates(&card).into_iter().chain(Down(problem).candidates(&card)) {
        let kernels = kernels_of_step(&vm, &problem, 2, None, config);
        let expected = match config {
            Config::Lowrank { .. } => ["lowrank_down_small", "lowrank_forward"],
            Config::LowrankDown { tokens: 64, .. } => ["lowrank_down_medium", "lowrank_decode"],
            Config::LowrankDown { tokens: 128, .. } => ["lowrank_down_large", "lowrank_decode"],
            _ => ["lowrank_down_small", "lowrank_decode"],
        };
        assert_eq!(kernels, expected, "{config}");
    }
}

/// More modules than there are tickets for; dropout, whose mask takes the shared memory that Y0 was to stay in.
#[test]
fn a_choice_that_does_not_serve_a_step_gives_way_to_the_default() {
    let Some(vm) = machine(Settings::default()) else { return };
    let gathering = desc([96, 8], [4, 2, 2], Gate::Static);
    let problem = Problem { desc: gathering, dtype: Dtype::F16, tokens: 16 };
    let config = Config::LowrankDecode { tokens: 1, windows: 2 };
    let blocks = |kernels: Vec<&str>| kernels.len();
    // 16 tickets of a module: 64 are those of 4, and 8 modules run the default, in one launch either way.
    assert_eq!(blocks(kernels_of_step(&vm, &problem, 4, None, config)), 1);
    assert!(
        Way::of(&config, &problem, 4, false, 1 << 20).is_some()
            && Way::of(&config, &problem, 5, false, 1 << 20).is_none()
    );
    assert_eq!(blocks(kernels_of_step(&vm, &problem, 8, None, config)), 1);

    let config = Config::Lowrank { tokens: 16, holds: true };
    let limit = vm.shared_limit() as usize;
    let of = |rows: usize| Problem { desc: desc([rows, 8], [256, 4, 2], Gate::Static), dtype: Dtype::F32, tokens: 1 };
    let serves = |problem: &Problem, drops| Way::of(&config, problem, 1, drops, limit).is_some();
    let problem = (1024..4096).step_by(16).map(of).find(|problem| serves(problem, false) && !serves(problem, true));
    let problem = problem.expect("a Y0 that stays without a mask and does not with one");
    assert_eq!(kernels_of_step(&vm, &problem, 1, None, config), ["lowrank_forward"]);
    let dropout = Some(Dropout { probability: 0.5, seed: 1, offset: 0 });
    assert_eq!(kernels_of_step(&vm, &problem, 1, dropout, config), ["lowrank_decode"]);
}

/// Larger by at most the factor, in either direction.
fn within(what: &str, estimated: f64, counted: f64, factor: f64) -> f64 {
    let ratio = if counted == 0.0 && estimated == 0.0 { 1.0 } else { estimated / counted };
    assert!((1.0 / factor..=factor).contains(&ratio), "{what}: {estimated:e} estimated, {counted:e} counted");
    ratio
}

/// Estimates of every candidate against the counters: bytes, tensor operations, instructions, passes over shared memory.
fn estimates_hold<P: Tunable>(vm: &Vm, problem: &P) {
    let card = vm.card().unwrap();
    let mut prepared = problem.prepare(vm).unwrap();
    let mut spread = [[f64::INFINITY, 0.0]; 4];
    for config in problem.candidates(&card) {
        let (_, launched) = outcome(vm, problem, &mut prepared, &config);
        let work = problem.work(&card, &config).unwrap()[0];
        let counters = &launched.counters;
        let moved = counters.allocations().iter().flat_map(|(_, traffic)| [traffic.read, traffic.written]);
        let (distinct, sectors) = moved.fold((0, 0), |sum, moved| (sum.0 + moved.distinct, sum.1 + moved.sectors));
        let what = |of: &str| {
            format!("{of} of {} {} t {}: {config}", problem.dtype().name(), problem.shape(), problem.tokens())
        };
        assert_eq!(work.tensor, 2.0 * counters.tensor_multiply_adds() as f64, "{}", what("tensor operations"));
        let ratios = [
            within(&what("memory"), work.memory, distinct as f64, 1.1),
            within(&what("cache"), work.cache, 32.0 * sectors as f64, 1.5),
            within(&what("instructions"), work.instructions, counters.warp_instructions() as f64, 1.6),
            within(&what("passes"), work.wavefronts, counters.shared().wavefronts as f64, 2.0),
        ];
        for (spread, ratio) in spread.iter_mut().zip(ratios) {
            *spread = [spread[0].min(ratio), spread[1].max(ratio)];
        }
    }
    println!("{} {} t {}: {spread:.2?}", problem.dtype().name(), problem.shape(), problem.tokens());
}

/// Shapes that the constants were not fitted to.
#[test]
fn estimates_are_close_to_the_counters() {
    let Some(vm) = machine(Settings::default()) else { return };
    for (i, (tokens, sizes, ranks)) in [
        (1, [1536, 384], [32, 4, 2]),
        (24, [1536, 384], [16, 4, 2]),
        (96, [768, 128], [32, 4, 2]),
        (40, [1024, 64], [64, 2, 1]),
        (8, [896, 448], [16, 3, 4]),
    ]
    .into_iter()
    .enumerate()
    {
        for dtype in ELEMENTS {
            let bias = [Bias::None, Bias::Included, Bias::Separate][i % 3];
            let down = if i == 3 { DownProjection::Gemm } else { DownProjection::Gather };
            let desc = Desc { bias, down, ..desc(sizes, ranks, GATES[i]) };
            estimates_hold(&vm, &Forward(Problem { desc, dtype, tokens }));
        }
    }
    for (dtype, [tokens, cols]) in [(Dtype::F16, [40, 384]), (Dtype::BF16, [1, 1536]), (Dtype::F32, [150, 200])] {
        let desc = Desc { down: DownProjection::Gemm, ..desc([512, cols], [32, 4, 2], Gate::Static) };
        estimates_hold(&vm, &Down(Problem { desc, dtype, tokens }));
    }
}
