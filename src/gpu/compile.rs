//! How a variant is compiled: one way, for the build script (which includes this file by path) and for the first use.

use super::ptx_version;
use super::variants::{HEADERS, Variant};
use idlora_nvrtc::{CompileError, Compiled, Source};

/// Compiles a variant `with` a compiler. Its PTX asks for no more than it uses, so that older drivers take it. `text` gives the
/// contents of a file by its path below `kernels/`.
///
/// # Errors
/// The compiler's log.
pub(crate) fn compile(
    variant: &Variant,
    text: impl Fn(&str) -> String,
    with: impl FnOnce(&Source<'_>) -> Result<Compiled, CompileError>,
) -> Result<Compiled, String> {
    let file = variant.family.source();
    let headers = HEADERS.map(|name| (name, text(name)));
    let headers = headers.each_ref().map(|(name, text)| (*name, text.as_str()));
    let options = variant.options();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    // Line information names the file so, below the current folder.
    let name = format!("kernels/{file}");
    let source = Source { name: &name, text: &text(file), arch: variant.arch, options: &options, headers: &headers };
    let compiled = with(&source).map_err(|error| format!("kernel image {}: {error}", variant.name()))?;
    Ok(Compiled { ptx: ptx_version::lowered(compiled.ptx), ..compiled })
}
