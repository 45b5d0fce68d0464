//! Random loads and stores in every space, each lane on its own, against a map of bytes.

use super::*;
use crate::memory::POISON;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};

/// A byte of some memory: space, lane (of local memory), address.
type Key = (Space, usize, u64);

/// Memory as a plain map, and what accesses to it should lead to.
struct Model {
    /// Every byte that exists, and its value if it was written.
    bytes: HashMap<Key, Option<u8>>,
    /// Named ranges that an access must not leave: space, first, end.
    arrays: Vec<(Space, u64, u64)>,
    found: BTreeMap<(FindingKind, u32), u64>,
}

impl Model {
    fn new(memory: &Memory, program: &Program) -> Model {
        let mut bytes = HashMap::new();
        for a in &memory.allocations {
            let written = |i: usize| a.written.is_empty() || a.written[i / 64] >> (i % 64) & 1 == 1;
            let known = |(i, b): (usize, &u8)| ((Space::Global, 0, a.base + i as u64), written(i).then_some(*b));
            bytes.extend(a.bytes.iter().enumerate().map(known));
        }
        bytes.extend((0..u64::from(SHARED_BYTES)).map(|i| ((Space::Shared, 0, i), None)));
        for lane in 0..32 {
            bytes.extend((0..u64::from(program.local_bytes)).map(|i| ((Space::Local, lane, i), None)));
        }
        bytes.extend((0..program.parameter_bytes).map(|i| ((Space::Param, 0, u64::from(i)), Some(i as u8))));
        let arrays = [(Space::Shared, 0, 40), (Space::Shared, 64, 124), (Space::Local, 0, 20), (Space::Param, 0, 4)];
        let arrays = arrays.into_iter().chain([(Space::Param, 8, 20)]).collect();
        Model { bytes, arrays, found: BTreeMap::new() }
    }

    fn find(&mut self, kind: FindingKind, pc: u32) {
        *self.found.entry((kind, pc)).or_default() += 1;
    }

    /// The bytes that a lane touches, or `None` after a finding.
    fn place(&mut self, pc: u32, space: Space, lane: usize, address: u64, size: u64) -> Option<Vec<Key>> {
        let (space, address) = match space {
            Space::Generic if (windows::SHARED..windows::SHARED + windows::SIZE).contains(&address) => {
                (Space::Shared, address - windows::SHARED)
            }
            Space::Generic if (windows::LOCAL..windows::LOCAL + windows::SIZE).contains(&address) => {
                (Space::Local, address - windows::LOCAL)
            }
            Space::Generic if (windows::PARAM..windows::PARAM + windows::SIZE).contains(&address) => {
                (Space::Param, address - windows::PARAM)
            }
            Space::Generic | Space::Global => (Space::Global, address),
            space => (space, address % (1 << 32)),
        };
        if address % size != 0 {
            self.find(FindingKind::Misaligned, pc);
            return None;
        }
        let lane = if space == Space::Local { lane } else { 0 };
        let keys: Vec<Key> = (0..size).map(|i| (space, lane, address.wrapping_add(i))).collect();
        let exist = keys.iter().all(|key| self.bytes.contains_key(key));
        let crosses = |&(s, first, end): &(Space, u64, u64)| {
            s == space && (first..end).contains(&address) && address + size > end
        };
        if !exist || self.arrays.iter().any(crosses) {
            let kind = match space {
                Space::Shared => FindingKind::SharedOutOfBounds,
                Space::Local => FindingKind::LocalOutOfBounds,
                Space::Param => FindingKind::ParamOutOfBounds,
                _ => FindingKind::GlobalOutOfBounds,
            };
            self.find(kind, pc);
            return None;
        }
        Some(keys)
    }

    fn load(&mut self, pc: u32, access: Access, lane: usize, address: u64) -> Vec<u64> {
        let keys = self.place(pc, access.space, lane, address, u64::from(access.bytes()));
        let poison = |i: usize| POISON[i % 2];
        let bytes: Vec<u8> = match keys {
            None => (0..access.ty.bytes() as usize).map(poison).cycle().take(access.bytes() as usize).collect(),
            Some(keys) => {
                if keys.iter().any(|key| self.bytes[key].is_none()) {
                    self.find(FindingKind::Uninitialised, pc);
                }
                keys.iter().map(|key| self.bytes[key].unwrap_or(poison(key.2 as usize))).collect()
            }
        };
        bytes.chunks(access.ty.bytes() as usize).map(|chunk| extend(chunk, access.ty.is_signed())).collect()
    }

    fn store(&mut self, pc: u32, access: Access, lane: usize, address: u64, values: &[u64]) {
        let size = access.bytes();
        let parameter = (windows::PARAM..windows::PARAM + windows::SIZE).contains(&address);
        if access.space == Space::Param || access.space == Space::Generic && parameter {
            return self.find(FindingKind::ReadOnly, pc);
        }
        let Some(keys) = self.place(pc, access.space, lane, address, u64::from(size)) else { return };
        let width = access.ty.bytes() as usize;
        let bytes = values.iter().flat_map(|v| v.to_le_bytes().into_iter().take(width));
        for (key, byte) in keys.into_iter().zip(bytes.collect::<Vec<_>>()) {
            self.bytes.insert(key, Some(byte));
        }
    }
}

