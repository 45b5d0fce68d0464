//! `idlora merge` and `idlora unmerge`.
//!
//! A merged file says in its metadata, under `idlora.merged`, which adapter is in it and which of its weights are stored
//! `[in, out]`; unmerging asks for that same adapter and takes the entry away.

use super::args::{Layout, Merge};
use super::{Failure, Result, init, inspect, output, text};
use idlora::adapter::{Digest, IdLora};
use idlora::format::checkpoint::{Checkpoint, Weight};
use idlora::format::native;
use idlora::lowrank::Gate;
use idlora::{Device, Error, with_weight};
use sha2::Digest as _;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const KEY: &str = "idlora.merged";

/// What a merged file says about itself.
#[derive(serde::Serialize, serde::Deserialize)]
struct Merged {
    /// SHA-256 of the adapter's file.
    adapter: String,
    /// Weights that the file stores `[in, out]`.
    in_out: BTreeSet<String>,
}

/// A module's weight turned to `[out, in]` and held to the digest of the adapter's base, and how the file stores it. The digest
/// decides the layout: of the two it can only match one (both, for a symmetric matrix, where they are the same).
pub fn oriented(stored: Weight, adapter: &IdLora) -> Result<(Weight, Layout)> {
    let as_stored = with_weight!(&stored, w => adapter.check_base(w.as_ref()));
    let Err(mismatch) = as_stored else { return Ok((stored, Layout::OutIn)) };
    let (rows, cols) = stored.shape();
    if (cols, rows) == (adapter.rows(), adapter.cols()) {
        let turned = stored.transposed()?;
        if with_weight!(&turned, w => adapter.check_base(w.as_ref())).is_ok() {
            return Ok((turned, Layout::InOut));
        }
    }
    Err(mismatch.into())
}

pub fn merge(args: &Merge) -> Result<()> {
    output::check_free(&args.out)?;
    let (base, adapters) = open(args)?;
    if base.metadata().contains_key(KEY) {
        return Err(Failure::command(format!(
            "{}: an adapter is merged into it already; unmerge that one first, or take the original weights",
            base.path().display()
        )));
    }
    // Every base is checked before the first byte is written.
    let bar = init::progress_bar(2 * adapters.len(), "steps");
    let mut in_out = BTreeSet::new();
    for adapter in &adapters {
        if oriented(base.read(adapter.name())?, adapter)?.1 == Layout::InOut {
            in_out.insert(adapter.name().to_owned());
        }
        bar.inc(1);
    }
    let note = Merged { adapter: fingerprint(&args.dir)?, in_out };
    let text = serde_json::to_string(&note).map_err(|error| Failure::command(format!("JSON: {error}")))?;
    let device = Device::default();
    base.rewrite(&args.out, &BTreeMap::from([(KEY.to_owned(), text)]), |tensor| {
        replace(&base, &adapters, &tensor.name, &note.in_out, |adapter, weight| {
            bar.inc(1);
            with_weight!(weight, w => adapter.merge(&device, w.as_mut()))
        })
    })?;
    bar.finish_and_clear();
    output::print(&format!("{} merged into {}\n", text::counted(adapters.len(), "module"), args.out.display()))
}

pub fn unmerge(args: &Merge) -> Result<()> {
    output::check_free(&args.out)?;
    let (merged, adapters) = open(args)?;
    let note = note_of(&merged)?;
    if note.adapter != fingerprint(&args.dir)? {
        return Err(Failure::command(format!(
            "{}: another adapter is merged into it than {} (SHA-256 of its file {})",
            merged.path().display(),
            args.dir.display(),
            note.adapter
        )));
    }
    let device = Device::default();
    let bar = init::progress_bar(adapters.len(), "modules");
    let mut exact = 0;
    merged.rewrite(&args.out, &BTreeMap::from([(KEY.to_owned(), String::new())]), |tensor| {
        replace(&merged, &adapters, &tensor.name, &note.in_out, |adapter, weight| {
            bar.inc(1);
            with_weight!(weight, w => adapter.unmerge(&device, w.as_mut()))?;
            exact += usize::from(with_weight!(weight, w => Digest::of(w.as_ref())) == adapter.digest());
            Ok(())
        })
    })?;
    bar.finish_and_clear();
    output::print(&format!(
        "{} unmerged into {}; {exact} bit for bit the base again, the others up to rounding\n",
        text::counted(adapters.len(), "module"),
        args.out.display()
    ))
}

fn note_of(merged: &Checkpoint) -> Result<Merged> {
    let path = merged.path().display();
    let text = merged.metadata().get(KEY).ok_or_else(|| {
        Failure::command(format!("{path}: no adapter is merged into it: `idlora merge` has not written it"))
    })?;
    serde_json::from_str(text)
        .map_err(|error| Failure::command(format!("{path}: its metadata `{KEY}` cannot be read: {error}")))
}

/// Opens both sides and refuses what cannot be merged.
fn open(args: &Merge) -> Result<(Checkpoint, Vec<IdLora>)> {
    let adapters = native::load(&args.dir)?;
    let weights = Checkpoint::open(&args.weights)?;
    for adapter in &adapters {
        if adapter.config().gate != Gate::Static {
            return Err(Failure::command(format!(
                "module `{}` has the gate `{}`, which weighs the components anew for every token, so no single weight \
                 equals base and adapter together; only `--gate static` can be merged",
                adapter.name(),
                inspect::kebab(&adapter.config().gate)
            )));
        }
        if weights.find(adapter.name()).is_none() {
            let path = weights.path().display();
            return Err(Failure::command(format!("{path}: holds no tensor `{}`", adapter.name())));
        }
    }
    Ok((weights, adapters))
}

/// The tensor `name` after `change`, in the layout of its file; `None` for tensors without an adapter.
fn replace(
    weights: &Checkpoint,
    adapters: &[IdLora],
    name: &str,
    in_out: &BTreeSet<String>,
    change: impl FnOnce(&IdLora, &mut Weight) -> idlora::Result<()>,
) -> idlora::Result<Option<Weight>> {
    let Some(adapter) = adapters.iter().find(|adapter| adapter.name() == name) else { return Ok(None) };
    let stored = weights.read(name)?;
    let turn = in_out.contains(name);
    let mut weight = if turn { stored.transposed()? } else { stored };
    change(adapter, &mut weight)?;
    if let Some((row, col, value)) = weight.first_non_finite() {
        // A result that left the range of a narrow element type.
        return Err(Error::NonFinite { op: "merge", operand: name.to_owned(), row, col, value });
    }
    Ok(Some(if turn { weight.transposed()? } else { weight }))
}

/// SHA-256 of the adapter's file, in hexadecimal.
fn fingerprint(dir: &Path) -> Result<String> {
    let path = dir.join(native::FILE);
    let bytes = std::fs::read(&path).map_err(|source| Error::Io { path, action: "reading", source })?;
    Ok(sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}
