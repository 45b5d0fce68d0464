//! Everything that is not a pure operation: memory, control flow, and the hand-over to collectives and barriers.

use super::collective;
use super::registers::{WARP, lanes};
use super::warp::{Context, Pause, Warp};
use crate::bus::Lanes64;
use crate::check::FindingKind;
use crate::isa::{Access, Atomic, CarryKind, CarryOp, Op, PredOp, Space};
use crate::program::{File, Inst, Slot, windows};

/// What the group does next.
pub(crate) enum Next {
    /// Goes on with the following instruction.
    Fall,
    /// Stops; its place and its mask in the warp's groups are up to date.
    Pause(Pause),
}

/// One instruction as a group of lanes meets it.
#[derive(Clone, Copy)]
pub(crate) struct Step<'a> {
    pub inst: &'a Inst,
    pub pc: u32,
    /// The group, by its index in the warp's groups, and all its lanes.
    pub group: usize,
    pub mask: u32,
    /// The lanes that the guard lets through.
    pub active: u32,
}

/// Executes an instruction that is not a pure operation.
#[inline(never)]
pub(crate) fn execute(warp: &mut Warp, context: &mut Context<'_, '_>, step: Step<'_>) -> Next {
    let Step { inst, pc, mask, active, .. } = step;
    if is_collective(inst.op) {
        return collective::execute(warp, context, step);
    }
    context.bus.recorder.executed(pc, if matches!(inst.op, Op::Branch) { mask } else { active });
    match inst.op {
        Op::Branch | Op::BranchIndexed | Op::Call | Op::Return | Op::Exit | Op::Trap => {
            return jump(warp, context, step);
        }
        _ if active == 0 => {}
        Op::Load(access) => load(warp, context, step, access),
        Op::Store(access) => store(warp, context, step, access),
        Op::Atom(atomic) => atom(warp, context, step, atomic),
        Op::CopyAsync(bytes) => copy_async(warp, context, step, bytes),
        Op::CopyAsyncCommit => context.bus.commit(context.memory, context.at(warp.index, pc), active),
        Op::CopyAsyncWaitGroup => {
            let pending = Some(inst.imm as u32);
            context.bus.wait(context.memory, context.at(warp.index, pc), active, pending);
        }
        Op::CopyAsyncWaitAll => context.bus.wait(context.memory, context.at(warp.index, pc), active, None),
        Op::Fence(order) => context.bus.fence(context.memory, context.at(warp.index, pc), active, order),
        Op::Pred(op) => predicates(warp, inst, op, active),
        Op::Carry(op) => carry(warp, context, inst, op, active),
        Op::Cvta { space, to } => {
            // A parameter's address is generic from the start, and stays so when the text asks for it back.
            let base = if space == Space::Param { 0 } else { windows::base(space) };
            let address = warp.registers.read(inst.src[0]);
            let moved = address.map(|a| if to { a.wrapping_sub(base) } else { a.wrapping_add(base) });
            warp.registers.write(inst.dst[0], active, &moved);
        }
        Op::IsSpace(space) => {
            let inside = warp.registers.read(inst.src[0]).map(|a| u64::from(lies_in(context, a, space)));
            warp.registers.write(inst.dst[0], active, &inside);
        }
        Op::ActiveMask => warp.registers.write(inst.dst[0], active, &[u64::from(active); WARP]),
        Op::ReadClock => warp.registers.write(inst.dst[0], active, &[*context.steps; WARP]),
        _ => {}
    }
    Next::Fall
}

/// Operations that several lanes perform together, barriers included.
fn is_collective(op: Op) -> bool {
    matches!(
        op,
        Op::Shfl(_)
            | Op::Vote(_)
            | Op::Match { .. }
            | Op::Redux(..)
            | Op::WarpBarrier
            | Op::Mma(_)
            | Op::LoadMatrix { .. }
            | Op::Barrier(_)
    )
}

/// The operand list of a vector access, `mma` or `ldmatrix`.
pub(crate) fn list<'a>(context: &Context<'a, '_>, inst: &Inst) -> &'a [Slot] {
    let (start, len) = (inst.list.0 as usize, usize::from(inst.list.1));
    context.program.lists.get(start..start + len).unwrap_or_default()
}

