use super::*;
use crate::module::Kernel;
use crate::program::{Program, Variable};
use half::{bf16, f16};
use proptest::prelude::*;
use std::sync::Arc;

#[test]
fn poison_is_a_quiet_nan_everywhere_and_no_likely_integer() {
    let mut memory = Memory::new();
    macro_rules! fresh {
        ($ty:ty) => {{
            let buffer = memory.allocate::<$ty>(13).unwrap();
            memory.download(&buffer).unwrap()
        }};
    }
    assert!(fresh!(f16).iter().all(|v| v.is_nan() && v.to_bits() & 0x0200 != 0));
    assert!(fresh!(bf16).iter().all(|v| v.is_nan() && v.to_bits() & 0x0040 != 0));
    assert!(fresh!(f32).iter().all(|v| v.is_nan() && v.to_bits() & 1 << 22 != 0));
    assert!(fresh!(f64).iter().all(|v| v.is_nan() && v.to_bits() & 1 << 51 != 0));
    assert!(fresh!(i16).iter().all(|v| *v > i16::MAX - 5));
    assert!(fresh!(i32).iter().all(|v| *v > i32::MAX - (1 << 20)));
    assert!(fresh!(i64).iter().all(|v| *v > i64::MAX - (1 << 52)));
    let expected: Vec<u8> = POISON.into_iter().cycle().take(13).collect();
    assert_eq!(fresh!(u8), expected);
}

#[test]
fn what_is_uploaded_comes_back() {
    let mut memory = Memory::new();
    let half = memory.upload(&[f16::ONE, f16::NEG_INFINITY]).unwrap();
    let double = memory.upload(&[f64::MIN_POSITIVE, -0.0]).unwrap();
    let empty = memory.upload::<u64>(&[]).unwrap();
    assert_eq!(memory.download(&half).unwrap(), [f16::ONE, f16::NEG_INFINITY]);
    assert_eq!(memory.download(&double).unwrap().map_bits(), [f64::MIN_POSITIVE, -0.0].map(f64::to_bits));
    assert_eq!(memory.download(&empty).unwrap(), []);
    assert!(empty.is_empty() && memory.address(&empty).is_ok());
    memory.write(&half, &[f16::ZERO, f16::ONE]).unwrap();
    assert_eq!(memory.download(&half).unwrap(), [f16::ZERO, f16::ONE]);
    let wrong = memory.write(&half, &[f16::ZERO]);
    assert_eq!(wrong, Err(MemoryError::Length { buffer: half.id, expected: 2, found: 1 }));
    let units = memory.upload(&[(); 3]).unwrap();
    assert_eq!(memory.download(&units).unwrap(), [(); 3]);
}

trait Bits {
    fn map_bits(&self) -> Vec<u64>;
}

impl Bits for Vec<f64> {
    fn map_bits(&self) -> Vec<u64> {
        self.iter().map(|v| v.to_bits()).collect()
    }
}

#[test]
fn handles_that_lead_nowhere_are_errors() {
    let (mut one, mut two) = (Memory::new(), Memory::new());
    let (foreign, buffer) = (two.upload(&[1u8]).unwrap(), one.upload(&[1u8]).unwrap());
    one.free(buffer).unwrap();
    for bad in [foreign, buffer] {
        let unknown = MemoryError::UnknownBuffer(bad.id);
        assert_eq!(one.download(&bad), Err(unknown.clone()));
        assert_eq!(one.write(&bad, &[1]), Err(unknown.clone()));
        assert_eq!(one.name(&bad, "x"), Err(unknown.clone()));
        assert_eq!(one.address(&bad), Err(unknown.clone()));
        assert_eq!(one.free(bad), Err(unknown));
    }
    assert!(two.download(&foreign).is_ok());
}

#[test]
fn a_clone_shares_what_was_there_and_nothing_else() {
    let mut original = Memory::new();
    let old = original.upload(&[1u8, 2]).unwrap();
    let mut clone = original.clone();
    let (mine, theirs) = (clone.upload(&[3u8]).unwrap(), original.upload(&[4u8]).unwrap());
    clone.write(&old, &[5, 6]).unwrap();
    assert_eq!((original.download(&old).unwrap(), clone.download(&old).unwrap()), (vec![1, 2], vec![5, 6]));
    assert_eq!(clone.download(&theirs), Err(MemoryError::UnknownBuffer(theirs.id)));
    assert_eq!(original.download(&mine), Err(MemoryError::UnknownBuffer(mine.id)));
    let grandchild = clone.clone();
    assert_eq!((grandchild.download(&old).unwrap(), grandchild.download(&mine).unwrap()), (vec![5, 6], vec![3]));
    assert!(grandchild.download(&theirs).is_err());
}

#[test]
fn the_limit_is_on_what_is_alive() {
    let mut memory = Memory::with_limit(100);
    let first = memory.allocate::<u32>(20).unwrap();
    let error = MemoryError::TooLarge { requested: 21, limit: 100 };
    assert_eq!(memory.upload(&[0u8; 21]).map(|b| b.id), Err(error));
    memory.allocate::<u8>(20).unwrap();
    memory.free(first).unwrap();
    memory.allocate::<u8>(80).unwrap();
    for len in [usize::MAX, usize::MAX / 8, 1 << 60] {
        let error = memory.allocate::<u64>(len).map(|b| b.id);
        assert!(matches!(error, Err(MemoryError::TooLarge { limit: 100, .. })), "{error:?}");
    }
    assert!(Memory::with_limit(u64::MAX).allocate::<u8>(1 << 62).is_err(), "more than the host has");
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Allocate(usize),
    Upload(usize, u8),
    Write(usize, u8),
    Free(usize),
}

