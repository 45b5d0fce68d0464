//! Releases and acquires between the threads of a block, at words of shared memory.
//!
//! As in device memory (see `global`), an edge needs both halves: one thread *releases* at a word (`.release`, or a fence and
//! then a relaxed, volatile or atomic write), the other *acquires* what it finds there (`.acquire`, or such a read and then a
//! fence). Read-modify-writes carry on what was released at their word; a plain strong store starts anew. Scopes do not
//! matter: the narrowest one is the block.

use super::lanes;
use super::order::{Order, Snapshot, Times};
use crate::isa;
use std::collections::HashMap;
use std::sync::Arc;

/// How a strong instruction accesses memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strong {
    pub order: isa::Order,
    pub reads: bool,
    /// Lanes that write: not those whose compare-and-swap found another value.
    pub wrote: u32,
}

impl Strong {
    pub(super) fn writes(self, lane: u32) -> bool {
        self.wrote >> lane & 1 == 1
    }

    fn acquires(self) -> bool {
        self.reads && matches!(self.order, isa::Order::Acquire(_) | isa::Order::AcquireRelease(_))
    }

    fn releases(self) -> bool {
        matches!(self.order, isa::Order::Release(_) | isa::Order::AcquireRelease(_))
    }
}

/// What was released and not acquired yet. Empty as long as nothing fences or releases, and then it costs nothing.
#[derive(Debug, Default)]
pub(super) struct Edges {
    /// What was released at a word, by its number.
    released: HashMap<u64, Times>,
    /// For each thread up to the last that has fenced or has found something.
    threads: Vec<Thread>,
}

#[derive(Clone, Debug, Default)]
struct Thread {
    /// What a relaxed write publishes: everything before the last fence.
    fenced: Option<Fenced>,
    /// What the next fence acquires: released at words that were read since.
    found: Option<Times>,
}

/// Most threads that fence publish nothing, so the times are worked out for the first write.
#[derive(Clone, Debug)]
enum Fenced {
    Snapshot(Arc<Snapshot>),
    Times(Times),
}

impl Edges {
    /// These lanes fence: they see what they have found, and what they have done and seen goes with their next writes.
    pub fn fence(&mut self, order: &mut Order, warp: u32, mask: u32) {
        let mut gained = [const { None }; 32];
        for lane in lanes(mask) {
            gained[lane as usize] = self.thread(warp, lane).found.take();
        }
        for (lanes_alike, snapshot) in order.advance(warp, mask, &gained) {
            let snapshot = Arc::new(snapshot);
            for lane in lanes(lanes_alike) {
                self.thread(warp, lane).fenced = Some(Fenced::Snapshot(snapshot.clone()));
            }
        }
    }

    /// What strong accesses of one warp instruction pass on and receive, lane by lane.
    pub fn exchange(&mut self, order: &mut Order, warp: u32, mask: u32, offset: &[u64; 32], size: u32, strong: Strong) {
        let releases = strong.releases();
        if self.threads.is_empty() && self.released.is_empty() && !releases {
            return;
        }
        let mut gained = [const { None }; 32];
        let mut advancing = 0;
        for lane in lanes(mask) {
            let offset = offset[lane as usize];
            let words = offset / 4..=offset.saturating_add(u64::from(size) - 1) / 4;
            let mut found = None;
            if strong.reads && !self.released.is_empty() {
                words.clone().filter_map(|word| self.released.get(&word)).for_each(|there| merge(&mut found, there));
            }
            if let Some(there) = found.as_ref().filter(|_| !strong.acquires()) {
                merge(&mut self.thread(warp, lane).found, there);
            }
            let gains = found.filter(|there| strong.acquires() && !order.knows(warp, lane, there));
            if strong.writes(lane) {
                let mut published = if releases {
                    order.snapshot(warp, lane).map(|snapshot| snapshot.times(warp, lane))
                } else {
                    self.fenced(warp, lane)
                };
                if let Some(gains) = gains.as_ref().filter(|_| releases) {
                    merge(&mut published, gains);
                }
                words.for_each(|word| self.publish(word, published.as_ref(), strong.reads));
            }
            if gains.is_some() || releases && strong.writes(lane) {
                advancing |= 1 << lane;
            }
            gained[lane as usize] = gains;
        }
        if advancing != 0 {
            order.advance(warp, advancing, &gained);
        }
    }

    fn publish(&mut self, word: u64, published: Option<&Times>, keeps: bool) {
        match published {
            None if keeps => {}
            None => {
                self.released.remove(&word);
            }
            Some(published) => {
                let mut there = self.released.remove(&word).filter(|_| keeps);
                merge(&mut there, published);
                self.released.extend(there.map(|there| (word, there)));
            }
        }
    }

    /// What a relaxed write of this thread publishes.
    fn fenced(&mut self, warp: u32, lane: u32) -> Option<Times> {
        let thread = self.threads.get_mut((warp * 32 + lane) as usize)?;
        let times = match thread.fenced.as_ref()? {
            Fenced::Times(times) => return Some(times.clone()),
            Fenced::Snapshot(snapshot) => snapshot.times(warp, lane),
        };
        thread.fenced = Some(Fenced::Times(times.clone()));
        Some(times)
    }

    fn thread(&mut self, warp: u32, lane: u32) -> &mut Thread {
        let index = (warp * 32 + lane) as usize;
        if self.threads.len() <= index {
            self.threads.resize(index + 1, Thread::default());
        }
        &mut self.threads[index]
    }
}

/// Raises every thread to its time in `from`, sharing what is equal.
fn merge(into: &mut Option<Times>, from: &Times) {
    match into {
        Some(mine) if Arc::ptr_eq(mine, from) || mine.iter().zip(&**from).all(|(mine, from)| mine >= from) => {}
        Some(mine) if mine.iter().zip(&**from).any(|(mine, from)| mine > from) => {
            *mine = mine.iter().zip(&**from).map(|(mine, from)| *mine.max(from)).collect();
        }
        _ => *into = Some(from.clone()),
    }
}
