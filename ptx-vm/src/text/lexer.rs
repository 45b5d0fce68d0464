//! Characters to tokens.

use crate::error::{LoadError, LoadErrorKind};

/// A position in the text, both counted from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub line: u32,
    pub column: u32,
}

impl At {
    /// An error at this position.
    pub fn error(self, kind: LoadErrorKind) -> LoadError {
        LoadError { line: self.line, column: self.column, kind }
    }

    /// The text cannot be understood here.
    pub fn syntax(self, expected: impl Into<String>, found: impl Into<String>) -> LoadError {
        self.error(LoadErrorKind::Syntax { expected: expected.into(), found: found.into() })
    }

    /// Valid PTX that this machine does not run.
    pub fn unsupported(self, what: impl Into<String>) -> LoadError {
        self.error(LoadErrorKind::Unsupported(what.into()))
    }
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    /// A name or an opcode with everything that its dots and `::` join: `%r1`, `%tid.x`, `add.rn.f32`, `ld.shared::cta.u32`.
    Word(&'a str),
    /// A word behind a leading dot, without it: `reg` of `.reg`.
    Directive(&'a str),
    /// A literal, not understood yet.
    Number(&'a str),
    /// What stands between double quotes.
    Text(&'a str),
    /// Anything else, longest first.
    Mark(&'a str),
    /// Nothing is left.
    End,
}

/// A token and where it begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    pub kind: Kind<'a>,
    pub at: At,
}

impl Token<'_> {
    /// The token for an error message.
    pub fn describe(&self) -> String {
        match self.kind {
            Kind::Word(text) | Kind::Number(text) | Kind::Mark(text) => format!("`{}`", shorten(text)),
            Kind::Directive(text) => format!("`.{}`", shorten(text)),
            Kind::Text(text) => format!("\"{}\"", shorten(text)),
            Kind::End => "the end of the text".to_owned(),
        }
    }
}

/// A name for an error message: hostile ones are long.
pub(super) fn shorten(text: &str) -> String {
    const LONGEST: usize = 120;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Reads tokens from a text, one at a time. A copy looks ahead.
#[derive(Clone)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    position: usize,
    at: At,
}

const MARKS: [&str; 8] = ["<<", ">>", "&&", "||", "==", "!=", "<=", ">="];
const SINGLE: &[u8] = b"{}()[]<>,;:=+-*/%!~|&^?@";

const fn begins_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'$')
}

const fn continues_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$')
}

