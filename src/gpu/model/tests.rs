//! What the model promises, whatever the card and the launch; then plain cases by hand.

use super::*;
use proptest::prelude::*;

fn card() -> impl Strategy<Value = Card> {
    prop::sample::select(Card::all().to_vec())
}

/// From nothing to hours.
fn amount() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), (0.0..45.0).prop_map(f64::exp2)]
}

fn work() -> impl Strategy<Value = Work> {
    let need = (1..=1024u32, 0..=255u32, prop_oneof![Just(0), 0..=163u32 << 10]);
    let need = need.prop_map(|(threads, registers, shared)| Need { threads, registers, shared });
    let blocks = prop_oneof![1..2000u64, 1..1u64 << 40];
    (blocks, need, amount(), amount(), amount(), amount(), amount()).prop_map(
        |(blocks, need, memory, cache, tensor, instructions, wavefronts)| Work {
            blocks,
            need,
            memory,
            cache,
            tensor,
            instructions,
            wavefronts,
        },
    )
}

/// By what a launch cannot be shorter, whatever its shape.
fn floors(card: &Card, work: &Work) -> [f64; 6] {
    let cycles = f64::from(card.multiprocessors) * card.clock;
    [
        work.memory / card.memory,
        work.cache / card.cache,
        work.tensor / card.tensor,
        work.instructions / (4.0 * cycles),
        work.wavefronts / cycles,
        card.launch + card.latency,
    ]
}

/// Whether one time is at least the other, but for the rounding of a dozen operations.
fn at_least(time: f64, other: f64) -> bool {
    time >= other * (1.0 - 1e-14)
}

fn amounts(work: &mut Work) -> [&mut f64; 5] {
    let Work { memory, cache, tensor, instructions, wavefronts, .. } = work;
    [memory, cache, tensor, instructions, wavefronts]
}

proptest! {
    #[test]
    fn never_below_a_floor(card in card(), work in work()) {
        let modelled = card.time(&work);
        for (floor, part) in floors(&card, &work).into_iter().zip(modelled.parts) {
            prop_assert!(at_least(part.seconds, floor), "{:?}: {floor}, {modelled:?}", part.bound);
            prop_assert!(at_least(modelled.seconds, part.seconds), "{modelled:?}");
        }
    }

    /// The bound is the largest of the parts, and all of them together are the most there can be.
    #[test]
    fn the_bound_is_the_largest(card in card(), work in work()) {
        let Modelled { seconds, bound, parts } = card.time(&work);
        let of_bound = parts.iter().find(|part| part.bound == bound).unwrap().seconds;
        prop_assert!(parts.iter().all(|part| part.seconds <= of_bound));
        let sum: f64 = parts.iter().map(|part| part.seconds).sum();
        prop_assert!(seconds.is_infinite() || at_least(sum, seconds), "{sum} < {seconds}");
    }

    /// More of anything is never faster.
    #[test]
    fn grows_with_what_is_done(card in card(), work in work(), which in 0..5usize, more in 1.0..4.0) {
        let mut other = work;
        *amounts(&mut other)[which] *= more;
        prop_assert!(at_least(card.time(&other).seconds, card.time(&work).seconds));
        let need = Need { registers: work.need.registers.saturating_add((more * 40.0) as u32), ..work.need };
        let other = Work { need, ..work };
        prop_assert!(at_least(card.time(&other).seconds, card.time(&work).seconds));
    }

    /// More blocks of the same kind are never faster.
    #[test]
    fn grows_with_blocks(card in card(), work in work(), more in 1..1000u64) {
        let mut other = Work { blocks: work.blocks + more, ..work };
        let grown = other.blocks as f64 / work.blocks as f64;
        amounts(&mut other).into_iter().for_each(|amount| *amount *= grown);
        prop_assert!(at_least(card.time(&other).seconds, card.time(&work).seconds));
    }

    /// A faster card is never slower.
    #[test]
    fn falls_with_the_card(card in card(), work in work(), which in 0..6usize, faster in 1.0..4.0) {
        let mut other = card.clone();
        let Card { clock, memory, cache, tensor, launch, latency, .. } = &mut other;
        match which {
            0 => *clock *= faster,
            1 => *memory *= faster,
            2 => *cache *= faster,
            3 => *tensor *= faster,
            4 => *launch /= faster,
            _ => *latency /= faster,
        }
        prop_assert!(at_least(card.time(&work).seconds, other.time(&work).seconds));
    }

    /// Nearly the same work takes nearly the same time: rounding reorders nothing that is not a tie already.
    #[test]
    fn is_continuous(card in card(), work in work(), which in 0..5usize, relative in -1e-9..1e-9) {
        let mut other = work;
        *amounts(&mut other)[which] *= 1.0 + relative;
        let (here, there) = (card.time(&work).seconds, card.time(&other).seconds);
        prop_assert!(here == there || (here / there - 1.0).abs() <= 1.0001e-9, "{here} {there}");
    }
}

