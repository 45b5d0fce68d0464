//! `idlora tune --show`, `--clear`, `--export`.

use super::milliseconds;
use crate::cli::{Failure, Result, output, text};
use idlora::format::write_new_file;
use idlora::tune::record::{Entry, Measurement, Record};
use std::io::Write;
use std::path::Path;

#[derive(serde::Serialize)]
struct ShowJson<'a> {
    record: &'a Path,
    entries: Vec<&'a Entry>,
    notices: Vec<String>,
}

pub fn show(path: &Path, json: bool) -> Result<()> {
    let record = Record::load(path)?;
    let notices = record.notices();
    if json {
        return output::print_json(&ShowJson { record: path, entries: record.entries().collect(), notices });
    }
    for notice in &notices {
        output::message(notice);
    }
    let table = text::table(
        &["kernel", "element", "shape", "tokens", "device", "driver", "choice", "measured", "default"],
        record.entries().map(row),
    );
    let count = record.entries().len();
    let summary = format!("{} in {}\n", text::counted(count, "choice"), path.display());
    output::print(&if count == 0 { summary } else { table + &summary })
}

fn row(entry: &Entry) -> Vec<String> {
    let key = &entry.key;
    let of = |config| {
        let measurement = entry.measurements.iter().find(|one| one.config == config);
        measurement.and_then(Measurement::seconds).map_or_else(|| "-".to_owned(), milliseconds)
    };
    let default = entry.measurements.first().map(|one| one.config);
    vec![
        key.kernel.clone(),
        key.element.clone(),
        key.shape.clone(),
        key.tokens.to_string(),
        key.device.clone(),
        key.driver.clone(),
        entry.config.to_string(),
        of(entry.config),
        default.map_or_else(|| "-".to_owned(), of),
    ]
}

pub fn clear(path: &Path) -> Result<()> {
    let said = if Record::clear(path)? { "removed" } else { "is not there" };
    output::print(&format!("{} {said}\n", path.display()))
}

pub fn export(path: &Path, to: &Path) -> Result<()> {
    output::check_free(to)?;
    let record = Record::load(path)?;
    for notice in record.notices() {
        output::message(&notice);
    }
    if record.entries().len() == 0 {
        return Err(Failure::command(format!("{} holds no choices", path.display())));
    }
    let text = record.to_json();
    write_new_file(to, |file| {
        file.write_all(text.as_bytes()).map_err(|source| idlora::Error::Io {
            path: to.to_path_buf(),
            action: "writing",
            source,
        })
    })?;
    output::print(&format!("{}: {}\n", to.display(), text::counted(record.entries().len(), "choice")))
}
