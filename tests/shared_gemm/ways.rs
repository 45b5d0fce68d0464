//! Tiles and rasters: the same bits, and what is refused.

use crate::common::kernel_devices;
use crate::problem::{Problem, WAYS};
use idlora::lowrank::{Dropout, Gate};
use idlora::shared_gemm::{Desc, Plan};
use idlora::tune::{Config, Tuner};
use idlora::{Device, Dtype, Elem, bf16, f16};

const DROPOUT: Dropout = Dropout { probability: 0.4, seed: 3, offset: 1 << 32 };

/// What the default tile gives, to the bit, from every other.
fn agree<T: Elem>(problem: &Problem<T>) {
    for device in kernel_devices() {
        let expected = problem.run(&device, true).unwrap().bits();
        for way in WAYS {
            let found = problem.run_as(&device, true, way).unwrap().bits();
            assert!(found == expected, "{device} {:?} {:?} {way:?}", T::DTYPE, problem.desc);
        }
    }
}

/// Ragged tiles, parts of z that end within eight columns, several leading tiles, more blocks of tokens than a raster.
#[test]
fn every_tile_gives_the_same_bits() {
    let desc =
        |rows, cols, rank, components, split, gate| Desc { rows, cols, rank, components, split, gate, bias: true };
    let problem = |desc, tokens, dropout, seed| Problem::<bf16>::random(desc, tokens, dropout, [8, 16, 8], seed);
    agree(&problem(desc(333, 70, 66, 3, 3, Gate::RmsInner), 197, Some(DROPOUT), 1));
    agree(&problem(desc(264, 200, 34, 2, 2, Gate::LinearSoftmax), 70, None, 2));
    agree(&problem(desc(40, 72, 4, 8, 4, Gate::Static), 300, None, 3));
    agree(&Problem::<f16>::random(desc(260, 129, 20, 5, 2, Gate::Linear), 66, None, [3, 1, 5], 4));
    agree(&Problem::<f16>::random(Desc::frozen(300, 65, true), 259, None, [8, 1, 0], 5));
}

/// A z that is not finite makes the same of its token whatever the tile: nothing outside its part where 8 divides that.
#[test]
fn what_is_not_finite_stays_in_its_part() {
    for device in kernel_devices() {
        for part in [72, 76] {
            let desc =
                Desc { rows: 2 * part, cols: 20, rank: 6, components: 2, split: 2, gate: Gate::Static, bias: false };
            let mut problem = Problem::<bf16>::random(desc, 3, None, [0; 3], 6);
            // B is finite and large; only z of the first part is beyond f32.
            problem.skeleton = (0..12).collect();
            problem.w.view_mut().row_mut(0).fill(bf16::from_f32(3e38));
            problem.h.view_mut().row_mut(1).fill(bf16::from_f32(1.0));
            let y = problem.run(&device, false).unwrap().y.to_f64();
            // Column 0 of Y is beyond bf16 by itself.
            let beyond = |token: usize| (1..2 * part).filter(|&c| !y.row(token)[c].is_finite()).max();
            assert_eq!(beyond(1), Some(part.next_multiple_of(8) - 1), "m/s {part}");
            agree(&problem);
        }
    }
}

/// Refused by name, and the plan runs as before.
#[test]
fn ways_that_are_none_are_refused() {
    for device in kernel_devices() {
        let mut plan = Plan::new(&device, Desc::frozen(16, 8, false)).unwrap();
        let way = |tokens, columns, raster| Config::SharedGemm { tokens, columns, raster };
        let other = Config::LowrankDown { tokens: 16, columns: 16 };
        let none = "there is no such tile, or no such raster";
        for (config, reason) in [
            (way(96, 128, 8), none),
            (way(128, 128, 0), none),
            (way(128, 128, 33), none),
            (other, "is another kernel's"),
        ] {
            let message = plan.choose(Dtype::BF16, 4, config).unwrap_err().to_string();
            assert_eq!(message, format!("shared gemm: the configuration `{config}`: {reason}"));
        }
        plan.choose(Dtype::BF16, 4, way(128, 256, 32)).unwrap();
    }
    let mut plan = Plan::new(&Device::Cpu, Desc::frozen(16, 8, false)).unwrap();
    let config = Config::SharedGemm { tokens: 128, columns: 128, raster: 8 };
    let message = plan.choose(Dtype::BF16, 4, config).unwrap_err().to_string();
    assert_eq!(message, "device `cpu`: runs no kernels; it has one way");
}

/// On the CPU there is nothing to tune. On a device a tuner's choice is one of the kernel's ways, and the plan runs it; f32
/// has none.
#[test]
fn a_tuner_chooses_where_there_is_a_choice() {
    let desc = Desc { rows: 40, cols: 24, rank: 4, components: 2, split: 2, gate: Gate::Inner, bias: true };
    let mut plan = Plan::new(&Device::Cpu, desc).unwrap();
    assert!(plan.tune(&Tuner::off(), Dtype::BF16, 5).unwrap().is_empty());
    for device in kernel_devices() {
        let mut plan = Plan::new(&device, desc).unwrap();
        let outcomes = plan.tune(&Tuner::off(), Dtype::BF16, 5).unwrap();
        let kernels: Vec<&str> = outcomes.iter().map(|outcome| outcome.config.kernel()).collect();
        assert_eq!(kernels, ["shared_gemm", "shared_gemm_grad"]);
        let Config::SharedGemm { tokens, columns, raster } = outcomes[0].config else { panic!("{outcomes:?}") };
        let problem = Problem::<bf16>::random(desc, 5, None, [0; 3], 7);
        let found = problem.run_as(&device, true, [tokens, columns, raster]).unwrap().bits();
        assert!(found == problem.run(&device, true).unwrap().bits());
        let message = plan.tune(&Tuner::off(), Dtype::F32, 5).unwrap_err().to_string();
        assert!(message.contains("run f32 on the CPU"), "{message}");
    }
}

/// More components than the smallest ring has gate values of eight warps.
#[test]
fn many_components_fit_every_ring() {
    for gate in [Gate::Static, Gate::Linear] {
        let desc = Desc { rows: 768, cols: 8, rank: 1, components: 768, split: 1, gate, bias: false };
        agree(&Problem::<bf16>::random(desc, 40, None, [0; 3], 8));
    }
}
