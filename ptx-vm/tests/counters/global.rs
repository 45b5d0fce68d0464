//! Device memory: bytes requested, 32-byte sectors moved, different bytes touched; reads and writes apart.

use crate::common;
use crate::measure::{Measured, line_of, measure};
use ptx_vm::{Arg, Launch, Memory, Moved, Traffic};

const NOTHING: Moved = Moved { requests: 0, requested: 0, sectors: 0, distinct: 0 };

fn moved(requests: u64, requested: u64, sectors: u64, distinct: u64) -> Moved {
    Moved { requests, requested, sectors, distinct }
}

/// `in` and `out` of 64 KiB each, zero; further arguments behind them.
fn run(kernel: &str, launch: &Launch, more: &[i32]) -> Option<Measured> {
    measure("counters/global.cu", kernel, launch, |memory| {
        let mut args = buffers(memory, &["out", "in"]);
        args.extend(more.iter().map(|&value| Arg::value(value)));
        args
    })
}

fn buffers(memory: &mut Memory, names: &[&str]) -> Vec<Arg> {
    let buffer = |name: &&str| {
        let buffer = memory.upload(&[0_u8; 1 << 16]).unwrap();
        memory.name(&buffer, name).unwrap();
        buffer.into()
    };
    names.iter().map(buffer).collect()
}

/// 2 blocks of 64 threads are 4 warps: 4 requests each way, unless a warp has no active thread.
#[test]
fn patterns() {
    // kernel, stride, first, limit: what is read, what is written.
    let word_by_word = moved(4, 512, 16, 512);
    let cases = [
        // A warp's 32 words are 128 bytes, 4 sectors.
        ("words", [1, 0, 128], word_by_word, word_by_word),
        // The same backwards.
        ("words", [-1, 127, 128], word_by_word, word_by_word),
        // Every second word: twice the sectors.
        ("words", [2, 0, 128], moved(4, 512, 32, 512), word_by_word),
        // Every eighth word: a sector each, and so for anything further apart.
        ("words", [8, 0, 128], moved(4, 512, 128, 512), word_by_word),
        ("words", [9, 0, 128], moved(4, 512, 128, 512), word_by_word),
        ("words", [100, 0, 128], moved(4, 512, 128, 512), word_by_word),
        // Every thread the same word: one sector a warp, but every thread asks for it.
        ("words", [0, 5, 128], moved(4, 512, 4, 4), word_by_word),
        // Each warp begins in the middle of a sector and ends in a fifth one.
        ("words", [1, 1, 128], moved(4, 512, 20, 512), word_by_word),
        ("words", [1, 7, 128], moved(4, 512, 20, 512), word_by_word),
        // Moved by a whole sector: four again.
        ("words", [1, 8, 128], word_by_word, word_by_word),
        // 40 threads: a whole warp, and 8 threads with 32 bytes of the next.
        ("words", [1, 0, 40], moved(2, 160, 5, 160), moved(2, 160, 5, 160)),
        // 33 threads: the second warp asks for one word and moves a sector.
        ("words", [1, 0, 33], moved(2, 132, 5, 132), moved(2, 132, 5, 132)),
        // Narrow and wide elements: 1, 2, 8 and 16 bytes a thread, 32 to 512 a warp.
        ("bytes", [1, 0, 128], moved(4, 128, 4, 128), moved(4, 128, 4, 128)),
        ("bytes", [1, 16, 128], moved(4, 128, 8, 128), moved(4, 128, 4, 128)),
        ("halves", [1, 0, 128], moved(4, 256, 8, 256), moved(4, 256, 8, 256)),
        ("pairs", [1, 0, 128], moved(4, 1024, 32, 1024), moved(4, 1024, 32, 1024)),
        ("pairs", [1, 1, 128], moved(4, 1024, 36, 1024), moved(4, 1024, 32, 1024)),
        ("quads", [1, 0, 128], moved(4, 2048, 64, 2048), moved(4, 2048, 64, 2048)),
        ("quads", [2, 0, 128], moved(4, 2048, 128, 2048), moved(4, 2048, 64, 2048)),
        ("quads", [0, 0, 128], moved(4, 2048, 4, 16), moved(4, 2048, 64, 2048)),
        ("quads", [1, 0, 3], moved(1, 48, 2, 48), moved(1, 48, 2, 48)),
        // Writes follow the same rules; here reads are in order.
        ("scatter", [1, 0, 128], word_by_word, word_by_word),
        // 3 words apart: a warp begins at a multiple of 384 bytes and ends 376 bytes further: 11.75 sectors, so 12.
        ("scatter", [3, 0, 128], word_by_word, moved(4, 512, 48, 512)),
        ("scatter", [8, 0, 128], word_by_word, moved(4, 512, 128, 512)),
        ("scatter", [1, 3, 128], word_by_word, moved(4, 512, 20, 512)),
    ];
    for (kernel, numbers, read, written) in cases {
        let Some(measured) = run(kernel, &common::shape(2, 64), &numbers) else { return };
        let case = format!("{kernel} {numbers:?}");
        assert_eq!(measured.traffic("in"), Traffic { read, written: NOTHING }, "{case}: in");
        assert_eq!(measured.traffic("out"), Traffic { read: NOTHING, written }, "{case}: out");
    }
}

