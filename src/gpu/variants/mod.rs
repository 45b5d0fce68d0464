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
    shared_gemm::variant(Element::F16),
    shared_gemm::variant(Element::BF16),
];

/// What the kernels include, by the names in their `#include`.
pub const HEADERS: [&str; 16] = [
    "common/decode.cuh",
    "common/elem.cuh",
    "common/expand.cuh",
    "common/grad.cuh",
    "common/lloyd.cuh",
    "common/philox.cuh",
    "common/points.cuh",
    "common/ptx.cuh",
    "common/qr.cuh",
    "common/reduce.cuh",
    "common/ring.cuh",
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
        let family = self.family.source().trim_end_matches(".cu");
        match self.element {
            Some(element) => format!("{family}.{}.{}", element.name(), self.arch),
            None => format!("{family}.{}", self.arch),
        }
    }

    /// Options of the compiler beside the architecture.
    pub fn options(&self) -> Vec<String> {
        let mut options = vec!["--generate-line-info".to_owned(), "--ptxas-options=-v".to_owned()];
        options.extend(self.element.map(|element| format!("-DELEMENT={}", element.name())));
        options.extend(self.tile.iter().map(|(name, value)| format!("-D{name}={value}")));
        options
    }
}
