//! Shared memory: random histories against a detector that keeps every access and a full vector clock per thread.

use crate::bus::races::cell::Kind;
use crate::bus::races::{Conflict, SharedRaces, Strong, Thread, lanes};
use crate::isa::{Order, Scope};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const WARPS: u32 = 3;
const LANES: u32 = 3;
const THREADS: usize = (WARPS * LANES) as usize;
const BYTES: u64 = 16;

#[derive(Clone, Debug)]
enum Event {
    Plain { access: Access, write: bool },
    Strong { access: Access, strong: Strong },
    Fence { warp: u32, mask: u32 },
    WarpBarrier { warp: u32, mask: u32 },
    Arrive { barrier: u32, warp: u32, mask: u32, waits: bool },
    Complete { barrier: u32 },
    Everyone,
}

#[derive(Clone, Copy, Debug)]
struct Access {
    warp: u32,
    mask: u32,
    pc: u32,
    size: u32,
    offset: [u64; 3],
    value: [u8; 3],
}

fn strong() -> impl Strategy<Value = Strong> {
    let order = prop_oneof![
        Just(Order::Volatile),
        Just(Order::Relaxed(Scope::Gpu)),
        Just(Order::Acquire(Scope::Cta)),
        Just(Order::Release(Scope::Sys)),
        Just(Order::AcquireRelease(Scope::Cta)),
    ];
    // A load, a store, an exchange, a compare-and-swap.
    (order, 0..4_usize, 0..1u32 << LANES).prop_map(|(order, way, some)| {
        let (reads, wrote) = [(true, 0), (false, !0), (true, !0), (true, some)][way];
        Strong { order, reads, wrote }
    })
}

fn event() -> impl Strategy<Value = Event> {
    let mask = 1..1u32 << LANES;
    let access =
        (0..WARPS, mask.clone(), 0..2u32, 0..4u32, prop::array::uniform3(0..BYTES), prop::array::uniform3(0..2u8));
    let access = access.prop_map(|(warp, mask, pc, size, offset, value)| {
        let size = 1 << size;
        let offset = offset.map(|offset| offset & !(u64::from(size) - 1));
        Access { warp, mask, pc, size, offset, value }
    });
    // Most flags lie in one word, so that threads meet there, and leave the other bytes to the data.
    let flag = access.clone().prop_map(|access| {
        let size = access.size.min(4);
        Access { size, offset: access.offset.map(|offset| 12 + (offset & 3 & !(u64::from(size) - 1))), ..access }
    });
    prop_oneof![
        10 => (access.clone(), any::<bool>()).prop_map(|(access, write)| Event::Plain { access, write }),
        2 => (access, strong()).prop_map(|(access, strong)| Event::Strong { access, strong }),
        6 => (flag, strong()).prop_map(|(access, strong)| Event::Strong { access, strong }),
        4 => (0..WARPS, mask.clone()).prop_map(|(warp, mask)| Event::Fence { warp, mask }),
        3 => (0..WARPS, mask.clone()).prop_map(|(warp, mask)| Event::WarpBarrier { warp, mask }),
        3 => (0..2u32, 0..WARPS, mask, any::<bool>())
            .prop_map(|(barrier, warp, mask, waits)| Event::Arrive { barrier, warp, mask, waits }),
        2 => (0..2u32).prop_map(|barrier| Event::Complete { barrier }),
        1 => Just(Event::Everyone),
    ]
}

struct Past {
    kind: Kind,
    thread: usize,
    time: u32,
    instruction: usize,
    pc: u32,
    byte: u64,
    value: u8,
    offset: u64,
}

/// Every access so far, and what each thread knows of each other.
struct Naive {
    clocks: [[u32; THREADS]; THREADS],
    arrived: [[u32; THREADS]; 2],
    /// Each thread's clock at its last fence, and what the next one will acquire.
    fenced: [[u32; THREADS]; THREADS],
    found: [[u32; THREADS]; THREADS],
    /// What was released at each word.
    words: BTreeMap<u64, [u32; THREADS]>,
    past: Vec<Past>,
}

impl Naive {
    fn new() -> Naive {
        let clocks = std::array::from_fn(|i| std::array::from_fn(|j| u32::from(i == j)));
        let nothing = [[0; THREADS]; THREADS];
        let (arrived, words, past) = ([[0; THREADS]; 2], BTreeMap::new(), Vec::new());
        Naive { clocks, arrived, fenced: nothing, found: nothing, words, past }
    }

    fn join(into: &mut [u32; THREADS], from: [u32; THREADS]) {
        *into = std::array::from_fn(|i| into[i].max(from[i]));
    }

    fn publish(&mut self, barrier: u32, thread: usize) {
        Self::join(&mut self.arrived[barrier as usize], self.clocks[thread]);
        self.clocks[thread][thread] += 1;
    }

    fn acquire(&mut self, barrier: u32, threads: &[usize]) {
        for &thread in threads {
            Self::join(&mut self.clocks[thread], self.arrived[barrier as usize]);
        }
        self.arrived[barrier as usize] = [0; THREADS];
    }

