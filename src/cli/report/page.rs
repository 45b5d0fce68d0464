//! The page around the drawings: head, devices, filters, what stands in which order.

use super::html::{Text, percent, scaled, times};
use super::sweep::{Entry, Kind, Sweep, positive};
use super::{bars, roofline, side, table, traffic};
use sha2::{Digest, Sha256};
use std::fmt::Write;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// The page, complete: no other file, no network. `command` is what makes it again.
pub fn page(sweep: &Sweep, command: &str) -> String {
    let mut out = String::from("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    // Nothing is loaded, and no script but this one runs, whatever the names in the files are.
    let _ = write!(
        out,
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         script-src 'sha256-{}'; img-src data:; base-uri 'none'; form-action 'none'\">",
        base64(&Sha256::digest(SCRIPT.as_bytes()))
    );
    let _ = write!(
        out,
        "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><link rel=\"icon\" href=\"data:,\"><title>{}</title>\
         <style>{STYLE}</style></head><body>",
        title(sweep)
    );
    out += &header(sweep, command);
    out += "<main>";
    out += &devices(sweep);
    out += &filters(sweep);
    out += &table::failures(sweep);
    out += &roofline::section(sweep);
    out += &bars::section(sweep);
    out += &traffic::section(sweep);
    out += &side::section(sweep);
    out += &table::section(sweep);
    let _ = writeln!(
        out,
        "</main><footer>Made by <code>idlora report</code> {}. TB/s, Top/s and MB count in powers of a thousand; a \
         multiplication and an addition are two operations; ± is half of what the middle half of the measurements spans.\
         </footer><div id=\"tip\" role=\"status\" hidden></div>\
         <script>{SCRIPT}</script></body></html>",
        env!("CARGO_PKG_VERSION")
    );
    out
}

/// Attributes by which the filters find a case's element.
pub fn marks(entry: &Entry) -> String {
    format!("data-d=\"{}\" data-o=\"{}\" data-t=\"{}\"", entry.device, entry.operation, entry.dtype)
}

/// A word on where times come from, to stand beside a device's name.
pub fn pill(kind: Kind) -> &'static str {
    match kind {
        Kind::Measured => "<span class=\"pill measured\">measured</span>",
        Kind::Counted => "<span class=\"pill counted\">counted</span>",
        Kind::Model => "<span class=\"pill modelled\">model</span>",
    }
}

fn title(sweep: &Sweep) -> String {
    let names: Vec<String> = sweep.devices.iter().take(3).map(|device| Text(&device.name).to_string()).collect();
    let more = if sweep.devices.len() > 3 { ", …" } else { "" };
    if names.is_empty() { "Kernel sweep".to_owned() } else { format!("Kernel sweep: {}{more}", names.join(", ")) }
}

fn header(sweep: &Sweep, command: &str) -> String {
    let mut versions: Vec<&str> = sweep.files.iter().map(|(_, version)| version.as_str()).collect();
    versions.sort_unstable();
    versions.dedup();
    let failed = sweep.cases.iter().filter(|entry| entry.case.failure.is_some()).count();
    let counted = super::super::text::counted;
    let mut out = format!(
        "<header><p class=\"over\">idlora {}</p><h1>Kernel sweep</h1><p class=\"summary\">{} of {} on {}",
        versions.iter().map(|version| Text(version).to_string()).collect::<Vec<_>>().join(", "),
        counted(sweep.cases.len(), "case"),
        counted(sweep.operations.len(), "operation"),
        counted(sweep.devices.len(), "device"),
    );
    out += &match failed {
        0 => ".</p>".to_owned(),
        _ => format!("; <a class=\"flag\" href=\"#failures\">{failed} failed</a>.</p>"),
    };
    out += "<dl class=\"source\"><div><dt>Files</dt><dd>";
    for (i, (name, version)) in sweep.files.iter().enumerate() {
        let version = if versions.len() > 1 { format!(" ({})", Text(version)) } else { String::new() };
        let _ = write!(out, "{}<code>{}</code>{version}", if i == 0 { "" } else { ", " }, Text(name));
    }
    let _ = write!(out, "</dd></div><div><dt>Made again by</dt><dd><code>{}</code></dd></div></dl>", Text(command));
    let kinds: Vec<Kind> = (0..sweep.devices.len()).map(|device| sweep.kind(device)).collect();
    if kinds.contains(&Kind::Model) {
        let none = if kinds.contains(&Kind::Measured) { "" } else { " Nothing on this page was measured." };
        let _ = write!(
            out,
            "<p class=\"notice\"><span class=\"pill modelled\">model</span> Hatched panels and hollow marks are times \
             that a model of a card computes from counted traffic and work. They are estimates, not \
             measurements.{none}</p>"
        );
    }
    out += "<nav aria-label=\"Sections\">";
    if failed > 0 {
        out += "<a href=\"#failures\">Failures</a>";
    }
    for (id, name) in [
        ("rooflines", "Rooflines"),
        ("floor", "Floor"),
        ("traffic", "Traffic"),
        ("overhead", "Overhead"),
        ("cases", "Cases"),
    ] {
        let _ = write!(out, "<a href=\"#{id}\">{name}</a>");
    }
    out + "</nav></header>"
}

