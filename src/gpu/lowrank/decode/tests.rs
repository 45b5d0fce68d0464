//! The forward of a few tokens has the bits of the forward of many, however it is cut.

use super::super::{Operands, SavedMut, View, ViewMut};
use super::*;
use crate::elem::{Dtype, Elem};
use crate::gpu::vm::{Buffer, Settings, Vm, machine};
use crate::lowrank::{Bias, Desc, DownProjection, Dropout, Gate};
use half::{bf16, f16};
use ptx_vm::Checks;

const GATES: [Gate; 5] = [Gate::Inner, Gate::RmsInner, Gate::Linear, Gate::LinearSoftmax, Gate::Static];
const BIASES: [Bias; 3] = [Bias::None, Bias::Included, Bias::Separate];
const DROPOUT: Dropout = Dropout { probability: 0.4, seed: 0x1_0000_0007, offset: (1 << 32) - 9 };

/// Which columns are chosen: spread, with the first and the last; the first ones, all in one slice.
#[derive(Clone, Copy, Debug)]
enum Chosen {
    Spread,
    Dense,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    desc: Desc,
    tokens: usize,
    chosen: Chosen,
    in_place: bool,
    /// X is given, as after an explicit down-projection.
    given: bool,
    dropout: bool,
    /// Elements before Y0 and Y, and between rows of Y0, Y and B.
    start: usize,
    pads: [usize; 3],
}

/// Which kernel, and for this one how it is cut.
#[derive(Clone, Copy, Debug)]
enum Way {
    Many,
    Few(Shares),
}

fn desc(rows: usize, rank: usize, components: usize, split: usize, gate: Gate, bias: Bias) -> Desc {
    Desc { rows, cols: 37, rank, components, split, gate, down: DownProjection::Gather, bias }
}

fn case(desc: Desc, tokens: usize) -> Case {
    let (chosen, in_place) = (Chosen::Spread, true);
    Case { desc, tokens, chosen, in_place, given: false, dropout: false, start: 0, pads: [8, 8, 4] }
}

/// `len` values between −1 and 1.
fn values<T: Elem>(len: usize, seed: usize) -> Vec<T> {
    let hash = |i: usize| (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ (seed as u64) << 17) >> 40;
    (0..len).map(|i| T::from_f32(hash(i) as f32 / 8_388_608.0 - 1.0)).collect()
}

/// A module's buffers.
struct There {
    inputs: [Buffer; 7],
    outputs: [Buffer; 4],
}

impl Case {
    fn skeleton(&self, seed: usize) -> Vec<u32> {
        let (rows, width) = (self.desc.rows as u32, self.desc.rank * self.desc.components);
        if let Chosen::Dense = self.chosen {
            return (0..width as u32).rev().collect();
        }
        let step = (1..).map(|i| 2 * i + 14 * (seed as u32 % 5) + 5).find(|step| gcd(*step, rows) == 1).unwrap();
        let mut chosen: Vec<u32> = (0..width as u32).map(|i| (rows - 1 + i * step) % rows).collect();
        if !chosen.contains(&0) {
            chosen[width / 2] = 0;
        }
        chosen
    }

    fn there<T: Elem>(&self, vm: &Vm, seed: usize) -> There {
        let Desc { rows, cols, rank, components, split, gate, .. } = self.desc;
        let width = rank * components;
        let (gate_rows, gate_cols) = gate.parameter_shape(rank, components, cols);
        let y0 = values::<T>(self.start + self.tokens * (rows + self.pads[0]), seed);
        let poison = |len: usize| vec![T::from_f32(f32::NAN); len];
        let up = |name, data: &[T]| vm.upload(FORWARD, name, data).unwrap();
        let floats = |name, len, seed| vm.upload(FORWARD, name, &values::<f32>(len, seed)).unwrap();
        let y = if self.in_place { y0.clone() } else { poison(self.start + self.tokens * (rows + self.pads[1])) };
        There {
            inputs: [
                up("y0", &y0),
                up("h", &values::<T>(self.tokens * cols, seed + 1)),
                vm.upload(FORWARD, "skeleton", &self.skeleton(seed)).unwrap(),
                floats("b", rows / split * (rank / split + self.pads[2]), seed + 2),
                floats("gate", gate_rows * gate_cols, seed + 3),
                up("bias", &values::<T>(rows, seed + 4)),
                up("given", &values::<T>(self.tokens * width, seed + 5)),
            ],
            outputs: [
                up("y", &y),
                up("x", &poison(self.tokens * width)),
                vm.upload(FORWARD, "a", &vec![f32::NAN; self.tokens * components]).unwrap(),
                vm.upload(FORWARD, "z", &vec![f32::NAN; self.tokens * rank]).unwrap(),
            ],
        }
    }