    fn warp_barrier(&mut self, threads: &[usize]) {
        let mut joined = [0; THREADS];
        threads.iter().for_each(|&thread| Self::join(&mut joined, self.clocks[thread]));
        for &thread in threads {
            self.clocks[thread] = joined;
            self.clocks[thread][thread] += 1;
        }
    }

    fn fence(&mut self, thread: usize) {
        let found = std::mem::replace(&mut self.found[thread], [0; THREADS]);
        Self::join(&mut self.clocks[thread], found);
        self.fenced[thread] = self.clocks[thread];
        self.clocks[thread][thread] += 1;
    }

    /// What a strong access of these words passes on and receives.
    fn exchange(&mut self, thread: usize, words: &BTreeSet<u64>, order: Order, reads: bool, writes: bool) {
        let acquires = matches!(order, Order::Acquire(_) | Order::AcquireRelease(_));
        let releases = matches!(order, Order::Release(_) | Order::AcquireRelease(_));
        for word in words.iter().filter(|_| reads) {
            let there = self.words.get(word).copied().unwrap_or_default();
            Self::join(if acquires { &mut self.clocks[thread] } else { &mut self.found[thread] }, there);
        }
        if !writes {
            return;
        }
        for word in words {
            let there = self.words.entry(*word).or_default();
            if !reads {
                *there = [0; THREADS];
            }
            Self::join(there, if releases { self.clocks[thread] } else { self.fenced[thread] });
        }
        self.clocks[thread][thread] += u32::from(releases);
    }

    /// Earlier accesses that this one races with.
    fn racing(&self, now: &Past) -> impl Iterator<Item = &Past> {
        self.past.iter().filter(move |past| {
            let strong = |kind| matches!(kind, Kind::StrongRead | Kind::StrongWrite);
            let read = |kind| matches!(kind, Kind::Read | Kind::StrongRead);
            let harmless = read(past.kind) && read(now.kind) || strong(past.kind) && strong(now.kind);
            let twins = past.instruction == now.instruction && past.value == now.value && past.offset == now.offset;
            past.byte == now.byte
                && !harmless
                && !twins
                && past.thread != now.thread
                && past.time > self.clocks[now.thread][past.thread]
        })
    }
}

fn index(warp: u32, lane: u32) -> usize {
    (warp * LANES + lane) as usize
}

/// Both detectors side by side.
struct Pair {
    naive: Naive,
    races: SharedRaces,
    waiting: BTreeSet<(u32, u32, u32)>,
    /// Bytes with a race behind them: what either detector says of them from then on is its own business.
    spoilt: BTreeSet<u64>,
}

impl Pair {
    fn free(&self, warp: u32, mask: u32) -> u32 {
        self.waiting.iter().filter(|(_, w, _)| *w == warp).fold(mask, |mask, (_, _, lane)| mask & !(1 << lane))
    }

    fn step(&mut self, instruction: usize, event: &Event) {
        match *event {
            Event::WarpBarrier { warp, mask } => {
                let mask = self.free(warp, mask);
                let threads: Vec<usize> = lanes(mask).map(|lane| index(warp, lane)).collect();
                self.naive.warp_barrier(&threads);
                self.races.warp_synchronised(warp, mask);
            }
            Event::Arrive { barrier, warp, mask, waits } => self.arrive(barrier, warp, mask, waits),
            Event::Complete { barrier } => self.complete(barrier),
            Event::Everyone => {
                self.complete(0);
                self.complete(1);
                (0..WARPS).for_each(|warp| self.arrive(0, warp, !0 >> (32 - LANES), true));
                self.complete(0);
            }
            Event::Fence { warp, mask } => {
                let mask = self.free(warp, mask);
                lanes(mask).for_each(|lane| self.naive.fence(index(warp, lane)));
                self.races.fence(warp, mask);
            }
            Event::Plain { mut access, write } => {
                access.mask = self.free(access.warp, access.mask);
                let kind = if write { Kind::Write } else { Kind::Read };
                self.access(instruction, access, None, |_| kind);
            }
            Event::Strong { mut access, strong } => {
                access.mask = self.free(access.warp, access.mask);
                let writes = |lane: u32| strong.wrote >> lane & 1 == 1;
                let kind = |lane| if writes(lane) { Kind::StrongWrite } else { Kind::StrongRead };
                self.access(instruction, access, Some(strong), kind);
                for lane in lanes(access.mask) {
                    let start = access.offset[lane as usize];
                    let words = (start..start + u64::from(access.size)).map(|byte| byte / 4).collect();
                    let thread = index(access.warp, lane);
                    self.naive.exchange(thread, &words, strong.order, strong.reads, writes(lane));
                }
            }
        }
    }

    fn arrive(&mut self, barrier: u32, warp: u32, mask: u32, waits: bool) {
        let mask = self.free(warp, mask);
        if mask == 0 {
            return;
        }
        self.races.barrier_arrived(barrier, warp, mask);
        for lane in lanes(mask) {
            self.naive.publish(barrier, index(warp, lane));
            if waits {
                self.waiting.insert((barrier, warp, lane));
            }
        }
    }

