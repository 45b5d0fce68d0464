//! What an atomic computes: the new value of a word from the old one and the operands.

use super::Lanes64;
use super::lanes::each;
use crate::alu::eval;
use crate::isa::{Alu, AtomOp, Atomic, FloatMode, FloatOp, Type};

/// An atomic with its operands.
pub(super) struct Modify<'a> {
    pub op: AtomOp,
    pub ty: Type,
    /// Device memory: `add.f32` flushes subnormals there, see [`add`].
    pub device: bool,
    pub b: &'a Lanes64,
    pub c: &'a Lanes64,
}

impl<'a> Modify<'a> {
    pub fn new(atomic: Atomic, device: bool, b: &'a Lanes64, c: &'a Lanes64) -> Modify<'a> {
        Modify { op: atomic.op, ty: atomic.ty, device, b, c }
    }

    /// Bytes of the word.
    pub fn size(&self) -> u32 {
        self.ty.bytes().clamp(1, 8)
    }

    /// One lane after the other. Returns the lanes that wrote, which a `cas` without a match does not.
    pub fn apply(&self, bytes: &mut [u8], mask: u32, offset: &Lanes64, old: &mut Lanes64) -> u32 {
        let size = self.size() as usize;
        let mut wrote = 0;
        each(mask, |lane| {
            let tail = bytes.get_mut(offset[lane] as usize..);
            let Some(place) = tail.and_then(|tail| tail.get_mut(..size)) else { return };
            let mut word = [0; 8];
            word[..size].copy_from_slice(place);
            old[lane] = u64::from_le_bytes(word);
            if let Some(new) = self.combine(old[lane], self.b[lane], self.c[lane]) {
                place.copy_from_slice(&new.to_le_bytes()[..size]);
                wrote |= 1 << lane;
            }
        });
        wrote
    }

    /// The new value, in the low bits; `None` if the word stays untouched.
    fn combine(&self, old: u64, b: u64, c: u64) -> Option<u64> {
        let low = |bits: u64| bits & u64::MAX >> (64 - 8 * self.size());
        let order = |bits| order_key(self.ty, low(bits));
        let (old, b) = (low(old), low(b));
        Some(match self.op {
            AtomOp::Add if self.ty.is_float() => add(self.ty, self.device, old, b),
            AtomOp::Add => old.wrapping_add(b),
            AtomOp::Min if order(b) < order(old) => b,
            AtomOp::Max if order(b) > order(old) => b,
            AtomOp::Min | AtomOp::Max => old,
            AtomOp::Inc if old >= b => 0,
            AtomOp::Inc => old + 1,
            AtomOp::Dec if old == 0 || old > b => b,
            AtomOp::Dec => old - 1,
            AtomOp::And => old & b,
            AtomOp::Or => old | b,
            AtomOp::Xor => old ^ b,
            AtomOp::Exch => b,
            AtomOp::Cas if old == b => c,
            AtomOp::Cas => return None,
        })
    }
}

/// Maps an integer type's values to unsigned ones of the same order.
fn order_key(ty: Type, bits: u64) -> u64 {
    if ty.is_signed() { bits ^ 1 << (ty.bits() - 1) } else { bits }
}

/// Floating-point addition, rounded to nearest. As the manual says of today's GPUs, `add.f32` flushes subnormal inputs and
/// results to zero in device memory and keeps them in shared memory, whatever the rest of the kernel does; f64 keeps them
/// everywhere, and the half types are `.noftz`. Pairs add half by half.
fn add(ty: Type, device: bool, a: u64, b: u64) -> u64 {
    let op = match ty {
        Type::F32 if device => Alu::F32(FloatOp::Add, FloatMode::FTZ),
        Type::F32 => Alu::F32(FloatOp::Add, FloatMode::PLAIN),
        Type::F64 => Alu::F64(FloatOp::Add, FloatMode::PLAIN),
        _ => Alu::Half(FloatOp::Add, ty, FloatMode::PLAIN),
    };
    eval(op, [a, b, 0, 0])
}
