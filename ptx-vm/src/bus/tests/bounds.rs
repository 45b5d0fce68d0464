//! What findings about addresses say.

use super::*;

/// The one finding, as kind and detail.
fn only(findings: Vec<Finding>) -> (FindingKind, String) {
    let [finding] = <[Finding; 1]>::try_from(findings).unwrap_or_else(|all| panic!("{all:#?}"));
    assert_eq!(finding.source.map(|s| s.to_string()), Some("k.cu:9".to_owned()));
    (finding.kind, finding.detail)
}

#[test]
fn device_findings_name_the_nearest_buffer() {
    let mut memory = Memory::new();
    let x = memory.upload(&[7u32; 25]).unwrap();
    memory.name(&x, "x").unwrap();
    let y = memory.upload(&[8u32; 2]).unwrap();
    let (x, y) = (memory.address(&x).unwrap(), memory.address(&y).unwrap());
    let cases = [
        (x + 100, "0 bytes behind the end of `x` (100 bytes)"),
        (x + 1000, "900 bytes behind the end of `x` (100 bytes)"),
        (x - 4, "4 bytes before `x` (100 bytes)"),
        (y - 8, "8 bytes before `buffer 1` (8 bytes)"),
        (y + 16, "8 bytes behind the end of `buffer 1` (8 bytes)"),
        (windows::SHARED + 16, "that is a generic address of Shared memory, offset 0x10"),
    ];
    for (address, words) in cases {
        let findings = run(&mut memory, OWN, |bus, block| {
            let out = bus.load_u32(block, 9, Space::Global, 1 << 3, &strided(address, 0));
            assert_eq!(out[3], 0x7ffb_7ffb);
        });
        let detail = format!("read of 4 bytes at {address:#x}: {words}");
        assert_eq!(only(findings), (FindingKind::GlobalOutOfBounds, detail));
    }
    let over = run(&mut memory, OWN, |bus, block| {
        let mut out = [[0; 32]; 4];
        bus.load(block, at(9), access(Space::Global, Type::U32, 4), 1, &strided(x + 96, 0), &mut out);
    });
    let detail =
        format!("read of 16 bytes at {:#x}: 16 bytes from byte 96 of `x` (100 bytes) run over its end", x + 96);
    assert_eq!(only(over), (FindingKind::GlobalOutOfBounds, detail));
}

#[test]
fn without_any_buffer_every_address_is_wrong() {
    let findings = run(&mut Memory::new(), OWN, |bus, block| {
        bus.store_u32(block, 9, Space::Global, 1, &[0; 32], &[0; 32]);
    });
    let detail = "write of 4 bytes at 0x0: there is no device memory at all".to_owned();
    assert_eq!(only(findings), (FindingKind::GlobalOutOfBounds, detail));
}

#[test]
fn one_instruction_may_reach_many_buffers() {
    let mut memory = Memory::new();
    let buffers: Vec<_> = (0..4u32).map(|i| memory.upload(&[i * 10, i * 10 + 1]).unwrap()).collect();
    let bases: Vec<u64> = buffers.iter().map(|b| memory.address(b).unwrap()).collect();
    // Lanes in turn: buffers 0 to 3, then beyond the end of buffer 1.
    let address: Lanes64 = std::array::from_fn(|l| if l % 5 == 4 { bases[1] + 8 } else { bases[l % 5] + 4 });
    let findings = run(&mut memory, OWN, |bus, block| {
        let out = bus.load_u32(block, 9, Space::Global, FULL, &address);
        let expected = |l: usize| if l % 5 == 4 { 0x7ffb_7ffb } else { (l as u64 % 5) * 10 + 1 };
        assert_eq!(out, std::array::from_fn(expected));
    });
    assert_eq!(summary(&findings), [(FindingKind::GlobalOutOfBounds, 9, 6)]);
}

#[test]
fn shared_and_local_arrays_end_where_they_end() {
    let mut memory = Memory::new();
    // Space, address, width in u32, and what is wrong.
    let cases = [
        (Space::Shared, 36, 1, None),
        (
            Space::Shared,
            32,
            4,
            Some("read of 16 bytes at shared 0x20, byte 32 of `a` (40 bytes); the block has 192 bytes"),
        ),
        (
            Space::Shared,
            112,
            4,
            Some("read of 16 bytes at shared 0x70, byte 48 of `b` (60 bytes); the block has 192 bytes"),
        ),
        (Space::Shared, 48, 4, None),
        (Space::Shared, 128, 4, None),
        (Space::Shared, 176, 4, None),
        (Space::Shared, 192, 1, Some("read of 4 bytes at shared 0xc0, offset 0xc0; the block has 192 bytes")),
        (Space::Local, 16, 1, None),
        (
            Space::Local,
            16,
            2,
            Some("read of 8 bytes at local 0x10, byte 16 of `l` (20 bytes); the thread has 40 bytes"),
        ),
        (Space::Local, 36, 1, None),
        (Space::Local, 40, 2, Some("read of 8 bytes at local 0x28, offset 0x28; the thread has 40 bytes")),
        (Space::Param, 16, 1, None),
        (
            Space::Param,
            0,
            2,
            Some("read of 8 bytes at parameter 0x0, byte 0 of `p` (4 bytes); the kernel has 20 bytes"),
        ),
        (Space::Param, 20, 1, Some("read of 4 bytes at parameter 0x14, offset 0x14; the kernel has 20 bytes")),
    ];
    let kind = |space| match space {
        Space::Shared => FindingKind::SharedOutOfBounds,
        Space::Local => FindingKind::LocalOutOfBounds,
        _ => FindingKind::ParamOutOfBounds,
    };
    for (space, address, width, words) in cases {
        let findings = run(&mut memory, Checks::NONE, |bus, block| {
            let mut out = vec![[0; 32]; width];
            bus.load(block, at(9), access(space, Type::U32, width as u8), 2, &strided(address, 0), &mut out);
        });
        match words {
            Some(words) => assert_eq!(only(findings), (kind(space), words.to_owned())),
            None => assert_eq!(findings, [], "{space:?} {address}"),
        }
    }
}