/// A card for each device: what it is, its ceilings, and how near its cases come.
fn devices(sweep: &Sweep) -> String {
    let mut out = String::from("<section id=\"devices\"><h2>Devices</h2><div class=\"devices\">");
    for (index, device) in sweep.devices.iter().enumerate() {
        let kind = sweep.kind(index);
        let class = if kind == Kind::Model { "card about model" } else { "card about" };
        let _ = write!(
            out,
            "<article class=\"{class}\" data-d=\"{index}\"><h3>{} {}</h3><p class=\"quiet\">{}</p><dl class=\"facts\">",
            Text(&device.name),
            pill(kind),
            Text(&device.description)
        );
        let (memory, peak) = (device.memory.and_then(positive), device.peak.and_then(positive));
        let bend = peak.zip(memory).and_then(|(peak, memory)| positive(peak / memory));
        let facts = [
            ("Memory", memory.map(|rate| scaled(rate, "B/s"))),
            ("Second cache", device.cache.and_then(positive).map(|rate| scaled(rate, "B/s"))),
            ("Peak", peak.map(|rate| scaled(rate, "op/s"))),
            ("Roof bends at", bend.map(|bend| format!("{} op/B", super::html::digits(bend)))),
        ];
        for (name, value) in facts.iter().filter(|_| memory.or(peak).is_some()) {
            let _ = write!(out, "<div><dt>{name}</dt><dd>{}</dd></div>", value.as_deref().unwrap_or("–"));
        }
        let _ = write!(out, "</dl><p class=\"stand\">{}</p></article>", stand(sweep, index));
    }
    if sweep.devices.is_empty() {
        out += "<p class=\"none\">The files name no device.</p>";
    }
    out + "</div></section>"
}

/// How a device's cases stand, in a sentence.
fn stand(sweep: &Sweep, device: usize) -> String {
    let count = |wanted: fn(&Entry) -> bool| sweep.on(device).filter(|(_, entry)| wanted(entry)).count();
    let parts = [
        (count(|entry| entry.seconds().is_some()), "timed"),
        (count(|entry| entry.counters().is_some()), "counted"),
        (count(|entry| entry.case.failure.is_some()), "failed"),
    ];
    let parts: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    let colon = if parts.is_empty() { "" } else { ": " };
    let cases = super::super::text::counted(sweep.on(device).count(), "case");
    let mut out = format!("{cases}{colon}{}.", parts.join(", "));
    let mut over: Vec<(f64, &Entry)> =
        sweep.on(device).filter_map(|(_, entry)| Some((sweep.over_floor(entry)?, entry))).collect();
    over.sort_by(|a, b| a.0.total_cmp(&b.0));
    if let (Some(middle), Some((worst, entry))) = (over.get(over.len() / 2), over.last()) {
        let _ = write!(
            out,
            " Half reach <b>{}</b> of the roof or more; furthest is {} at <b>{}</b> its floor.",
            percent(Some(1.0 / middle.0)),
            Text(&entry.case.operation),
            times(Some(*worst))
        );
    }
    out
}

/// Choices of device, operation and element type; shown where scripts run.
fn filters(sweep: &Sweep) -> String {
    let devices: Vec<&str> = sweep.devices.iter().map(|device| device.name.as_str()).collect();
    let operations: Vec<&str> = sweep.operations.iter().map(String::as_str).collect();
    let dtypes: Vec<&str> = sweep.dtypes.iter().map(String::as_str).collect();
    let mut out = String::from("<form id=\"filters\" aria-label=\"Filters\" hidden>");
    for (key, name, values) in [("d", "Device", devices), ("o", "Operation", operations), ("t", "Elements", dtypes)] {
        let _ = write!(out, "<label>{name} <select name=\"{key}\"><option value=\"\">all</option>");
        for (index, value) in values.iter().enumerate() {
            let _ = write!(out, "<option value=\"{index}\">{}</option>", Text(value));
        }
        out += "</select></label>";
    }
    out + "<button type=\"reset\">Show all</button><output></output></form>"
}

/// As content policies spell a digest.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().chain(&[0; 2]).take(3).fold(0u32, |word, &byte| word << 8 | u32::from(byte));
        for place in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * place)) as usize & 63];
            out.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_spelled_as_rfc_4648_does() {
        for (plain, spelled) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes()), spelled);
        }
    }

    /// The one thing that would end the script or the style early.
    #[test]
    fn script_and_style_do_not_close_themselves() {
        assert!(!SCRIPT.contains("</") && !SCRIPT.contains("<!--"));
        assert!(!STYLE.contains("</") && !STYLE.contains("url("));
    }
}
