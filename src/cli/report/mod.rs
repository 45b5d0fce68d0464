//! `idlora report`: results of kernel sweeps as one page.
//!
//! [`read`] takes files in, [`sweep`] puts them together and derives floors and rates, a module for each section writes HTML,
//! and [`page`] joins them. All strings of a file go through [`html::Text`].

mod bars;
mod html;
mod page;
mod read;
mod record;
mod roofline;
mod side;
mod svg;
mod sweep;
mod table;
mod traffic;

use super::args::Report;
use super::{Failure, Result, output, text};
use idlora::Error;
use idlora::format::write_new_file;
use std::io::Write;
use std::path::Path;
use sweep::Sweep;

/// More would be no page that a browser shows.
const MOST_CASES: usize = 10_000;

pub fn run(args: &Report) -> Result<()> {
    output::check_free(&args.out)?;
    let mut sweep = Sweep::default();
    for path in &args.results {
        sweep.add(&file_name(path), read::read(path)?);
        if sweep.cases.len() > MOST_CASES {
            return Err(Failure::command(format!(
                "{}: with it there are {} cases, and a page holds {}; give fewer files",
                path.display(),
                text::grouped(sweep.cases.len()),
                text::grouped(MOST_CASES)
            )));
        }
    }
    let page = page::page(&sweep, &command(args));
    write_new_file(&args.out, |file| {
        let written = |source| Error::Io { path: args.out.clone(), action: "writing", source };
        file.write_all(page.as_bytes()).map_err(written)
    })?;
    let failed = sweep.cases.iter().filter(|entry| entry.case.failure.is_some()).count();
    let failed = if failed == 0 { String::new() } else { format!(", {failed} failed") };
    output::print(&format!(
        "{}: {} on {}{failed}\n",
        args.out.display(),
        text::counted(sweep.cases.len(), "case"),
        text::counted(sweep.devices.len(), "device")
    ))
}

/// The last part of a path: pages are passed on, and folders say more than their readers should know.
fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The command that makes the page again, beside its files.
fn command(args: &Report) -> String {
    let quoted = |path: &Path| {
        let name = file_name(path);
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+,@%".contains(c);
        let bare = !name.is_empty() && name.chars().all(plain) && !name.starts_with('-');
        if bare { name } else { format!("'./{}'", name.replace('\'', r"'\''")) }
    };
    let files: Vec<String> = args.results.iter().map(|path| quoted(path)).collect();
    format!("idlora report {} --out {}", files.join(" "), quoted(&args.out))
}
