//! Draws the curves of `--plot` as SVG or PNG.
//!
//! Both are drawn on one canvas of [`SCALE`] units per point, so that nothing is rounded to a visible grid: the SVG keeps it
//! as its view box, the PNG is averaged down from it, which smooths lines that the bitmap backend draws without smoothing.

use super::args::PlotFormat;
use super::curves::{Curves, SELECTIONS};
use super::inspect::kebab;
use super::{Failure, Result, text};
use idlora::Error;
use idlora::format::write_new_file;
use plotters::coord::Shift;
use plotters::element::{Circle, PathElement, Text};
use plotters::prelude::{BitMapBackend, DrawingArea, DrawingBackend, IntoDrawingArea, IntoFont, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, RGBColor, ShapeStyle, TextStyle, register_font};
use std::io::Write;
use std::path::Path;

const WIDTH: u32 = 960;
const HEIGHT: u32 = 600;
/// Canvas units per point.
const SCALE: u32 = 4;
/// PNG pixels per point.
const PNG_SCALE: u32 = 2;
/// Where the curves are, in points.
const LEFT: f64 = 72.0;
const RIGHT: f64 = 800.0;
const TOP: f64 = 122.0;
const BOTTOM: f64 = 536.0;

const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const MUTED: RGBColor = RGBColor(0x66, 0x66, 0x66);
const GRID: RGBColor = RGBColor(0xe4, 0xe4, 0xe4);
/// Okabe and Ito's colours, told apart with any colour vision, in the order of [`SELECTIONS`].
const COLORS: [RGBColor; 5] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0xcc, 0x79, 0xa7),
];

/// The finished picture.
pub fn draw(curves: &Curves, format: PlotFormat) -> Result<Vec<u8>> {
    let size = (WIDTH * SCALE, HEIGHT * SCALE);
    let broken = |error: &dyn std::fmt::Display| Failure::command(format!("--plot: {error}"));
    for (style, bytes) in [
        (FontStyle::Normal, include_bytes!("font/Roboto-Regular-latin.ttf").as_slice()),
        (FontStyle::Bold, include_bytes!("font/Roboto-Medium-latin.ttf").as_slice()),
    ] {
        register_font("sans-serif", style, bytes).map_err(|_| broken(&"the built-in font does not load"))?;
    }
    match format {
        PlotFormat::Svg => {
            let mut svg = String::new();
            let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
            Chart::new(&root, curves, 0.0).draw().and_then(|()| root.present()).map_err(|error| broken(&error))?;
            drop(root);
            let canvas = format!("width=\"{}\" height=\"{}\"", size.0, size.1);
            Ok(svg.replacen(&canvas, &format!("width=\"{WIDTH}\" height=\"{HEIGHT}\""), 1).into_bytes())
        }
        PlotFormat::Png => {
            let mut canvas = vec![0xff; 3 * (size.0 * size.1) as usize];
            let root = BitMapBackend::with_buffer(&mut canvas, size).into_drawing_area();
            Chart::new(&root, curves, 0.26).draw().and_then(|()| root.present()).map_err(|error| broken(&error))?;
            drop(root);
            encode_png(&average(&canvas)).map_err(|error| broken(&error))
        }
    }
}

/// Writes the picture to a new file, complete or not at all.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_new_file(path, |file| {
        file.write_all(bytes).map_err(|source| Error::Io { path: path.to_owned(), action: "writing", source })
    })?;
    Ok(())
}

/// Means of squares of pixels.
fn average(canvas: &[u8]) -> Vec<u8> {
    const SIDE: usize = (SCALE / PNG_SCALE) as usize;
    let stride = 3 * (WIDTH * SCALE) as usize;
    let (width, height) = ((WIDTH * PNG_SCALE) as usize, (HEIGHT * PNG_SCALE) as usize);
    let mut out = Vec::with_capacity(3 * width * height);
    for y in 0..height {
        for x in 0..width {
            for channel in 0..3 {
                let mut sum = 0;
                for dy in 0..SIDE {
                    let row = &canvas[(y * SIDE + dy) * stride..][..stride];
                    sum += (0..SIDE).map(|dx| usize::from(row[3 * (x * SIDE + dx) + channel])).sum::<usize>();
                }
                out.push((sum / (SIDE * SIDE)) as u8);
            }
        }
    }
    out
}

