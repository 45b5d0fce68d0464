//! Philox 4x32-10 against the known-answer vectors of its authors (Random123, `kat_vectors`), and as a stream.

use crate::common;
use ptx_vm::Arg;

/// Counter, key, answer.
const KNOWN: [([u32; 4], [u32; 2], [u32; 4]); 3] = [
    ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
    ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
    (
        [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
        [0xa409_3822, 0x299f_31d0],
        [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
    ),
];

#[test]
fn known_answers() {
    let Some(module) = common::load("kernels/philox.cu") else { return };
    let found = common::run(&module.kernel("blocks").unwrap(), &common::shape(1, 32), |memory| {
        let counters = memory.upload(&KNOWN.map(|(counter, ..)| counter)).unwrap();
        let keys = memory.upload(&KNOWN.map(|(_, key, _)| key)).unwrap();
        let out = memory.allocate::<[u32; 4]>(3).unwrap();
        (vec![counters.into(), keys.into(), out.into(), Arg::value(3)], out)
    });
    assert_eq!(found, KNOWN.map(|(.., answer)| answer));
}

/// Philox in 64-bit arithmetic, as its paper defines it.
fn philox(mut c: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let (p, q) = (0xD251_1F53 * u64::from(c[0]), 0xCD9E_8D57 * u64::from(c[2]));
        c = [(q >> 32) as u32 ^ c[1] ^ key[0], q as u32, (p >> 32) as u32 ^ c[3] ^ key[1], p as u32];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    c
}

#[test]
fn a_stream_does_not_depend_on_the_launch() {
    let Some(module) = common::load("kernels/philox.cu") else { return };
    let (n, seed, stream) = (1000, 0x0123_4567_89ab_cdef_u64, 5);
    let words = (0..n as u32 / 4).flat_map(|i| philox([i, 0, stream, 0], [seed as u32, (seed >> 32) as u32]));
    let expected: Vec<f32> = words.map(|word| (word >> 8) as f32 / (1 << 24) as f32).collect();
    for (blocks, threads) in [(1, 32), (3, 64), (10, 128)] {
        let found = common::run(&module.kernel("uniform").unwrap(), &common::shape(blocks, threads), |memory| {
            let out = memory.allocate::<f32>(n).unwrap();
            (vec![out.into(), Arg::value(n as i32), Arg::value(seed), Arg::value(stream)], out)
        });
        assert_eq!(found, expected, "{blocks} blocks of {threads}");
    }
}