    fn module<'a>(&self, vm: &Vm, there: &'a There, size: usize) -> Module<'a> {
        let Desc { rows, cols, rank, components, split, gate, .. } = self.desc;
        let from = |i: usize, ld| View::at(vm.address(&there.inputs[i]), ld);
        let to = |i: usize, ld| ViewMut::at(vm.address(&there.outputs[i]), ld);
        let start = (self.start * size) as u64;
        let y = ViewMut::at(to(0, 0).address + start, rows + self.pads[if self.in_place { 0 } else { 1 }]);
        let y0 = View::at(if self.in_place { y.address } else { from(0, 0).address + start }, rows + self.pads[0]);
        let operands = Operands {
            skeleton: from(2, 0),
            b: from(3, rank / split + self.pads[2]),
            gate: from(4, gate.parameter_shape(rank, components, cols).1),
            scale: 1.5,
            h: Some(from(1, cols)),
            w: None,
            bias: Some(from(5, 0)),
            dropout: self.dropout.then_some(DROPOUT),
        };
        let saved = SavedMut { x: to(1, rank * components), gate: to(2, components), z: Some(to(3, rank)) };
        let given = self.given.then(|| from(6, rank * components));
        Module { operands, y0, y, given, saved: Some(saved) }
    }

    /// Y with what lies around it, X, gate and z of each of the modules after one launch; the head of the scratch is zero
    /// again, and serves the modules once more.
    fn outcome<T: Elem>(&self, vm: &Vm, way: Way, seeds: &[usize]) -> Vec<[Vec<u8>; 4]> {
        let problem = Problem { desc: self.desc, dtype: T::DTYPE, tokens: self.tokens };
        let scratch = vm.upload(FORWARD, "workspace", &[0u8; HEAD]).unwrap();
        let limit = vm.shared_limit() as usize;
        let mut found = Vec::new();
        for _ in 0..if matches!(way, Way::Few(_)) { 2 } else { 1 } {
            let there: Vec<There> = seeds.iter().map(|&seed| self.there::<T>(vm, seed)).collect();
            let modules: Vec<_> = there.iter().map(|there| self.module(vm, there, size_of::<T>())).collect();
            vm.take_launches();
            match way {
                Way::Many => {
                    let layout = Layout::choose(&self.desc, T::DTYPE.into(), self.dropout, limit).unwrap();
                    super::super::launch(vm, &problem, &modules, layout).unwrap();
                }
                Way::Few(shares) => {
                    let layout = shares.layout(&problem, self.dropout, limit).unwrap();
                    let scratch = Scratch::at(vm.address(&scratch), HEAD);
                    launch(vm, &problem, &modules, &scratch, &shares, layout).unwrap();
                }
            }
            let launches = vm.take_launches();
            assert_eq!(launches.len(), 1, "launches");
            assert_eq!(launches[0].kernel, if let Way::Many = way { "lowrank_forward" } else { "lowrank_decode" });
            let mut head = [1u8; HEAD];
            vm.download(FORWARD, &scratch, &mut head).unwrap();
            assert_eq!(head, [0; HEAD], "tickets");
            let bytes = |there: &There| self.bytes::<T>(vm, there);
            let again: Vec<_> = there.iter().map(bytes).collect();
            assert!(found.is_empty() || found == again, "{self:?} {way:?}: the second step");
            found = again;
        }
        found
    }

    fn bytes<T: Elem>(&self, vm: &Vm, there: &There) -> [Vec<u8>; 4] {
        let Desc { rows, rank, components, .. } = self.desc;
        let row = rows + self.pads[if self.in_place { 0 } else { 1 }];
        let lens = [
            (self.start + self.tokens * row) * size_of::<T>(),
            self.tokens * rank * components * size_of::<T>(),
            self.tokens * components * 4,
            self.tokens * rank * 4,
        ];
        std::array::from_fn(|i| {
            let mut bytes = vec![0u8; lens[i]];
            vm.download(FORWARD, &there.outputs[i], &mut bytes).unwrap();
            bytes
        })
    }

    fn problem<T: Elem>(&self) -> Problem {
        Problem { desc: self.desc, dtype: T::DTYPE, tokens: self.tokens }
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Slices of so many windows instead of those of the problem.
fn cut(problem: &Problem, modules: usize, tokens: usize, windows: usize) -> Shares {
    Shares::of(problem, modules, tokens, windows)
}

fn same<T: Elem>(vm: &Vm, case: Case, shares: Shares) {
    let expected = case.outcome::<T>(vm, Way::Many, &[5]);
    let found = case.outcome::<T>(vm, Way::Few(shares), &[5]);
    for (i, name) in ["y", "x", "a", "z"].into_iter().enumerate() {
        assert!(found[0][i] == expected[0][i], "{:?} {case:?} {shares:?}: {name} differs", T::DTYPE);
    }
}

fn same_in_every_element(vm: &Vm, case: Case, tokens: usize, windows: usize) {
    same::<bf16>(vm, case, cut(&case.problem::<bf16>(), 1, tokens, windows));
    same::<f16>(vm, case, cut(&case.problem::<f16>(), 1, tokens, windows));
    same::<f32>(vm, case, cut(&case.problem::<f32>(), 1, tokens, windows));
}

/// Every number of tokens, in place and out of place, each with another gate, bias, shape, alignment and cut.
#[test]
fn bits_are_those_of_the_forward_of_many_tokens() {
    let Some(vm) = machine(Settings::default()) else { return };
    let shapes = [(300, 24, 4, 2), (127, 7, 3, 1), (264, 32, 2, 2), (99, 6, 5, 3), (330, 33, 2, 33), (96, 17, 3, 1)];
    let pads = [[8, 8, 4], [3, 5, 1], [8, 1, 0], [1, 8, 3]];
    for (i, tokens) in [1, 2, 7, 8, 15, 16, 17, 33, 64].into_iter().enumerate() {
        for in_place in [true, false] {
            let j = 2 * i + usize::from(in_place);
            let (rows, rank, components, split) = shapes[j % shapes.len()];
            let mut case = case(desc(rows, rank, components, split, GATES[(i + j) % 5], BIASES[j % 3]), tokens);
            (case.in_place, case.dropout, case.pads) = (in_place, i % 2 == 0, pads[i % 4]);
            case.start = [0, 1, 8][i % 3];
            same_in_every_element(&vm, case, GROUPS[(i + 2) % 4], 1 + j % 3);
        }
    }
}

/// Chosen columns in one slice alone; all columns chosen; X from elsewhere; one slice, whose block need not defer.
#[test]
fn any_columns_may_be_chosen() {
    let Some(vm) = machine(Settings::default()) else { return };
    let dense = Case { chosen: Chosen::Dense, ..case(desc(512, 16, 2, 2, Gate::Static, Bias::Separate), 5) };
    same_in_every_element(&vm, dense, 4, 2);
    let all = case(desc(160, 40, 4, 2, Gate::RmsInner, Bias::Separate), 9);
    same_in_every_element(&vm, all, 8, 1);
    same_in_every_element(&vm, Case { pads: [3, 1, 1], ..all }, 2, 1);
    let given = Case { given: true, ..case(desc(256, 8, 3, 1, Gate::Inner, Bias::Included), 6) };
    same_in_every_element(&vm, given, 2, 2);
    same_in_every_element(&vm, case(desc(256, 8, 3, 1, Gate::Inner, Bias::Included), 6), 2, 16);
}

/// The cut that the problem itself has, of more than one slice.
#[test]
fn the_problems_own_cut_has_the_same_bits() {
    let Some(vm) = machine(Settings::default()) else { return };
    for (tokens, gate) in [(3, Gate::LinearSoftmax), (40, Gate::Static)] {
        let case = case(desc(1100, 32, 4, 2, gate, Bias::None), tokens);
        let shares = Shares::choose(&case.problem::<bf16>(), 1);
        assert!(shares.slices > 1, "{shares:?}");
        same::<bf16>(&vm, case, shares);
    }
}

/// A group of 3 and one of 8 modules, which take all tickets, against each module alone.
#[test]
fn a_group_has_the_bits_of_each_module_alone() {
    let Some(vm) = machine(Settings::default()) else { return };
    for (count, tokens) in [(3, 10), (8, 64)] {
        let case = case(desc(132, 8, 2, 2, Gate::Linear, Bias::Included), tokens);
        let seeds: Vec<usize> = (0..count).map(|i| 10 * i + 1).collect();
        let shares = cut(&case.problem::<bf16>(), count, 8, 1);
        assert!(shares.pairs <= TICKETS);
        let found = case.outcome::<bf16>(&vm, Way::Few(shares), &seeds);
        for (found, seed) in found.iter().zip(seeds) {
            assert!(*found == case.outcome::<bf16>(&vm, Way::Many, &[seed])[0], "module {seed} of {count}");
        }
    }
}

/// No order of lanes, warps and blocks changes a bit, nor is anything but the tickets what orders blocks.
#[test]
fn no_schedule_changes_a_bit() {
    let Some(vm) = machine(Settings::default()) else { return };
    let mut held = case(desc(140, 20, 3, 2, Gate::LinearSoftmax, Bias::Included), 6);
    held.dropout = true;
    for case in [held, Case { pads: [3, 1, 1], start: 1, ..held }, Case { in_place: false, ..held }] {
        let expected = case.outcome::<bf16>(&vm, Way::Many, &[3, 7]);
        let shares = cut(&case.problem::<bf16>(), 2, 4, 1);
        for seed in 1..=3 {
            for resident in [1, 3, 7] {
                let checks = Checks { global_races: true, ..Checks::ALL };
                let Some(vm) = machine(Settings { checks, seed: Some(seed), resident }) else { return };
                let found = case.outcome::<bf16>(&vm, Way::Few(shares), &[3, 7]);
                assert!(found == expected, "{case:?} seed {seed}, {resident} resident");
            }
        }
    }
}

/// A warp with a second window still reads it, chosen columns and all, while others of its block have none left: the ticket waits
/// for all of them, or the last block would update what is being read.
#[test]
fn the_ticket_waits_for_every_window_of_the_block() {
    let Some(vm) = machine(Settings::default()) else { return };
    let case = case(desc(26 * 32, 8, 2, 1, Gate::Static, Bias::None), 2);
    let expected = case.outcome::<bf16>(&vm, Way::Many, &[3]);
    let shares = cut(&case.problem::<bf16>(), 1, 2, 13);
    assert!(shares.slices == 2 && shares.windows > lowrank::WARPS as usize);
    for seed in 1..=8 {
        let checks = Checks { global_races: true, ..Checks::ALL };
        let Some(vm) = machine(Settings { checks, seed: Some(seed), resident: 2 }) else { return };
        assert!(case.outcome::<bf16>(&vm, Way::Few(shares), &[3]) == expected, "seed {seed}");
    }
}

/// What decides is the problem; the shapes that the kernel's header speaks of.
#[test]
fn tokens_and_columns_are_cut_by_the_problem() {
    let of = |rows, tokens, modules| {
        let desc = desc(rows, 32, 4, 2, Gate::LinearSoftmax, Bias::None);
        let shares = Shares::choose(&Problem { desc, dtype: Dtype::BF16, tokens }, modules);
        assert!(shares.pairs <= TICKETS && shares.slices * shares.windows >= (rows / 2).div_ceil(32));
        (shares.tokens, shares.pairs, shares.windows, shares.slices)
    };
    assert_eq!(of(4096, 1, 1), (1, 1, 8, 8));
    assert_eq!(of(4096, 16, 1), (1, 16, 8, 8));
    assert_eq!(of(4096, 64, 1), (4, 16, 8, 8));
    assert_eq!(of(14336, 16, 1), (4, 4, 8, 28));
    assert_eq!(of(14336, 64, 1), (8, 8, 16, 14));
    assert_eq!(of(4096, 64, 8), (8, 64, 32, 2));
    assert_eq!(of(64, 64, 8), (8, 64, 8, 1));
}

/// A block's share that is too large is left to the other kernel, and what that refuses is refused.
#[test]
fn what_does_not_fit_is_left_to_the_other_kernel() {
    let Some(vm) = machine(Settings::default()) else { return };
    let case = case(desc(20_000, 1, 20_000, 1, Gate::Static, Bias::None), 1);
    let there = case.there::<f32>(&vm, 1);
    let mut modules = [case.module(&vm, &there, 4)];
    let scratch = vm.upload(FORWARD, "workspace", &[0u8; HEAD]).unwrap();
    let scratch = Scratch::at(vm.address(&scratch), HEAD);
    let chosen = crate::tune::Chosen::default();
    let refused = super::super::step::forward(&vm, &case.problem::<f32>(), &mut modules, &scratch, &chosen);
    assert!(refused.unwrap_err().to_string().contains("rank 1 with 20000 components needs"));
    assert!(vm.take_launches().is_empty());
}
