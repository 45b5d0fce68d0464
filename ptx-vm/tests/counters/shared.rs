//! Bank conflicts: 32 banks of 4 bytes; a pass serves each bank once.

use crate::common;
use crate::measure::{line_of, measure};
use ptx_vm::isa::Class;
use ptx_vm::{Arg, SharedTraffic};

/// One warp, one access: what the line marked `HERE` cost.
fn here(kernel: &str, stride: i32, limit: i32) -> Option<SharedTraffic> {
    let measured = measure("counters/shared.cu", kernel, &common::shape(1, 32), |memory| {
        let out = memory.upload(&[0_u32; 32]).unwrap();
        vec![out.into(), Arg::value(stride), Arg::value(limit)]
    })?;
    Some(measured.line(line_of("counters/shared.cu", kernel, "// HERE")).shared)
}

#[test]
fn bank_conflicts() {
    // kernel, stride, limit: bytes requested, passes, of which beyond the least possible.
    let cases = [
        // Words next to each other, or at an odd distance: every bank once.
        ("read_words", 1, 32, 128, 1, 0),
        ("read_words", 3, 32, 128, 1, 0),
        ("read_words", 33, 32, 128, 1, 0),
        // 2-way to 32-way.
        ("read_words", 2, 32, 128, 2, 1),
        ("read_words", 6, 32, 128, 2, 1),
        ("read_words", 4, 32, 128, 4, 3),
        ("read_words", 8, 32, 128, 8, 7),
        ("read_words", 16, 32, 128, 16, 15),
        ("read_words", 32, 32, 128, 32, 31),
        // All lanes the same word: a broadcast.
        ("read_words", 0, 32, 128, 1, 0),
        // Lanes 0 to 15 with a stride of two use the even banks; lane 16 comes back to bank 0.
        ("read_words", 2, 16, 64, 1, 0),
        ("read_words", 2, 17, 68, 2, 1),
        ("read_words", 32, 3, 12, 3, 2),
        ("read_words", 1, 1, 4, 1, 0),
        // Two halves share a word and are no conflict.
        ("read_halves", 1, 32, 64, 1, 0),
        ("read_halves", 2, 32, 64, 1, 0),
        ("read_halves", 4, 32, 64, 2, 1),
        // A warp's 256 bytes take two passes, its 512 bytes four, whoever is where; the rest are conflicts.
        ("read_pairs", 1, 32, 256, 2, 0),
        ("read_pairs", 2, 32, 256, 4, 2),
        ("read_pairs", 16, 32, 256, 32, 30),
        ("read_quads", 1, 32, 512, 4, 0),
        ("read_quads", 2, 32, 512, 8, 4),
        ("read_quads", 8, 32, 512, 32, 28),
        // Odd numbers of 16 bytes are as good as one.
        ("read_quads", 5, 32, 512, 4, 0),
        ("write_words", 1, 32, 128, 1, 0),
        ("write_words", 2, 32, 128, 2, 1),
        ("write_words", 32, 32, 128, 32, 31),
        ("write_quads", 1, 32, 512, 4, 0),
        ("write_quads", 2, 32, 512, 8, 4),
        // Atomics on one word go one after the other.
        ("add_words", 1, 32, 128, 1, 0),
        ("add_words", 2, 32, 128, 2, 1),
        ("add_words", 0, 32, 128, 32, 31),
        ("add_words", 0, 5, 20, 5, 4),
    ];
    for (kernel, stride, limit, requested, wavefronts, conflicts) in cases {
        let Some(found) = here(kernel, stride, limit) else { return };
        let expected = SharedTraffic { requests: 1, requested, wavefronts, conflicts };
        assert_eq!(found, expected, "{kernel}, stride {stride}, {limit} lanes");
    }
}

/// `ldmatrix`: eight rows of 16 bytes a pass, if they lie in different banks.
#[test]
fn matrices() {
    // Matrices, bytes between rows, swizzled: passes, of which beyond one a matrix.
    let cases = [
        // Rows side by side.
        (1, 16, 0, 1, 0),
        (2, 16, 0, 2, 0),
        (4, 16, 0, 4, 0),
        // Rows of 64 halves: all eight begin at bank 0.
        (1, 128, 0, 8, 7),
        (2, 128, 0, 16, 14),
        (4, 128, 0, 32, 28),
        // Padded by 16 bytes, each row begins four banks further.
        (1, 144, 0, 1, 0),
        (4, 144, 0, 4, 0),
        // Swizzled: row r begins at bank 4 (r % 8).
        (1, 128, 1, 1, 0),
        (4, 128, 1, 4, 0),
        // Rows of 16 and 32 halves: 4 rows, 2 rows apart use different banks.
        (4, 32, 0, 8, 4),
        (4, 64, 0, 16, 12),
    ];
    for (count, stride, swizzle, wavefronts, conflicts) in cases {
        let kernel = format!("rows_{count}");
        let measured = measure("counters/matrix.cu", &kernel, &common::shape(1, 32), |memory| {
            let out = memory.upload(&[0_u32; 32]).unwrap();
            vec![out.into(), Arg::value(stride), Arg::value(swizzle)]
        });
        let Some(measured) = measured else { return };
        let requested = 128 * count;
        let expected = SharedTraffic { requests: 1, requested, wavefronts, conflicts };
        let line = measured.line(line_of("counters/matrix.cu", "ROWS", &format!("// {kernel}")));
        assert_eq!(line.shared, expected, "{kernel}, {stride} bytes apart, swizzle {swizzle}");
        // The tile is filled by 36 stores.
        assert_eq!(measured.counters.class(Class::Shared), 36 + 1, "{kernel}");
    }
}
