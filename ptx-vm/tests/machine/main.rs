//! One direct test per opcode that is not a pure operation (those are in `tests/opcodes`): memory, atomics, asynchronous
//! copies, tensor cores, collectives, barriers, control flow. Kernels are hand-written PTX; what they must do is computed
//! here from the manual's definitions.

mod access;
mod atomics;
mod barriers;
mod carry;
mod collectives;
mod control;
mod copies;
mod matrices;
mod refusals;

use ptx_vm::isa::{Op, opcode_table};
use ptx_vm::{Checks, Launch, Memory, Module};
use std::collections::BTreeSet;
use std::sync::Mutex;

/// Spellings that some kernel of this binary has executed.
static EXECUTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Bytes of input and of output that each thread has for itself.
const SLOT: usize = 64;

/// A kernel with `%in` and `%out` pointing at the thread's own slots, `%lane` its lane, `%tid` its number.
struct Kernel {
    /// Text before the entry: variables, functions.
    module: String,
    /// Declarations and instructions.
    body: String,
    /// Threads of the one block.
    threads: u32,
}

impl Default for Kernel {
    fn default() -> Self {
        Kernel { module: String::new(), body: String::new(), threads: 32 }
    }
}

impl Kernel {
    fn of(body: impl Into<String>) -> Kernel {
        Kernel { body: body.into(), ..Kernel::default() }
    }

    fn text(&self) -> String {
        format!(
            ".version 9.0\n.target sm_100\n.address_size 64\n{}
.visible .entry k(.param .u64 input, .param .u64 output, .param .align 32 .b8 bytes[64])
{{
    .reg .b64 %in, %out, %slot;
    .reg .b32 %lane, %tid, %base;
    ld.param.u64 %in, [input];
    ld.param.u64 %out, [output];
    mov.u32 %lane, %laneid;
    mov.u32 %tid, %tid.x;
    mul.wide.u32 %slot, %tid, {SLOT};
    add.u64 %in, %in, %slot;
    add.u64 %out, %out, %slot;
    {}
    ret;
}}",
            self.module, self.body
        )
    }

    /// Runs the kernel on one slot of input per thread; the output starts as zeros. Also passes `bytes`, the first slot, by
    /// value.
    fn run(&self, input: &[u8]) -> Vec<u8> {
        let text = self.text();
        let module = Module::load(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let kernel = module.kernel("k").unwrap();
        let mut memory = Memory::new();
        let source = memory.upload(input).unwrap();
        let target = memory.upload(&vec![0_u8; SLOT * self.threads as usize]).unwrap();
        let by_value: [u8; SLOT] = input[..SLOT].try_into().unwrap();
        let launch = Launch {
            block: [self.threads, 1, 1],
            args: vec![source.into(), target.into(), ptx_vm::Arg::value(by_value)],
            checks: Checks::GLOBAL_RACES,
            ..Launch::default()
        };
        let outcome = launch.run(&kernel, &mut memory).unwrap();
        assert!(outcome.findings.is_empty() && outcome.completed, "{:#?}\n{text}", outcome.findings);
        let mut executed = EXECUTED.lock().unwrap();
        executed.extend(text.split([';', '\n', '{']).filter_map(spelling).map(str::to_owned));
        memory.download(&target).unwrap()
    }

    /// The same, with the output as 32-bit words: `result[thread][i]`.
    fn run_words(&self, input: &[u8]) -> Vec<[u32; SLOT / 4]> {
        let words =
            |slot: &[u8]| std::array::from_fn(|i| u32::from_le_bytes(slot[4 * i..4 * i + 4].try_into().unwrap()));
        self.run(input).chunks_exact(SLOT).map(words).collect()
    }
}

/// The opcode of a statement, guard skipped.
fn spelling(statement: &str) -> Option<&str> {
    statement.split_whitespace().find(|word| !word.starts_with('@'))
}

/// Seeded bytes with a fair share of zeros, ones and sign bits.
fn bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..count).map(|_| [next(), 0, 0xff, 0x80][usize::from(next() % 16).saturating_sub(12)]).collect()
}

/// Input for a warp.
fn slots(seed: u64) -> Vec<u8> {
    bytes(seed, 32 * SLOT)
}

/// Word `i` of a thread's slot.
fn word(input: &[u8], thread: usize, i: usize) -> u32 {
    let start = thread * SLOT + 4 * i;
    u32::from_le_bytes(input[start..start + 4].try_into().unwrap())
}

#[test]
fn every_opcode_that_is_not_pure_is_executed_here() {
    access::all();
    atomics::all();
    barriers::all();
    carry::all();
    collectives::all();
    control::all();
    copies::all();
    matrices::all();
    let executed = EXECUTED.lock().unwrap();
    let missing: Vec<_> = opcode_table()
        .into_iter()
        .flat_map(|(_, instructions)| instructions)
        .filter(|instruction| !matches!(instruction.decoded.op, Op::Alu(_) | Op::Trap))
        .map(|instruction| instruction.spelling)
        .filter(|spelling| !executed.contains(spelling))
        .collect();
    assert!(missing.is_empty(), "{} spellings never executed: {missing:#?}", missing.len());
}
