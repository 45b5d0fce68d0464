//! Divergence: the lanes of a warp as groups that stand at different instructions.
//!
//! Lanes at the same instruction run together. The group at the lowest instruction goes first, so that it catches up with
//! the others and merges; no control-flow analysis is needed. Two things would break this and are handled here: a group
//! that spins at a low instruction until a higher one acts (fairness: it yields after a while), and instructions that need
//! several lanes at once (a group parks there until the lanes it needs have come).

use super::random::Random;

/// Why a group does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// It does run.
    No,
    /// At a warp operation or an aligned barrier, for other lanes of its warp.
    Lanes,
    /// At a block barrier where it has arrived, for other warps.
    Barrier(u8),
}

/// Lanes that stand at one instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub pc: u32,
    pub mask: u32,
    pub wait: Wait,
    /// When it last ran, in picks.
    pub turn: u64,
    /// Lanes that a conditional branch has just brought here.
    pub fresh: u32,
}

/// The groups of one warp.
#[derive(Clone, Debug)]
pub(crate) struct Groups {
    pub list: Vec<Group>,
    /// Lanes that exited, but not straight from a conditional branch. Who does leaves a kernel early, which is in order;
    /// the others went past whatever the rest of the warp waits for.
    pub gone: u32,
    picks: u64,
    /// The last group used up its budget while others could run.
    exhausted: bool,
}

/// A group that may run now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pick {
    /// Its index.
    pub index: usize,
    /// It stops when it reaches or passes this instruction, where another group stands.
    pub until: u32,
    /// It stops after this many instructions.
    pub budget: u64,
}

impl Groups {
    /// Instructions that a group may run while another of the same warp could.
    const FAIR: u64 = 512;

    /// All lanes of `mask` at the kernel's entry.
    pub fn new(mask: u32) -> Groups {
        let list = vec![Group { pc: 0, mask, wait: Wait::No, turn: 0, fresh: 0 }];
        Groups { list, gone: 0, picks: 0, exhausted: false }
    }

    /// Adds lanes at an instruction.
    pub fn add(&mut self, pc: u32, mask: u32) {
        if mask != 0 {
            self.list.push(Group { pc, mask, wait: Wait::No, turn: self.picks, fresh: 0 });
        }
    }

    /// Divides the group `index` at a conditional branch: the lanes `taken` go to `target`, the others to `next`.
    pub fn branch(&mut self, index: usize, taken: u32, target: u32, next: u32) {
        let group = &mut self.list[index];
        (group.pc, group.mask) = (next, group.mask & !taken);
        group.fresh = group.mask;
        self.add(target, taken);
        if let Some(group) = self.list.last_mut() {
            group.fresh = group.mask;
        }
    }

    /// Lanes that have not exited.
    pub fn live(&self) -> u32 {
        self.list.iter().fold(0, |live, group| live | group.mask)
    }

    /// Notes whether the group that just ran stopped because its budget was used up.
    pub fn ran(&mut self, exhausted: bool) {
        self.exhausted = exhausted;
    }

    /// Merges groups that stand at the same instruction in the same state.
    pub fn merge(&mut self) {
        if self.list.len() < 2 {
            return;
        }
        let mut kept: Vec<Group> = Vec::with_capacity(self.list.len());
        for group in self.list.drain(..) {
            match kept.iter_mut().find(|other| other.pc == group.pc && other.wait == group.wait) {
                Some(other) => {
                    other.mask |= group.mask;
                    other.fresh |= group.fresh;
                    other.turn = other.turn.max(group.turn);
                }
                None => kept.push(group),
            }
        }
        self.list = kept;
    }

    /// Chooses the group to run next, for at most `quantum` instructions.
    pub fn pick(&mut self, quantum: u64, random: Option<&mut Random>) -> Option<Pick> {
        if let [only] = &self.list[..] {
            return (only.wait == Wait::No).then_some(Pick { index: 0, until: u32::MAX, budget: quantum });
        }
        self.picks += 1;
        let runnable = |group: &&(usize, &Group)| group.1.wait == Wait::No;
        let indexed: Vec<(usize, &Group)> = self.list.iter().enumerate().collect();
        let count = indexed.iter().filter(runnable).count();
        let pick = if count == 0 {
            return None;
        } else if count == 1 {
            // Whoever it meets is parked: it parks there too, so nothing needs it to stop early.
            let index = indexed.iter().find(runnable)?.0;
            Pick { index, until: u32::MAX, budget: quantum }
        } else if let Some(random) = random {
            let index = indexed.iter().filter(runnable).nth(random.below(count as u64) as usize)?.0;
            Pick { index, until: u32::MAX, budget: quantum.min(1 + random.below(48)) }
        } else if self.exhausted {
            let index = indexed.iter().filter(runnable).min_by_key(|(_, group)| group.turn)?.0;
            Pick { index, until: u32::MAX, budget: quantum.min(Self::FAIR) }
        } else {
            let &(index, lowest) = indexed.iter().filter(runnable).min_by_key(|(_, group)| group.pc)?;
            let others = indexed.iter().filter(runnable).filter(|(other, _)| *other != index);
            let until = others.map(|(_, group)| group.pc).filter(|pc| *pc > lowest.pc).min().unwrap_or(u32::MAX);
            Pick { index, until, budget: quantum.min(Self::FAIR) }
        };
        self.list[pick.index].turn = self.picks;
        Some(pick)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_group_runs_until_it_meets_another() {
        let mut groups = Groups::new(0xff00);
        groups.list[0].pc = 9;
        groups.add(4, 0x00ff);
        let pick = groups.pick(1000, None).unwrap();
        assert_eq!((pick.index, pick.until), (1, 9));
        groups.list[1].pc = 9;
        groups.merge();
        assert_eq!(groups.list.len(), 1);
        assert_eq!(groups.live(), 0xffff);
    }

    #[test]
    fn a_spinning_group_yields() {
        let mut groups = Groups::new(1);
        groups.add(9, 2);
        assert_eq!(groups.pick(1000, None).unwrap().index, 0);
        groups.ran(true);
        assert_eq!(groups.pick(1000, None).unwrap().index, 1);
        groups.ran(false);
        assert_eq!(groups.pick(1000, None).unwrap().index, 0);
    }

    #[test]
    fn parked_groups_do_not_run() {
        let mut groups = Groups::new(1);
        groups.add(9, 2);
        groups.list[0].wait = Wait::Lanes;
        assert_eq!(groups.pick(1000, None).unwrap().index, 1);
        groups.list[1].wait = Wait::Barrier(0);
        assert!(groups.pick(1000, None).is_none());
    }
}
