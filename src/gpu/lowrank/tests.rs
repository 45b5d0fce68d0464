//! Operands by address: anywhere in their buffers, X given, several modules in one launch.

use super::*;
use crate::device::Device;
use crate::elem::Elem;
use crate::error::Error;
use crate::gpu::vm::{Settings, Vm, machine};
use crate::lowrank::SavedMut as SavedHere;
use crate::lowrank::{Bias, Desc, DownProjection, Dropout, Gate, Layer, Output, Parameters, Plan};
use crate::mat::{MatMut, MatRef};
use bytemuck::Pod;
use half::{bf16, f16};
use ptx_vm::Checks;

/// A matrix somewhere in a buffer of its own: its first element and its rows' ends lie between guards.
pub(super) struct Placed<T> {
    buffer: <Vm as Gpu>::Buffer,
    name: &'static str,
    cols: usize,
    start: usize,
    ld: usize,
    guard: T,
}

impl<T: Pod> Placed<T> {
    /// Rows of `cols` values, `start` elements into the buffer and `pad` elements apart.
    pub fn new(vm: &Vm, name: &'static str, values: &[T], cols: usize, [start, pad]: [usize; 2], guard: T) -> Self {
        let mut all = vec![guard; start];
        for row in values.chunks(cols) {
            all.extend_from_slice(row);
            all.extend(std::iter::repeat_n(guard, pad));
        }
        let buffer = vm.upload(FORWARD, name, &all).unwrap();
        Self { buffer, name, cols, start, ld: cols + pad, guard }
    }

    pub fn view(&self, vm: &Vm) -> View<'_> {
        View::at(vm.address(&self.buffer) + (self.start * size_of::<T>()) as u64, self.ld)
    }

    pub fn view_mut(&mut self, vm: &Vm) -> ViewMut<'_> {
        let View { address, ld, .. } = self.view(vm);
        ViewMut::at(address, ld)
    }

    /// The bits of the values. Panics where a guard has been written.
    pub fn bits(&self, vm: &Vm, rows: usize) -> Vec<u8> {
        let mut all = vec![self.guard; self.start + rows * self.ld];
        vm.download(FORWARD, &self.buffer, &mut all).unwrap();
        let mut found = Vec::new();
        for (i, value) in all.iter().enumerate() {
            if i < self.start || (i - self.start) % self.ld >= self.cols {
                assert_eq!(bytemuck::bytes_of(value), bytemuck::bytes_of(&self.guard), "guard {i} of {}", self.name);
            } else {
                found.extend_from_slice(bytemuck::bytes_of(value));
            }
        }
        found
    }
}

