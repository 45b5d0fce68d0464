//! What the drawings are made of: logarithmic axes, and marks that differ in form as well as in colour.

use std::fmt::Write;

/// Colours of the style sheet, `--k0` and so on.
pub const COLORS: usize = 8;
/// Forms of a mark.
const FORMS: usize = 7;

/// A logarithmic axis: from 10^low at `from` to 10^high at `to`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axis {
    pub low: f64,
    pub high: f64,
    pub from: f64,
    pub to: f64,
}

impl Axis {
    /// An axis with room for all values, which are positive: half decades, with some space at both ends.
    pub fn new(values: impl IntoIterator<Item = f64>, from: f64, to: f64) -> Self {
        let ends = values.into_iter().map(f64::log10).fold(None, |ends: Option<(f64, f64)>, value| {
            Some(ends.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
        });
        let (low, high) = ends.unwrap_or((0.0, 0.0));
        Self { low: (2.0 * (low - 0.15)).floor() / 2.0, high: (2.0 * (high + 0.15)).ceil() / 2.0, from, to }
    }

    /// Where a value lies.
    pub fn at(&self, value: f64) -> f64 {
        self.at_power(value.log10())
    }

    /// Where a power of ten lies.
    pub fn at_power(&self, exponent: f64) -> f64 {
        self.from + (exponent - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// Exponents of the powers of ten with a label, at most eight.
    pub fn decades(&self) -> impl Iterator<Item = i32> {
        let (low, high) = (self.low.ceil() as i32, self.high.floor() as i32);
        let step = ((high - low) / 8 + 1).max(1);
        (low..=high).filter(move |exponent| exponent.rem_euclid(step) == 0)
    }

    /// Twice to nine times the powers of ten, where there are few enough to tell apart.
    pub fn between(&self) -> impl Iterator<Item = f64> {
        let (low, high) = (self.low, self.high);
        let decades = low.floor() as i32..if high - low <= 6.0 { high.ceil() as i32 } else { i32::MIN };
        decades
            .flat_map(|exponent| (2..10).map(move |digit| f64::from(digit) * 10f64.powi(exponent)))
            .filter(move |value| (low..=high).contains(&value.log10()))
    }
}

/// A coordinate, without digits that nobody sees.
pub fn px(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// The label of a power of ten: `100 G`.
pub fn power(exponent: i32) -> String {
    const PREFIXES: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    if (0..21).contains(&exponent) {
        let (prefix, digits) = (PREFIXES[(exponent / 3) as usize], exponent % 3);
        format!("{} {prefix}", 10i32.pow(digits as u32)).trim_end().to_owned()
    } else if (-3..0).contains(&exponent) {
        format!("{:.*}", -exponent as usize, 10f64.powi(exponent))
    } else {
        format!("1e{exponent}")
    }
}

/// The path of the mark of the operation with this index, around (x, y).
pub fn mark(index: usize, x: f64, y: f64, size: f64) -> String {
    let at = |dx: f64, dy: f64| format!("{} {}", px(x + dx * size), px(y + dy * size));
    let polygon = |corners: &[(f64, f64)]| {
        let mut path = String::new();
        for (i, &(dx, dy)) in corners.iter().enumerate() {
            let _ = write!(path, "{}{}", if i == 0 { "M" } else { "L" }, at(dx, dy));
        }
        path + "Z"
    };
    match (index + index / COLORS) % FORMS {
        0 => {
            let r = px(size);
            format!("M{}A{r} {r} 0 1 1 {}A{r} {r} 0 1 1 {}Z", at(-1.0, 0.0), at(1.0, 0.0), at(-1.0, 0.0))
        }
        1 => polygon(&[(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)]),
        2 => polygon(&[(0.0, -1.15), (1.1, 0.8), (-1.1, 0.8)]),
        3 => polygon(&[(0.0, -1.25), (1.25, 0.0), (0.0, 1.25), (-1.25, 0.0)]),
        4 => polygon(&[(0.0, 1.15), (1.1, -0.8), (-1.1, -0.8)]),
        5 => {
            let (a, b) = (0.38, 1.15);
            polygon(&[
                (-a, -b),
                (a, -b),
                (a, -a),
                (b, -a),
                (b, a),
                (a, a),
                (a, b),
                (-a, b),
                (-a, a),
                (-b, a),
                (-b, -a),
                (-a, -a),
            ])
        }
        _ => polygon(&[(-1.2, 0.0), (-0.6, -1.05), (0.6, -1.05), (1.2, 0.0), (0.6, 1.05), (-0.6, 1.05)]),
    }
}

/// The class of the colour with this index.
pub fn color(index: usize) -> String {
    format!("k{}", index % COLORS)
}

/// A mark by itself, to stand before a name.
pub fn key(index: usize, class: &str) -> String {
    format!(
        r#"<svg class="key {} {class}" viewBox="0 0 14 14" aria-hidden="true"><path d="{}"/></svg>"#,
        color(index),
        mark(index, 7.0, 7.0, 4.6)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lie_where_their_logarithms_say() {
        let axis = Axis::new([2.0, 500.0], 100.0, 400.0);
        assert_eq!((axis.low, axis.high), (0.0, 3.0));
        assert_eq!((axis.at(1.0), axis.at(10.0), axis.at(1000.0)), (100.0, 200.0, 400.0));
        assert_eq!(axis.decades().collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(axis.between().count(), 24);
    }

    #[test]
    fn axes_of_nothing_and_of_extremes_are_axes() {
        for values in [vec![], vec![1.0], vec![f64::MIN_POSITIVE, f64::MAX], vec![5e-324], vec![1e300, 1e300]] {
            let axis = Axis::new(values.clone(), 0.0, 100.0);
            assert!(axis.high - axis.low >= 0.5, "{axis:?}");
            assert!(axis.decades().count() <= 9, "{axis:?}");
            for value in values {
                assert!((0.0..=100.0).contains(&axis.at(value)), "{axis:?} {value}");
            }
        }
    }

    #[test]
    fn neighbours_differ_in_form_and_colour() {
        let form = |index| (mark(index, 0.0, 0.0, 1.0), color(index));
        for i in 0..COLORS * FORMS {
            for j in 0..i {
                assert_ne!(form(i), form(j), "{i} {j}");
            }
        }
    }

    #[test]
    fn powers_read_well() {
        let labels: Vec<String> = [-5, -2, 0, 2, 3, 11, 12, 24].map(power).to_vec();
        assert_eq!(labels, ["1e-5", "0.01", "1", "100", "1 k", "100 G", "1 T", "1e24"]);
        assert_eq!(px(-0.001), "0");
        assert_eq!(px(12.5), "12.5");
        assert_eq!(px(100.0), "100");
    }
}
