//! The seam between an operation's host code and a device that runs compiled kernels.
//!
//! An operation is written once over [`Gpu`]: argument order, launch shape, workspace. What a test runs on the virtual
//! machine is then the very path that a GPU takes: the same PTX, the same launches, the same buffers.

#[cfg(test)]
mod assembler;
pub(crate) mod cluster;
mod compile;
#[cfg(feature = "cuda")]
pub mod cuda;
mod draw;
pub(crate) mod image;
pub(crate) mod interp;
pub(crate) mod lowrank;
pub mod model;
pub(crate) mod norms;
pub(crate) mod occupancy;
pub(crate) mod ptx_version;
pub(crate) mod qr;
pub(crate) mod resources;
pub(crate) mod rows;
pub(crate) mod shared_gemm;
pub(crate) mod tunable;
#[allow(dead_code)] // the build script uses the rest of the table
pub(crate) mod variants;
#[cfg(feature = "vm")]
pub mod vm;

use crate::elem::Dtype;
use crate::error::{Error, Result};
use bytemuck::Pod;
use variants::{Element, Entry, Family};

mod sealed {
    /// Implemented where the seam is: a device from elsewhere could not keep its promises.
    pub trait Sealed {}
    #[cfg(feature = "cuda")]
    impl Sealed for super::cuda::Cuda {}
    #[cfg(feature = "vm")]
    impl Sealed for super::vm::Vm {}
    #[cfg(test)]
    impl Sealed for crate::tune::tests::fake::Fake {}
}

/// A device that runs compiled kernels. One queue: what is launched first is done first.
pub(crate) trait Gpu: sealed::Sealed {
    /// Memory of the device, freed when dropped. Untyped: kernels of one family take buffers of several types.
    type Buffer;

    /// Memory of `len` elements that hold nothing yet. `name` is the operand's in reports.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    fn allocate<T: Pod>(&self, op: &'static str, name: &'static str, len: usize) -> Result<Self::Buffer>;

    /// Memory of `len` elements, all bytes zero.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    fn zeroed<T: Pod>(&self, op: &'static str, name: &'static str, len: usize) -> Result<Self::Buffer>;

    /// Memory with these contents.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    fn upload<T: Pod>(&self, op: &'static str, name: &'static str, data: &[T]) -> Result<Self::Buffer> {
        let mut buffer = self.allocate::<T>(op, name, data.len())?;
        self.write(op, &mut buffer, data)?;
        Ok(buffer)
    }

    /// Overwrites a whole buffer, after everything launched so far.
    ///
    /// # Errors
    /// [`Error::Shape`] if the buffer is not as long as `data`.
    fn write<T: Pod>(&self, op: &'static str, buffer: &mut Self::Buffer, data: &[T]) -> Result<()>;

    /// Where a buffer starts, for tables of addresses: the kernel that follows them reads it, so the caller keeps the buffer
    /// until that kernel is done.
    fn address(&self, buffer: &Self::Buffer) -> u64;

    /// Which memory and queue this is: equal for handles whose buffers serve each other's launches. Unique as long as a handle
    /// lives.
    fn place(&self) -> Place;

    /// Reads a whole buffer, after everything launched so far.
    ///
    /// # Errors
    /// [`Error::Shape`] if the buffer is not as long as `data`.
    fn download<T: Pod>(&self, op: &'static str, buffer: &Self::Buffer, data: &mut [T]) -> Result<()>;

    /// Runs a kernel. Its arguments are the inputs, the outputs, and one struct of scalars; the borrow kind is the
    /// synchronisation.
    ///
    /// # Errors
    /// [`Error::Device`] where the image cannot be had, [`Error::Kernel`] for what the launch does wrong.
    fn launch(
        &self,
        kernel: &Kernel,
        grid: Grid,
        inputs: &[&Self::Buffer],
        outputs: &mut [&mut Self::Buffer],
        scalars: &[u8],
    ) -> Result<()>;

    /// Blocks of a launch that are sure to be alive at the same time, at least 1: what blocks that wait for each other may
    /// count on.
    ///
    /// # Errors
    /// As [`Gpu::launch`].
    fn resident(&self, kernel: &Kernel, shared: u32) -> Result<u32>;

    /// Bytes of shared memory that a block can have.
    fn shared_limit(&self) -> u32;

    /// What the device can do, for the cost model.
    ///
    /// # Errors
    /// [`Error::Device`].
    fn card(&self) -> Result<model::Card>;

    /// Which device a measurement is of.
    ///
    /// # Errors
    /// [`Error::Device`].
    fn identity(&self) -> Result<Identity>;

    /// Seconds that the launches of `run` take on the device, one after another; waits for them. On the virtual machine, what
    /// the model says of their counters.
    ///
    /// # Errors
    /// What `run` says; [`Error::Device`].
    fn seconds(&self, run: &mut dyn FnMut() -> Result<()>) -> Result<f64>;

    /// Whether what is queued goes into a graph instead of running.
    ///
    /// # Errors
    /// [`Error::Device`].
    fn capturing(&self) -> Result<bool>;
}

/// A device as keys of measurements name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Its name.
    pub device: String,
    pub multiprocessors: u32,
    /// The driver, and what else of the machine changes times.
    pub driver: String,
}

