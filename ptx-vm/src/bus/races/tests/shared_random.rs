//! Shared memory: random histories against a detector that keeps every access and a full vector clock per thread.

use crate::bus::races::cell::Kind;
use crate::bus::races::{Conflict, SharedRaces, Thread, lanes};
use proptest::prelude::*;
use std::collections::BTreeSet;

const WARPS: u32 = 3;
const LANES: u32 = 3;
const THREADS: usize = (WARPS * LANES) as usize;
const BYTES: u64 = 16;

#[derive(Clone, Debug)]
enum Event {
    Access { kind: Kind, warp: u32, mask: u32, pc: u32, size: u32, offset: [u64; 3], value: [u8; 3] },
    WarpBarrier { warp: u32, mask: u32 },
    Arrive { barrier: u32, warp: u32, mask: u32, waits: bool },
    Complete { barrier: u32 },
    Everyone,
}

fn event() -> impl Strategy<Value = Event> {
    let kind = prop_oneof![3 => Just(Kind::Read), 3 => Just(Kind::Write), 1 => Just(Kind::Atomic)];
    let mask = 1..1u32 << LANES;
    let access = (
        kind,
        0..WARPS,
        mask.clone(),
        0..2u32,
        0..4u32,
        prop::array::uniform3(0..BYTES),
        prop::array::uniform3(0..2u8),
    );
    let access = access.prop_map(|(kind, warp, mask, pc, size, offset, value)| {
        let size = 1 << size;
        let offset = offset.map(|offset| offset & !(u64::from(size) - 1));
        Event::Access { kind, warp, mask, pc, size, offset, value }
    });
    prop_oneof![
        12 => access,
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
    past: Vec<Past>,
}

impl Naive {
    fn new() -> Naive {
        let clocks = std::array::from_fn(|i| std::array::from_fn(|j| u32::from(i == j)));
        Naive { clocks, arrived: [[0; THREADS]; 2], past: Vec::new() }
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

    /// Earlier accesses that this one races with.
    fn racing(&self, now: &Past) -> impl Iterator<Item = &Past> {
        self.past.iter().filter(move |past| {
            let both = (past.kind, now.kind);
            let harmless = matches!(both, (Kind::Read, Kind::Read) | (Kind::Atomic, Kind::Atomic));
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
            Event::Access { warp, mask, .. } => {
                let mask = self.free(warp, mask);
                self.access(instruction, event, mask);
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

    fn access(&mut self, instruction: usize, event: &Event, mask: u32) {
        let Event::Access { kind, warp, pc, size, offset, value, .. } = *event else { return };
        let offsets: [u64; 32] = std::array::from_fn(|lane| offset.get(lane).copied().unwrap_or(0));
        let mut found: Vec<(u32, Conflict)> = Vec::new();
        let conflict = |lane, conflict| found.push((lane, conflict));
        match kind {
            Kind::Read => self.races.read(warp, pc, mask, &offsets, size, conflict),
            Kind::Atomic => self.races.atomic(warp, pc, mask, &offsets, size, conflict),
            Kind::Write => {
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
                let now = Past { kind, thread, time, instruction, pc, byte, value, offset: start };
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
        self.compare(kind, mask, offset, size, &found, &expected);
    }

    fn compare(
        &self,
        kind: Kind,
        mask: u32,
        offset: [u64; 3],
        size: u32,
        found: &[(u32, Conflict)],
        expected: &[(u32, Vec<Party>)],
    ) {
        let overlap = |i: u32, j: u32| offset[i as usize].abs_diff(offset[j as usize]) < u64::from(size);
        let crowded = kind == Kind::Write && lanes(mask).any(|i| lanes(mask).any(|j| i != j && overlap(i, j)));
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
    (thread, past.pc, past.kind != Kind::Read, byte)
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
    fn agrees_with_keeping_everything(events in proptest::collection::vec(event(), 1..60)) {
        run(&events);
    }
}
