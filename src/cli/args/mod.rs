//! What the command line accepts. Everything that can be refused by looking at the words alone is refused here.

mod export;
mod init;
mod report;
mod tune;

pub use export::Export;
pub use init::{Init, Layout, PlotFormat};
pub use report::Report;
#[cfg_attr(not(feature = "kernels"), allow(unused_imports))]
pub use tune::{Element, Operation, Tune};

use clap::{Args as ArgGroup, Parser, Subcommand};
use idlora::Device;
use std::path::PathBuf;

/// What `--device` takes in this build.
const DEVICE: &str = match (cfg!(feature = "cuda"), cfg!(feature = "vm")) {
    (false, false) => "cpu",
    (true, false) => "cpu|cuda[:N]",
    (false, true) => "cpu|vm",
    (true, true) => "cpu|cuda[:N]|vm",
};

/// ID-LoRA adapters from pretrained weights.
///
/// The frozen factors of an ID-LoRA adapter are rows of the pretrained weight itself, found by clustering its rows and
/// choosing a few in each cluster; the only trained matrix is shared by all clusters. Nothing is ever overwritten, and
/// files appear complete or not at all. Exit codes: 0 done, 1 refused or failed, 2 wrong usage.
#[derive(Debug, Parser)]
#[command(name = "idlora", version, max_term_width = 110)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make an adapter from pretrained weights
    Init(Init),
    /// Show what an adapter holds: modules, indices, costs, base digests
    Inspect(Inspect),
    /// Run one module's forward, and its backward where the input holds `grad`; for checking a port in any language
    Apply(Apply),
    /// Write the weights with a static-gate adapter merged in
    Merge(Merge),
    /// Undo `merge`
    Unmerge(Merge),
    /// Write a static-gate adapter as a plain LoRA that other software loads
    Export(Export),
    /// Check an adapter against its base weights: digests, indices, shapes, finiteness
    Verify(Verify),
    /// Show the CUDA kernels of this build: registers, shared memory, occupancy, least PTX version
    Kernels(Kernels),
    /// List what `--device` can be here, and why something is not there
    Devices(Devices),
    /// Draw the results of kernel sweeps as one HTML page: rooflines, distance from the floor, traffic, a table
    Report(Report),
    /// Find the fastest way to run the kernels for a model's layers on this device, and keep it
    Tune(Tune),
}

#[derive(Debug, ArgGroup)]
pub struct Inspect {
    /// The adapter's folder
    pub dir: PathBuf,

    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, ArgGroup)]
pub struct Apply {
    /// The adapter's folder
    pub dir: PathBuf,

    /// The module to run; `.weight` may be left out
    #[arg(long, value_name = "NAME")]
    pub module: String,

    /// A safetensors file with `y0` [t, m]; `h` [t, n] for linear gates and with --weights; `bias` [m] if y0 includes it;
    /// `grad` [t, m] for the backward; all of one element type
    #[arg(long, value_name = "IN.safetensors")]
    pub input: PathBuf,

    /// Receives `y`, `z` [t, r] and `gate` [t, k]; with `grad` also `grad_b`, `grad_gate`, `grad_y0`, and `grad_h_gate`
    /// for linear gates. y, grad_y0 and grad_h_gate have the element type of the input, the others are F32
    #[arg(long, value_name = "OUT.safetensors")]
    pub out: PathBuf,

    /// Where the work runs; `idlora devices` lists what there is
    #[arg(long, value_name = DEVICE, default_value_t = Device::default())]
    pub device: Device,

    /// Run the explicit down-projection X = H W[S]ᵀ with these base weights, instead of gathering X from y0
    #[arg(long)]
    pub weights: Option<PathBuf>,
}

#[derive(Debug, ArgGroup)]
pub struct Merge {
    /// A .safetensors file, or the .index.json of a sharded checkpoint
    pub weights: PathBuf,

    /// The adapter's folder
    pub dir: PathBuf,

    /// The file to write, which must not exist yet; shards become one file
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

#[derive(Debug, ArgGroup)]
pub struct Verify {
    /// The base weights
    pub weights: PathBuf,

    /// The adapter's folder
    pub dir: PathBuf,
}

#[derive(Debug, ArgGroup)]
pub struct Kernels {
    /// Also write PTX, machine code, assembler's log and SASS of every image, and kernels.json, to a folder, which must not
    /// exist yet
    ///
    /// kernels.json is what --json prints: launch shapes, argument layouts, what each kernel requires of its caller. SASS
    /// needs nvdisasm or cuobjdump.
    #[arg(long, value_name = "DIR")]
    pub dump: Option<PathBuf>,

    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, ArgGroup)]
pub struct Devices {
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }
}
