//! The adapter's backward where it runs as kernels: shapes around their tiles, segments, schedules, scales.

use crate::common::bounds::backward_bounds;
use crate::common::branch::{GATES, Problem, assert_within, desc, scaled as times};
use crate::common::gradients::{assert_backward, mixed, run};
use crate::common::{Padded, for_every_element, kernel_devices};
use idlora::lowrank::{Desc, Dropout, Gate, Gradients, InputGradient, Plan, Saved};
use idlora::reference::lowrank as reference;
use idlora::{Device, Elem, Error, Mat, bf16, f16};
use proptest::prelude::*;

const DROPOUT: Dropout = Dropout { probability: 0.4, seed: 0x1_0000_0007, offset: (1 << 32) - 9 };

thread_local! {
    /// Loaded once for all cases.
    static DEVICES: Vec<Device> = kernel_devices();
}

/// Paddings of G and B: rows of G aligned to 16 bytes, or not.
const PADDINGS: [[usize; 2]; 3] = [[8, 0], [0, 1], [3, 4]];

fn agrees<T: Elem>(desc: Desc, tokens: usize, dropout: Option<Dropout>, [g, b]: [usize; 2], seed: u64) {
    let mut problem = Problem::<T>::random(desc, tokens, dropout, seed).padded(5, 7, b);
    problem.g = Padded::new(&problem.g.to_f64(), g);
    let forward = problem.forward(&Device::Cpu, true);
    DEVICES.with(|devices| devices.iter().for_each(|device| assert_backward(device, &problem, &forward)));
}

prop_compose! {
    /// Shapes around the edges of tiles: slices of 256 and 512 columns, of 16 and 64 in r/s, a warp's 32 and 64 columns,
    /// steps of 16, groups of 8 components, 32 lanes along r.
    fn shapes()(
        split in prop::sample::select(vec![1usize, 2, 4]),
        depth in prop::sample::select(vec![1usize, 2, 7, 8, 9, 15, 16, 17, 33, 64, 65, 72]),
        components in prop::sample::select(vec![1usize, 2, 3, 4, 5, 8, 9]),
        part in prop::sample::select(vec![1usize, 8, 15, 33, 64, 65, 255, 256, 257, 264, 511, 512, 513, 520]),
        cols in prop::sample::select(vec![1usize, 31, 33, 255, 256, 257]),
        gate in 0..5usize,
    ) -> Desc {
        let depth = if components > 5 { depth.min(17) } else { depth };
        let part = part.max(components * depth);
        Desc { gate: GATES[gate], ..desc(part * split, cols, depth * split, components, split) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(25))]
    #[test]
    fn ragged_shapes_are_the_references(
        desc in shapes(),
        tokens in prop::sample::select(vec![0usize, 1, 2, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 65]),
        dropout in any::<bool>(),
        padding in prop::sample::select(PADDINGS.to_vec()),
        seed in any::<u64>(),
    ) {
        let tokens = if desc.rows > 1500 { tokens.min(17) } else { tokens };
        for_every_element!(agrees(desc, tokens, dropout.then_some(DROPOUT), padding, seed));
    }
}

/// Enough tokens for several segments of both products (128 sub-rows, 8 r/s where that is more), several blocks of 32 tokens
/// and of 128: their sums must all be added, the ragged ones at the end too.
#[test]
fn all_segments_are_added() {
    for gate in GATES {
        let narrow = Desc { gate, ..desc(40, 9, 4, 3, 2) };
        for_every_element!(agrees(narrow, 200, Some(DROPOUT), PADDINGS[0], 2));
        agrees::<f16>(Desc { gate, ..desc(60, 5, 20, 2, 1) }, 331, None, PADDINGS[2], 3);
        // Segments that start within a token, G's and z's rows padded.
        agrees::<bf16>(Desc { gate, ..desc(45, 5, 6, 2, 3) }, 91, None, PADDINGS[2], 13);
    }
}

/// More than one slice of r/s, and of m/s; more components than a linear gate takes at a time.
#[test]
fn all_slices_are_taken() {
    for_every_element!(agrees(Desc { gate: Gate::Linear, ..desc(36, 30, 4, 9, 2) }, 20, None, PADDINGS[0], 11));
    for (i, gate) in GATES.into_iter().enumerate() {
        for_every_element!(agrees(Desc { gate, ..desc(300, 5, 72, 2, 1) }, 18, None, PADDINGS[i % 3], 8));
        for_every_element!(agrees(
            Desc { gate, ..desc(1040, 5, 130, 2, 2) },
            3,
            Some(DROPOUT),
            PADDINGS[(i + 1) % 3],
            9
        ));
        for_every_element!(agrees(Desc { gate, ..desc(2080, 5, 32, 2, 2) }, 9, None, PADDINGS[(i + 2) % 3], 10));
    }
}