/// Little-endian bytes as a 64-bit register value, by arithmetic rather than shifts.
fn extend(bytes: &[u8], signed: bool) -> u64 {
    let value = bytes.iter().rev().fold(0i128, |value, byte| value * 256 + i128::from(*byte));
    let modulus = 1i128 << (8 * bytes.len());
    (if signed && value >= modulus / 2 { value - modulus } else { value }) as u64
}

const TYPES: [Type; 14] = [
    Type::B8,
    Type::U8,
    Type::S8,
    Type::B16,
    Type::U16,
    Type::S16,
    Type::F16,
    Type::B32,
    Type::S32,
    Type::F32,
    Type::U64,
    Type::S64,
    Type::F64,
    Type::Bf16x2,
];

#[derive(Clone, Debug)]
struct Step {
    store: bool,
    ty: Type,
    log_vector: u32,
    space: Space,
    mask: u32,
    /// Of each lane: which memory (if generic), which 4-byte unit, and a disturbance now and then.
    lanes: Vec<(u8, u64, u8)>,
    values: u64,
}

fn step() -> impl Strategy<Value = Step> {
    let spaces = prop::sample::select(vec![Space::Generic, Space::Global, Space::Shared, Space::Local, Space::Param]);
    let lanes = prop::collection::vec((0u8..5, 0u64..52, 0u8..30), 32);
    let mask = prop_oneof![Just(FULL), any::<u32>(), Just(0)];
    (any::<bool>(), prop::sample::select(&TYPES[..]), 0u32..4, spaces, mask, lanes, any::<u64>()).prop_map(
        |(store, ty, log_vector, space, mask, lanes, values)| Step {
            store,
            ty,
            log_vector,
            space,
            mask,
            lanes,
            values,
        },
    )
}

impl Step {
    fn access(&self) -> Access {
        access(self.space, self.ty, 1 << self.log_vector)
    }

    fn addresses(&self, buffers: [u64; 2]) -> Lanes64 {
        let size = u64::from(self.access().bytes());
        std::array::from_fn(|lane| {
            let (memory, unit, odd) = self.lanes[lane];
            let base = match (self.space, memory) {
                (Space::Global, _) | (Space::Generic, 0 | 1) => buffers[memory as usize % 2],
                (Space::Generic, 2) => windows::SHARED,
                (Space::Generic, 3) => windows::LOCAL,
                (Space::Generic, _) => windows::PARAM,
                _ => 0,
            };
            let address = base + unit * 4 / size * size;
            match odd {
                0 => address + 1,
                1 => address.wrapping_sub(size),
                2 => address + (1 << 33),
                3 => address.wrapping_neg(),
                _ => address,
            }
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn loads_and_stores_are_a_map_of_bytes(steps in prop::collection::vec(step(), 1..40)) {
        let mut memory = Memory::new();
        let written = memory.upload(&std::array::from_fn::<u8, 100, _>(|i| (i * 3) as u8)).unwrap();
        let fresh = memory.allocate::<u32>(44).unwrap();
        let buffers = [memory.address(&written).unwrap(), memory.address(&fresh).unwrap()];
        let mut model = Model::new(&memory, &program());
        let mut failure = None;
        let findings = run(&mut memory, OWN, |bus, block| {
            for (pc, step) in steps.iter().enumerate() {
                let (pc, access, address) = (pc as u32, step.access(), step.addresses(buffers));
                let lanes = (0..32).filter(|lane| step.mask >> lane & 1 == 1);
                if step.store {
                    let value = |i: usize, lane: usize| step.values.rotate_left((i * 7 + lane * 5) as u32);
                    let values: Vec<Lanes64> =
                        (0..access.vector as usize).map(|i| std::array::from_fn(|lane| value(i, lane))).collect();
                    bus.store(block, at(pc), access, step.mask, &address, &values);
                    for lane in lanes {
                        let values: Vec<u64> = values.iter().map(|v| v[lane]).collect();
                        model.store(pc, access, lane, address[lane], &values);
                    }
                    continue;
                }
                let untouched = 0x5555;
                let mut out = vec![[untouched; 32]; access.vector as usize];
                bus.load(block, at(pc), access, step.mask, &address, &mut out);
                let mut expected = vec![[untouched; 32]; access.vector as usize];
                for lane in lanes {
                    for (i, value) in model.load(pc, access, lane, address[lane]).into_iter().enumerate() {
                        expected[i][lane] = value;
                    }
                }
                if out != expected && failure.is_none() {
                    failure = Some((pc, out, expected));
                }
            }
        });
        prop_assert_eq!(failure, None);
        let found: BTreeMap<_, _> = summary(&findings).into_iter().map(|(kind, pc, n)| ((kind, pc), n)).collect();
        prop_assert_eq!(found, model.found);
    }
}
