//! A roofline for every device with times: operations a second against operations per byte, both logarithmic, below the
//! ceilings of memory, second cache and arithmetic.

use super::html::{Text, percent, scaled, seconds, times};
use super::page::{marks, pill};
use super::record::Device;
use super::svg::{Axis, color, key, mark, power, px};
use super::sweep::{Entry, Kind, Sweep, positive};
use std::fmt::Write;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 546.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 346.0;
/// Room that a label needs between two slopes.
const LABEL: f64 = 24.0;

/// A case that has a place in the plot.
struct Point<'a> {
    entry: &'a Entry,
    index: usize,
    intensity: f64,
    rate: f64,
}

/// All rooflines.
pub fn section(sweep: &Sweep) -> String {
    let mut panels = String::new();
    for device in 0..sweep.devices.len() {
        if sweep.on(device).any(|(_, entry)| entry.seconds().is_some()) {
            panels += &panel(sweep, device);
        }
    }
    if panels.is_empty() {
        panels = "<p class=\"none\">No case has a time, so there is nothing to draw.</p>".to_owned();
    }
    format!(
        "<section id=\"rooflines\"><h2>Rooflines</h2>\
         <p class=\"lead\">How fast a case runs against how much arithmetic it has for each byte that it cannot do \
         without. The line is the roof: memory on the slope, arithmetic on the flat. A point on the line is as fast \
         as the device \
         allows; a point one grid line below takes ten times as long.</p>\
         <div class=\"panels\">{panels}</div></section>"
    )
}

fn panel(sweep: &Sweep, index: usize) -> String {
    let device = &sweep.devices[index];
    let points: Vec<Point> = sweep
        .on(index)
        .filter_map(|(index, entry)| Some(Point { entry, index, intensity: entry.intensity()?, rate: entry.rate()? }))
        .collect();
    let kind = sweep.kind(index);
    let class = if kind == Kind::Model { "panel card model" } else { "panel card" };
    let mut out = format!("<figure class=\"{class}\" data-d=\"{index}\"><figcaption><h3>");
    let _ = write!(out, "{} {}</h3><p>{}</p></figcaption>", Text(&device.name), pill(kind), Text(&device.description));
    out += &plot(sweep, index, &points);
    let left = sweep.on(index).filter(|(_, entry)| entry.seconds().is_some()).count() - points.len();
    if left > 0 {
        let _ = write!(
            out,
            "<p class=\"note\">{left} with a time but without arithmetic or bytes: only in the other sections.</p>"
        );
    }
    out += &missing(device);
    out += &legend(sweep, device, &points, kind);
    out + "</figure>"
}

/// A warning where a ceiling is not known: what it would bound looks further from the roof than it is.
pub fn missing(device: &Device) -> String {
    let unknown = match (device.memory.and_then(positive), device.peak.and_then(positive)) {
        (Some(_), None) => {
            "The peak of this device is not known: cases with much arithmetic look further from the roof"
        }
        (None, Some(_)) => {
            "The bandwidth of this device is not known: cases with little arithmetic look further from the roof"
        }
        (None, None) => return "<p class=\"note\">No ceiling of this device is known.</p>".to_owned(),
        (Some(_), Some(_)) => return String::new(),
    };
    format!("<p class=\"note caution\">{unknown} than they are.</p>")
}

/// Both axes, with room for all points and the bend of the roof.
pub fn axes(device: &Device, points: impl Iterator<Item = (f64, f64)> + Clone) -> (Axis, Axis) {
    let (memory, peak) = (device.memory.and_then(positive), device.peak.and_then(positive));
    let bend = peak.zip(memory).and_then(|(peak, memory)| positive(peak / memory));
    let x = Axis::new(points.clone().map(|(x, _)| x).chain(bend), LEFT, RIGHT);
    // The roof over the leftmost point is seen too.
    let first =
        points.clone().map(|(x, _)| x).reduce(f64::min).zip(memory).and_then(|(x, memory)| positive(x * memory));
    let roof = first.map(|first| peak.map_or(first, |peak| first.min(peak)));
    let slope = if peak.is_none() { points.clone().map(|(x, _)| x).reduce(f64::max).zip(memory) } else { None };
    let top = slope.and_then(|(x, memory)| positive(x * memory));
    let y = Axis::new(points.map(|(_, y)| y).chain(peak).chain(roof).chain(top), BOTTOM, TOP);
    (x, y)
}

