//! A folder that PEFT, and whatever else reads its files, loads as a plain LoRA.
//!
//! With a static gate an ID-LoRA adapter *is* a LoRA of rank `r`: the weights `ᾱ_i` of the components are the same for every
//! token, so that one matrix takes the place of all of them,
//!
//! ```text
//! ΔW = κ (I_s⊗B) Σ_i ᾱ_i W[S_i] = (lora_alpha / r) · lora_B · lora_A,     lora_A = Σ_i ᾱ_i W[S_i]  [r, n]
//!                                                                        lora_B = I_s⊗B          [m, r]
//! ```
//!
//! With any other gate the weights depend on the token, no such matrix exists, and [`export`] refuses, for the reason for
//! which merging does.
//!
//! What is lost: the file no longer knows which rows the adapter is made of, and `lora_B` is `s²` times as large as `B`, its
//! zeros included. It cannot be read back as an ID-LoRA adapter: keep the [native](super::native) one.
//!
//! `DIR/adapter_model.safetensors` holds `base_model.model.PATH.lora_A.weight` and `….lora_B.weight` for every module, and
//! `DIR/adapter_config.json` says the rest. `PATH` is the module's name without `.weight`: it must be the path of a linear
//! layer (PyTorch's `Linear`, or GPT-2's `Conv1D`) in the model that will load it, see [`Options::prefix`]. PEFT takes a
//! module that it does not find in the file for one that is not trained yet, and only warns.

mod lora;

pub use lora::Lora;

use super::checkpoint_write::little_endian;
use super::folder::{check_adapters, write_new_folder};
use super::header::{self, Declared};
use crate::adapter::{Config, IdLora, Scaling};
use crate::elem::Dtype;
use crate::error::{Error, Result};
use serde::ser::{Serialize, Serializer};
use serde_json::Value;
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// The tensors' file.
pub const WEIGHTS: &str = "adapter_model.safetensors";
/// The configuration's file.
pub const CONFIG: &str = "adapter_config.json";

const OP: &str = "PEFT export";

/// What an export may be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What the configuration names as the base model: a folder, or a name on a hub. `None` leaves it open.
    pub base_model: Option<String>,
    /// Element type of the tensors, F32 unless told otherwise. `lora_A` is a sum of `k` rows and fills more digits than its
    /// summands have; `B` was trained in f32. In F16 or BF16 both are rounded once more.
    pub dtype: Dtype,
    /// Replaces how every module's name begins, where the checkpoint's names are not the paths of the model that will load
    /// the adapter.
    pub prefix: Option<Prefix>,
}

impl Default for Options {
    fn default() -> Self {
        Self { base_model: None, dtype: Dtype::F32, prefix: None }
    }
}

/// A beginning of names and what takes its place: from `` to `transformer.` for the weights of a GPT-2 body in a model with a
/// head, from `bert.` to `` the other way round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// How every name begins; may be empty.
    pub from: String,
    /// What they begin with instead; may be empty.
    pub to: String,
}

/// What was written for one module.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Exported {
    /// The module's name in the adapter.
    pub name: String,
    /// The module's path in the model.
    pub path: String,
    /// Output features m.
    pub rows: usize,
    /// Input features n.
    pub cols: usize,
    /// Rank r.
    pub rank: usize,
    /// κ·r.
    pub alpha: f64,
    /// Whether its weight is stored `[in, out]`.
    pub in_out: bool,
}

impl Exported {
    /// Numbers in `lora_A` and `lora_B`.
    pub fn parameters(&self) -> usize {
        self.rank * (self.rows + self.cols)
    }
}

