//! What each operand has moved on the virtual machine against the least, and where banks collide.

use super::bars::{name, ticks};
use super::html::{Text, scaled, times};
use super::record::Counters;
use super::sweep::{Entry, Sweep, positive};
use std::fmt::Write;

const SHOWN: usize = 24;
/// Operands with a colour of their own; the rest share one.
const COLORS: usize = 8;
/// The most that a bar shows, in times the least.
const MOST: f64 = 6.0;

/// A launch that was counted, and all devices that report the same counts of it.
struct Counted<'a> {
    entry: &'a Entry,
    counters: Counters,
    bytes: f64,
    devices: Vec<usize>,
}

impl Counted<'_> {
    fn over_least(&self) -> Option<f64> {
        positive(self.bytes / positive(self.entry.case.least_bytes)?)
    }
}

/// All counted cases.
pub fn section(sweep: &Sweep) -> String {
    let mut all = counted(sweep);
    if all.is_empty() {
        return "<section id=\"traffic\"><h2>Traffic</h2><p class=\"none\">No case was counted on the virtual \
                machine.</p></section>"
            .to_owned();
    }
    all.sort_by(|a, b| b.over_least().unwrap_or(0.0).total_cmp(&a.over_least().unwrap_or(0.0)));
    let names = operands(&all);
    let end = all.iter().filter_map(Counted::over_least).fold(1.0, f64::max).min(MOST) * 1.04;
    let conflicts = all.iter().filter(|counted| counted.counters.bank_conflicts > 0).count();
    let verdict = match conflicts {
        0 => "<p class=\"verdict good\"><b>No bank conflicts</b> in any counted case.</p>".to_owned(),
        _ => format!(
            "<p class=\"verdict bad\"><b>Bank conflicts in {conflicts} of {} counted cases</b>, marked below.</p>",
            all.len()
        ),
    };
    let places = (1..=MOST as usize).map(|mark| mark as f64).filter(|&mark| mark <= end);
    let mut out = format!(
        "<section id=\"traffic\"><h2>Traffic</h2><p class=\"lead\">Bytes that the virtual machine has counted for \
         each operand, in whole sectors, against the least that the operation can do with: the dashed line. What lies \
         right of it is read or \
         written more than once.</p>{verdict}<div class=\"card group\">\
         <div class=\"bars counted\" style=\"--ticks:{};--least:{:.2}%\">{}",
        ticks(places.clone().map(|mark| mark / end * 100.0)),
        100.0 / end,
        head(places, end),
    );
    let rows: Vec<String> = all.iter().map(|counted| row(counted, &names, end)).collect();
    let (first, rest) = rows.split_at(rows.len().min(SHOWN));
    let _ = write!(out, "<ol>{}</ol>", first.concat());
    if !rest.is_empty() {
        let _ = write!(
            out,
            "<details><summary>{} more, nearer the least</summary><ol>{}</ol></details>",
            rest.len(),
            rest.concat()
        );
    }
    out + "</div></div></section>"
}

fn counted(sweep: &Sweep) -> Vec<Counted<'_>> {
    let mut all: Vec<Counted> = Vec::new();
    for entry in &sweep.cases {
        let Some(counters) = entry.counters() else { continue };
        let case = &entry.case;
        let same = all.iter_mut().find(|known| {
            let other = &known.entry.case;
            (&case.operation, &case.shape, &case.size, &case.dtype)
                == (&other.operation, &other.shape, &other.size, &other.dtype)
                && known.counters == counters
        });
        match same {
            Some(known) => known.devices.push(entry.device),
            None => {
                let bytes = counters.operands.iter().map(|operand| operand.read as f64 + operand.written as f64).sum();
                all.push(Counted { entry, counters, bytes, devices: vec![entry.device] });
            }
        }
    }
    all
}

