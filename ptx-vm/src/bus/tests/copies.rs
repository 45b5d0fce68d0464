//! `cp.async`: when the data move, what may be touched meanwhile, what they are.

use super::*;
use proptest::prelude::*;

/// A buffer of 1024 distinct bytes, and its address.
fn source(memory: &mut Memory) -> (crate::memory::Buffer<u8>, u64) {
    let bytes: Vec<u8> = (0..1024).map(|i| (i * 7 % 251) as u8).collect();
    let buffer = memory.upload(&bytes).unwrap();
    (buffer, memory.address(&buffer).unwrap())
}

/// The word at `offset` of [`source`]'s bytes.
fn word(offset: u64) -> u64 {
    (0..4).map(|i| ((offset + i) * 7 % 251) << (8 * i)).sum()
}

#[test]
fn data_arrive_with_the_wait_and_not_before() {
    let mut memory = Memory::new();
    let (_, base) = source(&mut memory);
    let to = strided(0, 4);
    let findings = run(&mut memory, OWN, |bus, block| {
        bus.store_u32(block, 1, Space::Shared, FULL, &to, &[1; 32]);
        bus.copy_async(block, at(2), 4, FULL, &to, &strided(base, 4), &[4; 32]);
        // In flight: the old value, and a finding.
        assert_eq!(bus.load_u32(block, 3, Space::Shared, 0b1, &to), strided(0, 0).map(|_| 0).with(0, 1));
        bus.commit(block, at(4), FULL);
        assert_eq!(bus.load_u32(block, 5, Space::Shared, 0b1, &to)[0], 1);
        bus.store_u32(block, 6, Space::Shared, 0b10, &to, &[9; 32]);
        bus.wait(block, at(7), FULL, Some(0));
        assert_eq!(bus.load_u32(block, 8, Space::Shared, FULL, &to), std::array::from_fn(|l| word(4 * l as u64)));
    });
    let kind = FindingKind::InFlight;
    assert_eq!(summary(&findings), [(kind, 3, 1), (kind, 5, 1), (kind, 6, 1)]);
    let words = "read of 4 bytes at shared 0x0, byte 0 of `a` (40 bytes), the target of the cp.async at k.cu:2 by thread \
                 [0, 0, 0], in flight";
    assert_eq!(findings[0].detail, words);
}

trait With {
    fn with(self, lane: usize, value: u64) -> Self;
}

impl With for Lanes64 {
    fn with(mut self, lane: usize, value: u64) -> Self {
        self[lane] = value;
        self
    }
}

#[test]
fn every_access_to_a_target_in_flight_is_found() {
    let mut memory = Memory::new();
    let (_, base) = source(&mut memory);
    let (to, from) = (strided(128, 0), strided(base, 0));
    let findings = run(&mut memory, OWN, |bus, block| {
        bus.store_u32(block, 0, Space::Shared, FULL, &strided(64, 4), &[1; 32]);
        bus.copy_async(block, at(1), 4, 1, &to, &from, &[4; 32]);
        // Another warp, by a generic address, a byte only.
        let other = At { warp: 1, ..at(2) };
        let byte = access(Space::Generic, Type::U8, 1);
        bus.load(block, other, byte, 1, &strided(windows::SHARED + 131, 0), &mut [[0; 32]]);
        bus.load(block, other, byte, 1, &strided(windows::SHARED + 132, 0), &mut [[0; 32]]);
        let atomic = Atomic { op: AtomOp::Or, ty: Type::B32, space: Space::Shared, order: Order::Weak, returns: false };
        bus.atomic(block, at(3), atomic, 1, &to, &[0; 32], &[0; 32], &mut [0; 32]);
        bus.copy_async(block, at(4), 4, 1, &to, &from, &[4; 32]);
        bus.load_matrix(block, at(5), false, &strided(128, 0), &mut [[0; 32]]);
        bus.wait(block, at(6), 1, None);
        bus.load_matrix(block, at(7), false, &strided(128, 0), &mut [[0; 32]]);
    });
    let kind = FindingKind::InFlight;
    assert_eq!(summary(&findings), [(kind, 2, 1), (kind, 3, 1), (kind, 4, 1), (kind, 5, 8)]);
}

#[test]
fn what_has_arrived_may_be_touched_while_other_copies_fly() {
    let mut memory = Memory::new();
    let (_, base) = source(&mut memory);
    let findings = run(&mut memory, OWN, |bus, block| {
        for (pc, to) in [(1, 0), (2, 128)] {
            bus.copy_async(block, at(pc), 4, 1, &strided(to, 0), &strided(base + to, 0), &[4; 32]);
            bus.commit(block, at(pc), 1);
        }
        bus.wait(block, at(3), 1, Some(1));
        assert_eq!(bus.load_u32(block, 4, Space::Shared, 1, &strided(0, 0))[0], word(0));
        bus.store_u32(block, 5, Space::Shared, 1, &strided(0, 0), &[0; 32]);
        bus.load_u32(block, 6, Space::Shared, 1, &strided(128, 0));
    });
    assert_eq!(summary(&findings), [(FindingKind::InFlight, 6, 1)]);
}

