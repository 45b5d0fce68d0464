//! The command line.

use idlora::Dtype;
use std::path::PathBuf;

const KINDS: [&str; 3] = ["cpu", "vm", "cuda"];

#[derive(Debug, Default)]
pub struct Arguments {
    /// Of [`KINDS`]; empty for whatever there is.
    pub devices: Vec<String>,
    shapes: Vec<String>,
    operations: Vec<String>,
    dtypes: Vec<Dtype>,
    pub tokens: Option<usize>,
    pub json: Option<PathBuf>,
    pub full: bool,
    pub test: bool,
}

impl Arguments {
    /// Options of cargo's that mean nothing here are passed over; others are refused.
    pub fn parse(given: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut found = Self::default();
        let mut given = given;
        while let Some(argument) = given.next() {
            let (option, inline) = match argument.split_once('=') {
                Some((option, value)) if option.starts_with("--") => (option.to_owned(), Some(value.to_owned())),
                _ => (argument, None),
            };
            let mut value = || {
                let found = inline.clone().or_else(|| given.next()).filter(|value| !value.is_empty());
                found.ok_or_else(|| format!("{option} needs a value"))
            };
            match option.as_str() {
                "--vm" | "--full" | "--test" if inline.is_some() => return Err(format!("{option} takes no value")),
                "--device" => found.devices = devices(&value()?)?,
                "--vm" => found.devices = vec!["vm".to_owned()],
                "--shape" => found.shapes.extend(list(&value()?)),
                "--op" => found.operations.extend(list(&value()?)),
                "--dtype" => found.dtypes = list(&value()?).map(|name| dtype(&name)).collect::<Result<_, _>>()?,
                "--tokens" => found.tokens = Some(tokens(&value()?)?),
                "--json" => found.json = Some(value()?.into()),
                "--full" => found.full = true,
                "--test" => found.test = true,
                "--bench" | "--nocapture" | "--quiet" => {}
                unknown if unknown.starts_with('-') => {
                    return Err(format!(
                        "unknown option {unknown}; there are --device, --shape, --op, --dtype, --tokens, --json, --full and --test"
                    ));
                }
                _ => found.operations.push(option),
            }
        }
        Ok(found)
    }

    pub fn runs_on(&self, kind: &str) -> bool {
        self.devices.is_empty() || self.devices.iter().any(|name| name == kind)
    }

    pub fn wants_shape(&self, name: &str) -> bool {
        has_part(&self.shapes, name)
    }

    pub fn wants_operation(&self, name: &str) -> bool {
        has_part(&self.operations, name)
    }

    pub fn wants_dtype(&self, dtype: Dtype) -> bool {
        if self.dtypes.is_empty() { dtype != Dtype::F16 } else { self.dtypes.contains(&dtype) }
    }

    /// Whether less than everything was asked for.
    pub fn filtered(&self) -> bool {
        !(self.shapes.is_empty() && self.operations.is_empty() && self.dtypes.is_empty())
    }
}

/// Of a list of parts of names, in lower case; an empty list has all.
fn has_part(parts: &[String], name: &str) -> bool {
    parts.is_empty() || parts.iter().any(|part| name.contains(&part.to_lowercase()))
}

fn list(text: &str) -> impl Iterator<Item = String> {
    text.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>().into_iter()
}

fn devices(text: &str) -> Result<Vec<String>, String> {
    let found: Vec<String> = list(text).collect();
    match found.iter().find(|name| !KINDS.contains(&name.as_str())) {
        Some(unknown) => Err(format!("--device {unknown}: there are {}", KINDS.join(", "))),
        None => Ok(found),
    }
}

fn dtype(name: &str) -> Result<Dtype, String> {
    let known = [Dtype::F32, Dtype::F16, Dtype::BF16];
    known
        .into_iter()
        .find(|dtype| dtype.name().eq_ignore_ascii_case(name))
        .ok_or_else(|| format!("--dtype {name}: there are f32, f16, bf16"))
}

fn tokens(text: &str) -> Result<usize, String> {
    let found = text.parse().ok().filter(|tokens| (1..=1 << 20).contains(tokens));
    found.ok_or_else(|| format!("--tokens {text}: a number from 1 to {}", 1 << 20))
}
