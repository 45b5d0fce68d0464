//! A warp's registers: three files, one value per lane in each register.

use crate::program::{File, Inst, Program, Slot};

/// Lanes of a warp.
pub(crate) const WARP: usize = 32;

/// The register files of one warp. Constants and special values are registers like any other, filled once.
#[derive(Clone, Debug)]
pub(crate) struct Registers {
    /// Predicates: one bit per lane.
    pub pred: Vec<u32>,
    /// 32-bit registers.
    pub word: Vec<[u32; WARP]>,
    /// 64-bit registers.
    pub double: Vec<[u64; WARP]>,
}

impl Registers {
    /// Files of the program's size, zero but for its constants.
    pub fn new(program: &Program) -> Registers {
        let [pred, word, double] = program.slots.map(|count| usize::from(count).max(1));
        let (pred, word, double) = (vec![0; pred], vec![[0; WARP]; word], vec![[0; WARP]; double]);
        let mut registers = Registers { pred, word, double };
        for &(slot, value) in &program.constants {
            registers.write(slot, u32::MAX, &[value; WARP]);
        }
        registers
    }

    /// The register's values, zero-extended; a predicate's as 0 and 1.
    #[inline(always)]
    pub fn read(&self, slot: Slot) -> [u64; WARP] {
        let index = usize::from(slot.index);
        match slot.file {
            File::Word => self.word[index].map(u64::from),
            File::Double => self.double[index],
            File::Pred => std::array::from_fn(|lane| u64::from(self.pred[index] >> lane & 1)),
        }
    }

    /// Source `i` of an instruction; a negated predicate comes out negated.
    #[inline(always)]
    pub fn source(&self, inst: &Inst, i: usize) -> [u64; WARP] {
        let mut values = self.read(inst.src[i]);
        if inst.negated >> i & 1 == 1 {
            values = values.map(|value| value ^ 1);
        }
        values
    }

    /// A predicate source as a mask of lanes.
    #[inline(always)]
    pub fn predicate(&self, inst: &Inst, i: usize) -> u32 {
        let mask = self.pred[usize::from(inst.src[i].index)];
        if inst.negated >> i & 1 == 1 { !mask } else { mask }
    }

    /// Writes the lanes of `mask`, truncated to the register's width; to a predicate, bit 0.
    #[inline(always)]
    pub fn write(&mut self, slot: Slot, mask: u32, values: &[u64; WARP]) {
        let index = usize::from(slot.index);
        match slot.file {
            File::Word => blend(&mut self.word[index], mask, |lane| values[lane] as u32),
            File::Double => blend(&mut self.double[index], mask, |lane| values[lane]),
            File::Pred => {
                let bits = pack(|lane| values[lane] & 1 == 1);
                self.write_predicate(slot, mask, bits);
            }
        }
    }

    /// Writes the lanes of `mask` of a predicate.
    #[inline(always)]
    pub fn write_predicate(&mut self, slot: Slot, mask: u32, bits: u32) {
        let register = &mut self.pred[usize::from(slot.index)];
        *register = *register & !mask | bits & mask;
    }
}

/// Overwrites the lanes of `mask`.
#[inline(always)]
pub(crate) fn blend<T: Copy>(register: &mut [T; WARP], mask: u32, value: impl Fn(usize) -> T) {
    if mask == u32::MAX {
        for (lane, target) in register.iter_mut().enumerate() {
            *target = value(lane);
        }
    } else {
        for (lane, target) in register.iter_mut().enumerate() {
            if mask >> lane & 1 == 1 {
                *target = value(lane);
            }
        }
    }
}

/// A mask of the lanes for which `test` holds.
#[inline(always)]
pub(crate) fn pack(test: impl Fn(usize) -> bool) -> u32 {
    let mut mask = 0;
    for lane in 0..WARP {
        mask |= u32::from(test(lane)) << lane;
    }
    mask
}

/// The lanes of a mask, ascending.
pub(crate) fn lanes(mask: u32) -> impl Iterator<Item = usize> {
    let mut rest = mask;
    std::iter::from_fn(move || {
        let lane = rest.trailing_zeros() as usize;
        (rest != 0).then(|| {
            rest &= rest - 1;
            lane
        })
    })
}