/// `len` values between −1 and 1.
fn values<T: Elem>(len: usize, seed: usize) -> Vec<T> {
    (0..len).map(|i| T::from_f32(((i * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0)).collect()
}

fn nan<T: Elem>() -> T {
    T::from_f32(f32::NAN)
}

/// What a module leaves for the backward.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Saves {
    Nothing,
    WithoutZ,
    All,
}

/// A module's operands in host memory.
struct Case<T> {
    problem: Problem,
    number: usize,
    skeleton: Vec<u32>,
    y0: Vec<T>,
    h: Vec<T>,
    bias: Vec<T>,
    b: Vec<f32>,
    gate: Vec<f32>,
    scale: f32,
    dropout: Option<Dropout>,
    in_place: bool,
    saves: Saves,
}

impl<T: Elem> Case<T> {
    /// Unlike its neighbours in every operand, in where they lie, and in what it does.
    fn new(desc: Desc, tokens: usize, number: usize) -> Self {
        let Desc { rows, cols, rank, components, split, gate, .. } = desc;
        let (gate_rows, gate_cols) = gate.parameter_shape(rank, components, cols);
        let seed = 7 * number;
        let dropout = Dropout { probability: 0.3, seed: 5 + number as u64, offset: 3 * number as u64 };
        Self {
            problem: Problem { desc, dtype: T::DTYPE, tokens },
            number,
            skeleton: (0..rank * components).map(|c| ((c + number) * 41 % rows) as u32).collect(),
            y0: values(tokens * rows, seed),
            h: values(tokens * cols, seed + 1),
            bias: values(rows, seed + 2),
            b: values(rows / split * rank / split, seed + 3),
            gate: values(gate_rows * gate_cols, seed + 4),
            scale: 0.5 + number as f32 / 8.0,
            dropout: (number % 3 != 1).then_some(dropout),
            in_place: number % 2 == 1,
            saves: [Saves::All, Saves::Nothing, Saves::WithoutZ][number % 3],
        }
    }

    /// (columns of X, of a gate's row).
    fn widths(&self) -> (usize, usize) {
        let Desc { rank, components, cols, gate, .. } = self.problem.desc;
        (rank * components, gate.parameter_shape(rank, components, cols).1)
    }

    /// What [`Plan`] gives: Y, then what is saved.
    fn expected(&self, vm: &Vm) -> Vec<Vec<u8>> {
        let Problem { desc, tokens, .. } = self.problem;
        let Desc { rows, cols, rank, components, split, .. } = desc;
        let (width, gate_cols) = self.widths();
        let (mut y, mut x) = (self.y0.clone(), vec![nan::<T>(); tokens * width]);
        let (mut a, mut z) = (vec![f32::NAN; tokens * components], vec![f32::NAN; tokens * rank]);
        let parameters = Parameters {
            skeleton: &self.skeleton,
            b: MatRef::new(&self.b, rows / split, rank / split).unwrap(),
            gate: MatRef::new(&self.gate, self.gate.len() / gate_cols, gate_cols).unwrap(),
            scale: self.scale,
        };
        let layer = Layer {
            h: Some(MatRef::new(&self.h, tokens, cols).unwrap()),
            w: None,
            bias: (desc.bias != Bias::None).then_some(&self.bias[..]),
            dropout: self.dropout,
        };
        let saved = SavedHere {
            x: MatMut::new(&mut x, tokens, width).unwrap(),
            gate: MatMut::new(&mut a, tokens, components).unwrap(),
            z: Some(MatMut::new(&mut z, tokens, rank).unwrap()),
        };
        let output = Output::InPlace(MatMut::new(&mut y, tokens, rows).unwrap());
        Plan::new(&Device::Vm(vm.clone()), desc).unwrap().forward(&parameters, &layer, output, Some(saved)).unwrap();
        let element = |values: &[T]| -> Vec<u8> { bytemuck::cast_slice(values).to_vec() };
        let float = |values: &[f32]| -> Vec<u8> { bytemuck::cast_slice(values).to_vec() };
        let mut all = vec![element(&y), element(&x), float(&a), float(&z)];
        all.truncate(1 + self.saved_operands());
        all
    }

    fn saved_operands(&self) -> usize {
        [0, 2, 3][self.saves as usize]
    }
}

/// A module's operands on the machine.
struct There<T> {
    tokens: usize,
    scale: f32,
    dropout: Option<Dropout>,
    saves: Saves,
    skeleton: Placed<u32>,
    b: Placed<f32>,
    gate: Placed<f32>,
    h: Placed<T>,
    bias: Placed<T>,
    /// `None` in place.
    y0: Option<Placed<T>>,
    y: Placed<T>,
    x: Placed<T>,
    a: Placed<f32>,
    z: Placed<f32>,
}

impl<T: Elem> There<T> {
    /// Each operand at another distance from a multiple of 16 bytes.
    fn new(vm: &Vm, case: &Case<T>) -> Self {
        let Problem { desc, tokens, .. } = case.problem;
        let Desc { rows, cols, rank, components, split, .. } = desc;
        let (n, (width, gate_cols)) = (case.number, case.widths());
        let element = |name, values: &[T], cols, place| Placed::new(vm, name, values, cols, place, nan::<T>());
        let float = |name, values: &[f32], cols, place| Placed::new(vm, name, values, cols, place, f32::NAN);
        let unwritten = vec![nan::<T>(); tokens * rows.max(width)];
        Self {
            tokens,
            scale: case.scale,
            dropout: case.dropout,
            saves: case.saves,
            skeleton: Placed::new(vm, "skeleton", &case.skeleton, width, [1 + n, 1], u32::MAX),
            b: float("b", &case.b, rank / split, [2 + n, n % 3]),
            gate: float("gate", &case.gate, gate_cols, [1 + n, 2]),
            h: element("h", &case.h, cols, [7 + n, 3]),
            bias: element("bias", &case.bias, rows, [5 + n, 0]),
            y0: (!case.in_place).then(|| element("y0", &case.y0, rows, [3 + n, n % 4])),
            y: if case.in_place {
                element("y", &case.y0, rows, [n % 8, 3])
            } else {
                element("y", &unwritten[..tokens * rows], rows, [1 + n, 5])
            },
            x: element("x", &unwritten[..tokens * width], width, [4 + n, 1]),
            a: float("a", &vec![f32::NAN; tokens * components], components, [6, n % 2]),
            z: float("z", &vec![f32::NAN; tokens * rank], rank, [3, n % 5]),
        }
    }

    fn module(&mut self, vm: &Vm) -> Module<'_> {
        let operands = Operands {
            skeleton: self.skeleton.view(vm),
            b: self.b.view(vm),
            gate: self.gate.view(vm),
            scale: self.scale,
            h: Some(self.h.view(vm)),
            w: None,
            bias: Some(self.bias.view(vm)),
            dropout: self.dropout,
        };
        let y = self.y.view_mut(vm);
        let y0 = self.y0.as_ref().map_or(View::at(y.address, y.ld), |y0| y0.view(vm));
        let saved = (self.saves > Saves::Nothing).then(|| SavedMut {
            x: self.x.view_mut(vm),
            gate: self.a.view_mut(vm),
            z: (self.saves == Saves::All).then(|| self.z.view_mut(vm)),
        });
        Module { operands, y0, y, given: None, saved }
    }

    /// Y, then what is saved, to the bit. What is not saved must be as it was.
    fn results(&self, vm: &Vm) -> Vec<Vec<u8>> {
        let all = [&self.y, &self.x].map(|placed| placed.bits(vm, self.tokens));
        let mut all: Vec<Vec<u8>> =
            all.into_iter().chain([&self.a, &self.z].map(|a| a.bits(vm, self.tokens))).collect();
        let unsaved = all.split_off([1, 3, 4][self.saves as usize]);
        let untouched = |values: &[u8], nan: &[u8]| values.chunks(nan.len()).all(|value| value == nan);
        for values in unsaved.iter().rev().take(2) {
            assert!(untouched(values, bytemuck::bytes_of(&f32::NAN)), "a gate or z that is not saved");
        }
        if self.saves == Saves::Nothing {
            assert!(untouched(&unsaved[0], bytemuck::bytes_of(&nan::<T>())), "an X that is not saved");
        }
        all
    }
}

