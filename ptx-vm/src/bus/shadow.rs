//! One bit per byte of memory: was it written, is a copy to it in flight.
//!
//! Accesses are aligned to their size, a power of two of at most 64 bytes, so an access lies in one 64-bit word.

use super::Lanes64;
use super::lanes::{each, select};

/// The word that an access lies in, and its bits there.
#[inline(always)]
fn span(offset: u64, size: u32) -> (usize, u64) {
    let bits = u64::MAX >> (64 - size.clamp(1, 64));
    ((offset / 64) as usize, bits << (offset % 64))
}

/// Lanes that touch a byte whose bit is clear.
pub(super) fn clear(words: &[u64], mask: u32, offset: &Lanes64, size: u32) -> u32 {
    select(mask, |lane| {
        let (word, bits) = span(offset[lane], size);
        words.get(word).is_some_and(|word| word & bits != bits)
    })
}

/// Lanes that touch a byte whose bit is set.
pub(super) fn touched(words: &[u64], mask: u32, offset: &Lanes64, size: u32) -> u32 {
    select(mask, |lane| {
        let (word, bits) = span(offset[lane], size);
        words.get(word).is_some_and(|word| word & bits != 0)
    })
}

/// Sets the bits of everything the lanes touch.
pub(super) fn set(words: &mut [u64], mask: u32, offset: &Lanes64, size: u32) {
    each(mask, |lane| {
        let (word, bits) = span(offset[lane], size);
        if let Some(word) = words.get_mut(word) {
            *word |= bits;
        }
    });
}

/// Clears them.
pub(super) fn unset(words: &mut [u64], mask: u32, offset: &Lanes64, size: u32) {
    each(mask, |lane| {
        let (word, bits) = span(offset[lane], size);
        if let Some(word) = words.get_mut(word) {
            *word &= !bits;
        }
    });
}

/// Which bytes were written, with a count of those that were not: once it is zero, there is nothing left to look up.
#[derive(Debug, Default)]
pub(super) struct Written {
    words: Vec<u64>,
    unwritten: u64,
}

impl Written {
    /// Nothing written yet.
    pub fn new(bytes: usize) -> Written {
        Written { words: vec![0; bytes.div_ceil(64)], unwritten: bytes as u64 }
    }

    /// Makes it new in the memory that it has.
    pub fn renew(&mut self, bytes: usize) {
        self.words.clear();
        self.words.resize(bytes.div_ceil(64), 0);
        self.unwritten = bytes as u64;
    }

    /// Lanes that read a byte that nothing wrote.
    pub fn missing(&self, mask: u32, offset: &Lanes64, size: u32) -> u32 {
        if self.unwritten == 0 { 0 } else { clear(&self.words, mask, offset, size) }
    }

    /// The lanes write.
    pub fn record(&mut self, mask: u32, offset: &Lanes64, size: u32) {
        if self.unwritten == 0 {
            return;
        }
        each(mask, |lane| {
            let (word, bits) = span(offset[lane], size);
            if let Some(word) = self.words.get_mut(word) {
                self.unwritten -= u64::from((bits & !*word).count_ones());
                *word |= bits;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against one bool per byte.
        #[test]
        fn bits_are_bytes(steps in prop::collection::vec((0u64..40, 0u32..6, 0u8..3, 1u32..16), 1..60)) {
            let (mut words, mut written) = (vec![0; 4], Written::new(256));
            let (mut model, mut ever) = ([false; 256], [false; 256]);
            for (slot, log, action, mask) in steps {
                let size = 1u32 << log;
                let offset: Lanes64 = std::array::from_fn(|lane| (slot + lane as u64 * 3) * u64::from(size) % 256);
                let range = |lane: usize| offset[lane] as usize..(offset[lane] + u64::from(size)) as usize;
                let expect = |test: &dyn Fn(&[bool]) -> bool, model: &[bool]| {
                    (0..4).filter(|&l| mask >> l & 1 == 1 && test(&model[range(l)])).fold(0, |m, l| m | 1 << l)
                };
                prop_assert_eq!(clear(&words, mask, &offset, size), expect(&|b| b.contains(&false), &model));
                prop_assert_eq!(touched(&words, mask, &offset, size), expect(&|b| b.contains(&true), &model));
                prop_assert_eq!(written.missing(mask, &offset, size), expect(&|b| b.contains(&false), &ever));
                match action {
                    0 => set(&mut words, mask, &offset, size),
                    1 => unset(&mut words, mask, &offset, size),
                    _ => written.record(mask, &offset, size),
                }
                for lane in (0..4).filter(|l| mask >> l & 1 == 1) {
                    match action {
                        0 | 1 => model[range(lane)].fill(action == 0),
                        _ => ever[range(lane)].fill(true),
                    }
                }
                prop_assert_eq!(written.unwritten, ever.iter().filter(|b| !**b).count() as u64);
            }
        }
    }
}