/// Addresses with the offset added.
pub(crate) fn addresses(warp: &Warp, slot: Slot, offset: i64) -> Lanes64 {
    let address = warp.registers.read(slot);
    if offset == 0 { address } else { address.map(|a| a.wrapping_add(offset as u64)) }
}

/// Calls `run` with room for that many elements of every lane, and not much more: all of it has to be cleared.
fn with_elements(count: usize, run: impl FnOnce(&mut [Lanes64])) {
    match count {
        0..=1 => run(&mut [[0; WARP]; 1][..count]),
        2..=4 => run(&mut [[0; WARP]; 4][..count]),
        _ => run(&mut [[0; WARP]; 8][..count.min(8)]),
    }
}

fn load(warp: &mut Warp, context: &mut Context<'_, '_>, step: Step<'_>, access: Access) {
    let Step { inst, pc, active, .. } = step;
    let targets = list(context, inst);
    let address = addresses(warp, inst.src[0], inst.imm);
    let at = context.at(warp.index, pc);
    with_elements(targets.len(), |values| {
        context.bus.load(context.memory, at, access, active, &address, values);
        for (slot, value) in targets.iter().zip(values) {
            warp.registers.write(*slot, active, value);
        }
    });
}

fn store(warp: &mut Warp, context: &mut Context<'_, '_>, step: Step<'_>, access: Access) {
    let Step { inst, pc, active, .. } = step;
    let sources = list(context, inst);
    let address = addresses(warp, inst.src[0], inst.imm);
    let at = context.at(warp.index, pc);
    with_elements(sources.len(), |values| {
        for (slot, value) in sources.iter().zip(values.iter_mut()) {
            *value = warp.registers.read(*slot);
        }
        context.bus.store(context.memory, at, access, active, &address, values);
    });
}

fn atom(warp: &mut Warp, context: &mut Context<'_, '_>, step: Step<'_>, atomic: Atomic) {
    let Step { inst, pc, active, .. } = step;
    let address = addresses(warp, inst.src[0], inst.imm);
    let (b, c) = (warp.registers.read(inst.src[1]), warp.registers.read(inst.src[2]));
    let mut old = [0; WARP];
    let at = context.at(warp.index, pc);
    context.bus.atomic(context.memory, at, atomic, active, &address, &b, &c, &mut old);
    if atomic.returns {
        warp.registers.write(inst.dst[0], active, &old);
    }
}

fn copy_async(warp: &mut Warp, context: &mut Context<'_, '_>, step: Step<'_>, bytes: u8) {
    let Step { inst, pc, active, .. } = step;
    let to = addresses(warp, inst.src[0], i64::from(inst.imm as i32));
    let from = addresses(warp, inst.src[1], inst.imm >> 32);
    let whole = [u64::from(bytes); WARP];
    let source = if inst.src[2].is_some() { warp.registers.read(inst.src[2]) } else { whole };
    let at = context.at(warp.index, pc);
    context.bus.copy_async(context.memory, at, u32::from(bytes), active, &to, &from, &source);
}

fn predicates(warp: &mut Warp, inst: &Inst, op: PredOp, active: u32) {
    let (a, b) = (warp.registers.predicate(inst, 0), warp.registers.predicate(inst, 1));
    let bits = match op {
        PredOp::Mov => a,
        PredOp::Not | PredOp::Cnot => !a,
        PredOp::And => a & b,
        PredOp::Or => a | b,
        PredOp::Xor => a ^ b,
    };
    warp.registers.write_predicate(inst.dst[0], active, bits);
}

/// Extended-precision arithmetic: `a op b (op c)` with the carry flag, which is a predicate like any other.
fn carry(warp: &mut Warp, context: &Context<'_, '_>, inst: &Inst, op: CarryOp, active: u32) {
    let flag = Slot { file: File::Pred, index: context.program.carry };
    let [a, b, c] = [0, 1, 2].map(|i| warp.registers.read(inst.src[i]));
    let carry_in = warp.registers.read(flag);
    let (mut results, mut flags) = ([0; WARP], [0; WARP]);
    for lane in lanes(active) {
        let taken = if op.carry_in { carry_in[lane] } else { 0 };
        (results[lane], flags[lane]) = carry_lane(op, a[lane], b[lane], c[lane], taken);
    }
    warp.registers.write(inst.dst[0], active, &results);
    if op.carry_out {
        warp.registers.write(flag, active, &flags);
    }
}

