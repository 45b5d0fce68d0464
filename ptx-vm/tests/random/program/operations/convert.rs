//! Conversions.

use super::super::tree::Class::{Float, Long, Short, Word};
use super::float::{bits, flush};
use super::{Class, Pure, pure};

const SHORT: &[Class] = &[Short];
const WORD: &[Class] = &[Word];
const LONG: &[Class] = &[Long];
const FLOAT: &[Class] = &[Float];

const fn f(x: u64) -> f32 {
    f32::from_bits(x as u32)
}

pub(super) static OPERATIONS: &[Pure] = &[
    pure("cvt.u16.u32", Short, WORD, |[a, ..]| a),
    pure("cvt.s16.s64", Short, LONG, |[a, ..]| a),
    pure("cvt.s8.s32", Short, WORD, |[a, ..]| a as i8 as u64),
    pure("cvt.u8.u16", Short, SHORT, |[a, ..]| a & 0xff),
    pure("cvt.sat.u16.s32", Short, WORD, |[a, ..]| (a as i32).clamp(0, 0xffff) as u64),
    pure("cvt.sat.s16.s32", Short, WORD, |[a, ..]| (a as i32).clamp(-0x8000, 0x7fff) as u64),
    pure("cvt.u32.u16", Word, SHORT, |[a, ..]| a),
    pure("cvt.s32.s16", Word, SHORT, |[a, ..]| a as i16 as u64),
    pure("cvt.s32.s8", Word, SHORT, |[a, ..]| a as i8 as u64),
    pure("cvt.s32.s8", Word, WORD, |[a, ..]| a as i8 as u64),
    pure("cvt.u32.u8", Word, WORD, |[a, ..]| a & 0xff),
    pure("cvt.s8.s32", Word, WORD, |[a, ..]| a as i8 as u64),
    pure("cvt.u8.u32", Word, WORD, |[a, ..]| a & 0xff),
    pure("cvt.s16.s32", Word, WORD, |[a, ..]| a as i16 as u64),
    pure("cvt.u32.u64", Word, LONG, |[a, ..]| a),
    pure("cvt.s32.s64", Word, LONG, |[a, ..]| a),
    pure("cvt.sat.u32.s32", Word, WORD, |[a, ..]| (a as i32).max(0) as u64),
    pure("cvt.sat.s32.u64", Word, LONG, |[a, ..]| a.min(0x7fff_ffff)),
    pure("cvt.u64.u32", Long, WORD, |[a, ..]| a),
    pure("cvt.s64.s32", Long, WORD, |[a, ..]| a as i32 as u64),
    pure("cvt.s64.s32", Long, LONG, |[a, ..]| a as i32 as u64),
    pure("cvt.u64.u16", Long, SHORT, |[a, ..]| a),
    pure("cvt.s64.s16", Long, LONG, |[a, ..]| a as i16 as u64),
    pure("cvt.s64.s8", Long, SHORT, |[a, ..]| a as i8 as u64),
    pure("cvt.rn.f32.s32", Float, WORD, |[a, ..]| bits(a as i32 as f32)),
    pure("cvt.rn.f32.u32", Float, WORD, |[a, ..]| bits(a as u32 as f32)),
    pure("cvt.rn.f32.s64", Float, LONG, |[a, ..]| bits(a as i64 as f32)),
    pure("cvt.rn.f32.u64", Float, LONG, |[a, ..]| bits(a as f32)),
    pure("cvt.rn.f32.s16", Float, SHORT, |[a, ..]| bits(f32::from(a as i16))),
    pure("cvt.rn.f32.u8", Float, WORD, |[a, ..]| bits(f32::from(a as u8))),
    pure("cvt.rzi.s32.f32", Word, FLOAT, |[a, ..]| f(a) as i32 as u64),
    pure("cvt.rzi.u32.f32", Word, FLOAT, |[a, ..]| (f(a) as u32).into()),
    pure("cvt.rni.s32.f32", Word, FLOAT, |[a, ..]| f(a).round_ties_even() as i32 as u64),
    pure("cvt.rmi.ftz.s32.f32", Word, FLOAT, |[a, ..]| flush(f(a)).floor() as i32 as u64),
    pure("cvt.rpi.s32.f32", Word, FLOAT, |[a, ..]| f(a).ceil() as i32 as u64),
    // Out of 64 bits, NaN is the sign bit alone.
    pure("cvt.rzi.s64.f32", Long, FLOAT, |[a, ..]| if f(a).is_nan() { 1 << 63 } else { f(a) as i64 as u64 }),
    pure("cvt.rzi.u64.f32", Long, FLOAT, |[a, ..]| if f(a).is_nan() { 1 << 63 } else { f(a) as u64 }),
];
