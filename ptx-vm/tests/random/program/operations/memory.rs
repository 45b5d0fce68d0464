//! Atomics and reductions.

use super::super::tree::Class::{Float, Long, Word};
use super::super::tree::{Atomic, Class, Reduction, Total};
use super::float::bits;

const fn atomic(op: &'static str, suffix: &'static str, class: Class, meaning: fn(u64, u64, u64) -> u64) -> Atomic {
    Atomic { op, suffix, class, meaning, flushes: false }
}

/// Atomics whose old value may be used, because only one thread does them.
pub const ATOMICS: [Atomic; 20] = [
    atomic(".add", ".u32", Word, |old, b, _| old.wrapping_add(b)),
    atomic(".add", ".s32", Word, |old, b, _| old.wrapping_add(b)),
    atomic(".add", ".u64", Long, |old, b, _| old.wrapping_add(b)),
    Atomic {
        op: ".add",
        suffix: ".f32",
        class: Float,
        meaning: |old, b, _| bits(f32::from_bits(old as u32) + f32::from_bits(b as u32)),
        flushes: true,
    },
    atomic(".min", ".u32", Word, |old, b, _| old.min(b)),
    atomic(".min", ".s32", Word, |old, b, _| (old as i32).min(b as i32) as u64),
    atomic(".max", ".u32", Word, |old, b, _| old.max(b)),
    atomic(".max", ".s32", Word, |old, b, _| (old as i32).max(b as i32) as u64),
    atomic(".min", ".s64", Long, |old, b, _| (old as i64).min(b as i64) as u64),
    atomic(".max", ".u64", Long, |old, b, _| old.max(b)),
    atomic(".and", ".b32", Word, |old, b, _| old & b),
    atomic(".or", ".b32", Word, |old, b, _| old | b),
    atomic(".xor", ".b32", Word, |old, b, _| old ^ b),
    atomic(".xor", ".b64", Long, |old, b, _| old ^ b),
    atomic(".exch", ".b32", Word, |_, b, _| b),
    atomic(".exch", ".b64", Long, |_, b, _| b),
    atomic(".cas", ".b32", Word, |old, b, c| if old == b { c } else { old }),
    atomic(".cas", ".b64", Long, |old, b, c| if old == b { c } else { old }),
    atomic(".inc", ".u32", Word, |old, b, _| if old >= b { 0 } else { old + 1 }),
    atomic(".dec", ".u32", Word, |old, b, _| if old == 0 || old > b { b } else { old - 1 }),
];

const fn total(
    op: &'static str,
    suffix: &'static str,
    class: Class,
    start: u64,
    meaning: fn(u64, u64) -> u64,
) -> Total {
    Total { op, suffix, class, start, meaning }
}

/// Totals: one word each, 8 bytes apart.
pub const TOTALS: [Total; 8] = [
    total(".add", ".u32", Word, 5, |a, b| a.wrapping_add(b)),
    total(".min", ".s32", Word, 0x7fff_fff0, |a, b| (a as i32).min(b as i32) as u64),
    total(".max", ".u32", Word, 3, |a, b| a.max(b)),
    total(".and", ".b32", Word, 0xffff_fffd, |a, b| a & b),
    total(".or", ".b32", Word, 0x100, |a, b| a | b),
    total(".xor", ".b32", Word, 0x1234_5678, |a, b| a ^ b),
    total(".add", ".u64", Long, 1 << 40, |a, b| a.wrapping_add(b)),
    total(".max", ".s64", Long, 1 << 63, |a, b| (a as i64).max(b as i64) as u64),
];

const fn reduction(op: &'static str, suffix: &'static str, meaning: fn(u32, u32) -> u32) -> Reduction {
    Reduction { op, suffix, meaning }
}

/// `redux.sync`, of 32 bits.
pub static REDUCTIONS: [Reduction; 8] = [
    reduction(".add", ".u32", |a, b| a.wrapping_add(b)),
    reduction(".add", ".s32", |a, b| a.wrapping_add(b)),
    reduction(".min", ".u32", |a, b| a.min(b)),
    reduction(".min", ".s32", |a, b| (a as i32).min(b as i32) as u32),
    reduction(".max", ".s32", |a, b| (a as i32).max(b as i32) as u32),
    reduction(".and", ".b32", |a, b| a & b),
    reduction(".or", ".b32", |a, b| a | b),
    reduction(".xor", ".b32", |a, b| a ^ b),
];
