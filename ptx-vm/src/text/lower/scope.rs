//! Names and what they mean where they stand: inner blocks shadow outer ones and end with their names.

use crate::error::{LoadError, LoadErrorKind};
use crate::isa::{Space, Type};
use crate::program::Slot;
use crate::text::lexer::{At, shorten};
use std::collections::HashMap;

/// What a name of a function means.
#[derive(Clone, Copy)]
pub(super) enum Entity<'a> {
    /// A register, with its slot once it is used.
    Register(Type, Option<Slot>),
    /// An index into the labels of the function.
    Label(usize),
    /// `.branchtargets`
    Targets(&'a [(At, &'a str)]),
    /// A variable in memory.
    Memory(Symbol),
}

/// A variable in memory.
#[derive(Clone, Copy)]
pub(super) struct Symbol {
    /// As the text declares it.
    pub space: Space,
    pub home: Home,
}

/// Where a variable is.
#[derive(Clone, Copy)]
pub(super) enum Home {
    /// In a space of this machine, at an offset. Parameters of functions are in local memory.
    Fixed(Space, u32),
    /// Dynamic shared memory.
    Dynamic,
    /// A `.global` or `.const` variable: known when a kernel is launched.
    Variable(u32),
    /// A `.param` variable of a call: known when the call is seen.
    CallSite(usize),
}

#[derive(Default)]
struct Scope<'a> {
    names: HashMap<&'a str, Entity<'a>>,
    /// `%r<5>`: type and count by what stands before the number.
    ranges: HashMap<&'a str, (Type, u32)>,
    /// Declared names that end with a number: the least number by what stands before it.
    numbered: HashMap<&'a str, u32>,
}

/// The blocks around a statement, outermost first.
#[derive(Default)]
pub(super) struct Scopes<'a>(Vec<Scope<'a>>);

impl<'a> Scopes<'a> {
    pub fn open(&mut self) {
        self.0.push(Scope::default());
    }

    pub fn close(&mut self) {
        self.0.pop();
    }

    fn innermost(&mut self) -> &mut Scope<'a> {
        if self.0.is_empty() {
            self.open();
        }
        let last = self.0.len() - 1;
        &mut self.0[last]
    }

    /// Declares a name in the innermost block.
    pub fn declare(&mut self, at: At, name: &'a str, entity: Entity<'a>) -> Result<(), LoadError> {
        let scope = self.innermost();
        let in_range =
            splits(name).any(|(stem, number)| scope.ranges.get(stem).is_some_and(|(_, count)| number < *count));
        if in_range || scope.names.contains_key(name) {
            return Err(redeclared(at, name));
        }
        scope.names.insert(name, entity);
        for (stem, number) in splits(name) {
            let least = scope.numbered.entry(stem).or_insert(number);
            *least = number.min(*least);
        }
        Ok(())
    }

    /// Declares registers `stem0` … below `count` in the innermost block.
    pub fn declare_range(&mut self, at: At, stem: &'a str, ty: Type, count: u32) -> Result<(), LoadError> {
        let scope = self.innermost();
        let taken = scope.numbered.get(stem).is_some_and(|least| *least < count);
        if taken || scope.ranges.contains_key(stem) {
            return Err(redeclared(at, stem));
        }
        scope.ranges.insert(stem, (ty, count));
        Ok(())
    }

    /// What a name means here.
    pub fn find(&mut self, name: &'a str) -> Option<&mut Entity<'a>> {
        let depth = self.0.iter_mut().rposition(|scope| scope.resolve(name))?;
        self.0[depth].names.get_mut(name)
    }
}

impl<'a> Scope<'a> {
    /// Does the name mean something here? Names of a range are entered when they are first used.
    fn resolve(&mut self, name: &'a str) -> bool {
        if self.names.contains_key(name) {
            return true;
        }
        if self.ranges.is_empty() {
            return false;
        }
        let mut types = splits(name).filter_map(|(stem, number)| {
            let (ty, count) = self.ranges.get(stem)?;
            (number < *count).then_some(*ty)
        });
        match types.next() {
            Some(ty) => {
                self.names.insert(name, Entity::Register(ty, None));
                true
            }
            None => false,
        }
    }
}

fn redeclared(at: At, name: &str) -> LoadError {
    at.error(LoadErrorKind::Redeclared(shorten(name)))
}

/// Every way to read a name as a stem and a number written without needless zeros: `%r1` and 5, `%r` and 15.
fn splits(name: &str) -> impl Iterator<Item = (&str, u32)> {
    let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count().min(10);
    (1..=digits).filter_map(move |length| {
        let (stem, number) = name.split_at(name.len() - length);
        let plain = length == 1 || !number.starts_with('0');
        if plain && !stem.is_empty() { Some((stem, number.parse().ok()?)) } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: At = At { line: 1, column: 1 };

    #[test]
    fn a_number_can_be_split_in_several_ways() {
        assert_eq!(splits("%r15").collect::<Vec<_>>(), [("%r1", 5), ("%r", 15)]);
        assert_eq!(splits("%r05").collect::<Vec<_>>(), [("%r0", 5)]);
        assert_eq!(splits("%r").count(), 0);
        assert_eq!(splits("x99999999999").last(), Some(("x99", 999_999_999)));
    }

    #[test]
    fn ranges_and_single_names_collide_in_one_scope_only() {
        let register = Entity::Register(Type::B32, None);
        let mut scopes = Scopes::default();
        scopes.declare_range(HERE, "%r", Type::B32, 5).unwrap();
        assert!(scopes.declare(HERE, "%r4", register).is_err());
        assert!(scopes.declare(HERE, "%r5", register).is_ok());
        assert!(scopes.declare_range(HERE, "%r", Type::B64, 2).is_err());
        scopes.open();
        scopes.declare(HERE, "%r4", Entity::Register(Type::B64, None)).unwrap();
        assert!(scopes.declare_range(HERE, "%r", Type::F32, 5).is_err(), "%r4 is taken");
        scopes.declare_range(HERE, "%r", Type::F32, 4).unwrap();
        assert!(matches!(scopes.find("%r3"), Some(Entity::Register(Type::F32, _))));
        assert!(matches!(scopes.find("%r4"), Some(Entity::Register(Type::B64, _))));
        scopes.close();
        assert!(matches!(scopes.find("%r4"), Some(Entity::Register(Type::B32, _))));
        assert!(matches!(scopes.find("%r3"), Some(Entity::Register(Type::B32, _))));
        assert!(scopes.find("%r6").is_none());
        assert!(scopes.find("%r").is_none());
    }
}