fn plot(sweep: &Sweep, index: usize, points: &[Point]) -> String {
    let device = &sweep.devices[index];
    let (x, y) = axes(device, points.iter().map(|point| (point.intensity, point.rate)));
    let model = sweep.kind(index) == Kind::Model;
    let source = if model { "a model, not a measurement" } else { "measured" };
    let mut out = format!(
        "<svg class=\"roofline\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"group\" aria-labelledby=\"rt{index} \
         rd{index}\">\
         <title id=\"rt{index}\">Roofline of {}, {source}</title><desc id=\"rd{index}\">{} points{}. {}</desc>",
        Text(&device.name),
        points.len(),
        if model { " by a model" } else { "" },
        ceilings_in_words(device),
    );
    let (width, height) = (RIGHT - LEFT, BOTTOM - TOP);
    let rect = format!("x=\"{LEFT}\" y=\"{TOP}\" width=\"{width}\" height=\"{height}\"");
    let _ = write!(out, "<defs><clipPath id=\"rc{index}\"><rect {rect}/></clipPath>");
    if model {
        let _ = write!(
            out,
            "<pattern id=\"rh{index}\" width=\"9\" height=\"9\" patternUnits=\"userSpaceOnUse\" \
             patternTransform=\"rotate(45)\"><path class=\"hatch\" d=\"M0 0V9\"/></pattern>"
        );
    }
    out += "</defs>";
    let fill = if model { format!("url(#rh{index})") } else { "none".to_owned() };
    let _ = write!(out, "<rect class=\"back\" {rect} style=\"fill:{fill}\"/>");
    out += &grid(&x, &y);
    let places: Vec<(f64, f64)> = points.iter().map(|point| (x.at(point.intensity), y.at(point.rate))).collect();
    out += &ceilings(device, index, (&x, &y), &places);
    let _ = write!(out, "<g class=\"points\">");
    for point in points {
        out += &dot(sweep, point, &x, &y);
    }
    if model {
        let _ = write!(
            out,
            "<text class=\"stamp\" x=\"{}\" y=\"{}\">model, not measured</text>",
            px(RIGHT - 8.0),
            px(BOTTOM - 10.0)
        );
    }
    out + "</g></svg>"
}

fn grid(x: &Axis, y: &Axis) -> String {
    let mut out = String::from("<g class=\"grid\" aria-hidden=\"true\">");
    for at in x.between().map(|value| px(x.at(value))) {
        let _ = write!(out, "<path class=\"fine\" d=\"M{at} {BOTTOM}V{}\"/>", px(BOTTOM + 3.0));
    }
    for at in y.between().map(|value| px(y.at(value))) {
        let _ = write!(out, "<path class=\"fine\" d=\"M{LEFT} {at}H{}\"/>", px(LEFT - 3.0));
    }
    for exponent in x.decades() {
        let at = px(x.at_power(f64::from(exponent)));
        let _ = write!(out, "<path d=\"M{at} {TOP}V{BOTTOM}\"/>");
        let _ = write!(out, "<text class=\"x\" x=\"{at}\" y=\"{}\">{}</text>", px(BOTTOM + 19.0), power(exponent));
    }
    for exponent in y.decades() {
        let at = y.at_power(f64::from(exponent));
        let _ = write!(out, "<path d=\"M{LEFT} {0}H{RIGHT}\"/>", px(at));
        let _ =
            write!(out, "<text class=\"y\" x=\"{}\" y=\"{}\">{}</text>", px(LEFT - 8.0), px(at + 4.0), power(exponent));
    }
    let middle = px((LEFT + RIGHT) / 2.0);
    let _ = write!(out, "<path class=\"axis\" d=\"M{LEFT} {TOP}V{BOTTOM}H{RIGHT}\"/>");
    let _ = write!(out, "<text class=\"name x\" x=\"{middle}\" y=\"{}\">operations per byte</text>", px(HEIGHT - 9.0));
    let _ = write!(out, "<text class=\"name\" x=\"2\" y=\"14\">operations a second</text>");
    out + "</g>"
}

