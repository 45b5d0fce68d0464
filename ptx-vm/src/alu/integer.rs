//! Integers and bits.
//!
//! What the manual leaves open follows the code that NVIDIA's assembler makes of it: division by zero is all ones and so is
//! its remainder, and the least integer divided by −1 is itself, with remainder 0.

use crate::isa::{Alu, Int, IntOp, Prmt, Type};

/// See [`super::eval`].
#[inline(always)]
pub(crate) fn eval(op: Alu, x: [u64; 4]) -> u64 {
    match op {
        Alu::Mov(ty) => low(x[0], ty.bits()),
        Alu::Int(op, Int::U16) => arithmetic::<u16>(op, x),
        Alu::Int(op, Int::S16) => arithmetic::<i16>(op, x),
        Alu::Int(op, Int::U32) => arithmetic::<u32>(op, x),
        Alu::Int(op, Int::S32) => arithmetic::<i32>(op, x),
        Alu::Int(op, Int::U64) => arithmetic::<u64>(op, x),
        Alu::Int(op, Int::S64) => arithmetic::<i64>(op, x),
        Alu::Lop3(table) => u64::from(lop3(table, x[0] as u32, x[1] as u32, x[2] as u32)),
        Alu::Prmt(mode) => u64::from(prmt(mode, x[0] as u32, x[1] as u32, x[2] as u32)),
        Alu::Dp4a(a, b) => u64::from(dp4a(a, b, x[0] as u32, x[1] as u32, x[2] as u32)),
        Alu::Dp2a(a, b, high) => u64::from(dp2a(a, b, high, x[0] as u32, x[1] as u32, x[2] as u32)),
        Alu::Pack(ty, parts) => pack(ty, parts, x),
        Alu::Unpack(ty, index, parts) => {
            let bits = ty.bits() / u32::from(parts);
            low(x[0] >> (u32::from(index) * bits), bits)
        }
        Alu::Selp(ty) => low(if x[2] & 1 == 1 { x[0] } else { x[1] }, ty.bits()),
        _ => unreachable!("{op:?} is no integer operation"),
    }
}

/// The low `bits` bits; 64 and more are all of them.
#[inline(always)]
const fn low(value: u64, bits: u32) -> u64 {
    if bits >= 64 { value } else { value & !(u64::MAX << bits) }
}

#[inline(always)]
fn pack(ty: Type, parts: u8, x: [u64; 4]) -> u64 {
    let bits = ty.bits() / u32::from(parts);
    let mut whole = 0;
    for (i, part) in x.into_iter().take(usize::from(parts)).enumerate() {
        whole |= low(part, bits) << (i as u32 * bits);
    }
    whole
}

/// What the operations need of an integer type, beyond Rust's own.
trait Integer: Copy + Ord {
    const BITS: u32;
    const SIGNED: bool;
    fn from_bits(bits: u64) -> Self;
    /// Zero-extended.
    fn bits(self) -> u64;
    /// The value, exactly.
    fn wide(self) -> i128;
    /// Wraps.
    fn narrow(value: i128) -> Self;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn mul_high(self, other: Self) -> Self;
    fn mul_wide(self, other: Self) -> u64;
    fn div(self, other: Self) -> Self;
    fn rem(self, other: Self) -> Self;
    /// Arithmetic for signed types; `count < BITS`.
    fn shr(self, count: u32) -> Self;
}

