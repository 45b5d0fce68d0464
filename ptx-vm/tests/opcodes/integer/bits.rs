//! Bits (manual 9.7.1, 9.7.8): the manual's pseudo-code and tables, one bit or byte at a time.

use super::super::values::{counts, integers};
use super::super::{Tally, refused};
use super::{Suffix, TYPES, suffix};
use ptx_vm::isa::{Alu, Instruction};

const BITS: [Suffix; 3] = [suffix("b16", 16, false), suffix("b32", 32, false), suffix("b64", 64, false)];

/// This part of the chapter.
pub fn bits(t: &mut Tally) {
    counting(t);
    fields(t);
    masks(t);
    logic(t);
    lop3(t);
    shifts(t);
    funnels(t);
    prmt(t);
}

/// The bits of a register, lowest first.
pub fn bits_of(value: u64, bits: u32) -> Vec<bool> {
    (0..bits).map(|i| value >> i & 1 == 1).collect()
}

pub fn number(bits: impl IntoIterator<Item = bool>) -> u64 {
    bits.into_iter().enumerate().map(|(i, bit)| u64::from(bit) << i).sum()
}

fn counting(t: &mut Tally) {
    for n in [32, 64] {
        let d = integers(n);
        t.check(&format!("popc.b{n}"), &[&d], |[a, ..]| bits_of(a, n).into_iter().filter(|bit| *bit).count() as u64);
        t.check(&format!("clz.b{n}"), &[&d], |[a, ..]| {
            bits_of(a, n).into_iter().rev().take_while(|bit| !bit).count() as u64
        });
        t.check(&format!("brev.b{n}"), &[&d], |[a, ..]| number(bits_of(a, n).into_iter().rev()));
        for (sign, signed) in [("u", false), ("s", true)] {
            let find = move |a| {
                let bits = bits_of(a, n);
                let filler = signed && bits[n as usize - 1];
                bits.iter().rposition(|bit| *bit != filler)
            };
            t.check(&format!("bfind.{sign}{n}"), &[&d], |[a, ..]| find(a).map_or(0xffff_ffff, |i| i as u64));
            t.check(&format!("bfind.shiftamt.{sign}{n}"), &[&d], |[a, ..]| {
                find(a).map_or(0xffff_ffff, |i| u64::from(n) - 1 - i as u64)
            });
        }
    }
    refused(&["popc.u32", "popc.b16", "clz.u32", "brev.u32", "bfind.b32", "bfind.u16"]);
}

fn fields(t: &mut Tally) {
    let c = counts();
    for n in [32u32, 64] {
        let d = integers(n);
        for (sign, signed) in [("u", false), ("s", true)] {
            t.check(&format!("bfe.{sign}{n}"), &[&d, &c, &c], |[a, b, c, _]| {
                let (a, position, length) = (bits_of(a, n), (b & 0xff) as usize, (c & 0xff) as usize);
                let last = n as usize - 1;
                let filler = signed && length > 0 && a[(position + length - 1).min(last)];
                number((0..=last).map(|i| if i < length && position + i <= last { a[position + i] } else { filler }))
            });
        }
        t.check(&format!("bfi.b{n}"), &[&d, &d, &c, &c], |[a, b, c, d]| {
            let (a, mut f, position, length) = (bits_of(a, n), bits_of(b, n), (c & 0xff) as usize, (d & 0xff) as usize);
            for i in (0..length).filter(|i| position + i < n as usize) {
                f[position + i] = a[i];
            }
            number(f)
        });
    }
    refused(&["bfe.b32", "bfe.u16", "bfi.u32", "bfi.b16"]);
}

fn masks(t: &mut Tally) {
    let (d, c) = (integers(32), counts());
    for (sign, signed) in [("u", false), ("s", true)] {
        for (mode, clamp) in [("wrap", false), ("clamp", true)] {
            t.check(&format!("szext.{mode}.{sign}32"), &[&d, &c], |[a, b, ..]| {
                let kept = if clamp { b.min(32) } else { b % 32 } as usize;
                let a = bits_of(a, 32);
                let filler = signed && kept > 0 && a[kept - 1];
                number((0..32).map(|i| if i < kept { a[i] } else { filler }))
            });
        }
    }
    t.check("bmsk.wrap.b32", &[&c, &c], |[a, b, ..]| number((0..32).map(|i| i >= a % 32 && i < a % 32 + b % 32)));
    t.check("bmsk.clamp.b32", &[&c, &c], |[a, b, ..]| number((0..32).map(|i| i >= a && i < a + b)));
    refused(&["szext.u32", "szext.wrap.u64", "bmsk.b32", "bmsk.wrap.u32"]);
}

