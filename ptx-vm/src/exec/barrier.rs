//! Barriers of a block: `bar` and `barrier`.

use super::groups::Wait;
use super::registers::{WARP, pack};
use super::warp::{Context, Warp};
use crate::check::FindingKind;
use crate::isa::{Barrier, BarrierKind, Op};

/// Barriers of a block, by number.
pub(crate) const BARRIERS: usize = 16;

/// Lanes of one warp that have come to a barrier.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    warp: usize,
    mask: u32,
    /// Lanes whose predicate is true, for a reduction.
    votes: u32,
    /// Threads that this arrival counts for: a whole warp where the barrier is an aligned one.
    counted: u32,
}

/// One barrier, between two completions.
#[derive(Clone, Debug, Default)]
pub(crate) struct BlockBarrier {
    arrivals: Vec<Arrival>,
    /// Threads it waits for; `None`: every live thread of the block.
    count: Option<u32>,
}

/// A group has come to a barrier with all the lanes it needs. False if the launch cannot go on.
pub(crate) fn arrive(
    barriers: &mut [BlockBarrier; BARRIERS],
    warps: &mut [Warp],
    context: &mut Context<'_, '_>,
    warp: usize,
    group: usize,
) -> bool {
    let (pc, mask) = (warps[warp].groups.list[group].pc, warps[warp].groups.list[group].mask);
    let Some(inst) = context.program.code.get(pc as usize) else { return false };
    let Op::Barrier(Barrier { kind, aligned }) = inst.op else { return false };
    let first = mask.trailing_zeros() as usize & 31;
    let registers = &warps[warp].registers;
    let numbers = registers.read(inst.src[0]);
    let counts = registers.read(inst.src[1]);
    let count = inst.src[1].is_some().then_some(counts[first] as u32);
    let agreed = mask & !pack(|lane| numbers[lane] == numbers[first] && counts[lane] == counts[first]) == 0;
    let Some(barrier) = barriers.get_mut(numbers[first] as u32 as usize).filter(|_| agreed) else {
        let number = numbers[first] as u32;
        let detail = || format!("barrier number {number} is not one of 0 to 15, or lanes name different barriers");
        context.report(FindingKind::BarrierDivergence, warps[warp].index, pc, mask, detail);
        return false;
    };
    if !barrier.arrivals.is_empty() && barrier.count != count {
        let (here, there) = (count, barrier.count);
        let detail = || format!("waits for {} threads, others here for {}", threads(here), threads(there));
        context.report(FindingKind::BarrierDivergence, warps[warp].index, pc, mask, detail);
    }
    barrier.count = count;
    let votes = if matches!(kind, BarrierKind::Sync | BarrierKind::Arrive) { 0 } else { registers.predicate(inst, 2) };
    let counted = if aligned { WARP as u32 } else { mask.count_ones() };
    barrier.arrivals.push(Arrival { warp, mask, votes: votes & mask, counted });
    let number = numbers[first] as u32;
    context.bus.recorder.executed(pc, mask);
    context.bus.barrier_arrived(context.memory, number, warps[warp].index, mask);
    let group = &mut warps[warp].groups.list[group];
    if kind == BarrierKind::Arrive {
        group.pc += 1;
    } else {
        group.wait = Wait::Barrier(number as u8);
        context.bus.recorder.waited();
    }
    complete(barrier, number as u8, warps, context);
    true
}

/// Looks again at barriers after lanes have exited: the threads that are left may all be there.
pub(crate) fn recheck(barriers: &mut [BlockBarrier; BARRIERS], warps: &mut [Warp], context: &mut Context<'_, '_>) {
    for (number, barrier) in barriers.iter_mut().enumerate() {
        complete(barrier, number as u8, warps, context);
    }
}

fn threads(count: Option<u32>) -> String {
    count.map_or_else(|| "all".to_owned(), |count| count.to_string())
}

/// Lets the waiting groups go if everyone has come.
fn complete(barrier: &mut BlockBarrier, number: u8, warps: &mut [Warp], context: &mut Context<'_, '_>) {
    if barrier.arrivals.is_empty() {
        return;
    }
    let everyone = match barrier.count {
        Some(count) => {
            barrier.arrivals.iter().map(|arrival| u64::from(arrival.counted)).sum::<u64>() >= u64::from(count)
        }
        None => warps.iter().enumerate().all(|(index, warp)| {
            let here = barrier.arrivals.iter().filter(|arrival| arrival.warp == index);
            warp.groups.live() & !here.fold(0, |mask, arrival| mask | arrival.mask) == 0
        }),
    };
    if !everyone {
        return;
    }
    let arrived: u32 = barrier.arrivals.iter().map(|arrival| arrival.mask.count_ones()).sum();
    let ayes: u32 = barrier.arrivals.iter().map(|arrival| arrival.votes.count_ones()).sum();
    barrier.arrivals.clear();
    barrier.count = None;
    let mut waited = Vec::new();
    for warp in warps {
        for group in warp.groups.list.iter_mut().filter(|group| group.wait == Wait::Barrier(number)) {
            waited.push((warp.index, group.mask));
            if let Some(inst) = context.program.code.get(group.pc as usize)
                && let Op::Barrier(Barrier { kind, .. }) = inst.op
                && let Some(value) = reduced(kind, ayes, arrived)
            {
                warp.registers.write(inst.dst[0], group.mask, &[value; WARP]);
            }
            group.wait = Wait::No;
            group.pc += 1;
        }
    }
    context.bus.barrier_completed(context.memory, u32::from(number), &waited);
}

fn reduced(kind: BarrierKind, ayes: u32, arrived: u32) -> Option<u64> {
    match kind {
        BarrierKind::Sync | BarrierKind::Arrive => None,
        BarrierKind::RedPopc => Some(u64::from(ayes)),
        BarrierKind::RedAnd => Some(u64::from(ayes == arrived)),
        BarrierKind::RedOr => Some(u64::from(ayes != 0)),
    }
}
