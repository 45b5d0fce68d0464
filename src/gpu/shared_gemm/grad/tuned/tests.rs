use super::*;
use crate::gpu::resources::resources;
use crate::gpu::variants::VARIANTS;
use crate::gpu::vm::{Settings, Vm};
use crate::lowrank::Gate;
use half::bf16;
use ptx_vm::Checks;

/// Whether kernels can be had; said aloud where they cannot and need not.
fn kernels() -> bool {
    match Vm::default().probe() {
        Ok(()) => true,
        Err(error) if std::env::var_os("REQUIRE_NVRTC").is_some() => panic!("{error}"),
        Err(error) => {
            println!("skipped: {error}");
            false
        }
    }
}

fn tuned(tokens: usize, rows: usize, cols: usize, components: usize, rank: usize, dtype: Dtype) -> TunedGrad {
    let desc = Desc { rows, cols, rank, components, split: 1, gate: Gate::Static, bias: false };
    TunedGrad { desc, dtype, tokens }
}

fn fetched(vm: &Vm, prepared: &Prepared<Vm>) -> Vec<u16> {
    let (dh, bytes) = &prepared.outputs[0];
    let mut found = vec![0u16; bytes / 2];
    vm.download(GRAD, dh, &mut found).unwrap();
    found
}

/// Every tile, every raster, any number of resident blocks, any order of lanes and warps; no block touches what another does.
#[test]
fn all_ways_give_the_same_bits() {
    if !kernels() {
        return;
    }
    // Beyond two groups of the smallest raster, and ragged in every direction; small, aligned and without components.
    for problem in [tuned(577, 37, 133, 3, 7, Dtype::BF16), tuned(65, 90, 72, 0, 0, Dtype::F16)] {
        let candidates = problem.candidates(&Card::h100());
        let mut expected: Option<Vec<u16>> = None;
        for (i, config) in candidates.iter().enumerate() {
            let checks = Checks { global_races: true, ..Checks::ALL };
            let settings = Settings { checks, seed: (i > 0).then_some(i as u64), resident: [1, 3, 132][i % 3] };
            let vm = Vm::new(settings);
            let mut prepared = problem.prepare(&vm).unwrap();
            problem.run(&vm, &mut prepared, config).unwrap();
            let found = fetched(&vm, &prepared);
            assert!(found.iter().any(|&bits| bits != 0), "{config}: nothing was written");
            assert!(*expected.get_or_insert_with(|| found.clone()) == found, "{config}");
        }
    }
}

#[test]
fn candidates_start_with_the_default_and_differ() {
    let configs = |problem: TunedGrad, card| problem.candidates(&card);
    let large = configs(tuned(4096, 4096, 4096, 4, 32, Dtype::BF16), Card::h100());
    assert_eq!(large.len(), TILES.len() * RASTERS.len());
    assert_eq!(large[0], Way::default().config());
    assert_eq!(large, configs(tuned(4096, 4096, 4096, 4, 32, Dtype::BF16), Card::a100()));
    for config in &large {
        assert_eq!(Way::of(config).unwrap().config(), *config);
    }
    // One block of tokens has one order; five of 64 are three of 128.
    assert_eq!(configs(tuned(64, 8, 8, 0, 0, Dtype::F16), Card::h100()).len(), TILES.len());
    let some = configs(tuned(320, 8, 8, 0, 0, Dtype::F16), Card::h100());
    assert_eq!(some.len(), 1 + 2 + 2, "{some:?}");
    for way in [(128, 128, 0), (128, 64, 8), (0, 0, 8)] {
        let (tokens, columns, raster) = way;
        let config = Config::SharedGemmGrad { tokens, columns, raster };
        let error = tuned(1, 1, 1, 0, 0, Dtype::F16).work(&Card::h100(), &config).unwrap_err().to_string();
        assert!(error.starts_with("shared gemm gradient: no way to run it is `shared_gemm_grad"), "{error}");
    }
    assert!(Way::of(&Config::SharedGemm { tokens: 128, columns: 128, raster: 8 }).is_none());
}

#[test]
fn keys_say_what_decides() {
    let shape = |rows, cols, components, rank| tuned(3, rows, cols, components, rank, Dtype::BF16).shape();
    assert_eq!(shape(4096, 1024, 4, 32), "m=4096 n=1024 kr=128 align=16");
    assert_eq!(shape(4096, 1024, 0, 5), "m=4096 n=1024 kr=0 align=16");
    assert_eq!(shape(4096, 1020, 4, 32), "m=4096 n=1020 kr=128 align=8");
    assert_eq!(shape(4096, 1024, 2, 3), "m=4096 n=1024 kr=6 align=4");
    assert_eq!(shape(4097, 1024, 4, 32), "m=4097 n=1024 kr=128 align=2");
    let problem = tuned(3, 4, 5, 0, 0, Dtype::F16);
    assert_eq!((problem.kernel(), problem.tokens(), problem.dtype()), ("shared_gemm_grad", 3, Dtype::F16));
    let [image] = problem.images()[..] else { panic!("one image") };
    assert_eq!(VARIANTS[image].name(), "shared_gemm_grad.f16.sm_80");
    assert!(tuned(3, 4, 5, 0, 0, Dtype::F32).images().is_empty());
}

