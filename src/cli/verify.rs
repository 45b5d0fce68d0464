//! `idlora verify`.

use super::args::Verify;
use super::{Failure, Result, merge, output, text};
use idlora::Error;
use idlora::adapter::IdLora;
use idlora::format::{checkpoint::Checkpoint, native};

pub fn run(args: &Verify) -> Result<()> {
    // Loading checks what the adapter alone can tell: indices in range and distinct, shapes, finite parameters.
    let adapters = native::load(&args.dir)?;
    let base = Checkpoint::open(&args.weights)?;
    let mut report = String::new();
    let mut failed = 0;
    for adapter in &adapters {
        match check(&base, adapter) {
            Ok(()) => report += &format!("ok      {}\n", adapter.name()),
            Err(reason) => {
                failed += 1;
                report += &format!("FAILED  {}: {reason}\n", adapter.name());
            }
        }
    }
    output::print(&report)?;
    if failed > 0 {
        return Err(Failure::command(format!(
            "{failed} of {} in {} failed against {}",
            text::counted(adapters.len(), "module"),
            args.dir.display(),
            base.path().display()
        )));
    }
    output::print(&format!("{} verified\n", text::counted(adapters.len(), "module")))
}

/// Shape, element type, finiteness and digest of one base weight.
fn check(base: &Checkpoint, adapter: &IdLora) -> Result<()> {
    let name = adapter.name();
    let Some(tensor) = base.find(name) else {
        return Err(Failure::command("the weights hold no such tensor"));
    };
    let (rows, cols) = (adapter.rows(), adapter.cols());
    if tensor.shape != [rows, cols] && tensor.shape != [cols, rows] {
        return Err(Failure::command(format!("shape {:?}, the adapter was made from [{rows}, {cols}]", tensor.shape)));
    }
    if tensor.weight_dtype() != Some(adapter.dtype()) {
        let (found, expected) = (&tensor.dtype, adapter.dtype().name());
        return Err(Failure::command(format!("element type {found}, the adapter was made from {expected}")));
    }
    let weight = base.read(name)?;
    if let Some((row, col, value)) = weight.first_non_finite() {
        return Err(Error::NonFinite { op: "verify", operand: name.to_owned(), row, col, value }.into());
    }
    merge::oriented(weight, adapter)?;
    Ok(())
}