#[test]
fn writes_out_of_bounds_change_nothing() {
    let mut memory = Memory::new();
    let buffer = memory.upload(&[1u32; 8]).unwrap();
    let base = memory.address(&buffer).unwrap();
    let findings = run(&mut memory, OWN, |bus, block| {
        // Lanes 0 to 7 fit; lanes 8 to 31 lie behind the end.
        bus.store_u32(block, 9, Space::Global, FULL, &strided(base, 4), &strided(100, 1));
        bus.store_u32(block, 10, Space::Global, 1, &strided(base + 2, 0), &[0; 32]);
    });
    assert_eq!(summary(&findings), [(FindingKind::GlobalOutOfBounds, 9, 24), (FindingKind::Misaligned, 10, 1)]);
    assert_eq!(memory.download(&buffer).unwrap(), (100..108).collect::<Vec<u32>>());
}

#[test]
fn vectors_are_aligned_to_the_whole_access() {
    let mut memory = Memory::new();
    let buffer = memory.upload(&[1u32; 8]).unwrap();
    let base = memory.address(&buffer).unwrap();
    let findings = run(&mut memory, OWN, |bus, block| {
        let mut out = [[0; 32]; 4];
        bus.load(block, at(9), access(Space::Global, Type::F32, 4), 1, &strided(base + 8, 0), &mut out);
    });
    let detail = format!("read of 16 bytes at {:#x}, which is no multiple of 16", base + 8);
    assert_eq!(only(findings), (FindingKind::Misaligned, detail));
}

#[test]
fn overlapping_vectors_of_two_lanes_do_not_mix() {
    let mut memory = Memory::new();
    let buffer = memory.upload(&[0u32; 2]).unwrap();
    let base = memory.address(&buffer).unwrap();
    run(&mut memory, OWN, |bus, block| {
        let values = [strided(10, 1), strided(50, 1)];
        bus.store(block, at(9), access(Space::Global, Type::U32, 2), FULL, &strided(base, 0), &values);
    });
    assert_eq!(memory.download(&buffer).unwrap(), [41, 81]);
}

#[test]
fn uninitialised_reads_are_found_once_per_lane_and_only_if_asked_for() {
    let mut memory = Memory::new();
    let buffer = memory.allocate::<u32>(64).unwrap();
    let base = memory.address(&buffer).unwrap();
    let body = |bus: &mut Bus<'_>, block: &mut BlockMemory| {
        bus.store_u32(block, 1, Space::Global, 0xffff, &strided(base, 4), &[5; 32]);
        bus.store_u32(block, 2, Space::Shared, 0xff, &strided(0, 4), &[5; 32]);
        let out = bus.load_u32(block, 9, Space::Global, FULL, &strided(base, 4));
        assert_eq!(out, std::array::from_fn(|l| if l < 16 { 5 } else { 0x7ffb_7ffb }));
        bus.load_u32(block, 10, Space::Shared, 0x3ff, &strided(0, 4));
        bus.load_u32(block, 11, Space::Local, 1, &strided(0, 0));
    };
    assert_eq!(run(&mut memory.clone(), Checks::NONE, body), []);
    let kind = FindingKind::Uninitialised;
    assert_eq!(summary(&run(&mut memory, OWN, body)), [(kind, 9, 16), (kind, 10, 2), (kind, 11, 1)]);
}

#[test]
fn what_one_launch_writes_the_next_may_read() {
    let mut memory = Memory::new();
    let buffer = memory.allocate::<u32>(32).unwrap();
    let address = strided(memory.address(&buffer).unwrap(), 4);
    let first = run(&mut memory, OWN, |bus, block| bus.store_u32(block, 1, Space::Global, FULL, &address, &[3; 32]));
    let second = run(&mut memory, OWN, |bus, block| {
        assert_eq!(bus.load_u32(block, 1, Space::Global, FULL, &address), [3; 32]);
        // Shared memory starts anew.
        bus.load_u32(block, 2, Space::Shared, 1, &[0; 32]);
    });
    assert_eq!(first, []);
    assert_eq!(summary(&second), [(FindingKind::Uninitialised, 2, 1)]);
}
