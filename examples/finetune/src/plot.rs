//! The plot: test accuracy by method, every seed a dot, the mean with its standard deviation, what it trains beside it.

use crate::error::{Error, Result};
use crate::method::Method;
use crate::report::{Row, thousands};
use plotters::coord::Shift;
use plotters::element::{Circle, PathElement, Text};
use plotters::prelude::{DrawingArea, IntoDrawingArea, IntoFont, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, RGBColor, ShapeStyle, TextStyle, register_font};

const WIDTH: u32 = 960;
/// Canvas units per point, so that nothing is rounded to a visible grid.
const SCALE: u32 = 4;
const LEFT: f64 = 240.0;
const RIGHT: f64 = 730.0;
const TOP: f64 = 112.0;
const ROW: f64 = 34.0;

const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const MUTED: RGBColor = RGBColor(0x66, 0x66, 0x66);
const GRID: RGBColor = RGBColor(0xe4, 0xe4, 0xe4);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The picture as SVG.
///
/// # Errors
/// [`Error::Plot`].
pub fn draw(rows: &[Row]) -> Result<String> {
    let fonts = [
        (FontStyle::Normal, include_bytes!("../../../src/cli/font/Roboto-Regular-latin.ttf").as_slice()),
        (FontStyle::Bold, include_bytes!("../../../src/cli/font/Roboto-Medium-latin.ttf").as_slice()),
    ];
    for (style, bytes) in fonts {
        register_font("sans-serif", style, bytes).map_err(|_| Error::Plot("the font does not load".to_owned()))?;
    }
    let height = (TOP + ROW * rows.len() as f64 + 70.0) as u32;
    let size = (WIDTH * SCALE, height * SCALE);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        Picture { area: &area, rows, axis: Axis::of(rows) }.draw()?;
        area.present().map_err(broken)?;
    }
    let canvas = format!("width=\"{}\" height=\"{}\"", size.0, size.1);
    Ok(svg.replacen(&canvas, &format!("width=\"{WIDTH}\" height=\"{height}\""), 1))
}

fn broken(error: impl std::fmt::Display) -> Error {
    Error::Plot(error.to_string())
}

/// Accuracies from left to right, in points.
struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    fn of(rows: &[Row]) -> Self {
        let ends = rows.iter().flat_map(|row| {
            let spread = if row.accuracies.len() > 1 { row.deviation() } else { 0.0 };
            row.accuracies.iter().copied().chain([row.mean() - spread, row.mean() + spread])
        });
        let (least, most) = ends.map(|x| 100.0 * x).fold((100.0, 0.0), |(a, b): (f64, f64), x| (a.min(x), b.max(x)));
        let step = [0.5, 1.0, 2.0, 5.0].into_iter().find(|step| most - least <= 9.0 * step).unwrap_or(10.0);
        let low = (least / step).floor() * step;
        Self { low, high: (most / step).ceil().max(low / step + 1.0) * step, step }
    }

    fn x(&self, accuracy: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * (100.0 * accuracy - self.low) / (self.high - self.low)
    }
}

struct Picture<'a, 'b> {
    area: &'a Area<'b>,
    rows: &'a [Row],
    axis: Axis,
}

impl Picture<'_, '_> {
    fn draw(&self) -> Result<()> {
        self.area.fill(&RGBColor(0xff, 0xff, 0xff)).map_err(broken)?;
        self.text(
            "Test accuracy on BBC News, by what is trained",
            (28.0, 34.0),
            21.0,
            FontStyle::Bold,
            INK,
            HPos::Left,
        )?;
        let about =
            "all-MiniLM-L6-v2, query and value adapted, one epoch; a dot is a seed, the bar mean ± standard deviation";
        self.text(about, (28.0, 60.0), 14.0, FontStyle::Normal, MUTED, HPos::Left)?;
        for (title, x) in [("adapter parameters", 850.0), ("s/step of LoRA's", 945.0)] {
            self.text(title, (x, TOP - 18.0), 12.0, FontStyle::Normal, MUTED, HPos::Right)?;
        }
        self.grid()?;
        self.rows.iter().enumerate().try_for_each(|(number, row)| self.row(number, row))
    }

