//! Sets of accesses, shared by all cells with the same history.

use std::collections::HashMap;

/// A set of accesses; 0 is the empty one.
pub(super) type Set = u32;

/// An access by a party at a time of its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Access {
    pub party: u32,
    pub time: u32,
    pub pc: u32,
}

/// All sets: each is another one and one more access, so an array that a thousand blocks read costs a thousand sets and not
/// a thousand accesses for every element.
#[derive(Debug, Default)]
pub(super) struct Sets {
    /// The access that a set adds to another one. Set s is at s − 1.
    nodes: Vec<(Set, Access)>,
    /// The set that adds this access to that one.
    known: HashMap<(Set, Access), Set>,
    /// What adding an access made of a set, see [`Sets::with`].
    made: HashMap<(Set, Access), Set>,
}

impl Sets {
    /// Beyond this many sets (some 1.5 GiB), no more accesses are noted: races with those are missed.
    const LIMIT: usize = 1 << 24;

    /// The accesses of a set, the latest first.
    pub fn accesses(&self, set: Set) -> impl Iterator<Item = Access> {
        let mut rest = set;
        std::iter::from_fn(move || {
            let (next, access) = self.nodes.get((rest as usize).checked_sub(1)?)?;
            rest = *next;
            Some(*access)
        })
    }

    /// The set with this access, without those of the same party and those that it sees: whoever is ordered after it is
    /// ordered after them. What a party sees must depend on the party and its time only.
    pub fn with(&mut self, set: Set, access: Access, sees: impl Fn(Access) -> bool) -> Set {
        let Access { party, time, .. } = access;
        if self.accesses(set).next().is_some_and(|latest| (latest.party, latest.time) == (party, time)) {
            return set;
        }
        if let Some(&made) = self.made.get(&(set, access)) {
            return made;
        }
        if self.nodes.len() >= Self::LIMIT || self.made.len() >= Self::LIMIT {
            return set;
        }
        let made = if self.accesses(set).any(|other| (other.party, other.time) == (party, time)) {
            set
        } else {
            let keeps = |other: &Access| other.party != party && !sees(*other);
            let base = if self.accesses(set).all(|other| keeps(&other)) {
                set
            } else {
                let mut kept: Vec<Access> = self.accesses(set).filter(keeps).collect();
                kept.reverse();
                kept.into_iter().fold(0, |set, access| self.add(set, access))
            };
            self.add(base, access)
        };
        self.made.insert((set, access), made);
        made
    }

    fn add(&mut self, set: Set, access: Access) -> Set {
        let nodes = &mut self.nodes;
        *self.known.entry((set, access)).or_insert_with(|| {
            nodes.push((set, access));
            nodes.len() as Set
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Access, Sets};

    fn access(party: u32, time: u32) -> Access {
        Access { party, time, pc: 7 }
    }

    #[test]
    fn equal_histories_are_one_set() {
        let mut sets = Sets::default();
        let mut build =
            |parties: &[u32]| parties.iter().fold(0, |set, party| sets.with(set, access(*party, 1), |_| false));
        let first = build(&[1, 2, 3]);
        assert_eq!(build(&[1, 2, 3, 3, 1, 2]), first);
        assert_ne!(build(&[1, 2]), first);
        assert_eq!(sets.accesses(first).map(|a| a.party).collect::<Vec<_>>(), [3, 2, 1]);
    }

    #[test]
    fn what_an_access_sees_goes() {
        let mut sets = Sets::default();
        let set = [1, 2, 3].iter().fold(0, |set, party| sets.with(set, access(*party, 1), |_| false));
        let next = sets.with(set, access(2, 5), |other| other.party == 3);
        assert_eq!(sets.accesses(next).collect::<Vec<_>>(), [access(2, 5), access(1, 1)]);
    }
}