/// One product an entry, whose error shows beside no other.
#[test]
fn terms_carry_the_digits_of_both_operands() {
    for seed in 0..8 {
        for_every_element!(agrees(Desc { gate: Gate::Static, ..desc(1, 1, 1, 1, 1) }, 1, None, PADDINGS[1], seed));
        for_every_element!(agrees(Desc { gate: Gate::Static, ..desc(1, 1, 1, 1, 1) }, 20, None, PADDINGS[1], seed));
    }
}

/// What the device's forward leaves: `z` to the bit what the backward makes of X and the gate, so that all gradients have the same
/// bits with and without it. The CPU's `z`, which it rounds after each product, gives the reference's dB as well.
fn a_saved_z_serves<T: Elem>(gate: Gate, dropout: Option<Dropout>) {
    let problem = Problem::<T>::random(Desc { gate, ..desc(80, 12, 40, 2, 2) }, 35, dropout, 12);
    let forward_with_z = |device: &Device| problem.forward_saving(device, true, true);
    let (exact, of_cpu) = (problem.exact(), forward_with_z(&Device::Cpu));
    let (x, a) = (of_cpu.x.to_f64(), of_cpu.a.to_f64());
    let expected =
        reference::backward(&exact.adapter(), x.as_ref(), a.as_ref(), exact.input(), exact.factors(), exact.g.as_ref());
    for device in kernel_devices() {
        let forward = forward_with_z(&device);
        let z = &forward.z;
        assert_eq!(z.to_f64(), mixed(&problem, &forward).to_f64(), "{gate:?}: z");
        let bits = |saved| {
            let found = run(&device, &problem, saved, false, None);
            (found.b.to_f64(), found.gate.to_f64(), found.input.to_f64(), found.h.map(|h| h.to_f64()))
        };
        let with = bits(Saved { z: Some(z.view()), ..forward.saved() });
        assert!(with == bits(forward.saved()), "{gate:?}: with z and without");

        let bounds = backward_bounds::<T>(&device, &exact, &x, &a);
        let (found, ..) = bits(Saved { z: Some(of_cpu.z.view()), ..of_cpu.saved() });
        assert_within("dB from the CPU's z", &found, &expected.b, &bounds.b);

        // It is this z that is read: twice as much makes dB twice as much, and nothing else.
        let twice = Padded::<f32>::new(&times(z.to_f64(), 2.0), 0);
        let doubled = bits(Saved { z: Some(twice.view()), ..forward.saved() });
        assert_eq!(doubled.0, times(with.0, 2.0), "{gate:?}: dB is linear in z");
        assert!((doubled.1, doubled.2, doubled.3) == (with.1, with.2, with.3), "{gate:?}: only dB depends on z");
    }
}

#[test]
fn a_saved_z_serves_as_well_as_x() {
    for gate in GATES {
        for_every_element!(a_saved_z_serves(gate, (gate != Gate::Static).then_some(DROPOUT)));
    }
}

/// Gradients of the first tokens, and those of the rest added: the reference's of all, with the mask of one batch.
fn micro_batches<T: Elem>(gate: Gate) {
    let (tokens, cut) = (45, 19);
    let desc = Desc { gate, ..desc(80, 12, 8, 3, 2) };
    let problem = Problem::<T>::random(desc, tokens, Some(DROPOUT), 4);
    let forward = problem.forward(&Device::Cpu, true);
    let exact = problem.exact();
    let (x, a) = (forward.x.to_f64(), forward.a.to_f64());
    let expected =
        reference::backward(&exact.adapter(), x.as_ref(), a.as_ref(), exact.input(), exact.factors(), exact.g.as_ref());
    for device in kernel_devices() {
        let (mut b, mut of_gate) =
            (Padded::poisoned(40, 4, 1), Padded::poisoned(problem.gate.view().rows(), problem.gate.view().cols(), 2));
        for (rows, accumulate) in [(0..cut, false), (cut..tokens, true)] {
            let mut dx = Padded::<T>::poisoned(rows.len(), problem.width(), 0);
            let mut layer = problem.layer();
            layer.h = layer.h.map(|h| h.row_range(rows.clone()));
            layer.dropout = Some(Dropout { offset: DROPOUT.offset + rows.start as u64, ..DROPOUT });
            let mut saved = forward.saved();
            (saved.x, saved.gate) = (saved.x.row_range(rows.clone()), saved.gate.row_range(rows.clone()));
            let input = InputGradient::Separate { g: problem.g.view().row_range(rows), dx: dx.view_mut() };
            let gradients = Gradients { b: b.view_mut(), gate: of_gate.view_mut(), h_gate: None, accumulate };
            let plan = Plan::new(&device, desc).unwrap();
            plan.backward(&problem.parameters(), &layer, saved, input, gradients).unwrap();
        }
        // The one addition where gradients accumulate is in the bounds.
        let bounds = backward_bounds::<T>(&device, &exact, &x, &a);
        assert_within("dB", &b.to_f64(), &expected.b, &bounds.b);
        assert_within("gate gradient", &of_gate.to_f64(), &expected.parameters, &bounds.gate);
    }
}