/// Writes `adapters` as a plain LoRA to the folder `dir`, which must not exist; its parent must.
///
/// `factors` is asked for each module in turn: [`Lora::of`] makes the answer from a weight in memory, [`Lora::read`] from a
/// checkpoint. One module's factors are in memory at a time. As with [`native::save`](super::native::save), `dir` appears
/// complete or not at all.
///
/// # Errors
/// [`Error::Unsupported`] for a gate that depends on the token; [`Error::Operand`] where there is no adapter, two have the
/// same name or path, or `factors` returns those of another module; [`Error::Parameter`] for a name that does not begin with
/// the prefix or has nothing else; [`Error::NonFinite`] for parameters that are not finite, or that leave the range of
/// `options.dtype`; [`Error::Io`]; and whatever `factors` returns.
pub fn export(
    dir: &Path,
    adapters: &[IdLora],
    mut factors: impl FnMut(&IdLora) -> Result<Lora>,
    options: &Options,
) -> Result<Vec<Exported>> {
    check_adapters(OP, adapters)?;
    adapters.iter().try_for_each(lora::check_gate)?;
    let paths = paths(adapters, options.prefix.as_ref())?;
    let mut exported = Vec::with_capacity(adapters.len());
    write_new_folder(dir, |folder| {
        let file = folder.join(WEIGHTS);
        let written = |error| Error::io(&file, "write", error);
        let mut to = BufWriter::with_capacity(1 << 18, File::create_new(&file).map_err(written)?);
        to.write_all(&header_bytes(adapters, &paths, options.dtype)).map_err(written)?;
        for (adapter, path) in adapters.iter().zip(&paths) {
            let lora = factors(adapter)?;
            lora.check_module(adapter)?;
            for tensor in lora.stored(path, options.dtype)? {
                to.write_all(&little_endian(&tensor)).map_err(written)?;
            }
            exported.push(describe(adapter, path, lora.in_out()));
        }
        to.into_inner().map_err(|failed| written(failed.into_error()))?.sync_all().map_err(written)?;
        write_config(&folder.join(CONFIG), &exported, options)
    })?;
    Ok(exported)
}

/// `base_model.model.PATH.lora_A.weight`, or `lora_B`.
fn tensor_name(path: &str, factor: &str) -> String {
    format!("base_model.model.{path}.{factor}.weight")
}

fn header_bytes(adapters: &[IdLora], paths: &[String], dtype: Dtype) -> Vec<u8> {
    let mut tensors = Vec::with_capacity(2 * adapters.len());
    for (adapter, path) in adapters.iter().zip(paths) {
        let rank = adapter.config().rank;
        tensors.push((tensor_name(path, "lora_A"), [rank, adapter.cols()]));
        tensors.push((tensor_name(path, "lora_B"), [adapter.rows(), rank]));
    }
    let declared: Vec<Declared<'_>> = tensors.iter().map(|(name, shape)| declare(name, shape, dtype)).collect();
    header::encode(&[("format", "pt")], &declared)
}

fn declare<'a>(name: &'a str, shape: &'a [usize; 2], dtype: Dtype) -> Declared<'a> {
    let bytes = shape[0] as u64 * shape[1] as u64 * dtype.size() as u64;
    Declared { name, dtype: dtype.name(), shape, bytes }
}

/// The modules' paths in the model.
fn paths(adapters: &[IdLora], prefix: Option<&Prefix>) -> Result<Vec<String>> {
    let mut seen = HashSet::new();
    let mut paths = Vec::with_capacity(adapters.len());
    for adapter in adapters {
        let name = adapter.name().strip_suffix(".weight").unwrap_or(adapter.name());
        let path = match prefix {
            None => name.to_owned(),
            Some(Prefix { from, to }) => match name.strip_prefix(from.as_str()) {
                Some(rest) => format!("{to}{rest}"),
                None => {
                    let expected = format!("the beginning of every module's name, such as `{}`", adapter.name());
                    return Err(Error::parameter(OP, "prefix", expected, format!("`{from}`")));
                }
            },
        };
        if path.is_empty() {
            let found = format!("`{}`", adapter.name());
            return Err(Error::parameter(OP, "name", "a path of a module in its model", found));
        }
        if !seen.insert(path.clone()) {
            return Err(Error::operand(OP, "adapters", format!("has two modules at the path `{path}`")));
        }
        paths.push(path);
    }
    Ok(paths)
}

