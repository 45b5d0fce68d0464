//! Statements that a warp or a block executes together.

use super::super::operations::{REDUCTIONS, TOTALS};
use super::super::tree::{BlockVote, Class, Collective, Operand, Shuffle, Stmt, Uniform, Var, Vote};
use super::{Generator, Level};

/// Nesting of uniform branches and loops.
const DEEPEST: u8 = 2;

impl Generator<'_> {
    /// One statement for all threads of the warp or block.
    pub(super) fn together(&mut self, level: Level, depth: u8, full_warps: bool) -> Stmt {
        let kinds = if level == Level::Block { 13 } else { 8 };
        match self.choices.below(kinds) {
            6 if depth < DEEPEST => self.branch_together(level, depth, full_warps),
            7 if depth < DEEPEST => {
                let times = 1 + self.choices.below(3) as u8;
                let body = self.repeated(times.into(), |this| this.block(level, depth + 1, full_warps, 5));
                Stmt::Repeat { times, body }
            }
            5 => {
                let pred = self.var(Class::Pred);
                Stmt::Masked { pred, then: self.of_any_lanes(), other: self.of_any_lanes() }
            }
            0..=7 => Stmt::Collective(self.collective(full_warps)),
            8 => self.barrier(full_warps),
            9 => {
                let kind = self.choices.pick(&[BlockVote::Count, BlockVote::And, BlockVote::Or]);
                let dst = self.var(if kind == BlockVote::Count { Class::Word } else { Class::Pred });
                Stmt::BlockVote { kind, dst, pred: self.cond() }
            }
            10 | 11 => {
                let class = self.choices.pick(&[Class::Word, Class::Float, Class::Long]);
                Stmt::Exchange {
                    dst: self.var(class),
                    src: self.var(class),
                    distance: 1 + self.choices.below(64) as u32,
                }
            }
            _ => {
                let index = self.choices.below(TOTALS.len());
                Stmt::ReadTotal { dst: self.var(TOTALS[index].class), index }
            }
        }
    }

    fn branch_together(&mut self, level: Level, depth: u8, full_warps: bool) -> Stmt {
        let bit = self.choices.below(2) as u8;
        let (when, level) = match level {
            Level::Block if self.choices.chance(50) => (Uniform::BlockBit(bit), Level::Block),
            _ => (Uniform::WarpBit(bit), Level::Warp),
        };
        let then = self.block(level, depth + 1, full_warps, 5);
        let other = self.block(level, depth + 1, full_warps, 3);
        Stmt::Together { when, then, other }
    }

    fn barrier(&mut self, full_warps: bool) -> Stmt {
        let spellings =
            ["bar.sync 0;", "barrier.sync 0;", "bar.sync 1;", "bar.warp.sync %member;", "bar.sync 3, %threads;"];
        let count = spellings.len() - usize::from(!full_warps);
        Stmt::Barrier(spellings[self.choices.below(count)])
    }

    fn collective(&mut self, full_warps: bool) -> Collective {
        if self.choices.chance(50) { self.shuffle(full_warps) } else { self.of_any_lanes() }
    }

    /// A collective that makes sense for any set of lanes.
    fn of_any_lanes(&mut self) -> Collective {
        match self.choices.below(6) {
            0..=2 => {
                let kind = self.choices.pick(&[Vote::Ballot, Vote::Any, Vote::All, Vote::Uniform]);
                let dst = self.var(if kind == Vote::Ballot { Class::Word } else { Class::Pred });
                Collective::Vote { kind, dst, pred: self.cond() }
            }
            3 => {
                let reduction = &REDUCTIONS[self.choices.below(REDUCTIONS.len())];
                Collective::Reduce { reduction, dst: self.var(Class::Word), src: self.var(Class::Word) }
            }
            4 => Collective::MatchAny { dst: self.var(Class::Word), src: self.matched() },
            _ => Collective::MatchAll { dst: self.var(Class::Word), pred: self.var(Class::Pred), src: self.matched() },
        }
    }

    fn matched(&mut self) -> Var {
        let class = self.choices.pick(&[Class::Word, Class::Long]);
        self.var(class)
    }

    /// A shuffle whose source lanes all exist: in the last warp of a ragged block only those below a lane do for sure.
    fn shuffle(&mut self, full_warps: bool) -> Collective {
        let modes = [Shuffle::Up, Shuffle::Down, Shuffle::Butterfly, Shuffle::Index];
        let mode = if full_warps { self.choices.pick(&modes) } else { Shuffle::Up };
        let class = self.choices.pick(&[Class::Word, Class::Float]);
        let b = if self.choices.chance(70) {
            Operand::Const(self.choices.pick(&[1, 2, 4, 8, 16, 0, 5, 31]))
        } else {
            Operand::Var(self.var(Class::Word))
        };
        // The clamp is 0 for `up` and 31 for the others; segments of 32, 16, 8 and 2 lanes.
        let clamp = if mode == Shuffle::Up { 0 } else { 0x1f };
        let c = self.choices.pick(&[0, 0, 0x1000, 0x1800, 0x1e00]) | clamp;
        let pred = self.choices.chance(50).then(|| self.var(Class::Pred));
        Collective::Shuffle { mode, dst: self.var(class), pred, src: self.var(class), b, c }
    }
}