#[test]
fn micro_batches_add_up() {
    for gate in GATES {
        for_every_element!(micro_batches(gate));
    }
}

/// The same bits for any order of lanes, warps and blocks, and any number of blocks; no block touches what another one reads.
#[cfg(feature = "vm")]
#[test]
fn no_schedule_changes_a_bit() {
    use idlora::vm::{Settings, Vm};
    use ptx_vm::Checks;
    if kernel_devices().is_empty() {
        return;
    }
    let shapes = [
        (Desc { gate: Gate::LinearSoftmax, ..desc(1040, 300, 24, 4, 2) }, 140),
        (Desc { gate: Gate::RmsInner, ..desc(300, 5, 70, 2, 1) }, 70),
    ];
    for (desc, tokens) in shapes {
        let problem = Problem::<bf16>::random(desc, tokens, Some(DROPOUT), 5);
        let forward = problem.forward(&Device::Cpu, true);
        let bits = |device: &Device| {
            let found = run(device, &problem, forward.saved(), true, None);
            (found.b.to_f64(), found.gate.to_f64(), found.input.to_f64(), found.h.map(|h| h.to_f64()))
        };
        let expected = bits(&Device::Vm(Vm::default()));
        for (seed, resident) in [(1, 1), (2, 3), (3, 7)] {
            let checks = Checks { global_races: true, ..Checks::ALL };
            let device = Device::Vm(Vm::new(Settings { checks, seed: Some(seed), resident }));
            assert!(bits(&device) == expected, "{desc:?} seed {seed}, {resident} resident");
        }
    }
}

/// Magnitudes far from one: `G`, `B` and `X` times powers of ten, where products have a float.
fn scaled<T: Elem>(gate: Gate, g: f32, b: f64, x: f32) {
    let mut problem = Problem::<T>::random(Desc { gate, ..desc(96, 6, 4, 2, 2) }, 11, None, 6);
    problem.b = Padded::new(&times(problem.b.to_f64(), b), 2);
    for t in 0..11 {
        problem.g.view_mut().row_mut(t).iter_mut().for_each(|v| *v = T::from_f32(v.to_f32() * g));
        problem.y0.view_mut().row_mut(t).iter_mut().for_each(|v| *v = T::from_f32(v.to_f32() * x));
    }
    let forward = problem.forward(&Device::Cpu, true);
    for device in kernel_devices() {
        assert_backward(&device, &problem, &forward);
    }
}

#[test]
fn gradients_have_the_range_of_f32() {
    for gate in [Gate::Inner, Gate::RmsInner, Gate::LinearSoftmax] {
        scaled::<bf16>(gate, 1e-12, 1e10, 1e12);
        scaled::<f32>(gate, 1e15, 1e-12, 1e8);
        scaled::<f32>(gate, 1e-15, 1e-10, 1e10);
        scaled::<f16>(gate, 1e4, 1e-6, 1e-3);
        scaled::<f16>(gate, 1e-6, 1e3, 1e4); // G below the normal numbers of f16
    }
    scaled::<f32>(Gate::Static, 1e-36, 1.0, 1e36);
    scaled::<bf16>(Gate::Static, 1e-3, 1e-30, 2e37);
}

/// The limit is shared memory, which grows with r; what is beyond it is refused, and nothing is written.
#[test]
fn what_does_not_fit_in_a_block_is_refused() {
    for device in kernel_devices() {
        let problem = Problem::<f32>::random(Desc { gate: Gate::Inner, ..desc(3000, 1, 3000, 1, 1) }, 1, None, 7);
        let forward = problem.forward(&Device::Cpu, true);
        let (mut b, mut gate) = (Padded::poisoned(3000, 3000, 0), Padded::poisoned(1, 3000, 0));
        let mut g = problem.g.clone();
        let gradients = Gradients { b: b.view_mut(), gate: gate.view_mut(), h_gate: None, accumulate: false };
        let plan = Plan::new(&device, problem.desc).unwrap();
        let input = InputGradient::Scatter(g.view_mut());
        let refused = plan.backward(&problem.parameters(), &problem.layer(), forward.saved(), input, gradients);
        let Err(Error::Unsupported { reason, .. }) = refused else { panic!("{refused:?}") };
        assert!(reason.contains("rank 3000 with 1 components needs"), "{reason}");
        assert_within("G", &g.to_f64(), &problem.g.to_f64(), &Mat::zeros(1, 3000).unwrap());
        assert!(b.to_f64().data().iter().chain(gate.to_f64().data()).all(|x| x.is_nan()));
    }
}
