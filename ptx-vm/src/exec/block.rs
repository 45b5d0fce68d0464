//! A block that is running: its warps, its barriers, its memory.

use super::barrier::{self, BARRIERS, BlockBarrier};
use super::groups::Wait;
use super::random::Random;
use super::registers::{Registers, WARP};
use super::special::{self, Position};
use super::warp::{Context, Stop, Warp};
use crate::alu::mma::Accumulation;
use crate::bus::{BlockMemory, Bus};
use crate::check::FindingKind;
use crate::isa::Op;
use crate::program::Program;

/// What a launch hands to whoever runs.
pub(crate) struct Shared<'a, 'b> {
    pub program: &'a Program,
    pub bus: &'a mut Bus<'b>,
    pub steps: u64,
    pub accumulation: Accumulation,
    pub perturb: Option<u64>,
}

/// A resident block.
pub(crate) struct Block {
    index: u64,
    warps: Vec<Warp>,
    barriers: [BlockBarrier; BARRIERS],
    memory: BlockMemory,
}

/// What a block's turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Something ran.
    Progress,
    /// Nothing could run.
    Stuck,
    /// Every thread has exited.
    Finished,
    /// The launch must end.
    Failed,
}

impl Block {
    pub fn new(shared: &Shared<'_, '_>, template: &Registers, position: &Position<'_>) -> Block {
        let threads = position.block.iter().product::<u32>();
        let warps = (0..threads.div_ceil(WARP as u32)).map(|index| {
            let mut registers = template.clone();
            special::fill(&mut registers, shared.program, position, index);
            let lanes = threads - index * WARP as u32;
            Warp::new(index, registers, if lanes >= WARP as u32 { u32::MAX } else { (1 << lanes) - 1 })
        });
        let bytes = shared.program.dynamic_offset.max(shared.program.shared_bytes) + position.dynamic_shared;
        let memory = BlockMemory::new(shared.program, shared.bus.checks, position.index, threads, bytes);
        Block { index: position.index, warps: warps.collect(), barriers: Default::default(), memory }
    }

    /// Runs every warp once, for at most `quantum` instructions each: in order, or in an order of chance.
    pub fn run(&mut self, shared: &mut Shared<'_, '_>, quantum: u64, mut random: Option<&mut Random>) -> Turn {
        let count = self.warps.len();
        let mut progress = false;
        let start = random.as_deref_mut().map_or(0, |random| random.below(count as u64) as usize);
        for offset in 0..count {
            let warp = (start + offset) % count;
            let quantum = random.as_deref_mut().map_or(quantum, |random| 1 + random.below(quantum));
            match self.run_warp(shared, warp, quantum, random.as_deref_mut()) {
                Turn::Progress => progress = true,
                Turn::Failed => return Turn::Failed,
                Turn::Stuck | Turn::Finished => {}
            }
        }
        if self.warps.iter().all(Warp::finished) {
            Turn::Finished
        } else if progress {
            Turn::Progress
        } else {
            Turn::Stuck
        }
    }

    fn run_warp(
        &mut self,
        shared: &mut Shared<'_, '_>,
        warp: usize,
        quantum: u64,
        mut random: Option<&mut Random>,
    ) -> Turn {
        let before = shared.steps;
        let end = before.saturating_add(quantum);
        let mut context = context(shared, &mut self.memory, self.index);
        let mut arrived = false;
        loop {
            let live = self.warps[warp].groups.live();
            let left = end.saturating_sub(*context.steps);
            let stop = self.warps[warp].run(&mut context, left, random.as_deref_mut());
            if self.warps[warp].groups.live() != live {
                barrier::recheck(&mut self.barriers, &mut self.warps, &mut context);
            }
            match stop {
                Stop::AtBarrier(group) => {
                    arrived = true;
                    if !barrier::arrive(&mut self.barriers, &mut self.warps, &mut context, warp, group) {
                        return Turn::Failed;
                    }
                }
                Stop::Trapped => return Turn::Failed,
                Stop::Turn | Stop::Blocked => break,
            }
        }
        if arrived || *context.steps != before { Turn::Progress } else { Turn::Stuck }
    }

    /// Says where every thread stands that waits for something that will not happen.
    pub fn report_deadlock(&mut self, shared: &mut Shared<'_, '_>) {
        let mut context = context(shared, &mut self.memory, self.index);
        let parked = |wait: Wait| {
            self.warps.iter().flat_map(move |warp| {
                warp.groups.list.iter().filter(move |group| group.wait == wait).map(move |group| (warp, group))
            })
        };
        let mut explained = false;
        for (warp, group) in parked(Wait::Lanes) {
            let live = warp.groups.live();
            let op = context.program.code.get(group.pc as usize).map(|inst| inst.op);
            let kind = if matches!(op, Some(Op::Barrier(_))) {
                FindingKind::BarrierDivergence
            } else {
                FindingKind::MissingLanes
            };
            let detail = || format!("lanes {:#010x} of {live:#010x} wait here for others that do not come", group.mask);
            context.report(kind, warp.index, group.pc, group.mask, detail);
            explained = true;
        }
        if explained {
            return;
        }
        for (number, warp, group) in (0..BARRIERS as u8)
            .flat_map(|number| parked(Wait::Barrier(number)).map(move |(warp, group)| (number, warp, group)))
        {
            let detail = || format!("waits at barrier {number}, which never completes");
            context.report(FindingKind::Deadlock, warp.index, group.pc, group.mask, detail);
        }
    }

    /// Says where every thread stands when the step limit ends the launch.
    pub fn report_step_limit(&mut self, shared: &mut Shared<'_, '_>, limit: u64) {
        let mut context = context(shared, &mut self.memory, self.index);
        for warp in &self.warps {
            for group in &warp.groups.list {
                let state = match group.wait {
                    Wait::No => "runs",
                    Wait::Lanes => "waits for lanes of its warp",
                    Wait::Barrier(_) => "waits at a barrier",
                };
                let detail = || format!("{state} here after {limit} warp instructions of the launch");
                context.report(FindingKind::StepLimit, warp.index, group.pc, group.mask, detail);
            }
        }
    }
}

fn context<'c, 'b>(shared: &'c mut Shared<'_, 'b>, memory: &'c mut BlockMemory, block: u64) -> Context<'c, 'b> {
    Context {
        program: shared.program,
        bus: shared.bus,
        memory,
        block,
        steps: &mut shared.steps,
        accumulation: shared.accumulation,
        perturb: shared.perturb,
    }
}