/// One lane: the result and the carry (for a subtraction: the borrow).
fn carry_lane(op: CarryOp, a: u64, b: u64, c: u64, carry_in: u64) -> (u64, u64) {
    let bits = if op.wide { 64 } else { 32 };
    let low = |x: u128| (x & ((1_u128 << bits) - 1)) as u64;
    let [a, b, c] = [a, b, c].map(|x| u128::from(low(x.into())));
    let signed = |x: u128| ((x << (128 - bits)) as i128) >> (128 - bits);
    let product = if op.signed { signed(a).wrapping_mul(signed(b)) as u128 } else { a * b };
    let (carry_in, left, right) = match op.kind {
        CarryKind::Add => (u128::from(carry_in), a, b),
        CarryKind::Sub => (u128::from(carry_in), a, b),
        CarryKind::MadLo => (u128::from(carry_in), u128::from(low(product)), c),
        CarryKind::MadHi => (u128::from(carry_in), u128::from(low(product >> bits)), c),
    };
    if op.kind == CarryKind::Sub {
        let difference = left.wrapping_sub(right).wrapping_sub(carry_in);
        (low(difference), u64::from(left < right + carry_in))
    } else {
        let sum = left + right + carry_in;
        (low(sum), u64::from(sum >> bits != 0))
    }
}

fn lies_in(context: &Context<'_, '_>, address: u64, space: Space) -> bool {
    let (found, _) = windows::route(address);
    if found != Space::Global {
        return found == space;
    }
    let constant =
        context.bus.memory.allocations.iter().any(|allocation| {
            allocation.constant && address.wrapping_sub(allocation.base) < allocation.bytes.len() as u64
        });
    space == if constant { Space::Const } else { Space::Global }
}

/// Control flow. The group's lanes are redistributed; it always pauses, so that groups are merged and picked anew.
fn jump(warp: &mut Warp, context: &mut Context<'_, '_>, step: Step<'_>) -> Next {
    let Step { inst, pc, mask, active, group: index } = step;
    let groups = &mut warp.groups;
    let fresh = groups.list[index].fresh;
    if let Op::Branch = inst.op {
        groups.branch(index, active, inst.imm as u32, pc + 1);
        return Next::Pause(Pause::Regroup);
    }
    groups.list[index].pc = pc + 1;
    groups.list[index].mask = mask & !active;
    if active == 0 {
        return Next::Pause(Pause::Regroup);
    }
    match inst.op {
        Op::Call => {
            warp.registers.write(inst.dst[0], active, &[u64::from(pc + 1); WARP]);
            groups.add(inst.imm as u32, active);
        }
        Op::Return => {
            let targets = warp.registers.read(inst.src[0]);
            scatter(warp, active, |lane| Some(targets[lane] as u32));
        }
        Op::BranchIndexed => {
            let (start, len) = (inst.list.0 as usize, usize::from(inst.list.1));
            let table = context.program.targets.get(start..start + len).unwrap_or_default();
            let chosen = warp.registers.read(inst.src[0]);
            let astray = scatter(warp, active, |lane| table.get(chosen[lane] as u32 as usize).copied());
            if astray != 0 {
                let detail = || format!("index {} of {} targets", chosen[astray.trailing_zeros() as usize & 31], len);
                context.report(FindingKind::Trap, warp.index, pc, astray, detail);
                return Next::Pause(Pause::Trap);
            }
        }
        Op::Exit => {
            if inst.guard.pred == 0 {
                groups.gone |= active & !fresh;
            }
            context.bus.exited(context.memory, context.at(warp.index, pc), active);
        }
        _ => {
            context.report(FindingKind::Trap, warp.index, pc, active, || "the kernel executed `trap`".to_owned());
            return Next::Pause(Pause::Trap);
        }
    }
    Next::Pause(Pause::Regroup)
}

/// Sends each lane to its own target; lanes without one come back.
fn scatter(warp: &mut Warp, active: u32, target: impl Fn(usize) -> Option<u32>) -> u32 {
    let mut rest = active;
    let mut astray = 0;
    while rest != 0 {
        let first = target(rest.trailing_zeros() as usize);
        let together = lanes(rest).filter(|lane| target(*lane) == first).fold(0, |mask, lane| mask | 1 << lane);
        match first {
            Some(pc) => warp.groups.add(pc, together),
            None => astray |= together,
        }
        rest &= !together;
    }
    astray
}