/// κ·r, from which PEFT computes κ in double precision. From the choices and not from κ, which has been rounded to f32.
fn alpha(config: &Config) -> f64 {
    let rank = config.rank as f64;
    match config.scaling {
        Scaling::AlphaOverRank => f64::from(config.alpha),
        Scaling::AlphaOverSqrtRank => f64::from(config.alpha) * rank.sqrt(),
        Scaling::One => rank,
    }
}

fn describe(adapter: &IdLora, path: &str, in_out: bool) -> Exported {
    Exported {
        name: adapter.name().to_owned(),
        path: path.to_owned(),
        rows: adapter.rows(),
        cols: adapter.cols(),
        rank: adapter.config().rank,
        alpha: alpha(adapter.config()),
        in_out,
    }
}

/// `adapter_config.json`, with the keys that decide what is loaded, in the order in which PEFT writes them.
#[derive(serde::Serialize)]
struct ConfigJson<'a> {
    alpha_pattern: Pattern<'a>,
    base_model_name_or_path: Option<&'a str>,
    bias: &'static str,
    fan_in_fan_out: bool,
    inference_mode: bool,
    init_lora_weights: bool,
    lora_alpha: Value,
    lora_dropout: f64,
    modules_to_save: Option<()>,
    peft_type: &'static str,
    r: usize,
    rank_pattern: Pattern<'a>,
    target_modules: Vec<&'a str>,
    task_type: Option<()>,
    use_dora: bool,
    use_rslora: bool,
}

/// What differs from the first module, by path.
struct Pattern<'a>(Vec<(&'a str, Value)>);

impl Serialize for Pattern<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Keys are regular expressions, which without `^` would also match the ends of other paths.
        serializer.collect_map(self.0.iter().map(|(path, value)| (format!("^{}", escaped(path)), value)))
    }
}

/// The regular expression that matches `path` alone.
fn escaped(path: &str) -> String {
    let mut out = String::with_capacity(path.len() + 8);
    for c in path.chars() {
        if c.is_ascii() && !c.is_ascii_alphanumeric() && c != '_' {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// A number as JSON, without a fraction where it has none: most readers expect `lora_alpha` to be an integer.
fn number(x: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0; // up to here every integer is a double
    if x.fract() == 0.0 && x.abs() <= EXACT { Value::from(x as i64) } else { Value::from(x) }
}

fn write_config(path: &Path, modules: &[Exported], options: &Options) -> Result<()> {
    let [first, ..] = modules else { return Err(Error::operand(OP, "adapters", "is empty")) };
    let differing = |differs: &dyn Fn(&Exported) -> Option<Value>| {
        Pattern(modules.iter().filter_map(|module| Some((module.path.as_str(), differs(module)?))).collect())
    };
    let config = ConfigJson {
        alpha_pattern: differing(&|module| (module.alpha != first.alpha).then(|| number(module.alpha))),
        base_model_name_or_path: options.base_model.as_deref(),
        bias: "none",
        // One flag for all; PEFT corrects it, aloud, for modules of the other kind.
        fan_in_fan_out: modules.iter().all(|module| module.in_out),
        inference_mode: true,
        init_lora_weights: true,
        lora_alpha: number(first.alpha),
        lora_dropout: 0.0,
        modules_to_save: None,
        peft_type: "LORA",
        r: first.rank,
        rank_pattern: differing(&|module| (module.rank != first.rank).then(|| Value::from(module.rank))),
        target_modules: modules.iter().map(|module| module.path.as_str()).collect(),
        task_type: None,
        use_dora: false,
        use_rslora: false,
    };
    let mut text = serde_json::to_string_pretty(&config)
        .map_err(|error| Error::unsupported(OP, format!("cannot write the configuration: {error}")))?;
    text.push('\n');
    let written = |error| Error::io(path, "write", error);
    let mut file = File::create_new(path).map_err(written)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(written)
}
