//! What a random program must compute: its tree executed thread by thread, in plain Rust.
//!
//! There are no warps and no masks here: every thread executes a statement before any executes the next one at the places
//! that all reach together, and on its own path everywhere else. That is right because programs do nothing that depends on
//! the order of threads.

mod thread;
mod together;

use super::choices::Numbers;
use super::operations::TOTALS;
use super::tree::{Program, REGION, Var};
use thread::{Frame, Place3};
use together::Block;

/// 64-bit words that a thread leaves behind: its variables, its shared and its local memory.
pub const OUTPUT: usize = Var::COUNT + 2 * REGION / 8;

/// Everything in device memory, before or after the launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Start values of each thread's variables.
    pub variables: Vec<u64>,
    /// Each thread's own device memory.
    pub slots: Vec<u64>,
    pub totals: Vec<u64>,
    /// [`OUTPUT`] words of each thread; one that ended early leaves them as they are.
    pub output: Vec<u64>,
    /// Scalar parameters: u8, the bits of an f32, u16, u64.
    pub scalars: (u8, u32, u16, u64),
}

impl Memory {
    /// What the buffers hold before the launch.
    pub fn before(program: &Program) -> Memory {
        let mut numbers = Numbers(program.seed);
        let threads = (program.blocks() * program.threads()) as usize;
        let scalar = numbers.register();
        Memory {
            variables: (0..threads * Var::COUNT).map(|_| numbers.register()).collect(),
            slots: (0..threads * REGION / 8).map(|_| numbers.register()).collect(),
            totals: TOTALS.iter().map(|total| total.start).collect(),
            output: vec![0xabab_abab_abab_abab; threads * OUTPUT],
            scalars: (scalar as u8, numbers.register() as u32, (scalar >> 8) as u16, numbers.register()),
        }
    }
}

/// Runs the program.
pub fn interpret(program: &Program) -> Memory {
    let mut memory = Memory::before(program);
    for number in 0..program.blocks() {
        let [x, y, _] = program.grid;
        let place =
            Place3 { grid: program.grid, block: program.block, ctaid: [number % x, number / x % y, number / x / y] };
        Block::new(program, place, number, &mut memory).run();
    }
    memory
}

impl Memory {
    /// The variables of a thread as the kernel's first instructions leave them.
    fn frame(&self, thread: usize) -> Frame {
        let mut frame = Frame::new(thread::LOCAL, thread::LOCAL);
        for (var, value) in (0..).zip(&self.variables[thread * Var::COUNT..][..Var::COUNT]) {
            frame.set(Var(var), *value);
        }
        for (var, value) in SCALARS.into_iter().zip(self.scalar_bits()) {
            frame.set(var, value);
        }
        frame
    }

    fn scalar_bits(&self) -> [u64; 4] {
        let (byte, float, short, long) = self.scalars;
        [byte.into(), float.into(), short.into(), long]
    }
}

/// The variables that receive the scalar parameters: the last of their classes.
pub const SCALARS: [Var; 4] = [Var(9), Var(17), Var(3), Var(13)];