macro_rules! integer {
    ($($ty:ty, $unsigned:ty, $double:ty, $double_unsigned:ty;)*) => {$(
        impl Integer for $ty {
            const BITS: u32 = <$ty>::BITS;
            const SIGNED: bool = <$ty>::MIN != 0;
            #[inline(always)]
            fn from_bits(bits: u64) -> Self { bits as $ty }
            #[inline(always)]
            fn bits(self) -> u64 { self as $unsigned as u64 }
            #[inline(always)]
            fn wide(self) -> i128 { self as i128 }
            #[inline(always)]
            fn narrow(value: i128) -> Self { value as $ty }
            #[inline(always)]
            fn add(self, other: Self) -> Self { self.wrapping_add(other) }
            #[inline(always)]
            fn sub(self, other: Self) -> Self { self.wrapping_sub(other) }
            #[inline(always)]
            fn mul(self, other: Self) -> Self { self.wrapping_mul(other) }
            #[inline(always)]
            fn mul_high(self, other: Self) -> Self {
                // The product of two n-bit values fits 2n bits, signed or not.
                ((self as $double).wrapping_mul(other as $double) >> <$ty>::BITS) as $ty
            }
            #[inline(always)]
            fn mul_wide(self, other: Self) -> u64 {
                (self as $double).wrapping_mul(other as $double) as $double_unsigned as u64
            }
            #[inline(always)]
            fn div(self, other: Self) -> Self {
                if other == 0 { !0 } else { self.wrapping_div(other) }
            }
            #[inline(always)]
            fn rem(self, other: Self) -> Self {
                if other == 0 { !0 } else { self.wrapping_rem(other) }
            }
            #[inline(always)]
            fn shr(self, count: u32) -> Self { self >> count }
        }
    )*};
}

integer! {
    u16, u16, u32, u32;
    i16, u16, i32, u32;
    u32, u32, u64, u64;
    i32, u32, i64, u64;
    u64, u64, u128, u128;
    i64, u64, i128, u128;
}

/// The operations that exist for several types.
#[inline(always)]
fn arithmetic<T: Integer>(op: IntOp, x: [u64; 4]) -> u64 {
    let [a, b, c] = [x[0], x[1], x[2]].map(T::from_bits);
    let zero = T::from_bits(0);
    match op {
        IntOp::Add => a.add(b).bits(),
        IntOp::Sub => a.sub(b).bits(),
        IntOp::MulLo => a.mul(b).bits(),
        IntOp::MulHi => a.mul_high(b).bits(),
        IntOp::MulWide => a.mul_wide(b),
        IntOp::MadLo => a.mul(b).add(c).bits(),
        IntOp::MadHi => a.mul_high(b).add(c).bits(),
        IntOp::MadWide => low(a.mul_wide(b).wrapping_add(x[2]), 2 * T::BITS),
        IntOp::AddSat => saturate::<T>(a.wide() + b.wide()),
        IntOp::SubSat => saturate::<T>(a.wide() - b.wide()),
        IntOp::MadHiSat => saturate::<T>(a.mul_high(b).wide() + c.wide()),
        IntOp::Mul24Lo => product24::<T>(a, b, 0).bits(),
        IntOp::Mul24Hi => product24::<T>(a, b, 16).bits(),
        IntOp::Mad24Lo => product24::<T>(a, b, 0).add(c).bits(),
        IntOp::Mad24Hi => product24::<T>(a, b, 16).add(c).bits(),
        IntOp::Mad24HiSat => saturate::<T>(product24::<T>(a, b, 16).wide() + c.wide()),
        IntOp::Sad => c.add(if a < b { b.sub(a) } else { a.sub(b) }).bits(),
        IntOp::Div => a.div(b).bits(),
        IntOp::Rem => a.rem(b).bits(),
        IntOp::Abs => if a < zero { zero.sub(a) } else { a }.bits(),
        IntOp::Neg => zero.sub(a).bits(),
        IntOp::Min => a.min(b).bits(),
        IntOp::Max => a.max(b).bits(),
        IntOp::MinRelu => a.min(b).max(zero).bits(),
        IntOp::MaxRelu => a.max(b).max(zero).bits(),
        IntOp::And => a.bits() & b.bits(),
        IntOp::Or => a.bits() | b.bits(),
        IntOp::Xor => a.bits() ^ b.bits(),
        IntOp::Not => low(!x[0], T::BITS),
        IntOp::Cnot => u64::from(a.bits() == 0),
        IntOp::Shl => match x[1] as u32 {
            count if count < T::BITS => low(x[0] << count, T::BITS),
            _ => 0,
        },
        // A signed value shifted by all its bits or more is its sign, as if shifted by all but one.
        IntOp::Shr => match x[1] as u32 {
            count if count < T::BITS => a.shr(count).bits(),
            _ if T::SIGNED => a.shr(T::BITS - 1).bits(),
            _ => 0,
        },
        _ => bits::<T>(op, a, x),
    }
}