#[test]
fn reads_and_writes_of_one_buffer() {
    let Some(measured) =
        measure("counters/global.cu", "increment", &common::shape(2, 64), |memory| buffers(memory, &["out"]))
    else {
        return;
    };
    let both = moved(4, 512, 16, 512);
    assert_eq!(measured.traffic("out"), Traffic { read: both, written: both });
}

/// What is read again moves again, but it is no more different bytes.
#[test]
fn repeated_reads() {
    for times in [1, 2, 7] {
        let Some(measured) = run("repeat", &common::shape(2, 64), &[times]) else { return };
        let times = times as u64;
        assert_eq!(measured.traffic("in").read, moved(4 * times, 512 * times, 16 * times, 512), "{times} times");
        assert_eq!(measured.traffic("out").written, moved(4, 512, 16, 512));
    }
}

/// An atomic reads and writes: 32 threads ask for a word each, eight different ones, in one sector.
#[test]
fn atomics() {
    let Some(measured) =
        measure("counters/global.cu", "eight_bins", &common::shape(2, 64), |memory| buffers(memory, &["out"]))
    else {
        return;
    };
    let both = moved(4, 512, 4, 32);
    assert_eq!(measured.traffic("out"), Traffic { read: both, written: both });
}

/// `cp.async` reads where it says, not what it fills in: of a warp's lanes, the first `limit` read 16 bytes each.
#[test]
fn asynchronous_copies() {
    for (limit, read) in [(32, moved(4, 2048, 64, 2048)), (16, moved(4, 1024, 32, 1024)), (3, moved(4, 192, 8, 192))] {
        let Some(measured) = run("copies", &common::shape(2, 64), &[limit]) else { return };
        assert_eq!(measured.traffic("in"), Traffic { read, written: NOTHING }, "{limit} lanes");
        assert_eq!(measured.traffic("out").written, moved(4, 2048, 64, 2048), "{limit} lanes");
    }
}

/// Each operand has its own account, by its name, and each line has its own.
#[test]
fn operands_and_lines() {
    let Some(measured) = measure("counters/global.cu", "operands", &common::shape(2, 64), |memory| {
        buffers(memory, &["out", "x", "y", "unused"])
    }) else {
        return;
    };
    let all = moved(4, 512, 16, 512);
    // Only the first warp of a block reads `y`, 8 threads of it: words 0, 2, …, 14 and 128, …: two sectors each.
    let eight = moved(2, 64, 4, 64);
    assert_eq!(measured.traffic("x"), Traffic { read: all, written: NOTHING });
    assert_eq!(measured.traffic("y"), Traffic { read: eight, written: NOTHING });
    assert_eq!(measured.traffic("out"), Traffic { read: NOTHING, written: all });
    assert_eq!(measured.traffic("unused"), Traffic::default());
    for (mark, read, written) in [("// X", all, NOTHING), ("// Y", eight, NOTHING), ("// OUT", NOTHING, all)] {
        let line = measured.line(line_of("counters/global.cu", "operands", mark));
        assert_eq!(line.global, Traffic { read, written }, "{mark}");
    }
}

/// Words 0 to 127 on one line and 64 to 191 on the other: 192 words in all.
#[test]
fn bytes_that_two_lines_read_count_once() {
    let Some(measured) = run("overlap", &common::shape(2, 64), &[]) else { return };
    assert_eq!(measured.traffic("in").read, moved(8, 1024, 32, 768));
    for mark in ["// HERE", "// THERE"] {
        let line = measured.line(line_of("counters/global.cu", "overlap", mark));
        assert_eq!(line.global.read, moved(4, 512, 16, 512), "{mark}");
    }
}
