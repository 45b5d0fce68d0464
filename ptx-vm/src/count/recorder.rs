//! Counting while a launch runs.

use super::banks::passes;
use super::footprint::{Footprint, sectors};
use super::{Counters, LineCount, Moved, SharedTraffic, Traffic};
use crate::check::SourceLine;
use crate::isa::{Class, Op};
use crate::memory::Memory;
use crate::program::{Place, Program};
use std::collections::BTreeMap;

/// Counts while a launch runs.
#[derive(Debug)]
pub(crate) struct Recorder {
    /// Warp and thread instructions, by instruction.
    executed: Vec<[u64; 2]>,
    /// By instruction: its line, an index into `lines`.
    line_of: Vec<u32>,
    lines: Vec<Line>,
    /// Device memory by allocation and line.
    accounts: Vec<Account>,
    /// Where in `accounts`, by allocation and line.
    index: BTreeMap<(u32, u32), usize>,
    waits: u64,
}

#[derive(Debug, Default)]
struct Line {
    source: Option<SourceLine>,
    shared: SharedTraffic,
    /// The account used last.
    account: usize,
}

#[derive(Debug, Default)]
struct Account {
    allocation: u32,
    line: u32,
    read: Flow,
    written: Flow,
}

/// One direction.
#[derive(Debug, Default)]
struct Flow {
    moved: Moved,
    touched: Footprint,
}

impl Recorder {
    pub fn new(program: &Program) -> Recorder {
        let place = |pc| program.places.get(pc).copied().unwrap_or_default();
        let sources: Vec<_> = (0..program.code.len()).map(|pc| source(program, place(pc))).collect();
        let mut different: Vec<_> = sources.iter().collect();
        different.sort_unstable();
        different.dedup();
        let line_of = |source| different.binary_search(&source).unwrap_or(0) as u32;
        Recorder {
            executed: vec![[0; 2]; sources.len()],
            line_of: sources.iter().map(line_of).collect(),
            lines: different.iter().map(|&source| Line { source: source.clone(), ..Line::default() }).collect(),
            accounts: Vec::new(),
            index: BTreeMap::new(),
            waits: 0,
        }
    }

    /// A warp executed an instruction with these lanes active (guard applied; `mask` may be 0).
    #[inline(always)]
    pub fn executed(&mut self, pc: u32, mask: u32) {
        let [warps, threads] = &mut self.executed[pc as usize];
        *warps += 1;
        *threads += u64::from(mask.count_ones());
    }

    /// A warp waited at a barrier of the block.
    pub fn waited(&mut self) {
        self.waits += 1;
    }

    /// Lanes of `mask` touched `size` bytes at `offset[lane]` of the allocation `id`, whose base is sector-aligned.
    #[allow(clippy::too_many_arguments)]
    pub fn global(&mut self, pc: u32, id: u32, read: bool, written: bool, mask: u32, offset: &[u64; 32], size: u32) {
        if mask == 0 {
            return;
        }
        let account = self.account(pc, id);
        let requested = u64::from(mask.count_ones() * size);
        let moved = Moved { requests: 1, requested, sectors: sectors(mask, offset, size), distinct: 0 };
        for (flow, flows) in [(&mut account.read, read), (&mut account.written, written)] {
            if flows {
                flow.moved += moved;
                for lane in (0..32).filter(|lane| mask >> lane & 1 == 1) {
                    flow.touched.add(offset[lane], size);
                }
            }
        }
    }

    fn account(&mut self, pc: u32, allocation: u32) -> &mut Account {
        let line = self.line_of[pc as usize];
        let latest = &mut self.lines[line as usize].account;
        let right = |account: &Account| account.allocation == allocation && account.line == line;
        if !self.accounts.get(*latest).is_some_and(right) {
            *latest = *self.index.entry((allocation, line)).or_insert_with(|| {
                self.accounts.push(Account { allocation, line, ..Account::default() });
                self.accounts.len() - 1
            });
        }
        &mut self.accounts[*latest]
    }

    /// Lanes of `mask` touched `size` bytes of shared memory at `offset[lane]`.
    pub fn shared(&mut self, pc: u32, mask: u32, offset: &[u64; 32], size: u32) {
        self.shared_request(pc, mask, offset, size, false);
    }