/// Counting, finding, extracting and inserting bits.
#[inline(always)]
fn bits<T: Integer>(op: IntOp, a: T, x: [u64; 4]) -> u64 {
    match op {
        IntOp::Popc => u64::from(a.bits().count_ones()),
        IntOp::Clz => u64::from(a.bits().leading_zeros() - (64 - T::BITS)),
        IntOp::Bfind | IntOp::BfindShift => {
            // The highest bit that differs from the sign; none is all ones.
            let magnitude = if a < T::from_bits(0) { low(!a.bits(), T::BITS) } else { a.bits() };
            match magnitude {
                0 => u64::from(u32::MAX),
                _ if op == IntOp::Bfind => u64::from(magnitude.ilog2()),
                _ => u64::from(T::BITS - 1 - magnitude.ilog2()),
            }
        }
        IntOp::Brev => a.bits().reverse_bits() >> (64 - T::BITS),
        IntOp::Bfe => extract::<T>(a, x[1] as u32 & 0xff, x[2] as u32 & 0xff),
        IntOp::Bfi => {
            let (position, length) = (x[2] as u32 & 0xff, x[3] as u32 & 0xff);
            let field = if position < T::BITS { low(u64::MAX, length) << position } else { 0 };
            let inserted = if position < T::BITS { x[0] << position } else { 0 };
            low((x[1] & !field) | (inserted & field), T::BITS)
        }
        IntOp::SzextWrap => extend::<T>(a, x[1] as u32 & 31),
        IntOp::SzextClamp => extend::<T>(a, (x[1] as u32).min(T::BITS)),
        IntOp::BmskWrap => low(low(u64::MAX, x[1] as u32 & 31) << (x[0] as u32 & 31), T::BITS),
        IntOp::BmskClamp => match x[0] as u32 {
            position if position < T::BITS => low(low(u64::MAX, (x[1] as u32).min(T::BITS)) << position, T::BITS),
            _ => 0,
        },
        IntOp::ShfLeftWrap => funnel(x, x[2] as u32 & 31) >> 32,
        IntOp::ShfLeftClamp => funnel(x, (x[2] as u32).min(32)) >> 32,
        IntOp::ShfRightWrap => low((x[1] << 32 | low(x[0], 32)) >> (x[2] as u32 & 31), 32),
        IntOp::ShfRightClamp => low((x[1] << 32 | low(x[0], 32)) >> (x[2] as u32).min(32), 32),
        _ => unreachable!("{op:?} is arithmetic"),
    }
}

/// `b:a` shifted left; the result is its upper word.
#[inline(always)]
fn funnel(x: [u64; 4], count: u32) -> u64 {
    (x[1] << 32 | low(x[0], 32)) << count
}

#[inline(always)]
fn saturate<T: Integer>(value: i128) -> u64 {
    let (least, greatest) = match T::SIGNED {
        true => (-(1i128 << (T::BITS - 1)), (1i128 << (T::BITS - 1)) - 1),
        false => (0, (1i128 << T::BITS) - 1),
    };
    T::narrow(value.clamp(least, greatest)).bits()
}

/// The 48-bit product of the low 24 bits, from bit `from` on.
#[inline(always)]
fn product24<T: Integer>(a: T, b: T, from: u32) -> T {
    let [a, b] = [a, b].map(|v| {
        let top = v.bits() << 40;
        if T::SIGNED { top as i64 >> 40 } else { (top >> 40) as i64 }
    });
    T::from_bits(((a * b) >> from) as u64)
}

