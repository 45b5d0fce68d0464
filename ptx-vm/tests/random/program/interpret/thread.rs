//! One thread on its own.

use super::super::operations::TOTALS;
use super::super::tree::{
    Atomic, Element, Function, Guard, Offset, Operand, Place, REGION, Region, Special, Stmt, Trips, Var, offset_mask,
    parameter_variables,
};

/// Numbers of a thread's memory regions: its device memory, its shared memory, the kernel's local array.
pub const GLOBAL: usize = 0;
pub const SHARED: usize = 1;
pub const LOCAL: usize = 2;

/// The variables of a call, and the regions it can reach.
#[derive(Clone)]
pub struct Frame {
    vars: [u64; Var::COUNT],
    local: usize,
    passed: usize,
}

impl Frame {
    pub fn new(local: usize, passed: usize) -> Frame {
        Frame { vars: [0; Var::COUNT], local, passed }
    }

    pub fn get(&self, var: Var) -> u64 {
        self.vars[usize::from(var.0)]
    }

    pub fn set(&mut self, var: Var, value: u64) {
        self.vars[usize::from(var.0)] = value & var.class().mask();
    }

    pub fn value(&self, operand: Operand) -> u64 {
        match operand {
            Operand::Var(var) => self.get(var),
            Operand::Not(var) => self.get(var) ^ 1,
            Operand::Const(value) => value,
        }
    }

    pub fn holds(&self, guard: Guard) -> bool {
        (self.get(guard.var) != 0) != guard.negated
    }

    fn passes(&self, guard: &Option<Guard>) -> bool {
        guard.is_none_or(|guard| self.holds(guard))
    }

    fn region(&self, region: Region) -> usize {
        match region {
            Region::Global => GLOBAL,
            Region::Shared => SHARED,
            Region::Local => self.local,
            Region::Passed => self.passed,
        }
    }

    fn offset(&self, place: Place, size: usize) -> usize {
        match place.offset {
            Offset::Const(offset) => offset.into(),
            Offset::Masked(var) => self.get(var) as usize & usize::from(offset_mask(size)),
        }
    }
}

/// Grid, block, and where in the grid the block is.
#[derive(Clone, Copy)]
pub struct Place3 {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub ctaid: [u32; 3],
}

/// Where control goes after a statement.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    Next,
    Break(u8),
    Continue,
    Return,
    Exit,
}

/// A thread and what it can touch.
pub struct Alone<'a> {
    pub functions: &'a [Function],
    pub place: Place3,
    /// Number in the block, x fastest.
    pub number: u32,
    pub regions: &'a mut Vec<[u8; REGION]>,
    pub grid_totals: &'a mut [u64],
    pub block_totals: &'a mut [u64],
}

