//! Shared memory's 32 banks of 4 bytes.

const BANKS: u32 = 32;

/// What a request costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Passes {
    /// Passes without any conflict: one for each part of the warp with an active lane.
    pub least: u64,
    /// Passes taken.
    pub taken: u64,
}

/// Passes over the banks: a warp's accesses of up to 4 bytes go together, those of 8 bytes in two halves, those of 16 bytes
/// in four quarters. Each part takes as many passes as the busiest bank has different words to serve. `alone`: even lanes on
/// the same word take a pass each (atomics).
pub(super) fn passes(mask: u32, offset: &[u64; 32], size: u32, alone: bool) -> Passes {
    let lanes = match size {
        0..=4 => 32,
        5..=8 => 16,
        _ => 8,
    };
    let mut passes = Passes::default();
    for first in (0..32).step_by(lanes) {
        let part = mask >> first & (!0 >> (32 - lanes));
        if part != 0 {
            passes.least += 1;
            passes.taken += part_passes(part, &offset[first..first + lanes], size, alone);
        }
    }
    passes
}

fn part_passes(part: u32, offset: &[u64], size: u32, alone: bool) -> u64 {
    if !alone && span(part, offset, size) <= BANKS {
        // Words that are that near each other are the same or in different banks: broadcasts, rows read in turn.
        return 1;
    }
    let mut in_bank = [u32::MAX; BANKS as usize];
    for word in words(part, offset, size) {
        let there = &mut in_bank[(word % BANKS) as usize];
        if *there == u32::MAX {
            *there = word;
        } else if alone || *there != word {
            return busiest(part, offset, size, alone);
        }
    }
    1
}

/// Words from the first that these lanes touch to the last, both counted.
fn span(part: u32, offset: &[u64], size: u32) -> u32 {
    let (mut first, mut last) = (u32::MAX, 0);
    for (lane, &offset) in offset.iter().enumerate() {
        let word = (offset / 4) as u32;
        let active = part >> lane & 1 == 1;
        first = first.min(if active { word } else { u32::MAX });
        last = last.max(if active { word } else { 0 });
    }
    last.saturating_sub(first).saturating_add(size.div_ceil(4))
}

/// The most accesses, or different words, that one bank has to serve.
fn busiest(part: u32, offset: &[u64], size: u32, alone: bool) -> u64 {
    let mut by_bank: Vec<(u32, u32)> = words(part, offset, size).map(|word| (word % BANKS, word)).collect();
    by_bank.sort_unstable();
    if !alone {
        by_bank.dedup();
    }
    by_bank.chunk_by(|a, b| a.0 == b.0).map(|bank| bank.len() as u64).max().unwrap_or(0)
}

/// The 4-byte words that these lanes touch.
fn words(part: u32, offset: &[u64], size: u32) -> impl Iterator<Item = u32> {
    offset.iter().enumerate().filter(move |(lane, _)| part >> lane & 1 == 1).flat_map(move |(_, &offset)| {
        let first = (offset / 4) as u32;
        first..first + size.div_ceil(4)
    })
}

#[cfg(test)]
mod tests {
    use super::{Passes, passes};
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn strides_by_hand() {
        // (bytes of an access, bytes between lanes, least passes, passes taken)
        let cases = [
            (4, 4, 1, 1),
            (4, 0, 1, 1),
            (4, 8, 1, 2),
            (4, 12, 1, 1),
            (4, 64, 1, 16),
            (4, 128, 1, 32),
            (4, 132, 1, 1),
            (1, 1, 1, 1),
            (2, 2, 1, 1),
            (2, 8, 1, 2),
            (8, 8, 2, 2),
            (8, 16, 2, 4),
            (8, 136, 2, 2),
            (16, 16, 4, 4),
            (16, 32, 4, 8),
            (16, 128, 4, 32),
            (16, 144, 4, 4),
        ];
        for (size, stride, least, taken) in cases {
            let offset = std::array::from_fn(|lane| lane as u64 * stride);
            assert_eq!(passes(!0, &offset, size, false), Passes { least, taken }, "{size} bytes, {stride} apart");
        }
    }

    #[test]
    fn parts_without_an_active_lane_cost_nothing() {
        let offset = std::array::from_fn(|lane| lane as u64 * 16);
        assert_eq!(passes(0, &offset, 4, false), Passes::default());
        assert_eq!(passes(0xff00, &offset, 16, false), Passes { least: 1, taken: 1 });
        assert_eq!(passes(0x0180, &offset, 16, false), Passes { least: 2, taken: 2 });
        assert_eq!(passes(0x8000_0001, &offset, 8, false), Passes { least: 2, taken: 2 });
    }

    #[test]
    fn atomics_on_one_word_go_one_after_the_other() {
        assert_eq!(passes(!0, &[40; 32], 4, true), Passes { least: 1, taken: 32 });
        assert_eq!(passes(0x1f, &[40; 32], 4, true), Passes { least: 1, taken: 5 });
        assert_eq!(passes(!0, &[40; 32], 8, true), Passes { least: 2, taken: 32 });
        let offset = std::array::from_fn(|lane| lane as u64 * 4);
        assert_eq!(passes(!0, &offset, 4, true), Passes { least: 1, taken: 1 });
    }

    proptest! {
        /// The definition, word by word.
        #[test]
        fn agrees_with_the_definition(
            mask: u32,
            place in prop::array::uniform32(0..80u64),
            wide in 0..5u32,
            alone: bool,
        ) {
            let size = 1 << wide;
            let offset = place.map(|place| place * u64::from(size));
            let lanes_of_a_part = match size { 8 => 16, 16 => 8, _ => 32 };
            let mut expected = Passes::default();
            for part in 0..32 / lanes_of_a_part {
                let mut different: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
                let mut accesses: BTreeMap<u64, u64> = BTreeMap::new();
                for lane in (part * lanes_of_a_part..(part + 1) * lanes_of_a_part).filter(|lane| mask >> lane & 1 == 1) {
                    let bytes = offset[lane]..offset[lane] + u64::from(size);
                    let words: BTreeSet<u64> = bytes.map(|byte| byte / 4).collect();
                    for word in words {
                        different.entry(word % 32).or_default().insert(word);
                        *accesses.entry(word % 32).or_default() += 1;
                    }
                }
                let most_words = different.values().map(|words| words.len() as u64).max();
                let most = if alone { accesses.values().max().copied() } else { most_words };
                expected.least += u64::from(most.is_some());
                expected.taken += most.unwrap_or(0);
            }
            prop_assert_eq!(passes(mask, &offset, size, alone), expected);
        }
    }
}
