//! Shapes around the tiles, gates, schedules.

use crate::common::branch::GATES;
use crate::common::{devices, for_every_element, kernel_devices};
use crate::problem::{Problem, assert_layer};
use idlora::lowrank::{Dropout, Gate};
use idlora::shared_gemm::Desc;
use idlora::{Device, Elem, bf16, f16};
use proptest::prelude::*;

const DROPOUT: Dropout = Dropout { probability: 0.4, seed: 0x1_0000_0007, offset: (1 << 32) - 9 };

/// Paddings of H, W and Y: all rows aligned to 16 bytes (where n and m are multiples of 8), none, or some.
const PADDINGS: [[usize; 3]; 3] = [[8, 16, 8], [3, 1, 5], [8, 1, 0]];

fn desc(rows: usize, cols: usize, rank: usize, components: usize, split: usize, gate: Gate) -> Desc {
    Desc { rows, cols, rank, components, split, gate, bias: rows.is_multiple_of(2) }
}

thread_local! {
    /// Loaded once for all cases.
    static DEVICES: Vec<Device> = devices().into_iter().chain(kernel_devices()).collect();
}

fn check<T: Elem>(desc: Desc, tokens: usize, dropout: Option<Dropout>, pads: [usize; 3], seed: u64) {
    let problem = Problem::<T>::random(desc, tokens, dropout, pads, seed);
    DEVICES.with(|devices| devices.iter().for_each(|device| assert_layer(device, &problem)));
}

