//! The threads of a block, where they come by together.

use super::super::operations::TOTALS;
use super::super::tree::{BlockVote, Collective, Guard, Operand, Program, REGION, Shuffle, Stmt, Uniform, Var, Vote};
use super::thread::{Alone, Flow, Frame, GLOBAL, LOCAL, Place3, SHARED};
use super::{Memory, OUTPUT};
use std::ops::Range;

struct Thread {
    frame: Frame,
    regions: Vec<[u8; REGION]>,
    ended: bool,
}

/// A block at work.
pub struct Block<'a> {
    program: &'a Program,
    place: Place3,
    number: u32,
    threads: Vec<Thread>,
    totals: Vec<u64>,
    memory: &'a mut Memory,
}

impl<'a> Block<'a> {
    pub fn new(program: &'a Program, place: Place3, number: u32, memory: &'a mut Memory) -> Block<'a> {
        let first = (number * program.threads()) as usize;
        let thread = |i: usize| {
            let mut slot = [0; REGION];
            for (bytes, word) in slot.chunks_exact_mut(8).zip(&memory.slots[i * REGION / 8..]) {
                bytes.copy_from_slice(&word.to_le_bytes());
            }
            // Shared and local memory start as copies of the thread's device memory.
            Thread { frame: memory.frame(i), regions: vec![slot; 3], ended: false }
        };
        let threads = (first..first + program.threads() as usize).map(thread).collect();
        let totals = TOTALS.iter().map(|total| total.start).collect();
        Block { program, place, number, threads, totals, memory }
    }

    pub fn run(mut self) {
        let program = self.program;
        self.all(&program.body, 0..self.threads.len());
        let first = (self.number * program.threads()) as usize;
        for (i, thread) in (first..).zip(&self.threads) {
            let words = |region: usize| {
                thread.regions[region]
                    .chunks_exact(8)
                    .map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")))
            };
            for (to, word) in self.memory.slots[i * REGION / 8..].iter_mut().zip(words(GLOBAL)) {
                *to = word;
            }
            if !thread.ended {
                let vars = (0..Var::COUNT as u8).map(|var| thread.frame.get(Var(var)));
                let left = vars.chain(words(SHARED)).chain(words(LOCAL));
                self.memory.output[i * OUTPUT..][..OUTPUT].iter_mut().zip(left).for_each(|(to, word)| *to = word);
            }
        }
    }

    /// The threads in `who` execute these statements, none of them ahead of another by more than one.
    fn all(&mut self, stmts: &[Stmt], who: Range<usize>) {
        for stmt in stmts {
            match stmt {
                Stmt::Repeat { times, body } => (0..*times).for_each(|_| self.all(body, who.clone())),
                Stmt::Together { when, then, other } => self.branch(*when, then, other, who.clone()),
                Stmt::Collective(collective) => {
                    warps(who.clone()).for_each(|warp| self.collective(collective, &warp.collect::<Vec<_>>()))
                }
                Stmt::Masked { pred, then, other } => {
                    for warp in warps(who.clone()) {
                        let (yes, no): (Vec<_>, Vec<_>) = warp.partition(|i| self.threads[*i].frame.get(*pred) != 0);
                        self.collective(then, &yes);
                        self.collective(other, &no);
                    }
                }
                Stmt::BlockVote { kind, dst, pred } => {
                    let count = who.clone().filter(|i| self.holds(*i, *pred)).count();
                    let outcome = match kind {
                        BlockVote::Count => count,
                        BlockVote::And => usize::from(count == who.len()),
                        BlockVote::Or => usize::from(count > 0),
                    };
                    self.set_all(who.clone(), *dst, outcome as u64);
                }
                Stmt::Exchange { dst, src, distance } => {
                    let sent: Vec<u64> = self.threads.iter().map(|thread| thread.frame.get(*src)).collect();
                    let count = sent.len();
                    let from = |i: usize| sent[(i + *distance as usize) % count];
                    who.clone().for_each(|i| self.threads[i].frame.set(*dst, from(i)));
                }
                Stmt::ReadTotal { dst, index } => self.set_all(who.clone(), *dst, self.totals[*index]),
                Stmt::Barrier(_) => {}
                alone => who.clone().for_each(|i| self.alone(i, alone)),
            }
        }
    }

    fn alone(&mut self, i: usize, stmt: &Stmt) {
        let Thread { frame, regions, ended } = &mut self.threads[i];
        if *ended {
            return;
        }
        let mut alone = Alone {
            functions: &self.program.functions,
            place: self.place,
            number: i as u32,
            regions,
            grid_totals: &mut self.memory.totals,
            block_totals: &mut self.totals,
        };
        *ended = alone.run(frame, std::slice::from_ref(stmt)) == Flow::Exit;
    }

    fn branch(&mut self, when: Uniform, then: &[Stmt], other: &[Stmt], who: Range<usize>) {
        match when {
            Uniform::BlockBit(bit) => self.all(if self.number >> bit & 1 != 0 { then } else { other }, who),
            Uniform::WarpBit(bit) => {
                for warp in warps(who) {
                    let taken = if (warp.start / 32) >> bit & 1 != 0 { then } else { other };
                    self.all(taken, warp);
                }
            }
        }
    }

    fn holds(&self, i: usize, guard: Guard) -> bool {
        self.threads[i].frame.holds(guard)
    }

    fn set_all(&mut self, who: impl Iterator<Item = usize>, dst: Var, value: u64) {
        who.for_each(|i| self.threads[i].frame.set(dst, value));
    }

    /// What these threads of one warp do together, if there are any.
    fn collective(&mut self, collective: &Collective, who: &[usize]) {
        let mask = who.iter().fold(0u32, |mask, i| mask | 1 << (i % 32));
        let lanes = |of: &dyn Fn(usize) -> bool| who.iter().fold(0u32, |m, i| m | u32::from(of(*i)) << (i % 32));
        let values = |src: Var| who.iter().map(|i| self.threads[*i].frame.get(src)).collect::<Vec<u64>>();
        match *collective {
            Collective::Vote { kind, dst, pred } => {
                let yes = lanes(&|i| self.holds(i, pred));
                let outcome = match kind {
                    Vote::Ballot => yes,
                    Vote::All => (yes == mask).into(),
                    Vote::Any => (yes != 0).into(),
                    Vote::Uniform => (yes == 0 || yes == mask).into(),
                };
                self.set_all(who.iter().copied(), dst, outcome.into());
            }
            Collective::Reduce { reduction, dst, src } => {
                if let Some(outcome) = values(src).into_iter().map(|value| value as u32).reduce(reduction.meaning) {
                    self.set_all(who.iter().copied(), dst, outcome.into());
                }
            }
            Collective::MatchAny { dst, src } => {
                let masks: Vec<u32> =
                    values(src).into_iter().map(|value| lanes(&|i| self.threads[i].frame.get(src) == value)).collect();
                who.iter().zip(masks).for_each(|(i, mask)| self.threads[*i].frame.set(dst, mask.into()));
            }
            Collective::MatchAll { dst, pred, src } => {
                let values = values(src);
                let same = values.iter().all(|value| *value == values[0]);
                self.set_all(who.iter().copied(), dst, if same { mask.into() } else { 0 });
                self.set_all(who.iter().copied(), pred, same.into());
            }
            Collective::Shuffle { mode, dst, pred, src, b, c } => {
                let sources: Vec<(usize, bool)> = who.iter().map(|i| self.source(mode, *i, b, c)).collect();
                let sent: Vec<u64> = sources.iter().map(|(from, _)| self.threads[*from].frame.get(src)).collect();
                for ((i, (_, inside)), value) in who.iter().zip(sources).zip(sent) {
                    self.threads[*i].frame.set(dst, value);
                    pred.into_iter().for_each(|pred| self.threads[*i].frame.set(pred, inside.into()));
                }
            }
        }
    }

    /// The thread whose value `i` receives from a shuffle, and whether that is inside the bounds of its segment.
    fn source(&self, mode: Shuffle, i: usize, b: Operand, c: u32) -> (usize, bool) {
        let (lane, first) = ((i % 32) as i64, (i / 32 * 32) as i64);
        let b = (self.threads[i].frame.value(b) & 0x1f) as i64;
        let (segment, clamp) = (i64::from(c >> 8 & 0x1f), i64::from(c & 0x1f));
        let last = (lane & segment) | (clamp & !segment);
        let (from, inside) = match mode {
            Shuffle::Up => (lane - b, lane - b >= last),
            Shuffle::Down => (lane + b, lane + b <= last),
            Shuffle::Butterfly => (lane ^ b, lane ^ b <= last),
            Shuffle::Index => ((lane & segment) | (b & !segment), ((lane & segment) | (b & !segment)) <= last),
        };
        ((first + if inside { from } else { lane }) as usize, inside)
    }
}

/// The warps that these threads make up.
fn warps(who: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = who.end;
    who.step_by(32).map(move |start| start..end.min(start + 32))
}