/// plotters encodes only into files that it names, so through a temporary one.
fn encode_png(pixels: &[u8]) -> std::io::Result<Vec<u8>> {
    let file = tempfile::Builder::new().prefix("idlora-").suffix(".png").tempfile()?;
    let size = (WIDTH * PNG_SCALE, HEIGHT * PNG_SCALE);
    let mut backend = BitMapBackend::new(file.path(), size);
    backend.blit_bitmap((0, 0), size, pixels).and_then(|()| backend.present()).map_err(std::io::Error::other)?;
    drop(backend);
    std::fs::read(file.path())
}

type Drawn<DB> = std::result::Result<(), plotters::drawing::DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>>;

struct Chart<'a, DB: DrawingBackend> {
    root: &'a DrawingArea<DB, Shift>,
    curves: &'a Curves,
    /// Errors at the bottom and at the top of the vertical axis, and between two of its ticks.
    low: f64,
    high: f64,
    step: f64,
    /// How far the backend draws text above the middle that it was given, as a part of the letter size.
    lift: f64,
}

/// A curve, its name, and how it is drawn.
struct Line<'a> {
    name: String,
    values: &'a [f64],
    color: RGBColor,
    dashed: bool,
}

impl<'a, DB: DrawingBackend> Chart<'a, DB> {
    fn new(root: &'a DrawingArea<DB, Shift>, curves: &'a Curves, lift: f64) -> Self {
        let all = curves.selections.iter().flatten().chain(&curves.svd);
        let (least, most) = all.fold((1.0f64, 0.0f64), |(least, most), &x| (least.min(x), most.max(x)));
        let step = [0.01, 0.02, 0.05, 0.1].into_iter().find(|step| most - least <= 7.0 * step).unwrap_or(0.2);
        // A hair of tolerance, so that an error of 1 − 1e-12 does not open another step.
        let low = ((least / step + 1e-6).floor() * step).max(0.0);
        let high = (most / step - 1e-6).ceil().max(low / step + 1.0) * step;
        Self { root, curves, low, high, step, lift }
    }

    fn draw(&self) -> Drawn<DB> {
        self.root.fill(&RGBColor(0xff, 0xff, 0xff))?;
        self.titles()?;
        self.axes()?;
        let mut lines: Vec<Line<'_>> = SELECTIONS
            .iter()
            .zip(&self.curves.selections)
            .zip(COLORS)
            .map(|((selection, values), color)| Line { name: kebab(selection), values, color, dashed: false })
            .collect();
        lines.reverse(); // the default, first in the list, is drawn last and so on top
        lines.push(Line { name: "SVD optimum".to_owned(), values: &self.curves.svd, color: INK, dashed: true });
        for line in &lines {
            self.curve(line)?;
        }
        self.labels(&mut lines)
    }

    fn titles(&self) -> Drawn<DB> {
        let Curves { clusters, matrices, source, .. } = self.curves;
        self.text("Relative error against rank", (28.0, 36.0), 21.0, FontStyle::Bold, INK, HPos::Left)?;
        let what = text::counted(*matrices, "matrix");
        let about = format!("{what} of {source}, rows chosen in {clusters} clusters each, by selection");
        self.text(&about, (28.0, 61.0), 14.0, FontStyle::Normal, MUTED, HPos::Left)?;
        let measure = "‖W − W·A⁺A‖ / ‖W‖, A = all chosen rows";
        self.text(measure, (28.0, TOP - 28.0), 13.0, FontStyle::Normal, MUTED, HPos::Left)?;
        let rank = format!("rank r of a component: {clusters}·r rows of every W (log scale)");
        self.text(&rank, ((LEFT + RIGHT) / 2.0, BOTTOM + 44.0), 13.0, FontStyle::Normal, MUTED, HPos::Center)
    }

