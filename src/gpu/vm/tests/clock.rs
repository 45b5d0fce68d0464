//! The model as the machine's clock, and what it says of the kernels.

use super::*;
use crate::device::Device;
use crate::elem::bf16;
use crate::gpu::model::{Bound, Work};
use crate::mat::{MatMut, MatRef};
use crate::norms::{Axis, Desc, Plan};
use crate::shared_gemm;

/// Norms of a matrix of ones.
fn measure(vm: &Vm, rows: usize, cols: usize, axis: Axis) -> Result<()> {
    let w = vec![1.0f32; rows * cols];
    let mut out = vec![0.0; if axis == Axis::Rows { rows } else { cols }];
    Plan::new(&Device::Vm(vm.clone()), Desc { rows, cols, axis })?.run(MatRef::new(&w, rows, cols)?, &mut out)
}

/// A plain layer of ones.
fn multiply(vm: &Vm, tokens: usize, rows: usize, cols: usize) -> Result<()> {
    let ones = vec![bf16::from_f32(1.0); tokens.max(rows) * cols];
    let (h, w) = (MatRef::new(&ones[..tokens * cols], tokens, cols)?, MatRef::new(&ones[..rows * cols], rows, cols)?);
    let operands = shared_gemm::Operands { h, w, bias: None, adapter: None, dropout: None };
    let plan = shared_gemm::Plan::new(&Device::Vm(vm.clone()), shared_gemm::Desc::frozen(rows, cols, false))?;
    let mut y = vec![bf16::ZERO; tokens * rows];
    plan.run(&operands, MatMut::new(&mut y, tokens, rows)?, None)
}

/// The only launch since the last that was taken.
fn only(vm: &Vm) -> Launched {
    let launches = vm.take_launches();
    assert_eq!(launches.len(), 1);
    launches[0].clone()
}

/// As many blocks again, each of which does the same.
fn times(work: Work, more: u64) -> Work {
    let by = |amount: f64| amount * more as f64;
    Work {
        blocks: work.blocks * more,
        memory: by(work.memory),
        cache: by(work.cache),
        tensor: by(work.tensor),
        instructions: by(work.instructions),
        wavefronts: by(work.wavefronts),
        ..work
    }
}

/// A machine whose grids are those of its card.
fn filled(card: Card) -> Vm {
    Vm::new(Settings { checks: Checks::NONE, resident: 0, ..Settings::default() }).on_card(card)
}

#[test]
fn the_clock_counts_every_launch_and_no_other() {
    let Some(vm) = machine(Settings::default()) else { return };
    measure(&vm, 3, 5, Axis::Rows).unwrap();
    let one = only(&vm).modelled(&Card::h100()).unwrap().seconds;
    assert!(one > 3e-6);
    // More launches than the machine remembers; on another handle of it too.
    let other = vm.clone();
    let run = &mut || (0..70).try_for_each(|i| measure(if i % 2 == 0 { &vm } else { &other }, 3, 5, Axis::Rows));
    let seconds = vm.seconds(run).unwrap();
    assert_eq!(seconds, (0..70).map(|_| one).sum::<f64>());
    assert_eq!(vm.seconds(run).unwrap(), seconds, "the same again");
    assert_eq!(vm.seconds(&mut || Ok(())).unwrap(), 0.0);
    // A launch, and two in another run that is timed.
    vm.take_launches();
    let mut inner = 0.0;
    let outer = vm.seconds(&mut || {
        measure(&vm, 3, 5, Axis::Rows)?;
        inner = vm.seconds(&mut || measure(&vm, 40, 24, Axis::Cols))?;
        Ok(())
    });
    let each: Vec<f64> = vm.take_launches().iter().map(|l| l.modelled(&Card::h100()).unwrap().seconds).collect();
    assert_eq!((each.len(), inner, outer.unwrap()), (3, each[1] + each[2], each[0] + each[1] + each[2]));
    // Nothing is kept for nobody.
    measure(&vm, 3, 5, Axis::Rows).unwrap();
    assert!(vm.state().clock.is_empty() && vm.state().asking == 0);
    let error = vm.seconds(&mut || Err(Error::unsupported("test", "not today"))).unwrap_err();
    assert_eq!(error.to_string(), "test: not today");
    assert!(vm.state().clock.is_empty() && vm.state().asking == 0);
    assert!(!vm.capturing().unwrap());
}