fn logic(t: &mut Tally) {
    for ty in BITS {
        let d = ty.domain();
        let bitwise = |f: fn(bool, bool) -> bool| {
            move |[a, b, ..]: [u64; 4]| {
                number(bits_of(a, ty.bits).into_iter().zip(bits_of(b, ty.bits)).map(|(a, b)| f(a, b)))
            }
        };
        let name = |op: &str| format!("{op}.{}", ty.name);
        t.check(&name("and"), &[&d, &d], bitwise(|a, b| a && b));
        t.check(&name("or"), &[&d, &d], bitwise(|a, b| a || b));
        t.check(&name("xor"), &[&d, &d], bitwise(|a, b| a != b));
        t.check(&name("not"), &[&d], bitwise(|a, _| !a));
        t.check(&name("cnot"), &[&d], |[a, ..]| if a == 0 { 1 } else { 0 });
    }
    refused(&["and.u32", "or.s64", "xor.f32", "not.u16", "cnot.s32", "and.b8"]);
}

fn lop3(t: &mut Tally) {
    assert!(Instruction::parse("lop3.b32").is_some());
    let mut d = integers(32);
    d.edges = vec![0, 0xffff_ffff, 0xf0f0_f0f0, 0xcccc_cccc, 0xaaaa_aaaa, 0x0123_4567];
    for table in 0..=255u8 {
        t.check_alu("lop3.b32", Alu::Lop3(table), &[&d, &d, &d], |[a, b, c, _]| {
            let row = |i: u32| (a >> i & 1) << 2 | (b >> i & 1) << 1 | (c >> i & 1);
            number((0..32).map(|i| table >> row(i) & 1 == 1))
        });
    }
    refused(&["lop3.b64", "lop3"]);
}

fn shifts(t: &mut Tally) {
    let c = counts();
    for ty in BITS.into_iter().chain(TYPES) {
        let d = ty.domain();
        let filler = move |a: u64| ty.signed && a >> (ty.bits - 1) & 1 == 1;
        t.check(&format!("shr.{}", ty.name), &[&d, &c], |[a, b, ..]| {
            let bits = bits_of(a, ty.bits);
            number((0..u64::from(ty.bits)).map(|i| bits.get((i + b) as usize).copied().unwrap_or(filler(a))))
        });
        if ty.name.starts_with('b') {
            t.check(&format!("shl.{}", ty.name), &[&d, &c], |[a, b, ..]| {
                let bits = bits_of(a, ty.bits);
                number((0..u64::from(ty.bits)).map(|i| i >= b && bits[(i - b) as usize]))
            });
        }
    }
    refused(&["shl.u32", "shl.s64", "shr.f32", "shr.b8"]);
}

fn funnels(t: &mut Tally) {
    let (d, c) = (integers(32), counts());
    for (mode, clamp) in [("wrap", false), ("clamp", true)] {
        let count = move |c: u64| if clamp { c.min(32) } else { c % 32 } as usize;
        let both = |a, b| [bits_of(a, 32), bits_of(b, 32)].concat();
        t.check(&format!("shf.r.{mode}.b32"), &[&d, &d, &c], |[a, b, c, _]| {
            number(both(a, b).into_iter().skip(count(c)).take(32))
        });
        t.check(&format!("shf.l.{mode}.b32"), &[&d, &d, &c], |[a, b, c, _]| {
            number(both(a, b).into_iter().skip(32 - count(c)).take(32))
        });
    }
    refused(&["shf.l.b32", "shf.r.wrap.u32", "shf.wrap.b32"]);
}

/// The manual's tables: for each mode and value of `c & 3`, which byte goes to bytes 3, 2, 1, 0 of the result.
const PRMT: [(&str, [[usize; 4]; 4]); 6] = [
    ("f4e", [[3, 2, 1, 0], [4, 3, 2, 1], [5, 4, 3, 2], [6, 5, 4, 3]]),
    ("b4e", [[5, 6, 7, 0], [6, 7, 0, 1], [7, 0, 1, 2], [0, 1, 2, 3]]),
    ("rc8", [[0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 2, 2], [3, 3, 3, 3]]),
    ("ecl", [[3, 2, 1, 0], [3, 2, 1, 1], [3, 2, 2, 2], [3, 3, 3, 3]]),
    ("ecr", [[0, 0, 0, 0], [1, 1, 1, 0], [2, 2, 1, 0], [3, 2, 1, 0]]),
    ("rc16", [[1, 0, 1, 0], [3, 2, 3, 2], [1, 0, 1, 0], [3, 2, 3, 2]]),
];

fn prmt(t: &mut Tally) {
    let d = integers(32);
    let pool = |a: u64, b: u64| [(a as u32).to_le_bytes(), (b as u32).to_le_bytes()].concat();
    t.check("prmt.b32", &[&d, &d, &d], |[a, b, c, _]| {
        let pool = pool(a, b);
        let byte = |i: u32| match c >> (4 * i) & 0xf {
            selector @ 0..8 => pool[selector as usize],
            selector if pool[selector as usize - 8] >= 0x80 => 0xff,
            _ => 0,
        };
        u64::from(u32::from_le_bytes([0, 1, 2, 3].map(byte)))
    });
    for (mode, table) in PRMT {
        t.check(&format!("prmt.b32.{mode}"), &[&d, &d, &d], |[a, b, c, _]| {
            let pool = pool(a, b);
            u64::from(u32::from_be_bytes(table[(c & 3) as usize].map(|i| pool[i])))
        });
    }
    refused(&["prmt.b64", "prmt.f4e.b32"]);
}
