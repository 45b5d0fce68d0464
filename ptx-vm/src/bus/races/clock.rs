//! Vector clocks over many parties of which few differ from one clock to the next.

use std::sync::Arc;

const CHUNK: usize = 64;

/// A time for each party, 0 unless raised. Clones share what neither changes, so thousands of blocks that take each other's
/// clocks one after another stay cheap.
#[derive(Clone, Debug, Default)]
pub(super) struct Clock {
    chunks: Vec<Option<Arc<[u32; CHUNK]>>>,
}

impl Clock {
    pub fn get(&self, party: u32) -> u32 {
        let chunk = self.chunks.get(party as usize / CHUNK).and_then(Option::as_deref);
        chunk.map_or(0, |chunk| chunk[party as usize % CHUNK])
    }

    /// Sets a party's time, which is not before the present one.
    pub fn raise(&mut self, party: u32, time: u32) {
        let index = party as usize / CHUNK;
        if self.chunks.len() <= index {
            self.chunks.resize(index + 1, None);
        }
        let chunk = self.chunks[index].get_or_insert_with(|| Arc::new([0; CHUNK]));
        let place = &mut Arc::make_mut(chunk)[party as usize % CHUNK];
        *place = time.max(*place);
    }

    /// Raises every party to its time in `other`; true if that changed anything.
    pub fn join(&mut self, other: &Clock) -> bool {
        if self.chunks.len() < other.chunks.len() {
            self.chunks.resize(other.chunks.len(), None);
        }
        let mut changed = false;
        for (mine, theirs) in self.chunks.iter_mut().zip(&other.chunks) {
            let Some(theirs) = theirs else { continue };
            match mine {
                None => {
                    changed |= theirs.iter().any(|time| *time != 0);
                    *mine = Some(theirs.clone());
                }
                Some(mine) if Arc::ptr_eq(mine, theirs) => {}
                Some(mine) => {
                    if mine.iter().zip(&**theirs).all(|(mine, theirs)| mine >= theirs) {
                        continue;
                    }
                    changed = true;
                    let behind = mine.iter().zip(&**theirs).all(|(mine, theirs)| mine <= theirs);
                    if behind {
                        *mine = theirs.clone();
                    } else {
                        for (mine, theirs) in Arc::make_mut(mine).iter_mut().zip(&**theirs) {
                            *mine = (*mine).max(*theirs);
                        }
                    }
                }
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::Clock;
    use proptest::prelude::*;

    fn clock(times: &[u32]) -> Clock {
        let mut clock = Clock::default();
        for (party, time) in times.iter().enumerate().filter(|(_, time)| **time != 0) {
            clock.raise(party as u32, *time);
        }
        clock
    }

    proptest! {
        #[test]
        fn a_join_is_the_maximum(
            a in proptest::collection::vec(0..3u32, 0..200),
            b in proptest::collection::vec(0..3u32, 0..200),
        ) {
            let mut joined = clock(&a);
            let before = joined.clone();
            let changed = joined.join(&clock(&b));
            let at = |times: &[u32], party: usize| times.get(party).copied().unwrap_or(0);
            for party in 0..200 {
                prop_assert_eq!(joined.get(party as u32), at(&a, party).max(at(&b, party)));
                prop_assert_eq!(before.get(party as u32), at(&a, party), "a clone keeps its times");
            }
            prop_assert_eq!(changed, (0..200).any(|party| at(&b, party) > at(&a, party)));
        }
    }
}