/// `length` bits from `position`; above the value's top bit, and above the field of a signed type, lies the sign: the
/// field's own top bit, or the value's if the field reaches beyond it.
#[inline(always)]
fn extract<T: Integer>(a: T, position: u32, length: u32) -> u64 {
    if length == 0 {
        return 0;
    }
    let value = a.bits();
    let field = if position < T::BITS { low(value >> position, length) } else { 0 };
    let top = (position + length - 1).min(T::BITS - 1);
    let negative = T::SIGNED && value >> top & 1 == 1;
    // Bits of the field that the value really has; everything above is the sign.
    let present = T::BITS.saturating_sub(position).min(length);
    low(if negative { field | !low(u64::MAX, present) } else { field }, T::BITS)
}

/// The low `width` bits, sign-extended if the type is signed.
#[inline(always)]
fn extend<T: Integer>(a: T, width: u32) -> u64 {
    let kept = low(a.bits(), width);
    let negative = T::SIGNED && width > 0 && kept >> (width - 1) & 1 == 1;
    low(if negative { kept | !low(u64::MAX, width) } else { kept }, T::BITS)
}

/// Bit (a, b, c) of the table, with `a` the most significant: 0xf0, 0xcc and 0xaa are the operands themselves.
#[inline(always)]
fn lop3(table: u8, a: u32, b: u32, c: u32) -> u32 {
    let mut result = 0;
    for row in 0..8 {
        if table >> row & 1 == 1 {
            let [a, b, c] = [(a, 4), (b, 2), (c, 1)].map(|(v, bit)| if row & bit == 0 { !v } else { v });
            result |= a & b & c;
        }
    }
    result
}

/// Picks four bytes out of `b:a`.
#[inline(always)]
fn prmt(mode: Prmt, a: u32, b: u32, c: u32) -> u32 {
    let pool = u64::from(b) << 32 | u64::from(a);
    let byte = |index: u32| (pool >> (8 * (index & 7))) as u8;
    let start = c & 3;
    let bytes: [u8; 4] = std::array::from_fn(|i| {
        let i = i as u32;
        match mode {
            Prmt::Index => {
                let selector = c >> (4 * i) & 15;
                let picked = byte(selector);
                // Bit 3 of a selector replicates the sign of the byte.
                if selector & 8 == 0 { picked } else { (picked as i8 >> 7) as u8 }
            }
            Prmt::Forward4 => byte(start + i),
            Prmt::Backward4 => byte(start.wrapping_sub(i)),
            Prmt::Replicate8 => byte(start),
            Prmt::EdgeLeft => byte(i.max(start)),
            Prmt::EdgeRight => byte(i.min(start)),
            Prmt::Replicate16 => byte(2 * (start & 1) + (i & 1)),
        }
    });
    u32::from_le_bytes(bytes)
}

/// `c` plus the products of the four bytes.
#[inline(always)]
fn dp4a(a_signed: bool, b_signed: bool, a: u32, b: u32, c: u32) -> u32 {
    let byte = |word: u32, i: u32, signed: bool| {
        let byte = (word >> (8 * i)) as u8;
        if signed { i32::from(byte as i8) } else { i32::from(byte) }
    };
    (0..4).fold(c, |sum, i| sum.wrapping_add((byte(a, i, a_signed) * byte(b, i, b_signed)) as u32))
}

/// `c` plus the products of the two halves of `a` with the lower or upper two bytes of `b`.
#[inline(always)]
fn dp2a(a_signed: bool, b_signed: bool, high: bool, a: u32, b: u32, c: u32) -> u32 {
    let b = if high { b >> 16 } else { b };
    (0..2).fold(c, |sum, i| {
        let (half, byte) = ((a >> (16 * i)) as u16, (b >> (8 * i)) as u8);
        let half = if a_signed { i32::from(half as i16) } else { i32::from(half) };
        let byte = if b_signed { i32::from(byte as i8) } else { i32::from(byte) };
        sum.wrapping_add((half * byte) as u32)
    })
}
