//! The kernel sweeps: every operation, for the layers of named models, on every device there is, as a table and as a file for
//! `idlora report`.
//!
//! * **CPU**: the median of repeated runs, with every sample, beside the memory bandwidth of a copy.
//! * **The virtual machine** (feature `vm`): counters of every kernel (bytes of each operand in whole sectors, bank conflicts,
//!   tensor-core operations, instructions), and from them the time of a *model* of an H100 and an A100. It is slow: it has
//!   its own numbers of tokens, and leaves out what would take it long, and says so, unless `--full` asks for it.
//! * **CUDA devices** (feature `cuda`): events around each launch, no transfer and no host code, beside the device's own copy,
//!   measured first, and for layers beside cuBLAS (feature `cublas`).
//!
//! `least` is what an operation cannot do without, the heading Traffic of `kernels/*.cu`; `× floor` is the time against that
//! of a copy of as many bytes. Operands have just been uploaded or computed, so that what fits a second cache is read from there:
//! the large shapes tell about memory.
//!
//! The benches `lowrank`, `cluster` and `qr` have criterion's statistics of single operations on the CPU, to compare one commit
//! with another; here is the width: all operations, shapes and devices in one file.
//!
//! * `--device cpu,vm,cuda` (default: whatever there is), `--shape NAME,...`, `--op NAME,...`, `--dtype f32,f16,bf16` (default:
//!   bf16 and f32); a plain `NAME` is one more `--op`. Names are parts of names.
//! * `--tokens N` for the prefill; the default is 512 on the CPU, 256 on the virtual machine, 4096 on a GPU. Decoding has one token.
//! * `--json FILE` writes the results, whole or not at all.
//! * `--full` runs every layer of every model, and on the virtual machine the large ones too.
//! * `--test` runs a tiny case of everything once, and reads the file again.
#![allow(missing_docs)] // a program

mod arguments;
mod cases;
mod cpu;
mod cublas;
mod cuda;
#[path = "../../src/cli/report/record.rs"]
mod record;
mod sweep;
mod table;
mod vm;

use arguments::Arguments;
use record::Results;
use std::path::Path;
use std::process::ExitCode;

/// Writes the results beside their place, then renames.
fn write(results: &Results, path: &Path) -> Result<(), String> {
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    #[allow(unused_mut)] // where files have no mode
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666)); // less the umask, as for any new file
    }
    let mut file = builder.tempfile_in(folder).map_err(|error| told(&error))?;
    serde_json::to_writer_pretty(&mut file, results).map_err(|error| told(&error))?;
    std::io::Write::write_all(&mut file, b"\n").map_err(|error| told(&error))?;
    file.persist(path).map_err(|error| told(&error))?;
    Ok(())
}

/// What was written is what is read.
fn check_round_trip(results: &Results) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = folder.path().join("results.json");
    write(results, &path)?;
    let text = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
    let read: Results = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let numbered = results.cases.iter().all(|case| case.least_bytes > 0.0 && case.seconds.is_none_or(|s| s > 0.0));
    match (read == *results, numbered) {
        (true, true) => Ok(()),
        (false, _) => Err("the file does not hold the results".to_owned()),
        (_, false) => Err("a case has no bytes, or a time of nothing".to_owned()),
    }
}

/// Fails where an operation did, or where `--device` or `IDLORA_REQUIRE` name a device that is not there.
fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(reason) => {
            eprintln!("kernels: {reason}");
            return ExitCode::from(2);
        }
    };
    let required = std::env::var("IDLORA_REQUIRE").unwrap_or_default();
    let (version, schema) = (env!("CARGO_PKG_VERSION").to_owned(), record::SCHEMA);
    let mut results = Results { schema, version, ..Results::default() };
    let mut well = true;
    type Runner = fn(&Arguments, &mut Results) -> Result<bool, String>;
    for (kind, run) in [("cpu", cpu::run as Runner), ("vm", vm::run), ("cuda", cuda::run)] {
        if !arguments.runs_on(kind) {
            continue;
        }
        match run(&arguments, &mut results) {
            Ok(all) => well &= all,
            Err(reason) => {
                println!("{kind}: not run: {reason}");
                well &= !arguments.devices.iter().any(|name| name == kind);
                well &= !required.split(',').any(|name| name == kind);
            }
        }
    }
    let written = arguments.json.as_deref().map_or(Ok(()), |path| write(&results, path));
    let checked = if arguments.test { check_round_trip(&results) } else { Ok(()) };
    for reason in [written, checked].into_iter().filter_map(Result::err) {
        eprintln!("kernels: {reason}");
        well = false;
    }
    if results.cases.is_empty() {
        println!("no case has these names, or no device ran");
        well &= !arguments.filtered();
    }
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
