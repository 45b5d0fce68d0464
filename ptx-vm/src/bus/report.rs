//! Requests as the spaces see them, and their findings in words.

use super::arrays::Arrays;
use super::lanes::{self, each};
use super::races::{Conflict, GlobalConflict};
use super::{Bus, Lanes64};
use crate::check::{At, FindingKind, Findings, Shape, place};
use crate::isa::{Order, Space};
use crate::memory::Memory;
use crate::program::{Program, windows};
use std::fmt;

/// What an instruction does to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Read,
    Write,
    Atomic,
    /// The source of a `cp.async`.
    CopyFrom,
    /// Its target.
    CopyTo,
}

impl Verb {
    pub fn writes(self) -> bool {
        matches!(self, Verb::Write | Verb::Atomic | Verb::CopyTo)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verb::Read => "read",
            Verb::Write => "write",
            Verb::Atomic => "atomic",
            Verb::CopyFrom => "cp.async read",
            Verb::CopyTo => "cp.async write",
        })
    }
}

/// An access of one warp instruction, but for its lanes and addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub at: At,
    pub verb: Verb,
    /// As the instruction names it.
    pub space: Space,
    /// Bytes per lane.
    pub size: u32,
    pub order: Order,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.size == 1 { "" } else { "s" };
        write!(f, "{} of {} byte{plural}", self.verb, self.size)
    }
}

/// Records a finding for every lane in `mask`. A function, not a method: `detail` may borrow the rest of the bus.
#[cold]
pub(super) fn report(
    findings: &mut Findings,
    program: &Program,
    kind: FindingKind,
    at: At,
    mask: u32,
    detail: impl Fn(usize) -> String,
) {
    each(mask, |lane| findings.report(program, kind, at, lane as u32, || detail(lane)));
}

impl Bus<'_> {
    /// Reports the lanes whose address is no multiple of the access's size, and returns the others.
    pub(super) fn aligned(&mut self, request: Request, mask: u32, address: &Lanes64) -> u32 {
        let wrong = lanes::misaligned(mask, address, request.size);
        if wrong != 0 {
            report(&mut self.findings, self.program, FindingKind::Misaligned, request.at, wrong, |lane| {
                format!("{request} at {:#x}, which is no multiple of {}", address[lane], request.size)
            });
        }
        mask & !wrong
    }
}

/// Where an address lies that is in no allocation: in relation to the nearest one.
pub(super) fn outside(memory: &Memory, address: u64, size: u32) -> String {
    match windows::route(address) {
        (Space::Global, _) => {}
        (space, offset) => return format!("that is a generic address of {space:?} memory, offset {offset:#x}"),
    }
    let below = memory.at_or_below(address);
    let before = below.and_then(|index| memory.allocations.get(index));
    let after = memory.allocations.get(below.map_or(0, |index| index + 1));
    if let Some(a) = before {
        let (offset, len) = (address - a.base, a.bytes.len() as u64);
        if offset < len {
            return format!("{} bytes from byte {offset} of `{}` ({len} bytes) run over its end", size, a.name);
        }
        let closer = after.is_none_or(|b| offset - len <= b.base - address);
        if closer {
            return format!("{} bytes behind the end of `{}` ({len} bytes)", offset - len, a.name);
        }
    }
    match after {
        Some(b) => format!("{} bytes before `{}` ({} bytes)", b.base - address, b.name, b.bytes.len()),
        None => "there is no device memory at all".to_owned(),
    }
}

/// The two sides of a race in shared memory.
pub(super) fn shared_race(
    request: Request,
    offset: u64,
    conflict: Conflict,
    arrays: &Arrays,
    program: &Program,
    shape: Shape,
) -> String {
    let other = shape.thread(conflict.thread.warp, conflict.thread.lane);
    let what = if conflict.write { "written" } else { "read" };
    format!(
        "{request} at shared {offset:#x}; {} is {what} by thread {other:?} at {}, and nothing orders the two",
        arrays.describe(u64::from(conflict.offset)),
        place(program, conflict.pc),
    )
}

/// The two sides of a race in device memory.
pub(super) fn global_race(
    request: Request,
    offset: u64,
    conflict: GlobalConflict,
    (name, len): (&str, usize),
    program: &Program,
    shape: Shape,
) -> String {
    let what = if conflict.write { "written" } else { "read" };
    format!(
        "{request} at byte {offset} of `{name}` ({len} bytes); byte {} is {what} by block {:?} at {}, and nothing orders the two",
        conflict.offset,
        shape.block(conflict.block),
        place(program, conflict.pc),
    )
}
