//! The forward of at most 64 tokens where it runs as a kernel of its own, whose blocks share the columns of a token. That its bits are
//! those of the forward of many tokens, however it is cut, is tested beside its host code, where the cut can be chosen.

use crate::common::branch::{BIASES, GATES, Problem, assert_forward, desc};
use crate::common::{for_every_element, kernel_devices};
use idlora::lowrank::{Desc, Dropout, Gate};
use idlora::{Device, Elem};

const DROPOUT: Dropout = Dropout { probability: 0.4, seed: 0x1_0000_0007, offset: (1 << 32) - 9 };

thread_local! {
    /// Loaded once for all cases.
    static DEVICES: Vec<Device> = kernel_devices();
}

/// Where the chosen columns lie.
#[derive(Clone, Copy)]
enum Chosen {
    /// Anywhere, the first and the last column among them.
    Edges,
    /// The first ones: all in one slice where there are several.
    First,
}

fn chosen<T: Elem>(mut problem: Problem<T>, chosen: Chosen) -> Problem<T> {
    let (last, width) = (problem.desc.rows as u32 - 1, problem.skeleton.len());
    if let Chosen::First = chosen {
        problem.skeleton = (0..width as u32).rev().collect();
        return problem;
    }
    for (place, column) in [(0, last), (width - 1, 0)] {
        match problem.skeleton.iter().position(|&s| s == column) {
            Some(found) => problem.skeleton.swap(found, place),
            None => problem.skeleton[place] = column,
        }
    }
    problem
}

fn agrees<T: Elem>(desc: Desc, tokens: usize, dropout: Option<Dropout>, [y0, y, b]: [usize; 3], places: Chosen) {
    let problem = chosen(Problem::<T>::random(desc, tokens, dropout, tokens as u64).padded(y0, y, b), places);
    DEVICES.with(|devices| devices.iter().for_each(|device| assert_forward(device, &problem)));
}

/// Numbers of tokens around those of a token group, a tensor-core tile and the most that this kernel takes, beyond which the
/// other one follows; columns around a slice of 256, of float 128.
#[test]
fn few_tokens_are_the_references() {
    let paddings = [[8, 16, 4], [3, 5, 1], [8, 1, 0], [1, 8, 3]];
    let shapes = [(2 * 257, 24, 3, 2), (520, 32, 2, 1), (129, 7, 2, 1), (4 * 130, 20, 4, 4), (256, 16, 2, 2)];
    for (i, tokens) in [1, 2, 7, 8, 15, 16, 17, 33, 64, 65].into_iter().enumerate() {
        let (rows, rank, components, split) = shapes[i % shapes.len()];
        let (gate, bias) = (GATES[(i + i / 5) % 5], BIASES[i % 3]);
        let problem = Desc { gate, bias, ..desc(rows, 33, rank, components, split) };
        let places = if i % 4 == 3 { Chosen::First } else { Chosen::Edges };
        for_every_element!(agrees(problem, tokens, (i % 2 == 0).then_some(DROPOUT), paddings[i % 4], places));
    }
}

/// k·r = m: a block has nothing to store before the last one has come.
#[test]
fn all_columns_may_be_chosen() {
    for gate in [Gate::Inner, Gate::LinearSoftmax] {
        for_every_element!(agrees(Desc { gate, ..desc(528, 40, 132, 4, 2) }, 5, None, [8, 8, 0], Chosen::Edges));
    }
}

/// In place, several slices of several token groups: all blocks of a group gather before the last one updates the chosen
/// columns, whatever the order of lanes, warps and blocks.
#[cfg(feature = "vm")]
#[test]
fn no_schedule_changes_a_bit() {
    use idlora::bf16;
    use idlora::vm::{Settings, Vm};
    use ptx_vm::Checks;
    if kernel_devices().is_empty() {
        return;
    }
    let shape = Desc { gate: Gate::RmsInner, bias: BIASES[1], ..desc(2 * 530, 20, 24, 3, 2) };
    for padding in [[8, 8, 4], [3, 1, 1]] {
        let problem = Problem::<bf16>::random(shape, 9, Some(DROPOUT), 4).padded(padding[0], padding[1], padding[2]);
        let problem = chosen(problem, Chosen::Edges);
        let bits = |device: &Device| {
            let found = problem.forward(device, true);
            (found.y.to_f64(), found.x.to_f64(), found.a.to_f64())
        };
        let expected = bits(&Device::Vm(Vm::default()));
        for seed in 1..=3 {
            for resident in [1, 3, 7] {
                let checks = Checks { global_races: true, ..Checks::ALL };
                let device = Device::Vm(Vm::new(Settings { checks, seed: Some(seed), resident }));
                assert!(bits(&device) == expected, "seed {seed}, {resident} resident");
            }
        }
    }
}