/// Where buffers lie and in which order they are used, see [`Gpu::place`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(pub [usize; 2]);

/// The shape of a launch; how many threads a block has is the entry point's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    pub blocks: u32,
    /// Bytes of dynamic shared memory of a block.
    pub shared: u32,
}

impl From<u32> for Grid {
    fn from(blocks: u32) -> Self {
        Self { blocks, shared: 0 }
    }
}

/// An entry point of a variant, on behalf of an operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel {
    pub op: &'static str,
    /// Index into [`VARIANTS`].
    pub variant: usize,
    pub entry: &'static Entry,
}

impl Kernel {
    /// The entry point of the variant for an element (`None` where the family has none): an image for another element would
    /// read out of bounds. Of a family with several tiles, the first.
    ///
    /// # Errors
    /// [`Error::Kernel`] where the table has none.
    pub fn of(op: &'static str, family: Family, dtype: Option<Dtype>, entry: &'static Entry) -> Result<Self> {
        Self::of_tile(op, family, dtype, 0, entry)
    }

    /// The same for one of the family's tiles, in the order of its rows.
    ///
    /// # Errors
    /// As [`Kernel::of`].
    pub fn of_tile(
        op: &'static str,
        family: Family,
        dtype: Option<Dtype>,
        tile: usize,
        entry: &'static Entry,
    ) -> Result<Self> {
        let element = dtype.map(Element::from);
        match variants::rows(family, element).nth(tile) {
            Some(variant) if family.entries().contains(entry) => Ok(Self { op, variant, entry }),
            _ => Err(Self::error(op, entry, format!("not compiled for {}", element.map_or("this", Element::name)))),
        }
    }

    /// Refuses arguments that are not the entry point's.
    ///
    /// # Errors
    /// [`Error::Kernel`].
    pub fn check(&self, inputs: usize, outputs: usize, scalars: usize) -> Result<()> {
        let found = (inputs, outputs, scalars);
        let expected = (self.entry.inputs, self.entry.outputs, self.entry.scalars);
        if found == expected {
            return Ok(());
        }
        let reason = format!("takes (inputs, outputs, bytes of scalars) {expected:?}, was given {found:?}");
        Err(Self::error(self.op, self.entry, reason))
    }

    fn error(op: &'static str, entry: &Entry, reason: String) -> Error {
        Error::Kernel { op, kernel: entry.name.to_owned(), findings: vec![reason] }
    }
}

impl From<Dtype> for Element {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F16 => Self::F16,
            Dtype::BF16 => Self::BF16,
            Dtype::F32 => Self::F32,
        }
    }
}

