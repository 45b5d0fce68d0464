//! The one table of what is compiled: family × element × tile × architecture.
//!
//! `build.rs` includes this file by path, so it stands on `std` alone.

/// The entry points that share a source file and a set of tile parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Row and column norms.
    Norms,
}

/// What matrices hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// IEEE binary16.
    F16,
    /// bfloat16.
    BF16,
    /// IEEE binary32.
    F32,
}

/// A kernel and its arguments: inputs, then outputs, then one struct of scalars by value.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name in the image.
    pub name: &'static str,
    /// Pointers it reads.
    pub inputs: usize,
    /// Pointers it writes.
    pub outputs: usize,
    /// Bytes of the struct of scalars.
    pub scalars: usize,
    /// Threads of a block, `x` and `y`.
    pub block: [u32; 2],
}

/// What one run of the compiler makes an image from.
#[derive(Debug, PartialEq, Eq)]
pub struct Variant {
    /// Which entry points.
    pub family: Family,
    /// For which element.
    pub element: Element,
    /// For which architecture.
    pub arch: &'static str,
    /// Tile parameters.
    pub tile: &'static [(&'static str, u32)],
}

/// Every image there is.
pub static VARIANTS: [Variant; 3] =
    [norms::variant(Element::F16), norms::variant(Element::BF16), norms::variant(Element::F32)];

/// What the kernels include, by the names in their `#include`.
pub const HEADERS: [&str; 3] = ["common/elem.cuh", "common/ptx.cuh", "common/reduce.cuh"];

impl Family {
    /// The file below `kernels/`.
    pub const fn source(self) -> &'static str {
        match self {
            Family::Norms => "norms.cu",
        }
    }

    /// The entry points, in the order of the file.
    pub const fn entries(self) -> &'static [Entry] {
        match self {
            Family::Norms => &[norms::ROWS, norms::COLUMNS, norms::COLUMNS_FINISH],
        }
    }
}

impl Element {
    /// Its struct in `kernels/common/elem.cuh`.
    pub const fn name(self) -> &'static str {
        match self {
            Element::F16 => "f16",
            Element::BF16 => "bf16",
            Element::F32 => "f32",
        }
    }

    /// How many fit 16 bytes.
    pub const fn vector(self) -> u32 {
        match self {
            Element::F16 | Element::BF16 => 8,
            Element::F32 => 4,
        }
    }
}

impl Variant {
    /// What to call the image, such as `norms.bf16.sm_80`.
    pub fn name(&self) -> String {
        format!("{}.{}.{}", self.family.source().trim_end_matches(".cu"), self.element.name(), self.arch)
    }

    /// Options of the compiler beside the architecture.
    pub fn options(&self) -> Vec<String> {
        let mut options = vec!["--generate-line-info".to_owned(), "--ptxas-options=-v".to_owned()];
        options.push(format!("-DELEMENT={}", self.element.name()));
        options.extend(self.tile.iter().map(|(name, value)| format!("-D{name}={value}")));
        options
    }
}

/// The tile of `norms.cu`.
pub mod norms {
    use super::{Element, Entry, Family, Variant};

    /// Rows of a block, a warp each.
    pub const ROW_WARPS: u32 = 8;
    /// Warps that share a chunk of rows.
    pub const COLUMN_WARPS: u32 = 8;
    /// Rows of a chunk. Fixed, because it decides the order of summation; large enough that the partial norms, 8 bytes
    /// per chunk and column, cost 1/32 of reading 16-bit elements.
    pub const CHUNK_ROWS: u32 = 128;
    /// Columns of a block in the second stage.
    pub const FINISH_THREADS: u32 = 256;
    /// Bytes of `Shape`.
    pub const SCALARS: usize = 24;

    /// `w → norms, offender`.
    pub const ROWS: Entry =
        Entry { name: "norm_rows", inputs: 1, outputs: 2, scalars: SCALARS, block: [32, ROW_WARPS] };
    /// `w → partial, offender`.
    pub const COLUMNS: Entry =
        Entry { name: "norm_columns", inputs: 1, outputs: 2, scalars: SCALARS, block: [32, COLUMN_WARPS] };
    /// `partial → norms`.
    pub const COLUMNS_FINISH: Entry =
        Entry { name: "norm_columns_finish", inputs: 1, outputs: 1, scalars: SCALARS, block: [FINISH_THREADS, 1] };

    pub(super) const fn variant(element: Element) -> Variant {
        let tile = &[("ROW_WARPS", ROW_WARPS), ("COLUMN_WARPS", COLUMN_WARPS), ("CHUNK_ROWS", CHUNK_ROWS)];
        Variant { family: Family::Norms, element, arch: "sm_80", tile }
    }

    /// Columns of a block in the first stage: 16 bytes of a row for each lane.
    pub const fn tile_columns(element: Element) -> usize {
        32 * element.vector() as usize
    }
}
