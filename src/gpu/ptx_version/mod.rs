//! Lowers the `.version` line of PTX: a driver refuses PTX newer than itself, and NVRTC writes its own version whatever
//! the kernel uses.
//!
//! Everything in the text that has a version of its own is collected as a *spelling* (an opcode with its modifiers, a
//! directive, a special register) and looked up in [`table`]. What the table does not know keeps the compiler's version.
//!
//! `build.rs` includes this file by path, so it stands on `std` alone.

mod table;

use std::collections::BTreeSet;
use std::fmt;

/// A version of the PTX ISA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u8,
    pub minor: u8,
}

impl Version {
    pub const fn new(major: u8, minor: u8) -> Self {
        Self { major, minor }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The version that the text states.
pub fn stated(ptx: &str) -> Option<Version> {
    let (major, minor) = ptx.lines().find_map(|line| line.strip_prefix(".version "))?.trim().split_once('.')?;
    Some(Version::new(major.parse().ok()?, minor.parse().ok()?))
}

/// The least version that has everything the text uses, and its target.
///
/// # Errors
/// Names what the table does not know.
pub fn least(ptx: &str) -> Result<Version, String> {
    let target = ptx.lines().find_map(|line| line.strip_prefix(".target ")).unwrap_or_default();
    let target = target.split([',', ' ']).next().unwrap_or_default();
    let known = |spelling: &str| table::since(spelling).ok_or_else(|| spelling.to_owned());
    let mut least = known(&format!(".target.{target}"))?;
    for spelling in spellings(ptx) {
        least = least.max(known(&spelling)?);
    }
    Ok(least)
}

/// The text with the least version, or as it is where that is not known, or not lower.
pub fn lowered(ptx: String) -> String {
    match (stated(&ptx), least(&ptx)) {
        (Some(stated), Ok(least)) if least < stated => {
            ptx.replacen(&format!(".version {stated}"), &format!(".version {least}"), 1)
        }
        _ => ptx,
    }
}

/// Everything in the text that has a version of its own.
fn spellings(ptx: &str) -> BTreeSet<String> {
    let text = without_comments(ptx);
    let mut found = Found::default();
    let mut rest = text.as_str();
    loop {
        rest = rest.trim_start();
        if let Some(inner) = rest.strip_prefix(['{', '}', ';']) {
            rest = inner;
        } else if let Some(after) = after_label(rest) {
            rest = after;
        } else if rest.is_empty() {
            return found.spellings;
        } else {
            let (statement, after) = rest.split_at(end_of_statement(rest));
            if statement.starts_with('.') {
                found.directive(statement)
            } else {
                found.instruction(statement)
            }
            rest = after;
        }
    }
}

fn without_comments(ptx: &str) -> String {
    let mut text = String::with_capacity(ptx.len());
    let (mut rest, mut quoted) = (ptx, false);
    while let Some(first) = rest.chars().next() {
        let end = match rest {
            _ if quoted => None,
            _ if rest.starts_with("//") => Some(rest.find('\n').unwrap_or(rest.len())),
            _ if rest.starts_with("/*") => Some(rest.find("*/").map_or(rest.len(), |at| at + 2)),
            _ => None,
        };
        if let Some(end) = end {
            text.push(' ');
            rest = &rest[end..];
        } else {
            quoted ^= first == '"';
            text.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    text
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '%')
}

/// What follows `name:`.
fn after_label(text: &str) -> Option<&str> {
    let end = text.find(|c| !is_name(c)).filter(|&end| end > 0)?;
    text[end..].trim_start().strip_prefix(':').filter(|after| !after.starts_with(':'))
}

/// Length of the statement that `text` begins with, without what ends it.
fn end_of_statement(text: &str) -> usize {
    let until = |end: &[char]| text.find(end).unwrap_or(text.len());
    match text.split(|c: char| c.is_whitespace()).next().unwrap_or_default() {
        ".version" | ".target" | ".address_size" | ".file" | ".loc" => until(&['\n']),
        ".section" => text.find('}').map_or(text.len(), |at| at + 1),
        word if word.starts_with('.') => {
            // A function's head ends where its body begins; the braces of an initialiser come after `=`.
            let end = until(&[';', '{']);
            if text[..end].contains('=') { until(&[';']) } else { end }
        }
        _ => until(&[';']),
    }
}

#[derive(Default)]
struct Found {
    spellings: BTreeSet<String>,
    /// Registers as declared: `%p` of `%p<246>` with `true`, or a whole name with `false`.
    registers: BTreeSet<(String, bool)>,
}

impl Found {
    fn add(&mut self, spelling: impl Into<String>) {
        self.spellings.insert(spelling.into());
    }

    fn directive(&mut self, statement: &str) {
        let first = statement.split_whitespace().next().unwrap_or_default();
        match first {
            ".version" | ".address_size" | ".file" | ".section" => return self.add(first),
            ".target" => {
                return statement.split(',').skip(1).for_each(|option| self.add(format!(".target.{}", option.trim())));
            }
            ".loc" if ["function_name", "inlined_at"].iter().any(|word| statement.contains(word)) => {
                return self.add(".loc.inlined_at");
            }
            ".loc" => return self.add(".loc"),
            ".pragma" => {
                let text = statement[first.len()..].trim().trim_matches('"');
                // Its mask is an operand.
                let known = text.strip_prefix("used_bytes_mask ").map_or(text, |_| "used_bytes_mask");
                return self.add(format!(".pragma.{known}"));
            }
            ".reg" => self.declare(statement),
            _ => {}
        }
        let (head, initialiser) = statement.split_once('=').unwrap_or((statement, ""));
        for word in words(head).filter(|word| word.starts_with('.')) {
            self.add(word);
        }
        for (at, _) in initialiser.match_indices('(') {
            let operator = initialiser[..at].trim_end().rsplit(|c| !is_name(c)).next().unwrap_or_default();
            if !operator.is_empty() {
                self.add(format!("={operator}"));
            }
        }
    }

    fn declare(&mut self, statement: &str) {
        for name in statement.split([',', ' ', '\t', '\n']).filter(|name| !name.starts_with('.')) {
            let (name, many) = name.split_once('<').map_or((name, false), |(prefix, _)| (prefix, true));
            self.registers.insert((name.to_owned(), many));
        }
    }

    fn is_register(&self, name: &str) -> bool {
        let prefix = name.trim_end_matches(|c: char| c.is_ascii_digit());
        self.registers.contains(&(name.to_owned(), false)) || self.registers.contains(&(prefix.to_owned(), true))
    }

    fn instruction(&mut self, statement: &str) {
        let unguarded = match statement.strip_prefix('@') {
            Some(guard) => guard.trim_start_matches('!').trim_start_matches(is_name).trim_start(),
            None => statement,
        };
        let end = unguarded.find(|c: char| !is_name(c) && !matches!(c, '.' | ':')).unwrap_or(unguarded.len());
        let (opcode, operands) = unguarded.split_at(end);
        self.add(opcode);
        for word in words(operands) {
            let name = word.split('.').next().unwrap_or_default();
            if word == "_" || word.starts_with('.') {
                self.add(word); // a sink, or an attribute of an address
            } else if name.starts_with('%') && !self.is_register(name) {
                self.add(name);
            }
        }
        // The fourth operand is the size of the source, or a predicate, which came later.
        if opcode.starts_with("cp.async.c")
            && operands.split(',').skip(3).any(|last| !last.trim_start().starts_with("%r"))
        {
            self.add(format!("{opcode}.ignore_src"));
        }
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !is_name(c) && c != '.').filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests;
