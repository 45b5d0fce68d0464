//! Loads, stores, atomics.

use super::super::operations::TOTALS;
use super::super::tree::{Class, Offset, Place, Region, Stmt, offset_mask};
use super::{Printer, generic_base, guarded, name, operand, suffix};

impl Printer<'_> {
    pub(super) fn access(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Load { guard, element, strength, dst, place } => {
                self.open("");
                let (space, address) = self.address(*place, element.bytes * dst.len());
                let registers = dst.iter().map(|var| name(*var)).collect();
                let (vector, registers) = vector(registers);
                let opcode = format!("ld{strength}{space}{vector}{}", element.suffix);
                self.put(format!("{}{opcode} {registers}, [{address}];", guarded(guard)));
                self.close();
            }
            Stmt::Store { guard, element, strength, src, place } => {
                self.open("");
                let (space, address) = self.address(*place, element.bytes * src.len());
                let registers = src.iter().map(|x| operand(*x, Class::Long)).collect();
                let (vector, registers) = vector(registers);
                let opcode = format!("st{strength}{space}{vector}{}", element.suffix);
                self.put(format!("{}{opcode} [{address}], {registers};", guarded(guard)));
                self.close();
            }
            Stmt::Atomic { guard, atomic, dst, place, b, c } => {
                self.open("");
                let (space, address) = self.address(*place, atomic.class.bits() as usize / 8);
                let mut sources = vec![format!("[{address}]"), operand(*b, atomic.class)];
                let swaps = matches!(atomic.op, ".cas" | ".exch");
                if atomic.op == ".cas" {
                    sources.push(operand(*c, atomic.class));
                }
                let opcode = if dst.is_some() || swaps { "atom" } else { "red" };
                if let Some(dst) = dst {
                    sources.insert(0, name(*dst));
                } else if swaps {
                    self.put(format!(".reg {} unread;", suffix(atomic.class)));
                    sources.insert(0, "unread".to_owned());
                }
                let (op, ty) = (atomic.op, atomic.suffix);
                self.put(format!("{}{opcode}{space}{op}{ty} {};", guarded(guard), sources.join(", ")));
                self.close();
            }
            Stmt::Total { guard, shared, index, returns, value } => {
                let total = &TOTALS[*index];
                let (space, base) = if *shared { (".shared", "totals") } else { (".global", "%totals") };
                let target = format!("[{base}+{}], {}", 8 * index, operand(*value, total.class));
                let (g, op, ty) = (guarded(guard), total.op, total.suffix);
                if *returns {
                    let register = suffix(total.class);
                    self.put(format!("{{ .reg {register} unread; {g}atom{space}{op}{ty} unread, {target}; }}"));
                } else {
                    let scope = if *shared { ".cta" } else { ".gpu" };
                    self.put(format!("{g}red.relaxed{scope}{space}{op}{ty} {target};"));
                }
            }
            _ => unreachable!("not an access"),
        }
    }

    /// The space's suffix and the address, after the instructions that compute it.
    fn address(&mut self, place: Place, size: usize) -> (&'static str, String) {
        let (space, base) = match (place.region, place.generic) {
            (Region::Shared, false) => (".shared", "%shared"),
            (Region::Local, false) => (".local", "%local"),
            (Region::Global, false) => (".global", "%slot"),
            (region, _) => ("", generic_base(region)),
        };
        match place.offset {
            // The symbol itself, as NVRTC does where it knows the offset.
            Offset::Const(offset) if space == ".local" => (space, format!("frame+{offset}")),
            Offset::Const(0) => (space, base.to_owned()),
            Offset::Const(offset) => (space, format!("{base}+{offset}")),
            Offset::Masked(var) => {
                let mask = offset_mask(size);
                self.put(".reg .b32 o; .reg .b64 a;");
                self.put(format!("and.b32 o, {}, {mask};", name(var)));
                if base == "%shared" {
                    self.put("add.s32 o, o, %shared;");
                    return (space, "o".to_owned());
                }
                // 16 beyond and back: offsets may be negative.
                self.put("add.s32 o, o, 16; cvt.u64.u32 a, o;");
                self.put(format!("add.s64 a, {base}, a;"));
                (space, "a+-16".to_owned())
            }
        }
    }
}

/// `.v2` and `{a, b}`, or nothing and `a`.
fn vector(registers: Vec<String>) -> (String, String) {
    match registers.len() {
        1 => (String::new(), registers[0].clone()),
        n => (format!(".v{n}"), format!("{{{}}}", registers.join(", "))),
    }
}