    fn axes(&self) -> Drawn<DB> {
        let steps = ((self.high - self.low) / self.step).round() as usize;
        for tick in 0..=steps {
            let value = self.low + tick as f64 * self.step;
            let y = self.y(value);
            self.path(&[(LEFT, y), (RIGHT, y)], if tick == 0 { MUTED } else { GRID }, 1.0)?;
            let label = format!("{value:.2}");
            self.text(&label, (LEFT - 10.0, y), 13.0, FontStyle::Normal, MUTED, HPos::Right)?;
        }
        let mut clear = f64::NEG_INFINITY;
        for &rank in &self.curves.ranks {
            let x = self.x(rank);
            self.path(&[(x, BOTTOM), (x, BOTTOM + 5.0)], MUTED, 1.0)?;
            // The rank asked for is always labelled; its neighbours give way.
            let asked = self.curves.rank == Some(rank);
            let crowded = self.curves.rank.is_some_and(|asked| asked != rank && (self.x(asked) - x).abs() < 26.0);
            if asked || (!crowded && x - clear >= 26.0) {
                let (style, color) = if asked { (FontStyle::Bold, INK) } else { (FontStyle::Normal, MUTED) };
                self.text(&rank.to_string(), (x, BOTTOM + 18.0), 13.0, style, color, HPos::Center)?;
                clear = x;
            }
        }
        if let Some(rank) = self.curves.rank.filter(|rank| self.curves.ranks.contains(rank)) {
            let x = self.x(rank);
            self.dashes(&[(x, TOP), (x, BOTTOM)], RGBColor(0xb0, 0xb0, 0xb0), 1.0, (3.0, 4.0))?;
            self.text(&format!("r = {rank}"), (x, TOP - 10.0), 13.0, FontStyle::Bold, INK, HPos::Center)?;
        }
        Ok(())
    }

    fn curve(&self, line: &Line<'_>) -> Drawn<DB> {
        let points: Vec<(f64, f64)> =
            self.curves.ranks.iter().zip(line.values).map(|(&rank, &value)| (self.x(rank), self.y(value))).collect();
        if line.dashed {
            return self.dashes(&points, line.color, 2.0, (7.0, 5.0));
        }
        self.path(&points, line.color, 2.0)?;
        points.iter().try_for_each(|&point| self.dot(point, 3.5, line.color))
    }

