//! Text that is safe in HTML and SVG, and numbers as a page shows them.

use std::fmt::{Display, Formatter, Result, Write};

/// The longest name that is shown whole, in characters.
const LONG: usize = 120;

/// A string of a file, escaped for the text and the quoted attributes of HTML. Characters that are not allowed there, or that
/// would turn the direction of what follows, become the sign for an unknown character. Cut at [`LONG`] characters.
pub struct Text<'a>(pub &'a str);

/// As [`Text`], cut only at 2,000 characters: for reasons of failures.
pub struct LongText<'a>(pub &'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        escape(f, self.0, LONG)
    }
}

impl Display for LongText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        escape(f, self.0, 2000)
    }
}

fn escape(f: &mut Formatter<'_>, text: &str, most: usize) -> Result {
    for (i, character) in text.chars().enumerate() {
        if i == most {
            return f.write_char('…');
        }
        match character {
            '&' => f.write_str("&amp;")?,
            '<' => f.write_str("&lt;")?,
            '>' => f.write_str("&gt;")?,
            '"' => f.write_str("&quot;")?,
            '\'' => f.write_str("&#39;")?,
            '\n' | '\r' | '\t' => f.write_char(' ')?,
            _ if forbidden(character) => f.write_char('\u{fffd}')?,
            _ => f.write_char(character)?,
        }
    }
    Ok(())
}

/// Controls, non-characters, and marks of writing direction.
fn forbidden(character: char) -> bool {
    let code = character as u32;
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(character, '\u{fdd0}'..='\u{fdef}')
        || code & 0xfffe == 0xfffe
}

/// Three significant digits, or a dash for what is no number.
pub fn digits(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        "–".to_owned()
    } else if size >= 1e7 || (size < 1e-3 && size > 0.0) {
        format!("{value:.2e}")
    } else if size >= 999.5 {
        super::super::text::grouped(size.round() as usize)
    } else if size >= 99.95 {
        format!("{value:.0}")
    } else if size >= 9.995 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// A value with its unit, scaled by a power of a thousand: `3.00 TB/s`.
pub fn scaled(value: f64, unit: &str) -> String {
    const PREFIXES: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    if !value.is_finite() {
        return "–".to_owned();
    }
    let mut rest = value;
    for prefix in PREFIXES {
        if rest.abs() < 999.5 {
            // Whole units have no fractions.
            let number = if prefix.is_empty() && rest.fract() == 0.0 { format!("{rest:.0}") } else { digits(rest) };
            return format!("{number} {prefix}{unit}").trim_end().to_owned();
        }
        rest /= 1000.0;
    }
    format!("{value:.1e} {unit}").trim_end().to_owned()
}

/// Seconds in the unit that leaves one to three digits before the point.
pub fn seconds(value: Option<f64>) -> String {
    let Some(value) = value else { return "–".to_owned() };
    for (unit, size) in [("ns", 1e-9), ("µs", 1e-6), ("ms", 1e-3)] {
        if value < 999.5 * size {
            return format!("{} {unit}", digits(value / size));
        }
    }
    format!("{} s", digits(value))
}

/// How many times: `1.04×`.
pub fn times(value: Option<f64>) -> String {
    value.map_or("–".to_owned(), |value| digits(value) + "×")
}

/// A part of a whole in percent.
pub fn percent(value: Option<f64>) -> String {
    match value {
        Some(value) if value.is_finite() && value < 0.000_995 => format!("{:.2} %", 100.0 * value),
        Some(value) if value.is_finite() && value < 0.0995 => format!("{:.1} %", 100.0 * value),
        Some(value) if value.is_finite() => format!("{:.0} %", 100.0 * value),
        _ => "–".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_its_text() {
        assert_eq!(
            Text(r#"</script>"><img src=x onerror='a'>&"#).to_string().matches(['<', '>', '"', '\'']).count(),
            0
        );
        assert_eq!(Text("a & b < c").to_string(), "a &amp; b &lt; c");
        assert_eq!(Text("x\0y\u{202e}z\u{ffff}\u{85}").to_string(), "x\u{fffd}y\u{fffd}z\u{fffd}\u{fffd}");
        assert_eq!(Text("a\nb").to_string(), "a b");
        let long = Text(&"é".repeat(10_000)).to_string();
        assert_eq!((long.chars().count(), long.ends_with('…')), (LONG + 1, true));
        assert_eq!(Text(&"é".repeat(LONG)).to_string(), "é".repeat(LONG));
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(scaled(3.0e12, "B/s"), "3.00 TB/s");
        assert_eq!(scaled(999.6, "B"), "1.00 kB");
        assert_eq!(scaled(12.0, "B"), "12 B");
        assert_eq!(scaled(0.0, "B"), "0 B");
        assert_eq!(scaled(f64::NAN, "B"), "–");
        assert_eq!(scaled(1e25, "B"), "1.0e25 B");
        assert_eq!(seconds(Some(1.234e-5)), "12.3 µs");
        assert_eq!(seconds(Some(9.999e-4)), "1.00 ms");
        assert_eq!(seconds(Some(75.0)), "75.0 s");
        assert_eq!(seconds(None), "–");
        assert_eq!(times(Some(1.036)), "1.04×");
        assert_eq!(times(Some(12_345.0)), "12,345×");
        assert_eq!(percent(Some(0.5)), "50 %");
        assert_eq!(percent(Some(0.011)), "1.1 %");
        assert_eq!(percent(Some(0.0004)), "0.04 %");
        assert_eq!(percent(Some(f64::INFINITY)), "–");
        assert_eq!(digits(9.996), "10.0");
        assert_eq!(digits(1e-12), "1.00e-12");
    }
}
