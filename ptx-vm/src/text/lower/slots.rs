//! Slots of a program: registers as they are first used, constants and special values once each.

use crate::error::LoadError;
use crate::isa::Type;
use crate::program::{File, Program, Slot, Special};
use crate::text::lexer::At;
use crate::text::limits;
use std::collections::HashMap;

/// What a slot holds that nothing writes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Fixed {
    Bits(u64),
    Special(Special),
    /// This much above the start of dynamic shared memory, which is known when all static arrays are.
    Dynamic(u64),
}

/// Numbers the slots of one program.
pub(super) struct Slots {
    /// The next free index of each file. Index 0 is scratch.
    next: [u64; 3],
    fixed: HashMap<(File, Fixed), Slot>,
    /// In the order of first use, which makes loading repeatable.
    order: Vec<(Slot, Fixed)>,
}

/// The file that holds registers of a type; none holds 128 bits.
pub(super) const fn file_of(ty: Type) -> Option<File> {
    match ty.bits() {
        1 => Some(File::Pred),
        8 | 16 | 32 => Some(File::Word),
        64 => Some(File::Double),
        _ => None,
    }
}

/// The scratch slot of a file: an operand that is not there.
pub(super) const fn none(file: File) -> Slot {
    Slot { file, index: 0 }
}

impl Slots {
    pub fn new() -> Slots {
        Slots { next: [1; 3], fixed: HashMap::new(), order: Vec::new() }
    }

    /// A slot of its own.
    pub fn register(&mut self, file: File, at: At) -> Result<Slot, LoadError> {
        let next = &mut self.next[file as usize];
        // `next` slots are in use, scratch included; one more must still fit the count of them.
        limits::check("registers and constants of one file", *next + 1, limits::SLOTS, at)?;
        let slot = Slot { file, index: *next as u16 };
        *next += 1;
        Ok(slot)
    }

    /// The slot that holds this value.
    pub fn fixed(&mut self, file: File, value: Fixed, at: At) -> Result<Slot, LoadError> {
        if let Some(slot) = self.fixed.get(&(file, value)) {
            return Ok(*slot);
        }
        let slot = self.register(file, at)?;
        self.fixed.insert((file, value), slot);
        self.order.push((slot, value));
        Ok(slot)
    }

    /// The slot that holds these bits.
    pub fn constant(&mut self, file: File, bits: u64, at: At) -> Result<Slot, LoadError> {
        self.fixed(file, Fixed::Bits(bits), at)
    }

    /// Hands the slots to the program. `dynamic` is where dynamic shared memory starts.
    pub fn finish(self, program: &mut Program, dynamic: u32) {
        program.slots = self.next.map(|next| next as u16);
        for (slot, value) in self.order {
            match value {
                Fixed::Bits(bits) => program.constants.push((slot, bits)),
                Fixed::Special(special) => program.specials.push((slot, special)),
                Fixed::Dynamic(above) => {
                    let offset = above.wrapping_add(u64::from(dynamic));
                    let bits = if slot.file == File::Word { offset & u64::from(u32::MAX) } else { offset };
                    program.constants.push((slot, bits));
                }
            }
        }
    }
}