#[test]
fn sources_must_stay_until_the_wait() {
    let mut memory = Memory::new();
    let (buffer, base) = source(&mut memory);
    let findings = run(&mut memory, OWN, |bus, block| {
        // 6 of 8 bytes of each lane, 16 apart.
        bus.copy_async(block, at(1), 8, 0b111, &strided(128, 8), &strided(base, 16), &[6; 32]);
        let half = access(Space::Global, Type::U16, 1);
        bus.store(block, at(2), half, 1, &strided(base + 4, 0), &[[0xabcd; 32]]);
        bus.store(block, at(3), half, 1, &strided(base + 6, 0), &[[0xabcd; 32]]);
        bus.load_u32(block, 4, Space::Global, 1, &strided(base, 0));
        bus.wait(block, at(5), 0b1, None);
        bus.store_u32(block, 6, Space::Global, 0b111, &strided(base, 16), &[1; 32]);
        bus.wait(block, at(7), 0b110, None);
        bus.store_u32(block, 8, Space::Global, 0b111, &strided(base, 16), &[1; 32]);
        // The write came before the data moved.
        let mut out = [[0; 32]; 2];
        bus.load(block, at(9), access(Space::Shared, Type::U32, 2), 0b1, &strided(128, 8), &mut out);
        assert_eq!([out[0][0], out[1][0]], [word(0), 0xabcd]);
    });
    assert_eq!(summary(&findings), [(FindingKind::InFlight, 2, 1), (FindingKind::InFlight, 6, 2)]);
    assert_eq!(memory.download(&buffer).unwrap()[6..8], [0xcd, 0xab]);
}

#[test]
fn the_rest_is_zero_and_no_source_is_no_read() {
    let mut memory = Memory::new();
    let (_, base) = source(&mut memory);
    for bytes in [4u32, 8, 16] {
        let findings = run(&mut memory, OWN, |bus, block| {
            // Lane l reads l bytes (more than asked for: all); lane 0 reads none, from nowhere.
            let wanted = std::array::from_fn(|l| if l == 5 { 99 } else { l as u64 % 4 });
            let from = strided(base, 16).with(0, 3);
            let mask = 0b10_1111;
            bus.copy_async(block, at(1), bytes, mask, &strided(128, u64::from(bytes)).with(5, 16), &from, &wanted);
            bus.exited(block, at(2), FULL);
            for lane in [0, 1, 2, 3, 5] {
                let (start, given) = match lane {
                    5 => (16, u64::from(bytes)),
                    _ => (128 + lane * u64::from(bytes), lane),
                };
                let mut out = [[0; 32]];
                bus.load(
                    block,
                    at(3),
                    access(Space::Shared, Type::U8, 1),
                    (1 << bytes) - 1,
                    &strided(start, 1),
                    &mut out,
                );
                let expected = |i: usize| {
                    let i = i as u64;
                    if i < given.min(u64::from(bytes)) { (16 * lane + i) * 7 % 251 } else { 0 }
                };
                assert_eq!(out[0][..bytes as usize], std::array::from_fn::<_, 32, _>(expected)[..bytes as usize]);
            }
        });
        assert_eq!(findings, []);
    }
}

#[test]
fn bad_sources_and_targets_are_found_where_they_are_issued() {
    let mut memory = Memory::new();
    let (_, base) = source(&mut memory);
    let fresh = memory.allocate::<u32>(4).unwrap();
    let fresh = memory.address(&fresh).unwrap();
    let findings = run(&mut memory, OWN, |bus, block| {
        let mut copy =
            |pc, to, from| bus.copy_async(block, at(pc), 16, 1, &strided(to, 0), &strided(from, 0), &[16; 32]);
        copy(1, 0, base + 1024);
        copy(2, 16, base + 8);
        copy(3, 192, base);
        copy(4, 136, base);
        copy(5, 112, base);
        copy(6, 176, fresh);
        bus.wait(block, at(7), FULL, None);
        let out = bus.load_u32(block, 8, Space::Shared, FULL, &strided(0, 4));
        assert_eq!(out[..8], [0x7ffb_7ffb; 8], "no source is poison");
    });
    let expected = [
        (FindingKind::GlobalOutOfBounds, 1, 1),
        (FindingKind::Misaligned, 2, 1),
        (FindingKind::SharedOutOfBounds, 3, 1),
        (FindingKind::Misaligned, 4, 1),
        (FindingKind::SharedOutOfBounds, 5, 1),
        (FindingKind::Uninitialised, 6, 1),
        (FindingKind::Uninitialised, 8, 24),
    ];
    assert_eq!(summary(&findings), expected);
}

