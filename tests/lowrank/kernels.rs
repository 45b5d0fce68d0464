//! The adapter's forward where it runs as a kernel: shapes around its tiles, both ways of keeping Y0, schedules, scales.

use crate::common::branch::{BIASES, GATES, Problem, assert_forward, assert_within, desc};
use crate::common::{Padded, for_every_element, kernel_devices};
use idlora::lowrank::{Bias, Desc, Dropout, Gate, Output, Plan};
use idlora::{Device, Elem, Error, Mat, bf16, f16};
use proptest::prelude::*;

const DROPOUT: Dropout = Dropout { probability: 0.4, seed: 0x1_0000_0007, offset: (1 << 32) - 9 };

/// The first and the last column are chosen too, the last one first.
pub fn with_edges<T: Elem>(mut problem: Problem<T>) -> Problem<T> {
    let last = problem.desc.rows as u32 - 1;
    for (place, column) in [(0, last), (problem.skeleton.len() - 1, 0)] {
        match problem.skeleton.iter().position(|&s| s == column) {
            Some(found) => problem.skeleton.swap(found, place),
            None => problem.skeleton[place] = column,
        }
    }
    problem
}

/// Paddings of Y0, Y and B: all rows aligned to 16 bytes, none, or either of Y0 and Y.
const PADDINGS: [[usize; 3]; 4] = [[8, 16, 4], [3, 5, 1], [8, 1, 0], [1, 8, 3]];

prop_compose! {
    /// Shapes around the edges of tiles: 16 and 32 sub-rows, windows of 16 and 32 columns, 8 windows a round, steps of 16
    /// in r/s, 32 lanes along r and k·r, 256 columns a step of the logits.
    fn shapes()(
        split in prop::sample::select(vec![1usize, 2, 3, 4, 8, 33]),
        depth in prop::sample::select(vec![1usize, 2, 7, 15, 16, 17, 32, 33, 48]),
        components in 1usize..=6,
        part in prop::sample::select(vec![1usize, 8, 15, 16, 17, 31, 32, 33, 64, 127, 129, 256, 257, 264]),
        cols in prop::sample::select(vec![1usize, 31, 33, 255, 257]),
        variant in (0..5usize, 0..3usize),
    ) -> Desc {
        let depth = if split > 8 { depth.min(2) } else { depth };
        let part = part.max(components * depth);
        let (gate, bias) = (GATES[variant.0], BIASES[variant.1]);
        Desc { gate, bias, ..desc(part * split, cols, depth * split, components, split) }
    }
}

thread_local! {
    /// Loaded once for all cases.
    static DEVICES: Vec<Device> = kernel_devices();
}