    fn complete(&mut self, barrier: u32) {
        let waited: Vec<_> = self.waiting.iter().copied().filter(|(b, ..)| *b == barrier).collect();
        self.waiting.retain(|(b, ..)| *b != barrier);
        let threads: Vec<usize> = waited.iter().map(|(_, warp, lane)| index(*warp, *lane)).collect();
        self.naive.acquire(barrier, &threads);
        let masks: Vec<(u32, u32)> = waited.iter().map(|(_, warp, lane)| (*warp, 1 << lane)).collect();
        self.races.barrier_completed(barrier, &masks);
    }

    fn access(&mut self, instruction: usize, access: Access, strong: Option<Strong>, kind: impl Fn(u32) -> Kind) {
        let Access { warp, mask, pc, size, offset, value } = access;
        let offsets: [u64; 32] = std::array::from_fn(|lane| offset.get(lane).copied().unwrap_or(0));
        let mut found: Vec<(u32, Conflict)> = Vec::new();
        let conflict = |lane, conflict| found.push((lane, conflict));
        match (strong, kind(0)) {
            (Some(strong), _) => self.races.synchronise(warp, pc, mask, &offsets, size, strong, conflict),
            (None, Kind::Read) => self.races.read(warp, pc, mask, &offsets, size, conflict),
            _ => {
                let same = |i: u32, j: u32| value[i as usize] == value[j as usize];
                self.races.write(warp, pc, mask, &offsets, size, same, conflict);
            }
        }
        let before = self.spoilt.clone();
        let mut expected = Vec::new();
        for lane in lanes(mask) {
            let start = offset[lane as usize];
            for byte in start..start + u64::from(size) {
                let thread = index(warp, lane);
                let time = self.naive.clocks[thread][thread];
                let value = value[lane as usize];
                let now = Past { kind: kind(lane), thread, time, instruction, pc, byte, value, offset: start };
                let racing: Vec<_> = self.naive.racing(&now).map(|past| describe(past, byte)).collect();
                if !racing.is_empty() {
                    self.spoilt.insert(byte);
                    expected.push((lane, racing));
                }
                self.naive.past.push(now);
            }
        }
        let untouched = |lane: u32| {
            let start = offset[lane as usize];
            (start..start + u64::from(size)).all(|byte| !before.contains(&byte))
        };
        found.retain(|(lane, _)| untouched(*lane));
        expected.retain(|(lane, _)| untouched(*lane));
        self.compare(access, strong.is_none() && kind(0) == Kind::Write, &found, &expected);
    }

    fn compare(&self, access: Access, plain_write: bool, found: &[(u32, Conflict)], expected: &[(u32, Vec<Party>)]) {
        let Access { mask, offset, size, .. } = access;
        let overlap = |i: u32, j: u32| offset[i as usize].abs_diff(offset[j as usize]) < u64::from(size);
        let crowded = plain_write && lanes(mask).any(|i| lanes(mask).any(|j| i != j && overlap(i, j)));
        if crowded {
            // Which of the lanes of one instruction comes first is not defined; whether they race is.
            assert_eq!(found.is_empty(), expected.is_empty(), "{found:?} {expected:?}");
            return;
        }
        let found_lanes: BTreeSet<u32> = found.iter().map(|(lane, _)| *lane).collect();
        let expected_lanes: BTreeSet<u32> = expected.iter().map(|(lane, _)| *lane).collect();
        assert_eq!(found_lanes, expected_lanes, "{found:?} {expected:?}");
        for (lane, Conflict { thread, pc, write, offset }) in found {
            let real = expected.iter().filter(|(other, _)| other == lane).flat_map(|(_, racing)| racing);
            let named = |(t, p, w, at): &Party| {
                // Of several reads, any may lend its instruction.
                (t, w, *at) == (thread, write, u64::from(*offset)) && (p == pc || !write)
            };
            assert!(real.clone().any(named), "{thread:?} {pc} {write} {offset} is not in {expected:?}");
        }
    }
}

/// Thread, instruction, write, byte.
type Party = (Thread, u32, bool, u64);

fn describe(past: &Past, byte: u64) -> Party {
    let thread = Thread { warp: past.thread as u32 / LANES, lane: past.thread as u32 % LANES };
    (thread, past.pc, matches!(past.kind, Kind::Write | Kind::StrongWrite), byte)
}

fn run(events: &[Event]) {
    let naive = Naive::new();
    let races = SharedRaces::new(BYTES as u32, WARPS);
    let mut pair = Pair { naive, races, waiting: BTreeSet::new(), spoilt: BTreeSet::new() };
    for (instruction, event) in events.iter().enumerate() {
        pair.step(instruction, event);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn agrees_with_keeping_everything(events in proptest::collection::vec(event(), 1..80)) {
        run(&events);
    }
}
