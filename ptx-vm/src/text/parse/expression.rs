//! Constant expressions, evaluated as they are read (manual 4.5).

use super::Parser;
use crate::error::LoadError;
use crate::text::constant::Constant;
use crate::text::lexer::{At, Kind, shorten};

/// Binary operators by how tightly they bind.
const LEVELS: [&[&str]; 10] = [
    &["||"],
    &["&&"],
    &["|"],
    &["^"],
    &["&"],
    &["==", "!="],
    &["<", "<=", ">", ">="],
    &["<<", ">>"],
    &["+", "-"],
    &["*", "/", "%"],
];

impl<'a> Parser<'a> {
    /// Does a constant begin here?
    pub(super) fn at_constant(&self) -> bool {
        match self.token.kind {
            Kind::Number(_) | Kind::Word("WARP_SZ") => true,
            Kind::Mark(mark) => matches!(mark, "-" | "+" | "~" | "!" | "("),
            _ => false,
        }
    }

    /// A constant expression.
    pub(super) fn constant(&mut self) -> Result<Constant, LoadError> {
        self.nest(|parser| {
            let at = parser.at();
            let condition = parser.binary(0)?;
            if !parser.accept("?")? {
                return Ok(condition);
            }
            let (yes, _) = (parser.constant()?, parser.expect(":")?);
            let no = parser.constant()?;
            Ok(if integer(condition, at)?.0 != 0 { yes } else { no })
        })
    }

    /// A constant expression that is an integer.
    pub(super) fn integer(&mut self) -> Result<i64, LoadError> {
        let at = self.at();
        let constant = self.constant()?;
        Ok(integer(constant, at)?.0 as i64)
    }

    /// A constant expression that is an integer and not negative.
    pub(super) fn size(&mut self) -> Result<u64, LoadError> {
        let at = self.at();
        let value = self.integer()?;
        u64::try_from(value).map_err(|_| at.syntax("a size", format!("`{value}`")))
    }

