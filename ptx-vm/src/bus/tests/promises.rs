//! What must not be touched: slices not passed, constants, parameters, bytes read by `ld.global.nc`.

use super::*;

#[test]
fn only_the_slices_passed_may_be_touched() {
    let mut memory = Memory::new();
    let buffer = memory.upload(&[1u32; 32]).unwrap();
    memory.name(&buffer, "x").unwrap();
    let address = strided(memory.address(&buffer).unwrap(), 4);
    // Elements 0 to 3, 4 to 7 (they touch: one range), none at 9, and 30 to 31.
    let ranges = vec![120..128, 16..32, 36..36, 0..16];
    let findings = run_with(&mut memory, OWN, vec![(buffer.id, ranges)], |bus, block| {
        let out = bus.load_u32(block, 1, Space::Global, FULL, &address);
        let mine = |l: usize| !(8..30).contains(&l);
        assert_eq!(out, std::array::from_fn(|l| if mine(l) { 1 } else { 0x7ffb_7ffb }));
        bus.store_u32(block, 2, Space::Global, FULL, &address, &[2; 32]);
        let mut out = [[0; 32]; 4];
        // Across the joint of two ranges is fine, across the end of the last is not.
        bus.load(block, at(3), access(Space::Global, Type::U32, 2), 1, &strided(address[2], 0), &mut out[..2]);
        bus.load(block, at(4), access(Space::Generic, Type::U32, 4), 1, &strided(address[28], 0), &mut out);
    });
    let kind = FindingKind::GlobalOutOfBounds;
    assert_eq!(summary(&findings), [(kind, 1, 22), (kind, 2, 22), (kind, 4, 1)]);
    let words =
        "read of 4 bytes at byte 32 of `x` (128 bytes), of which the kernel was given bytes [0..32, 120..128] only";
    assert_eq!(findings[0].detail, words);
    let expected: Vec<u32> = (0..32).map(|l| if (8..30).contains(&l) { 1 } else { 2 }).collect();
    assert_eq!(memory.download(&buffer).unwrap(), expected);
}

#[test]
fn constants_and_parameters_are_not_written() {
    let mut memory = Memory::new();
    let (constant, plain) = (memory.upload(&[5u32; 32]).unwrap(), memory.upload(&[6u32; 32]).unwrap());
    memory.allocations[0].constant = true;
    let [constant_at, plain_at] = [constant, plain].map(|b| strided(memory.address(&b).unwrap(), 4));
    let findings = run(&mut memory, OWN, |bus, block| {
        assert_eq!(bus.load_u32(block, 0, Space::Const, FULL, &constant_at), [5; 32]);
        assert_eq!(bus.load_u32(block, 0, Space::Generic, FULL, &constant_at), [5; 32]);
        bus.load_u32(block, 1, Space::Const, FULL, &plain_at);
        bus.store_u32(block, 2, Space::Global, 0b11, &constant_at, &[0; 32]);
        bus.store_u32(block, 3, Space::Generic, 0b1, &constant_at, &[0; 32]);
        bus.store_u32(block, 4, Space::Generic, 0b111, &strided(windows::PARAM, 4), &[0; 32]);
        let atomic = Atomic { op: AtomOp::Or, ty: Type::B32, space: Space::Generic, order: Order::Weak, returns: true };
        bus.atomic(block, at(5), atomic, 1, &constant_at, &[0; 32], &[0; 32], &mut [0; 32]);
        bus.atomic(block, at(6), atomic, 1, &strided(windows::PARAM, 4), &[0; 32], &[0; 32], &mut [0; 32]);
        bus.atomic(block, at(7), atomic, 1, &strided(windows::LOCAL, 4), &[0; 32], &[0; 32], &mut [0; 32]);
    });
    let mut expected = vec![(FindingKind::GlobalOutOfBounds, 1, 32)];
    expected.extend([(2, 2), (3, 1), (4, 3), (5, 1), (6, 1)].map(|(pc, n)| (FindingKind::ReadOnly, pc, n)));
    expected.push((FindingKind::LocalOutOfBounds, 7, 1));
    assert_eq!(summary(&findings), expected);
    assert_eq!(memory.download(&constant).unwrap(), [5; 32]);
}

#[test]
fn bytes_read_as_constant_are_not_written_in_the_same_launch() {
    let mut memory = Memory::new();
    let buffer = memory.upload(&[1u32; 32]).unwrap();
    let address = strided(memory.address(&buffer).unwrap(), 4);
    let constant = Access { read_only: true, ..access(Space::Global, Type::U32, 1) };
    let body = |bus: &mut Bus<'_>, block: &mut BlockMemory| {
        // Bytes 0 to 31 are read so, then 16 to 47 written, then 40 to 55 read so.
        bus.load(block, at(1), constant, 0xff, &address, &mut [[0; 32]]);
        bus.store_u32(block, 2, Space::Global, 0xff0, &address, &[2; 32]);
        bus.load(block, at(3), constant, 0x3c00, &address, &mut [[0; 32]]);
        bus.load_u32(block, 4, Space::Global, FULL, &address);
    };
    let expected = [(FindingKind::ReadOnly, 2, 4), (FindingKind::ReadOnly, 3, 2)];
    assert_eq!(summary(&run(&mut memory, OWN, body)), expected);
    // A launch of its own knows nothing of the last one's.
    let next = run(&mut memory, OWN, |bus, block| bus.store_u32(block, 2, Space::Global, FULL, &address, &[2; 32]));
    assert_eq!(next, []);
    assert_eq!(run(&mut memory, Checks::NONE, body), [], "not asked for");
}
