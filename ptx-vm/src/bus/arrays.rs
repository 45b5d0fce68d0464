//! Named arrays inside shared, local and parameter memory: an access must not cross the end of the array it begins in.

use super::Lanes64;
use super::lanes::select;

/// The arrays of one space.
#[derive(Debug)]
pub(super) struct Arrays {
    /// Name, first byte, end; by first byte.
    parts: Vec<(String, u64, u64)>,
    /// Every end is a multiple of this power of two, so no aligned access of up to this size crosses one.
    grain: u64,
}

impl Arrays {
    /// Of (name, offset, size).
    pub fn new<'a>(parts: impl Iterator<Item = (&'a String, u32, u32)>) -> Arrays {
        let mut parts: Vec<_> = parts
            .filter(|&(_, _, size)| size > 0)
            .map(|(name, offset, size)| (name.clone(), u64::from(offset), u64::from(offset) + u64::from(size)))
            .collect();
        parts.sort_by_key(|&(_, start, _)| start);
        let grain = parts.iter().map(|&(_, _, end)| 1 << end.trailing_zeros()).min().unwrap_or(u64::MAX);
        Arrays { parts, grain }
    }

    /// The array that a byte lies in: name, first byte, end.
    pub fn at(&self, offset: u64) -> Option<&(String, u64, u64)> {
        let below = self.parts.partition_point(|&(_, start, _)| start <= offset).checked_sub(1)?;
        self.parts.get(below).filter(|&&(_, _, end)| offset < end)
    }

    /// Lanes whose (aligned) access begins in an array and ends behind it.
    pub fn crossing(&self, mask: u32, offset: &Lanes64, size: u32) -> u32 {
        if u64::from(size) <= self.grain {
            return 0;
        }
        select(mask, |lane| {
            let last = offset[lane] + u64::from(size);
            self.at(offset[lane]).is_some_and(|&(_, _, end)| last > end)
        })
    }

    /// An address in words, for findings.
    pub fn describe(&self, offset: u64) -> String {
        match self.at(offset) {
            Some((name, start, end)) => format!("byte {} of `{name}` ({} bytes)", offset - start, end - start),
            None => format!("offset {offset:#x}"),
        }
    }
}