fn ragged<T: Elem>(desc: Desc, tokens: usize, dropout: Option<Dropout>, [y0, y, b]: [usize; 3], seed: u64) {
    let problem = with_edges(Problem::<T>::random(desc, tokens, dropout, seed).padded(y0, y, b));
    DEVICES.with(|devices| devices.iter().for_each(|device| assert_forward(device, &problem)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn ragged_shapes_are_the_references(
        desc in shapes(),
        tokens in prop::sample::select(vec![0usize, 1, 2, 7, 8, 9, 10, 11, 15, 16, 17, 33]),
        dropout in any::<bool>(),
        padding in prop::sample::select(PADDINGS.to_vec()),
        seed in any::<u64>(),
    ) {
        let tokens = if desc.rows > 2000 { tokens.min(9) } else { tokens };
        for_every_element!(ragged(desc, tokens, dropout.then_some(DROPOUT), padding, seed));
    }
}

/// Shapes whose Y0 does not stay in shared memory, in elements of 2 and of 4 bytes.
fn streamed<T: Elem>(padding: [usize; 3]) -> Vec<Problem<T>> {
    let (wide, gate) = (4 / size_of::<T>(), Gate::RmsInner);
    let shapes = [
        (Desc { gate, bias: Bias::Included, ..desc(3808 * wide, 5, 5, 3, 1) }, 17, None),
        (Desc { gate, bias: Bias::Separate, ..desc(2 * 3803 * wide, 5, 34, 2, 2) }, 9, Some(DROPOUT)),
    ];
    let [y0, y, b] = padding;
    let problem = |(desc, tokens, dropout)| with_edges(Problem::random(desc, tokens, dropout, 3).padded(y0, y, b));
    shapes.into_iter().map(problem).collect()
}

fn streaming_is_the_references<T: Elem>() {
    for device in kernel_devices() {
        for padding in &PADDINGS[..3] {
            streamed::<T>(*padding).iter().for_each(|problem| assert_forward(&device, problem));
        }
    }
}

#[test]
fn rows_too_long_for_shared_memory_are_the_references() {
    for_every_element!(streaming_is_the_references());
}

/// The same bits for any order of lanes, warps and blocks, in place: all chosen columns of a token are read before any is
/// updated, and no block touches another's.
#[cfg(feature = "vm")]
#[test]
fn no_schedule_changes_a_bit() {
    use idlora::vm::{Settings, Vm};
    use ptx_vm::Checks;
    if kernel_devices().is_empty() {
        return;
    }
    let held = Desc { gate: Gate::LinearSoftmax, bias: Bias::Included, ..desc(300, 70, 24, 4, 2) };
    let mut problems = vec![with_edges(Problem::<bf16>::random(held, 75, Some(DROPOUT), 4))];
    problems.extend(streamed(PADDINGS[1]));
    for problem in problems {
        let bits = |device: &Device| {
            let found = problem.forward(device, true);
            (found.y.to_f64(), found.x.to_f64(), found.a.to_f64(), found.z.to_f64())
        };
        let expected = bits(&Device::Vm(Vm::default()));
        for (seed, resident) in [(1, 1), (2, 3), (3, 7)] {
            let checks = Checks { global_races: true, ..Checks::ALL };
            let device = Device::Vm(Vm::new(Settings { checks, seed: Some(seed), resident }));
            assert!(bits(&device) == expected, "{:?} seed {seed}, {resident} resident", problem.desc);
        }
    }
}

/// Y0 is nothing but at the chosen columns, so that what is stored elsewhere is the update alone: `z B` with one product, whose
/// error shows beside the rounding of the element.
fn both_operands_keep_their_digits<T: Elem>() {
    for device in kernel_devices() {
        let mut problem = Problem::<T>::random(Desc { gate: Gate::Static, ..desc(600, 3, 1, 2, 1) }, 5, None, 6);
        let chosen = problem.skeleton.clone();
        for t in 0..5 {
            for (c, y0) in problem.y0.view_mut().row_mut(t).iter_mut().enumerate() {
                *y0 = if chosen.contains(&(c as u32)) { *y0 } else { T::from_f32(0.0) };
            }
        }
        assert_forward(&device, &problem);
    }
}

#[test]
fn terms_carry_the_digits_of_both_operands() {
    for_every_element!(both_operands_keep_their_digits());
}

/// z far beyond f16, beside a B that brings Y back; up to the last floats, which bf16 would round to infinity.
fn large<T: Elem>(x: f32, t: f64, b: f64) {
    for device in kernel_devices() {
        let mut problem = Problem::<T>::random(desc(96, 3, 2, 1, 2), 3, None, 7);
        for row in 0..3 {
            problem.y0.view_mut().row_mut(row).fill(T::from_f32(0.0));
            problem.skeleton.iter().for_each(|&c| problem.y0.view_mut().row_mut(row)[c as usize] = T::from_f32(x));
        }
        problem.gate = Padded::new(&Mat::from_vec(vec![t; 2], 1, 2).unwrap(), 0);
        problem.b =
            Padded::new(&Mat::from_vec((1..49).map(|i| b * f64::from(i - 24) / 7.0).collect(), 48, 1).unwrap(), 2);
        assert_forward(&device, &problem);
    }
}

#[test]
fn z_has_the_range_of_f32() {
    large::<bf16>(1e15, 0.5, 1e-30);
    large::<f32>(1e15, 0.5, 1e-30);
    large::<f32>(1.0, 0.5 * 3.4e38, 1e-37);
    large::<f32>(1e-15, 0.5, 1e30);
    large::<f16>(6e4, 0.5, 1e-9);
}

/// Logits whose exponentials have no float, or none but zero.
#[test]
fn softmax_takes_any_logits() {
    for device in kernel_devices() {
        for shift in [-2000.0, 0.0, 2000.0] {
            let mut problem =
                Problem::<f32>::random(Desc { gate: Gate::LinearSoftmax, ..desc(64, 8, 4, 3, 1) }, 3, None, 13);
            (0..3).for_each(|row| problem.h.view_mut().row_mut(row)[0] = 1.0);
            (0..3).for_each(|i| problem.gate.view_mut().row_mut(i)[0] = shift);
            assert_forward(&device, &problem);
        }
    }
}

/// Where z overflows, Y does, with B's sign, as on the CPU.
#[test]
fn an_infinite_z_gives_an_infinite_y() {
    for device in kernel_devices() {
        let mut problem = Problem::<f32>::random(desc(64, 3, 1, 1, 1), 2, None, 8);
        problem.gate = Padded::new(&Mat::from_vec(vec![1.0], 1, 1).unwrap(), 0);
        (0..2).for_each(|row| problem.y0.view_mut().row_mut(row).fill(1e30));
        let y = problem.forward(&device, true).y.to_f64();
        for (c, y) in y.row(1).iter().enumerate() {
            let b = problem.b.to_f64().row(c)[0];
            assert_eq!(*y, f64::INFINITY * b.signum(), "column {c}, B {b}");
        }
    }
}

/// A token of a batch, by itself, and a batch that ends within a tile: the same bits.
#[test]
fn a_batch_of_one_is_a_token_of_a_batch() {
    for device in kernel_devices() {
        let desc = Desc { gate: Gate::LinearSoftmax, ..desc(128, 40, 16, 3, 2) };
        let problem = Problem::<f16>::random(desc, 18, Some(DROPOUT), 9);
        let whole = problem.forward(&device, true);
        for token in [0, 7, 15, 16, 17] {
            let one = |from: &Padded<f16>| {
                Padded::new(&Mat::from_vec(from.to_f64().row(token).to_vec(), 1, from.view().cols()).unwrap(), 5)
            };
            let mut alone = Problem::<f16>::random(desc, 18, None, 9);
            (alone.y0, alone.h) = (one(&problem.y0), one(&problem.h));
            alone.dropout = Some(Dropout { offset: DROPOUT.offset + token as u64, ..DROPOUT });
            let found = alone.forward(&device, true);
            assert_eq!(found.y.to_f64().row(0), whole.y.to_f64().row(token), "Y of token {token}");
            assert_eq!(found.x.to_f64().row(0), whole.x.to_f64().row(token), "X of token {token}");
            assert_eq!(found.a.to_f64().row(0), whole.a.to_f64().row(token), "gate of token {token}");
            assert_eq!(found.z.to_f64().row(0), whole.z.to_f64().row(token), "z of token {token}");
        }
    }
}

/// X is the CPU's to the bit, whatever the rounding of the subtraction: ties, subnormals and overflow too.
fn saved_x_is_the_cpus<T: Elem>() {
    for device in kernel_devices() {
        let mut problem = Problem::<T>::random(Desc { bias: Bias::Included, ..desc(256, 3, 64, 4, 1) }, 20, None, 10);
        for (t, scale) in [1.0, 1e-7, 1e-40, 3e4, 1.0, 3e38].into_iter().enumerate() {
            for y0 in problem.y0.view_mut().row_mut(t) {
                *y0 = T::from_f32((y0.to_f32() * scale).clamp(-3e38, 3e38));
            }
        }
        problem.b = Padded::new(&Mat::zeros(256, 64).unwrap(), 0);
        let bits =
            |x: &Padded<T>| -> Vec<u32> { x.view().iter_rows().flatten().map(|x| x.to_f32().to_bits()).collect() };
        let expected = problem.forward(&Device::Cpu, true).x;
        assert_eq!(bits(&problem.forward(&device, true).x), bits(&expected), "{:?}", T::DTYPE);
    }
}

#[test]
fn saved_x_has_the_bits_of_the_cpus() {
    for_every_element!(saved_x_is_the_cpus());
}

/// The limit is shared memory, which grows with k·r; what is beyond it is refused, and nothing is written.
#[test]
fn what_does_not_fit_in_a_block_is_refused() {
    for device in kernel_devices() {
        let problem = Problem::<f32>::random(Desc { gate: Gate::Static, ..desc(20_000, 1, 1, 20_000, 1) }, 1, None, 11);
        let plan = Plan::new(&device, problem.desc).unwrap();
        let mut y = problem.y0.clone();
        let refused = plan.forward(&problem.parameters(), &problem.layer(), Output::InPlace(y.view_mut()), None);
        let Err(Error::Unsupported { reason, .. }) = refused else { panic!("{refused:?}") };
        assert!(reason.contains("rank 1 with 20000 components needs"), "{reason}");
        assert_within("y", &y.to_f64(), &problem.y0.to_f64(), &Mat::zeros(1, 20_000).unwrap());
    }
}