/// Full blocks that do nothing.
fn idle(blocks: u64) -> Work {
    let need = Need { threads: 256, registers: 32, shared: 0 };
    Work { blocks, need, memory: 0.0, cache: 0.0, tensor: 0.0, instructions: 0.0, wavefronts: 0.0 }
}

fn close(found: f64, expected: f64) {
    assert!((found / expected - 1.0).abs() < 1e-12, "{found}, expected {expected}");
}

/// 256 threads, 32 registers: 8 blocks on each of 132 multiprocessors at a time.
#[test]
fn an_idle_launch_is_its_waves() {
    let card = Card::h100();
    for (blocks, waits) in [(1, 0.0), (132 * 8, 0.0), (132 * 12, 0.5), (132 * 80, 9.0)] {
        let modelled = card.time(&idle(blocks));
        close(modelled.seconds, 3.6e-6 + waits * 6e-7);
        assert_eq!(modelled.bound, Bound::Launch);
        close(modelled.parts[5].seconds, modelled.seconds);
    }
}

/// Each part by hand, alone; a full card, one multiprocessor, and one block more than they are.
#[test]
fn parts_by_hand() {
    let card = Card::h100();
    let part = |work: Work, index: usize| card.time(&work).parts[index].seconds;
    // 3 GB at 3 TB/s; one block of 8 warps has 8 KiB under way in 600 ns.
    close(part(Work { memory: 3e9, ..idle(1056) }, 0), 1e-3);
    close(part(Work { memory: 8192e3, ..idle(1) }, 0), 6e-4);
    // Twice as far under way, where a block's shared memory holds more; half as far to the second cache.
    let deep = Need { threads: 256, registers: 32, shared: 32 << 10 };
    close(part(Work { memory: 8192e3, need: deep, ..idle(1) }, 0), 3e-4);
    close(part(Work { cache: 8192e3, ..idle(1) }, 1), 3e-4);
    close(part(Work { cache: card.cache, ..idle(1056) }, 1), 1.0);
    // 64 bytes a cycle into one multiprocessor, when enough of them are under way.
    let deepest = Need { threads: 1024, registers: 32, shared: 200 << 10 };
    close(part(Work { cache: 64.0 * card.clock, need: deepest, ..idle(1) }, 1), 1.0);
    // 255 registers: one block of eight at a time on each multiprocessor.
    let heavy = Need { threads: 256, registers: 255, shared: 0 };
    close(part(Work { memory: 132.0 * 8192e3, need: heavy, ..idle(1056) }, 0), 6e-4);
    close(card.time(&Work { need: heavy, ..idle(1056) }).seconds, 3.6e-6 + 7.0 * 6e-7);
    // All tensor cores; those of one multiprocessor; of two blocks on one of them while the others have one.
    close(part(Work { tensor: 790e9, ..idle(132) }, 2), 1e-3);
    close(part(Work { tensor: 790e9, ..idle(1) }, 2), 132e-3);
    close(part(Work { tensor: 790e9, ..idle(133) }, 2), 1e-3 * 264.0 / 133.0);
    // One warp has one of four tensor cores.
    let warp = Need { threads: 32, registers: 32, shared: 0 };
    close(part(Work { tensor: 790e9, need: warp, ..idle(132) }, 2), 4e-3);
    // Four instructions a cycle of eight warps and more, half a one of one warp.
    let cycles = 132.0 * card.clock;
    close(part(Work { instructions: 4.0 * cycles, ..idle(132) }, 3), 1.0);
    close(part(Work { instructions: 4.0 * cycles, ..idle(1320) }, 3), 1.0);
    close(part(Work { instructions: cycles, need: warp, ..idle(132) }, 3), 2.0);
    close(part(Work { wavefronts: cycles, ..idle(132) }, 4), 1.0);
    // Beside each other.
    let both = Work { memory: 3e9, wavefronts: cycles * 4e-4, ..idle(1056) };
    close(card.time(&both).seconds, 3.6e-6 + 1e-3 + 4e-4 / 8.0);
    assert_eq!(card.time(&both).bound, Bound::Memory);
}

