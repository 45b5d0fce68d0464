//! The bus against a plain model, and each rule by itself.

mod bounds;
mod copies;
mod hooks;
mod hostile;
mod matrices;
mod model;
mod promises;
mod words;

use super::*;
use crate::check::{Finding, FindingKind};
use crate::isa::{AtomOp, Atomic, Type};
use crate::program::{Inst, Parameter, Place, Slot, windows};

/// Every check that is the bus's own.
const OWN: Checks = Checks { shared_races: false, ..Checks::ALL };
const FULL: u32 = u32::MAX;

/// A kernel with two shared arrays of odd size before 64 bytes of dynamic shared memory, one local array and two parameters.
/// Instruction `i` stands on line `i` of `k.cu`.
fn program() -> Program {
    let name = |name: &str, offset, size| (name.to_owned(), offset, size);
    let parameter = |name: &str, offset, size| Parameter { name: name.to_owned(), offset, size, align: size, ty: None };
    Program {
        name: "k".to_owned(),
        code: vec![load_inst(Space::Global, true); 1 << 12],
        places: (0..1 << 12).map(|line| Place { file: 1, line, ptx_line: line }).collect(),
        files: std::sync::Arc::new(vec!["k.cu".to_owned()]),
        parameters: vec![parameter("p", 0, 4), parameter("q", 8, 12)],
        parameter_bytes: 20,
        shared_bytes: 124,
        dynamic_offset: 128,
        shared_symbols: vec![name("a", 0, 40), name("b", 64, 60)],
        local_bytes: 40,
        local_symbols: vec![name("l", 0, 20)],
        ..Program::default()
    }
}

const SHARED_BYTES: u32 = 192;

fn load_inst(space: Space, read_only: bool) -> Inst {
    let access = Access { space, ty: Type::U32, vector: 1, order: Order::Weak, read_only };
    Inst {
        op: crate::isa::Op::Load(access),
        guard: crate::program::Guard::ALWAYS,
        negated: 0,
        dst: [Slot::NONE; 2],
        src: [Slot::NONE; 4],
        imm: 0,
        list: (0, 0),
    }
}

fn access(space: Space, ty: Type, vector: u8) -> Access {
    Access { space, ty, vector, order: Order::Weak, read_only: false }
}

fn at(pc: u32) -> At {
    At { block: 0, warp: 0, pc }
}

/// Runs accesses of one block of 64 threads and returns what was found.
fn run(memory: &mut Memory, checks: Checks, body: impl FnOnce(&mut Bus<'_>, &mut BlockMemory)) -> Vec<Finding> {
    run_with(memory, checks, Vec::new(), body)
}

fn run_with(
    memory: &mut Memory,
    checks: Checks,
    allowed: Vec<(u32, Vec<Range<u64>>)>,
    body: impl FnOnce(&mut Bus<'_>, &mut BlockMemory),
) -> Vec<Finding> {
    let program = program();
    let findings = Findings::new([4, 1, 1], [64, 1, 1]);
    let params = (0..program.parameter_bytes as u8).collect();
    let mut bus = Bus::new(memory, &program, checks, findings, Recorder::new(&program), params, allowed);
    let mut block = BlockMemory::new(&program, checks, 0, 64, SHARED_BYTES);
    body(&mut bus, &mut block);
    bus.findings.into_vec()
}

/// Kind, instruction and number of occurrences of each finding.
fn summary(findings: &[Finding]) -> Vec<(FindingKind, u32, u64)> {
    findings.iter().map(|f| (f.kind, f.ptx_line, f.occurrences)).collect()
}

/// `base + stride * lane`
fn strided(base: u64, stride: u64) -> Lanes64 {
    std::array::from_fn(|lane| base.wrapping_add(stride.wrapping_mul(lane as u64)))
}

impl Bus<'_> {
    /// `ld.u32` of one element per lane.
    fn load_u32(&mut self, block: &mut BlockMemory, pc: u32, space: Space, mask: u32, address: &Lanes64) -> Lanes64 {
        let mut out = [[0; 32]];
        self.load(block, at(pc), access(space, Type::U32, 1), mask, address, &mut out);
        out[0]
    }

    /// `st.u32`
    fn store_u32(&mut self, block: &mut BlockMemory, pc: u32, space: Space, mask: u32, address: &Lanes64, v: &Lanes64) {
        self.store(block, at(pc), access(space, Type::U32, 1), mask, address, &[*v]);
    }
}