#[test]
fn an_endless_row_of_copies_is_bounded() {
    let mut memory = Memory::new();
    let (_, base) = source(&mut memory);
    let findings = run(&mut memory, Checks::NONE, |bus, block| {
        for i in 0..3000u64 {
            bus.copy_async(block, at(1), 4, 1, &strided(0, 0), &strided(base + i % 256 * 4, 0), &[4; 32]);
        }
        // The oldest have arrived, the last 1024 have not.
        let seen = bus.load_u32(block, 2, Space::Shared, 1, &[0; 32])[0];
        assert_eq!(seen, word((3000 - 1024 - 1) % 256 * 4));
        bus.wait(block, at(3), FULL, None);
        assert_eq!(bus.load_u32(block, 4, Space::Shared, 1, &[0; 32])[0], word(2999 % 256 * 4));
    });
    assert_eq!(findings, []);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Copy(u32),
    Commit(u32),
    Wait(u32, Option<u32>),
    Exit(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let mask = prop_oneof![Just(0b1111), 0u32..16];
    prop_oneof![
        4 => mask.clone().prop_map(Step::Copy),
        3 => mask.clone().prop_map(Step::Commit),
        2 => (mask.clone(), 0u32..4).prop_map(|(mask, pending)| Step::Wait(mask, Some(pending))),
        1 => mask.clone().prop_map(|mask| Step::Wait(mask, None)),
        1 => mask.prop_map(Step::Exit),
    ]
}

/// What one thread has in flight: groups of target words, the last one open.
#[derive(Clone)]
struct Thread {
    groups: Vec<Vec<u64>>,
}

impl Thread {
    /// Takes all groups but the last committed `keep` and the open one; all of them for `None`.
    fn wait(&mut self, keep: Option<u32>) -> Vec<u64> {
        let end = match keep {
            Some(keep) => (self.groups.len() - 1).saturating_sub(keep as usize),
            None => self.groups.len(),
        };
        // A wait does not close the open group, nor undo commits.
        self.groups[..end].iter_mut().flat_map(std::mem::take).collect()
    }
}

proptest! {
    /// Each lane's groups apart: a word is there exactly when its lane has waited for it.
    #[test]
    fn groups_are_per_thread(steps in prop::collection::vec(step(), 1..40)) {
        let mut memory = Memory::new();
        let (_, base) = source(&mut memory);
        let mut threads = vec![Thread { groups: vec![Vec::new()] }; 4];
        let mut arrived = [false; 48];
        let (mut next, mut failure) = (0, None);
        let lanes = |mask: u32| (0..4).filter(move |lane| mask >> lane & 1 == 1);
        run(&mut memory, Checks::NONE, |bus, block| {
            bus.store_u32(block, 0, Space::Shared, FULL, &strided(0, 4), &[0; 32]);
            bus.store_u32(block, 0, Space::Shared, 0xffff, &strided(128, 4), &[0; 32]);
            for (i, step) in steps.iter().enumerate() {
                let at = at(i as u32);
                let mut done = Vec::new();
                match *step {
                    Step::Copy(mask) if next + 4 <= 48 => {
                        let to = strided(4 * next, 4);
                        bus.copy_async(block, at, 4, mask, &to, &strided(base + 4 * next, 4), &[4; 32]);
                        for lane in lanes(mask) {
                            threads[lane].groups.last_mut().unwrap().push(next + lane as u64);
                        }
                        next += 4;
                    }
                    Step::Copy(_) => {}
                    Step::Commit(mask) => {
                        bus.commit(block, at, mask);
                        lanes(mask).for_each(|lane| threads[lane].groups.push(Vec::new()));
                    }
                    Step::Wait(mask, pending) => {
                        bus.wait(block, at, mask, pending);
                        done.extend(lanes(mask).flat_map(|lane| threads[lane].wait(pending)));
                    }
                    Step::Exit(mask) => {
                        bus.exited(block, at, mask);
                        done.extend(lanes(mask).flat_map(|lane| threads[lane].wait(None)));
                    }
                }
                done.into_iter().for_each(|word| arrived[word as usize] = true);
                let low = bus.load_u32(block, 0, Space::Shared, FULL, &strided(0, 4));
                let high = bus.load_u32(block, 0, Space::Shared, 0xffff, &strided(128, 4));
                let seen: Vec<u64> = low.into_iter().chain(high.into_iter().take(16)).collect();
                let expected: Vec<u64> =
                    (0..48).map(|w| if arrived[w as usize] { word(4 * w) } else { 0 }).collect();
                if seen != expected && failure.is_none() {
                    failure = Some((i, seen, expected));
                }
            }
        });
        prop_assert_eq!(failure, None);
    }
}