#[test]
fn the_clock_is_of_the_machine_s_card() {
    let Some(vm) = machine(Settings::default()) else { return };
    let on_a100 = vm.clone().on_card(Card::a100());
    assert_eq!((vm.card().unwrap(), on_a100.card().unwrap()), (Card::h100(), Card::a100()));
    assert_eq!((vm.shared_limit(), on_a100.shared_limit()), (227 << 10, 163 << 10));
    assert_ne!(vm, on_a100);
    assert_eq!(on_a100, vm.clone().on_card(Card::a100()));
    assert_ne!(vm.identity().unwrap(), on_a100.identity().unwrap());
    assert_eq!(on_a100.identity().unwrap().multiprocessors, 108);

    measure(&vm, 400, 300, Axis::Rows).unwrap();
    let launched = only(&vm);
    assert_eq!((launched.kernel, launched.blocks, launched.shared), ("norm_rows", 50, 0));
    for (vm, card) in [(&vm, Card::h100()), (&on_a100, Card::a100())] {
        let expected = launched.modelled(&card).unwrap().seconds;
        assert_eq!(vm.seconds(&mut || measure(vm, 400, 300, Axis::Rows)).unwrap(), expected);
    }
    // A figure that is none is refused before anything runs.
    let mut broken = Card::h100();
    broken.memory = f64::NAN;
    let broken = vm.clone().on_card(broken);
    assert_eq!(broken, broken.clone());
    let message = broken.seconds(&mut || panic!("not run")).unwrap_err().to_string();
    assert_eq!(message, "model: `memory` is NaN, expected a positive number");
}

/// 200 KB of shared memory: a block of it fits an H100's multiprocessor, none an A100's.
#[test]
fn a_launch_that_the_card_refuses_has_no_time() {
    let Some(vm) = machine(Settings::default()) else { return };
    let on_a100 = vm.clone().on_card(Card::a100());
    let kernel = Kernel::of("norms", Family::Norms, Some(Dtype::F32), &norms::ROWS).unwrap();
    let scalars: Vec<u8> = [2u64, 3, 3].iter().flat_map(|x| x.to_le_bytes()).collect();
    let w = vm.upload("norms", "w", &[1.0f32; 6]).unwrap();
    let mut out = vm.allocate::<f32>("norms", "norms", 2).unwrap();
    let mut offender = vm.upload("norms", "offender", &[u64::MAX]).unwrap();
    let grid = Grid { blocks: 1, shared: 200 << 10 };
    let mut launch =
        |vm: &Vm| vm.seconds(&mut || vm.launch(&kernel, grid, &[&w], &mut [&mut out, &mut offender], &scalars));
    assert!(launch(&vm).unwrap() > 3e-6);
    let message = launch(&on_a100).unwrap_err().to_string();
    assert!(message.starts_with("device `vm`: model: a block of `norm_rows`, 256 threads"), "{message}");
    let reason = "204800 bytes of shared memory, does not fit a multiprocessor of A100 SXM 80 GB";
    assert!(message.ends_with(reason), "{message}");
}

/// With 0 blocks alive, as many as the card holds: with 100 KB two on each multiprocessor of an H100, one of an A100's.
#[test]
fn a_machine_can_hold_as_many_blocks_as_its_card() {
    let Some(_) = machine(Settings::default()) else { return };
    let kernel = Kernel::of("norms", Family::Norms, Some(Dtype::F32), &norms::ROWS).unwrap();
    let need = Need::of(&kernel, 100 << 10).unwrap();
    assert_eq!((need.threads, need.shared), (256, 100 << 10));
    assert!((16..=255).contains(&need.registers));
    for (card, blocks) in [(Card::h100(), 2 * 132), (Card::a100(), 108)] {
        assert_eq!(filled(card.clone()).resident(&kernel, 100 << 10).unwrap(), blocks);
        assert_eq!(Vm::default().on_card(card).resident(&kernel, 100 << 10).unwrap(), 4);
    }
    // A kernel whose blocks fetch their tiles is launched as on the card, and not in four blocks.
    let vm = filled(Card::h100());
    multiply(&vm, 600, 600, 64).unwrap();
    assert!(only(&vm).blocks > 4);
}

