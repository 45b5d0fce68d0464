//! What orders the threads of a block: `bar.warp.sync` and block barriers, and what releases and acquires pass on (see `edges`).
//!
//! Time is one counter for the whole block, which every synchronisation advances. An access is stamped with the *epoch* of
//! its thread: the time at which the thread last synchronised. A thread *sees* another up to some time: the other's accesses
//! with stamps up to it happened before whatever the thread does now. Any time from an access's stamp to just before the
//! other's next epoch says the same, so the latest is kept: then, after a barrier of the whole block, everyone sees everyone
//! up to the same time, the *floor*, and most accesses need no look at the other party at all.

use super::{Thread, lanes};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Up to when each thread of the block is seen.
pub(super) type Times = Arc<[u32]>;

#[derive(Clone, Debug)]
pub(super) struct Order {
    now: u32,
    warps: Vec<Warp>,
    /// Stamp of each thread's last access.
    last: Vec<u32>,
    /// Arrivals at barriers that are not complete, by barrier number.
    pending: BTreeMap<u32, Pending>,
}

#[derive(Clone, Debug)]
struct Warp {
    /// Every lane is in one group.
    groups: Vec<Group>,
    /// Others may claim to see this warp up to here, so a lane that accesses memory for the first time in its epoch must
    /// be in a later one.
    raised: u32,
}

/// Lanes of a warp that synchronised together last: they see the same.
#[derive(Clone, Debug)]
struct Group {
    lanes: u32,
    epoch: u32,
    /// Lanes with accesses in this epoch.
    touched: u32,
    /// Everyone is seen at least up to here.
    floor: u32,
    /// Up to when lanes of this warp are seen.
    own: [u32; 32],
    /// The same for threads of other warps.
    others: Arc<Seen>,
}

/// Up to when each thread of the block is seen.
#[derive(Clone, Debug)]
struct Seen {
    threads: Vec<u32>,
    floor: u32,
}

#[derive(Clone, Debug)]
struct Pending {
    seen: Vec<u32>,
    /// The last `others` joined in: mostly, it is the same for every warp.
    joined: Option<Arc<Seen>>,
}

/// What a group of lanes sees when it executes an instruction.
pub(super) struct View<'a> {
    pub warp: u32,
    pub pc: u32,
    /// Lanes that this is the view of.
    pub lanes: u32,
    pub epoch: u32,
    pub floor: u32,
    own: &'a [u32; 32],
    others: &'a [u32],
}

impl View<'_> {
    /// Does that access happen before what `lane` does now?
    #[inline]
    pub fn sees(&self, lane: u32, other: Thread, stamp: u32) -> bool {
        if stamp <= self.floor {
            return true;
        }
        if other.warp == self.warp {
            return other.lane == lane || stamp <= self.own[other.lane as usize];
        }
        stamp <= self.others[(other.warp * 32 + other.lane) as usize]
    }

    /// The first of `others`, lanes of `warp`, whose access with this stamp `lane` does not see.
    pub fn unseen(&self, lane: u32, warp: u32, others: u32, stamp: u32) -> Option<Thread> {
        if stamp <= self.floor {
            return None;
        }
        lanes(others).map(|other| Thread { warp, lane: other }).find(|other| !self.sees(lane, *other, stamp))
    }
}

impl Order {
    pub fn new(warps: u32) -> Order {
        let threads = vec![0; warps as usize * 32];
        // With one warp there are no others to wait for.
        let floor = if warps == 1 { u32::MAX } else { 0 };
        let others = Arc::new(Seen { threads: threads.clone(), floor });
        let group = Group { lanes: !0, epoch: 1, touched: 0, floor: 0, own: [0; 32], others };
        let warp = Warp { groups: vec![group], raised: 0 };
        Order { now: 1, warps: vec![warp; warps as usize], last: threads, pending: BTreeMap::new() }
    }

    /// No more time: nothing can be told apart any longer.
    pub fn exhausted(&self) -> bool {
        self.now == u32::MAX
    }

    fn tick(&mut self) -> u32 {
        self.now = self.now.saturating_add(1);
        self.now
    }

    /// Notes that these lanes are about to access memory.
    #[inline]
    pub fn touch(&mut self, warp: u32, mask: u32) {
        let untouched = |group: &Group| mask & group.lanes & !group.touched != 0;
        if self.warps[warp as usize].groups.iter().any(untouched) {
            self.touch_first(warp, mask);
        }
    }