/// A100 has 163 KB for a block, H100 227.
#[test]
fn a_block_that_does_not_fit_never_ends() {
    let need = Need { threads: 256, registers: 32, shared: 200 << 10 };
    let work = Work { need, ..idle(132) };
    assert_eq!(Card::a100().time(&work).seconds, f64::INFINITY);
    assert_eq!(Card::a100().time(&work).bound, Bound::Launch);
    assert!(Card::h100().time(&work).seconds < 1e-5);
}

/// The rates are the data sheets', less what programs do not reach; A100's second cache below the most that it can give.
#[test]
fn the_cards_are_those_of_their_data_sheets() {
    let [h100, h200, a100] = Card::all();
    for (card, memory, tensor, bytes) in
        [(&h100, 3.35e12, 989e12, 50), (&h200, 4.8e12, 989e12, 50), (&a100, 2.039e12, 312e12, 40)]
    {
        assert!((0.89..=0.91).contains(&(card.memory / memory)), "{card:?}");
        assert!((0.73..=0.81).contains(&(card.tensor / tensor)), "{card:?}");
        assert_eq!(card.cache_bytes, f64::from(bytes << 20));
        assert!(card.cache > card.memory);
        card.check().unwrap();
    }
    assert!(a100.cache < 5120.0 * a100.clock);
    // Operations a cycle of each multiprocessor, by the white papers: 1024 and 2048 multiply-adds.
    close(f64::from(a100.multiprocessors) * a100.clock * 2048.0, 311_869_440_000_000.0);
    assert!((132.0 * 1.98e9 * 4096.0 * card::PRODUCTS / h100.tensor - 1.0).abs() < 0.01);
}

#[test]
fn figures_that_are_none_are_refused_by_name() {
    let of = |change: fn(&mut Card)| {
        let mut card = Card::h100();
        change(&mut card);
        card.check().unwrap_err().to_string()
    };
    let expected = |name: &str, found: &str| format!("model: `{name}` is {found}, expected a positive number");
    assert_eq!(of(|card| card.multiprocessors = 0), expected("multiprocessors", "0"));
    assert_eq!(of(|card| card.clock = f64::NAN), expected("clock", "NaN"));
    assert_eq!(of(|card| card.memory = -1.0), expected("memory", "-1"));
    assert_eq!(of(|card| card.cache = 0.0), expected("cache", "0"));
    assert_eq!(of(|card| card.cache_bytes = f64::INFINITY), expected("cache_bytes", "inf"));
    assert_eq!(of(|card| card.tensor = 0.0), expected("tensor", "0"));
    assert_eq!(of(|card| card.launch = 0.0), expected("launch", "0"));
    assert_eq!(of(|card| card.latency = 0.0), expected("latency", "0"));
}

/// As a report's file has them.
#[test]
fn bounds_have_names() {
    let modelled = Card::h100().time(&idle(1));
    let text = serde_json::to_value(modelled).unwrap();
    assert_eq!((&text["bound"], &text["parts"][0]["bound"]), (&"launch".into(), &"memory".into()));
}

/// A plain product in tiles, each by a block of 8 warps with a ring of three stages, all read from the second cache.
fn product([t, m, n]: [u64; 3], [rows, cols]: [u64; 2]) -> Work {
    let blocks = t.div_ceil(rows) * m.div_ceil(cols);
    let need = Need { threads: 256, registers: 128, shared: (3 * (rows + cols) * 128) as u32 };
    let products = (blocks * rows * cols * n) as f64;
    Work {
        blocks,
        need,
        memory: (2 * (t * n + m * n + t * m)) as f64,
        cache: (2 * blocks * (rows + cols) * n + 2 * t * m) as f64,
        tensor: 2.0 * products,
        instructions: products / 2048.0 * 2.0,
        wavefronts: products / 2048.0,
    }
}

/// Large tiles for many tokens; smaller ones where large ones would leave multiprocessors without any.
#[test]
fn tiles_are_ranked_as_one_would() {
    let tiles = [[128, 128], [128, 64], [64, 64], [32, 64]];
    let best = |card: &Card, shape| {
        let seconds = |tile: &[u64; 2]| card.time(&product(shape, *tile)).seconds;
        *tiles.iter().min_by(|a, b| seconds(a).total_cmp(&seconds(b))).unwrap()
    };
    for card in Card::all() {
        assert_eq!(best(&card, [8192, 4096, 4096]), [128, 128], "{}", card.name);
        assert_ne!(best(&card, [128, 2048, 4096]), [128, 128], "{}", card.name);
        assert_ne!(best(&card, [16, 2048, 4096]), [128, 128], "{}", card.name);
    }
}
