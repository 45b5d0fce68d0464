//! Every case in a table, and those without a result in a list.

use super::html::{LongText, Text, digits, percent, scaled, seconds, times};
use super::page::{marks, pill};
use super::record::Kernel;
use super::svg::key;
use super::sweep::{Entry, Kind, Sweep, positive};
use super::traffic::grouped;
use std::fmt::Write;

const HEAD: [(&str, &str); 11] = [
    ("Operation", ""),
    ("Shape", ""),
    ("Elements", ""),
    ("Device", ""),
    ("Time", "num"),
    ("Floor", "num"),
    ("Over floor", "num"),
    ("Of roof", "num"),
    ("Operations", "num"),
    ("Least bytes", "num"),
    ("Conflicts", "num"),
];

/// Cases that failed, with their reasons; nothing where none did.
pub fn failures(sweep: &Sweep) -> String {
    let failed: Vec<&Entry> = sweep.cases.iter().filter(|entry| entry.case.failure.is_some()).collect();
    if failed.is_empty() {
        return String::new();
    }
    let mut out = format!(
        "<section id=\"failures\"><h2>Failures</h2><div class=\"card failures\"><p class=\"lead\">{} without a \
         result.</p><ol>",
        super::super::text::counted(failed.len(), "case")
    );
    for entry in failed {
        let _ = write!(
            out,
            "<li {}><p>{} <span class=\"quiet\">on {}</span></p><pre>{}</pre></li>",
            marks(entry),
            super::bars::name(entry),
            Text(&sweep.devices[entry.device].name),
            LongText(entry.case.failure.as_deref().unwrap_or_default()),
        );
    }
    out + "</ol></div></section>"
}

/// The table of everything.
pub fn section(sweep: &Sweep) -> String {
    let mut out = String::from(
        "<section id=\"cases\"><h2>All cases</h2><div class=\"card wide\" tabindex=\"0\" role=\"region\" \
         aria-label=\"All cases\"><table><thead><tr>",
    );
    for (name, class) in HEAD {
        let _ = write!(out, "<th scope=\"col\" class=\"{class}\">{name}</th>");
    }
    out += "<th scope=\"col\">Kernels</th></tr></thead><tbody>";
    for (index, entry) in sweep.cases.iter().enumerate() {
        out += &row(sweep, index, entry);
    }
    out += "</tbody></table></div>";
    if sweep.cases.is_empty() {
        out += "<p class=\"none\">The files hold no case.</p>";
    }
    out + "<p class=\"none unmatched\" hidden>No case passes the filters.</p></section>"
}

fn row(sweep: &Sweep, index: usize, entry: &Entry) -> String {
    let case = &entry.case;
    let kind = sweep.kind(entry.device);
    let hollow = if kind == Kind::Model { "hollow" } else { "" };
    let mut out = format!(
        "<tr id=\"c{index}\" class=\"{}\" {}><th scope=\"row\">{} {}</th><td \
         class=\"shape\">{}<small>{}</small></td><td>{}</td>\
         <td class=\"device\">{} {}</td>",
        if kind == Kind::Model { "model" } else { "" },
        marks(entry),
        key(entry.operation, hollow),
        Text(&case.operation),
        Text(&case.shape),
        Text(&case.size),
        Text(&case.dtype),
        Text(&sweep.devices[entry.device].name),
        pill(kind),
    );
    if case.failure.is_some() {
        out += "<td class=\"num\"><a class=\"flag\" href=\"#failures\">failed</a></td>";
    } else {
        number(&mut out, entry.seconds(), &(seconds(entry.seconds()) + &spread(&case.samples)));
    }
    let (floor, over) = (sweep.floor(entry), sweep.over_floor(entry));
    number(&mut out, floor, &seconds(floor));
    number(&mut out, over, &times(over));
    number(&mut out, over.map(|over| 1.0 / over), &percent(over.map(|over| 1.0 / over)));
    rate(&mut out, case.operations, entry.rate(), "op");
    rate(&mut out, case.least_bytes, entry.bandwidth(), "B");
    let conflicts = entry.counters().map(|counters| counters.bank_conflicts);
    number(&mut out, conflicts.map(|count| count as f64), &conflicts.map_or("–".to_owned(), grouped));
    kernels(&mut out, &case.kernels);
    out + "</tr>"
}

/// A cell that sorts by its value.
fn number(out: &mut String, value: Option<f64>, shown: &str) {
    match value.filter(|value| value.is_finite()) {
        Some(value) => {
            let _ = write!(out, "<td class=\"num\" data-v=\"{value:e}\">{shown}</td>");
        }
        None => *out += "<td class=\"num quiet\">–</td>",
    }
}

/// An amount with how much of it a second.
fn rate(out: &mut String, amount: f64, rate: Option<f64>, unit: &str) {
    let second = rate.map_or(String::new(), |rate| format!("<small>{}/s</small>", scaled(rate, unit)));
    match amount {
        amount if amount >= 0.0 && amount.is_finite() => {
            number(out, Some(amount), &format!("{}{second}", scaled(amount, unit)));
        }
        _ => number(out, None, ""),
    }
}

/// Half of what the middle half of the measurements spans, and how many there are.
fn spread(samples: &[f64]) -> String {
    let mut samples: Vec<f64> = samples.iter().copied().filter_map(positive).collect();
    samples.sort_by(f64::total_cmp);
    let count = samples.len();
    if count == 0 {
        return String::new();
    }
    let (low, middle, high) = (samples[count / 4], samples[count / 2], samples[(3 * count / 4).min(count - 1)]);
    format!("<small>±{} % of {count}</small>", digits(50.0 * (high / middle - low / middle)))
}

fn kernels(out: &mut String, kernels: &[Kernel]) {
    if kernels.is_empty() {
        *out += "<td class=\"quiet\">–</td>";
        return;
    }
    let noun = super::super::text::counted(kernels.len(), "kernel");
    let _ = write!(out, "<td class=\"kernels\"><details><summary>{noun}</summary><ul>");
    for kernel in kernels {
        let _ = write!(out, "<li><b>{}</b> launched {}×", Text(&kernel.name), grouped(kernel.launches));
        if kernel.seconds.is_some() {
            let _ = write!(out, " · {}", seconds(kernel.seconds));
        }
        if let Some(bound) = &kernel.bound {
            let _ = write!(out, " · bound by {}", Text(bound));
        }
        if let Some(counters) = &kernel.counters {
            let _ = write!(
                out,
                " · {} thread and {} warp instructions · {} of tensor cores · {} bank conflicts",
                scaled(counters.thread_instructions as f64, ""),
                scaled(counters.warp_instructions as f64, ""),
                scaled(counters.tensor_operations as f64, "op"),
                grouped(counters.bank_conflicts),
            );
        }
        *out += "</li>";
    }
    *out += "</ul></details></td>";
}