proptest! {
    /// Against a list of byte vectors; and no two buffers ever made come near each other.
    #[test]
    fn memory_is_a_list_of_byte_vectors(steps in prop::collection::vec(prop_oneof![
        (0usize..300_000).prop_map(Step::Allocate),
        (0usize..500, any::<u8>()).prop_map(|(len, seed)| Step::Upload(len, seed)),
        (any::<usize>(), any::<u8>()).prop_map(|(which, seed)| Step::Write(which, seed)),
        any::<usize>().prop_map(Step::Free),
    ], 1..25)) {
        let mut memory = Memory::new();
        let mut model: Vec<(Buffer<u8>, Option<Vec<u8>>)> = Vec::new();
        let mut ranges: Vec<Range<u64>> = Vec::new();
        let fill = |len: usize, seed: u8| (0..len).map(|i| seed.wrapping_add(i as u8)).collect::<Vec<u8>>();
        for step in steps {
            let pick = |which: usize| which.checked_rem(model.len());
            match step {
                Step::Allocate(len) => {
                    let expected = POISON.into_iter().cycle().take(len).collect();
                    model.push((memory.allocate(len).unwrap(), Some(expected)));
                }
                Step::Upload(len, seed) => {
                    let data = fill(len, seed);
                    model.push((memory.upload(&data).unwrap(), Some(data)));
                }
                Step::Write(which, seed) => if let Some(i) = pick(which) {
                    let data = fill(model[i].0.len(), seed);
                    let done = memory.write(&model[i].0, &data);
                    prop_assert_eq!(done.is_ok(), model[i].1.is_some());
                    model[i].1 = model[i].1.is_some().then_some(data);
                },
                Step::Free(which) => if let Some(i) = pick(which) {
                    prop_assert_eq!(memory.free(model[i].0).is_ok(), model[i].1.take().is_some());
                },
            }
            for (buffer, expected) in &model {
                prop_assert_eq!(&memory.download(buffer).ok(), expected);
            }
            if let Some((buffer, Some(bytes))) = model.last().filter(|_| model.len() > ranges.len()) {
                let base = memory.address(buffer).unwrap();
                let range = base..base + bytes.len() as u64;
                prop_assert!(base.is_multiple_of(256) && range.end + (64 << 10) <= windows::SHARED);
                prop_assert!(ranges.iter().all(|r| r.end + (64 << 10) <= range.start), "{ranges:x?} {range:x?}");
                ranges.push(range);
            }
        }
    }
}

fn variable(name: &str, size: u64, align: u32, constant: bool, init: &[u8], pointers: &[(u64, u32, i64)]) -> Variable {
    let (name, init, pointers) = (name.to_owned(), init.to_vec(), pointers.to_vec());
    Variable { name, constant, size, align, init, pointers }
}

fn kernel(module: u64, variables: &[Variable]) -> Kernel {
    Kernel { module, program: Arc::new(Program::default()), variables: Arc::new(variables.to_vec()) }
}

#[test]
fn variables_start_as_written_once_per_module_and_memory() {
    let variables = [
        variable("table", 8, 4, true, &[1, 2, 3], &[]),
        variable(
            "links",
            24,
            1024,
            false,
            &[9; 24],
            &[(0, 0, 0), (16, 1, -8), (20, 0, 0), (u64::MAX - 3, 0, 0), (8, 7, 0)],
        ),
        variable("empty", 0, 1, false, &[], &[]),
    ];
    let (mut memory, module) = (Memory::new(), kernel(1, &variables));
    let addresses = memory.instantiate(&module).unwrap();
    assert_eq!(memory.instantiate(&module).unwrap(), addresses);
    assert_eq!(addresses[1] % 1024, 0);
    let [table, links, _] = &memory.allocations[..] else { panic!("{} allocations", memory.allocations.len()) };
    assert_eq!(
        (table.bytes.as_slice(), table.constant, table.name.as_str()),
        (&[1, 2, 3, 0, 0, 0, 0, 0][..], true, "table")
    );
    let mut expected = [9; 24];
    expected[..8].copy_from_slice(&addresses[0].to_le_bytes());
    expected[16..].copy_from_slice(&(addresses[1] - 8).to_le_bytes());
    assert_eq!((links.bytes.as_slice(), links.constant), (&expected[..], false));
    assert!(memory.allocations.iter().all(|a| a.written.is_empty()), "all of it is initialised");
    // Another module and another memory have their own.
    let other = memory.instantiate(&kernel(2, &variables)).unwrap();
    assert!(other.iter().all(|address| !addresses.contains(address)));
    assert_eq!(Memory::new().instantiate(&module).unwrap().len(), 3);
}

#[test]
fn variables_that_do_not_fit_leave_nothing_behind() {
    let big = [variable("a", 60, 1, false, &[], &[]), variable("b", 60, 1, false, &[], &[])];
    let mut memory = Memory::with_limit(100);
    let error = MemoryError::TooLarge { requested: 60, limit: 100 };
    assert_eq!(memory.instantiate(&kernel(1, &big)), Err(error.clone()));
    assert_eq!(memory.instantiate(&kernel(1, &big)), Err(error));
    memory.allocate::<u8>(100).unwrap();
    assert!(memory.instantiate(&kernel(2, &[variable("c", u64::MAX, 1, false, &[], &[])])).is_err());
}