    fn touch_first(&mut self, warp: u32, mask: u32) {
        let Warp { groups, raised } = &mut self.warps[warp as usize];
        for group in groups {
            let mut first = mask & group.lanes & !group.touched;
            if first == 0 {
                continue;
            }
            if group.epoch <= *raised {
                self.now = self.now.saturating_add(1);
                group.epoch = self.now;
                group.touched = 0;
                first = mask & group.lanes;
            }
            group.touched |= first;
            for lane in lanes(first) {
                self.last[(warp * 32 + lane) as usize] = group.epoch;
            }
        }
    }

    /// What the lanes in `mask` see, one view per group of them.
    #[inline]
    pub fn views(&self, warp: u32, pc: u32, mask: u32) -> impl Iterator<Item = View<'_>> {
        self.warps[warp as usize].groups.iter().filter(move |group| group.lanes & mask != 0).map(move |group| View {
            warp,
            pc,
            lanes: group.lanes & mask,
            epoch: group.epoch,
            floor: group.floor,
            own: &group.own,
            others: &group.others.threads,
        })
    }

    /// `bar.warp.sync` by exactly these lanes.
    pub fn warp_synchronised(&mut self, warp: u32, mask: u32) {
        let epoch = self.tick();
        let Warp { groups, raised } = &mut self.warps[warp as usize];
        let mut own = [0; 32];
        let mut others: Option<Arc<Seen>> = None;
        for group in groups.iter().filter(|group| group.lanes & mask != 0) {
            own = std::array::from_fn(|lane| group.own[lane].max(own[lane]));
            others = Some(match others {
                None => group.others.clone(),
                Some(seen) if Arc::ptr_eq(&seen, &group.others) => seen,
                Some(seen) => Arc::new(seen.join(&group.others.threads, group.others.floor)),
            });
        }
        let Some(others) = others else { return };
        let last = &self.last[warp as usize * 32..][..32];
        for (lane, (seen, last)) in own.iter_mut().zip(last).enumerate() {
            let synchronised = mask >> lane & 1 == 1;
            if synchronised || *seen >= *last {
                *seen = epoch - 1;
            }
            if !synchronised && *seen == epoch - 1 {
                *raised = epoch - 1;
            }
        }
        let floor = own.iter().copied().min().unwrap_or(0).min(others.floor);
        regroup(groups, Group { lanes: mask, epoch, touched: 0, floor, own, others });
    }

    /// Lanes arrive at a block barrier: what they did and saw so far is there for those who wait.
    pub fn barrier_arrived(&mut self, barrier: u32, warp: u32, mask: u32) {
        let threads = self.last.len();
        let pending = self.pending.entry(barrier).or_insert_with(|| Pending { seen: vec![0; threads], joined: None });
        let groups = &mut self.warps[warp as usize].groups;
        let mut arrived = Vec::new();
        for group in groups.iter().filter(|group| group.lanes & mask != 0) {
            if pending.joined.as_ref().is_none_or(|joined| !Arc::ptr_eq(joined, &group.others)) {
                join(&mut pending.seen, &group.others.threads);
                pending.joined = Some(group.others.clone());
            }
            let seen = &mut pending.seen[warp as usize * 32..][..32];
            join(seen, &group.own);
            for lane in lanes(group.lanes & mask) {
                seen[lane as usize] = seen[lane as usize].max(group.epoch);
            }
            self.now = self.now.saturating_add(1);
            arrived.push(Group { lanes: group.lanes & mask, epoch: self.now, touched: 0, ..group.clone() });
        }
        for group in arrived {
            regroup(groups, group);
        }
    }

    /// The barrier completes: those who waited see what all arrivals did and saw.
    pub fn barrier_completed(&mut self, barrier: u32, waited: &[(u32, u32)]) {
        let Some(Pending { mut seen, .. }) = self.pending.remove(&barrier) else { return };
        let epoch = self.tick();
        let mut waiting = vec![0; self.warps.len()];
        for &(warp, mask) in waited {
            waiting[warp as usize] |= mask;
        }
        for (thread, seen) in seen.iter_mut().enumerate() {
            let (warp, lane) = (thread / 32, thread % 32);
            if waiting[warp] >> lane & 1 == 1 {
                *seen = epoch - 1;
            } else if *seen >= self.last[thread] {
                *seen = epoch - 1;
                self.warps[warp].raised = epoch - 1;
            }
        }
        let lowest = seen.iter().copied().min().unwrap_or(0);
        let floor = if self.warps.len() == 1 { u32::MAX } else { lowest };
        let others = Arc::new(Seen { threads: seen, floor });
        for (index, warp) in self.warps.iter_mut().enumerate() {
            let lanes = waiting[index];
            if lanes != 0 {
                let own = std::array::from_fn(|lane| others.threads[index * 32 + lane]);
                let group = Group { lanes, epoch, touched: 0, floor: lowest, own, others: others.clone() };
                regroup(&mut warp.groups, group);
            }
        }
    }
}

