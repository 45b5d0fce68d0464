//! Times beside each other: the shared GEMM with its components and without, and what others take for the same work.

use super::bars::name;
use super::html::{Text, digits, seconds};
use super::page::{marks, pill};
use super::record::Case;
use super::svg::color;
use super::sweep::{Entry, Kind, Sweep, positive};
use std::fmt::Write;

/// Comparisons before the rest is folded away.
const SHOWN: usize = 12;

/// A line of a comparison.
struct Line {
    name: String,
    seconds: f64,
    class: String,
}

/// All comparisons.
pub fn section(sweep: &Sweep) -> String {
    let mut cards = Vec::new();
    for (_, entry) in (0..sweep.devices.len()).flat_map(|device| sweep.on(device)) {
        let bare = bare(&entry.case);
        let without = if bare { None } else { without(sweep, entry) };
        // The bare kernel is shown with the one that has components, where there is one.
        let shown_elsewhere = bare && sweep.cases.iter().any(|other| matches(other, entry));
        if without.is_some() || (!shown_elsewhere && !entry.case.peers.is_empty()) {
            cards.push(card(sweep, entry, without));
        }
    }
    let lead = "<p class=\"lead\">The fused shared-matrix GEMM against the same kernel without components: what an \
    adapter costs. Where others do the same work in the same run, their times stand beside ours.</p>";
    let body = if cards.is_empty() {
        "<p class=\"none\">Nothing to compare: no shared GEMM with and without components on one device, and no \
         peers.</p>"
            .to_owned()
    } else {
        let (first, rest) = cards.split_at(cards.len().min(SHOWN));
        let mut out = format!("<div class=\"sides\">{}</div>", first.concat());
        if !rest.is_empty() {
            let _ = write!(out, "<details class=\"more\"><summary>{} more</summary>", rest.len());
            let _ = write!(out, "<div class=\"sides\">{}</div></details>", rest.concat());
        }
        out
    };
    format!("<section id=\"overhead\"><h2>Overhead of the adapter, and peers</h2>{lead}{body}</section>")
}

/// Whether a case is the shared GEMM without components.
fn bare(case: &Case) -> bool {
    let operation = case.operation.to_lowercase();
    operation.starts_with("shared_gemm")
        && (["frozen", "plain", "bare", "without"].iter().any(|word| operation.contains(word))
            || case.size.split_whitespace().any(|part| part == "k=0"))
}

/// The same GEMM without components.
fn without<'a>(sweep: &'a Sweep, entry: &Entry) -> Option<&'a Entry> {
    sweep.cases.iter().find(|other| matches(entry, other))
}

/// Whether `bare` is `entry` without components: same device, elements, shape, direction, and sizes of the GEMM.
fn matches(entry: &Entry, bare_one: &Entry) -> bool {
    let (a, b) = (&entry.case, &bare_one.case);
    let size = |case: &Case| -> Vec<String> {
        let gemm = |part: &&str| ["t=", "m=", "n="].iter().any(|name| part.starts_with(name));
        case.size.split_whitespace().filter(gemm).map(str::to_owned).collect()
    };
    let backward = |case: &Case| ["grad", "backward"].iter().any(|word| case.operation.contains(word));
    entry.device == bare_one.device
        && entry.dtype == bare_one.dtype
        && a.operation.starts_with("shared_gemm")
        && !bare(a)
        && bare(b)
        && backward(a) == backward(b)
        && a.shape == b.shape
        && size(a) == size(b)
        && entry.seconds().is_some()
        && bare_one.seconds().is_some()
}

fn card(sweep: &Sweep, entry: &Entry, without: Option<&Entry>) -> String {
    let mut lines = Vec::new();
    let mut peers = Vec::new();
    for (case, what) in without
        .into_iter()
        .map(|bare| (bare, "without components"))
        .chain([(entry, if without.is_some() { "with components" } else { "ours" })])
    {
        if let Some(seconds) = case.seconds() {
            lines.push(Line { name: what.to_owned(), seconds, class: color(case.operation) });
        }
        for peer in &case.case.peers {
            let for_bare =
                if without.is_some_and(|bare| std::ptr::eq(bare, case)) { ", without components" } else { "" };
            let name = format!("{}{for_bare}", Text(&peer.name));
            // A sweep may name the bare kernel as a peer of the other; it is here already.
            let known = without.is_some_and(|bare| bare.case.operation == peer.name);
            if let Some(seconds) = positive(peer.seconds).filter(|_| !known) {
                peers.push(Line { name, seconds, class: "other".to_owned() });
            }
        }
    }
    lines.extend(peers);
    let Some(base) = lines.first().map(|line| line.seconds) else { return String::new() };
    let kind = sweep.kind(entry.device);
    let class = if kind == Kind::Model { "card side model" } else { "card side" };
    let mut out = format!(
        "<div class=\"{class}\" {}><h3>{}</h3><p class=\"where\">{} {}</p><ol class=\"lines\">",
        marks(entry),
        name(entry),
        Text(&sweep.devices[entry.device].name),
        pill(kind),
    );
    let most = lines.iter().map(|line| line.seconds).fold(base, f64::max);
    for line in &lines {
        let hollow = if kind == Kind::Model { "hollow" } else { "" };
        let _ = write!(
            out,
            "<li><span class=\"label\">{}</span><span class=\"track\"><i class=\"fill {} {hollow}\" \
             style=\"width:{:.2}%\"></i>\
             </span><span class=\"num quiet\">{}</span><span class=\"num\"><b>{}×</b></span></li>",
            line.name,
            line.class,
            line.seconds / most * 100.0,
            seconds(Some(line.seconds)),
            fine(line.seconds / base),
        );
    }
    out += "</ol>";
    if let Some(bare) = without
        && let Some(work) = positive(entry.case.operations / bare.case.operations)
    {
        let _ =
            write!(out, "<p class=\"note\">Its arithmetic is {}× that of the GEMM without components.</p>", fine(work));
    }
    out + "</div>"
}

/// A ratio near one, where the third digit after the point matters.
fn fine(ratio: f64) -> String {
    if ratio < 10.0 { format!("{ratio:.3}") } else { digits(ratio) }
}