    /// An atomic on shared memory: lanes on the same word also take a pass each.
    pub fn shared_atomic(&mut self, pc: u32, mask: u32, offset: &[u64; 32], size: u32) {
        self.shared_request(pc, mask, offset, size, true);
    }

    /// `ldmatrix` of `count` matrices: one pass each when its eight rows lie in different banks.
    pub fn matrix(&mut self, pc: u32, count: u32, offset: &[u64; 32]) {
        self.shared_request(pc, !0 >> (32 - 8 * count.clamp(1, 4)), offset, 16, false);
    }

    fn shared_request(&mut self, pc: u32, mask: u32, offset: &[u64; 32], size: u32, atomic: bool) {
        if mask == 0 {
            return;
        }
        let passes = passes(mask, offset, size, atomic);
        self.lines[self.line_of[pc as usize] as usize].shared += SharedTraffic {
            requests: 1,
            requested: u64::from(mask.count_ones() * size),
            wavefronts: passes.taken,
            conflicts: passes.taken - passes.least,
        };
    }

    /// Adds everything up.
    pub fn finish(self, program: &Program, memory: &Memory) -> Counters {
        let allocation = |id| memory.allocations.iter().find(|allocation| allocation.id == id);
        let name = |id| allocation(id).map(|allocation| allocation.name.clone()).unwrap_or_default();
        self.total(program, memory.id, name)
    }

    pub(super) fn total(&self, program: &Program, memory: u64, name: impl Fn(u32) -> String) -> Counters {
        let mut counters = Counters { memory, waits: self.waits, ..Counters::default() };
        for (inst, [warps, threads]) in program.code.iter().zip(&self.executed) {
            let class = &mut counters.classes[Class::of(inst.op) as usize];
            class[0] += warps;
            class[1] += threads;
            if let Op::Mma(mma) = inst.op {
                // A product is executed by whole warps or held off for whole warps.
                let products = threads / 32;
                counters.products += products;
                counters.multiply_adds += products * 16 * 8 * u64::from(mma.k);
            }
        }
        self.lines.iter().for_each(|line| counters.shared += line.shared);
        self.allocations(name, &mut counters);
        counters.lines = self.by_line();
        counters
    }

    /// Adds up the accounts of each allocation. What several lines touch is counted once.
    fn allocations(&self, name: impl Fn(u32) -> String, counters: &mut Counters) {
        let mut accounts = self.index.iter().map(|((id, _), &account)| (*id, &self.accounts[account])).peekable();
        while let Some((id, first)) = accounts.next() {
            let mut traffic = first.traffic();
            let (mut read, mut written) = (first.read.touched.clone(), first.written.touched.clone());
            while let Some((_, account)) = accounts.next_if(|(next, _)| *next == id) {
                traffic += account.traffic();
                read.join(&account.read.touched);
                written.join(&account.written.touched);
            }
            traffic.read.distinct = read.count();
            traffic.written.distinct = written.count();
            counters.buffers.push(id);
            counters.allocations.push((name(id), traffic));
        }
    }

    fn by_line(&self) -> Vec<LineCount> {
        let mut lines: Vec<LineCount> = Vec::with_capacity(self.lines.len());
        lines.extend(self.lines.iter().map(|line| LineCount {
            source: line.source.clone(),
            warp_instructions: 0,
            thread_instructions: 0,
            global: Traffic::default(),
            shared: line.shared,
        }));
        for ([warps, threads], line) in self.executed.iter().zip(&self.line_of) {
            lines[*line as usize].warp_instructions += warps;
            lines[*line as usize].thread_instructions += threads;
        }
        for account in &self.accounts {
            lines[account.line as usize].global += account.traffic();
        }
        lines.retain(|line| line.warp_instructions != 0);
        lines
    }
}

impl Account {
    fn traffic(&self) -> Traffic {
        let moved = |flow: &Flow| Moved { distinct: flow.touched.count(), ..flow.moved };
        Traffic { read: moved(&self.read), written: moved(&self.written) }
    }
}

fn source(program: &Program, place: Place) -> Option<SourceLine> {
    let file = (place.file as usize).checked_sub(1).and_then(|index| program.files.get(index))?;
    Some(SourceLine { file: file.clone(), line: place.line })
}
