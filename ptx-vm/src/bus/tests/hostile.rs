//! Any address may come, to any operation: findings, no panic.

use super::*;
use proptest::prelude::*;

/// Addresses around every edge there is.
fn edge() -> impl Strategy<Value = u64> {
    let bases = [0, 1 << 32, 1 << 36, windows::SHARED, windows::LOCAL, windows::PARAM, u64::MAX, 1 << 63];
    let windows = [windows::SHARED + windows::SIZE, windows::PARAM + windows::SIZE];
    let base = prop::sample::select(bases.into_iter().chain(windows).collect::<Vec<_>>());
    prop_oneof![
        (base, -70i64..300).prop_map(|(base, delta)| base.wrapping_add_signed(delta)),
        // Within the first buffers.
        (0u64..300).prop_map(|delta| (1 << 36) + (64 << 10) + delta),
        any::<u64>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn no_address_panics(
        addresses in prop::collection::vec(prop::collection::vec(edge(), 32), 8),
        masks in prop::collection::vec(prop_oneof![Just(FULL), any::<u32>()], 8),
        warp in 0u32..4,
        bytes in prop::sample::select(vec![4u32, 8, 16]),
    ) {
        let mut memory = Memory::new();
        memory.upload(&[1u8; 100]).unwrap();
        memory.upload::<u32>(&[]).unwrap();
        let lanes: Vec<Lanes64> = addresses.into_iter().map(|a| a.try_into().unwrap()).collect();
        let spaces = [Space::Generic, Space::Global, Space::Shared, Space::Local, Space::Const, Space::Param];
        run(&mut memory, OWN, |bus, block| {
            for (i, (address, mask)) in lanes.iter().zip(masks).enumerate() {
                let at = At { warp, ..at(i as u32) };
                let other = &lanes[(i + 1) % lanes.len()];
                for space in spaces {
                    let access = access(space, Type::S64, 4);
                    bus.load(block, at, access, mask, address, &mut [[0; 32]; 4]);
                    bus.store(block, at, access, mask, address, &[*address; 4]);
                    let atomic = Atomic { op: AtomOp::Inc, ty: Type::U32, space, order: Order::Weak, returns: true };
                    bus.atomic(block, at, atomic, mask, address, other, other, &mut [0; 32]);
                }
                bus.copy_async(block, at, bytes, mask, address, other, &lanes[0]);
                bus.load_matrix(block, at, i % 2 == 0, address, &mut [[0; 32]; 4]);
                bus.commit(block, at, mask);
                bus.wait(block, at, mask, Some(i as u32));
            }
            bus.exited(block, At { warp, ..at(0) }, FULL);
        });
    }
}