    fn binary(&mut self, level: usize) -> Result<Constant, LoadError> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let at = self.at();
        let mut left = self.binary(level + 1)?;
        while let Kind::Mark(operator) = self.token.kind
            && operators.contains(&operator)
        {
            self.bump()?;
            let right_at = self.at();
            let right = self.binary(level + 1)?;
            let (a, b) = (integer(left, at)?, integer(right, right_at)?);
            left = apply(operator, a, b).ok_or_else(|| right_at.syntax("a divisor that is not zero", "zero"))?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Constant, LoadError> {
        let Kind::Mark(operator @ ("-" | "+" | "!" | "~")) = self.token.kind else { return self.primary() };
        self.bump()?;
        let at = self.at();
        let operand = self.nest(Self::unary)?;
        match (operator, operand) {
            ("+", _) => Ok(operand),
            ("-", Constant::Single(value)) => Ok(Constant::Single(-value)),
            ("-", Constant::Double(value)) => Ok(Constant::Double(-value)),
            ("!", _) => Ok(Constant::truth(integer(operand, at)?.0 == 0)),
            _ => {
                let (value, unsigned) = integer(operand, at)?;
                let bits = if operator == "-" { value.wrapping_neg() } else { !value };
                Ok(Constant::Int { bits, unsigned })
            }
        }
    }

    fn primary(&mut self) -> Result<Constant, LoadError> {
        match self.token.kind {
            Kind::Number(text) => {
                let constant = Constant::parse(text).ok_or_else(|| self.expected("a constant"))?;
                self.bump()?;
                Ok(constant)
            }
            Kind::Word("WARP_SZ") => {
                self.bump()?;
                Ok(Constant::signed(32))
            }
            Kind::Mark("(") => {
                self.bump()?;
                let at = self.at();
                match self.any_directive()? {
                    None => {
                        let inner = self.constant()?;
                        self.expect(")")?;
                        Ok(inner)
                    }
                    Some(ty @ ("s64" | "u64")) => {
                        self.expect(")")?;
                        let at = self.at();
                        let operand = self.nest(Self::unary)?;
                        Ok(Constant::Int { bits: integer(operand, at)?.0, unsigned: ty == "u64" })
                    }
                    Some(other) => Err(at.syntax("`.s64` or `.u64`", format!("`.{}`", shorten(other)))),
                }
            }
            _ => Err(self.expected("a constant")),
        }
    }
}

/// Bits, and whether they are unsigned.
fn integer(constant: Constant, at: At) -> Result<(u64, bool), LoadError> {
    match constant {
        Constant::Int { bits, unsigned } => Ok((bits, unsigned)),
        _ => Err(at.syntax("an integer", "a floating-point number")),
    }
}

/// `None` for a division by zero.
fn apply(operator: &str, (a, a_unsigned): (u64, bool), (b, b_unsigned): (u64, bool)) -> Option<Constant> {
    let unsigned = a_unsigned || b_unsigned;
    let order = if unsigned { a.cmp(&b) } else { (a as i64).cmp(&(b as i64)) };
    let count = b.min(64) as u32;
    let truth = match operator {
        "||" => a != 0 || b != 0,
        "&&" => a != 0 && b != 0,
        "==" => order.is_eq(),
        "!=" => order.is_ne(),
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        ">=" => order.is_ge(),
        "<<" => return Some(Constant::Int { bits: a.checked_shl(count).unwrap_or(0), unsigned: a_unsigned }),
        ">>" if a_unsigned => {
            return Some(Constant::Int { bits: a.checked_shr(count).unwrap_or(0), unsigned: true });
        }
        ">>" => return Some(Constant::signed((a as i64) >> count.min(63))),
        _ => {
            let bits = match operator {
                "|" => a | b,
                "^" => a ^ b,
                "&" => a & b,
                "+" => a.wrapping_add(b),
                "-" => a.wrapping_sub(b),
                "*" => a.wrapping_mul(b),
                _ if b == 0 => return None,
                "/" if unsigned => a / b,
                "/" => (a as i64).wrapping_div(b as i64) as u64,
                _ if unsigned => a % b,
                _ => (a as i64).wrapping_rem(b as i64) as u64,
            };
            return Some(Constant::Int { bits, unsigned });
        }
    };
    Some(Constant::truth(truth))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_follow_c() {
        for (text, expected) in [
            ("1+2*3", 7),
            ("(1+2)*3", 9),
            ("-4", -4),
            ("- -4", 4),
            ("~0", -1),
            ("!5", 0),
            ("!0", 1),
            ("1<<4|1", 17),
            ("-1>>1", -1),
            ("0xFFFFFFFFFFFFFFFF>>60", 15),
            ("1<<64", 0),
            ("-1<1", 1),
            ("-1<1U", 0),
            ("7/-2", -3),
            ("7 % 4", 3),
            ("6^3&1", 7),
            ("1==1&&0!=1", 1),
            ("0||0", 0),
            ("1?2:3", 2),
            ("0?2:0?3:4", 4),
            ("(.s64)0xFFFFFFFFFFFFFFFF<0", 1),
            ("WARP_SZ-1", 31),
            ("10-4-3", 3),
            ("2>=3", 0),
        ] {
            let value = Parser::new(text).unwrap().integer();
            assert_eq!(value, Ok(expected), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_where_it_stands() {
        for (text, column) in
            [("1/0", 3), ("1+", 3), ("(1", 3), ("1.5+1", 1), ("1+0f3F800000", 3), ("(.u32)1", 2), ("~1.0", 2)]
        {
            let error = Parser::new(text).unwrap().integer().unwrap_err();
            assert_eq!(error.column, column, "{text}: {error}");
        }
        let deep = "(".repeat(1_000_000);
        assert!(Parser::new(&deep).unwrap().integer().unwrap_err().to_string().contains("nesting"));
        let deep = "-".repeat(1_000_000);
        assert!(Parser::new(&deep).unwrap().integer().unwrap_err().to_string().contains("nesting"));
    }
}
