//! Operations that lanes of a warp perform together: shuffles, votes, matches, reductions, tensor cores, barriers.
//!
//! Such an instruction runs when every live lane that it names stands at it; until then its group is parked. Lanes of one
//! group may name different sets (after a `match`): each set that is complete goes on by itself.

use super::groups::Wait;
use super::registers::{Registers, WARP, lanes, pack};
use super::step::{Next, Step, addresses, list};
use super::warp::{Context, Pause, Warp};
use crate::alu::mma;
use crate::check::FindingKind;
use crate::isa::{AtomOp, Mma, Op, Shfl, Type, Vote};
use crate::program::{File, Inst};

/// Runs the collective, or parks the group.
pub(crate) fn execute(warp: &mut Warp, context: &mut Context<'_, '_>, step: Step<'_>) -> Next {
    let Step { inst, pc, mask, active, group: index } = step;
    let live = warp.groups.live();
    let ready = ready(&warp.registers, inst, active, live);
    let group = &mut warp.groups.list[index];
    (group.pc, group.mask) = (pc, mask);
    if active != mask {
        // Lanes that the guard holds back go on without the others.
        group.mask = active;
        warp.groups.add(pc + 1, mask & !active);
        return Next::Pause(Pause::Regroup);
    }
    if ready == 0 {
        return Next::Pause(Pause::Park);
    }
    if ready != active {
        group.mask = ready;
        warp.groups.add(pc, active & !ready);
        if let Some(rest) = warp.groups.list.last_mut() {
            rest.wait = Wait::Lanes;
        }
        return Next::Pause(Pause::Regroup);
    }
    if let Op::Barrier(barrier) = inst.op {
        let gone = warp.groups.gone;
        if barrier.aligned && gone != 0 && context.bus.checks.sync {
            let detail = || format!("lanes {gone:#010x} of the warp went past it and exited");
            context.report(FindingKind::BarrierDivergence, warp.index, pc, active, detail);
        }
        return Next::Pause(Pause::Barrier);
    }
    context.bus.recorder.executed(pc, active);
    check_members(warp, context, step);
    match inst.op {
        Op::Shfl(mode) => shuffle(warp, context, step, mode),
        Op::Vote(kind) => vote(warp, inst, kind, active),
        Op::Match { all, ty } => matching(warp, inst, all, ty, active),
        Op::Redux(op, ty) => reduce(warp, inst, op, ty, active),
        Op::WarpBarrier => synchronise(warp, context, inst, active),
        Op::Mma(op) => multiply(warp, context, inst, op),
        Op::LoadMatrix { transposed, .. } => load_matrix(warp, context, inst, transposed, pc),
        _ => {}
    }
    Next::Fall
}

/// Wakes parked groups whose lanes have all come, or will not come because they exited.
pub(crate) fn unpark(warp: &mut Warp, context: &mut Context<'_, '_>) {
    if warp.groups.list.iter().all(|group| group.wait != Wait::Lanes) {
        return;
    }
    let live = warp.groups.live();
    for index in 0..warp.groups.list.len() {
        let group = warp.groups.list[index];
        let Some(inst) = context.program.code.get(group.pc as usize) else { continue };
        if group.wait == Wait::Lanes && ready(&warp.registers, inst, group.mask, live) != 0 {
            warp.groups.list[index].wait = Wait::No;
        }
    }
    unpark_warp_barriers(warp, context, live);
}