/// The kernel for many tokens, as it is run by default.
fn launch(vm: &Vm, problem: &Problem, modules: &[Module<'_>]) -> Result<()> {
    let layout = Layout::choose(&problem.desc, problem.dtype.into(), drops(modules), vm.shared_limit() as usize)?;
    super::launch(vm, problem, modules, layout)
}

/// Results of every module, launched together.
fn together<T: Elem>(vm: &Vm, cases: &[Case<T>]) -> Result<Vec<Vec<Vec<u8>>>> {
    let mut there: Vec<There<T>> = cases.iter().map(|case| There::new(vm, case)).collect();
    let modules: Vec<Module<'_>> = there.iter_mut().map(|there| there.module(vm)).collect();
    vm.take_launches();
    let done = launch(vm, &cases[0].problem, &modules);
    drop(modules);
    done?;
    assert_eq!(vm.take_launches().len(), 1, "one launch");
    Ok(there.iter().map(|there| there.results(vm)).collect())
}

fn desc(rows: usize, gate: Gate, bias: Bias) -> Desc {
    Desc { rows, cols: 20, rank: 6, components: 2, split: 2, gate, down: DownProjection::Gather, bias }
}

fn cases<T: Elem>(desc: Desc, tokens: usize, count: usize) -> Vec<Case<T>> {
    (0..count).map(|number| Case::new(desc, tokens, number)).collect()
}

/// What [`launch`] is given and [`forward`] never gives it; more tokens than any other kernel of the forward takes.
#[test]
fn operands_start_anywhere_in_their_buffers() {
    let Some(vm) = machine(Settings::default()) else { return };
    for case in cases::<bf16>(desc(70, Gate::LinearSoftmax, Bias::Included), 70, 4) {
        let found = together(&vm, std::slice::from_ref(&case)).unwrap().remove(0);
        assert!(found == case.expected(&vm), "module {}", case.number);
    }
}

#[test]
fn an_operand_that_is_read_must_be_there() {
    let Some(vm) = machine(Settings::default()) else { return };
    for (bias, missing) in [(Bias::None, "h"), (Bias::Separate, "bias")] {
        let case = Case::<f32>::new(desc(70, Gate::Linear, bias), 3, 0);
        let mut there = There::new(&vm, &case);
        let mut module = there.module(&vm);
        *(if missing == "h" { &mut module.operands.h } else { &mut module.operands.bias }) = None;
        let error = launch(&vm, &case.problem, &[module]).unwrap_err().to_string();
        assert_eq!(error, format!("lowrank forward: operand `{missing}` is missing; the problem reads it"));
    }
}

fn a_group_is_its_modules<T: Elem>(desc: Desc, tokens: usize, counts: &[usize]) {
    let Some(vm) = machine(Settings::default()) else { return };
    let alone: Vec<_> = cases::<T>(desc, tokens, tile::MODULES)
        .into_iter()
        .map(|case| together(&vm, &[case]).unwrap().remove(0))
        .collect();
    for &count in counts {
        // The last ones, so that a group's first module is not always the same.
        let first = tile::MODULES - count;
        let found = together(&vm, &cases::<T>(desc, tokens, tile::MODULES)[first..]).unwrap();
        for (i, found) in found.iter().enumerate() {
            assert!(*found == alone[first + i], "{:?} {desc:?}: module {i} of {count}", T::DTYPE);
        }
    }
}

/// In one launch, to the bit: other operands, scales and seeds, with dropout and without, in place and not, saving and not.
#[test]
fn a_group_gives_what_each_module_gives_alone() {
    a_group_is_its_modules::<bf16>(desc(70, Gate::LinearSoftmax, Bias::Included), 19, &[1, 3, 8]);
    a_group_is_its_modules::<f16>(desc(66, Gate::Inner, Bias::Separate), 33, &[3, 8]);
    a_group_is_its_modules::<f32>(desc(64, Gate::RmsInner, Bias::None), 1, &[3, 8]);
    // Whose Y0 does not stay in shared memory.
    a_group_is_its_modules::<f32>(Desc { split: 1, ..desc(3808, Gate::Static, Bias::Included) }, 17, &[3]);
}

#[test]
fn nine_modules_are_refused() {
    let Some(vm) = machine(Settings::default()) else { return };
    let nine = cases::<bf16>(desc(70, Gate::Inner, Bias::None), 2, 9);
    let refused = together(&vm, &nine).map(drop);
    let Err(Error::Unsupported { op: FORWARD, reason }) = refused else { panic!("{refused:?}") };
    assert_eq!(reason, "9 modules; one launch takes at most 8");
    assert!(vm.take_launches().is_empty());
}

/// Whatever the order of lanes, warps and blocks: no block touches another's, of its module or of another.
#[test]
fn no_schedule_changes_a_group() {
    let Some(vm) = machine(Settings::default()) else { return };
    let group = || cases::<bf16>(desc(70, Gate::LinearSoftmax, Bias::Included), 19, tile::MODULES);
    let expected = together(&vm, &group()).unwrap();
    for (seed, resident) in [(1, 1), (2, 5), (3, 16)] {
        let checks = Checks { global_races: true, ..Checks::ALL };
        let Some(vm) = machine(Settings { checks, seed: Some(seed), resident }) else { return };
        assert!(together(&vm, &group()).unwrap() == expected, "seed {seed}, {resident} resident");
    }
}

/// X of a first forward, given to a second one whose skeleton would gather something else: the same Y, wherever X lies and
/// whether or not that is where it is saved.
fn x_given<T: Elem>(gate: Gate, bias: Bias) {
    let Some(vm) = machine(Settings::default()) else { return };
    let gathering = desc(70, gate, bias);
    let mut case = Case::<T>::new(gathering, 19, 3); // in place, saves everything
    let expected = together(&vm, std::slice::from_ref(&case)).unwrap().remove(0);
    let x: Vec<T> = expected[1].chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect();
    case.skeleton.iter_mut().for_each(|column| *column = (*column + 5) % 70);
    assert!(together(&vm, std::slice::from_ref(&case)).unwrap()[0][0] != expected[0], "skeletons that tell");

    case.problem.desc.down = DownProjection::Gemm;
    let width = case.skeleton.len();
    for where_saved in [false, true] {
        let mut there = There::new(&vm, &case);
        let given = Placed::new(&vm, "given", &x, width, [9, 2], nan::<T>());
        if where_saved {
            there.x = Placed::new(&vm, "x", &x, width, [9, 2], nan::<T>());
        }
        let mut module = there.module(&vm);
        let at_saved = module.saved.as_ref().map(|saved| View::at(saved.x.address, saved.x.ld));
        module.given = if where_saved { at_saved } else { Some(given.view(&vm)) };
        launch(&vm, &case.problem, &[module]).unwrap();
        assert!(there.results(&vm) == expected, "{:?} {gate:?} {bias:?} where saved: {where_saved}", T::DTYPE);
        assert!(given.bits(&vm, 19) == expected[1], "X is only read");
    }
}

#[test]
fn x_is_read_where_it_is_given() {
    x_given::<bf16>(Gate::Inner, Bias::None);
    x_given::<f16>(Gate::LinearSoftmax, Bias::Included);
    x_given::<f32>(Gate::Static, Bias::Separate);
}
