//! A device as the cost model sees it: what the driver tells of it, less what programs do not reach.

use super::driver::{Figures, Properties};
use crate::gpu::model::Card;
use crate::gpu::model::card::{CACHE, COPY, LATENCY, LAUNCH, PRODUCTS};
use crate::gpu::occupancy::Multiprocessor;

/// What no attribute tells of a compute capability: its name, and the dense 16-bit operations, summed in f32, of a
/// multiprocessor's tensor cores in a cycle, a multiplication and an addition being two. White papers of A100, GA102, Ada and
/// H100; the others by division of published rates: B200's 2.25 PF/s, and the 209.5 TF/s of an RTX 5090, which has half.
const GENERATIONS: [((u32, u32), &str, u32); 6] = [
    ((8, 0), "sm_80", 2048),
    ((8, 6), "sm_86", 1024),
    ((8, 9), "sm_89", 1024),
    ((9, 0), "sm_90", 4096),
    ((10, 0), "sm_100", 8192),
    ((12, 0), "sm_120", 1024),
];

/// The card. A capability that is not known counts as the last known before it.
///
/// # Errors
/// For a device before the first.
pub(super) fn of(properties: &Properties, figures: Figures) -> Result<Card, String> {
    let Properties { name, capability, multiprocessors, shared_limit, .. } = properties;
    let known = GENERATIONS.iter().rev().find(|(first, ..)| first <= capability);
    let &(_, arch, operations) = known.ok_or_else(|| format!("no model of compute capability {capability:?}"))?;
    // Of the same chips, those for players sum in f32 at half the rate (white papers of GA102, Ada and RTX Blackwell).
    let operations = f64::from(operations) / if name.contains("GeForce") { 2.0 } else { 1.0 };
    let clock = f64::from(figures.clock) * 1e3;
    let cycles = f64::from(*multiprocessors) * clock;
    Ok(Card {
        name: name.clone(),
        multiprocessors: *multiprocessors,
        clock,
        memory: COPY * 2e3 * f64::from(figures.memory_clock) * f64::from(figures.bus) / 8.0,
        cache: CACHE * cycles,
        cache_bytes: figures.cache.into(),
        tensor: PRODUCTS * cycles * operations,
        launch: LAUNCH,
        latency: LATENCY,
        multiprocessor: Multiprocessor {
            arch,
            warps: figures.threads / 32,
            blocks: figures.blocks,
            shared: figures.shared,
            block_shared: *shared_limit,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(name: &str, capability: (u32, u32), multiprocessors: u32, shared_limit: u32) -> Properties {
        let name = name.to_owned();
        Properties { name, capability, multiprocessors, memory: 0, shared_limit, driver: (12, 4) }
    }

    /// What drivers tell of these cards gives their data sheets' rates.
    #[test]
    fn attributes_give_the_data_sheets() {
        let of_data_center = |clock, memory_clock, bus, cache, shared| Figures {
            clock,
            memory_clock,
            bus,
            cache,
            threads: 2048,
            blocks: 32,
            shared,
        };
        let h100 = properties("NVIDIA H100 80GB HBM3", (9, 0), 132, 227 << 10);
        let h100 = of(&h100, of_data_center(1_980_000, 2_619_000, 5120, 50 << 20, 228 << 10)).unwrap();
        let a100 = properties("NVIDIA A100-SXM4-80GB", (8, 0), 108, 163 << 10);
        let a100 = of(&a100, of_data_center(1_410_000, 1_593_000, 5120, 40 << 20, 164 << 10)).unwrap();
        for (found, expected) in [(h100, Card::h100()), (a100, Card::a100())] {
            assert_eq!(found.multiprocessor, expected.multiprocessor);
            assert_eq!((found.clock, found.cache_bytes), (expected.clock, expected.cache_bytes));
            for (found, expected) in
                [(found.memory, expected.memory), (found.cache, expected.cache), (found.tensor, expected.tensor)]
            {
                assert!((found / expected - 1.0).abs() < 0.01, "{found:e}, expected {expected:e}");
            }
        }
        // 1008 GB/s, 165.2 TF/s summed in f32.
        let ada =
            Figures { threads: 1536, blocks: 24, ..of_data_center(2_520_000, 10_501_000, 384, 72 << 20, 100 << 10) };
        let card = of(&properties("NVIDIA GeForce RTX 4090", (8, 9), 128, 99 << 10), ada).unwrap();
        assert!((card.memory / COPY / 1008e9 - 1.0).abs() < 0.001, "{:e}", card.memory);
        assert!((card.tensor / PRODUCTS / 165.2e12 - 1.0).abs() < 0.001, "{:e}", card.tensor);
        assert_eq!(card.multiprocessor.warps, 48);
    }

    #[test]
    fn a_capability_that_is_not_known_counts_as_the_one_before() {
        let figures =
            Figures { clock: 1_000_000, memory_clock: 1, bus: 8, cache: 1, threads: 2048, blocks: 32, shared: 1 };
        for (capability, arch, operations) in [
            ((8, 0), "sm_80", 2048.0),
            ((8, 6), "sm_86", 1024.0),
            ((8, 7), "sm_86", 1024.0),
            ((8, 9), "sm_89", 1024.0),
            ((9, 0), "sm_90", 4096.0),
            ((10, 3), "sm_100", 8192.0),
            ((12, 1), "sm_120", 1024.0),
        ] {
            let card = of(&properties("one", capability, 1, 1), figures).unwrap();
            assert_eq!((card.multiprocessor.arch, card.tensor / PRODUCTS / 1e9), (arch, operations), "{capability:?}");
        }
        assert!(of(&properties("old", (7, 5), 1, 1), figures).unwrap_err().contains("(7, 5)"));
    }
}