/// Names of operands, those that move most first: they get the colours.
fn operands(all: &[Counted]) -> Vec<String> {
    let mut names: Vec<(f64, String)> = Vec::new();
    for counted in all {
        for operand in &counted.counters.operands {
            let share = (operand.read as f64 + operand.written as f64) / counted.bytes.max(1.0);
            match names.iter_mut().find(|(_, name)| *name == operand.name) {
                Some((sum, _)) => *sum += share,
                None => names.push((share, operand.name.clone())),
            }
        }
    }
    names.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    names.into_iter().map(|(_, name)| name).collect()
}

fn head(places: impl Iterator<Item = f64>, end: f64) -> String {
    let mut out = String::from("<p class=\"scale\" aria-hidden=\"true\"><span></span><span class=\"marks\">");
    for mark in places {
        let name = if mark == 1.0 { "least".to_owned() } else { format!("{mark}×") };
        let _ = write!(
            out,
            "<span class=\"{}\" style=\"left:{:.2}%\">{name}</span>",
            if mark / end > 0.94 { "last" } else { "" },
            mark / end * 100.0
        );
    }
    out + "</span><span></span><span></span></p>"
}

fn row(counted: &Counted, names: &[String], end: f64) -> String {
    let entry = counted.entry;
    let color = |name: &str| match names.iter().position(|known| known == name) {
        Some(index) if index < COLORS - 1 => format!("k{index}"),
        _ => format!("k{}", COLORS - 1),
    };
    // Without a least, the bar is as long as one that moves just that.
    let unit = positive(entry.case.least_bytes).unwrap_or(counted.bytes.max(1.0));
    let mut operands = counted.counters.operands.clone();
    operands.sort_by_key(|operand| std::cmp::Reverse(u128::from(operand.read) + u128::from(operand.written)));
    let (mut segments, mut words, mut at) = (String::new(), String::new(), 0.0);
    for operand in &operands {
        let width = (operand.read as f64 + operand.written as f64) / unit / end * 100.0;
        let shown = width.min(100.0 - at).max(0.0);
        at += shown;
        let color = color(&operand.name);
        let label = if shown > 9.0 { Text(&operand.name).to_string() } else { String::new() };
        let _ = write!(segments, "<i class=\"fill {color}\" style=\"width:{shown:.2}%\"><span>{label}</span></i>");
        let _ = write!(words, "<li><i class=\"swatch {color}\"></i><b>{}</b>", Text(&operand.name));
        let moved: Vec<String> = [(operand.read, "read"), (operand.written, "written")]
            .into_iter()
            .filter(|&(bytes, _)| bytes > 0)
            .map(|(bytes, verb)| format!("{} {verb}", scaled(bytes as f64, "B")))
            .collect();
        let _ = write!(words, " {}", moved.join(", "));
        words += "</li>";
    }
    let over = counted.over_least();
    let more = if over.is_some_and(|over| over > end) { "<em class=\"flag\">▸</em>" } else { "" };
    let conflicts = match counted.counters.bank_conflicts {
        0 => "<span class=\"quiet\">no conflicts</span>".to_owned(),
        count => format!("<span class=\"flag\">⚠ {} conflicts</span>", grouped(count)),
    };
    format!(
        "<li class=\"bar\" {}><span class=\"label\">{}</span><span class=\"track\">{segments}{more}</span>\
         <span class=\"num\"><b>{}</b></span><span class=\"num\">{conflicts}</span><ul \
         class=\"operands\">{words}</ul></li>",
        devices(counted),
        name(entry),
        times(over),
    )
}

pub fn grouped(count: u64) -> String {
    super::super::text::grouped(usize::try_from(count).unwrap_or(usize::MAX))
}

fn devices(counted: &Counted) -> String {
    let devices: Vec<String> = counted.devices.iter().map(usize::to_string).collect();
    format!(
        "data-d=\"{}\" data-o=\"{}\" data-t=\"{}\"",
        devices.join(" "),
        counted.entry.operation,
        counted.entry.dtype
    )
}
