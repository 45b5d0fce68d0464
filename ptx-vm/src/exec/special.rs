//! Special registers: where a thread is.

use super::registers::{Registers, WARP};
use crate::program::{Program, Special};

/// What special registers of a block depend on.
pub(crate) struct Position<'a> {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    /// Linear index of the block.
    pub index: u64,
    pub dynamic_shared: u32,
    /// Addresses of the module's variables.
    pub variables: &'a [u64],
}

/// The coordinates of a linear index, x fastest.
pub(crate) fn unravel(linear: u64, extent: [u32; 3]) -> [u32; 3] {
    let [x, y, _] = extent.map(|n| u64::from(n.max(1)));
    [(linear % x) as u32, (linear / x % y) as u32, (linear / x / y) as u32]
}

/// Fills the special registers of a warp.
pub(crate) fn fill(registers: &mut Registers, program: &Program, position: &Position<'_>, warp: u32) {
    let threads = position.block.iter().map(|n| u64::from(*n)).product::<u64>();
    let block = unravel(position.index, position.grid);
    for &(slot, special) in &program.specials {
        let value = |lane: usize| -> u64 {
            let thread = u64::from(warp) * WARP as u64 + lane as u64;
            let below = (1_u64 << lane) - 1;
            match special {
                Special::Tid(axis) => u64::from(unravel(thread, position.block)[usize::from(axis)]),
                Special::Ntid(axis) => u64::from(position.block[usize::from(axis)]),
                Special::Ctaid(axis) => u64::from(block[usize::from(axis)]),
                Special::Nctaid(axis) => u64::from(position.grid[usize::from(axis)]),
                Special::LaneId => lane as u64,
                Special::WarpId => u64::from(warp),
                Special::NwarpId => threads.div_ceil(WARP as u64),
                Special::Constant(value) => u64::from(value),
                Special::LanemaskEq => 1 << lane,
                Special::LanemaskLt => below,
                Special::LanemaskLe => below | 1 << lane,
                Special::LanemaskGt => u64::from(u32::MAX) & !(below | 1 << lane),
                Special::LanemaskGe => u64::from(u32::MAX) & !below,
                Special::DynamicShared => u64::from(position.dynamic_shared),
                Special::TotalShared => u64::from(program.dynamic_offset) + u64::from(position.dynamic_shared),
                Special::Variable(index) => position.variables.get(index as usize).copied().unwrap_or(0),
            }
        };
        registers.write(slot, u32::MAX, &std::array::from_fn(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::{File, Slot};

    #[test]
    fn a_thread_knows_where_it_is() {
        let slot = |index| Slot { file: File::Word, index };
        let specials = vec![
            (slot(1), Special::Tid(0)),
            (slot(2), Special::Tid(1)),
            (slot(3), Special::Tid(2)),
            (slot(4), Special::Ctaid(1)),
            (slot(5), Special::LanemaskGe),
            (slot(6), Special::NwarpId),
        ];
        let program = Program { slots: [1, 7, 1], specials, ..Program::default() };
        let mut registers = Registers::new(&program);
        let position = Position { grid: [4, 3, 2], block: [5, 4, 3], index: 9, dynamic_shared: 0, variables: &[] };
        fill(&mut registers, &program, &position, 1);
        // Thread 32 + 7 = 39 of 5 × 4 × 3 is (4, 3, 1); block 9 of 4 × 3 × 2 is (1, 2, 0).
        let at = |index: usize| registers.word[index][7];
        assert_eq!([at(1), at(2), at(3), at(4)], [4, 3, 1, 2]);
        assert_eq!(at(5), !0 << 7);
        assert_eq!(at(6), 2);
    }
}
