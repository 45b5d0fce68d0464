//! Every pure operation that the loader accepts, spelling by spelling, against an oracle that shares no code with the crate:
//! wider integers, exact rational arithmetic, the manual's tables.
//!
//! A chapter checks its spellings through a [`Tally`]; [`every_accepted_spelling_is_checked`] compares the tallies of all
//! chapters with the loader's own table, so that a spelling without a test cannot be added.

mod compare;
mod convert;
mod double;
mod exact;
mod float;
mod half;
mod integer;
mod values;

use ptx_vm::isa::{Alu, Instruction, Op, opcode_table};
use std::collections::BTreeSet;
use values::{Domain, Random};

/// Operands whose cross product is larger than this are sampled instead.
const CROSS_LIMIT: usize = 40_000;
/// Random operands per spelling, besides the edge values.
const SAMPLES: usize = 2_000;

/// Runs one operation after another against its oracle, and remembers which spellings it has seen.
pub struct Tally {
    checked: BTreeSet<String>,
    random: Random,
    /// Only note the spellings: each chapter's own test evaluates them.
    only_names: bool,
}

impl Tally {
    fn new() -> Tally {
        Tally { checked: BTreeSet::new(), random: Random::new(0x9e37_79b9), only_names: false }
    }

    /// Compares `spelling` with `expected` on every combination of the operands' edge values and on random ones.
    pub fn check(&mut self, spelling: &str, domains: &[&Domain], expected: impl Fn([u64; 4]) -> u64) {
        self.judge(spelling, domains, equals(expected));
    }

    /// Like [`Tally::check`] where more than one result is right: `verdict` sees the operands and the result.
    pub fn judge(
        &mut self,
        spelling: &str,
        domains: &[&Domain],
        verdict: impl Fn([u64; 4], u64) -> Result<(), String>,
    ) {
        let instruction = Instruction::parse(spelling).unwrap_or_else(|| panic!("{spelling} is not accepted"));
        self.judge_instruction(&instruction, domains, verdict);
    }

    /// For operations that a spelling alone does not name, because the loader completes them from the operands: the table of
    /// `lop3`, the vectors of `mov`.
    pub fn check_alu(&mut self, spelling: &str, alu: Alu, domains: &[&Domain], expected: impl Fn([u64; 4]) -> u64) {
        let mut instruction = Instruction::parse("not.b32").expect("some pure operation to put this one in");
        instruction.spelling = spelling.to_owned();
        instruction.decoded.op = Op::Alu(alu);
        self.judge_instruction(&instruction, domains, equals(expected));
    }

    fn judge_instruction(
        &mut self,
        instruction: &Instruction,
        domains: &[&Domain],
        verdict: impl Fn([u64; 4], u64) -> Result<(), String>,
    ) {
        let spelling = &instruction.spelling;
        self.checked.insert(spelling.clone());
        if self.only_names {
            return;
        }
        for x in self.operands(domains) {
            // Bits of a register above the operand's type must not matter: the machine is handed noise there.
            let mut noisy = x;
            for (value, domain) in noisy.iter_mut().zip(domains) {
                *value |= self.random.above(domain.bits);
            }
            let got = instruction.eval(noisy).unwrap_or_else(|| panic!("{spelling} is not a pure operation"));
            if let Err(why) = verdict(x, got) {
                panic!("{spelling} of {x:#x?}: got {got:#x}, {why}");
            }
        }
    }

    fn operands(&mut self, domains: &[&Domain]) -> Vec<[u64; 4]> {
        let crossed: usize = domains.iter().map(|domain| domain.edges.len()).product();
        let mut all = Vec::with_capacity(crossed.min(CROSS_LIMIT) + SAMPLES);
        for i in 0..crossed.min(CROSS_LIMIT) {
            let mut index = if crossed <= CROSS_LIMIT { i } else { self.random.below(crossed) };
            let mut x = [0; 4];
            for (value, domain) in x.iter_mut().zip(domains) {
                *value = domain.edges[index % domain.edges.len()];
                index /= domain.edges.len();
            }
            all.push(x);
        }
        for _ in 0..SAMPLES {
            let mut x = [0; 4];
            for (value, domain) in x.iter_mut().zip(domains) {
                *value = domain.draw(&mut self.random);
            }
            all.push(x);
        }
        all
    }
}

fn equals(expected: impl Fn([u64; 4]) -> u64) -> impl Fn([u64; 4], u64) -> Result<(), String> {
    move |x, got| {
        let want = expected(x);
        if got == want { Ok(()) } else { Err(format!("want {want:#x}")) }
    }
}

/// Asserts that the loader refuses these spellings.
pub fn refused(spellings: &[&str]) {
    for spelling in spellings {
        assert!(Instruction::parse(spelling).is_none(), "{spelling} should be refused");
    }
}

#[test]
fn every_accepted_spelling_is_checked() {
    let mut tally = Tally { only_names: true, ..Tally::new() };
    let chapters = [integer::integer, float::float, double::double, compare::compare, half::half, convert::convert];
    for chapter in chapters {
        chapter(&mut tally);
    }
    let accepted = opcode_table().into_iter().flat_map(|(_, instructions)| instructions);
    let pure = accepted.filter(|instruction| matches!(instruction.decoded.op, Op::Alu(_)));
    let missing: Vec<String> =
        pure.map(|instruction| instruction.spelling).filter(|spelling| !tally.checked.contains(spelling)).collect();
    assert!(missing.is_empty(), "accepted but not checked: {missing:#?}");
}