/// Products, and where bytes are whole sectors what moves through shared memory, to the last; instructions within a tenth.
#[test]
fn the_estimate_is_what_the_machine_counts() {
    if !kernels() {
        return;
    }
    for problem in [tuned(192, 256, 320, 2, 32, Dtype::BF16), tuned(128, 1024, 128, 0, 0, Dtype::F16)] {
        for tile in TILES {
            let vm = Vm::default();
            let config = Way { tile, raster: 8 }.config();
            let mut prepared = problem.prepare(&vm).unwrap();
            problem.run(&vm, &mut prepared, &config).unwrap();
            let launches = vm.take_launches();
            let counters = &launches[0].counters;
            let [work] = problem.work(&Card::h100(), &config).unwrap()[..] else { panic!("one launch") };
            assert_eq!(counters.tensor_products() as f64 * 4096.0, work.tensor, "{config}: tensor operations");
            let read: u64 = counters.allocations().iter().map(|(_, t)| 32 * (t.read.sectors + t.written.sectors)).sum();
            let (found, shared) = (counters.warp_instructions() as f64, counters.shared());
            println!(
                "{config}: instructions {found} of {}, wavefronts {} of {}, cache {read} of {}",
                work.instructions, shared.wavefronts, work.wavefronts, work.cache
            );
            assert!((found / work.instructions - 1.0).abs() < 0.1, "{config}: instructions");
            assert!((shared.wavefronts as f64 / work.wavefronts - 1.0).abs() < 0.02, "{config}: wavefronts");
            assert!((read as f64 / work.cache - 1.0).abs() < 0.05, "{config}: bytes from the second cache");
        }
    }
}

/// What the table says that a thread takes at most is what the launch bounds leave it.
#[test]
fn registers_are_within_the_table() {
    if !kernels() {
        return;
    }
    for (index, variant) in VARIANTS.iter().enumerate() {
        if variant.family == crate::gpu::variants::Family::SharedGemmGrad {
            for kernel in resources(&crate::gpu::image::image(index).unwrap().log).unwrap() {
                let tile = TILES.iter().find(|tile| tile.entry.name == kernel.name).unwrap();
                assert!(kernel.registers <= tile.registers, "{kernel:?}");
            }
        }
    }
}

/// What [`launch`] is given and a plan never gives it: operands somewhere in their buffers.
#[test]
fn operands_start_anywhere() {
    if !kernels() {
        return;
    }
    let (vm, problem) = (Vm::default(), tuned(70, 45, 130, 2, 8, Dtype::BF16));
    let mut prepared = problem.prepare(&vm).unwrap();
    problem.run(&vm, &mut prepared, &Way::default().config()).unwrap();
    let expected = fetched(&vm, &prepared);
    let shifted = |name, i: usize, len: usize, by: usize| {
        let mut bits = vec![0u16; len];
        vm.download(GRAD, &prepared.inputs[i], &mut bits).unwrap();
        let nan = bf16::NAN.to_bits();
        vm.upload(GRAD, name, &[vec![nan; by], bits].concat()).unwrap()
    };
    let (g, w, dx) = (shifted("g", 0, 70 * 45, 3), shifted("w", 1, 45 * 130, 8), shifted("dx", 2, 70 * 16, 5));
    let dh = vm.upload(GRAD, "dh", &vec![bf16::NAN.to_bits(); 1 + 70 * 130]).unwrap();
    let at = |buffer, by: usize, ld| View::at(vm.address(buffer) + 2 * by as u64, ld);
    let mut layer = GradLayer {
        g: at(&g, 3, 45),
        w: at(&w, 8, 130),
        components: Some([at(&dx, 5, 16), at(&prepared.inputs[3], 0, 0)]),
        add: None,
        dh: ViewMut::at(vm.address(&dh) + 2, 130),
    };
    launch(&vm, &problem.problem(), &Way::default(), &mut layer).unwrap();
    let mut found = vec![0u16; 1 + expected.len()];
    vm.download(GRAD, &dh, &mut found).unwrap();
    assert!(bf16::from_bits(found[0]).is_nan() && found[1..] == expected);

    layer.components = None;
    let error = launch(&vm, &problem.problem(), &Way::default(), &mut layer).unwrap_err().to_string();
    assert_eq!(error, "shared gemm gradient: operand `adapter` is missing; the problem reads it");
    let wide = GradProblem { cols: 1 << 33, ..problem.problem() };
    let error = launch(&vm, &wide, &Way::default(), &mut layer).unwrap_err().to_string();
    assert_eq!(error, "shared gemm gradient: 8589934592 columns are more than the kernel counts");
    let many = GradProblem { tokens: 1 << 40, ..problem.problem() };
    let error = launch(&vm, &many, &Way::default(), &mut layer).unwrap_err().to_string();
    assert!(error.contains("blocks are more than one launch can have"), "{error}");
}