/// What a thread has done and seen at some moment.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    /// Its own accesses up to here.
    time: u32,
    own: [u32; 32],
    others: Arc<Seen>,
}

impl Snapshot {
    /// Up to when each thread of the block is seen by whoever acquires this from that thread.
    pub fn times(&self, warp: u32, lane: u32) -> Times {
        let mut times = self.others.threads.clone();
        let own = &mut times[warp as usize * 32..][..32];
        join(own, &self.own);
        own[lane as usize] = own[lane as usize].max(self.time);
        times.into()
    }
}

/// Edges from one thread to another, beside barriers.
impl Order {
    /// What this lane has done and seen. It must [advance](Order::advance) before its next access, which is not part of it.
    pub fn snapshot(&self, warp: u32, lane: u32) -> Option<Snapshot> {
        let group = self.warps[warp as usize].groups.iter().find(|group| group.lanes >> lane & 1 == 1)?;
        Some(Snapshot { time: group.epoch, own: group.own, others: group.others.clone() })
    }

    /// Would this lane see no more if it gained that?
    pub fn knows(&self, warp: u32, lane: u32, times: &Times) -> bool {
        let mut groups = self.warps[warp as usize].groups.iter();
        groups.find(|group| group.lanes >> lane & 1 == 1).is_some_and(|group| {
            times.iter().zip(&group.others.threads).zip(0..).all(|((&time, &seen), thread)| {
                let (other_warp, other) = (thread / 32, thread % 32);
                match other_warp == warp {
                    true => other == lane || time <= group.own[other as usize],
                    false => time <= seen,
                }
            })
        })
    }

    /// These lanes begin a new epoch each, in which they see what they gained, too. Lanes that saw the same and gained the same
    /// stay together. Returns what they have done and seen before it.
    pub fn advance(&mut self, warp: u32, mask: u32, gained: &[Option<Times>; 32]) -> Vec<(u32, Snapshot)> {
        let groups = &mut self.warps[warp as usize].groups;
        let (mut advanced, mut snapshots) = (Vec::new(), Vec::new());
        for group in groups.iter() {
            let mut rest = group.lanes & mask;
            while rest != 0 {
                let first = &gained[rest.trailing_zeros() as usize];
                let alike = |lane: &u32| same(first, &gained[*lane as usize]);
                let lanes = lanes(rest).filter(alike).fold(0, |lanes, lane| lanes | 1 << lane);
                rest &= !lanes;
                self.now = self.now.saturating_add(1);
                let mut group = Group { lanes, epoch: self.now, touched: 0, ..group.clone() };
                if let Some(times) = first {
                    group.gain(warp, times);
                }
                let time = self.now.saturating_sub(1);
                snapshots.push((lanes, Snapshot { time, own: group.own, others: group.others.clone() }));
                advanced.push(group);
            }
        }
        for group in advanced {
            regroup(groups, group);
        }
        snapshots
    }
}

fn same(one: &Option<Times>, other: &Option<Times>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}

impl Group {
    fn gain(&mut self, warp: u32, times: &Times) {
        join(&mut self.own, &times[warp as usize * 32..][..32]);
        self.others = Arc::new(self.others.join(times, 0));
        self.floor = self.own.iter().copied().min().unwrap_or(0).min(self.others.floor);
    }
}

/// Moves the group's lanes out of the others and adds it.
fn regroup(groups: &mut Vec<Group>, group: Group) {
    groups.retain_mut(|other| {
        other.lanes &= !group.lanes;
        other.lanes != 0
    });
    groups.push(group);
}

fn join(into: &mut [u32], from: &[u32]) {
    for (into, from) in into.iter_mut().zip(from) {
        *into = (*into).max(*from);
    }
}

impl Seen {
    /// With times that someone else sees, who sees everyone up to `floor`.
    fn join(&self, times: &[u32], floor: u32) -> Seen {
        let mut threads = self.threads.clone();
        join(&mut threads, times);
        let lowest = threads.iter().copied().min().unwrap_or(0);
        // Times only grow in a join, so either floor holds as well (with one warp it is the maximum).
        Seen { threads, floor: lowest.max(self.floor).max(floor) }
    }
}
