//! The one table of what is compiled: family × element × tile × architecture.
//!
//! `build.rs` includes this file by path, so it stands on `std` alone.

pub mod cluster;
pub mod interp;
pub mod lowrank;
pub mod lowrank_decode;
pub mod lowrank_down;
pub mod lowrank_grad;
pub mod lowrank_merge;
pub mod norms;
pub mod points;
pub mod qr;
pub mod qr_gram;
pub mod qr_sketch;
pub mod qr_solve;
pub mod shared_gemm;
pub mod shared_gemm_grad;

use std::ops::Range;

/// The entry points that share a source file and a set of tile parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Row and column norms.
    Norms,
    /// Points of a clustering: distances, seeding, means.
    Points,
    /// Lloyd's steps.
    Cluster,
    /// Pivoted QR, exact tier.
    Qr,
    /// Pivoted QR, Gram tier: for 16-bit elements.
    QrGram,
    /// Pivoted QR, `R` for pivots that are known.
    QrSolve,
    /// Pivoted QR, the sketch.
    QrSketch,
    /// Interpolation coefficients.
    Interp,
    /// The adapter's forward.
    Lowrank,
    /// The adapter's explicit down-projection.
    LowrankDown,
    /// The adapter's forward of a few tokens.
    LowrankDecode,
    /// The adapter's backward.
    LowrankGrad,
    /// Merging a static adapter and undoing it.
    LowrankMerge,
    /// A frozen layer with its components in one kernel: for 16-bit elements.
    SharedGemm,
    /// Its input gradient: for 16-bit elements.
    SharedGemmGrad,
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
    /// For which element; `None` where the kernels meet no weights.
    pub element: Option<Element>,
    /// For which architecture.
    pub arch: &'static str,
    /// Tile parameters.
    pub tile: &'static [(&'static str, u32)],
}

/// Every image there is.
pub const VARIANTS: &[Variant] = &[
    norms::variant(Element::F16),
    norms::variant(Element::BF16),
    norms::variant(Element::F32),
    points::variant(Element::F16),
    points::variant(Element::BF16),
    points::variant(Element::F32),
    cluster::variant(Element::F16),
    cluster::variant(Element::BF16),
    cluster::variant(Element::F32),
    qr::variant(Element::F16),
    qr::variant(Element::BF16),
    qr::variant(Element::F32),
    qr_gram::variant(Element::F16),
    qr_gram::variant(Element::BF16),
    qr_solve::variant(Element::F16),
    qr_solve::variant(Element::BF16),
    qr_solve::variant(Element::F32),
    qr_sketch::variant(Element::F16),
    qr_sketch::variant(Element::BF16),
    qr_sketch::variant(Element::F32),
    interp::variant(),
    lowrank::variant(Element::F16),
    lowrank::variant(Element::BF16),
    lowrank::variant(Element::F32),
    lowrank_down::variant(Element::F16),
    lowrank_down::variant(Element::BF16),
    lowrank_down::variant(Element::F32),
    lowrank_decode::variant(Element::F16),
    lowrank_decode::variant(Element::BF16),
    lowrank_decode::variant(Element::F32),
    lowrank_grad::variant(Element::F16),
    lowrank_grad::variant(Element::BF16),
    lowrank_grad::variant(Element::F32),
    lowrank_merge::variant(Element::F16),
    lowrank_merge::variant(Element::BF16),
    lowrank_merge::variant(Element::F32),
    shared_gemm::variant(Element::F16, 0),
    shared_gemm::variant(Element::F16, 1),
    shared_gemm::variant(Element::F16, 2),
    shared_gemm::variant(Element::F16, 3),
    shared_gemm::variant(Element::BF16, 0),
    shared_gemm::variant(Element::BF16, 1),
    shared_gemm::variant(Element::BF16, 2),
    shared_gemm::variant(Element::BF16, 3),
    shared_gemm_grad::variant(Element::F16),
    shared_gemm_grad::variant(Element::BF16),
];

/// Rows of the table that are of a family and an element, a row for each of its tiles. They lie together.
pub fn rows(family: Family, element: Option<Element>) -> Range<usize> {
    ROWS[family as usize][element.map_or(0, |element| 1 + element as usize)].clone()
}