/// A large matrix is streamed, a small one costs its launch.
#[test]
fn norms_are_bound_by_memory() {
    let Some(_) = machine(Settings::default()) else { return };
    let vm = filled(Card::h100());
    for axis in [Axis::Rows, Axis::Cols] {
        measure(&vm, 256, 1024, axis).unwrap();
        let launched = vm.take_launches().swap_remove(0);
        for card in Card::all() {
            let work = launched.work(&card).unwrap();
            let least = f64::from(256 * 1024 * 4);
            assert!((1.0..1.1).contains(&(work.memory / least)), "{axis:?} {work:?}");
            // 512 times as many rows: half a gigabyte.
            let large = card.time(&times(work, 512));
            assert_eq!(large.bound, Bound::Memory, "{axis:?} {} {large:?}", card.name);
            let floor = 512.0 * least / card.memory;
            assert!((1.0..1.25).contains(&(large.seconds / floor)), "{axis:?} {} {floor} {large:?}", card.name);
        }
        measure(&vm, 8, 64, axis).unwrap();
        let small = vm.take_launches().swap_remove(0);
        assert!(Card::all().iter().all(|card| small.modelled(card).unwrap().bound == Bound::Launch), "{axis:?}");
    }
}

/// An A100 is kept busy with products. On an H100 a warp's fragments come from shared memory no faster, nor the tiles from the
/// second cache, while its tensor cores have twice the rate: one of those is the bound.
#[test]
fn a_layer_is_bound_by_its_products_or_by_what_feeds_them() {
    let Some(_) = machine(Settings::default()) else { return };
    for card in Card::all() {
        let vm = filled(card.clone());
        multiply(&vm, 256, 256, 1024).unwrap();
        let launched = only(&vm);
        let work = launched.work(&card).unwrap();
        assert_eq!(work.tensor, f64::from(2 * 256 * 256 * 1024));
        // H and W once each from device memory, from the second cache for every tile.
        let least = f64::from(2 * (2 * 256 * 1024 + 256 * 256));
        assert!((1.0..1.02).contains(&(work.memory / least)), "{work:?}");
        assert!(work.cache > 1.4 * work.memory, "{work:?}");
        // 4096 × 4096 × 1024: every operand once from memory, as many tiles again.
        let large = Work { memory: 16.0 * work.memory, ..times(work, 256) };
        let modelled = card.time(&large);
        match card.name.starts_with('A') {
            true => assert_eq!(modelled.bound, Bound::Tensor, "{modelled:?}"),
            false => assert!(matches!(modelled.bound, Bound::Tensor | Bound::Cache | Bound::Shared), "{modelled:?}"),
        }
        let floor = large.tensor / card.tensor;
        assert!((1.0..3.0).contains(&(modelled.seconds / floor)), "{} {floor} {modelled:?}", card.name);
        // Counted at twice the depth: twice the products, and not twice the launch.
        multiply(&vm, 256, 256, 2048).unwrap();
        let deeper = only(&vm);
        assert_eq!(deeper.work(&card).unwrap().tensor, 2.0 * work.tensor);
        let ratio = deeper.modelled(&card).unwrap().seconds / launched.modelled(&card).unwrap().seconds;
        assert!((1.01..2.0).contains(&ratio), "{ratio}");
        multiply(&vm, 16, 16, 64).unwrap();
        assert_eq!(only(&vm).modelled(&card).unwrap().bound, Bound::Launch);
    }
}