/// `bar.warp.sync` is one barrier wherever it stands: lanes may meet from different instructions.
fn unpark_warp_barriers(warp: &mut Warp, context: &mut Context<'_, '_>, live: u32) {
    let program = context.program;
    let at_barrier = |pc: u32| program.code.get(pc as usize).filter(|inst| matches!(inst.op, Op::WarpBarrier));
    let mut named = [None; WARP];
    for group in warp.groups.list.iter().filter(|group| group.wait == Wait::Lanes) {
        if let Some(inst) = at_barrier(group.pc) {
            let members = warp.registers.read(inst.src[0]);
            lanes(group.mask).for_each(|lane| named[lane] = Some(members[lane] as u32));
        }
    }
    for lane in 0..WARP {
        let Some(members) = named[lane] else { continue };
        let together = pack(|other| named[other] == Some(members));
        if members & live & !together != 0 {
            continue;
        }
        let gone = members & warp.groups.gone;
        for index in 0..warp.groups.list.len() {
            let group = warp.groups.list[index];
            let leaving = group.mask & together;
            if group.wait != Wait::Lanes || leaving == 0 || at_barrier(group.pc).is_none() {
                continue;
            }
            context.bus.recorder.executed(group.pc, leaving);
            if gone != 0 && context.bus.checks.sync {
                let detail = || format!("names lanes that went past it and exited ({gone:#010x} did)");
                context.report(FindingKind::MissingLanes, warp.index, group.pc, leaving, detail);
            }
            warp.groups.list[index].mask &= !leaving;
            warp.groups.add(group.pc + 1, leaving);
        }
        lanes(together).for_each(|lane| named[lane] = None);
        context.bus.warp_synchronised(context.memory, warp.index, together);
    }
    warp.groups.list.retain(|group| group.mask != 0);
    warp.groups.merge();
}

/// The lanes of `active` that may go on: every live lane that they name is among them and names the same set.
fn ready(registers: &Registers, inst: &Inst, active: u32, live: u32) -> u32 {
    let slot = match inst.op {
        Op::Shfl(_) => inst.src[3],
        Op::Vote(_) | Op::Match { .. } | Op::Redux(..) => inst.src[1],
        Op::WarpBarrier => inst.src[0],
        Op::Barrier(barrier) if !barrier.aligned => return active,
        _ => return if active == live { active } else { 0 },
    };
    let members = registers.read(slot);
    let mut ready = 0;
    let mut rest = active;
    while rest != 0 {
        let named = members[rest.trailing_zeros() as usize] as u32;
        let together = active & pack(|lane| members[lane] as u32 == named);
        if named & live & !together == 0 {
            ready |= together;
        }
        rest &= !together;
    }
    ready
}

/// Lanes that execute a warp operation without being named by it, and tensor-core operations of a partial warp.
fn check_members(warp: &Warp, context: &mut Context<'_, '_>, step: Step<'_>) {
    let Step { inst, pc, active, .. } = step;
    if !context.bus.checks.sync {
        return;
    }
    let slot = match inst.op {
        Op::Shfl(_) => inst.src[3],
        Op::Vote(_) | Op::Match { .. } | Op::Redux(..) => inst.src[1],
        Op::WarpBarrier => inst.src[0],
        _ => {
            if active != u32::MAX {
                let detail = || format!("needs all 32 lanes, has {active:#010x}");
                context.report(FindingKind::MissingLanes, warp.index, pc, active, detail);
            }
            return;
        }
    };
    let members = warp.registers.read(slot);
    let gone = warp.groups.gone;
    let deserted = active & pack(|lane| members[lane] as u32 & gone != 0);
    if deserted != 0 {
        let detail = || format!("names lanes that went past it and exited ({gone:#010x} did)");
        context.report(FindingKind::MissingLanes, warp.index, pc, deserted, detail);
    }
    let strangers = active & pack(|lane| members[lane] as u32 >> lane & 1 == 0);
    if strangers != 0 {
        let named = members[strangers.trailing_zeros() as usize];
        let detail = || format!("the mask {named:#010x} leaves out the lane that executes");
        context.report(FindingKind::MissingLanes, warp.index, pc, strangers, detail);
    }
}

