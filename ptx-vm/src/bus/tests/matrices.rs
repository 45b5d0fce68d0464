//! `ldmatrix` against the manual's layout.

use super::*;

/// The element of a matrix that lane `lane` holds in half `half` of its register: row and column.
fn layout(lane: usize, half: usize, transposed: bool) -> (usize, usize) {
    let (row, column) = (lane / 4, 2 * (lane % 4) + half);
    if transposed { (column, row) } else { (row, column) }
}

#[test]
fn every_lane_gets_its_elements() {
    // Rows of 16 bytes lie in disorder, where no array ends inside one.
    let chunks = [0, 1, 3, 4, 5, 6, 8, 9, 10, 11];
    let chunk = |matrix: usize, row: usize| chunks[(8 * matrix + row) * 3 % 10];
    let values = |i: usize| (i as u64 * 0x0101 + 7) & 0xffff;
    for (count, transposed) in [1, 2, 4].into_iter().flat_map(|count| [(count, false), (count, true)]) {
        let findings = run(&mut Memory::new(), OWN, |bus, block| {
            for part in 0..3 {
                let elements = std::array::from_fn(|lane| values(32 * part + lane));
                let address = strided(64 * part as u64, 2);
                bus.store(block, at(1), access(Space::Shared, Type::B16, 1), FULL, &address, &[elements]);
            }
            // Lanes beyond the matrices asked for may hold anything, and the high half of a register does not count.
            let named = |lane: usize| 16 * chunk(lane / 8, lane % 8) as u64 + (7 << 32);
            let address = std::array::from_fn(|lane| if lane < 8 * count { named(lane) } else { u64::MAX });
            let mut out = vec![[0; 32]; count];
            bus.load_matrix(block, at(2), transposed, &address, &mut out);
            for (matrix, register) in out.iter().enumerate() {
                for (lane, word) in register.iter().enumerate() {
                    let half = |half| {
                        let (row, column) = layout(lane, half, transposed);
                        values(8 * chunk(matrix, row) + column)
                    };
                    assert_eq!(u64::from(*word), half(0) | half(1) << 16, "x{count} {transposed} {matrix} {lane}");
                }
            }
        });
        assert_eq!(findings, []);
    }
}

#[test]
fn rows_are_checked_one_by_one() {
    let findings = run(&mut Memory::new(), OWN, |bus, block| {
        bus.store_u32(block, 1, Space::Shared, FULL, &strided(64, 4), &[9; 32]);
        let mut address = strided(128, 0);
        address[0] = 136; // half a row off
        address[1] = 192; // behind the end
        address[2] = 112; // across the end of `b`
        address[3] = 0; // nothing wrote it
        let mut out = [[0; 32]];
        bus.load_matrix(block, at(2), false, &address, &mut out);
        let row = |row: usize| &out[0][4 * row..4 * row + 4];
        assert!((0..4).all(|bad| row(bad) == [0x7ffb_7ffb; 4]), "{out:x?}");
        assert!((4..8).all(|good| row(good) == [9, 9, 9, 9]), "{out:x?}");
    });
    let expected = [(FindingKind::Misaligned, 1), (FindingKind::SharedOutOfBounds, 2), (FindingKind::Uninitialised, 1)];
    assert_eq!(summary(&findings), expected.map(|(kind, n)| (kind, 2, n)));
}

#[test]
fn an_element_is_read_by_the_lane_that_receives_it() {
    let races = Checks { uninitialised: false, ..Checks::ALL };
    let receives = |lane: usize, transposed| (0..2).map(move |half| layout(lane, half, transposed));
    for (element, transposed) in (0..64).flat_map(|element| [(element, false), (element, true)]) {
        let place = (element / 8, element % 8);
        // Rows lie in disorder, where no array ends inside one.
        let row = |row: usize| 16 * [9, 3, 11, 0, 5, 1, 8, 4][row];
        let findings = run(&mut Memory::new(), races, |bus, block| {
            let word = access(Space::Shared, Type::U16, 1);
            let address = strided(row(place.0) + 2 * place.1 as u64, 0);
            bus.store(block, At { warp: 1, ..at(1) }, word, 1, &address, &[[0; 32]]);
            let rows = std::array::from_fn(|lane| row(lane % 8));
            bus.load_matrix(block, at(2), transposed, &rows, &mut [[0; 32]]);
        });
        let found: Vec<_> = findings.iter().filter(|f| f.kind == FindingKind::SharedRace).collect();
        let [finding] = found[..] else { panic!("{element} {transposed}: {findings:?}") };
        let lane = (0..32).find(|&lane| receives(lane, transposed).any(|e| e == place));
        assert_eq!((finding.thread[0] as usize, finding.occurrences), (lane.unwrap(), 1));
    }
}
