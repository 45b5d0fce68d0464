//! Conversions (manual 9.7.9, `cvt` and `cvt.pack`).

use super::{Decoded, Modifiers, Operand, Row};
use crate::isa::{Alu, Convert, Op, Rounding, Type};

pub(super) const ROWS: &[Row] = &[
    Row {
        pattern: "cvt{.rn|.rz|.rm|.rp|.rni|.rzi|.rmi|.rpi}?{.ftz}?{.sat}?\
                  {.u8|.s8|.u16|.s16|.u32|.s32|.u64|.s64|.f16|.bf16|.f32|.f64}\
                  {.u8|.s8|.u16|.s16|.u32|.s32|.u64|.s64|.f16|.bf16|.f32|.f64}",
        build: scalar,
    },
    Row {
        pattern: "cvt{.rn|.rz}{.relu|.satfinite|.relu.satfinite|.satfinite.relu}{.f16|.bf16}.f32",
        build: |m| wide(conversion(m)?),
    },
    Row { pattern: "cvt{.rn|.rz}{.relu|.satfinite|.relu.satfinite|.satfinite.relu}?{.f16x2|.bf16x2}.f32", build: pair },
    Row { pattern: "cvt.rna{.satfinite}?.tf32.f32", build: exact_width },
    Row { pattern: "cvt{.rn|.rz}{.relu|.satfinite|.relu.satfinite|.satfinite.relu}?.tf32.f32", build: exact_width },
    Row { pattern: "cvt.rn{.satfinite|.relu.satfinite|.satfinite.relu}{.e4m3x2|.e5m2x2}.f32", build: eighths },
    Row { pattern: "cvt.rn{.satfinite|.relu.satfinite|.satfinite.relu}{.e4m3x2|.e5m2x2}.f16x2", build: exact_width },
    Row { pattern: "cvt.rn{.relu}?.f16x2{.e4m3x2|.e5m2x2}", build: exact_width },
    Row { pattern: "cvt.pack.sat{.u16|.s16}.s32", build: |m| pack_sat(m, false) },
    Row { pattern: "cvt.pack.sat{.u8|.s8}.s32.b32", build: |m| pack_sat(m, true) },
];

const FLOAT_ROUNDINGS: [&str; 5] = [".rn", ".rz", ".rm", ".rp", ".rna"];
const INTEGRAL_ROUNDINGS: [&str; 4] = [".rni", ".rzi", ".rmi", ".rpi"];
/// In the order of both lists.
const ROUNDINGS: [Rounding; 5] =
    [Rounding::Nearest, Rounding::Zero, Rounding::Down, Rounding::Up, Rounding::NearestAway];

/// Types in the order of the text: result first. `.relu` and `.satfinite` may be written in either order, as one modifier.
fn conversion(m: &Modifiers<'_>) -> Option<Convert> {
    let [to, from] = m.types()[..] else { return None };
    let clamp = |modifier| m.0.iter().any(|written| written.contains(modifier));
    let integral = m.which(&INTEGRAL_ROUNDINGS);
    let rounding = integral.or_else(|| m.which(&FLOAT_ROUNDINGS)).map_or(Rounding::Nearest, |i| ROUNDINGS[i]);
    Some(Convert {
        to,
        from,
        rounding,
        integral: integral.is_some(),
        ftz: m.has(".ftz"),
        sat: m.has(".sat"),
        relu: clamp(".relu"),
        satfinite: clamp(".satfinite"),
    })
}

/// Any pair of integer and floating-point types.
fn scalar(m: &Modifiers<'_>) -> Option<Decoded> {
    let cvt = conversion(m)?;
    let (to, from) = (cvt.to, cvt.from);
    let rounded = m.which(&FLOAT_ROUNDINGS).is_some();
    let eight_bits_and_bf16 = |x: Type, y: Type| x.bits() == 8 && y == Type::Bf16;
    let legal = rounding_is_legal(to, from, rounded, cvt.integral)
        && (!cvt.sat || saturation_is_legal(to, from))
        && (!cvt.ftz || [to, from].contains(&Type::F32))
        && !eight_bits_and_bf16(to, from)
        && !eight_bits_and_bf16(from, to);
    legal.then(|| wide(cvt)).flatten()
}

