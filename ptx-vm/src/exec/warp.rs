//! A warp: registers, groups of lanes, and the loop that executes them.

use super::groups::{Group, Groups, Pick, Wait};
use super::random::Random;
use super::registers::Registers;
use super::step::{self, Step};
use super::{collective, perturb, vector};
use crate::alu::mma::Accumulation;
use crate::bus::{BlockMemory, Bus};
use crate::check::{At, FindingKind};
use crate::isa::Op;
use crate::program::{Inst, Program};
use pulp::Arch;

/// One warp of a block.
#[derive(Clone, Debug)]
pub(crate) struct Warp {
    /// Its number in the block.
    pub index: u32,
    pub registers: Registers,
    pub groups: Groups,
}

/// Why a warp stopped running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Its turn is over; it can go on.
    Turn,
    /// No group can run: all wait, or all have exited.
    Blocked,
    /// The group of that index has come to a block barrier, with all the lanes it needs.
    AtBarrier(usize),
    /// `trap`, or an instruction that cannot go on.
    Trapped,
}

/// What a warp needs from outside to run.
pub(crate) struct Context<'a, 'b> {
    pub program: &'a Program,
    pub bus: &'a mut Bus<'b>,
    pub memory: &'a mut BlockMemory,
    /// Linear index of the block.
    pub block: u64,
    /// Warp instructions executed so far in the launch: also the clock.
    pub steps: &'a mut u64,
    pub accumulation: Accumulation,
    /// Seed of the perturbation of approximate functions, if it is on.
    pub perturb: Option<u64>,
}

impl Context<'_, '_> {
    pub fn at(&self, warp: u32, pc: u32) -> At {
        At { block: self.block, warp, pc }
    }

    /// Reports something that the lanes of `mask` did, in the name of the first of them.
    pub fn report(&mut self, kind: FindingKind, warp: u32, pc: u32, mask: u32, detail: impl FnOnce() -> String) {
        let at = self.at(warp, pc);
        self.bus.findings.report(self.program, kind, at, mask.trailing_zeros() & 31, detail);
    }
}

/// How the group that ran came to stop.
pub(crate) enum Pause {
    /// Budget used up.
    Budget,
    /// It stands where another group stands, or changed the groups itself (branch, call, return, exit).
    Regroup,
    /// It needs lanes that are not there yet.
    Park,
    /// It has come to a block barrier.
    Barrier,
    Trap,
}

impl Warp {
    pub fn new(index: u32, registers: Registers, lanes: u32) -> Warp {
        Warp { index, registers, groups: Groups::new(lanes) }
    }

    /// Every lane has exited.
    pub fn finished(&self) -> bool {
        self.groups.list.is_empty()
    }

    /// Runs for at most `quantum` instructions.
    pub fn run(&mut self, context: &mut Context<'_, '_>, quantum: u64, mut random: Option<&mut Random>) -> Stop {
        let end = context.steps.saturating_add(quantum);
        loop {
            self.groups.merge();
            collective::unpark(self, context);
            let left = end.saturating_sub(*context.steps);
            let Some(pick) = self.groups.pick(left, random.as_deref_mut()) else { return Stop::Blocked };
            if left == 0 {
                return Stop::Turn;
            }
            let pause = self.run_group(context, pick);
            self.groups.ran(matches!(pause, Pause::Budget));
            match pause {
                Pause::Park => self.groups.list[pick.index].wait = Wait::Lanes,
                Pause::Barrier => return Stop::AtBarrier(pick.index),
                Pause::Trap => return Stop::Trapped,
                Pause::Regroup => self.groups.list.retain(|group| group.mask != 0),
                Pause::Budget => {}
            }
        }
    }

    /// Runs one group with the widest vector instructions that the processor has.
    fn run_group(&mut self, context: &mut Context<'_, '_>, pick: Pick) -> Pause {
        struct Run<'w, 'c, 'a, 'b>(&'w mut Warp, &'c mut Context<'a, 'b>, Pick);
        impl pulp::NullaryFnOnce for Run<'_, '_, '_, '_> {
            type Output = Pause;

            #[inline(always)]
            fn call(self) -> Pause {
                self.0.run_instructions(self.1, self.2)
            }
        }
        Arch::new().dispatch(Run(self, context, pick))
    }

    #[inline(always)]
    fn run_instructions(&mut self, context: &mut Context<'_, '_>, pick: Pick) -> Pause {
        let Group { mut pc, mask, mut fresh, .. } = self.groups.list[pick.index];
        // Where `fresh` holds.
        let mut branched = pc;
        let last = context.steps.saturating_add(pick.budget);
        let pause = loop {
            if pc >= pick.until {
                break Pause::Regroup;
            }
            if *context.steps >= last {
                break Pause::Budget;
            }
            let Some(inst) = context.program.code.get(pc as usize) else {
                let detail = || "execution ran past the end of the code".to_owned();
                context.report(FindingKind::Trap, self.index, pc, mask, detail);
                break Pause::Trap;
            };
            *context.steps += 1;
            let active = mask & self.guard(inst);
            match inst.op {
                Op::Alu(alu) => {
                    context.bus.recorder.executed(pc, active);
                    match context.perturb {
                        Some(seed) if perturb::applies(alu) => {
                            perturb::execute(&mut self.registers, inst, alu, active, seed);
                        }
                        _ => vector::execute(&mut self.registers, inst, alu, active),
                    }
                }
                Op::Branch if active == mask || active == 0 => {
                    context.bus.recorder.executed(pc, mask);
                    if inst.guard.pred != 0 {
                        fresh = mask;
                    } else if pc != branched {
                        fresh = 0;
                    }
                    pc = if active == 0 { pc + 1 } else { inst.imm as u32 };
                    branched = pc;
                    continue;
                }
                _ => {
                    let direct = matches!(inst.op, Op::Exit) && pc == branched;
                    self.groups.list[pick.index].fresh = if direct { fresh } else { 0 };
                    let step = Step { inst, pc, group: pick.index, mask, active };
                    match step::execute(self, context, step) {
                        step::Next::Fall => {}
                        step::Next::Pause(pause) => {
                            // The group's place is kept by whoever paused it.
                            return pause;
                        }
                    }
                }
            }
            pc += 1;
        };
        let group = &mut self.groups.list[pick.index];
        (group.pc, group.fresh) = (pc, if pc == branched { fresh } else { 0 });
        pause
    }

    #[inline(always)]
    fn guard(&self, inst: &Inst) -> u32 {
        if inst.guard.pred == 0 {
            return u32::MAX;
        }
        let pred = self.registers.pred[usize::from(inst.guard.pred)];
        if inst.guard.negated { !pred } else { pred }
    }
}
