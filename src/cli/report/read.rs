//! Reads files of results, and says what is wrong with one by its name and its field.

use super::record::{Case, Counters, Device, Kernel, Operand, Peer, Results, SCHEMA};
use idlora::Error;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The largest file that is read. A case takes about a kilobyte.
const MOST_BYTES: u64 = 32 << 20;

/// The contents of a file.
pub fn read(path: &Path) -> Result<Results, Error> {
    let wrong = |reason: String| Error::Format { path: path.to_owned(), reason };
    let io = |source| Error::Io { path: path.to_owned(), action: "reading", source };
    if path.is_dir() {
        return Err(wrong("is a folder, not a file of results".to_owned()));
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(io)?.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(wrong(format!("has more than {} MiB; no file of results is that large", MOST_BYTES >> 20)));
    }
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| wrong(format!("is not JSON: {error}")))?;
    let results = parse(&value).map_err(wrong)?;
    named_devices(&results).map_err(wrong)?;
    Ok(results)
}

fn parse(value: &Value) -> Result<Results, String> {
    match value.get("schema") {
        None => return Err("`schema` is missing: this is no file of results".to_owned()),
        Some(schema) if *schema != SCHEMA => return Err(format!("`schema` is {schema}; this build reads {SCHEMA}")),
        Some(_) => {}
    }
    <Results as serde::Deserialize>::deserialize(value)
        .map_err(|error| fault::<Results>(value, "").unwrap_or_else(|| error.to_string()))
}

/// Names are how cases find their device: each stands for one, and all are there.
fn named_devices(results: &Results) -> Result<(), String> {
    for (i, device) in results.devices.iter().enumerate() {
        if results.devices[..i].iter().any(|other| other.name == device.name) {
            return Err(format!("`devices[{i}].name`: {:?} is there twice", device.name));
        }
    }
    for (i, case) in results.cases.iter().enumerate() {
        if !results.devices.iter().any(|device| device.name == case.device) {
            return Err(format!("`cases[{i}].device`: {:?} is none of `devices`", case.device));
        }
    }
    Ok(())
}

/// A part of a file that is right, to find by exchange which field of another is wrong: serde's messages do not say.
trait Template: DeserializeOwned {
    fn right() -> Value;
}

/// What is wrong with `value`, which lies at `path`, and in which field.
fn fault<T: Template>(value: &Value, path: &str) -> Option<String> {
    let error = T::deserialize(value).err()?;
    for (name, field) in value.as_object().into_iter().flatten() {
        let mut probe = T::right();
        probe[name] = field.clone();
        if let Err(error) = T::deserialize(&probe) {
            let at = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            return within(name, field, &at).or_else(|| Some(format!("`{at}`: {error}")));
        }
    }
    Some(if path.is_empty() { error.to_string() } else { format!("`{path}`: {error}") })
}

/// The same inside of a field that holds parts of its own.
fn within(name: &str, field: &Value, path: &str) -> Option<String> {
    fn each<T: Template>(field: &Value, path: &str) -> Option<String> {
        field.as_array()?.iter().enumerate().find_map(|(i, part)| fault::<T>(part, &format!("{path}[{i}]")))
    }
    match name {
        "devices" => each::<Device>(field, path),
        "cases" => each::<Case>(field, path),
        "kernels" => each::<Kernel>(field, path),
        "peers" => each::<Peer>(field, path),
        "operands" => each::<Operand>(field, path),
        "counters" if field.is_object() => fault::<Counters>(field, path),
        _ => None,
    }
}

impl Template for Results {
    fn right() -> Value {
        json!({ "schema": SCHEMA, "version": "", "devices": [], "cases": [] })
    }
}

impl Template for Device {
    fn right() -> Value {
        json!({ "name": "", "description": "", "model": false, "memory": null, "cache": null, "peak": null })
    }
}

impl Template for Case {
    fn right() -> Value {
        json!({
            "operation": "", "shape": "", "size": "", "dtype": "", "device": "", "least_bytes": 1.0, "operations": 1.0,
            "seconds": null, "samples": [], "kernels": [], "peers": [], "failure": null
        })
    }
}

impl Template for Kernel {
    fn right() -> Value {
        json!({ "name": "", "launches": 1, "seconds": null, "bound": null, "counters": null })
    }
}

impl Template for Counters {
    fn right() -> Value {
        json!({
            "operands": [], "thread_instructions": 0, "warp_instructions": 0, "tensor_operations": 0, "bank_conflicts": 0
        })
    }
}

impl Template for Operand {
    fn right() -> Value {
        json!({ "name": "", "read": 0, "written": 0 })
    }
}

impl Template for Peer {
    fn right() -> Value {
        json!({ "name": "", "seconds": 1.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Were a template wrong, every field of its part would be blamed.
    #[test]
    fn templates_are_right() {
        fn check<T: Template>() {
            assert_eq!(fault::<T>(&T::right(), ""), None);
            for name in T::right().as_object().unwrap().keys() {
                let mut wrong = T::right();
                wrong[name] = json!({ "an": "object" });
                let found = fault::<T>(&wrong, "here").unwrap();
                assert!(found.starts_with(&format!("`here.{name}")), "{name}: {found}");
            }
        }
        check::<Results>();
        check::<Device>();
        check::<Case>();
        check::<Kernel>();
        check::<Counters>();
        check::<Operand>();
        check::<Peer>();
    }
}