    /// Names at the right ends, in the order of the ends, moved apart where they would touch.
    fn labels(&self, lines: &mut [Line<'_>]) -> Drawn<DB> {
        const APART: f64 = 19.0;
        let end = |line: &Line<'_>| line.values.last().copied().unwrap_or(0.0);
        lines.sort_by(|a, b| end(b).total_cmp(&end(a)));
        let mut places: Vec<f64> = lines.iter().map(|line| self.y(end(line))).collect();
        for i in 1..places.len() {
            places[i] = places[i].max(places[i - 1] + APART);
        }
        // What was pushed below the axis goes back up.
        let mut limit = BOTTOM;
        for place in places.iter_mut().rev() {
            *place = place.min(limit);
            limit = *place - APART;
        }
        for (line, place) in lines.iter().zip(places) {
            let from = self.y(end(line));
            self.path(&[(RIGHT + 8.0, from), (RIGHT + 22.0, place)], line.color, 1.0)?;
            if line.dashed {
                self.dashes(&[(RIGHT + 24.0, place), (RIGHT + 42.0, place)], line.color, 2.0, (5.0, 3.0))?;
            } else {
                self.path(&[(RIGHT + 24.0, place), (RIGHT + 42.0, place)], line.color, 2.0)?;
                self.dot((RIGHT + 33.0, place), 3.5, line.color)?;
            }
            self.text(&line.name, (RIGHT + 50.0, place), 14.0, FontStyle::Normal, INK, HPos::Left)?;
        }
        Ok(())
    }

    fn x(&self, rank: usize) -> f64 {
        let log = |rank: usize| (rank as f64).log2();
        let (first, last) = (log(self.curves.ranks[0]), log(self.curves.ranks[self.curves.ranks.len() - 1]));
        LEFT + 14.0 + (RIGHT - LEFT - 14.0) * (log(rank) - first) / (last - first)
    }

    fn y(&self, value: f64) -> f64 {
        BOTTOM - (BOTTOM - TOP) * (value - self.low) / (self.high - self.low)
    }

    fn path(&self, points: &[(f64, f64)], color: RGBColor, width: f64) -> Drawn<DB> {
        let points: Vec<(i32, i32)> = points.iter().copied().map(canvas).collect();
        self.root.draw(&PathElement::new(points, stroke(color, width)))
    }

    /// A path of dashes `on` long, `off` apart, whose pattern runs on around corners.
    fn dashes(&self, points: &[(f64, f64)], color: RGBColor, width: f64, (on, off): (f64, f64)) -> Drawn<DB> {
        let mut at = 0.0;
        for pair in points.windows(2) {
            let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
            let length = (x1 - x0).hypot(y1 - y0);
            let along = |s: f64| (x0 + (x1 - x0) * s / length, y0 + (y1 - y0) * s / length);
            let mut s = 0.0;
            while s < length {
                let phase = (at + s) % (on + off);
                let next = (s + if phase < on { on - phase } else { on + off - phase }.max(0.01)).min(length);
                if phase < on {
                    self.path(&[along(s), along(next)], color, width)?;
                }
                s = next;
            }
            at += length;
        }
        Ok(())
    }

    fn dot(&self, at: (f64, f64), radius: f64, color: RGBColor) -> Drawn<DB> {
        // A white rim keeps dots apart where curves meet.
        self.root.draw(&Circle::new(canvas(at), canvas_size(radius + 1.0), RGBColor(0xff, 0xff, 0xff).filled()))?;
        self.root.draw(&Circle::new(canvas(at), canvas_size(radius), color.filled()))
    }

    /// Text whose middle is at the height of `at`.
    fn text(&self, text: &str, at: (f64, f64), size: f64, style: FontStyle, color: RGBColor, side: HPos) -> Drawn<DB> {
        // plotters takes the height of a line, 1.24 of the letter size that is meant here.
        let font = ("sans-serif", size * 1.24 * f64::from(SCALE), style).into_font();
        let style = TextStyle::from(font).color(&color).pos(Pos::new(side, VPos::Center));
        self.root.draw(&Text::new(text.to_owned(), canvas((at.0, at.1 + self.lift * size)), style))
    }
}

fn canvas((x, y): (f64, f64)) -> (i32, i32) {
    ((x * f64::from(SCALE)).round() as i32, (y * f64::from(SCALE)).round() as i32)
}

fn canvas_size(length: f64) -> i32 {
    (length * f64::from(SCALE)).round() as i32
}

fn stroke(color: RGBColor, width: f64) -> ShapeStyle {
    ShapeStyle { color: color.to_rgba(), filled: false, stroke_width: (width * f64::from(SCALE)).round() as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Curves {
        let ranks = vec![1, 2, 4, 8, 16, 32, 64];
        let falling =
            |scale: f64| ranks.iter().map(|&r| (1.0 - (4.0 * r as f64 / 384.0).powf(0.6) * scale).max(0.0)).collect();
        Curves {
            selections: [0.80, 0.79, 0.76, 0.60, 0.61].map(falling).to_vec(),
            svd: falling(0.98),
            ranks: ranks.clone(),
            clusters: 4,
            matrices: 36,
            source: "model.safetensors".to_owned(),
            rank: Some(16),
        }
    }

    #[test]
    fn the_svg_names_every_curve_and_keeps_its_size() {
        let svg = String::from_utf8(draw(&example(), PlotFormat::Svg).unwrap()).unwrap();
        assert!(svg.starts_with("<svg width=\"960\" height=\"600\" viewBox=\"0 0 3840 2400\""), "{}", &svg[..90]);
        assert!(svg.trim_end().ends_with("</svg>"));
        for name in ["pivoted-qr", "sketch", "norm", "centroid", "random", "SVD optimum", "r = 16", "36 matrices"] {
            assert!(svg.contains(name), "{name}");
        }
    }

    #[test]
    fn the_png_has_its_size_and_every_colour() {
        let png = draw(&example(), PlotFormat::Png).unwrap();
        assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
        let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
        assert_eq!((number(16), number(20)), (WIDTH * PNG_SCALE, HEIGHT * PNG_SCALE));
        if let Some(path) = std::env::var_os("IDLORA_CHART_EXAMPLE") {
            std::fs::write(path, png).unwrap();
        }
    }

    #[test]
    fn labels_never_touch_even_where_all_curves_end_together() {
        let mut curves = example();
        curves.selections.iter_mut().for_each(|values| values.clone_from(&curves.svd));
        let svg = String::from_utf8(draw(&curves, PlotFormat::Svg).unwrap()).unwrap();
        let mut heights: Vec<i32> = svg
            .lines()
            .filter(|line| line.contains("<text") && line.contains(&format!("x=\"{}\"", canvas((RIGHT + 50.0, 0.0)).0)))
            .filter_map(|line| line.split("y=\"").nth(1)?.split('"').next()?.parse().ok())
            .collect();
        heights.sort_unstable();
        assert_eq!(heights.len(), 6);
        assert!(heights.windows(2).all(|pair| pair[1] - pair[0] >= 18 * SCALE as i32), "{heights:?}");
    }
}
