//! Initial values of variables.

use super::Parser;
use crate::error::LoadError;
use crate::isa::Type;
use crate::text::constant::Constant;
use crate::text::lexer::{At, Kind};
use crate::text::limits;
use crate::text::tree::{Initial, Pointer};
use std::ops::Range;

/// Initial values on their way into a variable.
pub(super) struct Values<'a> {
    ty: Type,
    /// One past the last element given.
    end: u64,
    /// Bytes of an address that have been given one by one, as in packed structures; 0 between addresses.
    parts: u32,
    initial: Initial<'a>,
}

impl<'a> Values<'a> {
    pub fn new(ty: Type) -> Values<'a> {
        Values { ty, end: 0, parts: 0, initial: Initial::default() }
    }

    /// The values, and the number of elements up to the last one given.
    pub fn finish(self, at: At) -> Result<(Initial<'a>, u64), LoadError> {
        self.whole(at)?;
        Ok((self.initial, self.end))
    }

    /// No address is half given.
    fn whole(&self, at: At) -> Result<(), LoadError> {
        if self.parts == 0 { Ok(()) } else { Err(at.unsupported("incomplete addresses in initial values")) }
    }

    /// An address, or what the mask leaves of it: `0xFF(a), 0xFF00(a), …` in eight bytes is all of it.
    fn address(&mut self, mask: Constant, pointer: Pointer<'a>) -> Result<(), LoadError> {
        if mask.as_integer() == Some(-1) && self.ty.bytes() == 8 && !self.ty.is_float() {
            self.whole(pointer.at)?;
            self.initial.pointers.push(pointer);
            return Ok(());
        }
        let continues = match self.initial.pointers.last() {
            _ if self.parts == 0 => true,
            Some(p) => {
                (p.name, p.addend, p.offset + u64::from(self.parts)) == (pointer.name, pointer.addend, pointer.offset)
            }
            None => false,
        };
        let byte = mask.as_integer() == Some((0xff_u64 << (8 * self.parts)) as i64);
        if self.ty.bytes() != 1 || !continues || !byte {
            return Err(pointer.at.unsupported("incomplete addresses in initial values"));
        }
        if self.parts == 0 {
            self.initial.pointers.push(pointer);
        }
        self.parts = (self.parts + 1) % 8;
        Ok(())
    }
}

impl<'a> Parser<'a> {
    /// `{…}` of one dimension, for these elements; the braces inside it are of the next dimension.
    pub(super) fn row(
        &mut self,
        elements: Range<u64>,
        strides: &[u64],
        values: &mut Values<'a>,
    ) -> Result<(), LoadError> {
        self.expect("{")?;
        self.nest(|parser| {
            let mut next = elements.start;
            while !parser.is("}") {
                if parser.is("{") {
                    let stride = strides[0];
                    if strides.len() < 2 || !(next - elements.start).is_multiple_of(stride.max(1)) {
                        return Err(parser.expected("a value"));
                    }
                    let end = next.saturating_add(stride);
                    parser.row(next..end.min(elements.end), &strides[1..], values)?;
                    next = end;
                } else {
                    parser.value(next..elements.end, values)?;
                    next = next.saturating_add(1);
                }
                if !parser.accept(",")? {
                    break;
                }
            }
            Ok(())
        })?;
        self.expect("}")
    }

    /// The first of these elements.
    pub(super) fn value(&mut self, elements: Range<u64>, values: &mut Values<'a>) -> Result<(), LoadError> {
        let at = self.at();
        let index = elements.start;
        if elements.is_empty() {
            return Err(at.syntax("no more values than there are elements", self.token.describe()));
        }
        values.end = values.end.max(index + 1);
        let element = u64::from(values.ty.bytes());
        let offset = index.saturating_mul(element);
        let end = offset.saturating_add(element);
        let grown = end.saturating_sub(values.initial.bytes.len() as u64);
        self.initial_bytes = self.initial_bytes.saturating_add(grown);
        limits::check("bytes of initial values", self.initial_bytes, limits::INITIAL_BYTES, at)?;
        if grown > 0 {
            values.initial.bytes.resize(end as usize, 0);
        }
        let named = matches!(self.token.kind, Kind::Word(name) if name != "WARP_SZ");
        let constant = if named { Constant::signed(-1) } else { self.constant()? };
        if named || self.is("(") {
            let (name, addend) = if named { self.symbol()? } else { self.enclosed_symbol()? };
            return values.address(constant, Pointer { at, offset, name, addend });
        }
        values.whole(at)?;
        let bits = constant.initial_bits(values.ty).filter(|_| element <= 8);
        let bits = bits.ok_or_else(|| at.syntax(format!("a value of type .{}", values.ty.suffix()), "another"))?;
        values.initial.bytes[offset as usize..end as usize].copy_from_slice(&bits.to_le_bytes()[..element as usize]);
        Ok(())
    }

    /// `(generic(name))` behind the mask of `0xFF00(generic(name))`.
    fn enclosed_symbol(&mut self) -> Result<(&'a str, i64), LoadError> {
        self.expect("(")?;
        let symbol = self.symbol()?;
        self.expect(")")?;
        Ok(symbol)
    }

    /// `name`, `name+4`, `generic(name)`, `generic(name)+4`.
    fn symbol(&mut self) -> Result<(&'a str, i64), LoadError> {
        let (_, mut name) = self.name()?;
        let mut addend = 0i64;
        if name == "generic" && self.accept("(")? {
            name = self.name()?.1;
            addend = self.addend()?;
            self.expect(")")?;
        }
        Ok((name, addend.wrapping_add(self.addend()?)))
    }

    fn addend(&mut self) -> Result<i64, LoadError> {
        if self.is("+") || self.is("-") { self.integer() } else { Ok(0) }
    }
}