fn ceilings_in_words(device: &Device) -> String {
    let mut words = Vec::new();
    for (what, rate, unit) in
        [("Memory", device.memory, "B/s"), ("Second cache", device.cache, "B/s"), ("Peak", device.peak, "op/s")]
    {
        match rate.and_then(positive) {
            Some(rate) => words.push(format!("{what} {}.", scaled(rate, unit))),
            None => words.push(format!("{what} not known.")),
        }
    }
    words.join(" ")
}

/// The roof, and the ceiling of the cache above it.
fn ceilings(device: &Device, index: usize, (x, y): (&Axis, &Axis), points: &[(f64, f64)]) -> String {
    let (memory, cache) = (device.memory.and_then(positive), device.cache.and_then(positive));
    let peak = device.peak.and_then(positive);
    let mut out = format!("<g class=\"ceilings\" clip-path=\"url(#rc{index})\" aria-hidden=\"true\">");
    let mut words = String::new();
    // Labels lie above their lines; where memory's would touch the cache's line, that line's label names both.
    let slant = (x.to - x.from) / (x.high - x.low);
    let rise = (y.from - y.to) / (y.high - y.low);
    let apart = |cache: f64, memory: f64| (cache.log10() - memory.log10()) * rise * slant / slant.hypot(rise);
    let both = cache.zip(memory).filter(|&(cache, memory)| (0.0..LABEL).contains(&apart(cache, memory)));
    for (class, rate) in [("cache", cache), ("memory", memory)] {
        let Some(rate) = rate else { continue };
        let name = match both {
            Some(_) if class == "memory" => None,
            Some((_, memory)) => Some(format!("cache {} over memory {}", scaled(rate, "B/s"), scaled(memory, "B/s"))),
            None => Some(format!("{class} {}", scaled(rate, "B/s"))),
        };
        // In exponents, so that nothing overflows.
        let rate = rate.log10();
        let end = peak.map_or(x.high, |peak| (peak.log10() - rate).min(x.high));
        if end > x.low {
            let (from, to) = ((x.at_power(x.low), y.at_power(x.low + rate)), (x.at_power(end), y.at_power(end + rate)));
            let _ =
                write!(out, "<path class=\"{class}\" d=\"M{} {}L{} {}\"/>", px(from.0), px(from.1), px(to.0), px(to.1));
            words += &name.map_or(String::new(), |name| sloped(from, to, points, &name));
        }
    }
    if let Some(peak) = peak {
        let bend = memory.map_or(x.low, |memory| (peak.log10() - memory.log10()).clamp(x.low, x.high));
        let bend = cache.map_or(bend, |cache| (peak.log10() - cache.log10()).clamp(x.low, bend));
        let at = y.at(peak);
        let _ = write!(out, "<path class=\"peak\" d=\"M{} {}H{RIGHT}\"/>", px(x.at_power(bend)), px(at));
        let label = format!("peak {}", scaled(peak, "op/s"));
        let _ = write!(words, "<text class=\"peak\" x=\"{}\" y=\"{}\">{label}</text>", px(RIGHT - 6.0), px(at - 7.0));
    }
    out + "</g><g class=\"names\" aria-hidden=\"true\">" + &words + "</g>"
}

/// A label along the visible part of a line, where that is long enough to hold one and clear of points.
fn sloped(from: (f64, f64), to: (f64, f64), points: &[(f64, f64)], label: &str) -> String {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    // The parts of the way from `from` to `to` that lie between the top and the bottom.
    let part = |height: f64| if dy == 0.0 { 0.0 } else { (height - from.1) / dy };
    let (enter, leave) = (part(BOTTOM).clamp(0.0, 1.0), part(TOP).clamp(0.0, 1.0));
    let whole = dx.hypot(dy);
    let (length, half) = ((leave - enter) * whole, 3.4 * label.chars().count() as f64);
    // Along the line and across it, upwards, from the middle of the label.
    let touches = |x: f64, y: f64| {
        points.iter().any(|&(px, py)| {
            let (along, across) = (((px - x) * dx + (py - y) * dy) / whole, ((px - x) * dy - (py - y) * dx) / whole);
            along.abs() < half + 7.0 && (-2.0..24.0).contains(&across)
        })
    };
    let free = [0.46, 0.3, 0.62, 0.2, 0.8].into_iter().find_map(|place| {
        let middle = enter + place * (leave - enter);
        let (x, y) = (from.0 + middle * dx, from.1 + middle * dy);
        (place.min(1.0 - place) * length > half + 4.0 && !touches(x, y)).then_some((x, y))
    });
    let Some((x, y)) = free else { return String::new() };
    format!(
        "<text class=\"slope\" transform=\"translate({} {}) rotate({})\" dy=\"-6\">{label}</text>",
        px(x),
        px(y),
        px(dy.atan2(dx).to_degrees())
    )
}

