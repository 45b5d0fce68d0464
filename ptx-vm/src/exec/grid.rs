//! A launch's blocks: some resident, the others waiting for a place.

use super::block::{Block, Shared, Turn};
use super::random::Random;
use super::registers::Registers;
use super::special::Position;
use crate::bus::Bus;
use crate::launch::{Launch, Schedule};
use crate::program::Program;

/// Instructions of a warp's turn. Long enough that switching costs nothing, short enough that waiting by spinning is cheap.
const QUANTUM: u64 = 4096;
/// The same under a random schedule: turns of very different lengths, down to one instruction.
const RANDOM_QUANTUM: u64 = 256;
/// Under a random schedule the next block is drawn from this many.
const DRAW: u64 = 256;

/// Runs the whole grid. True if every thread ran to its end.
pub(crate) fn run(launch: &Launch, program: &Program, bus: &mut Bus<'_>, variables: &[u64]) -> bool {
    let template = Registers::new(program);
    let mut random = (launch.schedule == Schedule::Random).then(|| Random::new(launch.seed));
    let perturb = launch.perturb.then_some(launch.seed);
    let mut shared = Shared { program, bus, steps: 0, accumulation: launch.accumulation, perturb };
    let mut waiting = Waiting::new(launch.grid.iter().map(|n| u64::from(*n)).product());
    let mut resident: Vec<Block> = Vec::new();
    loop {
        while resident.len() < launch.resident as usize {
            let Some(index) = waiting.next(random.as_mut()) else { break };
            let (grid, block, dynamic_shared) = (launch.grid, launch.block, launch.dynamic_shared);
            let position = Position { grid, block, index, dynamic_shared, variables };
            resident.push(Block::new(&shared, &template, &position));
        }
        if resident.is_empty() {
            return true;
        }
        let mut progress = false;
        let mut finished = Vec::new();
        let start = random.as_mut().map_or(0, |random| random.below(resident.len() as u64) as usize);
        for offset in 0..resident.len() {
            let place = (start + offset) % resident.len();
            let left = launch.step_limit.saturating_sub(shared.steps);
            if left == 0 {
                for block in &mut resident {
                    block.report_step_limit(&mut shared, launch.step_limit);
                }
                return false;
            }
            let quantum = left.min(if random.is_some() { RANDOM_QUANTUM } else { QUANTUM });
            match resident[place].run(&mut shared, quantum, random.as_mut()) {
                Turn::Progress => progress = true,
                Turn::Finished => finished.push(place),
                Turn::Stuck => {}
                Turn::Failed => return false,
            }
        }
        if !progress && finished.is_empty() {
            for block in &mut resident {
                block.report_deadlock(&mut shared);
            }
            return false;
        }
        finished.sort_unstable();
        for place in finished.into_iter().rev() {
            resident.remove(place);
        }
    }
}

/// The blocks that have not started: in order, or drawn from the next few hundred.
struct Waiting {
    next: u64,
    end: u64,
    drawn: Vec<u64>,
}

impl Waiting {
    fn new(blocks: u64) -> Waiting {
        Waiting { next: 0, end: blocks, drawn: Vec::new() }
    }

    fn next(&mut self, random: Option<&mut Random>) -> Option<u64> {
        let Some(random) = random else {
            let index = self.next;
            self.next += 1;
            return (index < self.end).then_some(index);
        };
        while self.drawn.len() < DRAW as usize && self.next < self.end {
            self.drawn.push(self.next);
            self.next += 1;
        }
        let count = self.drawn.len() as u64;
        (count != 0).then(|| self.drawn.swap_remove(random.below(count) as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_starts_once() {
        for random in [None, Some(Random::new(7))] {
            let mut random = random;
            let mut waiting = Waiting::new(1000);
            let mut seen: Vec<u64> = std::iter::from_fn(|| waiting.next(random.as_mut())).collect();
            if random.is_some() {
                assert!(!seen.is_sorted());
            }
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..1000));
        }
    }
}
