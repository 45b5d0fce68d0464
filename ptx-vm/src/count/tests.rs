//! The recorder against values counted by hand, and against a recount of everything.

use super::{Counters, Moved, Recorder, SharedTraffic, Traffic};
use crate::check::SourceLine;
use crate::isa::{Class, Instruction};
use crate::memory::Buffer;
use crate::program::{Guard, Inst, Place, Program, Slot};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::sync::Arc;

const MEMORY: u64 = 3;

/// A program with these instructions on these lines of `a.cu`; line 0 is no line.
fn program(instructions: &[(&str, u32)]) -> Program {
    let inst = |spelling: &str| {
        let op = Instruction::parse(spelling).expect(spelling).decoded.op;
        Inst { op, guard: Guard::ALWAYS, negated: 0, dst: [Slot::NONE; 2], src: [Slot::NONE; 4], imm: 0, list: (0, 0) }
    };
    Program {
        code: instructions.iter().map(|(spelling, _)| inst(spelling)).collect(),
        places: instructions.iter().map(|(_, line)| Place { file: (*line).min(1), line: *line, ptx_line: 1 }).collect(),
        files: Arc::new(vec!["a.cu".to_owned()]),
        ..Program::default()
    }
}

fn finish(recorder: &Recorder, program: &Program) -> Counters {
    recorder.total(program, MEMORY, |id| format!("buffer {id}"))
}

fn buffer(id: u32, memory: u64) -> Buffer<u8> {
    Buffer { id, memory, len: 0, element: PhantomData }
}

fn apart(first: u64, stride: u64) -> [u64; 32] {
    std::array::from_fn(|lane| first + lane as u64 * stride)
}

fn moved(requests: u64, requested: u64, sectors: u64, distinct: u64) -> Moved {
    Moved { requests, requested, sectors, distinct }
}

#[test]
fn instructions_by_class_and_line() {
    let program = program(&[
        ("add.s32", 7),
        ("ld.global.f32", 7),
        ("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", 9),
        ("add.s32", 0),
        // Never executed: no line of the report.
        ("add.s32", 20),
    ]);
    let mut recorder = Recorder::new(&program);
    for (pc, mask, times) in [(0, !0, 3), (0, 0xff, 1), (1, 0, 1), (2, !0, 4), (2, 0, 1), (3, 1, 1)] {
        (0..times).for_each(|_| recorder.executed(pc, mask));
    }
    let counters = finish(&recorder, &program);
    assert_eq!([Class::Integer, Class::Global, Class::Tensor].map(|class| counters.class(class)), [5, 1, 5]);
    let threads = [Class::Integer, Class::Global, Class::Tensor].map(|class| counters.class_threads(class));
    assert_eq!(threads, [3 * 32 + 8 + 1, 0, 4 * 32]);
    assert_eq!((counters.warp_instructions(), counters.thread_instructions()), (11, 233));
    assert_eq!((counters.tensor_products(), counters.tensor_multiply_adds()), (4, 4 * 16 * 8 * 16));
    let lines: Vec<_> = counters
        .lines()
        .iter()
        .map(|l| (l.source.as_ref().map(|s| s.line), l.warp_instructions, l.thread_instructions))
        .collect();
    assert_eq!(lines, [(None, 1, 1), (Some(7), 5, 104), (Some(9), 5, 128)]);
}