impl<'a> Lexer<'a> {
    pub fn new(text: &'a str) -> Lexer<'a> {
        Lexer { text, position: 0, at: At { line: 1, column: 1 } }
    }

    /// The next token.
    pub fn next(&mut self) -> Result<Token<'a>, LoadError> {
        self.skip_blanks()?;
        let at = self.at;
        let first = self.byte(0);
        let kind = match first {
            None => Kind::End,
            Some(b'"') => self.quoted()?,
            Some(b'.') if self.byte(1).is_some_and(continues_word) => {
                self.advance(1);
                Kind::Directive(self.take(self.word_part(0)))
            }
            Some(b'%') if self.byte(1).is_some_and(continues_word) => Kind::Word(self.take(self.word_length())),
            Some(byte) if begins_word(byte) => Kind::Word(self.take(self.word_length())),
            Some(byte) if byte.is_ascii_digit() => Kind::Number(self.take(self.number_length())),
            Some(byte) => self.mark(byte)?,
        };
        Ok(Token { kind, at })
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.position + ahead).copied()
    }

    fn rest(&self) -> &'a str {
        &self.text[self.position..]
    }

    fn advance(&mut self, bytes: usize) {
        for &byte in &self.text.as_bytes()[self.position..self.position + bytes] {
            match byte {
                b'\n' => self.at = At { line: self.at.line + 1, column: 1 },
                // Continuation bytes of a character beyond ASCII.
                0x80..=0xbf => {}
                _ => self.at.column += 1,
            }
        }
        self.position += bytes;
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let taken = &self.rest()[..bytes];
        self.advance(bytes);
        taken
    }

    fn skip_blanks(&mut self) -> Result<(), LoadError> {
        loop {
            let rest = self.rest();
            let blank = rest.bytes().take_while(|b| b.is_ascii_whitespace()).count();
            if blank > 0 {
                self.advance(blank);
            } else if rest.starts_with("//") {
                self.advance(rest.find('\n').unwrap_or(rest.len()));
            } else if let Some(comment) = rest.strip_prefix("/*") {
                let end = comment.find("*/").ok_or_else(|| self.at.syntax("`*/`", "the end of the text"))?;
                self.advance(end + 4);
            } else {
                return Ok(());
            }
        }
    }

    fn quoted(&mut self) -> Result<Kind<'a>, LoadError> {
        let inside = &self.rest()[1..];
        match inside.find(['"', '\n']) {
            Some(end) if inside.as_bytes()[end] == b'"' => {
                self.advance(end + 2);
                Ok(Kind::Text(&inside[..end]))
            }
            _ => Err(self.at.syntax("a closing `\"` on the same line", "none")),
        }
    }

    /// Length of the letters, digits, `_` and `$` from `start` on.
    fn word_part(&self, start: usize) -> usize {
        self.rest()[start..].bytes().take_while(|b| continues_word(*b)).count()
    }

    /// Length of a word: parts joined by `.` and `::`. The first may begin with `%`.
    fn word_length(&self) -> usize {
        let mut length = 1 + self.word_part(1);
        loop {
            let joint = match (self.byte(length), self.byte(length + 1)) {
                (Some(b'.'), _) => 1,
                (Some(b':'), Some(b':')) => 2,
                _ => return length,
            };
            match self.word_part(length + joint) {
                0 => return length,
                part => length += joint + part,
            }
        }
    }

    /// Length of a literal: everything that sticks together. What it means, `literal` finds out.
    fn number_length(&self) -> usize {
        let bytes = self.rest().as_bytes();
        let decimal = !matches!(bytes.get(1), Some(b'x' | b'X' | b'b' | b'B' | b'f' | b'F' | b'd' | b'D'));
        let mut length = 1;
        while let Some(&byte) = bytes.get(length) {
            let exponent_sign =
                decimal && matches!(byte, b'+' | b'-') && matches!(bytes[length - 1], b'e' | b'E') && length > 1;
            let point = decimal && byte == b'.';
            if !(continues_word(byte) || exponent_sign || point) {
                break;
            }
            length += 1;
        }
        length
    }

    fn mark(&mut self, byte: u8) -> Result<Kind<'a>, LoadError> {
        let rest = self.rest();
        if let Some(mark) = MARKS.iter().find(|mark| rest.starts_with(**mark)) {
            return Ok(Kind::Mark(self.take(mark.len())));
        }
        if SINGLE.contains(&byte) {
            return Ok(Kind::Mark(self.take(1)));
        }
        let character: String = rest.chars().take(1).collect();
        Err(self.at.syntax("PTX", format!("the character {character:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Kind<'_>> {
        let mut lexer = Lexer::new(text);
        let tokens = std::iter::from_fn(|| Some(lexer.next().unwrap().kind).filter(|kind| *kind != Kind::End));
        tokens.collect()
    }

    #[test]
    fn words_keep_their_modifiers_and_directives_do_not() {
        use Kind::{Directive, Mark, Word};
        assert_eq!(
            kinds("@!%p1 ld.shared::cta.v2.u32 %tid.x;"),
            [Mark("@"), Mark("!"), Word("%p1"), Word("ld.shared::cta.v2.u32"), Word("%tid.x"), Mark(";")]
        );
        assert_eq!(kinds(".reg.b32 a"), [Directive("reg"), Directive("b32"), Word("a")]);
        assert_eq!(kinds("$L__BB0_1:"), [Word("$L__BB0_1"), Mark(":")]);
        assert_eq!(kinds("cp.L2::128B"), [Word("cp.L2::128B")]);
    }

    #[test]
    fn numbers_end_where_they_should() {
        use Kind::{Mark, Number, Word};
        assert_eq!(kinds("1.5e-3-4"), [Number("1.5e-3"), Mark("-"), Number("4")]);
        assert_eq!(kinds("0x1e-3"), [Number("0x1e"), Mark("-"), Number("3")]);
        assert_eq!(kinds("0f3F80000e+1"), [Number("0f3F80000e"), Mark("+"), Number("1")]);
        assert_eq!(kinds("%r<39>"), [Word("%r"), Mark("<"), Number("39"), Mark(">")]);
        assert_eq!(kinds("[a+-4]"), [Mark("["), Word("a"), Mark("+"), Mark("-"), Number("4"), Mark("]")]);
    }

    #[test]
    fn comments_are_blank_and_positions_count_characters() {
        let mut lexer = Lexer::new("/* ü\n */ // x ; y\n\"é\" z");
        assert_eq!(lexer.next().unwrap().at, At { line: 3, column: 1 });
        assert_eq!(lexer.next().unwrap().at, At { line: 3, column: 5 });
    }

    #[test]
    fn what_is_no_token_has_a_position() {
        for (text, line, column) in [(" \n  #", 2, 3), ("a /* b", 1, 3), ("\"a\n\"", 1, 1), ("é", 1, 1), ("a\0", 1, 2)]
        {
            let mut lexer = Lexer::new(text);
            let error = loop {
                match lexer.next() {
                    Ok(token) => assert_ne!(token.kind, Kind::End, "{text:?}"),
                    Err(error) => break error,
                }
            };
            assert_eq!((error.line, error.column), (line, column), "{text:?}");
        }
    }
}
