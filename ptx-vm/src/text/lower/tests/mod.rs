//! Lowered programs, instruction by instruction.

mod calls;
mod memory;
mod operands;
mod scopes;

use crate::isa::Op;
use crate::program::{File, Inst, Program, Slot, Special};
use crate::text::{Loaded, load};

/// A module of these directives.
fn module(directives: &str) -> Loaded {
    let text = format!(".version 9.0\n.target sm_80\n.address_size 64\n{directives}");
    load(&text).unwrap_or_else(|error| panic!("{error} in\n{text}"))
}

/// The only kernel of a module: its parameters and its body, with registers declared.
fn kernel_with(directives: &str, params: &str, body: &str) -> Program {
    let registers = ".reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<9>; .reg .b64 %rd<9>; .reg .f32 %f<9>;";
    let mut loaded = module(&format!("{directives}\n.visible .entry k({params}) {{ {registers}\n{body} }}"));
    assert_eq!(loaded.kernels.len(), 1);
    loaded.kernels.remove(0)
}

fn kernel(body: &str) -> Program {
    kernel_with("", "", body)
}

/// What a slot holds, as seen by a reader of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Register(Slot),
    Bits(u64),
    Special(Special),
}

fn holds(program: &Program, slot: Slot) -> Holds {
    if let Some((_, bits)) = program.constants.iter().find(|(constant, _)| *constant == slot) {
        return Holds::Bits(*bits);
    }
    match program.specials.iter().find(|(special, _)| *special == slot) {
        Some((_, special)) => Holds::Special(*special),
        None => Holds::Register(slot),
    }
}

/// The bits of a constant operand.
fn bits(program: &Program, slot: Slot) -> u64 {
    match holds(program, slot) {
        Holds::Bits(bits) => bits,
        other => panic!("{slot:?} holds {other:?}"),
    }
}

fn ops(program: &Program) -> Vec<Op> {
    program.code.iter().map(|inst| inst.op).collect()
}

fn list<'p>(program: &'p Program, inst: &Inst) -> &'p [Slot] {
    &program.lists[inst.list.0 as usize..][..usize::from(inst.list.1)]
}

/// Every slot is inside its file, and no slot is given out twice.
fn check_slots(program: &Program) {
    let fixed = program.constants.iter().map(|(slot, _)| slot).chain(program.specials.iter().map(|(slot, _)| slot));
    let mut seen = std::collections::HashSet::new();
    for slot in fixed {
        assert!(seen.insert(*slot), "{slot:?} is filled twice");
        assert!(slot.index > 0 && slot.index < program.slots[slot.file as usize], "{slot:?} of {:?}", program.slots);
    }
    for inst in &program.code {
        for slot in inst.dst.iter().chain(&inst.src).chain(list_or_none(program, inst)) {
            assert!(slot.index < program.slots[slot.file as usize], "{slot:?} of {:?}", program.slots);
        }
        for slot in inst.dst.iter().filter(|slot| slot.is_some()) {
            assert!(!seen.contains(slot), "{inst:?} writes a constant");
        }
    }
    assert_eq!(program.code.len(), program.places.len());
}

fn list_or_none<'p>(program: &'p Program, inst: &Inst) -> &'p [Slot] {
    if matches!(inst.op, Op::BranchIndexed) { &[] } else { list(program, inst) }
}

const WORD: File = File::Word;
const DOUBLE: File = File::Double;