/// Where each lane of a `shfl` reads, and whether that is in range: the manual's formulas.
pub(crate) fn shuffle_source(mode: Shfl, lane: u32, b: u32, c: u32) -> (u32, bool) {
    let (b, clamp, segment) = (b & 31, c & 31, c >> 8 & 31);
    let highest = lane & segment | clamp & !segment;
    let (source, inside) = match mode {
        Shfl::Up => (lane.wrapping_sub(b), lane as i32 - b as i32 >= highest as i32),
        Shfl::Down => (lane + b, lane + b <= highest),
        Shfl::Butterfly => (lane ^ b, lane ^ b <= highest),
        Shfl::Index => {
            let source = lane & segment | b & !segment;
            (source, source <= highest)
        }
    };
    if inside { (source & 31, true) } else { (lane, false) }
}

fn shuffle(warp: &mut Warp, context: &mut Context<'_, '_>, step: Step<'_>, mode: Shfl) {
    let Step { inst, pc, active, .. } = step;
    let [a, b, c, members] = [0, 1, 2, 3].map(|i| warp.registers.read(inst.src[i]));
    let (mut values, mut inside, mut absent) = ([0; WARP], 0_u32, 0_u32);
    for lane in lanes(active) {
        let (source, valid) = shuffle_source(mode, lane as u32, b[lane] as u32, c[lane] as u32);
        values[lane] = a[source as usize];
        inside |= u32::from(valid) << lane;
        let there = active & members[lane] as u32;
        absent |= u32::from(there >> source & 1 == 0) << lane;
    }
    if absent != 0 && context.bus.checks.sync {
        let detail = || format!("reads a lane that does not take part (taking part: {active:#010x})");
        context.report(FindingKind::MissingLanes, warp.index, pc, absent, detail);
    }
    warp.registers.write(inst.dst[0], active, &values);
    if inst.dst[1].is_some() {
        warp.registers.write_predicate(inst.dst[1], active, inside);
    }
}

/// `bar.warp.sync` of complete sets: each is a barrier of its own.
fn synchronise(warp: &Warp, context: &mut Context<'_, '_>, inst: &Inst, active: u32) {
    let members = warp.registers.read(inst.src[0]);
    let mut rest = active;
    while rest != 0 {
        let named = members[rest.trailing_zeros() as usize];
        let together = active & pack(|lane| members[lane] as u32 == named as u32);
        context.bus.warp_synchronised(context.memory, warp.index, together);
        rest &= !together;
    }
}

/// The lanes of `active` that name the same set as `lane`.
fn companions(members: &[u64; WARP], active: u32, lane: usize) -> u32 {
    active & members[lane] as u32 & pack(|other| members[other] as u32 == members[lane] as u32)
}

fn vote(warp: &mut Warp, inst: &Inst, kind: Vote, active: u32) {
    let votes = warp.registers.predicate(inst, 0);
    let members = warp.registers.read(inst.src[1]);
    let mut results = [0; WARP];
    for lane in lanes(active) {
        let voters = companions(&members, active, lane);
        let ayes = votes & voters;
        results[lane] = match kind {
            Vote::All => u64::from(ayes == voters),
            Vote::Any => u64::from(ayes != 0),
            Vote::Uniform => u64::from(ayes == 0 || ayes == voters),
            Vote::Ballot => u64::from(ayes),
        };
    }
    warp.registers.write(inst.dst[0], active, &results);
}

fn matching(warp: &mut Warp, inst: &Inst, all: bool, ty: Type, active: u32) {
    let keep = if ty.bits() == 64 { u64::MAX } else { u64::from(u32::MAX) };
    let a = warp.registers.read(inst.src[0]).map(|value| value & keep);
    let members = warp.registers.read(inst.src[1]);
    let (mut results, mut unanimous) = ([0; WARP], 0_u32);
    for lane in lanes(active) {
        let party = companions(&members, active, lane);
        let equal = party & pack(|other| a[other] == a[lane]);
        results[lane] = u64::from(if all && equal != party { 0 } else { equal });
        unanimous |= u32::from(equal == party) << lane;
    }
    warp.registers.write(inst.dst[0], active, &results);
    if inst.dst[1].is_some() {
        warp.registers.write_predicate(inst.dst[1], active, unanimous);
    }
}

