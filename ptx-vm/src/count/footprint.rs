//! Which bytes and sectors of an allocation were touched.

/// Bytes of a sector, the least that moves between memory and the chip.
const SECTOR: u64 = 32;
/// Bytes of a page of a footprint.
const PAGE: u64 = 4096;

/// A set of bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Footprint {
    /// One bit per byte; a page where nothing was touched is missing.
    pages: Vec<Option<Box<[u64; 64]>>>,
}

impl Footprint {
    /// Adds `size` bytes (at most 64) from `offset` on.
    #[inline]
    pub fn add(&mut self, offset: u64, size: u32) {
        let bits = !0_u64 >> (64 - size.clamp(1, 64));
        let (word, bit) = (offset / 64, offset % 64);
        self.add_word(word, bits << bit);
        if bit + u64::from(size) > 64 {
            self.add_word(word + 1, bits >> (64 - bit));
        }
    }

    #[inline]
    fn add_word(&mut self, word: u64, bits: u64) {
        let page = (word / 64) as usize;
        if self.pages.len() <= page {
            self.pages.resize(page + 1, None);
        }
        self.pages[page].get_or_insert_with(|| Box::new([0; 64]))[(word % 64) as usize] |= bits;
    }

    /// Adds another set.
    pub fn join(&mut self, other: &Footprint) {
        if self.pages.len() < other.pages.len() {
            self.pages.resize(other.pages.len(), None);
        }
        for (mine, theirs) in self.pages.iter_mut().zip(&other.pages) {
            match (mine, theirs) {
                (_, None) => {}
                (mine @ None, Some(_)) => mine.clone_from(theirs),
                (Some(mine), Some(theirs)) => {
                    mine.iter_mut().zip(theirs.iter()).for_each(|(mine, theirs)| *mine |= theirs);
                }
            }
        }
    }

    /// Bytes in the set.
    pub fn count(&self) -> u64 {
        self.pages.iter().flatten().flat_map(|page| page.iter()).map(|bits| u64::from(bits.count_ones())).sum()
    }
}

/// Different sectors that the lanes of `mask` touch.
pub(super) fn sectors(mask: u32, offset: &[u64; 32], size: u32) -> u64 {
    let mut count = 0;
    let mut next = 0;
    for lane in (0..32).filter(|lane| mask >> lane & 1 == 1) {
        let (first, last) = of_lane(offset[lane], size);
        if first + 1 < next {
            return sectors_in_any_order(mask, offset, size);
        }
        // The first one may be the latest of the lanes before.
        count += last + 1 - first.max(next);
        next = last + 1;
    }
    count
}

fn sectors_in_any_order(mask: u32, offset: &[u64; 32], size: u32) -> u64 {
    let touched = (0..32).filter(|lane| mask >> lane & 1 == 1).flat_map(|lane| {
        let (first, last) = of_lane(offset[lane], size);
        first..=last
    });
    let mut touched: Vec<u64> = touched.collect();
    touched.sort_unstable();
    touched.dedup();
    touched.len() as u64
}

fn of_lane(offset: u64, size: u32) -> (u64, u64) {
    (offset / SECTOR, (offset + u64::from(size.max(1)) - 1) / SECTOR)
}

const _: () = assert!(PAGE == 64 * 64);

#[cfg(test)]
mod tests {
    use super::{Footprint, sectors};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn sectors_by_hand() {
        // (bytes of an access, bytes between lanes, first byte, sectors)
        let cases = [
            (4, 4, 0, 4),
            (4, 4, 4, 5),
            (4, 4, 32, 4),
            (4, 0, 60, 1),
            (4, 32, 0, 32),
            (4, 100, 0, 32),
            (1, 1, 0, 1),
            (8, 8, 0, 8),
            (16, 16, 0, 16),
            (16, 16, 16, 17),
            (16, 32, 0, 32),
            (32, 32, 0, 32),
        ];
        for (size, stride, first, expected) in cases {
            let offset: [u64; 32] = std::array::from_fn(|lane| first + lane as u64 * stride);
            assert_eq!(sectors(!0, &offset, size), expected, "{size} bytes, {stride} apart, from {first}");
            let mut backwards = offset;
            backwards.reverse();
            assert_eq!(sectors(!0, &backwards, size), expected, "the same backwards");
        }
        assert_eq!(sectors(0, &[0; 32], 4), 0);
    }

    proptest! {
        #[test]
        fn agrees_with_sets(
            mask: u32,
            offset in prop::array::uniform32(0..10_000u64),
            wide in 0..6u32,
            ascending: bool,
            misaligned: bool,
        ) {
            let size = 1 << wide;
            let mut offset = if misaligned { offset } else { offset.map(|offset| offset & !u64::from(size - 1)) };
            if ascending {
                offset.sort_unstable();
            }
            let active = || (0..32).filter(|lane| mask >> lane & 1 == 1);
            let bytes: BTreeSet<u64> = active().flat_map(|i| offset[i]..offset[i] + u64::from(size)).collect();
            let expected: BTreeSet<u64> = bytes.iter().map(|byte| byte / 32).collect();
            prop_assert_eq!(sectors(mask, &offset, size), expected.len() as u64);
            let (mut low, mut high) = (Footprint::default(), Footprint::default());
            for lane in active() {
                let footprint = if lane < 16 { &mut low } else { &mut high };
                footprint.add(offset[lane], size);
            }
            low.join(&high);
            prop_assert_eq!(low.count(), bytes.len() as u64);
        }
    }
}