/// The rounding is mandatory where the result may be inexact, and forbidden where it cannot be.
fn rounding_is_legal(to: Type, from: Type, rounded: bool, integral: bool) -> bool {
    match (to.is_float(), from.is_float()) {
        (false, false) => !rounded && !integral,
        (true, false) => rounded,
        (false, true) => integral,
        (true, true) if to == from => !rounded,
        // From bf16 a rounding may be written though f32 and f64 hold every value; between bf16 and f16 it may be left out.
        (true, true) if from == Type::Bf16 || (to, from) == (Type::Bf16, Type::F16) => !integral,
        (true, true) if to.bits() < from.bits() => rounded,
        (true, true) => !rounded && !integral,
    }
}

/// Only where the operand may be out of range, and never with bf16.
fn saturation_is_legal(to: Type, from: Type) -> bool {
    if to.is_float() || from.is_float() {
        return to != Type::Bf16 && from != Type::Bf16;
    }
    match (to.is_signed(), from.is_signed()) {
        (true, true) | (false, false) => to.bits() < from.bits(),
        (true, false) => to.bits() <= from.bits(),
        (false, true) => true,
    }
}

/// The registers may be wider than the types.
fn wide(cvt: Convert) -> Option<Decoded> {
    Decoded::new(Op::Alu(Alu::Cvt(cvt)), &[Operand::WriteWide(cvt.to), Operand::ReadWide(cvt.from)])
}

/// Two f32 into a pair of halves.
fn pair(m: &Modifiers<'_>) -> Option<Decoded> {
    let cvt = conversion(m)?;
    let source = Operand::ReadWide(Type::F32);
    Decoded::new(Op::Alu(Alu::CvtPack(cvt)), &[Operand::WriteWide(cvt.to), source, source])
}

/// Two f32 into a pair of 8-bit floats.
fn eighths(m: &Modifiers<'_>) -> Option<Decoded> {
    let cvt = conversion(m)?;
    Decoded::alu(Alu::CvtPack(cvt), cvt.to, &[Type::F32; 2])
}

/// The tf32 and 8-bit float formats allow no wider registers.
fn exact_width(m: &Modifiers<'_>) -> Option<Decoded> {
    let cvt = conversion(m)?;
    Decoded::alu(Alu::Cvt(cvt), cvt.to, &[cvt.from])
}

fn pack_sat(m: &Modifiers<'_>, with_c: bool) -> Option<Decoded> {
    let to = *m.types().first()?;
    let sources = [Operand::ReadWide(Type::S32), Operand::ReadWide(Type::S32), Operand::ReadWide(Type::B32)];
    let operands: Vec<Operand> =
        std::iter::once(Operand::WriteWide(Type::B32)).chain(sources).take(if with_c { 4 } else { 3 }).collect();
    Decoded::new(Op::Alu(Alu::CvtPackSat(to, with_c)), &operands)
}

#[cfg(test)]
mod tests {
    use crate::isa::Instruction;

    /// What the assembler refuses, pair by pair.
    #[test]
    fn combinations_that_the_manual_forbids_are_refused() {
        let refused = [
            "cvt.rn.u32.s32",
            "cvt.sat.u32.u16",
            "cvt.sat.s64.u32",
            "cvt.ftz.u32.s32",
            "cvt.f32.s32",
            "cvt.rni.f32.s32",
            "cvt.rn.ftz.f64.s32",
            "cvt.s32.f32",
            "cvt.rn.s32.f32",
            "cvt.rzi.ftz.s32.f64",
            "cvt.rzi.ftz.s32.f16",
            "cvt.f32.f64",
            "cvt.rni.f32.f64",
            "cvt.rn.f64.f32",
            "cvt.rn.f32.f16",
            "cvt.rn.f32.f32",
            "cvt.ftz.f64.f64",
            "cvt.rn.sat.bf16.f32",
            "cvt.sat.f32.bf16",
            "cvt.rzi.sat.s32.bf16",
            "cvt.rzi.u8.bf16",
            "cvt.rn.bf16.s8",
            "cvt.rna.f32.f64",
            "cvt.rm.relu.f16.f32",
            "cvt.rn.relu.relu.f16.f32",
            "cvt.rn.ftz.relu.bf16.f32",
            "cvt.rm.f16x2.f32",
            "cvt.rn.sat.f16x2.f32",
            "cvt.rna.relu.tf32.f32",
            "cvt.rn.e4m3x2.f32",
            "cvt.rn.relu.e4m3x2.f32",
            "cvt.rz.satfinite.e5m2x2.f16x2",
            "cvt.rn.satfinite.f16x2.e5m2x2",
            "cvt.pack.u16.s32",
            "cvt.pack.sat.u8.s32",
            "cvt.pack.sat.s16.s32.b32",
        ];
        for spelling in refused {
            assert_eq!(Instruction::parse(spelling), None, "{spelling}");
        }
    }
}
