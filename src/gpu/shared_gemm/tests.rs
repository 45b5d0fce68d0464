//! What [`launch`] is given and [`run`] never gives it, and what a tuner is told.

use super::tuned::PRODUCT;
use super::*;
use crate::device::Device;
use crate::gpu::model::{Card, Work};
use crate::gpu::tunable::Tunable;
use crate::gpu::variants::shared_gemm::TILES;
use crate::gpu::vm::{Settings, Vm, machine};
use crate::lowrank::Parameters;
use crate::mat::{MatMut, MatRef};
use crate::shared_gemm::{Operands, Plan};
use half::bf16;

const TOKENS: usize = 140;
const DESC: Desc =
    Desc { rows: 150, cols: 21, rank: 66, components: 2, split: 2, gate: Gate::LinearSoftmax, bias: true };

/// `len` values between −1 and 1, after `start` that are NaN.
fn values(start: usize, len: usize, seed: usize) -> Vec<f32> {
    let value = |i: usize| ((i * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0;
    std::iter::repeat_n(f32::NAN, start).chain((0..len).map(value)).collect()
}

fn narrow(values: &[f32]) -> Vec<bf16> {
    values.iter().map(|&x| bf16::from_f32(x)).collect()
}

/// Y by way of [`Plan`].
fn expected(vm: &Vm, skeleton: &[u32], sizes: [usize; 5]) -> Vec<bf16> {
    let Desc { rows, cols, rank, components, split, .. } = DESC;
    let [h, w, bias, b, gate] = std::array::from_fn(|i| values(0, sizes[i], i));
    let [h, w, bias] = [h, w, bias].map(|values| narrow(&values));
    let adapter = Parameters {
        skeleton,
        b: MatRef::new(&b, rows / split, rank / split).unwrap(),
        gate: MatRef::new(&gate, components, cols).unwrap(),
        scale: 0.5,
    };
    let operands = Operands {
        h: MatRef::new(&h, TOKENS, cols).unwrap(),
        w: MatRef::new(&w, rows, cols).unwrap(),
        bias: Some(&bias),
        adapter: Some(adapter),
        dropout: None,
    };
    let mut y = vec![bf16::ZERO; TOKENS * rows];
    let plan = Plan::new(&Device::Vm(vm.clone()), DESC).unwrap();
    plan.run(&operands, MatMut::new(&mut y, TOKENS, rows).unwrap(), None).unwrap();
    y
}

/// Operands somewhere in their buffers, and a scratch that is used again by every tile, of which every launch leaves the head as
/// zeros; the rest of it may hold anything.
#[test]
fn operands_start_anywhere_and_the_scratch_is_used_again() {
    let Some(vm) = machine(Settings::default()) else { return };
    let Desc { rows, cols, rank, components, split, .. } = DESC;
    let skeleton: Vec<u32> = (0..132).map(|i| (i * 41 % 150) as u32).collect();
    let sizes = [TOKENS * cols, rows * cols, rows, rows / split * rank / split, components * cols];
    let y = expected(&vm, &skeleton, sizes);

    let there = |name, start: usize, i: usize| vm.upload(OP, name, &narrow(&values(start, sizes[i], i))).unwrap();
    let [h, w, bias] = [("h", 3, 0), ("w", 7, 1), ("bias", 5, 2)].map(|(name, start, i)| there(name, start, i));
    let b = vm.upload(OP, "b", &values(2, sizes[3], 3)).unwrap();
    let gate = vm.upload(OP, "gate", &values(9, sizes[4], 4)).unwrap();
    let chosen = vm.upload(OP, "skeleton", &[&[u32::MAX][..], &skeleton].concat()).unwrap();
    let at = |buffer, start: usize, bytes: usize, ld| View::at(vm.address(buffer) + (start * bytes) as u64, ld);
    let problem = Problem { desc: DESC, dtype: Dtype::BF16, tokens: TOKENS };
    let bytes = scratch_bytes(&problem);
    let mut scratch = vm.zeroed::<u8>(OP, "workspace", bytes).unwrap();
    for turn in 0..=TILES.len() {
        let way = Way { index: turn % TILES.len(), raster: 1 + turn as u32 };
        let y_there = vm.upload(OP, "y", &narrow(&values(1, y.len(), 9))).unwrap();
        let mut layer = Layer {
            h: at(&h, 3, 2, cols),
            w: at(&w, 7, 2, cols),
            bias: Some(at(&bias, 5, 2, 0)),
            y: ViewMut::at(vm.address(&y_there) + 2, rows),
        };
        let mut adapter = Adapter {
            skeleton: at(&chosen, 1, 4, 0),
            b: at(&b, 2, 4, rank / split),
            gate: at(&gate, 9, 4, cols),
            scale: 0.5,
            dropout: None,
            saved: None,
        };
        let scratch_view = Scratch::at(vm.address(&scratch), bytes);
        launch(&vm, &problem, way, &mut layer, Some(&mut adapter), &scratch_view).unwrap();
        let mut found = vec![bf16::ZERO; 1 + y.len()];
        vm.download(OP, &y_there, &mut found).unwrap();
        assert!(found[0].is_nan() && found[1..] == y, "turn {turn}");
        let mut head = vec![1u8; bytes];
        vm.download(OP, &scratch, &mut head).unwrap();
        assert!(head[..HEAD].iter().all(|&x| x == 0), "turn {turn}");
        head[HEAD..].fill(0xa5);
        vm.write(OP, &mut scratch, &head).unwrap();

        let short = Scratch::at(scratch_view.address, bytes - 1);
        let error = launch(&vm, &problem, way, &mut layer, Some(&mut adapter), &short).unwrap_err().to_string();
        assert!(error.starts_with("shared gemm: `workspace` has"), "{error}");
        let error = launch(&vm, &problem, way, &mut layer, None, &scratch_view).unwrap_err().to_string();
        assert_eq!(error, "shared gemm: operand `adapter` is missing; the problem reads it");
    }
}

/// What a run of a way is estimated to do, against what the virtual machine counts.
fn estimated_and_counted(vm: &Vm, problem: Problem, way: Way) -> (Work, Work) {
    let (tuned, config) = (Tuned(problem), way.config());
    let estimated = tuned.work(&Card::h100(), &config).unwrap()[0];
    let mut prepared = tuned.prepare(vm).unwrap();
    vm.take_launches();
    tuned.run(vm, &mut prepared, &config).unwrap();
    let launches = vm.take_launches();
    assert_eq!(launches.len(), 1);
    let counters = &launches[0].counters;
    let sectors: u64 = counters.allocations().iter().map(|(_, t)| t.read.sectors + t.written.sectors).sum();
    let counted = Work {
        cache: 32.0 * sectors as f64,
        tensor: PRODUCT * counters.tensor_products() as f64,
        instructions: counters.warp_instructions() as f64,
        wavefronts: counters.shared().wavefronts as f64,
        ..estimated
    };
    (estimated, counted)
}

/// Tensor operations to the last one, and what else the cost model goes by, within a few in a hundred.
#[test]
fn what_is_estimated_is_counted() {
    let Some(vm) = machine(Settings::default()) else { return };
    let mut beyond = Vec::new();
    for (index, tile) in TILES.iter().enumerate() {
        let way = Way { index, ..Way::default() };
        for (components, cols) in [(0, 512), (0, 1024), (4, 1024)] {
            let desc = Desc { rows: 256, cols, rank: 32, components, split: 2, gate: Gate::Inner, bias: true };
            let problem = Problem { desc, dtype: Dtype::BF16, tokens: 128 };
            let (estimated, counted) = estimated_and_counted(&vm, problem, way);
            println!("{}x{} k {components} n {cols}: {estimated:?}\n{counted:?}", tile.tokens, tile.columns);
            assert_eq!(estimated.tensor, counted.tensor);
            // Blocks that wait for z poll: up to a quarter of the bytes of so small a problem.
            let polls: f64 = if components > 0 { 0.3 } else { 0.01 };
            for (name, estimated, counted, within) in [
                ("cache", estimated.cache, counted.cache, polls),
                ("instructions", estimated.instructions, counted.instructions, polls.max(0.05) / 2.0),
                ("wavefronts", estimated.wavefronts, counted.wavefronts, 0.05),
            ] {
                let ratio = estimated / counted;
                if (ratio - 1.0).abs() > within {
                    beyond.push(format!("{} k {components} n {cols} {name}: {ratio}", way.config()));
                }
            }
        }
    }
    assert!(beyond.is_empty(), "{beyond:#?}");
}

/// Odd sizes: parts that end within eight columns, ragged tokens and columns.
#[test]
fn ragged_tensor_operations_are_estimated_exactly() {
    let Some(vm) = machine(Settings::default()) else { return };
    for (index, tile) in TILES.iter().enumerate() {
        for (tokens, rows, cols, rank, components, split) in
            [(70, 333, 70, 66, 2, 3), (9, 40, 17, 4, 8, 4), (150, 270, 8, 5, 0, 1)]
        {
            let desc = Desc { rows, cols, rank, components, split, gate: Gate::Static, bias: false };
            let problem = Problem { desc, dtype: Dtype::F16, tokens };
            let (estimated, counted) = estimated_and_counted(&vm, problem, Way { index, ..Way::default() });
            assert_eq!(estimated.tensor, counted.tensor, "{desc:?} {tile:?}");
        }
    }
}

/// The default is the first; all differ; rasters that a number of tokens does not tell apart are not offered, nor is a tile that
/// a multiprocessor does not hold.
#[test]
fn candidates_are_legal_and_differ() {
    if machine(Settings::default()).is_none() {
        return;
    }
    let problem = |tokens| Problem { desc: Desc::frozen(4096, 4096, false), dtype: Dtype::BF16, tokens };
    let of = |tokens, card: &Card| Tuned(problem(tokens)).candidates(card);
    for (tokens, count) in [(1, 4), (512, 4 + 4 + 4 + 4), (8192, 16)] {
        let found = of(tokens, &Card::h100());
        assert_eq!(found[0], Way::default().config());
        let distinct: std::collections::HashSet<_> = found.iter().collect();
        assert_eq!(distinct.len(), found.len());
        assert!(found.len() <= count, "{tokens} tokens: {found:?}");
        assert!(found.iter().all(|config| Way::known(config).is_ok()));
        let tiles: std::collections::HashSet<usize> = found.iter().filter_map(Way::of).map(|way| way.index).collect();
        assert_eq!(tiles.len(), TILES.len(), "{tokens} tokens");
    }
    assert_eq!(of(1, &Card::h100()).len(), 4, "one block of tokens has one raster");
    let mut small = Card::h100();
    small.multiprocessor.shared = 100 << 10;
    small.multiprocessor.block_shared = 99 << 10;
    assert_eq!(of(1, &small).len(), 3, "128 x 256 needs 144 KB");
}

/// The key says what decides; alignment is that of packed rows.
#[test]
fn shapes_are_said_in_a_fixed_order() {
    let desc = Desc { rows: 40, cols: 12, rank: 3, components: 2, split: 1, gate: Gate::RmsInner, bias: true };
    let shape = |desc| Tuned(Problem { desc, dtype: Dtype::F16, tokens: 8 }).shape();
    assert_eq!(shape(desc), "m=40 n=12 k=2 r=3 s=1 gate=rms-inner bias=true align=4");
    assert_eq!(shape(Desc::frozen(64, 64, false)), "m=64 n=64 k=0 r=0 s=1 gate=static bias=false align=16");
}