#[test]
fn one_place_touched_twice_is_one_place() {
    let program = program(&[("ld.global.f32", 1), ("ld.global.f32", 1), ("ld.global.f32", 2), ("st.global.f32", 2)]);
    let mut recorder = Recorder::new(&program);
    (0..4).for_each(|pc| recorder.executed(pc, !0));
    recorder.global(0, 5, true, false, !0, &apart(0, 4), 4);
    recorder.global(1, 5, true, false, !0, &apart(64, 4), 4);
    recorder.global(2, 5, true, false, !0, &apart(0, 8), 4);
    recorder.global(2, 4, true, false, 0b11, &apart(0, 8), 4);
    recorder.global(3, 5, false, true, 0xffff, &apart(0, 0), 4);
    let counters = finish(&recorder, &program);
    let five = Traffic { read: moved(3, 384, 4 + 4 + 8, 192 + 8 * 4), written: moved(1, 64, 1, 4) };
    let four = Traffic { read: moved(1, 8, 1, 8), written: Moved::default() };
    assert_eq!(counters.allocations(), [("buffer 4".to_owned(), four), ("buffer 5".to_owned(), five)]);
    assert_eq!(counters.traffic(&buffer(5, MEMORY)), five);
    assert_eq!(counters.traffic(&buffer(6, MEMORY)), Traffic::default());
    assert_eq!(counters.traffic(&buffer(5, MEMORY + 1)), Traffic::default(), "another memory's buffer");
    let [one, two] = counters.lines() else { panic!() };
    assert_eq!(one.global.read, moved(2, 256, 8, 192));
    assert_eq!(two.global, Traffic { read: moved(2, 136, 9, 136), written: moved(1, 64, 1, 4) });
}

#[test]
fn atomics_go_both_ways() {
    let program = program(&[("atom.global.add.u32", 1)]);
    let mut recorder = Recorder::new(&program);
    recorder.global(0, 1, true, true, !0, &std::array::from_fn(|lane| lane as u64 % 8 * 4), 4);
    let both = moved(1, 128, 1, 32);
    let counters = finish(&recorder, &program);
    assert_eq!(counters.traffic(&buffer(1, MEMORY)), Traffic { read: both, written: both });
}

#[test]
fn shared_requests() {
    let program =
        program(&[("ld.shared.f32", 1), ("atom.shared.add.u32", 2), ("ldmatrix.sync.aligned.m8n8.x4.shared.b16", 3)]);
    let mut recorder = Recorder::new(&program);
    (0..3).for_each(|pc| recorder.executed(pc, !0));
    recorder.shared(0, !0, &apart(0, 8), 4);
    recorder.shared(0, 0, &apart(0, 8), 4);
    recorder.shared_atomic(1, 0xf, &apart(0, 0), 4);
    recorder.matrix(2, 4, &apart(0, 128));
    recorder.matrix(2, 1, &apart(0, 144));
    let traffic =
        |requests, requested, wavefronts, conflicts| SharedTraffic { requests, requested, wavefronts, conflicts };
    let counters = finish(&recorder, &program);
    let by_line: Vec<_> = counters.lines().iter().map(|line| line.shared).collect();
    assert_eq!(by_line, [traffic(1, 128, 2, 1), traffic(1, 16, 4, 3), traffic(2, 512 + 128, 32 + 1, 28)]);
    assert_eq!(counters.shared(), traffic(4, 784, 39, 32));
}

#[test]
fn equal_whatever_the_memory() {
    let program = program(&[("ld.global.f32", 1)]);
    let mut recorder = Recorder::new(&program);
    recorder.executed(0, !0);
    let [here, there] = [1, 2].map(|memory| recorder.total(&program, memory, |_| String::new()));
    assert_eq!(here, there);
    recorder.waited();
    assert_ne!(here, finish(&recorder, &program));
    assert_eq!(finish(&recorder, &program).barrier_waits(), 1);
}

#[test]
fn the_report() {
    let program = program(&[
        ("ld.global.f32", 12),
        ("st.shared.f32", 13),
        ("bar.sync", 14),
        ("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32", 15),
    ]);
    let mut recorder = Recorder::new(&program);
    for pc in 0..4 {
        (0..1000 * (4 - pc)).for_each(|_| recorder.executed(pc, !0));
    }
    recorder.global(0, 1, true, false, !0, &apart(0, 8), 4);
    recorder.shared(1, !0, &apart(0, 8), 4);
    recorder.waited();
    let expected = "\
instructions           warps            threads  active
  Tensor               1,000             32,000 100.0 %
  Global               4,000            128,000 100.0 %
  Shared               3,000             96,000 100.0 %
  Sync                 2,000             64,000 100.0 %
  all                 10,000            320,000 100.0 %

device memory                  requests       requested      sectors        distinct efficient
  buffer 1         read               1             128            8             128    50.0 %

shared memory: 1 requests, 128 bytes
  2 passes, 1 of them conflicts

tensor cores: 1,000 products, 1,024,000 multiply-adds

barriers: 1 waits of a warp

hottest lines                          warps   share      sectors       passes    conflicts
  a.cu:12                              4,000  40.0 %            8            0            0
  a.cu:13                              3,000  30.0 %            0            2            1
  a.cu:14                              2,000  20.0 %            0            0            0
  a.cu:15                              1,000  10.0 %            0            0            0
";
    assert_eq!(finish(&recorder, &program).to_string(), expected);
}