impl Alone<'_> {
    pub fn run(&mut self, frame: &mut Frame, stmts: &[Stmt]) -> Flow {
        for stmt in stmts {
            let flow = self.step(frame, stmt);
            if flow != Flow::Next {
                return flow;
            }
        }
        Flow::Next
    }

    fn step(&mut self, frame: &mut Frame, stmt: &Stmt) -> Flow {
        match stmt {
            Stmt::If { cond, then, other, .. } => {
                return if frame.holds(*cond) { self.run(frame, then) } else { self.run(frame, other) };
            }
            Stmt::Loop { trips, counter, body, .. } => return self.repeat(frame, *trips, *counter, body),
            Stmt::Break(guard, levels) if frame.passes(guard) => return Flow::Break(*levels),
            Stmt::Continue(guard) if frame.passes(guard) => return Flow::Continue,
            Stmt::Return(guard) if frame.passes(guard) => return Flow::Return,
            Stmt::Exit(guard) if frame.passes(guard) => return Flow::Exit,
            Stmt::Switch { on, cases, .. } => {
                let mut case = frame.get(*on) as usize % cases.len();
                loop {
                    let flow = self.run(frame, &cases[case].0);
                    if flow != Flow::Next || !cases[case].1 || case + 1 == cases.len() {
                        return flow;
                    }
                    case += 1;
                }
            }
            Stmt::Call { function, passed, args, dst } => return self.call(frame, *function, *passed, args, *dst),
            _ => self.simple(frame, stmt),
        }
        Flow::Next
    }

    fn repeat(&mut self, frame: &mut Frame, trips: Trips, counter: Option<Var>, body: &[Stmt]) -> Flow {
        let trips = match trips {
            Trips::Const(trips) => trips.into(),
            Trips::Masked(var, mask) => frame.get(var) & u64::from(mask),
        };
        for i in 0..trips {
            if let Some(counter) = counter {
                frame.set(counter, i);
            }
            match self.run(frame, body) {
                Flow::Next | Flow::Continue => {}
                Flow::Break(0) => break,
                Flow::Break(levels) => return Flow::Break(levels - 1),
                flow => return flow,
            }
        }
        Flow::Next
    }

    fn call(&mut self, frame: &mut Frame, function: usize, passed: Region, args: &[Operand], dst: Var) -> Flow {
        let functions = self.functions;
        let function = &functions[function];
        let mut inner = Frame::new(self.regions.len(), frame.region(passed));
        self.regions.push([0; REGION]);
        for (var, arg) in parameter_variables(&function.params).into_iter().zip(args) {
            inner.set(var, frame.value(*arg));
        }
        let flow = self.run(&mut inner, &function.body);
        self.regions.pop();
        frame.set(dst, inner.get(function.result));
        if flow == Flow::Exit { flow } else { Flow::Next }
    }

    /// Statements that leave control where it is.
    fn simple(&mut self, frame: &mut Frame, stmt: &Stmt) {
        match stmt {
            Stmt::Pure { guard, op, dst, src } if frame.passes(guard) => {
                let mut x = [0; 4];
                for (x, operand) in x.iter_mut().zip(src) {
                    *x = frame.value(*operand);
                }
                frame.set(*dst, (op.meaning)(x));
            }
            Stmt::Carry { guard, subtract, dst, a, b } if frame.passes(guard) => {
                let [a, b] = [a, b].map(|pair| frame.value(pair[1]) << 32 | frame.value(pair[0]));
                let wide = if *subtract { a.wrapping_sub(b) } else { a.wrapping_add(b) };
                frame.set(dst[0], wide);
                frame.set(dst[1], wide >> 32);
            }
            Stmt::Special { dst, special } => frame.set(*dst, self.special(*special).into()),
            Stmt::Load { guard, element, dst, place, .. } if frame.passes(guard) => {
                let at = frame.offset(*place, element.bytes * dst.len());
                let region = &self.regions[frame.region(place.region)];
                for (i, var) in dst.iter().enumerate() {
                    frame.set(*var, element.read(&region[at + i * element.bytes..]));
                }
            }
            Stmt::Store { guard, element, src, place, .. } if frame.passes(guard) => {
                let at = frame.offset(*place, element.bytes * src.len());
                let region = &mut self.regions[frame.region(place.region)];
                for (i, operand) in src.iter().enumerate() {
                    let bytes = frame.value(*operand).to_le_bytes();
                    region[at + i * element.bytes..][..element.bytes].copy_from_slice(&bytes[..element.bytes]);
                }
            }
            Stmt::Atomic { guard, atomic, dst, place, b, c } if frame.passes(guard) => {
                let old = self.atomic(frame, atomic, *place, frame.value(*b), frame.value(*c));
                if let Some(dst) = dst {
                    frame.set(*dst, old);
                }
            }
            Stmt::Total { guard, shared, index, value, .. } if frame.passes(guard) => {
                let total = if *shared { &mut self.block_totals[*index] } else { &mut self.grid_totals[*index] };
                *total = (TOTALS[*index].meaning)(*total, frame.value(*value)) & TOTALS[*index].class.mask();
            }
            _ => {}
        }
    }

    fn atomic(&mut self, frame: &Frame, atomic: &Atomic, place: Place, b: u64, c: u64) -> u64 {
        let size = atomic.class.bits() as usize / 8;
        let at = frame.offset(place, size);
        let number = frame.region(place.region);
        let word = &mut self.regions[number][at..at + size];
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(word);
        let old = u64::from_le_bytes(bytes);
        let flush = |x: u64| {
            let subnormal = atomic.flushes && number == GLOBAL && f32::from_bits(x as u32).is_subnormal();
            if subnormal { x & 0x8000_0000 } else { x }
        };
        let new = flush((atomic.meaning)(flush(old), flush(b), c));
        word.copy_from_slice(&new.to_le_bytes()[..size]);
        old
    }

    fn special(&self, special: Special) -> u32 {
        let Place3 { grid, block, ctaid } = self.place;
        let lane = self.number % 32;
        match special {
            Special::Tid(0) => self.number % block[0],
            Special::Tid(1) => self.number / block[0] % block[1],
            Special::Tid(_) => self.number / block[0] / block[1],
            Special::Ntid(axis) => block[axis],
            Special::Ctaid(axis) => ctaid[axis],
            Special::Nctaid(axis) => grid[axis],
            Special::Lane => lane,
            Special::LanemaskLt => (1 << lane) - 1,
            Special::LanemaskGe => u32::MAX << lane,
        }
    }
}

impl Element {
    /// The element at the start of `bytes`, extended to 64 bits.
    fn read(self, bytes: &[u8]) -> u64 {
        let mut wide = [0; 8];
        wide[..self.bytes].copy_from_slice(&bytes[..self.bytes]);
        let shift = 64 - 8 * self.bytes;
        let bits = u64::from_le_bytes(wide) << shift;
        if self.signed { (bits as i64 >> shift) as u64 } else { bits >> shift }
    }
}