/// The number of blocks of a launch.
///
/// # Errors
/// [`Error::Unsupported`] for more than a grid has.
pub(crate) fn blocks(op: &'static str, count: usize) -> Result<u32> {
    match i32::try_from(count) {
        Ok(count) => Ok(count.unsigned_abs()),
        Err(_) => Err(Error::unsupported(op, format!("{count} blocks are more than one launch can have"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use variants::{HEADERS, VARIANTS};

    #[test]
    fn every_family_has_a_variant_for_every_element() {
        // All but the coefficients', which meet no weights.
        let families = VARIANTS.iter().filter(|variant| variant.element.is_some()).map(|variant| variant.family);
        let families: std::collections::HashSet<Family> = families.collect();
        assert!(families.len() >= 10);
        for dtype in [Dtype::F16, Dtype::BF16, Dtype::F32] {
            for &family in &families {
                for entry in family.entries() {
                    let kernel = Kernel::of("test", family, Some(dtype), entry);
                    if matches!(
                        (family, dtype),
                        (Family::QrGram | Family::SharedGemm | Family::SharedGemmGrad, Dtype::F32)
                    ) {
                        assert!(kernel.unwrap_err().to_string().contains("not compiled for f32"));
                        continue;
                    }
                    let kernel = kernel.unwrap();
                    assert_eq!(VARIANTS[kernel.variant].element, Some(dtype.into()));
                    assert!(entry.block[0] * entry.block[1] <= 1024);
                }
            }
        }
    }

    /// Images are files by their names, and rows are found by family, element and tile.
    #[test]
    fn every_row_has_a_name_of_its_own_and_is_found() {
        let names: std::collections::HashSet<String> = VARIANTS.iter().map(variants::Variant::name).collect();
        assert_eq!(names.len(), VARIANTS.len());
        assert!(names.contains("norms.bf16.sm_80") && names.contains("shared_gemm.64x128.f16.sm_80"), "{names:?}");
        for (index, variant) in VARIANTS.iter().enumerate() {
            let rows = variants::rows(variant.family, variant.element);
            assert!(rows.contains(&index), "{}", variant.name());
            let same = |other: &&variants::Variant| (other.family, other.element) == (variant.family, variant.element);
            assert_eq!(rows.len(), VARIANTS.iter().filter(same).count(), "{}", variant.name());
        }
        let gemm = &variants::shared_gemm::GEMM;
        for (tile, name) in ["128x128", "64x128", "64x64", "128x256"].into_iter().enumerate() {
            let kernel = Kernel::of_tile("test", Family::SharedGemm, Some(Dtype::BF16), tile, gemm).unwrap();
            assert_eq!(VARIANTS[kernel.variant].name(), format!("shared_gemm.{name}.bf16.sm_80"));
        }
        let none = Kernel::of_tile("test", Family::SharedGemm, Some(Dtype::BF16), 4, gemm).unwrap_err().to_string();
        assert!(none.contains("not compiled for bf16"), "{none}");
    }

    #[test]
    fn arguments_of_the_wrong_number_or_size_are_refused() {
        let kernel = Kernel::of("norms", Family::Norms, Some(Dtype::F32), &variants::norms::ROWS).unwrap();
        kernel.check(1, 2, 24).unwrap();
        for (inputs, outputs, scalars) in [(0, 2, 24), (1, 1, 24), (1, 2, 16)] {
            let message = kernel.check(inputs, outputs, scalars).unwrap_err().to_string();
            assert!(
                message.starts_with("norms: kernel `norm_rows`: takes") && message.contains("(1, 2, 24)"),
                "{message}"
            );
        }
    }

    /// A header outside the table would be missing where the sources are compiled at run time, and unwatched.
    #[test]
    fn the_table_names_every_file_of_the_kernels() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
        let names = |folder: &std::path::Path, prefix: &str| {
            let files =
                std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<String> =
                files.filter(|name| name.contains(".cu")).map(|name| format!("{prefix}{name}")).collect();
            names.sort();
            names
        };
        assert_eq!(names(&folder.join("common"), "common/"), HEADERS);
        let mut sources: Vec<&str> = VARIANTS.iter().map(|variant| variant.family.source()).collect();
        sources.sort_unstable();
        sources.dedup();
        assert_eq!(names(&folder, ""), sources);
    }

    #[test]
    fn a_grid_has_an_end() {
        assert_eq!(blocks("norms", 7).unwrap(), 7);
        assert!(blocks("norms", 1 << 31).unwrap_err().to_string().contains("2147483648 blocks"));
    }
}
