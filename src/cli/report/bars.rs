//! How far from the floor each case is: a bar from the floor to its time, the worst first.

use super::html::{Text, percent, seconds, times};
use super::page::{marks, pill};
use super::roofline::missing;
use super::svg::{color, key};
use super::sweep::{Entry, Kind, Sweep};
use std::fmt::Write;

/// Bars of a device before the rest is folded away.
const SHOWN: usize = 24;

/// All bars.
pub fn section(sweep: &Sweep) -> String {
    let groups: String = (0..sweep.devices.len()).map(|device| group(sweep, device)).collect();
    if groups.is_empty() {
        return "<section id=\"floor\"><h2>Distance from the floor</h2><p class=\"none\">No case has both a time and a \
                floor: a floor needs the bandwidth or the peak of the device.</p></section>"
            .to_owned();
    }
    format!(
        "<section id=\"floor\"><h2>Distance from the floor</h2>\
         <p class=\"lead\">The floor is the time that no implementation goes below on that device: its least bytes at \
         the bandwidth of memory, or its operations at the peak, whichever is longer. A bar is what lies above it; no \
         bar is \
         perfect. Each device has a logarithmic scale of its own. Behind a modelled time stands what the model says \
         bounds it.</p>{groups}</section>"
    )
}

fn group(sweep: &Sweep, device: usize) -> String {
    let mut bars: Vec<(f64, &Entry)> =
        sweep.on(device).filter_map(|(_, entry)| Some((sweep.over_floor(entry)?, entry))).collect();
    if bars.is_empty() {
        return String::new();
    }
    bars.sort_by(|a, b| b.0.total_cmp(&a.0));
    let scale = Scale::new(bars[0].0);
    let kind = sweep.kind(device);
    let class = if kind == Kind::Model { "card model" } else { "card" };
    let mut out = format!(
        "<div class=\"{class} group\" data-d=\"{device}\"><h3>{} {}</h3>\
         <div class=\"bars\" style=\"--ticks:{}\">{}",
        Text(&sweep.devices[device].name),
        pill(kind),
        ticks(scale.ticks().map(|(_, at)| at)),
        scale.head(),
    );
    let (first, rest) = bars.split_at(bars.len().min(SHOWN));
    out += "<ol>";
    out.extend(first.iter().map(|&(over, entry)| bar(over, entry, &scale, kind)));
    out += "</ol>";
    if !rest.is_empty() {
        let _ = write!(out, "<details><summary>{} more, nearer the floor</summary><ol>", rest.len());
        out.extend(rest.iter().map(|&(over, entry)| bar(over, entry, &scale, kind)));
        out += "</ol></details>";
    }
    out + "</div>" + &missing(&sweep.devices[device]) + "</div>"
}

/// From the floor at the left to a round number of times it at the right.
pub struct Scale {
    /// Its decimal logarithm.
    end: f64,
}

impl Scale {
    pub fn new(most: f64) -> Self {
        let end = [1.25, 1.5, 2.0, 5.0].into_iter().find(|&end| most <= end).map(f64::log10);
        // Thirds of decades, near 1, 2 and 5, are ends too.
        Self { end: end.unwrap_or_else(|| (most.log10() * 3.0).ceil() / 3.0) }
    }

    /// Where a bar ends, in percent of the width.
    pub fn width(&self, over: f64) -> f64 {
        (over.log10() / self.end).clamp(0.0, 1.0) * 100.0
    }

    /// Round numbers, and where they lie.
    pub fn ticks(&self) -> impl Iterator<Item = (f64, f64)> {
        let values: Vec<f64> = if self.end < 0.31 {
            vec![1.0, 1.1, 1.25, 1.5, 2.0]
        } else if self.end < 1.01 {
            vec![1.0, 1.5, 2.0, 3.0, 5.0, 10.0]
        } else if self.end < 2.01 {
            vec![1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]
        } else {
            let step = (self.end / 6.0).ceil().max(1.0);
            (0..=6).map(|i| 10f64.powf(step * f64::from(i))).collect()
        };
        let end = self.end + 1e-9;
        let places: Vec<(f64, f64)> =
            values.into_iter().filter(|v| v.log10() <= end).map(|v| (v, self.width(v))).collect();
        places.into_iter()
    }

    fn head(&self) -> String {
        let mut out = String::from("<p class=\"scale\" aria-hidden=\"true\"><span></span><span class=\"marks\">");
        for (value, at) in self.ticks() {
            let side = if at < 1.0 {
                "first"
            } else if at > 97.0 {
                "last"
            } else {
                ""
            };
            let name = if value == 1.0 { "floor".to_owned() } else { label(value) };
            let _ = write!(out, "<span class=\"{side}\" style=\"left:{at:.2}%\">{name}</span>");
        }
        out + "</span><span></span><span></span></p>"
    }
}

/// A tick without needless digits: `1.5×`, `10×`.
fn label(value: f64) -> String {
    if value >= 1e6 { format!("{value:.0e}×") } else { format!("{value}×") }
}

/// A background with a line at every place, in percent.
pub fn ticks(places: impl Iterator<Item = f64>) -> String {
    let lines: Vec<String> =
        places.map(|at| format!("linear-gradient(var(--grid),var(--grid)) {at:.2}% 0/1px 100% no-repeat")).collect();
    if lines.is_empty() { "none".to_owned() } else { lines.join(",") }
}

fn bar(over: f64, entry: &Entry, scale: &Scale, kind: Kind) -> String {
    let class = if kind == Kind::Model { "hollow" } else { "" };
    let below = if over < 0.995 { "<em class=\"flag\">below the floor: served by a cache</em>" } else { "" };
    format!(
        "<li class=\"bar\" {}><span class=\"label\">{} {}</span><span class=\"track\">\
         <i class=\"fill {} {class}\" style=\"width:{:.2}%\"></i>{below}</span><span class=\"num\"><b>{}</b></span>\
         <span class=\"num quiet\">{}<small>{} of roof</small>{}</span></li>",
        marks(entry),
        key(entry.operation, class),
        name(entry),
        color(entry.operation),
        scale.width(over),
        times(Some(over)),
        seconds(entry.seconds()),
        percent(Some(1.0 / over)),
        entry.bound().map_or(String::new(), |bound| format!("<small class=\"bound\">{}</small>", Text(bound))),
    )
}

/// Operation, element type and shape.
pub fn name(entry: &Entry) -> String {
    format!(
        "<span class=\"who\"><b>{}</b> <span title=\"{1} · {2}\">{3} · {1}</span></span>",
        Text(&entry.case.operation),
        Text(&entry.case.shape),
        Text(&entry.case.size),
        Text(&entry.case.dtype)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_end_where_their_logarithms_say() {
        let scale = Scale::new(80.0);
        assert_eq!(scale.end, 2.0);
        assert_eq!((scale.width(1.0), scale.width(10.0), scale.width(100.0)), (0.0, 50.0, 100.0));
        assert_eq!(scale.width(0.5), 0.0);
        assert_eq!(scale.ticks().map(|(value, _)| value).collect::<Vec<_>>(), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
        assert_eq!(Scale::new(1.03).width(1.25), 100.0);
    }

    #[test]
    fn every_scale_holds_its_largest_bar_and_has_few_marks() {
        for most in [0.2, 1.0, 1.26, 2.1, 9.99, 101.0, 1e6, 1e300] {
            let scale = Scale::new(most);
            assert!(scale.end > 0.0 && most.log10() <= scale.end + 1e-12, "{most}");
            let ticks: Vec<_> = scale.ticks().collect();
            assert!((2..=7).contains(&ticks.len()), "{most}: {ticks:?}");
        }
    }
}