    fn grid(&self) -> Result<()> {
        let bottom = TOP + ROW * self.rows.len() as f64;
        let steps = ((self.axis.high - self.axis.low) / self.axis.step).round() as usize;
        for tick in 0..=steps {
            let value = self.axis.low + tick as f64 * self.axis.step;
            let x = self.axis.x(value / 100.0);
            self.line((x, TOP - 6.0), (x, bottom), GRID, 1.0)?;
            let digits = usize::from(self.axis.step < 1.0);
            self.text(&format!("{value:.digits$}"), (x, bottom + 16.0), 13.0, FontStyle::Normal, MUTED, HPos::Center)?;
        }
        let middle = (0.5 * (LEFT + RIGHT), bottom + 42.0);
        self.text("accuracy on the test documents, %", middle, 13.0, FontStyle::Normal, MUTED, HPos::Center)
    }

    fn row(&self, number: usize, row: &Row) -> Result<()> {
        let y = TOP + ROW * (number as f64 + 0.5);
        let color = match row.method {
            Method::Head => MUTED,
            Method::Lora => RGBColor(0xd5, 0x5e, 0x00),
            method if method == Method::idlora() => RGBColor(0x00, 0x72, 0xb2),
            Method::Idlora { .. } => RGBColor(0x4c, 0x9f, 0xcf),
        };
        let style = if row.method == Method::idlora() { FontStyle::Bold } else { FontStyle::Normal };
        self.text(&row.method.to_string(), (LEFT - 16.0, y), 13.0, style, INK, HPos::Right)?;
        self.text(&thousands(row.adapter_parameters), (850.0, y), 13.0, style, INK, HPos::Right)?;
        let time = row.step.map_or("–".to_owned(), |step| format!("{:.2}", step.over_lora[0]));
        self.text(&time, (945.0, y), 13.0, style, INK, HPos::Right)?;
        let at = self.axis.x(row.mean());
        if row.accuracies.len() > 1 {
            let (from, to) = (row.mean() - row.deviation(), row.mean() + row.deviation());
            let (from, to) = (self.axis.x(from), self.axis.x(to));
            self.line((from, y), (to, y), color, 2.0)?;
            for end in [from, to] {
                self.line((end, y - 5.0), (end, y + 5.0), color, 2.0)?;
            }
        }
        for &accuracy in &row.accuracies {
            let dot =
                Circle::new(canvas((self.axis.x(accuracy), y + 9.0)), canvas((3.0, 0.0)).0, color.mix(0.55).filled());
            self.area.draw(&dot).map_err(broken)?;
        }
        self.area.draw(&Circle::new(canvas((at, y)), canvas((5.0, 0.0)).0, color.filled())).map_err(broken)
    }

    fn line(&self, from: (f64, f64), to: (f64, f64), color: RGBColor, width: f64) -> Result<()> {
        let style = ShapeStyle { color: color.to_rgba(), filled: false, stroke_width: canvas((width, 0.0)).0 as u32 };
        self.area.draw(&PathElement::new(vec![canvas(from), canvas(to)], style)).map_err(broken)
    }

    fn text(&self, text: &str, at: (f64, f64), size: f64, style: FontStyle, color: RGBColor, side: HPos) -> Result<()> {
        let font = ("sans-serif", size * f64::from(SCALE)).into_font().style(style);
        let style = TextStyle::from(font).color(&color).pos(Pos::new(side, VPos::Center));
        self.area.draw(&Text::new(text.to_owned(), canvas(at), style)).map_err(broken)
    }
}

fn canvas((x, y): (f64, f64)) -> (i32, i32) {
    let scale = f64::from(SCALE);
    ((x * scale).round() as i32, (y * scale).round() as i32)
}
