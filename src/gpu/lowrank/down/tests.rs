//! Every tile on any shape, which the host would choose for large ones only, and groups.

use super::*;
use crate::elem::Elem;
use crate::gpu::vm::{Settings, Vm, machine};
use crate::lowrank::{Bias, Desc, DownProjection, Gate};
use crate::random::{Stream, Use};
use half::{bf16, f16};
use ptx_vm::Accumulation;

const ROWS: usize = 300;
const MODULES_HERE: usize = 3;

/// Tensor cores that round once, and those that round at every step.
fn machines() -> Vec<Vm> {
    machine(Settings::default()).map_or_else(Vec::new, |vm| vec![vm.clone(), vm.accumulating(Accumulation::Sequential)])
}

fn problem<T: Elem>(tokens: usize, cols: usize, width: usize) -> Problem {
    let (gate, down, bias) = (Gate::Static, DownProjection::Gemm, Bias::None);
    let desc = Desc { rows: ROWS, cols, rank: width, components: 1, split: 1, gate, down, bias };
    Problem { desc, dtype: T::DTYPE, tokens }
}

/// A module's operands in host memory: each starts somewhere in its buffer, and is NaN where nobody should look.
struct Host<T> {
    h: Vec<T>,
    w: Vec<T>,
    skeleton: Vec<u32>,
    /// Of H, W and X: elements before the first, and between rows.
    starts: [usize; 3],
    pads: [usize; 3],
}

impl<T: Elem> Host<T> {
    fn new(problem: &Problem, starts: [usize; 3], pads: [usize; 3], seed: u64) -> Self {
        let (n, width) = (problem.desc.cols, problem.desc.rank);
        let mut draw = Stream::new(seed, Use::Gate);
        let mut all: Vec<u32> = (0..ROWS as u32).collect();
        (0..ROWS).for_each(|i| all.swap(i, i + draw.below((ROWS - i) as u64) as usize));
        let skeleton = all[..width].to_vec();
        let mut rows = |count: usize, start: usize, pad: usize, read: &dyn Fn(usize) -> bool| {
            let mut value = |at: usize| {
                let there = at >= start && (at - start) % (n + pad) < n && read((at - start) / (n + pad));
                T::from_f32(if there { draw.normal() as f32 } else { f32::NAN })
            };
            (0..start + count * (n + pad)).map(&mut value).collect::<Vec<T>>()
        };
        let h = rows(problem.tokens, starts[0], pads[0], &|_| true);
        let w = rows(ROWS, starts[1], pads[1], &|row| skeleton.contains(&(row as u32)));
        Self { h, w, skeleton, starts, pads }
    }

    fn exact(&self, data: &[T], operand: usize, row: usize, n: usize) -> Vec<f64> {
        let first = self.starts[operand] + row * (n + self.pads[operand]);
        data[first..first + n].iter().map(|x| f64::from(x.to_f32())).collect()
    }
}

/// X of every module, as bits, from one launch; what surrounds it must be as it was.
fn run<T: Elem>(vm: &Vm, problem: &Problem, modules: &[&Host<T>], tile: &'static Tile) -> Vec<Vec<u32>> {
    let (n, width) = (problem.desc.cols, problem.desc.rank);
    let size = size_of::<T>();
    let mut there = Vec::new();
    for host in modules {
        let nan = vec![T::from_f32(f32::NAN); host.starts[2] + problem.tokens * (width + host.pads[2])];
        let upload = |name, data: &[T]| vm.upload(FORWARD, name, data).unwrap();
        let skeleton = vm.upload(FORWARD, "skeleton", &host.skeleton).unwrap();
        there.push((upload("h", &host.h), upload("w", &host.w), skeleton, upload("x", &nan), nan));
    }
    let at = |buffer, start: usize| vm.address(buffer) + (start * size) as u64;
    let products: Vec<Module<'_>> = modules
        .iter()
        .zip(&there)
        .map(|(host, (h, w, skeleton, x, _))| Module {
            h: View::at(at(h, host.starts[0]), n + host.pads[0]),
            w: View::at(at(w, host.starts[1]), n + host.pads[1]),
            skeleton: View::whole(vm, skeleton, 0),
            x: ViewMut::at(at(x, host.starts[2]), width + host.pads[2]),
        })
        .collect();
    vm.take_launches();
    launch_tile(vm, problem, &products, tile).unwrap();
    assert_eq!(vm.take_launches().len(), 1);
    let mut found = Vec::new();
    for (host, (.., x, nan)) in modules.iter().zip(&mut there) {
        vm.download(FORWARD, x, nan).unwrap();
        let (mut inside, ld) = (Vec::new(), width + host.pads[2]);
        for (i, x) in nan.iter().enumerate() {
            if i >= host.starts[2] && (i - host.starts[2]) % ld < width {
                inside.push(x.to_f32().to_bits());
            } else {
                assert!(x.to_f32().is_nan(), "beside X at {i}");
            }
        }
        found.push(inside);
    }
    found
}

/// Error of a product before it is rounded, relative to `Σ|h||w|`: Numerics of the kernel's header.
fn epsilon(cols: usize, float: bool) -> f64 {
    let stage = if float { 32 } else { 64 };
    let columns = cols.min(stage);
    let (additions, stages) = ((columns + columns.div_ceil(16)) as f64, cols.div_ceil(stage) as f64);
    let units = if float { additions * (1.0 + 13.0 / 256.0) * 2.0 + 3.02 + stages } else { additions * 2.0 + stages };
    units * 0.5f64.powi(24)
}