#[test]
fn an_empty_report_is_a_table_of_nothing() {
    let text = Counters::default().to_string();
    assert_eq!(text.lines().count(), 2, "{text}");
}

/// (pc, allocation, read, written, mask, offsets, logarithm of the size)
type Request = (u32, u32, bool, bool, u32, [u64; 32], u32);

fn request() -> impl Strategy<Value = Request> {
    let offsets =
        (prop::array::uniform32(0..512_u64), 0..40_u64, any::<bool>()).prop_map(|(random, stride, regular)| {
            if regular { std::array::from_fn(|lane| lane as u64 * stride) } else { random }
        });
    (0..4_u32, 0..3_u32, any::<bool>(), any::<bool>(), any::<u32>(), offsets, 0..5_u32)
}

/// Requests, bytes and sectors added up, and the set of bytes.
#[derive(Default)]
struct Recount {
    moved: Moved,
    bytes: BTreeSet<(u32, u64)>,
}

impl Recount {
    fn add(&mut self, allocation: u32, mask: u32, offset: &[u64; 32], size: u64) {
        let active = (0..32).filter(|lane| mask >> lane & 1 == 1);
        let bytes: Vec<u64> = active.flat_map(|lane| offset[lane]..offset[lane] + size).collect();
        let sectors: BTreeSet<u64> = bytes.iter().map(|byte| byte / 32).collect();
        self.moved += moved(u64::from(mask != 0), bytes.len() as u64, sectors.len() as u64, 0);
        self.bytes.extend(bytes.into_iter().map(|byte| (allocation, byte)));
    }

    fn total(&self) -> Moved {
        Moved { distinct: self.bytes.len() as u64, ..self.moved }
    }
}

proptest! {
    #[test]
    fn agrees_with_a_recount(requests in proptest::collection::vec(request(), 0..20)) {
        let lines = [1, 2, 1, 0];
        let program = program(&lines.map(|line| ("atom.global.add.u32", line)));
        let mut recorder = Recorder::new(&program);
        (0..4).for_each(|pc| recorder.executed(pc, !0));
        let mut by_allocation: BTreeMap<u32, [Recount; 2]> = BTreeMap::new();
        let mut by_line: BTreeMap<u32, [Recount; 2]> = BTreeMap::new();
        for (pc, id, read, written, mask, offset, wide) in &requests {
            let size = 1 << wide;
            let offset = offset.map(|offset| offset & !(size - 1));
            recorder.global(*pc, *id, *read, *written, *mask, &offset, size as u32);
            for (way, flows) in [(0, read), (1, written)] {
                if *flows {
                    by_allocation.entry(*id).or_default()[way].add(*id, *mask, &offset, size);
                    by_line.entry(lines[*pc as usize]).or_default()[way].add(*id, *mask, &offset, size);
                }
            }
        }
        let counters = finish(&recorder, &program);
        for id in 0..3 {
            let expected = by_allocation.entry(id).or_default();
            let traffic = counters.traffic(&buffer(id, MEMORY));
            prop_assert_eq!([traffic.read, traffic.written], [expected[0].total(), expected[1].total()]);
        }
        for line in counters.lines() {
            let number = line.source.as_ref().map_or(0, |SourceLine { line, .. }| *line);
            let expected = by_line.entry(number).or_default();
            prop_assert_eq!([line.global.read, line.global.written], [expected[0].total(), expected[1].total()]);
        }
    }
}