/// What is said of a case on hover and focus: a line each for name, numbers, and how far it is from the roof.
pub fn tip(sweep: &Sweep, entry: &Entry) -> String {
    let case = &entry.case;
    let source = match sweep.kind(entry.device) {
        Kind::Model => " by the model",
        _ => "",
    };
    let roof = match sweep.over_floor(entry) {
        Some(over) => format!("{} of the roof, {} its floor", percent(Some(1.0 / over)), times(Some(over))),
        None => "roof not known".to_owned(),
    };
    let bound = entry.bound().map_or(String::new(), |bound| format!(", bound by {}", Text(bound)));
    let rates = format!(
        "{} at {} op/B",
        entry.rate().map_or("–".to_owned(), |rate| scaled(rate, "op/s")),
        entry.intensity().map_or("–".to_owned(), super::html::digits),
    );
    format!(
        "{} · {}\n{} · {}\n{}{source} · {rates}\n{roof}{bound}",
        Text(&case.operation),
        Text(&case.shape),
        Text(&case.size),
        Text(&case.dtype),
        seconds(entry.seconds()),
    )
}

fn dot(sweep: &Sweep, point: &Point, x: &Axis, y: &Axis) -> String {
    let operation = point.entry.operation;
    format!(
        "<g class=\"dot {}\" id=\"p{}\" role=\"img\" tabindex=\"0\" {}><title>{}</title><path d=\"{}\"/></g>",
        color(operation),
        point.index,
        marks(point.entry),
        tip(sweep, point.entry),
        mark(operation, x.at(point.intensity), y.at(point.rate), 5.0),
    )
}

/// The operations with their marks, and every point in words.
fn legend(sweep: &Sweep, device: &Device, points: &[Point], kind: Kind) -> String {
    let hollow = if kind == Kind::Model { "hollow" } else { "" };
    let mut out = String::from("<ul class=\"legend\">");
    for (index, operation) in sweep.operations.iter().enumerate() {
        let count = points.iter().filter(|point| point.entry.operation == index).count();
        if count > 0 {
            let _ = write!(out, "<li data-o=\"{index}\">{} {}</li>", key(index, hollow), Text(operation));
        }
    }
    for (class, name, rate) in [("memory", "memory", device.memory), ("cache", "second cache", device.cache)] {
        if let Some(rate) = rate.and_then(positive) {
            let line = "<path d=\"M1 7H21\"/></svg>";
            let _ = write!(out, "<li><svg class=\"line {class}\" viewBox=\"0 0 22 14\" aria-hidden=\"true\">{line} ");
            let _ = write!(out, "{name} {}</li>", scaled(rate, "B/s"));
        }
    }
    out += "</ul>";
    if points.is_empty() {
        return out;
    }
    let noun = super::super::text::counted(points.len(), "point");
    let _ = write!(out, "<details class=\"words\"><summary>{noun} in words</summary><ol>");
    for point in points {
        let entry = point.entry;
        let _ = write!(
            out,
            "<li {}>{} <b>{}</b> {} <span>{} · {} · {} · {} of the roof</span></li>",
            marks(entry),
            key(entry.operation, hollow),
            Text(&entry.case.operation),
            Text(&entry.case.shape),
            Text(&entry.case.size),
            Text(&entry.case.dtype),
            seconds(entry.seconds()),
            percent(sweep.over_floor(entry).map(|over| 1.0 / over)),
        );
    }
    out + "</ol></details>"
}