/// Within the bound of the definition, for one module.
fn check<T: Elem>(problem: &Problem, host: &Host<T>, found: &[u32]) {
    let (n, width) = (problem.desc.cols, problem.desc.rank);
    let float = size_of::<T>() == 4;
    for t in 0..problem.tokens {
        let h = host.exact(&host.h, 0, t, n);
        for (c, &row) in host.skeleton.iter().enumerate() {
            let w = host.exact(&host.w, 1, row as usize, n);
            let (mut value, mut size) = (0.0, 0.0f64);
            h.iter().zip(&w).for_each(|(h, w)| (value, size) = (value + h * w, size + (h * w).abs()));
            let error = 1.01 * epsilon(n, float) * size;
            // f32 is not rounded again; of f16, half of the smallest subnormal.
            let rounding = if float { 0.0 } else { T::DTYPE.unit_roundoff() * (value.abs() + error) + 0.5f64.powi(25) };
            let x = f64::from(f32::from_bits(found[t * width + c]));
            let what = format!("{:?} {:?} [{t}, {c}]", T::DTYPE, (problem.tokens, n, width));
            assert!((x - value).abs() <= error + rounding, "{what}: {x:e}, expected {value:e} ± {error:e}");
        }
    }
}

/// Tokens, n, k·r: around the edges of every tile, of stages and rounds.
const SHAPES: [[usize; 3]; 5] = [[1, 513, 65], [63, 31, 64], [65, 65, 17], [128, 300, 63], [129, 1, 130]];

fn tiles_agree<T: Elem>(vm: &Vm) {
    let places = [([0; 3], [0; 3]), ([1, 3, 5], [0, 1, 3]), ([8, 16, 0], [2, 0, 1])];
    for (i, [tokens, n, width]) in SHAPES.into_iter().enumerate() {
        let problem = problem::<T>(tokens, n, width);
        let hosts: Vec<Host<T>> = (0..MODULES_HERE)
            .map(|m| {
                let (starts, mut pads) = places[(i + m) % 3];
                if starts == [0; 3] {
                    pads = [n, n, width].map(|len| (8 - len % 8) % 8); // all rows at multiples of 16 bytes
                }
                Host::new(&problem, starts, pads, (i * MODULES_HERE + m) as u64)
            })
            .collect();
        let group: Vec<&Host<T>> = hosts.iter().collect();
        let expected = run(vm, &problem, &group, &TILES[0]);
        for (host, found) in hosts.iter().zip(&expected) {
            check(&problem, host, found);
        }
        for tile in TILES {
            assert!(run(vm, &problem, &group, tile) == expected, "{} of {problem:?}", tile.entry.name);
        }
        let alone: Vec<Vec<u32>> = group.iter().flat_map(|&host| run(vm, &problem, &[host], &TILES[i % 3])).collect();
        assert!(alone == expected, "{problem:?}: a module alone");
    }
}

#[test]
fn every_tile_and_every_group_has_the_same_bits_within_the_bound() {
    for vm in machines() {
        tiles_agree::<f16>(&vm);
        tiles_agree::<bf16>(&vm);
        tiles_agree::<f32>(&vm);
    }
}

#[test]
fn the_tile_keeps_the_busiest_multiprocessor_short() {
    let chosen = |tokens, width, modules| choose(&problem::<bf16>(tokens, 64, width), modules).tokens;
    assert_eq!([chosen(1, 128, 1), chosen(256, 128, 1), chosen(1, 512, 8)], [16; 3]);
    assert_eq!([chosen(256, 512, 1), chosen(2048, 128, 1), chosen(512, 128, 8)], [64; 3]);
    assert_eq!([chosen(2048, 512, 1), chosen(8192, 512, 8)], [128; 2]);
}

#[test]
fn what_no_launch_takes_is_refused() {
    for vm in machines() {
        let problem = problem::<f32>(1, 4, 2);
        let module = || Module { h: View::at(0, 4), w: View::at(0, 4), skeleton: View::at(0, 0), x: ViewMut::at(0, 2) };
        let nine: Vec<Module<'_>> = (0..9).map(|_| module()).collect();
        let error = launch(&vm, &problem, &nine, &Chosen::default()).unwrap_err().to_string();
        assert!(error.contains("9 modules; one launch takes at most 8"), "{error}");
        let wide = Problem { desc: Desc { rank: 1 << 32, ..problem.desc }, ..problem };
        let error = launch(&vm, &wide, &[module()], &Chosen::default()).unwrap_err().to_string();
        assert!(error.contains("4294967296 columns of the down-projection"), "{error}");
        let many = Problem { tokens: usize::MAX, ..problem };
        let error = launch(&vm, &many, &[module()], &Chosen::default()).unwrap_err().to_string();
        assert!(error.contains("blocks are more than one launch can have"), "{error}");
        vm.take_launches();
        launch(&vm, &Problem { tokens: 0, ..problem }, &[module()], &Chosen::default()).unwrap();
        assert!(vm.take_launches().is_empty());
    }
}
