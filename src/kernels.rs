//! The compiled kernels: what the compiler made of them, what they take of a multiprocessor, and how they are called.
//!
//! For those who port a kernel, profile it, or want to know what will be resident; no operation needs this module.

pub use crate::gpu::occupancy::Limit;
pub use crate::gpu::resources::Parameter;

use crate::error::{Error, Result};
use crate::gpu::occupancy::{Multiprocessor, Need, SM_80, SM_90};
use crate::gpu::resources::{Resources, parameters, resources};
use crate::gpu::variants::{Entry, VARIANTS, Variant};
use crate::gpu::{image, ptx_version};
use serde::Serialize;
use std::collections::BTreeMap;

/// A compiled variant: one source file for one element, tile and architecture.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Image {
    /// Such as `norms.bf16.sm_80`.
    pub name: String,
    /// Which kernels, such as `norms`.
    pub family: String,
    /// The element of the matrices; `None` where the kernels meet no weights.
    pub element: Option<&'static str>,
    /// The architecture that the machine code is for. The PTX also runs on every later one.
    pub arch: &'static str,
    /// The source, below the repository's root.
    pub source: String,
    /// Tile parameters.
    pub tile: BTreeMap<&'static str, u32>,
    /// The least version of the PTX ISA that a driver must know.
    pub ptx_version: String,
    /// Bytes of [`ptx`](Self::ptx).
    pub ptx_bytes: usize,
    /// Bytes of [`cubin`](Self::cubin).
    pub cubin_bytes: usize,
    /// How the source says that grids are counted.
    pub launch: String,
    /// What the source asks of its caller.
    pub requires: String,
    /// Its entry points, in the order of the source.
    pub kernels: Vec<Kernel>,
    /// PTX.
    #[serde(skip)]
    pub ptx: &'static str,
    /// Machine code, an ELF file.
    #[serde(skip)]
    pub cubin: &'static [u8],
    /// The assembler's log.
    #[serde(skip)]
    pub log: &'static str,
}

/// An entry point. Its parameters are pointers to inputs, then to outputs, then one struct of scalars by value.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Kernel {
    /// The entry point.
    pub name: &'static str,
    /// Threads of a block, `x` and `y`.
    pub block: [u32; 2],
    /// Pointers that it reads.
    pub inputs: usize,
    /// Pointers that it writes.
    pub outputs: usize,
    /// Bytes of the struct of scalars.
    pub scalars: usize,
    /// All parameters, as the PTX declares them.
    pub parameters: Vec<Parameter>,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of static shared memory of a block.
    pub shared: u32,
    /// Bytes of a thread's local memory.
    pub stack: u32,
    /// Bytes of a thread's registers that are stored to local memory.
    pub spill_stores: u32,
    /// Bytes of a thread's registers that are loaded from local memory.
    pub spill_loads: u32,
    /// What multiprocessors can hold of it, without dynamic shared memory and with these registers; for an architecture other
    /// than the image's, the driver may choose others.
    pub occupancy: Vec<Occupancy>,
}

/// What a multiprocessor can hold of a kernel at a time.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Occupancy {
    /// The architecture.
    pub arch: &'static str,
    /// Blocks.
    pub blocks: u32,
    /// Warps of those blocks.
    pub warps: u32,
    /// Warps that it has room for.
    pub of: u32,
    /// What keeps a further block out.
    pub limit: Limit,
}

/// Every image of this build, compiled where it is not embedded.
///
/// # Errors
/// [`Error::Unsupported`] where nothing is embedded and nothing can be compiled here either: why, and how to get a compiler.
/// [`Error::Kernel`] for an image that does not hold what the table says.
pub fn list() -> Result<Vec<Image>> {
    VARIANTS.iter().enumerate().map(|(index, variant)| of(index, variant)).collect()
}

fn of(index: usize, variant: &Variant) -> Result<Image> {
    let made = image::image(index).map_err(|reason| Error::unsupported("kernels", reason))?;
    let name = variant.name();
    let defect = |kernel: &str, reason: String| Error::Kernel {
        op: "kernels",
        kernel: format!("{name}: {kernel}"),
        findings: vec![reason],
    };
    let logged = resources(&made.log).map_err(|reason| defect("log", reason))?;
    let kernel = |entry: &'static Entry| {
        let logged = logged.iter().find(|logged| logged.name == entry.name);
        let logged = logged.ok_or_else(|| defect(entry.name, "not in the assembler's log".to_owned()))?;
        let parameters = parameters(&made.ptx, entry.name);
        let parameters =
            parameters.ok_or_else(|| defect(entry.name, "its parameters are not in the PTX".to_owned()))?;
        Ok(described(entry, logged, parameters))
    };
    let kernels = variant.family.entries().iter().map(kernel).collect::<Result<_>>()?;
    let source = variant.family.source();
    let header = |heading| image::header(source, heading).unwrap_or_default();
    Ok(Image {
        family: source.trim_end_matches(".cu").to_owned(),
        element: variant.element.map(|element| element.name()),
        arch: variant.arch,
        source: format!("kernels/{source}"),
        tile: variant.tile.iter().copied().collect(),
        ptx_version: ptx_version::stated(&made.ptx).map(|version| version.to_string()).unwrap_or_default(),
        ptx_bytes: made.ptx.len(),
        cubin_bytes: made.cubin.len(),
        launch: header("Launch"),
        requires: header("Requires"),
        kernels,
        ptx: &made.ptx,
        cubin: &made.cubin,
        log: &made.log,
        name,
    })
}

fn described(entry: &'static Entry, logged: &Resources, parameters: Vec<Parameter>) -> Kernel {
    let threads = entry.block[0] * entry.block[1];
    let need = Need { threads, registers: logged.registers, shared: logged.shared };
    let on = |sm: Multiprocessor| {
        let (blocks, limit) = sm.blocks(need);
        Occupancy { arch: sm.arch, blocks, warps: sm.warps(need), of: sm.warps, limit }
    };
    Kernel {
        name: entry.name,
        block: entry.block,
        inputs: entry.inputs,
        outputs: entry.outputs,
        scalars: entry.scalars,
        parameters,
        registers: logged.registers,
        shared: logged.shared,
        stack: logged.stack,
        spill_stores: logged.spills[0],
        spill_loads: logged.spills[1],
        occupancy: [SM_80, SM_90].map(on).to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table, the log and the PTX say the same of every kernel: pointers of 8 bytes, then the scalars.
    #[test]
    fn every_image_holds_what_the_table_says() {
        let images = match list() {
            Ok(images) => images,
            Err(error) if std::env::var_os("REQUIRE_NVRTC").is_some() => panic!("{error}"),
            Err(error) => return println!("skipped: {error}"),
        };
        assert_eq!(images.len(), VARIANTS.len());
        for (image, variant) in images.iter().zip(VARIANTS) {
            assert_eq!(image.kernels.len(), variant.family.entries().len(), "{}", image.name);
            for kernel in &image.kernels {
                let name = format!("{} {}", image.name, kernel.name);
                let (scalars, pointers) = kernel.parameters.split_last().expect("every kernel has scalars");
                assert_eq!(scalars.bytes, kernel.scalars, "{name}");
                assert_eq!(pointers.len(), kernel.inputs + kernel.outputs, "{name}");
                assert!(pointers.iter().all(|pointer| (pointer.bytes, pointer.align) == (8, 8)), "{name}");
                assert!(kernel.occupancy.iter().all(|occupancy| occupancy.blocks > 0), "{name}: {kernel:?}");
                assert!(!image.launch.is_empty() && !image.requires.is_empty(), "{name}: no header");
            }
        }
    }
}