prop_compose! {
    /// Around the edges of tiles (128), warps' parts (64 and 32), vectors (8), steps (16), chunks of r/s (32) and stages (64).
    fn shapes()(
        split in prop::sample::select(vec![1usize, 2, 3]),
        depth in prop::sample::select(vec![1usize, 7, 15, 16, 17, 31, 33]),
        components in 0..=5usize,
        part in prop::sample::select(vec![1usize, 8, 31, 33, 63, 64, 65, 96, 127, 128, 129]),
        cols in prop::sample::select(vec![1usize, 7, 8, 15, 17, 63, 64, 65, 129, 200]),
        gate in prop::sample::select(GATES.to_vec()),
    ) -> Desc {
        if components == 0 {
            return Desc::frozen(part * split, cols, part.is_multiple_of(2));
        }
        desc(part.max(components * depth) * split, cols, depth * split, components, split, gate)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn ragged_shapes_are_the_references(
        desc in shapes(),
        tokens in prop::sample::select(vec![0usize, 1, 2, 17, 63, 65, 127, 128, 129]),
        dropout in any::<bool>(),
        pads in prop::sample::select(PADDINGS.to_vec()),
        seed in any::<u64>(),
    ) {
        let tokens = if desc.rows > 300 { tokens.min(33) } else { tokens };
        for_every_element!(check(desc, tokens, dropout.then_some(DROPOUT), pads, seed));
    }
}

/// Every gate, several leading tiles, tiles that reach into two parts, tokens beyond a tile.
#[test]
fn every_gate_is_the_references() {
    for gate in GATES {
        check::<bf16>(desc(300, 72, 40, 4, 2, gate), 131, Some(DROPOUT), PADDINGS[0], 1);
        check::<f16>(desc(129, 65, 18, 3, 3, gate), 5, None, PADDINGS[1], 2);
    }
}

/// Full tiles and long sums, aligned, with and without components.
#[test]
fn whole_tiles_are_the_references() {
    check::<bf16>(desc(256, 512, 32, 4, 2, Gate::RmsInner), 256, None, [0; 3], 3);
    check::<f16>(desc(256, 512, 32, 4, 1, Gate::LinearSoftmax), 128, None, [0; 3], 4);
    check::<bf16>(Desc::frozen(256, 512, true), 256, None, [0; 3], 5);
    check::<f16>(Desc::frozen(128, 1024, false), 128, None, [0; 3], 6);
}

/// z keeps the range of f32 between the products, and both operands of the update their digits.
#[test]
fn z_has_the_range_of_f32() {
    for device in kernel_devices() {
        let mut problem = Problem::<f16>::random(desc(130, 20, 6, 2, 2, Gate::Inner), 5, None, PADDINGS[0], 7);
        problem.gate = crate::common::Padded::new(&crate::common::branch::scaled(problem.gate.to_f64(), 1e9), 0);
        problem.scale = 1e-9;
        assert_layer(&device, &problem);
        // A layer that is nothing but its chosen rows: elsewhere Y is the update alone.
        let mut problem = Problem::<f16>::random(desc(130, 20, 6, 2, 2, Gate::Static), 5, None, PADDINGS[0], 8);
        problem.desc.bias = false;
        for row in 0..130 {
            if !problem.skeleton.contains(&(row as u32)) {
                problem.w.view_mut().row_mut(row).fill(f16::from_f32(0.0));
            }
        }
        assert_layer(&device, &problem);
    }
}

/// With a static gate of zeros, or B of zeros, the layer alone, to the bit.
#[test]
fn no_update_is_the_layer_alone() {
    for device in devices().into_iter().chain(kernel_devices()) {
        let with = desc(200, 90, 24, 3, 2, Gate::Static);
        let mut problem = Problem::<bf16>::random(with, 40, None, PADDINGS[1], 9);
        problem.desc.bias = false;
        problem.b.view_mut().data_mut().fill(0.0);
        let found = problem.run(&device, false).unwrap().y.to_f64();
        problem.desc = Desc::frozen(200, 90, false);
        problem.skeleton.clear();
        assert_eq!(found, problem.run(&device, false).unwrap().y.to_f64(), "{device}");
    }
}

/// A token of a batch by itself has the same bits.
#[test]
fn a_batch_of_one_is_a_token_of_a_batch() {
    for device in kernel_devices() {
        let desc = desc(140, 40, 16, 3, 2, Gate::LinearSoftmax);
        let whole = Problem::<f16>::random(desc, 130, Some(DROPOUT), PADDINGS[0], 10);
        let of_batch = whole.run(&device, true).unwrap();
        for token in [0, 63, 128, 129] {
            let mut alone = Problem::<f16>::random(desc, 130, None, PADDINGS[0], 10);
            let row = whole.h.to_f64().row(token).to_vec();
            alone.h = crate::common::Padded::new(&idlora::Mat::from_vec(row, 1, 40).unwrap(), 3);
            alone.dropout = Some(Dropout { offset: DROPOUT.offset + token as u64, ..DROPOUT });
            let found = alone.run(&device, true).unwrap();
            assert_eq!(found.y.to_f64().row(0), of_batch.y.to_f64().row(token), "Y of token {token}");
            assert_eq!(found.x.to_f64().row(0), of_batch.x.to_f64().row(token), "X of token {token}");
            assert_eq!(found.z.to_f64().row(0), of_batch.z.to_f64().row(token), "z of token {token}");
        }
    }
}

/// The same bits, and an end, for any order of lanes, warps and blocks, any number of resident blocks and every tile: nobody waits
/// for a block that has not started, and no block touches what another has not released.
#[cfg(feature = "vm")]
#[test]
fn no_schedule_changes_a_bit() {
    use crate::problem::WAYS;
    use idlora::vm::{Settings, Vm};
    use ptx_vm::Checks;
    if kernel_devices().is_empty() {
        return;
    }
    let problems = [
        Problem::<bf16>::random(desc(300, 70, 66, 2, 2, Gate::Inner), 260, Some(DROPOUT), PADDINGS[0], 11),
        Problem::<bf16>::random(desc(300, 70, 24, 4, 2, Gate::LinearSoftmax), 130, None, PADDINGS[1], 12),
        Problem::<bf16>::random(Desc::frozen(300, 70, true), 260, None, PADDINGS[2], 13),
    ];
    for problem in problems {
        let expected = problem.run(&Device::Vm(Vm::default()), true).unwrap().bits();
        for (way, (seed, resident)) in WAYS.into_iter().zip([(1, 1), (2, 2), (3, 5), (4, 1)]) {
            let checks = Checks { global_races: true, ..Checks::ALL };
            let device = Device::Vm(Vm::new(Settings { checks, seed: Some(seed), resident }));
            let found = problem.run_as(&device, true, way).unwrap().bits();
            assert!(found == expected, "{:?} {way:?} seed {seed}, {resident} resident", problem.desc);
        }
    }
}
