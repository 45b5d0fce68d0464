//! Device memory between blocks: random histories against a detector that keeps everything.

use crate::bus::races::GlobalRaces;
use crate::isa::{Order, Scope};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const BLOCKS: usize = 4;
const BYTES: u64 = 8;

#[derive(Clone, Copy, Debug)]
enum Event {
    Plain { block: usize, offset: u64, size: u32, write: bool },
    Strong { block: usize, offset: u64, read: bool, write: bool, order: Order },
    Fence { block: usize },
}

fn event() -> impl Strategy<Value = Event> {
    let scope = prop_oneof![4 => Just(Scope::Gpu), 1 => Just(Scope::Cta), 1 => Just(Scope::Sys)];
    let order = (0..5, scope).prop_map(|(kind, scope)| match kind {
        0 => Order::Volatile,
        1 => Order::Relaxed(scope),
        2 => Order::Acquire(scope),
        3 => Order::Release(scope),
        _ => Order::AcquireRelease(scope),
    });
    let plain = (0..BLOCKS, 0..BYTES, 0..3_u32, any::<bool>()).prop_map(|(block, offset, wide, write)| {
        let size = 1 << wide;
        Event::Plain { block, offset: offset & !(u64::from(size) - 1), size, write }
    });
    let strong = (0..BLOCKS, 0..BYTES / 4, 0..3, order).prop_map(|(block, word, way, order)| Event::Strong {
        block,
        offset: 4 * word,
        read: way != 0,
        write: way != 1,
        order,
    });
    prop_oneof![4 => plain, 4 => strong, 2 => (0..BLOCKS).prop_map(|block| Event::Fence { block })]
}

type Clock = [u32; BLOCKS];

#[derive(Clone, Copy, Debug)]
struct Past {
    block: usize,
    time: u32,
    byte: u64,
    write: bool,
    strong: bool,
    pc: u32,
}

#[derive(Default)]
struct Naive {
    clocks: [Clock; BLOCKS],
    /// Clocks at the last fence, and what the next one will acquire.
    fenced: [Clock; BLOCKS],
    found: [Clock; BLOCKS],
    words: BTreeMap<u64, Clock>,
    past: Vec<Past>,
}

fn join(into: &mut Clock, from: Clock) {
    *into = std::array::from_fn(|i| into[i].max(from[i]));
}

impl Naive {
    fn new() -> Naive {
        let mut naive = Naive::default();
        (0..BLOCKS).for_each(|block| naive.clocks[block][block] = 1);
        naive
    }

    fn fence(&mut self, block: usize) {
        let found = std::mem::take(&mut self.found[block]);
        join(&mut self.clocks[block], found);
        self.fenced[block] = self.clocks[block];
        self.clocks[block][block] += 1;
    }

    fn exchange(&mut self, block: usize, word: u64, read: bool, write: bool, order: Order) {
        let (acquires, releases) = match order {
            Order::Acquire(_) => (true, false),
            Order::Release(_) => (false, true),
            Order::AcquireRelease(_) => (true, true),
            _ => (false, false),
        };
        let there = self.words.entry(word).or_default();
        if read {
            join(if acquires { &mut self.clocks[block] } else { &mut self.found[block] }, *there);
        }
        if write {
            let published = if releases { self.clocks[block] } else { self.fenced[block] };
            if !read {
                *there = [0; BLOCKS];
            }
            join(there, published);
            self.clocks[block][block] += u32::from(releases);
        }
    }

    fn racing(&self, now: Past) -> Vec<Past> {
        let conflicts = |past: &&Past| {
            past.byte == now.byte
                && past.block != now.block
                && (past.write || now.write)
                && !(past.strong && now.strong)
                && past.time > self.clocks[now.block][past.block]
        };
        self.past.iter().filter(conflicts).copied().collect()
    }
}

fn strong_between_blocks(order: Order) -> bool {
    !matches!(
        order,
        Order::Relaxed(Scope::Cta)
            | Order::Acquire(Scope::Cta)
            | Order::Release(Scope::Cta)
            | Order::AcquireRelease(Scope::Cta)
    )
}

fn run(events: &[Event]) {
    let (mut naive, mut races) = (Naive::new(), GlobalRaces::new(BLOCKS as u64));
    let mut spoilt = BTreeSet::new();
    for (pc, event) in events.iter().enumerate() {
        let pc = pc as u32;
        let (block, offset, size, write, strong, found) = match *event {
            Event::Fence { block } => {
                naive.fence(block);
                races.fence(block as u64);
                continue;
            }
            Event::Plain { block, offset, size, write: false } => {
                (block, offset, size, false, false, races.read(block as u64, pc, 0, 8, offset, size))
            }
            Event::Plain { block, offset, size, write: true } => {
                (block, offset, size, true, false, races.write(block as u64, pc, 0, 8, offset, size))
            }
            Event::Strong { block, offset, read, write, order } => {
                let found = races.synchronise(block as u64, pc, 0, 8, offset, 4, read, write, order);
                (block, offset, 4, write, strong_between_blocks(order), found)
            }
        };
        let bytes = offset..offset + u64::from(size);
        let time = naive.clocks[block][block];
        let now = |byte| Past { block, time, byte, write, strong, pc };
        let racing: Vec<Past> = bytes.clone().flat_map(|byte| naive.racing(now(byte))).collect();
        naive.past.extend(bytes.clone().map(now));
        if bytes.clone().all(|byte| !spoilt.contains(&byte)) {
            assert_eq!(found.is_some(), !racing.is_empty(), "{event:?}: {found:?} {racing:?}");
            let named = |past: &Past| {
                found.is_some_and(|f| {
                    (f.block, f.pc, f.write, f.offset) == (past.block as u64, past.pc, past.write, past.byte)
                })
            };
            assert!(found.is_none() || racing.iter().any(named), "{event:?}: {found:?} is not in {racing:?}");
        }
        spoilt.extend(racing.iter().map(|past| past.byte));
        if let Event::Strong { block, offset, read, write, order } = *event
            && strong
        {
            naive.exchange(block, offset, read, write, order);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn agrees_with_keeping_everything(events in proptest::collection::vec(event(), 1..60)) {
        run(&events);
    }
}