fn reduce(warp: &mut Warp, inst: &Inst, op: AtomOp, ty: Type, active: u32) {
    let a = warp.registers.read(inst.src[0]).map(|value| value as u32);
    let members = warp.registers.read(inst.src[1]);
    let combine = |x: u32, y: u32| match (op, ty.is_signed()) {
        (AtomOp::Min, true) => (x as i32).min(y as i32) as u32,
        (AtomOp::Max, true) => (x as i32).max(y as i32) as u32,
        (AtomOp::Min, false) => x.min(y),
        (AtomOp::Max, false) => x.max(y),
        (AtomOp::And, _) => x & y,
        (AtomOp::Or, _) => x | y,
        (AtomOp::Xor, _) => x ^ y,
        _ => x.wrapping_add(y),
    };
    let mut results = [0; WARP];
    for lane in lanes(active) {
        let party = lanes(companions(&members, active, lane)).map(|other| a[other]);
        results[lane] = u64::from(party.reduce(combine).unwrap_or(a[lane]));
    }
    warp.registers.write(inst.dst[0], active, &results);
}

fn multiply(warp: &mut Warp, context: &Context<'_, '_>, inst: &Inst, op: Mma) {
    let slots = list(context, inst);
    let mut registers = [[0_u32; WARP]; 16];
    let [d, a, b, c] = op.registers();
    if slots.len() != d + a + b + c || slots.iter().any(|slot| slot.file != File::Word) {
        return;
    }
    for (slot, register) in slots.iter().zip(&mut registers) {
        *register = warp.registers.word[usize::from(slot.index)];
    }
    let (results, sources) = registers.split_at_mut(d);
    let (a_registers, rest) = sources.split_at(a);
    mma::mma(op, context.accumulation, a_registers, &rest[..b], &rest[b..b + c], results);
    for (slot, result) in slots.iter().zip(results) {
        warp.registers.word[usize::from(slot.index)] = *result;
    }
}

fn load_matrix(warp: &mut Warp, context: &mut Context<'_, '_>, inst: &Inst, transposed: bool, pc: u32) {
    let targets = list(context, inst);
    let address = addresses(warp, inst.src[0], inst.imm);
    let mut values = [[0; WARP]; 4];
    let at = context.at(warp.index, pc);
    context.bus.load_matrix(context.memory, at, transposed, &address, &mut values[..targets.len().min(4)]);
    for (slot, value) in targets.iter().zip(&values) {
        warp.registers.write(*slot, u32::MAX, &value.map(u64::from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The manual's examples of segments: width 32 (c = 31, or 0 for up) and sub-warps of 8.
    #[test]
    fn shuffle_sources() {
        assert_eq!(shuffle_source(Shfl::Down, 20, 16, 31), (20, false));
        assert_eq!(shuffle_source(Shfl::Down, 4, 16, 31), (20, true));
        assert_eq!(shuffle_source(Shfl::Up, 3, 4, 0), (3, false));
        assert_eq!(shuffle_source(Shfl::Up, 4, 4, 0), (0, true));
        assert_eq!(shuffle_source(Shfl::Butterfly, 5, 16, 31), (21, true));
        assert_eq!(shuffle_source(Shfl::Index, 9, 3, 31), (3, true));
        let eight = 24 << 8 | 7;
        assert_eq!(shuffle_source(Shfl::Down, 14, 1, eight), (15, true));
        assert_eq!(shuffle_source(Shfl::Down, 15, 1, eight), (15, false));
        assert_eq!(shuffle_source(Shfl::Index, 13, 2, eight), (10, true));
        assert_eq!(shuffle_source(Shfl::Up, 9, 2, 24 << 8), (9, false));
    }
}