/// All of [`rows`], found when compiling: every launch asks.
static ROWS: [[Range<usize>; 4]; FAMILIES] = {
    let mut rows = [const { [const { 0..0 }; 4] }; FAMILIES];
    let mut i = 0;
    while i < VARIANTS.len() {
        let element = match VARIANTS[i].element {
            None => 0,
            Some(element) => 1 + element as usize,
        };
        let found = &mut rows[VARIANTS[i].family as usize][element];
        if found.end == 0 {
            found.start = i;
        }
        assert!(found.end == 0 || found.end == i, "rows of a family and an element lie together");
        found.end = i + 1;
        i += 1;
    }
    rows
};

const FAMILIES: usize = {
    let (mut i, mut most) = (0, 0);
    while i < VARIANTS.len() {
        if VARIANTS[i].family as usize > most {
            most = VARIANTS[i].family as usize;
        }
        i += 1;
    }
    most + 1
};

/// What the kernels include, by the names in their `#include`.
pub const HEADERS: [&str; 18] = [
    "common/decode.cuh",
    "common/elem.cuh",
    "common/expand.cuh",
    "common/grad.cuh",
    "common/lloyd.cuh",
    "common/module.cuh",
    "common/philox.cuh",
    "common/points.cuh",
    "common/ptx.cuh",
    "common/qr.cuh",
    "common/reduce.cuh",
    "common/ring.cuh",
    "common/ring_nn.cuh",
    "common/shrink.cuh",
    "common/smem.cuh",
    "common/staged.cuh",
    "common/team.cuh",
    "common/terms.cuh",
];

impl Family {
    /// The file below `kernels/`.
    pub const fn source(self) -> &'static str {
        match self {
            Family::Norms => "norms.cu",
            Family::Points => "points.cu",
            Family::Cluster => "cluster.cu",
            Family::Qr => "qr.cu",
            Family::QrGram => "qr_gram.cu",
            Family::QrSolve => "qr_solve.cu",
            Family::QrSketch => "qr_sketch.cu",
            Family::Interp => "interp.cu",
            Family::Lowrank => "lowrank.cu",
            Family::LowrankDown => "lowrank_down.cu",
            Family::LowrankDecode => "lowrank_decode.cu",
            Family::LowrankGrad => "lowrank_grad.cu",
            Family::LowrankMerge => "lowrank_merge.cu",
            Family::SharedGemm => "shared_gemm.cu",
            Family::SharedGemmGrad => "shared_gemm_grad.cu",
        }
    }

    /// The entry points, in the order of the file.
    pub const fn entries(self) -> &'static [Entry] {
        match self {
            Family::Norms => norms::ENTRIES,
            Family::Points => points::ENTRIES,
            Family::Cluster => cluster::ENTRIES,
            Family::Qr => qr::ENTRIES,
            Family::QrGram => qr_gram::ENTRIES,
            Family::QrSolve => qr_solve::ENTRIES,
            Family::QrSketch => qr_sketch::ENTRIES,
            Family::Interp => interp::ENTRIES,
            Family::Lowrank => lowrank::ENTRIES,
            Family::LowrankDown => lowrank_down::ENTRIES,
            Family::LowrankDecode => lowrank_decode::ENTRIES,
            Family::LowrankGrad => lowrank_grad::ENTRIES,
            Family::LowrankMerge => lowrank_merge::ENTRIES,
            Family::SharedGemm => shared_gemm::ENTRIES,
            Family::SharedGemmGrad => shared_gemm_grad::ENTRIES,
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
    /// What to call the image, such as `norms.bf16.sm_80`, or `shared_gemm.64x128.bf16.sm_80` where a family has several
    /// tiles.
    pub fn name(&self) -> String {
        let mut name = self.family.source().trim_end_matches(".cu").to_owned();
        let size = |what| self.tile.iter().find(|(name, _)| *name == what).map(|(_, size)| size);
        if let (Some(tokens), Some(columns)) = (size("BLOCK_TOKENS"), size("BLOCK_COLUMNS")) {
            name += &format!(".{tokens}x{columns}");
        }
        if let Some(element) = self.element {
            name += &format!(".{}", element.name());
        }
        format!("{name}.{}", self.arch)
    }

    /// Options of the compiler beside the architecture.
    pub fn options(&self) -> Vec<String> {
        let mut options = vec!["--generate-line-info".to_owned(), "--ptxas-options=-v".to_owned()];
        options.extend(self.element.map(|element| format!("-DELEMENT={}", element.name())));
        options.extend(self.tile.iter().map(|(name, value)| format!("-D{name}={value}")));
        options
    }
}
